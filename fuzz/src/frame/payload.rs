//! Payloads of every command about the coins there are: right more often than not, as only then anything happens.

use raida::coin::{CoinId, PayoutAddress, Place, Secret};
use raida::settings::Identifier;
use raida::shard::market::public_identifier;
use raida::sim::payload::TREASURY_KEY;
use raida::wire::items::{self, RawCoin};
use raida::wire::request::CommandKind::{self, *};

use crate::input::Input;
use crate::world::{Contents, locker_key, trade_an, wallet_an};

/// The coins that a session was offered.
#[derive(Clone, Debug)]
pub struct Offered {
    /// The session.
    pub session: u32,
    /// The coins it may make.
    pub coins: Vec<RawCoin>,
}

/// What payloads are made of.
pub struct Maker<'a> {
    /// The coins and orders as they were last seen.
    pub contents: &'a Contents,
    /// The newest offer of serial numbers.
    pub offered: Option<&'a Offered>,
}

impl Maker<'_> {
    /// A payload of a command.
    pub fn payload(&self, kind: CommandKind, input: &mut Input<'_>) -> Vec<u8> {
        match kind {
            Echo | Version | CountCoins => Vec::new(),
            Detect => self.rows(input),
            Pown => {
                let rows = self.coins(input).into_iter().map(|coin| (coin, self.an_of(coin, input), self.pan(input)));
                items::bytes_of(rows)
            }
            DetectSum => self.batch(input, &[]),
            PownSum | Store => {
                let new = if kind == Store { locker_key(input.byte() % 4) } else { self.pan(input) };
                self.batch(input, new.bytes())
            }
            PutForSale => {
                let address = PayoutAddress::new(&[b'a'; 30]).expect("long enough");
                let an = trade_an(input.byte() % 6);
                self.batch(input, &[an.bytes(), &address.encode()[..]].concat())
            }
            StoreMultiple => {
                let lockers = 1 + input.byte() % 3;
                let mut payload = vec![lockers];
                for _ in 0..lockers {
                    let key = locker_key(input.byte() % 4);
                    let batch = self.batch(input, key.bytes());
                    let coins = ((batch.len() - 32) / 5) as u16;
                    payload.extend_from_slice(&coins.to_be_bytes());
                    payload.extend_from_slice(&batch);
                }
                payload
            }
            Peek => self.locker(input).bytes().to_vec(),
            PeekTradeLocker => {
                let kind = [Identifier::Hashed, Identifier::An][input.below(2)];
                public_identifier(&self.trade_locker(input), kind).to_vec()
            }
            Remove => {
                let key = self.locker(input);
                let inside = self.contents.rows().filter(|row| row.1 == key).take(1 + input.below(4));
                let rows: Vec<_> = inside.map(|row| (row.0.into(), self.pan(input))).collect();
                [&key.bytes()[..], &items::bytes_of::<(RawCoin, Secret)>(rows)].concat()
            }
            ListForSale => vec![input.byte() % 3, input.byte()],
            Buy => self.purchase(input),
            RemoveTradeLocker => {
                let mut payload = self.trade_locker(input).bytes().to_vec();
                if input.below(4) > 0 {
                    payload.extend_from_slice(locker_key(input.byte() % 4).bytes());
                }
                payload
            }
            AvailableSerialNumbers => [&[0, 0, 0, 1][..], &TREASURY_KEY, &input.array::<16>()].concat(),
            CreateCoins => {
                let (session, coins) = self.offered.map_or((1, &[][..]), |offered| (offered.session, &offered.coins));
                let made = coins.iter().copied().skip(input.below(32)).take(1 + input.below(4));
                [&session.to_be_bytes()[..], &TREASURY_KEY, &items::bytes_of::<RawCoin>(made)].concat()
            }
            FreeCoins => [&[0, 0, 0, 1][..], &TREASURY_KEY, &items::bytes_of(self.coins(input))].concat(),
            DeleteCoins => [&TREASURY_KEY[..], &self.rows(input)].concat(),
            AllSerialNumbers => [&TREASURY_KEY[..], &[input.byte() % 4]].concat(),
            ChangeSerialNumbers => {
                let operation = 1 + input.byte() % 2;
                [&[0, 0, 0, 1 + input.byte() % 4, operation][..], &[(input.byte() % 4).wrapping_sub(1)]].concat()
            }
            Break | Join => self.exchange(kind == Break, input),
        }
    }

    /// Coins that there are, now and then one that is not.
    fn coins(&self, input: &mut Input<'_>) -> Vec<RawCoin> {
        let all: Vec<CoinId> = self.contents.coins.keys().copied().collect();
        let (count, first, step) = (1 + input.below(6), input.below(256), 1 + input.below(8));
        let mut coins: Vec<RawCoin> = (0..count)
            .map_while(|index| all.get((first + index * step) % all.len().max(1)))
            .map(|&coin| coin.into())
            .collect();
        if input.below(16) == 1 {
            coins.push(RawCoin { den: input.byte() as i8, sn: u32::from_be_bytes(input.array()) });
        }
        coins
    }

    /// The AN of a coin, now and then another.
    fn an_of(&self, coin: RawCoin, input: &mut Input<'_>) -> Secret {
        let known = coin.id().and_then(|coin| self.contents.an(coin));
        known.filter(|_| input.below(16) != 1).unwrap_or_else(|| self.pan(input))
    }

    /// An AN to propose: a wallet's or a locker's, seldom another.
    fn pan(&self, input: &mut Input<'_>) -> Secret {
        match input.byte() {
            250..=252 => trade_an(input.byte()),
            253..=255 => Secret::new(input.array()),
            number if number % 4 == 0 => locker_key(number / 4 % 4),
            _ => wallet_an(input.word()),
        }
    }

    /// Coins with their ANs.
    fn rows(&self, input: &mut Input<'_>) -> Vec<u8> {
        let rows = self.coins(input).into_iter().map(|coin| (coin, self.an_of(coin, input)));
        items::bytes_of::<(RawCoin, Secret)>(rows.collect::<Vec<_>>())
    }

    /// Coins, the sum of their ANs, and what follows.
    fn batch(&self, input: &mut Input<'_>, rest: &[u8]) -> Vec<u8> {
        let coins = self.coins(input);
        let ans = coins.iter().filter_map(|coin| self.contents.an(coin.id()?));
        let right = ans.fold(Secret::default(), |sum, an| sum.xor(an));
        let sum = if input.below(16) == 1 { self.pan(input) } else { right };
        [&items::bytes_of(coins)[..], sum.bytes(), rest].concat()
    }

    /// The AN of a place that had coins when last seen, or of one that may have some by now.
    fn an_at(&self, input: &mut Input<'_>, is_such: fn(Place) -> bool, other: fn(u8) -> Secret) -> Secret {
        let ans: Vec<Secret> = self.contents.rows().map(|row| row.1).filter(|an| is_such(an.place())).collect();
        let number = input.byte();
        ans.get(usize::from(number) % (ans.len() + 1)).copied().unwrap_or_else(|| other(number))
    }

    fn locker(&self, input: &mut Input<'_>) -> Secret {
        self.an_at(input, |place| matches!(place, Place::Locker(_)), |number| locker_key(number % 4))
    }

    fn trade_locker(&self, input: &mut Input<'_>) -> Secret {
        self.an_at(input, |place| matches!(place, Place::TradeLocker(_)), |number| trade_an(number % 6))
    }

    /// What buys one of the offers.
    fn purchase(&self, input: &mut Input<'_>) -> Vec<u8> {
        let an = self.trade_locker(input);
        let inside = self.contents.rows().filter(|row| row.1 == an);
        let value: u64 = inside.map(|row| row.0.denomination().value()).sum();
        let key = locker_key(input.byte() % 4);
        [&key.bytes()[..], &an.bytes()[13..14], &value.to_be_bytes(), &an.bytes()[9..13], &[5; 48], b"memo"].concat()
    }

    /// A break or a join into the coins that a session was offered.
    fn exchange(&self, breaks: bool, input: &mut Input<'_>) -> Vec<u8> {
        let none = Offered { session: 1, coins: vec![RawCoin { den: 0, sn: 9 }] };
        let Offered { session, coins } = self.offered.unwrap_or(&none);
        let made_den = coins.first().map_or(0, |coin| coin.den);
        let den = if breaks { made_den.wrapping_add(1) } else { made_den.wrapping_sub(1) };
        let (first, skipped) = (input.below(64), input.below(3));
        let of_den = self.contents.rows().filter(|row| row.0.denomination().get() == den);
        let given = of_den.skip(skipped).map(|row| (RawCoin::from(row.0), row.1));
        let mut made = |count| -> Vec<(RawCoin, Secret)> {
            coins.iter().cycle().skip(first).take(count).map(|&coin| (coin, self.pan(input))).collect()
        };
        let (larger, smaller): (Vec<_>, Vec<_>) =
            if breaks { (given.take(1).collect(), made(10)) } else { (made(1), given.take(10).collect()) };
        [&session.to_be_bytes()[..], &items::bytes_of(larger), &items::bytes_of(smaller)].concat()
    }
}
