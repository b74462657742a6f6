//! What came of a run: counted while it runs, told at its end.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::wire::status::Status;

/// The longest latency that is told apart, nanoseconds: a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// What is counted of the answers while a run is measured.
pub struct Meter {
    latencies_ns: Histogram<u64>,
    statuses: [u64; 256],
    lost: u64,
    answer_bytes: u64,
    request_bytes: u64,
    requests: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            latencies_ns: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("bounds in order"),
            statuses: [0; 256],
            lost: 0,
            answer_bytes: 0,
            request_bytes: 0,
            requests: 0,
        }
    }
}

impl Meter {
    /// An answer came.
    pub fn answered(&mut self, latency_ns: u64, status: u8, bytes: usize) {
        self.latencies_ns.saturating_record(latency_ns);
        self.statuses[usize::from(status)] += 1;
        self.answer_bytes += bytes as u64;
    }

    /// A request was sent.
    pub fn asked(&mut self, bytes: usize) {
        self.requests += 1;
        self.request_bytes += bytes as u64;
    }

    /// No answer came.
    pub fn lost(&mut self) {
        self.lost += 1;
    }

    /// How many answers came.
    pub fn answers(&self) -> u64 {
        self.latencies_ns.len()
    }
}

/// What was asked for, as the report repeats it.
#[derive(Clone, PartialEq, Debug)]
pub struct Asked {
    /// The operation's name.
    pub operation: &'static str,
    /// Over connections, and how many; `None`: datagrams.
    pub connections: Option<usize>,
    /// Requests in flight on a connection.
    pub pipeline: usize,
    /// Requests in flight, of all connections together.
    pub in_flight: usize,
    /// Requests a second, where they start whether or not answers came.
    pub rate: Option<f64>,
}

/// A run that is over.
pub struct Report {
    /// What was asked for.
    pub asked: Asked,
    /// How long was measured.
    pub seconds: f64,
    /// What the processor worked for the load meanwhile, seconds.
    pub cpu_seconds: f64,
    /// What was counted.
    pub meter: Meter,
}

impl Report {
    fn rate(&self) -> f64 {
        self.meter.answers() as f64 / self.seconds
    }

    fn statuses(&self) -> impl Iterator<Item = (u8, u64)> {
        (0..=u8::MAX).zip(self.meter.statuses).filter(|(_, count)| *count > 0)
    }

    /// Microseconds below which the latencies of a share of the answers are.
    fn quantile_us(&self, share: f64) -> f64 {
        round(self.meter.latencies_ns.value_at_quantile(share) as f64 / 1000.0)
    }

    fn quantiles(&self) -> [(&'static str, f64); 6] {
        let latencies = &self.meter.latencies_ns;
        [
            ("p50", self.quantile_us(0.5)),
            ("p90", self.quantile_us(0.9)),
            ("p99", self.quantile_us(0.99)),
            ("p999", self.quantile_us(0.999)),
            ("max", round(latencies.max() as f64 / 1000.0)),
            ("mean", round(latencies.mean() / 1000.0)),
        ]
    }

    /// One object, as `scripts/bench` reads it.
    pub fn json(&self) -> Value {
        let asked = &self.asked;
        let meter = &self.meter;
        let each = |bytes: u64, count: u64| round(bytes as f64 / count.max(1) as f64);
        let latency: Map<String, Value> =
            self.quantiles().into_iter().map(|(name, value)| (name.to_string(), json!(value))).collect();
        let statuses: Map<String, Value> =
            self.statuses().map(|(status, count)| (status.to_string(), json!(count))).collect();
        json!({
            "operation": asked.operation,
            "transport": if asked.connections.is_some() { "tcp" } else { "udp" },
            "in_flight": asked.in_flight,
            "connections": asked.connections.unwrap_or(0),
            "pipeline": asked.pipeline,
            "rate_asked": asked.rate,
            "seconds": self.seconds,
            "answers": meter.answers(),
            "answers_per_second": round(self.rate()),
            "lost": meter.lost,
            "latency_us": latency,
            "statuses": statuses,
            "request_bytes": each(meter.request_bytes, meter.requests),
            "answer_bytes": each(meter.answer_bytes, meter.answers()),
            "cpu_seconds": self.cpu_seconds,
        })
    }

    /// The same for people.
    pub fn text(&self) -> String {
        let asked = &self.asked;
        let how = match asked.connections {
            Some(connections) => format!("TCP, {connections} connections of {} in flight", asked.pipeline),
            None => format!("UDP, {} in flight", asked.in_flight),
        };
        let mut lines = vec![
            format!("{} over {how}, {:.1} s", asked.operation, self.seconds),
            format!(
                "answers/s   {:.0} (the load itself was busy {:.0}% of the time)",
                self.rate(),
                self.busy() * 100.0
            ),
        ];
        let latencies: Vec<String> = self.quantiles().iter().map(|(name, value)| format!("{name} {value}")).collect();
        lines.push(format!("latency µs  {}", latencies.join(", ")));
        for (status, count) in self.statuses() {
            let text = Status::from_code(status).map_or_else(|| status.to_string(), |status| status.to_string());
            lines.push(format!("{count:11} {text}"));
        }
        lines.push(format!("{:11} lost", self.meter.lost));
        lines.join("\n")
    }

    /// The share of the time for which the load itself needed a processor.
    fn busy(&self) -> f64 {
        self.cpu_seconds / self.seconds
    }
}

/// To three places.
fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told() {
        let mut meter = Meter::default();
        for latency_us in 1..=100u64 {
            meter.asked(98);
            meter.answered(latency_us * 1000, if latency_us == 1 { 242 } else { 241 }, 32);
        }
        meter.lost();
        let asked = Asked { operation: "peek", connections: Some(4), pipeline: 8, in_flight: 32, rate: None };
        let report = Report { asked, seconds: 2.0, cpu_seconds: 1.0, meter };
        let json = report.json();
        assert_eq!(json["answers_per_second"], 50.0);
        assert_eq!((&json["transport"], &json["pipeline"], &json["lost"]), (&json!("tcp"), &json!(8), &json!(1)));
        assert_eq!(json["statuses"], json!({ "241": 99, "242": 1 }));
        assert!((json["latency_us"]["p50"].as_f64().unwrap() - 50.0).abs() < 0.1);
        assert_eq!((&json["request_bytes"], &json["answer_bytes"]), (&json!(98.0), &json!(32.0)));
        let text = report.text();
        assert!(text.contains("peek over TCP, 4 connections of 8 in flight"), "{text}");
        assert!(text.contains("          1 242 ") && text.ends_with("1 lost"), "{text}");
    }
}
