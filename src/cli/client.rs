//! `raida client`: the client of [`raida::client`], with the program's exit statuses.

use raida::client::arguments::ClientArguments;
use raida::client::{Error, run as ask};

use super::exit::{ExitStatus, Failure};
use super::serve::say;

/// Asks a node and shows its answer, also where that is no.
pub fn run(arguments: &ClientArguments) -> Result<ExitStatus, Failure> {
    let output = ask(arguments).map_err(failure)?;
    if arguments.json {
        say(&output.json.to_string())?;
    } else {
        say(&output.text)?;
    }
    Ok(if output.is_refused() { ExitStatus::Refused } else { ExitStatus::Done })
}

fn failure(error: Error) -> Failure {
    let status = match error {
        Error::Refused(_) => ExitStatus::Refused,
        Error::Usage(_) => ExitStatus::Usage,
        Error::Machine(..) => ExitStatus::Data,
        Error::Connect(_) | Error::Exchange(_) | Error::Timeout(_) | Error::Closed => ExitStatus::NoAnswer,
        Error::Reply(_) | Error::Payload(_) => ExitStatus::NoAnswer,
    };
    Failure::new(status, error)
}
