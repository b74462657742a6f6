//! Whole frames of several clients through the shards of a node: raw bytes, sealed bytes that mean nothing, and requests
//! about the coins there are, of every encryption, some altered; while pages are evicted, time passes, the disk fails
//! and the machine stops.
//!
//! Of all of it must be true: each request is answered once, or its connection closed; nothing waits for ever; what the
//! coins are worth together stays, but for those that a *remove trade locker* frees, and in some stories the treasury; every list of coins, of lockers and
//! of trade lockers is that of the coins; and what the node says before a crash it says after it.

pub mod payload;

use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr};

use raida::coin::{CoinId, Place, Secret};
use raida::settings::Treasury;
use raida::sim::payload::TREASURY_KEY;
use raida::sim::{Client, Seeded, World};
use raida::store::recovery;
use raida::store::storage::Memory;
use raida::wire::header::{Framing, KeyName, LEGACY_BYTES, NodeIdentity, measure, parse};
use raida::wire::items::{self, Coins, RawCoin, SecretCoins};
use raida::wire::reply::measure_reply;
use raida::wire::request::answer::Answer;
use raida::wire::request::{COMMANDS, CommandKind, Request};
use raida::wire::seal::Key;
use raida::wire::status::Status;

use crate::input::Input;
use crate::world::{self, Contents};
use payload::{Maker, Offered};

/// Things that happen in one story.
const EVENTS_MAX: usize = 60;

/// Requests of each command that did what they asked for, by the command's place in the table.
pub type Done = [usize; COMMANDS.len()];

/// Tells the story that the bytes say. Goes all the way: something was asked for and done.
pub fn run(bytes: &[u8]) -> bool {
    tell(bytes).iter().any(|&done| done > 0)
}

/// Tells the story that the bytes say, and what was done in it.
pub fn tell(bytes: &[u8]) -> Done {
    let mut input = Input(bytes);
    let mut story = Story::new(&mut input);
    for _ in 0..EVENTS_MAX {
        if input.is_over() {
            break;
        }
        story.event(&mut input);
    }
    story.end(&mut input);
    story.done
}

/// A request that is not answered yet.
struct Sent {
    client: Client,
    token: u64,
    /// The command and payload of a frame that was sealed; of a raw one the encryption's byte.
    what: Result<(CommandKind, Vec<u8>), u8>,
}

struct Story {
    world: World,
    shards: u8,
    sent: Vec<Sent>,
    /// The coins when last looked at.
    contents: Contents,
    offered: Option<Offered>,
    /// Whether the treasury is open, and some clients are on its machine.
    treasury: bool,
    /// Whether a request that frees coins was under way since then, or one that creates some.
    freed: bool,
    created: bool,
    done: Done,
}

impl Story {
    fn new(input: &mut Input<'_>) -> Self {
        thread_local! {
            static START: OnceCell<(Memory, Contents)> = const { OnceCell::new() };
        }
        let shards = 1 + input.byte() % 3;
        let options = world::options(shards, u64::from(input.byte()));
        let (storage, contents) = START.with(|start| {
            start
                .get_or_init(|| {
                    let mut node = world::node(1, 1);
                    assert!(node.shut_down());
                    let contents = Contents::open(&node.storage, 1).expect("a data directory");
                    (node.storage.clone(), contents)
                })
                .clone()
        });
        let mut world = World::on(storage, &options);
        if input.below(4) == 1 {
            world.settings.requests_max = 4;
        }
        let treasury = input.below(2) == 1;
        if treasury {
            let networks = ["127.0.0.0/8"].map(|network| network.parse().expect("a network"));
            let key = Secret::new(TREASURY_KEY).into();
            world.settings.treasury = Some(Treasury { key, networks: networks.into() });
        }
        world.start();
        Self {
            world,
            shards,
            sent: Vec::new(),
            contents,
            offered: None,
            treasury,
            freed: false,
            created: false,
            done: Done::default(),
        }
    }

    fn event(&mut self, input: &mut Input<'_>) {
        match input.below(20) {
            0 => self.send_raw(input),
            1 => {
                let (client, kind, length) = (self.client(input), kind(input), input.below(200));
                let payload = input.slice(length).to_vec();
                self.send(client, kind, payload);
            }
            2 => self.settle(),
            3 => (0..input.byte()).for_each(|_| _ = self.world.advance()),
            4 => {
                let seconds = 1 << (input.byte() % 20);
                self.world.monotonic_us += seconds * 1_000_000;
                self.world.unix_ms += seconds * 1_000;
            }
            5 => self.look(),
            6 => self.crash(1 + input.byte() % 3),
            7 => self.fail(input),
            _ => {
                let (client, kind) = (self.client(input), kind(input));
                let makes = matches!(kind, CommandKind::Break | CommandKind::Join | CommandKind::CreateCoins);
                if makes && input.below(4) > 0 {
                    self.reserve(kind == CommandKind::Break, input);
                }
                let maker = Maker { contents: &self.contents, offered: self.offered.as_ref() };
                let mut payload = maker.payload(kind, input);
                if input.below(8) == 1 {
                    alter(&mut payload, input);
                }
                self.send(client, kind, payload);
            }
        }
    }

    /// A client at some shard, with a key that is right more often than not.
    fn client(&self, input: &mut Input<'_>) -> Client {
        let rows: Vec<(CoinId, Secret)> = self.contents.rows().collect();
        let choice = input.byte();
        let right = choice < 240;
        let mut coin = || {
            let number = input.below(256);
            let (coin, an) = rows.get(number % rows.len().max(1)).copied().map_or_else(
                || (RawCoin { den: number as i8, sn: 1 }, Secret::default()),
                |(coin, an)| (coin.into(), an),
            );
            (coin, if right { an } else { an.xor(Secret::new([number as u8; 16])) })
        };
        let (key_name, key) = match choice % 8 {
            1 => {
                let (coin, an) = coin();
                (KeyName::Coin(coin), Key::of_secret(an))
            }
            2 => {
                let locker = rows.iter().find(|row| matches!(row.1.place(), Place::Locker(_)));
                let an = locker.map_or_else(|| coin().1, |row| row.1);
                (KeyName::LockerPrefix(*an.bytes().first_chunk().expect("5 of 16 bytes")), Key::of_secret(an))
            }
            4 => {
                let (coin, an) = coin();
                (KeyName::Coin256(coin), Key::of_coin(&an))
            }
            5 => {
                let ((first, an), (second, other)) = (coin(), coin());
                (KeyName::TwoCoins256(first, second), Key::of_two_coins(&an, &other))
            }
            _ => (KeyName::None, Key::None),
        };
        let shard = input.byte();
        let peer = match shard / 4 % 2 {
            1 if self.treasury => Ipv4Addr::LOCALHOST,
            other => Ipv4Addr::new(192, 0, 2, other),
        };
        Client { shard: shard % self.shards, peer: IpAddr::V4(peer), datagram: shard >= 128, key_name, key }
    }

    /// Asks for serial numbers to break or join into, and waits for them.
    fn reserve(&mut self, breaks: bool, input: &mut Input<'_>) {
        let (session, operation) = (1 + input.byte() % 4, if breaks { 1 } else { 2 });
        let den = input.byte() % 2 + u8::from(breaks);
        let payload = vec![0, 0, 0, session, operation, den.wrapping_sub(1)];
        self.send(Client::default(), CommandKind::ChangeSerialNumbers, payload);
        self.settle();
    }

    fn send(&mut self, client: Client, kind: CommandKind, payload: Vec<u8>) {
        self.freed |= kind == CommandKind::RemoveTradeLocker;
        self.freed |= self.treasury && matches!(kind, CommandKind::DeleteCoins | CommandKind::FreeCoins);
        self.created |= self.treasury && kind == CommandKind::CreateCoins;
        let token = self.world.send_payload(&client, kind.command(), &payload);
        self.sent.push(Sent { client, token, what: Ok((kind, payload)) });
    }

    /// Sends bytes as they are, cut as the driver of a shard cuts a stream.
    fn send_raw(&mut self, input: &mut Input<'_>) {
        let (client, length) = (self.client(input), input.below(200));
        let mut frame = input.slice(length).to_vec();
        let node = NodeIdentity { raida_id: self.world.settings.raida_id, coin_id: self.world.settings.coin_id };
        if !client.datagram {
            match measure(&frame, &node) {
                Framing::Incomplete => return,
                Framing::Broken => frame.truncate(LEGACY_BYTES),
                Framing::Frame(length) => frame.resize(length, 0),
            }
        }
        self.freed |= parse(&frame, &node).is_ok_and(|header| header.command.kind == CommandKind::RemoveTradeLocker);
        let token = self.world.send_frame(&client, &frame);
        self.sent.push(Sent { client, token, what: Err(frame.get(16).copied().unwrap_or(0)) });
    }

    /// Lets everything under way come to its end: each request is answered once, or closed.
    fn settle(&mut self) {
        self.world.settle();
        for shard in 0..self.shards {
            assert!(self.world.shard(shard).is_idle(), "a request waits with nothing to wait for");
        }
        for sent in std::mem::take(&mut self.sent) {
            self.take_answer(&sent);
        }
    }

    fn take_answer(&mut self, sent: &Sent) {
        let (kind, payload) = match &sent.what {
            Ok(what) => what,
            Err(encryption) => {
                let bytes = self.world.answer_bytes(sent.token).expect("an answer, or the connection closed");
                let encryption = raida::wire::header::Encryption::new(*encryption);
                let encryption = encryption.unwrap_or(raida::wire::header::Encryption::None);
                assert!(bytes.is_empty() || measure_reply(&bytes, encryption) == Some(bytes.len()));
                return;
            }
        };
        let Some((status, answer)) = self.world.answer(&sent.client, sent.token) else {
            assert!(self.world.closed(sent.token), "{kind:?} has no answer");
            return;
        };
        let Ok(request) = Request::decode(kind.command(), payload) else {
            assert!(!status.is_success(), "{kind:?} of a wrong payload: {status}");
            return;
        };
        let decoded = Answer::decode(&request, status, &answer).expect("an answer to this request");
        self.done[*kind as usize] += usize::from(status.is_success());
        if let (Request::ChangeSerialNumbers { session, .. }, Answer::Change(offer)) = (request, decoded) {
            let coins: Vec<_> = offer.serial_numbers.iter().map(|sn| RawCoin { den: offer.den, sn }).collect();
            assert!(coins.iter().all(|coin| coin.id().is_some()), "an offer of coins that are none");
            self.offered = Some(Offered { session, coins });
        }
    }

    fn failed(&self) -> bool {
        (0..self.shards).any(|shard| self.world.shard(shard).has_failed())
    }

    /// A page cannot be read, or a write fails; then nothing is written any more before the next start.
    fn fail(&mut self, input: &mut Input<'_>) {
        let after = u64::from(input.byte() % 8);
        if input.below(4) == 1 {
            self.world.write_fails_after = Some(after);
        } else {
            self.world.read_fails_after = Some(after);
        }
    }

    /// The machine stops; requests under way are carried out or not.
    fn crash(&mut self, shards: u8) {
        self.world.crash(shards);
        self.shards = shards;
        self.sent.clear();
        self.offered = None;
        self.look();
    }

    /// Looks at all coins, on the disk and through the node.
    fn look(&mut self) {
        self.settle();
        self.world.read_fails_after = None;
        if self.failed() {
            return;
        }
        let storage = self.world.storage.clone();
        let contents = Contents::open(&storage, self.shards).expect("a data directory that opens");
        let (before, value) = (self.contents.value(), contents.value());
        assert!((self.freed || value >= before) && (self.created || value <= before), "worth {value}, not {before}");
        self.contents = contents;
        (self.freed, self.created) = (false, false);
        let write_fails_after = self.world.write_fails_after.take();
        self.compare();
        self.world.write_fails_after = write_fails_after;
    }

    /// The node says of every coin, locker and trade locker what the disk says.
    fn compare(&mut self) {
        let client = Client { shard: self.shards - 1, ..Client::default() };
        let rows: Vec<(RawCoin, Secret)> = self.contents.rows().map(|(coin, an)| (coin.into(), an)).collect();
        if !rows.is_empty() {
            let bytes = items::bytes_of(rows.iter().copied());
            let detect = Request::Detect { coins: SecretCoins::new(&bytes).expect("whole coins") };
            assert_eq!(self.world.call(&client, &detect).0, Status::AllPass);
        }
        let (_, counts) = self.world.call(&client, &Request::CountCoins);
        let counted: u32 =
            counts.chunks_exact(5).map(|row| u32::from_be_bytes(row[1..].try_into().expect("4 bytes"))).sum();
        assert_eq!(counted as usize, rows.len(), "coins in circulation");
        let mut places: Vec<Secret> = rows.iter().map(|row| row.1).filter(|an| an.place() != Place::Wallet).collect();
        places.sort_unstable_by_key(|an| *an.bytes());
        places.dedup();
        for an in places {
            let peek = match an.place() {
                Place::Locker(_) => Request::Peek { key: an },
                _ => Request::PeekTradeLocker { identifier: *an.bytes() },
            };
            let (status, answer) = self.world.call(&client, &peek);
            let mut listed: Vec<RawCoin> = Coins::new(&answer).expect("whole coins").iter().collect();
            listed.sort_unstable();
            let mut inside: Vec<RawCoin> = rows.iter().filter(|row| row.1 == an).map(|row| row.0).collect();
            inside.sort_unstable();
            assert_eq!((status, listed), (Status::AllPass, inside), "{:?}", an.place());
        }
    }

    /// What the node says before a crash it says after it, and when it stops in order all is in its place.
    fn end(&mut self, input: &mut Input<'_>) {
        self.settle();
        if self.failed() {
            self.crash(1);
        }
        self.world.write_fails_after = None;
        self.look();
        let before = self.contents.clone();
        self.crash(1 + input.byte() % 3);
        assert!(self.contents == before, "a crash changed what was done");
        assert!(self.world.shut_down(), "the node stops in order");
        let opened = recovery::open(&self.world.storage, self.shards, world::options(1, 0).geometry);
        assert_eq!(opened.expect("a data directory").recovered, 0, "all is in its place");
        assert!(Contents::open(&self.world.storage, 2).expect("a data directory") == before);
    }
}

fn kind(input: &mut Input<'_>) -> CommandKind {
    COMMANDS[input.below(COMMANDS.len())].kind
}

/// Flips bits, cuts, or adds a byte.
fn alter(payload: &mut Vec<u8>, input: &mut Input<'_>) {
    let at = input.place(payload.len() + 1);
    match input.below(3) {
        0 => payload.truncate(at),
        1 => payload.insert(at, input.byte()),
        _ => payload.get_mut(at).into_iter().for_each(|byte| *byte ^= input.byte().max(1)),
    }
}

/// Stories of random events, short and long.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut random = Seeded(6);
    (2..=30).map(|number| (0..number * 30).map(|_| random.number() as u8).collect()).collect()
}
