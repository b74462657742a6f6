//! The crash lab: a real process on a real disk, killed at a random moment under load, again and again.
//!
//! Eight clients ([`Holder`]), four over TCP and four over UDP, each with coins, lockers, offers and sessions of its own, send every
//! command that there is and note what was answered. After every `kill -9` the node starts with another number of
//! shards, now and then after a start that was killed too, and each client's coins, lockers and offers must be as its
//! answers said; of the one command that was under way, all or nothing. The coins in circulation are those of the
//! clients and no other.
//!
//! What a killed process had given to the kernel reaches the disk: that a machine without power loses nothing either,
//! the simulator sees to.
//!
//! `CRASH_ROUNDS` says how many rounds (default 10), `CRASH_SEED` what they are like; `scripts/crashlab` sets them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::holder::{CLIENTS, Holder, value, value_of};
use crate::net::NetClient;
use crate::program::Node;
use raida::coin::{CoinId, Secret};
use raida::sim::{Seeded, World};
use raida::store::recovery;
use raida::store::storage::Directory;
use raida::wire::request::{COMMANDS, treasury};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

/// A data directory and its clients, and what was wrong so far.
pub struct Lab {
    random: Seeded,
    /// The data directory.
    pub data: PathBuf,
    holders: Vec<Holder>,
    lost: usize,
    half_done: usize,
}

impl Lab {
    /// A new data directory whose coins the clients have, so many serial numbers apart.
    pub fn new(data: PathBuf, seed: u64, apart: u32) -> Self {
        let holders: Vec<Holder> = (0..CLIENTS as u8).map(|number| Holder::new(number, seed, apart)).collect();
        std::fs::create_dir(&data).unwrap();
        let storage = Directory::open(&data).unwrap();
        recovery::initialise(&storage, Default::default()).unwrap();
        let coins: Vec<_> =
            holders.iter().flat_map(|holder| holder.coins.iter().map(|(&coin, &an)| (coin, an))).collect();
        World::mint(&storage, &coins, 10);
        Self { random: Seeded(seed), data, holders, lost: 0, half_done: 0 }
    }

    /// Starts a node, with a start before that is killed now and then, and compares it with what all clients know.
    fn start_and_check(&mut self) -> Node {
        if self.random.one_in(4) {
            let after = Duration::from_micros(self.random.below(60_000) as u64);
            Node::kill_at_start(&self.data, 1 + self.random.below(4), after);
        }
        let node = Node::start(&self.data, 1 + self.random.below(4));
        self.check(&node);
        node
    }

    /// Compares a node with what all clients know.
    fn check(&mut self, node: &Node) {
        let mut client = NetClient::tcp(node.address()).unwrap();
        for holder in &mut self.holders {
            let (coins, commands) = holder.check(&mut client);
            self.lost += coins;
            self.half_done += commands;
        }
        if (self.lost, self.half_done) == (0, 0) {
            assert_eq!(value(&mut client), self.worth(), "what all coins are worth");
        }
    }

    /// Compares a node with what all clients know: nothing is wrong.
    pub fn agrees(&mut self, node: &Node) {
        self.check(node);
        assert_eq!((self.lost, self.half_done), (0, 0), "coins lost, commands half done");
    }

    /// The coins of all clients, with their ANs.
    pub fn coins(&self) -> impl Iterator<Item = (CoinId, Secret)> {
        self.holders.iter().flat_map(|holder| holder.coins.iter().map(|(&coin, &an)| (coin, an)))
    }

    /// Lets all clients do `act` until the node is gone or writes no more.
    pub fn work(
        &mut self,
        to: SocketAddr,
        act: impl Fn(&mut Holder, &mut NetClient) -> std::io::Result<()> + Sync,
        meanwhile: impl FnOnce(),
    ) {
        thread::scope(|scope| {
            for holder in &mut self.holders {
                scope.spawn(|| holder.work(to, &act));
            }
            meanwhile();
        });
    }

    /// What all coins are worth, as their clients know.
    pub fn worth(&self) -> u64 {
        self.holders.iter().map(|holder| value_of(holder.coins.keys())).sum()
    }

    /// How many commands changed something so far.
    pub fn written(&self) -> u64 {
        self.holders.iter().map(|holder| holder.written).sum()
    }

    /// Lets all clients work on a node, and kills it in their midst.
    fn work_and_kill(&mut self, node: Node) {
        let until_killed = Duration::from_millis(50 + self.random.below(1000) as u64);
        let stop = AtomicBool::new(false);
        let act = |holder: &mut Holder, client: &mut NetClient| match stop.load(Ordering::Relaxed) {
            false => holder.act(client),
            true => Err(std::io::Error::other("the node is killed")),
        };
        self.work(node.address(), act, || {
            thread::sleep(until_killed);
            node.kill();
            stop.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn no_kill_loses_what_was_answered() {
    let rounds = setting("CRASH_ROUNDS", 10);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = setting("CRASH_SEED", now.as_nanos() as u64);
    println!("seed {seed}, {rounds} rounds");
    let directory = tempfile::tempdir().unwrap();
    // Spread over many pages, so that a cache of 8 is never enough.
    let mut lab = Lab::new(directory.path().join("data"), seed, 331);
    let mut node = lab.start_and_check();
    for _ in 0..rounds {
        // What is wrong once makes everything after it wrong.
        if (lab.lost, lab.half_done) == (0, 0) {
            lab.work_and_kill(node);
            node = lab.start_and_check();
        }
    }
    let ended = node.stop();
    assert!(ended.status.success(), "{ended:?}");

    let answered = |index: usize| lab.holders.iter().map(|holder| holder.answered[index]).sum::<u64>();
    let by_command: Vec<String> =
        COMMANDS.iter().map(|command| format!("{} {}", command.name, answered(command.index()))).collect();
    let all: u64 = (0..COMMANDS.len()).map(answered).sum();
    let written = lab.written();
    println!("answered: {}", by_command.join(", "));
    println!(
        "{rounds} rounds, {all} commands answered, {written} of them written, {} coins lost, {} commands half done",
        lab.lost, lab.half_done
    );
    // All but the treasury, which is closed.
    let asked = COMMANDS.iter().filter(|command| command.group != treasury::GROUP);
    let never: Vec<&str> = asked.filter(|command| answered(command.index()) == 0).map(|command| command.name).collect();
    assert!(never.is_empty() || rounds < 5, "the load has every command, but for {never:?}");
    assert_eq!((lab.lost, lab.half_done), (0, 0));
}
