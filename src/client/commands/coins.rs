//! Group 1 from the command line: *detect*, *detect sum*, *pown*, *pown sum*.

use serde_json::{Value, json};

use crate::client::Error;
use crate::client::arguments::CoinSpec;
use crate::client::secrets::{fresh_an, random};
use crate::client::wallet::Pending;
use crate::coin::{Place, Secret};
use crate::wire::items::{Coins, PownCoin, PownCoins, SecretCoin, SecretCoins, bytes_of};
use crate::wire::request::answer::Answer;
use crate::wire::request::{CommandKind, Request};
use crate::wire::status::Status;

use super::{Output, Run, coins_text, json_of, text_of};

/// Coins in one *detect* or *remove*: 21 bytes each within any request and any datagram.
pub(super) const SECRET_COINS_MAX: usize = 3000;
/// Coins in one *pown*: 37 bytes each.
const POWN_COINS_MAX: usize = 1700;

/// How several requests of one kind went together.
#[derive(Default)]
pub(super) struct Together {
    status: Option<Status>,
    micros: u32,
}

impl Together {
    /// Adds one answer; whether the next request may follow.
    pub(super) fn add(&mut self, status: Status, micros: u32) -> bool {
        let told = [Status::AllPass, Status::AllFail, Status::Mixed].contains(&status);
        self.micros = self.micros.saturating_add(micros);
        self.status = Some(match self.status {
            Some(before) if told && before != status => Status::Mixed,
            _ => status,
        });
        told
    }

    /// The output of all of them.
    pub(super) fn output(self, kind: CommandKind, text: String, found: Value) -> Output {
        Output::of(kind, self.status.unwrap_or(Status::AllPass), self.micros, text, found)
    }

    /// Whether the node answered for every coin.
    pub(super) fn is_told(&self) -> bool {
        self.status.is_none_or(|status| [Status::AllPass, Status::AllFail, Status::Mixed].contains(&status))
    }
}

/// The XOR of the ANs: the proof of a sum.
pub(super) fn sum_of(coins: &[SecretCoin]) -> Secret {
    coins.iter().fold(Secret::default(), |sum, (_, an)| sum.xor(*an))
}

/// The coins' names alone, for a request.
pub(super) fn names_of(coins: &[SecretCoin]) -> Vec<u8> {
    bytes_of(coins.iter().map(|(coin, _)| *coin))
}

impl Run<'_> {
    /// 1.10
    pub(super) async fn detect(&mut self, specs: &[CoinSpec]) -> Result<Output, Error> {
        let coins: Vec<SecretCoin> = if specs.is_empty() {
            let entries = self.wallet()?.entries();
            entries.filter_map(|(coin, entry)| entry.an.map(|an| (coin, an))).collect()
        } else {
            self.select(specs)?
        };
        let (together, authentic) = self.detect_each(&coins).await?;
        if !together.is_told() {
            return Ok(together.output(CommandKind::Detect, String::new(), json!({})));
        }
        let denied = coins.iter().zip(&authentic).filter(|(_, authentic)| !**authentic).map(|((coin, _), _)| *coin);
        let denied: Vec<_> = denied.collect();
        let mut text = format!("{} of {} authentic", coins.len() - denied.len(), coins_text(coins.len()));
        if !denied.is_empty() {
            text += &format!("\nnot authentic: {}", text_of(denied.iter().copied()));
        }
        let each: Value = coins
            .iter()
            .zip(&authentic)
            .map(|((coin, _), authentic)| json!({ "den": coin.den, "sn": coin.sn, "authentic": authentic }))
            .collect();
        Ok(together.output(CommandKind::Detect, text, json!({ "coins": each })))
    }

    /// Whether the node holds each of these secrets. A coin must not be named twice.
    pub(super) async fn detect_each(&mut self, coins: &[SecretCoin]) -> Result<(Together, Vec<bool>), Error> {
        let (mut together, mut authentic) = (Together::default(), Vec::with_capacity(coins.len()));
        for batch in coins.chunks(SECRET_COINS_MAX) {
            let bytes = bytes_of(batch.iter().copied());
            let request = Request::Detect { coins: SecretCoins::new(&bytes).expect("whole coins") };
            let reply = self.ask(&request).await?;
            let answer = reply.answer(&request)?;
            authentic.extend((0..batch.len()).map(|coin| match answer {
                Answer::Bits(bits) => bits.get(coin),
                _ => reply.status == Status::AllPass,
            }));
            if !together.add(reply.status, reply.micros) {
                break;
            }
        }
        Ok((together, authentic))
    }

    /// 1.11
    pub(super) async fn detect_sum(&mut self, specs: &[CoinSpec]) -> Result<Output, Error> {
        let coins = self.select(specs)?;
        let bytes = names_of(&coins);
        let request = Request::DetectSum { coins: Coins::new(&bytes).expect("whole coins"), sum: sum_of(&coins) };
        let reply = self.ask(&request).await?;
        let text = coins_text(coins.len());
        let found = json!({ "coins": json_of(coins.iter().map(|(coin, _)| *coin)) });
        Ok(Output::of(CommandKind::DetectSum, reply.status, reply.micros, text, found))
    }

    /// 1.20
    pub(super) async fn pown(&mut self, specs: &[CoinSpec]) -> Result<Output, Error> {
        let coins = self.select(specs)?;
        let mut together = Together::default();
        for batch in coins.chunks(POWN_COINS_MAX) {
            let fresh = batch.iter().map(|&(coin, an)| Ok((coin, an, fresh_an()?)));
            let powned: Vec<PownCoin> = fresh.collect::<Result<_, Error>>()?;
            let changes: Vec<_> = powned.iter().map(|&(coin, _, pan)| (coin, Pending::Secret(pan))).collect();
            let bytes = bytes_of(powned);
            let request = Request::Pown { coins: PownCoins::new(&bytes).expect("whole coins") };
            let reply = self.change(&changes, &request).await?;
            if !together.add(reply.status, reply.micros) {
                break;
            }
        }
        // What changed is what the wallet now has otherwise than before.
        let wallet = self.wallet()?;
        let changed: Vec<_> = coins
            .iter()
            .filter(|(coin, an)| wallet.settled(*coin).is_ok_and(|(_, now)| now != *an))
            .map(|(coin, _)| *coin)
            .collect();
        let text = format!("{} of {} have new secrets", changed.len(), coins_text(coins.len()));
        Ok(together.output(CommandKind::Pown, text, json!({ "changed": json_of(changed) })))
    }

    /// 1.21
    pub(super) async fn pown_sum(&mut self, specs: &[CoinSpec]) -> Result<Output, Error> {
        let coins = self.select(specs)?;
        let delta = loop {
            let delta = Secret::new(random()?);
            if coins.iter().all(|(_, an)| an.xor(delta).place() == Place::Wallet) {
                break delta;
            }
        };
        let changes: Vec<_> = coins.iter().map(|(coin, an)| (*coin, Pending::Secret(an.xor(delta)))).collect();
        let bytes = names_of(&coins);
        let coins_view = Coins::new(&bytes).expect("whole coins");
        let request = Request::PownSum { coins: coins_view, sum: sum_of(&coins), delta };
        let reply = self.change(&changes, &request).await?;
        let text = coins_text(coins.len());
        let found = json!({ "coins": json_of(coins.iter().map(|(coin, _)| *coin)) });
        Ok(Output::of(CommandKind::PownSum, reply.status, reply.micros, text, found))
    }
}
