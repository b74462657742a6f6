//! `raida inspect`: looks into a data directory, for a person.

use std::io::{self, Read};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use raida::audit::trail::coin_type_name;
use raida::client::secrets::{KeySpec, hex_of_bytes};
use raida::coin::{
    COINS_PER_PAGE, CoinId, CoinRecord, Denomination, PAGES_PER_DENOMINATION, PageNumber, Place, Secret,
};
use raida::store::files;
use raida::store::inspect::{PageView, coins_of, page};
use raida::store::layout::PageState;
use raida::store::orders::Order;
use raida::store::verify::Survey;
use raida::store::verify::survey::Origin;
use raida::wire::request::locker::SaleTerms;

use super::exit::{ExitStatus, Failure, OrFailure};
use super::generate::print;
use super::inspect_log::show_log;
use super::mint::denomination;
use super::offline::{money, open_to_read, progress_bar, store_failure};

/// Show a coin, a locker, a page or the log of a data directory that no node serves
///
/// Changes nothing, and shows a damaged directory too, as far as it goes. Coins are shown as the next start has them,
/// with what the log has of them.
#[derive(Args)]
#[command(after_help = "Examples:
  raida inspect --data ./data coin 0 17
  raida inspect --data ./data coin -2 5000 --show-secrets
  raida inspect --data ./data locker ABC-1234 --raida-id 3
  echo 00112233445566778899AABBFFFFFFFF | raida inspect --data ./data locker -
  raida inspect --data ./data page -8 0 --coins
  raida inspect --data ./data log")]
pub struct Arguments {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Show ANs, and with them the keys of lockers: whoever reads them owns the coins
    #[arg(long, global = true)]
    show_secrets: bool,
    #[command(subcommand)]
    what: What,
}

/// What can be shown.
#[derive(Subcommand)]
enum What {
    /// Show a coin: where it is, its page, and whether the log has something newer
    #[command(after_help = "Example:\n  raida inspect --data ./data coin -1 300001")]
    Coin {
        /// The denomination, -8 to 6
        #[arg(value_name = "DEN", allow_negative_numbers = true, value_parser = denomination)]
        den: Denomination,
        /// The serial number, 0 to 1023999
        #[arg(value_name = "SN", value_parser = clap::value_parser!(u32).range(0..1_024_000))]
        sn: u32,
    },
    /// Show the coins of a locker or trade locker; of this its price too, and where its seller is paid
    #[command(after_help = "Example:\n  raida inspect --data ./data locker - < key.txt")]
    Locker {
        /// Its key: 32 hex digits, or a transmit code such as ABC-1234; `-` reads it from standard input, where no list of
        /// processes shows it
        #[arg(value_name = "KEY")]
        key: String,
        /// The node's number in the network, which a transmit code needs
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=24))]
        raida_id: u8,
    },
    /// Show a page: what is in its place, and how many of its coins are in circulation
    #[command(after_help = "Example:\n  raida inspect --data ./data page -1 292 --coins")]
    Page {
        /// The denomination, -8 to 6
        #[arg(value_name = "DEN", allow_negative_numbers = true, value_parser = denomination)]
        den: Denomination,
        /// Its number in the denomination: of 1024 serial numbers each
        #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(0..1000))]
        number: u16,
        /// Show its coins in circulation too
        #[arg(long)]
        coins: bool,
    },
    /// Show the logs: what is in place, segments, batches, commands
    #[command(after_help = "Example:\n  raida inspect --data ./data log --shard 0")]
    Log {
        /// One shard's alone
        #[arg(long, value_name = "N")]
        shard: Option<u8>,
    },
}

/// Shows it.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let directory = open_to_read(&arguments.data)?;
    let mut findings = Vec::new();
    let survey = Survey::new(&directory, &mut findings).map_err(store_failure)?;
    findings.iter().for_each(|finding| log::warn!("{finding}"));
    if survey.controls.is_empty() {
        let line = format!("{} has no log: no data directory of this program", arguments.data.display());
        return Err(Failure::new(ExitStatus::Data, line));
    }
    let secrets = Secrets(arguments.show_secrets);
    match &arguments.what {
        What::Coin { den, sn } => {
            let coin = CoinId::new(den.get(), *sn).expect("a denomination and a serial number");
            show(&coin_lines(coin, &page(&directory, &survey, coin.page()), secrets))
        }
        What::Locker { key, raida_id } => {
            let key = read_key(key)?.key(*raida_id);
            let (bar, mut progress) = progress_bar();
            let coins = coins_of(&directory, &survey, &key, &mut progress);
            bar.finish_and_clear();
            let order = survey.orders().into_iter().find(|order| order.an == key);
            show(&locker_lines(&coins, order.as_ref()))
        }
        What::Page { den, number, coins } => {
            let number = PageNumber::of(*den, *number).expect("a page of the denomination");
            show(&page_lines(number, &page(&directory, &survey, number), *coins, secrets))
        }
        What::Log { shard } => show_log(&directory, &survey, *shard, secrets),
    }
}

const _: () = assert!(PAGES_PER_DENOMINATION == 1000);

/// Prints lines, for a reader who may have seen enough.
pub fn show(lines: &str) -> Result<(), Failure> {
    print(format!("{lines}\n").as_bytes())
}

/// Whether secrets are shown.
#[derive(Clone, Copy)]
pub struct Secrets(bool);

impl Secrets {
    /// The secret, or that it is one.
    pub fn show(self, secret: &Secret) -> String {
        if self.0 { hex_of_bytes(secret.bytes()) } else { "(--show-secrets)".to_owned() }
    }

    /// Whether they are shown.
    pub fn are_shown(self) -> bool {
        self.0
    }
}

/// A locker's key, of the command line or, for `-`, of standard input.
pub fn read_key(text: &str) -> Result<KeySpec, Failure> {
    let mut typed = text.to_owned();
    if text == "-" {
        typed.clear();
        io::stdin().take(1024).read_to_string(&mut typed).or_failure(ExitStatus::Machine)?;
    }
    typed.trim().parse().or_failure(ExitStatus::Usage)
}

fn place(record: &CoinRecord) -> &'static str {
    match record.place() {
        Place::Free => "free",
        Place::Wallet => "wallet",
        Place::Locker(_) => "locker",
        Place::TradeLocker(_) => "trade locker",
    }
}

fn coin_lines(coin: CoinId, page: &PageView, secrets: Secrets) -> String {
    let number = coin.page();
    let mut lines = vec![format!("coin             {coin:?}")];
    match page.record(coin) {
        None => lines.push("place            unknown: its page is lost".to_owned()),
        Some(record) => {
            lines.push(format!("place            {}", place(&record)));
            lines.push(format!("MFS              {}", record.mfs.get()));
            lines.push(format!("AN               {}", secrets.show(&record.an)));
        }
    }
    let den = number.denomination();
    lines.push(format!("page             {} of denomination {den}, {}", number.in_denomination(), content(page)));
    let logged = page.logged.iter().find(|(logged, _)| *logged == coin);
    lines.push(match logged {
        Some((_, sequence)) => format!("log              has sequence {sequence}, to be replayed at the next start"),
        None => "log              has nothing newer".to_owned(),
    });
    lines.join("\n")
}

/// What a page's place holds and what becomes of it.
fn content(page: &PageView) -> String {
    let state = match page.state {
        PageState::NeverUsed => "zeros in its place".to_owned(),
        PageState::Used(sequence) => format!("whole in its place, sequence {sequence}"),
        PageState::Damaged => "damaged in its place".to_owned(),
    };
    let origin = match page.origin {
        Origin::Place => "",
        Origin::Nowhere if page.logged.is_empty() => ": never used",
        Origin::Nowhere => ": not written yet, the logs have its coins",
        Origin::Copy => ": a double-write area has it whole",
        Origin::Logs => ": it was never used before the logs begin, nothing is lost",
        Origin::Damaged => ": no whole copy is left",
        Origin::Lost => ": it held coins",
    };
    state + origin
}

fn locker_lines(coins: &[(CoinId, CoinRecord)], order: Option<&Order>) -> String {
    let Some((_, first)) = coins.first() else { return "empty: no coin has this key".to_owned() };
    let worth: u128 = coins.iter().map(|(coin, _)| u128::from(coin.denomination().value())).sum();
    let mut lines = vec![
        format!("place            {}", place(first)),
        format!("coins            {}", coins.len()),
        format!("value            {}", money(worth)),
    ];
    if let Some(terms) = SaleTerms::of(&first.an) {
        lines.push(format!("price            {} {}", terms.price, coin_type_name(terms.coin_type)));
        // Whatever bytes its seller has chosen.
        let address = order.map(|order| order.address.as_bytes().escape_ascii().to_string());
        lines.push(format!("payout address   {}", address.as_deref().unwrap_or("unknown: it is lost")));
    }
    lines.extend(coins.iter().map(|(coin, record)| format!("{coin:?} MFS {}", record.mfs.get())));
    lines.join("\n")
}

fn page_lines(number: PageNumber, page: &PageView, coins: bool, secrets: Secrets) -> String {
    let den = number.denomination();
    let last = usize::from(COINS_PER_PAGE) - 1;
    let mut lines = vec![
        format!("page             {} of denomination {den}", number.in_denomination()),
        format!("coins            {:?} to {:?}", number.coin(0), number.coin(last)),
        format!("place            {}, at byte {}", files::coins(den), files::page_offset(number)),
        format!("content          {}", content(page)),
    ];
    if !page.logged.is_empty() {
        let newest = page.logged.iter().map(|(_, sequence)| *sequence).max().unwrap_or_default();
        lines.push(format!(
            "log              has newer records of {} coins, up to sequence {newest}",
            page.logged.len()
        ));
    }
    let circulating: Vec<(CoinId, CoinRecord)> = (0..=last)
        .map(|slot| number.coin(slot))
        .filter_map(|coin| Some((coin, page.record(coin)?)))
        .filter(|(_, record)| !record.is_free())
        .collect();
    lines.push(format!("circulation      {}", circulating.len()));
    if coins {
        lines.extend(circulating.iter().map(|(coin, record)| {
            format!("{coin:?} {} MFS {} AN {}", place(record), record.mfs.get(), secrets.show(&record.an))
        }));
    }
    lines.join("\n")
}
