//! `raida verify`: is a data directory whole?

use std::path::PathBuf;

use clap::Args;

use raida::coin::Denomination;
use raida::store::verify::{Report, Verdict, verify};

use super::exit::{ExitStatus, Failure};
use super::offline::{money, open_to_read, progress_bar, quoted, store_failure};
use super::serve::say;

/// Look for damage in a data directory that no node serves, and count its coins
///
/// Reads everything: checksums of pages, logs and payout addresses, and whether they agree with each other. Changes
/// nothing. What a node left that was killed is no damage: the next start replays its log.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 clean; 10 damaged, and `raida rebuild` repairs it; 5 damaged, and something is lost.

Examples:
  raida verify --data /var/lib/raida/3/data"
)]
pub struct Arguments {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Verifies, with a progress bar where standard error is a terminal.
pub fn run(arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let directory = open_to_read(&arguments.data)?;
    let (bar, mut progress) = progress_bar();
    let report = verify(&directory, &mut progress);
    bar.finish_and_clear();
    let report = report.map_err(store_failure)?;
    say(&summary(&report))?;
    say_findings(&report)?;
    say(&match report.verdict() {
        Verdict::Clean => "clean".to_owned(),
        Verdict::Repairable => format!("repairable: `raida rebuild --data {}` does it", quoted(&arguments.data)),
        Verdict::Damaged => "damaged: what is lost comes back from a backup alone".to_owned(),
    })?;
    Ok(status(&report))
}

/// The exit status of a verdict.
pub fn status(report: &Report) -> ExitStatus {
    match report.verdict() {
        Verdict::Clean => ExitStatus::Done,
        Verdict::Repairable => ExitStatus::Repairable,
        Verdict::Damaged => ExitStatus::Data,
    }
}

/// Prints what is wrong, a line each.
pub fn say_findings(report: &Report) -> Result<(), Failure> {
    report.findings.iter().try_for_each(|finding| say(&finding.to_string()))
}

/// What is there: the coins by denomination, what they are worth, and the log.
pub fn summary(report: &Report) -> String {
    let mut lines = vec![format!(
        "{:>5} {:>14} {:>10} {:>10} {:>12} {:>10} {:>10}",
        "den", "circulation", "lockers", "for sale", "not for sale", "free", "unknown"
    )];
    for (den, coins) in Denomination::all().zip(&report.totals) {
        lines.push(format!(
            "{:>5} {:>14} {:>10} {:>10} {:>12} {:>10} {:>10}",
            den.get(),
            coins.circulation,
            coins.lockers,
            coins.on_sale,
            coins.not_for_sale,
            coins.free(),
            coins.unknown
        ));
    }
    lines.push(format!("value            {}", money(report.value())));
    lines.push(format!("trade lockers    {}", report.orders));
    if report.to_replay > 0 {
        lines.push(format!("to replay        {} from the logs, at the next start", report.to_replay));
    }
    lines.join("\n") + "\n"
}
