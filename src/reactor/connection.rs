//! One TCP connection as a state: what came in and is no whole frame yet, which requests are in flight, what waits
//! to be sent. No system call is made here; [`super::tcp`] does what this says.
//!
//! Requests are numbered as they start. They may be answered in any order; answers leave in the order of the
//! requests, those that came too early are parked. At most one send is in flight, of `sending`; all that is
//! answered meanwhile is joined in `waiting`.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use super::buffers::SpareBuffers;

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Requests are read, unless reading ended, and answered.
    Open,
    /// What is answered is sent; nothing else is read or answered.
    Flushing,
    /// All is sent and said to be; what still comes is thrown away until the client closes, as closing with
    /// unread bytes would reset the connection and take the answers with it.
    Lingering,
    /// Over; the slot is freed when the kernel has returned its operations.
    Dead,
}

/// What a connection waits for, and may wait for only so long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// The node itself: no deadline.
    Node,
    /// The first byte of a request.
    Request,
    /// The rest of a header.
    Header,
    /// The rest of a body.
    Body,
    /// The client to take what is sent.
    Send,
    /// The client to close.
    Close,
}

/// A request's number within its connection, counted modulo [`RequestNumber::COUNT`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RequestNumber(u16);

impl RequestNumber {
    /// Bits that a number needs.
    pub const BITS: u32 = 11;
    /// As many as there are; half of them can be in flight.
    pub const COUNT: u16 = 1 << Self::BITS;

    /// The number of its bits.
    pub const fn new(number: u16) -> Self {
        assert!(number < Self::COUNT);
        Self(number)
    }

    /// Its bits.
    pub const fn get(self) -> u16 {
        self.0
    }

    fn next(self) -> Self {
        Self((self.0 + 1) % Self::COUNT)
    }

    fn since(self, older: Self) -> u16 {
        self.0.wrapping_sub(older.0) % Self::COUNT
    }
}

/// An answer whose turn has not come.
struct Parked {
    number: RequestNumber,
    bytes: Vec<u8>,
    close: bool,
}

/// A connection.
pub struct Connection {
    /// The socket; it is closed with the connection.
    pub socket: OwnedFd,
    /// The client.
    pub peer: IpAddr,
    /// When it was accepted, on the shards' clock.
    pub since_us: u64,
    /// Requests started.
    pub requests: u64,
    /// How far it is.
    pub phase: Phase,
    /// Whether no further request will start.
    pub read_ended: bool,
    /// Whether the client closed its side; frames that were paused still start.
    pub peer_ended: bool,
    /// Whether frames may lie in what was kept that could not be started yet.
    pub paused: bool,
    /// Whether it stands in the queue for room in the shard.
    pub queued_for_room: bool,
    /// Whether it is on the list of connections to settle.
    pub unsettled: bool,
    /// Whether a receive is in flight.
    pub receiving: bool,
    /// Whether the receive's end was asked for.
    pub receive_cancelled: bool,
    /// Whether a send is in flight.
    pub is_sending: bool,
    /// Whether the ends of its operations were asked for.
    pub cancelled: bool,
    /// What it waits for.
    pub wait: Wait,
    /// When it has waited too long.
    pub deadline_us: u64,
    /// Whether the header of the unfinished frame is whole.
    pub header_known: bool,
    /// Bytes received and not yet handed on start at `kept_from`.
    kept: Vec<u8>,
    kept_from: usize,
    oldest: RequestNumber,
    next: RequestNumber,
    parked: Vec<Parked>,
    waiting: Vec<u8>,
    sending: Vec<u8>,
    sent: usize,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(socket: OwnedFd, peer: IpAddr, since_us: u64) -> Self {
        Self {
            socket,
            peer,
            since_us,
            requests: 0,
            phase: Phase::Open,
            read_ended: false,
            peer_ended: false,
            paused: false,
            queued_for_room: false,
            unsettled: false,
            receiving: false,
            receive_cancelled: false,
            is_sending: false,
            cancelled: false,
            wait: Wait::Node,
            deadline_us: u64::MAX,
            header_known: false,
            kept: Vec::new(),
            kept_from: 0,
            oldest: RequestNumber(0),
            next: RequestNumber(0),
            parked: Vec::new(),
            waiting: Vec::new(),
            sending: Vec::new(),
            sent: 0,
        }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u16 {
        self.next.since(self.oldest)
    }

    /// Numbers a request that starts.
    pub fn start(&mut self) -> RequestNumber {
        let number = self.next;
        self.next = number.next();
        self.requests += 1;
        assert!(self.in_flight() <= RequestNumber::COUNT / 2);
        // The next frame's deadlines begin anew.
        self.wait = Wait::Node;
        self.deadline_us = u64::MAX;
        number
    }

    /// Bytes kept.
    pub fn kept(&self) -> usize {
        self.kept.len() - self.kept_from
    }

    /// Adds bytes to those kept.
    pub fn keep(&mut self, bytes: &[u8], spare: &mut SpareBuffers) {
        if bytes.is_empty() {
            return;
        }
        if self.kept.capacity() == 0 {
            self.kept = spare.take();
        }
        if self.kept_from > 0 {
            self.kept.drain(..self.kept_from);
            self.kept_from = 0;
        }
        self.kept.extend_from_slice(bytes);
    }

    /// Takes the bytes kept out, to read frames from them: the buffer and where they start in it.
    pub fn take_kept(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.kept), std::mem::take(&mut self.kept_from))
    }

    /// Puts the bytes kept back, now starting at `from`.
    pub fn put_kept(&mut self, kept: Vec<u8>, from: usize, spare: &mut SpareBuffers) {
        assert!(self.kept.is_empty());
        if from == kept.len() {
            spare.give_back(kept);
        } else {
            (self.kept, self.kept_from) = (kept, from);
        }
    }

    /// Forgets the bytes kept.
    pub fn drop_kept(&mut self, spare: &mut SpareBuffers) {
        let (kept, _) = self.take_kept();
        spare.give_back(kept);
    }

    /// Takes the answer of a request: queues it, or parks it until those before it are there.
    ///
    /// # Panics
    /// When no such request is in flight: each has exactly one answer.
    pub fn answer(&mut self, number: RequestNumber, bytes: &[u8], close: bool, spare: &mut SpareBuffers) {
        assert!(number.since(self.oldest) < self.in_flight(), "an answer without a request");
        if number != self.oldest {
            assert!(self.parked.iter().all(|parked| parked.number != number), "a second answer to one request");
            let mut parked = Parked { number, bytes: spare.take(), close };
            parked.bytes.extend_from_slice(bytes);
            self.parked.push(parked);
            return;
        }
        self.queue(bytes, close, spare);
        while let Some(at) = self.parked.iter().position(|parked| parked.number == self.oldest)
            && self.phase == Phase::Open
        {
            let parked = self.parked.swap_remove(at);
            self.queue(&parked.bytes, parked.close, spare);
            spare.give_back(parked.bytes);
        }
    }

    fn queue(&mut self, bytes: &[u8], close: bool, spare: &mut SpareBuffers) {
        if self.waiting.capacity() == 0 {
            self.waiting = spare.take();
        }
        self.waiting.extend_from_slice(bytes);
        self.oldest = self.oldest.next();
        if close {
            self.phase = Phase::Flushing;
            self.read_ended = true;
        }
    }

    /// Bytes answered and not yet sent, parked ones included.
    pub fn unsent(&self) -> usize {
        let parked: usize = self.parked.iter().map(|parked| parked.bytes.len()).sum();
        self.waiting.len() + self.sending.len() - self.sent + parked
    }

    /// Whether bytes can be sent, if no send is in flight.
    pub fn has_output(&self) -> bool {
        self.waiting.len() + self.sending.len() > self.sent
    }

    /// What to send now: all that waits joined, or the rest of what was not sent whole. At most `bytes_max` of it.
    ///
    /// The bytes stay in place until [`Connection::sent`].
    pub fn begin_send(&mut self, bytes_max: usize) -> &[u8] {
        assert!(!self.is_sending);
        if self.sent == self.sending.len() {
            self.sending.clear();
            self.sent = 0;
            std::mem::swap(&mut self.sending, &mut self.waiting);
        }
        self.is_sending = true;
        let rest = &self.sending[self.sent..];
        &rest[..rest.len().min(bytes_max)]
    }

    /// Notes that the send ended with so many bytes taken.
    pub fn sent(&mut self, bytes: usize, spare: &mut SpareBuffers) {
        assert!(self.is_sending && bytes <= self.sending.len() - self.sent);
        self.is_sending = false;
        self.sent += bytes;
        if bytes > 0 {
            // The next wait for the client begins anew.
            self.wait = Wait::Node;
            self.deadline_us = u64::MAX;
        }
        if !self.has_output() {
            spare.give_back(std::mem::take(&mut self.sending));
            spare.give_back(std::mem::take(&mut self.waiting));
            self.sent = 0;
        }
    }

    /// Gives all buffers back, when it is over and no send is in flight.
    pub fn recycle(mut self, spare: &mut SpareBuffers) {
        assert!(!self.is_sending && !self.receiving);
        [&mut self.kept, &mut self.waiting, &mut self.sending]
            .into_iter()
            .chain(self.parked.iter_mut().map(|parked| &mut parked.bytes))
            .for_each(|buffer| spare.give_back(std::mem::take(buffer)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::os::unix::net::UnixStream;

    fn connection() -> (Connection, SpareBuffers) {
        let (socket, _) = UnixStream::pair().unwrap();
        (Connection::new(socket.into(), Ipv4Addr::LOCALHOST.into(), 0), SpareBuffers::new(8))
    }

    fn all_sent(connection: &mut Connection, spare: &mut SpareBuffers) -> Vec<u8> {
        let mut bytes = Vec::new();
        while connection.has_output() {
            let sent = connection.begin_send(2).to_vec();
            connection.sent(sent.len(), spare);
            bytes.extend(sent);
        }
        bytes
    }

    #[test]
    fn answers_leave_in_the_order_of_requests() {
        let (mut connection, mut spare) = connection();
        // More than twice around the numbers, answered in turns of four: 2, 0, 3, 1.
        for round in 0..u16::from(u8::MAX) * 3 {
            let numbers: Vec<_> = (0..4).map(|_| connection.start()).collect();
            for at in [2, 0, 3, 1] {
                connection.answer(numbers[at], &[at as u8, round as u8], false, &mut spare);
            }
            let round = round as u8;
            let expected = [0, round, 1, round, 2, round, 3, round];
            assert_eq!(connection.unsent(), expected.len());
            assert_eq!(all_sent(&mut connection, &mut spare), expected);
            assert_eq!((connection.in_flight(), connection.unsent()), (0, 0));
        }
    }

    #[test]
    fn what_is_answered_while_a_send_is_in_flight_is_joined() {
        let (mut connection, mut spare) = connection();
        let numbers: Vec<_> = (0..3).map(|_| connection.start()).collect();
        connection.answer(numbers[0], b"one", false, &mut spare);
        assert_eq!(connection.begin_send(100), b"one");
        connection.answer(numbers[1], b"two", false, &mut spare);
        connection.answer(numbers[2], b"three", false, &mut spare);
        connection.sent(2, &mut spare);
        assert_eq!(connection.begin_send(100), b"e");
        connection.sent(1, &mut spare);
        assert_eq!(connection.begin_send(100), b"twothree");
        connection.sent(8, &mut spare);
        assert!(!connection.has_output());
    }

    #[test]
    fn nothing_follows_an_answer_that_closes() {
        let (mut connection, mut spare) = connection();
        let numbers: Vec<_> = (0..3).map(|_| connection.start()).collect();
        connection.answer(numbers[2], b"never", false, &mut spare);
        connection.answer(numbers[1], b"last", true, &mut spare);
        assert_eq!(connection.phase, Phase::Open);
        connection.answer(numbers[0], b"first ", false, &mut spare);
        assert_eq!(connection.phase, Phase::Flushing);
        assert_eq!(all_sent(&mut connection, &mut spare), b"first last");
    }

    #[test]
    #[should_panic(expected = "an answer without a request")]
    fn an_answer_needs_a_request() {
        let (mut connection, mut spare) = connection();
        let number = connection.start();
        connection.answer(number, b"", false, &mut spare);
        connection.answer(number, b"", false, &mut spare);
    }

    #[test]
    fn kept_bytes_are_joined() {
        let (mut connection, mut spare) = connection();
        connection.keep(b"abc", &mut spare);
        let (kept, from) = connection.take_kept();
        assert_eq!(&kept[from..], b"abc");
        connection.put_kept(kept, 2, &mut spare);
        connection.keep(b"de", &mut spare);
        assert_eq!(connection.kept(), 3);
        let (kept, from) = connection.take_kept();
        assert_eq!(&kept[from..], b"cde");
        connection.put_kept(kept, 3, &mut spare);
        assert_eq!(connection.kept(), 0);
        assert!(spare.take().capacity() >= 3);
    }
}
