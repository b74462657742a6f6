//! The treasury: who may use it, what it changes, and that it takes from nobody by mistake.

use std::net::IpAddr;

use raida::coin::{CoinId, Denomination, Place, Secret};
use raida::settings::Treasury;
use raida::sim::model::{Model, Op, Row};
use raida::sim::workload::Workload;
use raida::sim::{Client, Seeded, World};
use raida::wire::items::{Coins, RawCoin, SecretCoins, bytes_of};
use raida::wire::request::Request;
use raida::wire::request::treasury::{Available, Minted, Wanted};
use raida::wire::status::Status;
use zeroize::Zeroizing;

use crate::common::payload::TREASURY_KEY;
use crate::common::{Purse, locker_key, on_every_node, payload, sealed_1, sealed_4, trade_an, world_with_coins};
use crate::model::Story;

const SESSION: u32 = 9;

fn key() -> Secret {
    Secret::new(TREASURY_KEY)
}

/// This machine's own client, which may ask in the clear.
fn here() -> Client {
    from("127.0.0.1", Client::default())
}

fn from(peer: &str, client: Client) -> Client {
    Client { peer: peer.parse::<IpAddr>().unwrap(), ..client }
}

fn den(den: i8) -> Denomination {
    Denomination::new(den).unwrap()
}

/// Starts the node anew with a treasury that serves this machine and one network.
fn open_treasury(world: &mut World) {
    let networks = ["127.0.0.0/8", "198.51.100.0/24"].map(|network| network.parse().unwrap());
    world.settings.treasury = Some(Treasury { key: Zeroizing::new(key()), networks: networks.into() });
    world.crash(world.settings.shards);
}

/// The coins that a session may create.
fn available(world: &mut World, session: u32, of: Denomination) -> Vec<RawCoin> {
    let request = Request::AvailableSerialNumbers { session, key: key(), denominations: Wanted::only(of) };
    let (status, answer) = world.call(&here(), &request);
    assert_eq!(status, Status::Success);
    let mut rest = &answer[..];
    let available = Available::take(&mut rest).unwrap();
    assert_eq!((available.den, rest), (of.get(), &[][..]));
    let ranges = available.ranges.iter().flat_map(|range| range.first..=range.last);
    ranges.chain(available.singles.iter()).map(|sn| RawCoin { den: of.get(), sn }).collect()
}

fn create(world: &mut World, client: &Client, session: u32, coins: &[RawCoin]) -> (Status, Vec<u8>) {
    let bytes = bytes_of(coins.iter().copied());
    world.call(client, &Request::CreateCoins { session, key: key(), coins: Coins::new(&bytes).unwrap() })
}

fn free(world: &mut World, coins: &[RawCoin]) -> Status {
    let bytes = bytes_of(coins.iter().copied());
    world.call(&here(), &Request::FreeCoins { session: 0, key: key(), coins: Coins::new(&bytes).unwrap() }).0
}

fn delete(world: &mut World, rows: &[(RawCoin, Secret)]) -> (Status, Vec<u8>) {
    let bytes = bytes_of(rows.iter().copied());
    world.call(&here(), &Request::DeleteCoins { key: key(), coins: SecretCoins::new(&bytes).unwrap() })
}

/// Notes created coins with the ANs of the answer.
fn note(purse: &mut Purse, coins: &[RawCoin], answer: &[u8]) -> Vec<(CoinId, Secret)> {
    let ans = answer.chunks_exact(16).map(|an| Secret::new(an.try_into().unwrap()));
    let created: Vec<_> = coins.iter().map(|coin| coin.id().unwrap()).zip(ans).collect();
    assert_eq!(created.len(), coins.len());
    created.iter().for_each(|&(coin, an)| purse.set(coin, an));
    created
}

#[test]
fn it_is_closed_unless_it_is_opened() {
    on_every_node(|world, purse| {
        let coins = bytes_of([RawCoin { den: 0, sn: 5 }]);
        let row = bytes_of([(RawCoin { den: 0, sn: 5 }, key())]);
        let (coins, row) = (Coins::new(&coins).unwrap(), SecretCoins::new(&row).unwrap());
        let requests = |key| {
            [
                Request::AvailableSerialNumbers { session: 1, key, denominations: Wanted::only(den(0)) },
                Request::CreateCoins { session: 1, key, coins },
                Request::DeleteCoins { key, coins: row },
                Request::FreeCoins { session: 1, key, coins },
                Request::AllSerialNumbers { key, den: 0 },
            ]
        };
        let coin = purse.take_one();
        let near = from("198.51.100.7", sealed_4(coin, purse.an(coin)));
        let ask_all = |world: &mut World, client: &Client, key, status| {
            for request in requests(key) {
                assert_eq!(world.call(client, &request), (status, Vec::new()), "{request:?}");
            }
        };
        ask_all(world, &here(), key(), Status::NotImplemented);
        open_treasury(world);
        let wrong = key().xor(Secret::new([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
        for client in [&here(), &near] {
            ask_all(world, client, wrong, Status::AdminAuth);
            ask_all(world, client, Secret::default(), Status::AdminAuth);
        }
        // The right key, from elsewhere, or where others can read it on its way.
        ask_all(world, &from("203.0.113.7", near.clone()), key(), Status::AdminAuth);
        ask_all(world, &from("198.51.100.7", Client::default()), key(), Status::EncryptionCode);
        ask_all(world, &from("198.51.100.7", sealed_1(coin, purse.an(coin))), key(), Status::EncryptionCode);
        let all = Request::AllSerialNumbers { key: key(), den: 0 };
        for client in [&here(), &near, &from("::ffff:127.0.0.1", Client::default())] {
            assert_eq!(world.call(client, &all).0, Status::Success);
        }
    });
}

#[test]
fn coins_are_created_deleted_and_freed() {
    on_every_node(|world, purse| {
        open_treasury(world);
        let offered = available(world, SESSION, den(3));
        assert_eq!(offered.len(), 1024, "as many as there are at most");
        // In any order: the answer's is the request's.
        let coins = [offered[70], offered[3], offered[1000], offered[4]];
        let (status, answer) = create(world, &here(), SESSION, &coins);
        assert_eq!(status, Status::Success);
        let created = note(purse, &coins, &answer);
        assert!(created.iter().all(|(_, an)| an.place() == Place::Wallet));
        purse.check(world);

        // What is in circulation is not created again, nor what is named beside it: the session has words that both are in.
        let again = available(world, SESSION, den(3));
        assert!(again.contains(&offered[8]) && !again.contains(&coins[0]));
        assert_eq!(create(world, &here(), SESSION, &[offered[8], coins[0]]), (Status::PageNotReserved, Vec::new()));
        let rows: Vec<_> = created.iter().map(|&(coin, an)| (RawCoin::from(coin), an)).collect();
        let wrong = (rows[1].0, purse.fresh());
        assert_eq!(delete(world, &[rows[0], wrong]), (Status::Mixed, vec![0b01]));
        purse.lose(created[0].0);
        assert_eq!(delete(world, &[rows[0], wrong]), (Status::AllFail, Vec::new()), "a free coin proves nothing");
        assert_eq!(delete(world, &[rows[1], rows[1]]), (Status::Mixed, vec![0b01]), "named twice");
        purse.lose(created[1].0);
        purse.check(world);

        assert_eq!(free(world, &[coins[2], coins[0], coins[3]]), Status::Success, "one is free already");
        purse.lose(created[2].0);
        purse.lose(created[3].0);
        purse.check(world);
        world.crash(world.settings.shards);
    });
}

#[test]
fn only_what_a_session_has_reserved_is_created() {
    on_every_node(|world, purse| {
        open_treasury(world);
        let offered = available(world, SESSION, den(2));
        let refused = |status| (status, Vec::new());
        let coin = &offered[..1];
        assert_eq!(create(world, &here(), SESSION + 1, coin), refused(Status::PageNotReserved));
        assert_eq!(create(world, &here(), 0, coin), refused(Status::PageNotReserved));
        assert_eq!(create(world, &here(), 0xEEEE_EEEE, coin), refused(Status::PageNotReserved));
        let twice = [offered[0], offered[1], offered[0]];
        assert_eq!(create(world, &here(), SESSION, &twice), refused(Status::SerialNumberOrDenomination));
        let none = [offered[0], RawCoin { den: 7, sn: 1 }];
        assert_eq!(create(world, &here(), SESSION, &none), refused(Status::SerialNumberOrDenomination));
        // What was promised is promised for a while.
        world.monotonic_us += Model::PROMISE_US;
        assert_eq!(create(world, &here(), SESSION, coin), refused(Status::PageNotReserved));
        assert_eq!(available(world, SESSION, den(2)), offered);
        // Another session is offered others, of every denomination at once.
        let request =
            Request::AvailableSerialNumbers { session: SESSION + 1, key: key(), denominations: Wanted([1; 16]) };
        let (status, answer) = world.call(&here(), &request);
        assert_eq!(status, Status::Success);
        let (mut rest, mut dens) = (&answer[..], Vec::new());
        while !rest.is_empty() {
            let of_den = Available::take(&mut rest).unwrap();
            let coins: u32 = of_den.ranges.iter().map(|range| range.last - range.first + 1).sum();
            assert_eq!(coins as usize + of_den.singles.len(), 1024);
            let promised = |range: raida::wire::request::treasury::Range| {
                of_den.den == 2 && offered.iter().any(|coin| (range.first..=range.last).contains(&coin.sn))
            };
            assert!(!of_den.ranges.iter().any(promised));
            dens.push(of_den.den);
        }
        assert_eq!(dens, (-8..=6).collect::<Vec<i8>>());
        let nothing = Request::AvailableSerialNumbers { session: 1, key: key(), denominations: Wanted([0; 16]) };
        assert_eq!(world.call(&here(), &nothing), (Status::Success, Vec::new()));
        purse.check(world);
    });
}

#[test]
fn coins_are_taken_out_of_lockers_but_not_off_the_market() {
    on_every_node(|world, purse| {
        open_treasury(world);
        let locker = locker_key(3);
        let stored = purse.take(2);
        assert_eq!(purse.store(world, &Client::default(), &stored, locker).0, Status::AllPass);
        let offer = trade_an(7, 1000, raida::coin::TradeCoin::Bitcoin);
        let for_sale = purse.take(2);
        assert_eq!(purse.put_for_sale(world, &Client::default(), &for_sale, offer).0, Status::AllPass);

        let (in_locker, on_market) = (RawCoin::from(stored[0]), RawCoin::from(for_sale[0]));
        assert_eq!(free(world, &[in_locker, on_market]), Status::LockerUsed);
        assert_eq!(delete(world, &[(on_market, offer)]), (Status::AllFail, Vec::new()));
        purse.check(world);
        assert_eq!(free(world, &[in_locker]), Status::Success);
        purse.lose(stored[0]);
        let left = bytes_of([RawCoin::from(stored[1])]);
        assert_eq!(world.call(&Client::default(), &Request::Peek { key: locker }), (Status::AllPass, left));
        assert_eq!(delete(world, &[(stored[1].into(), locker)]).0, Status::AllPass);
        purse.lose(stored[1]);
        assert_eq!(world.call(&Client::default(), &Request::Peek { key: locker }).0, Status::AllFail);
    });
}

#[test]
fn the_bitmap_is_what_is_in_circulation() {
    on_every_node(|world, purse| {
        open_treasury(world);
        for of in Denomination::all() {
            let (status, answer) = world.call(&here(), &Request::AllSerialNumbers { key: key(), den: of.get() });
            assert_eq!(status, Status::Success);
            let minted = Minted::decode(&answer).unwrap();
            assert_eq!(minted.den, of.get());
            let coins = (0..1_024_000).filter(|&sn| minted.bits.get(sn as usize)).map(|sn| CoinId::new(of.get(), sn));
            let expected = purse.all().map(|(coin, _)| Some(coin)).filter(|coin| coin.unwrap().denomination() == of);
            assert!(coins.eq(expected), "{of}");
        }
        let none = Request::AllSerialNumbers { key: key(), den: 7 };
        assert_eq!(world.call(&here(), &none).0, Status::SerialNumberOrDenomination);
        let datagram = Client { datagram: true, ..here() };
        let all = Request::AllSerialNumbers { key: key(), den: 0 };
        assert_eq!(world.call(&datagram, &all), (Status::TooManyCoins, Vec::new()));
    });
}

/// Coins whose ANs nobody is told would be lost.
#[test]
fn nothing_is_created_whose_answer_does_not_fit() {
    on_every_node(|world, purse| {
        world.settings.datagram_bytes_max = 1400;
        open_treasury(world);
        let offered = available(world, SESSION, den(0));
        let datagram = Client { datagram: true, ..here() };
        // 32 bytes of header and 2 of terminator leave room for 85.
        assert_eq!(create(world, &datagram, SESSION, &offered[..86]), (Status::TooManyCoins, Vec::new()));
        purse.check(world);
        let (status, answer) = create(world, &datagram, SESSION, &offered[..85]);
        assert_eq!(status, Status::Success);
        note(purse, &offered[..85], &answer);
    });
}

/// Two sessions, or one twice, at the same moment: a coin is created once.
#[test]
fn a_coin_is_created_once() {
    on_every_node(|world, purse| {
        open_treasury(world);
        let offered = available(world, SESSION, den(1));
        let request = [&SESSION.to_be_bytes()[..], key().bytes(), &payload::coins(&offered[..2])].concat();
        let kind = raida::wire::request::CommandKind::CreateCoins;
        let clients: Vec<Client> =
            (0..4).map(|shard| Client { shard: shard % world.settings.shards, ..here() }).collect();
        let sent: Vec<_> = clients.iter().map(|client| world.send_payload(client, kind.command(), &request)).collect();
        world.settle();
        let answers = clients.iter().zip(sent).map(|(client, token)| world.answer(client, token).expect("an answer"));
        let (done, refused): (Vec<_>, Vec<_>) = answers.partition(|(status, _)| *status == Status::Success);
        assert_eq!((done.len(), refused.len()), (1, 3));
        assert!(refused.iter().all(|answer| *answer == (Status::PageNotReserved, Vec::new())));
        note(purse, &offered[..2], &done[0].1);
    });
}

/// Clients and the treasury about the same few coins at once: some order explains every answer, and the node has the
/// coins which that order leaves.
#[test]
fn whatever_meets_the_treasury_is_explained() {
    for shards in [1, 2, 4] {
        let (mut world, purse) = world_with_coins(shards, 31);
        open_treasury(&mut world);
        let mut story = Story::of(world, &purse, 31);
        let (mut random, mut workload) = (Seeded(32), Workload::new(33, CoinId::new(-1, 0).unwrap()));
        let mut done = [0; 3];
        for session in 1_000_000..1_000_100 {
            let asked = Op::SerialNumbers { session, operation: 1, den: random.below(2) as i8 + 1 };
            let promised = story.burst(vec![asked]).remove(0).answer.unwrap().1;
            let sns = promised[1..].chunks_exact(4).map(|sn| u32::from_be_bytes(sn.try_into().unwrap()));
            let promised: Vec<CoinId> = sns.map(|sn| CoinId::new(promised[0] as i8, sn).unwrap()).collect();
            let guess = story.models[0].clone();
            let few = workload.few(&guess);
            let rows = few.iter().map(|&coin| (coin, guess.ans[&coin])).collect::<Vec<Row>>();
            let from = random.below(60);
            let mut ops = vec![
                // Two that make some of the same coins, and one that may not.
                Op::Create { session, coins: promised[from..from + 4].to_vec() },
                Op::Create { session, coins: promised[from + 2..from + 4].to_vec() },
                Op::Create { session, coins: vec![few[0]] },
                Op::Delete(rows[rows.len().saturating_sub(2)..].to_vec()),
                Op::Free(few[..1].iter().copied().chain([promised[from]]).collect()),
                workload.op(&guess, &few),
                workload.op(&guess, &few),
            ];
            let turns = random.below(ops.len());
            ops.rotate_left(turns);
            for past in story.burst(ops) {
                let answer = past.answer.expect("all are answered");
                workload.hear(&past.op, &answer);
                let kind = match past.op {
                    Op::Create { .. } => 0,
                    Op::Delete(_) => 1,
                    Op::Free(_) => 2,
                    _ => continue,
                };
                done[kind] += usize::from(answer.0.is_success());
            }
            story.check();
        }
        assert!(done[0] == 100 && done[1] > 30 && done[2] > 50, "{done:?}");
    }
}
