//! One shard whose disk does everything at once: for counting what a shard itself costs, in allocations and instructions.
//!
//! It drives [`Shard::step`] as a reactor does, and takes no memory for it once it is warm. What is written to the log is
//! forgotten: [`World`](super::World) is for what must be true, this is for what it costs.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::coin::{CoinId, CoinRecord, Months, PageNumber, Secret, TradeCoin};
use crate::config::Config;
use crate::settings::{Settings, Settlement};
use crate::shard::Shard;
use crate::shard::interface::{DiskDone, DiskOp, Input, Now, Origin, Outputs};
use crate::shard::start::build_all;
use crate::store::double_write::page_at;
use crate::store::layout::{PAGE_BYTES, PageFrame};
use crate::store::recovery;
use crate::store::storage::Memory;
use crate::store::wal::Geometry;

use super::Seeded;

/// A shard alone, and the pages of its disk.
pub struct Lone {
    shard: Shard,
    pages: HashMap<PageNumber, PageFrame>,
    now: Now,
    entropy: Seeded,
    out: Outputs,
    disk: Vec<DiskOp>,
}

impl Lone {
    /// The only shard of a node with the default configuration, in which everything is sold for trust, with room for
    /// `cache_pages` in its cache and these coins in wallets.
    pub fn new(coins: &[(CoinId, Secret)], cache_pages: usize) -> Self {
        let config = Config::default();
        let settlement = [Settlement::Trusted; TradeCoin::ALL.len()];
        let settings = Settings { shards: 1, cache_pages, settlement, ..config.settings() };
        let storage = Memory::new();
        recovery::initialise(&storage, Geometry::default()).expect("a new storage in memory");
        let opened = recovery::open(&storage, 1, Geometry::default()).expect("a new storage in memory");
        let mut pages = HashMap::new();
        for &(coin, an) in coins {
            let frame: &mut PageFrame = pages.entry(coin.page()).or_insert_with(PageFrame::zeroed);
            frame.set_record(coin.slot(), CoinRecord { an, mfs: Months::new(1) });
        }
        let mut entropy = Seeded(1);
        let shards = build_all(&settings, &opened, Geometry::default(), &mut entropy, |page| {
            for (&number, frame) in &mut pages {
                frame.seal(number, 0);
                page(number, frame, 0);
            }
            Ok::<_, std::convert::Infallible>(())
        });
        let shard = shards.into_iter().flatten().next().expect("one shard");
        let now = Now { monotonic_us: 1_000_000, unix_ms: 1_795_219_200_000 };
        Self { shard, pages, now, entropy, out: Outputs::default(), disk: Vec::new() }
    }

    /// Gives the shard requests, all in one turn, and runs until each is answered. Returns the answers in the order in
    /// which they came, one behind the other.
    pub fn ask(&mut self, frames: &[&[u8]]) -> &[u8] {
        self.out.bytes.clear();
        self.out.replies.clear();
        for (frame, token) in frames.iter().zip(0..) {
            let origin = Origin { token, peer: IpAddr::V4(Ipv4Addr::LOCALHOST), datagram: false };
            self.step(Input::Request { origin, frame });
        }
        while self.out.replies.len() < frames.len() {
            self.step(Input::Turn);
            std::mem::swap(&mut self.disk, &mut self.out.disk);
            while let Some(op) = self.disk.pop() {
                let op = self.carry_out(op);
                self.step(Input::Disk(DiskDone { op, result: Ok(()) }));
            }
        }
        &self.out.bytes
    }

    fn step(&mut self, input: Input<'_>) {
        self.now.monotonic_us += 1;
        self.shard.step(self.now, &mut self.entropy, input, &mut self.out);
    }

    fn carry_out(&mut self, mut op: DiskOp) -> DiskOp {
        match &mut op {
            DiskOp::ReadPage { page, frame } => match self.pages.get(page) {
                Some(on_disk) => frame.bytes_mut().copy_from_slice(on_disk.bytes()),
                None => frame.bytes_mut().fill(0),
            },
            DiskOp::WritePages { pages, bytes } => {
                for (page, index) in pages.iter().zip(0..) {
                    let on_disk = self.pages.entry(*page).or_insert_with(PageFrame::zeroed);
                    on_disk.bytes_mut().copy_from_slice(&bytes[page_at(index)..][..PAGE_BYTES]);
                }
            }
            DiskOp::Write { .. } => {}
        }
        op
    }
}
