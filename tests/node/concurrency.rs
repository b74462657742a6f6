//! Eight clients want the same thing at the same moment, on real nodes of 1, 2 and 4 shards: exactly one gets it.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;

use crate::net::NetClient;
use raida::coin::{CoinId, PayoutAddress, Secret, TradeCoin};
use raida::config::Config;
use raida::node::{Node, NodeOptions};
use raida::sim::World;
use raida::store::recovery;
use raida::store::storage::Directory;
use raida::wire::items::{self, Bits, Coins, RawCoin, SecretCoins};
use raida::wire::request::Request;
use raida::wire::request::change::ChangeOperation;
use raida::wire::status::Status;

const CLIENTS: u8 = 8;
const ROUNDS: u8 = 12;

fn an(number: u32) -> Secret {
    let mut an = [0x33; 16];
    an[..4].copy_from_slice(&number.to_be_bytes());
    Secret::new(an)
}

fn key(number: u8) -> Secret {
    let mut key = [number; 16];
    key[12..].fill(0xFF);
    Secret::new(key)
}

fn coin(den: i8, number: u32) -> CoinId {
    CoinId::new(den, number * 1531).unwrap()
}

/// A node with 600 coins, and what it does with 8 clients at once.
struct Contest {
    node: Node,
}

impl Contest {
    fn new(data: &std::path::Path, shards: u8) -> Self {
        std::fs::create_dir(data).unwrap();
        {
            let storage = Directory::open(data).unwrap();
            recovery::initialise(&storage, Default::default()).unwrap();
            let coins: Vec<_> = (0..600).map(|number| (coin((number % 2) as i8, number), an(number))).collect();
            World::mint(&storage, &coins, 10);
        }
        let mut config =
            Config::parse("raida.toml", "[store]\ncache_pages = 8\n[market]\nmonero = \"trusted\"\n").unwrap();
        config.server.threads = shards;
        let mut options = NodeOptions::new(data, &config);
        options.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { node: Node::start(options).unwrap() }
    }

    fn client(&self) -> NetClient {
        NetClient::tcp(self.node.address()).unwrap()
    }

    /// What each of the clients is answered when all ask at once. Odd ones use UDP.
    fn all_at_once<T: Send>(&self, ask: impl Fn(u8, &mut NetClient) -> T + Sync) -> Vec<T> {
        let barrier = Barrier::new(usize::from(CLIENTS));
        let (barrier, ask, to) = (&barrier, &ask, self.node.address());
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|number| {
                    scope.spawn(move || {
                        let odd = number % 2 == 1;
                        let mut client = if odd { NetClient::udp(to) } else { NetClient::tcp(to) }.unwrap();
                        barrier.wait();
                        ask(number, &mut client)
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        })
    }

    fn detect(&self, rows: &[(CoinId, Secret)]) -> Status {
        let bytes = secrets(rows);
        self.client().call(&Request::Detect { coins: SecretCoins::new(&bytes).unwrap() }).unwrap().0
    }

    fn value(&self) -> u64 {
        let (_, counts) = self.client().call(&Request::CountCoins).unwrap();
        let rows = counts.chunks_exact(5).map(|row| (row[0] as i8, u32::from_be_bytes(row[1..].try_into().unwrap())));
        rows.map(|(den, count)| raida::coin::Denomination::new(den).unwrap().value() * u64::from(count)).sum()
    }
}

fn secrets(rows: &[(CoinId, Secret)]) -> Vec<u8> {
    items::bytes_of(rows.iter().map(|&(coin, an)| (RawCoin::from(coin), an)))
}

fn on_every_node(contest: impl Fn(&Contest)) {
    for shards in [1, 2, 4] {
        let directory = tempfile::tempdir().unwrap();
        let all = Contest::new(&directory.path().join("data"), shards);
        let before = all.value();
        contest(&all);
        assert_eq!(all.value(), before, "what all coins are worth");
        all.node.stop().unwrap();
    }
}

#[test]
fn one_of_many_removes_succeeds() {
    on_every_node(|all| {
        for round in 0..ROUNDS {
            let coins: Vec<CoinId> = (0..5).map(|index| coin(index as i8 % 2, u32::from(round) * 40 + index)).collect();
            let sum = (0..5).fold(Secret::default(), |sum: Secret, index| sum.xor(an(u32::from(round) * 40 + index)));
            let list = items::bytes_of(coins.iter().map(|&coin| RawCoin::from(coin)));
            let store = Request::Store { coins: Coins::new(&list).unwrap(), sum, key: key(round) };
            assert_eq!(all.client().call(&store).unwrap().0, Status::AllPass);

            let mine = |client: u8, index: usize| Secret::new([0x40 + client * 8 + index as u8; 16]);
            let taken = all.all_at_once(|number, client| {
                let rows: Vec<_> = coins.iter().enumerate().map(|(index, &coin)| (coin, mine(number, index))).collect();
                let bytes = secrets(&rows);
                let request = Request::Remove { key: key(round), coins: SecretCoins::new(&bytes).unwrap() };
                match client.call(&request).unwrap() {
                    (Status::AllPass, _) => vec![true; rows.len()],
                    (Status::AllFail, _) => vec![false; rows.len()],
                    (Status::Mixed, bits) => {
                        let bits = Bits::new(&bits, rows.len()).unwrap();
                        (0..rows.len()).map(|row| bits.get(row)).collect()
                    }
                    (status, _) => panic!("{status:?}"),
                }
            });
            for (index, &coin) in coins.iter().enumerate() {
                let winners: Vec<u8> = (0..CLIENTS).filter(|&client| taken[usize::from(client)][index]).collect();
                assert_eq!(winners.len(), 1, "round {round}: {coin:?} was given to {winners:?}");
                assert_eq!(all.detect(&[(coin, mine(winners[0], index))]), Status::AllPass);
            }
        }
    });
}

#[test]
fn one_of_many_buyers_gets_the_offer_and_equal_offers_are_all_sold() {
    on_every_node(|all| {
        for round in 0..ROUNDS {
            // Three equal offers for eight buyers.
            let mut on_sale = Vec::new();
            for offer in 0..3u8 {
                let number = 2 * (u32::from(round) * 8 + u32::from(offer));
                let mut name = [round; 16];
                name[8..].copy_from_slice(&[offer, 0, 0, 0, 77, 2, 0xEE, 0xEE]);
                let list = items::bytes_of([RawCoin::from(coin(0, number))]);
                let request = Request::PutForSale {
                    coins: Coins::new(&list).unwrap(),
                    sum: an(number),
                    an: Secret::new(name),
                    address: PayoutAddress::new(b"an address of twenty").unwrap(),
                };
                assert_eq!(all.client().call(&request).unwrap().0, Status::AllPass);
                on_sale.push(coin(0, number));
            }
            let bought = |client: u8| {
                let mut key = [round; 16];
                key[0] = client;
                key[12..].fill(0xFF);
                Secret::new(key)
            };
            let statuses = all.all_at_once(|number, client| {
                let request = Request::Buy {
                    key: bought(number),
                    coin_type: TradeCoin::Monero,
                    value: 100_000_000,
                    price: 77,
                    txid: [0; 32],
                    receipt: [0; 16],
                    memo: b"contest",
                };
                client.call(&request).unwrap().0
            });
            let winners: Vec<u8> =
                (0..CLIENTS).filter(|&client| statuses[usize::from(client)] == Status::AllPass).collect();
            assert_eq!(winners.len(), 3, "round {round}: {statuses:?}");
            let losers = statuses.iter().filter(|&&status| status == Status::TradeLockerNotFound).count();
            assert_eq!(losers, 5, "{statuses:?}");
            for winner in winners {
                let (status, list) = all.client().call(&Request::Peek { key: bought(winner) }).unwrap();
                assert_eq!(status, Status::AllPass);
                let coins: Vec<_> = Coins::new(&list).unwrap().iter().map(|coin| coin.id().unwrap()).collect();
                assert!(coins.len() == 1 && on_sale.contains(&coins[0]));
            }
        }
    });
}

#[test]
fn one_of_many_breaks_and_one_of_many_joins_succeeds() {
    on_every_node(|all| {
        for round in 0..ROUNDS {
            let number = 2 * u32::from(round) + 1;
            let source = coin(1, number);
            let session = |client: u8| u32::from(client) + 1;
            let made = |client: u8, index: usize| Secret::new([client * 16 + index as u8 + 1; 16]);
            let targets: Vec<Vec<(CoinId, Secret)>> = all.all_at_once(|number, client| {
                let request = Request::ChangeSerialNumbers {
                    session: session(number),
                    operation: ChangeOperation::Break,
                    den: 1,
                };
                let (status, payload) = client.call(&request).unwrap();
                assert_eq!(status, Status::Success);
                let sns = payload[1..].chunks_exact(4).map(|sn| u32::from_be_bytes(sn.try_into().unwrap()));
                sns.take(10).enumerate().map(|(index, sn)| (CoinId::new(0, sn).unwrap(), made(number, index))).collect()
            });
            let mut offered: Vec<CoinId> = targets.iter().flatten().map(|&(coin, _)| coin).collect();
            offered.sort_unstable();
            offered.dedup();
            assert_eq!(offered.len(), 80, "no two sessions are offered one serial number");

            let broken = all.all_at_once(|client_number, client| {
                let bytes = secrets(&targets[usize::from(client_number)]);
                let request = Request::Break {
                    session: session(client_number),
                    source: (source.into(), an(number)),
                    targets: SecretCoins::new(&bytes).unwrap(),
                };
                client.call(&request).unwrap().0
            });
            let winners: Vec<usize> = (0..broken.len()).filter(|&client| broken[client] == Status::Success).collect();
            assert_eq!(winners.len(), 1, "{broken:?}");
            let pieces = &targets[winners[0]];
            assert_eq!(all.detect(pieces), Status::AllPass);

            let joined = all.all_at_once(|number, client| {
                let sns =
                    Request::ChangeSerialNumbers { session: session(number), operation: ChangeOperation::Join, den: 0 };
                let (_, payload) = client.call(&sns).unwrap();
                let target = RawCoin { den: 1, sn: u32::from_be_bytes(payload[1..5].try_into().unwrap()) };
                let bytes = secrets(pieces);
                let request = Request::Join {
                    session: session(number),
                    target: (target, made(number, 15)),
                    sources: SecretCoins::new(&bytes).unwrap(),
                };
                client.call(&request).unwrap().0
            });
            assert_eq!(joined.iter().filter(|&&status| status == Status::Success).count(), 1, "{joined:?}");
            assert_eq!(all.detect(pieces), Status::AllFail, "who joined them has them no more");
        }
    });
}
