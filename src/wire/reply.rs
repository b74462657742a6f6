//! The frame of an answer, in both forms, written by the node and read by the client.
//!
//! # For types 0, 1, 2, and for every error in a header: 32 bytes
//! | at | size | field |
//! |---|---|---|
//! | 0 | 1 | RAIDA id |
//! | 1 | 1 | zero |
//! | 2 | 1 | status |
//! | 3 | 1 | command group, as sent |
//! | 4 | 2 | `00 01` |
//! | 6 | 2 | echo |
//! | 8 | 1 | zero |
//! | 9 | 3 | body size |
//! | 12 | 4 | execution time, microseconds |
//! | 16 | 16 | signature ([`Opened::signature`](super::seal::Opened::signature)); zeros where no challenge was read |
//!
//! # For types 4, 5: 48 bytes
//! | at | size | field |
//! |---|---|---|
//! | 0 | 4 | as above |
//! | 4 | 4 | execution time, microseconds |
//! | 8 | 1 | zero |
//! | 9 | 3 | body size |
//! | 12 | 4 | zero |
//! | 16 | 1 | encryption type |
//! | 17 | 5 | den(1), sn(4) of key coin 1 |
//! | 22 | 2 | zero |
//! | 24 | 22 | nonce, random; type 5: den(1), sn(4) of key coin 2, then 17 random bytes |
//! | 46 | 2 | echo |
//!
//! # Body
//! Payload, for types 4 and 5 its HMAC(32), terminator `3E 3E`. The body size counts all of it. Without a payload there
//! is no body at all.
//!
//! Types 1 and 2: the payload is encrypted with the request's key and IV, from the key stream's start. The request was
//! too, so who knows one of the two texts can read the other: the protocol's own weakness, kept because its wallets
//! read nothing else. Types 4 and 5: IV = bytes 24..40 of this header; the HMAC covers the ciphertext, not the header.

use std::fmt;

use ctr::cipher::StreamCipher;
use hmac::Mac;
use subtle::ConstantTimeEq;

use super::header::{Encryption, HeaderError, KeyName, LEGACY_BYTES, MODERN_BYTES, NodeIdentity, RequestHeader};
use super::items::{Item, RawCoin};
use super::seal::{HMAC_BYTES, Key, Opened, Sealed, TERMINATOR, hmac, stream_128, stream_256};
use super::status::Status;

/// The longest body that a reply's header can say.
pub const REPLY_BODY_BYTES_MAX: usize = 0xFF_FFFF;

/// All of a reply's header that is known before the command ran. Small, and copied into its transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyHead {
    raida_id: u8,
    group: u8,
    echo: [u8; 2],
    form: Form,
}

/// What the two forms differ in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// 32 bytes.
    Legacy {
        /// Bytes 16..32.
        signature: [u8; 16],
        /// The request's nonce, which the payload is encrypted with.
        nonce: [u8; 8],
    },
    /// 48 bytes.
    Modern {
        /// Byte 16.
        encryption: Encryption,
        /// Key coin 1.
        first: RawCoin,
        /// Key coin 2 of type 5.
        second: Option<RawCoin>,
    },
}

impl ReplyHead {
    /// The head of the answer to a request with a good header. `opened` is what its body proved, and
    /// [`Opened::default`] where it was not opened.
    pub fn new(header: &RequestHeader, opened: Opened) -> Self {
        let encryption = header.encryption();
        let form = match header.key {
            KeyName::None | KeyName::Coin(_) | KeyName::LockerPrefix(_) => {
                Form::Legacy { signature: opened.signature, nonce: *header.nonce.first_chunk().expect("8 of 24 bytes") }
            }
            KeyName::Coin256(first) => Form::Modern { encryption, first, second: None },
            KeyName::TwoCoins256(first, second) => Form::Modern { encryption, first, second: Some(second) },
        };
        Self { raida_id: header.node.raida_id, group: header.command.group, echo: header.echo(), form }
    }

    /// The head of the answer to a request with a bad header.
    pub fn for_error(node: &NodeIdentity, error: &HeaderError) -> Self {
        let form = Form::Legacy { signature: [0; 16], nonce: [0; 8] };
        Self { raida_id: node.raida_id, group: error.group, echo: error.echo, form }
    }

    /// The size of the reply with a payload of so many bytes.
    pub const fn reply_bytes(&self, payload: usize) -> usize {
        let body = if payload == 0 { 0 } else { payload + self.hmac_bytes() + TERMINATOR.len() };
        self.header_bytes() + body
    }

    const fn header_bytes(&self) -> usize {
        match self.form {
            Form::Legacy { .. } => LEGACY_BYTES,
            Form::Modern { .. } => MODERN_BYTES,
        }
    }

    const fn hmac_bytes(&self) -> usize {
        match self.form {
            Form::Legacy { .. } => 0,
            Form::Modern { .. } => HMAC_BYTES,
        }
    }
}

/// Whether bytes may be a reply of the 32-byte form. So may be a request for 0.1 with zeros before and behind its coin id.
pub fn may_be_one(bytes: &[u8]) -> bool {
    bytes.len() >= LEGACY_BYTES && bytes[1] == 0 && bytes[4..6] == [0, 1] && bytes[8] == 0
}

/// A reply being written: its header has its place, what is appended to the buffer now is its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a reply that was begun must be finished"]
pub struct Draft {
    head: ReplyHead,
    start: usize,
}

/// Begins a reply at the end of `out`. Append the payload, then call [`Draft::finish`].
pub fn begin(out: &mut Vec<u8>, head: &ReplyHead) -> Draft {
    let start = out.len();
    out.resize(start + head.header_bytes(), 0);
    Draft { head: *head, start }
}

/// Appends a whole reply; see [`Draft::finish`].
pub fn write(
    out: &mut Vec<u8>,
    head: &ReplyHead,
    key: &Key,
    status: Status,
    micros: u32,
    payload: &[u8],
    random: [u8; 24],
) {
    let draft = begin(out, head);
    out.extend_from_slice(payload);
    draft.finish(out, key, status, micros, random);
}

impl Draft {
    /// Where the reply starts in its buffer.
    pub const fn start(&self) -> usize {
        self.start
    }

    /// Bytes of payload appended so far.
    pub fn payload_bytes(&self, out: &[u8]) -> usize {
        out.len() - self.start - self.head.header_bytes()
    }

    /// The size of the whole reply with the payload appended so far.
    pub fn reply_bytes(&self, out: &[u8]) -> usize {
        self.head.reply_bytes(self.payload_bytes(out))
    }

    /// Takes back the payload appended so far.
    pub fn discard_payload(&self, out: &mut Vec<u8>) {
        out.truncate(self.start + self.head.header_bytes());
    }

    /// Writes the header, encrypts the payload where it is and ends the body. `micros` is the execution time; the first
    /// 22 bytes of `random` go into the nonce of types 4 and 5, and must be fresh.
    ///
    /// # Panics
    /// When the key is not of the request's encryption although there is a payload, or the payload is too long for a
    /// reply: 16 MiB.
    pub fn finish(self, out: &mut Vec<u8>, key: &Key, status: Status, micros: u32, random: [u8; 24]) {
        let (head, size) = (self.head, self.reply_bytes(out));
        let body_bytes = size - head.header_bytes();
        assert!(body_bytes <= REPLY_BODY_BYTES_MAX, "a reply of {size} bytes");
        let (header, payload) = out[self.start..].split_at_mut(head.header_bytes());
        header[0] = head.raida_id;
        header[2] = status.code();
        header[3] = head.group;
        header[8..12].copy_from_slice(&(body_bytes as u32).to_be_bytes());
        match head.form {
            Form::Legacy { signature, nonce } => {
                header[4..6].copy_from_slice(&[0, 1]);
                header[6..8].copy_from_slice(&head.echo);
                header[12..16].copy_from_slice(&micros.to_be_bytes());
                header[16..32].copy_from_slice(&signature);
                seal_legacy(payload, key, &nonce);
            }
            Form::Modern { encryption, first, second } => {
                header[4..8].copy_from_slice(&micros.to_be_bytes());
                header[16] = encryption as u8;
                put_coin(&mut header[17..22], first);
                header[24..46].copy_from_slice(&random[..22]);
                if let Some(second) = second {
                    put_coin(&mut header[24..29], second);
                }
                header[46..48].copy_from_slice(&head.echo);
                let iv: [u8; 16] = header[24..40].try_into().expect("16 bytes");
                if let Some(proof) = seal_modern(payload, key, &iv) {
                    out.extend_from_slice(&proof);
                }
            }
        }
        if body_bytes > 0 {
            out.extend_from_slice(&TERMINATOR);
        }
        assert_eq!(out.len(), self.start + size);
    }
}

fn put_coin(bytes: &mut [u8], coin: RawCoin) {
    bytes[0] = coin.den as u8;
    bytes[1..5].copy_from_slice(&coin.sn.to_be_bytes());
}

fn seal_legacy(payload: &mut [u8], key: &Key, nonce: &[u8; 8]) {
    match key {
        Key::None => (),
        Key::Aes128(secret) => stream_128(secret, nonce).apply_keystream(payload),
        Key::Aes256(_) => panic!("a reply of 32 bytes has no {key:?}"),
    }
}

/// Encrypts a payload in place; its HMAC, none where there is no payload.
fn seal_modern(payload: &mut [u8], key: &Key, iv: &[u8; 16]) -> Option<[u8; HMAC_BYTES]> {
    if payload.is_empty() {
        return None;
    }
    let Key::Aes256(key) = key else { panic!("a reply of 48 bytes has no {key:?}") };
    stream_256(key, iv).apply_keystream(payload);
    Some(hmac(key, payload).finalize().into_bytes().into())
}

/// What a reply says, besides its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplySummary {
    /// How the request went.
    pub status: Status,
    /// How long the node worked on it, microseconds.
    pub micros: u32,
}

/// Why bytes are not the reply to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyError {
    /// They are not as long as their header says.
    Length,
    /// Another node's.
    RaidaId(u8),
    /// To a command of another group.
    Group(u8),
    /// To another request: the echo differs.
    Echo,
    /// A status this program does not know.
    Status(u8),
    /// The signature differs: the answer is not from a node that knows the key.
    Signature,
    /// The body does not end with its terminator.
    Terminator,
    /// The payload was changed, or not encrypted with the key.
    Hmac,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("the reply is not as long as its header says"),
            Self::RaidaId(id) => write!(f, "the reply is from RAIDA {id}"),
            Self::Group(group) => write!(f, "the reply is to a command of group {group}"),
            Self::Echo => f.write_str("the reply is to another request"),
            Self::Status(code) => write!(f, "the reply has the unknown status {code}"),
            Self::Signature => f.write_str("the reply is not signed with the key of the request"),
            Self::Terminator => f.write_str("the reply does not end with its terminator"),
            Self::Hmac => f.write_str("the reply's HMAC is wrong"),
        }
    }
}

impl std::error::Error for ReplyError {}

/// The size of the reply at the start of a stream's bytes, `None` while too few are there to know.
pub fn measure_reply(bytes: &[u8], encryption: Encryption) -> Option<usize> {
    let header = bytes.first_chunk::<LEGACY_BYTES>()?;
    Some(header_bytes(header, encryption) + body_bytes(header))
}

/// A request of type 4 or 5 is answered in the 32-byte form where its header was wrong: byte 16 tells, being the
/// type in one form and a zero of the signature in the other.
fn header_bytes(header: &[u8; LEGACY_BYTES], encryption: Encryption) -> usize {
    if encryption.is_modern() && header[16] == encryption as u8 { MODERN_BYTES } else { LEGACY_BYTES }
}

fn body_bytes(header: &[u8; LEGACY_BYTES]) -> usize {
    u32::from_be_bytes([0, header[9], header[10], header[11]]) as usize
}

/// Reads the reply to a request: `payload` is cleared and filled with what the node says.
///
/// A refusal without payload may come unsigned, as the node may have been unable to read the challenge.
///
/// # Errors
/// Where it is not the reply to that request, or was changed on its way. `payload` is then empty.
pub fn read(bytes: &[u8], request: &Sealed, key: &Key, payload: &mut Vec<u8>) -> Result<ReplySummary, ReplyError> {
    payload.clear();
    let legacy = bytes.first_chunk::<LEGACY_BYTES>().ok_or(ReplyError::Length)?;
    let start = header_bytes(legacy, request.header.encryption());
    if bytes.len() != start + body_bytes(legacy) {
        return Err(ReplyError::Length);
    }
    let (header, body) = bytes.split_at(start);
    if header[0] != request.header.node.raida_id {
        return Err(ReplyError::RaidaId(header[0]));
    }
    if header[3] != request.header.command.group {
        return Err(ReplyError::Group(header[3]));
    }
    let status = Status::from_code(header[2]).ok_or(ReplyError::Status(header[2]))?;
    let word = |at: usize| u32::decode(&header[at..at + 4]);
    if start == MODERN_BYTES {
        if header[46..48] != request.header.echo() {
            return Err(ReplyError::Echo);
        }
        open_modern(body, key, header[24..40].try_into().expect("16 bytes"), payload)?;
        return Ok(ReplySummary { status, micros: word(4) });
    }
    if header[6..8] != legacy_echo(&request.header) {
        return Err(ReplyError::Echo);
    }
    let unsigned_refusal = body.is_empty() && !status.is_success() && header[16..] == [0; 16];
    let signed = !request.header.encryption().is_modern() && bool::from(header[16..].ct_eq(&request.signature));
    if !signed && !unsigned_refusal {
        return Err(ReplyError::Signature);
    }
    open_legacy(body, key, &request.header.nonce, payload)?;
    Ok(ReplySummary { status, micros: word(12) })
}

/// The echo in a 32-byte reply: bytes 30..32 of the request, whatever its type.
fn legacy_echo(header: &RequestHeader) -> [u8; 2] {
    [header.nonce[6], header.nonce[7]]
}

fn open_legacy(body: &[u8], key: &Key, nonce: &[u8; 24], payload: &mut Vec<u8>) -> Result<(), ReplyError> {
    if body.is_empty() {
        return Ok(());
    }
    payload.extend_from_slice(body.strip_suffix(&TERMINATOR).ok_or(ReplyError::Terminator)?);
    seal_legacy(payload, key, nonce.first_chunk().expect("8 of 24 bytes"));
    Ok(())
}

fn open_modern(body: &[u8], key: &Key, iv: &[u8; 16], payload: &mut Vec<u8>) -> Result<(), ReplyError> {
    if body.is_empty() {
        return Ok(());
    }
    let Key::Aes256(key) = key else { return Err(ReplyError::Hmac) };
    let sealed = body.strip_suffix(&TERMINATOR).ok_or(ReplyError::Terminator)?;
    let (ciphertext, proof) = sealed.split_last_chunk::<HMAC_BYTES>().ok_or(ReplyError::Length)?;
    hmac(key, ciphertext).verify(proof.into()).map_err(|_| ReplyError::Hmac)?;
    payload.extend_from_slice(ciphertext);
    stream_256(key, iv).apply_keystream(payload);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::header;
    use super::super::seal::tests::{NODE, PAYLOAD, keys, sealed};
    use super::*;

    const RANDOM: [u8; 24] = [
        160, 161, 162, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172, 173, 174, 175, 176, 177, 178, 179, 180, 181,
        182, 183,
    ];

    // Computed with another implementation of AES, SHA-256 and HMAC.
    const REPLY_1: [u8; 36] = [
        0xFD, 0x2D, 0xA6, 0x27, 0x51, 0x56, 0x57, 0x20, 0x79, 0x66, 0xEA, 0x66, 0x62, 0x2E, 0x99, 0x9A, 0x36, 0xAA,
        0xBA, 0x3A, 0x18, 0x72, 0x26, 0x2E, 0x67, 0xEC, 0x60, 0x94, 0xBF, 0x8C, 0x5D, 0x14, 0x56, 0xAA, 0x3E, 0x3E,
    ];
    const REPLY_4: [u8; 68] = [
        0x98, 0x2B, 0xC1, 0xB6, 0x62, 0xE2, 0x8E, 0xFB, 0x29, 0xF5, 0x02, 0x21, 0xA3, 0x38, 0x0A, 0x94, 0xC6, 0x4B,
        0x20, 0x97, 0xFA, 0x5C, 0x47, 0x4E, 0x7F, 0xF8, 0x15, 0x6A, 0x1A, 0xE5, 0x86, 0xE7, 0xBA, 0xB1, 0x91, 0x4C,
        0x6C, 0xE6, 0x8B, 0x63, 0xA3, 0x5D, 0xA7, 0xE9, 0xB2, 0x36, 0x39, 0xE0, 0x84, 0xC3, 0xEF, 0xFA, 0x6C, 0x99,
        0xA7, 0x9C, 0x9A, 0x03, 0xCE, 0x5E, 0x01, 0x7A, 0x27, 0x34, 0xAC, 0x62, 0x3E, 0x3E,
    ];
    const REPLY_5: [u8; 68] = [
        0xC7, 0xB4, 0xE9, 0xC5, 0x60, 0x8B, 0xCB, 0x2D, 0xE2, 0xC4, 0x32, 0x63, 0x66, 0xFF, 0xD9, 0x8C, 0x5D, 0xC1,
        0x68, 0x41, 0x3F, 0xC2, 0x54, 0x1E, 0x07, 0xB4, 0xF5, 0x7C, 0x5B, 0x51, 0xFC, 0x2A, 0xCD, 0x7A, 0xEE, 0xD2,
        0x68, 0x4A, 0x6E, 0x9A, 0xF9, 0x21, 0x6A, 0xE3, 0x5F, 0xE5, 0x52, 0xAA, 0x4C, 0xF8, 0x68, 0x31, 0xF1, 0x48,
        0x0D, 0x19, 0x13, 0x9D, 0xA3, 0xC9, 0x42, 0xDB, 0xA5, 0xF5, 0x81, 0xB6, 0x3E, 0x3E,
    ];

    /// The reply with a status and a payload to the request that [`sealed`] makes.
    fn reply(key_name: KeyName, key: &Key, status: Status, payload: &[u8]) -> (Vec<u8>, Sealed) {
        let (_, sealed) = sealed(key_name, key);
        let head = ReplyHead::new(&sealed.header, Opened { signature: sealed.signature });
        let mut out = Vec::new();
        write(&mut out, &head, key, status, 0x0102_0304, payload, RANDOM);
        assert_eq!(out.len(), head.reply_bytes(payload.len()));
        (out, sealed)
    }

    #[test]
    fn golden_bytes_of_the_short_form() {
        let plain = [PAYLOAD.as_slice(), b">>"].concat();
        let bodies = [plain.as_slice(), &REPLY_1, &REPLY_1];
        for ((key_name, key), body) in keys().into_iter().zip(bodies) {
            let (out, sealed) = reply(key_name, &key, Status::Success, PAYLOAD);
            assert_eq!(&out[..16], b"\x0B\0\xFA\0\0\x01\x16\x17\0\0\0\x24\x01\x02\x03\x04");
            assert_eq!(out[16..32], sealed.signature);
            assert_eq!(&out[32..], body);
        }
    }

    #[test]
    fn golden_bytes_of_the_long_form() {
        let [.., (name_4, key_4), (name_5, key_5)] = keys();
        let (out, _) = reply(name_4, &key_4, Status::Success, PAYLOAD);
        assert_eq!(&out[..16], b"\x0B\0\xFA\0\x01\x02\x03\x04\0\0\0\x44\0\0\0\0");
        assert_eq!(&out[16..24], b"\x04\0\0\0\0\x07\0\0");
        assert_eq!((&out[24..46], &out[46..48], &out[48..]), (&RANDOM[..22], &[38, 39][..], &REPLY_4[..]));

        let (out, _) = reply(name_5, &key_5, Status::Success, PAYLOAD);
        assert_eq!(&out[16..29], b"\x05\0\0\0\0\x07\0\0\x01\0\x0F\x42\x40");
        assert_eq!((&out[29..46], &out[46..48], &out[48..]), (&RANDOM[5..22], &[38, 39][..], &REPLY_5[..]));
    }

    #[test]
    fn golden_bytes_of_a_header_error() {
        let error = HeaderError { status: Status::CommandGroup, group: 77, echo: *b"EC" };
        let mut out = b"before".to_vec();
        let head = ReplyHead::for_error(&NODE, &error);
        write(&mut out, &head, &Key::None, error.status, 9, b"", RANDOM);
        let mut expected = *b"\x0B\0\x05\x4D\0\x01EC\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(&out[6..], expected);

        // The client reads it, whatever type its request had.
        expected[3] = 0;
        for (key_name, key) in keys() {
            let (bytes, sealed) = sealed(key_name, &key);
            expected[6..8].copy_from_slice(&bytes[30..32]);
            assert_eq!(measure_reply(&expected, key_name.encryption()), Some(32));
            let summary = read(&expected, &sealed, &key, &mut Vec::new()).unwrap();
            assert_eq!(summary, ReplySummary { status: Status::CommandGroup, micros: 9 });
        }
    }

    #[test]
    fn a_reply_without_payload_has_no_body() {
        for (key_name, key) in keys() {
            let (out, sealed) = reply(key_name, &key, Status::AllPass, b"");
            assert_eq!(out.len(), key_name.encryption().header_bytes());
            assert_eq!(&out[9..12], [0, 0, 0]);
            let mut payload = vec![1];
            assert_eq!(read(&out, &sealed, &key, &mut payload).unwrap().status, Status::AllPass);
            assert!(payload.is_empty());
            // No key is needed for it: it may be the missing key that it reports.
            let head = ReplyHead::new(&sealed.header, Opened::default());
            write(&mut Vec::new(), &head, &Key::None, Status::EncryptionCoinNotFound, 0, b"", RANDOM);
        }
    }

    #[test]
    fn a_draft_is_written_in_place_and_can_be_emptied() {
        for (key_name, key) in keys() {
            let (expected, sealed) = reply(key_name, &key, Status::Success, PAYLOAD);
            let head = ReplyHead::new(&sealed.header, Opened { signature: sealed.signature });
            let mut out = b"another reply".to_vec();
            let draft = begin(&mut out, &head);
            out.extend_from_slice(b"a first try");
            assert_eq!(draft.payload_bytes(&out), 11);
            draft.discard_payload(&mut out);
            out.extend_from_slice(PAYLOAD);
            assert_eq!((draft.start(), draft.reply_bytes(&out)), (13, expected.len()));
            draft.finish(&mut out, &key, Status::Success, 0x0102_0304, RANDOM);
            assert_eq!(out[13..], expected);
        }
    }

    #[test]
    fn a_client_reads_what_a_node_wrote() {
        for (key_name, key) in keys() {
            for payload in [PAYLOAD.as_slice(), b"!", &[9; 70_000]] {
                let (out, sealed) = reply(key_name, &key, Status::Mixed, payload);
                let encryption = key_name.encryption();
                assert!((0..32).all(|length| measure_reply(&out[..length], encryption).is_none()));
                assert!(
                    [32, out.len() - 1, out.len()]
                        .iter()
                        .all(|&l| measure_reply(&out[..l], encryption) == Some(out.len()))
                );
                let mut read_payload = Vec::new();
                let summary = read(&out, &sealed, &key, &mut read_payload).unwrap();
                assert_eq!(summary, ReplySummary { status: Status::Mixed, micros: 0x0102_0304 });
                assert_eq!(read_payload, payload);
            }
        }
    }

    #[test]
    fn a_client_refuses_what_is_not_its_reply() {
        for (key_name, key) in keys() {
            let (out, sealed) = reply(key_name, &key, Status::Success, PAYLOAD);
            let with = |at: usize, byte: u8| {
                let mut changed = out.clone();
                changed[at] = byte;
                let mut payload = vec![1];
                let error = read(&changed, &sealed, &key, &mut payload).unwrap_err();
                assert!(payload.is_empty());
                error
            };
            let (last, modern) = (out.len() - 1, key_name.encryption().is_modern());
            assert_eq!(with(0, 12), ReplyError::RaidaId(12));
            assert_eq!(with(2, 1), ReplyError::Status(1));
            assert_eq!(with(3, 9), ReplyError::Group(9));
            assert_eq!(with(11, 0), ReplyError::Length);
            assert_eq!(with(if modern { 47 } else { 7 }, 0), ReplyError::Echo);
            assert_eq!(with(last, b'!'), ReplyError::Terminator);
            assert_eq!(
                with(if modern { 50 } else { 20 }, 1),
                if modern { ReplyError::Hmac } else { ReplyError::Signature }
            );
            assert_eq!(read(&out[..last], &sealed, &key, &mut Vec::new()), Err(ReplyError::Length));
            assert_eq!(read(b"", &sealed, &key, &mut Vec::new()), Err(ReplyError::Length));
        }
    }

    #[test]
    fn a_success_must_be_signed_and_a_refusal_need_not() {
        for (key_name, key) in keys().into_iter().take(3) {
            let (_, sealed) = sealed(key_name, &key);
            let head = ReplyHead::new(&sealed.header, Opened::default());
            let unsigned = |status, payload: &[u8]| {
                let mut out = Vec::new();
                write(&mut out, &head, &key, status, 0, payload, RANDOM);
                read(&out, &sealed, &key, &mut Vec::new()).map(|summary| summary.status)
            };
            assert_eq!(unsigned(Status::Crc, b""), Ok(Status::Crc));
            assert_eq!(unsigned(Status::AllPass, b""), Err(ReplyError::Signature));
            assert_eq!(unsigned(Status::AllFail, b"payload"), Err(ReplyError::Signature));
        }
    }

    #[test]
    fn the_reply_to_a_request_without_body_has_a_zero_signature() {
        let bytes = b"\x01\0\x0B\0\0\x01\0\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0EC";
        let header = header::parse(bytes, &NODE).unwrap();
        let mut out = Vec::new();
        let head = ReplyHead::new(&header, Opened::default());
        write(&mut out, &head, &Key::None, Status::Success, 0, b"1.0", RANDOM);
        assert_eq!(out[16..], *b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x001.0>>");
        let mut payload = Vec::new();
        read(&out, &Sealed { header, signature: [0; 16] }, &Key::None, &mut payload).unwrap();
        assert_eq!(payload, b"1.0");
    }
}
