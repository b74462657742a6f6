//! The post between shards: one bounded ring for every ordered pair of them, and the bell that wakes a sleeper.
//!
//! A ring has one sender and one receiver, each on its own thread, and no lock. What a turn sends is published
//! at its end by one [`Outbox::flush`]; what does not fit waits in the sender's own queue, in order. A peer is
//! woken only if it sleeps, and by one sender only:
//!
//! | sender | sleeper |
//! |---|---|
//! | publishes | [`Doorbell::fall_asleep`]: `sleeping = 1` |
//! | fence (SeqCst) | fence (SeqCst) |
//! | `sleeping.swap(0) == 1`: wakes it | looks at its rings once more, and sleeps if they are empty |
//!
//! Of the two fences one comes first, so that either the sender sees the sleeper or the sleeper sees the post.
//!
//! Invariants: `tail - head <= capacity`; slots in `head..tail` are initialised and belong to the receiver,
//! all others belong to the sender.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering, fence};

use crate::shard::interface::ShardId;

/// A value alone on its cache lines (two, as the processor fetches them in pairs).
#[derive(Default)]
#[repr(align(128))]
struct Padded<T>(T);

struct Channel<T> {
    /// How many were taken; written by the receiver.
    head: Padded<AtomicUsize>,
    /// How many were published; written by the sender.
    tail: Padded<AtomicUsize>,
    /// A power of two of them; number `n` lies in slot `n % slots`.
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a slot is touched by one side at a time: by the sender until the store of `tail` (Release) publishes
// it, by the receiver from its load of `tail` (Acquire) until its store of `head` (Release) returns it.
unsafe impl<T: Send> Sync for Channel<T> {}

impl<T> Channel<T> {
    fn slot(&self, number: usize) -> *mut MaybeUninit<T> {
        self.slots[number & (self.slots.len() - 1)].get()
    }
}

impl<T> Drop for Channel<T> {
    fn drop(&mut self) {
        let (head, tail) = (*self.head.0.get_mut(), *self.tail.0.get_mut());
        let mut number = head;
        while number != tail {
            // SAFETY: slots in `head..tail` are initialised, and nobody else is left to take them.
            unsafe { (*self.slot(number)).assume_init_drop() };
            number = number.wrapping_add(1);
        }
    }
}

/// The receiving end of the ring from one other shard.
pub struct Inbox<T> {
    channel: Arc<Channel<T>>,
    head: usize,
}

impl<T> Inbox<T> {
    /// Whether nothing is there to take.
    pub fn is_empty(&self) -> bool {
        self.channel.tail.0.load(Ordering::Acquire) == self.head
    }

    /// Takes the oldest message.
    pub fn take(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: `head < tail`, so the slot is initialised and ours; `head` moves on, so it is read once.
        let value = unsafe { (*self.channel.slot(self.head)).assume_init_read() };
        self.head = self.head.wrapping_add(1);
        self.channel.head.0.store(self.head, Ordering::Release);
        Some(value)
    }
}

/// The sending end of the ring to one other shard, and what waits for room in it.
pub struct Outbox<T> {
    channel: Arc<Channel<T>>,
    tail: usize,
    /// The receiver's head when last looked at.
    head_seen: usize,
    waiting: VecDeque<T>,
    bell: Arc<Doorbell>,
}

impl<T> Outbox<T> {
    /// Takes a message for the next flush.
    pub fn push(&mut self, message: T) {
        self.waiting.push_back(message);
    }

    /// Whether messages wait that found no room: the sender must not sleep long, as nobody wakes it for room.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Publishes as many messages as fit. Returns the ring to wake if the receiver sleeps: the caller has to.
    pub fn flush(&mut self) -> Option<RawFd> {
        if self.waiting.is_empty() {
            return None;
        }
        let before = self.tail;
        while !self.waiting.is_empty() && self.has_room() {
            let message = self.waiting.pop_front().expect("not empty");
            // SAFETY: there is room, so the slot is not in `head..tail`: it is ours, and holds nothing.
            unsafe { (*self.channel.slot(self.tail)).write(message) };
            self.tail = self.tail.wrapping_add(1);
        }
        if self.tail == before {
            return None;
        }
        self.channel.tail.0.store(self.tail, Ordering::Release);
        self.bell.must_ring()
    }

    fn has_room(&mut self) -> bool {
        let full = |head: usize| self.tail.wrapping_sub(head) == self.channel.slots.len();
        if full(self.head_seen) {
            self.head_seen = self.channel.head.0.load(Ordering::Acquire);
        }
        !full(self.head_seen)
    }
}

/// How a shard is woken: whether it sleeps, and the ring that a wake-up is sent to.
pub struct Doorbell {
    sleeping: Padded<AtomicBool>,
    ring: AtomicI32,
}

impl Doorbell {
    fn new() -> Self {
        Self { sleeping: Padded(AtomicBool::new(false)), ring: AtomicI32::new(-1) }
    }

    /// Names the ring to wake, before the first sleep.
    pub fn set_ring(&self, ring: RawFd) {
        self.ring.store(ring, Ordering::Release);
    }

    /// Says that its owner is about to sleep. It must look at its inboxes once more after this.
    pub fn fall_asleep(&self) {
        self.sleeping.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that its owner is awake.
    pub fn awake(&self) {
        self.sleeping.0.store(false, Ordering::Relaxed);
    }

    /// After something was published: the ring to wake, if its owner sleeps and nobody else woke it.
    fn must_ring(&self) -> Option<RawFd> {
        fence(Ordering::SeqCst);
        let sleeps = self.sleeping.0.load(Ordering::Relaxed) && self.sleeping.0.swap(false, Ordering::SeqCst);
        sleeps.then(|| self.ring.load(Ordering::Acquire))
    }
}

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

    /// Publishes what was sent and calls `wake` with the ring of every sleeper that has to be woken.
    pub fn flush(&mut self, mut wake: impl FnMut(RawFd)) {
        for outbox in self.outboxes.iter_mut().flatten() {
            if let Some(ring) = outbox.flush() {
                wake(ring);
            }
        }
    }
}

fn channel<T>(capacity: usize, bell: &Arc<Doorbell>) -> (Outbox<T>, Inbox<T>) {
    assert!(capacity.is_power_of_two());
    let slots = (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let channel = Arc::new(Channel { head: Padded::default(), tail: Padded::default(), slots });
    let inbox = Inbox { channel: Arc::clone(&channel), head: 0 };
    (Outbox { channel, tail: 0, head_seen: 0, waiting: VecDeque::new(), bell: Arc::clone(bell) }, inbox)
}

/// The ends of a mesh of `shards` shards, by shard; each ring holds `capacity` messages, a power of two.
pub fn mesh<T>(shards: u8, capacity: usize) -> Vec<Post<T>> {
    let mut ends: Vec<Post<T>> = (0..shards)
        .map(|me| Post {
            me: ShardId(me),
            inboxes: Vec::new(),
            outboxes: (0..shards).map(|_| None).collect(),
            bell: Arc::new(Doorbell::new()),
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
