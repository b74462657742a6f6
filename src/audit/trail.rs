//! The way of coins through wallets, lockers and the market.

use std::collections::HashSet;

use crate::coin::{CoinId, Place, Secret, TradeCoin};
use crate::settings::Identifier;
use crate::shard::market::public_identifier;
use crate::store::archive::Window;
use crate::store::wal::{Change, Commit, CommitRecord, PlaceKind};
use crate::wire::request::Command;
use crate::wire::request::locker::SaleTerms;

/// What is asked for.
pub struct Question {
    /// Commits of this time.
    pub window: Window,
    /// This coin alone.
    pub coin: Option<CoinId>,
    locker: Option<Locker>,
}

/// A locker or trade locker, and the coins that are known to be in it.
struct Locker {
    key: Secret,
    coins: HashSet<CoinId>,
}

impl Question {
    /// All commits of a time; of one coin, if one is named, and of the coins that came to or left a locker or trade locker,
    /// if its key is.
    pub fn new(window: Window, coin: Option<CoinId>, locker: Option<Secret>) -> Self {
        Self { window, coin, locker: locker.map(|key| Locker { key, coins: HashSet::new() }) }
    }

    /// The commits that must be read to answer it: who asks for a locker must see what came to it before.
    pub fn reads(&self) -> Window {
        let since_ms = if self.locker.is_some() { 0 } else { self.window.since_ms };
        Window { since_ms, ..self.window }
    }

    /// Gives the steps of a commit that are asked for. Commits must come in the journal's order.
    ///
    /// # Errors
    /// What `tell` fails with.
    pub fn read<E>(
        &mut self,
        shard: u8,
        record: &CommitRecord<'_>,
        tell: &mut dyn FnMut(&Step) -> Result<(), E>,
    ) -> Result<(), E> {
        let is_asked_for = self.window.contains(record.commit.unix_ms);
        for change in record.changes() {
            let concerns_locker = self.locker.as_mut().is_none_or(|locker| locker.follow(&change));
            let concerns_coin = self.coin.is_none_or(|coin| coin == change.coin);
            if is_asked_for && concerns_locker && concerns_coin {
                tell(&Step::new(shard, record.commit, &change))?;
            }
        }
        Ok(())
    }
}

impl Locker {
    /// Whether a change brings a coin here or takes one from here.
    fn follow(&mut self, change: &Change) -> bool {
        let was_here =
            self.coins.remove(&change.coin) && matches!(change.from, PlaceKind::Locker | PlaceKind::TradeLocker);
        let is_here = matches!(change.to.place(), Place::Locker(key) | Place::TradeLocker(key) if key == self.key);
        if is_here {
            self.coins.insert(change.coin);
        }
        was_here || is_here
    }
}

/// A change of a coin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// The commit's log.
    pub shard: u8,
    /// The commit: when, by which command.
    pub commit: Commit,
    /// Which coin.
    pub coin: CoinId,
    /// Where it was.
    pub from: PlaceKind,
    /// Where it is.
    pub to: PlaceKind,
    /// Under what it is on sale, if it is.
    pub offer: Option<Offer>,
}

impl Step {
    fn new(shard: u8, commit: Commit, change: &Change) -> Self {
        let place = change.to.place();
        Self { shard, commit, coin: change.coin, from: change.from, to: place.into(), offer: Offer::of(&place) }
    }

    /// The command's name; its numbers, where this program does not know it.
    pub fn command(&self) -> String {
        command_name(self.commit.group, self.commit.code)
    }
}

/// The name of a command; its numbers, where this program does not know it.
pub fn command_name(group: u8, code: u8) -> String {
    Command::find(group, code).map_or_else(|_| format!("{group}.{code}"), |command| command.name.to_owned())
}

/// What everybody may know of a trade locker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// What names it in lists that show no AN.
    pub identifier: [u8; 16],
    /// What it is sold for.
    pub coin_type: TradeCoin,
    /// What it costs, in that coin's units.
    pub price: u32,
}

impl Offer {
    /// The offer that a place is.
    pub fn of(place: &Place) -> Option<Self> {
        let Place::TradeLocker(an) = place else { return None };
        let SaleTerms { coin_type, price } = SaleTerms::of(an)?;
        Some(Self { identifier: public_identifier(an, Identifier::Hashed), coin_type, price })
    }
}

/// A place, in a word.
pub const fn place_name(place: PlaceKind) -> &'static str {
    match place {
        PlaceKind::Free => "free",
        PlaceKind::Wallet => "owned",
        PlaceKind::Locker => "locker",
        PlaceKind::TradeLocker => "on sale",
    }
}

/// A coin type, in a word.
pub const fn coin_type_name(coin_type: TradeCoin) -> &'static str {
    match coin_type {
        TradeCoin::CloudCoin => "cloudcoin",
        TradeCoin::Bitcoin => "bitcoin",
        TradeCoin::Monero => "monero",
    }
}
