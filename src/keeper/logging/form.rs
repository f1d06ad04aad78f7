//! What a log line looks like.
//!
//! # Security considerations
//!
//! A value with white space, quotes or anything that a terminal or a log reader could take for something else is quoted
//! and escaped here, whoever wrote it, so that one event is one line.

use std::fmt::{self, Write as _};

use log::Record;
use log::kv::{self, Key, Value, VisitSource};

use super::journal;
use crate::clock;

/// Form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `TIME LEVEL message key=value ...`
    Text,
    /// One object.
    Json,
    /// One datagram of the journal's own protocol.
    Journal,
}

impl Form {
    /// All of it, its end included.
    pub(super) fn line(self, record: &Record<'_>) -> Vec<u8> {
        match self {
            Form::Text => text(record).into_bytes(),
            Form::Json => json(record).into_bytes(),
            Form::Journal => journal::entry(record),
        }
    }
}

fn text(record: &Record<'_>) -> String {
    format!("{} {:<5} {}\n", time(), record.level(), message(record))
}

/// The message with its fields behind it.
pub(super) fn message(record: &Record<'_>) -> String {
    let mut fields = Text(record.args().to_string());
    // Writing to a string does not fail.
    drop(record.key_values().visit(&mut fields));
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
    use log::Level;

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
