//! Bodies of every encryption: what was sealed is opened, what was altered is refused as far as the type can tell, and
//! whatever opens was sealed with the key. The same for replies.

use raida::coin::Secret;
use raida::wire::header::{BODY_BYTES_MAX, Encryption, KeyName, RequestHeader, parse};
use raida::wire::items::{Item, RawCoin};
use raida::wire::reply::{self, ReplyHead, measure_reply};
use raida::wire::request::COMMANDS;
use raida::wire::seal::{
    CHALLENGE_BYTES, HMAC_BYTES, Key, Opened, RequestRandom, Sealed, check_frame, frame_bytes, locker_challenge,
    locker_key_fits, open, seal,
};
use raida::wire::status::Status;

use crate::NODE;
use crate::input::Input;

const TYPES: [Encryption; 5] =
    [Encryption::None, Encryption::Coin, Encryption::Locker, Encryption::Coin256, Encryption::TwoCoins256];

/// Seals, alters and opens; or opens a frame as it stands.
pub fn run(bytes: &[u8]) -> bool {
    let mut input = Input(bytes);
    let honest = input.byte().is_multiple_of(2);
    let secrets = [Secret::new(input.array()), Secret::new(input.array())];
    if honest { seal_and_alter(&mut input, secrets) } else { open_any(input.rest(), secrets) }
}

/// The name and the key of an encryption.
fn encryption(kind: Encryption, [first, second]: [RawCoin; 2], secrets: [Secret; 2]) -> (KeyName, Key) {
    match kind {
        Encryption::None => (KeyName::None, Key::None),
        Encryption::Coin => (KeyName::Coin(first), Key::of_secret(secrets[0])),
        Encryption::Locker => {
            let prefix = *secrets[0].bytes().first_chunk().expect("5 of 16 bytes");
            (KeyName::LockerPrefix(prefix), Key::of_secret(secrets[0]))
        }
        Encryption::Coin256 => (KeyName::Coin256(first), Key::of_coin(&secrets[0])),
        Encryption::TwoCoins256 => (KeyName::TwoCoins256(first, second), Key::of_two_coins(&secrets[0], &secrets[1])),
    }
}

/// One byte to alter: where, modulo the length, and by what, not 0.
struct Alteration(usize, u8);

impl Alteration {
    fn read(input: &mut Input<'_>) -> Self {
        Self(usize::from(input.word()), input.byte().max(1))
    }

    /// Alters a byte; where it was.
    fn apply(&self, bytes: &mut [u8]) -> usize {
        let at = self.0 % bytes.len();
        bytes[at] ^= self.1;
        at
    }
}

fn seal_and_alter(input: &mut Input<'_>, secrets: [Secret; 2]) -> bool {
    let kind = TYPES[input.below(TYPES.len())];
    let coins = [RawCoin::decode(&input.array::<5>()), RawCoin::decode(&input.array::<5>())];
    let command = &COMMANDS[input.below(COMMANDS.len())];
    let random = RequestRandom { nonce: input.array(), challenge: input.array() };
    let status = Status::ALL[input.below(Status::ALL.len())];
    let (of_request, of_reply) = (Alteration::read(input), Alteration::read(input));
    let plain = input.rest();

    let (name, key) = encryption(kind, coins, secrets);
    let mut frame = Vec::with_capacity(plain.len() + 100);
    let sealed = match seal(&mut frame, NODE, command, (name, &key), plain, random) {
        Ok(sealed) => sealed,
        Err(error) => {
            assert!(error == Status::PacketLength && plain.len() + frame_bytes(kind) > BODY_BYTES_MAX);
            assert!(frame.is_empty());
            return false;
        }
    };
    let opened = check_opens(&frame, &sealed, &key, plain);
    check_altered(&mut frame, &sealed, &key, plain, &of_request);
    check_reply(&sealed, &key, opened, (status, plain), &of_reply);
    true
}

fn check_opens(frame: &[u8], sealed: &Sealed, key: &Key, plain: &[u8]) -> Opened {
    let header = parse(frame, &NODE).expect("the header of a sealed frame");
    assert_eq!(header, sealed.header);
    let body = header.body(frame).expect("a whole frame");
    assert_eq!(header.header_bytes() + body.len(), frame.len());
    assert_eq!(check_frame(&header, body), Ok(()));
    let mut payload = Vec::with_capacity(body.len());
    let opened = open(&header, key, body, &mut payload).expect("a sealed body");
    assert_eq!((payload.as_slice(), opened.signature), (plain, sealed.signature));
    if let (Key::Aes128(secret), Some(challenge)) = (key, locker_challenge(body)) {
        assert!(locker_key_fits(&header, secret, &challenge));
    }
    opened
}

/// Alters a byte of the body: types 4 and 5 see it wherever it is, the others where the challenge or the terminator is;
/// elsewhere that byte of the payload alone is another.
fn check_altered(frame: &mut [u8], sealed: &Sealed, key: &Key, plain: &[u8], alteration: &Alteration) {
    let (header, start) = (&sealed.header, sealed.header.header_bytes());
    let at = alteration.apply(&mut frame[start..]);
    let mut payload = Vec::with_capacity(frame.len());
    let result = open(header, key, &frame[start..], &mut payload);
    let end = frame.len() - start - 2;
    if at >= end {
        assert_eq!(result, Err(Status::MissingTerminator));
    } else if header.encryption().is_modern() {
        assert_eq!(result, Err(Status::Hmac));
    } else if at < CHALLENGE_BYTES {
        assert_eq!(result, Err(Status::Crc));
    } else {
        let mut expected = plain.to_vec();
        expected[at - CHALLENGE_BYTES] ^= alteration.1;
        assert!(result.is_ok() && payload == expected);
    }
    assert!(result.is_ok() || payload.is_empty());
}

/// The reply is read by who sent the request, and an altered one is not taken for another payload where a key proves it.
fn check_reply(sealed: &Sealed, key: &Key, opened: Opened, (status, plain): (Status, &[u8]), alteration: &Alteration) {
    let kind = sealed.header.encryption();
    let (mut out, mut payload) = (Vec::with_capacity(plain.len() + 100), Vec::with_capacity(plain.len() + 40));
    let head = ReplyHead::new(&sealed.header, opened);
    reply::write(&mut out, &head, key, status, 77, plain, [9; 24]);
    assert_eq!((measure_reply(&out, kind), head.reply_bytes(plain.len())), (Some(out.len()), out.len()));
    let summary = reply::read(&out, sealed, key, &mut payload).expect("the reply to this request");
    assert_eq!((summary.status, summary.micros, payload.as_slice()), (status, 77, plain));

    let start = head.reply_bytes(0);
    let at = alteration.apply(&mut out);
    let result = reply::read(&out, sealed, key, &mut payload);
    assert!(result.is_ok() || payload.is_empty());
    if at >= start {
        let plain_end = out.len() - 2 - if kind.is_modern() { HMAC_BYTES } else { 0 };
        let unseen = !kind.is_modern() && at < plain_end;
        assert_eq!(result.is_ok(), unseen, "{kind:?} {at}");
        if unseen {
            let mut expected = plain.to_vec();
            expected[at - start] ^= alteration.1;
            assert_eq!(payload, expected);
        }
    }
}

/// A frame as it stands: if it opens, sealing what it says makes the same bytes.
fn open_any(frame: &[u8], secrets: [Secret; 2]) -> bool {
    let Ok(header) = parse(frame, &NODE) else { return false };
    let Ok(body) = header.body(frame) else { return false };
    let (_, key) = encryption(header.encryption(), [RawCoin { den: 0, sn: 0 }; 2], secrets);
    let mut payload = Vec::with_capacity(body.len());
    let framed = check_frame(&header, body);
    match open(&header, &key, body, &mut payload) {
        Err(status) => {
            assert!(payload.is_empty());
            assert!(framed == Err(status) || (framed.is_ok() && matches!(status, Status::Crc | Status::Hmac)));
            false
        }
        Ok(_) if body.is_empty() => header.command.allows_no_body(),
        Ok(opened) => {
            check_sealed_again(&header, &key, opened, &payload, body);
            true
        }
    }
}

fn check_sealed_again(header: &RequestHeader, key: &Key, opened: Opened, payload: &[u8], body: &[u8]) {
    let challenge = match key {
        Key::Aes128(secret) => Secret::new(opened.signature).xor(*secret),
        _ => Secret::new(opened.signature),
    };
    let random =
        RequestRandom { nonce: header.nonce, challenge: *challenge.bytes().first_chunk().expect("12 of 16 bytes") };
    let mut again = Vec::with_capacity(body.len() + 48);
    let sealed =
        seal(&mut again, NODE, header.command, (header.key, key), payload, random).expect("no longer than it was");
    assert_eq!(sealed.header, *header);
    assert!(again[header.header_bytes()..] == *body);
    let mut written = Vec::with_capacity(payload.len() + 100);
    reply::write(&mut written, &ReplyHead::new(header, opened), key, Status::Success, 1, payload, [1; 24]);
    let mut back = Vec::with_capacity(payload.len() + 40);
    reply::read(&written, &sealed, key, &mut back).expect("the reply to this request");
    assert!(back == payload);
}

/// A case of every encryption, and a frame of each as it stands.
pub fn seeds() -> Vec<Vec<u8>> {
    let secrets = [*b"0123456789abcdef", *b"ABCDEFGHIJKLMNOP"];
    let coins = [RawCoin { den: 0, sn: 7 }, RawCoin { den: 1, sn: 1_000_000 }];
    let (nonce, challenge) = ([0x5A; 24], *b"twelve bytes");
    let payload = b"a payload of thirty-four bytes ..!";
    let mut seeds = Vec::new();
    for (number, kind) in (0u8..).zip(TYPES) {
        let mut case = [&[0][..], &secrets[0], &secrets[1], &[number]].concat();
        coins.iter().for_each(|coin| coin.encode(&mut case));
        case.push(number);
        case.extend_from_slice(&nonce);
        case.extend_from_slice(&challenge);
        case.extend_from_slice(&[41, 0, 20, 1, 0, 60, 1]);
        case.extend_from_slice(payload);
        seeds.push(case);

        let (name, key) = encryption(kind, coins, secrets.map(Secret::new));
        let mut frame = [&[1][..], &secrets[0], &secrets[1]].concat();
        let random = RequestRandom { nonce, challenge };
        seal(&mut frame, NODE, &COMMANDS[3], (name, &key), payload, random).expect("a short payload");
        seeds.push(frame);
    }
    seeds
}
