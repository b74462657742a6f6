//! A bare log: records of so many bytes, joined while four writes are in flight, durable in order.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use raida::reactor::blocks::Blocks;
use raida::reactor::ring::{Completion, Ring};

/// As a node's log by default: four segments of 16 MiB.
const FILE_BYTES: u64 = 64 << 20;
/// The longest write.
const WRITE_BYTES_MAX: usize = 256 << 10;

/// A log whose records are known by what waits for them.
pub struct Log<T = ()> {
    blocks: Blocks,
    record: Vec<u8>,
    /// The next write, as far as it is filled, and how many records are in it.
    open: Vec<u8>,
    /// What waits, in order: for the write of that number, or the open one.
    waiting: VecDeque<(u64, T)>,
    begun: u64,
}

impl<T> Log<T> {
    /// Makes the file.
    pub fn create(path: &Path, record_bytes: u16) -> io::Result<Self> {
        Ok(Self {
            blocks: Blocks::create(path, FILE_BYTES, WRITE_BYTES_MAX)?,
            record: vec![0x5A; usize::from(record_bytes)],
            open: Vec::with_capacity(WRITE_BYTES_MAX),
            waiting: VecDeque::new(),
            begun: 0,
        })
    }

    /// Adds a record, for which `who` waits. Starts a write where the open one is full; waits for the disk where too
    /// many are in flight already, which takes more requests in flight than are ever measured.
    pub fn append(&mut self, who: T, ring: &mut Ring) {
        if self.open.len() + self.record.len() > WRITE_BYTES_MAX {
            assert!(self.blocks.has_room(), "no more records wait than fit the writes in flight");
            self.write(ring);
        }
        self.open.extend_from_slice(&self.record);
        self.waiting.push_back((self.begun, who));
    }

    /// Ends a turn: writes what is there, unless enough writes are in flight.
    pub fn flush(&mut self, ring: &mut Ring) {
        if !self.open.is_empty() && self.blocks.has_room() {
            self.write(ring);
        }
    }

    fn write(&mut self, ring: &mut Ring) {
        let number = self.blocks.write(&self.open, ring);
        assert_eq!(number, self.begun);
        self.begun += 1;
        self.open.clear();
    }

    /// A write completed.
    pub fn completed(&mut self, completion: Completion, ring: &mut Ring) -> io::Result<()> {
        self.blocks.completed(completion, ring)
    }

    /// The next of those whose records are durable, with all before them.
    pub fn take_durable(&mut self) -> Option<T> {
        self.waiting.pop_front_if(|(number, _)| *number < self.blocks.durable()).map(|(_, who)| who)
    }
}

/// How a log did.
pub struct Measured {
    seconds: f64,
    latencies_ns: Histogram<u64>,
}

impl Measured {
    fn rate(&self) -> f64 {
        self.latencies_ns.len() as f64 / self.seconds
    }

    fn us(&self, share: f64) -> f64 {
        self.latencies_ns.value_at_quantile(share) as f64 / 1000.0
    }

    /// One object.
    pub fn json(&self) -> String {
        let latency = json!({
            "p50": self.us(0.5), "p90": self.us(0.9), "p99": self.us(0.99), "p999": self.us(0.999),
            "max": self.latencies_ns.max() as f64 / 1000.0, "mean": self.latencies_ns.mean() / 1000.0,
        });
        json!({ "appends_per_second": self.rate(), "latency_us": latency }).to_string()
    }

    /// A line.
    pub fn text(&self) -> String {
        let (p50, p99) = (self.us(0.5), self.us(0.99));
        format!("{:.0} appends/s, p50 {p50} µs, p99 {p99} µs", self.rate())
    }
}

/// Keeps so many records waiting for the disk.
pub fn measure(
    mut log: Log<Instant>,
    in_flight: usize,
    time: Duration,
) -> Result<Measured, Box<dyn std::error::Error>> {
    let mut ring = Ring::new()?;
    let mut latencies_ns = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
    let mut completions = Vec::new();
    let start = Instant::now();
    (0..in_flight).for_each(|_| log.append(start, &mut ring));
    while start.elapsed() < time {
        log.flush(&mut ring);
        ring.rest(Duration::from_micros(30), Duration::from_secs(1))?;
        ring.drain(&mut completions);
        let now = Instant::now();
        for completion in completions.drain(..) {
            log.completed(completion, &mut ring)?;
        }
        while let Some(begun) = log.take_durable() {
            latencies_ns.saturating_record((now - begun).as_nanos() as u64);
            log.append(now, &mut ring);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    // The process ends, and what the kernel still writes is written from memory that stays until then.
    std::mem::forget((ring, log));
    Ok(Measured { seconds, latencies_ns })
}
