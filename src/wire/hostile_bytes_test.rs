//! Whatever arrives, nothing panics; and what is encoded is decoded to the same.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::coin::{PayoutAddress, Secret, TradeCoin};

use super::header::{self, Framing, KeyName, NodeIdentity};
use super::items::{Coins, PownCoins, RawCoin, SecretCoins, bytes_of};
use super::reply::{self, ReplyHead};
use super::request::answer::Answer;
use super::request::change::ChangeOperation;
use super::request::locker::{Lockers, SaleTerms};
use super::request::treasury::Wanted;
use super::request::{COMMANDS, Command, Request};
use super::seal::{self, Key, RequestRandom, Sealed};
use super::status::Status;

const NODE: NodeIdentity = NodeIdentity { raida_id: 3, coin_id: 6 };

fn a_secret() -> impl Strategy<Value = Secret> {
    any::<[u8; 16]>().prop_map(Secret::new)
}

fn a_locker_key() -> impl Strategy<Value = Secret> {
    any::<[u8; 16]>().prop_map(|mut bytes| {
        bytes[12..].fill(0xFF);
        Secret::new(bytes)
    })
}

fn a_coin() -> impl Strategy<Value = RawCoin> {
    any::<(i8, u32)>().prop_map(|(den, sn)| RawCoin { den, sn })
}

/// The encryption of a type byte, with keys of these coins and secrets; a byte without a type: none.
fn encryption(code: u8, coins: [RawCoin; 2], secrets: [Secret; 2]) -> (KeyName, Key) {
    let prefix = secrets[0].bytes().first_chunk().copied().unwrap_or_default();
    match code {
        1 => (KeyName::Coin(coins[0]), Key::of_secret(secrets[0])),
        2 => (KeyName::LockerPrefix(prefix), Key::of_secret(secrets[0])),
        4 => (KeyName::Coin256(coins[0]), Key::of_coin(&secrets[0])),
        5 => (KeyName::TwoCoins256(coins[0], coins[1]), Key::of_two_coins(&secrets[0], &secrets[1])),
        _ => (KeyName::None, Key::None),
    }
}

/// Bytes that pass the header's checks more often than not, so that what is behind them is reached.
fn a_frame() -> impl Strategy<Value = Vec<u8>> {
    let command = (0..COMMANDS.len()).prop_map(|index| &COMMANDS[index]);
    (command, 0u8..6, vec(any::<u8>(), 0..400), any::<Option<(usize, u8)>>()).prop_map(
        |(command, code, mut bytes, change)| {
            let start =
                [1, 0, 3, 0, command.group, command.code, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, code].into_iter().zip(0..);
            start.take(bytes.len()).for_each(|(byte, at)| bytes[at] = byte);
            if let Some((at, byte)) = change
                && !bytes.is_empty()
            {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            bytes
        },
    )
}

/// What a request of each command can be made of.
#[derive(Clone, Debug)]
struct Parameters {
    coins: Vec<u8>,
    secret_coins: Vec<u8>,
    pown_coins: Vec<u8>,
    lockers: Vec<u8>,
    exchange: Vec<u8>,
    secrets: [Secret; 2],
    key: Secret,
    numbers: (u64, u32, u8),
    coin_type: TradeCoin,
    bytes: ([u8; 32], [u8; 16]),
    text: Vec<u8>,
}

impl Parameters {
    /// A request of every command, such as decoding lets through.
    fn requests(&self) -> Vec<Request<'_>> {
        let coins = Coins::new(&self.coins).unwrap();
        let secret_coins = SecretCoins::new(&self.secret_coins).unwrap();
        let (exchange, [sum, other], key) = (SecretCoins::new(&self.exchange).unwrap(), self.secrets, self.key);
        let (value, number, max) = self.numbers;
        let (coin_type, larger) = (self.coin_type, secret_coins.get(0).unwrap());
        let an = SaleTerms { coin_type, price: number }.an([max; 9]);
        let address = PayoutAddress::new(&self.text).unwrap();
        let command = Command::find(8, 88).unwrap();
        vec![
            Request::Echo,
            Request::Version,
            Request::CountCoins,
            Request::Detect { coins: secret_coins },
            Request::DetectSum { coins, sum },
            Request::Pown { coins: PownCoins::new(&self.pown_coins).unwrap() },
            Request::PownSum { coins, sum, delta: other },
            Request::AvailableSerialNumbers { session: number.max(1), key: other, denominations: Wanted(self.bytes.1) },
            Request::CreateCoins { session: number, key: other, coins },
            Request::DeleteCoins { key: other, coins: secret_coins },
            Request::FreeCoins { session: number, key: other, coins },
            Request::AllSerialNumbers { key: other, den: larger.0.den },
            Request::PeekTradeLocker { identifier: self.bytes.1 },
            Request::Store { coins, sum, key },
            Request::Peek { key: other },
            Request::Remove { key: other, coins: secret_coins },
            Request::PutForSale { coins, sum, an, address },
            Request::ListForSale { coin_type, max },
            Request::Buy {
                key,
                coin_type,
                value,
                price: number,
                txid: self.bytes.0,
                receipt: self.bytes.1,
                memo: &self.text,
            },
            Request::decode(command, &self.lockers).unwrap(),
            Request::RemoveTradeLocker { an, key: None },
            Request::RemoveTradeLocker { an, key: Some(key) },
            Request::ChangeSerialNumbers {
                session: number.max(1),
                operation: ChangeOperation::Break,
                den: larger.0.den,
            },
            Request::Break { session: number, source: larger, targets: exchange },
            Request::Join { session: number, target: larger, sources: exchange },
        ]
    }
}

prop_compose! {
    fn parameters()(
        coins in vec((a_coin(), a_secret(), a_secret()), 1..40),
        exchange in vec((a_coin(), a_secret()), 10),
        secrets in [a_secret(), a_secret()],
        key in a_locker_key(),
        numbers in any::<(u64, u32, u8)>(),
        coin_type in proptest::sample::select(TradeCoin::ALL.as_slice()),
        bytes in any::<([u8; 32], [u8; 16])>(),
        text in vec(any::<u8>(), 16..=120),
        lockers in 1usize..20,
    ) -> Parameters {
        let plain = bytes_of(coins.iter().map(|coin| coin.0));
        let list = (0..lockers).map(|locker| (Coins::new(&plain[..locker % coins.len() * 5]).unwrap(), secrets[0], key));
        Parameters {
            lockers: Lockers::payload(list.collect::<Vec<_>>().into_iter()),
            coins: plain,
            secret_coins: bytes_of(coins.iter().map(|coin| (coin.0, coin.1))),
            pown_coins: bytes_of(coins.iter().copied()),
            exchange: bytes_of(exchange),
            secrets, key, numbers, coin_type, bytes, text,
        }
    }
}

proptest! {
    #[test]
    fn any_frame_is_measured_parsed_and_opened_or_refused(
        frame in a_frame(),
        coins in [a_coin(), a_coin()],
        secrets in [a_secret(), a_secret()],
    ) {
        let framing = header::measure(&frame, &NODE);
        match header::parse(&frame, &NODE) {
            Ok(header) => {
                prop_assert_eq!(framing, Framing::Frame(header.header_bytes() + header.body_length));
                let (_, key) = encryption(header.encryption() as u8, coins, secrets);
                // The body as the header says it, and all that is there.
                for body in [header.body(&frame).unwrap_or_default(), &frame[header.header_bytes()..]] {
                    let mut payload = Vec::new();
                    let opened = seal::open(&header, &key, body, &mut payload);
                    prop_assert!(opened.is_ok() || payload.is_empty());
                    let challenge = seal::locker_challenge(body);
                    challenge.map(|challenge| seal::locker_key_fits(&header, &secrets[0], &challenge));
                }
            }
            Err(error) => {
                let incomplete = error.status == Status::PacketLength;
                prop_assert_eq!(framing, if incomplete { Framing::Incomplete } else { Framing::Broken });
            }
        }
    }

    #[test]
    fn any_payload_is_decoded_or_refused(index in 0..COMMANDS.len(), payload in vec(any::<u8>(), 0..500)) {
        if let Ok(request) = Request::decode(&COMMANDS[index], &payload) {
            prop_assert_eq!(request.command(), &COMMANDS[index]);
            let mut encoded = Vec::new();
            request.encode(&mut encoded);
            prop_assert_eq!(Request::decode(&COMMANDS[index], &encoded), Ok(request));
        }
    }

    #[test]
    fn any_reply_is_read_or_refused(
        code in 0u8..6,
        coins in [a_coin(), a_coin()],
        secrets in [a_secret(), a_secret()],
        mut bytes in vec(any::<u8>(), 0..300),
        fitting in any::<bool>(),
    ) {
        let (key_name, key) = encryption(code, coins, secrets);
        let (mut request, command) = (Vec::new(), Command::find(0, 0).unwrap());
        let random = RequestRandom { nonce: [0; 24], challenge: [0; 12] };
        let sealed = seal::seal(&mut request, NODE, command, (key_name, &key), b"", random).unwrap();
        if fitting && bytes.len() >= 48 {
            // Everything right but what a key proves.
            let body = bytes.len() - key_name.encryption().header_bytes();
            bytes[..4].copy_from_slice(&[3, 0, 250, 0]);
            bytes[8..12].copy_from_slice(&(body as u32).to_be_bytes());
            bytes[16] = code;
            bytes[6..8].fill(0);
            bytes[46..48].fill(0);
            bytes.extend_from_slice(&seal::TERMINATOR);
        }
        reply::measure_reply(&bytes, key_name.encryption());
        let mut payload = Vec::new();
        let result = reply::read(&bytes, &sealed, &key, &mut payload);
        prop_assert!(result.is_ok() || payload.is_empty());
    }

    #[test]
    fn any_answer_is_decoded_or_refused(
        parameters in parameters(),
        status in proptest::sample::select(Status::ALL),
        payload in vec(any::<u8>(), 0..300),
    ) {
        for request in parameters.requests() {
            if let Ok(Answer::Nothing) = Answer::decode(&request, status, &payload) {
                assert!(payload.is_empty());
            }
        }
    }

    #[test]
    fn every_request_travels_through_every_encryption(
        parameters in parameters(),
        coins in [a_coin(), a_coin()],
        secrets in [a_secret(), a_secret()],
        random in any::<([u8; 24], [u8; 12])>(),
        code in proptest::sample::select([0u8, 1, 2, 4, 5].as_slice()),
    ) {
        let (key_name, key) = encryption(code, coins, secrets);
        for request in parameters.requests() {
            let (mut plain, mut frame, mut payload) = (Vec::new(), Vec::new(), Vec::new());
            request.encode(&mut plain);
            let random = RequestRandom { nonce: random.0, challenge: random.1 };
            let sealed: Sealed =
                seal::seal(&mut frame, NODE, request.command(), (key_name, &key), &plain, random).unwrap();
            assert_eq!(header::measure(&frame, &NODE), Framing::Frame(frame.len()));
            let header = header::parse(&frame, &NODE).unwrap();
            assert_eq!(header, sealed.header);
            let body = header.body(&frame).unwrap();
            let opened = seal::open(&header, &key, body, &mut payload).unwrap();
            assert_eq!(Request::decode(header.command, &payload), Ok(request));

            let (mut out, mut answer) = (Vec::new(), Vec::new());
            reply::write(&mut out, &ReplyHead::new(&header, opened), &key, Status::Success, 7, &plain, [8; 24]);
            let summary = reply::read(&out, &sealed, &key, &mut answer).unwrap();
            assert_eq!((summary.status, summary.micros), (Status::Success, 7));
            assert_eq!(answer, plain);
        }
    }
}
