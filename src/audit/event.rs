//! What is recorded: docs/audit.md lists the kinds and their fields.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::chain::Link;
use super::line::canonical;
use crate::wire::KnockId;

/// An event and when it was: its line, but for what only the chain knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Since the Unix epoch, in milliseconds.
    pub(super) at: u64,
    /// With nothing between the quotes of `prev` and `seq`: no quote within a text stands there without a backslash.
    form: String,
    /// Where the hash belongs.
    prev: usize,
    /// Where the number belongs, which is behind it: the names are in order.
    seq: usize,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event<'a> {
    /// The daemon began.
    Started {
        /// Of siglatch.
        version: &'a str,
        /// Bytes behind the last whole line of the file, which were cut off: a crash came in the middle of it.
        #[serde(skip_serializing_if = "is_zero", serialize_with = "text")]
        cut: u64,
    },
    /// The daemon made itself a key.
    KeyMade {
        /// The public one, 64 hex digits.
        key: &'a str,
    },
    /// The configuration was read again.
    Reloaded {
        /// How many there are now.
        users: usize,
        /// How many there are now.
        actions: usize,
    },
    /// `audit.key` is not the one that signed the trail until now.
    KeyChanged {
        /// Its public half, in hex.
        key: &'a str,
        /// And that of the one until now.
        before: &'a str,
    },
    /// It was read again, and the one before it stays.
    ReloadFailed {
        /// Why.
        #[serde(serialize_with = "cut")]
        why: &'a str,
    },
    /// The daemon ends.
    Stopped,
    /// A nonce was claimed: if anything runs for it, it does so after this.
    Claimed {
        /// Which.
        #[serde(flatten)]
        knock: Knock<'a>,
        /// `plain` or `stamped`.
        lane: &'static str,
        /// What it carried.
        #[serde(flatten)]
        payload: Payload<'a>,
    },
    /// Its script runs.
    Ran(Knock<'a>),
    /// It was accepted, and no script runs for it.
    Accepted {
        /// Which.
        #[serde(flatten)]
        knock: Knock<'a>,
        /// What was done.
        what: &'a str,
    },
    /// It is the first under a key that its user's was exchanged for: that is in force now, and the old one is not.
    KeyExchanged(Knock<'a>),
    /// It was refused.
    Refused {
        /// Which.
        #[serde(flatten)]
        knock: Knock<'a>,
        /// The reason's code.
        reason: &'static str,
        /// When (Unix seconds) it would not have been.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<u32>,
    },
    /// As many more of a user's were refused for this, without a record each.
    RefusedMore {
        /// Whose.
        user: &'a str,
        /// The reason's code.
        reason: &'static str,
        /// How many.
        #[serde(serialize_with = "text")]
        count: u64,
    },
    /// Its script ended.
    Finished {
        /// Which.
        #[serde(flatten)]
        knock: Knock<'a>,
        /// How.
        #[serde(flatten)]
        how: Ended,
    },
    /// A lease began.
    LeaseBegan {
        /// Which.
        #[serde(flatten)]
        door: Door<'a>,
        /// For how long.
        #[serde(serialize_with = "text")]
        seconds: u64,
    },
    /// A lease goes on.
    LeaseExtended {
        /// Which.
        #[serde(flatten)]
        door: Door<'a>,
        /// For how long from now.
        #[serde(serialize_with = "text")]
        seconds: u64,
    },
    /// A lease ended.
    LeaseEnded {
        /// Which.
        #[serde(flatten)]
        door: Door<'a>,
        /// Why.
        reason: &'a str,
    },
    /// What closes a door was started.
    UndoStarted {
        /// Which.
        #[serde(flatten)]
        door: Door<'a>,
        /// Why.
        reason: &'a str,
        /// From 1.
        attempt: u32,
    },
    /// What closes a door ended.
    UndoFinished {
        /// Which.
        #[serde(flatten)]
        door: Door<'a>,
        /// How.
        #[serde(flatten)]
        how: Ended,
    },
    /// A door could not be closed.
    UndoFailed {
        /// Which.
        #[serde(flatten)]
        door: Door<'a>,
        /// Seconds until it is tried again.
        #[serde(serialize_with = "text")]
        again: u64,
    },
    /// An administrator asked for something.
    Admin {
        /// Who.
        name: &'a str,
        /// What.
        #[serde(serialize_with = "cut")]
        request: &'a str,
        /// What came of it.
        #[serde(serialize_with = "cut")]
        result: &'a str,
    },
    /// So many events before this one have no record: there was no room for them while none could be written.
    Missed {
        /// How many.
        #[serde(serialize_with = "text")]
        count: u64,
    },
}

/// A knock.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Knock<'a> {
    /// Its name in the log.
    #[serde(rename = "knock")]
    pub id: KnockId,
    /// Who knocked.
    pub user: &'a str,
    /// For what; a number where there is no such action.
    pub action: &'a str,
    /// Where from.
    pub from: IpAddr,
    /// What it was bound to.
    pub bound: &'static str,
}

/// What a knock carried behind its options; neither for one that carried nothing, or whose options could not be read.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Payload<'a> {
    /// In base64.
    #[serde(rename = "payload", skip_serializing_if = "Option::is_none")]
    pub text: Option<&'a str>,
    /// In its place: what [`PayloadKey::mac`](super::PayloadKey::mac) makes of it.
    #[serde(rename = "payload_mac", skip_serializing_if = "Option::is_none")]
    pub mac: Option<&'a str>,
}

/// A lease, and its door.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Door<'a> {
    /// The knock that began it.
    pub lease: KnockId,
    /// Who holds it.
    pub user: &'a str,
    /// Which action.
    pub action: &'a str,
    /// Whom the door is open for.
    #[serde(rename = "for")]
    pub opens_for: IpAddr,
}

/// How a script ended: with a code, by a signal, or nobody knows.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ended {
    /// Its exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rc: Option<i32>,
    /// The signal's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// From its start, in milliseconds.
    #[serde(serialize_with = "text")]
    pub took: u64,
}

impl Entry {
    /// An event at `at`, since the Unix epoch. A text that somebody chose freely is cut to 4 KiB.
    pub fn new(at: Duration, event: Event<'_>) -> Entry {
        let at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let form = canonical(&Form { at, prev: "", seq: "", event });
        let hole = |name: &str| form.find(name).map_or(form.len(), |at| at.saturating_add(name.len()));
        let (prev, seq) = (hole("\"prev\":\""), hole("\"seq\":\""));
        Entry { at, form, prev, seq }
    }

    /// Its line, as the one with this number behind the one with this hash.
    pub(super) fn line(&self, prev: Link, seq: u64) -> String {
        let part = |range| self.form.get(range).unwrap_or_default();
        let parts = [part(0..self.prev), &prev.to_string(), part(self.prev..self.seq), &seq.to_string()];
        parts.concat() + part(self.seq..self.form.len())
    }
}

/// What every record has, and the event.
#[derive(Serialize)]
struct Form<'a> {
    #[serde(serialize_with = "text")]
    at: u64,
    prev: &'static str,
    seq: &'static str,
    #[serde(flatten)]
    event: Event<'a>,
}

/// 64-bit integers are texts: not every reader of JSON has numbers of 64 bits.
fn text<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

fn cut<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    if text.len() <= TEXT_MAX {
        return serializer.serialize_str(text);
    }
    let kept = text.get(..text.floor_char_boundary(TEXT_MAX)).unwrap_or_default();
    serializer.collect_str(&format_args!("{kept}\u{2026}"))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Bytes of a text.
const TEXT_MAX: usize = 4096;
