//! `raida restore`: a data directory from a backup.

use std::fs::File;
use std::path::PathBuf;

use clap::Args;

use raida::calendar::iso;
use raida::store::backup::Header;
use raida::store::backup::restore::{Restored, restore};
use raida::store::storage::Storage;

use super::exit::{ExitStatus, Failure};
use super::offline::{coins_worth, note, progress_bar, store_failure};
use super::serve::say;
use super::verify::summary;

/// Make a data directory from a backup
///
/// Every byte of the file is checked, then the directory is made beside its place, verified as `raida verify` does, and
/// gets its name: where that fails nothing is left. Says whose backup it was: a node must not have another's coins. The new
/// directory's admin.journal begins with a line that says when, by whom and how many coins came.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  raida restore --from /backup/raida-3.backup --data /var/lib/raida/data")]
pub struct Arguments {
    /// The backup
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The data directory to make; not there yet, or empty
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Restores, with a progress bar where standard error is a terminal.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { from, data } = arguments;
    let file = File::open(from)
        .map_err(|error| Failure::new(ExitStatus::Machine, format!("cannot open {}: {error}", from.display())))?;
    let (bar, mut progress) = progress_bar();
    let note = |storage: &dyn Storage, restored: &Restored| {
        let Restored { header, end, report } = restored;
        let coins = report.totals.iter().map(|coins| coins.circulation).sum();
        let (coins, taken) = (coins_worth(coins, report.value()), iso(header.unix_ms));
        let what = format!("{coins} from {}, taken {taken}, sequence {}", from.display(), end.sequence);
        note(storage, "restore", &what, None)
    };
    let restored = restore(file, data, &note, &mut progress);
    bar.finish_and_clear();
    let restored = restored.map_err(store_failure)?;
    say(&format!("{}\n{}restored", origin(&restored.header, restored.end.sequence), summary(&restored.report)))
}

/// Whose backup it is, and of when.
fn origin(header: &Header, sequence: u64) -> String {
    let whose = match header.whose {
        Some(whose) => format!("RAIDA {}, coin id {}", whose.raida_id, whose.coin_id),
        None => "a node that did not run, and so did not say which".to_string(),
    };
    format!("backup of        {whose}\ntaken            {}\nsequence         {sequence}\n", iso(header.unix_ms))
}
