//! What a data directory is made of besides pages: control block, double-write header, orders image, batch and commit
//! record. Bytes that are taken for one are what its writer would have written; lengths in them ask for no memory that
//! is not there. The fuzzer may put the CRC right, or what is behind it would never be reached.

use raida::coin::{CoinId, CoinRecord, PageNumber, PayoutAddress, Secret, TradeCoin};
use raida::store::control::{Control, SLOT_BYTES};
use raida::store::control::{OrdersImage, UsedPages};
use raida::store::double_write::{self, DoubleBatch, PAGES_PER_BATCH, page_at};
use raida::store::layout::{BLOCK_BYTES, PAGE_BYTES, PageFrame, PageState, page_state};
use raida::store::orders::{Order, decode_image, encode_image};
use raida::store::wal::format::{BatchHeader, HEADER_BYTES, encode_record};
use raida::store::wal::{Change, Commit, CommitRecord, LogTail, PlaceKind, record_bytes};
use raida::wire::request::locker::SaleTerms;

use crate::input::Input;

/// Takes the bytes for one of the formats.
pub fn run(bytes: &[u8]) -> bool {
    let mut input = Input(bytes);
    let format = input.below(5);
    let forged = input.byte().is_multiple_of(2);
    let mut bytes = input.rest().to_vec();
    match format {
        0 => control(&mut bytes, forged),
        1 => double_write(&mut bytes, forged),
        2 => orders(&mut bytes, forged),
        3 => batch(&mut bytes, forged),
        _ => record(&mut bytes, forged),
    }
}

/// Writes the CRC-32C of `covered`, with the field of zeros, into four bytes of it.
fn put_crc(covered: &mut [u8], at: usize) {
    covered[at..at + 4].fill(0);
    let crc = crc32c::crc32c(covered);
    covered[at..at + 4].copy_from_slice(&crc.to_be_bytes());
}

fn control(bytes: &mut Vec<u8>, forged: bool) -> bool {
    bytes.resize(SLOT_BYTES, 0);
    if forged {
        let crc = crc32c::crc32c(&bytes[..SLOT_BYTES - 4]);
        bytes[SLOT_BYTES - 4..].copy_from_slice(&crc.to_be_bytes());
    }
    let Some(control) = Control::decode(bytes) else { return false };
    let block = control.to_block();
    assert_eq!(Control::decode(&block), Some(control.clone()));
    assert!(block[..1940] == bytes[..1940], "all but what is zero");
    assert_eq!(Control::newest([None, Some(control.clone())]), Some(control));
    true
}

/// An area of two whole pages behind the header given.
fn double_write(bytes: &mut Vec<u8>, forged: bool) -> bool {
    thread_local! {
        static AREA: Vec<u8> = area();
    }
    bytes.resize(BLOCK_BYTES, 0);
    if forged {
        put_crc(bytes, 8);
    }
    AREA.with(|area| bytes.extend_from_slice(&area[BLOCK_BYTES..]));
    let found = double_write::decode(bytes);
    assert!(found.len() <= PAGES_PER_BATCH);
    for (page, at) in &found {
        assert!((*at - BLOCK_BYTES).is_multiple_of(PAGE_BYTES));
        assert!(matches!(page_state(&bytes[*at..*at + PAGE_BYTES], *page), PageState::Used(_)));
    }
    !found.is_empty()
}

fn area() -> Vec<u8> {
    let mut batch = DoubleBatch::with_capacity(2);
    for number in [258, 14_999] {
        let page = PageNumber::new(number).expect("a page");
        let mut frame = PageFrame::zeroed();
        frame.set_record(3, CoinRecord::decode(&[number as u8; 17]));
        frame.seal(page, 9);
        batch.add(page, &frame);
    }
    let (bytes, length, _) = batch.finish();
    assert_eq!(length, page_at(2));
    bytes[..length].to_vec()
}

fn orders(bytes: &mut [u8], forged: bool) -> bool {
    let Some(header) = bytes.first_chunk::<24>() else { return decode_image(bytes).is_some() };
    let generation = u64::from_be_bytes(header[8..16].try_into().expect("8 bytes"));
    let count = u32::from_be_bytes(header[16..20].try_into().expect("4 bytes")) as usize;
    let end = 24 + count.saturating_mul(Order::BYTES);
    if let Some(covered) = bytes.get_mut(..end).filter(|_| forged) {
        put_crc(covered, 20);
    }
    let Some((found, orders)) = decode_image(bytes) else { return false };
    assert_eq!(found, generation);
    assert!(encode_image(generation, orders.iter())[..end] == bytes[..end]);
    true
}

fn batch(bytes: &mut [u8], forged: bool) -> bool {
    let Some(header) = BatchHeader::decode(bytes) else { return false };
    if let Some(covered) = bytes.get_mut(..header.used as usize).filter(|_| forged) {
        put_crc(covered, HEADER_BYTES - 4);
    }
    let Some(crc) = header.whole(bytes) else { return false };
    let used = &bytes[..header.used as usize];
    let mut again = used.to_vec();
    assert_eq!(header.seal(&mut again), crc);
    assert!(again == used);
    let mut rest = &used[HEADER_BYTES..];
    for _ in 0..header.records {
        let Some((_, after)) = CommitRecord::decode(rest) else { return false };
        rest = after;
    }
    true
}

fn record(bytes: &mut [u8], forged: bool) -> bool {
    if let Some(length) = bytes.first_chunk().map(|length| u32::from_be_bytes(*length) as usize)
        && let Some(covered) = bytes.get_mut(8..length).filter(|_| forged)
    {
        let crc = crc32c::crc32c(covered);
        bytes[4..8].copy_from_slice(&crc.to_be_bytes());
    }
    let Some((record, rest)) = CommitRecord::decode(bytes) else { return false };
    let mut again = vec![0; bytes.len() - rest.len()];
    encode_record(&mut again, &record.commit, record.changes(), record.orders().next().as_ref());
    assert!(again == bytes[..again.len()]);
    true
}

/// One of each format.
pub fn seeds() -> Vec<Vec<u8>> {
    let an = SaleTerms { coin_type: TradeCoin::Bitcoin, price: 5 }.an(*b"ninebytes");
    let order = Order { an, address: PayoutAddress::new(b"an address of twenty").expect("long enough"), sequence: 9 };
    let mut used = UsedPages::none();
    used.insert(PageNumber::new(258).expect("a page"));
    let control = Control {
        writer: 1,
        generation: 4,
        epoch: 2,
        sequence: 77,
        tail: LogTail { segment: 1, batch: 5, previous_crc: 6 },
        segments: 3,
        segment_bytes: 128 << 10,
        logs: 2,
        orders: OrdersImage { slot: 1, generation: 3 },
        used,
    };
    let commit = Commit { sequence: 78, unix_ms: 1_795_219_200_000, group: 8, code: 85 };
    let coin = |sn| CoinId::new(0, sn).expect("a coin");
    let to = CoinRecord { an: Secret::new(*b"0123456789abcdef"), mfs: raida::coin::Months::new(40) };
    let changes = [3, 4].map(|sn| Change { coin: coin(sn), from: PlaceKind::Wallet, to });
    let mut record = vec![0; record_bytes(2, 1)];
    encode_record(&mut record, &commit, changes.into_iter(), Some(&order));
    let mut batch = vec![0; HEADER_BYTES];
    batch.extend_from_slice(&record);
    let used = batch.len() as u32;
    BatchHeader { writer: 1, epoch: 2, number: 5, durable: 4, used, previous_crc: 6, highest_sequence: 78, records: 1 }
        .seal(&mut batch);
    let image = encode_image(3, [order, order].iter());
    let formats = [control.to_block()[..80].to_vec(), area()[..40].to_vec(), image[..24 + 306].to_vec(), batch, record];
    (0u8..).zip(formats).map(|(number, bytes)| [&[number, 0], &bytes[..]].concat()).collect()
}
