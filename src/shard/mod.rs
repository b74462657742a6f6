//! What one core owns, as a state machine: [`Shard::step`] takes what happened and says what to do.

pub mod interface;
pub mod message;
pub mod settings;

use crate::entropy::Entropy;
use interface::{Input, Now, Outputs};

/// One shard of the node.
pub struct Shard {}

impl Shard {
    /// Takes one input; adds what follows from it to `out`.
    pub fn step(&mut self, _now: Now, _entropy: &mut dyn Entropy, _input: Input<'_>, _out: &mut Outputs) {}

    /// Whether another request finds room. Where not, TCP connections are not read; a datagram gets a status.
    pub fn has_room(&self) -> bool {
        true
    }

    /// Until when the driver may sleep, on [`Now::monotonic_us`]'s clock; `None`: for ever.
    pub fn wake_at_us(&self) -> Option<u64> {
        None
    }

    /// Whether everything is on disk and nothing is left to do, after [`Input::Shutdown`].
    pub fn stopped(&self) -> bool {
        false
    }

    /// Whether no request is in flight.
    pub fn is_idle(&self) -> bool {
        true
    }
}
