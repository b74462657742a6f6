//! The archiver: a thread that puts full log segments into the archive, for all reactors.
//!
//! Compressing a segment takes a good part of a second, which no reactor has. A reactor hands the work in at its
//! [`Tray`] and goes on; when it is done its bell rings, as for a new stage, and it takes the result in its next turn.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::calendar::now_ms;
use crate::shard::interface::{DiskDone, DiskError, DiskOp, ShardId};
use crate::store::archive::{self, Retention};
use crate::store::error::StoreError;
use crate::store::storage::Storage;
use crate::store::wal::FullSegment;

use super::stage::StageBoard;

/// How long a stopping node waits for a thread whose disk may hang, and how often it looks.
const LEAVE_AFTER: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// What the archiver is told to do.
enum Order {
    Keep { full: FullSegment, board: Arc<StageBoard>, shard: ShardId, done: Sender<DiskDone> },
    End,
}

/// The thread. Dropping it ends it, after the segment under way; where the disk hangs it is left to itself.
pub struct Archiver {
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Archiver {
    /// Starts the thread over a data directory that has an archive. Whenever it has added something it removes what is
    /// beyond `retention`.
    ///
    /// # Errors
    /// When the system has no thread.
    pub fn start<S: Storage + Send + 'static>(storage: Arc<S>, retention: Retention) -> io::Result<Self> {
        let (orders, taken) = mpsc::channel();
        let thread = thread::Builder::new().name("archiver".to_string()).spawn(move || {
            for order in taken {
                let Order::Keep { full, board, shard, done } = order else { return };
                let kept = archive::keep(&*storage, &full.source, full.last_batch);
                let result = kept.map(drop).map_err(|error| disk_error(&error));
                retain(&*storage, &retention);
                // Nobody waits for it where the reactor has left.
                if done.send(DiskDone { op: DiskOp::Archive(full), result }).is_ok() {
                    board.ring(shard.index());
                }
            }
        })?;
        Ok(Self { orders, thread: Some(thread) })
    }

    /// A reactor's way to it.
    pub fn tray(&self) -> Tray {
        let (sender, done) = mpsc::channel();
        Tray { orders: self.orders.clone(), sender, done, under_way: 0 }
    }
}

impl Drop for Archiver {
    fn drop(&mut self) {
        // Both fail only where the thread is no more.
        self.orders.send(Order::End).unwrap_or_default();
        if let Some(thread) = self.thread.take() {
            join_or_leave(thread);
        }
    }
}

/// Waits for a thread to end, for some seconds: one whose disk hangs is left to itself, as it would hold up the end of a
/// node. Nothing depends on what it still does: a crash may end it anywhere.
pub fn join_or_leave(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or("a thread").to_string();
    let until = Instant::now() + LEAVE_AFTER;
    while !thread.is_finished() {
        if Instant::now() >= until {
            log::error!("{name}: its disk hangs: it is left to itself");
            return;
        }
        thread::sleep(BETWEEN_LOOKS);
    }
    if thread.join().is_err() {
        log::error!("{name} panicked");
    }
}

/// Where a reactor hands in segments and takes what became of them.
pub struct Tray {
    orders: Sender<Order>,
    sender: Sender<DiskDone>,
    done: Receiver<DiskDone>,
    under_way: usize,
}

impl Tray {
    /// Hands a segment in; `board` rings for `shard` when it is done.
    pub fn start(&mut self, full: FullSegment, shard: ShardId, board: &Arc<StageBoard>) {
        let order = Order::Keep { full, board: Arc::clone(board), shard, done: self.sender.clone() };
        if self.orders.send(order).is_err() {
            let result = Err(DiskError { errno: libc::EIO });
            self.sender.send(DiskDone { op: DiskOp::Archive(full), result }).expect("its receiver is here");
        }
        self.under_way += 1;
    }

    /// A segment that is done.
    pub fn take_done(&mut self) -> Option<DiskDone> {
        if self.under_way == 0 {
            return None;
        }
        let done = self.done.try_recv().ok()?;
        self.under_way -= 1;
        Some(done)
    }
}

/// Removes what is beyond the bounds, and says so.
pub fn retain(storage: &dyn Storage, retention: &Retention) {
    match archive::retain(storage, retention, now_ms()) {
        Ok(0) => {}
        Ok(removed) => log::info!("{removed} files of the archive were beyond its bounds, and are removed"),
        Err(error) => log::error!("the archive cannot be kept within its bounds: {error}"),
    }
}

fn disk_error(error: &StoreError) -> DiskError {
    log::error!("{error}");
    let errno = match error {
        StoreError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => Some(libc::ENOSPC),
        StoreError::Io { source, .. } => source.raw_os_error(),
        _ => None,
    };
    DiskError { errno: errno.unwrap_or(libc::EIO) }
}
