//! A round of requests that leaves every coin as it was: for counting what a warm request costs.
//!
//! It has every command that a wallet uses often, each with the same few coins. Asked again and again of a node that
//! [`coins`] were minted for, each request is answered as the time before.

use crate::coin::{CoinId, Secret, TradeCoin};
use crate::wire::header::{KeyName, LEGACY_BYTES, NodeIdentity};
use crate::wire::items::RawCoin;

use crate::wire::request::CommandKind;
use crate::wire::request::change::ChangeOffer;
use crate::wire::seal::{self, Key, RequestRandom};
use crate::wire::status::Status;

use super::payload;

/// Whom the requests are for.
pub const NODE: NodeIdentity = NodeIdentity { raida_id: 0, coin_id: 6 };
/// The session of the break and the join.
const SESSION: u32 = 1;

/// A request and the status it is answered with.
pub struct Step {
    /// The command.
    pub kind: CommandKind,
    /// Its bytes, not encrypted.
    pub frame: Vec<u8>,
    /// The status of its answer.
    pub status: Status,
}

/// The AN of one of [`coins`] while it is in a wallet.
fn an(coin: CoinId) -> Secret {
    let mut an = [0x5A; 16];
    an[..4].copy_from_slice(&coin.number().to_be_bytes());
    Secret::new(an)
}

/// The coins that must be in circulation before the first round: so many for the lockers, and one to break.
pub fn coins(count: u32) -> Vec<(CoinId, Secret)> {
    stored(count).into_iter().chain([larger()]).map(|coin| (coin, an(coin))).collect()
}

/// The coins that go through lockers: each on a page of its own.
fn stored(count: u32) -> Vec<CoinId> {
    (0..count).map(|number| CoinId::new(-1, 5000 * (1 + number)).expect("a coin")).collect()
}

fn larger() -> CoinId {
    CoinId::new(0, 77).expect("a coin")
}

/// The round, with so many coins in a locker, a trade locker or a detect. `ask` sends a request to the node and returns
/// its answer: the serial numbers of its break and join are those that the node offers.
///
/// # Panics
/// When an answer is none that a node with [`coins`] gives.
pub fn steps(count: u32, ask: &mut dyn FnMut(&[u8]) -> Vec<u8>) -> Vec<Step> {
    let stored = stored(count);
    let (one, ten) = (larger().denomination(), stored[0].denomination());
    let sns_to_break = || (CommandKind::ChangeSerialNumbers, payload::serial_numbers(SESSION, 1, one.get()));
    let sns_to_join = || (CommandKind::ChangeSerialNumbers, payload::serial_numbers(SESSION, 2, ten.get()));

    // The first coin is broken for good: from then on the round joins and breaks coins that it is offered.
    let smaller: Vec<_> = offered(&ask(&step(sns_to_break(), Status::Success).frame)).into_iter().take(10).collect();
    let first = (CommandKind::Break, payload::exchange(SESSION, row(larger()), &rows(&smaller)));
    ask(&step(first, Status::Success).frame);
    let joined = offered(&ask(&step(sns_to_join(), Status::Success).frame))[0];

    let key = payload::locker_key(1);
    let sum = stored.iter().fold(Secret::default(), |sum, coin| sum.xor(an(*coin)));
    let value = stored.iter().map(|coin| coin.denomination().value()).sum();
    let named = payload::raw(&stored);
    let offer = payload::trade_an(9, 1000, TradeCoin::Bitcoin);
    let store = || (CommandKind::Store, payload::store(&named, sum, key));
    let remove = || (CommandKind::Remove, payload::remove(key, &rows(&stored)));
    let sale = || (CommandKind::PutForSale, payload::sale(&named, sum, offer, &[b'a'; 34]));
    vec![
        step((CommandKind::Echo, Vec::new()), Status::Success),
        step((CommandKind::CountCoins, Vec::new()), Status::Success),
        step((CommandKind::Detect, payload::detect(&rows(&stored))), Status::AllPass),
        step(sns_to_join(), Status::Success),
        step((CommandKind::Join, payload::exchange(SESSION, row(joined), &rows(&smaller))), Status::Success),
        step(sns_to_break(), Status::Success),
        step((CommandKind::Break, payload::exchange(SESSION, row(joined), &rows(&smaller))), Status::Success),
        step(store(), Status::AllPass),
        step((CommandKind::Peek, key.bytes().to_vec()), Status::AllPass),
        step(remove(), Status::AllPass),
        step(sale(), Status::AllPass),
        step((CommandKind::ListForSale, vec![TradeCoin::Bitcoin as u8, 10]), Status::AllPass),
        step((CommandKind::PeekTradeLocker, offer.bytes().to_vec()), Status::AllPass),
        step((CommandKind::RemoveTradeLocker, payload::take_back(offer, Some(key))), Status::AllPass),
        step(remove(), Status::AllPass),
        step(sale(), Status::AllPass),
        step((CommandKind::Buy, payload::buy(key, TradeCoin::Bitcoin as u8, value, 1000, b"memo")), Status::AllPass),
        step(remove(), Status::AllPass),
    ]
}

fn row(coin: CoinId) -> (RawCoin, Secret) {
    (coin.into(), an(coin))
}

fn rows(coins: &[CoinId]) -> Vec<(RawCoin, Secret)> {
    coins.iter().map(|&coin| row(coin)).collect()
}

fn step((kind, payload): (CommandKind, Vec<u8>), status: Status) -> Step {
    let random = RequestRandom { nonce: [7; 24], challenge: [8; 12] };
    let mut frame = Vec::new();
    seal::seal(&mut frame, NODE, kind.command(), (KeyName::None, &Key::None), &payload, random).expect("a request");
    Step { kind, frame, status }
}

/// The coins of an answer to *get available change SNs*.
fn offered(answer: &[u8]) -> Vec<CoinId> {
    let payload = &answer[LEGACY_BYTES..answer.len() - 2];
    let offer = ChangeOffer::decode(payload).expect("an offer");
    offer.serial_numbers.iter().map(|sn| CoinId::new(offer.den, sn).expect("a coin")).collect()
}
