//! A backup of the running node, over the Unix socket alone, as it has every secret. It is made on a thread of its own and
//! goes out while it is made.
//!
//! `POST /backup?rate=N`: at most N MiB of pages are read in a second, [`RATE_DEFAULT`] unless told. What comes is the file
//! of [`store::backup`](crate::store::backup); one that was given up ends with the reason, so that nobody takes it for one.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::Identity;
use crate::node::backup::{BackupPlan, take_backup};
use crate::reactor::desk::Desk;
use crate::shard::interface::ShardId;
use crate::store::backup::{Whose, given_up};
use crate::store::storage::Directory;

/// MiB of pages read in a second, unless told.
pub const RATE_DEFAULT: u64 = 64;
/// What may be told.
pub const RATES: RangeInclusive<u64> = 1..=1_000_000;
/// Bytes sent at once, and how many of these wait for who asked.
const CHUNK_BYTES: usize = 256 << 10;
const CHUNKS_MAX: usize = 4;
/// How long who asked may take nothing, and how often it is looked whether he does: meanwhile nobody else has a backup.
const PATIENCE: Duration = Duration::from_secs(30);
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);
/// Bytes of a refusal that are read.
const REFUSAL_BYTES_MAX: u64 = 4096;

/// A node that serves.
#[derive(Clone)]
struct Serving {
    desk: Desk,
    directory: Arc<Directory>,
}

/// The node of which backups are taken, one at a time.
#[derive(Clone)]
pub(super) struct Backups {
    identity: Identity,
    node: Arc<Mutex<Option<Serving>>>,
    /// Locked while one is taken.
    taking: Arc<Mutex<()>>,
}

impl Backups {
    /// Of a node that does not serve yet.
    pub fn new(identity: Identity) -> Self {
        Self { identity, node: Arc::default(), taking: Arc::default() }
    }

    /// The node serves.
    pub fn serving(&self, desk: Desk, directory: Arc<Directory>) {
        *self.node.lock().expect("nobody panics with it") = Some(Serving { desk, directory });
    }

    /// The node stops: no backup is begun any more. One under way hears of the end from the shards.
    pub fn over(&self) {
        *self.node.lock().expect("nobody panics with it") = None;
    }

    /// Begins a backup, at so many MiB of pages a second. Should it be given up on its way, `given_up` hears why.
    ///
    /// # Errors
    /// Why there will be none, in a line.
    pub fn begin(&self, rate: u64, given_up: impl FnOnce(&str) + Send + 'static) -> Result<Chunks, String> {
        let node = self.node.lock().expect("nobody panics with it").clone();
        let Some(Serving { desk, directory }) = node else { return Err("the node does not serve".to_string()) };
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let (begun, began) = std::sync::mpsc::sync_channel(1);
        let (taking, identity) = (Arc::clone(&self.taking), self.identity);
        let work = move || {
            let taking = taking.try_lock();
            // Who asked waits for this.
            let _ = begun.send(taking.is_ok());
            if taking.is_ok()
                && let Err(why) = back_up(&desk, &directory, identity, rate, sender)
            {
                given_up(&why);
            }
        };
        thread::Builder::new().name("backup".to_string()).spawn(work).map_err(|error| error.to_string())?;
        match began.recv() {
            Ok(true) => Ok(Chunks(chunks)),
            _ => Err("a backup is being taken already".to_string()),
        }
    }
}

fn back_up(
    desk: &Desk,
    directory: &Directory,
    identity: Identity,
    rate: u64,
    sender: Sender<Bytes>,
) -> Result<(), String> {
    let Identity { raida_id, coin_id } = identity;
    let plan = BackupPlan {
        whose: Whose { raida_id, coin_id },
        unix_ms: SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64),
        shards: desk.reactors() as u8,
        bytes_per_second: rate << 20,
    };
    let mut ask = |shard: ShardId, question| desk.ask_backup(shard.index(), question).blocking_recv().ok();
    let out = ChunkWriter { sender: sender.clone(), chunk: Vec::with_capacity(CHUNK_BYTES), patience: PATIENCE };
    match take_backup(&mut ask, directory, &plan, out) {
        Ok(end) => {
            log::info!("backup: {} pages and {} log records at sequence {}", end.pages, end.records, end.sequence);
            Ok(())
        }
        Err(error) => {
            let why = error.to_string();
            log::error!("backup given up: {why}");
            // Who is gone needs no reason.
            let _ = send(&sender, given_up(&why).into(), PATIENCE);
            Err(why)
        }
    }
}

/// Sends a piece, as soon as there is room for it.
fn send(sender: &Sender<Bytes>, mut chunk: Bytes, patience: Duration) -> io::Result<()> {
    let until = Instant::now() + patience;
    loop {
        chunk = match sender.try_send(chunk) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(io::Error::other("who asked for it is gone")),
            Err(TrySendError::Full(_)) if Instant::now() >= until => {
                return Err(io::Error::other(format!("who asked for it took nothing for {} s", patience.as_secs())));
            }
            Err(TrySendError::Full(chunk)) => chunk,
        };
        thread::sleep(BETWEEN_LOOKS);
    }
}

/// Sends what is written to it, in pieces.
struct ChunkWriter {
    sender: Sender<Bytes>,
    chunk: Vec<u8>,
    patience: Duration,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        send(&self.sender, chunk.into(), self.patience)
    }
}

/// A backup on its way, as an answer's body.
pub(super) struct Chunks(Receiver<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// The rate of a request's query, `None` where it is none.
pub(super) fn rate_of(query: Option<&str>) -> Option<u64> {
    let Some(query) = query else { return Some(RATE_DEFAULT) };
    query.strip_prefix("rate=")?.parse().ok().filter(|rate| RATES.contains(rate))
}

/// Why no backup came.
#[derive(Debug)]
pub enum FetchError {
    /// Nobody listens there, or the connection broke.
    Connection(io::Error),
    /// What came is no answer.
    NoAnswer,
    /// The node says no, in a line.
    Refused(String),
    /// It cannot be written where it is to be.
    Output(io::Error),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => error.fmt(f),
            Self::NoAnswer => f.write_str("what came is no answer"),
            Self::Refused(line) => f.write_str(line),
            Self::Output(error) => write!(f, "cannot write the backup: {error}"),
        }
    }
}

impl std::error::Error for FetchError {}

/// Asks the node that listens on a socket for a backup, and writes what comes to `out`; `progress` is told the bytes.
/// Whether it is whole, its checksum tells.
///
/// # Errors
/// Why nothing came, or not to its end.
pub fn fetch(socket: &Path, rate: u64, out: &mut impl Write, progress: &mut dyn FnMut(u64)) -> Result<(), FetchError> {
    let mut stream = UnixStream::connect(socket).map_err(FetchError::Connection)?;
    // Of 1.0, so that the body comes as it is and ends with the connection.
    let request = format!("POST /backup?rate={rate} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(FetchError::Connection)?;
    let mut answer = BufReader::with_capacity(CHUNK_BYTES, stream);
    let status = line(&mut answer)?;
    while !line(&mut answer)?.is_empty() {}
    match status.split(' ').nth(1) {
        Some("200") => {}
        Some(_) => {
            let mut refusal = String::new();
            let read = answer.take(REFUSAL_BYTES_MAX).read_to_string(&mut refusal);
            read.map_err(FetchError::Connection)?;
            return Err(FetchError::Refused(refusal.trim_end().to_string()));
        }
        None => return Err(FetchError::NoAnswer),
    }
    let mut bytes = 0;
    loop {
        let came = answer.fill_buf().map_err(FetchError::Connection)?;
        if came.is_empty() {
            return Ok(());
        }
        out.write_all(came).map_err(FetchError::Output)?;
        let length = came.len();
        answer.consume(length);
        bytes += length as u64;
        progress(bytes);
    }
}

/// A line of the answer's head.
fn line(answer: &mut impl BufRead) -> Result<String, FetchError> {
    let mut line = String::new();
    answer.take(REFUSAL_BYTES_MAX).read_line(&mut line).map_err(FetchError::Connection)?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.trim_end_matches('\r').to_string()),
        None => Err(FetchError::NoAnswer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_within_bounds() {
        assert_eq!(rate_of(None), Some(RATE_DEFAULT));
        assert_eq!(rate_of(Some("rate=7")), Some(7));
        for query in ["", "rate=", "rate=0", "rate=1000001", "rate=-1", "pace=7", "rate=7&more"] {
            assert_eq!(rate_of(Some(query)), None, "{query}");
        }
    }

    #[test]
    fn what_is_written_comes_in_pieces_and_whole() {
        let (sender, mut chunks) = mpsc::channel(8);
        let mut out = ChunkWriter { sender, chunk: Vec::new(), patience: PATIENCE };
        let bytes: Vec<u8> = (0..600_000u32).map(|number| number as u8).collect();
        out.write_all(&bytes).unwrap();
        out.flush().unwrap();
        drop(out);
        let mut came = Vec::new();
        while let Some(chunk) = chunks.blocking_recv() {
            assert!(chunk.len() <= CHUNK_BYTES);
            came.extend_from_slice(&chunk);
        }
        assert!(came == bytes);
    }

    #[test]
    fn who_is_gone_ends_the_backup() {
        let (sender, chunks) = mpsc::channel(8);
        drop(chunks);
        let mut out = ChunkWriter { sender, chunk: Vec::new(), patience: PATIENCE };
        assert!(out.write_all(&[0; CHUNK_BYTES]).is_err());
    }

    #[test]
    fn who_takes_nothing_ends_the_backup() {
        let (sender, _chunks) = mpsc::channel(2);
        let mut out = ChunkWriter { sender, chunk: Vec::new(), patience: Duration::from_millis(20) };
        out.write_all(&[0; 2 * CHUNK_BYTES]).unwrap();
        let error = out.write_all(&[0; CHUNK_BYTES]).unwrap_err().to_string();
        assert!(error.contains("took nothing"), "{error}");
    }

    #[test]
    fn a_node_that_does_not_serve_gives_none() {
        let backups = Backups::new(Identity { raida_id: 1, coin_id: 6 });
        assert_eq!(backups.begin(1, |_| ()).err().as_deref(), Some("the node does not serve"));
    }
}
