//! The market from the command line: *put for sale*, *list*, *buy*, *remove trade locker*, *peek trade locker*.
//!
//! Coins for sale stay in the wallet with the trade locker's AN, which only this wallet has: it is the right to take
//! them off the market. After they are sold, *wallet reconcile --prune* moves them to the archive.

use serde_json::{Value, json};

use crate::client::Error;
use crate::client::arguments::{BuyArguments, CoinSpec};
use crate::client::secrets::{KeySpec, hex_of_bytes, random};
use crate::client::wallet::Pending;
use crate::coin::{PayoutAddress, Place, Secret, TradeCoin};
use crate::settings::Identifier;
use crate::shard::market::public_identifier;
use crate::wire::items::Coins;
use crate::wire::request::answer::Answer;
use crate::wire::request::locker::SaleTerms;
use crate::wire::request::{CommandKind, Request};

use super::coins::{names_of, sum_of};
use super::{Output, Run, coins_text, json_of};

impl Run<'_> {
    /// 8.85
    pub(super) async fn put_for_sale(
        &mut self,
        specs: &[CoinSpec],
        coin_type: TradeCoin,
        price: u32,
        address: &str,
    ) -> Result<Output, Error> {
        let address = PayoutAddress::new(address.as_bytes())
            .ok_or_else(|| Error::Usage("an address has 16 to 120 bytes".into()))?;
        let coins = self.select(specs)?;
        let an = SaleTerms { coin_type, price }.an(random()?);
        let changes: Vec<_> = coins.iter().map(|(coin, _)| (*coin, Pending::Secret(an))).collect();
        let bytes = names_of(&coins);
        let coins_view = Coins::new(&bytes).expect("whole coins");
        let request = Request::PutForSale { coins: coins_view, sum: sum_of(&coins), an, address };
        let reply = self.change(&changes, &request).await?;
        let identifier = hex_of_bytes(&public_identifier(&an, Identifier::Hashed));
        let text = if reply.status.is_success() {
            format!("{} for sale as {identifier}", coins_text(coins.len()))
        } else {
            String::new()
        };
        let found = json!({ "coins": json_of(coins.iter().map(|(coin, _)| *coin)), "identifier": identifier });
        Ok(Output::of(CommandKind::PutForSale, reply.status, reply.micros, text, found))
    }

    /// 8.86
    pub(super) async fn list_for_sale(&mut self, coin_type: TradeCoin, max: u8) -> Result<Output, Error> {
        let request = Request::ListForSale { coin_type, max };
        let reply = self.ask(&request).await?;
        let (mut lines, mut listed) = (Vec::new(), Vec::new());
        if let Answer::Offers(offers) = reply.answer(&request)? {
            for offer in offers.iter() {
                let identifier = hex_of_bytes(&offer.identifier);
                lines.push(format!("{identifier} value {} price {}", offer.value, offer.price));
                listed.push(json!({
                    "identifier": identifier,
                    "coin_type": offer.coin_type,
                    "value": offer.value,
                    "price": offer.price,
                }));
            }
        }
        let found = json!({ "offers": listed });
        Ok(Output::of(CommandKind::ListForSale, reply.status, reply.micros, lines.join("\n"), found))
    }

    /// 8.87
    pub(super) async fn buy(&mut self, purchase: &BuyArguments) -> Result<Output, Error> {
        let receipt = purchase.receipt.map_or_else(random, Ok)?;
        let request = Request::Buy {
            key: purchase.key.key(self.raida_id()),
            coin_type: purchase.coin_type,
            value: purchase.value,
            price: purchase.price,
            txid: purchase.txid,
            receipt,
            memo: purchase.memo.as_bytes(),
        };
        let reply = self.ask(&request).await?;
        let receipt = hex_of_bytes(&receipt);
        let text = format!("receipt {receipt}");
        Ok(Output::of(CommandKind::Buy, reply.status, reply.micros, text, json!({ "receipt": receipt })))
    }

    /// 8.89. The coins go back to the locker of `key`, without one out of circulation.
    pub(super) async fn remove_trade_locker(
        &mut self,
        locker: [u8; 16],
        key: Option<&KeySpec>,
    ) -> Result<Output, Error> {
        let (an, key) = (self.trade_locker_an(locker), key.map(|key| key.key(self.raida_id())));
        let pending = key.map_or(Pending::Freed, Pending::Secret);
        let ours = self.wallet.iter().flat_map(|wallet| wallet.entries());
        let changes: Vec<_> = ours.filter(|(_, entry)| entry.an == Some(an)).map(|(coin, _)| (coin, pending)).collect();
        let reply = self.change(&changes, &Request::RemoveTradeLocker { an, key }).await?;
        let text = match (reply.status.is_success(), key.is_some()) {
            (false, _) => String::new(),
            (true, true) => "its coins are in the locker".into(),
            (true, false) => "its coins are out of circulation".into(),
        };
        let found: Value = json!({ "coins": json_of(changes.iter().map(|(coin, _)| *coin)) });
        Ok(Output::of(CommandKind::RemoveTradeLocker, reply.status, reply.micros, text, found))
    }

    /// The AN that 16 bytes mean: that of a trade locker in the wallet whose identifier they are, else themselves.
    fn trade_locker_an(&self, locker: [u8; 16]) -> Secret {
        let entries = self.wallet.iter().flat_map(|wallet| wallet.entries());
        let mut ans = entries.filter_map(|(_, entry)| entry.an);
        let is_named = |an: &Secret| {
            matches!(an.place(), Place::TradeLocker(_)) && public_identifier(an, Identifier::Hashed) == locker
        };
        ans.find(is_named).unwrap_or(Secret::new(locker))
    }

    /// 8.81
    pub(super) async fn peek_trade_locker(&mut self, identifier: [u8; 16]) -> Result<Output, Error> {
        self.peek_at(&Request::PeekTradeLocker { identifier }).await.map(|(output, _)| output)
    }
}
