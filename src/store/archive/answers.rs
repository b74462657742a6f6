//! How requests were answered, hour by hour: what no log has, as a refused command changes nothing.
//!
//! A file a day, `archive/answers-2026-11-22.csv`, in UTC; its first line names the columns:
//!
//! | column | what |
//! |---|---|
//! | `hour` | 0 to 23 |
//! | `command` | its name, `unknown` for what was refused before it was one |
//! | `status` | the status byte of the reply |
//! | `answers` | how many there were |
//!
//! A node replaces the day's file whole, once in a while and when it stops. A crash takes the counts since the last time
//! and nothing else: no coin depends on them.

use std::collections::BTreeMap;

use super::{Retention, Window};
use crate::calendar::{DAY_MS, HOUR_MS, day_name, parse};
use crate::store::error::StoreError;
use crate::store::files;
use crate::store::storage::Storage;

const PREFIX: &str = "answers-";
const SUFFIX: &str = ".csv";
const COLUMNS: &str = "hour,command,status,answers";
/// The name of what was refused before it was known which command it was.
pub const UNKNOWN: &str = "unknown";

/// How often a command was answered with a status in an hour.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Answered {
    /// Hours since 1970-01-01 UTC.
    pub hour: u64,
    /// The command's name.
    pub command: String,
    /// The status byte.
    pub status: u8,
}

/// How often, by hour, command and status.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Answers(pub BTreeMap<Answered, u64>);

impl Answers {
    /// Counts more of the same.
    pub fn add(&mut self, hour: u64, command: &str, status: u8, count: u64) {
        let answers = self.0.entry(Answered { hour, command: command.to_owned(), status }).or_default();
        *answers = answers.saturating_add(count);
    }

    /// Those of a day, days since 1970-01-01 UTC; none where it has no file.
    ///
    /// # Errors
    /// [`StoreError::DamagedFile`], or what the storage fails with.
    pub fn load(storage: &dyn Storage, day: u64) -> Result<Self, StoreError> {
        let path = path(day);
        let Some(bytes) = storage.read_whole(&path)? else { return Ok(Self::default()) };
        Self::decode(day, &bytes).ok_or(StoreError::DamagedFile { path, why: "it has a line that it cannot have" })
    }

    /// Replaces the file of their day.
    ///
    /// # Errors
    /// What the storage fails with.
    pub fn save(&self, storage: &dyn Storage, day: u64) -> Result<(), StoreError> {
        let mut lines = format!("{COLUMNS}\n");
        for (Answered { hour, command, status }, count) in &self.0 {
            lines.push_str(&format!("{},{command},{status},{count}\n", hour % 24));
        }
        storage.replace(&path(day), lines.as_bytes())
    }

    fn decode(day: u64, bytes: &[u8]) -> Option<Self> {
        let mut answers = Self::default();
        let mut lines = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split('\n');
        (lines.next()? == COLUMNS).then_some(())?;
        for line in lines {
            let columns: Vec<&str> = line.split(',').collect();
            let &[hour, command, status, count] = &columns[..] else { return None };
            let hour = hour.parse::<u64>().ok().filter(|hour| *hour < 24)?;
            let is_name =
                command.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            (is_name && !command.is_empty()).then_some(())?;
            answers.add(day * 24 + hour, command, status.parse().ok()?, count.parse().ok()?);
        }
        Some(answers)
    }
}

/// Gives those of each hour that begins in `window` to `take`, day by day; what is wrong with a damaged file to `damaged`.
///
/// # Errors
/// What the storage fails with.
pub fn read(
    storage: &dyn Storage,
    window: Window,
    take: &mut dyn FnMut(&Answered, u64),
    damaged: &mut dyn FnMut(&StoreError),
) -> Result<(), StoreError> {
    for day in days(storage)? {
        let answers = match Answers::load(storage, day) {
            Ok(answers) => answers,
            Err(error @ StoreError::DamagedFile { .. }) => {
                damaged(&error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let asked_for = answers.0.iter().filter(|(answered, _)| window.contains(answered.hour * HOUR_MS));
        asked_for.for_each(|(answered, count)| take(answered, *count));
    }
    Ok(())
}

/// Removes those that are too old. Returns how many files.
///
/// # Errors
/// What the storage fails with.
pub fn retain(storage: &dyn Storage, retention: &Retention, now_ms: u64) -> Result<u64, StoreError> {
    let is_too_old = |day: &u64| now_ms.saturating_sub((day + 1) * DAY_MS) > retention.age_ms_max;
    let old: Vec<u64> = days(storage)?.into_iter().filter(is_too_old).collect();
    old.iter().try_for_each(|day| storage.remove(&path(*day)))?;
    if !old.is_empty() {
        storage.sync_directory(files::ARCHIVE)?;
    }
    Ok(old.len() as u64)
}

/// The days that have a file, in order.
fn days(storage: &dyn Storage) -> Result<Vec<u64>, StoreError> {
    let day = |name: &String| Some(parse(name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?)? / DAY_MS);
    // Times of day are no names of files.
    let is_name = |name: &String| day(name).is_some_and(|day| path(day).ends_with(&format!("/{name}")));
    Ok(storage.list(files::ARCHIVE)?.iter().filter(|name| is_name(name)).filter_map(day).collect())
}

fn path(day: u64) -> String {
    format!("{}/{PREFIX}{}{SUFFIX}", files::ARCHIVE, day_name(day))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::archive;
    use crate::store::storage::Memory;

    const DAY: u64 = 20_779; // 2026-11-22

    fn archive() -> Memory {
        let memory = Memory::new();
        archive::make(&memory).unwrap();
        memory
    }

    fn answers(day: u64) -> Answers {
        let mut answers = Answers::default();
        answers.add(day * 24, "store", 241, 3);
        answers.add(day * 24 + 23, "store", 41, 1);
        answers.add(day * 24 + 23, UNKNOWN, 37, u64::MAX);
        answers.add(day * 24, "store", 241, 4);
        answers
    }

    fn text(memory: &Memory, path: &str) -> String {
        let mut bytes = vec![0; memory.length(path).unwrap().unwrap() as usize];
        memory.read_at(path, 0, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn golden_file() {
        let memory = archive();
        answers(DAY).save(&memory, DAY).unwrap();
        let expected =
            "hour,command,status,answers\n0,store,241,7\n23,store,41,1\n23,unknown,37,18446744073709551615\n";
        assert_eq!(text(&memory, "archive/answers-2026-11-22.csv"), expected);
        assert_eq!(Answers::load(&memory, DAY).unwrap(), answers(DAY));
        assert_eq!(Answers::load(&memory, DAY + 1).unwrap(), Answers::default());
    }

    #[test]
    fn what_is_no_such_file_is_damaged() {
        let memory = archive();
        for wrong in [
            "",
            "hour,command,status,answers",
            "hour\n",
            "hour,command,status,answers\n0,store,241\n",
            "hour,command,status,answers\n24,store,241,7\n",
            "hour,command,status,answers\n0,store,256,7\n",
            "hour,command,status,answers\n0,Store it,250,7\n",
            "hour,command,status,answers\n0,,250,7\n",
            "hour,command,status,answers\n0,store,250,-7\n",
            "hour,command,status,answers\n0,store,250,7\n\n",
        ] {
            memory.replace(&path(DAY), wrong.as_bytes()).unwrap();
            let error = Answers::load(&memory, DAY).unwrap_err();
            assert!(matches!(error, StoreError::DamagedFile { .. }), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn hours_of_a_window_are_read_and_damage_is_told() {
        let memory = archive();
        (DAY..DAY + 3).for_each(|day| answers(day).save(&memory, day).unwrap());
        memory.replace(&path(DAY + 1), b"?").unwrap();
        memory.replace("archive/answers-2026-11-22T01:00.csv", b"no name of ours").unwrap();
        let window = Window { since_ms: DAY * DAY_MS + 1, until_ms: (DAY + 2) * DAY_MS + 1 };
        let (mut taken, mut damaged) = (Vec::new(), Vec::new());
        let mut take = |answered: &Answered, count| taken.push((answered.hour - DAY * 24, answered.status, count));
        read(&memory, window, &mut take, &mut |error| damaged.push(error.to_string())).unwrap();
        assert_eq!(taken, [(23, 41, 1), (23, 37, u64::MAX), (48, 241, 7)]);
        assert!(damaged.len() == 1 && damaged[0].contains("answers-2026-11-23.csv"), "{damaged:?}");
    }

    #[test]
    fn days_that_are_too_old_go() {
        let memory = archive();
        (DAY..DAY + 3).for_each(|day| answers(day).save(&memory, day).unwrap());
        let retention = Retention { bytes_max: 0, age_ms_max: DAY_MS };
        assert_eq!(retain(&memory, &retention, (DAY + 2) * DAY_MS).unwrap(), 0);
        assert_eq!(retain(&memory, &retention, (DAY + 2) * DAY_MS + 1).unwrap(), 1);
        assert_eq!(days(&memory).unwrap(), [DAY + 1, DAY + 2]);
    }

    #[test]
    fn a_crash_leaves_the_old_file_or_the_new_one() {
        let mut old = answers(DAY);
        old.add(DAY * 24, "peek", 250, 1);
        let mut found = [false; 2];
        for (after, seed) in (1..20).flat_map(|after| (0..8).map(move |seed| (after, seed))) {
            let memory = archive();
            old.save(&memory, DAY).unwrap();
            memory.crash_after(after);
            let saved = answers(DAY).save(&memory, DAY).is_ok();
            memory.crash(seed);
            let left = Answers::load(&memory, DAY).unwrap();
            assert!(left == answers(DAY) || left == old && !saved, "{after} {seed}");
            found[usize::from(left == old)] = true;
        }
        assert_eq!(found, [true; 2]);
    }
}
