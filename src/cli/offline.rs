//! What the subcommands share that work on a data directory while no node serves it.

use std::io;
use std::path::Path;
use std::process;

use indicatif::{ProgressBar, ProgressStyle};
use nix::unistd::geteuid;

use raida::calendar::now_ms;
use raida::client::Error as ClientError;
use raida::client::wallet::{Pending, Wallet};
use raida::entropy::{Entropy, SystemEntropy};
use raida::store::error::StoreError;
use raida::store::files;
use raida::store::journal::{self, Entry};
use raida::store::mint::{Mint, Minted, mint};
use raida::store::storage::{Directory, Storage};
use raida::store::suspended::Who;
use raida::wire::items::RawCoin;

use super::exit::{ExitStatus, Failure};

/// Mints coins into a data directory and a wallet. The wallet has the new secrets on disk, and the directory's journal a
/// line, before the first page is written: no coin is ever in circulation that nobody can spend or that came from nowhere.
/// A crash in between leaves the secrets as *pending*.
pub fn mint_into(storage: &dyn Storage, coins: &Mint, wallet: &mut Wallet) -> Result<usize, StoreError> {
    let mut entropy = SystemEntropy::new();
    let Mint { den, first_sn, count, .. } = coins;
    let what = format!("{count} coins of denomination {den} from serial number {first_sn} on");
    let mut noted = false;
    let mut save = |minted: &[Minted]| {
        let pending = minted.iter().map(|(coin, an)| (RawCoin::from(*coin), Pending::Secret(*an)));
        wallet.begin(pending).map_err(wallet_error)?;
        noted = true;
        note(storage, "mint", &what, None)
    };
    let minted = mint(storage, coins, &mut |bytes| entropy.fill(bytes), &mut save);
    let minted = if noted { or_note(storage, "mint", &what, minted) } else { minted }?;
    wallet.settle(minted.iter().map(|(coin, _)| (RawCoin::from(*coin), true))).map_err(wallet_error)?;
    Ok(minted.len())
}

/// Adds a line to the journal of a data directory that no node serves: what this process is about to do.
///
/// # Errors
/// Then it must not be done.
pub fn note(storage: &dyn Storage, act: &str, what: &str, failed: Option<&str>) -> Result<(), StoreError> {
    let time = now_ms();
    let by = Who { uid: geteuid().as_raw(), pid: process::id() as i32 };
    journal::append(storage, &Entry { time, by, act, what, reason: "", failed })
}

/// What came of an act that was noted; of one that failed the journal has a second line, if the disk still takes it.
pub fn or_note<T>(storage: &dyn Storage, act: &str, what: &str, done: Result<T, StoreError>) -> Result<T, StoreError> {
    done.inspect_err(|error| {
        if let Err(also) = note(storage, act, what, Some(&error.to_string())) {
            log::warn!("the journal does not tell that this failed: {also}");
        }
    })
}

/// Coins and what they are worth, in units of 10^-8, as the journal tells what came from elsewhere.
pub fn coins_worth(coins: u64, value: u128) -> String {
    format!("{coins} coins worth {}", money(value))
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

/// A bar of pages on standard error, where that is a terminal; and how far it is.
pub fn progress_bar() -> (ProgressBar, impl FnMut(u64, u64)) {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} pages, {elapsed} of {duration}");
    let bar = ProgressBar::new(0).with_style(style.expect("a template that is right"));
    let shown = bar.clone();
    let progress = move |done, all| {
        shown.set_length(all);
        shown.set_position(done);
    };
    (bar, progress)
}

/// An amount in units of 10^-8, as people write it.
pub fn money(units: u128) -> String {
    const UNITS: u128 = 100_000_000;
    format!("{}.{:08}", units / UNITS, units % UNITS)
}

/// A path as a word of a shell.
pub fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+".contains(letter);
    if text.chars().all(plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Refuses what is not even a directory.
pub fn refuse_no_directory(data: &Path) -> Result<(), Failure> {
    if data.is_dir() {
        return Ok(());
    }
    let data = data.display();
    let line = format!("{data} is no directory: `raida import` or `raida mint` makes a data directory");
    Err(Failure::new(ExitStatus::Data, line))
}

/// Locks the data directory to look only.
pub fn open_to_read(data: &Path) -> Result<Directory, Failure> {
    refuse_no_directory(data)?;
    Directory::open_to_read(data).map_err(store_failure)
}

/// What went wrong with the data directory `data`; of damage with the command that says more.
pub fn data_failure(error: StoreError, data: &Path) -> Failure {
    let has_coins = data.join(files::COINS).is_dir();
    let is_damage = error.is_damage() || has_coins && matches!(error, StoreError::NotADataDirectory { .. });
    let failure = store_failure(error);
    match is_damage {
        true => Failure { line: format!("{}: see `raida verify --data {}`", failure.line, quoted(data)), ..failure },
        false => failure,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert_eq!(quoted(Path::new("./raida-dev/wallet.jsonl")), "./raida-dev/wallet.jsonl");
        assert_eq!(quoted(Path::new("/my data/it's")), "'/my data/it'\\''s'");
    }

    #[test]
    fn damage_names_the_command_that_says_more() {
        let data = Path::new("/var/lib/raida/3/data");
        let damaged = data_failure(StoreError::DamagedControl { path: "log/0/control".to_owned() }, data);
        assert_eq!(damaged.line, "log/0/control is damaged: see `raida verify --data /var/lib/raida/3/data`");
        assert_eq!(damaged.status, ExitStatus::Data);
        let locked = data_failure(StoreError::Locked { path: "/d".to_owned() }, data);
        assert!(locked.status == ExitStatus::Locked && !locked.line.contains("verify"), "{locked:?}");
    }
}
