//! Reactors with a shard that mirrors: over real sockets, as clients see them.
//!
//! No assertion is about time, but for bounds so generous that only a hang breaks them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::counters::Counters;
use super::desk::ReactorNumbers;
use super::sockets::bind_all;
use super::start::{Member, ReactorError, Reactors};
use super::{Core, Limits};
use crate::entropy::Entropy;
use crate::shard::backup::{BackupAnswer, BackupQuestion, BackupRefusal};
use crate::shard::interface::{Input, Now, Origin, Outputs, Reply, ShardId};
use crate::shard::message::Message;
use crate::shard::numbers::Numbers;
use crate::wire::header::NodeIdentity;

const NODE: NodeIdentity = NodeIdentity { raida_id: 3, coin_id: 6 };
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers a frame with itself, or does what the first byte of its payload says.
#[derive(Default)]
struct Mirror {
    /// What it answers when told to go on, last come first.
    held: Vec<(Origin, Vec<u8>)>,
    /// What it answers at a time.
    timed: Vec<(u64, Origin, Vec<u8>)>,
    /// What it answers when a message has been to every other shard and is back.
    travelling: Vec<(u64, Origin, Vec<u8>)>,
    sent: u64,
    me: ShardId,
    shards: u8,
    /// Requests it takes at once, or any number.
    room: Option<usize>,
    stopping: bool,
    /// What HANG waits for.
    gate: Option<Arc<Mutex<()>>>,
}

/// Where the payload of a type 0 frame starts: after header and challenge.
const PAYLOAD_AT: usize = 48;

/// Answer at once.
const ECHO: u8 = b'e';
/// Hold the answer back.
const HOLD: u8 = b'h';
/// Answer this and all that is held, in the opposite order.
const GO: u8 = b'g';
/// Answer after the milliseconds of the next two bytes.
const LATER: u8 = b'l';
/// Answer with as many bytes as the next four say, within reason.
const BIG: u8 = b'b';
const BIG_BYTES_MAX: u32 = 32 << 20;
/// Answer when a message has gone around all shards.
const AROUND: u8 = b'a';
/// Hang for as long as the gate is closed, then answer.
const HANG: u8 = b'x';
/// Answer and close.
const CLOSE: u8 = b'c';

fn reply(out: &mut Outputs, origin: Origin, bytes: &[u8], close: bool) {
    let start = out.bytes.len();
    out.bytes.extend_from_slice(bytes);
    out.replies.push(Reply { token: origin.token, start, end: out.bytes.len(), close });
}

impl Mirror {
    fn request(&mut self, now: Now, origin: Origin, frame: &[u8], out: &mut Outputs) {
        let (instruction, rest) = match frame.get(PAYLOAD_AT..) {
            Some([instruction, rest @ ..]) => (*instruction, rest),
            _ => (CLOSE, &[][..]),
        };
        match instruction {
            ECHO => reply(out, origin, frame, false),
            HOLD => self.held.push((origin, frame.to_vec())),
            GO => {
                reply(out, origin, frame, false);
                self.held.drain(..).rev().for_each(|(origin, frame)| reply(out, origin, &frame, false));
            }
            LATER => {
                let delay_us = u64::from(u16::from_be_bytes([rest[0], rest[1]])) * 1000;
                self.timed.push((now.monotonic_us + delay_us, origin, frame.to_vec()));
            }
            BIG => {
                let length = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]);
                reply(out, origin, &vec![7; length.min(BIG_BYTES_MAX) as usize], false);
            }
            HANG => {
                drop(self.gate.as_ref().expect("a gate").lock());
                reply(out, origin, frame, false);
            }
            AROUND => {
                // A sequence is as good as any message: the sender in the high byte, a number below.
                let sequence = u64::from(self.me.0) << 56 | self.sent;
                self.sent += 1;
                self.travelling.push((sequence, origin, frame.to_vec()));
                self.pass_on(sequence, out);
            }
            _ => reply(out, origin, frame, true),
        }
    }

    fn pass_on(&self, sequence: u64, out: &mut Outputs) {
        out.messages.push((ShardId((self.me.0 + 1) % self.shards), Message::Flush { sequence }));
    }

    fn message(&mut self, from: ShardId, sequence: u64, out: &mut Outputs) {
        assert_eq!((from.0 + 1) % self.shards, self.me.0);
        if sequence >> 56 != u64::from(self.me.0) {
            self.pass_on(sequence, out);
            return;
        }
        // Messages keep their order, so it is the oldest that comes back.
        let (sent, origin, frame) = self.travelling.remove(0);
        assert_eq!(sent, sequence);
        reply(out, origin, &frame, false);
    }
}

impl Core for Mirror {
    fn step(&mut self, now: Now, _entropy: &mut dyn Entropy, input: Input<'_>, out: &mut Outputs) {
        match input {
            Input::Request { origin, frame } => self.request(now, origin, frame, out),
            Input::Turn => {
                let due = self.timed.extract_if(.., |(at_us, ..)| *at_us <= now.monotonic_us);
                due.for_each(|(_, origin, frame)| reply(out, origin, &frame, false));
            }
            Input::Message { from, message: Message::Flush { sequence } } => self.message(from, sequence, out),
            Input::Shutdown => self.stopping = true,
            input => panic!("nobody sends a mirror {input:?}"),
        }
    }

    fn has_room(&self) -> bool {
        self.room.is_none_or(|room| self.held.len() + self.timed.len() < room)
    }

    fn wake_at_us(&self) -> Option<u64> {
        self.timed.iter().map(|(at_us, ..)| *at_us).min()
    }

    fn stopped(&self) -> bool {
        self.stopping
    }

    fn is_idle(&self) -> bool {
        self.held.is_empty() && self.timed.is_empty() && self.travelling.is_empty()
    }

    fn has_failed(&self) -> bool {
        false
    }

    fn turn_took(&mut self, _micros: u64) {}

    fn numbers(&self, _: Now) -> Numbers {
        Numbers::default()
    }

    fn back_up(&mut self, _: BackupQuestion) -> Result<BackupAnswer, BackupRefusal> {
        Err(BackupRefusal::DiskFailed)
    }
}

struct TestNode {
    address: SocketAddr,
    reactors: Reactors,
}

impl TestNode {
    fn start(reactors: usize, limits: &Limits, room: Option<usize>) -> Self {
        Self::start_at("127.0.0.1:0", reactors, limits, room, None)
    }

    fn start_at(
        address: &str,
        reactors: usize,
        limits: &Limits,
        room: Option<usize>,
        gate: Option<Arc<Mutex<()>>>,
    ) -> Self {
        let (address, sockets) = bind_all(address.parse().unwrap(), reactors, 1 << 20).unwrap();
        let members = sockets
            .into_iter()
            .zip(0..)
            .map(|(sockets, me)| {
                let (me, gate) = (ShardId(me), gate.clone());
                let core = Mirror { room, me, gate, shards: reactors as u8, ..Mirror::default() };
                Member { core, sockets, files: None, archive: None }
            })
            .collect();
        Self { address, reactors: Reactors::start(members, NODE, limits, &[]).unwrap() }
    }

    fn one() -> Self {
        Self::start(1, &Limits::default(), None)
    }

    fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    fn datagrams(&self) -> UdpSocket {
        datagrams(self.address)
    }

    fn stop(self) -> Vec<Counters> {
        self.reactors.stop(PATIENCE, PATIENCE, || ()).unwrap()
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn datagrams(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(to.ip(), 0)).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A frame of an echo, with a payload.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; PAYLOAD_AT];
    (frame[0], frame[2], frame[7]) = (1, NODE.raida_id, 6);
    let body_length = (16 + payload.len() + 2) as u16;
    frame[22..24].copy_from_slice(&body_length.to_be_bytes());
    frame.extend_from_slice(payload);
    frame.extend_from_slice(b">>");
    frame
}

#[track_caller]
fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, bytes);
}

#[track_caller]
fn expect_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert!(rest.is_empty()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    let node = TestNode::one();
    let mut stream = node.connect();
    let frames = [frame(b"e split"), frame(b"e"), frame(b"e again")].concat();
    for byte in &frames {
        stream.write_all(std::slice::from_ref(byte)).unwrap();
    }
    expect(&mut stream, &frames);
    let counters = node.stop();
    assert_eq!((counters[0].requests, counters[0].connections_open), (3, 0));
}

#[test]
fn a_frame_may_be_split_anywhere() {
    let node = TestNode::one();
    let mut stream = node.connect();
    let frames = [frame(b"e first"), frame(b"e second")].concat();
    for split in 1..frames.len() {
        stream.write_all(&frames[..split]).unwrap();
        stream.write_all(&frames[split..]).unwrap();
        expect(&mut stream, &frames);
    }
    node.stop();
}

#[test]
fn the_largest_frames_pass_both_ways() {
    let node = TestNode::one();
    let mut stream = node.connect();
    let largest = frame(&[vec![ECHO], vec![9; 65_535 - 18 - 1]].concat());
    for _ in 0..3 {
        stream.write_all(&largest).unwrap();
        expect(&mut stream, &largest);
    }
    let big = [vec![BIG], (16u32 << 20).to_be_bytes().to_vec()].concat();
    stream.write_all(&frame(&big)).unwrap();
    let mut answer = vec![0; 16 << 20];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer.iter().all(|&byte| byte == 7));
    node.stop();
}

/// As over a network that is slower than the loopback: with each piece the node has more of a frame that is not whole.
#[test]
fn the_largest_frame_may_come_in_pieces() {
    let node = TestNode::one();
    let mut stream = node.connect();
    let largest = frame(&[vec![ECHO], vec![9; 65_535 - 18 - 1]].concat());
    for piece in [10_000, 20_000] {
        for bytes in largest.chunks(piece) {
            stream.write_all(bytes).unwrap();
            std::thread::sleep(Duration::from_millis(30));
        }
        expect(&mut stream, &largest);
    }
    node.stop();
}

#[test]
fn pipelined_answers_keep_their_order_whatever_finishes_first() {
    let node = TestNode::one();
    let mut stream = node.connect();
    let mut other = node.connect();
    for round in 0..50u8 {
        let frames: Vec<_> =
            (0..20u8).map(|number| frame(&[if number % 3 == 0 { ECHO } else { HOLD }, number, round])).collect();
        stream.write_all(&frames.concat()).unwrap();
        // The first was not held; when its answer is there, so are the others in the shard.
        expect(&mut stream, &frames[0]);
        other.write_all(&frame(b"g")).unwrap();
        expect(&mut other, &frame(b"g"));
        expect(&mut stream, &frames[1..].concat());
    }
    node.stop();
}

#[test]
fn more_requests_than_may_be_in_flight_wait_and_lose_nothing() {
    for room in [None, Some(3)] {
        let limits = Limits { requests_per_connection_max: 5, ..Limits::default() };
        let node = TestNode::start(1, &limits, room);
        let mut stream = node.connect();
        let frames: Vec<_> = (0..500u16)
            .map(|number| {
                let later = if number % 7 == 0 { [LATER, 0, 1] } else { [ECHO, 0, 0] };
                frame(&[&later[..], &number.to_be_bytes()].concat())
            })
            .collect();
        let mut writer = stream.try_clone().unwrap();
        let bytes = frames.concat();
        let writes = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
        frames.iter().for_each(|frame| expect(&mut stream, frame));
        writes.join().unwrap();
        node.stop();
    }
}

#[test]
fn a_client_that_half_closes_gets_its_answers() {
    let node = TestNode::start(1, &Limits { requests_per_connection_max: 2, ..Limits::default() }, None);
    let mut stream = node.connect();
    let frames: Vec<_> = (0..9u8).map(|number| frame(&[LATER, 0, 20, number])).collect();
    stream.write_all(&frames.concat()).unwrap();
    stream.write_all(&frame(b"e cut off")[..40]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    expect(&mut stream, &frames.concat());
    expect_end(&mut stream);
    let counters = node.stop();
    assert_eq!((counters[0].requests, counters[0].connections_open), (9, 0));
}

#[test]
fn an_answer_outlives_its_connection() {
    let node = TestNode::one();
    for round in 0..20u8 {
        let stream = node.connect();
        (&stream).write_all(&frame(&[HOLD, round])).unwrap();
        (&stream).write_all(&frame(b"e")).unwrap();
        if round % 2 == 0 {
            // Unread answers make this a reset.
            let mut other = node.connect();
            other.write_all(&frame(b"e")).unwrap();
            expect(&mut other, &frame(b"e"));
        }
        drop(stream);
    }
    // New connections take the slots of those that are gone; none sees an answer that is not its own.
    let mut streams: Vec<_> = (0..20).map(|_| node.connect()).collect();
    for stream in &mut streams {
        stream.write_all(&frame(b"e mine")).unwrap();
        expect(stream, &frame(b"e mine"));
    }
    streams[0].write_all(&frame(b"g")).unwrap();
    expect(&mut streams[0], &frame(b"g"));
    for stream in &mut streams {
        stream.write_all(&frame(b"e still mine")).unwrap();
        expect(stream, &frame(b"e still mine"));
    }
    node.stop();
}

#[test]
fn a_broken_stream_is_answered_and_closed() {
    let node = TestNode::one();
    let mut stream = node.connect();
    let mut broken = frame(b"e");
    broken[0] = 9;
    stream.write_all(&frame(b"e fine")).unwrap();
    stream.write_all(&broken).unwrap();
    // Unread bytes must not reset the connection before the answer is read.
    stream.write_all(&[0xEE; 30_000]).unwrap();
    expect(&mut stream, &frame(b"e fine"));
    expect(&mut stream, &broken[..32]);
    expect_end(&mut stream);

    let mut stream = node.connect();
    let frames = [frame(b"e"), frame(b"c")].concat();
    stream.write_all(&frames).unwrap();
    stream.write_all(&frame(b"e never answered")).unwrap();
    expect(&mut stream, &frames);
    expect_end(&mut stream);
    node.stop();
}

#[test]
fn slow_clients_are_closed_and_others_are_not() {
    let short = Duration::from_millis(100);
    let limits = Limits { header_deadline: short, body_deadline: short, send_deadline: short, ..Limits::default() };
    let node = TestNode::start(1, &limits, None);
    let mut idle = node.connect();
    let mut in_header = node.connect();
    in_header.write_all(&frame(b"e")[..5]).unwrap();
    let mut in_body = node.connect();
    in_body.write_all(&frame(b"e")[..40]).unwrap();
    // A command that takes longer than all deadlines.
    let mut waiting = node.connect();
    waiting.write_all(&frame(&[LATER, 1, 0])).unwrap();
    let unread = node.connect();
    (&unread).write_all(&frame(&[vec![BIG], (30u32 << 20).to_be_bytes().to_vec()].concat())).unwrap();
    expect_end(&mut in_header);
    expect_end(&mut in_body);
    expect(&mut waiting, &frame(&[LATER, 1, 0]));
    idle.write_all(&frame(b"e")).unwrap();
    expect(&mut idle, &frame(b"e"));
    // What the node could not send in time ended in a reset.
    std::thread::sleep(short * 4);
    let mut taken = Vec::new();
    assert_eq!((&unread).read_to_end(&mut taken).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(node.stop()[0].overdue.total(), 3);
}

#[test]
fn idle_clients_are_closed_in_the_end() {
    let node = TestNode::start(1, &Limits { idle_deadline: Duration::from_millis(50), ..Limits::default() }, None);
    let mut stream = node.connect();
    stream.write_all(&frame(b"e")).unwrap();
    expect(&mut stream, &frame(b"e"));
    expect_end(&mut stream);
    assert_eq!(node.stop()[0].overdue.total(), 1);
}

#[test]
fn thousands_of_idle_connections_do_not_disturb() {
    let node = TestNode::one();
    let idle: Vec<_> = (0..2000).map(|_| node.connect()).collect();
    let mut stream = node.connect();
    for _ in 0..200 {
        stream.write_all(&frame(b"e")).unwrap();
        expect(&mut stream, &frame(b"e"));
    }
    let mut last = idle.last().unwrap();
    last.write_all(&frame(b"e")).unwrap();
    last.read_exact(&mut [0; PAYLOAD_AT + 3]).unwrap();
    drop(idle);
    assert_eq!(node.stop()[0].connections_accepted, 2001);
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once() {
    let node = TestNode::start(1, &Limits { connections_max: 2, ..Limits::default() }, None);
    let mut kept = [node.connect(), node.connect()];
    for stream in &mut kept {
        stream.write_all(&frame(b"e")).unwrap();
        expect(stream, &frame(b"e"));
    }
    expect_end(&mut node.connect());
    drop(kept);
    // Their slots come free.
    while {
        let mut stream = node.connect();
        stream.write_all(&frame(b"e")).is_err() || stream.read(&mut [0]).unwrap_or(0) == 0
    } {}
    assert!(node.stop()[0].connections_refused >= 1);
}

#[test]
fn a_client_that_does_not_read_is_not_read_either() {
    let limits =
        Limits { unsent_bytes_to_pause: 1 << 20, unsent_bytes_per_connection_max: 4 << 20, ..Limits::default() };
    let node = TestNode::start(1, &limits, None);
    let mut stream = node.connect();
    // 100 answers of 1 MiB: far more than may be unsent, were the requests started all at once.
    let big = frame(&[vec![BIG], (1u32 << 20).to_be_bytes().to_vec()].concat());
    stream.write_all(&big.repeat(100)).unwrap();
    let mut answer = vec![0; 100 << 20];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer.iter().all(|&byte| byte == 7));
    assert_eq!(node.stop()[0].connections_overfull, 0);
}

#[test]
fn datagrams_of_every_size_are_answered() {
    let node = TestNode::one();
    let socket = node.datagrams();
    let mut answer = vec![0; 1 << 16];
    for length in [1, 100, 1400, 1401, 9000, 65_000, 65_507 - PAYLOAD_AT - 2] {
        let request = frame(&vec![ECHO; length]);
        socket.send(&request).unwrap();
        let received = socket.recv(&mut answer).unwrap();
        assert_eq!(answer[..received], request);
    }
    // Whatever comes is the shard's to answer; this one answers nothing with nothing, which is not sent.
    socket.send(b"").unwrap();
    socket.send(b"garbage").unwrap();
    let received = socket.recv(&mut answer).unwrap();
    assert_eq!(&answer[..received], b"garbage");
    node.stop();
}

#[test]
fn ipv6_and_ipv4_are_served_on_one_address() {
    let node = TestNode::start_at("[::]:0", 2, &Limits::default(), None, None);
    for ip in ["127.0.0.1", "::1"] {
        let to = SocketAddr::new(ip.parse().unwrap(), node.address.port());
        let (mut stream, socket) = (connect(to), datagrams(to));
        for number in 0..20 {
            let request = frame(&[ECHO, number]);
            stream.write_all(&request).unwrap();
            expect(&mut stream, &request);
            socket.send(&request).unwrap();
            let mut answer = [0; 200];
            let received = socket.recv(&mut answer).unwrap();
            assert_eq!(answer[..received], request);
        }
    }
    node.stop();
}

#[test]
fn joined_answers_arrive_one_by_one() {
    let node = TestNode::one();
    let socket = node.datagrams();
    let held = 200u8;
    for number in 0..held {
        socket.send(&frame(&[HOLD, number])).unwrap();
    }
    // A shorter and a longer answer among them.
    socket.send(&frame(b"g")).unwrap();
    let mut seen = [false; 200];
    let mut answer = [0; 2000];
    for _ in 0..=held {
        let received = socket.recv(&mut answer).unwrap();
        if answer[PAYLOAD_AT] == HOLD {
            assert_eq!(answer[..received], frame(&[HOLD, answer[PAYLOAD_AT + 1]]));
            assert!(!std::mem::replace(&mut seen[usize::from(answer[PAYLOAD_AT + 1])], true));
        } else {
            assert_eq!(answer[..received], frame(b"g"));
        }
    }
    assert!(seen.iter().all(|seen| *seen));
    node.stop();
}

#[test]
fn datagrams_beyond_the_limit_are_dropped_and_counted() {
    let node = TestNode::start(1, &Limits { datagrams_in_flight_max: 4, ..Limits::default() }, None);
    let socket = node.datagrams();
    for number in 0..10 {
        socket.send(&frame(&[HOLD, number])).unwrap();
    }
    let mut stream = node.connect();
    // When the node has nothing left to receive, it drops: the stream's requests come in after that.
    while {
        stream.write_all(&frame(b"g")).unwrap();
        expect(&mut stream, &frame(b"g"));
        socket.send(&frame(b"e")).unwrap();
        socket.recv(&mut [0; 100]).is_err()
    } {}
    let counters = node.stop();
    assert!(counters[0].datagrams_dropped >= 1, "{counters:?}");
}

#[test]
fn messages_go_around_all_reactors_and_wake_them() {
    for reactors in [2, 4] {
        // Rings between shards that overflow.
        let limits = Limits { messages_between_shards: 4, ..Limits::default() };
        let node = TestNode::start(reactors, &limits, None);
        let mut streams: Vec<_> = (0..8).map(|_| node.connect()).collect();
        for round in 0..20u8 {
            for (stream, number) in streams.iter_mut().zip(0..) {
                stream.write_all(&frame(&[AROUND, round, number]).repeat(30)).unwrap();
            }
            for (stream, number) in streams.iter_mut().zip(0..) {
                expect(stream, &frame(&[AROUND, round, number]).repeat(30));
            }
        }
        // One at a time, with time to fall asleep in between: each hop has to wake.
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(2));
            streams[0].write_all(&frame(b"a")).unwrap();
            expect(&mut streams[0], &frame(b"a"));
        }
        let counters = node.stop();
        let sum = |count: fn(&Counters) -> u64| counters.iter().map(count).sum::<u64>();
        assert_eq!(sum(|counters| counters.messages_received), reactors as u64 * (20 * 8 * 30 + 20));
        assert!(sum(|counters| counters.wakeups_sent) > 0 && sum(|counters| counters.sleeps) > 0);
    }
}

#[test]
fn connections_are_spread_over_the_reactors() {
    let node = TestNode::start(4, &Limits::default(), None);
    let mut streams = Vec::new();
    for _ in 0..40 {
        let mut stream = node.connect();
        stream.write_all(&frame(b"e")).unwrap();
        expect(&mut stream, &frame(b"e"));
        streams.push(stream);
    }
    let accepted: Vec<u64> = node.stop().iter().map(|counters| counters.connections_accepted).collect();
    assert_eq!(accepted.iter().sum::<u64>(), 40);
    assert!(accepted.iter().max().unwrap() - accepted.iter().min().unwrap() <= 4, "{accepted:?}");
}

/// Numbers that look random, the same in each run (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// What a rude client does with one connection or datagram: whatever happens, it does not care.
fn be_rude(to: SocketAddr, dice: &mut Dice) {
    let instructions = [ECHO, LATER, CLOSE, AROUND, BIG];
    let mut bytes = Vec::new();
    for _ in 0..dice.below(40) {
        let instruction = instructions[dice.below(instructions.len())];
        let mut frame = frame(&[&[instruction, 0, 5, 1][..], &vec![0; dice.below(300)]].concat());
        if dice.below(8) == 0 {
            let at = dice.below(frame.len());
            frame[at] ^= 1 << dice.below(8);
        }
        // Frames as they are, cut, or with their header's length a lie.
        frame.truncate(if dice.below(10) == 0 { dice.below(frame.len()) } else { frame.len() });
        bytes.extend_from_slice(&frame);
    }
    if dice.below(4) == 0 {
        bytes.truncate(1400);
        datagrams(to).send(&bytes).unwrap_or_default();
        return;
    }
    let mut stream = connect(to);
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    while !bytes.is_empty() {
        let rest = bytes.split_off(dice.below(bytes.len()) + 1);
        if stream.write_all(&bytes).is_err() {
            return;
        }
        bytes = rest;
    }
    match dice.below(3) {
        0 => stream.shutdown(Shutdown::Write).unwrap_or_default(),
        1 => drop(stream.read(&mut [0; 100])),
        _ => {}
    }
}

#[test]
fn rude_clients_harm_nobody() {
    let limits = Limits {
        requests_per_connection_max: 4,
        close_deadline: Duration::from_millis(50),
        unsent_bytes_per_connection_max: 256 << 20,
        datagrams_in_flight_max: 16,
        messages_between_shards: 2,
        ..Limits::default()
    };
    let node = TestNode::start(2, &limits, Some(20));
    std::thread::scope(|scope| {
        for seed in 1..=4 {
            let to = node.address;
            scope.spawn(move || {
                let mut dice = Dice(seed << 32 | 0x9E37_79B9);
                (0..200).for_each(|_| be_rude(to, &mut dice));
            });
        }
        let mut honest = node.connect();
        for number in 0..200u16 {
            let request = frame(&[&[AROUND][..], &number.to_be_bytes()].concat());
            honest.write_all(&request).unwrap();
            expect(&mut honest, &request);
        }
    });
    for counters in node.stop() {
        assert_eq!((counters.connections_open, counters.connections_overfull), (0, 0), "{counters:?}");
    }
}

#[test]
fn a_node_stops_with_everything_answered() {
    let node = TestNode::start(2, &Limits::default(), None);
    let mut streams: Vec<_> = (0..8).map(|_| node.connect()).collect();
    for stream in &mut streams {
        stream.write_all(&frame(b"e")).unwrap();
        expect(stream, &frame(b"e"));
        stream.write_all(&frame(&[LATER, 0, 100])).unwrap();
    }
    let socket = node.datagrams();
    socket.send(&frame(&[LATER, 0, 100])).unwrap();
    // In the shard before the node stops: a later one is answered.
    socket.send(&frame(b"e")).unwrap();
    socket.recv(&mut [0; 100]).unwrap();
    let address = node.address;
    let counters = node.stop();
    for stream in &mut streams {
        expect(stream, &frame(&[LATER, 0, 100]));
        expect_end(stream);
    }
    socket.recv(&mut [0; 100]).unwrap();
    assert_eq!(counters.iter().map(|counters| counters.connections_accepted).sum::<u64>(), 8);
    assert_eq!(counters.iter().map(|counters| counters.connections_open).sum::<u64>(), 0);
    // The port is free again.
    bind_all(address, 1, 1 << 16).unwrap();
}

/// What is asked while the node works is answered by each reactor, and what it counted adds up.
#[test]
fn reactors_tell_their_numbers_while_they_serve() {
    let node = TestNode::start(2, &Limits::default(), None);
    let desk = node.reactors.desk();
    let numbers = || -> Vec<_> {
        let answers: Vec<_> = (0..desk.reactors()).map(|reactor| desk.ask_numbers(reactor)).collect();
        answers.into_iter().map(|answer| answer.blocking_recv().expect("it serves")).collect()
    };
    let before = numbers();
    assert_eq!(before.iter().map(|numbers| numbers.shard).collect::<Vec<_>>(), [ShardId(0), ShardId(1)]);
    let socket = node.datagrams();
    for number in 0..20 {
        let frame = frame(&[ECHO, number]);
        socket.send(&frame).unwrap();
        assert_eq!(socket.recv(&mut [0; 2048]).unwrap(), frame.len());
    }
    let after = numbers();
    let requests = |of: &[Box<ReactorNumbers>]| of.iter().map(|numbers| numbers.counters.requests).sum::<u64>();
    assert_eq!(requests(&after) - requests(&before), 20);
    assert!(after.iter().zip(&before).all(|(after, before)| after.cpu_us >= before.cpu_us));
    assert!(after.iter().all(|numbers| numbers.counters.turn_us.count() > 0));
    assert!(after.iter().all(|numbers| numbers.queues.datagrams == 0 && numbers.queues.messages_in == 0));
    node.stop();
    assert!((0..2).all(|reactor| desk.ask_numbers(reactor).blocking_recv().is_err()), "nobody is there any more");
}

#[test]
fn a_reactor_that_hangs_gives_no_sign_of_life_and_others_do() {
    let gate = Arc::new(Mutex::new(()));
    let node = TestNode::start_at("127.0.0.1:0", 2, &Limits::default(), None, Some(Arc::clone(&gate)));
    assert_eq!(node.reactors.call_roll(PATIENCE).unwrap(), None);

    let closed = gate.lock().unwrap();
    let mut stream = node.connect();
    stream.write_all(&frame(&[HANG])).unwrap();
    // Until the request has come to its reactor.
    while node.reactors.call_roll(Duration::from_millis(100)).is_ok() {}
    let silent = node.reactors.call_roll(Duration::from_millis(1)).unwrap_err();
    assert!(matches!(silent, ReactorError::Silent), "{silent}");

    drop(closed);
    expect(&mut stream, &frame(&[HANG]));
    // Late answers to the calls before do not count.
    assert_eq!(node.reactors.call_roll(PATIENCE).unwrap(), None);
    node.stop();
}
