//! Change from the command line: *get available change SNs*, *break*, *join*.
//!
//! *Break* and *join* are two requests: the node first reserves serial numbers for the session.

use serde_json::{Value, json};

use crate::client::Error;
use crate::client::arguments::ExchangeArguments;
use crate::client::secrets::{fresh_an, new_session};
use crate::client::wallet::Pending;
use crate::wire::items::{RawCoin, SecretCoin, SecretCoins, bytes_of};
use crate::wire::request::answer::Answer;
use crate::wire::request::change::{ChangeOperation, SMALLER_COINS};
use crate::wire::request::{CommandKind, Request};
use crate::wire::status::Status;

use super::{Output, Run, json_of, text_of};

/// Serial numbers that the node reserved, or its refusal as the output.
type Reserved = Result<Vec<SecretCoin>, Box<Output>>;

impl Run<'_> {
    /// 9.91
    pub(super) async fn change_serial_numbers(
        &mut self,
        operation: ChangeOperation,
        den: i8,
        session: Option<u32>,
    ) -> Result<Output, Error> {
        let session = session.map_or_else(new_session, Ok)?;
        self.offer(session, operation, den).await.map(|(output, _)| output)
    }

    async fn offer(
        &mut self,
        session: u32,
        operation: ChangeOperation,
        den: i8,
    ) -> Result<(Output, Vec<RawCoin>), Error> {
        let request = Request::ChangeSerialNumbers { session, operation, den };
        let reply = self.ask(&request).await?;
        let coins: Vec<_> = match reply.answer(&request)? {
            Answer::Change(offer) => offer.serial_numbers.iter().map(|sn| RawCoin { den: offer.den, sn }).collect(),
            _ => Vec::new(),
        };
        let text = if reply.status.is_success() {
            format!("session {session}: {}", text_of(coins.iter().copied()))
        } else {
            String::new()
        };
        let found: Value = json!({ "session": session, "coins": json_of(coins.iter().copied()) });
        Ok((Output::of(CommandKind::ChangeSerialNumbers, reply.status, reply.micros, text, found), coins))
    }

    /// Reserves coins that can be made of `given`, with fresh secrets for them.
    async fn reserve(
        &mut self,
        session: u32,
        operation: ChangeOperation,
        given: RawCoin,
        wanted: usize,
    ) -> Result<Reserved, Error> {
        let (output, offered) = self.offer(session, operation, given.den).await?;
        if output.status != Some(Status::Success) {
            return Ok(Err(Box::new(output)));
        }
        // What is offered is written into the wallet: it must be coins, of the right denomination, each once.
        let target = given.id().and_then(|coin| operation.target(coin.denomination()));
        let fits = |coin: &RawCoin| coin.id().is_some() && target.is_some_and(|den| coin.den == den.get());
        let mut coins: Vec<_> = offered.into_iter().filter(fits).collect();
        coins.sort_unstable();
        coins.dedup();
        if coins.len() < wanted {
            return Err(Error::Refused(format!("the node offers {} of {wanted} serial numbers", coins.len())));
        }
        let fresh = coins.into_iter().take(wanted).map(|coin| Ok((coin, fresh_an()?)));
        Ok(Ok(fresh.collect::<Result<_, Error>>()?))
    }

    /// 9.92
    pub(super) async fn break_coin(&mut self, exchange: &ExchangeArguments) -> Result<Output, Error> {
        let given = self.select(&exchange.coins.coins)?;
        let [source] = given[..] else { return Err(Error::Usage("a break takes one coin".into())) };
        let session = exchange.session.map_or_else(new_session, Ok)?;
        let targets = match self.reserve(session, ChangeOperation::Break, source.0, SMALLER_COINS).await? {
            Ok(targets) => targets,
            Err(refusal) => return Ok(*refusal),
        };
        let bytes = bytes_of(targets.iter().copied());
        let request = Request::Break { session, source, targets: SecretCoins::new(&bytes).expect("whole coins") };
        self.exchange(&given, &targets, &request).await
    }

    /// 9.93
    pub(super) async fn join_coins(&mut self, exchange: &ExchangeArguments) -> Result<Output, Error> {
        let given = self.select(&exchange.coins.coins)?;
        if given.len() != SMALLER_COINS || given.iter().any(|(coin, _)| coin.den != given[0].0.den) {
            return Err(Error::Usage("a join takes ten coins of one denomination".into()));
        }
        let session = exchange.session.map_or_else(new_session, Ok)?;
        let made = match self.reserve(session, ChangeOperation::Join, given[0].0, 1).await? {
            Ok(made) => made,
            Err(refusal) => return Ok(*refusal),
        };
        let bytes = bytes_of(given.iter().copied());
        let sources = SecretCoins::new(&bytes).expect("whole coins");
        self.exchange(&given, &made, &Request::Join { session, target: made[0], sources }).await
    }

    /// Asks for a *break* or a *join*: the coins given are freed, those made are new in the wallet.
    async fn exchange(
        &mut self,
        given: &[SecretCoin],
        made: &[SecretCoin],
        request: &Request<'_>,
    ) -> Result<Output, Error> {
        let freed = given.iter().map(|(coin, _)| (*coin, Pending::Freed));
        let changes: Vec<_> = freed.chain(made.iter().map(|(coin, an)| (*coin, Pending::Secret(*an)))).collect();
        let reply = self.change(&changes, request).await?;
        let names = |coins: &[SecretCoin]| coins.iter().map(|(coin, _)| *coin).collect::<Vec<_>>();
        let (given, made) = (names(given), names(made));
        let text = if reply.status.is_success() {
            format!("{} for {}", text_of(made.iter().copied()), text_of(given.iter().copied()))
        } else {
            String::new()
        };
        let found = json!({ "given": json_of(given), "made": json_of(made) });
        Ok(Output::of(request.kind(), reply.status, reply.micros, text, found))
    }
}
