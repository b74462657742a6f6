//! Group 0, the node itself: *echo*, *version*, *count coins*. Their payloads are not looked at, and may be missing
//! together with the whole body.
//!
//! | command | answer |
//! |---|---|
//! | 0.0 *echo* | 250, no payload |
//! | 0.1 *version* | 250 with the version, ASCII |
//! | 0.3 *count coins* | 250 with 15 times [`Count`], the smallest denomination first |

use crate::wire::items::Item;

/// How many coins of a denomination are in circulation: 5 bytes of the answer to *count coins*.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 1 | den, signed |
/// | 1 | 4 | coins |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Count {
    /// The denomination.
    pub den: i8,
    /// Coins of it in circulation.
    pub coins: u32,
}

impl Item for Count {
    const BYTES: usize = 5;

    fn decode(bytes: &[u8]) -> Self {
        Self { den: bytes[0] as i8, coins: u32::decode(&bytes[1..]) }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.den as u8);
        self.coins.encode(out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CommandKind, Request};
    use super::*;
    use crate::wire::items::{Items, bytes_of};

    #[test]
    fn golden_bytes_of_counts() {
        let counts = [Count { den: -8, coins: 1_024_000 }, Count { den: 6, coins: 3 }];
        let bytes = bytes_of(counts);
        assert_eq!(bytes, b"\xF8\x00\x0F\xA0\x00\x06\x00\x00\x00\x03");
        assert_eq!(Items::<Count>::new(&bytes).unwrap().iter().collect::<Vec<_>>(), counts);
    }

    #[test]
    fn any_payload_will_do() {
        for (kind, request) in [
            (CommandKind::Echo, Request::Echo),
            (CommandKind::Version, Request::Version),
            (CommandKind::CountCoins, Request::CountCoins),
        ] {
            assert_eq!(Request::decode(kind.command(), b""), Ok(request));
            assert_eq!(Request::decode(kind.command(), &[7; 1000]), Ok(request));
            assert_eq!(request.kind(), kind);
        }
    }
}
