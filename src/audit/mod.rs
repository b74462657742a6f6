//! What a journal says to people: never a secret, and in memory no more than what is asked for.
//!
//! * [`trail`]: each coin's way, from where to where
//! * [`usage`]: sums of it: commands, trade, the busiest hours
//!
//! Both read the [`Journal`](crate::store::archive::Journal) commit by commit. A commit says where its coins were, but
//! not in which locker or at what price: that is known from the commit that put them there, so whoever asks for it reads
//! from the beginning.

pub mod trail;
pub mod usage;
