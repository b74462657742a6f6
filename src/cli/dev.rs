//! `raida dev`: the newcomer's one command.
//!
//! A data directory with coins, a wallet with their secrets beside them, a node on 127.0.0.1 with the market open, and
//! a story of client commands to paste. On the second run everything is there already. The story is data: a test pastes
//! it, line by line.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;

use raida::admin::Admin;
use raida::client::wallet::Wallet;
use raida::coin::Denomination;
use raida::config::admin::Door;
use raida::config::{Config, SHARDS_MAX};
use raida::node::Node;
use raida::settings::Settlement;
use raida::store::create::build;
use raida::store::error::StoreError;
use raida::store::mint::Mint;
use raida::store::recovery::initialise;
use raida::store::storage::Directory;
use raida::store::wal::Geometry;

use super::exit::{ExitStatus, Failure, OrFailure};
use super::mint::this_month;
use super::offline::{data_failure, mint_into, quoted, wallet_error};
use super::serve::{ready_line, say, serve};

/// The wallet's name in the data directory.
const WALLET: &str = "wallet.jsonl";
/// Where the client looks unless it is told.
const LISTEN: &str = "127.0.0.1:50000";
/// The port of the page is so far above the node's.
const ADMIN_PORTS_ABOVE: u16 = 100;
/// The demo coins: denomination, how many.
const COINS: [(i8, u32); 4] = [(-1, 20), (0, 20), (1, 20), (2, 5)];
/// The story, each with what it shows. In order each works, on every run.
const STORY: [(&str, &str); 13] = [
    ("is the node there?", "echo"),
    ("how many coins are in circulation?", "count-coins"),
    ("put three coins into a locker", "store --key ABC-1234 --coins 3x0"),
    ("look into it", "peek --key ABC-1234"),
    ("take them out", "remove --key ABC-1234"),
    (
        "offer two coins of 10 for Monero",
        "put-for-sale --coins 2x1 --for xmr --price 250 --address 44AFFq5kSiGBoZ4NMDwYtN18obc8AemS33DBLWs3H7otXft",
    ),
    ("what is for sale?", "list-for-sale --for xmr"),
    (
        "buy it, into a locker",
        "buy --key DEF-5678 --for xmr --value 2000000000 --price 250 --memo thanks \
         --txid 000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    ),
    ("take the coins home", "remove --key DEF-5678"),
    ("which coins could a break make?", "change-serial-numbers --operation break --den 2"),
    ("one coin of 100 into ten of 10", "break --coins 1x2"),
    ("ten coins of 10 into one of 100", "join --coins 10x1"),
    ("what is in the wallet now?", "wallet list"),
];

/// Try it: a node with coins on this machine, and commands to paste
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  raida dev
  raida dev --data /tmp/raida-dev --shards 4
  raida dev --listen 127.0.0.1:50009")]
pub struct Arguments {
    /// The data directory; made on the first run, with coins in DIR/wallet.jsonl
    #[arg(long, value_name = "DIR", default_value = "./raida-dev")]
    data: PathBuf,
    /// Shards, each with a thread; 0: one for each core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=i64::from(SHARDS_MAX)))]
    shards: u8,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = LISTEN)]
    listen: SocketAddr,
}

/// Makes the directory on the first run, and serves it.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { data, shards, listen } = arguments;
    match build(&data, fill) {
        Ok(()) => say(&format!("made {} with {} coins in {WALLET}", data.display(), coins()))?,
        Err(StoreError::NotEmpty { .. }) => {}
        Err(error) => return Err(data_failure(error, &data)),
    }
    let mut config = Config::default();
    config.server.threads = shards;
    (config.server.listen, config.server.port) = (listen.ip(), listen.port());
    config.market.settlement = [Settlement::Trusted; 3];
    // Port 0 takes a free one, as it does for the node.
    let port = if listen.port() == 0 { 0 } else { listen.port().wrapping_add(ADMIN_PORTS_ABOVE) };
    config.admin.listen = Door::At(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    serve(&data, &config, |node, admin| {
        let ready = ready_line(config.server.raida_id, node, admin);
        let page = admin.and_then(Admin::address).map(|address| format!("\nThe node's page: http://{address}/"));
        say(&format!("{ready}\n\n{}{}", story(&data, node)?, page.unwrap_or_default()))
    })
}

/// Makes a data directory and mints the demo coins.
fn fill(unfinished: &Path) -> Result<(), StoreError> {
    let directory = Directory::open(unfinished)?;
    initialise(&directory, Geometry::default())?;
    let mut wallet = Wallet::open(&unfinished.join(WALLET)).map_err(wallet_error)?;
    for (den, count) in COINS {
        let den = Denomination::new(den).expect("a denomination");
        mint_into(&directory, &Mint { den, first_sn: 0, count, mfs: this_month() }, &mut wallet)?;
    }
    Ok(())
}

fn coins() -> u32 {
    COINS.iter().map(|(_, count)| count).sum()
}

/// What to paste into a second terminal in the same folder.
fn story(data: &Path, node: &Node) -> Result<String, Failure> {
    let program = shortest(&std::env::current_exe().or_failure(ExitStatus::Machine)?);
    let mut lines = vec!["Paste this into another terminal, in this folder:\n".to_owned()];
    lines.push(format!("export RAIDA_WALLET={}", quoted(&data.join(WALLET))));
    if node.address().to_string() != LISTEN {
        lines.push(format!("export RAIDA_TO={}", node.address()));
    }
    lines.extend(STORY.iter().map(|(what, command)| format!("# {what}\n{} client {command}", quoted(&program))));
    lines.push("\nCtrl-C ends the node; `raida dev` goes on with the same coins.".to_owned());
    Ok(lines.join("\n"))
}

/// The path as seen from the current folder, where it is below it.
fn shortest(path: &Path) -> PathBuf {
    let folder = std::env::current_dir().unwrap_or_default();
    match path.strip_prefix(&folder) {
        Ok(below) => Path::new(".").join(below),
        Err(_) => path.to_path_buf(),
    }
}
