//! The status byte of a reply: how a request went.
//!
//! A client's mistake is one of these, never a panic and never text. The codes are PROTOCOL.md's
//! ("Status codes used here"); a node of another make may send others, see [`Status::from_code`].

use std::fmt;

/// Makes the enum, its list and its texts from one table.
macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// How a request went: byte 2 of every reply.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Status {
            $(#[doc = concat!($text, ".")] $(#[$doc])* $name = $code,)*
        }

        impl Status {
            /// Every status, in order of its code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The status of a byte, `None` for one that is not used here.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// What it means, in a few words.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

statuses! {
    NoError = 0, "no error";
    SplitId = 2, "invalid split id";
    RaidaId = 3, "not this RAIDA's id";
    ShardId = 4, "invalid shard id";
    CommandGroup = 5, "unknown command group";
    Command = 6, "unknown command";
    CoinId = 7, "not this network's coin id";
    PacketLength = 16, "invalid packet length";
    EncryptionCoinNotFound = 25, "encryption coin not found";
    EncryptionCode = 27, "unknown encryption type";
    MissingTerminator = 33, "the body does not end with its terminator";
    Encryption = 34, "no such coin or locker to encrypt with";
    EmptyRequest = 36, "the request has no body";
    Crc = 37, "wrong CRC: the body was not encrypted with this key";
    AdminAuth = 38, "not authorized";
    NotDivisible = 39, "the list of coins has a remainder";
    SerialNumberOrDenomination = 40, "invalid serial number or denomination, or a coin named twice";
    PageNotReserved = 41, "not reserved by this session";
    TooManyCoins = 45, "too many coins";
    TradeCoin = 50, "coin type is not traded";
    TradeLockerNotFound = 51, "no such trade locker";
    NoPrivateKey = 52, "no private key";
    NotImplemented = 89, "not implemented";
    BadCoins = 90, "bad coins";
    TradeLockerExists = 148, "trade locker exists already";
    Waiting = 150, "waiting";
    FewCoinsInLocker = 153, "too few coins in the locker";
    LockerUsed = 154, "locker is in use";
    RequestRate = 160, "too many requests";
    TransactionProcessed = 177, "transaction was processed already";
    CryptoConnect = 178, "cannot reach the other currency's network";
    LockerEmptyOrNotExists = 179, "locker is empty or does not exist";
    Price = 181, "wrong price";
    NoCoins = 182, "no coins";
    AmountMismatch = 192, "amounts differ";
    Filesystem = 194, "file system error";
    InvalidParameter = 198, "invalid parameter";
    InvalidPan = 199, "invalid proposed authentication number or locker key";
    InvalidTransaction = 203, "invalid transaction";
    Hmac = 204, "wrong HMAC: the body was changed or not encrypted with this key";
    AllPass = 241, "all passed";
    AllFail = 242, "all failed";
    Mixed = 243, "some passed, some failed";
    Success = 250, "success";
    Internal = 252, "internal error";
    Network = 253, "network error";
    Memory = 254, "out of memory";
    Routing = 255, "invalid routing: unknown protocol version";
}

impl Status {
    /// Its byte.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Whether the request did what it asked for, in part at least.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::NoError | Self::AllPass | Self::Mixed | Self::Success)
    }

    /// What kind of answer it is.
    pub const fn class(self) -> StatusClass {
        match self {
            status if status.is_success() => StatusClass::Success,
            Self::RequestRate | Self::Memory => StatusClass::Limited,
            Self::Filesystem | Self::Internal | Self::Network | Self::CryptoConnect => StatusClass::Failed,
            _ => StatusClass::Refused,
        }
    }
}

/// What kind of answer a status is, for whoever watches the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatusClass {
    /// The request did what it asked for, in part at least.
    Success,
    /// The request was wrong, or what it asked for does not hold.
    Refused,
    /// A bound of the node was reached: too many requests, or too much in flight.
    Limited,
    /// The node or its machine failed.
    Failed,
}

impl StatusClass {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Success, Self::Refused, Self::Limited, Self::Failed];

    /// Its name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code(), self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_codes() {
        let codes = [
            0, 2, 3, 4, 5, 6, 7, 16, 25, 27, 33, 34, 36, 37, 38, 39, 40, 41, 45, 50, 51, 52, 89, 90, 148, 150, 153,
            154, 160, 177, 178, 179, 181, 182, 192, 194, 198, 199, 203, 204, 241, 242, 243, 250, 252, 253, 254, 255,
        ];
        assert_eq!(Status::ALL.iter().map(|status| status.code()).collect::<Vec<_>>(), codes);
    }

    #[test]
    fn a_code_is_a_status_or_none() {
        for code in 0..=u8::MAX {
            match Status::from_code(code) {
                Some(status) => assert_eq!(status.code(), code),
                None => assert!(Status::ALL.iter().all(|status| status.code() != code)),
            }
        }
    }

    #[test]
    fn success_and_text() {
        let successes: Vec<_> = Status::ALL.iter().filter(|status| status.is_success()).collect();
        assert_eq!(successes, [&Status::NoError, &Status::AllPass, &Status::Mixed, &Status::Success]);
        assert!(Status::ALL.iter().all(|status| status.is_success() == (status.class() == StatusClass::Success)));
        assert_eq!(Status::Crc.to_string(), "37 wrong CRC: the body was not encrypted with this key");
    }
}
