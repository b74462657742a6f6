//! The ring between shards under a model checker: every order in which two or three threads can touch it, and every
//! value that the memory orderings let them see.
//!
//! `src/reactor/channel.rs` is compiled here a second time, over loom's atomics and cells in the place of the standard
//! library's. A message read twice, before it was published or while its slot is written is a data race to loom; a
//! wake-up that was lost leaves nobody to run, which it reports as a deadlock; a message dropped twice or never is a
//! wrong count of references.

use std::sync::atomic::{AtomicUsize, Ordering};

use loom::sync::Arc;
use loom::thread::{self, Thread};

use channel::{Doorbell, Inbox, Outbox, channel};

#[path = "../src/reactor/channel.rs"]
mod channel;

/// What the channel is made of here.
mod sync {
    pub use loom::cell::UnsafeCell;
    pub use loom::sync::Arc;
    pub use loom::sync::atomic::{AtomicI32, AtomicUsize, Ordering, fence};

    /// A flag whose stores are swaps. Loom 0.7 lets a plain store fall between the two halves of another thread's swap,
    /// which no machine does, and then finds wake-ups lost that are not. All else stays: swaps order no more
    /// than they are told to.
    pub struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub fn new(value: bool) -> Self {
            Self(loom::sync::atomic::AtomicBool::new(value))
        }

        pub fn load(&self, order: Ordering) -> bool {
            self.0.load(order)
        }

        pub fn store(&self, value: bool, order: Ordering) {
            self.0.swap(value, order);
        }

        pub fn swap(&self, value: bool, order: Ordering) -> bool {
            self.0.swap(value, order)
        }
    }
}

/// The descriptor of the receiver's ring.
const RING: i32 = 7;

/// What is counted by the test and not by loom: an atomic of loom's would order what the channel has to order.
#[derive(Default)]
struct Counts {
    wakes: AtomicUsize,
    sleeps: AtomicUsize,
}

/// Sends each message by itself, and goes on until none waits for room.
fn send<T>(mut outbox: Outbox<T>, messages: impl IntoIterator<Item = T>, receiver: &Thread, counts: &Counts) {
    let flush = |outbox: &mut Outbox<T>| {
        if let Some(descriptor) = outbox.flush() {
            assert_eq!(descriptor, RING);
            counts.wakes.fetch_add(1, Ordering::Relaxed);
            receiver.unpark();
        }
    };
    for message in messages {
        outbox.push(message);
        flush(&mut outbox);
    }
    while outbox.has_waiting() {
        thread::yield_now();
        flush(&mut outbox);
    }
}

/// Takes so many messages in all, as a reactor does: a round through the inboxes, and a sleep when they are empty.
/// A completion in its ring ends a sleep, or the next if it is awake: so does an unpark.
fn receive<T>(inboxes: &mut [Inbox<T>], messages: usize, bell: &Doorbell, counts: &Counts) -> Vec<Vec<T>> {
    let mut taken: Vec<Vec<T>> = inboxes.iter().map(|_| Vec::new()).collect();
    loop {
        for (inbox, taken) in inboxes.iter_mut().zip(&mut taken) {
            taken.extend(std::iter::from_fn(|| inbox.take()));
        }
        if taken.iter().map(Vec::len).sum::<usize>() == messages {
            return taken;
        }
        bell.fall_asleep();
        counts.sleeps.fetch_add(1, Ordering::Relaxed);
        if inboxes.iter().all(Inbox::is_empty) {
            thread::park();
        }
        bell.awake();
    }
}

/// A receiver, and so many senders of so many messages each. Threads are interrupted where they need not wait up to
/// `interruptions` times: each more multiplies the orders by ten (`LOOM_MAX_PREEMPTIONS` in the environment goes before).
fn check(senders: usize, capacity: usize, messages: u32, interruptions: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(interruptions);
    model.check(move || {
        let (bell, counts) = (Arc::new(Doorbell::default()), std::sync::Arc::new(Counts::default()));
        let (outboxes, mut inboxes): (Vec<_>, Vec<_>) = (0..senders).map(|_| channel(capacity, &bell)).unzip();
        let counted = counts.clone();
        let receiver = thread::spawn(move || {
            bell.set_ring(RING);
            let taken = receive(&mut inboxes, senders * messages as usize, &bell, &counted);
            assert!(taken.iter().all(|taken| taken.iter().copied().eq(0..messages)), "{taken:?}");
            assert!(inboxes.iter().all(Inbox::is_empty));
        });
        let send = |outbox| {
            let (receiver, counts) = (receiver.thread().clone(), counts.clone());
            thread::spawn(move || send(outbox, 0..messages, &receiver, &counts))
        };
        let senders: Vec<_> = outboxes.into_iter().map(send).collect();
        senders.into_iter().chain([receiver]).for_each(|thread| thread.join().unwrap());
        // Of those who see a sleeper one wakes it.
        assert!(counts.wakes.load(Ordering::Relaxed) <= counts.sleeps.load(Ordering::Relaxed));
    });
}

#[test]
fn a_sleeper_hears_of_every_message() {
    check(1, 2, 2, 4);
}

#[test]
fn a_full_ring_keeps_the_order_and_loses_nothing() {
    check(1, 1, 3, 3);
}

#[test]
fn two_senders_wake_one_sleeper() {
    check(2, 1, 1, 2);
}

#[test]
fn what_nobody_took_is_dropped_once() {
    loom::model(|| {
        let (outbox, mut inbox) = channel(2, &Arc::new(Doorbell::default()));
        let message = Arc::new(());
        let messages = [Arc::clone(&message), Arc::clone(&message)];
        let (me, counts) = (thread::current(), Counts::default());
        let sender = thread::spawn(move || send(outbox, messages, &me, &counts));
        drop(inbox.take());
        drop(inbox);
        sender.join().unwrap();
        assert_eq!(Arc::strong_count(&message), 1);
    });
}
