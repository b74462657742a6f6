//! Group 1, coins and their ANs: *detect*, *detect sum*, *pown*, *pown sum*.

use crate::coin::Secret;

use super::{Request, no_trade_locker};
use crate::wire::items::{Coins, Item, PownCoins, SecretCoins};
use crate::wire::status::Status;

/// The list of coins before some last fields, and those fields.
pub(super) fn coins_before<const FIXED: usize>(payload: &[u8]) -> Result<(Coins<'_>, &[u8; FIXED]), Status> {
    let (coins, fields) = payload.split_last_chunk().ok_or(Status::PacketLength)?;
    Ok((Coins::at_least_one(coins)?, fields))
}

/// 1.10 *detect*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | n·21 | coins: den(1), sn(4), AN(16); n ≥ 1 |
///
/// Answer: 241; 242; 243 with [`Bits`](crate::wire::items::Bits), one a coin.
pub(super) fn decode_detect(payload: &[u8]) -> Result<Request<'_>, Status> {
    Ok(Request::Detect { coins: SecretCoins::at_least_one(payload)? })
}

/// 1.11 *detect sum*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | n·5 | coins: den(1), sn(4); n ≥ 1 |
/// | n·5 | 16 | sum: the XOR of their ANs |
///
/// Answer: 241 or 242.
pub(super) fn decode_detect_sum(payload: &[u8]) -> Result<Request<'_>, Status> {
    let (coins, sum) = coins_before::<16>(payload)?;
    Ok(Request::DetectSum { coins, sum: Secret::new(*sum) })
}

/// 1.20 *pown*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | n·37 | coins: den(1), sn(4), AN(16), PAN(16); n ≥ 1; no PAN is a trade locker's (199) |
///
/// Answer: 241; 242; 243 with [`Bits`](crate::wire::items::Bits), one a coin.
pub(super) fn decode_pown(payload: &[u8]) -> Result<Request<'_>, Status> {
    let coins = PownCoins::at_least_one(payload)?;
    no_trade_locker(coins.iter().map(|(_, _, pan)| pan))?;
    Ok(Request::Pown { coins })
}

/// 1.21 *pown sum*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | n·5 | coins: den(1), sn(4); n ≥ 1 |
/// | n·5 | 16 | sum: the XOR of their ANs |
/// | n·5 + 16 | 16 | delta: new AN = old AN XOR delta |
///
/// Answer: 241 or 242.
pub(super) fn decode_pown_sum(payload: &[u8]) -> Result<Request<'_>, Status> {
    let (coins, fields) = coins_before::<32>(payload)?;
    Ok(Request::PownSum { coins, sum: Secret::decode(&fields[..16]), delta: Secret::decode(&fields[16..]) })
}

/// Appends the payload of a request of this group.
pub(super) fn encode(request: &Request<'_>, out: &mut Vec<u8>) {
    match request {
        Request::Detect { coins } => out.extend_from_slice(coins.bytes()),
        Request::DetectSum { coins, sum } => {
            out.extend_from_slice(coins.bytes());
            sum.encode(out);
        }
        Request::Pown { coins } => out.extend_from_slice(coins.bytes()),
        Request::PownSum { coins, sum, delta } => {
            out.extend_from_slice(coins.bytes());
            sum.encode(out);
            delta.encode(out);
        }
        other => unreachable!("{other:?} is not of group 1"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::CommandKind;
    use super::super::tests_support::{refused, round_trip};
    use super::*;

    const AN: &[u8; 16] = b"0123456789abcdef";
    const PAN: &[u8; 16] = b"ABCDEFGHIJKLMNOP";

    #[test]
    fn golden_bytes_of_detect() {
        let payload = [b"\xFF\x00\x00\x00\x07".as_slice(), AN].concat();
        let Request::Detect { coins } = round_trip(CommandKind::Detect, &payload) else { panic!("another command") };
        let (coin, an) = coins.get(0).unwrap();
        assert_eq!((coin.den, coin.sn, an), (-1, 7, Secret::new(*AN)));
        assert_eq!(refused(CommandKind::Detect, &payload[1..]), Status::PacketLength);
        assert_eq!(refused(CommandKind::Detect, &[payload.clone(), vec![0]].concat()), Status::NotDivisible);
    }

    #[test]
    fn golden_bytes_of_detect_sum() {
        let payload = [b"\x06\x00\x0F\x9F\xFF\x00\x00\x00\x00\x00".as_slice(), AN].concat();
        let Request::DetectSum { coins, sum } = round_trip(CommandKind::DetectSum, &payload) else {
            panic!("another command")
        };
        let coins: Vec<_> = coins.iter().map(|coin| (coin.den, coin.sn)).collect();
        assert_eq!((coins, sum), (vec![(6, 1_023_999), (0, 0)], Secret::new(*AN)));
        assert_eq!(refused(CommandKind::DetectSum, AN), Status::PacketLength);
    }

    #[test]
    fn golden_bytes_of_pown() {
        let payload = [b"\x01\x00\x00\x00\x07".as_slice(), AN, PAN].concat();
        let Request::Pown { coins } = round_trip(CommandKind::Pown, &payload) else { panic!("another command") };
        let (coin, an, pan) = coins.get(0).unwrap();
        assert_eq!((coin.den, coin.sn, an, pan), (1, 7, Secret::new(*AN), Secret::new(*PAN)));

        let mut for_sale = payload.clone();
        for_sale[34..].copy_from_slice(&[2, 0xEE, 0xEE]);
        assert_eq!(refused(CommandKind::Pown, &[payload, for_sale].concat()), Status::InvalidPan);
    }

    #[test]
    fn golden_bytes_of_pown_sum() {
        let payload = [b"\x01\x00\x00\x00\x07".as_slice(), AN, PAN].concat();
        let Request::PownSum { coins, sum, delta } = round_trip(CommandKind::PownSum, &payload) else {
            panic!("another command")
        };
        assert_eq!((coins.len(), sum, delta), (1, Secret::new(*AN), Secret::new(*PAN)));
        assert_eq!(refused(CommandKind::PownSum, &payload[1..]), Status::PacketLength);
    }
}
