//! Every payload of every command: decoded to a request that is written as it was read, or refused as the protocol
//! says; and every answer, which a client reads.

use raida::coin::{PayoutAddress, Secret, TradeCoin};
use raida::wire::items::{Coins, PownCoins, RawCoin, SecretCoins, bytes_of};
use raida::wire::request::CommandKind::{self, *};
use raida::wire::request::answer::Answer;
use raida::wire::request::change::ChangeOperation;
use raida::wire::request::locker::{Lockers, SaleTerms};
use raida::wire::request::treasury::{Available, Wanted};
use raida::wire::request::{COMMANDS, Command, PayloadLength, Request};
use raida::wire::status::Status;

use crate::input::Input;

/// Reads a command, a status and the payload: as a request, then as an answer to it.
pub fn run(bytes: &[u8]) -> bool {
    let mut input = Input(bytes);
    let command = &COMMANDS[input.below(COMMANDS.len())];
    let status = Status::ALL[input.below(Status::ALL.len())];
    let payload = input.rest();
    match Request::decode(command, payload) {
        Ok(request) => {
            check_good(command, payload, &request);
            check_answer(&request, status, payload);
            true
        }
        Err(status) => {
            assert!(may_refuse(command, status), "{command} refused with {status}");
            false
        }
    }
}

fn check_good(command: &Command, payload: &[u8], request: &Request<'_>) {
    assert_eq!(request.command(), command);
    command.payload.check(payload.len()).expect("a length that the table allows");
    let mut encoded = Vec::with_capacity(payload.len());
    request.encode(&mut encoded);
    match request {
        Request::Echo | Request::Version | Request::CountCoins => assert!(encoded.is_empty()),
        // What follows an address is not looked at, and written as zeros.
        Request::PutForSale { address, .. } => {
            let end = payload.len() - PayoutAddress::BYTES + 1 + address.as_bytes().len();
            assert_eq!(encoded[..end], payload[..end]);
            assert!(encoded.len() == payload.len() && encoded[end..].iter().all(|&byte| byte == 0));
        }
        _ => assert_eq!(encoded, payload),
    }
    assert_eq!(Request::decode(command, &encoded), Ok(*request));
}

/// Whether a command may be refused so before any coin is looked at.
fn may_refuse(command: &Command, status: Status) -> bool {
    let is_list = matches!(command.payload, PayloadLength::List { .. });
    match status {
        Status::PacketLength => command.payload != PayloadLength::Any,
        Status::NotDivisible => is_list,
        Status::InvalidPan => {
            matches!(command.kind, Pown | Store | Remove | PutForSale | RemoveTradeLocker | Break | Join)
        }
        Status::TradeCoin => matches!(command.kind, PutForSale | ListForSale | Buy),
        Status::InvalidParameter => {
            matches!(command.kind, PutForSale | Buy | StoreMultiple | ChangeSerialNumbers | AvailableSerialNumbers)
        }
        _ => false,
    }
}

/// Any bytes are an answer or none, and every item of one can be looked at.
fn check_answer(request: &Request<'_>, status: Status, payload: &[u8]) {
    let bytes = match Answer::decode(request, status, payload) {
        Err(error) => {
            let known = [Status::PacketLength, Status::NotDivisible, Status::InvalidParameter].contains(&error);
            return assert!(known, "{error}");
        }
        Ok(Answer::Nothing) => 0,
        Ok(Answer::Version(text)) => text.len(),
        Ok(Answer::Counts(counts)) => counts.iter().count() * 5,
        Ok(Answer::Bits(_)) => payload.len(),
        Ok(Answer::Coins(coins)) => coins.iter().count() * 5,
        Ok(Answer::Offers(offers)) => offers.iter().count() * 29,
        Ok(Answer::Lockers(stored)) => stored.len(),
        Ok(Answer::Change(offer)) => 1 + offer.serial_numbers.iter().count() * 4,
        Ok(Answer::Available(mut rest)) => {
            let mut bytes = 0;
            while !rest.is_empty() {
                let available = Available::take(&mut rest).expect("it was looked at");
                bytes += 3 + available.ranges.iter().count() * 8 + available.singles.iter().count() * 4;
            }
            bytes
        }
        Ok(Answer::Created(ans)) => ans.iter().count() * 16,
        Ok(Answer::Minted(_)) => 5 + 128_000,
    };
    assert_eq!(bytes, payload.len());
}

/// A request of every command, with two coins, or as many as it takes.
pub fn seeds() -> Vec<Vec<u8>> {
    let (an, pan) = (Secret::new(*b"0123456789abcdef"), Secret::new(*b"ABCDEFGHIJKLMNOP"));
    let key = Secret::new(*b"locker key..\xFF\xFF\xFF\xFF");
    let coin = |sn| RawCoin { den: 1, sn };
    let coins = bytes_of([coin(1), coin(2)]);
    let (an_coins, pown_coins) =
        (bytes_of([1, 2].map(|sn| (coin(sn), an))), bytes_of([1, 2].map(|sn| (coin(sn), an, pan))));
    let ten = bytes_of((0..10).map(|sn| (RawCoin { den: 0, sn }, pan)));
    let coins = Coins::new(&coins).expect("two coins");
    let an_coins = SecretCoins::new(&an_coins).expect("two coins");
    let ten = SecretCoins::new(&ten).expect("ten coins");
    let trade_an = SaleTerms { coin_type: TradeCoin::Bitcoin, price: 7 }.an(*b"ninebytes");
    let address = PayoutAddress::new(b"an address of twenty").expect("long enough");
    let lockers = Lockers::payload([(coins, an, key), (coins, pan, key)].into_iter());
    let buy = Request::Buy {
        key,
        coin_type: TradeCoin::Bitcoin,
        value: 300_000_000,
        price: 7,
        txid: [1; 32],
        receipt: [2; 16],
        memo: b"a memo",
    };
    let requests = [
        Request::Echo,
        Request::Version,
        Request::CountCoins,
        Request::Detect { coins: an_coins },
        Request::DetectSum { coins, sum: an },
        Request::Pown { coins: PownCoins::new(&pown_coins).expect("two coins") },
        Request::PownSum { coins, sum: an, delta: pan },
        Request::AvailableSerialNumbers { session: 7, key: pan, denominations: Wanted([1; 16]) },
        Request::CreateCoins { session: 7, key: pan, coins },
        Request::DeleteCoins { key: pan, coins: an_coins },
        Request::FreeCoins { session: 7, key: pan, coins },
        Request::AllSerialNumbers { key: pan, den: 1 },
        Request::PeekTradeLocker { identifier: *trade_an.bytes() },
        Request::Store { coins, sum: an, key },
        Request::Peek { key },
        Request::Remove { key, coins: an_coins },
        Request::PutForSale { coins, sum: an, an: trade_an, address },
        Request::ListForSale { coin_type: TradeCoin::Bitcoin, max: 9 },
        buy,
        Request::decode(StoreMultiple.command(), &lockers).expect("two lockers"),
        Request::RemoveTradeLocker { an: trade_an, key: None },
        Request::RemoveTradeLocker { an: trade_an, key: Some(key) },
        Request::ChangeSerialNumbers { session: 5, operation: ChangeOperation::Break, den: 1 },
        Request::Break { session: 5, source: (coin(1), an), targets: ten },
        Request::Join { session: 5, target: (coin(1), pan), sources: ten },
    ];
    requests.iter().map(|request| seed(request.kind(), request)).collect()
}

/// As [`run`] reads it, with the status of success.
fn seed(kind: CommandKind, request: &Request<'_>) -> Vec<u8> {
    let status = Status::ALL.iter().position(|&status| status == kind.success()).expect("a status");
    let mut bytes = vec![kind as u8, status as u8];
    request.encode(&mut bytes);
    bytes
}
