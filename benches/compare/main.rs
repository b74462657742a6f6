//! A node beside the floor: every row of the table that `scripts/bench` prints.
//!
//! Each row alternates between the two in one run, so that what drifts on the machine drifts under both; what counts
//! is the median of the rounds' ratios. [`rows`] has the rows, [`processes`] the programs, [`table`] the paper.
//!
//! Started by `scripts/bench`, which builds the floor and says where it is.

mod processes;
mod rows;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use processes::{Outcome, Sample};
use rows::ROWS;

/// What all rows share.
pub struct Bench {
    /// The floor's program.
    pub floor: PathBuf,
    /// Where data directories and logs are made.
    pub place: PathBuf,
    /// How long a load is measured.
    pub seconds: f64,
    /// How often each side is.
    pub rounds: usize,
}

impl Bench {
    /// Measures two things in turns: the median of each, and of the ratios that `ratio` makes of a round's.
    pub fn in_turns(
        &self,
        mut ours: impl FnMut() -> Outcome<Sample>,
        mut theirs: impl FnMut() -> Outcome<Sample>,
        ratio: impl Fn(&Sample, &Sample) -> f64,
    ) -> Outcome<(Sample, Sample, f64)> {
        let mut rounds = Vec::with_capacity(self.rounds);
        for _ in 0..self.rounds {
            let (ours, theirs) = (ours()?, theirs()?);
            rounds.push((ratio(&ours, &theirs), ours, theirs));
        }
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, ours, theirs) = rounds[rounds.len() / 2];
        Ok((ours, theirs, ratio))
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let Some(floor) = words.iter().position(|word| word == "--floor").and_then(|at| words.get(at + 1)) else {
        println!("scripts/bench starts this, as it needs the floor; rows:");
        ROWS.iter().for_each(|row| println!("  {:<14} {}, {}", row.name, row.operation, row.wanted));
        return ExitCode::SUCCESS;
    };
    let quick = words.iter().any(|word| word == "--quick");
    let named: Vec<&str> =
        words.iter().filter(|word| !word.starts_with("--") && *word != floor).map(String::as_str).collect();
    if let Some(unknown) = named.iter().find(|name| !ROWS.iter().any(|row| row.name == **name)) {
        eprintln!("there is no row {unknown}");
        return ExitCode::from(2);
    }
    let (seconds, rounds) = if quick { (0.35, 3) } else { (1.0, 5) };
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench");
    if let Err(error) = std::fs::create_dir_all(&place) {
        eprintln!("{}: {error}", place.display());
        return ExitCode::FAILURE;
    }
    let bench = Bench { floor: floor.into(), place, seconds, rounds };
    run(&bench, &named, quick)
}

fn run(bench: &Bench, named: &[&str], quick: bool) -> ExitCode {
    let mut lines = Vec::new();
    println!("{}", table::HEAD);
    for row in ROWS.iter().filter(|row| named.is_empty() || named.contains(&row.name)) {
        let line = table::line(row, &(row.measure)(bench));
        println!("{line}");
        lines.push(line);
    }
    if named.is_empty()
        && let Err(error) = table::write(&lines, bench, quick)
    {
        eprintln!("the table cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
