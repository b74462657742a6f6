//! A client of the protocol, for the command line, the tests and the load generator.
//!
//! From the socket up:
//! * [`connection`] — bytes over TCP or UDP, on tokio-uring;
//! * [`session`] — requests and replies over a connection, sealed as chosen;
//! * [`wallet`] — the file that holds the owner's secrets, and never loses one;
//! * [`secrets`] — fresh ANs, and locker keys from what people type;
//! * [`commands`] — what the command line can ask for, and what that does to the wallet;
//! * [`arguments`] — the command line itself.
//!
//! The node is trusted with nothing: an answer is checked before the wallet believes it, and a request without an
//! answer is taken as done and as not done until *wallet reconcile* has asked.

pub mod arguments;
pub mod commands;
pub mod connection;
#[cfg(test)]
mod fake_node;
pub mod secrets;
pub mod session;
#[cfg(test)]
mod session_test;
pub mod wallet;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::wire::reply::ReplyError;
use crate::wire::status::Status;

use arguments::ClientArguments;
use commands::Output;

/// Why there is no answer to show.
#[derive(Debug)]
pub enum Error {
    /// What was asked for cannot be asked.
    Usage(String),
    /// The node answered, but not so that the command could go on.
    Refused(String),
    /// The wallet, or another file or source of this machine, cannot be used.
    Machine(PathBuf, io::Error),
    /// There was no connection: nothing was sent.
    Connect(io::Error),
    /// The connection failed while a request was on its way.
    Exchange(io::Error),
    /// No answer came in time.
    Timeout(Duration),
    /// The node closed the connection instead of answering.
    Closed,
    /// What came is no answer to the request.
    Reply(ReplyError),
    /// The answer's payload is not laid out as the command's is.
    Payload(Status),
}

impl Error {
    /// Whether the node may have got the request all the same.
    pub const fn may_have_arrived(&self) -> bool {
        !matches!(self, Self::Usage(_) | Self::Connect(_) | Self::Machine(..))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Refused(text) => f.write_str(text),
            Self::Machine(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::Exchange(error) => write!(f, "the connection failed: {error}"),
            Self::Timeout(after) => write!(f, "no answer within {} s", after.as_secs_f64()),
            Self::Closed => f.write_str("the node closed the connection without an answer"),
            Self::Reply(error) => error.fmt(f),
            Self::Payload(status) => write!(f, "the answer's payload is malformed: {}", status.text()),
        }
    }
}

impl std::error::Error for Error {}

/// Carries out one command line, on a runtime of its own.
///
/// # Errors
/// Whatever keeps the node's answer from being shown; a refusal by the node is an [`Output`].
pub fn run(arguments: &ClientArguments) -> Result<Output, Error> {
    // One request is in flight at a time; a small ring fits into the smallest limit of locked memory.
    tokio_uring::builder().entries(64).start(commands::run(arguments))
}
