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
