//! From a frame to a plan, and from a status to a reply: header, key, seal, and back.

use crate::wire::header::{self, KeyName, RequestHeader};
use crate::wire::items::RawCoin;
use crate::wire::reply::{self, REPLY_BODY_BYTES_MAX, ReplyHead};
use crate::wire::seal::{self, Key, Opened};
use crate::wire::status::Status;

use super::interface::{Now, Origin, Reply};
use super::message::{Ask, Visit};
use super::partition::{self, page_owner};
use super::task::{Stage, Task};
use super::transaction::{Flow, read_only};
use super::{Effects, Shard};

impl Shard {
    /// A frame arrived.
    pub(super) fn request(&mut self, origin: Origin, frame: &[u8], now: Now, effects: &mut Effects<'_>) {
        let header = match header::parse(frame, &self.identity) {
            Ok(header) => header,
            // Two nodes would answer each other for ever, once somebody forged a sender.
            Err(_) if origin.datagram && reply::may_be_one(frame) => {
                self.counters.ignored += 1;
                return answer_nothing(origin, false, effects);
            }
            Err(error) => {
                let head = ReplyHead::for_error(&self.identity, &error);
                self.counters.answered_unplanned(error.status);
                return reply_plainly(origin, &head, error.status, true, effects);
            }
        };
        let framed = header.body(frame).and_then(|body| seal::check_frame(&header, body).map(|()| body));
        let refusal = match framed {
            Err(status) => Some(status),
            Ok(_) if !self.has_room() => Some(Status::Memory),
            Ok(body) => {
                self.begin(origin, header, body, now, effects);
                None
            }
        };
        if let Some(status) = refusal {
            let head = ReplyHead::new(&header, Opened::default());
            self.counters.answered_unplanned(status);
            self.log_refusal(&origin, &header, status, now);
            reply_plainly(origin, &head, status, false, effects);
        }
    }

    fn begin(&mut self, origin: Origin, header: RequestHeader, body: &[u8], now: Now, effects: &mut Effects<'_>) {
        let mut task = match self.spare_tasks.pop() {
            Some(mut task) => {
                task.begin(origin, now.monotonic_us, header);
                task
            }
            None => Box::new(Task::new(origin, now.monotonic_us, header)),
        };
        let slot = self.tasks.insert(None) as u32;
        let flow = match header.key {
            KeyName::None => self.open(slot, &mut task, body, now, effects),
            _ => {
                task.body.extend_from_slice(body);
                self.look_up_key(slot, &mut task, 0, now, effects)
            }
        };
        match flow {
            Flow::Waits => self.tasks[slot as usize] = Some(task),
            Flow::Ended => self.end(slot, task),
        }
    }

    /// A task is through: its locks and its place are given back.
    pub(super) fn end(&mut self, slot: u32, mut task: Box<Task>) {
        self.tasks.remove(slot as usize);
        task.clear();
        self.spare_tasks.push(task);
    }

    /// Asks the owner of the next key coin, or the home of the locker, for the key.
    fn look_up_key(&mut self, slot: u32, task: &mut Task, known: usize, now: Now, effects: &mut Effects<'_>) -> Flow {
        task.stage = Stage::Key(known);
        let shards = self.settings.shards;
        let coin = match (task.header.key, known) {
            (KeyName::Coin(coin) | KeyName::Coin256(coin) | KeyName::TwoCoins256(coin, _), 0) => coin,
            (KeyName::TwoCoins256(_, coin), _) => coin,
            (KeyName::LockerPrefix(prefix), _) => {
                let header = task.header;
                // A command that needs no body may come without: then nothing tells lockers of one prefix apart.
                let Some(challenge) = seal::locker_challenge(&task.body) else {
                    return self.refuse(task, no_key(&header), now, effects);
                };
                let visit = self.stop(task, slot, partition::prefix_home(prefix, shards));
                visit.ask = Ask::LockerKey { header, challenge };
                return self.go_to_next_stop(task, effects);
            }
            (key, known) => unreachable!("no key {known} of {key:?}"),
        };
        match RawCoin::id(coin) {
            None => self.refuse(task, no_key(&task.header), now, effects),
            Some(coin) => {
                let visit = self.stop(task, slot, page_owner(coin.page(), shards));
                visit.claims.push(read_only(coin));
                self.go_to_next_stop(task, effects)
            }
        }
    }

    /// A key, or the first of two, was looked up.
    pub(super) fn key_found(
        &mut self,
        slot: u32,
        task: &mut Task,
        known: usize,
        visit: Box<Visit>,
        now: Now,
        effects: &mut Effects<'_>,
    ) -> Flow {
        let an = match visit.ask {
            Ask::LockerKey { .. } => visit.findings.an,
            _ => visit
                .claims
                .first()
                .map(|claim| claim.record)
                .filter(|record| !record.is_free())
                .map(|record| record.an),
        };
        let locked_out = matches!(visit.ask, Ask::LockerKey { .. }) && visit.findings.allowed;
        self.recycle(visit);
        let Some(an) = an else {
            // Lockers there are, but the challenge's CRC holds under none of their keys.
            let status = if locked_out { Status::Crc } else { no_key(&task.header) };
            return self.refuse(task, status, now, effects);
        };
        task.key = match task.header.key {
            KeyName::TwoCoins256(..) if known == 0 => {
                task.first_an = an;
                task.stops.clear();
                task.reached = 0;
                return self.look_up_key(slot, task, 1, now, effects);
            }
            KeyName::TwoCoins256(..) => Key::of_two_coins(&std::mem::take(&mut task.first_an), &an),
            KeyName::Coin256(_) => Key::of_coin(&an),
            _ => Key::Aes128(an),
        };
        task.stops.clear();
        task.reached = 0;
        let body = std::mem::take(&mut task.body);
        let flow = self.open(slot, task, &body, now, effects);
        task.body = body;
        flow
    }

    /// Opens the body and plans.
    fn open(&mut self, slot: u32, task: &mut Task, body: &[u8], now: Now, effects: &mut Effects<'_>) -> Flow {
        match seal::open(&task.header, &task.key, body, &mut task.payload) {
            Err(status) => self.refuse(task, status, now, effects),
            Ok(opened) => {
                task.opened = opened;
                self.plan(slot, task, now, effects)
            }
        }
    }

    /// Answers a task with the draft's answer, and gives back what it holds.
    pub(super) fn reply(&mut self, task: &mut Task, status: Status, now: Now, effects: &mut Effects<'_>) -> Flow {
        let head = ReplyHead::new(&task.header, task.opened);
        let (status, payload) =
            if self.answer_fits(task) { (status, &task.draft.answer[..]) } else { (Status::TooManyCoins, &[][..]) };
        let mut random = [0; 24];
        if task.header.encryption().is_modern() {
            effects.entropy.fill(&mut random);
        }
        let took_us = now.monotonic_us - task.started_us;
        let micros = u32::try_from(took_us).unwrap_or(u32::MAX);
        let start = effects.out.bytes.len();
        reply::write(&mut effects.out.bytes, &head, &task.key, status, micros, payload, random);
        let end = effects.out.bytes.len();
        effects.out.replies.push(Reply { token: task.origin.token, start, end, close: false });
        self.counters.answered(task.header.command, status, took_us);
        if task.draft.of_treasury {
            log_treasury(task, status);
        } else if !status.is_success() {
            self.log_refusal(&task.origin, &task.header, status, now);
        }
        self.give_back(task, effects);
        Flow::Ended
    }

    /// A task whose outcome nobody knows before the next start: no answer, and the connection closes.
    pub(super) fn leave_unanswered(&mut self, task: &Task, effects: &mut Effects<'_>) {
        if task.draft.of_treasury {
            let (command, peer, items) = (task.header.command, task.origin.peer, task.draft.items);
            log::warn!(target: "treasury", "{command} by {peer}, {items} items: the next start tells whether it was done");
        }
        self.counters.unanswered += 1;
        answer_nothing(task.origin, true, effects);
    }

    /// Whether the draft's answer can be sent. A command whose answer nobody would see must not be carried out.
    pub(super) fn answer_fits(&self, task: &Task) -> bool {
        self.fits(task, task.draft.answer.len())
    }

    /// Whether an answer with so many bytes of payload can be sent.
    pub(super) fn fits(&self, task: &Task, payload: usize) -> bool {
        let longest = if task.origin.datagram { self.settings.datagram_bytes_max } else { REPLY_BODY_BYTES_MAX };
        ReplyHead::new(&task.header, task.opened).reply_bytes(payload) <= longest
    }
}

/// Tells the operator who used the treasury's key, for what.
fn log_treasury(task: &Task, status: Status) {
    let (command, peer, items) = (task.header.command, task.origin.peer, task.draft.items);
    log::info!(target: "treasury", "{command} by {peer}, {items} items: {status}");
}

/// Says that there will be no answer.
fn answer_nothing(origin: Origin, close: bool, effects: &mut Effects<'_>) {
    let at = effects.out.bytes.len();
    effects.out.replies.push(Reply { token: origin.token, start: at, end: at, close });
}

/// Answers without a task: no payload, no key.
fn reply_plainly(origin: Origin, head: &ReplyHead, status: Status, close: bool, effects: &mut Effects<'_>) {
    let mut random = [0; 24];
    effects.entropy.fill(&mut random);
    let start = effects.out.bytes.len();
    reply::write(&mut effects.out.bytes, head, &Key::None, status, 0, &[], random);
    let end = effects.out.bytes.len();
    effects.out.replies.push(Reply { token: origin.token, start, end, close });
}

/// What is answered where the key's coin or locker is not to be found.
fn no_key(header: &RequestHeader) -> Status {
    if header.encryption().is_modern() { Status::EncryptionCoinNotFound } else { Status::Encryption }
}
