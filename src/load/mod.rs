//! Load on a node, to measure it: a directory of made-up coins, and a generator that is not the bottleneck.
//!
//! # Layout
//! * [`data`]: which coins are in circulation with which AN, all from one number; whoever loads a node knows it by heart.
//! * [`prepare`]: the data directory of it.
//! * [`frame`]: requests as bytes, ready to be sent.
//! * [`operation`]: what is asked: the same question again and again, or a cycle that brings every coin back.
//! * [`window`]: the requests in flight, when the next may start, what their answers say.
//! * [`udp`], [`tcp`]: how they travel. [`run`]: a whole run. [`report`]: what came of it.
//!
//! The wire is the node's own rings ([`reactor`](crate::reactor)): multishot receives, joined sends, a look around before a
//! sleep. Frames are made before they are needed where that can be; an answer costs a look at its header.

pub mod data;
pub mod frame;
pub mod operation;
pub mod prepare;
pub mod report;
pub mod run;
pub mod tcp;
pub mod udp;
pub mod window;
