//! Accepting connections, and giving each to the reactor that has the fewest.
//!
//! SO_REUSEPORT spreads connections by a hash of their addresses: of four clients that stay, all may land on one
//! reactor. So whoever accepts a connection looks at how many each reactor has and passes it on where that levels
//! them; a descriptor is as good in one thread of the process as in another.

use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use io_uring::opcode;
use io_uring::types::Fd;

use crate::shard::interface::ShardId;

use super::counters::Counters;
use super::ring::{Completion, Kind, Ring, Tag};

/// After accepting failed it rests for so long, as the cause is mostly a want of descriptors.
const REST_US: u64 = 100_000;
/// A connection is passed on only to a reactor that has so many fewer: one fewer would gain nothing.
const DIFFERENCE: u32 = 2;

/// A connection that was accepted.
pub struct Arrival {
    /// Its socket.
    pub socket: OwnedFd,
    /// The client.
    pub peer: IpAddr,
}

/// How many connections each reactor has, those on their way to it included. Estimates would do: nothing else is
/// ordered by these numbers.
pub struct Balance(Vec<AtomicU32>);

impl Balance {
    /// None anywhere.
    pub fn new(reactors: usize) -> Self {
        Self((0..reactors).map(|_| AtomicU32::new(0)).collect())
    }

    /// Which reactor shall have a connection that `me` accepted. It is counted there from now on.
    fn place(&self, me: ShardId) -> ShardId {
        let count = |reactor: usize| self.0[reactor].load(Ordering::Relaxed);
        let fewest = (0..self.0.len()).min_by_key(|&reactor| count(reactor)).expect("at least one reactor");
        let chosen = if count(fewest) + DIFFERENCE <= count(me.index()) { fewest } else { me.index() };
        self.0[chosen].fetch_add(1, Ordering::Relaxed);
        ShardId(chosen as u8)
    }

    /// A connection of that reactor is gone.
    pub fn left(&self, reactor: ShardId) {
        self.0[reactor.index()].fetch_sub(1, Ordering::Relaxed);
    }
}

/// The listening socket of a reactor.
pub struct Acceptor {
    me: ShardId,
    listener: Option<TcpListener>,
    armed: bool,
    again_at_us: u64,
    balance: Arc<Balance>,
}

impl Acceptor {
    /// Not armed yet.
    pub fn new(me: ShardId, listener: TcpListener, balance: Arc<Balance>) -> Self {
        Self { me, listener: Some(listener), armed: false, again_at_us: 0, balance }
    }

    /// Arms accepting, if it is not armed and should be.
    pub fn arm(&mut self, ring: &mut Ring, now_us: u64) {
        if let Some(listener) = &self.listener
            && !self.armed
            && self.again_at_us <= now_us
        {
            let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
            // SAFETY: the entry points to nothing.
            unsafe { ring.push(entry, Tag::only(Kind::Accept)) };
            self.armed = true;
        }
    }

    /// A connection arrived, or accepting ended. Returns the connection and whose it is to be.
    pub fn arrived(
        &mut self,
        completion: Completion,
        now_us: u64,
        counters: &mut Counters,
    ) -> Option<(ShardId, Arrival)> {
        self.armed = completion.more();
        if completion.result < 0 {
            if self.listener.is_some() {
                counters.accepts_failed += 1;
                self.again_at_us = now_us + REST_US;
            }
            return None;
        }
        // SAFETY: the kernel just made this descriptor for us, and nobody else has it.
        let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(completion.result as RawFd) });
        // A client that is gone again has no address.
        let peer = stream.peer_addr().ok()?.ip().to_canonical();
        Some((self.balance.place(self.me), Arrival { socket: stream.into(), peer }))
    }

    /// Accepts nothing more.
    pub fn stop(&mut self, ring: &mut Ring) {
        if self.listener.take().is_some() && self.armed {
            ring.cancel(Tag::only(Kind::Accept));
        }
    }

    /// When it wants to be armed again.
    pub fn wake_at_us(&self) -> u64 {
        if self.listener.is_some() && !self.armed { self.again_at_us } else { u64::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_levelled() {
        let balance = Balance::new(3);
        // All land on the first; it keeps those that moving would not help.
        let placed: Vec<u8> = (0..9).map(|_| balance.place(ShardId(0)).0).collect();
        assert_eq!(placed, [0, 0, 1, 2, 0, 1, 2, 0, 1]);
        (0..3).for_each(|_| balance.left(ShardId(1)));
        assert_eq!(balance.place(ShardId(0)), ShardId(1));
        assert_eq!(balance.place(ShardId(2)), ShardId(2));
    }
}
