//! `raida export`: a directory as the C server keeps it, from a data directory.

use std::path::PathBuf;

use clap::Args;

use raida::store::error::StoreError;
use raida::store::recovery::open_as_it_is;
use raida::store::reference_data::{ExportReport, export};
use raida::store::storage::Directory;

use super::exit::Failure;
use super::offline::{data_failure, progress_bar, refuse_no_directory, store_failure};
use super::serve::say;

/// Make a directory of the C server's from a data directory that no node serves
///
/// Writes the 15,000 page files in `Data` and the payout addresses in `Trades`, as the C server has them: what was
/// imported and did not change comes out byte for byte. A data directory whose node was killed is recovered first, as
/// the next start would do. Payout addresses of trade lockers that are no more, which the C server never removes, were
/// left out by the import; so were other files in `Trades`. The time of a payout address's file says who came first. All
/// of it is secret.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  raida export --data /var/lib/raida/data --to /opt/raidax")]
pub struct Arguments {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The directory to make, which will hold `Data` and `Trades`; not there yet, or empty
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// Exports, with a progress bar where standard error is a terminal.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { data, to } = arguments;
    refuse_no_directory(&data)?;
    let directory = Directory::open(&data).map_err(store_failure)?;
    let opened = open_as_it_is(&directory).map_err(|error| data_failure(error, &data))?;
    let (bar, mut progress) = progress_bar();
    let report = export(&directory, &opened, &to, &mut progress);
    bar.finish_and_clear();
    let report = report.map_err(|error| match error {
        error @ StoreError::NotEmpty { .. } => store_failure(error),
        error => data_failure(error, &data),
    })?;
    say(&summary(&report))
}

/// The counts, a line each.
fn summary(report: &ExportReport) -> String {
    let ExportReport { pages, orders } = report;
    format!("pages            {pages}\ntrade lockers    {orders}")
}
