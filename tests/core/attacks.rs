//! Every attack of DESIGN.md's table that concerns the core, on nodes of 1, 2 and 4 shards: refused, and the honest
//! request beside it served. After each the purse asks the node about every coin.

use std::collections::BTreeSet;

use crate::common::payload::{self, offer_an, raw};
use crate::common::{
    Purse, ask, locker_key, on_every_node, race, sealed_1, sealed_2, sealed_4, sealed_5, status, trade_an,
};
use raida::coin::{CoinId, Denomination, Secret, TradeCoin};
use raida::shard::interface::Now;
use raida::sim::{Client, World};
use raida::wire::items::RawCoin;
use raida::wire::request::CommandKind::{self, *};
use raida::wire::status::Status;

/// A payout address.
const ADDRESS: &[u8] = b"an address of twenty";

/// A batch under one sum, in every command that takes one.
fn by_sum(coins: &[RawCoin], sum: Secret, number: u32) -> [(CommandKind, Vec<u8>); 5] {
    let key = locker_key(200 + number as u8);
    [
        (Store, payload::store(coins, sum, key)),
        (PutForSale, payload::sale(coins, sum, offer_an(number, 9), ADDRESS)),
        (StoreMultiple, payload::store_multiple(&[(coins, sum, key)])),
        (DetectSum, payload::detect_sum(coins, sum)),
        (PownSum, payload::pown_sum(coins, sum, Secret::new([number as u8; 16]))),
    ]
}

/// Two coins of different ANs under their sum are served by each of those commands.
fn honest_sums(world: &mut World, purse: &mut Purse, number: u32) {
    for place in 0..5 {
        let coins = purse.take(2);
        let (kind, payload) = &by_sum(&raw(&coins), purse.sum(&coins), number)[place];
        let (status, answer) = ask(world, &Client::default(), *kind, payload);
        assert_eq!((status, answer), (Status::AllPass, if *kind == StoreMultiple { vec![1] } else { vec![] }));
        for coin in coins {
            let an = match kind {
                Store | StoreMultiple => locker_key(200 + number as u8),
                PutForSale => offer_an(number, 9),
                PownSum => purse.an(coin).xor(Secret::new([number as u8; 16])),
                _ => purse.an(coin),
            };
            purse.set(coin, an);
        }
    }
}

#[test]
fn a_coin_listed_twice_cancels_itself_in_the_sum() {
    on_every_node(|world, purse| {
        let (victim, other) = (RawCoin::from(purse.take_one()), purse.take_one());
        let zero = Secret::default();
        for (coins, sum) in [
            (vec![victim, victim], zero),
            (vec![victim; 4], zero),
            (vec![victim, other.into(), victim], purse.an(other)),
            (vec![victim, other.into(), victim, victim], purse.an(other)),
        ] {
            for (kind, payload) in by_sum(&coins, sum, 1) {
                let expected = match kind {
                    StoreMultiple => (Status::AllFail, vec![0]),
                    _ => (Status::SerialNumberOrDenomination, vec![]),
                };
                assert_eq!(ask(world, &Client::default(), kind, &payload), expected, "{kind:?}");
            }
        }
        // Once in each of two lockers: the second mention fails.
        let an = purse.an(victim.id().unwrap());
        let lockers = [(&[victim][..], an, locker_key(1)), (&[victim], an, locker_key(2))];
        let answer = ask(world, &Client::default(), StoreMultiple, &payload::store_multiple(&lockers));
        assert_eq!(answer, (Status::Mixed, vec![1, 0]));
        purse.set(victim.id().unwrap(), locker_key(1));
        honest_sums(world, purse, 1);
    });
}

#[test]
fn coins_with_equal_ans_cancel_likewise() {
    on_every_node(|world, purse| {
        let key = locker_key(3);
        let victims = purse.take(3);
        assert_eq!(purse.store(world, &Client::default(), &victims, key).0, Status::AllPass);
        let other = purse.take_one();
        let [a, b, c] = raw(&victims)[..] else { unreachable!("three coins") };
        for (coins, sum) in [
            (vec![a, b], Secret::default()),
            (vec![b, other.into(), c], purse.an(other)),
            // The sum is right, and even the key is known: still no proof.
            (vec![a, b, c], key),
            (vec![c, other.into(), a], purse.sum(&[victims[2], other, victims[0]])),
        ] {
            for (kind, payload) in by_sum(&coins, sum, 2) {
                let answer = if kind == StoreMultiple { vec![0] } else { vec![] };
                assert_eq!(ask(world, &Client::default(), kind, &payload), (Status::AllFail, answer), "{kind:?}");
            }
        }
        // One of them under its own AN is proved; so is one in each of two lockers; and all come out with remove.
        assert_eq!(status(world, DetectSum, &payload::detect_sum(&[a], key)), Status::AllPass);
        let lockers = [(&[a][..], key, locker_key(4)), (&[b], key, locker_key(5))];
        let answer = ask(world, &Client::default(), StoreMultiple, &payload::store_multiple(&lockers));
        assert_eq!(answer, (Status::AllPass, vec![1, 1]));
        purse.set(victims[0], locker_key(4));
        purse.set(victims[1], locker_key(5));
        let rows = purse.fresh_rows(&[c]);
        assert_eq!(status(world, Remove, &payload::remove(key, &rows)), Status::AllPass);
        purse.set_rows(&rows);
        honest_sums(world, purse, 2);
    });
}

#[test]
fn join_of_one_authentic_coin_named_ten_times() {
    on_every_node(|world, purse| {
        let coins = purse.take_of(-1, 10);
        let target = purse.offered(world, 5, 2, -1)[0];
        let fresh = purse.fresh();
        let mut rows = purse.rows(&[coins[0]; 10]);
        let refused = Status::SerialNumberOrDenomination;
        assert_eq!(status(world, Join, &payload::exchange(5, (target, fresh), &rows)), refused);
        rows[..9].copy_from_slice(&purse.rows(&coins[..9]));
        assert_eq!(status(world, Join, &payload::exchange(5, (target, fresh), &rows)), refused, "the first again");
        purse.join_coins(world, &Client::default(), 5, &coins);
    });
}

#[test]
fn targets_of_break_and_join_in_circulation_not_distinct_or_not_reserved() {
    on_every_node(|world, purse| {
        let (source, victim) = (purse.take_one(), purse.take_of(-1, 1)[0]);
        let source_row = (RawCoin::from(source), purse.an(source));
        let mine = purse.offered(world, 5, 1, 0);
        let rows = purse.fresh_rows(&mine[..10]);
        let with = |row: usize, coin: RawCoin| {
            let mut rows = rows.clone();
            rows[row].0 = coin;
            payload::exchange(5, source_row, &rows)
        };
        // The victim's page may be the session's own: it is in circulation all the same.
        assert_eq!(status(world, Break, &with(3, victim.into())), Status::PageNotReserved);
        assert_eq!(status(world, Break, &with(3, mine[4])), Status::SerialNumberOrDenomination);
        let others: Vec<RawCoin> =
            purse.offered(world, 6, 1, 0).into_iter().filter(|coin| !mine.contains(coin)).collect();
        assert_eq!(status(world, Break, &with(9, others[0])), Status::PageNotReserved, "another session's");
        assert_eq!(status(world, Break, &payload::exchange(7, source_row, &rows)), Status::PageNotReserved);
        let is_offered =
            |coin: &RawCoin| [&mine, &others].iter().any(|offer| offer.iter().any(|o| o.sn / 64 == coin.sn / 64));
        let nobodys = (0..).map(|word| RawCoin { den: -1, sn: word * 64 + 63 }).find(|coin| !is_offered(coin));
        assert_eq!(status(world, Break, &with(0, nobodys.unwrap())), Status::PageNotReserved);
        // What was reserved is not after 16 s; renewed, it is.
        world.monotonic_us += 16_000_001;
        assert_eq!(status(world, Break, &with(0, mine[0])), Status::PageNotReserved);
        purse.break_coin(world, &Client::default(), 5, source);

        let sources = purse.take_of(-1, 10);
        let victim = purse.take_of(0, 1)[0];
        let fresh = purse.fresh();
        let source_rows = purse.rows(&sources);
        let foreign = purse.offered(world, 8, 2, -1)[0];
        for target in [RawCoin::from(victim), foreign, RawCoin { den: 0, sn: 999_999 }] {
            let payload = payload::exchange(9, (target, fresh), &source_rows);
            assert_eq!(status(world, Join, &payload), Status::PageNotReserved);
        }
        purse.join_coins(world, &Client::default(), 9, &sources);
    });
}

#[test]
fn what_a_break_used_is_reserved_no_more() {
    on_every_node(|world, purse| {
        let coins = purse.take(2);
        let offered = purse.offered(world, 5, 1, 0);
        let client = Client::default();
        assert_eq!(purse.break_coin(world, &client, 5, coins[0]).len(), 10);
        let unused: Vec<RawCoin> = offered.into_iter().skip(10).filter(|coin| coin.sn % 64 > 12).take(10).collect();
        let rows = purse.fresh_rows(&unused);
        let second = payload::exchange(5, (coins[1].into(), purse.an(coins[1])), &rows);
        assert_eq!(status(world, Break, &second), Status::PageNotReserved);
        purse.break_coin(world, &client, 5, coins[1]);
    });
}

/// Of a denomination, the words that sessions hold and the free serial numbers in them, as all shards tell.
fn reserved(world: &World, den: Denomination) -> (u64, u64) {
    let now = Now { monotonic_us: world.monotonic_us, unix_ms: 0 };
    let numbers = (0..world.settings.shards).map(|shard| world.shard(shard).numbers(now));
    numbers.fold((0, 0), |(words, serial_numbers), told| {
        assert!(told.reserved_words[den.index()] <= told.free_words[den.index()]);
        (words + told.reserved_words[den.index()], serial_numbers + told.reserved[den.index()])
    })
}

#[test]
fn what_is_reserved_is_told() {
    on_every_node(|world, purse| {
        let dens = [-1, 0].map(|den| Denomination::new(den).unwrap());
        assert_eq!(dens.map(|den| reserved(world, den)), [(0, 0); 2]);
        let offered = purse.offered(world, 5, 1, 0);
        let words: BTreeSet<u32> = offered.iter().map(|coin| coin.sn / 64).collect();
        let [(held, serial_numbers), others] = dens.map(|den| reserved(world, den));
        assert_eq!((held, others), (words.len() as u64, (0, 0)));
        assert!((offered.len() as u64..=held * 64).contains(&serial_numbers), "{serial_numbers}");
        purse.offered(world, 6, 1, 0);
        assert!(reserved(world, dens[0]).0 > held);
        world.monotonic_us += 16_000_001;
        assert_eq!(reserved(world, dens[0]), (0, 0));
    });
}

#[test]
fn session_0_is_no_session() {
    on_every_node(|world, purse| {
        assert_eq!(status(world, ChangeSerialNumbers, &payload::serial_numbers(0, 1, 0)), Status::InvalidParameter);
        let source = purse.take_one();
        let targets: Vec<RawCoin> = (0..10).map(|sn| RawCoin { den: -1, sn: 900_000 + sn }).collect();
        let rows = purse.fresh_rows(&targets);
        let broken = payload::exchange(0, (source.into(), purse.an(source)), &rows);
        assert_eq!(status(world, Break, &broken), Status::PageNotReserved);
        // The session stands before the PANs.
        let mut for_sale = rows.clone();
        for_sale[0].1 = offer_an(1, 5);
        let for_sale = payload::exchange(0, (source.into(), purse.an(source)), &for_sale);
        assert_eq!(status(world, Break, &for_sale), Status::PageNotReserved);
        let sources = purse.take_of(-1, 10);
        let joined = payload::exchange(0, (RawCoin { den: 0, sn: 900_000 }, purse.fresh()), &purse.rows(&sources));
        assert_eq!(status(world, Join, &joined), Status::PageNotReserved);
        purse.break_coin(world, &Client::default(), 1, source);
        purse.join_coins(world, &Client::default(), 1, &sources);
    });
}

/// What the node has on disk for a coin, and whether it is free there.
fn stored(world: &mut World, coin: CoinId) -> (Secret, bool) {
    let shards = world.settings.shards;
    assert!(world.shut_down());
    world.crash(shards);
    let page = coin.page();
    let mut frame = raida::store::layout::PageFrame::zeroed();
    let used = raida::store::control::UsedPages::none();
    raida::store::pages::read_page(&world.storage, page, &used, &mut frame).expect("a whole page");
    let record = frame.record(coin.slot());
    (record.an, record.is_free())
}

#[test]
fn a_freed_coin_does_not_come_back_through_its_old_an() {
    on_every_node(|world, purse| {
        let client = Client::default();
        let (broken, witness) = (purse.take_one(), purse.take_one());
        let joined = purse.take_of(-1, 10);
        let key = locker_key(7);
        let sold = purse.take_of(1, 1)[0];
        let offer = offer_an(7, 1);
        let was = [(broken, purse.an(broken)), (joined[3], purse.an(joined[3])), (joined[0], key), (sold, offer)];
        assert_eq!(purse.store(world, &client, &joined[..1], key).0, Status::AllPass);
        assert_eq!(purse.put_for_sale(world, &client, &[sold], offer).0, Status::AllPass);
        // As long as they are in circulation their ANs are keys.
        for client in [sealed_1(broken, was[0].1), sealed_2(key), sealed_4(broken, was[0].1)] {
            assert_eq!(ask(world, &client, Echo, b"").0, Status::Success);
        }
        purse.break_coin(world, &client, 1, broken);
        purse.join_coins(world, &client, 1, &joined);
        assert_eq!(status(world, RemoveTradeLocker, &payload::take_back(offer, None)), Status::AllPass);
        purse.lose(sold);

        for (coin, old) in was {
            let (now, is_free) = stored(world, coin);
            assert!(is_free && now != old, "freed and overwritten");
            for an in [old, now, Secret::default()] {
                authenticates_nothing(world, purse, coin, an, witness);
            }
        }
        assert_eq!(refused(world, &sealed_2(key)), Status::Encryption, "the locker is empty");
        let held = purse.an(witness);
        for client in [sealed_1(witness, held), sealed_4(witness, held), sealed_5((witness, held), (witness, held))] {
            assert_eq!(ask(world, &client, Echo, b"").0, Status::Success);
        }
    });
}

/// The status of an echo that is refused before it is opened: its answer has no payload to decrypt.
fn refused(world: &mut World, client: &Client) -> Status {
    ask(world, client, Echo, b"").0
}

fn authenticates_nothing(world: &mut World, purse: &mut Purse, coin: CoinId, an: Secret, witness: CoinId) {
    let named = RawCoin::from(coin);
    let fresh = purse.fresh();
    assert_eq!(status(world, Detect, &payload::detect(&[(named, an)])), Status::AllFail);
    assert_eq!(status(world, Pown, &payload::pown(&[(named, an, fresh)])), Status::AllFail);
    for (kind, payload) in by_sum(&[named], an, 9) {
        assert_eq!(status(world, kind, &payload), Status::AllFail, "{kind:?}");
    }
    assert_eq!(status(world, Remove, &payload::remove(an, &[(named, fresh)])), Status::AllFail);
    let targets = purse.offered(world, 2, 1, named.den);
    let rows = purse.fresh_rows(&targets[..10]);
    assert_eq!(status(world, Break, &payload::exchange(2, (named, an), &rows)), Status::AllFail);
    assert_eq!(refused(world, &sealed_1(coin, an)), Status::Encryption);
    assert_eq!(refused(world, &sealed_4(coin, an)), Status::EncryptionCoinNotFound);
    let held = (witness, purse.an(witness));
    assert_eq!(refused(world, &sealed_5((coin, an), held)), Status::EncryptionCoinNotFound);
    assert_eq!(refused(world, &sealed_5(held, (coin, an))), Status::EncryptionCoinNotFound);
}

#[test]
fn a_failure_half_way_leaves_nothing_half_done() {
    for steps in 0..60 {
        let (mut world, mut purse) = crate::common::world_with_coins(1 + steps % 4, 900 + u64::from(steps));
        let source = purse.take_of(1, 1)[0];
        let targets = purse.offered(&mut world, 3, 1, 1);
        let rows = purse.fresh_rows(&targets[..10]);
        let payload = payload::exchange(3, (source.into(), purse.an(source)), &rows);
        let client = Client::default();
        let token = world.send_payload(&client, Break.command(), &payload);
        (0..steps).for_each(|_| _ = world.advance());
        let answered = world.answer(&client, token);
        world.crash(1 + (steps + 1) % 4);
        let broken = status(&mut world, Detect, &payload::detect(&rows));
        assert!(broken == Status::AllPass || broken == Status::AllFail && answered.is_none(), "after {steps} steps");
        if broken == Status::AllPass {
            purse.lose(source);
            purse.set_rows(&rows);
        }
        purse.check(&mut world);
    }
}

#[test]
fn pans_that_look_like_a_trade_lockers_an() {
    on_every_node(|world, purse| {
        let client = Client::default();
        let key = locker_key(8);
        let locked = purse.take(2);
        assert_eq!(purse.store(world, &client, &locked, key).0, Status::AllPass);
        let source = purse.take_one();
        let sources = purse.take_of(-1, 10);
        for coin_type in TradeCoin::ALL {
            let pan = trade_an(1, 1, coin_type);
            let locked = raw(&locked);
            let fresh = purse.fresh();
            let removed = payload::remove(key, &[(locked[0], fresh), (locked[1], pan)]);
            assert_eq!(status(world, Remove, &removed), Status::InvalidPan);
            let powned = payload::pown(&[(source.into(), purse.an(source), pan)]);
            assert_eq!(status(world, Pown, &powned), Status::InvalidPan);
            let delta = purse.an(source).xor(pan);
            let powned = payload::pown_sum(&[source.into()], purse.an(source), delta);
            assert_eq!(status(world, PownSum, &powned), Status::InvalidPan);
            let targets = purse.offered(world, 2, 1, 0);
            let mut rows = purse.fresh_rows(&targets[..10]);
            rows[9].1 = pan;
            let broken = payload::exchange(2, (source.into(), purse.an(source)), &rows);
            assert_eq!(status(world, Break, &broken), Status::InvalidPan);
            let target = purse.offered(world, 2, 2, -1)[0];
            let joined = payload::exchange(2, (target, pan), &purse.rows(&sources));
            assert_eq!(status(world, Join, &joined), Status::InvalidPan);
            let stored = payload::store(&[source.into()], purse.an(source), pan);
            assert_eq!(status(world, Store, &stored), Status::InvalidPan);
            let stored = payload::store_multiple(&[(&[source.into()], purse.an(source), pan)]);
            assert_eq!(status(world, StoreMultiple, &stored), Status::AllFail);
            let list = ask(world, &client, ListForSale, &[coin_type as u8, 255]);
            assert_eq!(list, (Status::AllPass, vec![]), "nothing came on the market");
        }
        // A type that is none makes it an AN like others; a locker's key puts the coin there, whichever command it is.
        let mut like = *purse.fresh().bytes();
        like[13..].copy_from_slice(&[3, 0xEE, 0xEE]);
        let rows = [(locked[0].into(), Secret::new(like)), (locked[1].into(), locker_key(9))];
        assert_eq!(status(world, Remove, &payload::remove(key, &rows)), Status::AllPass);
        purse.set_rows(&rows);
        let peeked = ask(world, &client, Peek, locker_key(9).bytes());
        assert_eq!(peeked, (Status::AllPass, payload::coins(&[locked[1].into()])));
        purse.break_coin(world, &client, 2, source);
        purse.join_coins(world, &client, 2, &sources);
    });
}

#[test]
fn buy_moves_no_coins_without_payment() {
    on_every_node(|world, purse| {
        let shards = world.settings.shards;
        let client = Client::default();
        let coins = purse.take(2);
        let value: u64 = coins.iter().map(|coin| coin.denomination().value()).sum();
        let offer = offer_an(1, 50);
        assert_eq!(purse.put_for_sale(world, &client, &coins, offer).0, Status::AllPass);
        let key = locker_key(11);
        let bought = payload::buy(key, 1, value, 50, b"memo");
        let trusted = world.settings.settlement;
        world.settings.settlement = raida::config::Config::parse("", "").unwrap().settings().settlement;
        world.crash(shards);
        assert_eq!(status(world, Buy, &bought), Status::TradeCoin, "off unless configured");
        purse.check(world);
        world.settings.settlement = trusted;
        world.crash(shards);
        assert_eq!(status(world, Buy, &bought), Status::AllPass);
        coins.iter().for_each(|&coin| purse.set(coin, key));
    });
}

#[test]
fn den_and_sn_out_of_range_and_aliases_of_a_real_coin() {
    on_every_node(|world, purse| {
        let coin = purse.take_one();
        let (an, sn) = (purse.an(coin), coin.serial_number().get());
        let key = locker_key(12);
        let sources = purse.take_of(-1, 10);
        let targets = purse.offered(world, 3, 1, 0);
        let rows = purse.fresh_rows(&targets[..10]);
        let source_rows = purse.rows(&sources);
        let none = Status::SerialNumberOrDenomination;
        for alias in [
            RawCoin { den: 0, sn: sn | 0x8000_0000 },
            RawCoin { den: 0, sn: sn + (1 << 26) },
            RawCoin { den: 0, sn: sn + 1_024_000 },
            RawCoin { den: 0, sn: u32::MAX },
            RawCoin { den: 7, sn },
            RawCoin { den: -9, sn },
            RawCoin { den: i8::MIN, sn },
            RawCoin { den: i8::MAX, sn },
        ] {
            for (kind, payload) in by_sum(&[alias], an, 3) {
                let expected = if kind == StoreMultiple { Status::AllFail } else { none };
                assert_eq!(status(world, kind, &payload), expected, "{kind:?} {alias:?}");
            }
            let fresh = purse.fresh();
            assert_eq!(status(world, Detect, &payload::detect(&[(alias, an)])), Status::AllFail);
            assert_eq!(status(world, Pown, &payload::pown(&[(alias, an, fresh)])), Status::AllFail);
            assert_eq!(status(world, Remove, &payload::remove(key, &[(alias, fresh)])), Status::AllFail);
            assert_eq!(status(world, Break, &payload::exchange(3, (alias, an), &rows)), none);
            let mut wrong = rows.clone();
            wrong[5].0 = RawCoin { den: -1, ..alias };
            if wrong[5].0.id().is_none() {
                assert_eq!(status(world, Break, &payload::exchange(3, (coin.into(), an), &wrong)), none);
            }
            assert_eq!(status(world, Join, &payload::exchange(3, (alias, fresh), &source_rows)), none);
            let mut wrong = source_rows.clone();
            wrong[5].0 = alias;
            let target = purse.offered(world, 3, 2, -1)[0];
            assert_eq!(status(world, Join, &payload::exchange(3, (target, fresh), &wrong)), none);
            assert_eq!(refused(world, &alias_client(alias, an)), Status::Encryption);
            // Beside a real coin the alias alone fails.
            let both = payload::detect(&[(coin.into(), an), (alias, an)]);
            assert_eq!(ask(world, &Client::default(), Detect, &both), (Status::Mixed, vec![1]));
        }
        // A source or a target of another denomination.
        let payload = payload::exchange(3, (coin.into(), an), &source_rows.map_den(0));
        assert_eq!(status(world, Break, &payload), none);
        purse.break_coin(world, &Client::default(), 3, coin);
        purse.join_coins(world, &Client::default(), 3, &sources);
    });
}

/// The same rows, of another denomination.
trait MapDen {
    fn map_den(&self, den: i8) -> Vec<(RawCoin, Secret)>;
}

impl MapDen for Vec<(RawCoin, Secret)> {
    fn map_den(&self, den: i8) -> Vec<(RawCoin, Secret)> {
        self.iter().map(|&(coin, an)| (RawCoin { den, ..coin }, an)).collect()
    }
}

fn alias_client(alias: RawCoin, an: Secret) -> Client {
    use raida::wire::{header::KeyName, seal::Key};
    Client { key_name: KeyName::Coin(alias), key: Key::of_secret(an), ..Client::default() }
}

#[test]
fn a_locker_key_takes_no_coin_back_after_it_moved_on() {
    on_every_node(|world, purse| {
        let client = Client::default();
        let (key, other) = (locker_key(13), locker_key(14));
        let coins = purse.take(3);
        assert_eq!(purse.store(world, &client, &coins, key).0, Status::AllPass);
        // One goes to a wallet, one to another locker, one is sold.
        let rows = [(coins[0].into(), purse.fresh()), (coins[1].into(), other)];
        assert_eq!(status(world, Remove, &payload::remove(key, &rows)), Status::AllPass);
        purse.set_rows(&rows);
        assert_eq!(purse.put_for_sale(world, &client, &coins[2..], offer_an(5, 5)).0, Status::AllPass);
        let back = purse.fresh_rows(&raw(&coins));
        for shards in [world.settings.shards, 3, world.settings.shards] {
            assert_eq!(status(world, Remove, &payload::remove(key, &back)), Status::AllFail);
            assert_eq!(status(world, Peek, key.bytes()), Status::AllFail, "it is no locker any more");
            for (coin, an) in &back {
                assert_eq!(status(world, Pown, &payload::pown(&[(*coin, key, *an)])), Status::AllFail);
                assert_eq!(status(world, DetectSum, &payload::detect_sum(&[*coin], key)), Status::AllFail);
            }
            world.crash(shards); // and a rebuilt index knows it too
        }
        let taken = purse.fresh_rows(&raw(&coins[1..2]));
        assert_eq!(status(world, Remove, &payload::remove(other, &taken)), Status::AllPass);
        purse.set_rows(&taken);
    });
}

/// The payout addresses on disk, by the trade locker's AN.
fn addresses(world: &mut World) -> Vec<(Secret, Vec<u8>)> {
    assert!(world.shut_down());
    let storage = world.storage.clone();
    let geometry = raida::sim::WorldOptions::small(1, 0).geometry;
    let opened = raida::store::recovery::open(&storage, world.settings.shards, geometry).unwrap();
    world.crash(world.settings.shards);
    opened.orders.iter().map(|order| (order.an, order.address.as_bytes().to_vec())).collect()
}

#[test]
fn a_second_sale_under_an_existing_trade_lockers_an() {
    on_every_node(|world, purse| {
        let (coins, more) = (purse.take(2), purse.take(1));
        let offer = offer_an(1, 77);
        let seller = payload::sale(&raw(&coins), purse.sum(&coins), offer, b"the seller's address");
        let thief = payload::sale(&raw(&more), purse.sum(&more), offer, b"the thief's address!");
        assert_eq!(status(world, PutForSale, &seller), Status::AllPass);
        coins.iter().for_each(|&coin| purse.set(coin, offer));
        assert_eq!(status(world, PutForSale, &thief), Status::TradeLockerExists);
        assert_eq!(addresses(world), [(offer, b"the seller's address".to_vec())]);
        assert_eq!(status(world, PutForSale, &thief), Status::TradeLockerExists, "after a restart too");
        // Both at once: one of them is first, and its address stands.
        let second = offer_an(2, 77);
        let rivals = [purse.take(1), purse.take(1)];
        let requests: Vec<_> = [&rivals[0], &rivals[1]]
            .iter()
            .zip([b"the first's address!", b"the second's address"])
            .map(|(coins, address)| (PutForSale, payload::sale(&raw(coins), purse.sum(coins), second, address)))
            .collect();
        let answers = race(world, &requests);
        let won = answers.iter().position(|(status, _)| *status == Status::AllPass).expect("one of them");
        assert_eq!(answers[1 - won].0, Status::TradeLockerExists);
        purse.set(rivals[won][0], second);
        let address = if won == 0 { b"the first's address!" } else { b"the second's address" };
        assert!(addresses(world).contains(&(second, address.to_vec())));
        // Under an AN of its own it is served.
        let own = payload::sale(&raw(&more), purse.sum(&more), offer_an(3, 77), b"the thief's address!");
        assert_eq!(status(world, PutForSale, &own), Status::AllPass);
        purse.set(more[0], offer_an(3, 77));
    });
}

#[test]
fn ans_of_destroyed_coins_are_hashes_of_entropy() {
    use md5::{Digest, Md5};
    use sha2::Sha256;
    on_every_node(|world, purse| {
        let witness = purse.take_one();
        let held = purse.an(witness);
        let key = locker_key(15);
        let locked = purse.take(1);
        assert_eq!(purse.store(world, &Client::default(), &locked, key).0, Status::AllPass);
        let clients = [
            (Client::default(), false),
            (sealed_1(witness, held), false),
            (sealed_2(key), false),
            (sealed_4(witness, held), true),
            (sealed_5((witness, held), (witness, held)), true),
        ];
        for (session, (client, modern)) in (1..).zip(clients) {
            let source = purse.take_one();
            let sources = purse.take_of(-1, 4);
            world.drawn.clear();
            let made = purse.break_coin(world, &client, session, source);
            let broken = std::mem::take(&mut world.drawn);
            let joined: Vec<CoinId> = sources.iter().chain(&made[..6]).copied().collect();
            purse.join_coins(world, &client, session, &joined);
            let destroyed: Vec<(CoinId, Vec<[u8; 16]>)> =
                [(source, broken)].into_iter().chain([(joined[0], world.drawn.clone())]).collect();
            for (coin, drawn) in destroyed {
                let (an, is_free) = stored(world, coin);
                assert!(is_free);
                let is_its_hash = |random: &[u8; 16]| match modern {
                    true => Sha256::digest(random)[..16] == an.bytes()[..],
                    false => Md5::digest(random)[..] == an.bytes()[..],
                };
                assert!(drawn.iter().any(is_its_hash), "session {session}: a hash of what entropy gave");
            }
        }
    });
}

#[test]
fn of_two_parallel_removes_of_one_coin_one_succeeds() {
    on_every_node(|world, purse| {
        let client = Client::default();
        let coin = purse.take_one();
        for round in 0..60u8 {
            let key = locker_key(round);
            assert_eq!(purse.store(world, &client, &[coin], key).0, Status::AllPass);
            let rivals: Vec<Secret> = (0..3).map(|_| purse.fresh()).collect();
            let requests = [
                (Remove, payload::remove(key, &[(coin.into(), rivals[0])])),
                (Remove, payload::remove(key, &[(coin.into(), rivals[1])])),
                (Pown, payload::pown(&[(coin.into(), key, rivals[2])])),
            ];
            let answers = race(world, &requests);
            let won: Vec<usize> = (0..3).filter(|&rival| answers[rival].0 == Status::AllPass).collect();
            let lost = answers.iter().filter(|answer| answer.0 == Status::AllFail).count();
            assert_eq!((won.len(), lost), (1, 2), "round {round}");
            purse.set(coin, rivals[won[0]]);
        }
    });
}

#[test]
fn of_parallel_breaks_joins_and_buys_one_succeeds() {
    on_every_node(|world, purse| {
        for session in (1..30).step_by(2) {
            let source = purse.take_of(1, 1)[0];
            let rows: Vec<Vec<(RawCoin, Secret)>> = [session, session + 1]
                .iter()
                .map(|&session| {
                    let targets = purse.offered(world, session, 1, 1);
                    purse.fresh_rows(&targets[..10])
                })
                .collect();
            let source_row = (source.into(), purse.an(source));
            let requests: Vec<_> = (session..)
                .zip(&rows)
                .map(|(session, rows)| (Break, payload::exchange(session, source_row, rows)))
                .collect();
            let answers = race(world, &requests);
            let won = answers.iter().position(|answer| answer.0 == Status::Success).expect("one of them");
            assert_eq!(answers[1 - won].0, Status::AllFail);
            purse.lose(source);
            purse.set_rows(&rows[won]);

            let sources: Vec<CoinId> = rows[won].iter().map(|(coin, _)| coin.id().unwrap()).collect();
            let targets: Vec<RawCoin> =
                [session, session + 1].iter().map(|&session| purse.offered(world, session, 2, 0)[0]).collect();
            let proposed = [purse.fresh(), purse.fresh()];
            let requests: Vec<_> = (0..2)
                .map(|i| {
                    (Join, payload::exchange(session + i, (targets[i as usize], proposed[i as usize]), &rows[won]))
                })
                .collect();
            let answers = race(world, &requests);
            let won = answers.iter().position(|answer| answer.0 == Status::Success).expect("one of them");
            assert_eq!(answers[1 - won].0, Status::AllFail);
            sources.iter().for_each(|&coin| purse.lose(coin));
            purse.set(targets[won].id().unwrap(), proposed[won]);
            let made = targets[won].id().unwrap();

            let (offer, value) = (offer_an(session, 5), made.denomination().value());
            assert_eq!(purse.put_for_sale(world, &Client::default(), &[made], offer).0, Status::AllPass);
            let keys = [locker_key(1), locker_key(2)];
            let mut requests: Vec<_> = keys.iter().map(|&key| (Buy, payload::buy(key, 1, value, 5, b"m"))).collect();
            requests.push((RemoveTradeLocker, payload::take_back(offer, Some(locker_key(3)))));
            let answers = race(world, &requests);
            let won: Vec<usize> = (0..3).filter(|&rival| answers[rival].0 == Status::AllPass).collect();
            assert_eq!(won.len(), 1, "{answers:?}");
            assert!(
                answers[..2].iter().all(|(status, _)| [Status::AllPass, Status::TradeLockerNotFound].contains(status))
            );
            purse.set(made, [keys[0], keys[1], locker_key(3)][won[0]]);
        }
    });
}

#[test]
fn the_first_parallel_touches_of_a_cold_page_lose_no_write() {
    for shards in [1, 2, 4] {
        let (mut world, mut purse) = crate::common::world_with_coins(shards, 5);
        let mut by_page: std::collections::BTreeMap<_, Vec<CoinId>> = Default::default();
        purse.all().for_each(|(coin, _)| by_page.entry(coin.page()).or_default().push(coin));
        let mut shared = 0;
        for coins in by_page.into_values().filter(|coins| coins.len() > 1) {
            shared += 1;
            let rows: Vec<_> = coins.iter().map(|&coin| (coin.into(), purse.an(coin), purse.fresh())).collect();
            let requests: Vec<_> = rows.iter().map(|row| (Pown, payload::pown(&[*row]))).collect();
            assert!(race(&mut world, &requests).iter().all(|answer| answer.0 == Status::AllPass));
            rows.iter().for_each(|(coin, _, an): &(RawCoin, _, _)| purse.set(coin.id().unwrap(), *an));
        }
        assert!(shared > 20, "pages with several coins: {shared}");
        purse.check(&mut world);
        world.crash(shards);
        purse.check(&mut world);
    }
}

#[test]
fn pown_sum_is_off_by_default() {
    on_every_node(|world, purse| {
        let shards = world.settings.shards;
        let coins = purse.take(2);
        let delta = Secret::new([9; 16]);
        let powned = payload::pown_sum(&raw(&coins), purse.sum(&coins), delta);
        world.settings.pown_sum = raida::config::Config::parse("", "").unwrap().settings().pown_sum;
        world.crash(shards);
        assert_eq!(status(world, PownSum, &powned), Status::NotImplemented);
        purse.check(world);
        world.settings.pown_sum = true;
        world.crash(shards);
        assert_eq!(status(world, PownSum, &powned), Status::AllPass);
        coins.iter().for_each(|&coin| purse.set(coin, purse.an(coin).xor(delta)));
    });
}

#[test]
fn one_address_hammering_break() {
    const HOURS_8_US: u64 = 8 * 3600 * 1_000_000;
    on_every_node(|world, purse| {
        let from = |peer: &str, shard| Client { shard, peer: peer.parse().unwrap(), ..Client::default() };
        let source = purse.take_one();
        let targets = purse.offered(world, 1, 1, 0);
        let rows = purse.fresh_rows(&targets[..10]);
        let wrong = payload::exchange(1, (source.into(), Secret::new([1; 16])), &rows);
        // 30 of 8 hours are looked at, wherever they arrive; a minute apart.
        for number in 0..30 {
            assert_eq!(ask(world, &from("192.0.2.7", number), Break, &wrong).0, Status::AllFail, "break {number}");
            world.monotonic_us += 60_000_000;
        }
        let right = payload::exchange(1, (source.into(), purse.an(source)), &rows);
        for shard in 0..4 {
            assert_eq!(ask(world, &from("192.0.2.7", shard), Break, &right).0, Status::RequestRate);
            assert_eq!(ask(world, &from("::ffff:192.0.2.7", shard), Break, &right).0, Status::RequestRate);
        }
        purse.check(world);
        // Whoever forges senders of datagrams uses up nobody's breaks over TCP, nor the other way round.
        let over_udp = Client { datagram: true, ..from("192.0.2.9", 1) };
        for number in 0..31 {
            let expected = if number < 30 { Status::AllFail } else { Status::RequestRate };
            assert_eq!(ask(world, &over_udp, Break, &wrong).0, expected);
        }
        assert_eq!(ask(world, &from("192.0.2.9", 0), Break, &wrong).0, Status::AllFail);
        // Another address is another matter, and this machine is not limited.
        assert_eq!(ask(world, &from("192.0.2.8", 0), Break, &wrong).0, Status::AllFail);
        for shard in 0..40 {
            assert_eq!(ask(world, &from("127.0.0.9", shard), Break, &wrong).0, Status::AllFail);
        }
        // The window rolls: 8 hours after the first one more, and no second one before its time.
        world.monotonic_us += HOURS_8_US - 30 * 60_000_000;
        let limited = from("192.0.2.7", 1);
        purse.break_coin(world, &limited, 1, source);
        assert_eq!(ask(world, &limited, Break, &wrong).0, Status::RequestRate);
        world.monotonic_us += 60_000_000;
        assert_eq!(ask(world, &limited, Break, &wrong).0, Status::AllFail);
        // Joins are not limited.
        let sources = purse.take_of(-1, 10);
        purse.join_coins(world, &limited, 1, &sources);
    });
}
