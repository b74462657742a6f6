//! What the operator has suspended: lockers and trade lockers that are held, coin types whose market is paused.
//!
//! A hold is looked at where a command has the lock of the locker's or trade locker's list, on its home, and it comes under
//! the same lock ([`acts`](super::acts)). Every way in, out or to look inside needs that lock: *store*, *remove*, *peek*,
//! *put for sale*, *buy* and the others, but also *pown*, *break* and *join* of a coin whose AN is the key. So once a hold is
//! said to be in force nothing that it forbids is committed, and there is no list of commands here to keep complete.
//!
//! What is held answers 154. *Peek* does too: who looks for his coins shall hear that they are held, not guess it. *Detect*
//! answers as always; it asks about coins, not lockers, and moves nothing. A held trade locker is not listed, as nobody can
//! buy it, and equal ones are sold before it; it keeps its place in the queue. Where a coin type is paused, *put for sale*
//! and *buy* answer 50 as for one that is not traded; sellers still find their offers listed, look at them, and take them
//! back.
//!
//! Locker keys are kept as salted hashes alone: neither this, nor the file it is made from, opens a locker. What a trade
//! locker is known by is its public identifier.

use hashbrown::HashSet;
use sha2::{Digest, Sha256};

use crate::coin::{Secret, TradeCoin};
use crate::command::Question;
use crate::settings::Identifier;
pub use crate::store::suspended::Held;
use crate::store::suspended::Suspended;
use crate::wire::request::locker::SaleTerms;
use crate::wire::status::Status;

use super::locks::Resource;
use super::market::public_identifier;
use super::message::{Ask, Visit};

/// What is suspended. As long as that is nothing it costs a look.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Suspensions {
    salt: [u8; 16],
    held: HashSet<Held>,
    paused: [bool; TradeCoin::ALL.len()],
}

/// Something that is to be suspended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suspension {
    /// A locker or trade locker is held.
    Hold(Held),
    /// The market for a coin type is paused.
    Pause(TradeCoin),
}

impl Suspensions {
    /// Nothing yet. The salt is the node's own and stays the same as long as anything is held.
    pub fn new(salt: [u8; 16]) -> Self {
        Self { salt, ..Self::default() }
    }

    /// What the data directory says is suspended.
    pub fn of(suspended: &Suspended) -> Self {
        let mut suspensions = Self::new(suspended.salt);
        suspended.holds.iter().for_each(|hold| suspensions.suspend(Suspension::Hold(hold.held)));
        suspended.pauses.iter().for_each(|pause| suspensions.suspend(Suspension::Pause(pause.coin)));
        suspensions
    }

    /// Suspends something.
    pub fn suspend(&mut self, suspension: Suspension) {
        match suspension {
            Suspension::Hold(held) => _ = self.held.insert(held),
            Suspension::Pause(coin) => self.paused[coin as usize] = true,
        }
    }

    /// Ends a suspension, if there is one.
    pub fn end(&mut self, suspension: Suspension) {
        match suspension {
            Suspension::Hold(held) => _ = self.held.remove(&held),
            Suspension::Pause(coin) => self.paused[coin as usize] = false,
        }
    }

    /// Whether nothing is suspended.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.paused == [false; TradeCoin::ALL.len()]
    }

    /// How a locker or trade locker is known here; `None` for what cannot be held.
    pub fn name(&self, resource: &Resource) -> Option<Held> {
        match resource {
            Resource::Locker(key) => Some(Held::Locker(self.hash(key))),
            Resource::Offer(identifier) => Some(Held::TradeLocker(*identifier)),
            Resource::Coin(_) | Resource::Circulation | Resource::Listed(_) | Resource::Market(_) => None,
        }
    }

    /// Whether the trade locker of an AN is held.
    pub fn holds_offer(&self, an: &Secret) -> bool {
        let held = || self.held.contains(&Held::TradeLocker(public_identifier(an, Identifier::Hashed)));
        !self.held.is_empty() && held()
    }

    /// The status that ends a visit which has its locks; `None`: nothing is suspended that it touches.
    pub fn stops(&self, visit: &Visit) -> Option<Status> {
        if self.is_empty() || matches!(visit.ask, Ask::Suspend { .. }) {
            return None;
        }
        // Who finds that the offer he buys is held since is not refused: there may be another, so he looks again.
        let looks_again = matches!(visit.ask, Ask::WholeOffer { bought: true, .. });
        let held = |resource: &Resource| match resource {
            Resource::Offer(_) if looks_again => false,
            resource => self.name(resource).is_some_and(|name| self.held.contains(&name)),
        };
        if !self.held.is_empty() && visit.locks.iter().any(|(resource, _)| held(resource)) {
            return Some(Status::LockerUsed);
        }
        let traded = match visit.ask {
            Ask::NewOffer(an) | Ask::WholeOffer { an, bought: true, .. } => {
                SaleTerms::of(&an).map(|terms| terms.coin_type)
            }
            Ask::Question(Question::OfferFor { coin_type, .. }) => Some(coin_type),
            _ => None,
        };
        traded.filter(|&coin| self.paused[coin as usize]).map(|_| Status::TradeCoin)
    }

    fn hash(&self, key: &Secret) -> [u8; 16] {
        let hash = Sha256::new().chain_update(b"raida held locker").chain_update(self.salt).chain_update(key.bytes());
        *hash.finalize().first_chunk().expect("16 of 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::locks::Mode;

    #[test]
    fn golden_name_of_a_locker() {
        let mut key = [7; 16];
        key[12..].fill(0xFF);
        let suspensions = Suspensions::new([1; 16]);
        let name = suspensions.name(&Resource::Locker(Secret::new(key)));
        let hash = b"\xF1\x0D\xEC\x3B\xA1\x81\x90\xF0\x42\xA9\x58\xBB\x38\x23\xBF\x26";
        assert_eq!(name, Some(Held::Locker(*hash)));
        assert_ne!(name, Suspensions::new([2; 16]).name(&Resource::Locker(Secret::new(key))));
        assert_eq!(suspensions.name(&Resource::Circulation), None);
    }

    #[test]
    fn a_suspension_ends() {
        let mut suspensions = Suspensions::default();
        let visit = Visit { locks: vec![(Resource::Offer([3; 16]), Mode::Shared)], ..Visit::default() };
        let both = [Suspension::Hold(Held::TradeLocker([3; 16])), Suspension::Pause(TradeCoin::Monero)];
        assert_eq!(suspensions.stops(&visit), None);
        both.into_iter().for_each(|suspension| suspensions.suspend(suspension));
        assert_eq!(suspensions.stops(&visit), Some(Status::LockerUsed));
        suspensions.end(both[0]);
        assert_eq!(suspensions.stops(&visit), None);
        assert!(!suspensions.is_empty());
        suspensions.end(both[1]);
        assert_eq!(suspensions, Suspensions::default());
    }
}
