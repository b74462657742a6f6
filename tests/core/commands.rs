//! Every command on a made-up node: what it answers, what it changes, for 1, 2 and 4 shards with a cache of 8 pages.

use crate::common::{Purse, locker_key, trade_an};
use raida::coin::{CoinId, Denomination, PayoutAddress, Secret, TradeCoin};
use raida::sim::{Client, World};
use raida::wire::items::{self, Coins, PownCoins, RawCoin, SecretCoins};
use raida::wire::request::Request;
use raida::wire::request::change::ChangeOperation;
use raida::wire::status::Status;

/// Runs a test on nodes of 1, 2 and 4 shards.
fn on_every_node(test: impl Fn(&mut World, &mut Purse)) {
    for shards in [1, 2, 4] {
        let (mut world, mut purse) = crate::common::world_with_coins(shards, u64::from(shards));
        test(&mut world, &mut purse);
        assert!(world.shut_down(), "the node stops in order");
    }
}

#[test]
fn put_peek_and_remove() {
    on_every_node(|world, purse| {
        let client = Client::default();
        let key = locker_key(1);
        let coins = purse.coins(3);
        assert_eq!(purse.store(world, &client, &coins, key).0, Status::AllPass);
        let (status, payload) = world.call(&client, &Request::Peek { key });
        assert_eq!(status, Status::AllPass);
        let mut listed: Vec<CoinId> =
            Coins::new(&payload).unwrap().iter().map(|coin| coin.id().expect("a coin")).collect();
        listed.sort_unstable();
        assert_eq!(listed, coins);

        let taken: Vec<_> = coins.iter().map(|&coin| (RawCoin::from(coin), purse.fresh())).collect();
        let bytes = items::bytes_of(taken.iter().copied());
        let remove = Request::Remove { key, coins: SecretCoins::new(&bytes).unwrap() };
        assert_eq!(world.call(&client, &remove).0, Status::AllPass);
        for (coin, an) in &taken {
            purse.set(coin.id().unwrap(), *an);
        }
        assert_eq!(world.call(&client, &Request::Peek { key }).0, Status::AllFail);
        assert_eq!(world.call(&client, &remove).0, Status::AllFail, "they are there no more");
        purse.check(world);
    });
}

#[test]
fn the_market() {
    on_every_node(|world, purse| {
        let client = Client::default();
        let an = trade_an(7, 1000, TradeCoin::Bitcoin);
        let coins = purse.coins(2);
        let value: u64 = coins.iter().map(|coin| coin.denomination().value()).sum();
        assert_eq!(purse.put_for_sale(world, &client, &coins, an).0, Status::AllPass);

        let (status, list) = world.call(&client, &Request::ListForSale { coin_type: TradeCoin::Bitcoin, max: 10 });
        assert_eq!((status, list.len()), (Status::AllPass, 29));
        let identifier: [u8; 16] = list[..16].try_into().unwrap();
        assert_ne!(identifier, *an.bytes(), "the listing does not show the AN");
        assert_eq!(list[16..], [&[1][..], &value.to_be_bytes(), &1000u32.to_be_bytes()].concat());
        let (status, peeked) = world.call(&client, &Request::PeekTradeLocker { identifier });
        assert_eq!((status, peeked.len()), (Status::AllPass, 10));

        let key = locker_key(9);
        let buy = |value| Request::Buy {
            key,
            coin_type: TradeCoin::Bitcoin,
            value,
            price: 1000,
            txid: [0; 32],
            receipt: [0; 16],
            memo: b"memo",
        };
        assert_eq!(world.call(&client, &buy(value + 1)).0, Status::TradeLockerNotFound);
        assert_eq!(world.call(&client, &buy(value)).0, Status::AllPass);
        assert_eq!(world.call(&client, &buy(value)).0, Status::TradeLockerNotFound);
        for coin in coins {
            purse.set(coin, key);
        }
        assert_eq!(world.call(&client, &Request::Peek { key }).1.len(), 10);
        purse.check(world);
    });
}

#[test]
fn an_offer_is_taken_back_into_a_locker_or_freed() {
    on_every_node(|world, purse| {
        let client = Client::default();
        let an = trade_an(3, 5, TradeCoin::Monero);
        let coins = purse.coins(2);
        purse.put_for_sale(world, &client, &coins, an);
        let key = locker_key(4);
        let remove = |an, key| Request::RemoveTradeLocker { an, key };
        assert_eq!(world.call(&client, &remove(trade_an(4, 5, TradeCoin::Monero), None)).0, Status::AllFail);
        assert_eq!(world.call(&client, &remove(an, Some(key))).0, Status::AllPass);
        assert_eq!(world.call(&client, &Request::Peek { key }).1.len(), 10);
        coins.iter().for_each(|&coin| purse.set(coin, key));

        let more = purse.coins(3);
        purse.put_for_sale(world, &client, &more, an);
        assert_eq!(world.call(&client, &remove(an, None)).0, Status::AllPass);
        more.iter().for_each(|&coin| purse.lose(coin));
        purse.check(world);
    });
}

#[test]
fn break_and_join() {
    on_every_node(|world, purse| {
        let client = Client::default();
        let session = 77;
        let source = purse.coin_of(Denomination::new(0).unwrap());
        let before = purse.value();
        let sns = |operation, den| Request::ChangeSerialNumbers { session, operation, den };
        let (status, offered) = world.call(&client, &sns(ChangeOperation::Break, 0));
        assert_eq!((status, offered.len()), (Status::Success, 1 + 64 * 4));
        assert_eq!(offered[0] as i8, -1);
        let offered: Vec<u32> =
            offered[1..].chunks_exact(4).map(|sn| u32::from_be_bytes(sn.try_into().unwrap())).collect();

        let targets: Vec<_> = offered[..10].iter().map(|&sn| (RawCoin { den: -1, sn }, purse.fresh())).collect();
        let bytes = items::bytes_of(targets.iter().copied());
        let request = Request::Break {
            session,
            source: (source.into(), purse.an(source)),
            targets: SecretCoins::new(&bytes).unwrap(),
        };
        assert_eq!(world.call(&client, &request).0, Status::Success);
        assert_eq!(world.call(&client, &request).0, Status::AllFail, "the coin is broken already");
        purse.lose(source);
        targets.iter().for_each(|(coin, an)| purse.set(coin.id().unwrap(), *an));
        assert_eq!(purse.value(), before);
        purse.check(world);

        let (_, offered) = world.call(&client, &sns(ChangeOperation::Join, -1));
        assert_eq!(offered[0], 0);
        let target = RawCoin { den: 0, sn: u32::from_be_bytes(offered[1..5].try_into().unwrap()) };
        let proposed = purse.fresh();
        let request = Request::Join { session, target: (target, proposed), sources: SecretCoins::new(&bytes).unwrap() };
        assert_eq!(world.call(&client, &request).0, Status::Success);
        targets.iter().for_each(|(coin, _)| purse.lose(coin.id().unwrap()));
        purse.set(target.id().unwrap(), proposed);
        assert_eq!(purse.value(), before);
        purse.check(world);
    });
}

#[test]
fn pown_and_detect() {
    on_every_node(|world, purse| {
        let client = Client::default();
        let coins = purse.coins(9);
        let wrong = Secret::new([1; 16]);
        let rows: Vec<_> = coins
            .iter()
            .enumerate()
            .map(|(index, &coin)| (RawCoin::from(coin), if index == 4 { wrong } else { purse.an(coin) }, purse.fresh()))
            .collect();
        let bytes = items::bytes_of(rows.iter().copied());
        let (status, bits) = world.call(&client, &Request::Pown { coins: PownCoins::new(&bytes).unwrap() });
        assert_eq!((status, bits), (Status::Mixed, vec![0b1110_1111, 0b1]));
        for (index, (coin, _, an)) in rows.iter().enumerate().filter(|(index, _)| *index != 4) {
            purse.set(coin.id().unwrap(), *an);
            let _ = index;
        }
        purse.check(world);
    });
}

#[test]
fn several_lockers_at_once() {
    on_every_node(|world, purse| {
        let client = Client::default();
        let (first, second) = (purse.coins(2), purse.coins(3));
        let lists: Vec<Vec<u8>> =
            [&first, &second].map(|coins| items::bytes_of(coins.iter().map(|&coin| RawCoin::from(coin)))).into();
        let sum = |coins: &[CoinId]| coins.iter().fold(Secret::default(), |sum, &coin| sum.xor(purse.an(coin)));
        let rows = [
            (Coins::new(&lists[0]).unwrap(), sum(&first), locker_key(1)),
            (Coins::new(&lists[1]).unwrap(), sum(&first), locker_key(2)),
        ];
        let payload = raida::wire::request::locker::Lockers::payload(rows.into_iter());
        let command = raida::wire::request::Command::find(8, 88).unwrap();
        let token = world.send_payload(&client, command, &payload);
        world.settle();
        assert_eq!(world.answer(&client, token), Some((Status::Mixed, vec![1, 0])));
        first.iter().for_each(|&coin| purse.set(coin, locker_key(1)));
        purse.check(world);
    });
}

#[test]
fn a_crash_loses_nothing_that_was_answered() {
    for shards in [1u8, 2, 3, 4] {
        let (mut world, mut purse) = crate::common::world_with_coins(shards, 40 + u64::from(shards));
        let client = Client::default();
        for round in 0..40u8 {
            let coins = purse.coins_of_all(3);
            let key = locker_key(round);
            assert_eq!(purse.store(&mut world, &client, &coins, key).0, Status::AllPass);
            if round % 8 == 7 {
                let mut address = [0; 20];
                address[0] = round;
                world.crash(round % 4 + 1);
                purse.check(&mut world);
                assert!(PayoutAddress::new(&address).is_some());
            }
        }
    }
}
