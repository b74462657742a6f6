//! What simulated lives saw, in numbers.

use std::fmt;

/// What can go wrong, or just happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The power failed.
    PowerLoss,
    /// The process was killed.
    Kill,
    /// The node was stopped in order.
    Stop,
    /// The machine failed while the node started.
    CrashAtStart,
    /// A write failed, having done anything between nothing and all of it.
    WriteFailed,
    /// A page could not be read.
    ReadFailed,
    /// No write found room on the disk.
    DiskFull,
    /// The archive had no room.
    ArchiveFull,
    /// A bit flipped at rest.
    Rot,
    /// One shard's disk was slow.
    SlowDisk,
    /// Messages of one shard to another were slow.
    SlowRoad,
    /// The clock of the day jumped.
    ClockJump,
    /// Reservations ran out.
    TimePassed,
    /// A client did not wait for its answer.
    Disconnect,
    /// A client sent what is no request.
    Garbage,
}

impl Fault {
    /// Every one, in order.
    pub const ALL: [Self; 15] = [
        Self::PowerLoss,
        Self::Kill,
        Self::Stop,
        Self::CrashAtStart,
        Self::WriteFailed,
        Self::ReadFailed,
        Self::DiskFull,
        Self::ArchiveFull,
        Self::Rot,
        Self::SlowDisk,
        Self::SlowRoad,
        Self::ClockJump,
        Self::TimePassed,
        Self::Disconnect,
        Self::Garbage,
    ];
    const NAMES: [&'static str; Self::ALL.len()] = [
        "power losses",
        "kills",
        "stops in order",
        "crashes while starting",
        "failed writes",
        "failed reads",
        "full disks",
        "full archives",
        "flipped bits",
        "slow disks",
        "slow roads",
        "clock jumps",
        "pauses",
        "clients gone",
        "garbage",
    ];
}

/// Numbers of one life, or of many.
#[derive(Clone, Default, Debug)]
pub struct Report {
    /// Lives.
    pub lives: u64,
    /// Requests sent.
    pub commands: u64,
    /// Of them answered.
    pub answered: u64,
    /// Times that a node was looked into and compared with a model.
    pub audits: u64,
    /// Times that damage kept a node from starting, and was named.
    pub found: u64,
    /// Times that it was repaired.
    pub repaired: u64,
    /// A number that any other course of events would change.
    pub digest: u64,
    faults: [u64; Fault::ALL.len()],
}

impl Report {
    /// Counts a fault.
    pub fn count(&mut self, fault: Fault) {
        self.add_faults(fault, 1);
    }

    /// Counts so many faults.
    pub fn add_faults(&mut self, fault: Fault, count: u64) {
        self.faults[fault as usize] += count;
    }

    /// How often a fault was counted.
    pub fn faults(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// How often a node ended, in whatever way, and recovered.
    pub fn recoveries(&self) -> u64 {
        [Fault::PowerLoss, Fault::Kill, Fault::Stop, Fault::CrashAtStart].map(|end| self.faults(end)).iter().sum()
    }

    /// Adds another's numbers, in any order.
    pub fn add(&mut self, other: &Self) {
        self.lives += other.lives;
        self.commands += other.commands;
        self.answered += other.answered;
        self.audits += other.audits;
        self.found += other.found;
        self.repaired += other.repaired;
        self.digest = self.digest.wrapping_add(other.digest);
        self.faults.iter_mut().zip(other.faults).for_each(|(sum, count)| *sum += count);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lives, commands, answered, audits, found, repaired, digest, .. } = self;
        writeln!(f, "{lives} seeds, {commands} commands, {answered} answered, {} recoveries", self.recoveries())?;
        writeln!(
            f,
            "{audits} looks into a node, damage named {found} times and repaired {repaired}, digest {digest:016x}"
        )?;
        let faults: Vec<String> =
            Fault::NAMES.iter().zip(self.faults).map(|(name, count)| format!("{count} {name}")).collect();
        write!(f, "{}", faults.join(", "))
    }
}
