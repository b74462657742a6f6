//! The files of the reference's data directory: counted as they are, or refused by a name that is no secret.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use raida::coin::{CoinRecord, PAGES, PageNumber, PayoutAddress, Place};
use raida::store::error::StoreError;
use raida::store::layout::{PageFrame, PageState};
use raida::store::orders::{decode_image, encode_image};
use raida::store::reference_data::Findings;

use crate::input::Input;

thread_local! {
    static FRAME: RefCell<PageFrame> = RefCell::new(PageFrame::zeroed());
}

/// What must be counted.
#[derive(Default)]
struct Expected {
    pages: u64,
    coins: u64,
    value: u128,
    trade_lockers: BTreeSet<[u8; 16]>,
}

/// Takes pages of a few records each, then files of `Trades`.
pub fn run(bytes: &[u8]) -> bool {
    let mut input = Input(bytes);
    let (mut findings, mut expected) = (Findings::default(), Expected::default());
    let first = input.place(usize::from(PAGES)) as u16;
    for page in first..(first + input.below(4) as u16).min(PAGES) {
        let page = PageNumber::new(page).expect("below the number of pages");
        FRAME.with_borrow_mut(|frame| check_page(&mut input, page, frame, &mut findings, &mut expected));
    }
    let mut addresses = BTreeMap::new();
    while !input.is_over() {
        match take_trade(&mut input, &mut findings) {
            Ok(Some((an, time, address))) if expected.trade_lockers.contains(&an) => {
                assert_eq!(addresses.insert(an, (time, address)), None);
            }
            Ok(_) => (),
            Err(()) => return false,
        }
    }
    let (report, orders) = findings.finish();
    assert_eq!((report.pages, report.coins, report.value), (expected.pages, expected.coins, expected.value));
    assert_eq!((orders.len(), report.orders), (addresses.len(), addresses.len() as u64));
    assert_eq!(report.orders + report.trade_lockers_without_address, expected.trade_lockers.len() as u64);
    let mut before = SystemTime::UNIX_EPOCH;
    for (order, sequence) in orders.iter().zip(1..) {
        let (time, address) = &addresses[order.an.bytes()];
        assert!(order.sequence == sequence && *time >= before && order.address.as_bytes() == address);
        before = *time;
    }
    assert_eq!(decode_image(&encode_image(1, orders.iter())), Some((1, orders)));
    true
}

fn check_page(
    input: &mut Input<'_>,
    page: PageNumber,
    frame: &mut PageFrame,
    findings: &mut Findings,
    expected: &mut Expected,
) {
    let mut records = BTreeMap::new();
    frame.bytes_mut().fill(0);
    for _ in 0..input.below(8) {
        let (slot, record) = (input.place(1024), CoinRecord::decode(&input.array()));
        frame.set_record(slot, record);
        records.insert(slot, record);
    }
    let is_used = records.values().any(|record| record.encode() != [0; CoinRecord::BYTES]);
    assert_eq!(findings.page(page, frame), is_used);
    assert_eq!(frame.state(page), if is_used { PageState::Used(0) } else { PageState::NeverUsed });
    for (slot, record) in records {
        assert_eq!(frame.record(slot), record, "a page is kept as it is, free coins too");
        if !record.is_free() {
            expected.coins += 1;
            expected.value += u128::from(page.denomination().value());
        }
        if let Place::TradeLocker(an) = record.place() {
            expected.trade_lockers.insert(*an.bytes());
        }
    }
    expected.pages += u64::from(is_used);
}

/// A file of `Trades`: its AN, when it was written, its bytes; `Err`: it is refused.
type Trade = ([u8; 16], SystemTime, Vec<u8>);

fn take_trade(input: &mut Input<'_>, findings: &mut Findings) -> Result<Option<Trade>, ()> {
    let capitals = input.byte().is_multiple_of(4);
    let (an, any_name) = match input.below(2) {
        0 => (Some(input.array::<16>()), None),
        _ => {
            let length = input.below(64);
            (None, std::str::from_utf8(input.slice(length)).ok().map(str::to_string))
        }
    };
    let hex = an.map(|an| an.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let name = hex.clone().map(|hex| if capitals { hex.to_uppercase() } else { hex }).or(any_name);
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(input.word()));
    let length = input.below(140);
    let bytes = input.slice(length).to_vec();
    match findings.trade(name.as_deref(), |_| Ok((time, bytes.clone()))) {
        Ok(()) => Ok(an.map(|an| (an, time, bytes))),
        Err(error) => {
            assert!(matches!(&error, StoreError::DamagedImport { .. }));
            let line = error.to_string();
            assert!(!line.contains('\n') && hex.is_none_or(|hex| !line.contains(&hex[..18])), "{line}");
            let is_address = (PayoutAddress::LENGTH_MIN..=PayoutAddress::LENGTH_MAX).contains(&bytes.len());
            assert_eq!(line.ends_with("names the same trade locker"), is_address);
            Err(())
        }
    }
}

/// A page with a coin of a wallet and one of a trade locker, with its address and another's.
pub fn seeds() -> Vec<Vec<u8>> {
    let an = *b"\xAB\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\x05\x01\xEE\xEE";
    let record = |slot: u16, an: [u8; 16]| [&slot.to_be_bytes()[..], &an, &[40]].concat();
    let trade = |an: [u8; 16]| [&[1, 0][..], &an, &[0, 9, 20], b"an address of twenty"].concat();
    let page = [&[3, 0xEB, 1, 2][..], &record(0, [7; 16]), &record(1, an)].concat();
    let other = [&[1, 1, 9][..], b"notes.txt", &[0, 9, 4], b"left"].concat();
    vec![page.clone(), [page, trade(an), trade([9; 16]), other].concat()]
}
