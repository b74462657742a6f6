//! `raida rebuild`: repairs what can be repaired.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;

use raida::calendar::{iso, now_ms};
use raida::store::rebuild::rebuild;
use raida::store::storage::Directory;
use raida::store::verify::{Verdict, verify};

use super::exit::{ExitStatus, Failure, OrFailure};
use super::offline::{note, or_note, progress_bar, refuse_no_directory, store_failure};
use super::serve::say;
use super::verify::{say_findings, status};

/// Repair what `raida verify` calls repairable, while no node serves the data directory
///
/// Torn pages come back from the double-write area or the log, control blocks, payout addresses and files without their
/// size from what else is there. The damaged bytes are kept in DIR/damaged, which holds secrets as the rest does, and
/// admin.journal has a line. Where anything is lost it refuses, and nothing is changed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  raida rebuild --data /var/lib/raida/3/data
  raida rebuild --data /var/lib/raida/3/data --yes")]
pub struct Arguments {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Do not ask first
    #[arg(long)]
    yes: bool,
}

/// Verifies, asks, repairs, and verifies again.
pub fn run(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    refuse_no_directory(&arguments.data)?;
    let directory = Directory::open(&arguments.data).map_err(store_failure)?;
    let (bar, mut progress) = progress_bar();
    let found = verify(&directory, &mut progress);
    bar.finish_and_clear();
    let found = found.map_err(store_failure)?;
    say_findings(&found)?;
    match found.verdict() {
        Verdict::Clean => {
            say("clean: there is nothing to repair")?;
            return Ok(ExitStatus::Done);
        }
        Verdict::Damaged => {
            let line = "refused, and nothing was changed: what is lost comes back from a backup alone";
            return Err(Failure::new(ExitStatus::Data, line));
        }
        Verdict::Repairable if arguments.yes => {}
        Verdict::Repairable => {
            if !is_agreed()? {
                say("nothing was changed")?;
                return Ok(ExitStatus::Repairable);
            }
        }
    }
    let now = now_ms();
    let what = format!("{} findings", found.findings.len());
    note(&directory, "rebuild", &what, None).map_err(store_failure)?;
    let (bar, mut progress) = progress_bar();
    let rebuilt = rebuild(&directory, &found, &iso(now), &mut progress);
    bar.finish_and_clear();
    let rebuilt = or_note(&directory, "rebuild", &what, rebuilt);
    let rebuilt = rebuilt.map_err(store_failure)?;
    rebuilt.kept.iter().try_for_each(|path| say(&format!("kept        {path}")))?;
    say_findings(&rebuilt.report)?;
    let repaired = found.findings.len();
    match rebuilt.report.verdict() {
        Verdict::Clean => say(&format!("repaired {repaired}, and clean now"))?,
        _ => say("not clean yet: run `raida verify`")?,
    }
    Ok(status(&rebuilt.report))
}

/// Asks the person at the terminal.
fn is_agreed() -> Result<bool, Failure> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::new(ExitStatus::Usage, "nothing was changed: without a terminal to ask, say --yes"));
    }
    write!(io::stderr(), "Repair this? [y/N] ").or_failure(ExitStatus::Machine)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).or_failure(ExitStatus::Machine)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
