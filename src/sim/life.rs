//! The life of one node, from one seed: rounds of requests, faults among them, crashes between them, and after
//! each a look at whether everything it said was true.

use super::audit::{at_rest, audit, knows_its_pages};
use super::history::{NEVER, Past, explain};
use super::model::{Model, Op};
use super::report::{Fault, Report};
use super::workload::Workload;
use super::{Client, Held, Seeded, World, WorldOptions};
use crate::coin::{CoinId, Secret};
use crate::store::error::StoreError;
use crate::store::files;
use crate::store::rebuild::rebuild;
use crate::store::recovery;
use crate::store::storage::Memory;
use crate::store::verify::{Report as Verified, Verdict, verify};
use crate::wire::header::KeyName;
use crate::wire::seal::Key;
use crate::wire::status::Status;

/// Rounds of a life.
const ROUNDS: usize = 12;
/// One round in so many ends with the node's end.
const END_ONE_IN: usize = 3;
/// Things that happen in a round, at most: beyond, the node is busy with nothing.
const STEPS_MAX: usize = 100_000;
/// Coins at the beginning.
const COINS: u32 = 96;

/// A node's life.
struct Life {
    world: World,
    /// Every state the node may be in; almost always one.
    models: Vec<Model>,
    /// What the clients believe.
    guess: Model,
    workload: Workload,
    random: Seeded,
    clients: Vec<Client>,
    key_coin: CoinId,
    /// Everybody writes one coin at a time, through this shard: its log has many batches under way.
    rush: Option<u8>,
    report: Report,
}

/// A request under way.
struct Flying {
    /// Its place in the round's history.
    index: usize,
    client: Client,
    token: u64,
}

/// How a node ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The power fails: what was not synced may be lost.
    Power,
    /// It is killed: what the disk has stays.
    Kill,
    /// It is asked to stop.
    Stop,
}

/// Lives the life of a seed.
///
/// # Errors
/// What was violated, and first.
pub fn live(seed: u64) -> Result<Report, String> {
    let mut life = Life::new(seed);
    for _ in 0..ROUNDS {
        life.round()?;
    }
    life.end(End::Stop, true)?;
    life.report.lives = 1;
    let (reads, writes) = life.world.failed;
    life.report.add_faults(Fault::ReadFailed, reads);
    life.report.add_faults(Fault::WriteFailed, writes);
    life.report.digest = life.world.digest;
    Ok(life.report)
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut random = Seeded(seed ^ 0x11FE);
        let mut options = WorldOptions::small(1 + random.below(4) as u8, seed);
        options.cache_pages = 8 + random.below(3) * 8;
        if !random.one_in(4) {
            options = options.with_tiny_log(4 + random.below(9) as u64);
        }
        if !random.one_in(4) {
            options = options.with_archive();
        }
        // Coins over many pages, some of them on one.
        let coins: Vec<(CoinId, Secret)> = (0..COINS)
            .map(|number| {
                let sn = if number % 4 == 0 { number } else { number * 701 % 20_000 };
                let mut an = random.bytes();
                an[15] = 0x11;
                (CoinId::new((number % 3) as i8 - 1, sn).expect("a coin"), Secret::new(an))
            })
            .collect();
        let storage = Memory::new();
        recovery::initialise(&storage, options.geometry).expect("a new storage in memory");
        World::mint(&storage, &coins, 10);
        let mut world = World::on(storage, &options);
        world.start();
        let (key_coin, an) = coins[0];
        world.journal.begin(&coins);
        let model = Model::new(coins);
        Self {
            world,
            guess: model.clone(),
            models: vec![model],
            workload: Workload::new(random.number(), key_coin),
            clients: clients(key_coin, an),
            key_coin,
            rush: None,
            random,
            report: Report::default(),
        }
    }

    /// Some requests, some of them at once; perhaps something fails, perhaps the node ends amid them.
    fn round(&mut self) -> Result<(), String> {
        let ends = self.random.one_in(END_ONE_IN);
        let fails = self.plan_faults();
        let count = 1 + self.random.below(14);
        self.rush = self.random.one_in(4).then(|| self.random.below(4) as u8);
        let at_once = 1 + self.random.below(if self.rush.is_some() { 4 } else { 6 });
        let in_the_midst = ends && !self.random.one_in(4);
        let history = self.requests(count, at_once, in_the_midst)?;
        self.explain(&history)?;
        let failed = (0..self.world.settings.shards).any(|shard| self.world.shard(shard).has_failed());
        if ends || failed {
            let end = [End::Power, End::Power, End::Kill, End::Stop][self.random.below(4)];
            return self.end(end, !failed && !in_the_midst);
        }
        if !fails && self.random.one_in(4) {
            self.check()?;
            if self.world.settings.archive {
                self.world.journal.is_told_beside(&self.world.storage)?;
            }
        }
        self.world.read_fails_after = None;
        self.world.write_fails_after = None;
        at_rest(&self.world)
    }

    /// Draws what shall go wrong in a round; says whether anything shall.
    fn plan_faults(&mut self) -> bool {
        let random = &mut self.random;
        let shards = self.world.settings.shards as usize;
        let mut shard = || random.below(shards) as u8;
        let slow = [
            Held::Road(shard(), shard()),
            Held::Disk(shard()),
            Held::Reads(shard()),
            Held::Eldest(shard()),
            Held::Control(shard()),
            Held::Archive(shard()),
        ];
        self.world.unreadable.clear();
        match random.below(26) {
            0 => self.world.write_fails_after = Some(random.below(40) as u64),
            1 => self.world.read_fails_after = Some(random.below(10) as u64),
            2 => {
                self.world.disk_full = true;
                self.report.count(Fault::DiskFull);
            }
            3 => self.rot_a_page(),
            4..10 => {
                let held = slow[random.below(slow.len())];
                log::debug!("slow: {held:?}");
                self.world.held.push(held);
                self.report.count(if matches!(held, Held::Road(..)) { Fault::SlowRoad } else { Fault::SlowDisk });
                return false;
            }
            10 => {
                let back = random.one_in(3);
                let days = random.below(60) as u64 * 86_400_000;
                self.world.unix_ms = if back { self.world.unix_ms - days } else { self.world.unix_ms + days };
                self.report.count(Fault::ClockJump);
                return false;
            }
            11 | 12 if self.world.settings.archive => {
                self.world.archive_fails = 1 + random.below(4) as u64;
                self.report.count(Fault::ArchiveFull);
                return false;
            }
            13 => {
                self.world.monotonic_us += random.below(20_000_000) as u64;
                self.report.count(Fault::TimePassed);
                return false;
            }
            _ => return false,
        }
        true
    }

    /// Flips a bit of a page in its place.
    fn rot_a_page(&mut self) {
        let pages: Vec<(String, u64)> =
            self.world.storage.data().into_iter().filter(|(path, _)| path.starts_with("coins/")).collect();
        let (path, sector) = &pages[self.random.below(pages.len())];
        let at = sector * 512 + self.random.below(512) as u64;
        log::debug!("a bit of {path} flips at {at}");
        self.world.storage.flip(path, at);
        self.report.count(Fault::Rot);
    }

    /// Sends requests and runs, until all are answered or, if the node `ends` in their midst, some time before.
    fn requests(&mut self, count: usize, at_once: usize, ends: bool) -> Result<Vec<Past>, String> {
        self.world.disk_slowness = [1, 2, 4, 16][self.random.below(4)];
        let steps_each = 20 * self.world.disk_slowness.max(2);
        let mut steps = if ends { self.random.below(steps_each * count) } else { STEPS_MAX };
        let few = self.workload.few(&self.guess);
        let mut history: Vec<Past> = Vec::new();
        let mut flying: Vec<Flying> = Vec::new();
        let mut left_out = Vec::new();
        let mut unsent = count;
        while steps > 0 {
            steps -= 1;
            let may_send = unsent > 0 && flying.len() < at_once;
            if may_send && self.random.one_in(8) || !self.world.advance() {
                if may_send {
                    unsent -= 1;
                    self.send(&few, &mut history, &mut flying);
                } else if !self.world.held.is_empty() {
                    // Everything waits for what is slow: the worst moment for an end.
                    if ends && self.random.one_in(2) {
                        break;
                    }
                    self.world.held.clear();
                } else {
                    // The ends of the turns may have brought the last answers.
                    let unanswered = flying.len();
                    self.collect(&mut history, &mut flying, &mut left_out)?;
                    if flying.is_empty() {
                        break;
                    } else if flying.len() == unanswered {
                        let waiting: Vec<&Op> = flying.iter().map(|flying| &history[flying.index].op).collect();
                        return Err(format!("waits for ever: {waiting:?}"));
                    }
                }
            }
            self.collect(&mut history, &mut flying, &mut left_out)?;
        }
        if steps == 0 && !ends {
            return Err("comes to no rest".to_owned());
        }
        for index in left_out.into_iter().rev() {
            history.remove(index);
        }
        Ok(history)
    }

    fn send(&mut self, few: &[CoinId], history: &mut Vec<Past>, flying: &mut Vec<Flying>) {
        let which = self.random.below(self.clients.len());
        let mut client = self.clients[which].clone();
        client.shard = self.rush.unwrap_or(self.random.below(4) as u8);
        client.datagram = self.random.one_in(3);
        if self.random.one_in(16) {
            self.send_garbage(&client);
            return;
        }
        // The operator does one thing after the other.
        let acts = flying.iter().any(|flying| is_act(&history[flying.index].op));
        if !acts && self.random.one_in(24) {
            return self.act(history, flying);
        }
        // Now and then somebody sends what is under way once more.
        let again =
            flying.first().filter(|_| !acts && self.random.one_in(16)).map(|first| history[first.index].op.clone());
        let op = again.unwrap_or_else(|| match self.rush {
            Some(_) => self.workload.rush(&self.guess, few),
            None => self.workload.op(&self.guess, few),
        });
        let (kind, payload) = op.payload();
        let token = self.world.send_payload(&client, kind.command(), &payload);
        log::debug!("{token} {kind:?} to shard {}: {}", client.shard % self.world.settings.shards, told(&op));
        self.report.commands += 1;
        history.push(Past { op, answer: None, sent: self.world.monotonic_us, answered: NEVER });
        // Who does not hear what he was offered may not ask for it again: nobody would know what he has.
        let may_go = !matches!(history[history.len() - 1].op, Op::SerialNumbers { .. });
        if may_go && self.random.one_in(24) {
            log::debug!("{token}'s client goes away");
            self.report.count(Fault::Disconnect);
            return;
        }
        flying.push(Flying { index: history.len() - 1, client, token });
    }

    /// The operator holds or pauses something, or no longer: first where a restart finds it, then on the shards.
    fn act(&mut self, history: &mut Vec<Past>, flying: &mut Vec<Flying>) {
        let op = self.workload.act(&self.guess);
        let suspensions = &mut self.world.suspensions;
        let act = op.act(suspensions).expect("an act");
        match op.suspends(suspensions).expect("an act") {
            (suspension, true) => suspensions.suspend(suspension),
            (suspension, false) => suspensions.end(suspension),
        }
        let token = self.world.act(&act);
        log::debug!("{token} the operator: {}", told(&op));
        history.push(Past { op, answer: None, sent: self.world.monotonic_us, answered: NEVER });
        flying.push(Flying { index: history.len() - 1, client: Client::default(), token });
    }

    /// Bytes that are no request, or only the beginning of one.
    fn send_garbage(&mut self, client: &Client) {
        let mut bytes: Vec<u8> = (0..1 + self.random.below(100)).map(|_| self.random.number() as u8).collect();
        if self.random.one_in(2) && bytes.len() > 2 {
            bytes[..2].fill(0); // so that more of the header is looked at
        }
        self.world.send_frame(client, &bytes);
        self.report.count(Fault::Garbage);
    }

    /// Takes what has been answered.
    fn collect(
        &mut self,
        history: &mut [Past],
        flying: &mut Vec<Flying>,
        left_out: &mut Vec<usize>,
    ) -> Result<(), String> {
        let mut at = 0;
        while at < flying.len() {
            let Flying { index, client, token } = &flying[at];
            let past = &mut history[*index];
            let answer = match is_act(&past.op) {
                true => self
                    .world
                    .acted(*token)
                    .map(|done| (if done { Status::Success } else { Status::Filesystem }, vec![])),
                false => self.world.answer(client, *token),
            };
            match answer {
                // Whether it counts before the next start, nobody knows.
                Some((Status::Filesystem, _)) if is_act(&past.op) => {}
                None if self.world.closed(*token) => log::debug!("{token} is closed"),
                None => {
                    at += 1;
                    continue;
                }
                Some(answer) => {
                    log::debug!("{token} is answered {}", answer.0);
                    let answer = past.op.sorted(answer);
                    past.answered = self.world.monotonic_us;
                    self.report.answered += 1;
                    if answer.0 == Status::Filesystem {
                        may_fail(&self.world, &past.op, self.key_coin)?;
                        left_out.push(*index);
                    }
                    self.workload.hear(&past.op, &answer);
                    if answer.0.is_success() {
                        self.guess.tell(&past.op, Some(&answer), (past.sent, past.answered));
                    }
                    past.answer = Some(answer);
                }
            }
            flying.swap_remove(at);
        }
        left_out.sort_unstable();
        Ok(())
    }

    fn explain(&mut self, history: &[Past]) -> Result<(), String> {
        self.models = explain(&self.models, history).map_err(|wrong| {
            let rows: Vec<String> = history.iter().map(past_told).collect();
            format!("no order explains the answer {}\namong:\n{}", rows[wrong].trim(), rows.join("\n"))
        })?;
        self.guess = self.models[0].clone();
        Ok(())
    }

    /// Looks into the node, and keeps the states in which it can be.
    fn check(&mut self) -> Result<(), String> {
        self.report.audits += 1;
        let mut wrong = String::new();
        let world = &self.world;
        self.models.retain(|model| {
            let seen = audit(world, model);
            if let Err(error) = &seen {
                log::debug!("not so in one state: {error}");
                wrong.clone_from(error);
            }
            seen.is_ok()
        });
        match self.models.first() {
            None => Err(wrong),
            Some(model) => {
                self.guess = model.clone();
                Ok(())
            }
        }
    }

    /// The node ends and starts again, with another number of shards. Where it was at rest its logs say so, and rot in
    /// them is found.
    fn end(&mut self, end: End, at_rest: bool) -> Result<(), String> {
        log::debug!("the node ends, {}", end.told());
        self.world.held.clear();
        if end == End::Stop && !self.world.shut_down() {
            return Err("it does not stop".to_owned());
        }
        self.report.count(end.fault());
        self.world.stop(end == End::Power);
        self.world.settings.shards = 1 + self.random.below(4) as u8;
        if self.random.one_in(6) {
            self.crash_while_starting();
        }
        if !self.world.storage.has_rot() {
            knows_its_pages(&self.world.storage)?;
        }
        if !self.world.storage.has_rot() && self.random.one_in(8) {
            // What a crash tears, recovery repairs as a rebuild would; nothing is lost.
            self.verify(Verdict::Clean, Verdict::Repairable)?;
        }
        if self.random.one_in(6) {
            self.rot(at_rest || end == End::Stop);
        }
        let is_whole = !self.world.storage.has_rot();
        if self.world.settings.archive {
            self.world.journal.is_told(&self.world.storage, is_whole)?;
        }
        if let Err(error) = self.world.try_start() {
            log::debug!("it does not start: {error}");
            self.mend(&error)?;
            self.world.try_start().map_err(|error| format!("does not start once mended: {error}"))?;
        }
        self.world.storage.heal();
        self.models.iter_mut().for_each(Model::restart);
        self.check()?;
        let (world, coins) = (&mut self.world, &self.guess.ans);
        if world.settings.archive { world.journal.leads_to(&world.storage, coins, is_whole) } else { Ok(()) }
    }

    /// Damage keeps the node from starting: it is looked at and repaired as an operator would, or, where something is
    /// lost, all bits flip back.
    fn mend(&mut self, error: &StoreError) -> Result<(), String> {
        if !self.world.storage.has_rot() {
            return Err(format!("does not start, and nothing is damaged: {error}"));
        }
        self.report.found += 1;
        if matches!(error, StoreError::NotADataDirectory { .. }) {
            self.world.storage.heal();
            return Ok(());
        }
        let report = self.verify(Verdict::Repairable, Verdict::Damaged)?;
        if report.verdict() == Verdict::Repairable {
            log::debug!("it is repaired");
            let rebuilt = rebuild(&self.world.storage, &report, "simulated", &mut |_, _| {});
            rebuilt.map_err(|error| format!("is not repaired: {error}"))?;
            self.report.repaired += 1;
        } else {
            self.world.storage.heal();
        }
        Ok(())
    }

    /// Verifies the data directory: what it comes to must be within these bounds.
    fn verify(&self, best: Verdict, worst: Verdict) -> Result<Verified, String> {
        let report = verify(&self.world.storage, &mut |_, _| {}).map_err(|error| error.to_string())?;
        if (best..=worst).contains(&report.verdict()) {
            return Ok(report);
        }
        let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        Err(format!("is {:?}: {}", report.verdict(), findings.join("; ")))
    }

    /// The machine fails while the node starts, perhaps more than once.
    fn crash_while_starting(&mut self) {
        loop {
            self.world.storage.crash_after(1 + self.random.below(90) as u64);
            let started = self.world.try_start();
            log::debug!("the machine fails while the node starts");
            self.report.count(Fault::CrashAtStart);
            self.world.stop(true);
            if started.is_ok() || self.random.one_in(2) {
                return;
            }
        }
    }

    /// Bits flip while the node is down.
    fn rot(&mut self, logs_too: bool) {
        let mut data = self.world.storage.data();
        if !logs_too {
            data.retain(|(path, _)| !path.contains("segment"));
        }
        // Nobody but the journal reads what is there, and it tells of damage; its own tests see to that.
        data.retain(|(path, _)| !path.starts_with(files::ARCHIVE));
        for _ in 0..1 + self.random.below(2) {
            // Any file as likely as any other, however large.
            let mut files: Vec<&String> = data.iter().map(|(path, _)| path).collect();
            files.dedup();
            let file = files[self.random.below(files.len())];
            let sectors: Vec<u64> = data.iter().filter(|(path, _)| path == file).map(|(_, sector)| *sector).collect();
            let at = sectors[self.random.below(sectors.len())] * 512 + self.random.below(512) as u64;
            log::debug!("a bit of {file} flips at {at}");
            self.world.storage.flip(file, at);
            self.report.count(Fault::Rot);
        }
    }
}

impl End {
    fn told(self) -> &'static str {
        match self {
            Self::Power => "without power",
            Self::Kill => "killed",
            Self::Stop => "in order",
        }
    }

    fn fault(self) -> Fault {
        match self {
            Self::Power => Fault::PowerLoss,
            Self::Kill => Fault::Kill,
            Self::Stop => Fault::Stop,
        }
    }
}

/// One client for each kind of key, the last two with a coin's.
fn clients(key_coin: CoinId, an: Secret) -> Vec<Client> {
    let plain = Client { peer: std::net::IpAddr::from([127, 0, 0, 1]), ..Client::default() };
    let sealed = |key_name, key| Client { key_name, key, ..plain.clone() };
    vec![
        sealed(KeyName::Coin(key_coin.into()), Key::of_secret(an)),
        sealed(KeyName::Coin256(key_coin.into()), Key::of_coin(&an)),
        plain.clone(),
        plain,
    ]
}

/// Whether a request may be answered that the disk failed: it did, or one of the pages needed is not readable, or the
/// archive took nothing.
fn may_fail(world: &World, op: &Op, key_coin: CoinId) -> Result<(), String> {
    let failed = (0..world.settings.shards).any(|shard| world.shard(shard).has_failed());
    let needs = op.coins().iter().chain([&key_coin]).any(|coin| world.unreadable.contains(&coin.page()));
    let of_an_offer = matches!(op, Op::Buy { .. } | Op::TakeBack(..)) && !world.unreadable.is_empty();
    if failed || needs || of_an_offer || world.archive_has_failed {
        Ok(())
    } else {
        Err(format!("the disk did not fail for {op:?}"))
    }
}

/// A request, for whoever reads a trace. The secrets are made up.
fn told(op: &Op) -> String {
    let hex = |an: &Secret| an.bytes()[..4].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match op {
        Op::Peek(an) | Op::PeekTradeLocker(an) => hex(an),
        Op::Store(_, an) | Op::PutForSale(_, an, _) | Op::TakeBack(an, _) | Op::Remove(an, _) => {
            format!("{} {:?}", hex(an), op.coins())
        }
        Op::Hold(an) => format!("hold {}", hex(an)),
        Op::Release(an) => format!("release {}", hex(an)),
        Op::Pause => "pause".to_owned(),
        Op::Resume => "resume".to_owned(),
        Op::Buy { key, value, price } => format!("to {}, worth {value}, for {price}", hex(key)),
        Op::Break { session, .. } | Op::Join { session, .. } => format!("session {session} {:?}", op.coins()),
        op => format!("{:?}", op.coins()),
    }
}

fn is_act(op: &Op) -> bool {
    matches!(op, Op::Hold(_) | Op::Release(_) | Op::Pause | Op::Resume)
}

fn past_told(past: &Past) -> String {
    let kind = if is_act(&past.op) { "operator".to_owned() } else { format!("{:?}", past.op.payload().0) };
    let answer = past.answer.as_ref().map_or("nothing".to_owned(), |(status, _)| status.to_string());
    let answered = if past.answered == NEVER { "never".to_owned() } else { past.answered.to_string() };
    format!("  {}..{answered} {kind} {} → {answer}", past.sent, told(&past.op))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_lives_the_same_life() {
        for seed in 0..4 {
            let [first, second] = [live(seed), live(seed)].map(Result::unwrap);
            assert_eq!(first.digest, second.digest);
            assert_eq!(first.to_string(), second.to_string());
        }
        assert_ne!(live(0).unwrap().digest, live(1).unwrap().digest);
    }

    /// Everything that can go wrong does, within a few lives, and most commands are answered all the same.
    #[test]
    fn lives_are_hard() {
        let mut report = Report::default();
        (0..40).for_each(|seed| report.add(&live(seed).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"))));
        assert_eq!(report.lives, 40);
        assert!(Fault::ALL.iter().all(|fault| report.faults(*fault) > 0), "{report}");
        assert!(report.answered * 10 > report.commands * 8 && report.found > 0, "{report}");
    }
}
