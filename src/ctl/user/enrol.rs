//! What keys are exchanged with: the server's half, made when it is wanted first.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use toml_edit::{Datetime, Value};
use zeroize::Zeroizing;

use crate::clock;
use crate::config::files::Existing;
use crate::ctl::document::Document;
use crate::ctl::{Begun, internal, random};
use crate::exit::{Exit, Failure};
use crate::wire::enrol::EnrolSecret;

/// One that is in no file yet.
pub(in crate::ctl) struct New {
    pub(super) key: EnrolSecret,
    path: PathBuf,
}

/// Sees to it that keys can be exchanged; what is new is to be written before the document is.
pub(in crate::ctl) fn ensure(document: &mut Document) -> Result<Option<New>, Failure> {
    if document.text("server_id").is_none() {
        let what = format!("{}: without a `server_id` no key can be exchanged", document.path().display());
        return Err(Failure::new(Exit::Config, what)
            .hint("write server_id = and 32 hex digits, and make new invites"));
    }
    let is_there = document.text("enrol_key").is_some();
    document.set_enrol(FILE)?;
    if is_there {
        return Ok(None);
    }
    let secret = Zeroizing::new(random()?);
    Ok(Some(New { key: EnrolSecret::new(*secret), path: document.folder().join(FILE) }))
}

impl New {
    /// Writes it.
    pub(in crate::ctl) fn write(&self, begun: &mut Begun) -> Result<(), Failure> {
        let text = Zeroizing::new(format!("{}\n", *self.key.to_hex()));
        begun.write(self.path.clone(), text.as_bytes(), 0o600, Existing::Keep)
    }
}

/// So long from now, to the second.
pub(in crate::ctl) fn until(time: Duration) -> Result<Value, Failure> {
    let end = clock::wall().saturating_add(time).as_secs();
    let end = i64::try_from(end).ok().and_then(|end| Timestamp::from_second(end).ok());
    let text = end.map(|end| end.to_string()).unwrap_or_default();
    text.parse::<Datetime>().map(Value::from).map_err(|error| internal(&error))
}

const FILE: &str = "enrol.key";
