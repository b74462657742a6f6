//! `raida completions` and `raida manual`: what a shell and `man` know about the command line, from its own table.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

use super::exit::{ExitStatus, Failure, OrFailure};

/// Print shell completions
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  raida completions bash > ~/.local/share/bash-completion/completions/raida
  raida completions zsh > ~/.zfunc/_raida
  raida completions fish > ~/.config/fish/completions/raida.fish")]
pub struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Print the manual page, or write one for every subcommand
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  raida manual | man -l -
  raida manual --to /usr/local/share/man/man1")]
pub struct ManualArguments {
    /// Write raida.1 and a page for every subcommand into this directory
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

/// Prints the completions of a shell for the table `command`.
pub fn completions(arguments: CompletionsArguments, command: &mut clap::Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "raida", &mut script);
    print(&script)
}

/// Prints or writes the manual of the table `command`.
pub fn manual(arguments: ManualArguments, command: clap::Command) -> Result<(), Failure> {
    match arguments.to {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page).or_failure(ExitStatus::Machine)?;
            print(&page)
        }
        Some(directory) => {
            let named =
                |error: io::Error| Failure::new(ExitStatus::Machine, format_args!("{}: {error}", directory.display()));
            fs::create_dir_all(&directory).map_err(named)?;
            clap_mangen::generate_to(command, &directory).map_err(named)
        }
    }
}

/// Writes to standard output. A reader who has seen enough and closed it is no failure.
pub fn print(bytes: &[u8]) -> Result<(), Failure> {
    match io::stdout().write_all(bytes) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.or_failure(ExitStatus::Machine),
    }
}
