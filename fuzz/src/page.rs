//! A page of coins: what is sealed is whole, as that page alone; one altered byte is seen wherever it is.

use std::cell::RefCell;

use raida::coin::{CoinRecord, PAGES, PageNumber};
use raida::store::layout::{PAGE_BYTES, PageFrame, PageState};

use crate::input::Input;

thread_local! {
    static FRAMES: RefCell<[PageFrame; 2]> = RefCell::new([PageFrame::zeroed(), PageFrame::zeroed()]);
}

/// Fills and seals a page and alters it, or takes bytes for one.
pub fn run(bytes: &[u8]) -> bool {
    FRAMES.with_borrow_mut(|frames| {
        let mut input = Input(bytes);
        frames[0].bytes_mut().fill(0);
        let page = PageNumber::new(input.place(usize::from(PAGES)) as u16).expect("below the number of pages");
        if input.byte().is_multiple_of(2) {
            fill_and_alter(&mut input, page, &mut frames[0]);
            true
        } else {
            take(&mut input, page, frames)
        }
    })
}

fn fill_and_alter(input: &mut Input<'_>, page: PageNumber, frame: &mut PageFrame) {
    let sequence = u64::from_be_bytes(input.array());
    let (at, xor) = (input.place(PAGE_BYTES), input.byte().max(1));
    while !input.is_over() {
        let (slot, record) = (input.place(1024), CoinRecord::decode(&input.array()));
        let beside = [slot.wrapping_sub(1), slot + 1].map(|slot| (slot < 1024).then(|| frame.record(slot)));
        frame.set_record(slot, record);
        assert_eq!(frame.record(slot), record);
        assert_eq!([slot.wrapping_sub(1), slot + 1].map(|slot| (slot < 1024).then(|| frame.record(slot))), beside);
    }
    frame.seal(page, sequence);
    assert_eq!(frame.state(page), PageState::Used(sequence));
    let other = PageNumber::new((page.get() + 1) % PAGES).expect("a page");
    assert_eq!(frame.state(other), PageState::Damaged);
    frame.bytes_mut()[at] ^= xor;
    assert_eq!(frame.state(page), PageState::Damaged, "byte {at}");
}

/// Lays bytes over a page of zeros: if it counts as used, sealing it makes the same bytes.
fn take(input: &mut Input<'_>, page: PageNumber, [frame, again]: &mut [PageFrame; 2]) -> bool {
    let at = input.place(PAGE_BYTES);
    let bytes = input.rest();
    let bytes = &bytes[..bytes.len().min(PAGE_BYTES - at)];
    frame.bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    match frame.state(page) {
        PageState::Used(sequence) => {
            again.bytes_mut().copy_from_slice(frame.bytes());
            again.seal(page, sequence);
            assert!(again.bytes() == frame.bytes());
            true
        }
        PageState::NeverUsed => {
            assert!(bytes.iter().all(|&byte| byte == 0));
            true
        }
        PageState::Damaged => {
            assert!(bytes.iter().any(|&byte| byte != 0));
            false
        }
    }
}

/// Pages to be sealed and altered, and one as it stands.
pub fn seeds() -> Vec<Vec<u8>> {
    let page = PageNumber::new(1003).expect("a page");
    let number = page.get().to_be_bytes();
    let record = |slot: u16| [&slot.to_be_bytes()[..], &[0xA5; 16], &[45]].concat();
    let case =
        |at: u16, records: &[u8]| [&number[..], &[0], &7u64.to_be_bytes(), &at.to_be_bytes(), &[1], records].concat();
    let mut frame = PageFrame::zeroed();
    frame.set_record(1, CoinRecord::decode(&[3; 17]));
    frame.seal(page, 7);
    let whole = [&number[..], &[1, 0, 0], &frame.bytes()[..66]].concat();
    vec![case(0, &[]), case(19, &record(0)), case(20_479, &[record(1), record(1023)].concat()), whole]
}
