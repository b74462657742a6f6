//! Group 3, the treasury: coins come into circulation and go out of it. Every request has the treasury's key in it, 16
//! bytes.
//!
//! The layouts are those of the C server. What is different here, because there it cannot be used or takes coins from
//! their owners, is said at each command.

use crate::coin::{Denomination, SERIAL_NUMBERS, Secret};
use crate::wire::items::{self, Bits, Coins, Fields, Item, Items, SecretCoins};
use crate::wire::status::Status;

use super::Request;

/// The group's byte in the header.
pub const GROUP: u8 = 3;
/// The most coins of a denomination that *get available SNs* offers.
pub const AVAILABLE_MAX: usize = 1024;
/// The most ranges, and the most single serial numbers, of a denomination in its answer: each count is a byte.
pub const RUNS_MAX: usize = u8::MAX as usize;
/// Bytes of the bitmap in the answer to *get all SNs*.
const BITMAP_BYTES: usize = SERIAL_NUMBERS as usize / 8;

/// The denominations of *get available SNs*: byte `den + 8`, not 0 where they are wanted; the last byte is not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted(pub [u8; 16]);

impl Wanted {
    /// Those that are wanted, the smallest first.
    pub fn denominations(self) -> impl Iterator<Item = Denomination> {
        Denomination::all().filter(move |den| self.0[den.index()] != 0)
    }

    /// One.
    pub fn only(den: Denomination) -> Self {
        let mut bytes = [0; 16];
        bytes[den.index()] = 1;
        Self(bytes)
    }
}

/// 3.120 *get available SNs*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 4 | session; not 0 (198) |
/// | 4 | 16 | key |
/// | 20 | 16 | a byte a denomination, -8 first: not 0 where serial numbers of it are wanted; the last is not looked at |
///
/// Answer: 250 with [`Available`]. The C server lets a count of more than 255 run over; here a list ends before.
pub(super) fn decode_available(payload: &[u8]) -> Result<Request<'_>, Status> {
    let mut fields = Fields(payload);
    let (session, key) = (fields.u32()?, fields.item()?);
    if session == 0 {
        return Err(Status::InvalidParameter);
    }
    Ok(Request::AvailableSerialNumbers { session, key, denominations: Wanted(fields.array()?) })
}

/// 3.130 *create coins*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 4 | session |
/// | 4 | 16 | key |
/// | 20 | n·5 | den, sn; free, and reserved by the session (41) |
///
/// Answer: 250 with n·16, the AN of each coin in the order of the request. All coins or none.
///
/// The C server makes the ANs of the list's own bytes, which everybody knows, writes over coins that belong to somebody
/// and answers with their old ANs; session `EE EE EE EE` makes what nobody reserved. Here ANs are random.
pub(super) fn decode_create(payload: &[u8]) -> Result<Request<'_>, Status> {
    let (session, key, coins) = decode_coins(payload)?;
    Ok(Request::CreateCoins { session, key, coins })
}

/// 3.140 *delete coins*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 16 | key |
/// | 16 | n·21 | den, sn, AN |
///
/// Answer: 241, 242, or 243 with a bit a coin. A coin that is free or for sale fails.
pub(super) fn decode_delete(payload: &[u8]) -> Result<Request<'_>, Status> {
    let mut fields = Fields(payload);
    Ok(Request::DeleteCoins { key: fields.item()?, coins: SecretCoins::at_least_one(fields.0)? })
}

/// 3.150 *free coins*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 4 | session; nothing depends on it |
/// | 4 | 16 | key |
/// | 20 | n·5 | den, sn; none for sale (154) |
///
/// Answer: 250, no payload. All coins or none; a free one stays free. The C server keeps the AN of a freed coin, and
/// leaves out coins that are none.
pub(super) fn decode_free(payload: &[u8]) -> Result<Request<'_>, Status> {
    let (session, key, coins) = decode_coins(payload)?;
    Ok(Request::FreeCoins { session, key, coins })
}

/// What *create* and *free* share.
fn decode_coins(payload: &[u8]) -> Result<(u32, Secret, Coins<'_>), Status> {
    let mut fields = Fields(payload);
    Ok((fields.u32()?, fields.item()?, Coins::at_least_one(fields.0)?))
}

/// 3.160 *get all SNs*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 16 | key |
/// | 16 | 1 | den (40) |
///
/// Answer: 250 with [`Minted`], as of one moment. The C server reads files that its memory is ahead of.
pub(super) fn decode_all(payload: &[u8]) -> Result<Request<'_>, Status> {
    let mut fields = Fields(payload);
    Ok(Request::AllSerialNumbers { key: fields.item()?, den: fields.u8()? as i8 })
}

/// Appends the payload of a request of this group.
pub(super) fn encode(request: &Request<'_>, out: &mut Vec<u8>) {
    match request {
        Request::AvailableSerialNumbers { session, key, denominations } => {
            session.encode(out);
            key.encode(out);
            out.extend_from_slice(&denominations.0);
        }
        Request::CreateCoins { session, key, coins } | Request::FreeCoins { session, key, coins } => {
            session.encode(out);
            key.encode(out);
            out.extend_from_slice(coins.bytes());
        }
        Request::DeleteCoins { key, coins } => {
            key.encode(out);
            out.extend_from_slice(coins.bytes());
        }
        Request::AllSerialNumbers { key, den } => {
            key.encode(out);
            out.push(*den as u8);
        }
        other => unreachable!("{other:?} is not of group 3"),
    }
}

/// Serial numbers that follow each other: 8 bytes.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 4 | the first |
/// | 4 | 4 | the last |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

impl Item for Range {
    const BYTES: usize = 8;

    fn decode(bytes: &[u8]) -> Self {
        Self { first: u32::decode(&bytes[..4]), last: u32::decode(&bytes[4..]) }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.first.encode(out);
        self.last.encode(out);
    }
}

/// The available serial numbers of one denomination; the answer to *get available SNs* is one for each that has any.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 1 | den |
/// | 1 | 1 | r, ranges |
/// | 2 | 1 | s, single serial numbers |
/// | 3 | r·8 | first and last serial number of each range |
/// | 3 + r·8 | s·4 | single serial numbers |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Available<'a> {
    /// The denomination.
    pub den: i8,
    /// Serial numbers that follow each other.
    pub ranges: Items<'a, Range>,
    /// Others.
    pub singles: Items<'a, u32>,
}

impl<'a> Available<'a> {
    /// Takes one off the front of an answer.
    ///
    /// # Errors
    /// [`Status::PacketLength`] when it is cut off.
    pub fn take(payload: &mut &'a [u8]) -> Result<Self, Status> {
        let mut fields = Fields(payload);
        let [den, ranges, singles] = fields.array()?;
        let ranges = Items::new(fields.slice(usize::from(ranges) * Range::BYTES)?)?;
        let singles = Items::new(fields.slice(usize::from(singles) * u32::BYTES)?)?;
        *payload = fields.0;
        Ok(Self { den: den as i8, ranges, singles })
    }

    /// Appends one of ascending serial numbers; nothing where there are none, and no more than its counts can say.
    pub fn append(out: &mut Vec<u8>, den: Denomination, serial_numbers: &[u32]) {
        let runs = || serial_numbers.chunk_by(|one, next| one + 1 == *next);
        let ranges = runs().filter(|run| run.len() > 1).take(RUNS_MAX);
        let singles = runs().filter(|run| run.len() == 1).take(RUNS_MAX);
        let counts = (ranges.clone().count() as u8, singles.clone().count() as u8);
        if counts == (0, 0) {
            return;
        }
        out.extend_from_slice(&[den.get() as u8, counts.0, counts.1]);
        items::append(out, ranges.map(|run| Range { first: run[0], last: run[run.len() - 1] }));
        items::append(out, singles.map(|run| run[0]));
    }
}

/// Which coins of a denomination are in circulation: the answer to *get all SNs*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 1 | den |
/// | 1 | 4 | bytes that follow: 128,000 |
/// | 5 | 128,000 | a bit a serial number, least significant first |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Minted<'a> {
    /// The denomination.
    pub den: i8,
    /// Bit `sn` says whether the coin is in circulation.
    pub bits: Bits<'a>,
}

impl<'a> Minted<'a> {
    /// The answer of its bytes.
    ///
    /// # Errors
    /// [`Status::PacketLength`] when they are too many or too few.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Status> {
        let mut fields = Fields(bytes);
        let (den, length) = (fields.u8()? as i8, fields.u32()?);
        if length as usize != BITMAP_BYTES {
            return Err(Status::PacketLength);
        }
        Ok(Self { den, bits: Bits::new(fields.0, SERIAL_NUMBERS as usize)? })
    }

    /// Appends an answer in which no coin is in circulation, and returns its bitmap.
    pub fn append(out: &mut Vec<u8>, den: Denomination) -> &mut [u8] {
        out.push(den.get() as u8);
        (BITMAP_BYTES as u32).encode(out);
        let start = out.len();
        out.resize(start + BITMAP_BYTES, 0);
        &mut out[start..]
    }
}

#[cfg(test)]
mod tests {
    use super::super::CommandKind;
    use super::super::tests_support::{refused, round_trip};
    use super::*;
    use crate::wire::items::RawCoin;

    const KEY: &[u8; 16] = b"the treasury key";

    fn key() -> Secret {
        Secret::new(*KEY)
    }

    fn den(den: i8) -> Denomination {
        Denomination::new(den).unwrap()
    }

    #[test]
    fn golden_bytes_of_available() {
        let payload = b"\x01\x02\x03\x04the treasury key\x01\0\0\0\0\0\0\0\xFF\0\0\0\0\0\0\x01";
        let request = round_trip(CommandKind::AvailableSerialNumbers, payload);
        let Request::AvailableSerialNumbers { session, key: of_request, denominations } = request else {
            panic!("another command")
        };
        assert_eq!((session, of_request), (0x0102_0304, key()));
        assert_eq!(denominations.denominations().collect::<Vec<_>>(), [den(-8), den(0)]);
        assert_eq!(Wanted::only(den(6)).denominations().collect::<Vec<_>>(), [den(6)]);
        let of_nobody = [&[0; 4], &payload[4..]].concat();
        assert_eq!(refused(CommandKind::AvailableSerialNumbers, &of_nobody), Status::InvalidParameter);
        assert_eq!(refused(CommandKind::AvailableSerialNumbers, &payload[..35]), Status::PacketLength);
    }

    #[test]
    fn golden_bytes_of_create_and_free() {
        let payload = b"\x01\x02\x03\x04the treasury key\xF8\0\0\0\x05\x06\0\x0F\x9F\xFF";
        let coins = [RawCoin { den: -8, sn: 5 }, RawCoin { den: 6, sn: 1_023_999 }];
        match round_trip(CommandKind::CreateCoins, payload) {
            Request::CreateCoins { session: 0x0102_0304, key: of_request, coins: named } => {
                assert_eq!((of_request, named.iter().collect::<Vec<_>>()), (key(), coins.to_vec()));
            }
            other => panic!("{other:?}"),
        }
        match round_trip(CommandKind::FreeCoins, payload) {
            Request::FreeCoins { session: 0x0102_0304, key: of_request, coins: named } => {
                assert_eq!((of_request, named.iter().collect::<Vec<_>>()), (key(), coins.to_vec()));
            }
            other => panic!("{other:?}"),
        }
        for kind in [CommandKind::CreateCoins, CommandKind::FreeCoins] {
            assert_eq!(refused(kind, &payload[..20]), Status::PacketLength);
            assert_eq!(refused(kind, &payload[..29]), Status::NotDivisible);
        }
    }

    #[test]
    fn golden_bytes_of_delete() {
        let payload = b"the treasury key\xFF\0\0\0\x070123456789abcdef";
        match round_trip(CommandKind::DeleteCoins, payload) {
            Request::DeleteCoins { key: of_request, coins } => {
                assert_eq!(of_request, key());
                let coin = RawCoin { den: -1, sn: 7 };
                assert_eq!(coins.iter().collect::<Vec<_>>(), [(coin, Secret::new(*b"0123456789abcdef"))]);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(refused(CommandKind::DeleteCoins, &payload[..16]), Status::PacketLength);
        assert_eq!(refused(CommandKind::DeleteCoins, &[&payload[..], &[0]].concat()), Status::NotDivisible);
    }

    #[test]
    fn golden_bytes_of_all() {
        let payload = b"the treasury key\xFE";
        assert_eq!(
            round_trip(CommandKind::AllSerialNumbers, payload),
            Request::AllSerialNumbers { key: key(), den: -2 }
        );
        assert_eq!(refused(CommandKind::AllSerialNumbers, KEY), Status::PacketLength);
    }

    #[test]
    fn golden_bytes_of_what_is_available() {
        let mut bytes = Vec::new();
        Available::append(&mut bytes, den(-1), &[]);
        Available::append(&mut bytes, den(0), &[4, 5, 6, 9, 64, 65, 1_023_999]);
        assert_eq!(bytes, b"\x00\x02\x02\0\0\0\x04\0\0\0\x06\0\0\0\x40\0\0\0\x41\0\0\0\x09\0\x0F\x9F\xFF");
        let mut rest = &bytes[..];
        let available = Available::take(&mut rest).unwrap();
        assert_eq!((available.den, rest), (0, &[][..]));
        let ranges = [Range { first: 4, last: 6 }, Range { first: 64, last: 65 }];
        assert_eq!(available.ranges.iter().collect::<Vec<_>>(), ranges);
        assert_eq!(available.singles.iter().collect::<Vec<_>>(), [9, 1_023_999]);
        for length in 0..bytes.len() {
            assert_eq!(Available::take(&mut &bytes[..length]), Err(Status::PacketLength));
        }
    }

    /// Where nothing follows anything, there are more singles than a byte can count.
    #[test]
    fn counts_do_not_run_over() {
        let mut bytes = Vec::new();
        let apart: Vec<u32> = (0..300).map(|number| number * 2).collect();
        Available::append(&mut bytes, den(0), &apart);
        let available = Available::take(&mut &bytes[..]).unwrap();
        assert_eq!((available.ranges.len(), available.singles.len()), (0, 255));
        assert_eq!(available.singles.get(254), Some(508));
    }

    #[test]
    fn golden_bytes_of_what_is_minted() {
        let mut bytes = Vec::new();
        let bitmap = Minted::append(&mut bytes, den(-2));
        bitmap[0] = 0b1000_0001;
        bitmap[127_999] = 0b1000_0000;
        assert_eq!(&bytes[..6], b"\xFE\x00\x01\xF4\x00\x81");
        assert_eq!(bytes.len(), 128_005);
        let minted = Minted::decode(&bytes).unwrap();
        assert_eq!(minted.den, -2);
        let set: Vec<usize> = (0..1_024_000).filter(|&sn| minted.bits.get(sn)).collect();
        assert_eq!(set, [0, 7, 1_023_999]);
        assert_eq!(Minted::decode(&bytes[..128_004]), Err(Status::PacketLength));
        bytes[4] = 1;
        assert_eq!(Minted::decode(&bytes), Err(Status::PacketLength));
    }
}
