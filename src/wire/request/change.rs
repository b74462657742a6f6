//! Group 9, change: *get available change SNs*, *break*, *join* (mission/change.md).

use crate::coin::Denomination;

use super::{Request, no_trade_locker};
use crate::wire::items::{Fields, Item, Items, SecretCoin, SecretCoins};
use crate::wire::status::Status;

/// Coins of the smaller denomination in a *break* or a *join*.
pub const SMALLER_COINS: usize = 10;
/// The most serial numbers that *get available change SNs* offers.
pub const SERIAL_NUMBERS_MAX: usize = 64;
/// The payload of *break* and *join*.
pub(super) const EXCHANGE_BYTES: usize = 4 + (1 + SMALLER_COINS) * <SecretCoin as Item>::BYTES;

const _: () = assert!(EXCHANGE_BYTES == 235);

/// What serial numbers are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ChangeOperation {
    /// Ten smaller coins for one.
    Break = 1,
    /// One larger coin for ten.
    Join = 2,
}

impl ChangeOperation {
    /// The operation of a wire byte, `None` where there is none (status 198).
    pub const fn new(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Break),
            2 => Some(Self::Join),
            _ => None,
        }
    }

    /// The denomination of the coins made when coins of `den` are given; `None` past the ends.
    pub const fn target(self, den: Denomination) -> Option<Denomination> {
        match self {
            Self::Break => den.smaller(),
            Self::Join => den.larger(),
        }
    }
}

/// 9.91 *get available change SNs*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 4 | session; not 0 (198) |
/// | 4 | 1 | operation: 1 break, 2 join (198) |
/// | 5 | 1 | den of the coins given |
///
/// Answer: 250 with [`ChangeOffer`].
pub(super) fn decode_serial_numbers(payload: &[u8]) -> Result<Request<'_>, Status> {
    let mut fields = Fields(payload);
    let session = fields.u32()?;
    if session == 0 {
        return Err(Status::InvalidParameter);
    }
    let operation = ChangeOperation::new(fields.u8()?).ok_or(Status::InvalidParameter)?;
    Ok(Request::ChangeSerialNumbers { session, operation, den: fields.u8()? as i8 })
}

/// The serial numbers reserved for a session: the answer to *get available change SNs*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 1 | den of the coins that can be made |
/// | 1 | n·4 | their sns; n ≤ 64 |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChangeOffer<'a> {
    /// The denomination of the coins that can be made.
    pub den: i8,
    /// Their serial numbers.
    pub serial_numbers: Items<'a, u32>,
}

impl<'a> ChangeOffer<'a> {
    /// The offer of its bytes.
    ///
    /// # Errors
    /// [`Status::PacketLength`] for none or too many, [`Status::NotDivisible`] for a remainder.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Status> {
        let mut fields = Fields(bytes);
        let den = fields.u8()? as i8;
        let serial_numbers = Items::new(fields.0)?;
        if serial_numbers.len() > SERIAL_NUMBERS_MAX {
            return Err(Status::PacketLength);
        }
        Ok(Self { den, serial_numbers })
    }

    /// Appends an offer's bytes.
    pub fn append(
        out: &mut Vec<u8>,
        den: i8,
        serial_numbers: impl IntoIterator<Item = u32, IntoIter: ExactSizeIterator>,
    ) {
        let serial_numbers = serial_numbers.into_iter();
        out.push(den as u8);
        let start = out.len();
        out.resize(start + serial_numbers.len() * u32::BYTES, 0);
        for (place, sn) in out[start..].chunks_exact_mut(u32::BYTES).zip(serial_numbers) {
            place.copy_from_slice(&sn.to_be_bytes());
        }
    }
}

/// 9.92 *break*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 4 | session |
/// | 4 | 21 | the coin to break: den, sn, AN |
/// | 25 | 10·21 | the coins to make: den - 1, sn, PAN; no PAN is a trade locker's (199) |
///
/// Answer: 250, no payload.
pub(super) fn decode_break(payload: &[u8]) -> Result<Request<'_>, Status> {
    let (session, source, targets) = decode_exchange(payload)?;
    no_trade_locker(targets.iter().map(|(_, pan)| pan))?;
    Ok(Request::Break { session, source, targets })
}

/// 9.93 *join*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 4 | session |
/// | 4 | 21 | the coin to make: den, sn, PAN; the PAN is not a trade locker's (199) |
/// | 25 | 10·21 | the coins to join: den - 1, sn, AN |
///
/// Answer: 250, no payload.
pub(super) fn decode_join(payload: &[u8]) -> Result<Request<'_>, Status> {
    let (session, target, sources) = decode_exchange(payload)?;
    no_trade_locker(std::iter::once(target.1))?;
    Ok(Request::Join { session, target, sources })
}

/// What *break* and *join* share: the session, the larger coin, the ten smaller ones. Session 0 is none (41): nothing is
/// reserved by it.
fn decode_exchange(payload: &[u8]) -> Result<(u32, SecretCoin, SecretCoins<'_>), Status> {
    let mut fields = Fields(payload);
    let session = fields.u32()?;
    if session == 0 {
        return Err(Status::PageNotReserved);
    }
    let larger = fields.item()?;
    Ok((session, larger, SecretCoins::at_least_one(fields.0)?))
}

/// Appends the payload of a request of this group.
pub(super) fn encode(request: &Request<'_>, out: &mut Vec<u8>) {
    match request {
        Request::ChangeSerialNumbers { session, operation, den } => {
            session.encode(out);
            out.extend_from_slice(&[*operation as u8, *den as u8]);
        }
        Request::Break { session, source: larger, targets: smaller }
        | Request::Join { session, target: larger, sources: smaller } => {
            session.encode(out);
            larger.encode(out);
            out.extend_from_slice(smaller.bytes());
        }
        other => unreachable!("{other:?} is not of group 9"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::CommandKind;
    use super::super::tests_support::{refused, round_trip};
    use super::*;
    use crate::coin::Secret;

    #[test]
    fn golden_bytes_of_serial_numbers() {
        let payload = b"\x01\x02\x03\x04\x02\xFB";
        let request = round_trip(CommandKind::ChangeSerialNumbers, payload);
        let operation = ChangeOperation::Join;
        assert_eq!(request, Request::ChangeSerialNumbers { session: 0x0102_0304, operation, den: -5 });
        assert_eq!(refused(CommandKind::ChangeSerialNumbers, b"\x00\x00\x00\x00\x02\xFB"), Status::InvalidParameter);
        assert_eq!(refused(CommandKind::ChangeSerialNumbers, b"\x00\x00\x00\x01\x03\xFB"), Status::InvalidParameter);
        assert_eq!(refused(CommandKind::ChangeSerialNumbers, b"\x00\x00\x00\x01\x01"), Status::PacketLength);
    }

    #[test]
    fn golden_bytes_of_an_offer() {
        let mut bytes = Vec::new();
        ChangeOffer::append(&mut bytes, -2, [1, 0x000F_9FFF]);
        assert_eq!(bytes, b"\xFE\x00\x00\x00\x01\x00\x0F\x9F\xFF");
        let offer = ChangeOffer::decode(&bytes).unwrap();
        assert_eq!((offer.den, offer.serial_numbers.iter().collect::<Vec<_>>()), (-2, vec![1, 0x000F_9FFF]));
        assert_eq!(ChangeOffer::decode(b""), Err(Status::PacketLength));
        assert_eq!(ChangeOffer::decode(&[0; 1 + 65 * 4]), Err(Status::PacketLength));
        assert_eq!(ChangeOffer::decode(&[0; 3]), Err(Status::NotDivisible));
    }

    /// Session 7, coin 1:9 with AN 31…, ten coins 0:100.. with ANs 40.., 41.., …
    fn exchange() -> Vec<u8> {
        let mut payload = b"\x00\x00\x00\x07\x01\x00\x00\x00\x091111111111111111".to_vec();
        for place in 0..10u8 {
            payload.extend_from_slice(&[0, 0, 0, 0, 100 + place]);
            payload.extend_from_slice(&[0x40 + place; 16]);
        }
        payload
    }

    #[test]
    fn golden_bytes_of_break() {
        let payload = exchange();
        let Request::Break { session, source, targets } = round_trip(CommandKind::Break, &payload) else {
            panic!("another command")
        };
        assert_eq!((session, source.0.den, source.0.sn, source.1), (7, 1, 9, Secret::new([b'1'; 16])));
        assert_eq!(targets.len(), SMALLER_COINS);
        let (coin, pan) = targets.get(9).unwrap();
        assert_eq!((coin.den, coin.sn, pan), (0, 109, Secret::new([0x49; 16])));
        assert_eq!(refused(CommandKind::Break, &payload[..234]), Status::PacketLength);

        let mut for_sale = payload.clone();
        for_sale[232..].copy_from_slice(&[0, 0xEE, 0xEE]);
        assert_eq!(refused(CommandKind::Break, &for_sale), Status::InvalidPan);
        round_trip(CommandKind::Join, &for_sale);
    }

    #[test]
    fn golden_bytes_of_join() {
        let payload = exchange();
        let Request::Join { session, target, sources } = round_trip(CommandKind::Join, &payload) else {
            panic!("another command")
        };
        assert_eq!((session, target.0.den, target.0.sn, target.1), (7, 1, 9, Secret::new([b'1'; 16])));
        assert_eq!(sources.len(), SMALLER_COINS);
        assert_eq!(refused(CommandKind::Join, &[payload.clone(), vec![0]].concat()), Status::PacketLength);

        let mut for_sale = payload.clone();
        for_sale[22..25].copy_from_slice(&[1, 0xEE, 0xEE]);
        assert_eq!(refused(CommandKind::Join, &for_sale), Status::InvalidPan);
        round_trip(CommandKind::Break, &for_sale);
    }

    #[test]
    fn what_is_made_of_what() {
        let den = |den| Denomination::new(den).unwrap();
        assert_eq!(ChangeOperation::Break.target(den(0)), Some(den(-1)));
        assert_eq!(ChangeOperation::Join.target(den(0)), Some(den(1)));
        assert_eq!(ChangeOperation::Break.target(den(-8)), None);
        assert_eq!(ChangeOperation::Join.target(den(6)), None);
        assert_eq!([0, 1, 2, 3].map(ChangeOperation::new).map(|op| op.is_some()), [false, true, true, false]);
    }
}
