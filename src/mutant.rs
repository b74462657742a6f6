//! Deliberate bugs, each of which would lose or duplicate value: proof that the simulator sees such things.
//!
//! A mutant is a place in the code that asks [`is`] and then does the wrong thing. Without the feature `mutants`, which
//! only `scripts/simulate --mutants` turns on, the answer is the constant `false` and nothing of it is compiled in.

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $seeds:literal;)*) => {
        /// A deliberate bug.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutant {
            $($(#[$doc])* $name,)*
        }

        impl Mutant {
            /// Every one, with what is wrong in it and the number of seeds within which the simulator finds it.
            pub const ALL: &'static [(Self, &'static str, u64)] = &[$((Self::$name, $text, $seeds),)*];
        }
    };
}

mutants! {
    /// A command is applied and answered when its record is appended, not when it is durable.
    AnswerBeforeSync, "answers before the log is durable", 200;
    /// What a command writes is visible to others before its record is durable; its own answer waits.
    ApplyBeforeCommit, "applies before the commit record is durable", 400;
    /// The commit record lacks the changes of the last shard.
    RecordWithoutAPart, "leaves one shard's part out of the commit record", 200;
    /// Any batch that became durable counts, though one before it has not.
    DurableWithAHole, "takes a later batch's durability for an earlier one's", 400;
    /// Pages go to their places without a copy in the double-write area.
    DoubleWriteSkipped, "skips the double write", 400;
    /// A checkpoint says that more is in place than is.
    SequenceTooHigh, "notes a checkpoint above what is in place", 400;
    /// A checkpoint relies on pages that no control block knows yet.
    PagesNotNoted, "does not note new pages before it relies on them", 4000;
    /// A log segment is overwritten as soon as it is in place, archived or not.
    ArchiveNotAwaited, "overwrites a segment that is not archived yet", 400;
    /// The last record that is read wins, not the one of the highest sequence.
    ReplayNotOrdered, "replays in the order of reading", 400;
    /// Batches of an earlier round of the ring are replayed too.
    RecycledSegmentReplayed, "replays a recycled segment", 400;
    /// Recovery acts upon what a killed process wrote, and the power may yet take.
    RecoveredFromCache, "recovers from what is not durable", 4000;
    /// Orders that are only in the log are not replayed.
    OrderNotReplayed, "forgets payout addresses that are only in the log", 400;
    /// A damaged page is served as it is.
    DamageServed, "serves a damaged page", 1000;
    /// A write that failed is taken for done.
    FailedWriteTaken, "takes a failed write for done", 200;
    /// The free map keeps its bits.
    FreeMapNotUpdated, "does not update the free map", 200;
    /// A coin stays in its locker's list.
    LockerIndexNotUpdated, "does not update the locker index", 200;
    /// Coins are unlocked before the verdict.
    LockReleasedEarly, "releases locks early", 200;
    /// Readers do not wait for writers.
    WritersShare, "locks coins to be written like coins to be read", 200;
    /// Any session may make any free coin.
    ReservationNotChecked, "does not check reservations", 200;
    /// A word is promised to two sessions.
    PromisedTwice, "promises coins to two sessions", 1000;
    /// A request may name a coin twice.
    CoinNamedTwice, "accepts a coin named twice", 200;
    /// A coin that is broken or joined stays in circulation.
    SourceKept, "keeps the coins that are given up", 200;
    /// A hold keeps people from looking, not from taking.
    HeldCoinsMove, "moves coins of a held locker", 400;
}

/// Whether this bug shall be there.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn is(_: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Whether this bug shall be there, on this thread.
#[cfg(feature = "mutants")]
pub fn is(mutant: Mutant) -> bool {
    CHOSEN.get() == Some(mutant)
}

/// Chooses the bug of this thread, or none.
#[cfg(feature = "mutants")]
pub fn choose(mutant: Option<Mutant>) {
    CHOSEN.set(mutant);
}
