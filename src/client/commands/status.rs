//! Group 0 from the command line: *echo*, *version*, *count coins*.

use serde_json::{Value, json};

use crate::client::Error;
use crate::wire::request::answer::Answer;
use crate::wire::request::{CommandKind, Request};

use super::{Output, Run};

impl Run<'_> {
    /// 0.0
    pub(super) async fn echo(&mut self) -> Result<Output, Error> {
        let reply = self.ask(&Request::Echo).await?;
        Ok(Output::of(CommandKind::Echo, reply.status, reply.micros, String::new(), json!({})))
    }

    /// 0.1
    pub(super) async fn version(&mut self) -> Result<Output, Error> {
        let reply = self.ask(&Request::Version).await?;
        let (text, found) = match reply.answer(&Request::Version)? {
            Answer::Version(version) => (version.to_owned(), json!({ "version": version })),
            _ => (String::new(), json!({})),
        };
        Ok(Output::of(CommandKind::Version, reply.status, reply.micros, text, found))
    }

    /// 0.3
    pub(super) async fn count_coins(&mut self) -> Result<Output, Error> {
        let reply = self.ask(&Request::CountCoins).await?;
        let (text, found) = match reply.answer(&Request::CountCoins)? {
            Answer::Counts(counts) => {
                let lines: Vec<_> = counts.iter().map(|count| format!("{:>3} {:>8}", count.den, count.coins)).collect();
                let counts: Value =
                    counts.iter().map(|count| json!({ "den": count.den, "coins": count.coins })).collect();
                (lines.join("\n"), json!({ "counts": counts }))
            }
            _ => (String::new(), json!({})),
        };
        Ok(Output::of(CommandKind::CountCoins, reply.status, reply.micros, text, found))
    }
}
