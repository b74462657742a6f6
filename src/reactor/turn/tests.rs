//! A reactor alone on its thread, with a shard that ends the node at the worst moment.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::{Parcel, Reactor, Report, Setup};
use crate::entropy::Entropy;
use crate::reactor::accept::Balance;
use crate::reactor::mesh::{Post, mesh};
use crate::reactor::sockets::bind_all;
use crate::reactor::stage::{Stage, StageBoard};
use crate::reactor::{Core, Limits};
use crate::shard::backup::{BackupAnswer, BackupQuestion, BackupRefusal};
use crate::shard::interface::{Input, Now, Outputs, ShardId};
use crate::shard::message::Message;
use crate::shard::numbers::Numbers;
use crate::wire::header::NodeIdentity;

/// So generous that only a hang breaks it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Goes on to the last stage in the middle of its reactor's second turn.
struct Impatient {
    board: Arc<StageBoard>,
    /// The other shard's end of the mesh.
    other: Post<Parcel>,
    turns: u32,
}

impl Core for Impatient {
    fn step(&mut self, _now: Now, _entropy: &mut dyn Entropy, input: Input<'_>, _out: &mut Outputs) {
        match input {
            Input::Turn => {
                self.turns += 1;
                if self.turns == 1 {
                    self.other.send(ShardId(0), Parcel::Message(Message::Flushed));
                    self.other.flush(|_| panic!("it is awake"));
                }
            }
            Input::Message { .. } => {
                assert_eq!(self.turns, 1);
                self.board.set(Stage::Leave);
            }
            input => panic!("nobody sends it {input:?}"),
        }
    }

    fn has_room(&self) -> bool {
        true
    }

    fn wake_at_us(&self) -> Option<u64> {
        None
    }

    fn stopped(&self) -> bool {
        true
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn has_failed(&self) -> bool {
        false
    }

    fn turn_took(&mut self, _micros: u64) {}

    fn numbers(&self, _: Now) -> Numbers {
        Numbers::default()
    }

    fn back_up(&mut self, _: BackupQuestion) -> Result<BackupAnswer, BackupRefusal> {
        Err(BackupRefusal::DiskFailed)
    }
}

/// The last stage begins after a turn took the bell of the stage before, and before it looks at the board. The bell
/// is not listened for any more, so a reactor that slept now would sleep for ever.
#[test]
fn a_turn_that_finds_the_last_stage_is_not_slept_after() {
    let (_, mut sockets) = bind_all("127.0.0.1:0".parse().unwrap(), 1, 1 << 16).unwrap();
    let board = Arc::new(StageBoard::new(1).unwrap());
    // Rings the bell: the first turn listens for it, the second takes it.
    board.set(Stage::Drain);
    let mut ends = mesh(2, 4);
    let (other, post) = (ends.pop().unwrap(), ends.pop().unwrap());
    let (sender, reports) = mpsc::channel();
    let setup = Setup {
        shard: ShardId(0),
        core: Impatient { board: Arc::clone(&board), other, turns: 0 },
        sockets: sockets.pop().unwrap(),
        files: None,
        archive: None,
        post,
        balance: Arc::new(Balance::new(1)),
        node: NodeIdentity { raida_id: 3, coin_id: 6 },
        limits: Limits::default(),
        board: Arc::clone(&board),
        reports: sender,
        questions: mpsc::channel().1,
    };
    let reactor = thread::spawn(move || Reactor::run(setup));
    let counters = loop {
        if let Report::Left { counters, .. } = reports.recv_timeout(PATIENCE).expect("the reactor leaves") {
            break counters;
        }
    };
    assert_eq!(counters.sleeps, 0);
    board.set(Stage::Over);
    reactor.thread().unpark();
    reactor.join().unwrap();
}
