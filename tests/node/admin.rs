//! A real node as its operator watches it: by hand, with Prometheus and promtool, and in a browser. Where one of these
//! programs is not installed, its test says so and is skipped.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::program::{Node, ends_with, field, minted, text};

/// So generous that only a hang breaks it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node with an admin address, which has answered a few requests; its admin address.
fn watched(folder: &Path) -> (Node, String) {
    let (data, wallet) = minted(folder);
    let (node, ready) = Node::serve(&data, &["--admin", "127.0.0.1:0"]);
    let to = field(&ready, "listen");
    let client = |words: &[&str]| {
        let own = ["client", words[0], "--to", to, "--wallet", text(&wallet)];
        ends_with(0, &[&own[..], &words[1..]].concat());
    };
    client(&["echo"]);
    client(&["store", "--key", "ABC-1234", "--coins", "3x0"]);
    let admin = field(&ready, "admin").to_string();
    (node, admin)
}

fn get(admin: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(admin).expect("it listens");
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").as_bytes())
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.lines().next().expect("a status").to_string(), body.to_string())
}

/// Whether a program is installed; says so where it is not.
fn installed(program: &str, option: &str) -> bool {
    let found = Command::new(program).arg(option).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        // Not by a macro, whose words the test's runner would keep to itself.
        writeln!(std::io::stderr(), "SKIPPED: {program} is not installed, so nothing was checked with it")
            .expect("stderr");
    }
    found
}

#[test]
fn a_node_tells_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let (node, admin) = watched(folder.path());
    assert_eq!(get(&admin, "/healthz"), ("HTTP/1.1 200 OK".to_string(), "serving\n".to_string()));
    assert_eq!(get(&admin, "/readyz"), ("HTTP/1.1 200 OK".to_string(), "serving\n".to_string()));
    let (_, metrics) = get(&admin, "/metrics");
    for sample in [
        "raida_requests_total{command=\"echo\",class=\"success\"} 1",
        "raida_requests_total{command=\"store\",class=\"success\"} 1",
        "raida_request_duration_seconds_count{command=\"store\"} 1",
        "raida_lockers{shard=\"0\"} 1",
        "raida_locker_coins{shard=\"0\"} 3",
        "raida_coins{denomination=\"0\"} 10",
        "raida_log_records_total{shard=\"0\"} 1",
        "raida_log_sync_duration_seconds_count 1",
        "raida_disk_failed{shard=\"0\"} 0",
    ] {
        // A mark may follow the log's batch.
        let sample =
            sample.strip_suffix(" 1").filter(|name| name.ends_with("sync_duration_seconds_count")).unwrap_or(sample);
        assert!(metrics.lines().any(|line| line.starts_with(sample)), "{sample} in {metrics}");
    }
    let (_, report) = get(&admin, "/report.json");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!((&report["state"], &report["locker_coins"]), (&"serving".into(), &3.into()));
    let ended = node.stop();
    assert!(ended.status.success(), "{ended:?}");
    assert!(TcpStream::connect(&admin).is_err(), "nobody listens any more");
}

#[test]
fn promtool_finds_nothing_to_say_of_the_metrics() {
    if !installed("promtool", "--version") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_node, admin) = watched(folder.path());
    let (_, metrics) = get(&admin, "/metrics");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was just there");
    promtool.stdin.take().expect("a pipe").write_all(metrics.as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).to_string() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
    let rules = Command::new("promtool").args(["check", "rules", "deploy/alerts.yml"]).output().expect("promtool");
    assert!(rules.status.success(), "{}", String::from_utf8_lossy(&rules.stderr));
}

#[test]
fn prometheus_scrapes_a_node() {
    if !installed("prometheus", "--version") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_node, admin) = watched(folder.path());
    let configuration = folder.path().join("prometheus.yml");
    let scrape = format!(
        "scrape_configs:\n  - job_name: raida\n    scrape_interval: 1s\n    static_configs:\n      - targets: [\"{admin}\"]\n"
    );
    std::fs::write(&configuration, scrape).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", text(&configuration)))
        .arg(format!("--storage.tsdb.path={}", text(&folder.path().join("tsdb"))))
        .arg(format!("--web.listen-address={free}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it was just there");
    let found = scraped(free, "raida_locker_coins");
    prometheus.kill().expect("it runs");
    prometheus.wait().expect("it ends");
    assert!(found.contains("\"3\""), "{found}");
}

/// What Prometheus has of a metric, as soon as it has something.
fn scraped(prometheus: SocketAddr, metric: &str) -> String {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if TcpStream::connect(prometheus).is_ok() {
            let (_, answer) = get(&prometheus.to_string(), &format!("/api/v1/query?query={metric}"));
            if answer.contains(metric) {
                return answer;
            }
        }
        thread::sleep(Duration::from_millis(200));
    }
    panic!("Prometheus has nothing of {metric}")
}

#[test]
fn the_page_shows_the_node_in_a_browser_without_an_error() {
    if !installed("chromium", "--version") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_node, admin) = watched(folder.path());
    // Two minutes of the browser's own time, which does not wait for anything but answers: the page asks 120 times, so often
    // that the node takes its numbers several times even on a fast machine.
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--window-size=390,844", "--virtual-time-budget=120000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", text(&folder.path().join("browser"))))
        .arg(format!("http://{admin}/"))
        .output()
        .expect("it was just there");
    let (page, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(page.contains("class=\"good\">serving<"), "{page}");
    assert!(page.contains("<td>store</td>") && page.contains("<polyline"), "{page}");
    let errors: Vec<_> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(errors.is_empty(), "{errors:?}");
}
