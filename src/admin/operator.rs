//! Carries out what the operator asks for, one act after the other.
//!
//! The order of an act: a line of the journal; the file `suspended`, where the act is to outlast the node; the shards; the
//! answer. So nothing is done that the journal does not tell, what was said to be held is held after any crash, and who
//! goes away before the answer changes nothing about the act. Checkpoint and stop alone go on without the journal: they
//! are what helps when the disk is full.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::calendar::now_ms;
use crate::client::secrets::{KeySpec, bytes_of_hex};
use crate::coin::{CoinId, Place, Secret, TradeCoin};
use crate::config::Config;
use crate::node::{Node, NodeOptions};
use crate::reactor::desk::{ConnectionRow, Desk, Question};
use crate::settings::Identifier;
use crate::shard::acts::Act;
use crate::shard::interface::ActDone;
use crate::shard::locks::Resource;
use crate::shard::market::public_identifier;
use crate::shard::partition::page_owner;
use crate::shard::suspensions::{Held, Suspensions};
use crate::store::journal::{self, Entry};
use crate::store::storage::Directory;
use crate::store::suspended::{Cause, HOLDS_MAX, Hold, Pause, Suspended, Who};
use crate::wire::request::is_locker_key;

use super::bounds;
use super::request::{Answer, Named, Request};
use super::verifying::Verifying;

/// How long the shards are waited for. What they were told they do all the same.
const PATIENCE: Duration = Duration::from_secs(8);
/// Bytes of a reason.
const REASON_BYTES_MAX: usize = 500;

/// Why something was not done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The request is wrong, or means nothing here.
    Wrong(String),
    /// It is so already, or not so.
    Conflict(String),
    /// The machine failed, or the node did not answer in time.
    Failed(String),
}

use Refusal::{Conflict, Failed, Wrong};

/// What the operator has decided so far.
struct State {
    suspended: Suspended,
    config: Config,
}

/// Carries out acts on a node that serves.
pub struct Operator {
    data: PathBuf,
    directory: Arc<Directory>,
    desk: Desk,
    /// Locked from an act's first step to its last.
    state: Mutex<State>,
    verifying: Verifying,
}

impl Operator {
    /// For a node and the configuration it was started with.
    pub fn new(node: &Node, config: &Config) -> Self {
        let directory = node.directory();
        Self {
            data: directory.root().to_path_buf(),
            verifying: Verifying::new(Arc::clone(&directory)),
            directory,
            desk: node.desk(),
            state: Mutex::new(State { suspended: node.suspended().clone(), config: config.clone() }),
        }
    }

    /// Carries a request out.
    ///
    /// # Errors
    /// Why it was not done, or not done as far as anybody knows.
    pub async fn carry_out(&self, by: Who, request: Request) -> Result<Answer, Refusal> {
        let state = &mut *self.state.lock().await;
        match request {
            Request::Suspended => {
                let Suspended { holds, pauses, .. } = state.suspended.clone();
                Ok(Answer::Suspended { holds, pauses })
            }
            Request::Connections => self.connections().await,
            Request::Bounds => Ok(Answer::Bounds(bounds::all(&state.config))),
            Request::Verified => Ok(Answer::Verified(self.verifying.state())),
            Request::Hold { what, reason } => self.hold(by, &what, reason, state).await,
            Request::Release { what, reason } => self.release(by, &what, &reason, state).await,
            Request::Pause { coin, reason } => self.pause(by, coin, reason, state).await,
            Request::Resume { coin, reason } => self.resume(by, coin, &reason, state).await,
            Request::Checkpoint => {
                self.note_if_possible(by, "checkpoint", "", "", None);
                self.tell(by, "checkpoint", "", Act::Checkpoint).await?;
                Ok(Answer::Done("everything committed is in its place".to_string()))
            }
            Request::Disconnect { name } => self.disconnect(by, &name).await,
            Request::Bound { name, value } => self.bound(by, &name, &value, state).await,
            Request::Verify { pages_per_second } => {
                if self.verifying.state().running {
                    return Err(Conflict("the pages are being read already".to_string()));
                }
                self.note(by, "verify", "", "", None)?;
                let started = self.verifying.start(pages_per_second);
                started.map_err(|error| self.not_done(by, "verify", "", Failed(error.to_string())))?;
                Ok(Answer::Verified(self.verifying.state()))
            }
            Request::Stop { reason } => {
                self.note_if_possible(by, "stop", "", checked(&reason, false)?, None);
                log::info!("uid {} stops the node", by.uid);
                // The main thread waits for this signal and for nothing else: there is one way to stop.
                let sent = kill(Pid::this(), Signal::SIGTERM);
                sent.map_err(|error| self.not_done(by, "stop", "", Failed(error.to_string())))?;
                Ok(Answer::Done("the node answers what is in flight and ends".to_string()))
            }
        }
    }

    async fn hold(&self, by: Who, what: &Named, reason: String, state: &mut State) -> Result<Answer, Refusal> {
        let resource = self.resource(what, &state.config).await?;
        let held = name(&state.suspended, &resource);
        checked(&reason, true)?;
        if let Some(hold) = state.suspended.holds.iter().find(|hold| hold.held == held) {
            return Err(Conflict(format!("{} is held already: {}", told(held), hold.cause.reason)));
        }
        if state.suspended.holds.len() >= HOLDS_MAX {
            return Err(Conflict(format!("{HOLDS_MAX} lockers are held, which is as many as can be")));
        }
        let mut changed = state.suspended.clone();
        changed.holds.push(Hold { held, cause: cause(by, &reason) });
        let done = self.suspend(by, ("hold", &told(held), &reason), changed, Act::Hold(resource), state).await?;
        // What is held keeps its coins from now on; this one may just have left it.
        if let Named::Coin { .. } = what
            && self.resource(what, &state.config).await != Ok(resource)
        {
            return Err(Conflict(format!(
                "{} is held, but the coin has just left it: hold the coin again",
                told(held)
            )));
        }
        Ok(done)
    }

    async fn release(&self, by: Who, what: &Named, reason: &str, state: &mut State) -> Result<Answer, Refusal> {
        let is_meant: Box<dyn Fn(Held) -> bool> = match what {
            Named::Fingerprint(digits) => Box::new(|held| held.fingerprint().eq_ignore_ascii_case(digits)),
            what => {
                let held = name(&state.suspended, &self.resource(what, &state.config).await?);
                Box::new(move |other| other == held)
            }
        };
        checked(reason, true)?;
        let mut meant = state.suspended.holds.iter().map(|hold| hold.held).filter(|held| is_meant(*held));
        let held = meant.next().ok_or_else(|| Conflict("that is not held".to_string()))?;
        if meant.next().is_some() {
            return Err(Wrong("two holds have this fingerprint: name the locker".to_string()));
        }
        let mut changed = state.suspended.clone();
        changed.holds.retain(|hold| hold.held != held);
        self.suspend(by, ("release", &told(held), reason), changed, Act::Release(held), state).await
    }

    /// What the operator means: a locker or a trade locker.
    async fn resource(&self, what: &Named, config: &Config) -> Result<Resource, Refusal> {
        let &Named::Coin { den, sn } = what else { return resource(what, config) };
        let coin = CoinId::new(den, sn).ok_or_else(|| Wrong(format!("there is no coin {den}:{sn}")))?;
        match self.place_of(coin).await? {
            Place::Locker(key) => Ok(Resource::Locker(key)),
            Place::TradeLocker(an) => Ok(of_an(an)),
            Place::Wallet => Err(Conflict(format!("coin {den}:{sn} is in no locker, but in a wallet"))),
            Place::Free => Err(Conflict(format!("coin {den}:{sn} is not in circulation"))),
        }
    }

    /// Where a coin is: its owner's shard reads the record.
    async fn place_of(&self, coin: CoinId) -> Result<Place, Refusal> {
        let owner = page_owner(coin.page(), self.desk.reactors() as u8);
        let (sender, answer) = oneshot::channel();
        self.desk.ask(owner.index(), Question::Act(Act::Locate(coin), sender));
        let ended = timeout_at(Instant::now() + PATIENCE, answer).await.ok().and_then(Result::ok);
        let place = ended.and_then(|ended| ended.place);
        place.ok_or_else(|| Failed(format!("shard {} cannot say where the coin is", owner.0)))
    }

    async fn pause(&self, by: Who, coin: TradeCoin, reason: String, state: &mut State) -> Result<Answer, Refusal> {
        checked(&reason, true)?;
        if state.suspended.pauses.iter().any(|pause| pause.coin == coin) {
            return Err(Conflict(format!("the market for {} is paused already", coin_name(coin))));
        }
        let mut changed = state.suspended.clone();
        changed.pauses.push(Pause { coin, cause: cause(by, &reason) });
        self.suspend(by, ("pause", coin_name(coin), &reason), changed, Act::Pause(coin), state).await
    }

    async fn resume(&self, by: Who, coin: TradeCoin, reason: &str, state: &mut State) -> Result<Answer, Refusal> {
        checked(reason, true)?;
        let mut changed = state.suspended.clone();
        changed.pauses.retain(|pause| pause.coin != coin);
        if changed == state.suspended {
            return Err(Conflict(format!("the market for {} is not paused", coin_name(coin))));
        }
        self.suspend(by, ("resume", coin_name(coin), reason), changed, Act::Resume(coin), state).await
    }

    /// Changes what is suspended: in the journal, in the file, on the shards.
    async fn suspend(
        &self,
        by: Who,
        (act, what, reason): (&str, &str, &str),
        changed: Suspended,
        order: Act,
        state: &mut State,
    ) -> Result<Answer, Refusal> {
        self.note(by, act, what, reason, None)?;
        if let Err(error) = changed.save(&*self.directory) {
            return Err(self.not_done(by, act, what, Failed(error.to_string())));
        }
        state.suspended = changed;
        log::warn!("uid {}: {act} {what}: {reason}", by.uid);
        self.tell(by, act, what, order).await?;
        Ok(Answer::Done(format!("{act}: {what}")))
    }

    async fn bound(&self, by: Who, name: &str, value: &str, state: &mut State) -> Result<Answer, Refusal> {
        let before = bounds::all(&state.config);
        let config = bounds::with(&state.config, name, value).map_err(Wrong)?;
        let what = format!("{name} {} -> {}", before[name], bounds::all(&config)[name]);
        self.note(by, "set", &what, "", None)?;
        let options = NodeOptions::new(&self.data, &config);
        state.config = config;
        for reactor in 0..self.desk.reactors() {
            self.desk.ask(reactor, Question::Limits(Box::new(options.limits.clone())));
        }
        self.tell(by, "set", &what, Act::Bounds(Box::new(options.settings))).await?;
        Ok(Answer::Done(format!("{what}, until the node ends")))
    }

    async fn connections(&self) -> Result<Answer, Refusal> {
        let until = Instant::now() + PATIENCE;
        let mut rows: Vec<ConnectionRow> = Vec::new();
        let questions: Vec<_> = (0..self.desk.reactors())
            .map(|reactor| {
                let (sender, answer) = oneshot::channel();
                self.desk.ask(reactor, Question::Connections(sender));
                answer
            })
            .collect();
        for (shard, answer) in questions.into_iter().enumerate() {
            let of_shard = timeout_at(until, answer).await.ok().and_then(Result::ok);
            rows.extend(of_shard.ok_or_else(|| Failed(format!("shard {shard} does not answer")))?);
        }
        Ok(Answer::Connections(rows))
    }

    async fn disconnect(&self, by: Who, name: &str) -> Result<Answer, Refusal> {
        let numbers: Vec<u32> = name.split('.').map_while(|number| number.parse().ok()).collect();
        let [shard, slot, generation] = numbers[..] else {
            return Err(Wrong(format!("{name} is no connection's name")));
        };
        let gone = || Conflict(format!("{name} is no longer there"));
        if shard as usize >= self.desk.reactors() {
            return Err(gone());
        }
        self.note(by, "disconnect", name, "", None)?;
        let (sender, answer) = oneshot::channel();
        self.desk.ask(shard as usize, Question::Disconnect { slot, generation, answer: sender });
        match timeout_at(Instant::now() + PATIENCE, answer).await {
            Ok(Ok(true)) => Ok(Answer::Done(format!("{name} is closed"))),
            Ok(Ok(false)) => Err(self.not_done(by, "disconnect", name, gone())),
            _ => Err(self.not_done(by, "disconnect", name, Failed(format!("shard {shard} does not answer")))),
        }
    }

    /// Tells every shard an act, and waits until each has done it.
    async fn tell(&self, by: Who, act: &str, what: &str, order: Act) -> Result<(), Refusal> {
        let until = Instant::now() + PATIENCE;
        let answers: Vec<_> = (0..self.desk.reactors())
            .map(|reactor| {
                let (sender, answer) = oneshot::channel();
                self.desk.ask(reactor, Question::Act(order.clone(), sender));
                answer
            })
            .collect();
        for (shard, answer) in answers.into_iter().enumerate() {
            let failed = match timeout_at(until, answer).await {
                Ok(Ok(ActDone { done: true, .. })) => continue,
                Ok(Ok(_failed)) => format!("the disk failed under shard {shard}"),
                Ok(Err(_gone)) => format!("shard {shard} is gone"),
                Err(_late) => format!("shard {shard} has not done it yet; it will when what is in its way is through"),
            };
            return Err(self.not_done(by, act, what, Failed(failed)));
        }
        Ok(())
    }

    /// Notes who takes a backup: it has every secret.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn note_backup(&self, by: Who) -> Result<(), Refusal> {
        self.note(by, "backup", "", "", None)
    }

    /// Notes why somebody has no whole backup after all.
    pub fn note_no_backup(&self, by: Who, why: &str) {
        self.note_if_possible(by, "backup", "", "", Some(why));
    }

    /// Notes why an act was not done though it is in the journal; gives the refusal back.
    fn not_done(&self, by: Who, act: &str, what: &str, refusal: Refusal) -> Refusal {
        let (Wrong(why) | Conflict(why) | Failed(why)) = &refusal;
        self.note_if_possible(by, act, what, "", Some(why));
        refusal
    }

    /// Writes a line of the journal; where that cannot be done the log has it alone.
    fn note_if_possible(&self, by: Who, act: &str, what: &str, reason: &str, failed: Option<&str>) {
        if let Err(Wrong(error) | Conflict(error) | Failed(error)) = self.note(by, act, what, reason, failed) {
            let failed = failed.unwrap_or("-");
            log::error!("not in the journal, as {error}: {act} {what} by uid {}: {reason}, failed: {failed}", by.uid);
        }
    }

    /// Writes a line of the journal.
    fn note(&self, by: Who, act: &str, what: &str, reason: &str, failed: Option<&str>) -> Result<(), Refusal> {
        let entry = Entry { time: now_ms(), by, act, what, reason, failed };
        journal::append(&*self.directory, &entry).map_err(|error| Failed(error.to_string()))
    }
}

fn cause(by: Who, reason: &str) -> Cause {
    Cause { reason: reason.to_string(), since_unix_ms: now_ms(), by }
}

/// A reason that can be printed and is not too long; not empty where there must be one.
fn checked(reason: &str, needed: bool) -> Result<&str, Refusal> {
    let printable = !reason.chars().any(char::is_control);
    let there = !needed || !reason.trim().is_empty();
    let fits = printable && there && reason.len() <= REASON_BYTES_MAX;
    fits.then_some(reason).ok_or_else(|| Wrong(format!("a reason is one line of 1 to {REASON_BYTES_MAX} bytes")))
}

/// What is named by its own name.
fn resource(what: &Named, config: &Config) -> Result<Resource, Refusal> {
    let trade_locker = |text: &str| {
        let an = bytes_of_hex(text).map(Secret::new).filter(|an| matches!(an.place(), Place::TradeLocker(_)));
        an.ok_or_else(|| {
            Wrong("a trade locker is named by 32 hex digits that end with its coin type and EEEE".to_string())
        })
    };
    match what {
        Named::Locker(text) => {
            let key = text.parse::<KeySpec>().map_err(Wrong)?.key(config.server.raida_id);
            is_locker_key(&key)
                .then_some(Resource::Locker(key))
                .ok_or_else(|| Wrong("a locker's key ends FFFFFFFF".to_string()))
        }
        Named::TradeLocker(text) if config.market.identifier == Identifier::An => trade_locker(text).map(of_an),
        Named::TradeLocker(text) => trade_locker(text).map(|identifier| Resource::Offer(*identifier.bytes())),
        Named::TradeLockerAn(text) => trade_locker(text).map(of_an),
        Named::Fingerprint(_) => Err(Wrong("a fingerprint names what is held already".to_string())),
        Named::Coin { .. } => unreachable!("its owner is asked"),
    }
}

fn of_an(an: Secret) -> Resource {
    Resource::Offer(public_identifier(&an, Identifier::Hashed))
}

fn name(suspended: &Suspended, resource: &Resource) -> Held {
    Suspensions::new(suspended.salt).name(resource).expect("a locker or a trade locker")
}

/// What is held, for journal and log.
fn told(held: Held) -> String {
    match held {
        Held::Locker(_) => format!("locker {}", held.fingerprint()),
        Held::TradeLocker(_) => format!("trade locker {}", held.fingerprint()),
    }
}

fn coin_name(coin: TradeCoin) -> &'static str {
    ["cloudcoin", "bitcoin", "monero"][coin as usize]
}
