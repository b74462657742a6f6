//! What the subcommands share that work on a data directory while no node serves it.

use std::io;

use raida::client::Error as ClientError;
use raida::client::wallet::{Pending, Wallet};
use raida::entropy::{Entropy, SystemEntropy};
use raida::store::error::StoreError;
use raida::store::mint::{Mint, Minted, mint};
use raida::store::storage::Storage;
use raida::wire::items::RawCoin;

use super::exit::{ExitStatus, Failure};

/// Mints coins into a data directory and a wallet. The wallet has the new secrets on disk before the first page is
/// written, so no coin is ever in circulation that nobody can spend; a crash in between leaves them as *pending*.
pub fn mint_into(storage: &dyn Storage, coins: &Mint, wallet: &mut Wallet) -> Result<usize, StoreError> {
    let mut entropy = SystemEntropy::new();
    let mut save = |minted: &[Minted]| {
        let pending = minted.iter().map(|(coin, an)| (RawCoin::from(*coin), Pending::Secret(*an)));
        wallet.begin(pending).map_err(wallet_error)
    };
    let minted = mint(storage, coins, &mut |bytes| entropy.fill(bytes), &mut save)?;
    wallet.settle(minted.iter().map(|(coin, _)| (RawCoin::from(*coin), true))).map_err(wallet_error)?;
    Ok(minted.len())
}

/// A wallet's error, where the store's is wanted.
pub fn wallet_error(error: ClientError) -> StoreError {
    match error {
        ClientError::Machine(path, source) => {
            StoreError::Io { doing: "use wallet", path: path.display().to_string(), source }
        }
        error => StoreError::Io { doing: "use", path: "the wallet".to_owned(), source: io::Error::other(error) },
    }
}

/// The exit status of what went wrong with a data directory.
pub fn store_failure(error: StoreError) -> Failure {
    let status = match &error {
        StoreError::Locked { .. } => ExitStatus::Locked,
        StoreError::Io { .. } => ExitStatus::Machine,
        StoreError::NoSuchCoins { .. } => ExitStatus::Usage,
        _ => ExitStatus::Data,
    };
    Failure::new(status, error)
}
