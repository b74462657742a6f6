//! *Break* and *join*: a coin into ten and back, each after asking for free serial numbers.
//!
//! A session is offered the same words of 64 coins each time, as long as nobody else has them, and a word that is offered
//! has coins that are in circulation too. So a slot takes its coin from the word that it will be offered when it joins:
//! there the coin was freed by the *break*, and there it is made anew, with the AN it had.
//!
//! | step | request | when its answer is no success |
//! |---|---|---|
//! | find | SNs to join: which word? | again |
//! | detect | the coins of that word: which are in circulation? | find |
//! | rest | SNs to break | again |
//! | break | the coin into ten of those offered | find |
//! | offer | SNs to join | again |
//! | join | the ten into the coin, or into another one where it is not offered | find |

use std::collections::HashSet;

use crate::coin::{CoinId, Denomination};
use crate::load::data::{BROKEN, BenchData};
use crate::load::frame::Framer;
use crate::wire::items::{Bits, SecretCoin, SecretCoins, bytes_of};
use crate::wire::request::Request;
use crate::wire::request::change::{ChangeOffer, ChangeOperation, SMALLER_COINS};
use crate::wire::status::Status;

use super::{Operation, Outcome};

/// Coins of a word: what is offered is free coins of whole words.
const WORD_COINS: u32 = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Find,
    Detect,
    Rest,
    Break,
    Offer,
    Join,
}

struct Slot {
    step: Step,
    /// The first serial number of the word that its coin is in.
    word: u32,
    /// The coin to break, and where it is to be made anew.
    coin: Option<CoinId>,
    /// The ten coins to break into, or broken into.
    smaller: Vec<SecretCoin>,
    /// The coin to join into.
    target: Option<CoinId>,
}

/// Breaking and joining in each slot.
pub struct Change {
    framer: Framer,
    data: BenchData,
    slots: Vec<Slot>,
    /// The coins that slots have.
    taken: HashSet<CoinId>,
}

/// The denomination that coins are broken into.
fn smaller() -> Denomination {
    BROKEN.smaller().expect("not the smallest")
}

impl Change {
    /// As many slots, none of which has a coin yet.
    pub fn new(framer: Framer, data: BenchData, slots: usize) -> Self {
        let slot = || Slot { step: Step::Find, word: 0, coin: None, smaller: Vec::new(), target: None };
        Self { framer, data, slots: (0..slots).map(|_| slot()).collect(), taken: HashSet::new() }
    }

    fn secret(&self, coin: CoinId) -> SecretCoin {
        (coin.into(), self.data.an(coin))
    }

    /// The coins of a slot's word, each with the AN that it has if it is in circulation.
    fn word(&self, slot: usize) -> impl Iterator<Item = SecretCoin> {
        let first = self.slots[slot].word;
        let coins = (first..first + WORD_COINS).filter_map(|sn| CoinId::new(BROKEN.get(), sn));
        coins.map(|coin| self.secret(coin))
    }

    /// Starts a slot over, without a coin.
    fn forget(&mut self, slot: usize) {
        let slot = &mut self.slots[slot];
        if let Some(coin) = slot.coin.take() {
            self.taken.remove(&coin);
        }
        slot.step = Step::Find;
    }

    /// Takes the first coin that is in circulation and nobody's.
    fn choose(&mut self, slot: usize, outcome: Outcome, payload: &[u8]) {
        let all = outcome == Some(Status::AllPass.code());
        let bits = (outcome == Some(Status::Mixed.code())).then(|| Bits::new(payload, WORD_COINS as usize));
        let passed = |place: usize| all || matches!(bits, Some(Ok(bits)) if bits.get(place));
        let coins: Vec<CoinId> = self.word(slot).filter_map(|(coin, _)| coin.id()).collect();
        let found = coins
            .iter()
            .enumerate()
            .find(|(place, coin)| passed(*place) && !self.taken.contains(coin))
            .map(|(_, coin)| *coin);
        let slot = &mut self.slots[slot];
        slot.coin = found;
        slot.step = if found.is_some() { Step::Rest } else { Step::Find };
        self.taken.extend(found);
    }

    /// Takes what was offered to break into; stays where it is too little.
    fn offered_to_break(&mut self, slot: usize, offer: Option<ChangeOffer<'_>>) {
        let offered = offer.iter().flat_map(|offer| offer.serial_numbers.iter());
        let coins = offered.filter_map(|sn| CoinId::new(smaller().get(), sn)).take(SMALLER_COINS);
        let coins: Vec<_> = coins.map(|coin| self.secret(coin)).collect();
        if coins.len() == SMALLER_COINS {
            (self.slots[slot].smaller, self.slots[slot].step) = (coins, Step::Break);
        }
    }

    /// Takes the slot's own coin of what was offered to join into, or the first.
    fn offered_to_join(&mut self, slot: usize, offer: Option<ChangeOffer<'_>>) {
        let Some(offer) = offer else { return };
        let slot = &mut self.slots[slot];
        let mut coins = offer.serial_numbers.iter().filter_map(|sn| CoinId::new(BROKEN.get(), sn));
        let own = coins.clone().find(|coin| Some(*coin) == slot.coin);
        if let Some(target) = own.or_else(|| coins.next()) {
            (slot.target, slot.step) = (Some(target), Step::Join);
        }
    }

    fn joined(&mut self, slot: usize) {
        let slot = &mut self.slots[slot];
        slot.step = Step::Rest;
        if slot.target != slot.coin {
            let left = std::mem::replace(&mut slot.coin, slot.target);
            self.taken.extend(slot.target);
            if let Some(left) = left {
                self.taken.remove(&left);
            }
        }
    }
}

impl Operation for Change {
    fn next(&mut self, number: usize, frame: &mut Vec<u8>) {
        let session = number as u32 + 1;
        let slot = &self.slots[number];
        let coin = || self.secret(slot.coin.expect("a slot that changes has a coin"));
        let ask = |operation, den: Denomination| Request::ChangeSerialNumbers { session, operation, den: den.get() };
        let bytes = match slot.step {
            Step::Detect => bytes_of(self.word(number)),
            _ => bytes_of(slot.smaller.iter().copied()),
        };
        let coins = SecretCoins::new(&bytes).expect("whole coins");
        let request = match slot.step {
            Step::Find | Step::Offer => ask(ChangeOperation::Join, smaller()),
            Step::Detect => Request::Detect { coins },
            Step::Rest => ask(ChangeOperation::Break, BROKEN),
            Step::Break => Request::Break { session, source: coin(), targets: coins },
            Step::Join => {
                let target = self.secret(slot.target.expect("it was chosen"));
                Request::Join { session, target, sources: coins }
            }
        };
        self.framer.append(&request, frame);
    }

    fn answered(&mut self, slot: usize, outcome: Outcome, payload: &[u8]) {
        let success = outcome == Some(Status::Success.code());
        let offer = || if success { ChangeOffer::decode(payload).ok() } else { None };
        match self.slots[slot].step {
            Step::Find => {
                if let Some(sn) = offer().and_then(|offer| offer.serial_numbers.get(0)) {
                    let slot = &mut self.slots[slot];
                    (slot.word, slot.step) = (sn / WORD_COINS * WORD_COINS, Step::Detect);
                }
            }
            Step::Detect => self.choose(slot, outcome, payload),
            Step::Rest => self.offered_to_break(slot, offer()),
            Step::Break if success => self.slots[slot].step = Step::Offer,
            Step::Offer => self.offered_to_join(slot, offer()),
            Step::Join if success => self.joined(slot),
            Step::Break | Step::Join => self.forget(slot),
        }
    }

    fn is_at_rest(&self, slot: usize) -> bool {
        self.slots[slot].step == Step::Rest
    }
}

// What is asked fits a datagram that needs no fragments.
const _: () = assert!(WORD_COINS as usize * (5 + 16) < 1400);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::header::NodeIdentity;
    use crate::wire::items::{Item, RawCoin};

    /// Asks for the next request, as the node would read it: its command and payload.
    fn payload(change: &mut Change, slot: usize) -> (u8, Vec<u8>) {
        let mut frame = Vec::new();
        change.next(slot, &mut frame);
        (frame[5], frame[48..frame.len() - 2].to_vec())
    }

    fn offer(den: Denomination, sns: impl IntoIterator<Item = u32, IntoIter: ExactSizeIterator>) -> Vec<u8> {
        let mut bytes = Vec::new();
        ChangeOffer::append(&mut bytes, den.get(), sns);
        bytes
    }

    #[test]
    fn a_coin_is_broken_and_made_anew_where_it_was() {
        let framer = Framer::new(NodeIdentity { raida_id: 0, coin_id: 6 });
        let mut change = Change::new(framer, BenchData::new(1), 2);
        let success = Some(Status::Success.code());
        for slot in 0..2 {
            assert_eq!(payload(&mut change, slot).0, 91);
            change.answered(slot, success, &offer(BROKEN, [130, 131]));
            let (command, asked) = payload(&mut change, slot);
            assert_eq!((command, asked.len(), coin_of(&asked)), (10, 64 * 21, (5, 128)));
            // The third and the fifth are in circulation; each slot takes one.
            change.answered(slot, Some(Status::Mixed.code()), &[0b1_0100, 0, 0, 0, 0, 0, 0, 0]);
            assert!(change.is_at_rest(slot));
        }
        let own: Vec<_> = change.slots.iter().map(|slot| slot.coin.unwrap().serial_number().get()).collect();
        assert_eq!(own, [130, 132]);

        assert_eq!(payload(&mut change, 1), (91, b"\x00\x00\x00\x02\x01\x05".to_vec()));
        change.answered(1, success, &offer(smaller(), 0..9));
        assert!(change.is_at_rest(1), "nine are too few");
        change.answered(1, success, &offer(smaller(), 0..64));
        let (command, asked) = payload(&mut change, 1);
        assert_eq!((command, coin_of(&asked[4..]), coin_of(&asked[25..])), (92, (5, 132), (4, 0)));
        change.answered(1, success, &[]);
        assert_eq!(payload(&mut change, 1), (91, b"\x00\x00\x00\x02\x02\x04".to_vec()));
        change.answered(1, success, &offer(BROKEN, [131, 132]));
        let (command, asked) = payload(&mut change, 1);
        assert_eq!((command, coin_of(&asked[4..]), coin_of(&asked[25..])), (93, (5, 132), (4, 0)));
        change.answered(1, success, &[]);
        assert!(change.is_at_rest(1));

        // What was refused, or lost, starts over.
        change.answered(1, success, &offer(smaller(), 0..64));
        change.answered(1, None, &[]);
        assert_eq!((change.slots[1].step, change.slots[1].coin, change.taken.len()), (Step::Find, None, 1));
    }

    /// Den and sn at the start of a payload.
    fn coin_of(bytes: &[u8]) -> (i8, u32) {
        let coin: RawCoin = Item::decode(&bytes[..5]);
        (coin.den, coin.sn)
    }
}
