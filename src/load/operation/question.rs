//! Questions: *echo*, *peek*, *detect*, *get available change SNs*. Frames made beforehand, asked round and round.

use crate::coin::PAGES_PER_DENOMINATION;
use crate::entropy::split_mix;
use crate::load::data::{BenchData, COINS_MAX, DETECTED, SEARCHED};
use crate::load::frame::{FrameTable, Framer};
use crate::wire::items::{SecretCoins, bytes_of};
use crate::wire::request::Request;
use crate::wire::request::change::ChangeOperation;

use super::{Operation, Outcome};

/// What an *echo* carries: with it a request has 98 bytes.
const ECHO_BYTES: usize = 48;
/// Different *detects*.
const DETECTS: usize = 16_384;
/// Different lockers that are peeked.
const PEEKS_MAX: u32 = 1 << 20;

/// Frames asked round and round.
pub struct Question(FrameTable);

impl Question {
    /// *Echo*.
    pub fn echo(framer: &Framer) -> Self {
        let append = |_, out: &mut Vec<u8>| framer.append_payload(&Request::Echo, &[0; ECHO_BYTES], out);
        Self(FrameTable::new(std::iter::once(()), append))
    }

    /// *Peek* into each of the first `lockers`, or a million of them evenly, in no order.
    pub fn peek(framer: &Framer, data: &BenchData, lockers: u32) -> Self {
        let count = lockers.min(PEEKS_MAX);
        let mut numbers: Vec<u32> =
            (0..count).map(|number| (u64::from(number) * u64::from(lockers) / u64::from(count)) as u32).collect();
        shuffle(&mut numbers);
        let append = |number, out: &mut Vec<u8>| framer.append(&Request::Peek { key: data.locker_key(number) }, out);
        Self(FrameTable::new(numbers.into_iter(), append))
    }

    /// *Detect* of `count` coins, from anywhere in `pages` pages.
    pub fn detect(framer: &Framer, data: &BenchData, count: usize, pages: u16) -> Self {
        assert!((1..=COINS_MAX).contains(&count) && (1..=PAGES_PER_DENOMINATION).contains(&pages));
        let mut coins: Vec<_> = data.coins_of_pages(DETECTED, pages).collect();
        shuffle(&mut coins);
        let asked = coins.chunks_exact(count).take(DETECTS);
        Self(FrameTable::new(asked, |coins, out: &mut Vec<u8>| {
            let bytes = bytes_of(coins.iter().copied());
            framer.append(&Request::Detect { coins: SecretCoins::new(&bytes).expect("whole coins") }, out);
        }))
    }

    /// *Get available change SNs* of as many sessions, one after the other. A session keeps what it is offered for a
    /// while, so many of them leave little for each other where little is free.
    pub fn serial_numbers(framer: &Framer, sessions: u32) -> Self {
        let den = SEARCHED.larger().expect("not the largest").get();
        Self(FrameTable::new(1..=sessions, |session, out: &mut Vec<u8>| {
            let operation = ChangeOperation::Break;
            framer.append(&Request::ChangeSerialNumbers { session, operation, den }, out);
        }))
    }
}

impl Operation for Question {
    fn next(&mut self, _slot: usize, frame: &mut Vec<u8>) {
        frame.extend_from_slice(self.0.take());
    }

    fn answered(&mut self, _slot: usize, _outcome: Outcome, _payload: &[u8]) {}

    fn is_at_rest(&self, _slot: usize) -> bool {
        true
    }
}

/// Brings a list into an order of its own, the same each time (Fisher and Yates).
fn shuffle<T>(list: &mut [T]) {
    let mut state = list.len() as u64;
    for end in (1..list.len()).rev() {
        let other = split_mix(&mut state) % (end as u64 + 1);
        list.swap(end, other as usize);
    }
}
