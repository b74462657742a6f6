//! The life of a node as its reactors see it: a stage that one thread sets and all reactors follow. The bell that wakes
//! them for it rings for what other threads have for them, too.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// How far a node is. It only goes on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Stage {
    /// Requests are taken and answered.
    Serve = 0,
    /// None are taken any more; what is in flight is answered.
    Drain = 1,
    /// The shards finish and bring everything to its place.
    Finish = 2,
    /// Connections are closed and operations cancelled.
    Leave = 3,
    /// All reactors have left: rings may be closed.
    Over = 4,
}

impl Stage {
    const ALL: [Self; 5] = [Self::Serve, Self::Drain, Self::Finish, Self::Leave, Self::Over];
}

/// The stage, and what wakes each reactor to look at it.
pub struct StageBoard {
    stage: AtomicU8,
    bells: Vec<EventFd>,
}

impl StageBoard {
    /// The board of a node that serves.
    pub fn new(reactors: usize) -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC;
        let bells = (0..reactors).map(|_| EventFd::from_value_and_flags(0, flags)).collect::<Result<_, _>>()?;
        Ok(Self { stage: AtomicU8::new(Stage::Serve as u8), bells })
    }

    /// The stage.
    pub fn stage(&self) -> Stage {
        Stage::ALL[usize::from(self.stage.load(Ordering::Acquire))]
    }

    /// Goes on to a stage and wakes every reactor.
    pub fn set(&self, stage: Stage) {
        assert!(stage > self.stage());
        self.stage.store(stage as u8, Ordering::Release);
        (0..self.bells.len()).for_each(|reactor| self.ring(reactor));
    }

    /// Wakes a reactor, to look at the board and at what another thread has for it.
    pub fn ring(&self, reactor: usize) {
        self.bells[reactor].write(1).expect("an eventfd takes as many ones as anybody can ring");
    }

    /// What becomes readable when the stage changes, or somebody rings.
    pub fn bell(&self, reactor: usize) -> BorrowedFd<'_> {
        self.bells[reactor].as_fd()
    }
}
