//! Tells the operator of writes that were refused: one line each, and so few a second that nobody can fill the disk with them.

use crate::wire::header::RequestHeader;
use crate::wire::status::{Status, StatusClass};

use super::Shard;
use super::interface::{Now, Origin};

const SECOND_US: u64 = 1_000_000;
/// Lines of a shard in a second.
const LINES_A_SECOND: u32 = 5;

/// How much was told lately.
#[derive(Default)]
pub(super) struct Refusals {
    /// When the second began in which lines are counted.
    second_us: u64,
    lines: u32,
    /// Refusals that were not told since the last line.
    untold: u64,
}

impl Refusals {
    /// Whether one more is told, and if so, how many before it were not.
    fn tell(&mut self, now_us: u64) -> Option<u64> {
        if now_us >= self.second_us + SECOND_US {
            (self.second_us, self.lines) = (now_us, 0);
        }
        if self.lines == LINES_A_SECOND {
            self.untold += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.untold))
    }
}

impl Shard {
    /// Logs that a request was refused, if it is a write. What the node could not do, or no longer does, is a warning.
    pub(super) fn log_refusal(&mut self, origin: &Origin, header: &RequestHeader, status: Status, now: Now) {
        if !header.command.kind.writes() {
            return;
        }
        let Some(untold) = self.refusals.tell(now.monotonic_us) else { return };
        let level = match status.class() {
            StatusClass::Limited | StatusClass::Failed => log::Level::Warn,
            StatusClass::Success | StatusClass::Refused => log::Level::Info,
        };
        let transport = if origin.datagram { "udp" } else { "tcp" };
        log::log!(
            level,
            shard = self.id.0,
            peer:% = origin.peer,
            transport = transport,
            connection:% = format_args!("{:x}", origin.token),
            command = header.command.name,
            status = status.code(),
            untold = untold;
            "refused: {}", status.text()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_a_second_are_told_and_the_rest_counted() {
        let mut refusals = Refusals::default();
        let told: Vec<_> = (0..8).map(|millisecond| refusals.tell(5 * SECOND_US + millisecond * 1000)).collect();
        assert_eq!(told, [Some(0), Some(0), Some(0), Some(0), Some(0), None, None, None]);
        assert_eq!(refusals.tell(6 * SECOND_US), Some(3));
        assert_eq!(refusals.tell(6 * SECOND_US), Some(0));
    }
}
