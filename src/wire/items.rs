//! Lists as they stand on the wire, read without copying: coins, coins with secrets, offers, counts, bits.
//!
//! A payload or an answer is a few fields and a list of equal items. [`Items`] is that list as a view of the bytes;
//! [`Item`] is what one of them looks like, and its one home is the implementation. The few fields are taken off the
//! front with `Fields`, or off the end with `split_last_chunk`.

use std::fmt;
use std::marker::PhantomData;

use crate::coin::{CoinId, Secret};

use super::status::Status;

/// One element of a list: a fixed number of bytes.
pub trait Item: Sized {
    /// How many.
    const BYTES: usize;
    /// The item of its bytes, as many as [`Item::BYTES`].
    fn decode(bytes: &[u8]) -> Self;
    /// Appends its bytes.
    fn encode(&self, out: &mut Vec<u8>);
}

/// A coin as it stands on the wire, not yet looked at: 5 bytes.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 1 | den, signed |
/// | 1 | 4 | sn |
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RawCoin {
    /// The denomination's byte; -8..=6 are denominations.
    pub den: i8,
    /// The serial number's word; 0..1,024,000 are serial numbers.
    pub sn: u32,
}

impl RawCoin {
    /// The coin it names, `None` where no such coin is (status 40).
    pub const fn id(self) -> Option<CoinId> {
        CoinId::new(self.den, self.sn)
    }
}

impl From<CoinId> for RawCoin {
    fn from(coin: CoinId) -> Self {
        Self { den: coin.denomination().get(), sn: coin.serial_number().get() }
    }
}

impl fmt::Display for RawCoin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.den, self.sn)
    }
}

/// A coin and one secret, its AN or the AN proposed for it: den, sn, secret(16).
pub type SecretCoin = (RawCoin, Secret);
/// A coin, its AN and the AN proposed for it: den, sn, AN(16), PAN(16).
pub type PownCoin = (RawCoin, Secret, Secret);

/// A list of coins.
pub type Coins<'a> = Items<'a, RawCoin>;
/// A list of coins, each with a secret.
pub type SecretCoins<'a> = Items<'a, SecretCoin>;
/// A list of coins, each with its AN and the AN proposed for it.
pub type PownCoins<'a> = Items<'a, PownCoin>;

impl Item for RawCoin {
    const BYTES: usize = 5;

    fn decode(bytes: &[u8]) -> Self {
        Self { den: bytes[0] as i8, sn: u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.den as u8);
        out.extend_from_slice(&self.sn.to_be_bytes());
    }
}

impl Item for Secret {
    const BYTES: usize = 16;

    fn decode(bytes: &[u8]) -> Self {
        Self::new(bytes.try_into().expect("16 bytes"))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.bytes());
    }
}

impl Item for SecretCoin {
    const BYTES: usize = 21;

    fn decode(bytes: &[u8]) -> Self {
        (RawCoin::decode(&bytes[..5]), Secret::decode(&bytes[5..]))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
}

impl Item for PownCoin {
    const BYTES: usize = 37;

    fn decode(bytes: &[u8]) -> Self {
        (RawCoin::decode(&bytes[..5]), Secret::decode(&bytes[5..21]), Secret::decode(&bytes[21..]))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
        self.2.encode(out);
    }
}

/// A serial number alone: 4 bytes.
impl Item for u32 {
    const BYTES: usize = 4;

    fn decode(bytes: &[u8]) -> Self {
        Self::from_be_bytes(bytes.try_into().expect("4 bytes"))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }
}

/// A list of items: a view of their bytes, a whole number of items.
#[derive(PartialEq, Eq)]
pub struct Items<'a, T> {
    bytes: &'a [u8],
    item: PhantomData<T>,
}

impl<'a, T: Item> Items<'a, T> {
    /// Bytes of one item.
    pub const ITEM_BYTES: usize = T::BYTES;

    /// The list that takes up all of `bytes`, maybe empty.
    ///
    /// # Errors
    /// [`Status::NotDivisible`] when something is left over.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Status> {
        if bytes.len().is_multiple_of(T::BYTES) {
            Ok(Self { bytes, item: PhantomData })
        } else {
            Err(Status::NotDivisible)
        }
    }

    /// The list that takes up all of `bytes`, of one item at least.
    ///
    /// # Errors
    /// [`Status::PacketLength`] when there is not one whole item, [`Status::NotDivisible`] when something is left over.
    pub fn at_least_one(bytes: &'a [u8]) -> Result<Self, Status> {
        if bytes.len() < T::BYTES { Err(Status::PacketLength) } else { Self::new(bytes) }
    }

    /// How many items.
    pub const fn len(&self) -> usize {
        self.bytes.len() / T::BYTES
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes it is a view of.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The item at a place, `None` past the end.
    pub fn get(&self, index: usize) -> Option<T> {
        self.bytes.chunks_exact(T::BYTES).nth(index).map(T::decode)
    }

    /// Its items, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + Clone + use<'a, T> {
        self.bytes.chunks_exact(T::BYTES).map(T::decode as fn(&'a [u8]) -> T)
    }
}

impl<T> Clone for Items<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Items<'_, T> {}

/// Only how long it is: the items may be secrets.
impl<T: Item> fmt::Debug for Items<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Items({})", self.len())
    }
}

/// The bytes of a list, for [`Items::new`] and for whoever sends it.
pub fn bytes_of<T: Item>(items: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut bytes = Vec::new();
    append(&mut bytes, items);
    bytes
}

/// Appends the bytes of a list.
pub fn append<T: Item>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>) {
    items.into_iter().for_each(|item| item.encode(out));
}

/// One bit an item: item i is bit i mod 8, least significant first, of byte i / 8. Bits past the last item are 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bits<'a>(&'a [u8]);

impl<'a> Bits<'a> {
    /// The bits of `items` items.
    ///
    /// # Errors
    /// [`Status::PacketLength`] when the bytes are not as many as that takes.
    pub fn new(bytes: &'a [u8], items: usize) -> Result<Self, Status> {
        if bytes.len() == items.div_ceil(8) { Ok(Self(bytes)) } else { Err(Status::PacketLength) }
    }

    /// The bit of an item; `false` past the end.
    pub fn get(&self, item: usize) -> bool {
        self.0.get(item / 8).is_some_and(|byte| byte >> (item % 8) & 1 == 1)
    }

    /// Appends the bits of as many items as `bits` gives.
    pub fn append(out: &mut Vec<u8>, bits: impl IntoIterator<Item = bool>) {
        let start = out.len();
        for (item, bit) in bits.into_iter().enumerate() {
            if item % 8 == 0 {
                out.push(0);
            }
            out[start + item / 8] |= u8::from(bit) << (item % 8);
        }
    }
}

/// Takes the fields off the front of a payload, one after the other.
///
/// Running out of bytes is [`Status::PacketLength`].
#[derive(Clone)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Status> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Status::PacketLength)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(super) fn slice(&mut self, bytes: usize) -> Result<&'a [u8], Status> {
        let (field, rest) = self.0.split_at_checked(bytes).ok_or(Status::PacketLength)?;
        self.0 = rest;
        Ok(field)
    }

    pub(super) fn item<T: Item>(&mut self) -> Result<T, Status> {
        self.slice(T::BYTES).map(T::decode)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Status> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Status> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Status> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_items() {
        let coin = RawCoin { den: -8, sn: 0x0102_0304 };
        let (an, pan) = (Secret::new(*b"0123456789abcdef"), Secret::new(*b"ABCDEFGHIJKLMNOP"));
        assert_eq!(bytes_of([coin]), b"\xF8\x01\x02\x03\x04");
        assert_eq!(bytes_of([(coin, an)]), b"\xF8\x01\x02\x03\x040123456789abcdef");
        assert_eq!(bytes_of([(coin, an, pan)]), b"\xF8\x01\x02\x03\x040123456789abcdefABCDEFGHIJKLMNOP");
        assert_eq!(bytes_of([0x0102_0304u32, 5]), [1, 2, 3, 4, 0, 0, 0, 5]);
    }

    #[test]
    fn a_list_is_a_whole_number_of_items() {
        let bytes = bytes_of((0..3).map(|sn| RawCoin { den: 6, sn }));
        let coins = Coins::new(&bytes).unwrap();
        assert_eq!((coins.len(), coins.is_empty(), coins.bytes()), (3, false, &bytes[..]));
        assert_eq!(coins.iter().map(|coin| coin.sn).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(coins.get(2), Some(RawCoin { den: 6, sn: 2 }));
        assert_eq!(coins.get(3), None);
        assert_eq!(Coins::new(&bytes[1..]), Err(Status::NotDivisible));
        assert_eq!(Coins::at_least_one(&bytes[..4]), Err(Status::PacketLength));
        assert_eq!(Coins::at_least_one(&bytes[..6]), Err(Status::NotDivisible));
        assert!(Coins::new(&[]).unwrap().is_empty());
    }

    #[test]
    fn bits_start_at_the_least_significant() {
        let mut bytes = vec![0xFF];
        Bits::append(&mut bytes, (0..10).map(|item| item == 0 || item == 3 || item == 9));
        assert_eq!(bytes, [0xFF, 0b0000_1001, 0b0000_0010]);
        let bits = Bits::new(&bytes[1..], 10).unwrap();
        assert_eq!((0..12).filter(|&item| bits.get(item)).collect::<Vec<_>>(), [0, 3, 9]);
        assert_eq!(Bits::new(&bytes, 10), Err(Status::PacketLength));
        assert!(!bits.get(16));
    }

    #[test]
    fn a_list_is_not_printed() {
        let bytes = bytes_of([(RawCoin { den: 0, sn: 1 }, Secret::new([0xAB; 16]))]);
        assert_eq!(format!("{:?}", SecretCoins::new(&bytes).unwrap()), "Items(1)");
    }
}
