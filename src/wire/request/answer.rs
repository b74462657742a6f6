//! What a node answers, as types: which payload comes with which command and status.
//!
//! The node appends its answers straight to the reply, with [`items::append`](crate::wire::items::append),
//! [`Bits::append`] and [`ChangeOffer::append`]; a client reads them with [`Answer::decode`]. The layouts are those of
//! the items, in the file of their command.

use crate::coin::Secret;
use crate::wire::items::{Bits, Coins, Items};
use crate::wire::status::Status;

use super::change::ChangeOffer;
use super::locker::Offer;
use super::status::Count;
use super::treasury::{Available, Minted};
use super::{CommandKind, Request};

/// The payload of an answer, a view of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer<'a> {
    /// None: the status says everything.
    Nothing,
    /// *Version*: what the node calls itself.
    Version(&'a str),
    /// *Count coins*: coins in circulation by denomination.
    Counts(Items<'a, Count>),
    /// *Detect*, *pown*, *remove* and *delete coins* with status 243: which coins passed.
    Bits(Bits<'a>),
    /// *Peek* and *peek trade locker*: the coins in it.
    Coins(Coins<'a>),
    /// *List lockers for sale*: the offers.
    Offers(Items<'a, Offer>),
    /// *Store multiple sum*: which lockers were stored; one byte each, 1 or 0.
    Lockers(&'a [u8]),
    /// *Get available change SNs*: what was reserved.
    Change(ChangeOffer<'a>),
    /// *Get available SNs*: what was reserved, a denomination after the other: see [`Available::take`].
    Available(&'a [u8]),
    /// *Create coins*: the ANs, in the order of the request.
    Created(Items<'a, Secret>),
    /// *Get all SNs*: what is in circulation.
    Minted(Minted<'a>),
}

impl<'a> Answer<'a> {
    /// What the payload of the answer to a request means.
    ///
    /// # Errors
    /// [`Status::PacketLength`] or [`Status::NotDivisible`] when it is not such an answer's; [`Status::InvalidParameter`]
    /// when a version is not text.
    pub fn decode(request: &Request<'_>, status: Status, payload: &'a [u8]) -> Result<Self, Status> {
        let bits = |items| Bits::new(payload, items).map(Self::Bits);
        match (request, status) {
            (Request::Version, Status::Success) => {
                std::str::from_utf8(payload).map(Self::Version).map_err(|_| Status::InvalidParameter)
            }
            (Request::CountCoins, Status::Success) => Items::new(payload).map(Self::Counts),
            (Request::Detect { coins } | Request::Remove { coins, .. }, Status::Mixed) => bits(coins.len()),
            (Request::Pown { coins }, Status::Mixed) => bits(coins.len()),
            (Request::Peek { .. } | Request::PeekTradeLocker { .. }, Status::AllPass) => {
                Coins::new(payload).map(Self::Coins)
            }
            (Request::ListForSale { .. }, Status::AllPass) => Items::new(payload).map(Self::Offers),
            (Request::StoreMultiple { lockers }, Status::AllPass | Status::AllFail | Status::Mixed) => {
                if payload.len() == lockers.len() { Ok(Self::Lockers(payload)) } else { Err(Status::PacketLength) }
            }
            (Request::ChangeSerialNumbers { .. }, Status::Success) => ChangeOffer::decode(payload).map(Self::Change),
            (Request::AvailableSerialNumbers { .. }, Status::Success) => {
                let mut rest = payload;
                while !rest.is_empty() {
                    Available::take(&mut rest)?;
                }
                Ok(Self::Available(payload))
            }
            (Request::CreateCoins { coins, .. }, Status::Success) => {
                let ans = Items::new(payload)?;
                if ans.len() == coins.len() { Ok(Self::Created(ans)) } else { Err(Status::PacketLength) }
            }
            (Request::DeleteCoins { coins, .. }, Status::Mixed) => bits(coins.len()),
            (Request::AllSerialNumbers { .. }, Status::Success) => Minted::decode(payload).map(Self::Minted),
            _ if payload.is_empty() => Ok(Self::Nothing),
            _ => Err(Status::PacketLength),
        }
    }
}

impl CommandKind {
    /// The status that says a command did all it was asked for.
    pub const fn success(self) -> Status {
        match self {
            Self::Echo | Self::Version | Self::CountCoins | Self::ChangeSerialNumbers | Self::Break | Self::Join => {
                Status::Success
            }
            Self::AvailableSerialNumbers | Self::CreateCoins | Self::FreeCoins | Self::AllSerialNumbers => {
                Status::Success
            }
            _ => Status::AllPass,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coin::Secret;
    use crate::wire::items::{RawCoin, SecretCoins, bytes_of};

    #[test]
    fn bits_come_with_mixed_alone() {
        let coins =
            bytes_of([(RawCoin { den: 0, sn: 1 }, Secret::default()), (RawCoin { den: 0, sn: 2 }, Secret::default())]);
        let request = Request::Detect { coins: SecretCoins::new(&coins).unwrap() };
        let Answer::Bits(bits) = Answer::decode(&request, Status::Mixed, &[2]).unwrap() else { panic!("not bits") };
        assert_eq!((bits.get(0), bits.get(1)), (false, true));
        assert_eq!(Answer::decode(&request, Status::AllPass, &[]), Ok(Answer::Nothing));
        assert_eq!(Answer::decode(&request, Status::AllPass, &[3]), Err(Status::PacketLength));
        assert_eq!(Answer::decode(&request, Status::Mixed, &[2, 0]), Err(Status::PacketLength));
    }

    #[test]
    fn lists_and_text() {
        let peek = Request::Peek { key: Secret::default() };
        let coins = bytes_of([RawCoin { den: 1, sn: 5 }]);
        assert_eq!(Answer::decode(&peek, Status::AllPass, &coins), Ok(Answer::Coins(Coins::new(&coins).unwrap())));
        assert_eq!(Answer::decode(&peek, Status::AllPass, &coins[1..]), Err(Status::NotDivisible));
        assert_eq!(Answer::decode(&peek, Status::AllFail, &[]), Ok(Answer::Nothing));
        assert_eq!(Answer::decode(&Request::Version, Status::Success, b"1.0"), Ok(Answer::Version("1.0")));
        assert_eq!(Answer::decode(&Request::Version, Status::Success, b"\xFF"), Err(Status::InvalidParameter));
        assert_eq!(Answer::decode(&Request::Echo, Status::Success, b""), Ok(Answer::Nothing));
    }

    #[test]
    fn a_byte_a_locker_with_every_status() {
        let payload = b"\x01\x00\x00locker sum......locker key..\xFF\xFF\xFF\xFF";
        let request = Request::decode(CommandKind::StoreMultiple.command(), payload).unwrap();
        for status in [Status::AllPass, Status::AllFail, Status::Mixed] {
            assert_eq!(Answer::decode(&request, status, &[1]), Ok(Answer::Lockers(&[1])));
            assert_eq!(Answer::decode(&request, status, &[]), Err(Status::PacketLength));
        }
        assert_eq!(Answer::decode(&request, Status::PacketLength, &[]), Ok(Answer::Nothing));
    }
}
