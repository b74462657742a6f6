//! What a reactor counts: plain numbers of its own thread.

use serde::Serialize;

use crate::histogram::Histogram;

/// Since the start of the reactor, but for [`Counters::connections_open`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counters {
    /// Connections accepted and kept.
    pub connections_accepted: u64,
    /// Connections accepted and given to another reactor, which counts them as its own.
    pub connections_passed_on: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// Connections closed at once, as there were too many.
    pub connections_refused: u64,
    /// Connections closed because a deadline passed.
    pub overdue: Overdue,
    /// Connections closed because their bytes, in or out, went beyond a bound.
    pub connections_overfull: u64,
    /// Times that accepting failed, for instance for want of descriptors.
    pub accepts_failed: u64,
    /// Requests given to the shard.
    pub requests: u64,
    /// Answers that came after their connection had gone.
    pub answers_orphaned: u64,
    /// Bytes received on connections.
    pub stream_bytes_received: u64,
    /// Bytes sent on connections.
    pub stream_bytes_sent: u64,
    /// Datagrams given to the shard.
    pub datagrams_received: u64,
    /// Datagrams handed to the kernel, those of a joined send counted one by one.
    pub datagrams_sent: u64,
    /// Datagrams dropped on arrival: truncated, without an address, or no slot was free.
    pub datagrams_dropped: u64,
    /// Sends of one datagram or several that the kernel refused.
    pub datagram_sends_failed: u64,
    /// Messages from other shards.
    pub messages_received: u64,
    /// Messages to other shards.
    pub messages_sent: u64,
    /// Rests cut short as messages found no room in another shard's ring.
    pub messages_held_up: u64,
    /// Sleeping shards woken.
    pub wakeups_sent: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// How long turns took, microseconds, sleep aside.
    pub turn_us: Histogram,
    /// Times the loop slept.
    pub sleeps: u64,
    /// Turns that found completions waiting in the kernel because the queue was full.
    pub completions_overflowed: u64,
    /// Operations of the disk that ended.
    pub disk_operations: u64,
    /// Operations of the disk that failed.
    pub disk_failures: u64,
    /// How long a page took to be read, microseconds from turn to turn.
    pub page_read_us: Histogram,
    /// How long a batch of the log took to be durable, microseconds from turn to turn.
    pub log_write_us: Histogram,
    /// How long other writes took to be durable: double-write area, pages, orders, control block.
    pub place_write_us: Histogram,
}

/// Connections closed because a deadline passed, by what was waited for.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Overdue {
    /// The rest of a header.
    pub header: u64,
    /// The rest of a body.
    pub body: u64,
    /// Another request.
    pub idle: u64,
    /// The client to take its answers.
    pub send: u64,
}

impl Overdue {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.header + self.body + self.idle + self.send
    }
}
