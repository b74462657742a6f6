//! Keeps how requests are answered ([`archive::answers`](crate::store::archive::answers)), in a thread of its own: a disk
//! that hangs must hold up neither a reactor nor the watchdog.
//!
//! Reactors count since their start; what came since the last look belongs to the hour of this one. Where the disk takes
//! nothing the counts stay here, until it does or the day is over.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::calendar::{DAY_MS, HOUR_MS, now_ms};
use crate::reactor::archiver::join_or_leave;
use crate::reactor::desk::Desk;
use crate::shard::counters::Counters;
use crate::store::archive::answers::{Answers, UNKNOWN};
use crate::store::storage::{Directory, Storage};
use crate::wire::request::COMMANDS;
use crate::wire::status::Status;

/// How often the file is brought up to date.
const EVERY: Duration = Duration::from_secs(60);
/// How long a reactor may take to tell its numbers.
const PATIENCE: Duration = Duration::from_secs(2);

/// The thread. Dropping it ends it without a last look.
pub(super) struct AnswerKeeper {
    last_look: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl AnswerKeeper {
    /// Starts the thread, over a directory that has an archive.
    ///
    /// # Errors
    /// When the system has no thread.
    pub(super) fn start(desk: Desk, directory: Arc<Directory>) -> io::Result<Self> {
        let (last_look, asked) = mpsc::channel();
        let thread = thread::Builder::new().name("answers".to_string()).spawn(move || {
            let mut tally = Tally::default();
            loop {
                let over = match asked.recv_timeout(EVERY) {
                    Err(RecvTimeoutError::Timeout) => false,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Ok(()) => true,
                };
                let numbers: Vec<_> = desk.numbers(PATIENCE).into_iter().flatten().collect();
                let totals = numbers.iter().flat_map(|numbers| totals(numbers.shard.0, &numbers.core.counters));
                tally.look(&*directory, now_ms(), totals);
                if over {
                    return;
                }
            }
        })?;
        Ok(Self { last_look, thread: Some(thread) })
    }

    /// Looks a last time, while the reactors can still be asked.
    pub(super) fn finish(mut self) {
        // This and the end both fail only where the thread is no more.
        self.last_look.send(()).unwrap_or_default();
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            join_or_leave(thread);
        }
    }
}

impl Drop for AnswerKeeper {
    fn drop(&mut self) {
        // Without a sender the thread ends.
        self.last_look = mpsc::channel().0;
        self.join();
    }
}

/// What a count is of: shard, command and status.
type Key = (u8, &'static str, Status);

/// What a shard has answered since its start.
fn totals(shard: u8, counters: &Counters) -> impl Iterator<Item = (Key, u64)> {
    Status::ALL.iter().flat_map(move |&status| {
        let commands = COMMANDS.iter().map(move |command| (command.name, counters.answers(command, status)));
        let all = commands.chain([(UNKNOWN, counters.unplanned(status))]);
        all.map(move |(name, total)| ((shard, name, status), total))
    })
}

/// What was seen of the counters.
#[derive(Default)]
struct Tally {
    /// The totals of the last look.
    seen: HashMap<Key, u64>,
    /// The day of `answers`, days since 1970.
    day: u64,
    answers: Answers,
    /// Whether the last try to write failed, so that it is said once.
    failing: bool,
}

impl Tally {
    /// Adds what came since the last look, and brings the file up to date.
    fn look(&mut self, storage: &dyn Storage, now_ms: u64, totals: impl IntoIterator<Item = (Key, u64)>) {
        let day = now_ms / DAY_MS;
        if day != self.day {
            (self.day, self.answers) = (day, begin(storage, day));
        }
        let mut any = self.failing;
        for (key, total) in totals {
            let seen = self.seen.entry(key).or_default();
            let more = total - std::mem::replace(seen, total);
            if more > 0 {
                let (_, command, status) = key;
                self.answers.add(now_ms / HOUR_MS, command, status.code(), more);
                any = true;
            }
        }
        if any {
            let saved = self.answers.save(storage, day);
            let was_failing = std::mem::replace(&mut self.failing, saved.is_err());
            if let Err(error) = saved
                && !was_failing
            {
                log::warn!("answers are counted, but not kept for now: {error}");
            }
        }
    }
}

/// What is kept of a day so far.
fn begin(storage: &dyn Storage, day: u64) -> Answers {
    Answers::load(storage, day).unwrap_or_else(|error| {
        log::warn!("the answers of this day are counted anew: {error}");
        Answers::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse;
    use crate::store::archive;
    use crate::store::storage::Memory;

    const STORE: Key = (0, "store", Status::AllPass);
    const STORE_ELSEWHERE: Key = (1, "store", Status::AllPass);
    const PEEK: Key = (0, "peek", Status::AllFail);

    fn at(time: &str) -> u64 {
        parse(time).unwrap()
    }

    /// What is kept of a day, as (hour of the day, command, count).
    fn kept(memory: &Memory, day: &str) -> Vec<(u64, String, u64)> {
        let answers = Answers::load(memory, at(day) / DAY_MS).unwrap().0.into_iter();
        answers.map(|(of, count)| (of.hour % 24, of.command, count)).collect()
    }

    #[test]
    fn what_came_since_the_last_look_belongs_to_the_hour_of_this_one() {
        let memory = Memory::new();
        archive::make(&memory).unwrap();
        let mut tally = Tally::default();
        tally.look(&memory, at("2026-11-22T07:59"), [(STORE, 3), (STORE_ELSEWHERE, 1), (PEEK, 0)]);
        tally.look(&memory, at("2026-11-22T08:00"), [(STORE, 5), (PEEK, 1)]);
        let of_first_day = [(7, "store".to_owned(), 4), (8, "peek".to_owned(), 1), (8, "store".to_owned(), 2)];
        assert_eq!(kept(&memory, "2026-11-22"), of_first_day);

        tally.look(&memory, at("2026-11-23T00:00"), [(STORE, 6), (PEEK, 1)]);
        assert_eq!(kept(&memory, "2026-11-22"), of_first_day);
        assert_eq!(kept(&memory, "2026-11-23"), [(0, "store".to_owned(), 1)]);

        // Another process counts from the beginning, and what is kept stays.
        Tally::default().look(&memory, at("2026-11-23T00:30"), [(STORE, 2)]);
        assert_eq!(kept(&memory, "2026-11-23"), [(0, "store".to_owned(), 3)]);
    }

    #[test]
    fn what_the_disk_does_not_take_is_kept_when_it_does() {
        let memory = Memory::new();
        archive::make(&memory).unwrap();
        let mut tally = Tally::default();
        memory.crash_after(0);
        tally.look(&memory, at("2026-11-22T07:00"), [(STORE, 3)]);
        memory.crash(1);
        assert_eq!(kept(&memory, "2026-11-22"), []);
        tally.look(&memory, at("2026-11-22T08:00"), [(STORE, 3)]);
        assert_eq!(kept(&memory, "2026-11-22"), [(7, "store".to_owned(), 3)]);
    }
}
