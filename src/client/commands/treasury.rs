//! The treasury from the command line: *get available SNs*, *create coins*, *delete coins*, *free coins*, *get all SNs*.
//!
//! The ANs of created coins come with the answer, and go to the wallet. Where no answer comes, they are lost: the coins
//! are freed by name, and created anew.

use serde_json::json;

use crate::client::Error;
use crate::client::arguments::{CoinSpec, TreasuryKey};
use crate::client::secrets::{new_session, read_key};
use crate::client::wallet::Pending;
use crate::coin::{Denomination, Secret};
use crate::wire::items::{Coins, RawCoin, SecretCoins, bytes_of};
use crate::wire::request::answer::Answer;
use crate::wire::request::treasury::{Available, Wanted};
use crate::wire::request::{CommandKind, Request};
use crate::wire::status::Status;

use super::coins::{SECRET_COINS_MAX, Together};
use super::{Output, Run, coins_text, json_of, text_of};

impl Run<'_> {
    /// 3.120
    pub(super) async fn available_serial_numbers(
        &mut self,
        key: &TreasuryKey,
        den: Denomination,
        session: Option<u32>,
    ) -> Result<Output, Error> {
        let session = session.map_or_else(new_session, Ok)?;
        let request = Request::AvailableSerialNumbers {
            session,
            key: read_key(&key.key_file)?,
            denominations: Wanted::only(den),
        };
        let reply = self.ask(&request).await?;
        let mut ranges = Vec::new();
        if let Answer::Available(mut rest) = reply.answer(&request)? {
            while !rest.is_empty() {
                let available = Available::take(&mut rest).map_err(Error::Payload)?;
                ranges.extend(available.ranges.iter().map(|range| (range.first, range.last)));
                ranges.extend(available.singles.iter().map(|sn| (sn, sn)));
            }
        }
        let shown: Vec<String> = ranges.iter().map(|(first, last)| format!("{first}..={last}")).collect();
        let text = if reply.status.is_success() {
            format!("session {session}: serial numbers of denomination {den}: {}", shown.join(" "))
        } else {
            String::new()
        };
        let found = json!({ "session": session, "den": den.get(), "ranges": ranges });
        Ok(Output::of(request.kind(), reply.status, reply.micros, text, found))
    }

    /// 3.130
    pub(super) async fn create_coins(
        &mut self,
        key: &TreasuryKey,
        session: u32,
        coins: &[RawCoin],
    ) -> Result<Output, Error> {
        self.wallet()?;
        let bytes = bytes_of(coins.iter().copied());
        let coins_asked = Coins::new(&bytes).expect("whole coins");
        let request = Request::CreateCoins { session, key: read_key(&key.key_file)?, coins: coins_asked };
        let reply = self.ask(&request).await?;
        if let Answer::Created(ans) = reply.answer(&request)? {
            let created: Vec<(RawCoin, Secret)> = coins.iter().copied().zip(ans.iter()).collect();
            let wallet = self.wallet_mut()?;
            wallet.begin(created.iter().map(|&(coin, an)| (coin, Pending::Secret(an))))?;
            wallet.settle(created.iter().map(|&(coin, _)| (coin, true)))?;
        }
        let text = match reply.status {
            Status::Success => {
                format!("{} in the wallet: {}", coins_text(coins.len()), text_of(coins.iter().copied()))
            }
            _ => String::new(),
        };
        let found = json!({ "coins": json_of(coins.iter().copied()) });
        Ok(Output::of(request.kind(), reply.status, reply.micros, text, found))
    }

    /// 3.140
    pub(super) async fn delete_coins(&mut self, key: &TreasuryKey, specs: &[CoinSpec]) -> Result<Output, Error> {
        let key = read_key(&key.key_file)?;
        let coins = self.select(specs)?;
        let (mut together, mut deleted) = (Together::default(), 0);
        for batch in coins.chunks(SECRET_COINS_MAX) {
            let changes: Vec<_> = batch.iter().map(|(coin, _)| (*coin, Pending::Freed)).collect();
            let bytes = bytes_of(batch.iter().copied());
            let request = Request::DeleteCoins { key, coins: SecretCoins::new(&bytes).expect("whole coins") };
            let reply = self.change(&changes, &request).await?;
            let wallet = self.wallet()?;
            deleted += batch.iter().filter(|(coin, _)| wallet.entry(*coin).is_none()).count();
            if !together.add(reply.status, reply.micros) {
                break;
            }
        }
        let text = format!("{} of {} deleted", deleted, coins_text(coins.len()));
        Ok(together.output(CommandKind::DeleteCoins, text, json!({ "deleted": deleted })))
    }

    /// 3.150
    pub(super) async fn free_coins(&mut self, key: &TreasuryKey, coins: &[RawCoin]) -> Result<Output, Error> {
        let bytes = bytes_of(coins.iter().copied());
        let request = Request::FreeCoins {
            session: 0,
            key: read_key(&key.key_file)?,
            coins: Coins::new(&bytes).expect("whole coins"),
        };
        let reply = self.ask(&request).await?;
        let text = match reply.status {
            Status::Success => {
                format!("{} not in circulation: {}", coins_text(coins.len()), text_of(coins.iter().copied()))
            }
            _ => String::new(),
        };
        let found = json!({ "coins": json_of(coins.iter().copied()) });
        Ok(Output::of(request.kind(), reply.status, reply.micros, text, found))
    }

    /// 3.160
    pub(super) async fn all_serial_numbers(&mut self, key: &TreasuryKey, den: Denomination) -> Result<Output, Error> {
        let request = Request::AllSerialNumbers { key: read_key(&key.key_file)?, den: den.get() };
        let reply = self.ask(&request).await?;
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        if let Answer::Minted(minted) = reply.answer(&request)? {
            for sn in (0..crate::coin::SERIAL_NUMBERS).filter(|&sn| minted.bits.get(sn as usize)) {
                match ranges.last_mut() {
                    Some((_, last)) if *last + 1 == sn => *last = sn,
                    _ => ranges.push((sn, sn)),
                }
            }
        }
        let coins: u32 = ranges.iter().map(|(first, last)| last - first + 1).sum();
        let shown: Vec<String> = ranges.iter().map(|(first, last)| format!("{first}..={last}")).collect();
        let text = if reply.status.is_success() {
            format!("{} of denomination {den}: {}", coins_text(coins as usize), shown.join(" "))
        } else {
            String::new()
        };
        let found = json!({ "den": den.get(), "coins": coins, "ranges": ranges });
        Ok(Output::of(request.kind(), reply.status, reply.micros, text, found))
    }
}
