//! Change-making: available serial numbers, break, join (mission/change.md; PROTOCOL.md, group 9).
//!
//! Targets are free, distinct and reserved by the session; the coins given up are authentic; all eleven change in one
//! transaction or none does.

use crate::coin::Denomination;
use crate::wire::items::{RawCoin, SecretCoin, SecretCoins};
use crate::wire::request::change::{ChangeOffer, ChangeOperation};
use crate::wire::status::Status;

use super::{Caller, Change, Context, Draft, Findings, Must, Next, Question, Twice, Verdict};

/// The denomination whose serial numbers an operation needs; 40 where there is none.
fn target_denomination(operation: ChangeOperation, den: i8) -> Result<Denomination, Status> {
    Denomination::new(den).and_then(|den| operation.target(den)).ok_or(Status::SerialNumberOrDenomination)
}

/// 9.91 get available change SNs.
pub(super) fn serial_numbers(session: u32, operation: ChangeOperation, den: i8) -> Result<Next, Status> {
    Ok(Next::Ask(Question::SerialNumbers { session, den: target_denomination(operation, den)? }))
}

/// The answer to it: den(1), n·sn(4).
pub(super) fn offered(
    operation: ChangeOperation,
    den: i8,
    findings: &Findings,
    draft: &mut Draft,
) -> Result<Next, Status> {
    let den = target_denomination(operation, den)?.get();
    ChangeOffer::append(&mut draft.answer, den, findings.serial_numbers.iter().map(|sn| sn.get()));
    Ok(Next::Answer(Status::Success))
}

/// 9.92 break: one coin becomes ten of the next smaller denomination.
pub(super) fn break_coin(
    session: u32,
    (source, an): SecretCoin,
    targets: &SecretCoins<'_>,
    context: &mut Context<'_>,
    draft: &mut Draft,
) -> Result<Next, Status> {
    draft.session = session;
    let den = target_denomination(ChangeOperation::Break, source.den)?;
    let destroyed = context.destroyed_an();
    draft.claim(source, Must::Owned(an), Change::Free(destroyed))?;
    for (coin, proposed) in targets.iter() {
        claim_of(den, coin, Must::Target, Change::Own(proposed), draft)?;
    }
    draft.distinct(Twice::Refuse)?;
    if context.settings.break_limit == 0 || (context.settings.break_exempt_loopback && is_loopback(context.peer)) {
        return Ok(Next::Lock);
    }
    Ok(Next::Ask(Question::Rate(Caller { address: context.peer, datagram: context.datagram })))
}

/// 9.93 join: ten coins become one of the next larger denomination.
pub(super) fn join(
    session: u32,
    (target, proposed): SecretCoin,
    sources: &SecretCoins<'_>,
    context: &mut Context<'_>,
    draft: &mut Draft,
) -> Result<Next, Status> {
    draft.session = session;
    let den =
        Denomination::new(target.den).and_then(Denomination::smaller).ok_or(Status::SerialNumberOrDenomination)?;
    draft.claim(target, Must::Target, Change::Own(proposed))?;
    for (coin, an) in sources.iter() {
        let destroyed = context.destroyed_an();
        claim_of(den, coin, Must::Owned(an), Change::Free(destroyed), draft)?;
    }
    draft.distinct(Twice::Refuse)?;
    Ok(Next::Lock)
}

/// Claims a coin that must be of a denomination.
fn claim_of(den: Denomination, coin: RawCoin, must: Must, change: Change, draft: &mut Draft) -> Result<(), Status> {
    if coin.den != den.get() {
        return Err(Status::SerialNumberOrDenomination);
    }
    draft.claim(coin, must, change)
}

/// Whether an address is this machine's own, also where IPv6 wraps an IPv4 one.
fn is_loopback(peer: std::net::IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

/// Judges eleven coins: the one claimed first, then the ten; each with the status for its failing.
pub(super) fn decide(the_one: Status, the_ten: Status, context: &Context<'_>, draft: &mut Draft) -> Verdict {
    if draft.claims.iter().any(|claim| claim.position == 0 && !claim.holds) {
        return Verdict::Refuse(the_one);
    }
    if !draft.all_hold() {
        return Verdict::Refuse(the_ten);
    }
    draft.commit_all(context.month());
    Verdict::Commit(Status::Success)
}
