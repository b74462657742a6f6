//! A client of the crash lab: sends every command that there is, notes what was answered, and says after a restart
//! whether the node still agrees.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::net::NetClient;
use raida::coin::{CoinId, Denomination, PayoutAddress, Place, Secret, TradeCoin};
use raida::sim::Seeded;
use raida::wire::items::{self, Coins, PownCoins, RawCoin, SecretCoins};
use raida::wire::request::answer::Answer;
use raida::wire::request::change::ChangeOperation;
use raida::wire::request::locker::{Lockers, SaleTerms};
use raida::wire::request::{COMMANDS, CommandKind, Request};
use raida::wire::status::Status;

/// Clients of a lab.
pub const CLIENTS: usize = 8;
const COINS_PER_CLIENT: u32 = 60;

/// What a client knows of its coins.
pub struct Holder {
    number: u8,
    random: Seeded,
    /// The coins, with the ANs that the answers said.
    pub coins: BTreeMap<CoinId, Secret>,
    /// The changes of the command that was not answered: coin, and its new AN or `None` if it is freed.
    pending: Vec<(CoinId, Option<Secret>)>,
    /// Commands answered, by their place in the table.
    pub answered: [u64; COMMANDS.len()],
    /// Those of them that changed something.
    pub written: u64,
}

impl Holder {
    /// A client of that number, with coins so many serial numbers apart.
    pub fn new(number: u8, seed: u64, apart: u32) -> Self {
        let mut holder = Self {
            number,
            random: Seeded(seed ^ u64::from(number) << 32),
            coins: BTreeMap::new(),
            pending: Vec::new(),
            answered: [0; COMMANDS.len()],
            written: 0,
        };
        for index in 0..COINS_PER_CLIENT {
            let sn = (index * CLIENTS as u32 + u32::from(number)) * apart;
            let coin = CoinId::new((index % 3) as i8 - 1, sn).unwrap();
            let an = holder.wallet_an();
            holder.coins.insert(coin, an);
        }
        holder
    }

    fn wallet_an(&mut self) -> Secret {
        let mut an = self.random.bytes();
        an[15] = 0x11;
        Secret::new(an)
    }

    fn locker_key(&mut self) -> Secret {
        let mut key = self.random.bytes();
        key[12..].fill(0xFF);
        Secret::new(key)
    }

    /// An offer's AN. The price is nobody else's, so nobody else's offer is bought.
    fn trade_an(&mut self) -> Secret {
        let random = *self.random.bytes().first_chunk().expect("9 of 16 bytes");
        let coin_type = TradeCoin::ALL[self.random.below(TradeCoin::ALL.len())];
        SaleTerms { coin_type, price: 256 + u32::from(self.number) }.an(random)
    }

    /// Up to `count` coins, no two with one AN, none in a trade locker, those of `chosen` not among them.
    fn some_coins(&mut self, count: usize, not: &[(CoinId, Secret)]) -> Vec<(CoinId, Secret)> {
        let mut chosen: Vec<(CoinId, Secret)> = Vec::new();
        for _ in 0..4 * count {
            let (&coin, &an) = self.coins.iter().nth(self.random.below(self.coins.len())).unwrap();
            let movable = !matches!(an.place(), Place::TradeLocker(_));
            if movable && chosen.len() < count && chosen.iter().chain(not).all(|(_, other)| *other != an) {
                chosen.push((coin, an));
            }
        }
        chosen
    }

    /// The coins with this AN.
    fn coins_with(&self, an: Secret) -> BTreeSet<CoinId> {
        self.coins.iter().filter(|(_, of)| **of == an).map(|(&coin, _)| coin).collect()
    }

    /// The keys of its lockers and the ANs of its offers.
    fn shared_ans(&self) -> Vec<Secret> {
        let mut ans: Vec<Secret> = self.coins.values().copied().filter(|an| an.place() != Place::Wallet).collect();
        ans.sort_unstable_by_key(|an| *an.bytes());
        ans.dedup();
        ans
    }

    fn apply(&mut self, changes: &[(CoinId, Option<Secret>)]) {
        for &(coin, an) in changes {
            match an {
                Some(an) => self.coins.insert(coin, an),
                None => self.coins.remove(&coin),
            };
        }
    }

    /// Sends a command and counts it when it is answered.
    fn ask(&mut self, client: &mut NetClient, request: &Request<'_>) -> std::io::Result<(Status, Vec<u8>)> {
        let answer = client.call(request)?;
        if answer.0 == Status::Filesystem {
            return Err(std::io::Error::other("the node's disk has failed"));
        }
        self.answered[request.command().index()] += 1;
        Ok(answer)
    }

    /// Sends a command that changes coins so, and notes it when it is answered. An error: it was not.
    fn change(
        &mut self,
        client: &mut NetClient,
        request: &Request<'_>,
        changes: Vec<(CoinId, Option<Secret>)>,
    ) -> std::io::Result<()> {
        self.pending = changes;
        let (status, _) = self.ask(client, request)?;
        let changes = std::mem::take(&mut self.pending);
        assert_eq!(status, request.command().kind.success(), "{request:?}");
        self.written += 1;
        self.apply(&changes);
        Ok(())
    }

    /// One random command.
    pub fn act(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        match self.random.below(12) {
            0 => self.store(client),
            1 => self.store_multiple(client),
            2 => self.remove(client),
            3 | 4 => self.trade(client),
            5 => self.pown(client),
            6 => self.pown_sum(client),
            7 | 8 => self.break_coin(client),
            9 => self.join(client),
            10 => {
                let ans = self.shared_ans();
                let few = ans.len().min(5);
                let first = self.random.below(ans.len() - few + 1);
                self.look_at_places(client, &ans[first..first + few])
            }
            _ => self.look_at_coins(client),
        }
    }

    /// Every coin is what the answers said.
    fn look_at_coins(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        let bytes = items::bytes_of(self.coins.iter().map(|(&coin, &an)| (RawCoin::from(coin), an)));
        let (status, _) = self.ask(client, &Request::Detect { coins: SecretCoins::new(&bytes).unwrap() })?;
        assert_eq!(status, Status::AllPass, "a coin is not what its last answer said");
        let coins = self.some_coins(9, &[]);
        let (list, sum) = (list(&coins), sum(&coins));
        let (status, _) = self.ask(client, &Request::DetectSum { coins: Coins::new(&list).unwrap(), sum })?;
        assert_eq!(status, Status::AllPass);
        for request in [Request::Echo, Request::Version, Request::CountCoins] {
            assert_eq!(self.ask(client, &request)?.0, Status::Success);
        }
        Ok(())
    }

    /// These lockers and offers have the coins that the answers said.
    fn look_at_places(&mut self, client: &mut NetClient, ans: &[Secret]) -> std::io::Result<()> {
        for &an in ans {
            let terms = SaleTerms::of(&an);
            let request = match terms {
                None => Request::Peek { key: an },
                Some(_) => Request::PeekTradeLocker { identifier: *an.bytes() },
            };
            let (status, payload) = self.ask(client, &request)?;
            let Ok(Answer::Coins(coins)) = Answer::decode(&request, status, &payload) else {
                panic!("{request:?}: {status:?}")
            };
            let found: BTreeSet<CoinId> = coins.iter().filter_map(|coin| coin.id()).collect();
            assert_eq!(found, self.coins_with(an), "a locker is not what its last answer said");
            if let Some(SaleTerms { coin_type, price }) = terms {
                let request = Request::ListForSale { coin_type, max: u8::MAX };
                let (status, payload) = self.ask(client, &request)?;
                let Ok(Answer::Offers(offers)) = Answer::decode(&request, status, &payload) else {
                    panic!("{request:?}: {status:?}")
                };
                let own: Vec<u64> =
                    offers.iter().filter(|offer| offer.price == price).map(|offer| offer.value).collect();
                assert_eq!(own, [value_of(&found)], "an offer is not what its last answer said");
            }
        }
        Ok(())
    }

    /// Puts coins into a locker.
    pub fn store(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        let coins = self.some_coins(3, &[]);
        if coins.is_empty() {
            return Ok(());
        }
        let (list, sum, key) = (list(&coins), sum(&coins), self.locker_key());
        let request = Request::Store { coins: Coins::new(&list).unwrap(), sum, key };
        self.change(client, &request, coins.iter().map(|&(coin, _)| (coin, Some(key))).collect())
    }

    fn store_multiple(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        let first = self.some_coins(2, &[]);
        let second = self.some_coins(2, &first);
        if first.is_empty() || second.is_empty() {
            return Ok(());
        }
        let lockers = [&first, &second].map(|coins| (list(coins), sum(coins), self.locker_key()));
        let named = lockers.iter().map(|(list, sum, key)| (Coins::new(list).unwrap(), *sum, *key));
        let payload = Lockers::payload(named);
        let request = Request::decode(CommandKind::StoreMultiple.command(), &payload).expect("a good payload");
        let stored =
            |coins: &[(CoinId, Secret)], key| coins.iter().map(|&(coin, _)| (coin, Some(key))).collect::<Vec<_>>();
        let changes = [stored(&first, lockers[0].2), stored(&second, lockers[1].2)].concat();
        self.change(client, &request, changes)
    }

    /// Takes coins out of a locker, if it has one.
    pub fn remove(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        let is_locker = |an: &Secret| matches!(an.place(), Place::Locker(_));
        let Some(key) = self.coins.values().copied().find(is_locker) else { return Ok(()) };
        let rows: Vec<_> = self.coins_with(key).into_iter().map(|coin| (coin, self.wallet_an())).collect();
        let bytes = items::bytes_of(rows.iter().map(|&(coin, an)| (RawCoin::from(coin), an)));
        let request = Request::Remove { key, coins: SecretCoins::new(&bytes).unwrap() };
        self.change(client, &request, rows.into_iter().map(|(coin, an)| (coin, Some(an))).collect())
    }

    /// Puts coins for sale, then buys them, takes them back or, if there are many, frees them.
    pub fn trade(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        let Some(an) = self.coins.values().copied().find(|an| SaleTerms::of(an).is_some()) else {
            let coins = self.some_coins(2, &[]);
            if coins.is_empty() {
                return Ok(());
            }
            let (list, sum, an) = (list(&coins), sum(&coins), self.trade_an());
            let address = PayoutAddress::new(b"an address of twenty").unwrap();
            let request = Request::PutForSale { coins: Coins::new(&list).unwrap(), sum, an, address };
            return self.change(client, &request, coins.iter().map(|&(coin, _)| (coin, Some(an))).collect());
        };
        let SaleTerms { coin_type, price } = SaleTerms::of(&an).expect("just seen");
        let (key, coins) = (self.locker_key(), self.coins_with(an));
        let (request, after) = match self.random.below(8) {
            0 if self.coins.len() > COINS_PER_CLIENT as usize => (Request::RemoveTradeLocker { an, key: None }, None),
            0..4 => (Request::RemoveTradeLocker { an, key: Some(key) }, Some(key)),
            _ => {
                let (txid, receipt) = ([0; 32], [0; 16]);
                let value = value_of(&coins);
                (Request::Buy { key, coin_type, value, price, txid, receipt, memo: b"lab" }, Some(key))
            }
        };
        self.change(client, &request, coins.into_iter().map(|coin| (coin, after)).collect())
    }

    /// Gives coins new ANs.
    pub fn pown(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        let rows: Vec<_> = self.some_coins(5, &[]).into_iter().map(|(coin, an)| (coin, an, self.wallet_an())).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let bytes = items::bytes_of(rows.iter().map(|&(coin, an, new)| (RawCoin::from(coin), an, new)));
        let request = Request::Pown { coins: PownCoins::new(&bytes).unwrap() };
        self.change(client, &request, rows.into_iter().map(|(coin, _, an)| (coin, Some(an))).collect())
    }

    fn pown_sum(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        let mut coins = self.some_coins(5, &[]);
        coins.retain(|(_, an)| an.place() == Place::Wallet);
        if coins.is_empty() {
            return Ok(());
        }
        let mut delta = self.random.bytes();
        delta[12..].fill(0);
        let (list, sum, delta) = (list(&coins), sum(&coins), Secret::new(delta));
        let request = Request::PownSum { coins: Coins::new(&list).unwrap(), sum, delta };
        self.change(client, &request, coins.into_iter().map(|(coin, an)| (coin, Some(an.xor(delta)))).collect())
    }

    fn offered(&mut self, client: &mut NetClient, operation: ChangeOperation, den: i8) -> std::io::Result<Vec<CoinId>> {
        let session = u32::from(self.number) + 1;
        let (status, payload) = self.ask(client, &Request::ChangeSerialNumbers { session, operation, den })?;
        assert_eq!(status, Status::Success);
        let sns = payload[1..].chunks_exact(4).map(|sn| u32::from_be_bytes(sn.try_into().unwrap()));
        Ok(sns.map(|sn| CoinId::new(payload[0] as i8, sn).unwrap()).collect())
    }

    /// Breaks a coin into ten.
    pub fn break_coin(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        let Some((source, an)) = self.some_coins(1, &[]).pop() else { return Ok(()) };
        let Some(_) = source.denomination().smaller() else { return Ok(()) };
        let offered = self.offered(client, ChangeOperation::Break, source.denomination().get())?;
        let targets: Vec<_> = offered.into_iter().take(10).map(|coin| (coin, self.wallet_an())).collect();
        let bytes = items::bytes_of(targets.iter().map(|&(coin, an)| (RawCoin::from(coin), an)));
        let session = u32::from(self.number) + 1;
        let targets_view = SecretCoins::new(&bytes).unwrap();
        let request = Request::Break { session, source: (source.into(), an), targets: targets_view };
        let created = targets.into_iter().map(|(coin, an)| (coin, Some(an)));
        self.change(client, &request, created.chain([(source, None)]).collect())
    }

    /// Joins ten coins to one, if there are many.
    pub fn join(&mut self, client: &mut NetClient) -> std::io::Result<()> {
        let wallet = |an: &Secret| an.place() == Place::Wallet;
        let smaller = Denomination::all().find_map(|den| {
            let of: Vec<_> = self.coins.iter().filter(|(coin, an)| coin.denomination() == den && wallet(an)).collect();
            (of.len() > 20).then(|| of.into_iter().take(10).map(|(&coin, &an)| (coin, an)).collect::<Vec<_>>())
        });
        let Some(sources) = smaller else { return Ok(()) };
        let den = sources[0].0.denomination();
        let offered = self.offered(client, ChangeOperation::Join, den.get())?;
        let (target, an) = (offered[0], self.wallet_an());
        let bytes = items::bytes_of(sources.iter().map(|&(coin, an)| (RawCoin::from(coin), an)));
        let session = u32::from(self.number) + 1;
        let request =
            Request::Join { session, target: (target.into(), an), sources: SecretCoins::new(&bytes).unwrap() };
        let freed = sources.into_iter().map(|(coin, _)| (coin, None));
        self.change(client, &request, freed.chain([(target, Some(an))]).collect())
    }

    /// Works until the node is gone or writes no more: `act` again and again.
    pub fn work(&mut self, to: SocketAddr, act: impl Fn(&mut Self, &mut NetClient) -> std::io::Result<()>) {
        let client = if self.number.is_multiple_of(2) { NetClient::tcp(to) } else { NetClient::udp(to) };
        let Ok(mut client) = client else { return };
        client.patience(Duration::from_secs(2));
        while act(self, &mut client).is_ok() {}
    }

    /// Compares what it knows with what the node says. Returns (coins lost, commands half done).
    pub fn check(&mut self, client: &mut NetClient) -> (usize, usize) {
        let pending = std::mem::take(&mut self.pending);
        let new: Vec<_> = pending.iter().filter_map(|&(coin, an)| an.map(|an| (coin, an))).collect();
        let old: Vec<_> = pending.iter().filter_map(|&(coin, _)| self.coins.get(&coin).map(|&an| (coin, an))).collect();
        let (are_new, are_old) = (authentic(client, &new), authentic(client, &old));
        let done = are_new.iter().all(|&is| is) && are_old.iter().all(|&is| !is);
        let undone = are_old.iter().all(|&is| is) && are_new.iter().all(|&is| !is);
        if done && !pending.is_empty() {
            self.apply(&pending);
        }
        let all: Vec<_> = self.coins.iter().map(|(&coin, &an)| (coin, an)).collect();
        let lost = authentic(client, &all).iter().filter(|&&is| !is).count();
        if lost == 0 && (done || undone) {
            self.look_at_places(client, &self.shared_ans()).expect("a node that nobody kills answers");
        }
        (if done || undone { lost } else { 0 }, usize::from(!done && !undone))
    }
}

/// Which of the coins have the AN.
pub fn authentic(client: &mut NetClient, rows: &[(CoinId, Secret)]) -> Vec<bool> {
    if rows.is_empty() {
        return Vec::new();
    }
    let bytes = items::bytes_of(rows.iter().map(|&(coin, an)| (RawCoin::from(coin), an)));
    let (status, payload) = client.call(&Request::Detect { coins: SecretCoins::new(&bytes).unwrap() }).unwrap();
    match status {
        Status::AllPass => vec![true; rows.len()],
        Status::AllFail => vec![false; rows.len()],
        Status::Mixed => {
            let bits = items::Bits::new(&payload, rows.len()).unwrap();
            (0..rows.len()).map(|row| bits.get(row)).collect()
        }
        status => panic!("detect answered {status:?}"),
    }
}

fn list(coins: &[(CoinId, Secret)]) -> Vec<u8> {
    items::bytes_of(coins.iter().map(|&(coin, _)| RawCoin::from(coin)))
}

fn sum(coins: &[(CoinId, Secret)]) -> Secret {
    coins.iter().fold(Secret::default(), |sum, (_, an)| sum.xor(*an))
}

/// What coins are worth.
pub fn value_of<'a>(coins: impl IntoIterator<Item = &'a CoinId>) -> u64 {
    coins.into_iter().map(|coin| coin.denomination().value()).sum()
}

/// What all coins in circulation are worth, as the node counts them.
pub fn value(client: &mut NetClient) -> u64 {
    let (_, counts) = client.call(&Request::CountCoins).unwrap();
    counts
        .chunks_exact(5)
        .map(|row| {
            let count = u32::from_be_bytes(row[1..].try_into().unwrap());
            Denomination::new(row[0] as i8).unwrap().value() * u64::from(count)
        })
        .sum()
}
