//! `raida audit`: every change of coins that is in archive and logs.

use std::io::Write;

use clap::Args;
use serde_json::json;

use raida::audit::trail::{Question, Step, coin_type_name, place_name};
use raida::calendar::iso;
use raida::client::secrets::hex_of_bytes;
use raida::coin::CoinId;

use super::exit::Failure;
use super::inspect::read_key;
use super::journal::{Ended, Form, JournalArguments, Past, end, output};

/// Tell what happened to coins: when, by which command, from where to where
///
/// Reads what the logs held and the archive keeps (table [archive] of raida.toml), and what the logs hold now; a node may
/// be serving the directory meanwhile. Places are `free`, `owned` (in a wallet), `locker` and `on sale`. No AN and no key is
/// told. Times are in UTC and those of the node's clock; the order is that of the commits.
///
/// Coins that `raida import`, `mint` or `restore` brought are told of from their first move on; how many came when, from
/// where, the file admin.journal of the directory says.
///
/// With --locker, what left the locker is told of coins whose way into it is told too: a commit does not say which locker
/// its coins were in.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  raida audit --data /var/lib/raida/data --since 24h
  raida audit --data ./data --coin -2 5000
  raida audit --data ./data --locker - --since 2026-11-01 --until 2026-12-01 --csv < key.txt
  raida audit --data ./data --json")]
pub struct Arguments {
    #[command(flatten)]
    journal: JournalArguments,
    /// This coin alone: denomination and serial number
    #[arg(long, num_args = 2, value_names = ["DEN", "SN"], allow_negative_numbers = true)]
    coin: Option<Vec<i64>>,
    /// What came to this locker or trade locker and left it: its key or AN, 32 hex digits, or a transmit code such as
    /// ABC-1234; `-` reads it from standard input, where no list of processes shows it
    #[arg(long, value_name = "KEY")]
    locker: Option<LockerWord>,
    /// The node's number in the network, which a transmit code needs
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=24))]
    raida_id: u8,
}

/// What names a locker, as it was typed. Not printable.
#[derive(Clone)]
struct LockerWord(String);

impl std::str::FromStr for LockerWord {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for LockerWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LockerWord(..)")
    }
}

/// Tells it.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let coin = arguments.coin.as_deref().map(coin).transpose()?;
    let key = arguments.locker.as_ref().map(|word| read_key(&word.0)).transpose()?;
    let key = key.map(|key| key.key(arguments.raida_id));
    let mut question = Question::new(arguments.journal.window()?, coin, key);
    let form = arguments.journal.form();
    let mut out = output();
    let mut past = Past::open(&arguments.journal.data)?;
    let told = head(form, &mut out).and_then(|()| {
        past.commits(question.reads(), &mut |shard, record| {
            question.read(shard, record, &mut |step| Ok(writeln!(out, "{}", line(form, step))?))
        })?;
        past.whole()
    });
    end(told, out)
}

/// A coin, as two words of a command line name it.
pub fn coin(words: &[i64]) -> Result<CoinId, Failure> {
    let coin = match words {
        &[den, sn] => i8::try_from(den).ok().zip(u32::try_from(sn).ok()).and_then(|(den, sn)| CoinId::new(den, sn)),
        _ => None,
    };
    let wrong = "--coin takes a denomination, -8 to 6, and a serial number, 0 to 1023999";
    coin.ok_or_else(|| Failure::new(super::exit::ExitStatus::Usage, wrong))
}

const COLUMNS: &str = "time,sequence,log,command,den,sn,from,to,offer,currency,price";

fn head(form: Form, out: &mut impl Write) -> Result<(), Ended> {
    if form == Form::Csv {
        writeln!(out, "{COLUMNS}")?;
    }
    Ok(())
}

/// A step, as it is told.
fn line(form: Form, step: &Step) -> String {
    let (time, command) = (iso(step.commit.unix_ms), step.command());
    let (sequence, shard) = (step.commit.sequence, step.shard);
    let (den, sn) = (step.coin.denomination().get(), step.coin.serial_number().get());
    let (from, to) = (place_name(step.from), place_name(step.to));
    let offer = step.offer.map(|offer| (hex_of_bytes(&offer.identifier), coin_type_name(offer.coin_type), offer.price));
    match form {
        Form::Table => {
            let offer = offer.map_or(String::new(), |(identifier, currency, price)| {
                format!("  for {price} {currency} as {identifier}")
            });
            format!("{time}  {sequence:>10}  {command:<21} {:<10}  {from} -> {to}{offer}", format!("{den}:{sn}"))
        }
        Form::Json => {
            let offer = offer.map(|(identifier, currency, price)| {
                json!({ "identifier": identifier, "currency": currency, "price": price })
            });
            json!({
                "time": time, "unix_ms": step.commit.unix_ms, "sequence": sequence, "log": shard, "command": command,
                "den": den, "sn": sn, "from": from, "to": to, "offer": offer,
            })
            .to_string()
        }
        Form::Csv => {
            let offer = offer
                .map_or(",,".to_owned(), |(identifier, currency, price)| format!("{identifier},{currency},{price}"));
            format!("{time},{sequence},{shard},{command},{den},{sn},{from},{to},{offer}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raida::audit::trail::Offer;
    use raida::coin::TradeCoin;
    use raida::store::wal::{Commit, PlaceKind};

    fn step() -> Step {
        Step {
            shard: 1,
            commit: Commit { sequence: 7, unix_ms: 1_795_309_260_007, group: 8, code: 85 },
            coin: CoinId::new(-2, 5000).unwrap(),
            from: PlaceKind::Wallet,
            to: PlaceKind::TradeLocker,
            offer: Some(Offer { identifier: [0xAB; 16], coin_type: TradeCoin::Bitcoin, price: 250 }),
        }
    }

    #[test]
    fn a_step_in_each_form() {
        let identifier = "ab".repeat(16);
        assert_eq!(
            line(Form::Table, &step()),
            format!(
                "2026-11-22T01:01:00.007Z           7  put-for-sale          -2:5000     owned -> on sale  \
                 for 250 bitcoin as {identifier}"
            )
        );
        let csv = line(Form::Csv, &step());
        assert_eq!(
            csv,
            format!("2026-11-22T01:01:00.007Z,7,1,put-for-sale,-2,5000,owned,on sale,{identifier},bitcoin,250")
        );
        assert_eq!(csv.split(',').count(), COLUMNS.split(',').count());
        let json: serde_json::Value = serde_json::from_str(&line(Form::Json, &step())).unwrap();
        assert_eq!((&json["command"], &json["offer"]["price"]), (&json!("put-for-sale"), &json!(250)));
        let plain = Step { offer: None, commit: Commit { group: 99, code: 1, ..step().commit }, ..step() };
        assert_eq!(line(Form::Csv, &plain).split(',').count(), COLUMNS.split(',').count());
        assert!(line(Form::Table, &plain).contains("  99.1 "));
    }

    #[test]
    fn a_coin_is_one_there_is() {
        assert_eq!(coin(&[-8, 1_023_999]).unwrap(), CoinId::new(-8, 1_023_999).unwrap());
        for wrong in [&[7, 0][..], &[0, 1_024_000], &[0, -1], &[300, 0], &[0]] {
            assert!(coin(wrong).is_err(), "{wrong:?}");
        }
    }
}
