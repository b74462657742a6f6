//! What a shard counts as coordinator of requests: plain numbers of its own thread, read by [`numbers`](super::numbers).

use crate::coin::TradeCoin;
use crate::histogram::Histogram;
use crate::wire::request::{COMMANDS, Command};
use crate::wire::status::Status;

/// How often each status was answered, by its code.
type ByStatus = [u64; 256];

/// What was sold for one coin type.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Trades {
    /// Trade lockers bought.
    pub count: u64,
    /// What their coins were worth together, in units of 10^-8.
    pub value: u128,
    /// What they cost together, in the coin type's units.
    pub price: u128,
}

/// What a shard has answered since its start.
#[derive(Clone)]
pub struct Counters {
    answers: Box<[ByStatus; COMMANDS.len()]>,
    unplanned: Box<ByStatus>,
    latency_us: Box<[Histogram; COMMANDS.len()]>,
    /// Answers in the turn that brought the request, until it is known how long the turn took.
    same_turn: [u32; COMMANDS.len()],
    /// Whether there are such.
    any_same_turn: bool,
    /// Requests whose outcome nobody knows, as the disk failed; they were not answered.
    pub unanswered: u64,
    /// Datagrams with a bad header that may be another node's answers; they were not answered.
    pub ignored: u64,
    /// What was bought, by coin type.
    pub trades: [Trades; TradeCoin::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            answers: Box::new([[0; 256]; COMMANDS.len()]),
            unplanned: Box::new([0; 256]),
            latency_us: Box::new([Histogram::default(); COMMANDS.len()]),
            same_turn: [0; COMMANDS.len()],
            any_same_turn: false,
            unanswered: 0,
            ignored: 0,
            trades: Default::default(),
        }
    }
}

impl Counters {
    /// A command was answered, so many microseconds after it came by the clock that stands still within a turn.
    pub(super) fn answered(&mut self, command: &Command, status: Status, micros: u64) {
        let index = command.index();
        self.answers[index][status.code() as usize] += 1;
        if micros == 0 {
            self.same_turn[index] += 1;
            self.any_same_turn = true;
        } else {
            self.latency_us[index].add(micros);
        }
    }

    /// A request was answered before it became a task: its header or frame was wrong, or there was no room.
    pub(super) fn answered_unplanned(&mut self, status: Status) {
        self.unplanned[status.code() as usize] += 1;
    }

    /// A turn took so long: as long as that at most did what came and was answered within it.
    pub(super) fn turn_took(&mut self, micros: u64) {
        if std::mem::take(&mut self.any_same_turn) {
            for (histogram, count) in self.latency_us.iter_mut().zip(&mut self.same_turn).filter(|pair| *pair.1 > 0) {
                histogram.add_many(micros, u64::from(std::mem::take(count)));
            }
        }
    }

    /// A trade locker was bought.
    pub(super) fn bought(&mut self, coin: TradeCoin, value: u128, price: u32) {
        let trades = &mut self.trades[coin as usize];
        trades.count += 1;
        trades.value += value;
        trades.price += u128::from(price);
    }

    /// How often a command was answered with a status.
    pub fn answers(&self, command: &Command, status: Status) -> u64 {
        self.answers[command.index()][status.code() as usize]
    }

    /// How often a request that was no command's yet was answered with a status.
    pub fn unplanned(&self, status: Status) -> u64 {
        self.unplanned[status.code() as usize]
    }

    /// How long a command took from the turn that brought it to the turn that answered it, microseconds; what was
    /// answered in the turn that brought it counts with the length of that turn.
    pub fn latency_us(&self, command: &Command) -> &Histogram {
        &self.latency_us[command.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request::CommandKind;

    #[test]
    fn what_is_answered_within_a_turn_took_as_long_as_the_turn() {
        let mut counters = Counters::default();
        let (echo, pown) = (CommandKind::Echo.command(), CommandKind::Pown.command());
        counters.answered(echo, Status::Success, 0);
        counters.answered(echo, Status::Success, 0);
        counters.answered(pown, Status::AllPass, 900);
        assert_eq!((counters.latency_us(echo).count(), counters.latency_us(pown).sum), (0, 900));
        counters.turn_took(70);
        counters.turn_took(5000);
        assert_eq!((counters.latency_us(echo).count(), counters.latency_us(echo).sum), (2, 140));
        assert_eq!((counters.latency_us(pown).count(), counters.answers(echo, Status::Success)), (1, 2));
    }
}
