//! What the command line can ask for, and what that does to the wallet.
//!
//! One file for each group of commands. All of them go through `Run::ask`, or through `Run::change` when they
//! change coins: then the wallet has the new secrets on disk before the request goes out, and takes them over or drops
//! them as the answer says of each coin (see [`wallet`](super::wallet)).

mod change;
mod coins;
mod locker;
mod market;
mod status;
#[cfg(test)]
mod tests;
mod treasury;
mod wallet;

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs};

use serde_json::{Value, json};

use crate::wire::header::{Encryption, NodeIdentity};
use crate::wire::items::{RawCoin, SecretCoin};
use crate::wire::request::answer::Answer;
use crate::wire::request::treasury::GROUP as TREASURY;
use crate::wire::request::{CommandKind, Request};
use crate::wire::status::Status;

use super::Error;
use super::arguments::{ClientArguments, ClientCommand, CoinSpec, WalletCommand};
use super::connection::{Connection, Transport};
use super::session::{Reply, Sealing, Session};
use super::wallet::{Pending, Wallet};

/// What a command line has to show for itself.
#[derive(Clone, PartialEq, Debug)]
pub struct Output {
    /// What the node answered; `None` where no node was asked.
    pub status: Option<Status>,
    /// For people: some lines, without the last line's end.
    pub text: String,
    /// For programs: an object.
    pub json: Value,
}

impl Output {
    /// Whether the node answered no. What it did in part, it did.
    pub fn is_refused(&self) -> bool {
        self.status.is_some_and(|status| !status.is_success())
    }

    /// The output of a protocol's command: what it found, then how it went.
    fn of(kind: CommandKind, status: Status, micros: u32, text: String, mut found: Value) -> Self {
        let outcome = format!("status {status} ({micros} µs at the node)");
        let text = if text.is_empty() { outcome } else { format!("{text}\n{outcome}") };
        found["command"] = kind.command().name.into();
        found["status"] = status.code().into();
        found["meaning"] = status.text().into();
        found["micros"] = micros.into();
        Self { status: Some(status), text, json: found }
    }
}

/// Carries out one command line.
///
/// # Errors
/// Whatever keeps the node's answer from being shown.
pub async fn run(arguments: &ClientArguments) -> Result<Output, Error> {
    let mut run = Run::new(arguments)?;
    match &arguments.command {
        ClientCommand::Echo => run.echo().await,
        ClientCommand::Version => run.version().await,
        ClientCommand::CountCoins => run.count_coins().await,
        ClientCommand::Detect { coins } => run.detect(coins).await,
        ClientCommand::DetectSum(argument) => run.detect_sum(&argument.coins).await,
        ClientCommand::Pown(argument) => run.pown(&argument.coins).await,
        ClientCommand::PownSum(argument) => run.pown_sum(&argument.coins).await,
        ClientCommand::AvailableSerialNumbers { key, den, session } => {
            run.available_serial_numbers(key, *den, *session).await
        }
        ClientCommand::CreateCoins { key, session, coins } => run.create_coins(key, *session, coins).await,
        ClientCommand::DeleteCoins { key, coins } => run.delete_coins(key, &coins.coins).await,
        ClientCommand::FreeCoins { key, coins } => run.free_coins(key, coins).await,
        ClientCommand::AllSerialNumbers { key, den } => run.all_serial_numbers(key, *den).await,
        ClientCommand::PeekTradeLocker { identifier } => run.peek_trade_locker(*identifier).await,
        ClientCommand::Store { key, coins } => run.store(key, &coins.coins).await,
        ClientCommand::Peek { key } => run.peek(key).await,
        ClientCommand::Remove { key, coins } => run.remove(key, coins).await,
        ClientCommand::PutForSale { coins, coin_type, price, address } => {
            run.put_for_sale(&coins.coins, *coin_type, *price, address).await
        }
        ClientCommand::ListForSale { coin_type, max } => run.list_for_sale(*coin_type, *max).await,
        ClientCommand::Buy(purchase) => run.buy(purchase).await,
        ClientCommand::StoreMultiple { lockers } => run.store_multiple(lockers).await,
        ClientCommand::RemoveTradeLocker { locker, key, .. } => run.remove_trade_locker(*locker, key.as_ref()).await,
        ClientCommand::ChangeSerialNumbers { operation, den, session } => {
            run.change_serial_numbers(*operation, *den, *session).await
        }
        ClientCommand::Break(exchange) => run.break_coin(exchange).await,
        ClientCommand::Join(exchange) => run.join_coins(exchange).await,
        ClientCommand::Wallet(WalletCommand::List) => run.list_wallet(),
        ClientCommand::Wallet(WalletCommand::Reconcile { prune }) => run.reconcile(*prune).await,
    }
}

/// One command line on its way.
struct Run<'a> {
    arguments: &'a ClientArguments,
    /// The node's address.
    to: SocketAddr,
    session: Session,
    wallet: Option<Wallet>,
}

/// What an answer says of the coins that a request would change.
enum Outcome {
    /// Of all of them the same: it was done, or not.
    All(bool),
    /// Of each, in the order of the request.
    Each(Vec<bool>),
    /// Nothing: the node failed in the middle.
    Unknown,
}

impl<'a> Run<'a> {
    fn new(arguments: &'a ClientArguments) -> Result<Self, Error> {
        let transport = if arguments.udp { Transport::Udp } else { Transport::Tcp };
        let to = address(&arguments.to)?;
        let connection = Connection::new(to, transport, arguments.timeout);
        let node = NodeIdentity { raida_id: arguments.raida_id, coin_id: arguments.coin_id };
        let wallet = arguments.wallet.as_deref().map(Wallet::open).transpose()?;
        Ok(Self { arguments, to, session: Session::new(connection, node, Sealing::None), wallet })
    }

    fn raida_id(&self) -> u8 {
        self.arguments.raida_id
    }

    fn wallet(&self) -> Result<&Wallet, Error> {
        self.wallet.as_ref().ok_or_else(no_wallet)
    }

    fn wallet_mut(&mut self) -> Result<&mut Wallet, Error> {
        self.wallet.as_mut().ok_or_else(no_wallet)
    }

    /// How the command line wants the next request sealed. The ANs are those that the wallet has now: an earlier
    /// request may have changed them.
    fn sealing(&self) -> Result<Sealing, Error> {
        let arguments = self.arguments;
        let coins = |wanted: usize| -> Result<Vec<SecretCoin>, Error> {
            let wallet = self.wallet()?;
            let coins: Vec<_> = if arguments.key_coin.is_empty() {
                wallet.spendable().take(wanted).collect()
            } else {
                arguments.key_coin.iter().map(|&coin| wallet.settled(coin)).collect::<Result<_, _>>()?
            };
            if coins.len() == wanted {
                return Ok(coins);
            }
            Err(Error::Usage(format!("encryption type {} takes {wanted} key coin(s)", arguments.encrypt as u8)))
        };
        Ok(match arguments.encrypt {
            Encryption::None => Sealing::None,
            Encryption::Coin => Sealing::Coin(coins(1)?[0]),
            Encryption::Locker => {
                let locker = arguments.key_locker.as_ref();
                let locker = locker.ok_or_else(|| Error::Usage("encryption type 2 takes --key-locker KEY".into()))?;
                Sealing::Locker(locker.key(self.raida_id()))
            }
            Encryption::Coin256 => Sealing::Coin256(coins(1)?[0]),
            Encryption::TwoCoins256 => {
                let coins = coins(2)?;
                Sealing::TwoCoins256(coins[0], coins[1])
            }
        })
    }

    /// Has the next request sealed as the command line wants it.
    ///
    /// The treasury's key makes money: it goes to another machine under a seal that shows it to nobody on the way, or not
    /// at all. A node refuses the rest, too, but only once it has the key.
    fn seal(&mut self, request: &Request<'_>) -> Result<(), Error> {
        let sealing = self.sealing()?;
        let stays_here = self.to.ip().to_canonical().is_loopback();
        if request.command().group == TREASURY && !sealing.hides_from_listeners() && !stays_here {
            return Err(Error::Usage(format!(
                "nothing was sent: {} holds the treasury's key, which --encrypt 4 or 5 alone hides on the way to {}",
                request.command().name,
                self.to
            )));
        }
        self.session.set_sealing(sealing);
        Ok(())
    }

    /// Asks something that changes no coin of the wallet.
    async fn ask(&mut self, request: &Request<'_>) -> Result<Reply, Error> {
        self.seal(request)?;
        self.session.call(request).await
    }

    /// Asks for something that changes coins: `changes` says what becomes of each if it is done. Coins of the answer's
    /// bits, or of its lockers, are in the order of the changes.
    async fn change(&mut self, changes: &[(RawCoin, Pending)], request: &Request<'_>) -> Result<Reply, Error> {
        self.seal(request)?;
        self.session.open().await?;
        if !changes.is_empty() {
            self.wallet_mut()?.begin(changes.iter().copied())?;
        }
        let answered = match self.session.call(request).await {
            Ok(reply) => outcome(request, &reply).map(|outcome| (reply, outcome)),
            Err(error) => Err(error),
        };
        let (outcome, result) = match answered {
            Ok((reply, outcome)) => (outcome, Ok(reply)),
            Err(error) if error.may_have_arrived() => (Outcome::Unknown, Err(error)),
            Err(error) => (Outcome::All(false), Err(error)),
        };
        if changes.is_empty() {
            return result;
        }
        let coins = changes.iter().map(|(coin, _)| *coin);
        match outcome {
            Outcome::All(done) => self.wallet_mut()?.settle(coins.map(|coin| (coin, done)))?,
            Outcome::Each(done) => self.wallet_mut()?.settle(coins.zip(done))?,
            Outcome::Unknown => (),
        }
        result
    }

    /// The coins of the wallet that specs mean, each once.
    fn select(&self, specs: &[CoinSpec]) -> Result<Vec<SecretCoin>, Error> {
        self.select_beside(specs, &mut BTreeSet::new())
    }

    /// The same, without those that are taken; the result is taken afterwards.
    fn select_beside(&self, specs: &[CoinSpec], taken: &mut BTreeSet<RawCoin>) -> Result<Vec<SecretCoin>, Error> {
        let wallet = self.wallet()?;
        let mut selected = Vec::new();
        // Coins with names first: a number of coins then means others.
        let named = specs.iter().filter(|spec| matches!(spec, CoinSpec::One(_)));
        let counted = specs.iter().filter(|spec| !matches!(spec, CoinSpec::One(_)));
        for spec in named.chain(counted) {
            let before = selected.len();
            let free = |(coin, _): &SecretCoin| !taken.contains(coin);
            match *spec {
                CoinSpec::One(coin) => selected.extend(Some(wallet.settled(coin)?).filter(free)),
                CoinSpec::Some { count, den } => {
                    let of_den = wallet.spendable().filter(|(coin, _)| coin.den == den);
                    selected.extend(of_den.filter(free).take(count));
                    if selected.len() - before < count {
                        let found = selected.len() - before;
                        return Err(Error::Usage(format!(
                            "the wallet has {found} of {count} coins of denomination {den}"
                        )));
                    }
                }
                CoinSpec::All => selected.extend(wallet.spendable().filter(free)),
            }
            taken.extend(selected[before..].iter().map(|(coin, _)| *coin));
        }
        if selected.is_empty() { Err(Error::Usage("the wallet has no such coin".into())) } else { Ok(selected) }
    }
}

fn no_wallet() -> Error {
    Error::Usage("this takes a wallet: --wallet FILE".into())
}

fn address(to: &str) -> Result<SocketAddr, Error> {
    let unknown = |text: String| Error::Usage(format!("--to {to}: {text}"));
    let mut found = to.to_socket_addrs().map_err(|error| unknown(error.to_string()))?;
    found.next().ok_or_else(|| unknown("no address".into()))
}

/// What an answer says of the coins that a request would change.
fn outcome(request: &Request<'_>, reply: &Reply) -> Result<Outcome, Error> {
    Ok(match reply.answer(request)? {
        Answer::Bits(bits) => {
            let coins = match request {
                Request::Pown { coins } => coins.len(),
                Request::Remove { coins, .. } | Request::DeleteCoins { coins, .. } => coins.len(),
                _ => return Err(Error::Payload(Status::PacketLength)),
            };
            Outcome::Each((0..coins).map(|coin| bits.get(coin)).collect())
        }
        Answer::Lockers(stored) => {
            let Request::StoreMultiple { lockers } = request else { return Err(Error::Payload(Status::PacketLength)) };
            let each = lockers.iter().zip(stored).flat_map(|((coins, ..), &byte)| vec![byte == 1; coins.len()]);
            Outcome::Each(each.collect())
        }
        _ => match reply.status {
            Status::Internal | Status::Network | Status::Memory | Status::Filesystem => Outcome::Unknown,
            status => Outcome::All(status == request.kind().success()),
        },
    })
}

/// Coins as JSON.
fn json_of(coins: impl IntoIterator<Item = RawCoin>) -> Value {
    coins.into_iter().map(|coin| json!({ "den": coin.den, "sn": coin.sn })).collect()
}

/// Coins in a line.
fn text_of(coins: impl IntoIterator<Item = RawCoin>) -> String {
    let names: Vec<_> = coins.into_iter().map(|coin| coin.to_string()).collect();
    names.join(" ")
}

/// A number of coins in words.
fn coins_text(coins: usize) -> String {
    if coins == 1 { "1 coin".into() } else { format!("{coins} coins") }
}
