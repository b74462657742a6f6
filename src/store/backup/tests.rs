//! The file, byte by byte; and files that somebody made to do harm.

use std::io::{Cursor, Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::reader::BackupReader;
use super::restore::{fill, restore};
use super::writer::BackupWriter;
use super::*;
use crate::coin::{CoinId, CoinRecord, Months, PageNumber, PayoutAddress, Secret};
use crate::store::layout::PageFrame;
use crate::store::storage::Memory;
use crate::store::suspended::{Cause, HOLDS_MAX, Held, Hold, Suspended, Who};
use crate::store::wal::format::encode_record;
use crate::store::wal::{Change, Commit, CommitRecord, PlaceKind};

const WHOSE: Whose = Whose { raida_id: 3, coin_id: 6 };
const HEADER: Header = Header { whose: Some(WHOSE), unix_ms: 0x1112_1314_1516_1718, in_place: 10 };

fn page(number: u16, sequence: u64) -> PageFrame {
    let mut frame = PageFrame::zeroed();
    frame.set_record(1, CoinRecord { an: Secret::new([number as u8; 16]), mfs: Months::new(9) });
    frame.seal(PageNumber::new(number).unwrap(), sequence);
    frame
}

fn order() -> Order {
    let an = Secret::new([7, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 5, 1, 0xEE, 0xEE]);
    Order { an, address: PayoutAddress::new(b"an address of twenty").unwrap(), sequence: 4 }
}

/// A commit that gives coin 1 of page 7 another AN.
fn record(sequence: u64) -> Vec<u8> {
    let to = CoinRecord { an: Secret::new([0xB0; 16]), mfs: Months::new(10) };
    let change = Change { coin: CoinId::from_number(7 * 1024 + 1).unwrap(), from: PlaceKind::Wallet, to };
    let mut bytes = vec![0; record_bytes(1, 0)];
    let commit = Commit { sequence, unix_ms: 1, group: 1, code: 20 };
    encode_record(&mut bytes, &commit, std::iter::once(change), None);
    bytes
}

fn suspended() -> Suspended {
    Suspended { salt: [0x5A; 16], holds: Vec::new(), pauses: Vec::new() }
}

fn backup() -> Vec<u8> {
    let mut writer = BackupWriter::new(Vec::new(), &HEADER).unwrap();
    for number in [7, 14_999] {
        writer.page(PageNumber::new(number).unwrap(), page(number, 11).bytes()).unwrap();
    }
    writer.order(&order()).unwrap();
    writer.record(&CommitRecord::decode(&record(12)).unwrap().0).unwrap();
    writer.suspended(&suspended()).unwrap();
    assert_eq!(writer.highest(), 12);
    let (end, bytes) = writer.finish(13).unwrap();
    assert_eq!(end, End { sequence: 13, pages: 2, orders: 1, records: 1 });
    bytes
}

#[test]
fn more_holds_than_fit_are_an_error() {
    let by = Who { uid: 0, pid: 1 };
    let reason = "r".repeat(SUSPENDED_BYTES_MAX as usize);
    let hold = Hold { held: Held::Locker([1; 16]), cause: Cause { reason, since_unix_ms: 0, by } };
    let mut writer = BackupWriter::new(Vec::new(), &HEADER).unwrap();
    let error = writer.suspended(&Suspended { holds: vec![hold], ..suspended() }).unwrap_err();
    assert_eq!(error.to_string(), "more lockers are held than a backup takes");
    // As many as there may be, with the longest reasons: each byte may become six.
    let longest = HOLDS_MAX * (6 * 500 + 400);
    assert!(longest < SUSPENDED_BYTES_MAX as usize, "{longest}");
}

/// Reads a backup as a restore does, to its end.
fn read(bytes: &[u8]) -> Result<End, StoreError> {
    let mut reader = BackupReader::new(Cursor::new(bytes))?;
    let mut frame = PageFrame::zeroed();
    while reader.page(&mut frame)?.is_some() {}
    while reader.order()?.is_some() {}
    while reader.record(|_| Ok(()))? {}
    assert!(reader.suspended()?.is_none_or(|read| read == suspended()));
    reader.end()
}

/// Why a backup is refused.
fn refused(bytes: &[u8]) -> String {
    match read(bytes) {
        Err(StoreError::DamagedBackup { why }) => why,
        other => panic!("it is read: {other:?}"),
    }
}

/// With a checksum that holds.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    bytes
}

/// A file of these entries, whatever they are, compressed and with a checksum that holds.
fn of_entries(entries: &[&[u8]]) -> Vec<u8> {
    in_frame(FrameInfo::new().block_size(BlockSize::Max256KB), &entries.concat())
}

/// The same in a frame that says this of itself.
fn in_frame(frame: FrameInfo, entries: &[u8]) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(frame, HEADER.encode().to_vec());
    encoder.write_all(entries).unwrap();
    sealed(encoder.finish().unwrap())
}

fn entry(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind], bytes].concat()
}

fn order_entry() -> Vec<u8> {
    let mut bytes = vec![0; Order::BYTES];
    order().encode(&mut bytes);
    entry(2, &bytes)
}

fn suspended_entry(bytes: &[u8]) -> Vec<u8> {
    entry(4, &[&(bytes.len() as u32).to_be_bytes(), bytes].concat())
}

fn end_entry(sequence: u64, pages: u64, orders: u64, records: u64) -> Vec<u8> {
    entry(255, &End { sequence, pages, orders, records }.encode())
}

#[test]
fn golden_bytes_of_a_header_and_an_end() {
    let header = Header { in_place: 0x2122_2324_2526_2728, ..HEADER };
    let bytes = header.encode();
    assert_eq!(&bytes[..16], b"RBK1\x00\x01\x03\x00\x00\x06\x00\x00\x00\x00\x00\x00");
    assert_eq!(&bytes[16..], b"\x11\x12\x13\x14\x15\x16\x17\x18\x21\x22\x23\x24\x25\x26\x27\x28");
    assert_eq!(Header::decode(&bytes), Ok(header));
    let untold = Header { whose: None, ..header };
    assert_eq!(&untold.encode()[6..10], b"\xFF\x00\xFF\xFF");
    assert_eq!(Header::decode(&untold.encode()), Ok(untold));
    let end = End { sequence: 1, pages: 2, orders: 3, records: 4 };
    assert_eq!(end.encode()[7..16], [1, 0, 0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(End::decode(&end.encode()), end);
}

#[test]
fn golden_bytes_of_the_entries() {
    let bytes = backup();
    let frame = &bytes[HEADER_BYTES..bytes.len() - DIGEST_BYTES];
    assert_eq!(frame[..7], FRAME_HEAD);
    let mut entries = Vec::new();
    FrameDecoder::new(frame).read_to_end(&mut entries).unwrap();
    let expected = [
        entry(1, page(7, 11).bytes()),
        entry(1, page(14_999, 11).bytes()),
        order_entry(),
        entry(3, &record(12)),
        suspended_entry(&suspended().encode()),
        end_entry(13, 2, 1, 1),
    ];
    assert!(entries == expected.concat());
    assert_eq!(Sha256::digest(&bytes[..bytes.len() - 32])[..], bytes[bytes.len() - 32..]);
}

#[test]
fn what_was_backed_up_is_restored_with_the_records_over_the_pages() {
    let memory = Memory::new();
    let restored = fill(&memory, BackupReader::new(Cursor::new(backup())).unwrap(), &mut |_, _| {}).unwrap();
    assert_eq!((restored.header, restored.end.sequence), (HEADER, 13));
    assert_eq!(Suspended::load(&memory).unwrap(), Some(suspended()));
    let opened = crate::store::recovery::open_as_it_is(&memory).unwrap();
    assert_eq!((opened.sequence, opened.used.count(), opened.orders, opened.recovered), (13, 2, vec![order()], 0));
    let mut frame = PageFrame::zeroed();
    for (number, an) in [(7, 0xB0), (14_999, 14_999u16 as u8)] {
        let page = PageNumber::new(number).unwrap();
        crate::store::pages::read_page(&memory, page, &opened.used, &mut frame).unwrap();
        assert_eq!(frame.record(1).an, Secret::new([an; 16]));
    }
}

#[test]
fn a_file_that_is_cut_or_changed_anywhere_is_refused() {
    let whole = backup();
    assert_eq!(read(&whole).unwrap().sequence, 13);
    for length in 0..whole.len() {
        refused(&whole[..length]);
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        refused(&changed);
    }
    refused(&[&whole[..], b"x"].concat());
    assert_eq!(
        refused(b"a letter to somebody who is no computer, and who will never read it, as it is only a test"),
        "it is no backup of this program"
    );
    let mut later = whole;
    later[5] = 2;
    assert_eq!(refused(&later), "it is of format 2, which this program does not know");
}

#[test]
fn a_file_made_to_do_harm_is_refused_though_its_checksum_holds() {
    let [first, last] = [7, 14_999].map(|number| entry(1, page(number, 11).bytes()));
    let order = order_entry();
    let log_record = entry(3, &record(12));
    let whole: [&[u8]; 5] = [&first, &last, &order, &log_record, &end_entry(13, 2, 1, 1)];
    assert_eq!(read(&of_entries(&whole)).unwrap().sequence, 13);
    let says = |says: &str, entries: &[&[u8]]| {
        let why = refused(&of_entries(entries));
        assert!(why.contains(says), "{says}: {why}");
    };
    says("cannot be read to its end", &[]);
    says("cannot be read to its end", &[&first]);
    says("kind 0, which this program does not know", &[&[0]]);
    says("kind 5, which this program does not know", &[&first, &entry(5, b"more")]);
    says("what is suspended: ", &[&suspended_entry(b"nothing known")]);
    says("more than there can be", &[&entry(4, &u32::MAX.to_be_bytes())]);
    says("pages are mixed up", &[&last, &first]);
    says("pages are mixed up", &[&first, &first]);
    says("pages are mixed up", &[&entry(1, &[0xFF; PAGE_BYTES])]);
    says("is mixed up", &[&order, &first]);
    says("is mixed up", &[&log_record, &order]);
    says("a page in it is damaged", &[&entry(1, &[0; PAGE_BYTES])]);
    let mut torn = first.clone();
    torn[5000] ^= 1;
    says("a page in it is damaged", &[&torn]);
    says("an order in it is none", &[&entry(2, &[0; Order::BYTES])]);
    for length in [0, 3, u32::MAX, ENTRY_BYTES_MAX as u32 + 1] {
        says("longer than any", &[&entry(3, &length.to_be_bytes())]);
    }
    says("a record in it is none", &[&entry(3, &[&100u32.to_be_bytes()[..], &[0; 96]].concat())]);
    says("older than its pages", &[&entry(3, &record(10))]);
    says("past the end of all", &[&entry(3, &record(u64::MAX))]);
    says("past the end of all", &[&entry(1, page(7, COUNTER_MAX + 1).bytes())]);
    for end in [end_entry(13, 0, 0, 0), end_entry(13, u64::MAX, 1, 1), end_entry(COUNTER_MAX + 1, 2, 1, 1)] {
        says("not what it says at its end", &[&first, &last, &order, &log_record, &end]);
    }
    says("newer than the whole", &[&first, &end_entry(10, 1, 0, 0)]);
    says("goes on behind its end", &[&whole.concat(), &end_entry(13, 2, 1, 1)]);
    says("cannot be read to its end", &[&end_entry(13, 0, 0, 0)[..20]]);

    let mut behind = of_entries(&whole);
    behind.truncate(behind.len() - DIGEST_BYTES);
    behind.extend_from_slice(b"more");
    assert!(refused(&sealed(behind)).contains("goes on behind its end"));
    let raw = [&HEADER.encode()[..], &whole.concat()].concat();
    assert!(refused(&sealed(raw)).contains("not compressed as this program does it"), "nothing is compressed");
    let header = Header { in_place: COUNTER_MAX + 1, ..HEADER }.encode();
    assert!(refused(&sealed(header.to_vec())).contains("past the end of all"));
}

#[test]
fn a_backup_that_was_given_up_says_why() {
    let whole = backup();
    for length in [0, 5, 60, whole.len()] {
        let given_up = [&whole[..length], &given_up("the log was full\u{1b}[2J\n")].concat();
        assert_eq!(refused(&given_up), "it was given up: the log was full[2J", "after {length} bytes");
    }
    let long = "coins/08.pages is damaged, ".repeat(10);
    assert_eq!(refused(&given_up(&long)), format!("it was given up: {long}"), "before anything was read");
    let forged = [&whole[..60], b"\nRBKX\x1b[2J is no reason\n"].concat();
    assert_eq!(refused(&forged), "it was cut or changed: its checksum does not hold");
}

#[test]
fn a_frame_of_another_kind_is_refused() {
    let pages: Vec<Vec<u8>> = (0..20).map(|number| entry(1, page(number, 11).bytes())).collect();
    let entries = [&pages.concat()[..], &end_entry(13, 20, 0, 0)].concat();
    let ours = FrameInfo::new().block_size(BlockSize::Max256KB);
    let whole = in_frame(ours.clone(), &entries);
    assert_eq!(read(&whole).unwrap().pages, 20);
    let others = [
        ours.clone().block_size(BlockSize::Max4MB),
        ours.clone().block_mode(BlockMode::Linked),
        ours.clone().block_checksums(true),
        ours.clone().content_checksum(true),
        ours.content_size(Some(entries.len() as u64)),
    ];
    let mut files: Vec<Vec<u8>> = others.into_iter().map(|other| in_frame(other, &entries)).collect();
    let frame = &whole[HEADER_BYTES..whole.len() - DIGEST_BYTES];
    // Zstandard's magic, LZ4's of old, and that of a frame to be skipped before the right one; and no frame at all.
    for begins in [&b"\x28\xB5\x2F\xFD"[..], b"\x02\x21\x4C\x18", b"\x50\x2A\x4D\x18\0\0\0\0"] {
        files.push(sealed([&HEADER.encode(), begins, frame].concat()));
    }
    files.push(sealed(HEADER.encode().to_vec()));
    for file in &files {
        assert_eq!(refused(file), "its entries are not compressed as this program does it");
    }
}

#[test]
fn a_second_frame_is_not_read() {
    let first = entry(1, page(7, 11).bytes());
    let suspended = suspended().encode();
    let longer = entry(4, &[&(suspended.len() as u32 + 1).to_be_bytes(), &suspended[..]].concat());
    for begin in [first, longer] {
        let mut file = of_entries(&[&begin]);
        file.truncate(file.len() - DIGEST_BYTES);
        let more = of_entries(&[&end_entry(13, 1, 0, 0)]);
        file.extend_from_slice(&more[HEADER_BYTES..more.len() - DIGEST_BYTES]);
        let why = refused(&sealed(file));
        assert!(why.contains("cannot be read to its end") || why.contains("is cut"), "{why}");
    }
}

#[test]
fn a_block_larger_than_the_frame_says_is_refused() {
    let mut file = [&HEADER.encode()[..], &FRAME_HEAD].concat();
    let block = vec![0; (256 << 10) + 1];
    file.extend_from_slice(&(block.len() as u32 | 1 << 31).to_le_bytes());
    file.extend_from_slice(&block);
    assert!(refused(&sealed(file)).contains("cannot be read to its end"));
    // 4 KiB that stand for a MiB.
    let bomb = lz4_flex::block::compress(&vec![0; 1 << 20]);
    let head = [&HEADER.encode()[..], &FRAME_HEAD, &(bomb.len() as u32).to_le_bytes()].concat();
    assert!(refused(&sealed([&head[..], &bomb].concat())).contains("cannot be read to its end"));
}

#[test]
fn what_cannot_be_restored_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("data");
    let mut changed = backup();
    changed[40] ^= 1;
    let without_end = of_entries(&[&entry(1, page(7, 11).bytes())]);
    for bytes in [changed, without_end] {
        restore(Cursor::new(bytes), &to, &|_, _| Ok(()), &mut |_, _| {}).unwrap_err();
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }
    restore(Cursor::new(backup()), &to, &|_, _| Ok(()), &mut |_, _| {}).unwrap();
    let again = restore(Cursor::new(backup()), &to, &|_, _| Ok(()), &mut |_, _| {}).unwrap_err();
    assert!(matches!(again, StoreError::NotEmpty { .. }), "{again}");
}

proptest! {
    /// Whatever the entries are: refused, or as long as its end says.
    #[test]
    fn no_entries_do_harm(
        parts in prop::collection::vec((0u8..6, any::<u64>(), prop::collection::vec(any::<u8>(), 1..64)), 0..6),
    ) {
        let part = |(what, number, bytes): &(u8, u64, Vec<u8>)| match what {
            0 => entry(1, page((number % 15_000) as u16, number >> 32).bytes()),
            1 => order_entry(),
            2 => entry(3, &record(number >> 20)),
            3 => end_entry(number >> 20, number % 3, number % 2, number % 3),
            _ => bytes.clone(),
        };
        let parts: Vec<Vec<u8>> = parts.iter().map(part).collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        if let Ok(end) = read(&of_entries(&parts)) {
            prop_assert_eq!(end.pages + end.orders + end.records + 1, parts.len() as u64);
        }
    }
}
