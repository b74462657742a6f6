//! The shard's reads and writes: O_DIRECT where the file system can, every write durable when it completes (RWF_DSYNC).
//!
//! An operation moves in, stays in its slot while the kernel works on its buffers, and comes back whole in
//! [`DiskDone`], errors included. What the kernel did in part is continued. Reading beyond a sparse file's end gives zeros.
//! A failed write is not tried again: whether it is on disk is then unknown, and the shard stops taking writes.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use io_uring::opcode;
use io_uring::types::Fd;

use crate::coin::{Denomination, PageNumber};
use crate::shard::interface::{DiskDone, DiskError, DiskOp, ShardFile, ShardId};
use crate::store::double_write::page_at;
use crate::store::files;
use crate::store::layout::{BLOCK_BYTES, PAGE_BYTES};

use super::counters::Counters;
use super::ring::{Completion, Kind, Ring, Tag};
use super::table::{Name, Table};

/// Page writes of one operation in flight at once: paced, so that they do not delay the log.
const LANES: usize = 2;
/// More operations than a shard ever has running.
const OPERATIONS_MAX: u32 = 1 << 22;

/// A file for the ring.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    // tmpfs and some others refuse O_DIRECT; RWF_DSYNC makes a buffered write durable too.
    match options.clone().custom_flags(libc::O_DIRECT).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => options.open(path),
        result => result,
    }
    .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// The files a shard reads and writes.
pub struct ShardFiles {
    pages: Vec<File>,
    segments: Vec<File>,
    control: File,
    double_write: File,
    orders: [File; 2],
}

impl ShardFiles {
    /// Opens the files of a shard in a data directory, all of which are there.
    ///
    /// # Errors
    /// What the system says, with the file's name.
    pub fn open(directory: &Path, shard: ShardId) -> io::Result<Self> {
        let open = |name: String| open(&directory.join(name));
        let shard = shard.0;
        let segments = (0..).map(|slot| files::segment(shard, slot)).take_while(|name| directory.join(name).exists());
        Ok(Self {
            pages: Denomination::all().map(|den| open(files::coins(den))).collect::<Result<_, _>>()?,
            segments: segments.map(open).collect::<Result<_, _>>()?,
            control: open(files::control(shard))?,
            double_write: open(files::double_write(shard))?,
            orders: [open(files::orders(shard, 0))?, open(files::orders(shard, 1))?],
        })
    }

    fn page(&self, page: PageNumber) -> (&File, u64) {
        (&self.pages[page.denomination().index()], files::page_offset(page))
    }

    fn own(&self, file: ShardFile) -> &File {
        match file {
            ShardFile::Log(slot) => &self.segments[usize::from(slot)],
            ShardFile::Control => &self.control,
            ShardFile::DoubleWrite => &self.double_write,
            ShardFile::Orders(image) => &self.orders[usize::from(image)],
        }
    }
}

/// A piece of an operation that is with the kernel.
#[derive(Clone, Copy)]
struct Piece {
    /// Which page of the operation; 0 for those that have one piece.
    page: usize,
    /// Bytes of it that are done.
    done: usize,
}

struct Running {
    op: DiskOp,
    /// The turn it began in, by [`Now::monotonic_us`](crate::shard::interface::Now::monotonic_us).
    started_us: u64,
    /// Pieces begun.
    begun: usize,
    lanes: [Option<Piece>; LANES],
    result: Result<(), DiskError>,
}

impl Running {
    /// How many pieces it has, and how many are in flight at once.
    fn pieces(&self) -> usize {
        match &self.op {
            DiskOp::ReadPage { .. } | DiskOp::Write { .. } => 1,
            DiskOp::WritePages { pages, .. } => pages.len(),
        }
    }

    fn piece_bytes(&self) -> usize {
        match &self.op {
            DiskOp::ReadPage { .. } | DiskOp::WritePages { .. } => PAGE_BYTES,
            DiskOp::Write { length, .. } => *length,
        }
    }
}

/// The disk operations of a reactor.
pub struct Disk {
    files: ShardFiles,
    running: Table<Running>,
    done: VecDeque<DiskDone>,
}

impl Disk {
    /// Nothing running.
    pub fn new(files: ShardFiles) -> Self {
        Self { files, running: Table::new(OPERATIONS_MAX), done: VecDeque::new() }
    }

    /// Whether nothing is running, and nothing done waits to be taken.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.done.is_empty()
    }

    /// How many operations are running.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Queues an operation, in the turn of `now_us`.
    pub fn start(&mut self, op: DiskOp, now_us: u64, ring: &mut Ring) {
        if let DiskOp::Write { offset, bytes, length, .. } = &op {
            assert!(offset % BLOCK_BYTES as u64 == 0 && length % BLOCK_BYTES == 0 && *length <= bytes.len());
        }
        if let DiskOp::WritePages { pages, bytes } = &op {
            assert!(page_at(pages.len()) <= bytes.len());
        }
        let running = Running { op, started_us: now_us, begun: 0, lanes: [None; LANES], result: Ok(()) };
        let Ok(name) = self.running.insert(running) else { panic!("a shard keeps its disk operations bounded") };
        self.go_on(name, ring);
    }

    /// An operation that ended.
    pub fn take_done(&mut self) -> Option<DiskDone> {
        self.done.pop_front()
    }

    /// A piece ended, or a part of it.
    pub fn completed(&mut self, completion: Completion, now_us: u64, ring: &mut Ring, counters: &mut Counters) {
        let lane = completion.tag.name.slot as usize % LANES;
        let name = Name { slot: completion.tag.name.slot / LANES as u32, ..completion.tag.name };
        let running = self.running.get_mut(name).expect("an operation stays until its last completion");
        let took_us = now_us - running.started_us;
        let piece_bytes = running.piece_bytes();
        let piece = running.lanes[lane].as_mut().expect("the lane of a completion is taken");
        let mut ended = false;
        match completion.result {
            error if [-libc::EINTR, -libc::EAGAIN].contains(&error) => {}
            error if error < 0 => {
                running.result = Err(DiskError { errno: -error });
                ended = true;
            }
            bytes => {
                // The rest of a transfer that is not whole blocks starts at the block that it ended in.
                let end = piece.done + bytes as usize;
                let whole = if end == piece_bytes { end } else { end - end % BLOCK_BYTES };
                if let DiskOp::ReadPage { frame, .. } = &mut running.op {
                    if whole == piece.done {
                        // The file's end: beyond it is nothing but zeros.
                        frame.bytes_mut()[end..].fill(0);
                        ended = true;
                    }
                } else if whole == piece.done {
                    running.result = Err(DiskError { errno: libc::EIO });
                    ended = true;
                }
                piece.done = whole;
                ended |= whole == piece_bytes;
            }
        }
        if ended {
            running.lanes[lane] = None;
        } else {
            push(&self.files, name, running, lane, ring);
        }
        self.go_on(name, ring);
        if let Some(done) = self.done.back()
            && ended
            && self.running.get_mut(name).is_none()
        {
            counters.disk_operations += 1;
            counters.disk_failures += u64::from(done.result.is_err());
            let histogram = match &done.op {
                DiskOp::ReadPage { .. } => &mut counters.page_read_us,
                DiskOp::Write { file: ShardFile::Log(_), .. } => &mut counters.log_write_us,
                DiskOp::Write { .. } | DiskOp::WritePages { .. } => &mut counters.place_write_us,
            };
            histogram.add(took_us);
        }
    }

    /// Begins what may begin of an operation, and ends it when nothing is left to do.
    fn go_on(&mut self, name: Name, ring: &mut Ring) {
        let running = self.running.get_mut(name).expect("named by the caller");
        for lane in 0..LANES {
            if running.lanes[lane].is_none() && running.begun < running.pieces() && running.result.is_ok() {
                running.lanes[lane] = Some(Piece { page: running.begun, done: 0 });
                running.begun += 1;
                push(&self.files, name, running, lane, ring);
            }
        }
        if running.lanes.iter().all(Option::is_none) {
            let running = self.running.remove(name).expect("it was just there");
            self.done.push_back(DiskDone { op: running.op, result: running.result });
        }
    }
}

/// Queues what is left of the piece in a lane.
fn push(files: &ShardFiles, name: Name, running: &mut Running, lane: usize, ring: &mut Ring) {
    let piece = running.lanes[lane].expect("a piece was put there");
    let left = running.piece_bytes() - piece.done;
    let durable =
        |entry: opcode::Write, at: u64| entry.offset(at + piece.done as u64).rw_flags(libc::RWF_DSYNC).build();
    let entry = match &mut running.op {
        DiskOp::ReadPage { page, frame } => {
            let (file, at) = files.page(*page);
            let into = &mut frame.bytes_mut()[piece.done..];
            opcode::Read::new(Fd(file.as_raw_fd()), into.as_mut_ptr(), left as u32)
                .offset(at + piece.done as u64)
                .build()
        }
        DiskOp::Write { file, offset, bytes, .. } => {
            let from = &bytes[piece.done..];
            durable(opcode::Write::new(Fd(files.own(*file).as_raw_fd()), from.as_ptr(), left as u32), *offset)
        }
        DiskOp::WritePages { pages, bytes } => {
            let (file, at) = files.page(pages[piece.page]);
            let from = &bytes[page_at(piece.page) + piece.done..];
            durable(opcode::Write::new(Fd(file.as_raw_fd()), from.as_ptr(), left as u32), at)
        }
    };
    let slot = name.slot * LANES as u32 + lane as u32;
    // SAFETY: the buffers are boxed in the operation, which stays in its slot, untouched, until all its lanes are empty.
    unsafe { ring.push(entry, Tag { kind: Kind::Disk, name: Name { slot, ..name } }) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::{AlignedBytes, PageFrame};
    use crate::store::recovery;
    use crate::store::storage::Directory;
    use crate::store::wal::Geometry;
    use std::time::Duration;

    struct TestDisk {
        directory: tempfile::TempDir,
        // Dropped before the disk, whose buffers it may know.
        ring: Ring,
        disk: Disk,
        counters: Counters,
    }

    impl TestDisk {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            recovery::initialise(&Directory::open(directory.path()).unwrap(), Geometry::default()).unwrap();
            let files = ShardFiles::open(directory.path(), ShardId(0)).unwrap();
            let (ring, disk) = (Ring::new().unwrap(), Disk::new(files));
            Self { directory, ring, disk, counters: Counters::default() }
        }

        /// Does all operations at once; in the order in which they end.
        fn run(&mut self, ops: impl IntoIterator<Item = DiskOp>) -> Vec<DiskDone> {
            let mut ended = Vec::new();
            ops.into_iter().for_each(|op| self.disk.start(op, 0, &mut self.ring));
            while !self.disk.is_idle() {
                self.ring.submit(Some(Duration::MAX)).unwrap();
                let mut completions = Vec::new();
                self.ring.drain(&mut completions);
                for completion in completions {
                    self.disk.completed(completion, 7, &mut self.ring, &mut self.counters);
                }
                ended.extend(std::iter::from_fn(|| self.disk.take_done()));
            }
            ended
        }

        fn read(&mut self, page: PageNumber) -> PageFrame {
            let mut frame = PageFrame::zeroed();
            // What is not read over would show.
            frame.bytes_mut().fill(0xEE);
            let mut ended = self.run([DiskOp::ReadPage { page, frame }]);
            let Some(DiskDone { op: DiskOp::ReadPage { frame, .. }, result: Ok(()) }) = ended.pop() else {
                panic!("{ended:?}")
            };
            frame
        }

        fn own_file(&self, name: &str) -> std::path::PathBuf {
            self.directory.path().join("log/0").join(name)
        }
    }

    fn page(number: u16) -> PageNumber {
        PageNumber::new(number).unwrap()
    }

    /// Pages as the double-write area holds them, each filled with a byte of its own.
    fn pages(numbers: &[u16]) -> DiskOp {
        let mut bytes = AlignedBytes::zeroed(page_at(numbers.len()));
        for index in 0..numbers.len() {
            bytes[page_at(index)..page_at(index + 1)].fill(index as u8 + 1);
        }
        DiskOp::WritePages { pages: numbers.iter().map(|&number| page(number)).collect(), bytes }
    }

    #[test]
    fn pages_are_written_to_their_places_and_read_back() {
        let mut disk = TestDisk::new();
        let numbers = [0, 1, 999, 1000, 7_500, 14_999];
        let ended = disk.run([pages(&numbers)]);
        assert!(ended[0].result.is_ok());
        for (&number, byte) in numbers.iter().zip(1..) {
            assert!(disk.read(page(number)).bytes().iter().all(|&read| read == byte));
        }
        assert!(disk.read(page(2)).bytes().iter().all(|&read| read == 0), "a hole is zeros");
        assert_eq!((disk.counters.disk_operations, disk.counters.disk_failures), (numbers.len() as u64 + 2, 0));
        assert_eq!(
            (disk.counters.place_write_us.sum, disk.counters.page_read_us.count()),
            (7, numbers.len() as u64 + 1)
        );
    }

    #[test]
    fn beyond_the_end_of_a_file_are_zeros() {
        let mut disk = TestDisk::new();
        disk.run([pages(&[3, 4])]);
        let file = disk.directory.path().join(files::coins(Denomination::SMALLEST));
        let end = 3 * PAGE_BYTES + BLOCK_BYTES;
        OpenOptions::new().write(true).open(file).unwrap().set_len(end as u64).unwrap();
        let frame = disk.read(page(3));
        let (there, gone) = frame.bytes().split_at(BLOCK_BYTES);
        assert!(there.iter().all(|&byte| byte == 1) && gone.iter().all(|&byte| byte == 0));
        assert!(disk.read(page(4)).bytes().iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_shard_writes_to_each_of_its_files() {
        let mut disk = TestDisk::new();
        let own = [
            (ShardFile::Log(0), "segment-0"),
            (ShardFile::Log(3), "segment-3"),
            (ShardFile::Control, "control"),
            (ShardFile::DoubleWrite, "double"),
            (ShardFile::Orders(0), "orders-0"),
            (ShardFile::Orders(1), "orders-1"),
        ];
        let offset = BLOCK_BYTES;
        let writes: Vec<_> = own
            .iter()
            .zip(1..)
            .map(|(&(file, _), byte)| {
                let mut bytes = AlignedBytes::zeroed(3 * BLOCK_BYTES);
                bytes.fill(byte);
                // Not all of it: what follows stays as it is.
                DiskOp::Write { file, offset: offset as u64, bytes, length: 2 * BLOCK_BYTES }
            })
            .collect();
        assert!(disk.run(writes).iter().all(|done| done.result.is_ok()));
        for ((_, name), byte) in own.iter().zip(1..) {
            let bytes = std::fs::read(disk.own_file(name)).unwrap();
            assert!(bytes[offset..][..2 * BLOCK_BYTES].iter().all(|&written| written == byte), "{name}");
            assert!(bytes[offset + 2 * BLOCK_BYTES..].iter().all(|&after| after != byte), "{name}");
        }
    }

    #[test]
    fn a_failure_comes_back_with_the_buffers() {
        let mut disk = TestDisk::new();
        disk.disk.files.control = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        disk.disk.files.pages[1] = OpenOptions::new().read(true).open("/dev/null").unwrap();
        let bytes = AlignedBytes::zeroed(BLOCK_BYTES);
        let write = DiskOp::Write { file: ShardFile::Control, offset: 0, bytes, length: BLOCK_BYTES };
        let ended = disk.run([write]);
        assert!(matches!(&ended[0].op, DiskOp::Write { bytes, .. } if bytes.len() == BLOCK_BYTES));
        assert!(ended[0].result.is_err());
        let ended = disk.run([pages(&[0, 1000, 1001, 2])]);
        assert!(matches!(&ended[0].op, DiskOp::WritePages { pages, .. } if pages.len() == 4));
        assert_eq!(ended[0].result, Err(DiskError { errno: libc::EBADF }));
        assert_eq!(disk.counters.disk_failures, 2);
        assert!(disk.read(page(2)).bytes().iter().all(|&byte| byte == 0), "nothing is begun after a failure");
    }

    #[test]
    fn hundreds_of_operations_run_at_once() {
        let mut disk = TestDisk::new();
        let numbers: Vec<u16> = (0..200).map(|index| index * 70).collect();
        let writes = numbers.chunks(20).map(pages);
        let reads = numbers.iter().map(|&number| DiskOp::ReadPage { page: page(number), frame: PageFrame::zeroed() });
        let all: Vec<_> = writes.chain(reads).collect();
        assert!(disk.run(all).iter().all(|done| done.result.is_ok()));
        for (&number, index) in numbers.iter().zip(0..) {
            assert!(disk.read(page(number)).bytes().iter().all(|&byte| byte == index % 20 + 1), "page {number}");
        }
    }
}
