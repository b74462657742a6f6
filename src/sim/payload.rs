//! Payloads as bytes, right or wrong: what a hostile client sends no typed request can say.

use crate::coin::{CoinId, Secret, TradeCoin};
use crate::wire::items::{self, RawCoin};

/// n·coin5.
pub fn coins(coins: &[RawCoin]) -> Vec<u8> {
    items::bytes_of(coins.iter().copied())
}

/// Coins as a client names them.
pub fn raw(coins: &[CoinId]) -> Vec<RawCoin> {
    coins.iter().map(|&coin| coin.into()).collect()
}

/// 1.11 detect sum.
pub fn detect_sum(named: &[RawCoin], sum: Secret) -> Vec<u8> {
    [&coins(named), &sum.bytes()[..]].concat()
}

/// 1.10 detect.
pub fn detect(rows: &[(RawCoin, Secret)]) -> Vec<u8> {
    items::bytes_of(rows.iter().copied())
}

/// 1.20 pown.
pub fn pown(rows: &[(RawCoin, Secret, Secret)]) -> Vec<u8> {
    items::bytes_of(rows.iter().copied())
}

/// 1.21 pown sum.
pub fn pown_sum(named: &[RawCoin], sum: Secret, delta: Secret) -> Vec<u8> {
    [&coins(named), &sum.bytes()[..], delta.bytes()].concat()
}

/// 8.82 store.
pub fn store(named: &[RawCoin], sum: Secret, key: Secret) -> Vec<u8> {
    [&coins(named), &sum.bytes()[..], key.bytes()].concat()
}

/// 8.84 remove.
pub fn remove(key: Secret, rows: &[(RawCoin, Secret)]) -> Vec<u8> {
    [&key.bytes()[..], &detect(rows)].concat()
}

/// 8.85 put for sale.
pub fn sale(named: &[RawCoin], sum: Secret, an: Secret, address: &[u8]) -> Vec<u8> {
    let mut field = [0; 129];
    field[0] = address.len() as u8;
    field[1..1 + address.len()].copy_from_slice(address);
    [&coins(named), &sum.bytes()[..], an.bytes(), &field].concat()
}

/// 8.87 buy.
pub fn buy(key: Secret, coin_type: u8, value: u64, price: u32, memo: &[u8]) -> Vec<u8> {
    [&key.bytes()[..], &[coin_type], &value.to_be_bytes(), &price.to_be_bytes(), &[1; 48], memo].concat()
}

/// 8.88 store multiple.
pub fn store_multiple(lockers: &[(&[RawCoin], Secret, Secret)]) -> Vec<u8> {
    let mut payload = vec![lockers.len() as u8];
    for (named, sum, key) in lockers {
        payload.extend_from_slice(&(named.len() as u16).to_be_bytes());
        payload.extend_from_slice(&store(named, *sum, *key));
    }
    payload
}

/// 8.89 remove trade locker.
pub fn take_back(an: Secret, key: Option<Secret>) -> Vec<u8> {
    let key = key.map_or(Vec::new(), |key| key.bytes().to_vec());
    [&an.bytes()[..], &key].concat()
}

/// 9.91 get available change SNs.
pub fn serial_numbers(session: u32, operation: u8, den: i8) -> Vec<u8> {
    [&session.to_be_bytes()[..], &[operation, den as u8]].concat()
}

/// 9.92 break and 9.93 join.
pub fn exchange(session: u32, larger: (RawCoin, Secret), smaller: &[(RawCoin, Secret)]) -> Vec<u8> {
    [&session.to_be_bytes()[..], &detect(&[larger]), &detect(smaller)].concat()
}

/// The treasury's key.
pub const TREASURY_KEY: [u8; 16] = *b"the treasury key";

/// 3.130 create coins and 3.150 free coins.
pub fn create(session: u32, named: &[RawCoin]) -> Vec<u8> {
    [&session.to_be_bytes()[..], &TREASURY_KEY, &coins(named)].concat()
}

/// 3.140 delete coins.
pub fn delete(rows: &[(RawCoin, Secret)]) -> Vec<u8> {
    [&TREASURY_KEY[..], &detect(rows)].concat()
}

/// A locker's key.
pub fn locker_key(number: u8) -> Secret {
    let mut key = [number.wrapping_mul(37); 16];
    key[0] = number;
    key[12..].fill(0xFF);
    Secret::new(key)
}

/// A trade locker's AN.
pub fn trade_an(number: u8, price: u32, coin_type: TradeCoin) -> Secret {
    let mut an = [number; 16];
    an[9..13].copy_from_slice(&price.to_be_bytes());
    an[13..].copy_from_slice(&[coin_type as u8, 0xEE, 0xEE]);
    Secret::new(an)
}

/// The AN of an offer for Bitcoin, one in 2^24.
pub fn offer_an(number: u32, price: u32) -> Secret {
    let mut an = *trade_an(0x77, price, TradeCoin::Bitcoin).bytes();
    an[..4].copy_from_slice(&number.to_be_bytes());
    Secret::new(an)
}
