//! The data directory of the C server that runs the network today ("the reference"): imported and exported.
//!
//! # Its layout (PROTOCOL.md, "The reference's data directory")
//! * `Data/<den>/<page >> 8>/<page>.bin`: den as two hex digits, two's complement; the page's high byte as two, the page
//!   as four; lower case. 17,408 bytes: 1024 records of 17, as in our pages. At its start the reference makes every
//!   page file that is missing, so of a node that ever ran all 15,000 are there, and one that is not is an error. It
//!   gives free coins random ANs; they are kept, byte for byte. A page of zeros alone becomes a hole.
//! * `Trades/<AN>`: the payout address of a trade locker, 16 to 120 bytes, named by the AN as 32 hex digits. The
//!   reference never removes one: those whose AN no coin has are dead and left out. It does not say who came first;
//!   the times of the files do, as far as anything does, and an export sets them so.
//!
//! An AN is a secret: where such a file is wrong, the error names it by the part of the AN that the market shows.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::create::{Last, build, write_pages};
use super::error::StoreError;
use super::layout::{PageFrame, PageState, RECORDS_BYTES};
use super::orders::Order;
use super::pages::read_page;
use super::recovery::{Opened, finish_directory};
use super::storage::{Directory, Storage};
use super::wal::Geometry;
use crate::coin::{CoinRecord, PAGES, PageNumber, PayoutAddress, Place, Secret};

/// How far apart the times of two exported payout addresses are: every file system in use tells them from each other.
const BETWEEN_TRADES: Duration = Duration::from_secs(1);

/// What was imported.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ImportReport {
    /// Page files that were not all zeros.
    pub pages: u64,
    /// Coins in circulation.
    pub coins: u64,
    /// What they are worth, in units of 10^-8.
    pub value: u128,
    /// Trade lockers with a payout address.
    pub orders: u64,
    /// Trade lockers without one: as with the reference, nobody can list or buy them.
    pub trade_lockers_without_address: u64,
    /// Payout addresses of trade lockers that are no more, left out.
    pub dead_orders: u64,
    /// Files in `Trades` whose names are no AN, left out.
    pub other_files: u64,
}

/// Imports the reference's data directory `from` (which holds `Data`, and `Trades` unless nothing was ever for sale)
/// into a new data directory `to`. When all of it is there, and before it has its name, `last` may add to it. `progress` is
/// told the pages done and their number.
///
/// # Errors
/// [`StoreError::DamagedImport`] names a file that is missing, of a wrong size or one of two for the same trade locker,
/// [`StoreError::NotEmpty`] a target that is there, [`StoreError::Io`]; then nothing is left of `to`.
pub fn import(
    from: &Path,
    to: &Path,
    last: &Last<'_, ImportReport>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ImportReport, StoreError> {
    build(to, |unfinished| {
        let directory = Directory::open(unfinished)?;
        let mut importer = Importer { from, findings: Findings::default() };
        let used = write_pages(&directory, &mut |page, frame| importer.page(page, frame), progress)?;
        importer.orders()?;
        let (report, orders) = importer.findings.finish();
        let newest = orders.last().map_or(0, |order| order.sequence);
        finish_directory(&directory, Geometry::default(), used, orders, newest)?;
        last(&directory, &report)?;
        Ok(report)
    })
}

/// What the reference's files hold, put together file by file: first all pages, then the payout addresses. Pure.
#[derive(Default)]
pub struct Findings {
    report: ImportReport,
    /// ANs of the trade lockers that coins are in.
    trade_lockers: HashSet<Secret>,
    /// Orders of trade lockers there are.
    orders: HashMap<Secret, (SystemTime, PayoutAddress)>,
}

impl Findings {
    /// Takes a page, whose records were read into `frame`, and seals it; `false` where it is all zeros.
    pub fn page(&mut self, page: PageNumber, frame: &mut PageFrame) -> bool {
        let records = frame.records();
        if records.iter().all(|&byte| byte == 0) {
            return false;
        }
        for record in records.chunks_exact(CoinRecord::BYTES) {
            let record = CoinRecord::decode(record.try_into().expect("17 bytes"));
            if !record.is_free() {
                self.report.coins += 1;
                self.report.value += u128::from(page.denomination().value());
            }
            if let Place::TradeLocker(an) = record.place() {
                self.trade_lockers.insert(an);
            }
        }
        frame.seal(page, 0);
        self.report.pages += 1;
        true
    }

    /// Takes a file of `Trades` by its name; `read` gives when it was written and its first bytes, and is asked only
    /// where they are needed.
    ///
    /// # Errors
    /// What `read` fails with; [`StoreError::DamagedImport`] where the bytes are no address, or the trade locker has one
    /// already: hex digits may be capital letters.
    pub fn trade(
        &mut self,
        name: Option<&str>,
        read: impl FnOnce(&Secret) -> Result<(SystemTime, Vec<u8>), StoreError>,
    ) -> Result<(), StoreError> {
        let Some(an) = name.and_then(an_of_name) else {
            self.report.other_files += 1;
            return Ok(());
        };
        if !self.trade_lockers.contains(&an) {
            self.report.dead_orders += 1;
            return Ok(());
        }
        let damaged = |why: &str| StoreError::DamagedImport { path: public_name(&an), why: why.into() };
        let (time, bytes) = read(&an)?;
        let address = PayoutAddress::new(&bytes).ok_or_else(|| damaged("an address has 16 to 120 bytes"))?;
        match self.orders.insert(an, (time, address)) {
            None => Ok(()),
            Some(_) => Err(damaged("another file names the same trade locker")),
        }
    }

    /// The counts, and the orders of the trade lockers there are, first come first.
    pub fn finish(mut self) -> (ImportReport, Vec<Order>) {
        let mut found: Vec<_> = self.orders.into_iter().collect();
        found.sort_unstable_by_key(|(an, (time, _))| (*time, *an.bytes()));
        self.report.orders = found.len() as u64;
        self.report.trade_lockers_without_address = self.trade_lockers.len() as u64 - self.report.orders;
        let orders = (1..).zip(found).map(|(sequence, (an, (_, address)))| Order { an, address, sequence });
        (self.report, orders.collect())
    }
}

struct Importer<'a> {
    from: &'a Path,
    findings: Findings,
}

impl Importer<'_> {
    fn page(&mut self, page: PageNumber, frame: &mut PageFrame) -> Result<bool, StoreError> {
        read_whole(&self.from.join(page_file(page)), frame.records_mut())?;
        Ok(self.findings.page(page, frame))
    }

    /// Takes every file in `Trades`.
    fn orders(&mut self) -> Result<(), StoreError> {
        let directory = self.from.join("Trades");
        let name = directory.to_string_lossy();
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>().map_err(StoreError::io("list", &name))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(StoreError::io("list", &name)(error)),
        };
        entries
            .iter()
            .try_for_each(|entry| self.findings.trade(entry.file_name().to_str(), |an| read_address(&entry.path(), an)))
    }
}

/// Where the reference keeps a page, within its directory.
fn page_file(page: PageNumber) -> PathBuf {
    let (den, number) = (page.denomination().get(), page.in_denomination());
    format!("Data/{den:02x}/{:02x}/{number:04x}.bin", number >> 8).into()
}

/// Where the reference keeps a payout address, within its directory. The name is a secret.
fn trade_file(an: &Secret) -> PathBuf {
    let hex: String = an.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    Path::new("Trades").join(hex)
}

/// The same for errors: with the part of the AN that the market shows.
fn public_name(an: &Secret) -> String {
    let public: String = an.bytes()[9..].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("Trades/..{public}")
}

/// The AN that names a payout address, `None` where the name is none.
fn an_of_name(name: &str) -> Option<Secret> {
    let digits = name.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut an = [0; 16];
    for (byte, digits) in an.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(Secret::new(an))
}

/// Reads a file that must have exactly the size of `bytes`.
fn read_whole(path: &Path, bytes: &mut [u8]) -> Result<(), StoreError> {
    let name = || path.to_string_lossy().into_owned();
    let damaged = |why: String| StoreError::DamagedImport { path: name(), why };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged("it is missing".into())),
        Err(error) => return Err(StoreError::io("open", &name())(error)),
    };
    let length = file.metadata().map_err(StoreError::io("look at", &name()))?.len();
    if length != bytes.len() as u64 {
        return Err(damaged(format!("it has {length} bytes, not {}", bytes.len())));
    }
    file.read_exact_at(bytes, 0).map_err(StoreError::io("read", &name()))
}

/// Reads when a payout address was written, and no more of it than one that is too long.
fn read_address(path: &Path, an: &Secret) -> Result<(SystemTime, Vec<u8>), StoreError> {
    let read = || -> io::Result<(SystemTime, Vec<u8>)> {
        let file = File::open(path)?;
        let mut bytes = Vec::new();
        let time = file.metadata()?.modified()?;
        file.take(PayoutAddress::BYTES as u64).read_to_end(&mut bytes)?;
        Ok((time, bytes))
    };
    read().map_err(StoreError::io("read", &public_name(an)))
}

/// What was exported.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExportReport {
    /// Page files that were ever used; the others are zeros.
    pub pages: u64,
    /// Payout addresses.
    pub orders: u64,
}

/// Exports an opened data directory, which no node uses, as the reference keeps it, into a new directory: what was
/// imported comes out byte for byte. `progress` is told the pages done and their number.
///
/// # Errors
/// What [`read_page`] finds damaged, [`StoreError::NotEmpty`], [`StoreError::Io`]; then nothing is left of `to`.
pub fn export(
    storage: &dyn Storage,
    opened: &Opened,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ExportReport, StoreError> {
    build(to, |unfinished| {
        let mut report = ExportReport::default();
        let mut trade_lockers = HashSet::new();
        let mut frame = PageFrame::zeroed();
        for page in PageNumber::all() {
            let state = read_page(storage, page, &opened.used, &mut frame)?;
            report.pages += u64::from(state != PageState::NeverUsed);
            let path = unfinished.join(page_file(page));
            write_new(&path, &path.to_string_lossy(), |file| match state {
                PageState::NeverUsed => file.set_len(RECORDS_BYTES as u64),
                _ => file.write_all(frame.records()),
            })?;
            let records = frame.records().chunks_exact(CoinRecord::BYTES);
            for record in records.map(|bytes| CoinRecord::decode(bytes.try_into().expect("17 bytes"))) {
                if let Place::TradeLocker(an) = record.place() {
                    trade_lockers.insert(an);
                }
            }
            progress(u64::from(page.get()) + 1, u64::from(PAGES));
        }
        report.orders = export_orders(unfinished, opened, &trade_lockers)?;
        let name = unfinished.to_string_lossy();
        let root = File::open(unfinished).map_err(StoreError::io("open", &name))?;
        nix::unistd::syncfs(&root).map_err(|error| StoreError::io("sync", &name)(error.into()))?;
        Ok(report)
    })
}

/// Writes the payout addresses of the trade lockers there are, in the order of their times first come first; returns
/// how many.
fn export_orders(root: &Path, opened: &Opened, trade_lockers: &HashSet<Secret>) -> Result<u64, StoreError> {
    let directory = root.join("Trades");
    fs::create_dir_all(&directory).map_err(StoreError::io("create", &directory.to_string_lossy()))?;
    let orders: Vec<&Order> = opened.orders.iter().filter(|order| trade_lockers.contains(&order.an)).collect();
    let newest = SystemTime::now();
    for (order, younger) in orders.iter().zip((0..orders.len() as u32).rev()) {
        let time = newest - BETWEEN_TRADES * younger;
        write_new(&root.join(trade_file(&order.an)), &public_name(&order.an), |file| {
            file.write_all(order.address.as_bytes())?;
            file.set_modified(time)
        })?;
    }
    Ok(orders.len() as u64)
}

/// Makes a file that is not there, and the directories it is in; an error calls it `name`.
fn write_new(path: &Path, name: &str, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), StoreError> {
    let write = || -> io::Result<()> {
        fs::create_dir_all(path.parent().expect("a file in a directory"))?;
        fill(&mut OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?)
    };
    write().map_err(StoreError::io("write", name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coin::Denomination;
    use crate::coin::{CoinId, Months};
    use crate::store::recovery::open_as_it_is;

    /// An AN of the market: price 5, Bitcoin.
    const TRADE_AN: [u8; 16] = [0xAB, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 5, 1, 0xEE, 0xEE];

    /// A directory as the reference has it: page files of zeros, all one file by links, but for a few records.
    fn reference(root: &Path) {
        let zeros = root.join("zeros");
        fs::create_dir(root).unwrap();
        File::create(&zeros).unwrap().set_len(17_408).unwrap();
        for page in PageNumber::all() {
            let path = root.join(page_file(page));
            if page.in_denomination().is_multiple_of(256) {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
            }
            fs::hard_link(&zeros, &path).unwrap();
        }
        fs::remove_file(&zeros).unwrap();
        for (den, sn, an, mfs) in
            [(-8, 0, [1; 16], 30), (-8, 1, [2; 16], 0), (-1, 300_000, TRADE_AN, 31), (6, 1_023_999, [0xFF; 16], 255)]
        {
            let coin = CoinId::new(den, sn).unwrap();
            let record = CoinRecord { an: Secret::new(an), mfs: Months::new(mfs) };
            let mut records = fs::read(root.join(page_file(coin.page()))).unwrap();
            records[coin.slot() * 17..][..17].copy_from_slice(&record.encode());
            replace(&root.join(page_file(coin.page())), &records);
        }
        fs::create_dir(root.join("Trades")).unwrap();
        fs::write(root.join("Trades/ab01020304050607080000000501eeee"), "bc1-an-address-of-btc").unwrap();
        fs::write(root.join("Trades/cd01020304050607080000000501eeee"), "of a locker sold").unwrap();
        fs::write(root.join("Trades/notes.txt"), "left by somebody").unwrap();
    }

    /// Writes a file of its own, where a link was.
    fn replace(path: &Path, bytes: &[u8]) {
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn imported(place: &Path) -> Result<ImportReport, StoreError> {
        import(&place.join("from"), &place.join("to"), &|_, _| Ok(()), &mut |_, _| {})
    }

    #[test]
    fn page_files_are_named_as_the_reference_names_them() {
        let name = |den, number| page_file(PageNumber::of(Denomination::new(den).unwrap(), number).unwrap());
        assert_eq!(name(-8, 0), Path::new("Data/f8/00/0000.bin"));
        assert_eq!(name(-1, 999), Path::new("Data/ff/03/03e7.bin"));
        assert_eq!(name(6, 256), Path::new("Data/06/01/0100.bin"));
        assert_eq!(trade_file(&Secret::new(TRADE_AN)), Path::new("Trades/ab01020304050607080000000501eeee"));
        assert_eq!(an_of_name("ab01020304050607080000000501eeee"), Some(Secret::new(TRADE_AN)));
        for name in ["", "ab", "zz01020304050607080000000501eeee", "+b01020304050607080000000501eeee"] {
            assert_eq!(an_of_name(name), None);
        }
    }

    #[test]
    fn what_is_imported_comes_out_byte_for_byte() {
        let place = tempfile::tempdir().unwrap();
        let [from, to, back] = ["from", "to", "back"].map(|name| place.path().join(name));
        reference(&from);
        let mut last = (0, 0);
        let report = import(&from, &to, &|_, _| Ok(()), &mut |done, all| last = (done, all)).unwrap();
        assert_eq!(last, (15_000, 15_000));
        let expected = ImportReport {
            pages: 3,
            coins: 3,
            value: 1 + 10_000_000 + 100_000_000_000_000,
            orders: 1,
            dead_orders: 1,
            other_files: 1,
            trade_lockers_without_address: 0,
        };
        assert_eq!(report, expected);
        let directory = Directory::open(&to).unwrap();
        let opened = open_as_it_is(&directory).unwrap();
        assert_eq!((opened.used.count(), opened.orders.len(), opened.sequence), (3, 1, 1));
        assert_eq!(opened.orders[0].an, Secret::new(TRADE_AN));
        assert_eq!(opened.orders[0].address.as_bytes(), b"bc1-an-address-of-btc");
        let exported = export(&directory, &opened, &back, &mut |_, _| {}).unwrap();
        assert_eq!(exported, ExportReport { pages: 3, orders: 1 });
        for page in PageNumber::all() {
            let [was, is] = [&from, &back].map(|root| fs::read(root.join(page_file(page))).unwrap());
            assert_eq!(was, is, "{page:?}");
        }
        let names: Vec<_> =
            fs::read_dir(back.join("Trades")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["ab01020304050607080000000501eeee"]);
        assert!(matches!(imported(place.path()).unwrap_err(), StoreError::NotEmpty { .. }));
    }

    #[test]
    fn who_came_first_is_kept_by_an_export_and_the_next_import() {
        let place = tempfile::tempdir().unwrap();
        let [from, to, back, again] = ["from", "to", "back", "again"].map(|name| place.path().join(name));
        reference(&from);
        let page = from.join(page_file(CoinId::new(-8, 0).unwrap().page()));
        let mut records = fs::read(&page).unwrap();
        let earlier = [&[0xCD], &TRADE_AN[1..]].concat();
        records[..16].copy_from_slice(&earlier);
        replace(&page, &records);
        let trade = File::options().write(true).open(from.join("Trades/cd01020304050607080000000501eeee")).unwrap();
        trade.set_modified(SystemTime::now() - Duration::from_secs(7)).unwrap();
        let orders = |root: &Path| {
            let directory = Directory::open(root).unwrap();
            let opened = open_as_it_is(&directory).unwrap();
            let ans: Vec<u8> = opened.orders.iter().map(|order| order.an.bytes()[0]).collect();
            (directory, opened, ans)
        };
        import(&from, &to, &|_, _| Ok(()), &mut |_, _| {}).unwrap();
        let (directory, opened, ans) = orders(&to);
        assert_eq!(ans, [0xCD, 0xAB]);
        export(&directory, &opened, &back, &mut |_, _| {}).unwrap();
        import(&back, &again, &|_, _| Ok(()), &mut |_, _| {}).unwrap();
        assert_eq!(orders(&again).2, ans);
    }

    #[test]
    fn what_is_damaged_is_named_and_nothing_is_left() {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("from");
        reference(&from);
        let fails = |says: &str| {
            let error = imported(place.path()).unwrap_err().to_string();
            assert!(error.ends_with(says) && !error.contains("ab01"), "{error}");
            let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(left, ["from"]);
        };
        let trade = from.join("Trades/ab01020304050607080000000501eeee");
        fs::write(&trade, "too short").unwrap();
        fails("cannot import Trades/..0000000501eeee: an address has 16 to 120 bytes");
        fs::write(&trade, "bc1-an-address-of-btc").unwrap();
        let twin = from.join("Trades/AB01020304050607080000000501EEEE");
        fs::write(&twin, "another-address-of-btc").unwrap();
        fails("cannot import Trades/..0000000501eeee: another file names the same trade locker");
        fs::remove_file(&twin).unwrap();
        let page = from.join("Data/fe/02/0200.bin");
        replace(&page, &[0; 17_407]);
        fails("Data/fe/02/0200.bin: it has 17407 bytes, not 17408");
        fs::remove_file(&page).unwrap();
        fails("Data/fe/02/0200.bin: it is missing");
    }
}
