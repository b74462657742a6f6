//! A whole run: the slots settle, warm up, are measured, settle again.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;

use crate::reactor::ring::RingError;
use crate::wire::header::NodeIdentity;

use super::data::BenchData;
use super::frame::Framer;
use super::operation::Operation;
use super::operation::change::Change;
use super::operation::cycle::Cycle;
use super::operation::question::Question;
use super::report::{Asked, Meter, Report};
use super::tcp::Tcp;
use super::udp::Udp;
use super::window::{Stage, Window};

/// How long a load looks around before it sleeps, as a node does.
pub const SPIN: Duration = Duration::from_micros(30);
/// How many times its patience a load waits on a connection, where nothing can be lost.
const BROKEN_AFTER: u32 = 10;
/// How many times its patience it waits for all slots to settle.
const SETTLED_AFTER: u32 = 30;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OperationName {
    /// *Echo*.
    Echo,
    /// *Peek*.
    Peek,
    /// *Detect*.
    Detect,
    /// *Get available change SNs*.
    SerialNumbers,
    /// *Store sum* and *remove* in turns.
    Locker,
    /// *Break* and *join* in turns, each with its *get available change SNs*.
    Change,
    /// The market: sell, look, buy, take home.
    Market,
}

impl OperationName {
    /// Each with its name on the command line.
    pub const ALL: [(&'static str, Self); 7] = [
        ("echo", Self::Echo),
        ("peek", Self::Peek),
        ("detect", Self::Detect),
        ("sns", Self::SerialNumbers),
        ("locker", Self::Locker),
        ("change", Self::Change),
        ("market", Self::Market),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, operation)| *operation == self).expect("all are named").0
    }
}

/// How requests travel, and how many at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Travel {
    /// As datagrams, so many in flight.
    Udp(usize),
    /// Over so many connections, so many in flight on each.
    Tcp(usize, usize),
}

impl Travel {
    /// Requests in flight, all together.
    pub const fn in_flight(self) -> usize {
        match self {
            Self::Udp(in_flight) => in_flight,
            Self::Tcp(connections, pipeline) => connections * pipeline,
        }
    }
}

/// What a run does. The command line has checked the bounds of [`data`](super::data).
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// Where the node is.
    pub to: SocketAddr,
    /// Which node it is.
    pub node: NodeIdentity,
    /// What is asked.
    pub operation: OperationName,
    /// How.
    pub travel: Travel,
    /// Requests a second that start whether or not answers came; `None`: each starts when another was answered.
    pub rate: Option<f64>,
    /// How long is measured.
    pub measured: Duration,
    /// How long is run before.
    pub warm_up: Duration,
    /// The seed of the coins.
    pub seed: u64,
    /// Lockers that are peeked.
    pub lockers: u32,
    /// Coins of a request.
    pub coins: usize,
    /// Whether the coins that go through lockers are on pages apart, and so on different shards.
    pub spread: bool,
    /// Pages that the coins of a *detect* come from.
    pub pages: u16,
    /// Sessions that ask for serial numbers.
    pub sessions: u32,
    /// A datagram without an answer for so long is lost.
    pub patience: Duration,
    /// The processor to run on.
    pub processor: Option<usize>,
}

/// Why there is no report.
#[derive(Debug)]
pub enum LoadError {
    /// The kernel lacks what a ring needs.
    Ring(RingError),
    /// The machine failed.
    Machine(io::Error),
    /// The node does not answer, or not as a node does.
    NoAnswer(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(error) => error.fmt(f),
            Self::Machine(error) => error.fmt(f),
            Self::NoAnswer(why) => write!(f, "no answer: {why}"),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<RingError> for LoadError {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        Self::Machine(error)
    }
}

/// What carries requests and answers.
pub trait Wire {
    /// Whether what it carries can be lost, and the rest goes on.
    const LOSES: bool;

    /// Hands the answers that came to the window, which has read the clock.
    ///
    /// # Errors
    /// When no answers can come any more.
    fn take(&mut self, window: &mut Window) -> Result<(), LoadError>;

    /// Takes a request for this turn.
    fn send(&mut self, slot: usize, frame: &[u8]);

    /// Ends the turn: sends, and waits for something to come, no longer than `most`.
    ///
    /// # Errors
    /// When the kernel refuses the ring.
    fn rest(&mut self, most: Duration) -> Result<(), LoadError>;
}

/// Runs a load.
///
/// # Errors
/// When the node does not answer or the machine fails. Answers that are not as they should be are in the report.
pub fn run(options: &Options) -> Result<Report, LoadError> {
    if let Some(processor) = options.processor {
        let mut processors = CpuSet::new();
        processors.set(processor).and_then(|()| sched_setaffinity(Pid::from_raw(0), &processors)).map_err(|error| {
            LoadError::Machine(io::Error::other(format!("processor {processor} cannot be used: {error}")))
        })?;
    }
    match options.travel {
        Travel::Udp(_) => run_over(Udp::connect(options.to)?, options),
        Travel::Tcp(connections, pipeline) => run_over(Tcp::connect(options.to, connections, pipeline)?, options),
    }
}

fn run_over<W: Wire>(wire: W, options: &Options) -> Result<Report, LoadError> {
    let patience = if W::LOSES { options.patience } else { options.patience * BROKEN_AFTER };
    let window = Window::new(operation(options), options.travel.in_flight(), options.rate, patience);
    let mut load = Load { wire, window, settled_after: options.patience * SETTLED_AFTER };
    load.settle()?;
    load.window.set_stage(Stage::Run);
    load.turn_for(options.warm_up)?;
    load.window.begin_to_count();
    let (start, worked) = (Instant::now(), processor_time()?);
    load.turn_for(options.measured)?;
    let (seconds, cpu_seconds) = (start.elapsed().as_secs_f64(), (processor_time()? - worked).as_secs_f64());
    let meter: Meter = load.window.stop_counting();
    load.window.set_stage(Stage::Settle);
    load.settle()?;
    if meter.answers() == 0 {
        return Err(LoadError::NoAnswer(format!("nothing came from {} in {seconds:.1} s", options.to)));
    }
    let (connections, pipeline) = match options.travel {
        Travel::Udp(_) => (None, 1),
        Travel::Tcp(connections, pipeline) => (Some(connections), pipeline),
    };
    let asked = Asked {
        operation: options.operation.name(),
        connections,
        pipeline,
        in_flight: options.travel.in_flight(),
        rate: options.rate,
    };
    Ok(Report { asked, seconds, cpu_seconds, meter })
}

fn operation(options: &Options) -> Box<dyn Operation> {
    let (framer, data) = (Framer::new(options.node), BenchData::new(options.seed));
    let (slots, coins) = (options.travel.in_flight(), options.coins);
    match options.operation {
        OperationName::Echo => Box::new(Question::echo(&framer)),
        OperationName::Peek => Box::new(Question::peek(&framer, &data, options.lockers)),
        OperationName::Detect => Box::new(Question::detect(&framer, &data, coins, options.pages)),
        OperationName::SerialNumbers => Box::new(Question::serial_numbers(&framer, options.sessions)),
        OperationName::Locker => Box::new(Cycle::locker(&framer, &data, slots, coins, options.spread)),
        OperationName::Change => Box::new(Change::new(framer, data, slots)),
        OperationName::Market => Box::new(Cycle::market(&framer, &data, slots, coins)),
    }
}

/// How long the calling thread has worked.
fn processor_time() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let time = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)
    };
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

struct Load<W> {
    wire: W,
    window: Window,
    settled_after: Duration,
}

impl<W: Wire> Load<W> {
    fn turn(&mut self) -> Result<(), LoadError> {
        self.wire.take(&mut self.window)?;
        let lost = self.window.sweep();
        if lost > 0 && !W::LOSES {
            let of = self.window.slots();
            return Err(LoadError::NoAnswer(format!("connections fell silent, {lost} of {of} requests got none")));
        }
        while let Some((slot, frame)) = self.window.ask() {
            self.wire.send(slot, frame);
        }
        self.wire.rest(self.window.sleep_max())
    }

    fn turn_for(&mut self, time: Duration) -> Result<(), LoadError> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.turn()?;
        }
        Ok(())
    }

    /// Turns until all slots rest.
    fn settle(&mut self) -> Result<(), LoadError> {
        let until = Instant::now() + self.settled_after;
        loop {
            self.turn()?;
            if self.window.is_settled() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(LoadError::NoAnswer("the cycles do not come to an end".to_string()));
            }
        }
    }
}
