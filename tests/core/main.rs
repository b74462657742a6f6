//! The node without a machine: shards on a made-up disk, network and clock; and what the README says of it.

mod archive;
mod attacks;
mod backup;
mod commands;
mod common;
mod model;
mod offline;
mod readme;
mod scaling;
mod statuses;
mod suspensions;
mod treasury;
