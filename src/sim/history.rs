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
    done: u64,
    model: Model,
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

#[cfg(test)]
mod tests {
    use super::super::model::Batch;
    use super::super::payload::locker_key;
    use super::*;
    use crate::coin::{CoinId, Secret};
    use crate::wire::status::Status;

    fn coin(sn: u32) -> CoinId {
        CoinId::new(0, sn).unwrap()
    }

    fn an(byte: u8) -> Secret {
        Secret::new([byte; 16])
    }

    fn model() -> Model {
        Model::new([(coin(1), an(1)), (coin(2), an(2))])
    }

    fn batch(sn: u32, byte: u8) -> Batch {
        (vec![coin(sn)], an(byte))
    }

    fn store(answer: Option<Status>, sent: u64, answered: u64) -> Past {
        let op = Op::Store(batch(1, 1), locker_key(1));
        Past { op, answer: answer.map(|status| (status, vec![])), sent, answered }
    }

    fn detect(passes: bool, sent: u64, answered: u64) -> Past {
        let status = if passes { Status::AllPass } else { Status::AllFail };
        Past { op: Op::Detect(vec![(coin(1), an(1))]), answer: Some((status, vec![])), sent, answered }
    }

    fn states(history: &[Past]) -> Result<Vec<bool>, usize> {
        let moved = |model: &Model| model.ans[&coin(1)] == locker_key(1);
        explain(&[model()], history).map(|models| models.iter().map(moved).collect())
    }

    #[test]
    fn what_overlaps_may_happen_in_either_order() {
        let passed = Some(Status::AllPass);
        assert_eq!(states(&[store(passed, 0, 10), detect(true, 5, 6)]), Ok(vec![true]));
        assert_eq!(states(&[store(passed, 0, 10), detect(false, 5, 6)]), Ok(vec![true]));
        assert_eq!(states(&[store(passed, 0, 10), detect(false, 5, 6), detect(true, 11, 12)]), Err(2));
    }

    #[test]
    fn what_was_answered_is_seen_by_whoever_asks_later() {
        let passed = Some(Status::AllPass);
        assert_eq!(states(&[store(passed, 0, 4), detect(false, 5, 6)]), Ok(vec![true]));
        assert_eq!(states(&[store(passed, 0, 4), detect(true, 5, 6)]), Err(1));
        assert_eq!(states(&[detect(false, 0, 3), store(passed, 4, 5)]), Err(0));
    }

    #[test]
    fn two_readers_do_not_see_a_change_come_and_go() {
        let passed = Some(Status::AllPass);
        assert_eq!(states(&[store(passed, 0, 20), detect(false, 1, 2), detect(true, 3, 4)]), Err(2));
        assert_eq!(states(&[store(passed, 0, 20), detect(true, 1, 2), detect(false, 3, 4)]), Ok(vec![true]));
    }

    #[test]
    fn what_was_never_answered_may_have_happened_or_not() {
        let mut found = states(&[store(None, 0, NEVER)]).unwrap();
        found.sort_unstable();
        assert_eq!(found, [false, true]);
        assert_eq!(states(&[store(None, 0, NEVER), detect(false, 5, 6)]), Ok(vec![true]));
        assert_eq!(states(&[store(None, 7, NEVER), detect(false, 5, 6)]), Err(1), "not before it was sent");
        assert_eq!(states(&[store(Some(Status::AllFail), 0, 1)]), Err(0));
    }

    #[test]
    fn two_that_take_the_same_coin_do_not_both_succeed() {
        let passed = Some(Status::AllPass);
        let another = Past { op: Op::Store(batch(1, 1), locker_key(2)), ..store(passed, 0, 10) };
        assert_eq!(states(&[store(passed, 0, 10), another]), Err(1));
    }
}
