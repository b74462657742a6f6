//! A RAIDA node: lockers, the market of trade lockers and change-making.
//!
//! # Layout, in the order a request travels
//! * [`coin`]: what a coin is; everything else speaks in its types. [`settings`]: every bound and choice. [`entropy`], [`calendar`], [`histogram`].
//! * [`config`]: `raida.toml`, every bound in it.
//! * [`wire`]: bytes to typed requests and back; header, seal, request, reply, status.
//! * [`command`]: the commands, pure: a request and what shards said of it become a plan.
//! * [`shard`]: what one core owns, as a state machine without I/O: transactions, pages, views.
//! * [`node`]: start and stop of a whole node.
//! * [`reactor`]: the only place that knows io_uring: a thread, a ring and sockets around each shard.
//! * [`admin`]: what an operator's tools ask over HTTP, on a thread of its own.
//! * [`sim`]: the other driver of shards: a made-up disk, network and clock.
//! * [`store`]: what is on disk: pages, log, double-write area, orders; recovery, import, mint.
//! * [`client`]: a client of the protocol, for the command line and the tests.
//! * [`load`]: a load generator and its coins, to measure a node.
//!
//! Arrows point down or stay in their line; `README.md` has the flow.

pub mod admin;
pub mod calendar;
pub mod client;
pub mod coin;
pub mod command;
pub mod config;
pub mod entropy;
pub mod histogram;
pub mod load;
pub mod mutant;
pub mod node;
pub mod reactor;
pub mod settings;
pub mod shard;
pub mod sim;
pub mod store;
pub mod wire;
