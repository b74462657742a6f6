//! Where other threads ask reactors: each reactor's questions lie in a channel of its own, and the stage's bell says
//! that there are some.
//!
//! A reactor looks into its channel when the bell rang and at no other time, so questions cost nothing while nobody asks.
//! It answers between two inputs of its shard, with a copy. In its last stage it listens no more: who asks waits
//! with a deadline.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::shard::acts::Act;
use crate::shard::backup::{BackupAnswer, BackupQuestion, BackupRefusal};
use crate::shard::interface::{ActDone, Now, ShardId};
use crate::shard::numbers::Numbers;

use super::Limits;
use super::counters::Counters;
use super::stage::StageBoard;

/// What a reactor is asked from outside.
pub enum Question {
    /// Its numbers, and its shard's.
    Numbers(oneshot::Sender<Box<ReactorNumbers>>),
    /// What a backup asks of its shard.
    Backup(BackupQuestion, oneshot::Sender<Result<BackupAnswer, BackupRefusal>>),
    /// That its shard does something; how it ended is answered then.
    Act(Act, oneshot::Sender<ActDone>),
    /// That these bounds count for its connections from now on.
    Limits(Box<Limits>),
    /// Its connections.
    Connections(oneshot::Sender<Vec<ConnectionRow>>),
    /// That it closes a connection; whether that was there is answered.
    Disconnect {
        /// The connection's place.
        slot: u32,
        /// Which of those that had the place.
        generation: u32,
        /// The answer.
        answer: oneshot::Sender<bool>,
    },
}

/// A client's connection, as the operator sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConnectionRow {
    /// What names it while it lasts: shard, place, generation.
    pub name: String,
    /// The client's address and port.
    pub peer: String,
    /// The shard that serves it.
    pub shard: u8,
    /// How long it has been there, seconds.
    pub age_seconds: u64,
    /// Requests it has started.
    pub requests: u64,
    /// Requests not answered yet.
    pub in_flight: u16,
    /// Bytes of answers that the client has not taken.
    pub unsent_bytes: u64,
}

/// A reactor's numbers at one moment.
#[derive(Clone)]
pub struct ReactorNumbers {
    /// Whose.
    pub shard: ShardId,
    /// When.
    pub now: Now,
    /// Processor time of its thread, microseconds.
    pub cpu_us: u64,
    /// What it counted.
    pub counters: Counters,
    /// How much waits in it now.
    pub queues: Queues,
    /// Its shard's.
    pub core: Numbers,
}

/// How much waits in a reactor, or is under way.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Queues {
    /// Messages of other shards that it has not taken yet.
    pub messages_in: u64,
    /// Messages to other shards that found no room in their rings.
    pub messages_out: u64,
    /// Datagrams that are not answered yet.
    pub datagrams: u64,
    /// Bytes of requests kept of all connections.
    pub inbound_bytes: u64,
    /// Bytes of answers that wait for their clients.
    pub unsent_bytes: u64,
    /// Operations that the disk has.
    pub disk_operations: u64,
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoAnswer {
    /// The reactor does not turn, or not fast enough.
    Late,
    /// The reactor has left, or panicked.
    Gone,
}

/// Asks every reactor of a node.
#[derive(Clone)]
pub struct Desk {
    board: Arc<StageBoard>,
    reactors: Vec<Sender<Question>>,
}

impl Desk {
    /// The desk of so many reactors, and where each finds its questions.
    pub fn new(board: Arc<StageBoard>, reactors: usize) -> (Self, Vec<Receiver<Question>>) {
        let (senders, receivers) = (0..reactors).map(|_| mpsc::channel()).unzip();
        (Self { board, reactors: senders }, receivers)
    }

    /// How many reactors there are.
    pub fn reactors(&self) -> usize {
        self.reactors.len()
    }

    /// Asks a reactor for its numbers. Where it is gone or hangs, no answer comes.
    pub fn ask_numbers(&self, reactor: usize) -> oneshot::Receiver<Box<ReactorNumbers>> {
        let (sender, answer) = oneshot::channel();
        self.ask(reactor, Question::Numbers(sender));
        answer
    }

    /// Asks every reactor for its numbers and waits, for at most `patience`: for a thread that may wait. By shard.
    pub fn numbers(&self, patience: Duration) -> Vec<Result<Box<ReactorNumbers>, NoAnswer>> {
        let asked: Vec<_> = (0..self.reactors()).map(|reactor| self.ask_numbers(reactor)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("to wait takes nothing of the system").block_on(async {
            let until = Instant::now() + patience;
            let mut answers = Vec::with_capacity(asked.len());
            for answer in asked {
                let answer = timeout_at(until, answer).await.map_err(|_late| NoAnswer::Late);
                answers.push(answer.and_then(|answer| answer.map_err(|_dropped| NoAnswer::Gone)));
            }
            answers
        })
    }

    /// Asks a reactor's shard for a backup. Where it is gone or hangs, no answer comes.
    pub fn ask_backup(
        &self,
        reactor: usize,
        question: BackupQuestion,
    ) -> oneshot::Receiver<Result<BackupAnswer, BackupRefusal>> {
        let (sender, answer) = oneshot::channel();
        self.ask(reactor, Question::Backup(question, sender));
        answer
    }

    /// Asks a reactor. Where it is gone or hangs, no answer comes.
    pub fn ask(&self, reactor: usize, question: Question) {
        // Of a reactor that is gone the question comes back, and with it the end of the answer.
        if self.reactors[reactor].send(question).is_ok() {
            self.board.ring(reactor);
        }
    }
}

/// Processor time of the calling thread, microseconds.
pub(super) fn thread_cpu_us() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the clocks are readable");
    std::time::Duration::from(time).as_micros() as u64
}
