//! The table of commands, and requests as types.
//!
//! [`COMMANDS`] is the one table: header checks, dispatch, metrics and help are made from it. What a command's payload
//! and answer look like is in the file of its group: [`status`], [`auth`], [`locker`], [`change`]. An answer as a type
//! is in [`answer`].
//!
//! [`Request::decode`] checks what can be checked without knowing any coin, in PROTOCOL.md's order: the payload's
//! length, then the parameters as they stand in the table. Whether a coin exists, is named once or is reserved is the
//! plan's to check.

pub mod answer;
pub mod auth;
pub mod change;
pub mod locker;
pub mod status;

use std::fmt;

use crate::coin::{PayoutAddress, Place, Secret, TradeCoin};
use crate::wire::items::{Coins, PownCoins, SecretCoin, SecretCoins};
use crate::wire::status::Status;

use change::ChangeOperation;
use locker::Lockers;

/// Which command: its place in [`COMMANDS`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum CommandKind {
    /// 0.0
    Echo,
    /// 0.1
    Version,
    /// 0.3
    CountCoins,
    /// 1.10
    Detect,
    /// 1.11
    DetectSum,
    /// 1.20
    Pown,
    /// 1.21
    PownSum,
    /// 8.81
    PeekTradeLocker,
    /// 8.82
    Store,
    /// 8.83
    Peek,
    /// 8.84
    Remove,
    /// 8.85
    PutForSale,
    /// 8.86
    ListForSale,
    /// 8.87
    Buy,
    /// 8.88
    StoreMultiple,
    /// 8.89
    RemoveTradeLocker,
    /// 9.91
    ChangeSerialNumbers,
    /// 9.92
    Break,
    /// 9.93
    Join,
}

impl CommandKind {
    /// Its row of the table.
    pub const fn command(self) -> &'static Command {
        &COMMANDS[self as usize]
    }

    /// Whether it changes coins where it succeeds.
    pub const fn writes(self) -> bool {
        match self {
            Self::Echo | Self::Version | Self::CountCoins | Self::Detect | Self::DetectSum => false,
            Self::PeekTradeLocker | Self::Peek | Self::ListForSale | Self::ChangeSerialNumbers => false,
            Self::Pown | Self::PownSum | Self::Store | Self::Remove | Self::PutForSale | Self::Buy => true,
            Self::StoreMultiple | Self::RemoveTradeLocker | Self::Break | Self::Join => true,
        }
    }
}

/// What lengths a command's payload may have, in bytes: without challenge, HMAC and terminator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PayloadLength {
    /// Whatever was sent, nothing too: it is not looked at.
    Any,
    /// This one.
    Exactly(usize),
    /// One of two.
    Either(usize, usize),
    /// This one or more; the rest is the decoder's to check.
    AtLeast(usize),
    /// One item or more of `item` bytes, and `fixed` bytes of fields.
    List {
        /// Bytes of an item.
        item: usize,
        /// Bytes of the other fields together.
        fixed: usize,
    },
}

impl PayloadLength {
    /// Whether a payload may be so long.
    ///
    /// # Errors
    /// [`Status::PacketLength`]; [`Status::NotDivisible`] when the last item is not whole.
    pub const fn check(self, length: usize) -> Result<(), Status> {
        let fits = match self {
            Self::Any => true,
            Self::Exactly(exact) => length == exact,
            Self::Either(one, other) => length == one || length == other,
            Self::AtLeast(minimum) => length >= minimum,
            Self::List { item, fixed } if length >= fixed + item => {
                return if (length - fixed).is_multiple_of(item) { Ok(()) } else { Err(Status::NotDivisible) };
            }
            Self::List { .. } => false,
        };
        if fits { Ok(()) } else { Err(Status::PacketLength) }
    }
}

/// A row of the table of commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// Which one it is.
    pub kind: CommandKind,
    /// Byte 4 of the header.
    pub group: u8,
    /// Byte 5 of the header.
    pub code: u8,
    /// Its name, in lower case and with hyphens, as on the command line.
    pub name: &'static str,
    /// How long its payload may be.
    pub payload: PayloadLength,
}

impl Command {
    /// The command of two header bytes, by looking once into a table.
    ///
    /// # Errors
    /// [`Status::CommandGroup`] for a group without commands, [`Status::Command`] for none in its group.
    pub fn find(group: u8, code: u8) -> Result<&'static Self, Status> {
        let codes = LOOKUP.get(usize::from(group)).filter(|codes| codes.known).ok_or(Status::CommandGroup)?;
        match codes.rows.get(usize::from(code)) {
            Some(&row) if row != NONE => Ok(&COMMANDS[usize::from(row)]),
            _ => Err(Status::Command),
        }
    }

    /// Its place in [`COMMANDS`].
    pub const fn index(&self) -> usize {
        self.kind as usize
    }

    /// Whether a request without any body is answered as usual (PROTOCOL.md: 0.0, 0.1, 0.3).
    pub const fn allows_no_body(&self) -> bool {
        matches!(self.payload, PayloadLength::Any)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}.{})", self.name, self.group, self.code)
    }
}

/// Every command, in the order of [`CommandKind`], which is that of group and code.
pub const COMMANDS: &[Command] = &{
    use CommandKind::*;
    use PayloadLength::*;
    const fn row(group: u8, code: u8, kind: CommandKind, name: &'static str, payload: PayloadLength) -> Command {
        Command { kind, group, code, name, payload }
    }
    [
        row(0, 0, Echo, "echo", Any),
        row(0, 1, Version, "version", Any),
        row(0, 3, CountCoins, "count-coins", Any),
        row(1, 10, Detect, "detect", List { item: 21, fixed: 0 }),
        row(1, 11, DetectSum, "detect-sum", List { item: 5, fixed: 16 }),
        row(1, 20, Pown, "pown", List { item: 37, fixed: 0 }),
        row(1, 21, PownSum, "pown-sum", List { item: 5, fixed: 32 }),
        row(8, 81, PeekTradeLocker, "peek-trade-locker", Exactly(16)),
        row(8, 82, Store, "store", List { item: 5, fixed: 32 }),
        row(8, 83, Peek, "peek", Exactly(16)),
        row(8, 84, Remove, "remove", List { item: 21, fixed: 16 }),
        row(8, 85, PutForSale, "put-for-sale", List { item: 5, fixed: 16 + 16 + PayoutAddress::BYTES }),
        row(8, 86, ListForSale, "list-for-sale", Exactly(2)),
        row(8, 87, Buy, "buy", AtLeast(locker::BUY_FIXED_BYTES + 1)),
        row(8, 88, StoreMultiple, "store-multiple", AtLeast(1)),
        row(8, 89, RemoveTradeLocker, "remove-trade-locker", Either(16, 32)),
        row(9, 91, ChangeSerialNumbers, "change-serial-numbers", Exactly(6)),
        row(9, 92, Break, "break", Exactly(change::EXCHANGE_BYTES)),
        row(9, 93, Join, "join", Exactly(change::EXCHANGE_BYTES)),
    ]
};

/// No row, in [`LOOKUP`].
const NONE: u8 = u8::MAX;
const GROUPS: usize = 10;
const CODES: usize = 94;

/// A group's rows of the table, by code.
#[derive(Clone, Copy)]
struct GroupRows {
    known: bool,
    rows: [u8; CODES],
}

/// Rows of the table, by group and code.
static LOOKUP: [GroupRows; GROUPS] = {
    let mut lookup = [GroupRows { known: false, rows: [NONE; CODES] }; GROUPS];
    let mut index = 0;
    while index < COMMANDS.len() {
        let command = &COMMANDS[index];
        assert!(command.kind as usize == index, "the table is in the order of CommandKind");
        let group = &mut lookup[command.group as usize];
        assert!(group.rows[command.code as usize] == NONE, "a group and a code name one command");
        group.known = true;
        group.rows[command.code as usize] = index as u8;
        index += 1;
    }
    lookup
};

/// What a client asks for: a command and its parameters, views of the payload's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// 0.0: are you there?
    Echo,
    /// 0.1: which program are you?
    Version,
    /// 0.3: how many coins of each denomination are in circulation?
    CountCoins,
    /// 1.10: are these the ANs of these coins?
    Detect {
        /// The coins and their ANs.
        coins: SecretCoins<'a>,
    },
    /// 1.11: is this the sum of the ANs of these coins?
    DetectSum {
        /// The coins.
        coins: Coins<'a>,
        /// The XOR of their ANs.
        sum: Secret,
    },
    /// 1.20: give these coins new ANs.
    Pown {
        /// The coins, their ANs and new ANs.
        coins: PownCoins<'a>,
    },
    /// 1.21: change the ANs of these coins by a difference.
    PownSum {
        /// The coins.
        coins: Coins<'a>,
        /// The XOR of their ANs.
        sum: Secret,
        /// What is XORed to each AN.
        delta: Secret,
    },
    /// 8.81: what is in this trade locker?
    PeekTradeLocker {
        /// Its identifier, or its AN.
        identifier: [u8; 16],
    },
    /// 8.82: put these coins into a locker.
    Store {
        /// The coins.
        coins: Coins<'a>,
        /// The XOR of their ANs.
        sum: Secret,
        /// The locker's key; ends `FF FF FF FF`.
        key: Secret,
    },
    /// 8.83: what is in this locker?
    Peek {
        /// Its key.
        key: Secret,
    },
    /// 8.84: take these coins out of a locker.
    Remove {
        /// Its key.
        key: Secret,
        /// The coins and their new ANs, none of them a trade locker's.
        coins: SecretCoins<'a>,
    },
    /// 8.85: put these coins into a trade locker.
    PutForSale {
        /// The coins.
        coins: Coins<'a>,
        /// The XOR of their ANs.
        sum: Secret,
        /// The trade locker's AN: a [`Place::TradeLocker`], see [`locker::SaleTerms`].
        an: Secret,
        /// Where the buyer pays.
        address: PayoutAddress,
    },
    /// 8.86: what is for sale?
    ListForSale {
        /// For which currency.
        coin_type: TradeCoin,
        /// How many offers at most.
        max: u8,
    },
    /// 8.87: buy a trade locker.
    Buy {
        /// The key of the locker the coins go to; ends `FF FF FF FF`.
        key: Secret,
        /// The currency of the price.
        coin_type: TradeCoin,
        /// What the coins are worth together, in units of 10^-8.
        value: u64,
        /// What they cost.
        price: u32,
        /// The payment's transaction.
        txid: [u8; 32],
        /// The buyer's own name for the purchase.
        receipt: [u8; 16],
        /// 1..=254 bytes for the seller.
        memo: &'a [u8],
    },
    /// 8.88: put coins into several lockers.
    StoreMultiple {
        /// The lockers.
        lockers: Lockers<'a>,
    },
    /// 8.89: take a trade locker off the market.
    RemoveTradeLocker {
        /// Its AN.
        an: Secret,
        /// The key of the locker the coins go back to (ends `FF FF FF FF`); without one they are freed.
        key: Option<Secret>,
    },
    /// 9.91: which coins may a break or a join make?
    ChangeSerialNumbers {
        /// The session they are reserved for; not 0.
        session: u32,
        /// What it will be.
        operation: ChangeOperation,
        /// The denomination of the coin or coins given.
        den: i8,
    },
    /// 9.92: ten smaller coins for one.
    Break {
        /// The session the targets are reserved for.
        session: u32,
        /// The coin given, and its AN.
        source: SecretCoin,
        /// The coins made, and their new ANs.
        targets: SecretCoins<'a>,
    },
    /// 9.93: one larger coin for ten.
    Join {
        /// The session the target is reserved for.
        session: u32,
        /// The coin made, and its new AN.
        target: SecretCoin,
        /// The coins given, and their ANs.
        sources: SecretCoins<'a>,
    },
}

impl<'a> Request<'a> {
    /// The request that a command and a payload mean.
    ///
    /// # Errors
    /// The first mistake in PROTOCOL.md's order: a length (16, 39), then the parameters as they stand.
    pub fn decode(command: &Command, payload: &'a [u8]) -> Result<Self, Status> {
        command.payload.check(payload.len())?;
        match command.kind {
            CommandKind::Echo => Ok(Self::Echo),
            CommandKind::Version => Ok(Self::Version),
            CommandKind::CountCoins => Ok(Self::CountCoins),
            CommandKind::Detect => auth::decode_detect(payload),
            CommandKind::DetectSum => auth::decode_detect_sum(payload),
            CommandKind::Pown => auth::decode_pown(payload),
            CommandKind::PownSum => auth::decode_pown_sum(payload),
            CommandKind::PeekTradeLocker => locker::decode_peek_trade_locker(payload),
            CommandKind::Store => locker::decode_store(payload),
            CommandKind::Peek => locker::decode_peek(payload),
            CommandKind::Remove => locker::decode_remove(payload),
            CommandKind::PutForSale => locker::decode_put_for_sale(payload),
            CommandKind::ListForSale => locker::decode_list_for_sale(payload),
            CommandKind::Buy => locker::decode_buy(payload),
            CommandKind::StoreMultiple => locker::decode_store_multiple(payload),
            CommandKind::RemoveTradeLocker => locker::decode_remove_trade_locker(payload),
            CommandKind::ChangeSerialNumbers => change::decode_serial_numbers(payload),
            CommandKind::Break => change::decode_break(payload),
            CommandKind::Join => change::decode_join(payload),
        }
    }

    /// Appends the payload that means this request.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Echo | Self::Version | Self::CountCoins => (),
            Self::Detect { .. } | Self::DetectSum { .. } | Self::Pown { .. } | Self::PownSum { .. } => {
                auth::encode(self, out)
            }
            Self::ChangeSerialNumbers { .. } | Self::Break { .. } | Self::Join { .. } => change::encode(self, out),
            _ => locker::encode(self, out),
        }
    }

    /// Which command it is.
    pub const fn kind(&self) -> CommandKind {
        match self {
            Self::Echo => CommandKind::Echo,
            Self::Version => CommandKind::Version,
            Self::CountCoins => CommandKind::CountCoins,
            Self::Detect { .. } => CommandKind::Detect,
            Self::DetectSum { .. } => CommandKind::DetectSum,
            Self::Pown { .. } => CommandKind::Pown,
            Self::PownSum { .. } => CommandKind::PownSum,
            Self::PeekTradeLocker { .. } => CommandKind::PeekTradeLocker,
            Self::Store { .. } => CommandKind::Store,
            Self::Peek { .. } => CommandKind::Peek,
            Self::Remove { .. } => CommandKind::Remove,
            Self::PutForSale { .. } => CommandKind::PutForSale,
            Self::ListForSale { .. } => CommandKind::ListForSale,
            Self::Buy { .. } => CommandKind::Buy,
            Self::StoreMultiple { .. } => CommandKind::StoreMultiple,
            Self::RemoveTradeLocker { .. } => CommandKind::RemoveTradeLocker,
            Self::ChangeSerialNumbers { .. } => CommandKind::ChangeSerialNumbers,
            Self::Break { .. } => CommandKind::Break,
            Self::Join { .. } => CommandKind::Join,
        }
    }

    /// Its row of the table.
    pub const fn command(&self) -> &'static Command {
        self.kind().command()
    }
}

/// Only which command: its parameters may be secrets.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({})", self.command())
    }
}

/// Whether a secret is a locker's key: ends `FF FF FF FF`.
pub fn is_locker_key(key: &Secret) -> bool {
    matches!(key.place(), Place::Locker(_))
}

/// Refuses proposed ANs that would put a coin on the market: only *put for sale* may write one.
///
/// # Errors
/// [`Status::InvalidPan`].
fn no_trade_locker(mut pans: impl Iterator<Item = Secret>) -> Result<(), Status> {
    if pans.any(|pan| matches!(pan.place(), Place::TradeLocker(_))) { Err(Status::InvalidPan) } else { Ok(()) }
}

#[cfg(test)]
mod tests_support {
    //! What every group's tests of its layouts do.

    use super::*;

    /// The request that a payload means, after seeing that it is encoded to the same bytes.
    pub fn round_trip(kind: CommandKind, payload: &[u8]) -> Request<'_> {
        let request = Request::decode(kind.command(), payload).expect("a good payload");
        assert_eq!(request.kind(), kind);
        let mut encoded = Vec::new();
        request.encode(&mut encoded);
        assert_eq!(encoded, payload);
        request
    }

    /// The status that a payload is refused with.
    pub fn refused(kind: CommandKind, payload: &[u8]) -> Status {
        Request::decode(kind.command(), payload).expect_err("a bad payload")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_protocol_md() {
        let codes: Vec<_> = COMMANDS.iter().map(|command| (command.group, command.code)).collect();
        let lockers = (81..=89).map(|code| (8, code));
        let expected: Vec<_> = [(0, 0), (0, 1), (0, 3), (1, 10), (1, 11), (1, 20), (1, 21)]
            .into_iter()
            .chain(lockers)
            .chain([(9, 91), (9, 92), (9, 93)])
            .collect();
        assert_eq!(codes, expected);
        for (index, command) in COMMANDS.iter().enumerate() {
            assert_eq!(command.index(), index);
            assert_eq!(COMMANDS.iter().filter(|other| other.name == command.name).count(), 1);
        }
    }

    #[test]
    fn every_pair_of_bytes_is_found_or_refused() {
        for group in 0..=u8::MAX {
            for code in 0..=u8::MAX {
                let row = COMMANDS.iter().find(|command| (command.group, command.code) == (group, code));
                let refused = if [0, 1, 8, 9].contains(&group) { Status::Command } else { Status::CommandGroup };
                assert_eq!(Command::find(group, code), row.ok_or(refused), "{group}.{code}");
            }
        }
    }

    #[test]
    fn lengths() {
        assert_eq!(PayloadLength::Any.check(0), Ok(()));
        assert_eq!(PayloadLength::Exactly(16).check(17), Err(Status::PacketLength));
        assert_eq!(PayloadLength::Either(16, 32).check(32), Ok(()));
        assert_eq!(PayloadLength::Either(16, 32).check(24), Err(Status::PacketLength));
        assert_eq!(PayloadLength::AtLeast(78).check(77), Err(Status::PacketLength));
        let list = PayloadLength::List { item: 21, fixed: 16 };
        assert_eq!(list.check(16), Err(Status::PacketLength));
        assert_eq!(list.check(36), Err(Status::PacketLength));
        assert_eq!(list.check(37), Ok(()));
        assert_eq!(list.check(38), Err(Status::NotDivisible));
        assert_eq!(list.check(58), Ok(()));
    }

    #[test]
    fn a_request_is_not_printed() {
        let request = Request::Peek { key: Secret::new([0xAB; 16]) };
        assert_eq!(format!("{request:?}"), "Request(peek (8.83))");
    }
}
