//! A line: one record, in the one form that it has.

use serde::Serialize;
use serde_json::{Map, Value};

use super::chain::{CHECKPOINT, Link};

/// Bytes of a line at most, its newline not counted.
pub const LINE_MAX: usize = 64 * 1024;

/// A line that was made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its record's number, from 1.
    pub seq: u64,
    /// When it was, in milliseconds since the Unix epoch.
    pub at: u64,
    /// Without a newline.
    pub text: String,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its number, from 1.
    pub seq: u64,
    /// When it was, in milliseconds since the Unix epoch.
    pub at: u64,
    /// SHA-256 of the line before it.
    pub prev: Link,
    pub(super) fields: Map<String, Value>,
}

/// Why a line is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// Not UTF-8, no JSON, no object.
    #[error("it is no JSON object")]
    Json,
    /// It says the same in another form.
    #[error("it is not in canonical form")]
    Form,
    /// One of the fields that every record has.
    #[error("its `{0}` is missing or makes no sense")]
    Field(&'static str),
    /// It has no newline at its end.
    #[error("it has no end")]
    Torn,
    /// Beyond [`LINE_MAX`].
    #[error("it is longer than 64 KiB")]
    Long,
}

impl Record {
    /// Reads a line without its newline.
    ///
    /// # Errors
    ///
    /// [`BadLine`]: the same content has no second form that is taken.
    pub fn read(line: &[u8]) -> Result<Record, BadLine> {
        if line.len() > LINE_MAX {
            return Err(BadLine::Long);
        }
        let fields: Map<String, Value> = serde_json::from_slice(line).map_err(|_| BadLine::Json)?;
        if !serde_json_canonicalizer::to_vec(&fields).is_ok_and(|form| form == line) {
            return Err(BadLine::Form);
        }
        let text = |name: &'static str| fields.get(name).and_then(Value::as_str).ok_or(BadLine::Field(name));
        let number = |name| text(name).and_then(|text| decimal(text).ok_or(BadLine::Field(name)));
        let (seq, at) = (number("seq")?, number("at")?);
        let prev = Link::parse(text("prev")?).ok_or(BadLine::Field("prev"))?;
        text("kind")?;
        if seq == 0 {
            return Err(BadLine::Field("seq"));
        }
        Ok(Record { seq, at, prev, fields })
    }

    /// What kind of event it is.
    pub fn kind(&self) -> &str {
        self.text("kind").unwrap_or_default()
    }

    /// Whether it signs what comes before it. One that is called something else does all the same.
    pub fn is_checkpoint(&self) -> bool {
        self.kind() == CHECKPOINT || self.text("signature").is_some()
    }

    /// The public key that it says it is signed with.
    pub fn signer(&self) -> Option<&str> {
        self.text("key").filter(|_| self.is_checkpoint())
    }

    /// A field that is a text.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field)?.as_str()
    }

    /// All fields, by name.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value))
    }
}

/// As Rust writes it: no sign, no zero in front.
fn decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

/// The canonical form.
#[expect(clippy::expect_used, reason = "maps of texts, numbers and nothing else have one")]
pub(super) fn canonical(record: &impl Serialize) -> String {
    serde_json_canonicalizer::to_string(record).expect("it has texts as keys and no number beyond a double's")
}
