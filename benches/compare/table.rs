//! The table, for the screen and for `benches/RESULTS.md`.

use std::fs;
use std::io;
use std::process::Command;

use super::Bench;
use super::processes::Outcome;
use super::rows::{Measured, Row};

/// The table's head.
pub const HEAD: &str = "| row | operation | transport | in flight | node | floor or other | ratio | p50 µs | p99 µs | CPU µs | other's | wanted | holds |\n\
    |---|---|---|---|---|---|---|---|---|---|---|---|---|";

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md");

/// A row as a line.
pub fn line(row: &Row, measured: &Outcome<Measured>) -> String {
    let Row { name, operation, transport, in_flight, wanted, .. } = row;
    match measured {
        Ok(Measured { ours, theirs, ratio, p50, p99, cpu_us, holds }) => {
            let time = |us: f64| if us > 0.0 { format!("{us:.0}") } else { "–".to_string() };
            let cost = |us: &f64| if *us > 0.0 { format!("{us:.2}") } else { "–".to_string() };
            let [cpu, their_cpu] = cpu_us.each_ref().map(cost);
            let (p50, p99, holds) = (time(*p50), time(*p99), if *holds { "yes" } else { "**no**" });
            format!(
                "| {name} | {operation} | {transport} | {in_flight} | {ours} | {theirs} | {ratio:.2} | {p50} | {p99} | {cpu} | {their_cpu} | {wanted} | {holds} |"
            )
        }
        Err(why) => {
            format!(
                "| {name} | {operation} | {transport} | {in_flight} | – | – | – | – | – | – | – | {wanted} | failed: {why} |"
            )
        }
    }
}

/// Writes the table, with what it was measured on.
pub fn write(lines: &[String], bench: &Bench, quick: bool) -> io::Result<()> {
    let told = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).output();
        output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let processor = fs::read_to_string("/proc/cpuinfo")?;
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let processors = std::thread::available_parallelism()?;
    let text = format!(
        "# What `scripts/bench` measured\n\n\
         {}, commit {}, Linux {}, {processors} processors of {}; node and floor on processor 0, load on processor 1, over\n\
         the loopback; each side {} times {} s in turns, medians{}.\n\
         CPU is what the server's threads worked for an answer, the kernel's part included.\n\n\
         {HEAD}\n{}\n",
        told("date", &["-u", "+%F"]),
        told("git", &["describe", "--always", "--dirty"]),
        kernel.trim(),
        model.trim_start_matches([' ', '\t', ':']),
        bench.rounds,
        bench.seconds,
        if quick { " (a quick run: not to be quoted)" } else { "" },
        lines.join("\n"),
    );
    fs::write(RESULTS, text)
}
