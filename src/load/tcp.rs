//! A load over TCP: so many connections, so many requests in flight on each, all that is ready joined in one send.
//!
//! Slot n has its place on connection n / pipeline. A node answers a connection's requests in order.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::reactor::buffers::ReceiveBuffers;
use crate::reactor::ring::{Completion, Kind, Ring};
use crate::reactor::streams::Streams;
use crate::reactor::table::Name;

use super::frame::Reply;
use super::run::{LoadError, SPIN, Wire};
use super::window::Window;

const GROUP: u16 = 1;
const BUFFERS: u16 = 512;
const BUFFER_BYTES: usize = 16 * 1024;
/// How often the ends of all operations are waited for, a millisecond each.
const CLOSE_ATTEMPTS: u32 = 1000;

struct Connection {
    name: Name,
    /// The slots whose answers are to come, in order.
    waiting: VecDeque<usize>,
    /// The start of an answer that is not whole.
    part: Vec<u8>,
}

/// The connections and their ring.
pub struct Tcp {
    // Dropped first, before the memory that the kernel knows from it.
    ring: Ring,
    streams: Option<Streams>,
    buffers: Option<ReceiveBuffers>,
    /// By the slots of their names, which are given in order.
    connections: Vec<Connection>,
    pipeline: usize,
    completions: Vec<Completion>,
}

impl Tcp {
    /// Connects so many times.
    ///
    /// # Errors
    /// Where the other side, or the system, refuses.
    pub fn connect(to: SocketAddr, connections: usize, pipeline: usize) -> Result<Self, LoadError> {
        let ring = Ring::new()?;
        let buffers = Some(ReceiveBuffers::new(&ring, GROUP, BUFFERS, BUFFER_BYTES)?);
        let mut streams = Streams::new(connections as u32, GROUP);
        let mut connected = Vec::with_capacity(connections);
        for number in 0..connections {
            let refused = |error| LoadError::NoAnswer(format!("{to}: {error}"));
            let stream = TcpStream::connect(to).map_err(refused)?;
            stream.set_nodelay(true).map_err(refused)?;
            let name = streams.add(stream.into()).expect("room for all of them");
            assert_eq!(name.slot as usize, number);
            connected.push(Connection { name, waiting: VecDeque::new(), part: Vec::new() });
        }
        let streams = Some(streams);
        Ok(Self { ring, streams, buffers, connections: connected, pipeline, completions: Vec::new() })
    }
}

impl Connection {
    /// Takes the answers at the front of `bytes`; how many bytes they are.
    fn read(&mut self, bytes: &[u8], window: &mut Window) -> Result<usize, LoadError> {
        let mut done = 0;
        while let Some(reply) = Reply::read(&bytes[done..]) {
            done += reply.bytes;
            if window.answered(&reply) != self.waiting.pop_front() {
                return Err(LoadError::NoAnswer("an answer that is not to the oldest request".to_string()));
            }
        }
        Ok(done)
    }

    fn received(&mut self, bytes: &[u8], window: &mut Window) -> Result<(), LoadError> {
        if self.part.is_empty() {
            let done = self.read(bytes, window)?;
            self.part.extend_from_slice(&bytes[done..]);
            return Ok(());
        }
        let mut part = std::mem::take(&mut self.part);
        part.extend_from_slice(bytes);
        let done = self.read(&part, window)?;
        part.drain(..done);
        self.part = part;
        Ok(())
    }
}

impl Wire for Tcp {
    const LOSES: bool = false;

    fn take(&mut self, window: &mut Window) -> Result<(), LoadError> {
        self.ring.drain(&mut self.completions);
        window.look_at_clock();
        let streams = self.streams.as_mut().expect("until it is dropped");
        let buffers = self.buffers.as_mut().expect("until it is dropped");
        for completion in self.completions.drain(..) {
            match completion.tag.kind {
                Kind::Receive => {
                    let bytes = streams.received(completion);
                    if let Some(id) = completion.buffer() {
                        let connection = &mut self.connections[completion.tag.name.slot as usize];
                        let read = connection.received(buffers.bytes(id, bytes), window);
                        buffers.give_back(id);
                        read?;
                    }
                }
                Kind::Send => streams.sent(completion),
                kind => unreachable!("{kind:?} is not asked for"),
            }
            if streams.is_over(completion.tag.name) {
                return Err(LoadError::NoAnswer("the node closed a connection".to_string()));
            }
        }
        Ok(())
    }

    fn send(&mut self, slot: usize, frame: &[u8]) {
        let connection = &mut self.connections[slot / self.pipeline];
        let streams = self.streams.as_mut().expect("until it is dropped");
        connection.waiting.push_back(slot);
        streams.output(connection.name).expect("no connection is over").extend_from_slice(frame);
    }

    fn rest(&mut self, most: Duration) -> Result<(), LoadError> {
        self.streams.as_mut().expect("until it is dropped").settle(&mut self.ring);
        Ok(self.ring.rest(SPIN, most)?)
    }
}

/// Ends all operations, so that the kernel has no memory of them any more; or leaves that memory where it is.
impl Drop for Tcp {
    fn drop(&mut self) {
        let (Some(mut streams), Some(mut buffers)) = (self.streams.take(), self.buffers.take()) else { return };
        self.connections.iter().for_each(|connection| streams.close(connection.name));
        for _ in 0..CLOSE_ATTEMPTS {
            streams.settle(&mut self.ring);
            if streams.is_empty() || self.ring.submit(Some(Duration::from_millis(1))).is_err() {
                break;
            }
            self.ring.drain(&mut self.completions);
            for completion in self.completions.drain(..) {
                match completion.tag.kind {
                    Kind::Receive => drop(streams.received(completion)),
                    _ => streams.sent(completion),
                }
                if let Some(id) = completion.buffer() {
                    buffers.give_back(id);
                }
            }
        }
        if !streams.is_empty() {
            std::mem::forget((streams, buffers));
        }
    }
}
