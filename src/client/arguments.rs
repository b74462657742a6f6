//! The command line of `raida client`: every command of the protocol, and the wallet's own.
//!
//! The names of the protocol's commands are those of [`COMMANDS`](crate::wire::request::COMMANDS).

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::coin::{Denomination, TradeCoin};
use crate::wire::header::Encryption;
use crate::wire::items::RawCoin;
use crate::wire::request::change::ChangeOperation;

use super::secrets::{KeySpec, bytes_of_hex};

/// Ask a node, and keep a wallet
#[derive(Args, Clone)]
#[command(after_long_help = "\
Coins are named COINS: DEN:SN is one coin, COUNTxDEN as many of a denomination, `all` every one that is with its
owner; several with commas. A locker's KEY is 32 hex digits, or a transmit code such as ABC-1234.

Exit status: 0 the node did it, in part at least; 1 it refused; 2 usage; 3 no answer; 5 the wallet cannot be used.

Examples:
  raida client echo
  raida client --wallet coins.jsonl store --key ABC-1234 --coins 3x0
  raida client --to raida11.example:50011 --raida-id 11 peek --key ABC-1234
  raida client --wallet coins.jsonl --encrypt 4 --key-coin 0:7 remove --key ABC-1234
  raida client --wallet coins.jsonl --udp --json break --coins 1x1
  raida client --wallet coins.jsonl wallet reconcile")]
pub struct ClientArguments {
    /// The node's address; a name is looked up
    #[arg(long, global = true, value_name = "ADDR:PORT", env = "RAIDA_TO", default_value = "127.0.0.1:50000")]
    pub to: String,
    /// The node's number in the network, 0 to 24
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    pub raida_id: u8,
    /// The network's coin id
    #[arg(long, global = true, value_name = "N", default_value_t = 6)]
    pub coin_id: u16,
    /// Ask with one datagram instead of a TCP stream
    #[arg(long, global = true)]
    pub udp: bool,
    /// Seal requests: 0 not at all, 1 coin, 2 locker (both AES-128), 4 coin, 5 two coins (both AES-256 and HMAC)
    #[arg(long, global = true, value_name = "TYPE", default_value = "0", value_parser = parse_encryption)]
    pub encrypt: Encryption,
    /// A coin of the wallet to seal with, twice for type 5; without, the first ones of the wallet
    #[arg(long, global = true, value_name = "DEN:SN", allow_hyphen_values = true, value_parser = parse_coin)]
    pub key_coin: Vec<RawCoin>,
    /// The locker to seal with, for type 2
    #[arg(long, global = true, value_name = "KEY")]
    pub key_locker: Option<KeySpec>,
    /// The wallet; a missing file is an empty wallet
    #[arg(long, global = true, value_name = "FILE", env = "RAIDA_WALLET")]
    pub wallet: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// How long to wait for an answer, in seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10", value_parser = parse_timeout)]
    pub timeout: Duration,
    /// What to ask
    #[command(subcommand)]
    pub command: ClientCommand,
}

/// What a client can be told to do.
#[derive(Subcommand, Clone)]
pub enum ClientCommand {
    /// Is the node there?
    Echo,
    /// Which program is the node?
    Version,
    /// How many coins of each denomination are in circulation?
    CountCoins,
    /// Does the node hold the secrets of the wallet?
    #[command(after_help = "Example:\n  raida client --wallet coins.jsonl detect")]
    Detect {
        /// Which coins; without, every one in the wallet
        #[arg(long, value_name = "COINS", value_delimiter = ',', allow_hyphen_values = true)]
        coins: Vec<CoinSpec>,
    },
    /// The same for all of some coins at once: one yes or no
    #[command(after_help = "Example:\n  raida client --wallet coins.jsonl detect-sum --coins 5x0,1:7")]
    DetectSum(CoinsArgument),
    /// Give coins new secrets
    #[command(after_help = "Example:\n  raida client --wallet coins.jsonl pown --coins all")]
    Pown(CoinsArgument),
    /// The same with one difference for all of them, where the node allows it
    #[command(after_help = "Example:\n  raida client --wallet coins.jsonl pown-sum --coins 10x0")]
    PownSum(CoinsArgument),
    /// The treasury: reserve free serial numbers, to create coins
    #[command(after_help = "Example:\n  raida client available-serial-numbers --treasury-key key --den 0")]
    AvailableSerialNumbers {
        /// Who asks
        #[command(flatten)]
        key: TreasuryKey,
        /// The denomination
        #[arg(long, allow_hyphen_values = true, value_parser = parse_denomination)]
        den: Denomination,
        /// Whom they are reserved for; without, a new session
        #[arg(long)]
        session: Option<u32>,
    },
    /// The treasury: put coins into circulation, and into the wallet
    #[command(after_help = "Example:\n  raida client --wallet coins.jsonl create-coins --treasury-key key \
                            --session 7 --coins 0:64,0:65")]
    CreateCoins {
        /// Who asks
        #[command(flatten)]
        key: TreasuryKey,
        /// The session that they were reserved for
        #[arg(long)]
        session: u32,
        /// Which coins
        #[arg(long, value_name = "DEN:SN", value_delimiter = ',', allow_hyphen_values = true, required = true,
              value_parser = parse_coin)]
        coins: Vec<RawCoin>,
    },
    /// The treasury: take coins of the wallet out of circulation
    #[command(after_help = "Example:\n  raida client --wallet coins.jsonl delete-coins --treasury-key key --coins 3x0")]
    DeleteCoins {
        /// Who asks
        #[command(flatten)]
        key: TreasuryKey,
        /// Which coins
        #[command(flatten)]
        coins: CoinsArgument,
    },
    /// The treasury: take coins out of circulation, whoever has them
    #[command(after_help = "Example:\n  raida client free-coins --treasury-key key --coins 0:64")]
    FreeCoins {
        /// Who asks
        #[command(flatten)]
        key: TreasuryKey,
        /// Which coins
        #[arg(long, value_name = "DEN:SN", value_delimiter = ',', allow_hyphen_values = true, required = true,
              value_parser = parse_coin)]
        coins: Vec<RawCoin>,
    },
    /// The treasury: which coins of a denomination are in circulation?
    #[command(after_help = "Example:\n  raida client all-serial-numbers --treasury-key key --den -1")]
    AllSerialNumbers {
        /// Who asks
        #[command(flatten)]
        key: TreasuryKey,
        /// The denomination
        #[arg(long, allow_hyphen_values = true, value_parser = parse_denomination)]
        den: Denomination,
    },
    /// What is in a trade locker?
    #[command(after_help = "Example:\n  raida client peek-trade-locker 0011223344556677880000006401EEEE")]
    PeekTradeLocker {
        /// The identifier that list-for-sale shows, 32 hex digits
        #[arg(value_name = "IDENTIFIER", value_parser = parse_hex::<16>)]
        identifier: [u8; 16],
    },
    /// Put coins into a locker
    #[command(visible_alias = "put")]
    #[command(after_help = "Example:\n  raida client --wallet coins.jsonl store --key ABC-1234 --coins 3x0,-1:17")]
    Store {
        /// The locker
        #[arg(long, value_name = "KEY")]
        key: KeySpec,
        /// What to put there
        #[command(flatten)]
        coins: CoinsArgument,
    },
    /// What is in a locker?
    #[command(after_help = "Example:\n  raida client peek --key ABC-1234")]
    Peek {
        /// The locker
        #[arg(long, value_name = "KEY")]
        key: KeySpec,
    },
    /// Take coins out of a locker, into the wallet
    #[command(visible_alias = "take")]
    #[command(after_help = "Example:\n  raida client --wallet coins.jsonl remove --key ABC-1234")]
    Remove {
        /// The locker
        #[arg(long, value_name = "KEY")]
        key: KeySpec,
        /// Which coins; without, every one that is in it
        #[arg(long, value_name = "DEN:SN", value_delimiter = ',', allow_hyphen_values = true, value_parser = parse_coin)]
        coins: Vec<RawCoin>,
    },
    /// Put coins into a trade locker, for anybody to buy
    #[command(visible_alias = "sell")]
    #[command(after_help = "Example:\n  raida client --wallet coins.jsonl put-for-sale --coins 3x0 --for xmr \
                            --price 250 --address 44AFFq5kSiGBoZ4NMDwYtN18obc8AemS33DBLWs3H7otXft")]
    PutForSale {
        /// What to sell
        #[command(flatten)]
        coins: CoinsArgument,
        /// The currency of the price: cc, btc or xmr
        #[arg(long = "for", value_name = "CURRENCY", value_parser = parse_trade_coin)]
        coin_type: TradeCoin,
        /// What all of it costs together
        #[arg(long)]
        price: u32,
        /// Where the buyer pays, 16 to 120 bytes
        #[arg(long)]
        address: String,
    },
    /// What is for sale?
    #[command(visible_alias = "offers")]
    #[command(after_help = "Example:\n  raida client list-for-sale --for btc --max 20")]
    ListForSale {
        /// For which currency: cc, btc or xmr
        #[arg(long = "for", value_name = "CURRENCY", value_parser = parse_trade_coin)]
        coin_type: TradeCoin,
        /// How many offers at most
        #[arg(long, default_value_t = 255)]
        max: u8,
    },
    /// Buy a trade locker: its coins go into a locker of yours
    #[command(after_help = "Example:\n  raida client buy --key ABC-1234 --for btc --value 300000000 --price 250 \
                            --txid 000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f --memo thanks")]
    Buy(BuyArguments),
    /// Put coins into several lockers at once
    #[command(visible_alias = "put-multiple")]
    #[command(after_help = "Example:\n  raida client --wallet coins.jsonl store-multiple --locker ABC-1234=3x0 \
                            --locker DEF-5678=0:17,1x-1")]
    StoreMultiple {
        /// A locker and what to put there; once for every locker
        #[arg(long = "locker", value_name = "KEY=COINS", required = true)]
        lockers: Vec<LockerSpec>,
    },
    /// Take a trade locker off the market
    #[command(visible_alias = "unsell")]
    #[command(after_help = "Example:\n  raida client --wallet coins.jsonl remove-trade-locker \
                            0011223344556677880000006401EEEE --key ABC-1234")]
    RemoveTradeLocker {
        /// Its AN; or its identifier, if the wallet holds its coins. 32 hex digits
        #[arg(value_name = "LOCKER", value_parser = parse_hex::<16>)]
        locker: [u8; 16],
        /// The locker its coins go back to
        #[arg(long, value_name = "KEY", required_unless_present = "free", conflicts_with = "free")]
        key: Option<KeySpec>,
        /// Take its coins out of circulation: their value is gone
        #[arg(long)]
        free: bool,
    },
    /// Reserve serial numbers for a break or a join
    #[command(visible_alias = "change")]
    #[command(after_help = "Example:\n  raida client change-serial-numbers --operation break --den 1")]
    ChangeSerialNumbers {
        /// What it will be: break or join
        #[arg(long, value_parser = parse_operation)]
        operation: ChangeOperation,
        /// The denomination of the coins given
        #[arg(long, allow_hyphen_values = true)]
        den: i8,
        /// Whom they are reserved for; without, a new session
        #[arg(long)]
        session: Option<u32>,
    },
    /// Ten smaller coins for one
    #[command(after_help = "Example:\n  raida client --wallet coins.jsonl break --coins 1x1")]
    Break(ExchangeArguments),
    /// One larger coin for ten
    #[command(after_help = "Example:\n  raida client --wallet coins.jsonl join --coins 10x0")]
    Join(ExchangeArguments),
    /// Look after the wallet itself
    #[command(subcommand)]
    Wallet(WalletCommand),
}

/// What can be done with a wallet.
#[derive(Subcommand, Clone)]
pub enum WalletCommand {
    /// What is in it? Asks no node
    List,
    /// Ask the node which secrets hold where an answer never came
    #[command(after_help = "Example:\n  raida client --wallet coins.jsonl wallet reconcile --prune")]
    Reconcile {
        /// Move coins that the node does not know by any of their secrets to the archive
        #[arg(long)]
        prune: bool,
    },
}

/// The treasury's key. Not on the command line itself, which others on the machine can read.
#[derive(Args, Clone)]
pub struct TreasuryKey {
    /// A file with the treasury's key, 32 hex digits
    #[arg(id = "treasury-key", long = "treasury-key", value_name = "FILE")]
    pub key_file: PathBuf,
}

/// Which coins of the wallet.
#[derive(Args, Clone)]
pub struct CoinsArgument {
    /// Which coins of the wallet: DEN:SN, COUNTxDEN or all; several with commas
    #[arg(long, value_name = "COINS", value_delimiter = ',', allow_hyphen_values = true, required = true)]
    pub coins: Vec<CoinSpec>,
}

/// What a break or a join takes.
#[derive(Args, Clone)]
pub struct ExchangeArguments {
    /// What to give
    #[command(flatten)]
    pub coins: CoinsArgument,
    /// The session to reserve for; without, a new one
    #[arg(long)]
    pub session: Option<u32>,
}

/// What a purchase takes.
#[derive(Args, Clone)]
pub struct BuyArguments {
    /// The locker the coins go to
    #[arg(long, value_name = "KEY")]
    pub key: KeySpec,
    /// The currency of the price: cc, btc or xmr
    #[arg(long = "for", value_name = "CURRENCY", value_parser = parse_trade_coin)]
    pub coin_type: TradeCoin,
    /// What the coins are worth together, in units of 10^-8, as listed
    #[arg(long)]
    pub value: u64,
    /// What they cost, as listed
    #[arg(long)]
    pub price: u32,
    /// The payment's transaction, 64 hex digits
    #[arg(long, value_name = "HEX", value_parser = parse_hex::<32>)]
    pub txid: [u8; 32],
    /// Your own name for the purchase, 32 hex digits; without, a random one
    #[arg(long, value_name = "HEX", value_parser = parse_hex::<16>)]
    pub receipt: Option<[u8; 16]>,
    /// A few words for the seller, 1 to 254 bytes
    #[arg(long, value_name = "TEXT")]
    pub memo: String,
}

/// Coins of a wallet, as they are typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CoinSpec {
    /// `DEN:SN`: this one.
    One(RawCoin),
    /// `COUNTxDEN`: the first so many of a denomination that are with their owner.
    Some {
        /// How many.
        count: usize,
        /// Of which denomination.
        den: i8,
    },
    /// `all`: every one that is with its owner.
    All,
}

impl FromStr for CoinSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        if let Some((count, den)) = text.split_once('x')
            && let (Ok(count), Ok(den)) = (count.parse(), den.parse())
        {
            return Ok(Self::Some { count, den });
        }
        parse_coin(text).map(Self::One).map_err(|_| "coins are DEN:SN, COUNTxDEN or all".into())
    }
}

/// A locker and coins for it: `KEY=COINS`.
#[derive(Clone)]
pub struct LockerSpec {
    /// The locker.
    pub key: KeySpec,
    /// What goes there.
    pub coins: Vec<CoinSpec>,
}

impl FromStr for LockerSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, coins) = text.split_once('=').ok_or("a locker and its coins are KEY=COINS")?;
        let coins = coins.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { key: key.parse()?, coins })
    }
}

fn parse_coin(text: &str) -> Result<RawCoin, String> {
    let coin =
        text.split_once(':').and_then(|(den, sn)| Some(RawCoin { den: den.parse().ok()?, sn: sn.parse().ok()? }));
    coin.filter(|coin| coin.id().is_some())
        .ok_or_else(|| "a coin is DEN:SN, the denomination -8 to 6 and the serial number 0 to 1023999".into())
}

fn parse_denomination(text: &str) -> Result<Denomination, String> {
    text.parse().ok().and_then(Denomination::new).ok_or_else(|| "the denominations are -8 to 6".into())
}

fn parse_encryption(text: &str) -> Result<Encryption, String> {
    text.parse().ok().and_then(Encryption::new).ok_or_else(|| "the types are 0, 1, 2, 4 and 5".into())
}

fn parse_trade_coin(text: &str) -> Result<TradeCoin, String> {
    let position = ["cc", "btc", "xmr"].iter().position(|name| *name == text);
    position.map(|position| TradeCoin::ALL[position]).ok_or_else(|| "the currencies are cc, btc and xmr".into())
}

fn parse_operation(text: &str) -> Result<ChangeOperation, String> {
    match text {
        "break" => Ok(ChangeOperation::Break),
        "join" => Ok(ChangeOperation::Join),
        _ => Err("the operations are break and join".into()),
    }
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], String> {
    bytes_of_hex(text).ok_or_else(|| format!("{} hex digits are wanted", 2 * N))
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "a number of seconds is wanted")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(timeout) if !timeout.is_zero() && timeout <= Duration::from_secs(3600) => Ok(timeout),
        _ => Err("more than 0 and at most 3600 seconds".into()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::wire::request::COMMANDS;
    use clap::{Command, CommandFactory, Parser};

    /// A program that is nothing but the client.
    #[derive(Parser)]
    #[command(name = "raida client")]
    pub struct Program {
        #[command(flatten)]
        pub client: ClientArguments,
    }

    /// The arguments after `raida client`.
    pub fn parse(line: &str) -> Result<ClientArguments, clap::Error> {
        let words = std::iter::once("raida client").chain(line.split_whitespace());
        Program::try_parse_from(words).map(|program| program.client)
    }

    #[test]
    fn every_command_of_the_table_is_a_subcommand() {
        Program::command().debug_assert();
        let program = Program::command();
        let names: Vec<_> = program.get_subcommands().map(Command::get_name).collect();
        let expected: Vec<_> = COMMANDS.iter().map(|command| command.name).chain(["wallet"]).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn every_example_is_a_command_line() {
        fn examples(command: &Command, found: &mut Vec<String>) {
            let helps = [command.get_after_help(), command.get_after_long_help()];
            for help in helps.into_iter().flatten() {
                let text = help.to_string();
                found.extend(
                    text.lines().filter_map(|line| line.trim().strip_prefix("raida client ")).map(str::to_owned),
                );
            }
            command.get_subcommands().for_each(|command| examples(command, found));
        }
        let mut found = Vec::new();
        examples(&Program::command(), &mut found);
        assert!(found.len() > 20, "{} examples", found.len());
        for example in found {
            if let Err(error) = parse(&example) {
                panic!("{example}: {error}");
            }
        }
    }

    #[test]
    fn coins_as_they_are_typed() {
        let one = |den, sn| CoinSpec::One(RawCoin { den, sn });
        for (text, spec) in [
            ("0:7", one(0, 7)),
            ("-8:1023999", one(-8, 1_023_999)),
            ("3x-1", CoinSpec::Some { count: 3, den: -1 }),
            ("all", CoinSpec::All),
        ] {
            assert_eq!(text.parse(), Ok(spec));
        }
        for wrong in ["", "7", "7:0", "0:1024000", "x0", "0:1:2", "ALL"] {
            assert!(wrong.parse::<CoinSpec>().is_err(), "{wrong}");
        }
        let locker: LockerSpec = "ABC-1234=3x-1,-1:5".parse().unwrap();
        assert_eq!(locker.coins, [CoinSpec::Some { count: 3, den: -1 }, one(-1, 5)]);
        assert!("ABC-1234".parse::<LockerSpec>().is_err());
    }

    #[test]
    fn options_stand_before_or_after_the_command() {
        for line in [
            "--udp --encrypt 5 --key-coin -1:5 --key-coin 0:6 echo",
            "echo --udp --encrypt 5 --key-coin -1:5 --key-coin 0:6",
        ] {
            let arguments = parse(line).unwrap();
            assert!(arguments.udp && arguments.encrypt == Encryption::TwoCoins256);
            assert_eq!(arguments.key_coin, [RawCoin { den: -1, sn: 5 }, RawCoin { den: 0, sn: 6 }]);
        }
        for wrong in ["--encrypt 3 echo", "--timeout 0 echo", "--timeout -1 echo", "break", "remove-trade-locker 00"] {
            assert_eq!(parse(wrong).err().map(|error| error.exit_code()), Some(2), "{wrong}");
        }
    }
}
