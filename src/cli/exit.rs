//! How the program ends: every exit status, decided here and nowhere else.
//!
//! `--help`, the manual and the README show this table; a test compares the README with it. A broken invariant is
//! none of these: it aborts (SIGABRT, 134 in a shell), because going on could lose money.

use std::fmt::Display;
use std::process::ExitCode;

/// An exit status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done.
    Done = 0,
    /// The node answered, and the answer is no.
    Refused = 1,
    /// The command line is wrong. (clap's own status.)
    Usage = 2,
    /// No answer came: nobody listens, the time is over, or what came is no answer.
    NoAnswer = 3,
    /// raida.toml is wrong, or contradicts itself.
    Configuration = 4,
    /// A data directory or wallet is damaged, or cannot be used for this.
    Data = 5,
    /// Another process uses the data directory.
    Locked = 6,
    /// The kernel lacks something the node needs, or does not let it.
    Kernel = 7,
    /// The address cannot be listened on.
    Address = 8,
    /// The machine failed while it ran: a disk, a file, memory.
    Machine = 9,
    /// A data directory is damaged, and `raida rebuild` repairs it.
    Repairable = 10,
}

impl ExitStatus {
    /// Every status, in order.
    pub const ALL: [Self; 11] = [
        Self::Done,
        Self::Refused,
        Self::Usage,
        Self::NoAnswer,
        Self::Configuration,
        Self::Data,
        Self::Locked,
        Self::Kernel,
        Self::Address,
        Self::Machine,
        Self::Repairable,
    ];

    /// What it means, for help, manual and README.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "the node answered no",
            Self::Usage => "wrong command line",
            Self::NoAnswer => "no answer from the node",
            Self::Configuration => "wrong configuration",
            Self::Data => "data directory or wallet damaged, or not usable for this",
            Self::Locked => "data directory in use by another process",
            Self::Kernel => "the kernel lacks a feature, or forbids it",
            Self::Address => "address cannot be listened on",
            Self::Machine => "disk, file or memory failed",
            Self::Repairable => "data directory damaged, `raida rebuild` repairs it",
        }
    }

    /// The table as the help shows it.
    pub fn table() -> String {
        let rows: Vec<String> =
            Self::ALL.iter().map(|status| format!("{:>4}  {}", *status as u8, status.meaning())).collect();
        format!("Exit status:\n{}", rows.join("\n"))
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}

/// Why a subcommand ends without being done: a status, and one line for the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The exit status.
    pub status: ExitStatus,
    /// What happened, without a secret.
    pub line: String,
}

impl Failure {
    /// A failure of a status; `line` says what happened.
    pub fn new(status: ExitStatus, line: impl Display) -> Self {
        Self { status, line: line.to_string() }
    }
}

/// Gives an error the status it ends with.
pub trait OrFailure<T> {
    /// The value, or a failure of `status` with the error as its line.
    fn or_failure(self, status: ExitStatus) -> Result<T, Failure>;
}

impl<T, E: Display> OrFailure<T> for Result<T, E> {
    fn or_failure(self, status: ExitStatus) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(status, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_numbered_in_order() {
        for (number, status) in ExitStatus::ALL.into_iter().enumerate() {
            assert_eq!(status as usize, number);
        }
    }

    #[test]
    fn the_readme_has_every_status() {
        let readme = include_str!("../../README.md");
        for status in ExitStatus::ALL {
            let row = format!("| {} | {} |", status as u8, status.meaning());
            assert!(readme.contains(&row), "{row}");
        }
    }

    #[test]
    fn what_no_restart_cures_is_in_the_unit() {
        let unit = include_str!("../../deploy/raida@.service");
        let (_, rest) = unit.split_once("RestartPreventExitStatus=").unwrap();
        // A directory in use is not among them: who only looks into it gives it back.
        let hopeless = [ExitStatus::Usage, ExitStatus::Configuration, ExitStatus::Data, ExitStatus::Kernel];
        let numbers: Vec<String> = hopeless.iter().map(|status| (*status as u8).to_string()).collect();
        assert_eq!(rest.lines().next(), Some(numbers.join(" ").as_str()));
        assert!(unit.contains("\nStartLimitIntervalSec=0\n"), "it never gives up trying");
    }
}
