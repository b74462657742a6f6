//! A node for the client's tests: one map of coins behind real sockets, made of `wire` alone.
//!
//! It believes every sum it can compute and keeps no rule that the client does not depend on. What a client must
//! survive it does on demand: see [`Fault`].

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::coin::{CoinId, Denomination, Place, Secret};
use crate::settings::Identifier;
use crate::shard::market::public_identifier;
use crate::sim::payload::TREASURY_KEY;
use crate::wire::header::{self, Framing, KeyName, NodeIdentity, RequestHeader};
use crate::wire::items::{self, Bits, Coins, RawCoin, SecretCoin, SecretCoins};
use crate::wire::reply::{self, ReplyHead};
use crate::wire::request::change::{ChangeOffer, ChangeOperation};
use crate::wire::request::locker::{Offer, SaleTerms};
use crate::wire::request::status::Count;
use crate::wire::request::treasury::{Available, Minted};
use crate::wire::request::{CommandKind, Request};
use crate::wire::seal::{self, Key, Opened};
use crate::wire::status::Status;

/// Who the node is.
pub const NODE: NodeIdentity = NodeIdentity { raida_id: 7, coin_id: 6 };

/// What goes wrong with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is carried out, and the answer is lost.
    AnswerLost,
    /// It is not carried out, and not answered.
    RequestLost,
    /// It is carried out; what comes is a forged refusal, without a signature.
    ForgedRefusal,
    /// It is carried out, and an answer comes that is not signed with the key.
    ForgedSuccess,
    /// It is not carried out: this status is the answer.
    Refused(Status),
    /// Over UDP, the answers to other requests come before its own.
    StrangersFirst,
}

/// The node's state, shared with its threads.
#[derive(Default)]
pub struct State {
    /// The coins in circulation.
    pub coins: BTreeMap<RawCoin, Secret>,
    /// What goes wrong with the next request of a kind.
    pub fault: Option<(CommandKind, Fault)>,
    /// Requests seen.
    pub requests: usize,
}

/// A node that serves until the test's process ends.
#[derive(Clone)]
pub struct FakeNode {
    /// Where, over TCP and UDP.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// Sockets for TCP and UDP with one port.
pub fn stream_and_datagrams() -> (TcpListener, UdpSocket) {
    loop {
        let stream = TcpListener::bind("127.0.0.1:0").unwrap();
        // The same port may be taken for UDP.
        if let Ok(datagrams) = UdpSocket::bind(stream.local_addr().unwrap()) {
            return (stream, datagrams);
        }
    }
}

impl FakeNode {
    /// Starts one with these coins in circulation.
    pub fn start(coins: impl IntoIterator<Item = SecretCoin>) -> Self {
        let (stream, datagrams) = stream_and_datagrams();
        let state = State { coins: coins.into_iter().collect(), ..State::default() };
        let node = Self { address: stream.local_addr().unwrap(), state: Arc::new(Mutex::new(state)) };
        let (for_streams, for_datagrams) = (node.clone(), node.clone());
        std::thread::spawn(move || {
            for connection in stream.incoming() {
                let node = for_streams.clone();
                std::thread::spawn(move || node.serve(connection.unwrap()));
            }
        });
        std::thread::spawn(move || for_datagrams.serve_datagrams(&datagrams));
        node
    }

    /// Its state.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(&self, mut connection: TcpStream) {
        let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            match header::measure(&received, &NODE) {
                Framing::Frame(length) if length <= received.len() => {
                    let frame: Vec<_> = received.drain(..length).collect();
                    for answer in self.state().answer(&frame) {
                        // In two segments, as a network may.
                        let (start, end) = answer.split_at(answer.len() / 2);
                        connection.write_all(start).and_then(|()| connection.write_all(end)).unwrap_or_default();
                    }
                }
                Framing::Broken => {
                    let error = header::parse(&received, &NODE).unwrap_err();
                    let mut out = Vec::new();
                    let head = ReplyHead::for_error(&NODE, &error);
                    reply::write(&mut out, &head, &Key::None, error.status, 0, b"", [0; 24]);
                    return connection.write_all(&out).unwrap_or_default();
                }
                _ => match connection.read(&mut buffer) {
                    Ok(read) if read > 0 => received.extend_from_slice(&buffer[..read]),
                    _ => return,
                },
            }
        }
    }

    fn serve_datagrams(&self, socket: &UdpSocket) {
        let mut datagram = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut datagram) {
            for answer in self.state().answer(&datagram[..length]) {
                socket.send_to(&answer, from).unwrap();
            }
        }
    }
}

impl State {
    /// What is sent back for a whole, good frame.
    fn answer(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.requests += 1;
        let header = header::parse(frame, &NODE).unwrap();
        let fault = self.fault.take_if(|(kind, _)| *kind == header.command.kind).map(|(_, fault)| fault);
        let mut signed = Opened::default();
        let (key, mut payload, mut out) = (self.key(&header), Vec::new(), Vec::new());
        let opened = match &key {
            Err(status) => Err(*status),
            Ok(key) => seal::open(&header, key, header.body(frame).unwrap(), &mut payload),
        };
        let status = match (opened, fault) {
            (Err(status), _) => status,
            (Ok(opened), fault) => {
                signed = opened;
                match fault {
                    Some(Fault::RequestLost) => return Vec::new(),
                    Some(Fault::Refused(status)) => status,
                    _ => Request::decode(header.command, &payload)
                        .map_or_else(|status| status, |request| self.carry_out(&request, &mut out)),
                }
            }
        };
        let write = |head: &ReplyHead, status, payload: &[u8]| {
            let mut bytes = Vec::new();
            reply::write(&mut bytes, head, key.as_ref().unwrap_or(&Key::None), status, 5, payload, [9; 24]);
            bytes
        };
        let head = ReplyHead::new(&header, signed);
        match fault {
            Some(Fault::AnswerLost) => Vec::new(),
            Some(Fault::ForgedRefusal) => {
                vec![write(&ReplyHead::new(&header, Opened::default()), Status::AllFail, b"")]
            }
            Some(Fault::ForgedSuccess) => {
                let forged = ReplyHead::new(&header, Opened { signature: [0xAB; 16] });
                vec![write(&forged, Status::AllPass, b"")]
            }
            Some(Fault::StrangersFirst) => {
                let other = RequestHeader { nonce: header.nonce.map(|byte| byte ^ 0xFF), ..header };
                let stranger = write(&ReplyHead::new(&other, signed), Status::AllFail, b"");
                vec![b"nonsense".to_vec(), stranger, write(&head, status, &out)]
            }
            _ => vec![write(&head, status, &out)],
        }
    }

    fn key(&self, header: &RequestHeader) -> Result<Key, Status> {
        let an = |coin| self.coins.get(&coin);
        match header.key {
            KeyName::None => Ok(Key::None),
            KeyName::Coin(coin) => an(coin).map(|an| Key::of_secret(*an)).ok_or(Status::Encryption),
            KeyName::LockerPrefix(prefix) => {
                let mut keys = self.coins.values().filter(|an| matches!(an.place(), Place::Locker(_)));
                let key = keys.find(|key| key.bytes().starts_with(&prefix));
                key.map(|key| Key::of_secret(*key)).ok_or(Status::Encryption)
            }
            KeyName::Coin256(coin) => an(coin).map(Key::of_coin).ok_or(Status::EncryptionCoinNotFound),
            KeyName::TwoCoins256(first, second) => match (an(first), an(second)) {
                (Some(first), Some(second)) => Ok(Key::of_two_coins(first, second)),
                _ => Err(Status::EncryptionCoinNotFound),
            },
        }
    }

    fn holds(&self, coin: RawCoin, an: Secret) -> bool {
        self.coins.get(&coin) == Some(&an)
    }

    fn sum_is(&self, coins: Coins<'_>, sum: Secret) -> bool {
        let ans = coins.iter().map(|coin| self.coins.get(&coin).copied());
        ans.collect::<Option<Vec<_>>>().is_some_and(|ans| ans.into_iter().fold(sum, Secret::xor) == Secret::default())
    }

    fn set_all(&mut self, coins: Coins<'_>, sum: Secret, an: impl Fn(Secret) -> Secret) -> Status {
        if !self.sum_is(coins, sum) {
            return Status::AllFail;
        }
        coins.iter().for_each(|coin| _ = self.coins.entry(coin).and_modify(|held| *held = an(*held)));
        Status::AllPass
    }

    /// Sets the AN of each coin that is proved, and says which were.
    fn set_each(&mut self, coins: impl Iterator<Item = (RawCoin, Secret, Secret)>, out: &mut Vec<u8>) -> Status {
        let done: Vec<bool> = coins
            .map(|(coin, an, pan)| {
                let proved = self.holds(coin, an);
                if proved {
                    self.coins.insert(coin, pan);
                }
                proved
            })
            .collect();
        bits(&done, out)
    }

    /// Coins with this AN.
    fn with_an(&self, an: Secret) -> Vec<RawCoin> {
        self.coins.iter().filter(|(_, held)| **held == an).map(|(coin, _)| *coin).collect()
    }

    /// Moves the coins of one AN, frees them without a new one.
    fn move_all(&mut self, an: Secret, to: Option<Secret>) -> Status {
        let coins = self.with_an(an);
        for coin in &coins {
            self.coins.remove(coin);
            self.coins.extend(to.map(|to| (*coin, to)));
        }
        if coins.is_empty() { Status::AllFail } else { Status::AllPass }
    }

    fn peek(&self, an: Secret, out: &mut Vec<u8>) -> Status {
        let coins = self.with_an(an);
        let status = if coins.is_empty() { Status::AllFail } else { Status::AllPass };
        items::append(out, coins);
        status
    }

    /// Trade lockers: AN, terms, value.
    fn offers(&self) -> BTreeMap<[u8; 16], (Secret, SaleTerms, u64)> {
        let mut offers = BTreeMap::new();
        for (coin, an) in &self.coins {
            if let Some(terms) = SaleTerms::of(an) {
                let offer = offers.entry(*an.bytes()).or_insert((*an, terms, 0));
                offer.2 += coin.id().map_or(0, |coin: CoinId| coin.denomination().value());
            }
        }
        offers
    }

    fn exchange(&mut self, given: &[SecretCoin], made: &[SecretCoin]) -> Status {
        if !given.iter().all(|(coin, an)| self.holds(*coin, *an)) {
            return Status::AllFail;
        }
        given.iter().for_each(|(coin, _)| _ = self.coins.remove(coin));
        self.coins.extend(made.iter().copied());
        Status::Success
    }

    /// What needs the treasury's key, once it is right. A created coin's AN is its serial number.
    fn treasury(&mut self, request: &Request<'_>, out: &mut Vec<u8>) -> Status {
        match request {
            Request::AvailableSerialNumbers { denominations, .. } => {
                for den in denominations.denominations() {
                    let free = (700..720).filter(|sn| !self.coins.contains_key(&RawCoin { den: den.get(), sn: *sn }));
                    Available::append(out, den, &free.collect::<Vec<_>>());
                }
            }
            Request::CreateCoins { coins, .. } => {
                let created = coins.iter().map(|coin| (coin, Secret::new(u128::from(coin.sn).to_be_bytes())));
                items::append(out, created.clone().map(|(_, an)| an));
                self.coins.extend(created);
            }
            Request::DeleteCoins { coins, .. } => {
                let deleted: Vec<bool> = coins.iter().map(|(coin, an)| self.holds(coin, an)).collect();
                let gone = coins.iter().zip(&deleted).filter(|(_, deleted)| **deleted);
                gone.for_each(|((coin, _), _)| _ = self.coins.remove(&coin));
                return bits(&deleted, out);
            }
            Request::FreeCoins { coins, .. } => coins.iter().for_each(|coin| _ = self.coins.remove(&coin)),
            Request::AllSerialNumbers { den, .. } => {
                let bitmap = Minted::append(out, Denomination::new(*den).unwrap());
                let of_den = self.coins.keys().filter(|coin| coin.den == *den);
                of_den.for_each(|coin| bitmap[coin.sn as usize / 8] |= 1 << (coin.sn % 8));
            }
            other => unreachable!("{other:?} needs no key"),
        }
        Status::Success
    }

    fn carry_out(&mut self, request: &Request<'_>, out: &mut Vec<u8>) -> Status {
        let of = |coins: &SecretCoins<'_>| coins.iter().collect::<Vec<_>>();
        match request {
            Request::Echo => Status::Success,
            Request::Version => {
                out.extend_from_slice(b"fake 1");
                Status::Success
            }
            Request::CountCoins => {
                let count = |den| self.coins.keys().filter(|coin| coin.den == den).count() as u32;
                items::append(out, (-8..=6).map(|den| Count { den, coins: count(den) }));
                Status::Success
            }
            Request::Detect { coins } => {
                let held: Vec<_> = coins.iter().map(|(coin, an)| self.holds(coin, an)).collect();
                bits(&held, out)
            }
            Request::DetectSum { coins, sum } => {
                if self.sum_is(*coins, *sum) {
                    Status::AllPass
                } else {
                    Status::AllFail
                }
            }
            Request::Pown { coins } => self.set_each(coins.iter(), out),
            Request::PownSum { coins, sum, delta } => self.set_all(*coins, *sum, |an| an.xor(*delta)),
            Request::AvailableSerialNumbers { key, .. }
            | Request::CreateCoins { key, .. }
            | Request::DeleteCoins { key, .. }
            | Request::FreeCoins { key, .. }
            | Request::AllSerialNumbers { key, .. } => match key.bytes() {
                &TREASURY_KEY => self.treasury(request, out),
                _ => Status::AdminAuth,
            },
            Request::Store { coins, sum, key } => self.set_all(*coins, *sum, |_| *key),
            Request::PutForSale { coins, sum, an, .. } => self.set_all(*coins, *sum, |_| *an),
            Request::Peek { key } => self.peek(*key, out),
            Request::Remove { key, coins } => self.set_each(coins.iter().map(|(coin, pan)| (coin, *key, pan)), out),
            Request::PeekTradeLocker { identifier } => {
                let mut offers = self.offers().into_values();
                let an = offers.find(|(an, ..)| public_identifier(an, Identifier::Hashed) == *identifier);
                an.map_or(Status::AllFail, |(an, ..)| self.peek(an, out))
            }
            Request::ListForSale { coin_type, max } => {
                let offers = self.offers().into_values().filter(|(_, terms, _)| terms.coin_type == *coin_type);
                let identifier = |an| public_identifier(&an, Identifier::Hashed);
                let listed = offers.map(|(an, terms, value)| Offer {
                    identifier: identifier(an),
                    coin_type: terms.coin_type as u8,
                    value,
                    price: terms.price,
                });
                items::append(out, listed.take(usize::from(*max)));
                Status::AllPass
            }
            Request::Buy { key, coin_type, value, price, .. } => {
                let terms = SaleTerms { coin_type: *coin_type, price: *price };
                let found =
                    self.offers().into_values().find(|(_, offered, worth)| (*offered, *worth) == (terms, *value));
                found.map_or(Status::TradeLockerNotFound, |(an, ..)| self.move_all(an, Some(*key)))
            }
            Request::RemoveTradeLocker { an, key } => self.move_all(*an, *key),
            Request::StoreMultiple { lockers } => {
                let stored = lockers.iter().map(|(coins, sum, key)| self.set_all(coins, sum, |_| key));
                let stored: Vec<bool> = stored.map(|status| status == Status::AllPass).collect();
                out.extend(stored.iter().map(|stored| u8::from(*stored)));
                verdict(&stored)
            }
            Request::ChangeSerialNumbers { operation, den, .. } => {
                let target = if *operation == ChangeOperation::Break { den - 1 } else { den + 1 };
                let free = (500..).filter(|sn| !self.coins.contains_key(&RawCoin { den: target, sn: *sn }));
                ChangeOffer::append(out, target, free.take(12).collect::<Vec<_>>());
                Status::Success
            }
            Request::Break { source, targets, .. } => self.exchange(&[*source], &of(targets)),
            Request::Join { target, sources, .. } => self.exchange(&of(sources), &[*target]),
        }
    }
}

fn verdict(done: &[bool]) -> Status {
    match (done.contains(&true), done.contains(&false)) {
        (true, false) => Status::AllPass,
        (true, true) => Status::Mixed,
        _ => Status::AllFail,
    }
}

fn bits(done: &[bool], out: &mut Vec<u8>) -> Status {
    let status = verdict(done);
    if status == Status::Mixed {
        Bits::append(out, done.iter().copied());
    }
    status
}
