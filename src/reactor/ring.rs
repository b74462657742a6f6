//! The io_uring instance of one reactor: set-up, the names of operations, submission and completion.
//!
//! Every operation carries a [`Tag`] and comes back with it in a [`Completion`]. Memory handed to the kernel stays
//! where it is, and untouched, until that completion; who pushes an operation vouches for it.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use super::table::Name;

/// Submissions a turn collects before it has to hand some in early.
const SUBMISSIONS: u32 = 1024;
/// Completions the kernel can hold ready; beyond it they are kept, but slowly.
const COMPLETIONS: u32 = 8192;

/// How often a full queue of submissions is offered to the kernel, which may be short of memory for a moment.
const SUBMIT_ATTEMPTS: u32 = 1000;

/// What an operation is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Connections arriving at the listening socket.
    Accept = 1,
    /// Bytes of a connection.
    Receive = 2,
    /// Bytes to a connection.
    Send = 3,
    /// Datagrams arriving.
    ReceiveDatagram = 4,
    /// A datagram to a client, or several joined. Completes only when it fails.
    SendDatagram = 5,
    /// A piece of a disk operation.
    Disk = 6,
    /// Another shard woke this one. Completes at the sender only when it fails.
    Wake = 7,
    /// The node's stage changed.
    Stage = 8,
    /// The end of another operation was asked for. Completes only when there was none.
    Cancel = 9,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Accept,
        Self::Receive,
        Self::Send,
        Self::ReceiveDatagram,
        Self::SendDatagram,
        Self::Disk,
        Self::Wake,
        Self::Stage,
        Self::Cancel,
    ];
}

/// The name of an operation, as the 64 bits that the kernel gives back with its completion.
///
/// | bits | field |
/// |---|---|
/// | 56..64 | kind |
/// | 32..56 | slot |
/// | 0..32 | generation |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// What it is for.
    pub kind: Kind,
    /// Whom: an entry of the table that belongs to the kind. Slots need 24 bits.
    pub name: Name,
}

impl Tag {
    /// The tag of the one operation of a kind that has no table.
    pub const fn only(kind: Kind) -> Self {
        Self { kind, name: Name { slot: 0, generation: 0 } }
    }

    /// Its 64 bits.
    pub fn encode(self) -> u64 {
        assert!(self.name.slot < 1 << 24);
        (self.kind as u64) << 56 | u64::from(self.name.slot) << 32 | u64::from(self.name.generation)
    }

    /// The tag of 64 bits.
    ///
    /// # Panics
    /// When the bits are no tag's: the kernel only returns what it was given.
    pub fn decode(bits: u64) -> Self {
        let kind = Kind::ALL[((bits >> 56) as usize).wrapping_sub(1)];
        Self { kind, name: Name { slot: (bits >> 32) as u32 & 0xFF_FFFF, generation: bits as u32 } }
    }
}

/// An operation that ended, or went on with a result.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// Which.
    pub tag: Tag,
    /// Its result: a count or a descriptor, or an error number below zero.
    pub result: i32,
    flags: u32,
}

impl Completion {
    /// Whether the operation goes on and completes again.
    pub fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer that holds what was received.
    pub fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// Why there is no ring.
#[derive(Debug)]
pub enum RingError {
    /// The kernel is too old, or built without it.
    Missing(&'static str),
    /// The kernel could, but does not let us.
    Forbidden,
    /// Something else went wrong.
    Failed(io::Error),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) => write!(f, "this kernel lacks {what}"),
            Self::Forbidden => f.write_str(
                "this system forbids io_uring (sysctl kernel.io_uring_disabled, or a filter of system calls)",
            ),
            Self::Failed(error) => write!(f, "io_uring cannot be set up: {error}"),
        }
    }
}

impl std::error::Error for RingError {}

/// The operations a node needs, by the name to complain with.
const OPERATIONS: [(u8, &str); 8] = [
    (opcode::AcceptMulti::CODE, "io_uring accept"),
    (opcode::Recv::CODE, "io_uring recv"),
    (opcode::RecvMsgMulti::CODE, "io_uring recvmsg"),
    (opcode::Send::CODE, "io_uring send"),
    (opcode::SendMsg::CODE, "io_uring sendmsg"),
    (opcode::Read::CODE, "io_uring read and write"),
    (opcode::AsyncCancel2::CODE, "io_uring async_cancel"),
    (opcode::MsgRingData::CODE, "io_uring msg_ring (Linux 5.18)"),
];

/// The ring of one thread, which alone may use it.
pub struct Ring {
    uring: IoUring,
}

impl Ring {
    /// Sets the ring up for the calling thread.
    pub fn new() -> Result<Self, RingError> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::ENOSYS) => RingError::Missing("io_uring"),
                Some(libc::EINVAL) => RingError::Missing("io_uring single_issuer and defer_taskrun (Linux 6.1)"),
                Some(libc::EPERM | libc::EACCES) => RingError::Forbidden,
                _ => RingError::Failed(error),
            })?;
        let mut probe = Probe::new();
        uring.submitter().register_probe(&mut probe).map_err(RingError::Failed)?;
        let parameters = uring.params();
        let features = [
            (parameters.is_feature_nodrop(), "io_uring completions that are never dropped (Linux 5.5)"),
            (parameters.is_feature_ext_arg(), "io_uring waits with a timeout (Linux 5.11)"),
            (parameters.is_feature_skip_cqe_on_success(), "io_uring skip_success (Linux 5.17)"),
        ];
        let operations = OPERATIONS.map(|(code, name)| (probe.is_supported(code), name));
        match features.iter().chain(&operations).find(|(there, _)| !there) {
            Some((_, missing)) => Err(RingError::Missing(missing)),
            None => Ok(Self { uring }),
        }
    }

    /// The ring's descriptor, which other rings send wake-ups to.
    pub fn descriptor(&self) -> RawFd {
        self.uring.as_raw_fd()
    }

    /// Registers a ring of provided buffers at an address.
    ///
    /// # Safety
    /// The memory holds `entries` entries and stays mapped as long as this ring lives.
    pub(super) unsafe fn register_buffers(&self, address: u64, entries: u16, group: u16) -> Result<(), RingError> {
        // SAFETY: handed on to the caller.
        unsafe { self.uring.submitter().register_buf_ring_with_flags(address, entries, group, 0) }.map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EINVAL) => RingError::Missing("io_uring buffer rings (Linux 5.19)"),
                _ => RingError::Failed(error),
            }
        })
    }

    /// Queues an operation for the next submission.
    ///
    /// # Safety
    /// What the entry points to is valid, and left alone, until its completion; of an entry that completes only when
    /// it fails, until the submission returned (which is enough for a send that does not wait).
    pub unsafe fn push(&mut self, entry: squeue::Entry, tag: Tag) {
        let entry = entry.user_data(tag.encode());
        for _ in 0..SUBMIT_ATTEMPTS {
            // SAFETY: handed on to the caller.
            if unsafe { self.uring.submission().push(&entry) }.is_ok() {
                return;
            }
            self.submit(None).expect("a full queue of submissions is taken by the kernel");
        }
        panic!("the kernel takes no submissions");
    }

    /// Queues the wake-up of another ring.
    pub fn wake(&mut self, ring: RawFd) {
        let there = Tag::only(Kind::Wake);
        // Should it fail, its completion here says which ring it was for.
        let here = Tag { kind: Kind::Wake, name: Name { slot: 0, generation: ring as u32 } };
        let entry = opcode::MsgRingData::new(Fd(ring), 0, there.encode(), None).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.push(entry.flags(squeue::Flags::SKIP_SUCCESS), here) }
    }

    /// Takes the completion of a wake-up. One that failed found its ring gone, and is over; or the kernel had no memory
    /// for it, and it is queued again, as its sleeper hears of nothing else.
    pub fn woken(&mut self, completion: Completion) {
        assert_eq!(completion.tag.kind, Kind::Wake);
        if completion.result == -libc::ENOMEM {
            self.wake(completion.tag.name.generation as RawFd);
        }
    }

    /// Queues the end of an operation; it completes all the same, with ECANCELED unless it was done before.
    pub fn cancel(&mut self, tag: Tag) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(tag.encode())).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.push(entry.flags(squeue::Flags::SKIP_SUCCESS), Tag::only(Kind::Cancel)) }
    }

    /// Whether nothing is queued that the kernel has not taken.
    pub fn is_submitted(&mut self) -> bool {
        self.uring.submission().is_empty()
    }

    /// Whether the kernel holds completions that only come when it is entered.
    pub fn must_be_entered(&mut self) -> bool {
        let submissions = self.uring.submission();
        submissions.taskrun() || submissions.cq_overflow()
    }

    /// Whether completions are there, or the kernel has to be entered to get some.
    pub fn has_completions(&mut self) -> bool {
        !self.uring.completion().is_empty() || self.must_be_entered()
    }

    /// Whether completions did not fit the queue and wait in the kernel.
    pub fn has_overflowed(&mut self) -> bool {
        self.uring.submission().cq_overflow()
    }

    /// Adds the completions that are there to `into`.
    pub fn drain(&mut self, into: &mut Vec<Completion>) {
        self.drain_some(usize::MAX, into);
    }

    /// Adds the first completions that are there to `into`, no more than `at_most`.
    pub fn drain_some(&mut self, at_most: usize, into: &mut Vec<Completion>) {
        into.extend(self.uring.completion().take(at_most).map(|entry| Completion {
            tag: Tag::decode(entry.user_data()),
            result: entry.result(),
            flags: entry.flags(),
        }));
    }

    /// Hands in what is queued and lets the kernel do its deferred work; with `sleep`, waits that long at most for
    /// a completion (`Duration::MAX`: for ever).
    pub fn submit(&mut self, sleep: Option<Duration>) -> io::Result<()> {
        let submitter = self.uring.submitter();
        let result = match sleep {
            None => submitter.submit_with_args(0, &SubmitArgs::new()),
            Some(Duration::MAX) => submitter.submit_with_args(1, &SubmitArgs::new()),
            Some(sleep) => {
                let time = Timespec::from(sleep);
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        match result {
            Ok(_) => Ok(()),
            // EBUSY: completions have to be taken first; EAGAIN: the kernel is short of memory for now.
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Hands in what is queued, looks around for `spin` if nothing completed, and then sleeps until something does, or
    /// for the rest of `most`. For loops that have nothing else to wait for; a node's own is in [`turn`](super::turn).
    pub fn rest(&mut self, spin: Duration, most: Duration) -> io::Result<()> {
        if !self.is_submitted() {
            self.submit(None)?;
        }
        let start = Instant::now();
        while !self.has_completions() {
            let rested = start.elapsed();
            if rested >= most {
                return Ok(());
            }
            if rested >= spin {
                return self.submit(Some(most - rested));
            }
            thread::yield_now();
        }
        if self.must_be_entered() { self.submit(None) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::mesh::mesh;
    use crate::shard::interface::ShardId;

    #[test]
    fn golden_bits_of_a_tag() {
        let tag = Tag { kind: Kind::Disk, name: Name { slot: 0x01_0203, generation: 0xA1B2_C3D4 } };
        assert_eq!(tag.encode(), 0x0601_0203_A1B2_C3D4);
        for kind in Kind::ALL {
            let tag = Tag { kind, ..tag };
            assert_eq!(Tag::decode(tag.encode()), tag);
        }
    }

    #[test]
    fn what_is_missing_is_said_in_one_line() {
        let missing = OPERATIONS.map(|(_, name)| RingError::Missing(name).to_string());
        assert!(missing.iter().all(|line| line.starts_with("this kernel lacks io_uring ") && !line.contains('\n')));
    }

    #[test]
    fn a_sleep_ends_with_its_time() {
        let mut ring = Ring::new().unwrap();
        ring.submit(Some(Duration::from_millis(1))).unwrap();
        assert!(!ring.has_completions());
    }

    /// The kernel lacks no memory on demand, so its answer is put in the place of another failure's.
    #[test]
    fn a_wake_up_is_tried_again_unless_its_ring_is_gone() {
        let (mut ring, mut sleeper) = (Ring::new().unwrap(), Ring::new().unwrap());
        let mut completions = Vec::new();
        let nobody = -1;
        ring.wake(nobody);
        ring.submit(Some(Duration::MAX)).unwrap();
        ring.drain(&mut completions);
        let gone = completions.pop().unwrap();
        assert_eq!((gone.tag.name.generation as RawFd, gone.result), (nobody, -libc::EBADF));
        ring.woken(gone);
        assert!(ring.is_submitted());

        let name = Name { generation: sleeper.descriptor() as u32, ..gone.tag.name };
        ring.woken(Completion { tag: Tag { name, ..gone.tag }, result: -libc::ENOMEM, ..gone });
        ring.submit(None).unwrap();
        sleeper.submit(Some(Duration::MAX)).unwrap();
        sleeper.drain(&mut completions);
        let woken = completions.pop().unwrap();
        assert_eq!((woken.tag, woken.result), (Tag::only(Kind::Wake), 0));
        sleeper.woken(woken);
        assert!(sleeper.is_submitted() && completions.is_empty());
    }

    /// Each of two rings sleeps for ever unless the other's message wakes it.
    #[test]
    fn rings_wake_each_other() {
        let mut ends = mesh::<u32>(2, 4);
        let (second, first) = (ends.pop().unwrap(), ends.pop().unwrap());
        let play = |mut end: super::super::mesh::Post<u32>, peer: ShardId, begins: bool| {
            move || {
                let mut ring = Ring::new().unwrap();
                end.bell().set_ring(ring.descriptor());
                let mut completions = Vec::new();
                let mut turn = u32::from(!begins);
                if begins {
                    end.send(peer, 0);
                }
                while turn < 2000 {
                    end.flush(|sleeper| ring.wake(sleeper));
                    end.bell().fall_asleep();
                    ring.submit(end.is_empty().then_some(Duration::MAX)).unwrap();
                    end.bell().awake();
                    ring.drain(&mut completions);
                    assert!(completions.drain(..).all(|completion| completion.tag.kind == Kind::Wake));
                    while let Some((from, number)) = end.take(&mut 0) {
                        assert_eq!((from, number), (peer, turn + u32::from(begins) - u32::from(!begins)));
                        turn += 2;
                        end.send(peer, number + 1);
                    }
                }
                end.flush(|sleeper| ring.wake(sleeper));
                ring.submit(None).unwrap();
                ring
            }
        };
        let other = thread::spawn(play(second, ShardId(0), false));
        let ring = play(first, ShardId(1), true)();
        let other = other.join().unwrap();
        drop((ring, other));
    }
}
