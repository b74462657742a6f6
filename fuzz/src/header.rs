//! The header of a request: where its frame ends, and what is wrong with it, whatever the bytes are.

use raida::wire::header::{Framing, HeaderError, KeyName, LEGACY_BYTES, MODERN_BYTES, RequestHeader, measure, parse};
use raida::wire::items::RawCoin;
use raida::wire::reply::{self, ReplyHead, measure_reply};
use raida::wire::request::COMMANDS;
use raida::wire::seal::Key;
use raida::wire::status::Status;

use crate::NODE;

/// Reads the bytes as the start of a stream.
pub fn run(bytes: &[u8]) -> bool {
    let framing = measure(bytes, &NODE);
    match parse(bytes, &NODE) {
        Ok(header) => {
            check_good(bytes, &header, framing);
            true
        }
        Err(error) => {
            check_bad(bytes, &error, framing);
            false
        }
    }
}

/// What must be true of a header that is taken.
fn check_good(bytes: &[u8], header: &RequestHeader, framing: Framing) {
    let (size, node) = (header.header_bytes(), &NODE);
    assert_eq!(first_mistake(bytes), None);
    assert_eq!(framing, Framing::Frame(size + header.body_length));
    assert_eq!(size, if matches!(bytes[16], 4 | 5) { MODERN_BYTES } else { LEGACY_BYTES });
    assert_eq!(header.echo(), bytes[size - 2..size]);

    // Nothing but the header's own bytes counts, and all of them are needed.
    assert_eq!(parse(&bytes[..size], node), Ok(*header));
    assert_eq!(measure(&bytes[..size - 1], node), Framing::Incomplete);
    assert_eq!(header.body(bytes).is_ok(), bytes.len() >= size + header.body_length);

    // It is written as it was read, but for what is ignored.
    let mut canonical = [0; MODERN_BYTES];
    canonical[..size].copy_from_slice(&bytes[..size]);
    canonical[3] = 0;
    canonical[8..16].fill(0);
    if header.key == KeyName::None {
        canonical[17..22].fill(0);
    }
    let mut encoded = Vec::with_capacity(MODERN_BYTES);
    header.encode(&mut encoded);
    assert_eq!(encoded, canonical[..size]);
    assert_eq!(parse(&encoded, node), Ok(*header));
}

/// What must be true of a header that is refused, and of the answer to it.
fn check_bad(bytes: &[u8], error: &HeaderError, framing: Framing) {
    match error.status {
        Status::PacketLength => {
            let needed = if matches!(bytes.get(16), Some(4 | 5)) { MODERN_BYTES } else { LEGACY_BYTES };
            assert!(framing == Framing::Incomplete && bytes.len() < needed);
        }
        status => assert!(framing == Framing::Broken && first_mistake(bytes) == Some(status), "{status}"),
    }
    assert_eq!(error.group, bytes.get(4).copied().unwrap_or(0));
    assert_eq!(error.echo[..], *bytes.get(30..32).unwrap_or(&[0; 2]));
    let mut out = Vec::with_capacity(LEGACY_BYTES);
    reply::write(&mut out, &ReplyHead::for_error(&NODE, error), &Key::None, error.status, 0, &[], [0; 24]);
    assert_eq!((out.len(), out[2], out[3]), (LEGACY_BYTES, error.status.code(), error.group));
    let encryption = raida::wire::header::Encryption::TwoCoins256;
    assert_eq!(measure_reply(&out, encryption), Some(LEGACY_BYTES));
}

/// The first mistake in 32 bytes, by the protocol's table.
fn first_mistake(bytes: &[u8]) -> Option<Status> {
    let header = bytes.first_chunk::<LEGACY_BYTES>()?;
    let of_group = || COMMANDS.iter().filter(|command| command.group == header[4]);
    [
        (header[0] == 1, Status::Routing),
        (header[1] == 0, Status::SplitId),
        (header[2] == NODE.raida_id, Status::RaidaId),
        (header[3] <= 3, Status::ShardId),
        (of_group().next().is_some(), Status::CommandGroup),
        (of_group().any(|command| command.code == header[5]), Status::Command),
        (header[6..8] == NODE.coin_id.to_be_bytes(), Status::CoinId),
        (matches!(header[16], 0 | 1 | 2 | 4 | 5), Status::EncryptionCode),
    ]
    .into_iter()
    .find_map(|(good, status)| (!good).then_some(status))
}

/// A header of every command and every encryption.
pub fn seeds() -> Vec<Vec<u8>> {
    let (first, second) = (RawCoin { den: -1, sn: 9 }, RawCoin { den: 1, sn: 1_000_000 });
    let keys = [
        KeyName::None,
        KeyName::Coin(first),
        KeyName::LockerPrefix(*b"lockr"),
        KeyName::Coin256(first),
        KeyName::TwoCoins256(first, second),
    ];
    let header = |(index, command)| {
        let header = RequestHeader { node: NODE, command, key: keys[index % 5], nonce: [7; 24], body_length: 34 };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        bytes
    };
    COMMANDS.iter().enumerate().map(header).collect()
}
