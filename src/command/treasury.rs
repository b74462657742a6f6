//! The treasury: coins come into circulation and go out of it (wire/request/treasury.rs has the layouts).
//!
//! Off unless a key is configured. Each command is looked at by [`authorize`] before anything else, and then is a
//! transaction like any other: what is created was free and reserved, what is deleted was authentic, and all of it changes
//! or nothing does.

use crate::coin::{Denomination, Place, Secret};
use crate::wire::items::{Coins, SecretCoins};
use crate::wire::request::treasury::{Available, Minted, Wanted};
use crate::wire::status::Status;

use super::{Change, Context, Draft, Findings, Must, Next, Question, Twice, Verdict};

/// Whether who sent this may: the key is right, the address is of an allowed network, and nobody else could read the
/// key on its way. The draft is marked, as every use of the key is told to the operator.
///
/// Types 0, 1 and 2 are allowed from this machine alone: type 0 shows the key, and 1 and 2 encrypt it with the bytes that
/// encrypt the answer, of which a listener knows enough to have the key.
///
/// # Errors
/// [`Status::NotImplemented`] where no key is configured, [`Status::EncryptionCode`] for a type that shows the key,
/// [`Status::AdminAuth`] for another network or key: which of the two is not said.
fn authorize(key: Secret, context: &Context<'_>, draft: &mut Draft) -> Result<(), Status> {
    let treasury = context.settings.treasury.as_ref().ok_or(Status::NotImplemented)?;
    let peer = context.peer.to_canonical();
    if !context.modern && !peer.is_loopback() {
        return Err(Status::EncryptionCode);
    }
    let near = treasury.networks.iter().any(|network| network.contains(&peer));
    // Compared in constant time, and whatever the address is.
    let known = *treasury.key == key;
    draft.of_treasury = near & known;
    if draft.of_treasury { Ok(()) } else { Err(Status::AdminAuth) }
}

/// 3.120 get available SNs: reserved for the session as those of *get available change SNs* are.
pub(super) fn available(
    session: u32,
    key: Secret,
    wanted: Wanted,
    context: &Context<'_>,
    draft: &mut Draft,
) -> Result<Next, Status> {
    authorize(key, context, draft)?;
    draft.items = wanted.denominations().count() as u32;
    if draft.items == 0 {
        return Ok(Next::Answer(Status::Success));
    }
    Ok(Next::Ask(Question::Available { session, wanted }))
}

/// The answer to it.
pub(super) fn offered(wanted: Wanted, findings: &Findings, draft: &mut Draft) -> Next {
    let mut start = 0;
    for (den, &end) in wanted.denominations().zip(&findings.ends) {
        let mut serial_numbers: Vec<u32> = findings.serial_numbers[start..end].iter().map(|sn| sn.get()).collect();
        serial_numbers.sort_unstable();
        Available::append(&mut draft.answer, den, &serial_numbers);
        start = end;
    }
    Next::Answer(Status::Success)
}

/// 3.130 create coins: each gets a random AN, which the answer tells. It is no locker's and no trade locker's.
pub(super) fn create(
    session: u32,
    key: Secret,
    coins: &Coins<'_>,
    context: &mut Context<'_>,
    draft: &mut Draft,
) -> Result<Next, Status> {
    authorize(key, context, draft)?;
    draft.session = session;
    if session == 0 {
        return Err(Status::PageNotReserved);
    }
    for coin in coins.iter() {
        let an = context.wallet_an();
        draft.claim(coin, Must::Target, Change::Own(an))?;
        draft.answer.extend_from_slice(an.bytes());
    }
    draft.distinct(Twice::Refuse)?;
    Ok(Next::Lock)
}

/// All coins or none: 41 where one is not free, or not the session's.
pub(super) fn decide_create(context: &Context<'_>, draft: &mut Draft) -> Verdict {
    if !draft.all_hold() {
        draft.answer.clear();
        return Verdict::Refuse(Status::PageNotReserved);
    }
    draft.commit_all(context.month());
    Verdict::Commit(Status::Success)
}

/// 3.140 delete coins: each that is authentic is freed, as *pown* would give it a new AN.
pub(super) fn delete(
    key: Secret,
    coins: &SecretCoins<'_>,
    context: &mut Context<'_>,
    draft: &mut Draft,
) -> Result<Next, Status> {
    authorize(key, context, draft)?;
    for (coin, an) in coins.iter() {
        let destroyed = context.destroyed_an();
        draft.claim_item(coin, Must::Owned(an), Change::Free(destroyed));
    }
    draft.distinct(Twice::FailSecond)?;
    Ok(Next::Lock)
}

/// 3.150 free coins: without their ANs.
pub(super) fn free(
    key: Secret,
    coins: &Coins<'_>,
    context: &mut Context<'_>,
    draft: &mut Draft,
) -> Result<Next, Status> {
    authorize(key, context, draft)?;
    for coin in coins.iter() {
        let destroyed = context.destroyed_an();
        draft.claim(coin, Must::OffMarket, Change::Free(destroyed))?;
    }
    draft.distinct(Twice::Refuse)?;
    Ok(Next::Lock)
}

/// All coins or none: 154 where one is in a trade locker, which goes whole or not at all. A free coin stays as it is.
pub(super) fn decide_free(context: &Context<'_>, draft: &mut Draft) -> Verdict {
    if !draft.all_hold() {
        return Verdict::Refuse(Status::LockerUsed);
    }
    draft.commit_circulating(context.month());
    Verdict::Commit(Status::Success)
}

/// 3.160 get all SNs.
pub(super) fn all(key: Secret, den: i8, context: &Context<'_>, draft: &mut Draft) -> Result<Next, Status> {
    authorize(key, context, draft)?;
    let den = Denomination::new(den).ok_or(Status::SerialNumberOrDenomination)?;
    Ok(Next::Ask(Question::Minted(den)))
}

/// The answer to it.
pub(super) fn minted(den: i8, findings: &Findings, draft: &mut Draft) -> Result<Next, Status> {
    let den = Denomination::new(den).ok_or(Status::SerialNumberOrDenomination)?;
    let bitmap = Minted::append(&mut draft.answer, den);
    for (page, bits) in &findings.minted {
        let at = usize::from(page.in_denomination()) * bits.len();
        bitmap[at..at + bits.len()].copy_from_slice(bits);
    }
    Ok(Next::Answer(Status::Success))
}

impl Context<'_> {
    /// A random AN of a coin that is with its owner.
    fn wallet_an(&mut self) -> Secret {
        loop {
            let mut random = [0; 16];
            self.entropy.fill(&mut random);
            let an = Secret::new(random);
            if an.place() == Place::Wallet {
                return an;
            }
        }
    }
}
