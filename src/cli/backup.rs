//! `raida backup`: one file with everything that a node has.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::NamedTempFile;

use raida::admin::backup::{FetchError, RATE_DEFAULT, RATES, fetch};
use raida::calendar::now_ms;
use raida::store::backup::End;
use raida::store::backup::reader::check;
use raida::store::backup::snapshot::back_up_at_rest;
use raida::store::error::StoreError;
use raida::store::files::UNFINISHED;
use raida::store::recovery::open_as_it_is;
use raida::store::storage::Directory;

use super::exit::{ExitStatus, Failure};
use super::offline::{data_failure, progress_bar, refuse_no_directory, store_failure};
use super::serve::say;

/// Write everything that a node has into one file, to be restored with `raida restore`
///
/// Of a node that serves, over its Unix socket (admin.socket in raida.toml): it goes on serving. A command is in the
/// backup as a whole or not at all, and each that was answered before it began is in it. Of a data directory that no node
/// serves; one whose node was killed is recovered first, as the next start would do.
///
/// The file is compressed, ends with a checksum, and is read back before it gets its name: a file of that name is whole.
/// It has every secret: who reads it owns every coin.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("of").args(["socket", "data"]).required(true)),
    after_help = "Exit status: 0 done; 1 the node says no; 3 no node answers, or it gave the backup up.

Examples:
  raida backup --socket /run/raida/3/admin.sock --to /backup/raida-3.backup
  raida backup --socket /run/raida/3/admin.sock --rate 16 --to /backup/raida-3.backup
  raida backup --data /var/lib/raida/data --to /backup/raida-3.backup"
)]
pub struct Arguments {
    /// The Unix socket of the node that serves
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The data directory, which no node serves
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The file to make; not there yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// MiB of pages that the node reads in a second at most, so that serving does not suffer
    #[arg(long, value_name = "MIB", default_value_t = RATE_DEFAULT, conflicts_with = "data")]
    #[arg(value_parser = clap::value_parser!(u64).range(*RATES.start()..=*RATES.end()))]
    rate: u64,
}

/// Backs up.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { socket, data, to, rate } = arguments;
    match (data, socket) {
        (Some(data), _) => back_up_directory(data, to),
        (None, Some(socket)) => back_up_node(socket, to, *rate),
        (None, None) => unreachable!("one of them is required"),
    }
}

/// Of a data directory, with a progress bar where standard error is a terminal.
fn back_up_directory(data: &Path, to: &Path) -> Result<(), Failure> {
    refuse_no_directory(data)?;
    let directory = Directory::open(data).map_err(store_failure)?;
    let file = NewFile::create(to)?;
    let opened = open_as_it_is(&directory).map_err(|error| data_failure(error, data))?;
    let now = now_ms();
    let (bar, mut progress) = progress_bar();
    let written = back_up_at_rest(&directory, &opened, BufWriter::new(file.file.as_file()), now, &mut progress);
    bar.finish_and_clear();
    let (end, _) = written.map_err(|error| data_failure(error, data))?;
    let length = file.finish(ExitStatus::Machine)?;
    say(&summary(&end, length))
}

/// Of a node that serves.
fn back_up_node(socket: &Path, to: &Path, rate: u64) -> Result<(), Failure> {
    let file = NewFile::create(to)?;
    let bar = ProgressBar::new_spinner().with_style(bytes_style());
    let fetched = fetch(socket, rate, &mut file.file.as_file(), &mut |bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    fetched.map_err(|error| {
        let status = match &error {
            FetchError::Connection(_) | FetchError::NoAnswer => ExitStatus::NoAnswer,
            FetchError::Refused(_) => ExitStatus::Refused,
            FetchError::Output(_) => ExitStatus::Machine,
        };
        Failure::new(status, format!("{}: {error}", socket.display()))
    })?;
    let length = file.finish(ExitStatus::NoAnswer)?;
    say(&format!("bytes            {length}"))
}

fn bytes_style() -> ProgressStyle {
    ProgressStyle::with_template("{bytes}, {elapsed}").expect("a template that is right")
}

/// What is in a backup, a line each.
fn summary(end: &End, length: u64) -> String {
    let End { sequence, pages, orders, records } = end;
    format!(
        "sequence         {sequence}\npages            {pages}\npayout addresses {orders}\nlog records      \
         {records}\nbytes            {length}"
    )
}

/// A file that has its name only when it is complete; what is left of one that is not is removed. Until then its name is
/// one that nobody can guess and that no other run uses: whoever may write in the directory cannot have put a file or a
/// link there to receive every secret.
struct NewFile {
    to: PathBuf,
    file: NamedTempFile,
}

impl NewFile {
    /// Makes the file under another name.
    fn create(to: &Path) -> Result<Self, Failure> {
        let failure = |error: io::Error| Failure::new(ExitStatus::Machine, format!("cannot write {to:?}: {error}"));
        if to.try_exists().map_err(failure)? {
            return Err(Failure::new(ExitStatus::Usage, format!("{} is there already", to.display())));
        }
        let mut prefix = to.file_name().map_or_else(OsString::new, OsString::from);
        prefix.push(".");
        // For its owner alone, and never over a file that is there.
        let file = tempfile::Builder::new().prefix(&prefix).suffix(UNFINISHED).tempfile_in(parent(to));
        Ok(Self { to: to.to_path_buf(), file: file.map_err(failure)? })
    }

    /// Reads the backup back, makes it durable and gives it its name; returns its length. One that is not whole ends with
    /// `status`.
    fn finish(mut self, status: ExitStatus) -> Result<u64, Failure> {
        let name = self.to.to_string_lossy().into_owned();
        let length = check(self.file.as_file_mut()).map_err(|error| match error {
            StoreError::DamagedBackup { why } => Failure::new(status, format!("there is no backup: {why}")),
            error => store_failure(error),
        })?;
        self.put_in_place().map_err(|error| store_failure(StoreError::io("create", &name)(error)))?;
        Ok(length)
    }

    fn put_in_place(self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist_noclobber(&self.to).map_err(|refused| refused.error)?;
        File::open(parent(&self.to))?.sync_all()
    }
}

/// The directory of a file.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_without_its_checksum_gets_no_name_and_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let to = place.path().join("file");
        let mut file = NewFile::create(&to).unwrap();
        file.file.write_all(b"RBK1").unwrap();
        let mode = file.file.as_file().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let failure = file.finish(ExitStatus::NoAnswer).unwrap_err();
        assert!(failure.status == ExitStatus::NoAnswer && failure.line.contains("too short"), "{failure:?}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        fs::write(&to, "mine").unwrap();
        assert_eq!(NewFile::create(&to).err().map(|failure| failure.status), Some(ExitStatus::Usage));
    }

    #[test]
    fn what_somebody_put_there_is_neither_written_nor_removed() {
        let place = tempfile::tempdir().unwrap();
        let (to, victim) = (place.path().join("file"), place.path().join("victim"));
        let planted = place.path().join("file.new");
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, &planted).unwrap();
        let (mut first, second) = (NewFile::create(&to).unwrap(), NewFile::create(&to).unwrap());
        first.file.write_all(b"secret").unwrap();
        drop(second);
        assert_eq!(fs::read(first.file.path()).unwrap(), b"secret", "a second run leaves the first one's alone");
        // Whoever is second finds the name taken, and replaces nothing.
        fs::write(&to, "the other's").unwrap();
        assert_eq!(first.put_in_place().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((fs::read(&victim).unwrap(), fs::read(&to).unwrap()), (b"mine".to_vec(), b"the other's".to_vec()));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3);
    }
}
