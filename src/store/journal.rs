//! What the operator did, told for ever: the file `admin.journal`, a line of JSON an act: orders to a node that serves, and
//! what changes a directory that none serves, such as `mint`. So the coins that are in no log came with one of its lines.
//!
//! A line is durable before its act begins: nothing is done that is not in it, but for checkpoint and stop where it cannot
//! be written. What could not be done, though its line was written, has a second line that says why. No locker's key is in it; which locker an act was about, its
//! fingerprint tells ([`Held::fingerprint`](super::suspended::Held::fingerprint)).
//!
//! Lines are only added. A crash may leave the last one torn: what comes next begins a new one.

use serde::Serialize;

use super::error::StoreError;
use super::files;
use super::storage::{Storage, Zeros};
use super::suspended::Who;
use crate::calendar::iso;

/// A line.
#[derive(Clone, Debug, Serialize)]
pub struct Entry<'a> {
    /// When, milliseconds since 1970-01-01 UTC.
    #[serde(serialize_with = "as_iso")]
    pub time: u64,
    /// Who wanted it.
    #[serde(flatten)]
    pub by: Who,
    /// What: a word, such as `hold`.
    pub act: &'a str,
    /// To what; empty where that is the node.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub what: &'a str,
    /// Why, in the operator's words; empty where none were asked for.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: &'a str,
    /// Why it was not done after all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<&'a str>,
}

fn as_iso<S: serde::Serializer>(unix_ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&iso(*unix_ms))
}

/// Adds a line. It is durable when this returns.
///
/// # Errors
/// What the storage fails with; then nothing may be done.
pub fn append(storage: &dyn Storage, entry: &Entry<'_>) -> Result<(), StoreError> {
    let path = files::ADMIN_JOURNAL;
    let mut end = match storage.length(path)? {
        Some(length) => length,
        None => {
            storage.create(path, 0, Zeros::Hole)?;
            storage.sync_directory("")?;
            0
        }
    };
    let mut last = [b'\n'];
    if end > 0 {
        storage.read_at(path, end - 1, &mut last)?;
    }
    let mut line = serde_json::to_vec(entry).expect("texts and numbers are JSON");
    line.push(b'\n');
    if last != [b'\n'] {
        storage.write_at(path, end, b"\n")?;
        end += 1;
    }
    storage.write_durably(path, end, &line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::storage::Memory;

    fn entry<'a>(what: &'a str, failed: Option<&'a str>) -> Entry<'a> {
        let by = Who { uid: 0, pid: 7 };
        Entry { time: 1_795_309_260_007, by, act: "hold", what, reason: "case 12", failed }
    }

    fn text(memory: &Memory) -> String {
        let mut bytes = vec![0; memory.length(files::ADMIN_JOURNAL).unwrap().unwrap_or(0) as usize];
        memory.read_at(files::ADMIN_JOURNAL, 0, &mut bytes).unwrap_or_default();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn golden_lines() {
        let memory = Memory::new();
        append(&memory, &entry("locker 0a0b0c0d", None)).unwrap();
        append(&memory, &entry("", Some("the disk failed"))).unwrap();
        memory.crash(3);
        let head = r#"{"time":"2026-11-22T01:01:00.007Z","uid":0,"pid":7,"act":"hold","#;
        assert_eq!(
            text(&memory),
            format!(
                "{head}\"what\":\"locker 0a0b0c0d\",\"reason\":\"case 12\"}}\n{head}\"reason\":\"case 12\",\"failed\":\"the disk failed\"}}\n"
            )
        );
    }

    #[test]
    fn after_a_torn_line_comes_a_whole_one() {
        let memory = Memory::new();
        append(&memory, &entry("a", None)).unwrap();
        let torn = text(&memory).len() as u64;
        memory.write_durably(files::ADMIN_JOURNAL, torn, b"{\"time\":\"20").unwrap();
        append(&memory, &entry("b", None)).unwrap();
        let text = text(&memory);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[1]), (3, "{\"time\":\"20"));
        assert_eq!(lines[2], lines[0].replace("\"a\"", "\"b\""));
    }

    #[test]
    fn what_was_said_to_be_written_survives_a_crash() {
        for (after, seed) in (1..8).flat_map(|after| (0..4).map(move |seed| (after, seed))) {
            let memory = Memory::new();
            append(&memory, &entry("a", None)).unwrap();
            let before = text(&memory);
            memory.crash_after(after);
            let written = append(&memory, &entry("b", None)).is_ok();
            memory.crash(seed);
            let left = text(&memory);
            assert!(left.starts_with(&before));
            assert!(!written || left.ends_with("\"b\",\"reason\":\"case 12\"}\n"), "{after} {seed}");
        }
    }
}
