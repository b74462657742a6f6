//! The only place that knows io_uring.

pub mod buffers;
pub mod mesh;
pub mod ring;
pub mod table;
