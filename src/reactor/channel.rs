//! The ring that carries messages from one shard to one other, and the bell that wakes the receiver.
//!
//! A ring has one sender and one receiver, each on its own thread, and no lock. What does not fit waits in the sender's
//! own queue, in order. A receiver is woken only if it sleeps, and by one of its senders only:
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
//! all others belong to the sender. All that threads share is here, and is built on [`sync`](super::sync): the test
//! `interleavings` compiles this file over another `sync`, which tries every order of every access.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use super::sync::{Arc, AtomicBool, AtomicI32, AtomicUsize, Ordering, UnsafeCell, fence};

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
    fn slot(&self, number: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[number & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Channel<T> {
    fn drop(&mut self) {
        // Both ends are gone, and with them all that was ordered.
        let (head, tail) = (self.head.0.load(Ordering::Relaxed), self.tail.0.load(Ordering::Relaxed));
        let mut number = head;
        while number != tail {
            // SAFETY: slots in `head..tail` are initialised, and nobody else is left to take them.
            self.slot(number).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
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
        self.len() == 0
    }

    /// How many messages are there to take.
    pub fn len(&self) -> usize {
        self.channel.tail.0.load(Ordering::Acquire).wrapping_sub(self.head)
    }

    /// Takes the oldest message.
    pub fn take(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: `head < tail`, so the slot is initialised and ours; `head` moves on, so it is read once.
        let value = self.channel.slot(self.head).with_mut(|slot| unsafe { (*slot).assume_init_read() });
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
        self.waiting() > 0
    }

    /// How many messages found no room.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
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
            self.channel.slot(self.tail).with_mut(|slot| unsafe { (*slot).write(message) });
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

impl Default for Doorbell {
    /// Of a shard that is awake, and whose ring is not known yet.
    fn default() -> Self {
        Self { sleeping: Padded(AtomicBool::new(false)), ring: AtomicI32::new(-1) }
    }
}

impl Doorbell {
    /// Names the ring to wake, before the first sleep.
    pub fn set_ring(&self, ring: RawFd) {
        self.ring.store(ring, Ordering::Release);
    }

    /// Says that its owner is about to sleep. It must look at its inboxes once more after this.
    pub fn fall_asleep(&self) {
        // Release: who sees the sleeper sees its ring.
        self.sleeping.0.store(true, Ordering::Release);
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

/// The two ends of a ring that holds `capacity` messages, a power of two; `bell` is the receiver's.
pub fn channel<T>(capacity: usize, bell: &Arc<Doorbell>) -> (Outbox<T>, Inbox<T>) {
    assert!(capacity.is_power_of_two());
    let slots = (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let channel = Arc::new(Channel { head: Padded::default(), tail: Padded::default(), slots });
    let inbox = Inbox { channel: Arc::clone(&channel), head: 0 };
    (Outbox { channel, tail: 0, head_seen: 0, waiting: VecDeque::new(), bell: Arc::clone(bell) }, inbox)
}
