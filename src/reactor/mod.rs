//! The only place that knows io_uring: one reactor per core drives one shard.
//!
//! A reactor is a thread on its own processor with a ring, the sockets and files of one shard, and the shard. Its
//! loop is in [`turn`]; [`accept`] takes connections in, [`service`] carries requests from [`tcp`] and [`udp`] to the shard and answers back,
//! [`disk`] does the shard's reads and writes, [`archiver`] what takes long of them, [`mesh`] takes messages to the other
//! shards, [`desk`] brings questions of other threads. [`connection`] is a connection as a plain state, [`ring`] and
//! [`buffers`] are what the kernel shares with us. [`datagrams`] is what the node has in common with the load generator and
//! the floor of the benchmarks, [`streams`] and [`blocks`] are theirs alone.
//!
//! Invariants: memory given to the kernel stays until its completion; names that outlive what they name carry a
//! generation; nothing grows beyond [`Limits`]; what a client sends never panics.

pub mod accept;
pub mod archiver;
pub mod blocks;
pub mod buffers;
pub mod channel;
pub mod connection;
pub mod counters;
pub mod datagrams;
pub mod desk;
pub mod disk;
pub mod mesh;
pub mod ring;
pub mod service;
pub mod sockets;
pub mod stage;
pub mod start;
pub mod streams;
pub mod sync;
pub mod table;
pub mod tcp;
pub mod token;
pub mod turn;
pub mod udp;

use std::time::Duration;

use crate::entropy::Entropy;
use crate::shard::Shard;
use crate::shard::backup::{BackupAnswer, BackupQuestion, BackupRefusal};
use crate::shard::interface::{Input, Now, Outputs};
use crate::shard::numbers::Numbers;

/// What a reactor drives: a [`Shard`], or what a test puts in its place.
pub trait Core {
    /// Takes one input; adds what follows from it to `out`.
    fn step(&mut self, now: Now, entropy: &mut dyn Entropy, input: Input<'_>, out: &mut Outputs);
    /// Whether another request finds room.
    fn has_room(&self) -> bool;
    /// Until when the driver may sleep; `None`: for ever.
    fn wake_at_us(&self) -> Option<u64>;
    /// Whether everything is on disk and nothing is left to do, after [`Input::Shutdown`].
    fn stopped(&self) -> bool;
    /// Whether no request is in flight.
    fn is_idle(&self) -> bool;
    /// Whether the disk failed and nothing is written any more.
    fn has_failed(&self) -> bool;
    /// Hears how many microseconds a turn took, the time of its sleep aside.
    fn turn_took(&mut self, micros: u64);
    /// Its numbers at this moment.
    fn numbers(&self, now: Now) -> Numbers;
    /// Answers a backup's question.
    ///
    /// # Errors
    /// Why the backup cannot go on.
    fn back_up(&mut self, question: BackupQuestion) -> Result<BackupAnswer, BackupRefusal>;
}

impl Core for Shard {
    fn step(&mut self, now: Now, entropy: &mut dyn Entropy, input: Input<'_>, out: &mut Outputs) {
        Self::step(self, now, entropy, input, out);
    }

    fn has_room(&self) -> bool {
        Self::has_room(self)
    }

    fn wake_at_us(&self) -> Option<u64> {
        Self::wake_at_us(self)
    }

    fn stopped(&self) -> bool {
        Self::stopped(self)
    }

    fn is_idle(&self) -> bool {
        Self::is_idle(self)
    }

    fn has_failed(&self) -> bool {
        Self::has_failed(self)
    }

    fn turn_took(&mut self, micros: u64) {
        Self::turn_took(self, micros);
    }

    fn numbers(&self, now: Now) -> Numbers {
        Self::numbers(self, now)
    }

    fn back_up(&mut self, question: BackupQuestion) -> Result<BackupAnswer, BackupRefusal> {
        Self::back_up(self, question)
    }
}

/// The bounds of one reactor. Beyond each the client gets a close, a drop or back-pressure, never memory.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections open at once; further ones are accepted and closed.
    pub connections_max: u32,
    /// Requests of one connection in flight in the shard, at most 1024; a connection that has so many is not read.
    pub requests_per_connection_max: u16,
    /// Datagrams in flight in the shard; further ones are dropped.
    pub datagrams_in_flight_max: u32,
    /// Bytes of unfinished or not yet started requests, of all connections; one that would go beyond is closed.
    pub inbound_bytes_max: usize,
    /// Unsent bytes of one connection from which on none of its requests is started.
    pub unsent_bytes_to_pause: usize,
    /// Unsent bytes of one connection; one that would go beyond is closed.
    pub unsent_bytes_per_connection_max: usize,
    /// Unsent bytes of all connections; one that would go beyond is closed.
    pub unsent_bytes_max: usize,
    /// Time from a request's first byte to the end of its header.
    pub header_deadline: Duration,
    /// Time from the end of a header to the end of its body.
    pub body_deadline: Duration,
    /// Time in which a connection says nothing and waits for nothing.
    pub idle_deadline: Duration,
    /// Time in which a client takes none of what is sent to it (in portions of 256 KiB).
    pub send_deadline: Duration,
    /// Time a client is given to close after the node did.
    pub close_deadline: Duration,
    /// How long a reactor looks for work before it sleeps.
    pub spin: Duration,
    /// Buffers of 16 KiB that connections are received into, a power of two.
    pub stream_buffers: u16,
    /// Buffers of 68 KiB that datagrams are received into, a power of two. They cost memory as far as they are used.
    pub datagram_buffers: u16,
    /// What the kernel may hold of datagrams not yet received, bytes.
    pub datagram_socket_bytes: usize,
    /// Messages that fit the ring between two shards, a power of two; further ones wait at the sender.
    pub messages_between_shards: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            requests_per_connection_max: 32,
            datagrams_in_flight_max: 8192,
            inbound_bytes_max: 64 << 20,
            unsent_bytes_to_pause: 256 << 10,
            unsent_bytes_per_connection_max: 64 << 20,
            unsent_bytes_max: 256 << 20,
            header_deadline: Duration::from_secs(5),
            body_deadline: Duration::from_secs(10),
            idle_deadline: Duration::from_secs(60),
            send_deadline: Duration::from_secs(10),
            close_deadline: Duration::from_secs(2),
            spin: Duration::from_micros(30),
            stream_buffers: 256,
            datagram_buffers: 256,
            datagram_socket_bytes: 4 << 20,
            messages_between_shards: 1024,
        }
    }
}

#[cfg(test)]
mod tests;
