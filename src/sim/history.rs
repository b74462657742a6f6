//! Whether what a node answered can be explained: linearizability, by search.
//!
//! Each request took effect at one moment between being sent and being answered; one without an answer at any moment
//! since it was sent, or never. The history is walked answer by answer: before an answer some of the requests under
//! way took effect, in some order, with the answered one among them. All states that this allows are kept.

use super::model::{Answer, Model, Op};

/// A request and what came of it.
#[derive(Clone, Debug)]
pub struct Past {
    /// What was asked.
    pub op: Op,
    /// What was answered; `None`: nothing.
    pub answer: Option<Answer>,
    /// When it was sent.
    pub sent: u64,
    /// When its answer came; [`NEVER`] where none did.
    pub answered: u64,
}

/// The time of what does not happen.
pub const NEVER: u64 = u64::MAX;

impl Past {
    /// Whether it certainly changed nothing, so that the earliest moment that fits its answer is as good as any other.
    fn only_looks(&self) -> bool {
        let looks = matches!(
            self.op,
            Op::Detect(_) | Op::DetectSum(_) | Op::Peek(_) | Op::PeekTradeLocker(_) | Op::List | Op::Count
        );
        looks || self.answer.as_ref().is_some_and(|(status, _)| !status.is_success())
    }

    fn fits(&self, model: &mut Model) -> bool {
        model.tell(&self.op, self.answer.as_ref(), (self.sent, self.answered))
    }
}

/// A state that a node may be in, and the requests under way that have taken effect in it, a bit each.
#[derive(Clone, PartialEq, Eq)]
struct Possible {
    model: Model,
    done: u64,
}

/// Every state in which a node can be that was in one of `models` and then answered as the history says, of 64 requests
/// at most.
///
/// # Errors
/// The number of the first answer that no order explains.
pub fn explain(models: &[Model], history: &[Past]) -> Result<Vec<Model>, usize> {
    assert!(history.len() <= 64);
    // At one moment, what is sent comes before what is answered: they overlap.
    let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * history.len());
    for (index, past) in history.iter().enumerate().filter(|(_, past)| past.answer.is_some() || !past.only_looks()) {
        moments.push((past.sent, false, index));
        moments.push((past.answered, true, index));
    }
    moments.sort_unstable();
    let mut possible: Vec<Possible> = models.iter().map(|model| Possible { model: model.clone(), done: 0 }).collect();
    let mut open: Vec<usize> = Vec::new();
    for (_, is_answer, index) in moments {
        if !is_answer {
            open.push(index);
        } else if history[index].answer.is_some() {
            possible = after_answer(possible, index, &open, history);
            if possible.is_empty() {
                return Err(index);
            }
            open.retain(|other| *other != index);
        }
    }
    // What is left was never answered: any of it may have happened, in any order.
    let mut found = Vec::new();
    let mut seen = Vec::new();
    while let Some(state) = possible.pop() {
        if seen.contains(&state) {
            continue;
        }
        possible.extend(steps(&state, &open, history));
        if !found.contains(&state.model) {
            found.push(state.model.clone());
        }
        seen.push(state);
    }
    Ok(found)
}

/// The states after a request was answered: it has taken effect by then.
fn after_answer(mut possible: Vec<Possible>, answered: usize, open: &[usize], history: &[Past]) -> Vec<Possible> {
    let mut seen: Vec<Possible> = Vec::new();
    let mut after: Vec<Possible> = Vec::new();
    while let Some(mut state) = possible.pop() {
        look(&mut state, open, history);
        if seen.contains(&state) {
            continue;
        }
        seen.push(state.clone());
        if state.done >> answered & 1 == 1 {
            state.done &= !(1 << answered);
            if !after.contains(&state) {
                after.push(state);
            }
            continue;
        }
        possible.extend(steps(&state, open, history));
    }
    after
}

/// Lets every request that only looks and fits have taken effect.
fn look(state: &mut Possible, open: &[usize], history: &[Past]) {
    for &index in open {
        let past = &history[index];
        let to_try = state.done >> index & 1 == 0 && past.answer.is_some() && past.only_looks();
        if to_try && past.fits(&mut state.model.clone()) {
            state.done |= 1 << index;
        }
    }
}

/// The states that one more request under way leads to.
fn steps<'a>(state: &'a Possible, open: &'a [usize], history: &'a [Past]) -> impl Iterator<Item = Possible> + 'a {
    let left = open.iter().copied().filter(|index| state.done >> index & 1 == 0 && !history[*index].only_looks());
    left.filter_map(|index| {
        let mut next = Possible { model: state.model.clone(), done: state.done | 1 << index };
        history[index].fits(&mut next.model).then_some(next)
    })
}
