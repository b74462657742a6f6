//! Requests as bytes of type 0, ready to be sent but for the two echo bytes, and answers as far as a load looks at them.

use crate::wire::header::{KeyName, LEGACY_BYTES, NodeIdentity};
use crate::wire::request::Request;
use crate::wire::seal::{self, Key, RequestRandom, TERMINATOR};

/// Where a request has its echo.
const REQUEST_ECHO_AT: usize = 30;
/// Where an answer has its echo.
const ANSWER_ECHO_AT: usize = 6;

/// Makes frames for one node.
#[derive(Clone, Copy, Debug)]
pub struct Framer {
    node: NodeIdentity,
}

impl Framer {
    /// For the node of that name.
    pub const fn new(node: NodeIdentity) -> Self {
        Self { node }
    }

    /// Appends the frame of a request.
    pub fn append(&self, request: &Request<'_>, out: &mut Vec<u8>) {
        let mut payload = Vec::new();
        request.encode(&mut payload);
        self.append_payload(request, &payload, out);
    }

    /// Appends the frame of a request with a payload of its own: *echo* has any.
    pub fn append_payload(&self, request: &Request<'_>, payload: &[u8], out: &mut Vec<u8>) {
        // Nothing here is secret, and an answer is known by its echo.
        let random = RequestRandom { nonce: [0; 24], challenge: *b"a load's one" };
        seal::seal(out, self.node, request.command(), (KeyName::None, &Key::None), payload, random)
            .expect("a load's requests are short");
    }

    /// The frame of a request.
    pub fn frame(&self, request: &Request<'_>) -> Box<[u8]> {
        let mut frame = Vec::new();
        self.append(request, &mut frame);
        frame.into()
    }
}

/// Writes the echo of a request.
pub fn set_echo(frame: &mut [u8], echo: u16) {
    frame[REQUEST_ECHO_AT..REQUEST_ECHO_AT + 2].copy_from_slice(&echo.to_be_bytes());
}

/// An answer as a load sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply<'a> {
    /// The echo of its request.
    pub echo: u16,
    /// The status byte.
    pub status: u8,
    /// What it says.
    pub payload: &'a [u8],
    /// All its bytes.
    pub bytes: usize,
}

impl<'a> Reply<'a> {
    /// The answer at the start of `bytes`; `None` where it is not whole.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.first_chunk::<LEGACY_BYTES>()?;
        let body = u32::from_be_bytes([0, header[9], header[10], header[11]]) as usize;
        let payload = bytes.get(LEGACY_BYTES..LEGACY_BYTES + body.saturating_sub(TERMINATOR.len()))?;
        if bytes.len() < LEGACY_BYTES + body {
            return None;
        }
        let echo = u16::from_be_bytes([header[ANSWER_ECHO_AT], header[ANSWER_ECHO_AT + 1]]);
        Some(Self { echo, status: header[2], payload, bytes: LEGACY_BYTES + body })
    }
}

/// Frames of one length, used one after the other, round and round.
#[derive(Clone, Debug)]
pub struct FrameTable {
    bytes: Vec<u8>,
    frame_bytes: usize,
    next: usize,
}

impl FrameTable {
    /// The table of frames that `make` appends, each for one of `items`.
    ///
    /// # Panics
    /// When there is none, or one is of another length.
    pub fn new<T>(items: impl Iterator<Item = T>, mut make: impl FnMut(T, &mut Vec<u8>)) -> Self {
        let (mut bytes, mut frame_bytes) = (Vec::new(), 0);
        for item in items {
            let start = bytes.len();
            make(item, &mut bytes);
            assert!(frame_bytes == 0 || frame_bytes == bytes.len() - start, "frames of one length");
            frame_bytes = bytes.len() - start;
        }
        assert!(frame_bytes > 0);
        Self { bytes, frame_bytes, next: 0 }
    }

    /// The next frame.
    pub fn take(&mut self) -> &[u8] {
        let start = self.next;
        self.next = if start + self.frame_bytes < self.bytes.len() { start + self.frame_bytes } else { 0 };
        &self.bytes[start..start + self.frame_bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::header;
    use crate::wire::reply::{ReplyHead, write};
    use crate::wire::seal::Opened;
    use crate::wire::status::Status;

    const NODE: NodeIdentity = NodeIdentity { raida_id: 3, coin_id: 6 };

    #[test]
    fn an_answer_is_known_by_its_echo() {
        let mut frame = Framer::new(NODE).frame(&Request::CountCoins);
        set_echo(&mut frame, 0xABCD);
        let request = header::parse(&frame, &NODE).unwrap();
        assert_eq!(request.echo(), [0xAB, 0xCD]);
        let head = ReplyHead::new(&request, Opened::default());
        for payload in [b"".as_slice(), b"payload"] {
            let mut bytes = Vec::new();
            write(&mut bytes, &head, &Key::None, Status::Success, 7, payload, [0; 24]);
            let reply = Reply { echo: 0xABCD, status: 250, payload, bytes: bytes.len() };
            assert_eq!(Reply::read(&[bytes.as_slice(), b"next"].concat()), Some(reply));
            assert!((0..bytes.len()).all(|end| Reply::read(&bytes[..end]).is_none()));
        }
    }

    #[test]
    fn a_table_goes_round() {
        let mut table = FrameTable::new(0..3u8, |number, out| out.extend([number; 2]));
        let frames: Vec<_> = (0..4).map(|_| table.take().to_vec()).collect();
        assert_eq!(frames, [[0, 0], [1, 1], [2, 2], [0, 0]]);
    }
}
