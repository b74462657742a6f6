//! The header of a request: where its frame ends, which command it names, which key its body is sealed with.
//!
//! # Types 0, 1, 2: 32 bytes
//! | at | size | field |
//! |---|---|---|
//! | 0 | 1 | version = 1, else status 255 |
//! | 1 | 1 | split id = 0, else 2 |
//! | 2 | 1 | RAIDA id, this node's, else 3 |
//! | 3 | 1 | shard id of the network, 0..=3, else 4 |
//! | 4 | 1 | command group, else 5 |
//! | 5 | 1 | command, else 6 |
//! | 6 | 2 | coin id, this network's, else 7 |
//! | 8 | 8 | ignored |
//! | 16 | 1 | encryption type: 0, 1, 2, 4 or 5, else 27 |
//! | 17 | 5 | type 1: den(1), sn(4) of the key coin; type 2: the first 5 bytes of the locker key |
//! | 22 | 2 | body length |
//! | 24 | 8 | nonce; with type 0 ignored but for the echo |
//! | 30 | 2 | echo, also the end of the nonce |
//!
//! # Types 4, 5: 48 bytes
//! | at | size | field |
//! |---|---|---|
//! | 0 | 17 | as above |
//! | 17 | 2 | body length |
//! | 19 | 5 | den(1), sn(4) of key coin 1 |
//! | 24 | 24 | nonce |
//! | 24 | 5 | type 5: den(1), sn(4) of key coin 2, also the start of the nonce |
//! | 46 | 2 | echo, also the end of the nonce |
//!
//! The checks are made in the order of their offsets; the encryption type is the last. So an error found in a header
//! is always found before the type is known, and is answered in the 32-byte form.

use std::fmt;

use super::items::{Item, RawCoin};
use super::request::Command;
use super::status::Status;

/// The header of types 0, 1 and 2, of a request and of a reply.
pub const LEGACY_BYTES: usize = 32;
/// The header of types 4 and 5, of a request and of a reply.
pub const MODERN_BYTES: usize = 48;
/// The longest body that a header can say.
pub const BODY_BYTES_MAX: usize = u16::MAX as usize;
/// The largest datagram: what UDP over IPv4 carries.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;

const VERSION: u8 = 1;
const NETWORK_SHARD_MAX: u8 = 3;

/// Which node of which network requests must be for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeIdentity {
    /// The node's number in the network, 0..25.
    pub raida_id: u8,
    /// The network: 6 today.
    pub coin_id: u16,
}

/// How a body is sealed: byte 16 of the header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Encryption {
    /// Not at all.
    None = 0,
    /// AES-128 under the AN of a coin.
    Coin = 1,
    /// AES-128 under the key of a locker.
    Locker = 2,
    /// AES-256 and HMAC under the hash of a coin's AN.
    Coin256 = 4,
    /// AES-256 and HMAC under the hash of two coins' ANs.
    TwoCoins256 = 5,
}

impl Encryption {
    /// The encryption of a wire byte, `None` where there is none (status 27).
    pub const fn new(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::Coin),
            2 => Some(Self::Locker),
            4 => Some(Self::Coin256),
            5 => Some(Self::TwoCoins256),
            _ => None,
        }
    }

    /// Whether it is one of the 48-byte headers with HMAC.
    pub const fn is_modern(self) -> bool {
        matches!(self, Self::Coin256 | Self::TwoCoins256)
    }

    /// The size of its request header, and of its reply header.
    pub const fn header_bytes(self) -> usize {
        if self.is_modern() { MODERN_BYTES } else { LEGACY_BYTES }
    }
}

/// What the header says about the key: a name for it, never the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyName {
    /// There is none.
    None,
    /// The AN of this coin.
    Coin(RawCoin),
    /// A locker key that starts so.
    LockerPrefix([u8; 5]),
    /// The hash of the AN of this coin.
    Coin256(RawCoin),
    /// The hash of the ANs of these coins.
    TwoCoins256(RawCoin, RawCoin),
}

impl KeyName {
    /// The encryption that names its key so.
    pub const fn encryption(&self) -> Encryption {
        match self {
            Self::None => Encryption::None,
            Self::Coin(_) => Encryption::Coin,
            Self::LockerPrefix(_) => Encryption::Locker,
            Self::Coin256(_) => Encryption::Coin256,
            Self::TwoCoins256(..) => Encryption::TwoCoins256,
        }
    }
}

/// Without the start of a locker key.
impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::LockerPrefix(_) => f.write_str("LockerPrefix(..)"),
            Self::Coin(coin) => write!(f, "Coin({coin})"),
            Self::Coin256(coin) => write!(f, "Coin256({coin})"),
            Self::TwoCoins256(first, second) => write!(f, "TwoCoins256({first}, {second})"),
        }
    }
}

/// A header that is as it must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    /// Whom it is for.
    pub node: NodeIdentity,
    /// What is asked for.
    pub command: &'static Command,
    /// What the body is sealed with.
    pub key: KeyName,
    /// The nonce; types 0, 1 and 2 have 8 bytes of it, the rest is zero.
    pub nonce: [u8; 24],
    /// Bytes of the body, terminator included.
    pub body_length: usize,
}

/// A header that is not: what the answer to it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderError {
    /// What is wrong.
    pub status: Status,
    /// The command group as sent; 0 where it was not.
    pub group: u8,
    /// Bytes 30..32 as sent; zeros where they were not.
    pub echo: [u8; 2],
}

/// Where a frame ends, as far as the bytes say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// More bytes are needed to know.
    Incomplete,
    /// After so many bytes, header and body; they need not all have arrived.
    Frame(usize),
    /// Nobody knows: the header is wrong. It is answered, and the stream closed.
    Broken,
}

/// Measures the frame at the start of a stream's bytes.
pub fn measure(bytes: &[u8], node: &NodeIdentity) -> Framing {
    match read_header(bytes, node) {
        Ok(header) => Framing::Frame(header.header_bytes() + header.body_length),
        Err(Fault::Short) => Framing::Incomplete,
        Err(Fault::Wrong(_)) => Framing::Broken,
    }
}

/// Reads the header at the start of a frame or a datagram.
///
/// # Errors
/// The first of the table's checks that fails; [`Status::PacketLength`] when the bytes end inside the header.
pub fn parse(bytes: &[u8], node: &NodeIdentity) -> Result<RequestHeader, HeaderError> {
    read_header(bytes, node).map_err(|fault| HeaderError {
        status: match fault {
            Fault::Short => Status::PacketLength,
            Fault::Wrong(status) => status,
        },
        group: bytes.get(4).copied().unwrap_or(0),
        echo: bytes.get(30..32).map_or([0; 2], |echo| [echo[0], echo[1]]),
    })
}

/// Why there is no header.
enum Fault {
    /// The bytes end too early.
    Short,
    /// One of the checks fails.
    Wrong(Status),
}

fn read_header(bytes: &[u8], node: &NodeIdentity) -> Result<RequestHeader, Fault> {
    let (legacy, _) = bytes.split_first_chunk::<LEGACY_BYTES>().ok_or(Fault::Short)?;
    let (command, encryption) = check(legacy, node).map_err(Fault::Wrong)?;
    let word = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let coin = |at: usize| RawCoin::decode(&bytes[at..at + RawCoin::BYTES]);
    if encryption.is_modern() && bytes.len() < MODERN_BYTES {
        return Err(Fault::Short);
    }
    let key = match encryption {
        Encryption::None => KeyName::None,
        Encryption::Coin => KeyName::Coin(coin(17)),
        Encryption::Locker => KeyName::LockerPrefix([legacy[17], legacy[18], legacy[19], legacy[20], legacy[21]]),
        Encryption::Coin256 => KeyName::Coin256(coin(19)),
        Encryption::TwoCoins256 => KeyName::TwoCoins256(coin(19), coin(24)),
    };
    let end = encryption.header_bytes();
    let mut nonce = [0; 24];
    nonce[..end - 24].copy_from_slice(&bytes[24..end]);
    let body_length = word(if encryption.is_modern() { 17 } else { 22 });
    Ok(RequestHeader { node: *node, command, key, nonce, body_length })
}

/// The checks, in the order of the table.
fn check(header: &[u8; LEGACY_BYTES], node: &NodeIdentity) -> Result<(&'static Command, Encryption), Status> {
    if header[0] != VERSION {
        return Err(Status::Routing);
    }
    if header[1] != 0 {
        return Err(Status::SplitId);
    }
    if header[2] != node.raida_id {
        return Err(Status::RaidaId);
    }
    if header[3] > NETWORK_SHARD_MAX {
        return Err(Status::ShardId);
    }
    let command = Command::find(header[4], header[5])?;
    if header[6..8] != node.coin_id.to_be_bytes() {
        return Err(Status::CoinId);
    }
    let encryption = Encryption::new(header[16]).ok_or(Status::EncryptionCode)?;
    Ok((command, encryption))
}

impl RequestHeader {
    /// How its body is sealed.
    pub const fn encryption(&self) -> Encryption {
        self.key.encryption()
    }

    /// Its own size, 32 or 48.
    pub const fn header_bytes(&self) -> usize {
        self.encryption().header_bytes()
    }

    /// The nonce of types 0, 1 and 2.
    pub fn short_nonce(&self) -> &[u8; 8] {
        self.nonce.first_chunk().expect("8 of 24 bytes")
    }

    /// The client's own mark, which the reply carries back.
    pub const fn echo(&self) -> [u8; 2] {
        if self.encryption().is_modern() { [self.nonce[22], self.nonce[23]] } else { [self.nonce[6], self.nonce[7]] }
    }

    /// The body of the frame or datagram that starts with this header. Bytes after the body are ignored.
    ///
    /// # Errors
    /// [`Status::PacketLength`] when the bytes end inside the body.
    pub fn body<'a>(&self, frame: &'a [u8]) -> Result<&'a [u8], Status> {
        let start = self.header_bytes();
        frame.get(start..start + self.body_length).ok_or(Status::PacketLength)
    }

    /// Appends its bytes.
    ///
    /// # Panics
    /// When the body is longer than [`BODY_BYTES_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        let body_length = u16::try_from(self.body_length).expect("a body of 65,535 bytes at most").to_be_bytes();
        let mut bytes = [0; MODERN_BYTES];
        bytes[0] = VERSION;
        bytes[2] = self.node.raida_id;
        bytes[4] = self.command.group;
        bytes[5] = self.command.code;
        bytes[6..8].copy_from_slice(&self.node.coin_id.to_be_bytes());
        bytes[16] = self.encryption() as u8;
        let end = self.header_bytes();
        bytes[24..end].copy_from_slice(&self.nonce[..end - 24]);
        let length_at = if self.encryption().is_modern() { 17 } else { 22 };
        bytes[length_at..length_at + 2].copy_from_slice(&body_length);
        let mut put_coin = |at: usize, coin: &RawCoin| {
            bytes[at] = coin.den as u8;
            bytes[at + 1..at + 5].copy_from_slice(&coin.sn.to_be_bytes());
        };
        match &self.key {
            KeyName::None => (),
            KeyName::Coin(coin) => put_coin(17, coin),
            KeyName::LockerPrefix(prefix) => bytes[17..22].copy_from_slice(prefix),
            KeyName::Coin256(coin) => put_coin(19, coin),
            KeyName::TwoCoins256(first, second) => {
                put_coin(19, first);
                put_coin(24, second);
            }
        }
        out.extend_from_slice(&bytes[..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::CommandKind;
    use super::*;

    const NODE: NodeIdentity = NodeIdentity { raida_id: 11, coin_id: 6 };
    const PLAIN: &[u8; 32] = b"\x01\0\x0B\0\x08\x53\0\x06IGNORED!\0\0\0\0\0\0\0\x22noncenEC";
    const MODERN: &[u8; 48] =
        b"\x01\0\x0B\0\x08\x53\0\x06\0\0\0\0\0\0\0\0\x05\0\x32\xFF\0\0\0\x09\x01\0\x0F\x42\x40nonce to the end.EC";

    /// The header of `bytes` with one byte replaced.
    fn parse_with(bytes: &[u8], at: usize, byte: u8) -> Result<RequestHeader, HeaderError> {
        let mut bytes = bytes.to_vec();
        bytes[at] = byte;
        parse(&bytes, &NODE)
    }

    #[test]
    fn golden_bytes_of_type_0() {
        let header = parse(PLAIN, &NODE).unwrap();
        assert_eq!((header.command.kind, header.key, header.body_length), (CommandKind::Peek, KeyName::None, 34));
        assert_eq!((header.echo(), header.header_bytes(), header.node), (*b"EC", 32, NODE));
        assert_eq!(header.nonce, *b"noncenEC\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        let mut encoded = Vec::new();
        header.encode(&mut encoded);
        let mut expected = *PLAIN;
        expected[8..16].fill(0);
        assert_eq!(encoded, expected);
    }

    #[test]
    fn golden_bytes_of_types_1_and_2() {
        for (code, name, key) in [
            (1, b"\xFF\x00\x00\x01\x00", KeyName::Coin(RawCoin { den: -1, sn: 256 })),
            (2, b"lockr", KeyName::LockerPrefix(*b"lockr")),
        ] {
            let mut bytes = *PLAIN;
            bytes[8..16].fill(0);
            bytes[16] = code;
            bytes[17..22].copy_from_slice(name);
            let header = parse(&bytes, &NODE).unwrap();
            assert_eq!((header.key, header.body_length, header.echo()), (key, 34, *b"EC"));
            let mut encoded = Vec::new();
            header.encode(&mut encoded);
            assert_eq!(encoded, bytes);
        }
    }

    #[test]
    fn golden_bytes_of_types_4_and_5() {
        let first = RawCoin { den: -1, sn: 9 };
        let second = RawCoin { den: 1, sn: 1_000_000 };
        for (code, key) in [(4, KeyName::Coin256(first)), (5, KeyName::TwoCoins256(first, second))] {
            let mut bytes = *MODERN;
            bytes[16] = code;
            let header = parse(&bytes, &NODE).unwrap();
            assert_eq!((header.key, header.body_length, header.echo()), (key, 50, *b"EC"));
            assert_eq!((&header.nonce, header.header_bytes()), (bytes[24..].try_into().unwrap(), 48));
            let mut encoded = Vec::new();
            header.encode(&mut encoded);
            assert_eq!(encoded, bytes);
        }
    }

    #[test]
    fn every_check_in_its_order() {
        let wrong = [
            (0, 2, Status::Routing),
            (1, 1, Status::SplitId),
            (2, 12, Status::RaidaId),
            (3, 4, Status::ShardId),
            (4, 2, Status::CommandGroup),
            (5, 0, Status::Command),
            (6, 1, Status::CoinId),
            (16, 3, Status::EncryptionCode),
        ];
        // From the last to the first, each mistake hides those after it.
        let mut bytes = *PLAIN;
        for (at, byte, status) in wrong.into_iter().rev() {
            bytes[at] = byte;
            assert_eq!(parse(&bytes, &NODE), Err(HeaderError { status, group: bytes[4], echo: *b"EC" }));
            assert_eq!(measure(&bytes, &NODE), Framing::Broken);
        }
        assert!((0..=3).all(|shard| parse_with(PLAIN, 3, shard).is_ok()));
        for code in 0..=u8::MAX {
            let known = [0, 1, 2].contains(&code);
            let status = if [4, 5].contains(&code) { Status::PacketLength } else { Status::EncryptionCode };
            assert_eq!(parse_with(PLAIN, 16, code).map_err(|error| error.status).err(), (!known).then_some(status));
        }
    }

    #[test]
    fn a_frame_is_measured_as_soon_as_its_header_is_there() {
        for length in 0..32 {
            assert_eq!(measure(&PLAIN[..length], &NODE), Framing::Incomplete);
            let error = parse(&PLAIN[..length], &NODE).unwrap_err();
            let group = if length > 4 { 8 } else { 0 };
            assert_eq!(error, HeaderError { status: Status::PacketLength, group, echo: [0; 2] });
        }
        assert_eq!(measure(PLAIN, &NODE), Framing::Frame(66));
        for length in 32..48 {
            assert_eq!(measure(&MODERN[..length], &NODE), Framing::Incomplete);
            assert_eq!(parse(&MODERN[..length], &NODE).unwrap_err().status, Status::PacketLength);
        }
        assert_eq!(measure(MODERN, &NODE), Framing::Frame(98));
    }

    #[test]
    fn a_body_ends_where_the_header_says() {
        let header = parse(PLAIN, &NODE).unwrap();
        let datagram = [PLAIN.as_slice(), &[7; 34], b"ignored"].concat();
        assert_eq!(header.body(&datagram), Ok([7; 34].as_slice()));
        assert_eq!(header.body(&datagram[..65]), Err(Status::PacketLength));
    }

    #[test]
    fn the_start_of_a_locker_key_is_not_printed() {
        assert_eq!(format!("{:?}", KeyName::LockerPrefix(*b"lockr")), "LockerPrefix(..)");
    }
}
