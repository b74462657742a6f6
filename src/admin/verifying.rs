//! Reading every page while the node serves, on a thread of its own: it waits for the disk.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime};

use crate::store::storage::Directory;
use crate::store::verify::Finding;
use crate::store::verify::online::{Online, verify_online};

use super::request::{Damage, Verified, VerifyReport};

/// What the thread and those who ask have in common.
#[derive(Default)]
struct Shared {
    state: Mutex<Verified>,
    stop: AtomicBool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Verified> {
        self.state.lock().expect("nobody panics with it")
    }
}

/// The reading of pages. Dropping it breaks it off.
pub struct Verifying {
    directory: Arc<Directory>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Verifying {
    /// Nothing is read yet.
    pub fn new(directory: Arc<Directory>) -> Self {
        Self { directory, shared: Arc::default(), thread: Mutex::default() }
    }

    /// How far it is.
    pub fn state(&self) -> Verified {
        self.shared.state().clone()
    }

    /// Begins to read. One that runs goes on instead.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start(&self, pages_per_second: u32) -> io::Result<()> {
        let mut state = self.shared.state();
        if state.running {
            return Ok(());
        }
        let (directory, shared) = (Arc::clone(&self.directory), Arc::clone(&self.shared));
        let work = move || {
            let report = read(&directory, pages_per_second, &shared);
            let mut state = shared.state();
            state.running = false;
            state.report = Some(report);
        };
        let thread = thread::Builder::new().name("verify".to_string()).spawn(work)?;
        // The one before has ended, or is about to.
        self.thread.lock().expect("nobody panics with it").replace(thread);
        state.running = true;
        state.done = 0;
        Ok(())
    }
}

impl Drop for Verifying {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.get_mut().ok().and_then(Option::take) {
            // A panic there was reported there.
            let _ = thread.join();
        }
    }
}

fn read(directory: &Directory, pages_per_second: u32, shared: &Shared) -> VerifyReport {
    let began = Instant::now();
    let result = verify_online(directory, pages_per_second, &mut |done, pages| {
        let mut state = shared.state();
        (state.done, state.pages) = (done, pages);
        !shared.stop.load(Ordering::Relaxed)
    });
    let (found, failed) = match result {
        Ok(Some(found)) => (found, None),
        Ok(None) => (Online::default(), Some("the node ends".to_string())),
        Err(error) => (Online::default(), Some(error.to_string())),
    };
    for finding in &found.findings {
        log::error!("verify: {finding}");
    }
    VerifyReport {
        ended_unix_ms: SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64),
        seconds: began.elapsed().as_secs_f64(),
        pages_read: found.pages,
        read_again: found.again,
        damaged: found.findings.into_iter().map(damage).collect(),
        failed,
    }
}

fn damage(finding: Finding) -> Damage {
    let Finding { path, offset, length, what, .. } = finding;
    Damage { path, offset, length, what }
}
