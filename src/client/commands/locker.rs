//! Lockers from the command line: *store*, *store multiple*, *peek*, *remove*.
//!
//! A coin that the wallet put into a locker stays in the wallet, with the locker's key as its AN: until somebody else
//! takes it out, the owner can.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::Error;
use crate::client::arguments::{CoinSpec, LockerSpec};
use crate::client::secrets::{KeySpec, fresh_an};
use crate::client::wallet::Pending;
use crate::wire::items::{Coins, RawCoin, SecretCoins, bytes_of};
use crate::wire::request::answer::Answer;
use crate::wire::request::locker::Lockers;
use crate::wire::request::{CommandKind, Request};
use crate::wire::status::Status;

use super::coins::{SECRET_COINS_MAX, Together, names_of, sum_of};
use super::{Output, Run, coins_text, json_of, text_of};

impl Run<'_> {
    /// 8.82
    pub(super) async fn store(&mut self, key: &KeySpec, specs: &[CoinSpec]) -> Result<Output, Error> {
        let (coins, key) = (self.select(specs)?, key.key(self.raida_id()));
        let changes: Vec<_> = coins.iter().map(|(coin, _)| (*coin, Pending::Secret(key))).collect();
        let bytes = names_of(&coins);
        let coins_view = Coins::new(&bytes).expect("whole coins");
        let reply = self.change(&changes, &Request::Store { coins: coins_view, sum: sum_of(&coins), key }).await?;
        let names = || coins.iter().map(|(coin, _)| *coin);
        let text = if reply.status.is_success() {
            format!("{} in the locker: {}", coins_text(coins.len()), text_of(names()))
        } else {
            String::new()
        };
        Ok(Output::of(CommandKind::Store, reply.status, reply.micros, text, json!({ "coins": json_of(names()) })))
    }

    /// 8.88
    pub(super) async fn store_multiple(&mut self, specs: &[LockerSpec]) -> Result<Output, Error> {
        if specs.len() > usize::from(u8::MAX) {
            return Err(Error::Usage("one request takes 255 lockers at most".into()));
        }
        let (mut taken, mut lockers, mut changes) = (BTreeSet::new(), Vec::new(), Vec::new());
        for spec in specs {
            let coins = self.select_beside(&spec.coins, &mut taken)?;
            let key = spec.key.key(self.raida_id());
            changes.extend(coins.iter().map(|(coin, _)| (*coin, Pending::Secret(key))));
            lockers.push((names_of(&coins), sum_of(&coins), key));
        }
        if changes.len() > usize::from(u16::MAX) {
            return Err(Error::Usage("so many coins are too long for a request".into()));
        }
        let views = lockers.iter().map(|(bytes, sum, key)| (Coins::new(bytes).expect("whole coins"), *sum, *key));
        let payload = Lockers::payload(views.collect::<Vec<_>>().into_iter());
        let kind = CommandKind::StoreMultiple;
        let request = Request::decode(kind.command(), &payload).expect("lengths that add up");
        let reply = self.change(&changes, &request).await?;
        let stored: Vec<bool> = match reply.answer(&request)? {
            Answer::Lockers(bytes) => bytes.iter().map(|&byte| byte == 1).collect(),
            _ => Vec::new(),
        };
        let lines: Vec<_> = stored
            .iter()
            .zip(&lockers)
            .map(|(stored, (bytes, ..))| {
                let coins = coins_text(bytes.len() / Coins::ITEM_BYTES);
                format!("{coins} {}", if *stored { "stored" } else { "not stored" })
            })
            .collect();
        Ok(Output::of(kind, reply.status, reply.micros, lines.join("\n"), json!({ "stored": stored })))
    }

    /// 8.83
    pub(super) async fn peek(&mut self, key: &KeySpec) -> Result<Output, Error> {
        let request = Request::Peek { key: key.key(self.raida_id()) };
        self.peek_at(&request).await.map(|(output, _)| output)
    }

    /// Asks what is in a locker or a trade locker.
    pub(super) async fn peek_at(&mut self, request: &Request<'_>) -> Result<(Output, Vec<RawCoin>), Error> {
        let reply = self.ask(request).await?;
        let coins: Vec<RawCoin> = match reply.answer(request)? {
            Answer::Coins(coins) => coins.iter().collect(),
            _ => Vec::new(),
        };
        let (text, found) = if reply.status.is_success() {
            let text = format!("{}: {}", coins_text(coins.len()), text_of(coins.iter().copied()));
            (text, json!({ "coins": json_of(coins.iter().copied()) }))
        } else {
            (String::new(), json!({}))
        };
        Ok((Output::of(request.kind(), reply.status, reply.micros, text, found), coins))
    }

    /// 8.84
    pub(super) async fn remove(&mut self, key: &KeySpec, coins: &[RawCoin]) -> Result<Output, Error> {
        self.wallet()?;
        let key = key.key(self.raida_id());
        let mut coins = coins.to_vec();
        if coins.is_empty() {
            let (output, found) = self.peek_at(&Request::Peek { key }).await?;
            if found.is_empty() {
                return Ok(output);
            }
            // A node must not make the wallet believe in coins that are none.
            if found.iter().any(|coin| coin.id().is_none()) {
                return Err(Error::Payload(Status::SerialNumberOrDenomination));
            }
            coins = found;
        }
        coins.sort_unstable();
        coins.dedup();
        let (mut together, mut removed) = (Together::default(), Vec::new());
        for batch in coins.chunks(SECRET_COINS_MAX) {
            let fresh = batch.iter().map(|&coin| Ok((coin, fresh_an()?)));
            let fresh = fresh.collect::<Result<Vec<_>, Error>>()?;
            let changes: Vec<_> = fresh.iter().map(|&(coin, an)| (coin, Pending::Secret(an))).collect();
            let bytes = bytes_of(fresh.iter().copied());
            let request = Request::Remove { key, coins: SecretCoins::new(&bytes).expect("whole coins") };
            let reply = self.change(&changes, &request).await?;
            let wallet = self.wallet()?;
            let now_ours = |(coin, an): &&_| wallet.settled(*coin).is_ok_and(|(_, now)| now == *an);
            removed.extend(fresh.iter().filter(now_ours).map(|(coin, _)| *coin));
            if !together.add(reply.status, reply.micros) {
                break;
            }
        }
        let text = format!("{} in the wallet: {}", coins_text(removed.len()), text_of(removed.iter().copied()));
        let found: Value = json!({ "coins": json_of(removed) });
        Ok(together.output(CommandKind::Remove, text, found))
    }
}
