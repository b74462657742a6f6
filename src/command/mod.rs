//! The commands, pure: a request and what shards said of it become a plan.
//!
//! 1. [`plan`] looks at the request alone: a status at once, a [`Question`], or coins to lock.
//! 2. [`found`] goes on with the answer to the question.
//! 3. [`decide`] looks at the coins under lock and says what is written and what is answered.
//!
//! Nothing here knows shards, sockets or disks; what is written is written by a transaction, wholly or not at all.

pub mod auth;
pub mod change;
pub mod draft;
pub mod locker;
pub mod question;
pub mod trade;
pub mod treasury;

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::coin::{Months, Secret};
use crate::entropy::Entropy;
use crate::settings::Settings;
use crate::wire::request::Request;
use crate::wire::status::Status;

pub use draft::{Change, Claim, Draft, Must, Twice};
pub use locker::named_bytes;
pub use question::{Caller, Findings, Question};

/// What a node answers to *version*.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What surrounds a command.
pub struct Context<'a> {
    /// The node's bounds and choices.
    pub settings: &'a Settings,
    /// The client's address.
    pub peer: std::net::IpAddr,
    /// Whether the request came over UDP.
    pub datagram: bool,
    /// Whether the request is sealed with type 4 or 5: then hashes are SHA-256, else MD5 (mission/change.md, "Dual Hashing Support").
    pub modern: bool,
    /// Seconds since 1970-01-01 UTC.
    pub unix_seconds: u64,
    /// Random bytes.
    pub entropy: &'a mut dyn Entropy,
}

impl Context<'_> {
    /// The month that a coin written now gets.
    const fn month(&self) -> Months {
        Months::at(self.unix_seconds)
    }

    /// The AN that overwrites a freed coin's: a hash of 16 random bytes.
    fn destroyed_an(&mut self) -> Secret {
        let mut random = [0; 16];
        self.entropy.fill(&mut random);
        Secret::new(match self.modern {
            true => *Sha256::digest(random).first_chunk().expect("16 of 32 bytes"),
            false => Md5::digest(random).into(),
        })
    }
}

/// How a command goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// It is answered with this status and the draft's answer; nothing was touched.
    Answer(Status),
    /// A question comes first.
    Ask(Question),
    /// The draft's coins are locked, loaded and checked.
    Lock,
}

/// What became of a command whose coins are locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The marked coins are written, in one transaction; then this is answered with the draft's answer.
    Commit(Status),
    /// Nothing is written; this is answered.
    Refuse(Status),
    /// What an earlier question found has changed meanwhile: it is asked again.
    Again,
}

/// Looks at a request and its parameters.
///
/// # Errors
/// The status of what is wrong with it; nothing was touched.
pub fn plan(request: &Request<'_>, context: &mut Context<'_>, draft: &mut Draft) -> Result<Next, Status> {
    match request {
        Request::Echo => Ok(Next::Answer(Status::Success)),
        Request::Version => {
            draft.answer.extend_from_slice(VERSION.as_bytes());
            Ok(Next::Answer(Status::Success))
        }
        Request::CountCoins => Ok(Next::Ask(Question::Circulation)),
        Request::Detect { coins } => auth::detect(coins, draft),
        Request::DetectSum { coins, sum } => auth::detect_sum(coins, *sum, draft),
        Request::Pown { coins } => auth::pown(coins, draft),
        Request::PownSum { coins, sum, delta } => auth::pown_sum(coins, *sum, *delta, context, draft),
        Request::AvailableSerialNumbers { session, key, denominations } => {
            treasury::available(*session, *key, *denominations, context, draft)
        }
        Request::CreateCoins { session, key, coins } => treasury::create(*session, *key, coins, context, draft),
        Request::DeleteCoins { key, coins } => treasury::delete(*key, coins, context, draft),
        Request::FreeCoins { key, coins, .. } => treasury::free(*key, coins, context, draft),
        Request::AllSerialNumbers { key, den } => treasury::all(*key, *den, context, draft),
        Request::Store { coins, sum, key } => locker::store(coins, *sum, *key, draft),
        Request::Remove { key, coins } => locker::remove(*key, coins, draft),
        Request::Peek { key } => Ok(Next::Ask(Question::Locker(*key))),
        Request::StoreMultiple { lockers } => locker::store_multiple(lockers, draft),
        Request::PutForSale { an, .. } => Ok(Next::Ask(Question::Offer(*an.bytes()))),
        Request::ListForSale { coin_type, max } => Ok(Next::Ask(Question::Offers { coin_type: *coin_type, max: *max })),
        Request::Buy { coin_type, value, price, .. } => trade::buy(*coin_type, *value, *price, context),
        Request::RemoveTradeLocker { an, .. } => Ok(Next::Ask(Question::Offer(*an.bytes()))),
        Request::PeekTradeLocker { identifier } => Ok(Next::Ask(Question::Offer(*identifier))),
        Request::ChangeSerialNumbers { session, operation, den } => change::serial_numbers(*session, *operation, *den),
        Request::Break { session, source, targets } => change::break_coin(*session, *source, targets, context, draft),
        Request::Join { session, target, sources } => change::join(*session, *target, sources, context, draft),
    }
}

/// Goes on with what the question found.
///
/// # Errors
/// The status that ends the command; nothing was touched.
pub fn found(
    request: &Request<'_>,
    findings: &Findings,
    context: &mut Context<'_>,
    draft: &mut Draft,
) -> Result<Next, Status> {
    match request {
        Request::CountCoins => Ok(auth::counted(findings, draft)),
        Request::AvailableSerialNumbers { denominations, .. } => Ok(treasury::offered(*denominations, findings, draft)),
        Request::AllSerialNumbers { den, .. } => treasury::minted(*den, findings, draft),
        Request::Peek { .. } => locker::peeked(findings, draft),
        Request::PutForSale { coins, sum, an, .. } => trade::put_for_sale(coins, *sum, *an, findings, draft),
        Request::ListForSale { coin_type, max } => Ok(trade::listed(*coin_type, *max, findings, draft)),
        Request::Buy { key, .. } => trade::offer_found(*key, findings, draft),
        Request::RemoveTradeLocker { an, key } => trade::remove(*an, *key, findings, context, draft),
        Request::PeekTradeLocker { .. } => locker::peeked(findings, draft),
        Request::ChangeSerialNumbers { operation, den, .. } => change::offered(*operation, *den, findings, draft),
        Request::Break { .. } if findings.allowed => Ok(Next::Lock),
        Request::Break { .. } => Err(Status::RequestRate),
        _ => unreachable!("{} asks nothing", request.command().name),
    }
}

/// Judges the coins under lock and marks what is written.
pub fn decide(request: &Request<'_>, context: &mut Context<'_>, draft: &mut Draft) -> Verdict {
    match request {
        Request::Detect { .. } | Request::Pown { .. } | Request::Remove { .. } | Request::DeleteCoins { .. } => {
            auth::decide_items(context, draft)
        }
        Request::CreateCoins { .. } => treasury::decide_create(context, draft),
        Request::FreeCoins { .. } => treasury::decide_free(context, draft),
        Request::DetectSum { .. } | Request::Store { .. } | Request::PutForSale { .. } => {
            auth::decide_sum(context, draft)
        }
        Request::PownSum { .. } => auth::decide_pown_sum(context, draft),
        Request::StoreMultiple { lockers } => locker::decide_multiple(lockers.len(), context, draft),
        Request::Buy { .. } => trade::decide_buy(context, draft),
        Request::RemoveTradeLocker { .. } => trade::decide_remove(context, draft),
        // 242 for a wrong AN, 41 for a target that is not reserved, in the order of the request.
        Request::Break { .. } => change::decide(Status::AllFail, Status::PageNotReserved, context, draft),
        Request::Join { .. } => change::decide(Status::PageNotReserved, Status::AllFail, context, draft),
        _ => unreachable!("{} locks nothing", request.command().name),
    }
}
