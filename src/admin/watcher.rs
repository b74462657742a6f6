//! Asks the reactors for their numbers, on behalf of everybody who asks the admin thread.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::reactor::desk::{Desk, ReactorNumbers};

use super::{Identity, Phase};

/// Numbers younger than this are given out again.
const FRESH: Duration = Duration::from_millis(100);
/// A reactor that takes longer to answer counts as silent. A turn takes far less.
const PATIENCE: Duration = Duration::from_secs(2);

/// The node as it was a moment ago.
#[derive(Clone)]
pub struct View {
    /// Who it is.
    pub identity: Identity,
    /// How far it is.
    pub state: State,
    /// How many reactors it has; 0 while it starts.
    pub reactors: usize,
    /// The numbers of the reactors that answered, by shard.
    pub numbers: Arc<[ReactorNumbers]>,
}

/// How far a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It reads its data directory.
    Starting,
    /// It serves.
    Serving,
    /// It takes no more requests.
    Draining,
}

impl State {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

impl View {
    /// Shards that did not answer.
    pub fn silent(&self) -> Vec<usize> {
        (0..self.reactors).filter(|&shard| self.numbers.iter().all(|numbers| numbers.shard.index() != shard)).collect()
    }

    /// Shards whose disk failed.
    pub fn failed(&self) -> Vec<usize> {
        self.numbers.iter().filter(|numbers| numbers.core.failed).map(|numbers| numbers.shard.index()).collect()
    }

    /// Why no requests should be sent to the node; `None` when it is ready.
    pub fn unready(&self) -> Option<String> {
        match self.state {
            State::Starting | State::Draining => Some(self.state.name().to_string()),
            State::Serving if !self.failed().is_empty() => {
                Some(format!("the disk failed under shards {:?}", self.failed()))
            }
            State::Serving => self.unhealthy(),
        }
    }

    /// Why the node had better be started anew; `None` when it is well.
    pub fn unhealthy(&self) -> Option<String> {
        let silent = self.silent();
        (self.state == State::Serving && !silent.is_empty()).then(|| format!("no answer from shards {silent:?}"))
    }
}

/// What was asked and seen.
#[derive(Default)]
struct Seen {
    at: Option<Instant>,
    numbers: Arc<[ReactorNumbers]>,
    /// Questions under way, by reactor: one that hangs is not asked again.
    pending: Vec<Option<oneshot::Receiver<Box<ReactorNumbers>>>>,
}

/// Asks the reactors.
pub struct Watcher {
    identity: Identity,
    phase: watch::Receiver<Phase>,
    seen: Mutex<Seen>,
}

impl Watcher {
    /// Nothing seen yet.
    pub fn new(phase: watch::Receiver<Phase>, identity: Identity) -> Self {
        Self { identity, phase, seen: Mutex::default() }
    }

    /// The node as it is, or was a moment ago.
    pub async fn view(&self) -> View {
        let phase = self.phase.borrow().clone();
        let (state, desk) = match phase {
            Phase::Starting => (State::Starting, None),
            Phase::Serving(desk) => (State::Serving, Some(desk)),
            Phase::Draining(desk) => (State::Draining, Some(desk)),
            Phase::Over => (State::Draining, None),
        };
        let view = |reactors, numbers| View { identity: self.identity, state, reactors, numbers };
        match desk {
            None => view(0, Arc::default()),
            Some(desk) => view(desk.reactors(), self.numbers(&desk).await),
        }
    }

    async fn numbers(&self, desk: &Desk) -> Arc<[ReactorNumbers]> {
        let mut seen = self.seen.lock().await;
        if seen.at.is_some_and(|at| at.elapsed() < FRESH) {
            return Arc::clone(&seen.numbers);
        }
        let until = Instant::now() + PATIENCE;
        seen.pending.resize_with(desk.reactors(), || None);
        for (reactor, pending) in seen.pending.iter_mut().enumerate() {
            pending.get_or_insert_with(|| desk.ask_numbers(reactor));
        }
        let mut numbers = Vec::with_capacity(desk.reactors());
        for pending in &mut seen.pending {
            let answer = pending.as_mut().expect("each was just asked");
            match timeout_at(until, answer).await {
                Ok(answer) => {
                    *pending = None;
                    numbers.extend(answer.ok().map(|answer| *answer));
                }
                // It may answer yet; its question stays.
                Err(_late) => {}
            }
        }
        seen.numbers = numbers.into();
        seen.at = Some(Instant::now());
        Arc::clone(&seen.numbers)
    }
}
