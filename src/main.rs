//! The program: one binary, `raida`. Everything it does is a subcommand in [`cli`].

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
