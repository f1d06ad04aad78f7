//! Log lines: to standard error, as text for people or as JSON for machines.
//!
//! A line is a message for people, a stable code for machines, and fields. `RUST_LOG` overrides the configured level.
//!
//! # Security considerations
//!
//! A value with white space, quotes or anything that a terminal or a log reader could take for something else is quoted
//! and escaped here, whoever wrote it, so that one event is one line.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use env_logger::{Builder, Target};
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Record};

use crate::clock;
use crate::config::resolved::{Log, LogFormat};

/// Starts logging; once.
///
/// # Errors
///
/// No thread can be started.
pub(super) fn start(log: Log) -> io::Result<()> {
    let (sender, lines) = sync_channel(LINES);
    let writer = move || write_lines(&lines, log.format);
    std::thread::Builder::new().name("log".to_owned()).spawn(writer)?;
    let sender = WRITER.get_or_init(|| sender).clone();

    let mut builder = Builder::new();
    builder.target(Target::Pipe(Box::new(Lines(sender))));
    match std::env::var("RUST_LOG") {
        Ok(filters) => builder.parse_filters(&filters),
        Err(_) => builder.filter_module("siglatch", LevelFilter::Trace),
    };
    builder.format(move |out, record| out.write_all(line(log.format, record).as_bytes()));
    builder.init();
    level(log.level);
    Ok(())
}

/// Waits until what was said is written, but not long: nobody may be reading.
pub(super) fn finish() {
    let Some(writer) = WRITER.get() else { return };
    let (done, written) = sync_channel(1);
    if writer.try_send(Message::Tell(done)).is_ok() {
        match written.recv_timeout(PATIENCE) {
            // Not written in time: whoever reads has stopped reading.
            Ok(()) | Err(_) => {}
        }
    }
}

/// Whether what can be missed must be, so that there is room for what nobody may wash out of the log.
pub(super) fn is_crowded() -> bool {
    WAITING.load(Ordering::Relaxed) >= LINES / 2
}

/// A line that was not worth its room; the next line that is written tells how many.
pub(super) fn lose() {
    LOST.fetch_add(1, Ordering::Relaxed);
}

/// Changes the configured level.
pub(super) fn level(level: LevelFilter) {
    if std::env::var_os("RUST_LOG").is_none() {
        log::set_max_level(level);
    }
}

/// Standard error, written by a thread of its own: a reader that has stopped reading holds up no knock.
struct Lines(SyncSender<Message>);

enum Message {
    /// To be written.
    Line(Vec<u8>),
    /// To be answered when all before it is written.
    Tell(SyncSender<()>),
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Counted first: the writer must not take off what is not on it yet.
        WAITING.fetch_add(1, Ordering::Relaxed);
        if self.0.try_send(Message::Line(line.to_vec())).is_err() {
            WAITING.fetch_sub(1, Ordering::Relaxed);
            lose();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_lines(lines: &Receiver<Message>, format: LogFormat) {
    while let Ok(message) = lines.recv() {
        match message {
            // A closed standard error takes the words, not the daemon.
            Message::Line(line) => {
                drop(io::stderr().write_all(&line));
                WAITING.fetch_sub(1, Ordering::Relaxed);
            }
            Message::Tell(done) => drop(done.try_send(())),
        }
        let lost = LOST.swap(0, Ordering::Relaxed);
        if lost > 0 {
            drop(io::stderr().write_all(lost_line(format, lost).as_bytes()));
        }
    }
}

fn lost_line(format: LogFormat, lost: u64) -> String {
    let fields = [("code", Value::from("log-lost")), ("lost", Value::from(lost))];
    let args = format_args!("nobody read the log, lines are lost");
    line(format, &Record::builder().level(Level::Warn).args(args).key_values(&fields).build())
}

fn line(format: LogFormat, record: &Record<'_>) -> String {
    match format {
        LogFormat::Text => text(record),
        LogFormat::Json => json(record),
    }
}

fn text(record: &Record<'_>) -> String {
    let mut fields = Text(format!("{} {:<5} {}", time(), record.level(), record.args()));
    // Writing to a string does not fail.
    drop(record.key_values().visit(&mut fields));
    fields.0.push('\n');
    fields.0
}

fn json(record: &Record<'_>) -> String {
    let mut fields = Json(serde_json::Map::new());
    fields.put("time", time());
    fields.put("level", record.level().as_str().to_lowercase());
    fields.put("message", record.args().to_string());
    drop(record.key_values().visit(&mut fields));
    let mut line = serde_json::Value::Object(fields.0).to_string();
    line.push('\n');
    line
}

/// UTC with milliseconds; empty for a clock beyond the calendar.
fn time() -> String {
    let wall = clock::wall();
    let at = i64::try_from(wall.as_millis())
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    at.map(|at| format!("{at:.3}")).unwrap_or_default()
}

struct Text(String);

impl<'kvs> VisitSource<'kvs> for Text {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        write!(self.0, " {key}={}", Plain(&value.to_string())).map_err(|_| kv::Error::msg("no room"))
    }
}

struct Json(serde_json::Map<String, serde_json::Value>);

impl Json {
    fn put(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), serde_json::Value::String(value));
    }
}

impl<'kvs> VisitSource<'kvs> for Json {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        match value.to_u64() {
            Some(number) => {
                self.0.insert(key.to_string(), number.into());
            }
            None => self.put(key.as_str(), value.to_string()),
        }
        Ok(())
    }
}

/// As it stands where that is safe and one word, else quoted and escaped.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=');
        if !self.0.is_empty() && self.0.bytes().all(word) {
            f.write_str(self.0)
        } else {
            write!(f, "{:?}", self.0)
        }
    }
}

static WRITER: OnceLock<SyncSender<Message>> = OnceLock::new();

/// Lines thrown away since the last time that was told.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Lines that wait to be written.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Lines that may wait to be written, at most some 8 MiB.
const LINES: usize = 4096;

/// For the last lines at the end.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(format: fn(&Record<'_>) -> String, value: &str) -> String {
        let fields = [("text", value)];
        let args = format_args!("output");
        format(&Record::builder().args(args).level(Level::Info).key_values(&fields).build())
    }

    #[test]
    fn hostile_text_stays_one_line_and_one_field() {
        let hostile = "a\nINFO ran user=root \u{1b}[2J \u{202e} \" x=1";
        let text = shown(text, hostile);
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.ends_with("text=\"a\\nINFO ran user=root \\u{1b}[2J \\u{202e} \\\" x=1\"\n"), "{text}");
        let json = shown(json, hostile);
        assert_eq!(json.matches('\n').count(), 1);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["text"], hostile);
    }

    #[test]
    fn a_plain_word_needs_no_quotes() {
        assert!(shown(text, "192.0.2.1:7").ends_with(" INFO  output text=192.0.2.1:7\n"));
        assert!(shown(text, "").ends_with(" text=\"\"\n"));
    }
}
