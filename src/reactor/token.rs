//! The driver's name for a request, as the 64 bits of [`Origin::token`](crate::shard::interface::Origin::token).
//!
//! | bits | field |
//! |---|---|
//! | 63 | 1: datagram, 0: connection |
//! | 43..63 | slot |
//! | 11..43 | generation |
//! | 0..11 | the request's number within its connection; 0 for a datagram |

use super::connection::RequestNumber;
use super::table::Name;

/// Bits of a slot: more connections or datagrams than this a reactor cannot have.
pub const SLOT_BITS: u32 = 20;

const SLOT_SHIFT: u32 = GENERATION_SHIFT + u32::BITS;
const GENERATION_SHIFT: u32 = RequestNumber::BITS;
const DATAGRAM: u64 = 1 << 63;

const _: () = assert!(SLOT_SHIFT + SLOT_BITS == 63);

/// Where a request came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Token {
    /// A request of a connection.
    Stream(Name, RequestNumber),
    /// A datagram.
    Datagram(Name),
}

impl Token {
    /// Its 64 bits.
    pub fn encode(self) -> u64 {
        let bits = |name: Name| {
            assert!(name.slot < 1 << SLOT_BITS);
            u64::from(name.slot) << SLOT_SHIFT | u64::from(name.generation) << GENERATION_SHIFT
        };
        match self {
            Self::Stream(name, number) => bits(name) | u64::from(number.get()),
            Self::Datagram(name) => bits(name) | DATAGRAM,
        }
    }

    /// The token of 64 bits.
    pub fn decode(bits: u64) -> Self {
        let name = Name {
            slot: (bits >> SLOT_SHIFT) as u32 & ((1 << SLOT_BITS) - 1),
            generation: (bits >> GENERATION_SHIFT) as u32,
        };
        if bits & DATAGRAM != 0 {
            Self::Datagram(name)
        } else {
            Self::Stream(name, RequestNumber::new(bits as u16 & (RequestNumber::COUNT - 1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bits_of_a_token() {
        let name = Name { slot: 0x8_0001, generation: 0xFFFF_0001 };
        let token = Token::Stream(name, RequestNumber::new(0x7FF));
        assert_eq!(token.encode(), 0x4000_0FFF_F800_0FFF);
        assert_eq!(Token::decode(token.encode()), token);
        let token = Token::Datagram(name);
        assert_eq!(token.encode(), 0xC000_0FFF_F800_0800);
        assert_eq!(Token::decode(token.encode()), token);
    }
}
