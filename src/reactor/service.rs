//! Between the transports and the shard: frames and datagrams become requests, replies find their way back.
//!
//! Replies are handed to their connection or datagram after every step, so that a window of pipelined requests moves on
//! within the turn; messages and disk work stay in [`Outputs`] until its end.

use crate::entropy::Entropy;
use crate::shard::interface::{Input, Now, Origin, Outputs};
use crate::wire::header::{Framing, LEGACY_BYTES, NodeIdentity, measure};

use super::Core;
use super::counters::Counters;
use super::table::Name;
use super::tcp::Tcp;
use super::token::Token;
use super::udp::Udp;

/// Reply bytes of one step beyond which their memory is not kept.
const REPLY_BYTES_KEPT: usize = 1 << 20;

/// A shard with its transports.
pub struct Service<C> {
    /// What is driven.
    pub core: C,
    /// Where random bytes come from.
    pub entropy: Box<dyn Entropy>,
    /// The time of this turn.
    pub now: Now,
    /// What the shard wants done; of replies it is empty between steps.
    pub out: Outputs,
    /// Whom requests are for.
    pub node: NodeIdentity,
    /// The connections.
    pub tcp: Tcp,
    /// The datagrams.
    pub udp: Udp,
    /// What is counted.
    pub counters: Counters,
}

/// How the reading of frames from some bytes ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    /// What is left is no whole frame.
    InFrame,
    /// What is left may not start yet.
    Paused,
    /// Nothing further is to be read.
    Lost,
}

impl<C: Core> Service<C> {
    /// Gives the shard an input and carries its replies.
    pub fn step(&mut self, input: Input<'_>) {
        self.core.step(self.now, &mut *self.entropy, input, &mut self.out);
        self.deliver();
    }

    fn deliver(&mut self) {
        if self.out.replies.is_empty() {
            return;
        }
        for reply in self.out.replies.drain(..) {
            let bytes = &self.out.bytes[reply.start..reply.end];
            match Token::decode(reply.token) {
                Token::Stream(name, number) => self.tcp.answer(name, number, bytes, reply.close, &mut self.counters),
                Token::Datagram(name) => self.udp.answer(name, bytes),
            }
        }
        self.out.bytes.clear();
        if self.out.bytes.capacity() > REPLY_BYTES_KEPT {
            self.out.bytes = Vec::new();
        }
    }

    fn request(&mut self, token: Token, peer: std::net::IpAddr, frame: &[u8]) {
        self.counters.requests += 1;
        let origin = Origin { token: token.encode(), peer, datagram: matches!(token, Token::Datagram(_)) };
        self.step(Input::Request { origin, frame });
    }

    /// Takes a received buffer with a datagram.
    pub fn datagram(&mut self, buffer: &[u8]) {
        if let Some((name, peer, frame)) = self.udp.open(buffer, &mut self.counters) {
            self.request(Token::Datagram(name), peer, frame);
        }
    }

    /// Takes the bytes that a connection received.
    pub fn stream(&mut self, name: Name, bytes: &[u8]) {
        let connection = self.tcp.get_mut(name).expect("a connection stays while it receives");
        if connection.kept() > 0 {
            self.tcp.keep(name, bytes, &mut self.counters);
            self.read_kept(name);
            return;
        }
        let done = self.read_frames(name, bytes);
        if done < bytes.len() {
            self.tcp.keep(name, &bytes[done..], &mut self.counters);
        }
    }

    /// Reads frames from what was kept of a connection.
    fn read_kept(&mut self, name: Name) {
        let (kept, from) = self.tcp.take_kept(name);
        let done = self.read_frames(name, &kept[from..]);
        self.tcp.put_kept(name, kept, from + done, done);
    }

    /// Goes on with the connections that paused and may start requests now.
    pub fn resume(&mut self) {
        let mut at = 0;
        while let Some(name) = self.tcp.unsettled(at) {
            at += 1;
            let connection = self.tcp.get_mut(name).expect("a listed connection is there");
            if connection.paused && !connection.queued_for_room && self.tcp.may_start(name) {
                self.read_kept(name);
            }
        }
        while self.core.has_room()
            && let Some(name) = self.tcp.next_for_room()
        {
            if self.tcp.get_mut(name).is_some_and(|connection| connection.paused) {
                self.read_kept(name);
            }
        }
    }

    /// Starts the requests at the front of `bytes`, as many as may start. Returns how many bytes are done with.
    fn read_frames(&mut self, name: Name, bytes: &[u8]) -> usize {
        let mut done = 0;
        let mut header_known = false;
        let ended = loop {
            let rest = &bytes[done..];
            let (length, broken) = match measure(rest, &self.node) {
                Framing::Incomplete => break Ended::InFrame,
                Framing::Frame(length) if rest.len() < length => {
                    header_known = true;
                    break Ended::InFrame;
                }
                Framing::Frame(length) => (length, false),
                Framing::Broken => (LEGACY_BYTES, true),
            };
            if !self.tcp.may_start(name) {
                break Ended::Paused;
            }
            if !self.core.has_room() {
                self.tcp.wait_for_room(name);
                break Ended::Paused;
            }
            let connection = self.tcp.get_mut(name).expect("it may start");
            let (number, peer) = (connection.start(), connection.peer);
            done += length;
            self.request(Token::Stream(name, number), peer, &rest[..length]);
            if broken {
                break Ended::Lost;
            }
        };
        let connection = self.tcp.get_mut(name).expect("connections are freed at the end of a turn");
        connection.header_known = header_known;
        connection.paused = ended == Ended::Paused && !connection.read_ended;
        let cut_off = ended == Ended::InFrame && connection.peer_ended;
        let over = ended == Ended::Lost || cut_off || connection.read_ended;
        self.tcp.touch(name);
        if over {
            self.tcp.end_reading(name);
            return bytes.len();
        }
        done
    }
}
