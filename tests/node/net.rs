//! A blocking client over real sockets, built from the wire alone: what a wallet written by somebody else would do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use raida::entropy::{Entropy, SystemEntropy};
use raida::wire::header::{KeyName, NodeIdentity};
use raida::wire::reply;
use raida::wire::request::{Command, Request};
use raida::wire::seal::{self, Key, RequestRandom, Sealed};
use raida::wire::status::Status;

/// How long an answer may take before a test fails: far longer than any machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

enum Socket {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

/// A client with one connection or socket.
pub struct NetClient {
    socket: Socket,
    node: NodeIdentity,
    key_name: KeyName,
    key: Key,
    entropy: SystemEntropy,
}

impl NetClient {
    /// Over TCP, in the clear.
    pub fn tcp(to: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self::over(Socket::Tcp(stream)))
    }

    /// Over UDP, in the clear.
    pub fn udp(to: SocketAddr) -> std::io::Result<Self> {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self::over(Socket::Udp(socket)))
    }

    fn over(socket: Socket) -> Self {
        let node = NodeIdentity { raida_id: 0, coin_id: 6 };
        Self { socket, node, key_name: KeyName::None, key: Key::None, entropy: SystemEntropy::new() }
    }

    /// Seals with this key from now on.
    pub fn sealed(mut self, key_name: KeyName, key: Key) -> Self {
        (self.key_name, self.key) = (key_name, key);
        self
    }

    /// Waits no longer than this for an answer.
    pub fn patience(&mut self, patience: Duration) {
        match &self.socket {
            Socket::Tcp(stream) => stream.set_read_timeout(Some(patience)),
            Socket::Udp(socket) => socket.set_read_timeout(Some(patience)),
        }
        .expect("a time that is not zero");
    }

    /// A whole request, and what its reply is known by.
    pub fn frame(&mut self, command: &'static Command, payload: &[u8]) -> (Vec<u8>, Sealed) {
        let (mut nonce, mut challenge) = ([0; 24], [0; 12]);
        self.entropy.fill(&mut nonce);
        self.entropy.fill(&mut challenge);
        let mut frame = Vec::new();
        let random = RequestRandom { nonce, challenge };
        let sealed = seal::seal(&mut frame, self.node, command, (self.key_name, &self.key), payload, random)
            .expect("a payload that a request can have");
        (frame, sealed)
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.write_all(bytes),
            Socket::Udp(socket) => socket.send(bytes).map(drop),
        }
    }

    /// Receives the reply to a request.
    pub fn receive(&mut self, sealed: &Sealed) -> std::io::Result<(Status, Vec<u8>)> {
        let mut bytes = Vec::new();
        match &mut self.socket {
            Socket::Tcp(stream) => loop {
                match reply::measure_reply(&bytes, sealed.header.encryption()) {
                    Some(length) if bytes.len() >= length => break,
                    Some(length) => read_to(stream, &mut bytes, length)?,
                    None => {
                        let more = bytes.len() + 1;
                        read_to(stream, &mut bytes, more)?;
                    }
                }
            },
            Socket::Udp(socket) => {
                bytes.resize(65_536, 0);
                let length = socket.recv(&mut bytes)?;
                bytes.truncate(length);
            }
        }
        let mut payload = Vec::new();
        let summary = reply::read(&bytes, sealed, &self.key, &mut payload)
            .map_err(|error| std::io::Error::other(format!("a bad reply: {error:?}")))?;
        Ok((summary.status, payload))
    }

    /// Sends a request and receives its reply.
    pub fn call(&mut self, request: &Request<'_>) -> std::io::Result<(Status, Vec<u8>)> {
        let mut payload = Vec::new();
        request.encode(&mut payload);
        let (frame, sealed) = self.frame(request.command(), &payload);
        self.send(&frame)?;
        self.receive(&sealed)
    }
}

fn read_to(stream: &mut TcpStream, bytes: &mut Vec<u8>, length: usize) -> std::io::Result<()> {
    let have = bytes.len();
    bytes.resize(length, 0);
    stream.read_exact(&mut bytes[have..])
}
