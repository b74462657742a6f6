//! Real nodes, in this process and in their own, over real sockets and a real disk.

mod command_line;
mod concurrency;
mod crash;
mod kernel;
mod net;
mod transports;
