//! What `raida audit` and `raida report` share: a directory's journal, times as they are typed, three kinds of output.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use raida::calendar::{self, now_ms};
use raida::store::archive::answers::{self, Answered};
use raida::store::archive::{Journal, Missing, Window};
use raida::store::error::StoreError;
use raida::store::storage::{Directory, Storage};
use raida::store::wal::CommitRecord;
use raida::store::{archive, files};

use super::complain;
use super::exit::{ExitStatus, Failure};
use super::offline::{refuse_no_directory, store_failure};

/// Which data directory and time, and how it is told.
#[derive(Debug, Args)]
pub struct JournalArguments {
    /// The data directory; a node may be serving it
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// From this time on, UTC: 2026-11-22, 2026-11-22T07:30, 2026-11-22T07:30:15Z; or how long ago: 90m, 36h, 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<u64>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<u64>,
    /// As JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// As CSV, its first line names the columns
    #[arg(long)]
    csv: bool,
}

/// How something is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For spreadsheets.
    Csv,
}

impl JournalArguments {
    /// The time that is asked for.
    ///
    /// # Errors
    /// Where it ends before it begins.
    pub fn window(&self) -> Result<Window, Failure> {
        let window = Window { since_ms: self.since.unwrap_or(0), until_ms: self.until.unwrap_or(u64::MAX) };
        if window.since_ms < window.until_ms {
            return Ok(window);
        }
        Err(Failure::new(ExitStatus::Usage, "--until is not after --since: no time is between them"))
    }

    /// How it is told.
    pub fn form(&self) -> Form {
        match (self.json, self.csv) {
            (true, _) => Form::Json,
            (_, true) => Form::Csv,
            _ => Form::Table,
        }
    }
}

/// A time as it is typed, in milliseconds since 1970-01-01 UTC.
fn time(text: &str) -> Result<u64, String> {
    let ago = |minutes: u64| {
        let now = now_ms();
        text[..text.len() - 1].parse().ok().map(|count: u32| now.saturating_sub(u64::from(count) * minutes * 60_000))
    };
    let time = match text.bytes().last() {
        Some(b'm') => ago(1),
        Some(b'h') => ago(60),
        Some(b'd') => ago(24 * 60),
        _ => calendar::parse(text),
    };
    time.ok_or_else(|| {
        "a time is such as 2026-11-22, 2026-11-22T07:30, 2026-11-22T07:30:15Z, 90m, 36h or 7d".to_owned()
    })
}

/// Why the reading of a journal ends early.
pub enum Ended {
    /// It cannot be read, or not be told.
    Failed(Failure),
    /// Whoever reads the output has seen enough.
    NobodyReads,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Failed(store_failure(error))
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Failed(Failure::new(ExitStatus::Machine, format_args!("cannot write the output: {error}"))),
        }
    }
}

/// What a directory tells of what happened. Says on standard error what is missing.
pub struct Past {
    directory: Directory,
    beside_a_node: bool,
    damaged: usize,
}

impl Past {
    /// Of a data directory, whether a node serves it or not. The lock says which, and is given back at once: a node that
    /// starts meanwhile finds nobody in its way.
    ///
    /// # Errors
    /// Where it is none, or cannot be read.
    pub fn open(data: &Path) -> Result<Self, Failure> {
        refuse_no_directory(data)?;
        let beside_a_node = match Directory::open_to_read(data) {
            Ok(_lock) => false,
            Err(StoreError::Locked { .. }) => true,
            Err(error) => return Err(store_failure(error)),
        };
        let directory = Directory::open_beside(data).map_err(store_failure)?;
        let is_one = directory.length(files::NODE).map_err(store_failure)?.is_some();
        if is_one || archive::is_there(&directory).map_err(store_failure)? {
            return Ok(Self { directory, beside_a_node, damaged: 0 });
        }
        let line = format!("{} has neither `node` nor `archive`: no data directory of this program", data.display());
        Err(Failure::new(ExitStatus::Data, line))
    }

    /// Gives every commit to `visit`, with the shard that made it.
    ///
    /// # Errors
    /// Where the directory cannot be read, and what `visit` fails with.
    pub fn commits(
        &mut self,
        reads: Window,
        visit: &mut dyn FnMut(u8, &CommitRecord<'_>) -> Result<(), Ended>,
    ) -> Result<(), Ended> {
        let journal = Journal::new(&self.directory, self.beside_a_node, Some(reads))?;
        journal.read(visit, &mut |missing| {
            self.damaged += usize::from(matches!(missing, Missing::Damaged { .. }));
            complain(missing_line(&missing));
            Ok(())
        })
    }

    /// Gives to `take` how often commands were answered in each hour that begins in the window.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn answers(&mut self, window: Window, take: &mut dyn FnMut(&Answered, u64)) -> Result<(), Ended> {
        answers::read(&self.directory, window, take, &mut |error| {
            self.damaged += 1;
            complain(format_args!("{error}: its answers are not told"));
        })?;
        Ok(())
    }

    /// Whether all that was asked for was told.
    ///
    /// # Errors
    /// Where files of the archive are damaged.
    pub fn whole(&self) -> Result<(), Ended> {
        match self.damaged {
            0 => Ok(()),
            files => {
                let line = format!("{files} files of the archive are damaged, not everything was told");
                Err(Ended::Failed(Failure::new(ExitStatus::Data, line)))
            }
        }
    }
}

fn missing_line(missing: &Missing) -> String {
    match missing {
        Missing::Batches { shard, after: 0 } => {
            format!("log {shard}: nothing is kept from before its first commit here")
        }
        Missing::Batches { shard, after } => {
            format!(
                "log {shard}: commits after sequence {after} are missing, they were not archived or their file is gone"
            )
        }
        Missing::Damaged { path, after } => {
            format!("{path} is damaged: its commits after sequence {after} are not told")
        }
    }
}

/// Standard output, written to in large pieces.
pub fn output() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(64 << 10, io::stdout().lock())
}

/// What a subcommand ends with: whoever has seen enough is no failure.
pub fn end(result: Result<(), Ended>, mut out: impl Write) -> Result<(), Failure> {
    let flushed = out.flush().map_err(Ended::from);
    match (flushed, result) {
        (_, Err(Ended::Failed(failure))) | (Err(Ended::Failed(failure)), _) => Err(failure),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_they_are_typed() {
        assert_eq!(time("1970-01-02"), Ok(86_400_000));
        let now = now_ms();
        for (text, ms) in [("0m", 0), ("90m", 5_400_000), ("2h", 7_200_000), ("7d", 604_800_000)] {
            let ago = now - time(text).unwrap();
            assert!(ago <= ms && ms - ago < 60_000, "{text}: {ago}");
        }
        for wrong in ["", "m", "-1d", "yesterday", "2026-13-01", "1.5h", "7w"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
