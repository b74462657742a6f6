//! The command line: one table of subcommands, from which help, completions and manual are made.
//!
//! Each subcommand is a file with its arguments and its `run`. A `run` ends with a [`Failure`] or without; only
//! [`main`] turns that into an exit status and a line on standard error.

mod admin;
mod audit;
mod backup;
mod client;
mod dev;
mod exit;
mod export;
mod generate;
mod import;
mod inspect;
mod inspect_log;
mod journal;
mod load;
mod logs;
mod mint;
mod offline;
mod outbox;
mod rebuild;
mod report;
mod restore;
mod serve;
mod service_manager;
mod verify;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use raida::client::arguments::ClientArguments;

use exit::{ExitStatus, Failure, OrFailure};
use logs::{Lines, LogFormat};

/// A RAIDA node: lockers, the market of trade lockers and change-making, durable, on io_uring.
#[derive(Parser)]
#[command(name = "raida", version, propagate_version = true, arg_required_else_help = true)]
#[command(subcommand_required = true, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    subcommand: Command,
}

/// What `raida` can do. Not printable: a client's arguments hold locker keys.
#[derive(Subcommand)]
enum Command {
    Dev(dev::Arguments),
    Serve(serve::Arguments),
    Admin(admin::Arguments),
    Import(import::Arguments),
    Export(export::Arguments),
    Mint(mint::Arguments),
    Verify(verify::Arguments),
    Rebuild(rebuild::Arguments),
    Backup(backup::Arguments),
    Restore(restore::Arguments),
    Inspect(inspect::Arguments),
    Audit(audit::Arguments),
    Report(report::Arguments),
    Client(Box<ClientArguments>),
    Load(load::Arguments),
    Completions(generate::CompletionsArguments),
    Manual(generate::ManualArguments),
}

/// The program: reads the command line, runs the subcommand, says how it ended.
pub fn main() -> ExitCode {
    let line = match parse(std::env::args_os()) {
        Ok(line) => line,
        Err(error) => {
            // Help and version go to standard output with status 0, mistakes to standard error with status 2.
            let status = if error.use_stderr() { ExitStatus::Usage } else { ExitStatus::Done };
            let _ = error.print();
            return status.into();
        }
    };
    let (lines, usual) = lines_of(&line.subcommand);
    let log = lines.start(usual).or_failure(ExitStatus::Machine);
    let ended = log.and_then(|flush| {
        let ended = run(line.subcommand);
        // What was logged stands before the last line.
        drop(flush);
        ended
    });
    match ended {
        Ok(status) => status.into(),
        Err(failure) => {
            lines.tell_end(&failure.line);
            failure.status.into()
        }
    }
}

/// Says something on standard error. Where that takes nothing, nobody is left to be told, and the work goes on.
fn complain(line: impl Display) {
    writeln!(io::stderr(), "raida: {line}").unwrap_or_default();
}

fn run(command: Command) -> Result<ExitStatus, Failure> {
    match command {
        Command::Dev(arguments) => dev::run(arguments),
        Command::Serve(arguments) => serve::run(arguments),
        Command::Admin(arguments) => return admin::run(arguments),
        Command::Import(arguments) => import::run(arguments),
        Command::Export(arguments) => export::run(arguments),
        Command::Mint(arguments) => mint::run(arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Restore(arguments) => restore::run(&arguments),
        Command::Verify(arguments) => return verify::run(&arguments),
        Command::Rebuild(arguments) => return rebuild::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Client(arguments) => return client::run(&arguments),
        Command::Load(arguments) => load::run(arguments),
        Command::Completions(arguments) => generate::completions(arguments, &mut table()),
        Command::Manual(arguments) => generate::manual(arguments, table()),
    }
    .map(|()| ExitStatus::Done)
}

/// The table of subcommands.
fn table() -> clap::Command {
    CommandLine::command().after_help(format!(
        "{}\n\nStart with `raida dev`: a node to try, with coins and commands to paste.",
        ExitStatus::table()
    ))
}

/// Reads a command line by the table.
fn parse(words: impl Iterator<Item = OsString>) -> Result<CommandLine, clap::Error> {
    let mut table = table();
    let matches = table.try_get_matches_from_mut(words)?;
    CommandLine::from_arg_matches(&matches).map_err(|error| error.format(&mut table))
}

/// A node's log tells what goes on in it; a tool speaks up when something is wrong.
fn lines_of(command: &Command) -> (Lines, &'static str) {
    match command {
        Command::Serve(arguments) => (Lines::new(arguments.log_format()), "info"),
        _ => (Lines::new(LogFormat::Text), "warn"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        table().debug_assert();
    }

    /// Every subcommand says what it does and shows how it is used.
    #[test]
    fn every_subcommand_has_help_and_an_example() {
        for command in table().get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} says what it does");
            let help = [command.get_after_help(), command.get_after_long_help()];
            let help: String = help.into_iter().flatten().map(ToString::to_string).collect();
            assert!(help.contains("Examples:\n"), "{name} shows an example");
            assert!(help.contains(&format!("  raida {name}")), "{name} shows itself");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {} says what it is", argument.get_id());
            }
        }
    }

    #[test]
    fn help_lists_every_exit_status() {
        let help = parse(["raida", "--help"].into_iter().map(OsString::from)).err().expect("help").to_string();
        for status in ExitStatus::ALL {
            assert!(help.contains(&format!("{:>4}  {}", status as u8, status.meaning())), "{status:?}");
        }
    }

    #[test]
    fn the_unit_starts_the_program_as_it_is() {
        let unit = include_str!("../../deploy/raida@.service").replace("%i", "3");
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a start");
        assert!(parse(start.split(' ').map(OsString::from)).is_ok(), "{start}");
    }
}
