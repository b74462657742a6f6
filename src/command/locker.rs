//! Lockers: store, remove, peek, bulk store (mission/lockers.md; PROTOCOL.md, group 8).
//!
//! A coin is in a locker when its AN is the locker's key. So to put is to write the key, and to remove is to write
//! something else; the locker index follows from the coin records and is never asked for a proof.

use crate::coin::Secret;
use crate::wire::items::{Coins, Item, RawCoin, SecretCoins, append};
use crate::wire::request::locker::Lockers;
use crate::wire::request::{CommandKind, is_locker_key};
use crate::wire::status::Status;

use super::auth::claim_sum;
use super::{Change, Context, Draft, Findings, Must, Next, Twice, Verdict};

/// 8.82 store: all coins, proved by one sum, go into the locker.
pub(super) fn store(coins: &Coins<'_>, sum: Secret, key: Secret, draft: &mut Draft) -> Result<Next, Status> {
    claim_sum(coins, sum, Must::Movable, Change::Own(key), draft)
}

/// 8.84 remove: each coin that is in the locker goes to the AN given for it.
pub(super) fn remove(key: Secret, coins: &SecretCoins<'_>, draft: &mut Draft) -> Result<Next, Status> {
    // A key that is no locker's opens none, though coins may have it as their AN.
    if !is_locker_key(&key) {
        return Ok(Next::Answer(Status::AllFail));
    }
    for (coin, an) in coins.iter() {
        draft.claim_item(coin, Must::Owned(key), Change::Own(an));
    }
    draft.distinct(Twice::FailSecond)?;
    Ok(Next::Lock)
}

/// 8.83 peek and 8.81 peek trade locker: the coins, or 242.
pub(super) fn peeked(findings: &Findings, draft: &mut Draft) -> Result<Next, Status> {
    if findings.coins.is_empty() {
        return Err(Status::AllFail);
    }
    append(&mut draft.answer, findings.coins.iter().map(|&coin| RawCoin::from(coin)));
    Ok(Next::Answer(Status::AllPass))
}

/// Bytes that a command's answer takes to name so many coins: those of the two *peek*s, as no other names any.
pub fn named_bytes(kind: CommandKind, coins: usize) -> usize {
    match kind {
        CommandKind::Peek | CommandKind::PeekTradeLocker => coins * RawCoin::BYTES,
        _ => 0,
    }
}

/// 8.88 store multiple: like as many *store*s, each locker on its own.
pub(super) fn store_multiple(lockers: &Lockers<'_>, draft: &mut Draft) -> Result<Next, Status> {
    for (coins, sum, key) in lockers.iter() {
        draft.group(sum);
        let mut passed = is_locker_key(&key) && !coins.is_empty();
        for coin in coins.iter() {
            passed &= draft.claim_item(coin, Must::Movable, Change::Own(key));
        }
        draft.groups.last_mut().expect("the group just opened").passed = passed;
    }
    draft.distinct(Twice::FailSecond)?;
    Ok(Next::Lock)
}

/// One byte a locker: 1 stored, 0 not.
pub(super) fn decide_multiple(lockers: usize, context: &Context<'_>, draft: &mut Draft) -> Verdict {
    draft.judge_sums();
    draft.commit_groups(context.month());
    draft.answer.extend(draft.groups.iter().map(|group| u8::from(group.passed)));
    match draft.groups.iter().filter(|group| group.passed).count() {
        0 => Verdict::Refuse(Status::AllFail),
        stored if stored == lockers => Verdict::Commit(Status::AllPass),
        _ => Verdict::Commit(Status::Mixed),
    }
}
