//! Orders: where the seller of each trade locker is paid.
//!
//! With the coin table they are all of the truth (DESIGN.md, rule 1). An order comes into being in the commit record
//! of *put for sale*; a checkpoint writes all of a shard's orders as one image, to `orders-0` and `orders-1` in turn,
//! and the control block names the one that counts. An order whose AN no coin has is dead; who builds the views
//! drops it.
//!
//! # An order: 153 bytes
//! | at | size | field |
//! |---|---|---|
//! | 0 | 16 | AN of the trade locker |
//! | 16 | 1 | length of the address, 16..=120 |
//! | 17 | 128 | address, then zeros |
//! | 145 | 8 | sequence: of equal offers the lower is sold first |
//!
//! # An image: whole blocks of 4,096 bytes
//! | at | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `ROI1` |
//! | 4 | 2 | format version = 1 |
//! | 6 | 2 | zero |
//! | 8 | 8 | generation, as the control block says |
//! | 16 | 4 | number of orders, n |
//! | 20 | 4 | CRC-32C of header and orders with this field zero |
//! | 24 | 153·n | orders, then zeros to the end of the block |
//!
//! Integers are big-endian.

use super::control::COUNTER_MAX;
use super::layout::AlignedBytes;
use crate::coin::{PayoutAddress, Secret};

/// What a trade locker is sold under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    /// The trade locker's AN.
    pub an: Secret,
    /// Where its seller is paid.
    pub address: PayoutAddress,
    /// The sequence of the commit that put it up: its place among equal offers.
    pub sequence: u64,
}

impl Order {
    /// Its size in images and commit records.
    pub const BYTES: usize = 16 + PayoutAddress::BYTES + 8;

    /// Writes its 153 bytes.
    pub fn encode(&self, bytes: &mut [u8]) {
        assert_eq!(bytes.len(), Self::BYTES);
        bytes[..16].copy_from_slice(self.an.bytes());
        bytes[16..145].copy_from_slice(&self.address.encode());
        bytes[145..].copy_from_slice(&self.sequence.to_be_bytes());
    }

    /// The order of 153 bytes; `None` where they are none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let field = bytes[16..145].try_into().expect("129 bytes");
        let address = PayoutAddress::decode(field)?;
        let an = Secret::new(bytes[..16].try_into().expect("16 bytes"));
        let sequence = u64::from_be_bytes(bytes[145..].try_into().expect("8 bytes"));
        (address.encode() == *field && sequence <= COUNTER_MAX).then_some(Self { an, address, sequence })
    }
}

const MAGIC: &[u8; 4] = b"ROI1";
const VERSION: u16 = 1;
const CRC_AT: usize = 20;
const HEADER_BYTES: usize = 24;

const _: () = assert!(Order::BYTES == 153);
const _: () = assert!(CRC_AT + 4 == HEADER_BYTES);

/// The image of `orders`, ready for the disk: all of the bytes are to be written.
pub fn encode_image<'a>(generation: u64, orders: impl ExactSizeIterator<Item = &'a Order>) -> AlignedBytes {
    let count = orders.len();
    let end = HEADER_BYTES + count * Order::BYTES;
    let mut bytes = AlignedBytes::zeroed(end);
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..6].copy_from_slice(&VERSION.to_be_bytes());
    bytes[8..16].copy_from_slice(&generation.to_be_bytes());
    bytes[16..20].copy_from_slice(&(count as u32).to_be_bytes());
    let mut written = 0;
    for (order, into) in orders.zip(bytes[HEADER_BYTES..end].chunks_exact_mut(Order::BYTES)) {
        order.encode(into);
        written += 1;
    }
    assert_eq!(written, count, "an exact-size iterator gives what it says");
    let crc = crc32c::crc32c(&bytes[..end]);
    bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// Generation and orders of an image; `bytes` may go on behind it. `None` unless it is whole.
pub fn decode_image(bytes: &[u8]) -> Option<(u64, Vec<Order>)> {
    let header = bytes.get(..HEADER_BYTES)?;
    let count = u32::from_be_bytes(header[16..20].try_into().expect("4 bytes")) as usize;
    let orders = bytes.get(HEADER_BYTES..HEADER_BYTES.checked_add(count.checked_mul(Order::BYTES)?)?)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&header[..CRC_AT]), &[0; 4]), orders);
    let whole = &header[..4] == MAGIC
        && header[4..6] == VERSION.to_be_bytes()
        && header[6..8] == [0; 2]
        && header[CRC_AT..] == crc.to_be_bytes();
    if !whole {
        return None;
    }
    let generation = u64::from_be_bytes(header[8..16].try_into().expect("8 bytes"));
    let orders: Option<Vec<Order>> = orders.chunks_exact(Order::BYTES).map(Order::decode).collect();
    orders.map(|orders| (generation, orders))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order {
            an: Secret::new(*b"012345678pric\x01\xEE\xEE"),
            address: PayoutAddress::new(b"an address of 20 by.").unwrap(),
            sequence: 0x0102_0304_0506_0708,
        }
    }

    #[test]
    fn golden_bytes_of_an_order() {
        let mut bytes = [0xAA; Order::BYTES];
        order().encode(&mut bytes);
        assert_eq!(&bytes[..37], b"012345678pric\x01\xEE\xEE\x14an address of 20 by.");
        assert!(bytes[37..145].iter().all(|&byte| byte == 0));
        assert_eq!(&bytes[145..], b"\x01\x02\x03\x04\x05\x06\x07\x08");
        assert_eq!(Order::decode(&bytes), Some(order()));
    }

    #[test]
    fn bytes_that_are_no_order() {
        let mut bytes = [0; Order::BYTES];
        order().encode(&mut bytes);
        for length in [0, 15, 121, 255, 19] {
            let mut wrong = bytes;
            wrong[16] = length;
            assert_eq!(Order::decode(&wrong), None, "length {length}");
        }
        assert_eq!(Order::decode(&bytes[1..]), None);
    }

    #[test]
    fn golden_bytes_of_an_image() {
        let image = encode_image(7, [order()].iter());
        assert_eq!(image.len(), 4096);
        assert_eq!(&image[..20], b"ROI1\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x01");
        assert_eq!(image[20..24], 0x0BA1_C5B0u32.to_be_bytes());
        assert_eq!(&image[24..40], order().an.bytes());
        assert!(image[24 + Order::BYTES..].iter().all(|&byte| byte == 0));
        assert_eq!(decode_image(&image), Some((7, vec![order()])));
    }

    #[test]
    fn every_flipped_bit_of_an_image_is_seen() {
        let image = encode_image(7, [order(), order()].iter());
        for at in 0..HEADER_BYTES + 2 * Order::BYTES {
            let mut flipped = image.clone();
            flipped[at] ^= 1 << (at % 8);
            assert_eq!(decode_image(&flipped), None, "byte {at}");
        }
        assert_eq!(decode_image(&image[..100]), None);
        assert_eq!(decode_image(&encode_image(1, [].iter())), Some((1, vec![])));
    }

    #[test]
    fn an_address_is_16_to_120_bytes() {
        assert_eq!(PayoutAddress::new(&[1; 15]), None);
        assert_eq!(PayoutAddress::new(&[1; 121]), None);
        assert_eq!(PayoutAddress::new(&[1; 16]).unwrap().as_bytes(), &[1; 16]);
        assert_eq!(PayoutAddress::new(&[1; 120]).unwrap().as_bytes(), &[1; 120]);
        assert_eq!(format!("{:?}", PayoutAddress::new(&[1; 16])), "Some(PayoutAddress(16 bytes))");
    }
}
