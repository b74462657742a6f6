//! Cycles of requests that are the same each time: coins into a locker and out again, onto the market and back.
//!
//! Every slot has coins and frames of its own. Each step is followed by another whatever came of it, and the last ones
//! bring the coins back from wherever they are: so a slot starts with those, and goes on where another load was
//! killed, or an answer was lost.

use crate::coin::{PayoutAddress, Secret};
use crate::load::data::{BenchData, SOLD, STORED};
use crate::load::frame::Framer;
use crate::wire::items::{Coins, RawCoin, SecretCoin, SecretCoins, bytes_of};
use crate::wire::request::Request;
use crate::wire::status::Status;

use super::{Operation, Outcome};

/// Offers that a look at the market asks for.
const LISTED: u8 = 16;

struct Slot {
    /// The frames of the steps, in order; a cycle starts with the first.
    frames: Box<[Box<[u8]>]>,
    step: usize,
}

/// A cycle in each slot.
pub struct Cycle {
    slots: Vec<Slot>,
    /// The step that follows a step and what came of it, unless it is the next.
    follow: fn(usize, Outcome) -> Option<usize>,
}

/// The steps on the market.
mod market {
    pub const BUY: usize = 3;
    pub const TAKE_BACK: usize = 4;
    pub const PEEK: usize = 5;
}

impl Cycle {
    /// *Store sum* and *remove* of `count` coins, on pages apart or not.
    pub fn locker(framer: &Framer, data: &BenchData, slots: usize, count: usize, spread: bool) -> Self {
        let of_slots = if spread { BenchData::spread_coins_of_slots } else { BenchData::coins_of_slots };
        let coins = of_slots(data, STORED, slots, count);
        let slots = coins.iter().enumerate().map(|(slot, coins)| {
            let lists = Lists::new(coins);
            let key = data.cycle_key(slot);
            let frames = [Request::Store { coins: lists.coins(), sum: lists.sum, key }, lists.remove(key)];
            Slot { frames: frames.iter().map(|request| framer.frame(request)).collect(), step: 1 }
        });
        Self { slots: slots.collect(), follow: |_, _| None }
    }

    /// *Put for sale*, *list*, *peek trade locker*, *buy* (or *remove trade locker* where nothing is sold), *peek*,
    /// *remove* of `count` coins.
    pub fn market(framer: &Framer, data: &BenchData, slots: usize, count: usize) -> Self {
        let coins = data.coins_of_slots(SOLD, slots, count);
        let address = PayoutAddress::new(b"an address of a load").expect("an address");
        let slots = coins.iter().enumerate().map(|(slot, coins)| {
            let lists = Lists::new(coins);
            let (key, (an, terms)) = (data.cycle_key(slot), data.sale(slot));
            let value = SOLD.value() * count as u64;
            let buy = Request::Buy {
                key,
                coin_type: terms.coin_type,
                value,
                price: terms.price,
                txid: [0; 32],
                receipt: [0; 16],
                memo: b"a load",
            };
            let frames = [
                Request::PutForSale { coins: lists.coins(), sum: lists.sum, an, address },
                Request::ListForSale { coin_type: terms.coin_type, max: LISTED },
                Request::PeekTradeLocker { identifier: *an.bytes() },
                buy,
                Request::RemoveTradeLocker { an, key: Some(key) },
                Request::Peek { key },
                lists.remove(key),
            ];
            Slot { frames: frames.iter().map(|request| framer.frame(request)).collect(), step: market::TAKE_BACK }
        });
        Self { slots: slots.collect(), follow: after_buying }
    }
}

/// What was bought is not taken back.
fn after_buying(step: usize, outcome: Outcome) -> Option<usize> {
    (step == market::BUY && outcome == Some(Status::AllPass.code())).then_some(market::PEEK)
}

impl Operation for Cycle {
    fn next(&mut self, slot: usize, frame: &mut Vec<u8>) {
        let slot = &self.slots[slot];
        frame.extend_from_slice(&slot.frames[slot.step]);
    }

    fn answered(&mut self, slot: usize, outcome: Outcome, _payload: &[u8]) {
        let slot = &mut self.slots[slot];
        let next = (self.follow)(slot.step, outcome).unwrap_or(slot.step + 1);
        slot.step = if next < slot.frames.len() { next } else { 0 };
    }

    fn is_at_rest(&self, slot: usize) -> bool {
        self.slots[slot].step == 0
    }
}

/// A slot's coins as the requests want them.
struct Lists {
    coins: Vec<u8>,
    secrets: Vec<u8>,
    sum: Secret,
}

impl Lists {
    fn new(coins: &[SecretCoin]) -> Self {
        Self {
            coins: bytes_of::<RawCoin>(coins.iter().map(|(coin, _)| *coin)),
            secrets: bytes_of(coins.iter().copied()),
            sum: coins.iter().fold(Secret::default(), |sum, (_, an)| sum.xor(*an)),
        }
    }

    fn coins(&self) -> Coins<'_> {
        Coins::new(&self.coins).expect("whole coins")
    }

    /// Takes the coins out of a locker: each gets its AN back.
    fn remove(&self, key: Secret) -> Request<'_> {
        Request::Remove { key, coins: SecretCoins::new(&self.secrets).expect("whole coins") }
    }
}
