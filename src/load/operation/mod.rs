//! What a load asks. A slot is one request in flight after the other; some operations keep a cycle for each.
//!
//! [`question`] asks what changes nothing; [`cycle`] goes through requests that bring every coin back to where it was;
//! [`change`] breaks and joins, where the next request depends on the answer.

pub mod change;
pub mod cycle;
pub mod question;

/// What came of a request: its status byte, or `None` when no answer came.
pub type Outcome = Option<u8>;

/// What a load asks.
pub trait Operation {
    /// Puts the slot's next request into the empty `frame`.
    fn next(&mut self, slot: usize, frame: &mut Vec<u8>);

    /// Takes what came of it, with the answer's payload.
    fn answered(&mut self, slot: usize, outcome: Outcome, payload: &[u8]);

    /// Whether the slot is where a cycle starts and ends. A load begins and ends when all its slots are.
    fn is_at_rest(&self, slot: usize) -> bool;
}
