//! The post between shards: a [`channel`] for every ordered pair of them.
//!
//! What a turn sends is published at its end by one [`Post::flush`], which says whom to wake.

use std::os::fd::RawFd;
use std::sync::Arc;

use crate::shard::interface::ShardId;

use super::channel::{Doorbell, Inbox, Outbox, channel};

/// One shard's end of the mesh.
pub struct Post<T> {
    me: ShardId,
    inboxes: Vec<(ShardId, Inbox<T>)>,
    /// By shard; none to oneself.
    outboxes: Vec<Option<Outbox<T>>>,
    bell: Arc<Doorbell>,
}

impl<T> Post<T> {
    /// The bell that others ring for this shard.
    pub fn bell(&self) -> &Doorbell {
        &self.bell
    }

    /// Takes a message for another shard; it leaves with the next [`Post::flush`].
    ///
    /// # Panics
    /// When `to` is this shard itself, or no shard.
    pub fn send(&mut self, to: ShardId, message: T) {
        let outbox = self.outboxes.get_mut(to.index()).and_then(Option::as_mut);
        outbox.unwrap_or_else(|| panic!("{:?} has no way to {to:?}", self.me)).push(message);
    }

    /// Takes the oldest message of the next inbox that has one, beginning with inbox `*from`, which it moves on.
    pub fn take(&mut self, from: &mut usize) -> Option<(ShardId, T)> {
        while let Some((sender, inbox)) = self.inboxes.get_mut(*from) {
            if let Some(message) = inbox.take() {
                return Some((*sender, message));
            }
            *from += 1;
        }
        None
    }

    /// Whether all inboxes are empty.
    pub fn is_empty(&self) -> bool {
        self.inboxes.iter().all(|(_, inbox)| inbox.is_empty())
    }

    /// Whether messages wait for room in a ring.
    pub fn has_waiting(&self) -> bool {
        self.outboxes.iter().flatten().any(Outbox::has_waiting)
    }

    /// How many messages are there to take, and how many found no room: for whoever looks after the node.
    pub fn depths(&self) -> (usize, usize) {
        let inboxes = self.inboxes.iter().map(|(_, inbox)| inbox.len()).sum();
        (inboxes, self.outboxes.iter().flatten().map(Outbox::waiting).sum())
    }

    /// Publishes what was sent and calls `wake` with the ring of every sleeper that has to be woken.
    pub fn flush(&mut self, mut wake: impl FnMut(RawFd)) {
        for outbox in self.outboxes.iter_mut().flatten() {
            if let Some(ring) = outbox.flush() {
                wake(ring);
            }
        }
    }
}

/// The ends of a mesh of `shards` shards, by shard; each ring holds `capacity` messages, a power of two.
pub fn mesh<T>(shards: u8, capacity: usize) -> Vec<Post<T>> {
    let mut ends: Vec<Post<T>> = (0..shards)
        .map(|me| Post {
            me: ShardId(me),
            inboxes: Vec::new(),
            outboxes: (0..shards).map(|_| None).collect(),
            bell: Arc::new(Doorbell::default()),
        })
        .collect();
    for from in 0..shards {
        for to in (0..shards).filter(|&to| to != from) {
            let (outbox, inbox) = channel(capacity, &ends[usize::from(to)].bell);
            ends[usize::from(from)].outboxes[usize::from(to)] = Some(outbox);
            ends[usize::from(to)].inboxes.push((ShardId(from), inbox));
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    const MESSAGES: u64 = if cfg!(miri) { 200 } else { 50_000 };

    #[test]
    fn a_full_ring_keeps_the_order_and_loses_nothing() {
        let mut ends = mesh::<u64>(2, 4);
        let (mut receiver, mut sender) = (ends.pop().unwrap(), ends.pop().unwrap());
        (0..10).for_each(|number| sender.send(ShardId(1), number));
        let mut taken = Vec::new();
        while taken.len() < 10 {
            sender.flush(|ring| panic!("nobody sleeps, yet ring {ring} is to be woken"));
            assert_eq!(sender.has_waiting(), taken.len() < 6);
            assert_eq!(receiver.depths().0 + sender.depths().1, 10 - taken.len());
            while let Some((from, number)) = receiver.take(&mut 0) {
                assert_eq!(from, ShardId(0));
                taken.push(number);
            }
        }
        assert_eq!(taken, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_sleeper_is_woken_once() {
        let mut ends = mesh::<u64>(3, 4);
        let (mut third, mut second, first) = (ends.pop().unwrap(), ends.pop().unwrap(), ends.pop().unwrap());
        first.bell().set_ring(7);
        first.bell().fall_asleep();
        assert!(first.is_empty());
        let mut woken = Vec::new();
        second.send(ShardId(0), 1);
        third.send(ShardId(0), 2);
        second.flush(|ring| woken.push(ring));
        third.flush(|ring| woken.push(ring));
        assert_eq!(woken, [7]);
        assert!(!first.is_empty());
    }

    #[test]
    fn what_nobody_took_is_dropped() {
        let counted = Arc::new(());
        let mut ends = mesh::<Arc<()>>(2, 8);
        (0..12).for_each(|_| ends[0].send(ShardId(1), Arc::clone(&counted)));
        ends[0].flush(|_| ());
        drop(ends[1].take(&mut 0).unwrap());
        drop(ends);
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    /// Two threads play a message back and forth beside a stream of others; each sleeps on a condition that only
    /// the other's `wake` ends, so a lost wake-up would hang and a lost or doubled message would fail.
    #[test]
    fn two_threads_exchange_and_wake_each_other() {
        let mut ends = mesh::<u64>(2, 8);
        let threads = [0usize, 1].map(|_| Arc::new(AtomicUsize::new(0)));
        ends.iter().enumerate().for_each(|(at, end)| end.bell().set_ring(at as RawFd));
        let second = ends.pop().unwrap();
        let first = ends.pop().unwrap();
        let play = |mut end: Post<u64>, woken: [Arc<AtomicUsize>; 2]| {
            move || {
                let (me, peer) = (end.me.index(), 1 - end.me.index());
                let (mut sent, mut taken) = (0, 0);
                while taken < MESSAGES || sent < MESSAGES || end.has_waiting() {
                    for _ in 0..(sent % 5 + 1).min(MESSAGES - sent) {
                        end.send(ShardId(peer as u8), sent);
                        sent += 1;
                    }
                    end.flush(|ring| {
                        assert_eq!(ring, peer as RawFd);
                        woken[peer].fetch_add(1, Ordering::Release);
                    });
                    let before = taken;
                    while let Some((_, number)) = end.take(&mut 0) {
                        assert_eq!(number, taken);
                        taken += 1;
                    }
                    if taken == before && sent == MESSAGES && !end.has_waiting() && taken < MESSAGES {
                        let calls = woken[me].load(Ordering::Acquire);
                        end.bell().fall_asleep();
                        if end.is_empty() {
                            while woken[me].load(Ordering::Acquire) == calls {
                                thread::yield_now();
                            }
                        }
                        end.bell().awake();
                    }
                }
            }
        };
        let other = thread::spawn(play(second, threads.clone()));
        play(first, threads)();
        other.join().unwrap();
    }
}
