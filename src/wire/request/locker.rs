//! Group 8, lockers and the market of trade lockers (mission/lockers.md).
//!
//! The key of a locker is the AN of the coins in it and ends `FF FF FF FF`. The AN of a trade locker says what it is
//! sold for: see [`SaleTerms`].

use crate::coin::{PayoutAddress, Place, Secret, TradeCoin};
use crate::wire::items::{Coins, Fields, Item, SecretCoins};
use crate::wire::status::Status;

use super::auth::coins_before;
use super::{Request, is_locker_key, no_trade_locker};

/// The payload of *buy* without its memo.
pub(super) const BUY_FIXED_BYTES: usize = 16 + 1 + 8 + 4 + 32 + 16;
/// The longest memo of *buy*.
pub const MEMO_BYTES_MAX: usize = 254;

/// What a trade locker is sold for, as its AN says.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 9 | random |
/// | 9 | 4 | price |
/// | 13 | 1 | coin type: 0 CloudCoin, 1 Bitcoin, 2 Monero |
/// | 14 | 2 | `EE EE` |
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SaleTerms {
    /// The currency of the price.
    pub coin_type: TradeCoin,
    /// What the coins cost together.
    pub price: u32,
}

impl SaleTerms {
    /// The terms that an AN says; `None` when it is not a trade locker's.
    pub fn of(an: &Secret) -> Option<Self> {
        let Place::TradeLocker(_) = an.place() else { return None };
        let bytes = an.bytes();
        let price = u32::from_be_bytes([bytes[9], bytes[10], bytes[11], bytes[12]]);
        TradeCoin::new(bytes[13]).map(|coin_type| Self { coin_type, price })
    }

    /// The AN of a trade locker with these terms.
    pub fn an(&self, random: [u8; 9]) -> Secret {
        let mut bytes = [0xEE; 16];
        bytes[..9].copy_from_slice(&random);
        bytes[9..13].copy_from_slice(&self.price.to_be_bytes());
        bytes[13] = self.coin_type as u8;
        Secret::new(bytes)
    }
}

/// 8.82 *store sum*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | n·5 | coins: den(1), sn(4); n ≥ 1 |
/// | n·5 | 16 | sum: the XOR of their ANs |
/// | n·5 + 16 | 16 | key of the locker; ends `FF FF FF FF` (199) |
///
/// Answer: 241 or 242.
pub(super) fn decode_store(payload: &[u8]) -> Result<Request<'_>, Status> {
    let (coins, fields) = coins_before::<32>(payload)?;
    let key = Secret::decode(&fields[16..]);
    if !is_locker_key(&key) {
        return Err(Status::InvalidPan);
    }
    Ok(Request::Store { coins, sum: Secret::decode(&fields[..16]), key })
}

/// 8.84 *remove*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 16 | key of the locker |
/// | 16 | n·21 | coins: den(1), sn(4), new AN(16); n ≥ 1; no new AN is a trade locker's (199) |
///
/// Answer: 241; 242; 243 with [`Bits`](crate::wire::items::Bits), one a coin.
pub(super) fn decode_remove(payload: &[u8]) -> Result<Request<'_>, Status> {
    let mut fields = Fields(payload);
    let key = fields.item()?;
    let coins = SecretCoins::at_least_one(fields.0)?;
    no_trade_locker(coins.iter().map(|(_, pan)| pan))?;
    Ok(Request::Remove { key, coins })
}

/// 8.83 *peek*: the key of the locker, 16 bytes.
///
/// Answer: 241 with [`Coins`]; 242.
pub(super) fn decode_peek(payload: &[u8]) -> Result<Request<'_>, Status> {
    Ok(Request::Peek { key: Fields(payload).item()? })
}

/// 8.81 *peek trade locker*: the identifier of the trade locker or its AN, 16 bytes.
///
/// Answer: 241 with [`Coins`]; 242.
pub(super) fn decode_peek_trade_locker(payload: &[u8]) -> Result<Request<'_>, Status> {
    Ok(Request::PeekTradeLocker { identifier: Fields(payload).array()? })
}

/// 8.85 *put for sale*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | n·5 | coins: den(1), sn(4); n ≥ 1 |
/// | n·5 | 16 | sum: the XOR of their ANs |
/// | n·5 + 16 | 16 | AN of the trade locker: [`SaleTerms`]; coin type (50), then `EE EE` (199) |
/// | n·5 + 32 | 129 | [`PayoutAddress`] (198) |
///
/// Answer: 241; 242; 148 when the AN is for sale already.
pub(super) fn decode_put_for_sale(payload: &[u8]) -> Result<Request<'_>, Status> {
    let (coins, fields) = coins_before::<{ 32 + PayoutAddress::BYTES }>(payload)?;
    let mut fields = Fields(fields);
    let (sum, an) = (fields.item()?, fields.item::<Secret>()?);
    if TradeCoin::new(an.bytes()[13]).is_none() {
        return Err(Status::TradeCoin);
    }
    if SaleTerms::of(&an).is_none() {
        return Err(Status::InvalidPan);
    }
    let address = PayoutAddress::decode(&fields.array()?).ok_or(Status::InvalidParameter)?;
    Ok(Request::PutForSale { coins, sum, an, address })
}

/// 8.86 *list lockers for sale*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 1 | coin type (50) |
/// | 1 | 1 | offers at most |
///
/// Answer: 241 with a list of [`Offer`].
pub(super) fn decode_list_for_sale(payload: &[u8]) -> Result<Request<'_>, Status> {
    let mut fields = Fields(payload);
    let coin_type = TradeCoin::new(fields.u8()?).ok_or(Status::TradeCoin)?;
    Ok(Request::ListForSale { coin_type, max: fields.u8()? })
}

/// A trade locker in the answer to *list lockers for sale*: 29 bytes.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 16 | identifier |
/// | 16 | 1 | coin type |
/// | 17 | 8 | value of the coins in it, units of 10^-8 |
/// | 25 | 4 | price |
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// What *peek trade locker* knows it by. Not secret, unless the node shows ANs.
    pub identifier: [u8; 16],
    /// The byte of the currency of the price, a [`TradeCoin`].
    pub coin_type: u8,
    /// What the coins in it are worth together, in units of 10^-8.
    pub value: u64,
    /// What they cost.
    pub price: u32,
}

impl Item for Offer {
    const BYTES: usize = 29;

    fn decode(bytes: &[u8]) -> Self {
        Self {
            identifier: bytes[..16].try_into().expect("16 bytes"),
            coin_type: bytes[16],
            value: u64::from_be_bytes(bytes[17..25].try_into().expect("8 bytes")),
            price: u32::decode(&bytes[25..]),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.identifier);
        out.push(self.coin_type);
        out.extend_from_slice(&self.value.to_be_bytes());
        self.price.encode(out);
    }
}

/// Without the identifier, which a node may be set to make the AN.
impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Offer(coin type {}, value {}, price {})", self.coin_type, self.value, self.price)
    }
}

/// 8.87 *buy*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 16 | key of the buyer's locker; ends `FF FF FF FF` (198) |
/// | 16 | 1 | coin type (50) |
/// | 17 | 8 | value, units of 10^-8 |
/// | 25 | 4 | price |
/// | 29 | 32 | transaction of the payment |
/// | 61 | 16 | receipt |
/// | 77 | 1..=254 | memo; none: 16, longer: 198 |
///
/// Answer: 241; 51 when no trade locker matches coin type, value and price.
pub(super) fn decode_buy(payload: &[u8]) -> Result<Request<'_>, Status> {
    let mut fields = Fields(payload);
    let (key, coin_type, value, price) = (fields.item()?, fields.u8()?, fields.u64()?, fields.u32()?);
    let (txid, receipt, memo) = (fields.array()?, fields.array()?, fields.0);
    if !is_locker_key(&key) || memo.len() > MEMO_BYTES_MAX {
        return Err(Status::InvalidParameter);
    }
    let coin_type = TradeCoin::new(coin_type).ok_or(Status::TradeCoin)?;
    Ok(Request::Buy { key, coin_type, value, price, txid, receipt, memo })
}

/// 8.89 *remove trade locker*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 16 | AN of the trade locker |
/// | 16 | 0 or 16 | key of the locker the coins go back to; ends `FF FF FF FF` (199). Without: they are freed |
///
/// Answer: 241 or 242.
pub(super) fn decode_remove_trade_locker(payload: &[u8]) -> Result<Request<'_>, Status> {
    let mut fields = Fields(payload);
    let an = fields.item()?;
    let key = if fields.0.is_empty() { None } else { Some(fields.item()?) };
    if key.is_some_and(|key| !is_locker_key(&key)) {
        return Err(Status::InvalidPan);
    }
    Ok(Request::RemoveTradeLocker { an, key })
}

/// 8.88 *store multiple sum*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 1 | lockers; not 0 (198) |
///
/// then for every locker, all of them together as long as the payload (16):
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 2 | n, the number of coins |
/// | 2 | n·5 | coins: den(1), sn(4) |
/// | 2 + n·5 | 16 | sum: the XOR of their ANs |
/// | 18 + n·5 | 16 | key of the locker |
///
/// A key that ends otherwise than `FF FF FF FF` and n = 0 are mistakes of that locker alone.
/// Answer: 241, 242 or 243, with one byte a locker in each case: 1 stored, 0 not.
pub(super) fn decode_store_multiple(payload: &[u8]) -> Result<Request<'_>, Status> {
    let (&count, bytes) = payload.split_first().ok_or(Status::PacketLength)?;
    if count == 0 {
        return Err(Status::InvalidParameter);
    }
    let mut fields = Fields(bytes);
    for _ in 0..count {
        locker_to_store(&mut fields)?;
    }
    if !fields.0.is_empty() {
        return Err(Status::PacketLength);
    }
    Ok(Request::StoreMultiple { lockers: Lockers { count, bytes } })
}

/// One locker of *store multiple sum*: its coins, the sum of their ANs, its key as it stands.
type LockerToStore<'a> = (Coins<'a>, Secret, Secret);

fn locker_to_store<'a>(fields: &mut Fields<'a>) -> Result<LockerToStore<'a>, Status> {
    let coins = u16::from_be_bytes(fields.array()?);
    let coins = Coins::new(fields.slice(usize::from(coins) * Coins::ITEM_BYTES)?)?;
    Ok((coins, fields.item()?, fields.item()?))
}

/// The lockers of *store multiple sum*: a view of the payload, whose lengths add up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Lockers<'a> {
    count: u8,
    bytes: &'a [u8],
}

impl<'a> Lockers<'a> {
    /// How many lockers, 1..=255.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Never: a request names one locker at least.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The lockers in order: the coins, the sum of their ANs, the key as it stands.
    pub fn iter(&self) -> impl Iterator<Item = (Coins<'a>, Secret, Secret)> + Clone + use<'a> {
        let mut fields = Fields(self.bytes);
        (0..self.count).map(move |_| locker_to_store(&mut fields).expect("the lengths add up"))
    }

    /// The payload of the lockers given, for [`Request::decode`] and whoever sends it.
    ///
    /// # Panics
    /// With more than 255 lockers or 65,535 coins in one.
    pub fn payload<'b>(lockers: impl ExactSizeIterator<Item = (Coins<'b>, Secret, Secret)>) -> Vec<u8> {
        let mut payload = vec![u8::try_from(lockers.len()).expect("at most 255 lockers")];
        for (coins, sum, key) in lockers {
            let count = u16::try_from(coins.len()).expect("at most 65,535 coins");
            payload.extend_from_slice(&count.to_be_bytes());
            payload.extend_from_slice(coins.bytes());
            sum.encode(&mut payload);
            key.encode(&mut payload);
        }
        payload
    }
}

/// Appends the payload of a request of this group.
pub(super) fn encode(request: &Request<'_>, out: &mut Vec<u8>) {
    match request {
        Request::Store { coins, sum, key } => {
            out.extend_from_slice(coins.bytes());
            sum.encode(out);
            key.encode(out);
        }
        Request::Remove { key, coins } => {
            key.encode(out);
            out.extend_from_slice(coins.bytes());
        }
        Request::Peek { key } => key.encode(out),
        Request::PeekTradeLocker { identifier } => out.extend_from_slice(identifier),
        Request::PutForSale { coins, sum, an, address } => {
            out.extend_from_slice(coins.bytes());
            sum.encode(out);
            an.encode(out);
            out.extend_from_slice(&address.encode());
        }
        Request::ListForSale { coin_type, max } => out.extend_from_slice(&[*coin_type as u8, *max]),
        Request::Buy { key, coin_type, value, price, txid, receipt, memo } => {
            key.encode(out);
            out.push(*coin_type as u8);
            out.extend_from_slice(&value.to_be_bytes());
            price.encode(out);
            out.extend_from_slice(txid);
            out.extend_from_slice(receipt);
            out.extend_from_slice(memo);
        }
        Request::RemoveTradeLocker { an, key } => {
            an.encode(out);
            key.iter().for_each(|key| key.encode(out));
        }
        Request::StoreMultiple { lockers } => {
            out.push(lockers.count);
            out.extend_from_slice(lockers.bytes);
        }
        other => unreachable!("{other:?} is not of group 8"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::CommandKind;
    use super::super::tests_support::{refused, round_trip};
    use super::*;
    use crate::wire::items::{Items, RawCoin, bytes_of};

    const COIN: &[u8; 5] = b"\xFF\x00\x00\x00\x07";
    const SUM: &[u8; 16] = b"0123456789abcdef";
    const KEY: &[u8; 16] = b"locker key..\xFF\xFF\xFF\xFF";
    const FOR_SALE: &[u8; 16] = b"ninebytes\x00\x01\xE2\x40\x01\xEE\xEE";

    /// The request of a payload; `bytes` at `at` replaced, the payload is refused with a status.
    fn refused_with(kind: CommandKind, payload: &[u8], at: usize, bytes: &[u8]) -> Status {
        let mut payload = payload.to_vec();
        payload[at..at + bytes.len()].copy_from_slice(bytes);
        refused(kind, &payload)
    }

    #[test]
    fn golden_bytes_of_store() {
        let payload = [COIN.as_slice(), SUM, KEY].concat();
        let Request::Store { coins, sum, key } = round_trip(CommandKind::Store, &payload) else {
            panic!("another command")
        };
        assert_eq!(coins.iter().collect::<Vec<_>>(), [RawCoin { den: -1, sn: 7 }]);
        assert_eq!((sum, key), (Secret::new(*SUM), Secret::new(*KEY)));
        assert_eq!(refused_with(CommandKind::Store, &payload, 36, &[0xFE]), Status::InvalidPan);
        assert_eq!(refused(CommandKind::Store, &payload[5..]), Status::PacketLength);
        assert_eq!(refused(CommandKind::Store, &[b"\0".as_slice(), &payload].concat()), Status::NotDivisible);
    }

    #[test]
    fn golden_bytes_of_remove() {
        let payload = [KEY.as_slice(), COIN, SUM].concat();
        let Request::Remove { key, coins } = round_trip(CommandKind::Remove, &payload) else {
            panic!("another command")
        };
        assert_eq!(key, Secret::new(*KEY));
        assert_eq!(coins.get(0), Some((RawCoin { den: -1, sn: 7 }, Secret::new(*SUM))));
        assert_eq!(refused_with(CommandKind::Remove, &payload, 34, &[0, 0xEE, 0xEE]), Status::InvalidPan);
        assert_eq!(refused(CommandKind::Remove, KEY), Status::PacketLength);
    }

    #[test]
    fn golden_bytes_of_peeks() {
        assert_eq!(round_trip(CommandKind::Peek, KEY), Request::Peek { key: Secret::new(*KEY) });
        let request = Request::PeekTradeLocker { identifier: *SUM };
        assert_eq!(round_trip(CommandKind::PeekTradeLocker, SUM), request);
        for kind in [CommandKind::Peek, CommandKind::PeekTradeLocker] {
            assert_eq!(refused(kind, &KEY[1..]), Status::PacketLength);
            assert_eq!(refused(kind, &[0; 17]), Status::PacketLength);
        }
    }

    #[test]
    fn golden_bytes_of_put_for_sale() {
        let mut payload = [COIN.as_slice(), SUM, FOR_SALE, b"\x10an address of 16"].concat();
        payload.extend_from_slice(&[0; 112]);
        let Request::PutForSale { coins, sum, an, address } = round_trip(CommandKind::PutForSale, &payload) else {
            panic!("another command")
        };
        assert_eq!((coins.len(), sum, address.as_bytes()), (1, Secret::new(*SUM), b"an address of 16".as_slice()));
        let terms = SaleTerms { coin_type: TradeCoin::Bitcoin, price: 123_456 };
        assert_eq!((SaleTerms::of(&an), terms.an(*b"ninebytes")), (Some(terms), an));

        // The order of the checks: coin type, then EE EE, then the address.
        assert_eq!(refused_with(CommandKind::PutForSale, &payload, 34, &[3, 0, 0, 0]), Status::TradeCoin);
        assert_eq!(refused_with(CommandKind::PutForSale, &payload, 35, &[0xEE, 0, 0]), Status::InvalidPan);
        assert_eq!(refused_with(CommandKind::PutForSale, &payload, 37, &[15]), Status::InvalidParameter);
        assert_eq!(refused_with(CommandKind::PutForSale, &payload, 37, &[121]), Status::InvalidParameter);
        assert_eq!(refused(CommandKind::PutForSale, &payload[5..]), Status::PacketLength);
        assert_eq!(refused(CommandKind::PutForSale, &payload[1..]), Status::PacketLength);
    }

    #[test]
    fn golden_bytes_of_an_address() {
        let address = PayoutAddress::new(b"an address of 16").unwrap();
        let bytes = address.encode();
        assert_eq!(&bytes[..18], b"\x10an address of 16\0");
        assert!(bytes[18..].iter().all(|&byte| byte == 0));
        let mut untidy = bytes;
        untidy[17..].fill(9);
        assert_eq!(PayoutAddress::decode(&untidy), Some(address));
        assert_eq!(
            [15, 16, 120, 121].map(|length| PayoutAddress::new(&[1; 128][..length]).is_some()),
            [false, true, true, false]
        );
        let mut long = bytes;
        long[0] = 255;
        assert_eq!(PayoutAddress::decode(&long), None);
    }

    #[test]
    fn golden_bytes_of_list() {
        let request = Request::ListForSale { coin_type: TradeCoin::Monero, max: 200 };
        assert_eq!(round_trip(CommandKind::ListForSale, &[2, 200]), request);
        assert_eq!(refused(CommandKind::ListForSale, &[3, 200]), Status::TradeCoin);
        assert_eq!(refused(CommandKind::ListForSale, &[2]), Status::PacketLength);

        let offer = Offer { identifier: *SUM, coin_type: 2, value: 0x0102_0304_0506_0708, price: 0x0A0B_0C0D };
        let bytes = bytes_of([offer]);
        assert_eq!(bytes, b"0123456789abcdef\x02\x01\x02\x03\x04\x05\x06\x07\x08\x0A\x0B\x0C\x0D");
        assert_eq!(Items::new(&bytes).unwrap().get(0), Some(offer));
        assert_eq!(format!("{offer:?}"), "Offer(coin type 2, value 72623859790382856, price 168496141)");
    }

    #[test]
    fn golden_bytes_of_buy() {
        let fixed = [KEY.as_slice(), b"\x02\0\0\0\0\0\0\x01\x02\0\0\0\x09", &[0x74; 32], &[0x72; 16]].concat();
        assert_eq!(fixed.len(), BUY_FIXED_BYTES);
        let payload = [fixed.as_slice(), b"memo"].concat();
        let expected = Request::Buy {
            key: Secret::new(*KEY),
            coin_type: TradeCoin::Monero,
            value: 258,
            price: 9,
            txid: [0x74; 32],
            receipt: [0x72; 16],
            memo: b"memo",
        };
        assert_eq!(round_trip(CommandKind::Buy, &payload), expected);

        // The order of the checks: length, then key and memo, then coin type.
        assert_eq!(refused(CommandKind::Buy, &fixed), Status::PacketLength);
        assert_eq!(refused_with(CommandKind::Buy, &payload, 15, &[0, 3]), Status::InvalidParameter);
        assert_eq!(refused_with(CommandKind::Buy, &payload, 16, &[3]), Status::TradeCoin);
        round_trip(CommandKind::Buy, &[fixed.clone(), vec![7; 254]].concat());
        assert_eq!(refused(CommandKind::Buy, &[fixed, vec![7; 255]].concat()), Status::InvalidParameter);
    }

    #[test]
    fn golden_bytes_of_remove_trade_locker() {
        let an = Secret::new(*FOR_SALE);
        let expected = Request::RemoveTradeLocker { an, key: None };
        assert_eq!(round_trip(CommandKind::RemoveTradeLocker, FOR_SALE), expected);
        let payload = [FOR_SALE.as_slice(), KEY].concat();
        let expected = Request::RemoveTradeLocker { an, key: Some(Secret::new(*KEY)) };
        assert_eq!(round_trip(CommandKind::RemoveTradeLocker, &payload), expected);
        assert_eq!(refused_with(CommandKind::RemoveTradeLocker, &payload, 31, &[0]), Status::InvalidPan);
        assert_eq!(refused(CommandKind::RemoveTradeLocker, &payload[..31]), Status::PacketLength);
    }

    #[test]
    fn golden_bytes_of_store_multiple() {
        let payload = [b"\x02\x00\x01".as_slice(), COIN, SUM, KEY, b"\x00\x00", SUM, SUM].concat();
        let Request::StoreMultiple { lockers } = round_trip(CommandKind::StoreMultiple, &payload) else {
            panic!("another command")
        };
        let listed: Vec<_> = lockers.iter().map(|(coins, sum, key)| (coins.len(), sum, key)).collect();
        let (sum, key) = (Secret::new(*SUM), Secret::new(*KEY));
        assert_eq!(listed, [(1, sum, key), (0, sum, sum)]);
        assert_eq!(Lockers::payload(lockers.iter().collect::<Vec<_>>().into_iter()), payload);
        assert_eq!((lockers.len(), lockers.is_empty()), (2, false));

        assert_eq!(refused(CommandKind::StoreMultiple, b""), Status::PacketLength);
        assert_eq!(refused(CommandKind::StoreMultiple, b"\0 and more"), Status::InvalidParameter);
        for length in 1..payload.len() {
            assert_eq!(refused(CommandKind::StoreMultiple, &payload[..length]), Status::PacketLength, "{length}");
        }
        assert_eq!(refused(CommandKind::StoreMultiple, &[payload.clone(), vec![0]].concat()), Status::PacketLength);
        assert_eq!(refused_with(CommandKind::StoreMultiple, &payload, 1, &[0xFF, 0xFF]), Status::PacketLength);
    }
}
