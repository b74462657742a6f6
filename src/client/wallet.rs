//! The file that holds the owner's secrets, and never loses one.
//!
//! # The file
//! JSON, one line a coin, in order of denomination and serial number:
//! ```text
//! {"den":0,"sn":123,"an":"00112233445566778899aabbccddeeff"}
//! {"den":0,"sn":124,"an":"00…","pending":"ff…"}
//! {"den":-1,"sn":9,"pending":"ff…"}
//! {"den":1,"sn":5,"an":"00…","pending":"freed"}
//! ```
//! * `an` is the secret that the node was last known to hold. What it ends with says where the coin is: with its owner,
//!   in a locker, or in a trade locker ([`Secret::place`]).
//! * `pending` is there from before a request goes out until its answer is understood. It is the secret that the node
//!   holds if it did what was asked, or `freed` if the coin is then out of circulation.
//! * A line without `an` is a coin that belongs to this wallet only if the request was carried out.
//!
//! # A request that changes coins
//! 1. [`Wallet::begin`]: the pending secrets are on disk.
//! 2. The request goes out.
//! 3. [`Wallet::settle`] with what the answer says of each coin: what was pending becomes the AN, or is dropped.
//!    Without an answer this step waits until the node was asked which of the two secrets it holds (*wallet reconcile*).
//!
//! # Safety
//! The file is replaced as a whole: written beside it, synced, renamed over it, and the folder synced. A secret that
//! leaves it is first appended to `FILE.archive` and synced: neither a forged answer nor a datagram that arrives late
//! can make a secret unrecoverable. `FILE.lock` keeps two commands from using a wallet at the same time. All of them are
//! readable for their owner alone.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::coin::{Place, Secret};
use crate::wire::items::{RawCoin, SecretCoin};

use super::Error;
use super::secrets::{bytes_of_hex, hex_of_bytes};

/// What the node holds of a coin if it did what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pending {
    /// This secret.
    Secret(Secret),
    /// Nothing: the coin is no longer in circulation.
    Freed,
}

/// What the wallet knows of a coin. It has an AN, or something is pending, or both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// The secret that the node was last known to hold.
    pub an: Option<Secret>,
    /// What an unanswered request may have made of it.
    pub pending: Option<Pending>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    den: i8,
    sn: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    an: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<String>,
}

/// How `pending` says [`Pending::Freed`].
const FREED: &str = "freed";

impl Line {
    fn new(coin: RawCoin, entry: &Entry) -> Self {
        let hex = |secret: Secret| hex_of_bytes(secret.bytes());
        let pending = entry.pending.map(|pending| match pending {
            Pending::Secret(secret) => hex(secret),
            Pending::Freed => FREED.to_owned(),
        });
        Self { den: coin.den, sn: coin.sn, an: entry.an.map(hex), pending }
    }

    /// The coin and its entry; else what is wrong, without saying any secret.
    fn read(&self) -> Result<(RawCoin, Entry), &'static str> {
        let coin = RawCoin { den: self.den, sn: self.sn };
        if coin.id().is_none() {
            return Err("there is no such coin");
        }
        let secret = |hex: &str| bytes_of_hex(hex).map(Secret::new).ok_or("a secret is 32 hex digits");
        let an = self.an.as_deref().map(secret).transpose()?;
        let pending = match self.pending.as_deref() {
            None => None,
            Some(FREED) => Some(Pending::Freed),
            Some(hex) => Some(Pending::Secret(secret(hex)?)),
        };
        if an.is_none() && !matches!(pending, Some(Pending::Secret(_))) {
            return Err("the coin has no secret");
        }
        Ok((coin, Entry { an, pending }))
    }
}

/// A wallet file, held for as long as this lives.
pub struct Wallet {
    path: PathBuf,
    entries: BTreeMap<RawCoin, Entry>,
    _lock: Flock<File>,
}

impl Wallet {
    /// Opens a wallet; a file that is not there is a wallet without coins. Waits while another command has it.
    ///
    /// # Errors
    /// [`Error::Machine`] when the file cannot be read or is no wallet.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let lock = private(OpenOptions::new().create(true).truncate(false).write(true))
            .open(beside(path, "lock"))
            .and_then(|file| Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into()))
            .map_err(|error| Error::Machine(beside(path, "lock"), error))?;
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::Machine(path.to_owned(), error)),
        };
        let entries = read_lines(&text).map_err(|text| Error::Machine(path.to_owned(), io::Error::other(text)))?;
        Ok(Self { path: path.to_owned(), entries, _lock: lock })
    }

    /// Every coin in it, in order.
    pub fn entries(&self) -> impl Iterator<Item = (RawCoin, Entry)> {
        self.entries.iter().map(|(coin, entry)| (*coin, *entry))
    }

    /// What it knows of a coin.
    pub fn entry(&self, coin: RawCoin) -> Option<Entry> {
        self.entries.get(&coin).copied()
    }

    /// A coin with its AN, to be named in a request.
    ///
    /// # Errors
    /// [`Error::Usage`] when the wallet does not have it, or does not know which of two secrets holds.
    pub fn settled(&self, coin: RawCoin) -> Result<SecretCoin, Error> {
        match self.entry(coin) {
            Some(Entry { an: Some(an), pending: None }) => Ok((coin, an)),
            Some(_) => Err(waits(coin)),
            None => Err(Error::Usage(format!("coin {coin} is not in the wallet"))),
        }
    }

    /// The coins that are with their owner, neither in a locker nor waiting for an answer; in order.
    pub fn spendable(&self) -> impl Iterator<Item = SecretCoin> {
        self.entries().filter_map(|(coin, entry)| match entry {
            Entry { an: Some(an), pending: None } if an.place() == Place::Wallet => Some((coin, an)),
            _ => None,
        })
    }

    /// Writes down what a request will make of coins, before it goes out.
    ///
    /// # Errors
    /// [`Error::Usage`] when a coin still waits for an earlier answer; [`Error::Machine`]. The request must not go out.
    pub fn begin(&mut self, changes: impl IntoIterator<Item = (RawCoin, Pending)>) -> Result<(), Error> {
        let mut entries = self.entries.clone();
        for (coin, pending) in changes {
            let entry = entries.entry(coin).or_default();
            if entry.pending.is_some() {
                return Err(waits(coin));
            }
            entry.pending = Some(pending);
        }
        self.replace(entries, &[])
    }

    /// Writes down what became of coins with something pending: whether the node did what it was asked.
    ///
    /// # Errors
    /// [`Error::Machine`]; the file then still holds both secrets of every coin.
    pub fn settle(&mut self, outcomes: impl IntoIterator<Item = (RawCoin, bool)>) -> Result<(), Error> {
        let (mut entries, mut leaving) = (self.entries.clone(), Vec::new());
        for (coin, done) in outcomes {
            let Some(Entry { an, pending: Some(pending) }) = entries.remove(&coin) else { continue };
            let (stays, leaves) = match (done, pending) {
                (true, Pending::Secret(secret)) => (Some(secret), an),
                (true, Pending::Freed) => (None, an),
                (false, Pending::Secret(secret)) => (an, Some(secret)),
                (false, Pending::Freed) => (an, None),
            };
            leaving.extend(leaves.map(|secret| (coin, secret)));
            if stays.is_some() {
                entries.insert(coin, Entry { an: stays, pending: None });
            }
        }
        self.replace(entries, &leaving)
    }

    /// Takes coins out of the wallet, whatever it knows of them. Their secrets go to the archive.
    ///
    /// # Errors
    /// [`Error::Machine`]; nothing is then taken out.
    pub fn forget(&mut self, coins: &[RawCoin]) -> Result<(), Error> {
        let (mut entries, mut leaving) = (self.entries.clone(), Vec::new());
        for &coin in coins {
            let Some(entry) = entries.remove(&coin) else { continue };
            leaving.extend(entry.an.map(|secret| (coin, secret)));
            if let Some(Pending::Secret(secret)) = entry.pending {
                leaving.push((coin, secret));
            }
        }
        self.replace(entries, &leaving)
    }

    /// Makes `entries` the wallet, on disk and here. Secrets that are `leaving` are archived first.
    fn replace(&mut self, entries: BTreeMap<RawCoin, Entry>, leaving: &[SecretCoin]) -> Result<(), Error> {
        if entries == self.entries {
            return Ok(());
        }
        let archive = beside(&self.path, "archive");
        append(&archive, leaving).map_err(|error| Error::Machine(archive, error))?;
        overwrite(&self.path, &entries).map_err(|error| Error::Machine(self.path.clone(), error))?;
        self.entries = entries;
        Ok(())
    }
}

fn waits(coin: RawCoin) -> Error {
    Error::Usage(format!("coin {coin} waits for the answer to an earlier request: run `wallet reconcile` first"))
}

/// `FILE.suffix`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

fn read_lines(text: &str) -> Result<BTreeMap<RawCoin, Entry>, String> {
    let mut entries = BTreeMap::new();
    for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
        // The parser's own message could quote a secret: only its place is told.
        let parsed: Line = serde_json::from_str(line)
            .map_err(|error| format!("line {number}, column {}: not a line of a wallet", error.column()))?;
        let (coin, entry) = parsed.read().map_err(|text| format!("line {number}: {text}"))?;
        if entries.insert(coin, entry).is_some() {
            return Err(format!("line {number}: coin {coin} is named twice"));
        }
    }
    Ok(entries)
}

fn lines<'a>(entries: impl IntoIterator<Item = (&'a RawCoin, &'a Entry)>) -> String {
    let mut text = String::new();
    for (coin, entry) in entries {
        text += &serde_json::to_string(&Line::new(*coin, entry)).expect("a line is numbers and text");
        text.push('\n');
    }
    text
}

/// Appends secrets to the archive, durably.
fn append(path: &Path, secrets: &[SecretCoin]) -> io::Result<()> {
    if secrets.is_empty() {
        return Ok(());
    }
    let entries: Vec<_> =
        secrets.iter().map(|(coin, secret)| (*coin, Entry { an: Some(*secret), pending: None })).collect();
    let mut file = private(OpenOptions::new().create(true).append(true)).open(path)?;
    file.write_all(lines(entries.iter().map(|(coin, entry)| (coin, entry))).as_bytes())?;
    file.sync_all()?;
    sync_folder(path)
}

/// Replaces the file as a whole, durably.
fn overwrite(path: &Path, entries: &BTreeMap<RawCoin, Entry>) -> io::Result<()> {
    let temporary = beside(path, "new");
    let mut file = private(OpenOptions::new().create(true).write(true).truncate(true)).open(&temporary)?;
    file.write_all(lines(entries).as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Secret = Secret::new([0x11; 16]);
    const NEW: Secret = Secret::new([0x22; 16]);

    fn coin(sn: u32) -> RawCoin {
        RawCoin { den: 0, sn }
    }

    fn wallet_of(text: &str) -> (tempfile::TempDir, PathBuf, Wallet) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet");
        std::fs::write(&path, text).unwrap();
        let wallet = Wallet::open(&path).unwrap();
        (folder, path, wallet)
    }

    /// A line with an AN of `11…`.
    fn line(sn: u32) -> String {
        format!("{{\"den\":0,\"sn\":{sn},\"an\":\"{}\"}}\n", "11".repeat(16))
    }

    fn archive(path: &Path) -> String {
        std::fs::read_to_string(beside(path, "archive")).unwrap_or_default()
    }

    #[test]
    fn golden_lines() {
        let hex = |byte: &str| byte.repeat(16);
        let text = format!(
            "{{\"den\":-1,\"sn\":9,\"pending\":\"{1}\"}}\n{{\"den\":0,\"sn\":1,\"an\":\"{0}\"}}\n\
             {{\"den\":0,\"sn\":2,\"an\":\"{0}\",\"pending\":\"{1}\"}}\n\
             {{\"den\":1,\"sn\":5,\"an\":\"{0}\",\"pending\":\"freed\"}}\n",
            hex("11"),
            hex("22")
        );
        let entries = read_lines(&text).unwrap();
        assert_eq!(lines(&entries), text);
        let pending = Some(Pending::Secret(NEW));
        assert_eq!(
            entries.values().copied().collect::<Vec<_>>(),
            [
                Entry { an: None, pending },
                Entry { an: Some(OLD), pending: None },
                Entry { an: Some(OLD), pending },
                Entry { an: Some(OLD), pending: Some(Pending::Freed) },
            ]
        );
    }

    #[test]
    fn what_is_no_wallet_is_refused_without_telling_secrets() {
        let secret = "ab".repeat(16);
        for (text, expected) in [
            (format!("{{\"den\":0,\"sn\":1,\"an\":\"{secret}\"\n"), "line 1, column"),
            (format!("{{\"den\":0,\"sn\":1,\"an\":\"{secret}\",\"more\":1}}\n"), "line 1, column"),
            (format!("\n{{\"den\":0,\"sn\":1,\"an\":\"{secret}00\"}}\n"), "line 2: a secret is 32 hex digits"),
            (format!("{{\"den\":7,\"sn\":1,\"an\":\"{secret}\"}}\n"), "line 1: there is no such coin"),
            ("{\"den\":0,\"sn\":1}\n".into(), "line 1: the coin has no secret"),
            ("{\"den\":0,\"sn\":1,\"pending\":\"freed\"}\n".into(), "line 1: the coin has no secret"),
            ([line(1), line(1)].concat(), "line 2: coin 0:1 is named twice"),
        ] {
            let error = read_lines(&text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains(&secret));
        }
    }

    #[test]
    fn the_new_secret_is_on_disk_before_the_request_and_the_old_one_after_it() {
        let (_folder, path, mut wallet) = wallet_of(&[line(1), line(2)].concat());
        wallet.begin([(coin(1), Pending::Secret(NEW)), (coin(3), Pending::Secret(NEW))]).unwrap();
        let on_disk = read_lines(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(on_disk[&coin(1)], Entry { an: Some(OLD), pending: Some(Pending::Secret(NEW)) });
        assert_eq!(on_disk[&coin(3)], Entry { an: None, pending: Some(Pending::Secret(NEW)) });

        wallet.settle([(coin(1), true), (coin(3), true)]).unwrap();
        assert_eq!(wallet.settled(coin(1)).unwrap().1, NEW);
        assert_eq!(wallet.settled(coin(3)).unwrap().1, NEW);
        assert_eq!(archive(&path), line(1));
    }

    #[test]
    fn what_was_not_done_is_dropped_into_the_archive() {
        let (_folder, path, mut wallet) = wallet_of(&line(1));
        wallet.begin([(coin(1), Pending::Secret(NEW)), (coin(3), Pending::Secret(NEW))]).unwrap();
        wallet.settle([(coin(1), false), (coin(3), false)]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), line(1));
        assert_eq!(archive(&path).replace(&"22".repeat(16), &"11".repeat(16)), [line(1), line(3)].concat());
    }

    #[test]
    fn a_freed_coin_leaves_when_that_was_done() {
        let (_folder, path, mut wallet) = wallet_of(&[line(1), line(2)].concat());
        wallet.begin([(coin(1), Pending::Freed), (coin(2), Pending::Freed)]).unwrap();
        wallet.settle([(coin(1), true), (coin(2), false)]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), line(2));
        assert_eq!(archive(&path), line(1));
    }

    #[test]
    fn a_coin_that_waits_is_not_named_again() {
        let (_folder, path, mut wallet) = wallet_of(&[line(1), line(2)].concat());
        wallet.begin([(coin(1), Pending::Secret(NEW))]).unwrap();
        let before = std::fs::read_to_string(&path).unwrap();
        assert!(matches!(wallet.settled(coin(1)), Err(Error::Usage(_))));
        assert!(matches!(wallet.settled(coin(9)), Err(Error::Usage(_))));
        let again = wallet.begin([(coin(2), Pending::Freed), (coin(1), Pending::Freed)]);
        assert!(matches!(again, Err(Error::Usage(_))));
        let twice = wallet.begin([(coin(2), Pending::Freed), (coin(2), Pending::Freed)]);
        assert!(matches!(twice, Err(Error::Usage(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        assert_eq!(wallet.spendable().map(|(coin, _)| coin).collect::<Vec<_>>(), [coin(2)]);
    }

    #[test]
    fn coins_in_lockers_are_not_spendable() {
        let key = format!("{}ffffffff", "11".repeat(12));
        let text = line(1) + &line(2).replace(&"11".repeat(16), &key);
        let (_folder, path, mut wallet) = wallet_of(&text);
        assert_eq!(wallet.spendable().map(|(coin, _)| coin).collect::<Vec<_>>(), [coin(1)]);
        wallet.forget(&[coin(1), coin(9)]).unwrap();
        assert_eq!(wallet.entries().count(), 1);
        assert_eq!(archive(&path), line(1));
    }

    #[test]
    fn files_are_private_and_a_missing_one_is_empty() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new-wallet");
        let mut wallet = Wallet::open(&path).unwrap();
        assert_eq!(wallet.entries().count(), 0);
        wallet.begin([(coin(1), Pending::Secret(NEW))]).unwrap();
        wallet.settle([(coin(1), false)]).unwrap();
        for file in [path.clone(), beside(&path, "archive"), beside(&path, "lock")] {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
