//! The datagrams of a node's reactor: who sent each request in flight, and its one answer.
//!
//! A buffer is given back as soon as the shard took the request; what stays is the client's address, in a bounded table.
//! How datagrams come and go is [`datagrams`](super::datagrams)'.

use std::net::{IpAddr, UdpSocket};

use super::Limits;
use super::counters::Counters;
use super::datagrams::{Datagrams, Peer};
use super::ring::{Completion, Ring};
use super::table::{Name, Table};

/// The datagrams of a reactor.
pub struct Udp {
    datagrams: Datagrams,
    origins: Table<Peer>,
}

impl Udp {
    /// No datagrams yet.
    pub fn new(socket: UdpSocket, limits: &Limits) -> Self {
        assert!(limits.datagrams_in_flight_max < 1 << super::token::SLOT_BITS);
        Self { datagrams: Datagrams::new(socket), origins: Table::new(limits.datagrams_in_flight_max) }
    }

    /// Arms the receive into buffers of `group`, if it is not armed and should be.
    pub fn receive(&mut self, ring: &mut Ring, group: u16) {
        self.datagrams.receive(ring, group);
    }

    /// A receive completed: whether with bytes.
    pub fn received(&mut self, completion: Completion) -> bool {
        self.datagrams.received(completion)
    }

    /// Receives nothing more; what is in flight is still answered.
    pub fn stop(&mut self, ring: &mut Ring) {
        self.datagrams.stop(ring);
    }

    /// Whether every datagram was answered and no operation is in flight.
    pub fn is_drained(&self) -> bool {
        self.origins.is_empty() && !self.datagrams.has_output() && !self.datagrams.is_receiving()
    }

    /// How many datagrams are not answered yet.
    pub fn in_flight(&self) -> usize {
        self.origins.len()
    }

    /// Whether a receive is armed.
    pub fn is_receiving(&self) -> bool {
        self.datagrams.is_receiving()
    }

    /// Reads a received buffer: the request, its client and the name to answer to. `None` when it has to be dropped.
    pub fn open<'a>(&mut self, buffer: &'a [u8], counters: &mut Counters) -> Option<(Name, IpAddr, &'a [u8])> {
        let opened = self.try_open(buffer);
        match opened {
            Some(_) => counters.datagrams_received += 1,
            None => counters.datagrams_dropped += 1,
        }
        opened
    }

    fn try_open<'a>(&mut self, buffer: &'a [u8]) -> Option<(Name, IpAddr, &'a [u8])> {
        let (peer, request) = self.datagrams.open(buffer)?;
        let ip = peer.ip()?;
        Some((self.origins.insert(peer).ok()?, ip, request))
    }

    /// Takes the answer to a datagram, for this turn's sends. An empty one is not sent.
    ///
    /// # Panics
    /// When the datagram is not in flight: each has exactly one answer.
    pub fn answer(&mut self, name: Name, bytes: &[u8]) {
        let peer = self.origins.remove(name).expect("an answer without a datagram");
        if !bytes.is_empty() {
            self.datagrams.send(peer, bytes);
        }
    }

    /// Queues this turn's sends.
    pub fn flush(&mut self, ring: &mut Ring, counters: &mut Counters) {
        counters.datagrams_sent += self.datagrams.flush(ring);
    }

    /// Uses the memory of the sends again; call it when nothing queued is left in the ring.
    pub fn recycle(&mut self) {
        self.datagrams.recycle();
    }

    /// A send failed.
    pub fn send_failed(&mut self, completion: Completion, counters: &mut Counters) {
        counters.datagram_sends_failed += 1;
        self.datagrams.send_failed(completion);
    }
}
