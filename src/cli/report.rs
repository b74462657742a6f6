//! `raida report`: sums of what is in archive and logs.

use std::collections::BTreeMap;
use std::io::Write;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use raida::audit::trail::{coin_type_name, command_name, place_name};
use raida::audit::usage::{Amount, Period, Trade, Usage};
use raida::calendar::{hour_name, iso};
use raida::coin::TradeCoin;
use raida::store::wal::PlaceKind;
use raida::wire::status::{Status, StatusClass};

use super::exit::Failure;
use super::journal::{Ended, Form, JournalArguments, Past, end, output};
use super::offline::money;

/// Sum up what happened: commands, their answers, moves of coins, trade and prices, the busiest hours
///
/// Of what `raida audit` tells one by one. How requests were answered, those too that were refused and changed nothing,
/// is kept beside it, by the hour: whole hours that begin within the time asked for are told, and the running minute is
/// not in it yet. A node takes no fees. A price is that of a whole trade locker, in the coin type's own units; the price of
/// 1.00000000 is what was paid for all that were sold, by what their coins are worth.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  raida report --data /var/lib/raida/data --since 30d
  raida report --data ./data --since 2026-11-01 --until 2026-12-01 --by month --csv
  raida report --data ./data --by all --json")]
pub struct Arguments {
    #[command(flatten)]
    journal: JournalArguments,
    /// How long a period of trade is
    #[arg(long, value_enum, default_value = "day")]
    by: PeriodName,
    /// How many of the busiest hours are told
    #[arg(long, value_name = "N", default_value_t = 10)]
    busiest: usize,
}

/// The values of `--by`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PeriodName {
    /// An hour
    Hour,
    /// A day
    Day,
    /// A month
    Month,
    /// All the time that was asked for
    All,
}

impl From<PeriodName> for Period {
    fn from(name: PeriodName) -> Self {
        match name {
            PeriodName::Hour => Self::Hour,
            PeriodName::Day => Self::Day,
            PeriodName::Month => Self::Month,
            PeriodName::All => Self::All,
        }
    }
}

/// Sums it up.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut usage = Usage::new(arguments.journal.window()?, arguments.by.into());
    let mut out = output();
    let mut past = Past::open(&arguments.journal.data)?;
    let read = read(&mut past, &mut usage);
    let told = match arguments.journal.form() {
        Form::Table => table(&usage, arguments.busiest),
        Form::Json => json_of(&usage, arguments.busiest).to_string(),
        Form::Csv => csv(&usage, arguments.busiest),
    };
    let written = writeln!(out, "{told}").map_err(Into::into);
    // What was damaged is said after all that was not.
    end(written.and(read), out)
}

fn read(past: &mut Past, usage: &mut Usage) -> Result<(), Ended> {
    past.commits(usage.reads(), &mut |_, record| {
        usage.read(record);
        Ok(())
    })?;
    past.answers(usage.window(), &mut |answered, count| usage.read_answers(answered, count))?;
    past.whole()
}

/// What kind of answer a status byte is, and what it means; a newer program may know more of them.
fn meaning(status: u8) -> (&'static str, &'static str) {
    Status::from_code(status).map_or(("unknown", "unknown"), |status| (status.class().name(), status.text()))
}

/// How many answers are of each class, those of none known to this program last.
fn classes(usage: &Usage) -> impl Iterator<Item = (&'static str, u64)> {
    StatusClass::ALL.map(StatusClass::name).into_iter().chain(["unknown"]).map(|class| {
        let of_class = usage.answers.iter().filter(|((_, status), _)| meaning(*status).0 == class);
        (class, of_class.map(|(_, count)| count).sum())
    })
}

fn place(byte: u8) -> &'static str {
    place_name(PlaceKind::new(byte).expect("a place that was summed up"))
}

fn currency(byte: Option<u8>) -> &'static str {
    byte.and_then(TradeCoin::new).map_or("unknown", coin_type_name)
}

/// What was paid for 1.00000000, if anything was sold whose price is known.
fn unit_price(trade: &Trade) -> Option<String> {
    let known = trade.value_of_known_price;
    (known > 0).then(|| format!("{:.8}", trade.turnover as f64 * 1e8 / known as f64))
}

fn table(usage: &Usage, busiest: usize) -> String {
    let Amount { commits, coins } = usage.all;
    let mut lines = vec![match usage.times {
        Some((first, last)) => format!("{commits} commands changed {coins} coins, {} to {}", iso(first), iso(last)),
        None => "nothing was changed".to_owned(),
    }];
    let mut part = |head: &str, rows: Vec<String>| {
        if !rows.is_empty() {
            lines.push(format!("\n{head}"));
            lines.extend(rows);
        }
    };
    let commands = usage.commands.iter();
    let commands = commands.map(|((group, code), amount)| {
        format!("{:<22}{:>12}{:>14}", command_name(*group, *code), amount.commits, amount.coins)
    });
    part("command                   commands         coins", commands.collect());
    let of_classes = classes(usage).filter(|(_, count)| *count > 0);
    part("answers                     number", of_classes.map(|(class, n)| format!("{class:<22}{n:>12}")).collect());
    let answers = usage.answers.iter().map(|((command, status), count)| {
        let (class, text) = meaning(*status);
        format!("{command:<22}{count:>12}  {class:<9}{status:>4} {text}")
    });
    part("answered                    number  class   status", answers.collect());
    let moves = usage.moves.iter();
    let moves =
        moves.map(|((from, to), coins)| format!("{:<22}{coins:>26}", format!("{} -> {}", place(*from), place(*to))));
    part("from where to where                            coins", moves.collect());
    let trade = usage.trade.iter().map(|((period, coin_type), trade)| {
        let prices = trade.prices.map_or("-".to_owned(), |(lowest, highest)| format!("{lowest}..{highest}"));
        format!(
            "{period:<14}{:<10}{:>8}{:>8}{:>10}{:>24}{:>14}  {prices:<22}{}",
            currency(*coin_type),
            trade.offered,
            trade.sold,
            trade.coins,
            money(trade.value),
            trade.turnover,
            unit_price(trade).as_deref().unwrap_or("-"),
        )
    });
    part(
        "trade         for        offered    sold     coins                   worth          paid  \
         prices                for 1.00000000",
        trade.collect(),
    );
    let hours = usage.busiest(busiest).into_iter();
    let hours =
        hours.map(|(hour, amount)| format!("{:<22}{:>12}{:>14}", hour_name(hour), amount.commits, amount.coins));
    part("busiest hours             commands         coins", hours.collect());
    lines.join("\n")
}

fn json_of(usage: &Usage, busiest: usize) -> Value {
    let amount = |amount: &Amount| (amount.commits, amount.coins);
    let commands = usage.commands.iter().map(|((group, code), of)| {
        let (commits, coins) = amount(of);
        json!({ "command": command_name(*group, *code), "commits": commits, "coins": coins })
    });
    let answers = usage.answers.iter().map(|((command, status), count)| {
        let (class, text) = meaning(*status);
        json!({ "command": command, "class": class, "status": status, "text": text, "answers": count })
    });
    let moves = usage.moves.iter();
    let moves = moves.map(|((from, to), coins)| json!({ "from": place(*from), "to": place(*to), "coins": coins }));
    let trade = usage.trade.iter().map(|((period, coin_type), trade)| {
        json!({
            "period": period,
            "currency": currency(*coin_type),
            "offered": trade.offered,
            "sold": trade.sold,
            "sold_of_unknown_price": trade.of_unknown_price,
            "coins": trade.coins,
            "value": money(trade.value),
            "paid": trade.turnover,
            "lowest_price": trade.prices.map(|(lowest, _)| lowest),
            "highest_price": trade.prices.map(|(_, highest)| highest),
            "price_of_one": unit_price(trade),
        })
    });
    let hours = |hours: Vec<(u64, Amount)>| {
        let hours = hours.into_iter().map(|(hour, of)| {
            let (commits, coins) = amount(&of);
            json!({ "hour": hour_name(hour), "commits": commits, "coins": coins })
        });
        hours.collect::<Vec<_>>()
    };
    json!({
        "commits": usage.all.commits,
        "coins": usage.all.coins,
        "first": usage.times.map(|(first, _)| iso(first)),
        "last": usage.times.map(|(_, last)| iso(last)),
        "commands": commands.collect::<Vec<_>>(),
        "answer_classes": classes(usage).collect::<BTreeMap<_, _>>(),
        "answers": answers.collect::<Vec<_>>(),
        "moves": moves.collect::<Vec<_>>(),
        "trade": trade.collect::<Vec<_>>(),
        "busiest_hours": hours(usage.busiest(busiest)),
    })
}

/// One table of all: what a column does not mean for a row is empty.
fn csv(usage: &Usage, busiest: usize) -> String {
    let columns = "what,period,name,commits,coins,offered,worth,paid,lowest_price,highest_price,class,status,answers";
    let mut lines = vec![columns.to_owned()];
    let plain = |what: &str, period: &str, name: &str, amount: &Amount| {
        format!("{what},{period},{name},{},{},,,,,,,,", amount.commits, amount.coins)
    };
    lines.extend(
        usage.commands.iter().map(|((group, code), amount)| plain("command", "", &command_name(*group, *code), amount)),
    );
    lines.extend(
        usage.answers.iter().map(|((command, status), count)| {
            format!("answer,,{command},,,,,,,,{},{status},{count}", meaning(*status).0)
        }),
    );
    let moves = usage.moves.iter();
    lines.extend(moves.map(|((from, to), coins)| format!("move,,{} -> {},,{coins},,,,,,,,", place(*from), place(*to))));
    lines.extend(usage.trade.iter().map(|((period, coin_type), trade)| {
        let price = |price: Option<u32>| price.map_or(String::new(), |price| price.to_string());
        format!(
            "trade,{period},{},{},{},{},{},{},{},{},,,",
            currency(*coin_type),
            trade.sold,
            trade.coins,
            trade.offered,
            money(trade.value),
            trade.turnover,
            price(trade.prices.map(|(lowest, _)| lowest)),
            price(trade.prices.map(|(_, highest)| highest)),
        )
    }));
    lines.extend(usage.busiest(busiest).iter().map(|(hour, amount)| plain("hour", &hour_name(*hour), "", amount)));
    lines.join("\n")
}
