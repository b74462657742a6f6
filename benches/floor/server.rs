//! A bare server over UDP and TCP on one port.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raida::reactor::accept::{Acceptor, Balance};
use raida::reactor::buffers::ReceiveBuffers;
use raida::reactor::counters::Counters;
use raida::reactor::datagrams::{self, Datagrams, Peer};
use raida::reactor::ring::{Completion, Kind, Ring};
use raida::reactor::sockets::bind_all;
use raida::reactor::streams::Streams;
use raida::reactor::table::Name;
use raida::shard::interface::ShardId;

use super::EchoArguments;
use super::log::Log;

const STREAM_GROUP: u16 = 1;
const DATAGRAM_GROUP: u16 = 2;
const BUFFERS: u16 = 256;
const STREAM_BUFFER_BYTES: usize = 16 << 10;
const STREAMS_MAX: u32 = 16_384;
const SOCKET_BYTES: usize = 4 << 20;

/// Where a request and an answer of a RAIDA have their echo, and the answer its status.
const REQUEST_ECHO_AT: usize = 30;
const ANSWER_ECHO_AT: usize = 6;
const ANSWER_STATUS_AT: usize = 2;
const SUCCESS: u8 = 250;

/// Whom an answer is for.
#[derive(Clone, Copy)]
pub enum Client {
    Datagram(Peer),
    Stream(Name),
}

/// What is answered, and over what.
struct Answers {
    datagrams: Datagrams,
    streams: Streams,
    answer: Vec<u8>,
}

impl Answers {
    fn send(&mut self, client: Client, echo: [u8; 2]) {
        self.answer[ANSWER_ECHO_AT..ANSWER_ECHO_AT + 2].copy_from_slice(&echo);
        match client {
            Client::Datagram(peer) => self.datagrams.send(peer, &self.answer),
            Client::Stream(name) => {
                if let Some(output) = self.streams.output(name) {
                    output.extend_from_slice(&self.answer);
                }
            }
        }
    }
}

/// A server.
pub struct Server {
    ring: Ring,
    acceptor: Acceptor,
    answers: Answers,
    datagram_buffers: ReceiveBuffers,
    stream_buffers: ReceiveBuffers,
    request_bytes: usize,
    /// The starts of requests that are not whole, by the slot of their connection.
    parts: Vec<Vec<u8>>,
    log: Option<Log<(Client, [u8; 2])>>,
    spin: Duration,
    address: SocketAddr,
}

impl Server {
    /// Listens; with a log, answers wait for it.
    pub fn new(
        arguments: &EchoArguments,
        log: Option<Log<(Client, [u8; 2])>>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let (address, mut sockets) = bind_all(arguments.listen, 1, SOCKET_BYTES)?;
        let sockets = sockets.pop().ok_or("sockets for one reactor")?;
        let ring = Ring::new()?;
        let mut answer = vec![0; usize::from(arguments.answer_bytes)];
        answer[ANSWER_STATUS_AT] = SUCCESS;
        // What follows the header, so that a client of the protocol knows where the answer ends.
        answer[8..12].copy_from_slice(&(u32::from(arguments.answer_bytes) - 32).to_be_bytes());
        Ok(Self {
            acceptor: Acceptor::new(ShardId(0), sockets.listener, Arc::new(Balance::new(1))),
            answers: Answers {
                datagrams: Datagrams::new(sockets.datagrams),
                streams: Streams::new(STREAMS_MAX, STREAM_GROUP),
                answer,
            },
            datagram_buffers: ReceiveBuffers::new(&ring, DATAGRAM_GROUP, BUFFERS, datagrams::BUFFER_BYTES)?,
            stream_buffers: ReceiveBuffers::new(&ring, STREAM_GROUP, BUFFERS, STREAM_BUFFER_BYTES)?,
            ring,
            request_bytes: usize::from(arguments.request_bytes),
            parts: Vec::new(),
            log,
            spin: Duration::from_micros(arguments.spin_us),
            address,
        })
    }

    /// Serves until the process ends.
    pub fn run(mut self) -> super::Outcome {
        println!("ready {}", self.address);
        let mut completions = Vec::new();
        let start = Instant::now();
        loop {
            self.ring.drain(&mut completions);
            for completion in completions.drain(..) {
                self.completed(completion, start)?;
            }
            if let Some(log) = &mut self.log {
                while let Some((client, echo)) = log.take_durable() {
                    self.answers.send(client, echo);
                }
                log.flush(&mut self.ring);
            }
            self.acceptor.arm(&mut self.ring, start.elapsed().as_micros() as u64);
            self.answers.streams.settle(&mut self.ring);
            self.answers.datagrams.receive(&mut self.ring, DATAGRAM_GROUP);
            self.answers.datagrams.flush(&mut self.ring);
            self.ring.rest(self.spin, Duration::from_secs(1))?;
            if self.ring.is_submitted() {
                self.answers.datagrams.recycle();
            }
        }
    }

    fn completed(&mut self, completion: Completion, start: Instant) -> super::Outcome {
        match completion.tag.kind {
            Kind::ReceiveDatagram => {
                let received = self.answers.datagrams.received(completion);
                if let Some(id) = completion.buffer() {
                    if received {
                        self.datagram(id, completion.result as usize);
                    }
                    self.datagram_buffers.give_back(id);
                }
            }
            Kind::Receive => {
                let bytes = self.answers.streams.received(completion);
                if let Some(id) = completion.buffer() {
                    self.stream(completion.tag.name, id, bytes);
                    self.stream_buffers.give_back(id);
                }
            }
            Kind::Send => self.answers.streams.sent(completion),
            Kind::SendDatagram => self.answers.datagrams.send_failed(completion),
            Kind::Accept => {
                let now_us = start.elapsed().as_micros() as u64;
                if let Some((_, arrival)) = self.acceptor.arrived(completion, now_us, &mut Counters::default()) {
                    self.accepted(arrival.socket);
                }
            }
            Kind::Disk => {
                let log = self.log.as_mut().ok_or("only a log writes")?;
                log.completed(completion, &mut self.ring)?;
            }
            kind => unreachable!("{kind:?} is not asked for"),
        }
        Ok(())
    }

    fn accepted(&mut self, socket: OwnedFd) {
        if let Some(name) = self.answers.streams.add(socket) {
            let slot = name.slot as usize;
            if self.parts.len() <= slot {
                self.parts.resize(slot + 1, Vec::new());
            }
            self.parts[slot].clear();
        }
    }

    fn datagram(&mut self, id: u16, bytes: usize) {
        let opened = self.answers.datagrams.open(self.datagram_buffers.bytes(id, bytes));
        if let Some((peer, request)) = opened
            && let Some(echo) = request.get(REQUEST_ECHO_AT..).and_then(|rest| rest.first_chunk())
        {
            let echo = *echo;
            self.request(Client::Datagram(peer), echo);
        }
    }

    fn request(&mut self, client: Client, echo: [u8; 2]) {
        match &mut self.log {
            Some(log) => log.append((client, echo), &mut self.ring),
            None => self.answers.send(client, echo),
        }
    }

    /// Takes the bytes of a connection: whole requests, and the start of one.
    fn stream(&mut self, name: Name, id: u16, bytes: usize) {
        let mut part = std::mem::take(&mut self.parts[name.slot as usize]);
        let bytes = self.stream_buffers.bytes(id, bytes);
        let echo_of = |request: &[u8]| [request[REQUEST_ECHO_AT], request[REQUEST_ECHO_AT + 1]];
        let mut echoes: Vec<[u8; 2]> = Vec::new();
        let mut rest = bytes;
        if !part.is_empty() {
            let missing = self.request_bytes - part.len();
            let (more, after) = bytes.split_at(missing.min(bytes.len()));
            part.extend_from_slice(more);
            rest = after;
            if part.len() == self.request_bytes {
                echoes.push(echo_of(&part));
                part.clear();
            }
        }
        let requests = rest.chunks_exact(self.request_bytes);
        part.extend_from_slice(requests.remainder());
        echoes.extend(requests.map(echo_of));
        for echo in echoes {
            self.request(Client::Stream(name), echo);
        }
        self.parts[name.slot as usize] = part;
    }
}
