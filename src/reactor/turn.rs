//! The loop of a reactor. One turn:
//!
//! 1. take the kernel's completions and run each through the shard;
//! 2. take the other shards' messages, and what the archiver has done, and run them through it;
//! 3. go on with connections that paused;
//! 4. tell the shard that the turn ends, so that it closes its batches;
//! 5. queue what all that asks of the kernel, publish messages, wake their receivers, close what is overdue;
//! 6. one submission, which also sleeps when there was nothing to do for a while.
//!
//! A reactor that runs dry looks around for [`Limits::spin`](super::Limits::spin) before it sleeps: a sleep and a
//! wake-up cost as much as a few requests.
//!
//! A sleep may have no end, so whatever a reactor is to hear of must wake it: completions do, a message does by the
//! [`mesh`](super::mesh)'s bell, and a new stage, a question or what was archived by the board's, which is listened for
//! in every stage but the last.
//! The board itself is read in two places only: where a turn follows it, and last thing before a sleep. What was
//! not yet followed is seen by the second; what comes later rings.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::Duration;

use io_uring::opcode;
use io_uring::types::Fd;
use nix::sys::socket::{SockaddrStorage, getpeername};
use nix::time::{ClockId, clock_gettime};
use slab::Slab;
use tokio::sync::oneshot;

use crate::entropy::SystemEntropy;
use crate::shard::interface::{ActDone, DiskOp, Input, Now, Outputs, ShardId};
use crate::shard::message::Message;
use crate::wire::header::NodeIdentity;

use super::accept::{Acceptor, Arrival, Balance};
use super::archiver::Tray;
use super::buffers::ReceiveBuffers;
use super::connection::Connection;
use super::counters::Counters;
use super::datagrams;
use super::desk::{ConnectionRow, Question, Queues, ReactorNumbers, thread_cpu_us};
use super::disk::{Disk, ShardFiles};
use super::mesh::Post;
use super::ring::{Completion, Kind, Ring, RingError, Tag};
use super::service::Service;
use super::sockets::Sockets;
use super::stage::{Stage, StageBoard};
use super::table::Name;
use super::tcp::Tcp;
use super::udp::Udp;
use super::{Core, Limits};

const STREAM_BUFFER_BYTES: usize = 16 * 1024;
const STREAM_GROUP: u16 = 1;
const DATAGRAM_GROUP: u16 = 2;
/// Completions taken in one turn. What they ask for is answered before the next are looked at, so that the client works on
/// those answers while the node works on the rest: with 64 datagrams in flight a fifth more come through than with all at
/// once, and the first need not wait for the last.
const COMPLETIONS_PER_TURN: usize = 32;
/// How long a reactor rests at most while messages wait for room in another's ring.
const ROOM_LOOK_US: u64 = 50;
/// How long leaving waits for the kernel to return the last operations, in turns of a millisecond.
const LEAVE_TURNS_MAX: u32 = 3000;

/// What a reactor starts with.
pub struct Setup<C> {
    /// Which shard it drives.
    pub shard: ShardId,
    /// The shard.
    pub core: C,
    /// Its sockets.
    pub sockets: Sockets,
    /// Its files; without them it has no disk, and no disk operation may come.
    pub files: Option<ShardFiles>,
    /// Its way to the archiver; without it no segment may come to be archived.
    pub archive: Option<Tray>,
    /// Its end of the mesh.
    pub post: Post<Parcel>,
    /// How many connections each reactor has.
    pub balance: Arc<Balance>,
    /// Whom requests are for.
    pub node: NodeIdentity,
    /// Its bounds.
    pub limits: Limits,
    /// What tells it how far the node is.
    pub board: Arc<StageBoard>,
    /// Where it reports to.
    pub reports: Sender<Report>,
    /// What other threads ask it.
    pub questions: Receiver<Question>,
}

/// What reactors send each other.
pub enum Parcel {
    /// From shard to shard.
    Message(Message),
    /// A connection that the receiver shall have.
    Connection(Arrival),
}

/// What a reactor says to whoever started it.
#[derive(Debug)]
pub enum Report {
    /// It serves.
    Serves(ShardId),
    /// It cannot have a ring.
    NoRing(ShardId, RingError),
    /// In [`Stage::Drain`]: all is answered.
    Drained(ShardId),
    /// In [`Stage::Finish`]: the shard stopped.
    Finished(ShardId),
    /// In [`Stage::Leave`]: nothing is in flight in the kernel.
    Left {
        /// Whose reactor.
        shard: ShardId,
        /// What it counted.
        counters: Box<Counters>,
        /// Whether its disk failed while it ran.
        disk_failed: bool,
    },
}

/// A thread's loop around one shard.
pub struct Reactor<C> {
    // Dropped first, before the memory that the kernel knows from it.
    ring: Ring,
    shard: ShardId,
    service: Service<C>,
    disk: Option<Disk>,
    archive: Option<Tray>,
    post: Post<Parcel>,
    acceptor: Acceptor,
    stream_buffers: ReceiveBuffers,
    datagram_buffers: ReceiveBuffers,
    completions: Vec<Completion>,
    spin_us: u64,
    board: Arc<StageBoard>,
    /// How far it has followed the board.
    stage: Stage,
    /// Whether this stage's end was reported.
    reported: bool,
    watches_stage: bool,
    /// Where the eventfd of the stage is read to.
    stage_read: Box<u64>,
    reports: Sender<Report>,
    questions: Receiver<Question>,
    /// Who waits for acts of the shard, by their tokens.
    acts: Slab<oneshot::Sender<ActDone>>,
    /// Whether the time of the last turn was counted.
    turn_counted: bool,
}

impl<C: Core> Reactor<C> {
    /// Runs a reactor on the calling thread until the node is over.
    pub fn run(setup: Setup<C>) {
        let (shard, reports) = (setup.shard, setup.reports.clone());
        match Self::new(setup) {
            Ok(mut reactor) => {
                if !reactor.serve() {
                    // The kernel may still write to what it was given: better lost than used again.
                    log::error!(shard = shard.0; "the kernel did not return all operations");
                    std::mem::forget(reactor);
                }
            }
            // Nobody listens only when the start was given up, and then it does not matter.
            Err(error) => reports.send(Report::NoRing(shard, error)).unwrap_or_default(),
        }
    }

    fn new(setup: Setup<C>) -> Result<Self, RingError> {
        let Setup { shard, core, sockets, files, archive, post, balance, node, limits, board, reports, questions } =
            setup;
        let ring = Ring::new()?;
        post.bell().set_ring(ring.descriptor());
        let service = Service {
            core,
            entropy: Box::new(SystemEntropy::new()),
            now: now(),
            out: Outputs::default(),
            node,
            tcp: Tcp::new(shard, Arc::clone(&balance), STREAM_GROUP, &limits),
            udp: Udp::new(sockets.datagrams, &limits),
            counters: Counters::default(),
        };
        Ok(Self {
            shard,
            service,
            disk: files.map(Disk::new),
            archive,
            post,
            acceptor: Acceptor::new(shard, sockets.listener, balance),
            stream_buffers: ReceiveBuffers::new(&ring, STREAM_GROUP, limits.stream_buffers, STREAM_BUFFER_BYTES)?,
            datagram_buffers: ReceiveBuffers::new(
                &ring,
                DATAGRAM_GROUP,
                limits.datagram_buffers,
                datagrams::BUFFER_BYTES,
            )?,
            completions: Vec::new(),
            spin_us: limits.spin.as_micros() as u64,
            board,
            stage: Stage::Serve,
            reported: false,
            watches_stage: false,
            stage_read: Box::new(0),
            reports,
            questions,
            acts: Slab::new(),
            turn_counted: true,
            ring,
        })
    }

    /// Runs until the node is over. Returns whether the kernel has returned all operations.
    fn serve(&mut self) -> bool {
        self.report(Report::Serves(self.shard));
        let mut active_us = self.service.now.monotonic_us;
        loop {
            if self.turn() {
                active_us = self.service.now.monotonic_us;
            }
            // Not the board's stage: a turn that followed it to the last listens for its bell no more, and must not
            // rest.
            if self.stage >= Stage::Leave {
                break;
            }
            self.rest(active_us);
        }
        let left = self.leave();
        while self.board.stage() < Stage::Over {
            thread::park();
        }
        left
    }

    fn report(&self, report: Report) {
        // Nobody listens only when the node was given up.
        self.reports.send(report).unwrap_or_default();
    }

    /// One turn, but for its submission. Returns whether anything happened.
    fn turn(&mut self) -> bool {
        let now = now();
        self.count_turn(now.monotonic_us);
        self.turn_counted = false;
        self.service.now = now;
        self.service.counters.turns += 1;
        let mut active = self.take_completions();
        active |= self.take_messages();
        active |= self.take_archived();
        self.follow_stage();
        self.service.resume();
        // Nothing starts after this, as what starts may wait for the turn's end; it would come with the next turn.
        self.service.step(Input::Turn);
        active |= !self.service.out.messages.is_empty() || !self.service.out.disk.is_empty();
        self.queue();
        self.report_end_of_stage();
        active
    }

    /// Counts how long the last turn took, once: at the next, or where a rest looks at the clock first.
    fn count_turn(&mut self, now_us: u64) {
        if !std::mem::replace(&mut self.turn_counted, true) {
            let took_us = now_us - self.service.now.monotonic_us;
            self.service.counters.turn_us.add(took_us);
            self.service.core.turn_took(took_us);
        }
    }

    fn take_completions(&mut self) -> bool {
        if self.ring.has_overflowed() {
            self.service.counters.completions_overflowed += 1;
        }
        if self.ring.must_be_entered() {
            self.submit(None);
        }
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.drain_some(COMPLETIONS_PER_TURN, &mut completions);
        let any = !completions.is_empty();
        for completion in completions.drain(..) {
            self.completed(completion);
        }
        self.completions = completions;
        any
    }

    fn completed(&mut self, completion: Completion) {
        let service = &mut self.service;
        match completion.tag.kind {
            Kind::Receive => {
                let bytes = service.tcp.received(completion, &mut service.counters);
                if let Some(id) = completion.buffer() {
                    if bytes > 0 {
                        service.stream(completion.tag.name, self.stream_buffers.bytes(id, bytes));
                    }
                    self.stream_buffers.give_back(id);
                }
            }
            Kind::Send => service.tcp.sent(completion, &mut service.counters),
            Kind::ReceiveDatagram => {
                let received = service.udp.received(completion);
                if let Some(id) = completion.buffer() {
                    if received {
                        service.datagram(self.datagram_buffers.bytes(id, completion.result as usize));
                    }
                    self.datagram_buffers.give_back(id);
                }
            }
            Kind::SendDatagram => service.udp.send_failed(completion, &mut service.counters),
            Kind::Accept => {
                let now_us = service.now.monotonic_us;
                match self.acceptor.arrived(completion, now_us, &mut service.counters) {
                    Some((to, arrival)) if to == self.shard => {
                        service.tcp.adopt(arrival, now_us, &mut service.counters)
                    }
                    Some((to, arrival)) => {
                        service.counters.connections_passed_on += 1;
                        self.post.send(to, Parcel::Connection(arrival));
                    }
                    None => {}
                }
            }
            Kind::Disk => {
                let disk = self.disk.as_mut().expect("only a disk has disk operations");
                disk.completed(completion, service.now.monotonic_us, &mut self.ring, &mut service.counters);
                while let Some(done) = disk.take_done() {
                    service.step(Input::Disk(done));
                }
            }
            Kind::Stage => {
                self.watches_stage = false;
                self.answer_questions();
            }
            Kind::Wake => self.ring.woken(completion),
            // It found its operation ended.
            Kind::Cancel => {}
        }
    }

    fn take_messages(&mut self) -> bool {
        let mut inbox = 0;
        let mut any = false;
        while let Some((from, parcel)) = self.post.take(&mut inbox) {
            any = true;
            match parcel {
                Parcel::Message(message) => {
                    self.service.counters.messages_received += 1;
                    self.service.step(Input::Message { from, message });
                }
                Parcel::Connection(arrival) => {
                    let now_us = self.service.now.monotonic_us;
                    self.service.tcp.adopt(arrival, now_us, &mut self.service.counters);
                }
            }
        }
        any
    }

    fn answer_questions(&mut self) {
        while let Ok(question) = self.questions.try_recv() {
            match question {
                Question::Numbers(answer) => {
                    // Who asked may have lost patience.
                    let _ = answer.send(Box::new(self.numbers()));
                }
                Question::Act(act, answer) => {
                    let token = self.acts.insert(answer) as u64;
                    self.service.step(Input::Act { token, act });
                }
                Question::Limits(limits) => self.service.tcp.adopt_limits(&limits),
                Question::Connections(answer) => _ = answer.send(self.connections()),
                Question::Disconnect { slot, generation, answer } => {
                    let was_there = self.service.tcp.disconnect(Name { slot, generation });
                    let _ = answer.send(was_there);
                }
                Question::Backup(question, answer) => {
                    let _ = answer.send(self.service.core.back_up(question));
                }
            }
        }
    }

    fn connections(&self) -> Vec<ConnectionRow> {
        let now_us = self.service.now.monotonic_us;
        let row = |(name, connection): (Name, &Connection)| {
            // A client that is gone has no port any more.
            let address =
                getpeername::<SockaddrStorage>(connection.socket.as_raw_fd()).map(|address| address.to_string());
            ConnectionRow {
                name: format!("{}.{}.{}", self.shard.0, name.slot, name.generation),
                peer: address.unwrap_or_else(|_| connection.peer.to_string()),
                shard: self.shard.0,
                age_seconds: now_us.saturating_sub(connection.since_us) / 1_000_000,
                requests: connection.requests,
                in_flight: connection.in_flight(),
                unsent_bytes: connection.unsent() as u64,
            }
        };
        self.service.tcp.connections().map(row).collect()
    }

    fn numbers(&self) -> ReactorNumbers {
        let service = &self.service;
        let (messages_in, messages_out) = self.post.depths();
        let (inbound_bytes, unsent_bytes) = service.tcp.waiting_bytes();
        ReactorNumbers {
            shard: self.shard,
            now: service.now,
            cpu_us: thread_cpu_us(),
            counters: service.counters,
            queues: Queues {
                messages_in: messages_in as u64,
                messages_out: messages_out as u64,
                datagrams: service.udp.in_flight() as u64,
                inbound_bytes: inbound_bytes as u64,
                unsent_bytes: unsent_bytes as u64,
                disk_operations: self.disk.as_ref().map_or(0, Disk::running) as u64,
            },
            core: service.core.numbers(service.now),
        }
    }

    fn take_archived(&mut self) -> bool {
        let mut any = false;
        while let Some(done) = self.archive.as_mut().and_then(Tray::take_done) {
            any = true;
            self.service.step(Input::Disk(done));
        }
        any
    }

    /// Does what a new stage asks for, once.
    fn follow_stage(&mut self) {
        let stage = self.board.stage();
        if stage > self.stage {
            if self.stage == Stage::Serve {
                self.acceptor.stop(&mut self.ring);
                self.service.tcp.stop();
                self.service.udp.stop(&mut self.ring);
            }
            if stage == Stage::Finish {
                self.service.step(Input::Shutdown);
            }
            self.stage = stage;
            self.reported = false;
        }
    }

    /// Reports the end of a stage when it is reached, once.
    fn report_end_of_stage(&mut self) {
        if self.reported {
            return;
        }
        let stage = self.stage;
        let service = &self.service;
        if stage == Stage::Drain && service.core.is_idle() && service.tcp.is_drained() && service.udp.is_drained() {
            self.report(Report::Drained(self.shard));
            self.reported = true;
        } else if stage == Stage::Finish && service.core.stopped() {
            self.report(Report::Finished(self.shard));
            self.reported = true;
        }
    }

    /// Queues what the turn asks of the kernel, and sends its messages.
    fn queue(&mut self) {
        let Self { ring, service, .. } = self;
        let now_us = service.now.monotonic_us;
        let mut ops = std::mem::take(&mut service.out.disk);
        for op in ops.drain(..) {
            match op {
                DiskOp::Archive(full) => {
                    let tray = self.archive.as_mut().expect("a shard without an archive archives nothing");
                    tray.start(full, self.shard, &self.board);
                }
                op => start(self.disk.as_mut(), op, now_us, ring),
            }
        }
        service.out.disk = ops;
        service.counters.messages_sent += service.out.messages.len() as u64;
        for ended in service.out.acts.drain(..) {
            // Who asked may have lost patience.
            let _ = self.acts.remove(ended.token as usize).send(ended);
        }
        for (to, message) in service.out.messages.drain(..) {
            self.post.send(to, Parcel::Message(message));
        }
        self.post.flush(|sleeper| {
            service.counters.wakeups_sent += 1;
            ring.wake(sleeper);
        });
        self.acceptor.arm(ring, now_us);
        service.tcp.settle(ring, now_us, &mut service.counters);
        // Only now, as what came in this turn has moved deadlines.
        service.tcp.sweep(now_us, &mut service.counters);
        service.udp.receive(ring, self.datagram_buffers.group());
        service.udp.flush(ring, &mut service.counters);
        if !self.watches_stage && self.stage < Stage::Leave {
            self.watches_stage = true;
            let bell = Fd(self.board.bell(self.shard.index()).as_raw_fd());
            let into = (&raw mut *self.stage_read).cast();
            let entry = opcode::Read::new(bell, into, size_of::<u64>() as u32).build();
            // SAFETY: the eight bytes are boxed, and dropped after the ring.
            unsafe { ring.push(entry, Tag::only(Kind::Stage)) };
        }
    }

    /// Submits what is queued; with nothing to do, looks around for a while and then sleeps until there is.
    fn rest(&mut self, active_us: u64) {
        if !self.ring.is_submitted() {
            self.submit(None);
        }
        let wake_at_us = self.service.core.wake_at_us().unwrap_or(u64::MAX);
        let mut wake_at_us = wake_at_us.min(self.service.tcp.wake_at_us()).min(self.acceptor.wake_at_us());
        if self.post.has_waiting() {
            self.service.counters.messages_held_up += 1;
            // Nobody says when there is room for what waits.
            wake_at_us = wake_at_us.min(now().monotonic_us + ROOM_LOOK_US);
        }
        while !self.has_work() {
            let now_us = now().monotonic_us;
            self.count_turn(now_us);
            if now_us >= wake_at_us {
                return;
            }
            if now_us - active_us < self.spin_us {
                thread::yield_now();
                continue;
            }
            self.post.bell().fall_asleep();
            if !self.has_work() {
                self.service.counters.sleeps += 1;
                let sleep =
                    if wake_at_us == u64::MAX { Duration::MAX } else { Duration::from_micros(wake_at_us - now_us) };
                self.submit(Some(sleep));
            }
            self.post.bell().awake();
            return;
        }
    }

    fn has_work(&mut self) -> bool {
        self.ring.has_completions()
            || !self.post.is_empty()
            || self.service.tcp.has_unsettled()
            || self.service.tcp.waits_for_room() && self.service.core.has_room()
            || self.board.stage() > self.stage
    }

    fn submit(&mut self, sleep: Option<Duration>) {
        self.ring.submit(sleep).unwrap_or_else(|error| panic!("the kernel refuses the ring: {error}"));
        if self.ring.is_submitted() {
            self.service.udp.recycle();
        }
    }

    /// Closes everything and waits until the kernel has returned all operations; not for ever, as a disk may hang.
    fn leave(&mut self) -> bool {
        self.service.tcp.abandon();
        self.ring.cancel(Tag::only(Kind::Stage));
        let mut left = false;
        for _ in 0..LEAVE_TURNS_MAX {
            self.turn();
            self.submit(Some(Duration::from_millis(1)));
            let disk_idle = self.disk.as_ref().is_none_or(Disk::is_idle);
            left = self.service.tcp.is_empty() && !self.service.udp.is_receiving() && disk_idle;
            if left {
                break;
            }
        }
        self.report(Report::Left {
            shard: self.shard,
            counters: Box::new(self.service.counters),
            disk_failed: self.service.core.has_failed(),
        });
        left
    }
}

fn start(disk: Option<&mut Disk>, op: DiskOp, now_us: u64, ring: &mut Ring) {
    disk.expect("a shard without files asks nothing of the disk").start(op, now_us, ring);
}

/// The time of a turn.
fn now() -> Now {
    let read = |clock| -> io::Result<Duration> { Ok(clock_gettime(clock)?.into()) };
    let expect = "the clocks are readable";
    Now {
        monotonic_us: read(ClockId::CLOCK_MONOTONIC).expect(expect).as_micros() as u64,
        unix_ms: read(ClockId::CLOCK_REALTIME).expect(expect).as_millis() as u64,
    }
}

#[cfg(test)]
mod tests;
