//! What a coin is: its name, its secret, its month, and where those put it.
//!
//! Knows nobody. Every other module speaks of coins in these types, so that a
//! denomination, a serial number and a page can never be mixed up.
//!
//! Invariant: a [`CoinId`] always names one of the 15,360,000 coins. Client bytes
//! become one only through [`CoinId::new`], which compares them as 32-bit numbers
//! (PROTOCOL.md, "Rules that hold for every command").

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::calendar::date;

/// Denominations a node keeps: -8..=6.
pub const DENOMINATIONS: usize = 15;
/// Serial numbers a denomination has.
pub const SERIAL_NUMBERS: u32 = PAGES_PER_DENOMINATION as u32 * COINS_PER_PAGE as u32;
/// Pages a denomination has.
pub const PAGES_PER_DENOMINATION: u16 = 1000;
/// Coins a page has.
pub const COINS_PER_PAGE: u16 = 1024;
/// Pages a node has.
pub const PAGES: u16 = DENOMINATIONS as u16 * PAGES_PER_DENOMINATION;
/// Coins a node has.
pub const COINS: u32 = PAGES as u32 * COINS_PER_PAGE as u32;

/// A denomination, -8..=6: a coin of it is worth 10^(den+8) units of 10^-8.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Denomination(i8);

impl Denomination {
    /// The smallest denomination: one unit of 10^-8.
    pub const SMALLEST: Self = Self(-8);
    /// The largest denomination: 10^14 units of 10^-8.
    pub const LARGEST: Self = Self(6);

    /// The denomination a wire byte means, `None` outside -8..=6.
    pub const fn new(den: i8) -> Option<Self> {
        if den >= Self::SMALLEST.0 && den <= Self::LARGEST.0 { Some(Self(den)) } else { None }
    }

    /// The denomination of an index 0..15, in order of value.
    ///
    /// # Panics
    /// When `index` is 15 or more: an index is ours, never a client's.
    pub const fn from_index(index: usize) -> Self {
        assert!(index < DENOMINATIONS);
        Self(index as i8 + Self::SMALLEST.0)
    }

    /// Every denomination, the smallest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..DENOMINATIONS).map(Self::from_index)
    }

    /// The signed byte of the wire.
    pub const fn get(self) -> i8 {
        self.0
    }

    /// 0..15, in order of value.
    pub const fn index(self) -> usize {
        (self.0 - Self::SMALLEST.0) as usize
    }

    /// What a coin is worth, in units of 10^-8.
    pub const fn value(self) -> u64 {
        10u64.pow(self.index() as u32)
    }

    /// The next smaller denomination, what *break* makes; `None` below the smallest.
    pub const fn smaller(self) -> Option<Self> {
        Self::new(self.0 - 1)
    }

    /// The next larger denomination, what *join* makes; `None` above the largest.
    pub const fn larger(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }
}

impl fmt::Display for Denomination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A serial number within its denomination, 0..1,024,000.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SerialNumber(u32);

impl SerialNumber {
    /// The serial number a wire word means, `None` from 1,024,000 up.
    pub const fn new(sn: u32) -> Option<Self> {
        if sn < SERIAL_NUMBERS { Some(Self(sn)) } else { None }
    }

    /// The 32-bit word of the wire.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A coin: (denomination, serial number), as one dense number 0..15,360,000.
/// Ordered by denomination, then serial number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoinId(u32);

impl CoinId {
    /// The coin that a wire's den and sn name, `None` where no such coin is (status 40).
    pub const fn new(den: i8, sn: u32) -> Option<Self> {
        match (Denomination::new(den), SerialNumber::new(sn)) {
            (Some(den), Some(sn)) => Some(Self::of(den, sn)),
            _ => None,
        }
    }

    /// The coin of a denomination and a serial number.
    pub const fn of(den: Denomination, sn: SerialNumber) -> Self {
        Self(den.index() as u32 * SERIAL_NUMBERS + sn.0)
    }

    /// The coin of a dense number.
    pub const fn from_number(number: u32) -> Option<Self> {
        if number < COINS { Some(Self(number)) } else { None }
    }

    /// The dense number, 0..15,360,000.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Its denomination.
    pub const fn denomination(self) -> Denomination {
        Denomination::from_index((self.0 / SERIAL_NUMBERS) as usize)
    }

    /// Its serial number.
    pub const fn serial_number(self) -> SerialNumber {
        SerialNumber(self.0 % SERIAL_NUMBERS)
    }

    /// The page that holds its record.
    pub const fn page(self) -> PageNumber {
        PageNumber((self.0 / COINS_PER_PAGE as u32) as u16)
    }

    /// Its place in that page, 0..1024.
    pub const fn slot(self) -> usize {
        (self.0 % COINS_PER_PAGE as u32) as usize
    }
}

impl fmt::Debug for CoinId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.denomination(), self.serial_number())
    }
}

/// A page of 1024 coins, 0..15,000: the pages of the smallest denomination first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageNumber(u16);

impl PageNumber {
    /// The page of a number, `None` from 15,000 up.
    pub const fn new(number: u16) -> Option<Self> {
        if number < PAGES { Some(Self(number)) } else { None }
    }

    /// The page of a denomination by its number there, 0..1000; `None` from 1000 up.
    pub const fn of(den: Denomination, in_denomination: u16) -> Option<Self> {
        if in_denomination < PAGES_PER_DENOMINATION {
            Some(Self(den.index() as u16 * PAGES_PER_DENOMINATION + in_denomination))
        } else {
            None
        }
    }

    /// Every page.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..PAGES).map(Self)
    }

    /// 0..15,000.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The denomination of its coins.
    pub const fn denomination(self) -> Denomination {
        Denomination::from_index((self.0 / PAGES_PER_DENOMINATION) as usize)
    }

    /// Its number within its denomination, 0..1000.
    pub const fn in_denomination(self) -> u16 {
        self.0 % PAGES_PER_DENOMINATION
    }

    /// The coin at a place of the page.
    ///
    /// # Panics
    /// When `slot` is 1024 or more: a slot is ours, never a client's.
    pub const fn coin(self, slot: usize) -> CoinId {
        assert!(slot < COINS_PER_PAGE as usize);
        CoinId(self.0 as u32 * COINS_PER_PAGE as u32 + slot as u32)
    }
}

/// 16 secret bytes: an authentication number (AN), a proposed one (PAN), a locker key.
///
/// Compared in constant time; never printed. `Default` is all zeros.
#[derive(Clone, Copy, Default, Zeroize)]
pub struct Secret([u8; 16]);

impl Secret {
    /// A secret of its bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes. Whoever asks keeps them out of logs, errors and metrics.
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The bytewise XOR of two, as in the sum proofs.
    pub fn xor(self, other: Self) -> Self {
        let mut sum = self.0;
        sum.iter_mut().zip(other.0).for_each(|(byte, other)| *byte ^= other);
        Self(sum)
    }

    /// Where a coin in circulation with this AN is (mission/lockers.md, "Authentication Number Patterns").
    pub fn place(&self) -> Place {
        match self.0 {
            [.., 0xFF, 0xFF, 0xFF, 0xFF] => Place::Locker(*self),
            [.., coin_type, 0xEE, 0xEE] if TradeCoin::new(coin_type).is_some() => Place::TradeLocker(*self),
            _ => Place::Wallet,
        }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        // As one number: byte by byte it costs a twentieth of a request.
        u128::from_ne_bytes(self.0).ct_eq(&u128::from_ne_bytes(other.0)).into()
    }
}

impl Eq for Secret {}

impl Hash for Secret {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a trade locker is sold for (mission/lockers.md, "Supported Coin Types").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum TradeCoin {
    /// CloudCoin.
    CloudCoin = 0,
    /// Bitcoin.
    Bitcoin = 1,
    /// Monero.
    Monero = 2,
}

impl TradeCoin {
    /// Every one, in order of its byte.
    pub const ALL: [Self; 3] = [Self::CloudCoin, Self::Bitcoin, Self::Monero];

    /// The coin type of a wire byte, `None` where there is none (status 50).
    pub const fn new(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::CloudCoin),
            1 => Some(Self::Bitcoin),
            2 => Some(Self::Monero),
            _ => None,
        }
    }
}

/// Where the buyer of a trade locker pays: 129 bytes, on the wire and on disk.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 1 | length, 16..=120 |
/// | 1 | 128 | the address, then zeros |
///
/// The node does not look inside. What follows the address on the wire is ignored, and zero here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PayoutAddress {
    length: u8,
    bytes: [u8; Self::BYTES - 1],
}

impl PayoutAddress {
    /// Its size on the wire and on disk.
    pub const BYTES: usize = 129;
    /// The shortest address.
    pub const LENGTH_MIN: usize = 16;
    /// The longest address.
    pub const LENGTH_MAX: usize = 120;

    /// The address of its own bytes, `None` (status 198) when it is too short or too long.
    pub fn new(address: &[u8]) -> Option<Self> {
        if !(Self::LENGTH_MIN..=Self::LENGTH_MAX).contains(&address.len()) {
            return None;
        }
        let mut bytes = [0; Self::BYTES - 1];
        bytes[..address.len()].copy_from_slice(address);
        Some(Self { length: address.len() as u8, bytes })
    }

    /// The address of its 129 bytes, `None` when the length is not one.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        Self::new(bytes[1..].get(..usize::from(bytes[0]))?)
    }

    /// Its 129 bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = self.length;
        bytes[1..].copy_from_slice(&self.bytes);
        bytes
    }

    /// The address itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Debug for PayoutAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PayoutAddress({} bytes)", self.length)
    }
}

/// Where a coin is. A pure function of its record: see [`CoinRecord::place`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Not in circulation: belongs to nobody, authenticates nobody.
    Free,
    /// With an owner who alone knows its AN.
    Wallet,
    /// In the locker of this key: the AN ends `FF FF FF FF`.
    Locker(Secret),
    /// For sale in the trade locker of this AN: price in bytes 9..13, [`TradeCoin`] in byte 13, then `EE EE`.
    TradeLocker(Secret),
}

/// Months since February 2023. 0 means *free*; a coin in circulation has 1..=255.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Months(u8);

impl Months {
    /// The byte of a coin that is not in circulation.
    pub const FREE: Self = Self(0);

    /// The months a byte says, 0 included.
    pub const fn new(byte: u8) -> Self {
        Self(byte)
    }

    /// The byte.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The months that a time, in seconds since 1970-01-01 UTC, is after February 2023, within 1..=255.
    pub const fn at(unix_seconds: u64) -> Self {
        let (year, month, _) = date(unix_seconds);
        let since_february_2023 = (year - 2023) * 12 + month - 2;
        Self(if since_february_2023 < 1 {
            1
        } else if since_february_2023 > 255 {
            255
        } else {
            since_february_2023 as u8
        })
    }
}

/// What a node knows of a coin: 17 bytes.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 16 | AN |
/// | 16 | 1 | MFS; 0: free |
///
/// The layout is the reference's (PROTOCOL.md, "The reference's data directory"); pages and log records hold it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CoinRecord {
    /// The authentication number. Of a free coin: random, and no proof of anything.
    pub an: Secret,
    /// Months from start.
    pub mfs: Months,
}

impl CoinRecord {
    /// Its size in pages, in log records and in the reference's files.
    pub const BYTES: usize = 17;

    /// The record of its 17 bytes.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Self {
        let (an, mfs) = bytes.split_first_chunk().expect("16 of 17 bytes");
        Self { an: Secret(*an), mfs: Months(mfs[0]) }
    }

    /// Its 17 bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.an.0);
        bytes[16] = self.mfs.0;
        bytes
    }

    /// Whether the coin is not in circulation.
    pub fn is_free(&self) -> bool {
        self.mfs == Months::FREE
    }

    /// Where the coin is.
    pub fn place(&self) -> Place {
        if self.is_free() { Place::Free } else { self.an.place() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payout_address_has_16_to_120_bytes() {
        for (length, good) in [(0, false), (15, false), (16, true), (120, true), (121, false), (128, false)] {
            let bytes = vec![0x61; length];
            let address = PayoutAddress::new(&bytes);
            assert_eq!(address.is_some(), good, "{length}");
            assert!(address.is_none_or(|address| address.as_bytes() == bytes));
        }
    }

    #[test]
    fn a_coin_id_is_dense_and_round_trips() {
        for (den, sn, number) in [(-8, 0, 0), (-8, 1_023_999, 1_023_999), (-7, 0, 1_024_000), (6, 1_023_999, COINS - 1)]
        {
            let coin = CoinId::new(den, sn).unwrap();
            assert_eq!(coin.number(), number);
            assert_eq!((coin.denomination().get(), coin.serial_number().get()), (den, sn));
            assert_eq!(coin.page().coin(coin.slot()), coin);
        }
    }

    #[test]
    fn aliases_of_a_real_coin_are_no_coin() {
        for (den, sn) in
            [(-9, 0), (7, 0), (0, 1_024_000), (0, 0x8000_0000), (0, 5 + (1 << 26)), (i8::MIN, 0), (0, u32::MAX)]
        {
            assert_eq!(CoinId::new(den, sn), None, "{den}:{sn}");
        }
    }

    #[test]
    fn pages_follow_denominations() {
        let page = PageNumber::of(Denomination::from_index(1), 3).unwrap();
        assert_eq!(page.get(), 1003);
        assert_eq!((page.denomination().get(), page.in_denomination()), (-7, 3));
        assert_eq!(PageNumber::of(Denomination::SMALLEST, 1000), None);
        assert_eq!(PageNumber::new(15_000), None);
    }

    #[test]
    fn values_are_powers_of_ten() {
        assert_eq!(Denomination::SMALLEST.value(), 1);
        assert_eq!(Denomination::new(0).unwrap().value(), 100_000_000);
        assert_eq!(Denomination::LARGEST.value(), 100_000_000_000_000);
        assert_eq!(Denomination::SMALLEST.smaller(), None);
        assert_eq!(Denomination::LARGEST.larger(), None);
    }

    #[test]
    fn months_count_from_february_2023_and_are_never_0() {
        for (unix_seconds, months) in [
            (0, 1),
            (1_675_209_600, 1),   // 2023-02-01
            (1_677_628_799, 1),   // 2023-02-28 23:59:59
            (1_677_628_800, 1),   // 2023-03-01
            (1_680_307_200, 2),   // 2023-04-01
            (1_704_067_200, 11),  // 2024-01-01
            (1_709_164_800, 12),  // 2024-02-29
            (1_795_219_200, 45),  // 2026-11-21
            (4_000_000_000, 255), // 2096
        ] {
            assert_eq!(Months::at(unix_seconds).get(), months, "{unix_seconds}");
        }
    }

    #[test]
    fn a_place_is_read_from_the_record() {
        let mut bytes = [7; 16];
        let place = |bytes, mfs| CoinRecord { an: Secret::new(bytes), mfs: Months::new(mfs) }.place();
        assert_eq!(place(bytes, 1), Place::Wallet);
        bytes[12..].fill(0xFF);
        assert_eq!(place(bytes, 1), Place::Locker(Secret::new(bytes)));
        assert_eq!(place(bytes, 0), Place::Free);
        bytes[13..].copy_from_slice(&[2, 0xEE, 0xEE]);
        assert_eq!(place(bytes, 1), Place::TradeLocker(Secret::new(bytes)));
        bytes[13] = 3;
        assert_eq!(place(bytes, 1), Place::Wallet);
    }

    #[test]
    fn golden_bytes_of_a_record() {
        let record = CoinRecord { an: Secret::new(*b"0123456789abcdef"), mfs: Months::new(45) };
        assert_eq!(&record.encode(), b"0123456789abcdef\x2d");
        assert_eq!(CoinRecord::decode(&record.encode()), record);
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(
            format!("{:?}", CoinRecord { an: Secret::new([0xAB; 16]), mfs: Months::new(1) }),
            "CoinRecord { an: Secret(..), mfs: Months(1) }"
        );
    }
}
