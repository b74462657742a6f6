//! `raida mint`: new coins, offline.

use std::path::PathBuf;

use clap::Args;

use raida::calendar::now_ms;
use raida::client::wallet::Wallet;
use raida::coin::{Denomination, Months};
use raida::store::create::create;
use raida::store::error::StoreError;
use raida::store::mint::Mint;
use raida::store::storage::Directory;
use raida::store::wal::Geometry;

use super::exit::Failure;
use super::offline::{data_failure, mint_into, store_failure, wallet_error};
use super::serve::say;

/// Put new coins into circulation while no node serves the data directory
///
/// Their secrets come from the system's entropy and are in the wallet before any of the coins is in circulation;
/// admin.journal has a line. A coin that is in circulation already is refused, and then nothing changes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  raida mint --data ./data --den 0 --first-sn 0 --count 100 --wallet coins.jsonl
  raida mint --data ./data --den -2 --first-sn 5000 --count 10 --wallet coins.jsonl")]
pub struct Arguments {
    /// The data directory; made where none is
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The denomination, -8 to 6: a coin is worth 10 to this power
    #[arg(long, value_name = "D", allow_negative_numbers = true, value_parser = denomination)]
    den: Denomination,
    /// The first serial number, 0 to 1023999
    #[arg(long, value_name = "N")]
    first_sn: u32,
    /// How many, with consecutive serial numbers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_024_000))]
    count: u32,
    /// The wallet that gets the secrets, one line of JSON a coin; made where none is
    #[arg(long, value_name = "FILE")]
    wallet: PathBuf,
}

/// A denomination as it is typed.
pub fn denomination(text: &str) -> Result<Denomination, String> {
    text.parse().ok().and_then(Denomination::new).ok_or_else(|| "a denomination is -8 to 6".to_owned())
}

/// This month.
pub fn this_month() -> Months {
    Months::at(now_ms() / 1000)
}

/// Mints coins.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { data, den, first_sn, count, wallet } = arguments;
    match create(&data, Geometry::default()) {
        Ok(()) | Err(StoreError::NotEmpty { .. }) => {}
        Err(error) => return Err(store_failure(error)),
    }
    let directory = Directory::open(&data).map_err(store_failure)?;
    let mut file = Wallet::open(&wallet).map_err(|error| store_failure(wallet_error(error)))?;
    let coins = Mint { den, first_sn, count, mfs: this_month() };
    let minted = mint_into(&directory, &coins, &mut file).map_err(|error| data_failure(error, &data))?;
    say(&format!("minted {minted} coins of denomination {den}, their secrets are in {}", wallet.display()))
}
