//! What goes into a shard and what comes out: the whole of its contact with the world.
//!
//! A driver (the reactor, or the simulator) calls [`Shard::step`](super::Shard::step) with one [`Input`] at a time
//! and carries out what it finds in [`Outputs`]. Inside there is no syscall, no clock, no entropy and no thread.
//!
//! Buffers given to the disk move into the operation and come back with its result, errors included.

use std::net::IpAddr;

use crate::coin::{Months, PageNumber, Place};
use crate::store::files;
use crate::store::layout::{AlignedBytes, PageFrame};
use crate::store::wal::FullSegment;

use super::acts::Act;
use super::message::Message;

/// One of the node's shards, 0..shards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ShardId(pub u8);

impl ShardId {
    /// Its number, for indexing.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The time of a step.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Microseconds of a clock that never goes back (CLOCK_MONOTONIC).
    pub monotonic_us: u64,
    /// Milliseconds since 1970-01-01 UTC; may jump.
    pub unix_ms: u64,
}

impl Now {
    /// The month that a coin written now gets.
    pub const fn month(&self) -> Months {
        Months::at(self.unix_ms / 1000)
    }
}

/// Who sent a request and where its answer goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The driver's own name for the connection or datagram and the request's place in it. Returned with the reply.
    pub token: u64,
    /// The client's address, for the rate limit.
    pub peer: IpAddr,
    /// Whether the answer must fit a datagram.
    pub datagram: bool,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A request arrived: a frame as `wire::header` measured it, or the header alone where that is
    /// wrong, or a datagram as it came. Each gets exactly one [`Reply`], at once or in a later step.
    Request {
        /// Who sent it.
        origin: Origin,
        /// Its bytes.
        frame: &'a [u8],
    },
    /// A message of another shard arrived. Messages between two shards keep their order.
    Message {
        /// Who sent it.
        from: ShardId,
        /// What it says.
        message: Message,
    },
    /// A disk operation ended.
    Disk(DiskDone),
    /// The last input of a turn: batches are closed, timers are looked at.
    Turn,
    /// No more requests will come: finish what is in flight, checkpoint, then report [`Shard::stopped`](super::Shard::stopped).
    Shutdown,
    /// The operator wants something done. Each ends with exactly one [`ActDone`], at once or in a later step.
    Act {
        /// The driver's own name for it.
        token: u64,
        /// What.
        act: Act,
    },
}

/// A file of one shard's own, in `log/<shard>/`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ShardFile {
    /// A log segment by its slot: `segment-<slot>`.
    Log(u16),
    /// The two control blocks: `control`.
    Control,
    /// The double-write area: `double`.
    DoubleWrite,
    /// One of the two images of the orders: `orders-0`, `orders-1`.
    Orders(u8),
}

impl ShardFile {
    /// Its name in the data directory.
    pub fn path(self, shard: ShardId) -> String {
        match self {
            Self::Log(slot) => files::segment(shard.0, slot),
            Self::Control => files::control(shard.0),
            Self::DoubleWrite => files::double_write(shard.0),
            Self::Orders(slot) => files::orders(shard.0, slot),
        }
    }
}

/// Something the disk shall do. Every write is durable when it reports success (RWF_DSYNC).
/// Operations may end in any order.
#[derive(Debug)]
pub enum DiskOp {
    /// Reads a page from `coins/` into the frame.
    ReadPage {
        /// Which.
        page: PageNumber,
        /// Where to.
        frame: PageFrame,
    },
    /// Writes the first `length` bytes (whole blocks) to one of the shard's files.
    Write {
        /// Which.
        file: ShardFile,
        /// Where in it, a multiple of the block size.
        offset: u64,
        /// What.
        bytes: AlignedBytes,
        /// How much of it.
        length: usize,
    },
    /// Writes each page to its place in `coins/`: page `i` of the list stands at
    /// [`double_write::page_at(i)`](crate::store::double_write::page_at) of `bytes`. One or two at a time are in flight.
    WritePages {
        /// Which.
        pages: Vec<PageNumber>,
        /// Their bytes, as the double-write area holds them.
        bytes: AlignedBytes,
    },
    /// Puts a full log segment into the archive, as [`archive::keep`](crate::store::archive::keep()) does. It takes long,
    /// and may be asked for again after it failed.
    Archive(FullSegment),
}

impl DiskOp {
    /// The file it reads or writes, of several the first: for whoever looks after the node.
    pub fn path(&self, shard: ShardId) -> String {
        match self {
            Self::ReadPage { page, .. } => files::coins(page.denomination()),
            Self::Write { file, .. } => file.path(shard),
            Self::Archive(full) => files::segment(full.source.writer, full.source.tail.segment),
            Self::WritePages { pages, .. } => {
                pages.first().map_or(files::COINS.to_string(), |page| files::coins(page.denomination()))
            }
        }
    }
}

/// An operation that ended, with its buffers.
#[derive(Debug)]
pub struct DiskDone {
    /// The operation.
    pub op: DiskOp,
    /// Whether all of it was done (and is durable, if a write).
    pub result: Result<(), DiskError>,
}

/// Why an operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskError {
    /// The system's error number.
    pub errno: i32,
}

/// An answer, ready for the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The request's [`Origin::token`].
    pub token: u64,
    /// Where its bytes start in [`Outputs::bytes`].
    pub start: usize,
    /// Where they end.
    pub end: usize,
    /// Whether a TCP connection closes after it, as the stream's frame is lost.
    pub close: bool,
}

/// An act of the operator that ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ActDone {
    /// Its token.
    pub token: u64,
    /// Whether it was done; else the disk has failed and it cannot be.
    pub done: bool,
    /// Where the coin of an [`Act::Locate`] is, if its owner says this.
    pub place: Option<Place>,
}

impl ActDone {
    /// An end that says only whether it was done.
    pub const fn plain(token: u64, done: bool) -> Self {
        Self { token, done, place: None }
    }
}

/// What a driver shall do after a step. The driver empties it; the shard only adds.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Answers to send.
    pub replies: Vec<Reply>,
    /// The bytes of the answers.
    pub bytes: Vec<u8>,
    /// Messages for other shards, in order.
    pub messages: Vec<(ShardId, Message)>,
    /// Work for the disk, in order.
    pub disk: Vec<DiskOp>,
    /// The operator's acts that ended.
    pub acts: Vec<ActDone>,
}
