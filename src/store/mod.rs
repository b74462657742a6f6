//! What is on disk, and nothing else: formats, and the blocking work on them at start and offline.

pub mod double_write;
pub mod layout;
