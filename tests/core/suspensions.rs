//! What the operator suspends: every way into, out of and around a locker or trade locker that is held, the paused market,
//! commands under way when a hold comes, and what is left of all that after a crash.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::common::payload::{self, raw};
use crate::common::{Purse, ask, at_shard, locker_key, on_every_node, sealed_2, status, trade_an};
use raida::coin::{CoinId, Place, Secret, TradeCoin};
use raida::settings::{Identifier, Settings};
use raida::shard::acts::Act;
use raida::shard::interface::Now;
use raida::shard::locks::Resource;
use raida::shard::market::public_identifier;
use raida::shard::suspensions::{Suspension, Suspensions};
use raida::sim::{Client, Held as Slow, World};
use raida::store::verify::{Verdict, verify};
use raida::wire::items::RawCoin;
use raida::wire::request::CommandKind::{self, *};
use raida::wire::status::Status;

const BITCOIN: u8 = TradeCoin::Bitcoin as u8;
const PRICE: u32 = 1000;

fn identifier(an: Secret) -> [u8; 16] {
    public_identifier(&an, Identifier::Hashed)
}

fn act(world: &mut World, act: &Act) {
    let token = world.act(act);
    world.settle();
    assert_eq!(world.acted(token), Some(true), "{act:?}");
}

/// Holds as the node does: first where a restart finds it, then on the shards.
fn hold(world: &mut World, resource: Resource) {
    let held = world.suspensions.name(&resource).expect("something that can be held");
    world.suspensions.suspend(Suspension::Hold(held));
    act(world, &Act::Hold(resource));
}

fn release(world: &mut World, resource: Resource) {
    let held = world.suspensions.name(&resource).expect("something that can be held");
    world.suspensions.end(Suspension::Hold(held));
    act(world, &Act::Release(held));
}

fn store(purse: &Purse, coins: &[CoinId], key: Secret) -> Vec<u8> {
    payload::store(&raw(coins), purse.sum(coins), key)
}

fn sale(purse: &Purse, coins: &[CoinId], an: Secret) -> Vec<u8> {
    payload::sale(&raw(coins), purse.sum(coins), an, b"an address of twenty")
}

fn value(coins: &[CoinId]) -> u64 {
    coins.iter().map(|coin| coin.denomination().value()).sum()
}

fn buy(key: Secret, coins: &[CoinId]) -> Vec<u8> {
    payload::buy(key, BITCOIN, value(coins), PRICE, b"memo")
}

fn listed(world: &mut World) -> Vec<[u8; 16]> {
    let (status, list) = ask(world, &Client::default(), ListForSale, &[BITCOIN, 255]);
    assert_eq!(status, Status::AllPass);
    list.chunks_exact(29).map(|row| row[..16].try_into().unwrap()).collect()
}

/// Every command that would put into, take out of or look into a held locker.
fn commands_on_a_locker(
    world: &mut World,
    purse: &mut Purse,
    key: Secret,
    inside: &[CoinId],
) -> Vec<(CommandKind, Vec<u8>)> {
    let outside = purse.take(3);
    let row = |purse: &mut Purse, coin: CoinId| (RawCoin::from(coin), purse.fresh());
    let (first, second) = (row(purse, inside[0]), row(purse, inside[1]));
    let other = purse.take(1);
    let session = 7;
    let smaller = purse.offered(world, session, 1, inside[0].denomination().get());
    let targets = purse.fresh_rows(&smaller[..10]);
    let mut into = targets.clone();
    into[3].1 = key;
    let larger = purse.offered(world, session, 2, inside[0].denomination().get())[0];
    let joined = purse.fresh();
    let single = |coin: CoinId| store(purse, &[coin], locker_key(200));
    let two = [&raw(&outside[..1])[..], &raw(&outside[1..2])];
    let sums = [purse.sum(&outside[..1]), purse.sum(&outside[1..2])];
    vec![
        (Store, store(purse, &outside, key)),
        (StoreMultiple, payload::store_multiple(&[(two[0], sums[0], locker_key(201)), (two[1], sums[1], key)])),
        (Remove, payload::remove(key, &[first, second])),
        (Remove, payload::remove(key, &[first, (other[0].into(), second.1)])),
        (Peek, key.bytes().to_vec()),
        (Pown, payload::pown(&[(first.0, key, first.1)])),
        (Pown, payload::pown(&[(outside[0].into(), purse.an(outside[0]), key)])),
        (Pown, payload::pown(&[(outside[0].into(), purse.an(outside[0]), first.1), (first.0, key, first.1)])),
        (PownSum, payload::pown_sum(&[first.0], key, Secret::new([1; 16]))),
        (Store, single(inside[0])),
        (PutForSale, sale(purse, &inside[..1], trade_an(40, PRICE, TradeCoin::Bitcoin))),
        (Break, payload::exchange(session, (first.0, key), &targets)),
        (Break, payload::exchange(session, (other[0].into(), purse.an(other[0])), &into)),
        (
            Join,
            payload::exchange(session, (larger, joined), &inside.iter().map(|&c| (c.into(), key)).collect::<Vec<_>>()),
        ),
    ]
}

#[test]
fn nothing_goes_into_or_out_of_a_held_locker_and_nobody_looks() {
    on_every_node(|world, purse| {
        let client = Client::default();
        let key = locker_key(5);
        let inside = purse.take(10);
        assert_eq!(purse.store(world, &client, &inside, key).0, Status::AllPass);
        let commands = commands_on_a_locker(world, purse, key, &inside);
        hold(world, Resource::Locker(key));
        for (number, (kind, payload)) in commands.iter().enumerate() {
            for client in [at_shard(0), at_shard(3), sealed_2(key)] {
                assert_eq!(ask(world, &client, *kind, payload), (Status::LockerUsed, vec![]), "{number}: {kind:?}");
            }
        }
        // Coins may still be looked at, and a trade may not end in it.
        let rows = purse.rows(&inside);
        assert_eq!(status(world, Detect, &payload::detect(&rows)), Status::AllPass);
        let (an, sold) = (trade_an(1, PRICE, TradeCoin::Bitcoin), purse.take(2));
        assert_eq!(purse.put_for_sale(world, &client, &sold, an).0, Status::AllPass);
        assert_eq!(status(world, Buy, &buy(key, &sold)), Status::LockerUsed);
        assert_eq!(status(world, RemoveTradeLocker, &payload::take_back(an, Some(key))), Status::LockerUsed);
        purse.check(world);

        release(world, Resource::Locker(key));
        assert_eq!(status(world, Peek, key.bytes()), Status::AllPass);
        assert_eq!(status(world, Buy, &buy(key, &sold)), Status::AllPass);
        sold.iter().for_each(|&coin| purse.set(coin, key));
        let taken = purse.fresh_rows(&raw(&inside));
        assert_eq!(status(world, Remove, &payload::remove(key, &taken)), Status::AllPass);
        purse.set_rows(&taken);
    });
}

#[test]
fn a_held_trade_locker_is_neither_listed_nor_bought_nor_taken_back() {
    on_every_node(|world, purse| {
        let client = Client::default();
        let ans = [1, 2].map(|number| trade_an(number, PRICE, TradeCoin::Bitcoin));
        let coins = ans.map(|an| {
            let coins = purse.take(2);
            assert_eq!(purse.put_for_sale(world, &client, &coins, an).0, Status::AllPass);
            coins
        });
        let ids = ans.map(identifier);
        assert_eq!(listed(world), ids);
        hold(world, Resource::Offer(ids[0]));
        assert_eq!(listed(world), ids[1..]);
        for name in [*ans[0].bytes(), ids[0]] {
            assert_eq!(status(world, PeekTradeLocker, &name), Status::LockerUsed);
        }
        for key in [None, Some(locker_key(3))] {
            assert_eq!(status(world, RemoveTradeLocker, &payload::take_back(ans[0], key)), Status::LockerUsed);
        }
        let more = purse.take(1);
        let again = sale(purse, &more, ans[0]);
        assert_eq!(status(world, PutForSale, &again), Status::LockerUsed);
        // An equal offer is sold before it; then there is only the held one.
        let key = locker_key(4);
        assert_eq!(status(world, Buy, &buy(key, &coins[0])), Status::AllPass);
        coins[1].iter().for_each(|&coin| purse.set(coin, key));
        assert_eq!(status(world, Buy, &buy(key, &coins[0])), Status::LockerUsed);
        assert_eq!(status(world, Buy, &buy(key, &purse.take(1))), Status::TradeLockerNotFound);
        purse.check(world);

        release(world, Resource::Offer(ids[0]));
        assert_eq!(listed(world), ids[..1]);
        assert_eq!(status(world, Buy, &buy(key, &coins[0])), Status::AllPass);
        coins[0].iter().for_each(|&coin| purse.set(coin, key));
    });
}

#[test]
fn a_paused_market_sells_nothing_and_gives_back_everything() {
    on_every_node(|world, purse| {
        let client = Client::default();
        let (an, coins) = (trade_an(1, PRICE, TradeCoin::Bitcoin), purse.take(2));
        assert_eq!(purse.put_for_sale(world, &client, &coins, an).0, Status::AllPass);
        world.suspensions.suspend(Suspension::Pause(TradeCoin::Bitcoin));
        act(world, &Act::Pause(TradeCoin::Bitcoin));
        let (more, key) = (purse.take(1), locker_key(3));
        let new = trade_an(2, PRICE, TradeCoin::Bitcoin);
        assert_eq!(status(world, PutForSale, &sale(purse, &more, new)), Status::TradeCoin);
        assert_eq!(status(world, Buy, &buy(key, &coins)), Status::TradeCoin);
        assert_eq!(listed(world), [identifier(an)]);
        assert_eq!(status(world, PeekTradeLocker, an.bytes()), Status::AllPass);
        // Another market goes on.
        let other = trade_an(3, PRICE, TradeCoin::Monero);
        assert_eq!(purse.put_for_sale(world, &client, &more, other).0, Status::AllPass);

        world.crash(3);
        purse.check(world);
        assert_eq!(status(world, Buy, &buy(key, &coins)), Status::TradeCoin);
        assert_eq!(status(world, RemoveTradeLocker, &payload::take_back(an, Some(key))), Status::AllPass);
        coins.iter().for_each(|&coin| purse.set(coin, key));
        world.suspensions.end(Suspension::Pause(TradeCoin::Bitcoin));
        act(world, &Act::Resume(TradeCoin::Bitcoin));
        let again = purse.take(1);
        assert_eq!(purse.put_for_sale(world, &client, &again, new).0, Status::AllPass);
        assert_eq!(status(world, Buy, &buy(key, &again)), Status::AllPass);
        again.iter().for_each(|&coin| purse.set(coin, key));
    });
}

/// What is under way when a hold comes is done first or answers 154; what is sent afterwards always answers 154.
#[test]
fn a_hold_waits_for_what_is_under_way() {
    let seen = RefCell::new(BTreeSet::new());
    on_every_node(|world, purse| {
        let client = Client::default();
        let shards = world.settings.shards;
        for round in 0..12 {
            let key = locker_key(50 + round);
            let coins = purse.take(2);
            let payload = store(purse, &coins, key);
            let early = world.send_payload(&client, Store.command(), &payload);
            (0..2 * round).for_each(|_| _ = world.advance());
            let token = world.act(&Act::Hold(Resource::Locker(key)));
            while world.acted(token).is_none() {
                assert!(world.advance(), "the hold comes into force");
            }
            // From now on nothing changes there, though the slow disk may still have an answer to give.
            let pown = payload::pown(&[(coins[0].into(), purse.an(coins[0]), key)]);
            let late = world.send_payload(&at_shard(round), Pown.command(), &pown);
            world.settle();
            let (early, late) =
                (world.answer(&client, early).unwrap().0, world.answer(&at_shard(round), late).unwrap().0);
            match early {
                Status::AllPass => {
                    coins.iter().for_each(|&coin| purse.set(coin, key));
                    assert_eq!(late, Status::AllFail, "it has another AN by then");
                }
                early => assert_eq!((early, late), (Status::LockerUsed, Status::LockerUsed)),
            }
            seen.borrow_mut().insert((shards, early == Status::AllPass));
        }
    });
    let seen = seen.into_inner();
    let both = |shards: u8| [true, false].map(|done| (shards, done)).iter().all(|row| seen.contains(row));
    assert!([1, 2, 4].into_iter().all(both), "{seen:?}");
}

/// A disk that is slow keeps a hold and a pause waiting; who takes them back meanwhile is heard after them.
#[test]
fn a_release_does_not_overtake_the_hold_that_still_waits() {
    on_every_node(|world, purse| {
        let client = Client::default();
        let (key, an) = (locker_key(6), trade_an(1, PRICE, TradeCoin::Bitcoin));
        let (stored, sold) = (purse.take(2), purse.take(2));
        world.settle();
        world.held = (0..world.settings.shards).map(Slow::Eldest).collect();
        let under_way = [(Store, store(purse, &stored, key)), (PutForSale, sale(purse, &sold, an))]
            .map(|(kind, payload)| world.send_payload(&at_shard(0), kind.command(), &payload));
        world.settle();
        let held = world.suspensions.name(&Resource::Locker(key)).expect("something that can be held");
        let acts = [
            Act::Hold(Resource::Locker(key)),
            Act::Pause(TradeCoin::Bitcoin),
            Act::Release(held),
            Act::Resume(TradeCoin::Bitcoin),
        ];
        let told = acts.map(|act| world.act(&act));
        world.settle();
        assert_eq!(told.map(|token| world.acted(token)), [None; 4]);
        world.held.clear();
        world.settle();
        assert_eq!(told.map(|token| world.acted(token)), [Some(true); 4]);
        let done = under_way.map(|token| world.answer(&at_shard(0), token).expect("an answer").0);
        assert_eq!(done, [Status::AllPass; 2]);
        stored.iter().for_each(|&coin| purse.set(coin, key));
        sold.iter().for_each(|&coin| purse.set(coin, an));

        assert_eq!(status(world, Peek, key.bytes()), Status::AllPass);
        let more = purse.take(1);
        let other = trade_an(2, PRICE, TradeCoin::Bitcoin);
        assert_eq!(purse.put_for_sale(world, &client, &more, other).0, Status::AllPass);
        purse.check(world);
    });
}

#[test]
fn the_owner_of_a_coin_says_where_it_is() {
    on_every_node(|world, purse| {
        let client = Client::default();
        let (key, an) = (locker_key(7), trade_an(1, PRICE, TradeCoin::Bitcoin));
        let [stored, sold, kept] = [(); 3].map(|()| purse.take(1));
        assert_eq!(purse.store(world, &client, &stored, key).0, Status::AllPass);
        assert_eq!(purse.put_for_sale(world, &client, &sold, an).0, Status::AllPass);
        let free = CoinId::new(6, 1_000_000).expect("a coin");
        let places = [stored[0], sold[0], kept[0], free].map(|coin| world.located(coin));
        assert_eq!(places, [Place::Locker(key), Place::TradeLocker(an), Place::Wallet, Place::Free].map(Some));
    });
}

#[test]
fn a_hold_is_in_force_again_after_a_crash_whatever_the_number_of_shards() {
    on_every_node(|world, purse| {
        let key = locker_key(9);
        let coins = purse.take(2);
        assert_eq!(purse.store(world, &Client::default(), &coins, key).0, Status::AllPass);
        world.suspensions = Suspensions::new([9; 16]);
        world.crash(2);
        hold(world, Resource::Locker(key));
        for shards in [1, 3, 2] {
            world.crash(shards);
            purse.check(world);
            let taken = purse.fresh_rows(&raw(&coins));
            assert_eq!(status(world, Remove, &payload::remove(key, &taken)), Status::LockerUsed);
        }
        release(world, Resource::Locker(key));
        world.crash(4);
        assert_eq!(status(world, Peek, key.bytes()), Status::AllPass);
    });
}

/// A buyer who found an offer that is held before he has its lock gets the next equal one.
#[test]
fn a_buyer_whose_offer_is_held_meanwhile_looks_again() {
    for seed in 0..40 {
        let (mut world, mut purse) = crate::common::world_with_coins(1 + seed as u8 % 3, seed);
        let ans = [1, 2].map(|number| trade_an(number, PRICE, TradeCoin::Bitcoin));
        let coins = ans.map(|an| {
            let coins = purse.take(2);
            assert_eq!(purse.put_for_sale(&mut world, &Client::default(), &coins, an).0, Status::AllPass);
            coins
        });
        let key = locker_key(4);
        let client = at_shard(seed as u8);
        let token = world.send_payload(&client, Buy.command(), &buy(key, &coins[0]));
        (0..seed / 2).for_each(|_| _ = world.advance());
        let held = world.act(&Act::Hold(Resource::Offer(identifier(ans[0]))));
        world.settle();
        assert_eq!(world.acted(held), Some(true));
        assert_eq!(world.answer(&client, token).unwrap().0, Status::AllPass);
        let bought = if listed(&mut world).is_empty() { &coins[1] } else { &coins[0] };
        bought.iter().for_each(|&coin| purse.set(coin, key));
        purse.check(&mut world);
    }
}

#[test]
fn a_checkpoint_on_demand_brings_everything_to_its_place() {
    on_every_node(|world, purse| {
        let key = locker_key(1);
        let coins = purse.take(5);
        assert_eq!(purse.store(world, &Client::default(), &coins, key).0, Status::AllPass);
        let to_replay = |world: &World| verify(&world.storage, &mut |_, _| {}).unwrap().to_replay;
        assert_eq!(to_replay(world), 1);
        // While one is under way another is asked for: the first may have begun too early.
        let first = world.act(&Act::Checkpoint);
        (0..3).for_each(|_| _ = world.advance());
        let second = world.act(&Act::Checkpoint);
        world.settle();
        assert_eq!((world.acted(first), world.acted(second)), (Some(true), Some(true)));
        assert_eq!(to_replay(world), 0);
        assert_eq!(verify(&world.storage, &mut |_, _| {}).unwrap().verdict(), Verdict::Clean);
        world.crash(2);
        purse.check(world);
    });
}

#[test]
fn a_disk_that_failed_makes_no_checkpoint_and_keeps_nobody_waiting() {
    let (mut world, mut purse) = crate::common::world_with_coins(2, 5);
    let coins = purse.take(2);
    assert_eq!(purse.store(&mut world, &Client::default(), &coins, locker_key(1)).0, Status::AllPass);
    world.held.push(Slow::Control(1));
    let waiting = world.act(&Act::Checkpoint);
    world.settle();
    assert_eq!(world.acted(waiting), None);
    world.write_fails_after = Some(0);
    world.held.clear();
    world.settle();
    let late = world.act(&Act::Checkpoint);
    world.settle();
    assert_eq!((world.acted(waiting), world.acted(late)), (Some(false), Some(false)));
}

#[test]
fn bounds_change_while_the_node_serves() {
    on_every_node(|world, purse| {
        let client = Client::default();
        let bounds = |cache_pages, break_limit| {
            let settings = Settings { cache_pages, break_limit, ..world.settings.clone() };
            Act::Bounds(Box::new(settings))
        };
        let acts = [bounds(64, 1), bounds(8, 0), bounds(16, 2)];
        for (round, bounds) in acts.iter().enumerate() {
            act(world, bounds);
            let Act::Bounds(settings) = bounds else { unreachable!() };
            purse.check(world);
            let now = Now { monotonic_us: world.monotonic_us, unix_ms: 0 };
            let cached = (0..world.settings.shards).map(|shard| world.shard(shard).numbers(now).cached_pages);
            assert!(cached.clone().all(|pages| pages.used <= pages.max && pages.max == settings.cache_pages as u64));
            for allowed in 0..settings.break_limit.max(1) {
                let source = purse.take_of(1, 1)[0];
                purse.break_coin(world, &client, 10 * round as u32 + allowed + 1, source);
            }
            if settings.break_limit > 0 {
                let source = purse.take_of(1, 1)[0];
                let targets = purse.offered(world, 99, 1, 1);
                let rows = purse.fresh_rows(&targets[..10]);
                let payload = payload::exchange(99, (source.into(), purse.an(source)), &rows);
                assert_eq!(status(world, Break, &payload), Status::RequestRate);
            }
        }
    });
}
