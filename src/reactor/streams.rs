//! Connections as plain streams of bytes, for the load generator and for the floor: no deadlines, no bounds but the
//! kernel's, and nobody who means harm. A node's own connections are in [`tcp`](super::tcp).
//!
//! A multishot receive fills provided buffers; all that is to be sent on a connection waits, joined, for the one send
//! that is in flight. [`Streams::settle`], at the end of a turn, queues what is missing.
//!
//! A slot is freed when both its operations have completed, so the kernel never touches memory that is used again.

use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::opcode;
use io_uring::types::Fd;
use nix::sys::socket::{Shutdown, shutdown};

use super::ring::{Completion, Kind, Ring, Tag};
use super::table::{Name, Table};

/// A connection.
struct Stream {
    socket: OwnedFd,
    receiving: bool,
    is_sending: bool,
    listed: bool,
    over: bool,
    /// What is with the kernel, and how much of it was sent.
    sending: Vec<u8>,
    sent: usize,
    /// What waits for the send in flight to end.
    waiting: Vec<u8>,
}

/// The connections of a thread.
pub struct Streams {
    streams: Table<Stream>,
    /// Connections whose state changed since they were settled.
    unsettled: Vec<Name>,
    group: u16,
}

impl Streams {
    /// None yet, and at most `streams_max`; receives take buffers from `group`.
    pub fn new(streams_max: u32, group: u16) -> Self {
        Self { streams: Table::new(streams_max), unsettled: Vec::new(), group }
    }

    /// Takes a connection; `None`, and it is closed, where there are too many.
    pub fn add(&mut self, socket: OwnedFd) -> Option<Name> {
        let stream = Stream {
            socket,
            receiving: false,
            is_sending: false,
            listed: false,
            over: false,
            sending: Vec::new(),
            sent: 0,
            waiting: Vec::new(),
        };
        let name = self.streams.insert(stream).ok()?;
        self.touch(name);
        Some(name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    fn stream(&mut self, name: Name) -> &mut Stream {
        self.streams.get_mut(name).expect("a connection stays while an operation or a list names it")
    }

    fn touch(&mut self, name: Name) {
        let stream = self.stream(name);
        if !stream.listed {
            stream.listed = true;
            self.unsettled.push(name);
        }
    }

    /// A receive completed. Returns how many bytes it brought, 0 where that was none; the connection is over
    /// where [`Streams::is_over`] says so.
    pub fn received(&mut self, completion: Completion) -> usize {
        let name = completion.tag.name;
        let more = completion.more();
        let stream = self.stream(name);
        stream.receiving = more;
        match completion.result {
            bytes if bytes > 0 => {
                if !more {
                    self.touch(name);
                }
                return bytes as usize;
            }
            error if error < 0 && [-libc::ENOBUFS, -libc::EAGAIN, -libc::EINTR].contains(&error) => {}
            _ => stream.over = true,
        }
        self.touch(name);
        0
    }

    /// Whether the other side closed or broke the connection. It is gone after the next [`Streams::settle`].
    pub fn is_over(&mut self, name: Name) -> bool {
        self.streams.get_mut(name).is_none_or(|stream| stream.over)
    }

    /// Ends a connection, unless it is over. It is gone when its operations have ended.
    pub fn close(&mut self, name: Name) {
        if !self.is_over(name) {
            self.stream(name).over = true;
            self.touch(name);
        }
    }

    /// Where bytes to be sent are appended. `None` where the connection is over.
    pub fn output(&mut self, name: Name) -> Option<&mut Vec<u8>> {
        if self.is_over(name) {
            return None;
        }
        self.touch(name);
        Some(&mut self.stream(name).waiting)
    }

    /// A send completed.
    pub fn sent(&mut self, completion: Completion) {
        let name = completion.tag.name;
        let stream = self.stream(name);
        stream.is_sending = false;
        match completion.result {
            bytes if bytes >= 0 => stream.sent += bytes as usize,
            error => stream.over |= ![-libc::EAGAIN, -libc::EINTR].contains(&error),
        }
        if stream.over || stream.sent < stream.sending.len() || !stream.waiting.is_empty() {
            self.touch(name);
        }
    }

    /// Queues for every connection whose state changed what it needs.
    pub fn settle(&mut self, ring: &mut Ring) {
        let mut unsettled = std::mem::take(&mut self.unsettled);
        for name in unsettled.drain(..) {
            self.settle_one(name, ring);
        }
        self.unsettled = unsettled;
    }

    fn settle_one(&mut self, name: Name, ring: &mut Ring) {
        let group = self.group;
        let stream = self.stream(name);
        stream.listed = false;
        let descriptor = Fd(stream.socket.as_raw_fd());
        if stream.over {
            if !stream.receiving && !stream.is_sending {
                self.streams.remove(name);
            } else {
                // Ends both operations; where the connection is broken already, they end by themselves.
                let _ = shutdown(stream.socket.as_raw_fd(), Shutdown::Both);
            }
            return;
        }
        if !stream.receiving {
            stream.receiving = true;
            // SAFETY: the entry points to nothing.
            unsafe { ring.push(opcode::RecvMulti::new(descriptor, group).build(), Tag { kind: Kind::Receive, name }) };
        }
        if stream.is_sending {
            return;
        }
        if stream.sent == stream.sending.len() {
            stream.sending.clear();
            stream.sent = 0;
            std::mem::swap(&mut stream.sending, &mut stream.waiting);
        }
        let rest = &stream.sending[stream.sent..];
        if !rest.is_empty() {
            let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
            let entry = opcode::Send::new(descriptor, rest.as_ptr(), rest.len() as u32).flags(flags).build();
            stream.is_sending = true;
            // SAFETY: `sending` is left alone until the completion calls `sent`; the connection is not freed before.
            unsafe { ring.push(entry, Tag { kind: Kind::Send, name }) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::buffers::ReceiveBuffers;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    const GROUP: u16 = 5;

    /// Turns until a receive or a send completed; the bytes received.
    fn turn(ring: &mut Ring, buffers: &mut ReceiveBuffers, streams: &mut Streams) -> Vec<u8> {
        streams.settle(ring);
        ring.submit(Some(Duration::MAX)).unwrap();
        let (mut completions, mut bytes) = (Vec::new(), Vec::new());
        ring.drain(&mut completions);
        for completion in completions {
            match completion.tag.kind {
                Kind::Receive => {
                    let length = streams.received(completion);
                    if let Some(id) = completion.buffer() {
                        bytes.extend_from_slice(buffers.bytes(id, length));
                        buffers.give_back(id);
                    }
                }
                _ => streams.sent(completion),
            }
        }
        bytes
    }

    #[test]
    fn bytes_come_and_go_and_the_end_is_seen() {
        let mut ring = Ring::new().unwrap();
        let mut buffers = ReceiveBuffers::new(&ring, GROUP, 2, 4096).unwrap();
        let mut streams = Streams::new(1, GROUP);
        let (near, mut far) = UnixStream::pair().unwrap();
        let name = streams.add(near.into()).unwrap();
        assert_eq!(streams.add(UnixStream::pair().unwrap().0.into()), None, "one is all it may have");
        for round in 0..5u8 {
            far.write_all(&[round; 3]).unwrap();
            assert_eq!(turn(&mut ring, &mut buffers, &mut streams), [round; 3]);
            // What is appended while a send is in flight leaves with the next.
            streams.output(name).unwrap().extend([round; 2]);
            turn(&mut ring, &mut buffers, &mut streams);
            let mut got = [0; 2];
            far.read_exact(&mut got).unwrap();
            assert_eq!(got, [round; 2]);
        }
        drop(far);
        turn(&mut ring, &mut buffers, &mut streams);
        assert!(streams.is_over(name) && streams.output(name).is_none());
        streams.settle(&mut ring);
        assert!(streams.is_empty());
    }
}
