//! A RAIDA node: lockers, the market of trade lockers and change-making.

pub mod coin;
pub mod entropy;
pub mod reactor;
pub mod shard;
pub mod store;
pub mod wire;
