//! The rows in which the disk is what counts: start, cold reads, checkpoints.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use raida::store::layout::AlignedBytes;

use super::super::Bench;
use super::super::processes::{Outcome, Sample, Server, load, prepare, start_load, wait_for_load};
use super::{Data, HALF, Measured, OTHER, by_p99, config, node, p99s};

/// Every coin in circulation, a million of them in lockers.
const ALL: Data = ("all", "--used 1 --lockers 1000000 --coins-per-locker 1");
/// How the files are read that a start is compared with: by so many threads, in pieces of so many bytes.
const READERS: usize = 4;
const READ_BYTES: usize = 1 << 20;

/// From the start of the process to its line that it is ready; beside reading the same files without the page cache.
pub fn start(bench: &Bench) -> Outcome<Measured> {
    const SECOND_MAX: f64 = 1.0;
    let data = prepare(&bench.place, ALL.0, ALL.1)?;
    let as_sample = |seconds: f64| Sample { p50: seconds * 1e6, ..Sample::default() };
    let (ours, theirs, ratio) = bench.in_turns(
        || Server::node(&data, &[]).map(|node| as_sample(node.start.as_secs_f64())),
        || read_all(&data).map(as_sample),
        |ours, theirs| ours.p50 / theirs.p50,
    )?;
    let time = |sample: &Sample| format!("{:.2} s", sample.p50 / 1e6);
    let holds = ratio <= 1.5 && ours.p50 <= 1e6 * SECOND_MAX;
    Ok(Measured { ours: time(&ours), theirs: time(&theirs), ratio, p50: 0.0, p99: 0.0, cpu_us: [0.0; 2], holds })
}

/// Reads the files of the coins with O_DIRECT; how long it took, seconds.
fn read_all(data: &Path) -> Outcome<f64> {
    let told = |error: std::io::Error| format!("reading {}: {error}", data.display());
    let mut pieces = Vec::new();
    for entry in fs::read_dir(data.join("coins")).map_err(told)? {
        let path = entry.map_err(told)?.path();
        let bytes = fs::metadata(&path).map_err(told)?.len();
        pieces.extend((0..bytes).step_by(READ_BYTES).map(|at| (path.clone(), at)));
    }
    let begun = Instant::now();
    let pieces = Mutex::new(pieces);
    let outcome: Result<(), std::io::Error> = thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(|| read_pieces(&pieces))).collect();
        readers.into_iter().try_for_each(|reader| reader.join().expect("a reader that does not panic"))
    });
    outcome.map_err(told)?;
    Ok(begun.elapsed().as_secs_f64())
}

fn read_pieces(pieces: &Mutex<Vec<(PathBuf, u64)>>) -> std::io::Result<()> {
    let mut bytes = AlignedBytes::zeroed(READ_BYTES);
    let mut open: Option<(PathBuf, File)> = None;
    loop {
        let Some((path, at)) = pieces.lock().expect("no reader panics").pop() else { return Ok(()) };
        let file = match open.take_if(|(opened, _)| *opened == path) {
            Some((_, file)) => file,
            None => OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path)?,
        };
        let mut done = 0;
        while done < READ_BYTES {
            match file.read_at(&mut bytes[done..], at + done as u64)? {
                0 => break,
                read => done += read,
            }
        }
        open = Some((path, file));
    }
}

/// Detects of ten pages while another load asks for a thousand: with a cache of a hundred, and with one that has them all.
pub fn cold(bench: &Bench) -> Outcome<Measured> {
    let cache = |name, pages: u32| config(&bench.place, name, &format!("[store]\ncache_pages = {pages}\n"));
    let (small, large) = (cache("small-cache.toml", 100)?, cache("large-cache.toml", 2000)?);
    let (cold, kept) = (node(bench, HALF, &["--config", &small])?, node(bench, OTHER, &["--config", &large])?);
    let warm = "--operation detect --coins 1 --pages 10 --in-flight 8";
    let beside_many = |node: &Server| {
        let other = start_load(node, "--operation detect --coins 1 --pages 1000 --rate 2000", bench.seconds * 1.5)?;
        let sample = load(node, warm, bench.seconds);
        wait_for_load(other)?;
        sample
    };
    let sides = bench.in_turns(|| beside_many(&cold), || beside_many(&kept), p99s)?;
    Ok(by_p99(sides, sides.2 <= 2.0))
}

/// Durable puts at a rate, with a log so small that it is always being emptied, and with one that never is.
pub fn checkpoint(bench: &Bench) -> Outcome<Measured> {
    let log = |name, mib: u32, segments: u32| {
        let text = format!("[store]\nlog_segment_bytes = {}\nlog_segments = {segments}\n", mib << 20);
        config(&bench.place, name, &text)
    };
    let (small, large) = (log("small-log.toml", 1, 4)?, log("large-log.toml", 64, 32)?);
    let (with, without) = (node(bench, HALF, &["--config", &small])?, node(bench, OTHER, &["--config", &large])?);
    let words = "--operation locker --coins 3 --in-flight 256 --rate 20000";
    let sides = bench.in_turns(|| load(&with, words, bench.seconds), || load(&without, words, bench.seconds), p99s)?;
    Ok(by_p99(sides, sides.2 <= 3.0))
}
