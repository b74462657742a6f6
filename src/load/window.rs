//! The requests in flight: which slots may ask, when, and what their answers say.
//!
//! A slot is a place for one request in flight. Its number, and how often it lost one, are the request's echo: an answer
//! that comes after its request was given up is nobody's.
//!
//! In [`Stage::Run`] every slot asks again as soon as it was answered, or at its time where there is a rate; a latency is
//! then counted from when the request should have started, so that a node that stalls is not spared the requests that it
//! kept from starting. In [`Stage::Settle`] slots only finish their cycles.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::frame::{Reply, set_echo};
use super::operation::Operation;
use super::report::Meter;

/// How often requests are looked for that got no answer.
const SWEEP_EVERY_NS: u64 = 50_000_000;
/// How long a load sleeps at most.
const SLEEP_MAX: Duration = Duration::from_millis(10);

/// What slots do that are free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// They go on to where a cycle starts, and rest there.
    Settle,
    /// They ask on.
    Run,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    /// From when its latency counts, and when it was sent.
    start_ns: u64,
    sent_ns: u64,
    /// How many requests it lost.
    generation: u16,
    busy: bool,
}

/// Requests that start at a rate.
#[derive(Clone, Copy)]
struct Pace {
    interval_ns: f64,
    next_ns: f64,
}

/// The slots of a load.
pub struct Window {
    operation: Box<dyn Operation>,
    slots: Vec<Slot>,
    /// Bits of an echo that are a slot's number.
    slot_bits: u32,
    /// Slots that are free and have not rested.
    free: VecDeque<u32>,
    in_flight: usize,
    stage: Stage,
    interval_ns: Option<f64>,
    pace: Option<Pace>,
    patience_ns: u64,
    sweep_at_ns: u64,
    start: Instant,
    now_ns: u64,
    frame: Vec<u8>,
    /// What is counted, while it is.
    meter: Option<Meter>,
}

impl Window {
    /// So many slots, which settle at first. `rate`: requests a second. A request without an answer for `patience` is lost.
    pub fn new(operation: Box<dyn Operation>, slots: usize, rate: Option<f64>, patience: Duration) -> Self {
        assert!(slots > 0 && slots <= usize::from(u16::MAX));
        Self {
            operation,
            slots: vec![Slot::default(); slots],
            slot_bits: slots.next_power_of_two().trailing_zeros(),
            free: (0..slots as u32).collect(),
            in_flight: 0,
            stage: Stage::Settle,
            interval_ns: rate.map(|rate| 1e9 / rate),
            pace: None,
            patience_ns: patience.as_nanos() as u64,
            sweep_at_ns: 0,
            start: Instant::now(),
            now_ns: 0,
            frame: Vec::new(),
            meter: None,
        }
    }

    /// Goes on to a stage.
    pub fn set_stage(&mut self, stage: Stage) {
        self.stage = stage;
        self.look_at_clock();
        self.pace = self.interval_ns.map(|interval_ns| Pace { interval_ns, next_ns: self.now_ns as f64 });
        self.free.clear();
        self.free.extend((0..self.slots.len() as u32).filter(|&slot| !self.slots[slot as usize].busy));
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Whether all slots rest.
    pub fn is_settled(&self) -> bool {
        self.in_flight == 0 && self.free.is_empty()
    }

    /// Counts from now on.
    pub fn begin_to_count(&mut self) {
        self.meter = Some(Meter::default());
    }

    /// Counts no longer; what was counted.
    ///
    /// # Panics
    /// When nothing was.
    pub fn stop_counting(&mut self) -> Meter {
        self.meter.take().expect("it counts")
    }

    /// Reads the clock; what happens until it is read again happens now.
    pub fn look_at_clock(&mut self) {
        self.now_ns = self.start.elapsed().as_nanos() as u64;
    }

    /// How long there is nothing to send.
    pub fn sleep_max(&self) -> Duration {
        match self.pace {
            Some(pace) if self.stage == Stage::Run && !self.free.is_empty() => {
                SLEEP_MAX.min(Duration::from_nanos((pace.next_ns as u64).saturating_sub(self.now_ns)))
            }
            _ => SLEEP_MAX,
        }
    }

    /// The next request to send now, with its slot.
    pub fn ask(&mut self) -> Option<(usize, &[u8])> {
        let slot = loop {
            let slot = *self.free.front()? as usize;
            if self.stage == Stage::Run || !self.operation.is_at_rest(slot) {
                break slot;
            }
            self.free.pop_front();
        };
        let mut start_ns = self.now_ns;
        if self.stage == Stage::Run
            && let Some(pace) = &mut self.pace
        {
            if pace.next_ns > self.now_ns as f64 {
                return None;
            }
            start_ns = pace.next_ns as u64;
            pace.next_ns += pace.interval_ns;
        }
        self.free.pop_front();
        self.frame.clear();
        self.operation.next(slot, &mut self.frame);
        let echo = self.echo(slot);
        set_echo(&mut self.frame, echo);
        let place = &mut self.slots[slot];
        (place.start_ns, place.sent_ns, place.busy) = (start_ns, self.now_ns, true);
        self.in_flight += 1;
        if let Some(meter) = &mut self.meter {
            meter.asked(self.frame.len());
        }
        Some((slot, &self.frame))
    }

    fn echo(&self, slot: usize) -> u16 {
        (u32::from(self.slots[slot].generation) << self.slot_bits) as u16 | slot as u16
    }

    /// Takes an answer. Returns its slot, `None` where nobody waits for it.
    pub fn answered(&mut self, reply: &Reply<'_>) -> Option<usize> {
        let slot = usize::from(reply.echo) & ((1 << self.slot_bits) - 1);
        let place = self.slots.get(slot)?;
        if !place.busy || self.echo(slot) != reply.echo {
            return None;
        }
        if let Some(meter) = &mut self.meter {
            meter.answered(self.now_ns.saturating_sub(place.start_ns), reply.status, reply.bytes);
        }
        self.operation.answered(slot, Some(reply.status), reply.payload);
        self.set_free(slot);
        Some(slot)
    }

    fn set_free(&mut self, slot: usize) {
        self.slots[slot].busy = false;
        self.in_flight -= 1;
        self.free.push_back(slot as u32);
    }

    /// Gives requests up that got no answer, when it is time to look. Returns how many.
    pub fn sweep(&mut self) -> usize {
        if self.now_ns < self.sweep_at_ns {
            return 0;
        }
        self.sweep_at_ns = self.now_ns + SWEEP_EVERY_NS;
        let mut lost = 0;
        for slot in 0..self.slots.len() {
            let place = &mut self.slots[slot];
            if place.busy && self.now_ns.saturating_sub(place.sent_ns) > self.patience_ns {
                place.generation = place.generation.wrapping_add(1);
                self.operation.answered(slot, None, &[]);
                self.set_free(slot);
                lost += 1;
                if let Some(meter) = &mut self.meter {
                    meter.lost();
                }
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::operation::Outcome;
    use std::sync::mpsc::{Sender, channel};

    /// Cycles of three requests, told apart by their bytes; tells what came of them.
    struct Threes(Vec<u8>, Sender<(usize, Outcome)>);

    impl Operation for Threes {
        fn next(&mut self, slot: usize, frame: &mut Vec<u8>) {
            frame.extend([self.0[slot]; 32]);
        }

        fn answered(&mut self, slot: usize, outcome: Outcome, _payload: &[u8]) {
            self.0[slot] = (self.0[slot] + 1) % 3;
            self.1.send((slot, outcome)).unwrap();
        }

        fn is_at_rest(&self, slot: usize) -> bool {
            self.0[slot] == 0
        }
    }

    fn reply(frame: &[u8]) -> Reply<'static> {
        Reply { echo: u16::from_be_bytes([frame[30], frame[31]]), status: 250, payload: &[], bytes: 32 }
    }

    fn window(rate: Option<f64>, patience: Duration) -> (Window, std::sync::mpsc::Receiver<(usize, Outcome)>) {
        let (sender, receiver) = channel();
        (Window::new(Box::new(Threes(vec![0, 1, 2], sender)), 3, rate, patience), receiver)
    }

    #[test]
    fn slots_settle_then_run_then_settle() {
        let (mut window, _outcomes) = window(None, Duration::MAX);
        let mut asked = 0;
        while let Some((_, frame)) = window.ask() {
            let reply = reply(frame);
            window.answered(&reply).unwrap();
            asked += 1;
        }
        assert!(window.is_settled());
        assert_eq!(asked, 3, "two from the first step, one from the second");
        window.set_stage(Stage::Run);
        let frames: Vec<_> = (0..3).map(|_| window.ask().unwrap().1.to_vec()).collect();
        assert_eq!(window.ask(), None);
        window.answered(&reply(&frames[1])).unwrap();
        assert_eq!(window.answered(&reply(&frames[1])), None, "an answer counts once");
        assert_eq!(window.ask().map(|(slot, _)| slot), Some(1));
        window.set_stage(Stage::Settle);
        assert!(window.ask().is_none() && !window.is_settled());
    }

    #[test]
    fn a_late_answer_is_nobodys() {
        let (mut window, outcomes) = window(None, Duration::ZERO);
        window.set_stage(Stage::Run);
        window.begin_to_count();
        let late = reply(window.ask().unwrap().1);
        window.look_at_clock();
        assert_eq!(window.sweep(), 1);
        assert_eq!(outcomes.recv().unwrap(), (0, None));
        assert_eq!(window.answered(&late), None);
        let slots: Vec<_> = (0..3).map(|_| window.ask().unwrap().0).collect();
        assert_eq!(slots, [1, 2, 0]);
        assert_eq!(window.answered(&late), None, "its slot has another request in flight");
        assert_eq!(window.stop_counting().answers(), 0);
    }

    #[test]
    fn at_a_rate_a_request_starts_at_its_time() {
        // So seldom that the second is not due before the test ends.
        let (mut window, _outcomes) = window(Some(1e-6), Duration::MAX);
        window.set_stage(Stage::Run);
        assert!(window.ask().is_some());
        assert!(window.ask().is_none() && window.sleep_max() == SLEEP_MAX);
    }
}
