//! What keeps a body from being read, and what proves that it is whole: keys, AES-CTR, challenge, HMAC.
//!
//! # Body of types 0, 1, 2
//! | at | size | field |
//! |---|---|---|
//! | 0 | 12 | random bytes |
//! | 12 | 4 | CRC-32 (zlib's) of them; the 16 bytes are the challenge |
//! | 16 | n | payload |
//! | 16 + n | 2 | terminator `3E 3E`, never encrypted |
//!
//! Types 1 and 2: challenge and payload are one AES-128-CTR stream, IV = nonce(8) ‖ 8 zero bytes, under the AN of the
//! key coin or the key of the locker.
//!
//! # Body of types 4, 5
//! | at | size | field |
//! |---|---|---|
//! | 0 | n | payload, AES-256-CTR, IV = the first 16 bytes of the nonce |
//! | n | 32 | HMAC-SHA256 of those n bytes as they stand |
//! | n + 32 | 2 | terminator `3E 3E` |
//!
//! Key of both: SHA-256(AN) or SHA-256(AN1 ‖ AN2). The HMAC covers neither the header nor the nonce: that is the
//! protocol's, and no reason to trust a header.
//!
//! CTR counts in all 16 bytes of the IV, big-endian.

use std::fmt;

use aes::{Aes128, Aes256};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::coin::Secret;

use super::header::{BODY_BYTES_MAX, Encryption, KeyName, NodeIdentity, RequestHeader};
use super::request::Command;
use super::status::Status;

/// What every body ends with.
pub const TERMINATOR: [u8; 2] = *b">>";
/// The challenge, with its CRC.
pub const CHALLENGE_BYTES: usize = 16;
/// The HMAC of types 4 and 5.
pub const HMAC_BYTES: usize = 32;

/// The key of a request and of its reply. Wiped when dropped; never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub enum Key {
    /// Type 0: there is none.
    None,
    /// Types 1 and 2: the AN of the key coin, or the locker's key.
    Aes128(Secret),
    /// Types 4 and 5: the hash of one AN or two.
    Aes256([u8; 32]),
}

impl Key {
    /// The key of types 1 and 2.
    pub const fn of_secret(an_or_locker_key: Secret) -> Self {
        Self::Aes128(an_or_locker_key)
    }

    /// The key of type 4.
    pub fn of_coin(an: &Secret) -> Self {
        Self::Aes256(Sha256::digest(an.bytes()).into())
    }

    /// The key of type 5.
    pub fn of_two_coins(first_an: &Secret, second_an: &Secret) -> Self {
        Self::Aes256(Sha256::new().chain_update(first_an.bytes()).chain_update(second_an.bytes()).finalize().into())
    }

    /// Whether it is a key of this encryption.
    pub const fn is_of(&self, encryption: Encryption) -> bool {
        matches!(
            (self, encryption),
            (Self::None, Encryption::None)
                | (Self::Aes128(_), Encryption::Coin | Encryption::Locker)
                | (Self::Aes256(_), Encryption::Coin256 | Encryption::TwoCoins256)
        )
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "Key::None",
            Self::Aes128(_) => "Key::Aes128(..)",
            Self::Aes256(_) => "Key::Aes256(..)",
        })
    }
}

/// The key stream of types 1 and 2. A request and its reply both start it anew: with the same nonce, as the protocol
/// has no other, so that who knows one of the two texts can read the other.
pub(super) fn stream_128(secret: &Secret, nonce: &[u8; 8]) -> Ctr128BE<Aes128> {
    let mut iv = [0; 16];
    iv[..8].copy_from_slice(nonce);
    Ctr128BE::new(secret.bytes().into(), &iv.into())
}

/// The key stream of types 4 and 5.
pub(super) fn stream_256(key: &[u8; 32], iv: &[u8; 16]) -> Ctr128BE<Aes256> {
    Ctr128BE::new(key.into(), iv.into())
}

/// The HMAC of types 4 and 5, over a ciphertext.
pub(super) fn hmac(key: &[u8; 32], ciphertext: &[u8]) -> Hmac<Sha256> {
    let mac: Hmac<Sha256> = KeyInit::new_from_slice(key).expect("an HMAC key of any length");
    mac.chain_update(ciphertext)
}

/// What a body proved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Opened {
    /// What shows the client that the node read its challenge, bytes 16..32 of a 32-byte reply header: type 0 the
    /// challenge as sent, types 1 and 2 the challenge XOR the key; zeros without a body and for types 4 and 5.
    pub signature: [u8; 16],
}

/// Looks at a body's frame, which needs no key.
///
/// # Errors
/// [`Status::EmptyRequest`] for no body where the command wants one, [`Status::MissingTerminator`],
/// [`Status::PacketLength`] for a body that is shorter than its frame.
pub fn check_frame(header: &RequestHeader, body: &[u8]) -> Result<(), Status> {
    if body.is_empty() {
        return if header.command.allows_no_body() { Ok(()) } else { Err(Status::EmptyRequest) };
    }
    if body.len() < TERMINATOR.len() {
        return Err(Status::PacketLength);
    }
    if !body.ends_with(&TERMINATOR) {
        return Err(Status::MissingTerminator);
    }
    if body.len() < frame_bytes(header.encryption()) { Err(Status::PacketLength) } else { Ok(()) }
}

/// What a request's body has besides its payload: 18 or 34 bytes.
pub const fn frame_bytes(encryption: Encryption) -> usize {
    TERMINATOR.len() + if encryption.is_modern() { HMAC_BYTES } else { CHALLENGE_BYTES }
}

/// Opens a body: `payload` is cleared and filled with what the client says.
///
/// Call [`check_frame`] first. Allocates only where `payload` has less room than the body is long.
///
/// # Errors
/// [`Status::Crc`] or [`Status::Hmac`] when the body was not sealed with this key; `payload` is then empty.
/// A body that [`check_frame`] refuses is refused here too.
///
/// # Panics
/// When the key is not of the header's encryption.
pub fn open(header: &RequestHeader, key: &Key, body: &[u8], payload: &mut Vec<u8>) -> Result<Opened, Status> {
    payload.clear();
    assert!(key.is_of(header.encryption()), "{key:?} for {:?}", header.encryption());
    check_frame(header, body)?;
    let Some(sealed) = body.strip_suffix(&TERMINATOR) else { return Ok(Opened::default()) };
    match key {
        Key::None => {
            let (challenge, plain) = sealed.split_first_chunk().ok_or(Status::PacketLength)?;
            check_challenge(challenge)?;
            payload.extend_from_slice(plain);
            Ok(Opened { signature: *challenge })
        }
        Key::Aes128(secret) => {
            let (challenge, ciphertext) = sealed.split_first_chunk().ok_or(Status::PacketLength)?;
            let (mut challenge, mut stream) = (*challenge, stream_128(secret, header.short_nonce()));
            stream.apply_keystream(&mut challenge);
            check_challenge(&challenge)?;
            payload.extend_from_slice(ciphertext);
            stream.apply_keystream(payload);
            Ok(Opened { signature: *Secret::new(challenge).xor(*secret).bytes() })
        }
        Key::Aes256(key) => {
            let (ciphertext, proof) = sealed.split_last_chunk::<HMAC_BYTES>().ok_or(Status::PacketLength)?;
            hmac(key, ciphertext).verify(proof.into()).map_err(|_| Status::Hmac)?;
            payload.extend_from_slice(ciphertext);
            stream_256(key, iv_256(&header.nonce)).apply_keystream(payload);
            Ok(Opened::default())
        }
    }
}

fn iv_256(nonce: &[u8; 24]) -> &[u8; 16] {
    nonce.first_chunk().expect("16 of 24 bytes")
}

fn check_challenge(challenge: &[u8; CHALLENGE_BYTES]) -> Result<(), Status> {
    let (random, crc) = challenge.split_at(12);
    if crc == crc32fast::hash(random).to_be_bytes() { Ok(()) } else { Err(Status::Crc) }
}

/// The challenge of a body as it stands, for [`locker_key_fits`]; `None` for a body too short to have one.
pub fn locker_challenge(body: &[u8]) -> Option<[u8; CHALLENGE_BYTES]> {
    body.first_chunk().copied()
}

/// Whether a type 2 body was sealed with this locker key: several lockers may have the five bytes of the header.
pub fn locker_key_fits(header: &RequestHeader, candidate: &Secret, challenge: &[u8; CHALLENGE_BYTES]) -> bool {
    let mut challenge = *challenge;
    stream_128(candidate, header.short_nonce()).apply_keystream(&mut challenge);
    check_challenge(&challenge).is_ok()
}

/// The random bytes of a request.
#[derive(Clone, Copy)]
pub struct RequestRandom {
    /// For the header; as many as the type has.
    pub nonce: [u8; 24],
    /// For the challenge of types 0, 1, 2.
    pub challenge: [u8; 12],
}

/// What a client keeps of a request, to know its reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The header that was sent.
    pub header: RequestHeader,
    /// What the reply must carry, see [`Opened::signature`].
    pub signature: [u8; 16],
}

/// Appends a whole request, header and body.
///
/// # Errors
/// [`Status::PacketLength`] when the payload is longer than a request can be; nothing is appended.
///
/// # Panics
/// When the key is not of the named encryption.
pub fn seal(
    out: &mut Vec<u8>,
    node: NodeIdentity,
    command: &'static Command,
    (key_name, key): (KeyName, &Key),
    payload: &[u8],
    random: RequestRandom,
) -> Result<Sealed, Status> {
    let encryption = key_name.encryption();
    assert!(key.is_of(encryption), "{key:?} for {encryption:?}");
    let body_length = payload.len() + frame_bytes(encryption);
    if body_length > BODY_BYTES_MAX {
        return Err(Status::PacketLength);
    }
    let header =
        RequestHeader { node, command, key: key_name, nonce: request_nonce(key_name, random.nonce), body_length };
    header.encode(out);
    let start = out.len();
    let mut challenge = [0; CHALLENGE_BYTES];
    challenge[..12].copy_from_slice(&random.challenge);
    challenge[12..].copy_from_slice(&crc32fast::hash(&random.challenge).to_be_bytes());
    if !encryption.is_modern() {
        out.extend_from_slice(&challenge);
    }
    out.extend_from_slice(payload);
    let mut signature = [0; 16];
    match key {
        Key::None => signature = challenge,
        Key::Aes128(secret) => {
            stream_128(secret, header.short_nonce()).apply_keystream(&mut out[start..]);
            signature = *Secret::new(challenge).xor(*secret).bytes();
        }
        Key::Aes256(key) => {
            stream_256(key, iv_256(&header.nonce)).apply_keystream(&mut out[start..]);
            let proof = hmac(key, &out[start..]).finalize().into_bytes();
            out.extend_from_slice(&proof);
        }
    }
    out.extend_from_slice(&TERMINATOR);
    Ok(Sealed { header, signature })
}

/// The nonce as the header will say it: as long as the type has it, and with the second coin's name in type 5.
fn request_nonce(key: KeyName, mut nonce: [u8; 24]) -> [u8; 24] {
    match key {
        KeyName::TwoCoins256(_, second) => {
            nonce[0] = second.den as u8;
            nonce[1..5].copy_from_slice(&second.sn.to_be_bytes());
        }
        KeyName::Coin256(_) => (),
        KeyName::None | KeyName::Coin(_) | KeyName::LockerPrefix(_) => nonce[8..].fill(0),
    }
    nonce
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::items::RawCoin;
    use super::super::request::CommandKind;
    use super::*;

    pub const NODE: NodeIdentity = NodeIdentity { raida_id: 11, coin_id: 6 };
    pub const AN: Secret = Secret::new(*b"0123456789abcdef");
    pub const AN_2: Secret = Secret::new(*b"ABCDEFGHIJKLMNOP");
    pub const COIN: RawCoin = RawCoin { den: 0, sn: 7 };
    pub const COIN_2: RawCoin = RawCoin { den: 1, sn: 1_000_000 };
    pub const PAYLOAD: &[u8; 34] = b"a payload of thirty-four bytes ..!";
    pub const RANDOM: RequestRandom = RequestRandom {
        nonce: [16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39],
        challenge: *b"twelve bytes",
    };

    // Computed with another implementation of AES, SHA-256, HMAC and CRC-32.
    const CHALLENGE: [u8; 16] =
        [0x74, 0x77, 0x65, 0x6C, 0x76, 0x65, 0x20, 0x62, 0x79, 0x74, 0x65, 0x73, 0xC5, 0xBF, 0xCC, 0xA0];
    const BODY_1: [u8; 52] = [
        0xE8, 0x7A, 0xB3, 0x2A, 0x5E, 0x5F, 0x18, 0x23, 0x64, 0x32, 0xE0, 0x73, 0x87, 0xE5, 0x3D, 0x53, 0x25, 0xFE,
        0xB3, 0x76, 0x07, 0x71, 0x3C, 0x3D, 0x23, 0xAE, 0x76, 0x86, 0xFA, 0x8B, 0x15, 0x53, 0x0A, 0xFF, 0xCE, 0xBB,
        0x22, 0x55, 0x10, 0xCB, 0x19, 0x3F, 0x17, 0x33, 0xF4, 0x27, 0xFF, 0xEE, 0xC3, 0x9B, 0x3E, 0x3E,
    ];
    const SIGNATURE_1: [u8; 16] =
        [0x44, 0x46, 0x57, 0x5F, 0x42, 0x50, 0x16, 0x55, 0x41, 0x4D, 0x04, 0x11, 0xA6, 0xDB, 0xA9, 0xC6];
    const BODY_4: [u8; 68] = [
        0x82, 0x01, 0x08, 0x26, 0x03, 0xAD, 0x62, 0xA4, 0x1B, 0x22, 0x86, 0xA6, 0xBA, 0x08, 0x16, 0x7C, 0xD3, 0x4F,
        0x6D, 0x98, 0x7A, 0x4C, 0x94, 0xC9, 0xAD, 0x9E, 0xF0, 0xFF, 0xAA, 0x0B, 0x38, 0x3A, 0xA9, 0x1E, 0x0C, 0xE6,
        0xD0, 0x78, 0x41, 0xB7, 0xAF, 0xC0, 0x71, 0x39, 0xFC, 0x9D, 0xA0, 0x7F, 0x77, 0x4E, 0x54, 0x77, 0x81, 0xBF,
        0x9A, 0x0B, 0xD1, 0x29, 0x22, 0x29, 0x32, 0xFD, 0xDC, 0x83, 0x8A, 0xD9, 0x3E, 0x3E,
    ];
    const BODY_5: [u8; 68] = [
        0xFD, 0x45, 0x7D, 0x14, 0x2F, 0xF3, 0xF6, 0x92, 0x6B, 0xC1, 0x25, 0xBB, 0x52, 0x63, 0x13, 0xC4, 0xD9, 0xB8,
        0x08, 0xFE, 0x09, 0x7B, 0xCB, 0x14, 0x7C, 0x2E, 0xE7, 0xDB, 0x9A, 0x5C, 0x4F, 0x70, 0xC0, 0x38, 0xA0, 0x20,
        0x48, 0xB8, 0xEA, 0xB8, 0xCE, 0xD2, 0x3F, 0xBE, 0x3C, 0xDB, 0xB0, 0x8B, 0xFE, 0x18, 0x29, 0x2A, 0xFD, 0x3A,
        0x62, 0xAE, 0x17, 0xEC, 0x47, 0xAE, 0x34, 0xFB, 0x97, 0xDE, 0xD4, 0x49, 0x3E, 0x3E,
    ];

    /// Every encryption: the name of its key and the key.
    pub fn keys() -> [(KeyName, Key); 5] {
        [
            (KeyName::None, Key::None),
            (KeyName::Coin(COIN), Key::of_secret(AN)),
            (KeyName::LockerPrefix(*b"01234"), Key::of_secret(AN)),
            (KeyName::Coin256(COIN), Key::of_coin(&AN)),
            (KeyName::TwoCoins256(COIN, COIN_2), Key::of_two_coins(&AN, &AN_2)),
        ]
    }

    /// The request with [`PAYLOAD`], an *echo*.
    pub fn sealed(key_name: KeyName, key: &Key) -> (Vec<u8>, Sealed) {
        let mut bytes = Vec::new();
        let command = CommandKind::Echo.command();
        let sealed = seal(&mut bytes, NODE, command, (key_name, key), PAYLOAD, RANDOM).unwrap();
        (bytes, sealed)
    }

    #[test]
    fn golden_bytes_of_every_body() {
        let plain = [CHALLENGE.as_slice(), PAYLOAD, b">>"].concat();
        let bodies: [(&[u8], [u8; 16]); 5] = [
            (&plain, CHALLENGE),
            (&BODY_1, SIGNATURE_1),
            (&BODY_1, SIGNATURE_1),
            (&BODY_4, [0; 16]),
            (&BODY_5, [0; 16]),
        ];
        for ((key_name, key), (body, signature)) in keys().into_iter().zip(bodies) {
            let (bytes, sealed) = sealed(key_name, &key);
            let header = super::super::header::parse(&bytes, &NODE).unwrap();
            assert_eq!((header, sealed.signature), (sealed.header, signature));
            assert_eq!(header.body(&bytes), Ok(body), "{key_name:?}");
            let mut payload = b"what was there before".to_vec();
            assert_eq!(check_frame(&header, body), Ok(()));
            assert_eq!(open(&header, &key, body, &mut payload), Ok(Opened { signature }));
            assert_eq!(payload, PAYLOAD);
        }
    }

    #[test]
    fn every_flipped_bit_is_refused_where_the_encryption_proves_it() {
        for (key_name, key) in keys() {
            let (bytes, sealed) = sealed(key_name, &key);
            let body = sealed.header.body(&bytes).unwrap();
            // Types 0 to 2 prove the challenge alone; that is the protocol's.
            let (proved, status) = if key_name.encryption().is_modern() {
                (body.len() - 2, Status::Hmac)
            } else {
                (CHALLENGE_BYTES, Status::Crc)
            };
            let mut payload = Vec::new();
            for bit in 0..proved * 8 {
                let mut flipped = body.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(open(&sealed.header, &key, &flipped, &mut payload), Err(status));
                assert!(payload.is_empty());
            }
        }
    }

    #[test]
    fn another_key_opens_nothing() {
        for (key_name, _) in keys().into_iter().skip(1) {
            let (right, wrong) = match key_name.encryption() {
                Encryption::Coin256 => (Key::of_coin(&AN), Key::of_coin(&AN_2)),
                Encryption::TwoCoins256 => (Key::of_two_coins(&AN, &AN_2), Key::of_two_coins(&AN_2, &AN)),
                _ => (Key::of_secret(AN), Key::of_secret(AN_2)),
            };
            let (bytes, sealed) = sealed(key_name, &right);
            let body = sealed.header.body(&bytes).unwrap();
            let status = if key_name.encryption().is_modern() { Status::Hmac } else { Status::Crc };
            assert_eq!(open(&sealed.header, &wrong, body, &mut Vec::new()), Err(status));
        }
    }

    #[test]
    fn of_lockers_with_one_prefix_the_challenge_tells() {
        let (bytes, sealed) = sealed(KeyName::LockerPrefix(*b"01234"), &Key::of_secret(AN));
        let challenge = locker_challenge(sealed.header.body(&bytes).unwrap()).unwrap();
        assert!(locker_key_fits(&sealed.header, &AN, &challenge));
        assert!(!locker_key_fits(&sealed.header, &Secret::new(*b"01234and another"), &challenge));
        assert_eq!(locker_challenge(&[0; 15]), None);
    }

    #[test]
    fn frames_are_checked_before_any_key() {
        let header = |key, kind: CommandKind| RequestHeader {
            node: NODE,
            command: kind.command(),
            key,
            nonce: [0; 24],
            body_length: 0,
        };
        for (key_name, key) in keys() {
            let peek = header(key_name, CommandKind::Peek);
            let shortest = if key_name.encryption().is_modern() { 34 } else { 18 };
            let body = |length: usize| [vec![7; length - 2], TERMINATOR.to_vec()].concat();
            assert_eq!(check_frame(&peek, b""), Err(Status::EmptyRequest));
            assert_eq!(check_frame(&peek, b">"), Err(Status::PacketLength));
            assert_eq!(check_frame(&peek, &[7; 60]), Err(Status::MissingTerminator));
            assert_eq!(check_frame(&peek, &body(shortest - 1)), Err(Status::PacketLength));
            assert_eq!(check_frame(&peek, &body(shortest)), Ok(()));
            assert_eq!(open(&peek, &key, &body(shortest - 1), &mut Vec::new()), Err(Status::PacketLength));
            for kind in [CommandKind::Echo, CommandKind::Version, CommandKind::CountCoins] {
                assert_eq!(check_frame(&header(key_name, kind), b""), Ok(()));
                assert_eq!(open(&header(key_name, kind), &key, b"", &mut Vec::new()), Ok(Opened::default()));
            }
        }
    }

    #[test]
    fn the_longest_request() {
        for (key_name, key) in keys() {
            let longest = BODY_BYTES_MAX - frame_bytes(key_name.encryption());
            let (mut bytes, command) = (Vec::new(), CommandKind::Echo.command());
            let mut seal = |length| seal(&mut bytes, NODE, command, (key_name, &key), &vec![0; length], RANDOM);
            assert_eq!(seal(longest + 1), Err(Status::PacketLength));
            assert_eq!(seal(longest).unwrap().header.body_length, BODY_BYTES_MAX);
            assert_eq!(bytes.len(), key_name.encryption().header_bytes() + BODY_BYTES_MAX);
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", keys().map(|(_, key)| key)).matches("(..)").count(), 4);
    }
}
