//! Real nodes, in this process and in their own, over real sockets and a real disk.

mod admin;
mod backup;
mod command_line;
mod concurrency;
mod crash;
mod damage;
mod holder;
mod kernel;
mod load;
mod logs;
mod net;
mod offline;
mod program;
mod transports;
