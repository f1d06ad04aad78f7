//! Log lines: to standard error, as text for people or as JSON for machines.
//!
//! A line is a message for people, a stable code for machines, and fields. `RUST_LOG` overrides the configured level.
//!
//! # Security considerations
//!
//! A value with white space, quotes or anything that a terminal or a log reader could take for something else is quoted
//! and escaped here, whoever wrote it, so that one event is one line.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use env_logger::{Builder, Target};
use log::kv::{self, Key, Value, VisitSource};
use log::{LevelFilter, Record};

use crate::clock;
use crate::config::resolved::{Log, LogFormat};

/// Starts logging; once.
pub(super) fn start(log: Log) {
    let mut builder = Builder::new();
    builder.target(Target::Stderr);
    match std::env::var("RUST_LOG") {
        Ok(filters) => builder.parse_filters(&filters),
        Err(_) => builder.filter_module("siglatch", LevelFilter::Trace),
    };
    builder.format(move |out, record| {
        let line = match log.format {
            LogFormat::Text => text(record),
            LogFormat::Json => json(record),
        };
        out.write_all(line.as_bytes())
    });
    builder.init();
    level(log.level);
}

/// Changes the configured level.
pub(super) fn level(level: LevelFilter) {
    if std::env::var_os("RUST_LOG").is_none() {
        log::set_max_level(level);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: fn(&Record<'_>) -> String, value: &str) -> String {
        let fields = [("text", value)];
        let args = format_args!("output");
        format(
            &Record::builder()
                .args(args)
                .level(log::Level::Info)
                .key_values(&fields)
                .build(),
        )
    }

    #[test]
    fn hostile_text_stays_one_line_and_one_field() {
        let hostile = "a\nINFO ran user=root \u{1b}[2J \u{202e} \" x=1";
        let text = line(text, hostile);
        assert_eq!(text.matches('\n').count(), 1);
        assert!(
            text.ends_with("text=\"a\\nINFO ran user=root \\u{1b}[2J \\u{202e} \\\" x=1\"\n"),
            "{text}"
        );
        let json = line(json, hostile);
        assert_eq!(json.matches('\n').count(), 1);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["text"], hostile);
    }

    #[test]
    fn a_plain_word_needs_no_quotes() {
        assert!(line(text, "192.0.2.1:7").ends_with(" INFO  output text=192.0.2.1:7\n"));
        assert!(line(text, "").ends_with(" text=\"\"\n"));
    }
}
