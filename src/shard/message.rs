//! What shards say to each other.

/// A message from one shard to another. The driver carries it and does not look inside.
#[derive(Debug)]
pub enum Message {}
