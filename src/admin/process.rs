//! What the process takes of its machine, as the kernel counts it.

use std::fs;
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;

/// The process at this moment. What the kernel does not tell is 0.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct ProcessNumbers {
    /// Processor time of all its threads, seconds.
    pub cpu_seconds: f64,
    /// Memory it has in RAM.
    pub resident_bytes: u64,
    /// Memory it has been given.
    pub virtual_bytes: u64,
    /// Descriptors it has open.
    pub open_descriptors: u64,
    /// Descriptors it may have open.
    pub max_descriptors: u64,
    /// When it started, seconds since 1970.
    pub start_seconds: f64,
}

impl ProcessNumbers {
    /// Reads them.
    pub fn read() -> Self {
        let cpu = getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
            let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
            seconds(usage.user_time()) + seconds(usage.system_time())
        });
        let page_bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(0) as u64;
        let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let mut pages = statm.split_whitespace().map(|pages| pages.parse().unwrap_or(0));
        let (virtual_pages, resident_pages): (u64, u64) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
        Self {
            cpu_seconds: cpu,
            resident_bytes: resident_pages * page_bytes,
            virtual_bytes: virtual_pages * page_bytes,
            open_descriptors: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
            max_descriptors: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(now, _)| now),
            start_seconds: *START_SECONDS,
        }
    }

    /// How long it has been running.
    pub fn uptime(&self, unix_ms: u64) -> Duration {
        Duration::from_secs_f64((unix_ms as f64 / 1000.0 - self.start_seconds).max(0.0))
    }
}

/// When this process started, seconds since 1970. Found once: the clocks of each look would differ by a little.
static START_SECONDS: LazyLock<f64> = LazyLock::new(|| {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks_a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(0);
    let now = [ClockId::CLOCK_REALTIME, ClockId::CLOCK_BOOTTIME].map(|clock| clock_gettime(clock).map(Duration::from));
    match now {
        [Ok(unix), Ok(booted)] => start_seconds(&stat, ticks_a_second as f64, unix, booted).unwrap_or(0.0),
        _ => 0.0,
    }
});

/// When a process started: field 22 of its `stat`, in ticks since the machine did (proc_pid_stat(5)). `unix` and `booted` are
/// the time now, since 1970 and since the machine started: /proc/stat, which has both starts, is hidden from the unit.
fn start_seconds(stat: &str, ticks_a_second: f64, unix: Duration, booted: Duration) -> Option<f64> {
    // The name before it may have spaces; it ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(22 - 3)?.parse().ok()?;
    let age_seconds = booted.as_secs_f64() - ticks as f64 / ticks_a_second;
    age_seconds.is_finite().then_some(unix.as_secs_f64() - age_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_memory_time_and_descriptors() {
        let numbers = ProcessNumbers::read();
        assert!(numbers.resident_bytes > 0 && numbers.virtual_bytes >= numbers.resident_bytes, "{numbers:?}");
        assert!(numbers.open_descriptors > 2 && numbers.open_descriptors <= numbers.max_descriptors, "{numbers:?}");
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        let day = Duration::from_secs(86_400);
        assert!(numbers.start_seconds > 1e9 && numbers.uptime(now) < day, "{numbers:?}");
    }

    /// Of the process itself alone, without the rest of /proc.
    #[test]
    fn a_start_is_known_from_the_process_and_the_clocks() {
        let stat = "77 (a) b (c) S 1 1 1 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 9 0 123456 1 2 3";
        let (unix, booted) = (Duration::from_millis(1_795_309_260_500), Duration::from_secs(2000));
        assert_eq!(start_seconds(stat, 100.0, unix, booted), Some(1_795_309_260.5 - (2000.0 - 1234.56)));
        assert_eq!(start_seconds("77 (a) S 1", 100.0, unix, booted), None);
        assert_eq!(start_seconds(stat, 0.0, unix, booted), None);
        let told = [ProcessNumbers::read(), ProcessNumbers::read()].map(|numbers| numbers.start_seconds);
        assert_eq!(told[0], told[1]);
    }
}
