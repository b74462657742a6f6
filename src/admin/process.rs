//! What the process takes of its machine, as the kernel counts it.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
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
            start_seconds: start_seconds().unwrap_or(0.0),
        }
    }

    /// How long it has been running.
    pub fn uptime(&self, unix_ms: u64) -> Duration {
        Duration::from_secs_f64((unix_ms as f64 / 1000.0 - self.start_seconds).max(0.0))
    }
}

/// When the process started: field 22 of its `stat`, in ticks since the machine did (proc_pid_stat(5)).
fn start_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name before it may have spaces; it ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(22 - 3)?.parse().ok()?;
    let ticks_a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten()?;
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let booted: u64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted as f64 + ticks as f64 / ticks_a_second as f64)
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
}
