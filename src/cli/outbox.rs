//! Where lines of the log wait for standard error: a thread of its own writes them, so that a shard never waits for
//! whoever reads them, be it a journald that hangs or a pipe that nobody empties.
//!
//! Lines wait in bounded number; beyond that they are lost, and a line says how many. What waits when the program ends is
//! written first, unless nobody takes it.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};

/// Lines that wait, at most.
const WAITING_MAX: usize = 1024;
/// How long the end of the program waits for a line to be taken.
const PATIENCE: Duration = Duration::from_secs(1);

enum Item {
    Line(Vec<u8>),
    /// All before it is written.
    End(Sender<()>),
}

/// How much waits, and how much is lost.
#[derive(Default)]
struct Levels {
    waiting: AtomicUsize,
    lost: AtomicU64,
}

/// Takes whole lines, one a `write`, and never waits.
pub struct Outbox {
    items: Sender<Item>,
    levels: Arc<Levels>,
}

/// Until this is dropped lines are written; dropping it waits for those that wait.
#[must_use]
pub struct Flush(Sender<Item>);

/// Starts the thread that writes to `out`, with `lost` making the line that tells how many were lost.
///
/// # Errors
/// When the system has no thread.
pub fn start(
    out: impl Write + Send + 'static,
    lost: impl Fn(u64) -> Vec<u8> + Send + 'static,
) -> io::Result<(Outbox, Flush)> {
    let (items, taken) = mpsc::channel();
    let levels = Arc::new(Levels::default());
    let of_thread = Arc::clone(&levels);
    // Signals are for the main thread: this one would take them with their usual effect.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let started = thread::Builder::new().name("log".to_string()).spawn(move || write(&taken, out, &of_thread, &lost));
    before.thread_set_mask()?;
    started?;
    Ok((Outbox { items: items.clone(), levels }, Flush(items)))
}

fn write(items: &Receiver<Item>, mut out: impl Write, levels: &Levels, lost: &impl Fn(u64) -> Vec<u8>) {
    // A line that cannot be written is lost, and there is nobody left to tell.
    let mut put = |line: &[u8]| out.write_all(line).and_then(|()| out.flush()).unwrap_or_default();
    for item in items {
        match item {
            Item::Line(line) => {
                put(&line);
                levels.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            Item::End(written) => written.send(()).unwrap_or_default(),
        }
        match levels.lost.swap(0, Ordering::Relaxed) {
            0 => {}
            lines => put(&lost(lines)),
        }
    }
}

impl Write for Outbox {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Levels { waiting, lost } = &*self.levels;
        if waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            waiting.fetch_sub(1, Ordering::Relaxed);
            lost.fetch_add(1, Ordering::Relaxed);
        } else {
            // It fails only where the thread is no more.
            self.items.send(Item::Line(line.to_vec())).unwrap_or_default();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let (sender, written) = mpsc::channel();
        if self.0.send(Item::End(sender)).is_ok() {
            // Where the time is over nobody reads: the program ends all the same.
            written.recv_timeout(PATIENCE).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Writes into a vector, while nobody has its gate.
    #[derive(Clone, Default)]
    struct Reader {
        gate: Arc<Mutex<()>>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _open = self.gate.lock().unwrap();
            self.taken.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Reader {
        fn text(&self) -> String {
            String::from_utf8(self.taken.lock().unwrap().clone()).unwrap()
        }
    }

    fn lost(lines: u64) -> Vec<u8> {
        format!("{lines} lost\n").into_bytes()
    }

    #[test]
    fn lines_come_in_order_and_all_before_the_end() {
        let reader = Reader::default();
        let (mut outbox, flush) = start(reader.clone(), lost).unwrap();
        (0..500).for_each(|number| outbox.write_all(format!("{number}\n").as_bytes()).unwrap());
        drop(flush);
        let expected: String = (0..500).map(|number| format!("{number}\n")).collect();
        assert_eq!(reader.text(), expected);
    }

    #[test]
    fn while_nobody_reads_nobody_waits_and_what_is_lost_is_told() {
        let reader = Reader::default();
        let (mut outbox, flush) = start(reader.clone(), lost).unwrap();
        let closed = reader.gate.lock().unwrap();
        for number in 0..WAITING_MAX + 7 {
            outbox.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        drop(closed);
        drop(flush);
        let text = reader.text();
        let mut lines: Vec<&str> = text.lines().collect();
        let told = lines.iter().position(|line| line.ends_with(" lost")).expect("it is told");
        assert_eq!(lines.remove(told), "7 lost");
        let numbers: Vec<usize> = lines.iter().map(|line| line.parse().unwrap()).collect();
        assert_eq!(numbers, (0..WAITING_MAX).collect::<Vec<_>>());
    }
}
