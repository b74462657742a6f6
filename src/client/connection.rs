//! Bytes to a node and back, over TCP or UDP, on tokio-uring.
//!
//! A [`Connection`] connects when it is first needed and keeps its socket. After an error or a timeout the socket is
//! dropped, as an answer to the old request could come and be taken for one to the next; the following request gets a
//! new one. Nothing is ever sent twice by itself.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::{TcpStream, UdpSocket};

use crate::wire::header::Encryption;
use crate::wire::reply::measure_reply;

use super::Error;

/// What a client reads at a time from a stream.
const READ_BYTES: usize = 64 * 1024;

/// What carries requests and replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// A stream; requests can be pipelined.
    Tcp,
    /// One datagram there, one back.
    Udp,
}

enum Socket {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

/// A way to one node.
pub struct Connection {
    to: SocketAddr,
    transport: Transport,
    timeout: Duration,
    socket: Option<Socket>,
    /// What was read of a stream and is not yet a whole reply.
    received: Vec<u8>,
}

impl Connection {
    /// A way to the node at `to`; nothing is sent yet. `timeout` is for connecting, and for each answer.
    pub const fn new(to: SocketAddr, transport: Transport, timeout: Duration) -> Self {
        Self { to, transport, timeout, socket: None, received: Vec::new() }
    }

    /// What it runs over.
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// Connects, unless it is connected.
    ///
    /// # Errors
    /// [`Error::Connect`].
    pub async fn open(&mut self) -> Result<(), Error> {
        if self.socket.is_some() {
            return Ok(());
        }
        self.received.clear();
        self.socket = Some(match self.transport {
            Transport::Tcp => {
                let connecting = TcpStream::connect(self.to);
                let late = || Err(io::ErrorKind::TimedOut.into());
                let stream = within(self.timeout, connecting).await.unwrap_or_else(late).map_err(Error::Connect)?;
                stream.set_nodelay(true).map_err(Error::Connect)?;
                Socket::Tcp(stream)
            }
            Transport::Udp => Socket::Udp(bind_udp(self.to).map_err(Error::Connect)?),
        });
        Ok(())
    }

    /// Drops the socket, and with it every answer that may still come.
    pub fn close(&mut self) {
        self.socket = None;
    }

    /// Sends one frame or, over TCP, several. Gives the buffer back, empty.
    ///
    /// # Errors
    /// [`Error::Connect`] when nothing was sent, else [`Error::Exchange`] or [`Error::Timeout`].
    pub async fn send(&mut self, frames: Vec<u8>) -> Result<Vec<u8>, Error> {
        self.open().await?;
        let sending = async {
            match self.socket.as_ref().expect("an open socket") {
                Socket::Tcp(stream) => stream.write_all(frames).await,
                Socket::Udp(socket) => {
                    let (result, frames) = socket.send(frames).await;
                    (result.map(drop), frames)
                }
            }
        };
        match within(self.timeout, sending).await {
            Some((Ok(()), mut frames)) => {
                frames.clear();
                Ok(frames)
            }
            Some((Err(error), _)) => self.failed(Error::Exchange(error)),
            None => self.failed(Error::Timeout(self.timeout)),
        }
    }

    /// Receives a reply to a request of this encryption, no later than `until`.
    ///
    /// # Errors
    /// [`Error::Exchange`], [`Error::Timeout`] or [`Error::Closed`]; the socket is then dropped.
    pub async fn receive(&mut self, encryption: Encryption, until: Instant) -> Result<Vec<u8>, Error> {
        let remaining = until.saturating_duration_since(Instant::now());
        let result = match &self.socket {
            None => return Err(Error::Closed),
            Some(Socket::Tcp(stream)) => within(remaining, read_reply(stream, &mut self.received, encryption)).await,
            Some(Socket::Udp(socket)) => within(remaining, read_datagram(socket)).await,
        };
        match result {
            Some(Ok(reply)) => Ok(reply),
            Some(Err(error)) => self.failed(error),
            None => self.failed(Error::Timeout(self.timeout)),
        }
    }

    /// When an answer to a request sent now is late.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    fn failed<T>(&mut self, error: Error) -> Result<T, Error> {
        self.close();
        Err(error)
    }
}

/// What a future comes to, `None` when it takes too long.
async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

/// A socket that hears of `to` alone. The system's own calls: neither of them waits.
fn bind_udp(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr =
        if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect(to)?;
    Ok(UdpSocket::from_std(socket))
}

/// Reads a stream until the reply at the front of `received` is whole; what follows it stays there.
async fn read_reply(stream: &TcpStream, received: &mut Vec<u8>, encryption: Encryption) -> Result<Vec<u8>, Error> {
    loop {
        if let Some(length) = measure_reply(received, encryption)
            && length <= received.len()
        {
            let rest = received.split_off(length);
            return Ok(std::mem::replace(received, rest));
        }
        let mut buffer = std::mem::take(received);
        buffer.reserve(READ_BYTES);
        let (filled, room) = (buffer.len(), buffer.capacity());
        let (result, slice) = stream.read(buffer.slice(filled..room)).await;
        *received = slice.into_inner();
        match result {
            Ok(0) => return Err(Error::Closed),
            Ok(_) => (),
            Err(error) => return Err(Error::Exchange(error)),
        }
    }
}

async fn read_datagram(socket: &UdpSocket) -> Result<Vec<u8>, Error> {
    let (result, mut datagram) = socket.read(Vec::with_capacity(READ_BYTES)).await;
    let length = result.map_err(Error::Exchange)?;
    datagram.truncate(length);
    Ok(datagram)
}
