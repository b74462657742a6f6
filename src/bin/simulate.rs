//! Lets nodes live from seeds, through crashes and failures, and says what was violated: `scripts/simulate`.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use raida::sim::life::live;
use raida::sim::report::Report;

/// Lets made-up nodes live through crashes and failures, each from a seed.
#[derive(Parser)]
#[command(after_help = "Examples:\n  scripts/simulate 0..1000\n  scripts/simulate 17 --trace")]
struct Arguments {
    /// The seeds: one number, or A..B (B not included)
    #[arg(value_parser = seeds, default_value = "0..1000")]
    seeds: Range<u64>,
    /// How many lives at once
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Tells everything that happens
    #[arg(long)]
    trace: bool,
    /// Goes on after a violation
    #[arg(long)]
    keep_going: bool,
    /// Looks for deliberate bugs instead, and fails if one is not found
    #[cfg(feature = "mutants")]
    #[arg(long)]
    mutants: bool,
    /// Lives with one of the deliberate bugs, by its name
    #[cfg(feature = "mutants")]
    #[arg(long)]
    mutant: Option<String>,
}

fn seeds(text: &str) -> Result<Range<u64>, std::num::ParseIntError> {
    match text.split_once("..") {
        Some((from, to)) => Ok(from.parse()?..to.parse()?),
        None => text.parse().map(|seed| seed..seed + 1),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(arguments.trace);
    std::panic::set_hook(Box::new(|_| {})); // a broken invariant is told as the violation of its seed
    #[cfg(feature = "mutants")]
    if arguments.mutants {
        return if mutants::find_all(arguments.jobs) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let started = Instant::now();
    let (report, violations) = live_all(&arguments);
    let seconds = started.elapsed().as_secs_f64();
    println!("{report}");
    println!("{:.1} s, {:.0} recoveries a second", seconds, report.recoveries() as f64 / seconds);
    println!("{} violations", violations.len());
    for (seed, violation) in &violations {
        println!("seed {seed}: {violation}\n  again: scripts/simulate {seed} --trace");
    }
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Lives all seeds, until one is violated or all are through.
fn live_all(arguments: &Arguments) -> (Report, Vec<(u64, String)>) {
    let next = AtomicU64::new(arguments.seeds.start);
    let done = Mutex::new((Report::default(), Vec::new()));
    let work = || {
        #[cfg(feature = "mutants")]
        mutants::choose(arguments.mutant.as_deref());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= arguments.seeds.end {
                return;
            }
            let outcome = survive(seed);
            let mut done = done.lock().expect("no panic under this lock");
            match outcome {
                Ok(report) => done.0.add(&report),
                Err(violation) => {
                    done.1.push((seed, violation));
                    if !arguments.keep_going {
                        next.store(arguments.seeds.end, Ordering::Relaxed);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(work);
        }
    });
    done.into_inner().expect("no panic under this lock")
}

/// Lives a seed; a panic is a violation too.
fn survive(seed: u64) -> Result<Report, String> {
    catch_unwind(AssertUnwindSafe(|| live(seed))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// The trace goes to standard output, without times: the same seed tells the same.
fn start_log(trace: bool) {
    let level = if trace { log::LevelFilter::Debug } else { log::LevelFilter::Off };
    env_logger::Builder::new()
        .filter_level(level)
        .format_timestamp(None)
        .format_target(false)
        .target(env_logger::Target::Stdout)
        .init();
}

/// Deliberate bugs, and whether they are found.
#[cfg(feature = "mutants")]
mod mutants {
    use std::sync::Mutex;

    use raida::mutant::{self, Mutant};

    /// Chooses a bug by its name, on this thread.
    pub fn choose(name: Option<&str>) {
        let Some(name) = name else { return };
        let chosen = Mutant::ALL.iter().find(|(mutant, ..)| format!("{mutant:?}") == name);
        mutant::choose(Some(chosen.expect("a deliberate bug of this name").0));
    }

    /// Looks for each bug within its number of seeds; whether all were found.
    pub fn find_all(jobs: usize) -> bool {
        let left = Mutex::new(Mutant::ALL.iter());
        let missed = Mutex::new(Vec::new());
        let work = || {
            loop {
                let Some(row) = left.lock().expect("no panic under this lock").next() else { return };
                if !find(row) {
                    missed.lock().expect("no panic under this lock").push(row.0);
                }
            }
        };
        std::thread::scope(|scope| (0..jobs.max(1)).for_each(|_| _ = scope.spawn(work)));
        let missed = missed.into_inner().expect("no panic under this lock");
        println!("{} of {} deliberate bugs found", Mutant::ALL.len() - missed.len(), Mutant::ALL.len());
        if !missed.is_empty() {
            println!("missed: {missed:?}");
        }
        missed.is_empty()
    }

    fn find(&(mutant, wrong, seeds): &(Mutant, &str, u64)) -> bool {
        mutant::choose(Some(mutant));
        let found = (0..seeds).find_map(|seed| super::survive(seed).err().map(|violation| (seed, violation)));
        mutant::choose(None);
        match &found {
            Some((seed, violation)) => {
                let violation = violation.lines().next().unwrap_or_default();
                println!("{mutant:?} ({wrong}): seed {seed} of {seeds}: {violation}");
            }
            None => println!("{mutant:?} ({wrong}): NOT FOUND within {seeds} seeds"),
        }
        found.is_some()
    }
}
