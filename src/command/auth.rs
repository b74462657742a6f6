//! Detect and pown, one by one and by sum; count coins (PROTOCOL.md, groups 0 and 1).

use crate::coin::{Denomination, Place, Secret};
use crate::wire::items::{Bits, Coins, PownCoins, SecretCoins, append};
use crate::wire::request::status::Count;
use crate::wire::status::Status;

use super::{Change, Context, Draft, Findings, Must, Next, Twice, Verdict};

/// 1.10 detect: is each coin what the client thinks it is?
pub(super) fn detect(coins: &SecretCoins<'_>, draft: &mut Draft) -> Result<Next, Status> {
    for (coin, an) in coins.iter() {
        draft.claim_item(coin, Must::Authentic(an), Change::Keep);
    }
    draft.distinct(Twice::FailSecond)?;
    Ok(Next::Lock)
}

/// 1.11 detect sum: are all coins what the client thinks they are?
pub(super) fn detect_sum(coins: &Coins<'_>, sum: Secret, draft: &mut Draft) -> Result<Next, Status> {
    claim_sum(coins, sum, Must::Circulate, Change::Keep, draft)
}

/// 1.20 pown: each coin that holds gets its proposed AN.
pub(super) fn pown(coins: &PownCoins<'_>, draft: &mut Draft) -> Result<Next, Status> {
    for (coin, an, proposed) in coins.iter() {
        draft.claim_item(coin, Must::Owned(an), Change::Own(proposed));
    }
    draft.distinct(Twice::FailSecond)?;
    Ok(Next::Lock)
}

/// 1.21 pown sum: every AN is XORed with one delta. Off unless configured: the XORs of neighbours stay known to their
/// last owner, who can then take pairs by sum.
pub(super) fn pown_sum(
    coins: &Coins<'_>,
    sum: Secret,
    delta: Secret,
    context: &Context<'_>,
    draft: &mut Draft,
) -> Result<Next, Status> {
    if !context.settings.pown_sum {
        return Err(Status::NotImplemented);
    }
    claim_sum(coins, sum, Must::Movable, Change::Xor(delta), draft)
}

/// Claims a batch that one sum proves.
pub(super) fn claim_sum(
    coins: &Coins<'_>,
    sum: Secret,
    must: Must,
    change: Change,
    draft: &mut Draft,
) -> Result<Next, Status> {
    draft.group(sum);
    for coin in coins.iter() {
        draft.claim(coin, must, change)?;
    }
    draft.distinct(Twice::Refuse)?;
    Ok(Next::Lock)
}

/// Each coin on its own: 241, 242, or 243 with a bit an item.
pub(super) fn decide_items(context: &Context<'_>, draft: &mut Draft) -> Verdict {
    draft.commit_items(context.month());
    let good = draft.claims.iter().filter(|claim| claim.holds).count();
    if good == draft.items as usize {
        return Verdict::Commit(Status::AllPass);
    }
    if good == 0 {
        return Verdict::Refuse(Status::AllFail);
    }
    let start = draft.answer.len();
    Bits::append(&mut draft.answer, (0..draft.items).map(|_| false));
    for claim in draft.claims.iter().filter(|claim| claim.holds) {
        draft.answer[start + claim.position as usize / 8] |= 1 << (claim.position % 8);
    }
    Verdict::Commit(Status::Mixed)
}

/// All coins by one sum: 241 or 242.
pub(super) fn decide_sum(context: &Context<'_>, draft: &mut Draft) -> Verdict {
    draft.judge_sums();
    if !draft.groups[0].passed {
        return Verdict::Refuse(Status::AllFail);
    }
    draft.commit_all(context.month());
    Verdict::Commit(Status::AllPass)
}

/// Like [`decide_sum`], but a delta may not put a coin on the market: 199.
pub(super) fn decide_pown_sum(context: &Context<'_>, draft: &mut Draft) -> Verdict {
    let verdict = decide_sum(context, draft);
    let on_market = |claim: &super::Claim| claim.write && matches!(claim.new.place(), Place::TradeLocker(_));
    if draft.claims.iter().any(on_market) { Verdict::Refuse(Status::InvalidPan) } else { verdict }
}

/// 0.3 count coins: 15 · (den, coins in circulation).
pub(super) fn counted(findings: &Findings, draft: &mut Draft) -> Next {
    let counts = Denomination::all().map(|den| Count { den: den.get(), coins: findings.circulation[den.index()] });
    append(&mut draft.answer, counts);
    Next::Answer(Status::Success)
}
