//! Exit status 7: what `raida serve` says where the kernel has no io_uring or does not let us. Any kernel becomes one by a
//! filter of system calls, which needs no rights and is over with the thread that has it.

use std::process::Command;
use std::thread;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// The last line on standard error, and the exit status, where `io_uring_setup` fails with this; `None` where the kernel
/// has no filters.
fn serve_where_rings_fail_with(errno: i32) -> Option<(Option<i32>, String)> {
    let architecture = std::env::consts::ARCH.try_into().expect("a processor that filters are made for");
    let calls = [(libc::SYS_io_uring_setup, Vec::new())].into();
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, SeccompAction::Errno(errno as u32), architecture);
    let filter: BpfProgram = filter.and_then(TryInto::try_into).expect("a filter");
    let limited = move || {
        // From here on for this thread, and for the process that it starts.
        apply_filter(&filter).ok()?;
        let data = tempfile::tempdir().expect("a directory");
        let mut raida = Command::new(env!("CARGO_BIN_EXE_raida"));
        let raida = raida.arg("serve").arg("--data").arg(data.path()).args(["--listen", "127.0.0.1:0"]);
        let output = raida.env_remove("RUST_LOG").output().expect("raida runs");
        let said = String::from_utf8(output.stderr).expect("text");
        Some((output.status.code(), said.lines().last().unwrap_or_default().to_owned()))
    };
    thread::spawn(limited).join().expect("the thread with the filter")
}

#[test]
fn a_kernel_without_rings_is_named_and_has_its_status() {
    let cases = [
        (libc::ENOSYS, "this kernel lacks io_uring"),
        (libc::EINVAL, "this kernel lacks io_uring single_issuer and defer_taskrun (Linux 6.1)"),
        (libc::EPERM, "this system forbids io_uring"),
        (libc::EACCES, "this system forbids io_uring"),
        (libc::ENOMEM, "ulimit -l"),
        (libc::EMFILE, "io_uring cannot be set up"),
    ];
    for (errno, expected) in cases {
        let Some((status, line)) = serve_where_rings_fail_with(errno) else {
            eprintln!("Skipped: this kernel has no filters of system calls (CONFIG_SECCOMP_FILTER).");
            return;
        };
        assert_eq!(status, Some(7), "{line}");
        assert!(line.contains(expected), "{line}");
    }
}
