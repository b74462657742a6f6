//! What a node tells the service manager that started it: this test is one.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use crate::program::{Node, command, minted, text};

/// How long a message may take before a test fails: far longer than any machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node that is started as systemd does, and the socket on which it speaks.
fn supervised(data: &Path, silence_max: Option<Duration>) -> (Node, UnixDatagram) {
    let path = data.with_file_name("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a patience");
    let mut raida = command(&["serve", "--data", text(data), "--listen", "127.0.0.1:0", "--shards", "2"]);
    raida.env("NOTIFY_SOCKET", &path).env_remove("WATCHDOG_PID").env_remove("WATCHDOG_USEC");
    if let Some(silence_max) = silence_max {
        raida.env("WATCHDOG_USEC", silence_max.as_micros().to_string());
    }
    let node = Node::try_start(raida).unwrap_or_else(|ended| panic!("it does not serve: {ended:?}"));
    (node, socket)
}

fn message(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 1024];
    let length = socket.recv(&mut bytes).expect("a message");
    String::from_utf8(bytes[..length].to_vec()).expect("text")
}

#[test]
fn a_node_says_that_it_serves_turns_and_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, _) = minted(folder.path());
    let (node, socket) = supervised(&data, Some(Duration::from_millis(400)));
    assert_eq!(message(&socket), "READY=1\nSTATUS=serves\n");
    for _ in 0..3 {
        assert_eq!(message(&socket), "WATCHDOG=1\n");
    }
    let ended = node.stop();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let mut last = message(&socket);
    while last == "WATCHDOG=1\n" {
        last = message(&socket);
    }
    assert_eq!(last, "STOPPING=1\nSTATUS=finishes what is in flight\n");
}

#[test]
fn without_a_watchdog_a_node_says_that_it_serves_and_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, _) = minted(folder.path());
    let (node, socket) = supervised(&data, None);
    assert_eq!(message(&socket), "READY=1\nSTATUS=serves\n");
    let ended = node.stop();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(message(&socket), "STOPPING=1\nSTATUS=finishes what is in flight\n");
}
