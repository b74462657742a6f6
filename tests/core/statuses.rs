//! Every status of PROTOCOL.md's tables: a table of (command, payload) and the answer it gets, the same for every
//! encryption type and on nodes of 1, 2 and 4 shards.

use std::collections::BTreeSet;

use crate::common::payload::{self, offer_an, raw};
use crate::common::{
    Purse, ask, at_shard, locker_key, on_every_node, sealed_1, sealed_2, sealed_4, sealed_5, status, trade_an,
};
use raida::coin::{CoinId, Secret, TradeCoin};
use raida::shard::interface::Now;
use raida::sim::{Client, Seeded, World, WorldOptions};
use raida::store::recovery;
use raida::store::storage::Memory;
use raida::wire::header::{KeyName, NodeIdentity};
use raida::wire::items::RawCoin;
use raida::wire::request::CommandKind::{self, *};
use raida::wire::request::{COMMANDS, Command};
use raida::wire::seal::{self, Key, RequestRandom};
use raida::wire::status::Status;

const NODE: NodeIdentity = NodeIdentity { raida_id: 0, coin_id: 6 };

/// A command, its payload, and what it is answered.
type Row = (CommandKind, Vec<u8>, Status, Vec<u8>);

/// A client of each encryption type: keys are two coins and a locker of the purse's.
fn clients(world: &mut World, purse: &mut Purse) -> Vec<Client> {
    let coins = purse.take(3);
    let (first, second) = ((coins[0], purse.an(coins[0])), (coins[1], purse.an(coins[1])));
    let key = locker_key(99);
    assert_eq!(purse.store(world, &Client::default(), &coins[2..], key).0, Status::AllPass);
    vec![
        Client::default(),
        sealed_1(first.0, first.1),
        sealed_2(key),
        sealed_4(first.0, first.1),
        sealed_5(first, second),
    ]
}

/// Asks every row of every client, over streams and datagrams.
fn answered(world: &mut World, clients: &[Client], rows: &[Row]) {
    for (number, (kind, payload, status, answer)) in rows.iter().enumerate() {
        for client in clients {
            for datagram in [false, true] {
                let client = Client { datagram, ..client.clone() };
                let got = ask(world, &client, *kind, payload);
                assert_eq!(got, (*status, answer.clone()), "row {number}: {kind:?} by {:?}", client.key_name);
            }
        }
    }
}

fn refused(kind: CommandKind, payload: Vec<u8>, status: Status) -> Row {
    (kind, payload, status, Vec::new())
}

#[test]
fn lengths() {
    let (short, remainder) = (Status::PacketLength, Status::NotDivisible);
    let wrong: [(CommandKind, &[usize], &[usize]); 21] = [
        (Detect, &[0, 1, 20], &[22, 41, 43]),
        (DetectSum, &[0, 5, 20], &[22, 25, 27]),
        (Pown, &[0, 36], &[38, 73]),
        (PownSum, &[0, 36], &[38, 41]),
        (AvailableSerialNumbers, &[0, 35, 37], &[]),
        (CreateCoins, &[0, 20, 24], &[26, 29]),
        (DeleteCoins, &[0, 16, 36], &[38, 57]),
        (FreeCoins, &[0, 20, 24], &[26, 29]),
        (AllSerialNumbers, &[0, 16, 18], &[]),
        (PeekTradeLocker, &[0, 15, 17, 32], &[]),
        (Store, &[0, 32, 36], &[38, 41]),
        (Peek, &[0, 15, 17, 21], &[]),
        (Remove, &[0, 16, 36], &[38, 57]),
        (PutForSale, &[0, 161, 165], &[167, 170]),
        (ListForSale, &[0, 1, 3], &[]),
        (Buy, &[0, 29, 77], &[]),
        (StoreMultiple, &[0], &[]),
        (RemoveTradeLocker, &[0, 15, 17, 24, 31, 33, 48], &[]),
        (ChangeSerialNumbers, &[0, 5, 7], &[]),
        (Break, &[0, 214, 234, 236, 256], &[]),
        (Join, &[0, 214, 234, 236, 256], &[]),
    ];
    let rows: Vec<Row> = wrong
        .into_iter()
        .flat_map(|(kind, shorts, remainders)| {
            let of = move |lengths: &'static [usize], status| {
                lengths.iter().map(move |&length| refused(kind, vec![1; length], status))
            };
            of(shorts, short).chain(of(remainders, remainder))
        })
        .collect();
    on_every_node(|world, purse| {
        let clients = clients(world, purse);
        answered(world, &clients, &rows);
    });
}

#[test]
fn store_and_its_kin() {
    on_every_node(|world, purse| {
        let clients = clients(world, purse);
        let coins = purse.take(2);
        let (named, sum, key) = (raw(&coins), purse.sum(&coins), locker_key(1));
        let none = RawCoin { den: 7, sn: 0 };
        let free = RawCoin { den: 3, sn: 5 };
        let wrong = sum.xor(Secret::new([1; 16]));
        let not_a_key = purse.fresh();
        let (bad_coin, fail) = (Status::SerialNumberOrDenomination, Status::AllFail);
        let with_type = |byte: u8, end: [u8; 2]| {
            let mut an = *offer_an(1, 1).bytes();
            an[13] = byte;
            an[14..].copy_from_slice(&end);
            Secret::new(an)
        };
        let sale = |coins: &[RawCoin], an, length: usize| payload::sale(coins, sum, an, &vec![b'a'; length]);
        let existing = offer_an(9, 9);
        let for_sale = purse.take(1);
        assert_eq!(purse.put_for_sale(world, &Client::default(), &for_sale, existing).0, Status::AllPass);
        let rows = [
            refused(Store, payload::store(&[none], sum, not_a_key), Status::InvalidPan),
            refused(Store, payload::store(&[none, named[0]], sum, key), bad_coin),
            refused(Store, payload::store(&[named[0], named[0]], sum, key), bad_coin),
            refused(Store, payload::store(&named, wrong, key), fail),
            refused(Store, payload::store(&[free], Secret::default(), key), fail),
            refused(Store, payload::store(&[named[0], free], purse.an(coins[0]), key), fail),
            refused(Store, payload::store(&raw(&for_sale), existing, key), fail),
            refused(PutForSale, sale(&[none], with_type(3, [0, 0]), 0), Status::TradeCoin),
            refused(PutForSale, sale(&[none], with_type(255, [0xEE, 0xEE]), 20), Status::TradeCoin),
            refused(PutForSale, sale(&[none], with_type(1, [0xEE, 0xEF]), 0), Status::InvalidPan),
            refused(PutForSale, sale(&[none], existing, 15), Status::InvalidParameter),
            refused(PutForSale, sale(&[none], existing, 121), Status::InvalidParameter),
            refused(PutForSale, sale(&[none], existing, 0), Status::InvalidParameter),
            refused(PutForSale, sale(&named, existing, 16), Status::TradeLockerExists),
            refused(PutForSale, sale(&[none], with_type(1, [0xEE; 2]), 16), bad_coin),
            refused(PutForSale, sale(&[free], with_type(2, [0xEE; 2]), 120), fail),
            refused(PutForSale, sale(&named[..1], with_type(0, [0xEE; 2]), 120), fail),
            refused(DetectSum, payload::detect_sum(&[none], sum), bad_coin),
            refused(DetectSum, payload::detect_sum(&[named[0], named[0]], Secret::default()), bad_coin),
            refused(DetectSum, payload::detect_sum(&named, wrong), fail),
            refused(DetectSum, payload::detect_sum(&named, sum), Status::AllPass),
            refused(DetectSum, payload::detect_sum(&raw(&for_sale), existing), Status::AllPass),
            refused(PownSum, payload::pown_sum(&[none], sum, sum), bad_coin),
            refused(PownSum, payload::pown_sum(&named, wrong, sum), fail),
            refused(PownSum, payload::pown_sum(&raw(&for_sale), existing, sum), fail),
        ];
        answered(world, &clients, &rows);
        let stored = payload::store(&named, sum, key);
        assert_eq!(status(world, Store, &stored), Status::AllPass);
        coins.iter().for_each(|&coin| purse.set(coin, key));
        answered(world, &clients, &[refused(Store, stored, fail)]);
    });
}

#[test]
fn store_multiple() {
    on_every_node(|world, purse| {
        let clients = clients(world, purse);
        let coins = purse.take(3);
        let named = raw(&coins);
        let (key, not_a_key) = (locker_key(1), purse.fresh());
        let an = purse.an(coins[0]);
        let several = payload::store_multiple;
        let good = several(&[(&named[..1], an, key)]);
        let cut = |bytes: usize| good[..good.len() - bytes].to_vec();
        let mut more = good.clone();
        more.push(0);
        let mut counts_two = good.clone();
        counts_two[0] = 2;
        let none = RawCoin { den: 0, sn: 1_024_000 };
        let zero = |lockers| vec![0; lockers];
        let fail = Status::AllFail;
        let rows = [
            refused(StoreMultiple, vec![0], Status::InvalidParameter),
            refused(StoreMultiple, several(&[]), Status::InvalidParameter),
            refused(StoreMultiple, vec![0, 1, 2], Status::InvalidParameter),
            refused(StoreMultiple, cut(1), Status::PacketLength),
            refused(StoreMultiple, cut(36), Status::PacketLength),
            refused(StoreMultiple, more, Status::PacketLength),
            refused(StoreMultiple, counts_two, Status::PacketLength),
            (StoreMultiple, several(&[(&[], Secret::default(), key)]), fail, zero(1)),
            (StoreMultiple, several(&[(&named[..1], an, not_a_key)]), fail, zero(1)),
            (StoreMultiple, several(&[(&[none], an, key)]), fail, zero(1)),
            (StoreMultiple, several(&[(&named[..1], key, key), (&[], an, key)]), fail, zero(2)),
            (StoreMultiple, several(&[(&named[..1], key, key); 255]), fail, zero(255)),
        ];
        answered(world, &clients, &rows);
        let mixed = several(&[
            (&[], Secret::default(), key),
            (&named[..1], an, key),
            (&named[1..2], an, key),
            (&named[2..], purse.an(coins[2]), locker_key(2)),
        ]);
        let answer = ask(world, &Client::default(), StoreMultiple, &mixed);
        assert_eq!(answer, (Status::Mixed, vec![0, 1, 0, 1]));
        purse.set(coins[0], key);
        purse.set(coins[2], locker_key(2));
        let all = several(&[(&named[1..2], purse.an(coins[1]), key), (&named[2..], locker_key(2), key)]);
        assert_eq!(ask(world, &Client::default(), StoreMultiple, &all), (Status::AllPass, vec![1, 1]));
        purse.set(coins[1], key);
        purse.set(coins[2], key);
    });
}

#[test]
fn one_answer_an_item() {
    on_every_node(|world, purse| {
        let clients = clients(world, purse);
        let coins = purse.take(10);
        let free = RawCoin { den: 2, sn: 77 };
        let none = RawCoin { den: -9, sn: 1 };
        let mut rows = purse.rows(&coins);
        let all = payload::detect(&rows);
        let one = payload::detect(&rows[..1]);
        rows[1].1 = Secret::default();
        rows[4].0 = free;
        rows[8].0 = none;
        let wrong_only = payload::detect(&[rows[1], rows[4], rows[8], (free, Secret::default())]);
        let twice = payload::detect(&[rows[2], rows[2], rows[3], rows[2]]);
        // The second mention fails, were it the only right one.
        let wrong_first = payload::detect(&[(rows[2].0, Secret::default()), rows[2], rows[3]]);
        let table = [
            refused(Detect, all, Status::AllPass),
            refused(Detect, one, Status::AllPass),
            refused(Detect, wrong_only, Status::AllFail),
            (Detect, payload::detect(&rows), Status::Mixed, vec![0b1110_1101, 0b10]),
            (Detect, payload::detect(&rows[..8]), Status::Mixed, vec![0b1110_1101]),
            (Detect, twice, Status::Mixed, vec![0b0101]),
            (Detect, wrong_first, Status::Mixed, vec![0b100]),
        ];
        answered(world, &clients, &table);

        let key = locker_key(1);
        let locked = purse.take(9);
        assert_eq!(purse.store(world, &Client::default(), &locked, key).0, Status::AllPass);
        let fresh = purse.fresh_rows(&raw(&locked));
        let mut for_market = fresh.clone();
        for_market[8].1 = trade_an(1, 1, TradeCoin::Monero);
        let mut none_at_all = fresh.clone();
        none_at_all.iter_mut().for_each(|row| row.0 = none);
        let table = [
            refused(Remove, payload::remove(locker_key(2), &fresh), Status::AllFail),
            refused(Remove, payload::remove(purse.an(coins[0]), &purse.rows(&coins[..1])), Status::AllFail),
            refused(Remove, payload::remove(key, &for_market), Status::InvalidPan),
            refused(Remove, payload::remove(key, &none_at_all), Status::AllFail),
        ];
        answered(world, &clients, &table);
        let mut rows = fresh.clone();
        rows[0].0 = free;
        rows.push((none, fresh[0].1));
        let removed = ask(world, &Client::default(), Remove, &payload::remove(key, &rows));
        assert_eq!(removed, (Status::Mixed, vec![0b1111_1110, 0b01]));
        purse.set_rows(&fresh[1..]);
        let removed = ask(world, &Client::default(), Remove, &payload::remove(key, &fresh[..1]));
        assert_eq!(removed, (Status::AllPass, vec![]));
        purse.set_rows(&fresh[..1]);

        let mut rows: Vec<_> = coins.iter().map(|&coin| (coin.into(), purse.an(coin), purse.fresh())).collect();
        rows[0].1 = Secret::default();
        let powned = ask(world, &Client::default(), Pown, &payload::pown(&rows));
        assert_eq!(powned, (Status::Mixed, vec![0b1111_1110, 0b11]));
        purse.set_rows(&rows[1..].iter().map(|&(coin, _, an)| (coin, an)).collect::<Vec<_>>());
        answered(world, &clients, &[refused(Pown, payload::pown(&rows), Status::AllFail)]);
    });
}

#[test]
fn the_market() {
    on_every_node(|world, purse| {
        let clients = clients(world, purse);
        let client = Client::default();
        let key = locker_key(1);
        let buy =
            |key, coin_type, value, price, memo: usize| payload::buy(key, coin_type, value, price, &vec![b'm'; memo]);
        let not_a_key = purse.fresh();
        let (value, price) = (200_000_000, 100);
        // Three equal offers and one for another coin type: listed and sold in the order they came.
        let offers: Vec<(Secret, Vec<CoinId>)> =
            (1..=3).map(|number| (offer_an(number, price), purse.take(2))).collect();
        for (an, coins) in &offers {
            assert_eq!(purse.put_for_sale(world, &client, coins, *an).0, Status::AllPass);
        }
        let other = (trade_an(8, 7, TradeCoin::Monero), purse.take_of(1, 1));
        assert_eq!(purse.put_for_sale(world, &client, &other.1, other.0).0, Status::AllPass);
        let listed = |an: &Secret| {
            let name = raida::shard::market::public_identifier(an, raida::settings::Identifier::Hashed);
            [&name[..], &[1], &u64::to_be_bytes(value), &u32::to_be_bytes(price)].concat()
        };
        let list: Vec<u8> = offers.iter().flat_map(|(an, _)| listed(an)).collect();
        let identifier: [u8; 16] = list[..16].try_into().unwrap();
        let contents = payload::coins(&raw(&offers[0].1));
        let an = offers[0].0;
        let rows = [
            refused(ListForSale, vec![3, 1], Status::TradeCoin),
            refused(ListForSale, vec![1, 0], Status::AllPass),
            refused(ListForSale, vec![0, 9], Status::AllPass),
            (ListForSale, vec![1, 255], Status::AllPass, list.clone()),
            (ListForSale, vec![1, 2], Status::AllPass, list[..58].to_vec()),
            (PeekTradeLocker, identifier.to_vec(), Status::AllPass, contents.clone()),
            (PeekTradeLocker, an.bytes().to_vec(), Status::AllPass, contents),
            refused(PeekTradeLocker, vec![5; 16], Status::AllFail),
            refused(PeekTradeLocker, key.bytes().to_vec(), Status::AllFail),
            refused(Peek, an.bytes().to_vec(), Status::AllFail),
            refused(Peek, key.bytes().to_vec(), Status::AllFail),
            refused(Buy, buy(not_a_key, 9, 1, 1, 1), Status::InvalidParameter),
            refused(Buy, buy(key, 9, 1, 1, 255), Status::InvalidParameter),
            refused(Buy, buy(key, 3, value, price, 1), Status::TradeCoin),
            refused(Buy, buy(key, 1, value + 1, price, 1), Status::TradeLockerNotFound),
            refused(Buy, buy(key, 1, value, price + 1, 254), Status::TradeLockerNotFound),
            refused(Buy, buy(key, 2, value, price, 1), Status::TradeLockerNotFound),
            refused(RemoveTradeLocker, payload::take_back(an, Some(not_a_key)), Status::InvalidPan),
            refused(RemoveTradeLocker, payload::take_back(offer_an(4, price), Some(key)), Status::AllFail),
            refused(RemoveTradeLocker, payload::take_back(Secret::new(identifier), None), Status::AllFail),
            refused(RemoveTradeLocker, payload::take_back(Secret::new(identifier), Some(key)), Status::AllFail),
        ];
        answered(world, &clients, &rows);
        let bought = ask(world, &client, Buy, &buy(key, 1, value, price, 254));
        assert_eq!(bought, (Status::AllPass, vec![]));
        offers[0].1.iter().for_each(|&coin| purse.set(coin, key));
        let left = list[29..].to_vec();
        answered(world, &clients, &[(ListForSale, vec![1, 9], Status::AllPass, left)]);
        let back = ask(world, &client, RemoveTradeLocker, &payload::take_back(offers[1].0, Some(key)));
        assert_eq!(back, (Status::AllPass, vec![]));
        offers[1].1.iter().for_each(|&coin| purse.set(coin, key));
        let freed = ask(world, &client, RemoveTradeLocker, &payload::take_back(offers[2].0, None));
        assert_eq!(freed, (Status::AllPass, vec![]));
        offers[2].1.iter().for_each(|&coin| purse.lose(coin));
        answered(world, &clients, &[refused(Buy, buy(key, 1, value, price, 1), Status::TradeLockerNotFound)]);
    });
}

#[test]
fn change() {
    on_every_node(|world, purse| {
        let clients = clients(world, purse);
        let (bad, none) = (Status::InvalidParameter, Status::SerialNumberOrDenomination);
        let source = purse.take_one();
        let row = (RawCoin::from(source), purse.an(source));
        let targets = purse.offered(world, 9, 1, 0);
        assert_eq!(targets.len(), 64);
        assert!(
            targets.iter().all(|coin| coin.den == -1 && purse.all().all(|(other, _)| RawCoin::from(other) != *coin))
        );
        let rows = purse.fresh_rows(&targets[..10]);
        let ask_for = payload::serial_numbers;
        let table = [
            refused(ChangeSerialNumbers, ask_for(0, 1, 0), bad),
            refused(ChangeSerialNumbers, ask_for(1, 0, 0), bad),
            refused(ChangeSerialNumbers, ask_for(1, 3, 99), bad),
            refused(ChangeSerialNumbers, ask_for(1, 1, -8), none),
            refused(ChangeSerialNumbers, ask_for(1, 2, 6), none),
            refused(ChangeSerialNumbers, ask_for(1, 1, 7), none),
            refused(ChangeSerialNumbers, ask_for(1, 2, -9), none),
            refused(Break, payload::exchange(9, (row.0, Secret::default()), &rows), Status::AllFail),
            refused(Break, payload::exchange(8, row, &rows), Status::PageNotReserved),
            refused(Break, payload::exchange(9, (RawCoin { den: -8, sn: 1 }, row.1), &rows), none),
            refused(Break, payload::exchange(9, (RawCoin { den: 1, ..row.0 }, row.1), &rows), none),
            refused(Join, payload::exchange(9, (RawCoin { den: -8, sn: 1 }, row.1), &rows), none),
            refused(Join, payload::exchange(9, (RawCoin { den: 1, sn: 1 }, row.1), &rows), none),
        ];
        for client in &clients {
            // A limit of 30 breaks for each client's table.
            world.monotonic_us += 1;
            let local = Client { peer: "127.0.0.1".parse().unwrap(), ..client.clone() };
            purse.offered(world, 9, 1, 0);
            answered(world, &[local], &table);
        }
        for (operation, den, target) in [(1, -7, -8), (1, 6, 5), (2, -8, -7), (2, 5, 6)] {
            let (status, answer) = ask(world, &clients[3], ChangeSerialNumbers, &ask_for(2, operation, den));
            assert_eq!((status, answer[0] as i8, answer.len()), (Status::Success, target, 1 + 64 * 4));
        }
        let made = purse.break_coin(world, &clients[4], 9, source);
        let target = purse.offered(world, 9, 2, -1)[0];
        let mut wrong = purse.rows(&made);
        wrong[7].1 = Secret::default();
        let proposed = purse.fresh();
        let joined = payload::exchange(9, (target, proposed), &wrong);
        assert_eq!(status(world, Join, &joined), Status::AllFail);
        purse.join_coins(world, &clients[2], 9, &made);
    });
}

#[test]
fn what_every_wallet_asks_first() {
    on_every_node(|world, purse| {
        let clients = clients(world, purse);
        let counts: Vec<u8> = (-8..=6i8)
            .flat_map(|den| {
                let count = purse.all().filter(|(coin, _)| coin.denomination().get() == den).count() as u32;
                [&[den as u8][..], &count.to_be_bytes()].concat()
            })
            .collect();
        let version = raida::command::VERSION.as_bytes().to_vec();
        let rows = [b"".as_slice(), b"whatever is in it"].map(|payload| {
            [
                (Echo, payload.to_vec(), Status::Success, vec![]),
                (Version, payload.to_vec(), Status::Success, version.clone()),
                (CountCoins, payload.to_vec(), Status::Success, counts.clone()),
            ]
        });
        answered(world, &clients, rows.as_flattened());
    });
}

/// A frame as a client seals it.
fn frame(client: &Client, command: &'static Command, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let random = RequestRandom { nonce: [0x5A; 24], challenge: [0xC3; 12] };
    seal::seal(&mut frame, NODE, command, (client.key_name, &client.key), payload, random).unwrap();
    frame
}

fn is_modern(client: &Client) -> bool {
    client.key_name.encryption().is_modern()
}

/// Sends bytes; the answer's bytes.
fn send(world: &mut World, client: &Client, frame: &[u8]) -> Vec<u8> {
    let token = world.send_frame(client, frame);
    world.settle();
    world.answer_bytes(token).expect("an answer")
}

/// The frame with another body, and its length.
fn with_body(client: &Client, command: &'static Command, body: &[u8]) -> Vec<u8> {
    let mut bytes = frame(client, command, b"");
    let (header, at) = if is_modern(client) { (48, 17) } else { (32, 22) };
    bytes.truncate(header);
    bytes[at..at + 2].copy_from_slice(&(body.len() as u16).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn headers() {
    on_every_node(|world, purse| {
        for client in clients(world, purse) {
            let good = frame(&client, Peek.command(), &[7; 16]);
            for (at, byte, status) in [
                (0, 0, 255),
                (0, 2, 255),
                (1, 1, 2),
                (2, 1, 3),
                (3, 4, 4),
                (4, 2, 5),
                (4, 255, 5),
                (5, 80, 6),
                (5, 255, 6),
                (6, 1, 7),
                (7, 5, 7),
                (16, 3, 27),
                (16, 6, 27),
                (16, 255, 27),
            ] {
                let mut wrong = good.clone();
                wrong[at] = byte;
                let answer = send(world, &client, &wrong);
                let mut expected = [0; 32];
                expected[2..6].copy_from_slice(&[status, wrong[4], 0, 1]);
                expected[6..8].copy_from_slice(&good[30..32]);
                assert_eq!(answer, expected, "byte {at} = {byte}");
            }
            for shard in 0..=3 {
                let mut other = good.clone();
                other[3] = shard;
                assert_eq!(send(world, &client, &other)[2], Status::AllFail.code());
            }
            // Of several mistakes the first in the header counts.
            let mut wrong = good.clone();
            wrong[4..7].fill(99);
            wrong[16] = 99;
            assert_eq!(send(world, &client, &wrong)[2], 5);
            for length in [0, 1, 5, 31, good.len() - 1] {
                assert_eq!(send(world, &client, &good[..length])[2], 16, "{length} bytes of a datagram");
            }
        }
    });
}

#[test]
fn bodies() {
    on_every_node(|world, purse| {
        let clients = clients(world, purse);
        for client in &clients {
            let status = |world: &mut World, bytes: &[u8]| {
                let answer = send(world, client, bytes);
                assert_eq!(answer.len(), if is_modern(client) { 48 } else { 32 }, "no payload");
                answer[2]
            };
            let frame_bytes = if is_modern(client) { 34 } else { 18 };
            for command in COMMANDS.iter().filter(|command| !command.allows_no_body()) {
                assert_eq!(status(world, &with_body(client, command, b"")), 36, "{command}");
                assert_eq!(status(world, &with_body(client, command, b">")), 16);
                assert_eq!(status(world, &with_body(client, command, b">>")), 16);
                let mut short = vec![b'>'; frame_bytes - 1];
                assert_eq!(status(world, &with_body(client, command, &short)), 16);
                short[frame_bytes - 2] = b'!';
                assert_eq!(status(world, &with_body(client, command, &short)), 33);
                let mut bytes = frame(client, command, &[1; 16]);
                let last = bytes.len() - 1;
                bytes[last] = 0;
                assert_eq!(status(world, &bytes), 33);
                // A bit of what proves the key.
                let mut bytes = frame(client, command, &[1; 16]);
                let proof = if is_modern(client) { bytes.len() - 5 } else { 32 + 3 };
                bytes[proof] ^= 0x10;
                assert_eq!(status(world, &bytes), if is_modern(client) { 204 } else { 37 }, "{command}");
            }
            // What comes after the body is ignored.
            let mut bytes = frame(client, Peek.command(), &[7; 16]);
            bytes.extend_from_slice(b"and more");
            assert_eq!(status(world, &bytes), Status::AllFail.code());
            // Commands that need no body come without one: served, with a zero signature.
            for kind in [Echo, Version, CountCoins] {
                let answer = send(world, client, &with_body(client, kind.command(), b""));
                if matches!(client.key_name, KeyName::LockerPrefix(_)) {
                    assert_eq!(answer[2], 34, "nothing tells which locker");
                    continue;
                }
                assert_eq!(answer[2], Status::Success.code(), "{kind:?}");
                assert!(is_modern(client) || answer[16..32] == [0; 16]);
            }
        }
    });
}

#[test]
fn keys() {
    on_every_node(|world, purse| {
        let coins = purse.take(2);
        let (coin, other) = ((coins[0], purse.an(coins[0])), (coins[1], purse.an(coins[1])));
        let free = (CoinId::new(3, 3).unwrap(), Secret::default());
        let wrong = (coin.0, Secret::new([3; 16]));
        let none = RawCoin { den: 0, sn: u32::MAX };
        let key = locker_key(5);
        let same_prefix = |last: u8| {
            let mut bytes = *key.bytes();
            bytes[8] = last;
            Secret::new(bytes)
        };
        for last in 1..4 {
            let coin = purse.take(1);
            assert_eq!(purse.store(world, &Client::default(), &coin, same_prefix(last)).0, Status::AllPass);
        }
        let client = |key_name, key| Client { key_name, key, ..Client::default() };
        let key_128 = Key::of_secret(coin.1);
        let key_256 = Key::of_coin(&coin.1);
        for (client, status) in [
            (sealed_1(coin.0, coin.1), Status::Success),
            (sealed_1(free.0, free.1), Status::Encryption),
            (client(KeyName::Coin(none), key_128), Status::Encryption),
            (sealed_1(wrong.0, wrong.1), Status::Crc),
            (sealed_2(same_prefix(1)), Status::Success),
            (sealed_2(same_prefix(3)), Status::Success),
            (sealed_2(same_prefix(9)), Status::Crc),
            (sealed_2(locker_key(6)), Status::Encryption),
            (sealed_4(coin.0, coin.1), Status::Success),
            (sealed_4(free.0, free.1), Status::EncryptionCoinNotFound),
            (client(KeyName::Coin256(none), key_256.clone()), Status::EncryptionCoinNotFound),
            (sealed_4(wrong.0, wrong.1), Status::Hmac),
            (sealed_5(coin, other), Status::Success),
            (sealed_5(other, coin), Status::Success),
            (sealed_5(coin, free), Status::EncryptionCoinNotFound),
            (sealed_5(free, coin), Status::EncryptionCoinNotFound),
            (client(KeyName::TwoCoins256(none, coin.0.into()), key_256.clone()), Status::EncryptionCoinNotFound),
            (client(KeyName::TwoCoins256(coin.0.into(), none), key_256), Status::EncryptionCoinNotFound),
            (sealed_5(other, wrong), Status::Hmac),
            (sealed_5(wrong, other), Status::Hmac),
        ] {
            assert_eq!(ask(world, &client, Echo, b"payload").0, status, "{:?}", client.key_name);
        }
    });
}

/// A node, not started yet, that has these coins.
fn world_of(shards: u8, coins: &[(CoinId, Secret)]) -> World {
    let options = WorldOptions::small(shards, 7);
    let storage = Memory::new();
    recovery::initialise(&storage, options.geometry).unwrap();
    World::mint(&storage, coins, 9);
    World::on(storage, &options)
}

#[test]
fn an_answer_that_does_not_fit_a_datagram() {
    let (full, more) = (locker_key(1), locker_key(2));
    // 32 bytes of header and 2 of terminator leave room for 13,094 coins; the long form for 13,085.
    let coins: Vec<(CoinId, Secret)> = (0..13_094)
        .map(|sn| (CoinId::new(1, sn).unwrap(), full))
        .chain((0..13_095).map(|sn| (CoinId::new(2, sn).unwrap(), more)))
        .collect();
    for shards in [1, 2, 4] {
        let mut world = world_of(shards, &coins);
        world.start();
        let stream = Client::default();
        let datagram = Client { datagram: true, ..Client::default() };
        let long = Client { datagram: true, ..sealed_4(CoinId::new(1, 5).unwrap(), full) };
        for (client, key, status, length) in [
            (&stream, full, Status::AllPass, 13_094 * 5),
            (&stream, more, Status::AllPass, 13_095 * 5),
            (&datagram, full, Status::AllPass, 13_094 * 5),
            (&datagram, more, Status::TooManyCoins, 0),
            (&long, full, Status::TooManyCoins, 0),
        ] {
            let (got, answer) = ask(&mut world, client, Peek, key.bytes());
            assert_eq!((got, answer.len()), (status, length));
        }
        // 109 bytes are the answer to *count coins*: a bound that they fit, and one that they do not.
        for (bound, status, length) in [(109, Status::Success, 75), (108, Status::TooManyCoins, 0)] {
            world.settings.datagram_bytes_max = bound;
            world.crash(shards);
            let (got, answer) = ask(&mut world, &datagram, CountCoins, &[]);
            assert_eq!((got, answer.len()), (status, length));
            assert_eq!(ask(&mut world, &stream, CountCoins, &[]).1.len(), 75);
        }
    }
}

#[test]
fn coins_that_answers_name_are_bounded() {
    const COINS: u64 = 13_000;
    let key = locker_key(1);
    let coins: Vec<(CoinId, Secret)> = (0..COINS as u32).map(|sn| (CoinId::new(1, sn).unwrap(), key)).collect();
    for shards in [1, 2, 4] {
        let mut world = world_of(shards, &coins);
        let named = |world: &World| {
            let now = Now { monotonic_us: world.monotonic_us, unix_ms: 0 };
            (0..shards).map(|shard| world.shard(shard).numbers(now).coins_named.used).max()
        };
        // So many, and one less: then no answer names them.
        for (bound, expected) in [(COINS, Status::AllPass), (COINS - 1, Status::TooManyCoins)] {
            world.settings.coins_max = bound as usize;
            world.crash(shards);
            let mut statuses = BTreeSet::new();
            for shard in 0..shards {
                let client = at_shard(shard);
                let send = |world: &mut World| world.send_payload(&client, Peek.command(), key.bytes());
                let tokens: Vec<u64> = (0..5).map(|_| send(&mut world)).collect();
                while world.advance() {
                    assert!(named(&world) <= Some(bound));
                }
                for token in tokens {
                    statuses.insert(world.answer(&client, token).expect("an answer").0.code());
                }
            }
            assert!(statuses.contains(&expected.code()), "{statuses:?}");
            // The shard that is its home answers one after the other, the others have no room for two.
            let without_room = shards > 1 && expected == Status::AllPass;
            assert_eq!(statuses.contains(&Status::Memory.code()), without_room, "{statuses:?}");
            assert_eq!(statuses.len(), 1 + usize::from(without_room));
            assert_eq!(named(&world), Some(0));
        }
    }
}

#[test]
fn nodes_do_not_answer_each_others_answers() {
    on_every_node(|world, purse| {
        let datagram = Client { datagram: true, ..Client::default() };
        let clients = clients(world, purse);
        let mut frames = vec![vec![], vec![0], vec![1; 40], vec![0; 2000]];
        frames.extend(clients.iter().map(|client| with_body(client, Echo.command(), b"neither sealed nor ended")));
        frames.extend(clients.iter().map(|client| frame(client, Version.command(), b"")));
        for mut frame in frames {
            let mut answers = 0;
            while answers == 0 || !frame.is_empty() {
                answers += 1;
                assert!(answers <= 3, "it goes on");
                let answer = send(world, &datagram, &frame);
                // Over TCP whoever sends an answer is told that it is no request.
                assert!(!send(world, &Client::default(), &frame).is_empty());
                frame = answer;
            }
        }
    });
}

#[test]
fn more_coins_than_a_record_of_the_log_holds() {
    for shards in [1, 2, 4] {
        // The made-up node's log takes 1000 coins with a payout address at once, or 1006 without.
        let an = offer_an(1, 5);
        let mut random = Seeded(1);
        let coins: Vec<(CoinId, Secret)> = (0..1010)
            .map(|sn| (CoinId::new(1, sn * 3).unwrap(), an))
            .chain((0..1010).map(|sn| (CoinId::new(2, sn).unwrap(), Secret::new(random.bytes()))))
            .collect();
        let mut world = world_of(shards, &coins);
        world.start();
        let offered: Vec<CoinId> = coins[..1010].iter().map(|(coin, _)| *coin).collect();
        let named: Vec<RawCoin> = coins[1010..].iter().map(|(coin, _)| (*coin).into()).collect();
        let sum = |count: usize| coins[1010..][..count].iter().fold(Secret::default(), |sum, (_, an)| sum.xor(*an));
        let store = |count: usize| payload::store(&named[..count], sum(count), locker_key(1));
        assert_eq!(status(&mut world, RemoveTradeLocker, &payload::take_back(an, None)), Status::TooManyCoins);
        assert_eq!(status(&mut world, Store, &store(1007)), Status::TooManyCoins);
        let peeked = ask(&mut world, &Client::default(), PeekTradeLocker, an.bytes());
        assert_eq!((peeked.0, peeked.1.len()), (Status::AllPass, offered.len() * 5));
        assert_eq!(status(&mut world, Store, &store(1006)), Status::AllPass);
        let peeked = ask(&mut world, &Client::default(), Peek, locker_key(1).bytes());
        assert_eq!((peeked.0, peeked.1.len()), (Status::AllPass, 1006 * 5));
    }
}

#[test]
fn more_requests_than_there_is_room_for() {
    let (mut world, purse) = crate::common::world_with_coins(1, 3);
    world.settings.requests_max = 4;
    world.crash(1);
    let all: Vec<(CoinId, Secret)> = purse.all().collect();
    let cold = payload::detect(&[(all[70].0.into(), all[70].1)]);
    let client = Client::default();
    let tokens: Vec<u64> = (0..5).map(|_| world.send_payload(&client, Detect.command(), &cold)).collect();
    assert_eq!(world.answer(&client, tokens[4]), Some((Status::Memory, vec![])), "at once");
    world.settle();
    for token in &tokens[..4] {
        assert_eq!(world.answer(&client, *token), Some((Status::AllPass, vec![])));
    }
}

#[test]
fn no_bytes_stop_a_node() {
    on_every_node(|world, purse| {
        let clients = clients(world, purse);
        let mut random = Seeded(5);
        for round in 0..3000 {
            let client = &clients[random.below(clients.len())];
            let command = &COMMANDS[random.below(COMMANDS.len())];
            let mut payload = vec![0; random.below(300)];
            raida::entropy::Entropy::fill(&mut random, &mut payload);
            let mut bytes = frame(client, command, &payload);
            match round % 4 {
                0 => bytes.truncate(random.below(bytes.len())),
                1 => {
                    let at = random.below(bytes.len());
                    bytes[at] ^= 1 << random.below(8);
                }
                2 => bytes = with_body(client, command, &payload[..payload.len().min(40)]),
                _ => {}
            }
            // `answer_bytes` of `send` says that there is just one answer.
            let answer = send(world, client, &bytes);
            assert!(answer.len() >= 32 && Status::from_code(answer[2]).is_some());
        }
    });
}

#[test]
fn coins_go_from_every_locker_into_every_other() {
    on_every_node(|world, purse| {
        let coins = purse.take(3);
        let mut key = locker_key(1);
        assert_eq!(purse.store(world, &Client::default(), &coins, key).0, Status::AllPass);
        for number in (1..12).flat_map(|step| (0..12).map(move |at| (1 + at * step) % 12)) {
            let rows: Vec<_> = raw(&coins).into_iter().map(|coin| (coin, locker_key(number))).collect();
            assert_eq!(status(world, Remove, &payload::remove(key, &rows)), Status::AllPass);
            key = locker_key(number);
            purse.set_rows(&rows);
            let (status, peeked) = ask(world, &Client::default(), Peek, key.bytes());
            assert_eq!((status, peeked.len()), (Status::AllPass, 15));
        }
    });
}
