//! The connections of one reactor: receiving, sending, closing, and the deadlines of each.
//!
//! What happens to a connection only changes its state and puts it on a list; [`Tcp::settle`], at the end of the
//! turn, compares each listed connection's state with its operations and queues what is missing. So there is one
//! place that decides whether a connection is read, written, shut down, cancelled or freed.
//!
//! A receive stays armed (multishot), which saves a small request a seventh of its cost. Back-pressure is to cancel it once
//! more than [`KEPT_BYTES_MAX`] wait for requests to start; until that takes hold the kernel fills a few dozen buffers at
//! most. Buffers go back to the kernel within the turn; what is no whole frame, or may not start yet, is copied.
//!
//! A slot is freed when both its operations have completed, so neither a descriptor nor a buffer is used again
//! while the kernel may still touch it.

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::opcode;
use io_uring::types::Fd;
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};

use crate::shard::interface::ShardId;

use super::Limits;
use super::accept::{Arrival, Balance};
use super::buffers::SpareBuffers;
use super::connection::{Connection, Phase, RequestNumber, Wait};
use super::counters::Counters;
use super::ring::{Completion, Kind, Ring, Tag};
use super::table::{Name, Table};

/// A send hands the kernel no more than this, so that progress shows at least so often.
const SEND_BYTES_MAX: usize = 256 * 1024;
/// A connection whose requests may not start, and with more bytes of them than this, is received no further.
const KEPT_BYTES_MAX: usize = 16 * 1024;
/// Deadlines are looked at no more often than this, and so may be late by as much.
const SWEEP_EVERY_US: u64 = 20_000;

/// The connections of a reactor.
pub struct Tcp {
    me: ShardId,
    balance: Arc<Balance>,
    stopped: bool,
    connections: Table<Connection>,
    /// Connections whose state changed since they were settled.
    unsettled: Vec<Name>,
    /// Connections that wait for room in the shard, in order.
    waiting_for_room: VecDeque<Name>,
    spare: SpareBuffers,
    buffer_group: u16,
    inbound_bytes: usize,
    unsent_bytes: usize,
    sweep_at_us: u64,
    limits: Limits,
}

impl Tcp {
    /// No connections yet; receives take buffers from `buffer_group`.
    pub fn new(me: ShardId, balance: Arc<Balance>, buffer_group: u16, limits: &Limits) -> Self {
        assert!(limits.requests_per_connection_max <= RequestNumber::COUNT / 2);
        assert!(limits.connections_max < 1 << super::token::SLOT_BITS);
        Self {
            me,
            balance,
            stopped: false,
            connections: Table::new(limits.connections_max),
            unsettled: Vec::new(),
            waiting_for_room: VecDeque::new(),
            spare: SpareBuffers::new(1024),
            buffer_group,
            inbound_bytes: 0,
            unsent_bytes: 0,
            sweep_at_us: u64::MAX,
            limits: limits.clone(),
        }
    }

    /// Takes a connection that was accepted; closes it where there are too many.
    pub fn adopt(&mut self, arrival: Arrival, now_us: u64, counters: &mut Counters) {
        if self.stopped {
            self.balance.left(self.me);
            return;
        }
        match self.connections.insert(Connection::new(arrival.socket, arrival.peer, now_us)) {
            Ok(name) => {
                counters.connections_accepted += 1;
                counters.connections_open += 1;
                self.touch(name);
            }
            Err(_closed) => {
                counters.connections_refused += 1;
                self.balance.left(self.me);
            }
        }
    }

    /// Ends reading: what is in flight is still answered, then each connection is closed.
    pub fn stop(&mut self) {
        self.stopped = true;
        let names: Vec<Name> = self.connections.iter().map(|(name, _)| name).collect();
        for name in names {
            self.end_reading(name);
        }
    }

    /// Other bounds from now on. A deadline that runs already stays as it is.
    pub fn adopt_limits(&mut self, limits: &Limits) {
        self.connections.resize(limits.connections_max);
        self.limits = limits.clone();
    }

    /// Every connection that is not over.
    pub fn connections(&self) -> impl Iterator<Item = (Name, &Connection)> {
        self.connections.iter().filter(|(_, connection)| connection.phase != Phase::Dead)
    }

    /// Closes a connection, whatever it waits for. `false`: it is gone.
    pub fn disconnect(&mut self, name: Name) -> bool {
        let is_there = self.connections.get_mut(name).is_some_and(|connection| connection.phase != Phase::Dead);
        if is_there {
            self.kill(name);
        }
        is_there
    }

    /// Whether every answer was sent that is going to be.
    pub fn is_drained(&self) -> bool {
        self.connections.iter().all(|(_, connection)| match connection.phase {
            Phase::Open => false,
            Phase::Flushing => !connection.has_output(),
            Phase::Lingering | Phase::Dead => true,
        })
    }

    /// Closes every connection, whatever it waits for.
    pub fn abandon(&mut self) {
        let names: Vec<Name> = self.connections.iter().map(|(name, _)| name).collect();
        names.into_iter().for_each(|name| self.kill(name));
    }

    /// Bytes kept of requests, and bytes of answers that wait for their clients.
    pub fn waiting_bytes(&self) -> (usize, usize) {
        (self.inbound_bytes, self.unsent_bytes)
    }

    /// Whether no connection is left.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// A connection, unless it is gone.
    pub fn get_mut(&mut self, name: Name) -> Option<&mut Connection> {
        self.connections.get_mut(name)
    }

    fn connection(&mut self, name: Name) -> &mut Connection {
        self.connections.get_mut(name).expect("a connection stays while an operation or a list names it")
    }

    /// Puts a connection on the list to settle.
    pub fn touch(&mut self, name: Name) {
        let connection = self.connection(name);
        if !connection.unsettled {
            connection.unsettled = true;
            self.unsettled.push(name);
        }
    }

    /// Whether a request of the connection may start, but for room in the shard.
    pub fn may_start(&mut self, name: Name) -> bool {
        let (requests_max, unsent_max) = (self.limits.requests_per_connection_max, self.limits.unsent_bytes_to_pause);
        let connection = self.connection(name);
        connection.phase == Phase::Open && connection.in_flight() < requests_max && connection.unsent() < unsent_max
    }

    /// A receive ended. Returns how many bytes it brought for requests.
    pub fn received(&mut self, completion: Completion, counters: &mut Counters) -> usize {
        let name = completion.tag.name;
        self.touch(name);
        let connection = self.connection(name);
        assert!(connection.receiving);
        connection.receiving = completion.more();
        connection.receive_cancelled &= connection.receiving;
        match completion.result {
            0 => {
                connection.peer_ended = true;
                // Whole frames that were paused still start; a part of one never becomes whole.
                if !connection.paused {
                    self.end_reading(name);
                }
                0
            }
            bytes if bytes > 0 => {
                counters.stream_bytes_received += bytes as u64;
                if connection.phase == Phase::Open && !connection.read_ended { bytes as usize } else { 0 }
            }
            error => {
                if ![-libc::ENOBUFS, -libc::ECANCELED, -libc::EAGAIN, -libc::EINTR].contains(&error) {
                    self.kill(name);
                }
                0
            }
        }
    }

    /// Keeps bytes that are no whole frame, or whose frames may not start yet.
    pub fn keep(&mut self, name: Name, bytes: &[u8], counters: &mut Counters) {
        let connection = self.connections.get_mut(name).expect("the connection that received");
        if self.inbound_bytes + bytes.len() > self.limits.inbound_bytes_max {
            counters.connections_overfull += 1;
            self.kill(name);
            return;
        }
        self.inbound_bytes += bytes.len();
        connection.keep(bytes, &mut self.spare);
    }

    /// Takes the bytes kept of a connection out, to read frames from them.
    pub fn take_kept(&mut self, name: Name) -> (Vec<u8>, usize) {
        self.connection(name).take_kept()
    }

    /// Puts the bytes kept back, of which `from` are done with, `done` of them since they were taken out.
    pub fn put_kept(&mut self, name: Name, kept: Vec<u8>, from: usize, done: usize) {
        self.inbound_bytes -= done;
        let connection = self.connections.get_mut(name).expect("frames were read from it");
        connection.put_kept(kept, from, &mut self.spare);
    }

    /// Reads no further requests of a connection: its frame is lost, its client is done, or the node stops.
    pub fn end_reading(&mut self, name: Name) {
        let connection = self.connections.get_mut(name).expect("named by the caller");
        connection.read_ended = true;
        connection.paused = false;
        self.inbound_bytes -= connection.kept();
        connection.drop_kept(&mut self.spare);
        self.touch(name);
    }

    /// Queues a connection for room in the shard.
    pub fn wait_for_room(&mut self, name: Name) {
        let connection = self.connection(name);
        if !connection.queued_for_room {
            connection.queued_for_room = true;
            self.waiting_for_room.push_back(name);
        }
    }

    /// The next connection that waits for room in the shard.
    pub fn next_for_room(&mut self) -> Option<Name> {
        while let Some(name) = self.waiting_for_room.pop_front() {
            if let Some(connection) = self.connections.get_mut(name) {
                connection.queued_for_room = false;
                return Some(name);
            }
        }
        None
    }

    /// Whether connections wait for room in the shard.
    pub fn waits_for_room(&self) -> bool {
        !self.waiting_for_room.is_empty()
    }

    /// Takes an answer. One whose connection is gone is dropped.
    pub fn answer(&mut self, name: Name, number: RequestNumber, bytes: &[u8], close: bool, counters: &mut Counters) {
        let Some(connection) = self.connections.get_mut(name).filter(|connection| connection.phase == Phase::Open)
        else {
            counters.answers_orphaned += 1;
            return;
        };
        if self.unsent_bytes + bytes.len() > self.limits.unsent_bytes_max
            || connection.unsent() + bytes.len() > self.limits.unsent_bytes_per_connection_max
        {
            counters.connections_overfull += 1;
            self.kill(name);
            return;
        }
        self.unsent_bytes += bytes.len();
        connection.answer(number, bytes, close, &mut self.spare);
        if close {
            self.end_reading(name);
        }
        self.touch(name);
    }

    /// A send ended.
    pub fn sent(&mut self, completion: Completion, counters: &mut Counters) {
        let name = completion.tag.name;
        let connection = self.connections.get_mut(name).expect("a connection stays while it sends");
        let bytes = completion.result.max(0) as usize;
        connection.sent(bytes, &mut self.spare);
        self.unsent_bytes -= bytes;
        counters.stream_bytes_sent += bytes as u64;
        if completion.result < 0 && ![-libc::EAGAIN, -libc::EINTR].contains(&completion.result) {
            self.kill(name);
        }
        self.touch(name);
    }

    /// Ends a connection at once.
    fn kill(&mut self, name: Name) {
        self.end_reading(name);
        self.connection(name).phase = Phase::Dead;
    }

    /// Whether connections are left to settle, or to go on with.
    pub fn has_unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    /// Connections whose state changed, by place in the list; the list may grow meanwhile.
    pub fn unsettled(&self, at: usize) -> Option<Name> {
        self.unsettled.get(at).copied()
    }

    /// Queues for every connection on the list what its state asks for.
    pub fn settle(&mut self, ring: &mut Ring, now_us: u64, counters: &mut Counters) {
        let mut unsettled = std::mem::take(&mut self.unsettled);
        for name in unsettled.drain(..) {
            self.connection(name).unsettled = false;
            self.settle_one(name, ring, now_us, counters);
        }
        // The connections that have to go on were listed anew; the memory is kept.
        unsettled.append(&mut self.unsettled);
        self.unsettled = unsettled;
    }

    fn settle_one(&mut self, name: Name, ring: &mut Ring, now_us: u64, counters: &mut Counters) {
        let may_start = self.may_start(name);
        let group = self.buffer_group;
        let connection = self.connections.get_mut(name).expect("a listed connection is there");
        if connection.phase == Phase::Dead {
            self.bury(name, ring, counters);
            return;
        }
        if connection.has_output() && !connection.is_sending {
            send(connection, name, ring);
        }
        if !connection.has_output() {
            let answered = connection.read_ended && !connection.paused && connection.in_flight() == 0;
            if connection.phase == Phase::Flushing || connection.phase == Phase::Open && answered {
                say_goodbye(connection);
            }
        }
        // Bytes of a frame that is not whole are no reason to stop: the rest of it would never come.
        let is_full = connection.paused && connection.kept() > KEPT_BYTES_MAX;
        let reads = match connection.phase {
            Phase::Open => !connection.read_ended && !connection.peer_ended && !is_full,
            Phase::Lingering => !connection.peer_ended,
            Phase::Flushing | Phase::Dead => false,
        };
        let receive = Tag { kind: Kind::Receive, name };
        if reads && !connection.receiving {
            connection.receiving = true;
            let entry = opcode::RecvMulti::new(Fd(connection.socket.as_raw_fd()), group).build();
            // SAFETY: the entry points to nothing.
            unsafe { ring.push(entry, receive) };
        } else if !reads && connection.receiving && !connection.receive_cancelled {
            connection.receive_cancelled = true;
            ring.cancel(receive);
        }
        let go_on = connection.phase == Phase::Dead || connection.paused && may_start && !connection.queued_for_room;
        self.set_deadline(name, now_us);
        if go_on {
            self.touch(name);
        }
    }

    /// Cancels what a dead connection still has in flight, and frees it when nothing is.
    fn bury(&mut self, name: Name, ring: &mut Ring, counters: &mut Counters) {
        let connection = self.connection(name);
        if connection.receiving || connection.is_sending {
            if !connection.cancelled {
                connection.cancelled = true;
                connection.deadline_us = u64::MAX;
                for (in_flight, kind) in [(connection.receiving, Kind::Receive), (connection.is_sending, Kind::Send)] {
                    if in_flight {
                        ring.cancel(Tag { kind, name });
                    }
                }
            }
            return;
        }
        let connection = self.connections.remove(name).expect("it was just there");
        self.unsent_bytes -= connection.unsent();
        connection.recycle(&mut self.spare);
        counters.connections_open -= 1;
        self.balance.left(self.me);
    }

    fn set_deadline(&mut self, name: Name, now_us: u64) {
        let limits = &self.limits;
        let connection = self.connections.get_mut(name).expect("it is being settled");
        let wait = match connection.phase {
            Phase::Dead => Wait::Node,
            Phase::Lingering => Wait::Close,
            Phase::Open | Phase::Flushing if connection.is_sending => Wait::Send,
            Phase::Flushing => Wait::Node,
            Phase::Open if connection.paused || connection.in_flight() > 0 => Wait::Node,
            Phase::Open if connection.kept() == 0 => Wait::Request,
            Phase::Open if connection.header_known => Wait::Body,
            Phase::Open => Wait::Header,
        };
        if connection.wait == wait && wait != Wait::Node {
            return;
        }
        connection.wait = wait;
        connection.deadline_us = match wait {
            Wait::Node => u64::MAX,
            Wait::Request => now_us + limits.idle_deadline.as_micros() as u64,
            Wait::Header => now_us + limits.header_deadline.as_micros() as u64,
            Wait::Body => now_us + limits.body_deadline.as_micros() as u64,
            Wait::Send => now_us + limits.send_deadline.as_micros() as u64,
            Wait::Close => now_us + limits.close_deadline.as_micros() as u64,
        };
        if connection.deadline_us < self.sweep_at_us {
            self.sweep_at_us = connection.deadline_us.max(now_us + SWEEP_EVERY_US);
        }
    }

    /// Until when nothing has to be done for a connection.
    pub fn wake_at_us(&self) -> u64 {
        self.sweep_at_us
    }

    /// Closes the connections that have waited too long, when it is time to look.
    pub fn sweep(&mut self, now_us: u64, counters: &mut Counters) {
        if now_us < self.sweep_at_us {
            return;
        }
        let mut overdue = Vec::new();
        let mut next_us = u64::MAX;
        for (name, connection) in self.connections.iter() {
            if connection.deadline_us <= now_us {
                overdue.push(name);
            } else {
                next_us = next_us.min(connection.deadline_us);
            }
        }
        self.sweep_at_us = if next_us == u64::MAX { next_us } else { next_us.max(now_us + SWEEP_EVERY_US) };
        for name in overdue {
            let connection = self.connection(name);
            if connection.wait == Wait::Send {
                // What the client does not take is not to stay in the kernel either. If this fails, it stays a while.
                let reset = libc::linger { l_onoff: 1, l_linger: 0 };
                setsockopt(&connection.socket, sockopt::Linger, &reset).unwrap_or_default();
            }
            match connection.wait {
                Wait::Request => counters.overdue.idle += 1,
                Wait::Header => counters.overdue.header += 1,
                Wait::Body => counters.overdue.body += 1,
                Wait::Send => counters.overdue.send += 1,
                // The node closed it already.
                Wait::Close | Wait::Node => {}
            }
            self.kill(name);
        }
    }
}

fn send(connection: &mut Connection, name: Name, ring: &mut Ring) {
    let descriptor = Fd(connection.socket.as_raw_fd());
    let bytes = connection.begin_send(SEND_BYTES_MAX);
    let entry = opcode::Send::new(descriptor, bytes.as_ptr(), bytes.len() as u32)
        .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
        .build();
    // SAFETY: the bytes stay in the connection's `sending`, untouched, until its completion calls `sent`; the
    // connection is not freed before.
    unsafe { ring.push(entry, Tag { kind: Kind::Send, name }) };
}

/// All is sent: says so, and waits for the client to close too, unless it did.
fn say_goodbye(connection: &mut Connection) {
    // Where the client has reset the connection this fails, and the receive that follows says so.
    let said = shutdown(connection.socket.as_raw_fd(), Shutdown::Write);
    connection.phase = if connection.peer_ended || said.is_err() { Phase::Dead } else { Phase::Lingering };
}
