//! Buffers that the kernel takes from to receive into, and buffers that are used again.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::ring::{Ring, RingError};

/// Anonymous memory. It costs what of it was touched.
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it owns its memory, as a Box does.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(bytes: usize) -> Result<Self, RingError> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping where the kernel likes it touches nothing that is there.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(RingError::Failed(std::io::Error::last_os_error()));
        }
        Ok(Self { start: NonNull::new(start.cast()).expect("a mapping is not at 0"), bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody holds a reference into it.
        let result = unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
        assert_eq!(result, 0, "a mapping of ours can be unmapped");
    }
}

/// A group of equal buffers from which the kernel takes one for each receive that completes.
///
/// A buffer belongs to the kernel until a completion names it, then to us until it is given back.
/// The group must be dropped after the ring that it was registered with, or after all its receives ended.
pub struct ReceiveBuffers {
    /// `count` entries; the kernel reads them up to the tail, which lies in the first one's padding.
    entries: Mapping,
    memory: Mapping,
    count: u16,
    size: usize,
    tail: u16,
    group: u16,
}

impl ReceiveBuffers {
    /// Makes and registers `count` buffers (a power of two) of `size` bytes as group `group`.
    pub fn new(ring: &Ring, group: u16, count: u16, size: usize) -> Result<Self, RingError> {
        assert!(count.is_power_of_two());
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(usize::from(count) * size)?;
        // SAFETY: the mapping has room for the entries, and lives as long as the ring uses it (see above).
        unsafe { ring.register_buffers(entries.start.as_ptr() as u64, count, group)? };
        let mut buffers = Self { entries, memory, count, size, tail: 0, group };
        (0..count).for_each(|id| buffers.give_back(id));
        Ok(buffers)
    }

    /// The group's number.
    pub fn group(&self) -> u16 {
        self.group
    }

    /// The bytes of one buffer.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The first `length` bytes of a buffer that a completion named.
    pub fn bytes(&self, id: u16, length: usize) -> &[u8] {
        assert!(id < self.count && length <= self.size);
        // SAFETY: within the mapping; the kernel writes to it only after the buffer was given back, which takes
        // a `&mut self`.
        unsafe { std::slice::from_raw_parts(self.memory.start.as_ptr().add(usize::from(id) * self.size), length) }
    }

    /// Lets the kernel use a buffer again.
    pub fn give_back(&mut self, id: u16) {
        assert!(id < self.count);
        let entries = self.entries.start.as_ptr().cast::<BufRingEntry>();
        // SAFETY: both are within their mappings; the kernel does not read the entry before the tail passes it.
        unsafe {
            let entry = &mut *entries.add(usize::from(self.tail & (self.count - 1)));
            entry.set_addr(self.memory.start.as_ptr().add(usize::from(id) * self.size) as u64);
            entry.set_len(self.size as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail is an aligned u16 within the first entry, which the kernel reads as an atomic.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Buffers of what is split, queued or being sent, used again and again.
pub struct SpareBuffers {
    spare: Vec<Vec<u8>>,
    count_max: usize,
}

impl SpareBuffers {
    /// A buffer that grew beyond this is not kept.
    const BYTES_MAX: usize = 128 * 1024;

    /// No buffers yet, and never more than `count_max`.
    pub fn new(count_max: usize) -> Self {
        Self { spare: Vec::new(), count_max }
    }

    /// An empty buffer.
    pub fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Keeps a buffer for later; one without memory is not worth it.
    pub fn give_back(&mut self, mut buffer: Vec<u8>) {
        if (1..=Self::BYTES_MAX).contains(&buffer.capacity()) && self.spare.len() < self.count_max {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::ring::{Completion, Kind, Tag};
    use io_uring::{opcode, squeue, types::Fd};
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    #[test]
    fn buffers_go_to_the_kernel_and_come_back() {
        let mut ring = Ring::new().unwrap();
        let mut buffers = ReceiveBuffers::new(&ring, 3, 2, 4096).unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut completions: Vec<Completion> = Vec::new();
        for round in 0..7u8 {
            near.write_all(&[round; 100]).unwrap();
            let entry = opcode::Recv::new(Fd(far.as_raw_fd()), ptr::null_mut(), 0).buf_group(3).build();
            // SAFETY: the entry points to nothing; the buffers outlive the receive.
            unsafe { ring.push(entry.flags(squeue::Flags::BUFFER_SELECT), Tag::only(Kind::Receive)) };
            ring.submit(Some(Duration::MAX)).unwrap();
            ring.drain(&mut completions);
            let completion = completions.pop().unwrap();
            assert_eq!(completion.result, 100);
            let id = completion.buffer().unwrap();
            assert_eq!(buffers.bytes(id, 100), [round; 100]);
            buffers.give_back(id);
        }
    }

    #[test]
    fn spare_buffers_are_few_and_small() {
        let mut spare = SpareBuffers::new(1);
        spare.give_back(Vec::with_capacity(SpareBuffers::BYTES_MAX + 1));
        spare.give_back(Vec::new());
        assert_eq!(spare.take().capacity(), 0);
        spare.give_back(b"used".to_vec());
        spare.give_back(b"too many".to_vec());
        let buffer = spare.take();
        assert!(buffer.is_empty() && buffer.capacity() == 4);
        assert_eq!(spare.take().capacity(), 0);
    }
}
