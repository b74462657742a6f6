//! Bytes ↔ typed requests and replies. Pure: no state, no I/O, no clock, no entropy.
//!
//! In the order a request travels:
//! * [`header`] — where a frame ends and which command it names;
//! * [`seal`] — keys, encryption, what proves that a body is whole;
//! * [`request`] — the table of commands, and the layout of every payload and answer;
//! * [`items`] — the lists those layouts are made of, as views of the bytes;
//! * [`reply`] — the answer's frame;
//! * [`status`] — the numbers that say how it went.
//!
//! Every layout is written once, with its encoder and its decoder: the node and the client are the two users of each.
//! Integers are big-endian. No byte that a client can send makes any of this panic.

pub mod header;
pub mod items;
pub mod reply;
pub mod request;
pub mod seal;
pub mod status;

#[cfg(test)]
mod hostile_bytes_test;
