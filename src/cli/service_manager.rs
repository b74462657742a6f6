//! What the node tells the service manager that started it (`Type=notify`), where there is one: that it serves, that it
//! still turns, that it stops. systemd names its socket in NOTIFY_SOCKET and how long silence may last in WATCHDOG_USEC.
//!
//! Invariant: a sign of life is sent only when every reactor has just turned. A thread that hangs while the others go on
//! is seen, and the service manager starts the node anew.

use std::time::Duration;

use nix::sys::signal::Signal;
use sd_notify::NotifyState;

use raida::node::{Node, Termination};
use raida::reactor::start::ReactorError;

use super::exit::{ExitStatus, Failure, OrFailure};

/// Says that the node serves.
pub fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serves")]);
}

/// Says that the node stops.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishes what is in flight")]);
}

/// Waits for the signal that ends the node, and gives signs of life meanwhile if the service manager wants them.
///
/// # Errors
/// When the system refuses, or a reactor panicked.
pub fn watch(node: &Node, termination: &Termination) -> Result<Signal, Failure> {
    // Twice within the time given, and an answer within half of the rest.
    let silence = sd_notify::watchdog_enabled();
    let period = silence.map(|silence| silence / 2);
    loop {
        if let Some(signal) = termination.wait(period).or_failure(ExitStatus::Machine)? {
            return Ok(signal);
        }
        give_sign(node, period.unwrap_or_default() / 2)?;
    }
}

fn give_sign(node: &Node, patience: Duration) -> Result<(), Failure> {
    match node.call_roll(patience) {
        Ok(None) => tell(&[NotifyState::Watchdog]),
        Ok(Some(shard)) => {
            let line = format!("serves, but takes no writes: the disk failed under shard {}", shard.0);
            tell(&[NotifyState::Watchdog, NotifyState::Status(&line)]);
        }
        Err(error @ ReactorError::Silent) => log::error!("no sign of life for the service manager: {error}"),
        Err(error) => return Err(Failure::new(ExitStatus::Machine, error)),
    }
    Ok(())
}

/// Sends a datagram to the service manager; without one this does nothing. One that does not listen is no reason to stop.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("the service manager cannot be told anything: {error}");
    }
}
