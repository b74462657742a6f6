//! A load over UDP: one connected socket, requests of a turn joined.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use crate::reactor::buffers::ReceiveBuffers;
use crate::reactor::datagrams::{self, Datagrams, Peer};
use crate::reactor::ring::{Completion, Kind, Ring};

use super::frame::Reply;
use super::run::{LoadError, SPIN, Wire};
use super::window::Window;

const GROUP: u16 = 1;
const BUFFERS: u16 = 512;
/// What the kernel may hold of datagrams not yet taken.
const SOCKET_BYTES: usize = 4 << 20;
/// How often the end of the receive is waited for, a millisecond each.
const CLOSE_ATTEMPTS: u32 = 1000;

/// The socket and its ring.
pub struct Udp {
    // Dropped first, before the memory that the kernel knows from it.
    ring: Ring,
    datagrams: Datagrams,
    buffers: Option<ReceiveBuffers>,
    completions: Vec<Completion>,
}

impl Udp {
    /// A socket that hears of `to` alone.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn connect(to: SocketAddr) -> Result<Self, LoadError> {
        let any: SocketAddr =
            if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let connected = || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind(any)?;
            socket.connect(to)?;
            setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BYTES)?;
            setsockopt(&socket, sockopt::SndBuf, &SOCKET_BYTES)?;
            Ok(socket)
        };
        let socket = connected().map_err(|error| LoadError::NoAnswer(format!("{to}: {error}")))?;
        let ring = Ring::new()?;
        let buffers = Some(ReceiveBuffers::new(&ring, GROUP, BUFFERS, datagrams::BUFFER_BYTES)?);
        Ok(Self { ring, datagrams: Datagrams::new(socket), buffers, completions: Vec::new() })
    }
}

impl Wire for Udp {
    const LOSES: bool = true;

    fn take(&mut self, window: &mut Window) -> Result<(), LoadError> {
        self.ring.drain(&mut self.completions);
        window.look_at_clock();
        let buffers = self.buffers.as_mut().expect("until it is dropped");
        for completion in self.completions.drain(..) {
            match completion.tag.kind {
                Kind::ReceiveDatagram => {
                    let received = self.datagrams.received(completion);
                    if let Some(id) = completion.buffer() {
                        if received
                            && let Some((_, answer)) =
                                self.datagrams.open(buffers.bytes(id, completion.result as usize))
                            && let Some(reply) = Reply::read(answer)
                        {
                            window.answered(&reply);
                        }
                        buffers.give_back(id);
                    }
                    if completion.result == -libc::ECONNREFUSED {
                        return Err(LoadError::NoAnswer("nobody listens there".to_string()));
                    }
                }
                Kind::SendDatagram => self.datagrams.send_failed(completion),
                kind => unreachable!("{kind:?} is not asked for"),
            }
        }
        Ok(())
    }

    fn send(&mut self, _slot: usize, frame: &[u8]) {
        self.datagrams.send(Peer::CONNECTED, frame);
    }

    fn rest(&mut self, most: Duration) -> Result<(), LoadError> {
        self.datagrams.receive(&mut self.ring, GROUP);
        self.datagrams.flush(&mut self.ring);
        self.ring.rest(SPIN, most)?;
        if self.ring.is_submitted() {
            self.datagrams.recycle();
        }
        Ok(())
    }
}

/// Ends the receive, so that the kernel has no memory of it any more; or leaves that memory where it is.
impl Drop for Udp {
    fn drop(&mut self) {
        self.datagrams.stop(&mut self.ring);
        for _ in 0..CLOSE_ATTEMPTS {
            if !self.datagrams.is_receiving() || self.ring.submit(Some(Duration::from_millis(1))).is_err() {
                break;
            }
            self.ring.drain(&mut self.completions);
            for completion in self.completions.drain(..) {
                if completion.tag.kind == Kind::ReceiveDatagram {
                    self.datagrams.received(completion);
                }
            }
        }
        if self.datagrams.is_receiving() {
            std::mem::forget(self.buffers.take());
        }
    }
}
