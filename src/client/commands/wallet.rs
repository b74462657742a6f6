//! The wallet's own commands: what is in it, and what became of requests without an answer.

use std::collections::BTreeMap;

use serde_json::json;

use crate::client::Error;
use crate::client::wallet::{Entry, Pending};
use crate::coin::Place;
use crate::wire::items::{RawCoin, SecretCoin};
use crate::wire::request::CommandKind;

use super::{Output, Run, coins_text, json_of, text_of};

/// Where a coin is, in a word.
fn place_of(entry: &Entry) -> &'static str {
    match (entry.pending, entry.an.map(|an| an.place())) {
        (Some(_), _) => "waiting",
        (None, Some(Place::Locker(_))) => "in a locker",
        (None, Some(Place::TradeLocker(_))) => "for sale",
        (None, _) => "here",
    }
}

impl Run<'_> {
    /// What is in the wallet, by place and denomination.
    pub(super) fn list_wallet(&self) -> Result<Output, Error> {
        let (mut places, mut coins, mut value) = (BTreeMap::new(), Vec::new(), 0u128);
        for (coin, entry) in self.wallet()?.entries() {
            let place = place_of(&entry);
            *places.entry((place, coin.den)).or_insert(0usize) += 1;
            coins.push(json!({ "den": coin.den, "sn": coin.sn, "place": place }));
            if place == "here" {
                value += coin.id().map_or(0, |coin| u128::from(coin.denomination().value()));
            }
        }
        let worth = format!("{}.{:08}", value / 100_000_000, value % 100_000_000);
        let lines = places.iter().map(|((place, den), coins)| format!("{place:<11} {den:>3} {}", coins_text(*coins)));
        let text = lines.chain([format!("worth {worth} here")]).collect::<Vec<_>>().join("\n");
        Ok(Output { status: None, text, json: json!({ "coins": coins, "worth": worth }) })
    }

    /// Asks the node which secrets it holds, and settles what waits. A node that holds neither secret of a coin leaves
    /// it waiting: it may be the wrong node.
    pub(super) async fn reconcile(&mut self, prune: bool) -> Result<Output, Error> {
        let entries: Vec<_> = self.wallet()?.entries().collect();
        let ans: Vec<SecretCoin> = entries.iter().filter_map(|(coin, entry)| Some((*coin, entry.an?))).collect();
        let pending = entries.iter().filter_map(|(coin, entry)| match entry.pending {
            Some(Pending::Secret(secret)) => Some((*coin, secret)),
            _ => None,
        });
        let pending: Vec<SecretCoin> = pending.collect();
        // The old secrets first: a request carried out in between is then found by its new one.
        let old = match self.held(&ans).await? {
            Ok(held) => held,
            Err(refusal) => return Ok(*refusal),
        };
        let new = match self.held(&pending).await? {
            Ok(held) => held,
            Err(refusal) => return Ok(*refusal),
        };

        let (mut outcomes, mut unknown) = (Vec::new(), Vec::new());
        for (coin, entry) in &entries {
            let (holds_old, holds_new) = (old.get(coin) == Some(&true), new.get(coin) == Some(&true));
            match entry.pending {
                Some(Pending::Secret(_)) if holds_new => outcomes.push((*coin, true)),
                Some(Pending::Secret(_)) if holds_old || entry.an.is_none() => outcomes.push((*coin, false)),
                Some(Pending::Freed) => outcomes.push((*coin, !holds_old)),
                _ if !holds_old => unknown.push(*coin),
                _ => (),
            }
        }
        let wallet = self.wallet_mut()?;
        wallet.settle(outcomes.iter().copied())?;
        if prune {
            wallet.forget(&unknown)?;
        }
        Ok(report(&outcomes, &unknown, prune))
    }

    /// Whether the node holds each of these secrets; its refusal as the output when it would not say.
    async fn held(&mut self, coins: &[SecretCoin]) -> Result<Result<BTreeMap<RawCoin, bool>, Box<Output>>, Error> {
        let (together, authentic) = self.detect_each(coins).await?;
        if !together.is_told() {
            let text = "nothing is settled".to_owned();
            return Ok(Err(Box::new(together.output(CommandKind::Detect, text, json!({})))));
        }
        Ok(Ok(coins.iter().map(|(coin, _)| *coin).zip(authentic).collect()))
    }
}

/// What *reconcile* found: what was settled, and how; and which coins the node does not know.
fn report(outcomes: &[(RawCoin, bool)], unknown: &[RawCoin], prune: bool) -> Output {
    let of = |wanted: bool| outcomes.iter().filter(move |(_, done)| *done == wanted).map(|(coin, _)| *coin);
    let mut lines = vec![format!("{} settled", coins_text(outcomes.len()))];
    for (coins, text) in [(of(true), "done"), (of(false), "not done")] {
        if coins.clone().next().is_some() {
            lines.push(format!("{text}: {}", text_of(coins)));
        }
    }
    if !unknown.is_empty() {
        let text = if prune { "moved to the archive" } else { "not known to the node" };
        lines.push(format!("{text}: {}", text_of(unknown.iter().copied())));
    }
    let unknown = json_of(unknown.iter().copied());
    let json =
        json!({ "done": json_of(of(true)), "not_done": json_of(of(false)), "unknown": unknown, "pruned": prune });
    Output { status: None, text: lines.join("\n"), json }
}
