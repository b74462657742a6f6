//! The market of trade lockers: put for sale, list, buy, remove, peek (mission/lockers.md; PROTOCOL.md, group 8).
//!
//! A coin is in a trade locker when its AN is the trade locker's: price, coin type and `EE EE` stand in it. Its coins
//! move only together, by *buy* and *remove trade locker*. Who holds locks on all of them therefore knows that the
//! offer is still what the market said it was; if one has moved, all have.

use crate::coin::{Secret, TradeCoin};
use crate::settings::Settlement;
use crate::wire::items::{Coins, append};
use crate::wire::request::locker::Offer;
use crate::wire::status::Status;

use super::auth::claim_sum;
use super::{Change, Context, Draft, Findings, Must, Next, Question, Twice, Verdict};

/// 8.85 put for sale, after the market was asked for the AN: 148 if it is there already.
pub(super) fn put_for_sale(
    coins: &Coins<'_>,
    sum: Secret,
    an: Secret,
    findings: &Findings,
    draft: &mut Draft,
) -> Result<Next, Status> {
    if findings.an.is_some() {
        return Err(Status::TradeLockerExists);
    }
    claim_sum(coins, sum, Must::Movable, Change::Own(an), draft)
}

/// 8.86 list: the offers, first come first.
pub(super) fn listed(coin_type: TradeCoin, max: u8, findings: &Findings, draft: &mut Draft) -> Next {
    let offers = findings.offers.iter().take(max as usize).map(|offer| Offer {
        identifier: offer.identifier,
        coin_type: coin_type as u8,
        value: offer.value,
        price: offer.price,
    });
    append(&mut draft.answer, offers);
    Next::Answer(Status::AllPass)
}

/// 8.87 buy: 50 where nothing is sold for this coin type, else the market is asked for an exact match.
pub(super) fn buy(coin_type: TradeCoin, value: u64, price: u32, context: &Context<'_>) -> Result<Next, Status> {
    match context.settings.settlement[coin_type as usize] {
        Settlement::Off => Err(Status::TradeCoin),
        Settlement::Trusted => Ok(Next::Ask(Question::OfferFor { coin_type, value, price })),
    }
}

/// *buy* goes on: the offer's coins go into the buyer's locker, all or none. 51 without an exact match.
pub(super) fn offer_found(key: Secret, findings: &Findings, draft: &mut Draft) -> Result<Next, Status> {
    let an = findings.an.ok_or(Status::TradeLockerNotFound)?;
    claim_offer(an, findings, draft, || Change::Own(key))
}

/// 8.89 remove trade locker: its coins are freed, or go into the seller's locker.
pub(super) fn remove(
    an: Secret,
    key: Option<Secret>,
    findings: &Findings,
    context: &mut Context<'_>,
    draft: &mut Draft,
) -> Result<Next, Status> {
    // An identifier finds the offer too, but only its AN is the right to take it back.
    if findings.an != Some(an) {
        return Err(Status::AllFail);
    }
    claim_offer(an, findings, draft, || match key {
        Some(key) => Change::Own(key),
        None => Change::Free(context.destroyed_an()),
    })
}

/// Claims every coin of an offer.
fn claim_offer(
    an: Secret,
    findings: &Findings,
    draft: &mut Draft,
    mut change: impl FnMut() -> Change,
) -> Result<Next, Status> {
    for (position, &coin) in findings.coins.iter().enumerate() {
        draft.claim_coin(coin, position as u32, Must::Authentic(an), change());
    }
    draft.distinct(Twice::Refuse)?;
    Ok(Next::Lock)
}

/// The offer is bought, or somebody was faster: then the market is asked again.
pub(super) fn decide_buy(context: &Context<'_>, draft: &mut Draft) -> Verdict {
    if !draft.all_hold() {
        return Verdict::Again;
    }
    draft.commit_all(context.month());
    Verdict::Commit(Status::AllPass)
}

/// The offer is off the market, or somebody was faster: 242.
pub(super) fn decide_remove(context: &Context<'_>, draft: &mut Draft) -> Verdict {
    if !draft.all_hold() {
        return Verdict::Refuse(Status::AllFail);
    }
    draft.commit_all(context.month());
    Verdict::Commit(Status::AllPass)
}
