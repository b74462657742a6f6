//! Datagrams of one socket: received into provided buffers, sent joined. Who is at the other end is a [`Peer`].
//!
//! One multishot receive fills provided buffers of 68 KiB, larger than any datagram; only what is touched costs memory.
//!
//! Datagrams of a turn to one peer that have one length leave as one send (UDP_SEGMENT): the kernel's way is walked once
//! for up to 64 of them. Sends do not wait (MSG_DONTWAIT), so the kernel is done with their memory
//! when the submission returns, and only failures complete.
//!
//! The node ([`udp`](super::udp)), the load generator and the floor it is compared with all stand on this.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use hashbrown::HashMap;
use io_uring::types::{Fd, RecvMsgOut};
use io_uring::{opcode, squeue};

use super::buffers::SpareBuffers;
use super::ring::{Completion, Kind, Ring, Tag};
use super::table::Name;

/// A buffer: 16 bytes of `io_uring_recvmsg_out`, an address of at most 28, then up to 65,527 bytes of payload.
pub const BUFFER_BYTES: usize = 68 * 1024;

/// The most that one send can join: datagrams, and bytes of them together.
const SEGMENTS_MAX: usize = 64;
const SEGMENTS_BYTES_MAX: usize = 65_507;
/// Datagrams longer than this are sent alone: a joined send must not need fragments.
const SEGMENT_BYTES_MAX: usize = 1400;
const ADDRESS_BYTES: usize = size_of::<libc::sockaddr_in6>();
/// Sends whose buffers are kept for the next turn.
const SENDS_KEPT: usize = 256;

/// A socket address as the kernel writes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Peer {
    address: [u8; ADDRESS_BYTES],
    length: u8,
}

impl Peer {
    /// Whom a connected socket is connected to: sends to it need no address.
    pub const CONNECTED: Self = Self { address: [0; ADDRESS_BYTES], length: 0 };

    /// The address that the kernel wrote, unless it is none of IPv4 or IPv6.
    fn new(name: &[u8]) -> Option<Self> {
        let mut address = [0; ADDRESS_BYTES];
        address.get_mut(..name.len())?.copy_from_slice(name);
        let peer = Self { address, length: name.len() as u8 };
        peer.ip().map(|_| peer)
    }

    /// Its IP address; one of IPv4 as such, even where it came in over IPv6. `None` for [`Peer::CONNECTED`].
    pub fn ip(&self) -> Option<IpAddr> {
        let family = libc::c_int::from(u16::from_ne_bytes([self.address[0], self.address[1]]));
        match (family, usize::from(self.length)) {
            (libc::AF_INET, length) if length == size_of::<libc::sockaddr_in>() => {
                let octets: [u8; 4] = self.address[4..8].try_into().expect("4 bytes");
                Some(Ipv4Addr::from(octets).into())
            }
            (libc::AF_INET6, ADDRESS_BYTES) => {
                let octets: [u8; 16] = self.address[8..24].try_into().expect("16 bytes");
                Some(Ipv6Addr::from(octets).to_canonical())
            }
            _ => None,
        }
    }
}

/// Datagrams to one peer for one send: all of one length, but that the last may be shorter.
struct Batch {
    bytes: Vec<u8>,
    segment_bytes: usize,
    segments: usize,
    head: Box<Head>,
}

/// What the kernel reads of a send beside its bytes. Boxed, so that it stays in place.
struct Head {
    peer: Peer,
    message: libc::msghdr,
    vector: libc::iovec,
    control: Control,
}

/// A control message that names the length of the segments.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

/// CMSG_SPACE of a u16.
const CONTROL_BYTES: usize = size_of::<libc::cmsghdr>() + 8;

impl Batch {
    /// Fills what the kernel reads of a joined send, in place.
    fn prepare(&mut self) -> *const libc::msghdr {
        let header = libc::cmsghdr {
            cmsg_len: size_of::<libc::cmsghdr>() + size_of::<u16>(),
            cmsg_level: libc::SOL_UDP,
            cmsg_type: libc::UDP_SEGMENT,
        };
        let data = (self.segment_bytes as u16).to_ne_bytes();
        let head = &mut *self.head;
        head.control.0[size_of::<libc::cmsghdr>()..][..data.len()].copy_from_slice(&data);
        // SAFETY: `control` is aligned for the header and has room for it.
        unsafe { head.control.0.as_mut_ptr().cast::<libc::cmsghdr>().write(header) };
        head.vector = libc::iovec { iov_base: self.bytes.as_mut_ptr().cast(), iov_len: self.bytes.len() };
        head.message = no_message();
        if head.peer.length > 0 {
            head.message.msg_name = head.peer.address.as_mut_ptr().cast();
            head.message.msg_namelen = head.peer.length.into();
        }
        head.message.msg_iov = &mut head.vector;
        head.message.msg_iovlen = 1;
        head.message.msg_control = head.control.0.as_mut_ptr().cast();
        head.message.msg_controllen = CONTROL_BYTES;
        &head.message
    }
}

fn no_message() -> libc::msghdr {
    // SAFETY: null pointers and zero lengths are a valid message header.
    unsafe { std::mem::zeroed() }
}

/// The datagrams of a socket.
pub struct Datagrams {
    socket: UdpSocket,
    receiving: bool,
    stopped: bool,
    /// What the kernel is told about the layout of received buffers; it stays in place.
    layout: Box<libc::msghdr>,
    /// The sends of this turn.
    batches: Vec<Batch>,
    /// The sends the kernel was given with the last submission.
    submitted: Vec<Batch>,
    idle: Vec<Batch>,
    /// The send of this turn that a peer's next datagram may join.
    open: HashMap<Peer, usize>,
    spare: SpareBuffers,
    /// Whether sends are joined; over when the kernel or a device refuses one.
    joins: bool,
}

impl Datagrams {
    /// None yet.
    pub fn new(socket: UdpSocket) -> Self {
        let mut layout = Box::new(no_message());
        layout.msg_namelen = ADDRESS_BYTES as u32;
        Self {
            socket,
            receiving: false,
            stopped: false,
            layout,
            batches: Vec::new(),
            submitted: Vec::new(),
            idle: Vec::new(),
            open: HashMap::new(),
            spare: SpareBuffers::new(SENDS_KEPT),
            joins: true,
        }
    }

    /// Arms the receive into buffers of `group`, if it is not armed and should be.
    pub fn receive(&mut self, ring: &mut Ring, group: u16) {
        if !self.receiving && !self.stopped {
            let entry = opcode::RecvMsgMulti::new(Fd(self.socket.as_raw_fd()), &*self.layout, group).build();
            // SAFETY: the layout is boxed and never changed; it is dropped after the ring's operations ended.
            unsafe { ring.push(entry, Tag::only(Kind::ReceiveDatagram)) };
            self.receiving = true;
        }
    }

    /// A receive completed: whether with bytes.
    pub fn received(&mut self, completion: Completion) -> bool {
        self.receiving = completion.more();
        completion.result >= 0
    }

    /// Receives nothing more; what was received is still answered.
    pub fn stop(&mut self, ring: &mut Ring) {
        self.stopped = true;
        if self.receiving {
            ring.cancel(Tag::only(Kind::ReceiveDatagram));
        }
    }

    /// Whether a receive is armed.
    pub fn is_receiving(&self) -> bool {
        self.receiving
    }

    /// Whether sends wait to be queued.
    pub fn has_output(&self) -> bool {
        !self.batches.is_empty()
    }

    /// Reads a received buffer: the datagram and who sent it. `None` when it has to be dropped.
    pub fn open<'a>(&self, buffer: &'a [u8]) -> Option<(Peer, &'a [u8])> {
        let message = RecvMsgOut::parse(buffer, &self.layout).ok()?;
        if self.stopped || message.is_payload_truncated() || message.is_name_data_truncated() {
            return None;
        }
        let layout_bytes = buffer.len() - message.payload_data().len();
        Some((Peer::new(message.name_data())?, &buffer[layout_bytes..]))
    }

    /// Takes a datagram for this turn's sends.
    pub fn send(&mut self, peer: Peer, bytes: &[u8]) {
        let joins = self.joins && bytes.len() <= SEGMENT_BYTES_MAX;
        if joins && let Some(&at) = self.open.get(&peer) {
            let batch = &mut self.batches[at];
            let fits = batch.segments < SEGMENTS_MAX
                && batch.bytes.len() + bytes.len() <= SEGMENTS_BYTES_MAX
                && batch.bytes.len() == batch.segments * batch.segment_bytes
                && bytes.len() <= batch.segment_bytes;
            if fits {
                batch.bytes.extend_from_slice(bytes);
                batch.segments += 1;
                return;
            }
        }
        let mut batch = self.idle.pop().unwrap_or_else(|| {
            let (message, control) = (no_message(), Control([0; CONTROL_BYTES]));
            let vector = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
            let head = Box::new(Head { peer, message, vector, control });
            Batch { bytes: Vec::new(), segment_bytes: 0, segments: 0, head }
        });
        batch.head.peer = peer;
        batch.bytes = self.spare.take();
        batch.bytes.extend_from_slice(bytes);
        batch.segment_bytes = bytes.len();
        batch.segments = 1;
        if joins {
            self.open.insert(peer, self.batches.len());
        }
        self.batches.push(batch);
    }

    /// Queues this turn's sends. Returns how many datagrams they are.
    pub fn flush(&mut self, ring: &mut Ring) -> u64 {
        self.open.clear();
        let socket = Fd(self.socket.as_raw_fd());
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let mut datagrams = 0;
        for mut batch in self.batches.drain(..) {
            let entry = if batch.segments == 1 {
                let peer = &batch.head.peer;
                let address = if peer.length > 0 { peer.address.as_ptr() } else { ptr::null() };
                opcode::Send::new(socket, batch.bytes.as_ptr(), batch.bytes.len() as u32)
                    .flags(flags)
                    .dest_addr(address.cast())
                    .dest_addr_len(peer.length.into())
                    .build()
            } else {
                opcode::SendMsg::new(socket, batch.prepare()).flags(flags as u32).build()
            };
            datagrams += batch.segments as u64;
            let joined = u32::from(batch.segments > 1);
            let tag = Tag { kind: Kind::SendDatagram, name: Name { slot: joined, generation: 0 } };
            // SAFETY: bytes and head are on the heap, and kept in `submitted` until the kernel has taken the submission; a send
            // that does not wait is over by then.
            unsafe { ring.push(entry.flags(squeue::Flags::SKIP_SUCCESS), tag) };
            self.submitted.push(batch);
        }
        datagrams
    }

    /// Uses the memory of the sends again; call it when nothing queued is left in the ring.
    pub fn recycle(&mut self) {
        for mut batch in self.submitted.drain(..) {
            self.spare.give_back(std::mem::take(&mut batch.bytes));
            if self.idle.len() < SENDS_KEPT {
                self.idle.push(batch);
            }
        }
    }

    /// A send failed. If it was joined for a device that cannot, none is joined any more.
    pub fn send_failed(&mut self, completion: Completion) {
        let joined = completion.tag.name.slot == 1;
        if joined && [-libc::EIO, -libc::EINVAL, -libc::EMSGSIZE].contains(&completion.result) && self.joins {
            self.joins = false;
            let error = io::Error::from_raw_os_error(-completion.result);
            log::warn!("datagrams to one peer are no longer joined in one send: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_the_kernel_writes_it() {
        let mut name = [0; ADDRESS_BYTES];
        name[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        name[2..8].copy_from_slice(&[0x12, 0x34, 10, 1, 2, 3]);
        let peer = Peer::new(&name[..16]).unwrap();
        assert_eq!(peer.ip().unwrap(), "10.1.2.3".parse::<IpAddr>().unwrap());
        name[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        name[8..24].copy_from_slice(&Ipv4Addr::new(10, 1, 2, 3).to_ipv6_mapped().octets());
        let peer = Peer::new(&name).unwrap();
        assert_eq!(peer.ip().unwrap(), "10.1.2.3".parse::<IpAddr>().unwrap());
        assert_eq!(Peer::new(&name[..16]), None);
        assert_eq!(Peer::new(&[]), None);
        assert_eq!(Peer::CONNECTED.ip(), None);
    }

    #[test]
    fn datagrams_of_one_length_to_one_peer_are_joined() {
        let mut datagrams = Datagrams::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let peer = |port: u8| {
            let mut name = [0; 16];
            name[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            name[2..8].copy_from_slice(&[0x12, port, 127, 0, 0, 1]);
            Peer::new(&name).unwrap()
        };
        for (port, length) in [(1, 32), (2, 32), (1, 32), (1, 20), (1, 32), (1, 33), (2, 1401), (2, 32)] {
            datagrams.send(peer(port), &vec![port; length]);
        }
        let sends: Vec<_> =
            datagrams.batches.iter().map(|batch| (batch.bytes[0], batch.segments, batch.bytes.len())).collect();
        // A shorter one ends its send, a longer one begins another, a long one is alone.
        assert_eq!(sends, [(1, 3, 84), (2, 2, 64), (1, 1, 32), (1, 1, 33), (2, 1, 1401)]);
    }

    #[test]
    fn a_connected_socket_needs_no_address() {
        let (near, far) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        near.connect(far.local_addr().unwrap()).unwrap();
        let mut ring = Ring::new().unwrap();
        let mut datagrams = Datagrams::new(near);
        let mut bytes = [0; 8];
        // One alone, then two joined.
        for sent in [[b"one".as_slice()].as_slice(), &[b"two", b"too"]] {
            sent.iter().for_each(|bytes| datagrams.send(Peer::CONNECTED, bytes));
            assert_eq!(datagrams.flush(&mut ring), sent.len() as u64);
            ring.submit(None).unwrap();
            datagrams.recycle();
            for expected in sent {
                let length = far.recv(&mut bytes).unwrap();
                assert_eq!(&bytes[..length], *expected);
            }
        }
    }
}
