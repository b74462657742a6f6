//! What must be true of raida whatever bytes it is given.
//!
//! A target is a function of bytes that panics where something is not as it must be: [`TARGETS`] lists them. Each has
//! seeds, bytes that go all the way through it, made by the project's own encoders so that they cannot become stale.
//! Two drivers run the targets: `tests/short.rs`, on stable Rust, with [`mutate`], for a few seconds in
//! `scripts/check`; and libFuzzer through `scripts/fuzz`, for as long as one likes. What either found is kept in
//! `regressions/<target>/` and run by the tests ever after.
//!
//! # Targets
//! * [`header`], [`seal`], [`request`]: the frame of a request and of its reply, and every payload;
//! * [`frame`]: whole frames of several clients through the shards of a node that crashes and starts again;
//! * [`log`]: a data directory with altered bytes, opened; [`block`], [`page`]: what it is made of, one by one;
//! * [`backup`]: a backup with altered bytes, restored; [`import`]: the files of the reference's data directory;
//! * [`config`]: the text of raida.toml.

pub mod backup;
pub mod block;
pub mod config;
pub mod frame;
pub mod header;
pub mod import;
pub mod input;
pub mod log;
pub mod mutate;
pub mod page;
pub mod request;
pub mod seal;
pub mod world;

use raida::wire::header::NodeIdentity;

/// The node that frames are for.
pub const NODE: NodeIdentity = NodeIdentity { raida_id: 3, coin_id: 6 };

/// Something that takes bytes.
pub struct Target {
    /// The name of its module, of its program and of its directories.
    pub name: &'static str,
    /// Checks what must be true; says whether the bytes went all the way, that is, were not refused.
    pub run: fn(&[u8]) -> bool,
    /// Bytes that go all the way.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many runs take about a second in a build for development.
    pub short_runs: u32,
}

macro_rules! targets {
    ($($name:ident: $short_runs:literal),* $(,)?) => {
        /// Every target.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($name),
            run: $name::run,
            seeds: $name::seeds,
            short_runs: $short_runs,
        }),*];
    };
}

targets! {
    header: 100_000,
    seal: 20_000,
    request: 100_000,
    frame: 100,
    log: 500,
    block: 20_000,
    page: 10_000,
    config: 10_000,
    import: 2_000,
    backup: 100,
}
