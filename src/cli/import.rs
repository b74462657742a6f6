//! `raida import`: a data directory from that of the C server.

use std::path::PathBuf;

use clap::Args;

use raida::store::reference_data::{ImportReport, import};
use raida::store::storage::Storage;

use super::exit::Failure;
use super::offline::{coins_worth, money, note, progress_bar, store_failure};
use super::serve::say;

/// Make a data directory from that of the C server
///
/// Reads the 15,000 page files in `Data` and the payout addresses in `Trades`. The C server must not run meanwhile. A
/// file that is missing, short or damaged is named, and then nothing is left at the new place. The new directory's
/// admin.journal begins with a line that says when, by whom and how many coins came.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  raida import --from /opt/raidax --data /var/lib/raida/3/data")]
pub struct Arguments {
    /// The C server's directory, which holds `Data` and `Trades`
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The data directory to make; not there yet, or empty
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Imports, with a progress bar where standard error is a terminal.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { from, data } = arguments;
    let (bar, mut progress) = progress_bar();
    let note = |storage: &dyn Storage, report: &ImportReport| {
        let what = format!("{} from {}", coins_worth(report.coins, report.value), from.display());
        note(storage, "import", &what, None)
    };
    let report = import(&from, &data, &note, &mut progress);
    bar.finish_and_clear();
    say(&summary(&report.map_err(store_failure)?))
}

/// The counts, a line each; those of oddities only where there are any.
fn summary(report: &ImportReport) -> String {
    let mut lines = vec![
        format!("pages            {}", report.pages),
        format!("coins            {}", report.coins),
        format!("value            {}", money(report.value)),
        format!("trade lockers    {}", report.orders),
    ];
    let mut also = |label: &str, count: u64, what: &str| {
        if count > 0 {
            lines.push(format!("{label:16} {count} {what}"));
        }
    };
    also("not for sale", report.trade_lockers_without_address, "trade lockers, as they have no payout address");
    also("left out", report.dead_orders, "payout addresses of trade lockers that are no more");
    also("left out", report.other_files, "files in Trades that name no trade locker");
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_what_is_there_and_names_what_is_not() {
        let mut report =
            ImportReport { pages: 2, coins: 3, value: 1_050_000_000, orders: 1, ..ImportReport::default() };
        assert_eq!(
            summary(&report),
            "pages            2\ncoins            3\nvalue            10.50000000\ntrade lockers    1"
        );
        report.dead_orders = 4;
        assert!(summary(&report).ends_with("\nleft out         4 payout addresses of trade lockers that are no more"));
    }
}
