//! How many instructions the shard takes for each command, from the request's bytes to the answer's.
//!
//! `cargo bench --bench instructions` counts them and compares them with `benches/instructions.txt`; it fails where a
//! command takes a tenth more than there. `cargo bench --bench instructions -- --accept` writes that file anew: on
//! purpose, with the reason in the commit's message.
//!
//! The counts are exact and the same in every run: this program starts itself once more, and steps that child through
//! each request one instruction at a time (ptrace). That needs no profiler, no counter of the processor and no rights.
//! An instruction that repeats itself (`rep movsb`) counts once, as on which machine the C library uses it differs.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use raida::sim::lone::Lone;
use raida::sim::round::{Step, coins, steps};

/// Coins of a locker, a trade locker and a detect.
const COINS: u32 = 3;
/// Rounds before the first that is counted.
const WARM: usize = 300;
/// Rounds that are counted. They are all alike.
const COUNTED: usize = 1;
/// How much more than its baseline a command may take, in parts of a hundred.
const GROWTH_PERCENT_MAX: u64 = 10;
/// The child's exit code where it may not be traced.
const NOT_TRACED: i32 = 77;
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");

fn main() -> ExitCode {
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    if has("--child") {
        return child();
    }
    if !has("--bench") {
        // Run by `cargo test`, not optimised: that it can be counted is all there is to see.
        return if count().is_none_or(|counts| counts.values().all(|count| *count > 0)) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let Some(counts) = count() else { return ExitCode::SUCCESS };
    if has("--accept") {
        let lines: String = counts.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
        std::fs::write(BASELINE, lines).expect("a baseline that can be written");
    }
    compare(&counts)
}

/// Instructions by command.
type Counts = BTreeMap<String, u64>;

/// Prints counts beside the baseline; fails where one has grown too much.
fn compare(counts: &Counts) -> ExitCode {
    let text = std::fs::read_to_string(BASELINE).unwrap_or_default();
    let baseline: Counts = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, count)| (name.to_string(), count.parse().expect("a number of instructions")))
        .collect();
    println!("{:<28} {:>12} {:>12} {:>8}", "command", "instructions", "baseline", "change");
    let mut grown = Vec::new();
    for (name, &count) in counts {
        let before = baseline.get(name).copied().unwrap_or(0);
        let change = 100.0 * (count as f64 / before as f64 - 1.0);
        println!("{name:<28} {count:>12} {before:>12} {change:>+7.1}%");
        if count * 100 > before * (100 + GROWTH_PERCENT_MAX) {
            grown.push(name.as_str());
        }
    }
    if grown.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("\nMore than {GROWTH_PERCENT_MAX}% over the baseline: {}.", grown.join(", "));
    eprintln!(
        "Where that is meant: cargo bench --bench instructions -- --accept, and commit benches/instructions.txt."
    );
    ExitCode::FAILURE
}

/// A warm shard and the round it is asked.
fn warm() -> (Lone, Vec<Step>) {
    let mut shard = Lone::new(&coins(COINS), 1000);
    let round = steps(COINS, &mut |frame| shard.ask(&[frame]).to_vec());
    (0..WARM).for_each(|_| ask_all(&mut shard, &round, || {}));
    (shard, round)
}

/// Asks the requests of a round, each between two calls of `mark`.
fn ask_all(shard: &mut Lone, round: &[Step], mut mark: impl FnMut()) {
    for step in round {
        mark();
        let status = shard.ask(&[&step.frame])[2];
        mark();
        assert_eq!(status, step.status.code(), "{}", step.kind.command().name);
    }
}

/// What is counted: stops at each mark, the first two with nothing in between.
fn child() -> ExitCode {
    let (mut shard, round) = warm();
    if ptrace::traceme().is_err() {
        return ExitCode::from(NOT_TRACED as u8);
    }
    let mark = || raise(Signal::SIGUSR1).expect("a signal to itself");
    mark();
    mark();
    (0..COUNTED).for_each(|_| ask_all(&mut shard, &round, mark));
    ExitCode::SUCCESS
}

/// Counts the instructions of each command; `None`, said loudly, where this machine does not let us.
fn count() -> Option<Counts> {
    let this = std::env::current_exe().expect("a program");
    let mut child = Command::new(this).arg("--child").spawn().expect("a process");
    let pid = Pid::from_raw(child.id() as i32);
    let (_, round) = warm();
    let nothing = match next_section(pid) {
        Ok(count) => count,
        Err(why) => {
            let _ = child.wait(); // it may be known to have ended
            println!("INSTRUCTIONS ARE NOT COUNTED: {why}");
            return None;
        }
    };
    let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for _ in 0..COUNTED {
        for step in &round {
            let (sum, sections) = sums.entry(step.kind.command().name).or_default();
            *sum += next_section(pid).expect("a section for each request") - nothing;
            *sections += 1;
        }
    }
    assert!(child.wait().is_ok_and(|status| status.success()), "the child ends in order");
    Some(sums.into_iter().map(|(name, (sum, sections))| (name.to_string(), sum / sections)).collect())
}

/// Lets the child run to its next mark, then counts its instructions to the one after.
fn next_section(pid: Pid) -> Result<u64, String> {
    let told = |error: nix::Error| format!("this system does not let a program trace its child: {error}");
    loop {
        match waitpid(pid, None).map_err(told)? {
            WaitStatus::Stopped(_, Signal::SIGUSR1) => break,
            WaitStatus::Stopped(_, _) => ptrace::cont(pid, None).map_err(told)?,
            WaitStatus::Exited(_, NOT_TRACED) => return Err(told(nix::Error::EPERM)),
            status => return Err(format!("the child ended: {status:?}")),
        }
    }
    let (mut count, mut before) = (0, 0);
    loop {
        ptrace::step(pid, None).map_err(told)?;
        match waitpid(pid, None).map_err(told)? {
            WaitStatus::Stopped(_, Signal::SIGUSR1) => break,
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            status => return Err(format!("the child ended: {status:?}")),
        }
        let at = place(pid).map_err(told)?;
        count += u64::from(at != before);
        before = at;
    }
    ptrace::cont(pid, None).map_err(told)?;
    Ok(count)
}

/// The address of the child's next instruction.
#[cfg(target_arch = "x86_64")]
fn place(pid: Pid) -> nix::Result<u64> {
    ptrace::getregs(pid).map(|registers| registers.rip)
}

/// The baseline is one of x86-64: others are not compared with it.
#[cfg(not(target_arch = "x86_64"))]
fn place(_: Pid) -> nix::Result<u64> {
    Err(nix::Error::ENOTSUP)
}
