//! What the program logs, one line each on standard error: text for people and journald, or JSON for collectors.
//!
//! A line is a message and fields, such as `shard`, `peer`, `connection`, `command` and `status`; what logs decides that none is
//! a secret. Who logs never waits ([`outbox`]). Where standard error is journald's, each line begins with its priority as
//! sd-daemon(3) has it, and text leaves out the time, which journald knows. Why the process ends is an error's line of the
//! same form, whatever RUST_LOG says; nothing is left to be held up by it, so it is written at once.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::{panic, thread};

use clap::ValueEnum;
use env_logger::{Builder, Env, Target};
use log::kv::{self, Key, Value, VisitSource, VisitValue};
use log::{Level, Record};
use nix::sys::stat::fstat;
use serde_json::{Map, json};

use raida::calendar::{iso, now_ms};

use super::outbox::{self, Flush};

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum LogFormat {
    /// A message with its fields behind it
    #[default]
    Text,
    /// An object of JSON
    Json,
}

/// How the lines of this process look.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    format: LogFormat,
    /// Whether journald reads them.
    journal: bool,
}

impl Lines {
    /// Lines of a format, on standard error as it is.
    pub fn new(format: LogFormat) -> Self {
        Self { format, journal: is_journal() }
    }

    /// Logs to standard error until what is returned is dropped; RUST_LOG chooses how much (error, warn, info, debug), else
    /// `usual` does.
    ///
    /// # Errors
    /// When the system has no thread.
    pub fn start(self, usual: &str) -> io::Result<Flush> {
        let lost = move |lines| {
            let text = format!("{lines} lines of this log are lost: nobody took them");
            self.own(Level::Warn, &text, &now())
        };
        let (outbox, flush) = outbox::start(io::stderr(), lost)?;
        Builder::from_env(Env::default().default_filter_or(usual))
            .format(move |out, record| self.write(out, record, &now()))
            .target(Target::Pipe(Box::new(outbox)))
            .init();
        if self.are_for_a_program() {
            self.tell_panics();
        }
        Ok(flush)
    }

    /// Says why the process ends.
    pub fn tell_end(self, why: &str) {
        // If this fails nobody is left to be told.
        io::stderr().write_all(&self.end(why, &now())).unwrap_or_default();
    }

    /// Whether a program reads them, to which each is whole and has its level.
    fn are_for_a_program(self) -> bool {
        self.journal || self.format == LogFormat::Json
    }

    /// Has broken invariants told in one line, in place of Rust's several without a priority.
    fn tell_panics(self) {
        panic::set_hook(Box::new(move |broken| {
            let trace = Backtrace::capture();
            let trace = if trace.status() == BacktraceStatus::Captured { format!("\n{trace}") } else { String::new() };
            self.tell_end(&format!("thread {} {broken}{trace}", thread::current().name().unwrap_or("?")));
        }));
    }

    fn end(self, why: &str, time: &str) -> Vec<u8> {
        if self.are_for_a_program() {
            self.own(Level::Error, why, time)
        } else {
            format!("raida: {why}\n").into_bytes()
        }
    }

    /// A line of this module's own, without fields.
    fn own(self, level: Level, text: &str, time: &str) -> Vec<u8> {
        let (mut line, mut record) = (Vec::new(), Record::builder());
        record.level(level).target(module_path!());
        let written = self.write(&mut line, &record.args(format_args!("{text}")).build(), time);
        written.expect("memory takes a line");
        line
    }

    fn write(self, out: &mut impl Write, record: &Record<'_>, time: &str) -> io::Result<()> {
        if self.journal {
            write!(out, "<{}>", priority(record.level()))?;
        }
        match self.format {
            LogFormat::Text => {
                if !self.journal {
                    write!(out, "[{time} {:<5} {}] ", record.level(), record.target())?;
                }
                let mut fields = Text(String::new());
                record.key_values().visit(&mut fields).map_err(io::Error::other)?;
                writeln!(out, "{}{}", one_line(&record.args().to_string()), fields.0)
            }
            LogFormat::Json => {
                let mut fields = Json(Map::new());
                fields.0.insert("time".to_string(), json!(time));
                fields.0.insert("level".to_string(), json!(record.level().as_str().to_lowercase()));
                fields.0.insert("target".to_string(), json!(record.target()));
                fields.0.insert("message".to_string(), json!(record.args().to_string()));
                record.key_values().visit(&mut fields).map_err(io::Error::other)?;
                writeln!(out, "{}", serde_json::Value::Object(fields.0))
            }
        }
    }
}

/// The time, as a line begins with it.
fn now() -> String {
    iso(now_ms())
}

/// Whether standard error is journald's: JOURNAL_STREAM names its device and inode (systemd.exec(5)).
fn is_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    fstat(io::stderr()).is_ok_and(|file| named == format!("{}:{}", file.st_dev, file.st_ino))
}

/// syslog's number of a level.
const fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// A text without line ends, so that nobody can make one line look like two.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Fields as ` key=value`.
struct Text(String);

impl<'kvs> VisitSource<'kvs> for Text {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let value = one_line(&value.to_string());
        let value = if value.contains([' ', '"']) { format!("{value:?}") } else { value };
        self.0.push_str(&format!(" {key}={value}"));
        Ok(())
    }
}

/// Fields as an object.
struct Json(Map<String, serde_json::Value>);

impl<'kvs> VisitSource<'kvs> for Json {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let mut found = JsonValue(serde_json::Value::Null);
        value.visit(&mut found)?;
        self.0.insert(key.to_string(), found.0);
        Ok(())
    }
}

/// Numbers and truth stay what they are; everything else is text.
struct JsonValue(serde_json::Value);

impl<'v> VisitValue<'v> for JsonValue {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        self.0 = json!(value.to_string());
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.0 = json!(value);
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.0 = json!(value);
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.0 = json!(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: LogFormat, journal: bool) -> String {
        let fields =
            [("shard", Value::from(3u8)), ("command", Value::from("store")), ("why", Value::from("so \"it\"\nis"))];
        let mut out = Vec::new();
        let mut record = Record::builder();
        record.level(Level::Warn).target("raida::shard").key_values(&fields);
        let lines = Lines { format, journal };
        lines.write(&mut out, &record.args(format_args!("refused\nso")).build(), "NOW").unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_one_line_with_fields() {
        let told = "refused so shard=3 command=store why=\"so \\\"it\\\" is\"\n";
        assert_eq!(line(LogFormat::Text, false), format!("[NOW WARN  raida::shard] {told}"));
        assert_eq!(line(LogFormat::Text, true), format!("<4>{told}"));
    }

    #[test]
    fn json_is_an_object_on_one_line() {
        let text = line(LogFormat::Json, false);
        assert_eq!(text.matches('\n').count(), 1);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = json!({"time": "NOW", "level": "warn", "target": "raida::shard", "message": "refused\nso",
            "shard": 3, "command": "store", "why": "so \"it\"\nis"});
        assert_eq!(read, expected);
        assert!(line(LogFormat::Json, true).starts_with("<4>{"));
    }

    /// In the journal an end is an error, or whoever looks for errors would see all but the cause.
    #[test]
    fn an_end_has_the_form_of_the_lines_before_it() {
        let end = |format, journal| String::from_utf8(Lines { format, journal }.end("no room\nat all", "NOW")).unwrap();
        assert_eq!(end(LogFormat::Text, false), "raida: no room\nat all\n");
        assert_eq!(end(LogFormat::Text, true), "<3>no room at all\n");
        let object = end(LogFormat::Json, false);
        assert_eq!(object.matches('\n').count(), 1);
        let read: serde_json::Value = serde_json::from_str(&object).unwrap();
        let expected = json!({"time": "NOW", "level": "error", "target": module_path!().strip_suffix("::tests"),
            "message": "no room\nat all"});
        assert_eq!(read, expected);
        assert_eq!(end(LogFormat::Json, true), format!("<3>{object}"));
    }
}
