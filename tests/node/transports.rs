//! One story, told to a made-up node and to real ones over TCP and UDP, with every encryption type, on 1, 2 and 4
//! shards with a cache of 8 pages: every answer is the same to the byte.

use std::net::SocketAddr;

use crate::net::NetClient;
use raida::coin::{CoinId, PayoutAddress, Secret, TradeCoin};
use raida::config::Config;
use raida::node::{Node, NodeOptions};
use raida::sim::{Client, World, WorldOptions};
use raida::store::recovery;
use raida::store::storage::{Directory, Memory, Storage};
use raida::wire::header::KeyName;
use raida::wire::items::{self, Coins, PownCoins, RawCoin, SecretCoins};
use raida::wire::request::Request;
use raida::wire::request::change::ChangeOperation;
use raida::wire::seal::Key;
use raida::wire::status::Status;

/// The coins of the story: numbers 0..60 over 60 pages and three denominations; the last ones are keys.
fn coin(number: u32) -> CoinId {
    CoinId::new((number % 3) as i8 - 1, number * 1100).unwrap()
}

fn an(number: u32) -> Secret {
    let mut an = [number as u8 ^ 0x5A; 16];
    an[15] = 0x11;
    if number == LOCKER_KEY_COIN {
        an[12..].fill(0xFF);
    }
    Secret::new(an)
}

const COINS: u32 = 60;
const KEY_COIN: u32 = 57;
const SECOND_KEY_COIN: u32 = 58;
const LOCKER_KEY_COIN: u32 = 59;

fn all_coins() -> Vec<(CoinId, Secret)> {
    (0..COINS).map(|number| (coin(number), an(number))).collect()
}

/// How requests are sealed, by encryption type.
fn sealing(encryption: u8) -> (KeyName, Key) {
    let (first, second) = (RawCoin::from(coin(KEY_COIN)), RawCoin::from(coin(SECOND_KEY_COIN)));
    match encryption {
        0 => (KeyName::None, Key::None),
        1 => (KeyName::Coin(first), Key::of_secret(an(KEY_COIN))),
        2 => {
            let key = an(LOCKER_KEY_COIN);
            (KeyName::LockerPrefix(*key.bytes().first_chunk().unwrap()), Key::of_secret(key))
        }
        4 => (KeyName::Coin256(first), Key::of_coin(&an(KEY_COIN))),
        5 => (KeyName::TwoCoins256(first, second), Key::of_two_coins(&an(KEY_COIN), &an(SECOND_KEY_COIN))),
        _ => unreachable!("no encryption type of this protocol"),
    }
}

/// The story: every command, what is asked next depending on what was answered. Returns all answers.
fn story(mut call: impl FnMut(&Request<'_>) -> (Status, Vec<u8>)) -> Vec<(&'static str, Status, Vec<u8>)> {
    let mut told = Vec::new();
    let mut tell = |request: Request<'_>| {
        let (status, payload) = call(&request);
        told.push((request.command().name, status, payload.clone()));
        (status, payload)
    };
    let coins5 = |numbers: &[u32]| items::bytes_of(numbers.iter().map(|&number| RawCoin::from(coin(number))));
    let sum = |numbers: &[u32]| numbers.iter().fold(Secret::default(), |sum, &number| sum.xor(an(number)));
    let secrets =
        |rows: &[(CoinId, Secret)]| items::bytes_of(rows.iter().map(|&(coin, secret)| (RawCoin::from(coin), secret)));
    let fresh = |number: u8| Secret::new([number; 16]);
    let key = |number: u8| {
        let mut key = [number; 16];
        key[12..].fill(0xFF);
        Secret::new(key)
    };

    tell(Request::Echo);
    tell(Request::Version);
    tell(Request::CountCoins);

    // Lockers.
    let list = coins5(&[0, 1, 2]);
    let store = |sum, key| Request::Store { coins: Coins::new(&list).unwrap(), sum, key };
    tell(store(sum(&[0, 1]), key(1)));
    tell(store(sum(&[0, 1, 2]), fresh(1)));
    tell(store(sum(&[0, 1, 2]), key(1)));
    tell(Request::Peek { key: key(1) });
    tell(Request::Peek { key: key(2) });
    let rows = secrets(&[(coin(0), fresh(10)), (coin(3), fresh(11)), (coin(2), fresh(12))]);
    tell(Request::Remove { key: key(1), coins: SecretCoins::new(&rows).unwrap() });
    tell(Request::Peek { key: key(1) });
    let rows = secrets(&[(coin(0), fresh(10)), (coin(1), key(1)), (coin(2), fresh(12)), (coin(3), an(3))]);
    tell(Request::Detect { coins: SecretCoins::new(&rows).unwrap() });

    // The market.
    let mut offer = [7; 16];
    offer[9..].copy_from_slice(&[0, 0, 3, 0xE8, 1, 0xEE, 0xEE]);
    let offer = Secret::new(offer);
    let address = PayoutAddress::new(b"an address of twenty").unwrap();
    let list = coins5(&[6, 7, 8, 9]);
    let sale = |an| Request::PutForSale { coins: Coins::new(&list).unwrap(), sum: sum(&[6, 7, 8, 9]), an, address };
    tell(sale(offer));
    tell(sale(offer));
    let (_, listed) = tell(Request::ListForSale { coin_type: TradeCoin::Bitcoin, max: 255 });
    tell(Request::PeekTradeLocker { identifier: listed[..16].try_into().unwrap() });
    let value = u64::from_be_bytes(listed[17..25].try_into().unwrap());
    let buy = Request::Buy {
        key: key(3),
        coin_type: TradeCoin::Bitcoin,
        value,
        price: 1000,
        txid: [1; 32],
        receipt: [2; 16],
        memo: b"for the story",
    };
    tell(buy);
    tell(Request::ListForSale { coin_type: TradeCoin::Bitcoin, max: 255 });
    tell(Request::Peek { key: key(3) });
    let list = coins5(&[12, 13]);
    tell(Request::PutForSale { coins: Coins::new(&list).unwrap(), sum: sum(&[12, 13]), an: offer, address });
    tell(Request::RemoveTradeLocker { an: offer, key: Some(key(4)) });
    tell(Request::Peek { key: key(4) });

    // Several lockers.
    let lists = [coins5(&[15, 16]), coins5(&[17])];
    let lockers = [
        (Coins::new(&lists[0]).unwrap(), sum(&[15, 16]), key(5)),
        (Coins::new(&lists[1]).unwrap(), sum(&[16]), key(6)),
    ];
    let payload = items_of_lockers(&lockers);
    tell(Request::decode(raida::wire::request::Command::find(8, 88).unwrap(), &payload).unwrap());

    // Change: coin 22 is of denomination 0.
    let session = 4711;
    let sns = |operation, den| Request::ChangeSerialNumbers { session, operation, den };
    let (_, offered) = tell(sns(ChangeOperation::Break, 0));
    let targets: Vec<_> = (0..10)
        .map(|index| {
            let sn = u32::from_be_bytes(offered[1 + 4 * index..5 + 4 * index].try_into().unwrap());
            (CoinId::new(-1, sn).unwrap(), fresh(100 + index as u8))
        })
        .collect();
    let rows = secrets(&targets);
    let broken =
        |an| Request::Break { session, source: (coin(22).into(), an), targets: SecretCoins::new(&rows).unwrap() };
    tell(broken(fresh(0)));
    tell(broken(an(22)));
    tell(broken(an(22)));
    let (_, offered) = tell(sns(ChangeOperation::Join, -1));
    let target = RawCoin { den: 0, sn: u32::from_be_bytes(offered[1..5].try_into().unwrap()) };
    let join =
        |session| Request::Join { session, target: (target, fresh(9)), sources: SecretCoins::new(&rows).unwrap() };
    tell(join(session + 1));
    tell(join(session));
    tell(join(session));

    // Authentication.
    let list = coins5(&[24, 25]);
    tell(Request::DetectSum { coins: Coins::new(&list).unwrap(), sum: sum(&[24, 25]) });
    tell(Request::DetectSum { coins: Coins::new(&list).unwrap(), sum: sum(&[24]) });
    let rows =
        items::bytes_of([(RawCoin::from(coin(24)), an(24), fresh(50)), (RawCoin::from(coin(25)), an(24), fresh(51))]);
    tell(Request::Pown { coins: PownCoins::new(&rows).unwrap() });
    tell(Request::PownSum { coins: Coins::new(&list).unwrap(), sum: fresh(50).xor(an(25)), delta: fresh(1) });
    tell(Request::CountCoins);
    told
}

fn items_of_lockers(lockers: &[(Coins<'_>, Secret, Secret)]) -> Vec<u8> {
    raida::wire::request::locker::Lockers::payload(lockers.iter().copied())
}

fn mint(storage: &dyn Storage) {
    recovery::initialise(storage, Default::default()).unwrap();
    World::mint(storage, &all_coins(), 10);
}

/// What a made-up node of one shard answers.
fn expected() -> Vec<(&'static str, Status, Vec<u8>)> {
    let options = WorldOptions { geometry: Default::default(), ..WorldOptions::small(1, 1) };
    let storage = Memory::new();
    mint(&storage);
    let mut world = World::on(storage, &options);
    world.settings.pown_sum = false;
    world.start();
    story(|request| world.call(&Client::default(), request))
}

/// A real node with a cache of 8 pages.
fn node(data: &std::path::Path, shards: u8) -> Node {
    let mut config = Config::parse(
        "raida.toml",
        "[store]\ncache_pages = 8\n[market]\ncloudcoin = \"trusted\"\nbitcoin = \"trusted\"\nmonero = \"trusted\"\n",
    )
    .unwrap();
    config.server.threads = shards;
    let mut options = NodeOptions::new(data, &config);
    options.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    Node::start(options).unwrap()
}

#[test]
fn every_transport_encryption_and_number_of_shards_answers_alike() {
    let expected = expected();
    for shards in [1, 2, 4] {
        for encryption in [0, 1, 2, 4, 5] {
            for tcp in [true, false] {
                let directory = tempfile::tempdir().unwrap();
                let data = directory.path().join("data");
                std::fs::create_dir(&data).unwrap();
                mint(&Directory::open(&data).unwrap());
                let node = node(&data, shards);
                let to = node.address();
                let client = if tcp { NetClient::tcp(to) } else { NetClient::udp(to) }.unwrap();
                let (key_name, key) = sealing(encryption);
                let mut client = client.sealed(key_name, key);
                let told = story(|request| client.call(request).unwrap());
                for (index, (told, expected)) in told.iter().zip(&expected).enumerate() {
                    assert_eq!(told, expected, "answer {index}: {shards} shards, type {encryption}, tcp {tcp}");
                }
                assert_eq!(told.len(), expected.len());
                node.stop().unwrap();
            }
        }
    }
}
