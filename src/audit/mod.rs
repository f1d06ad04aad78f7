//! The trail: what was decided about knocks, doors and the daemon itself, so that it cannot be changed unseen.
//!
//! In: events, the time, a key. Out: lines, each a record in canonical JSON (RFC 8785) that names the SHA-256 of the line
//! before it, some of them signed; and of such lines whether they are whole. Never: files, clocks, the log.
//!
//! # Security considerations
//!
//! Who can write the file but not read the key can change nothing that was signed, nor what comes before it. Who has the
//! key, as root of the machine has, can write another trail, but none that ends in a [`Head`] that was kept elsewhere.

mod chain;
mod event;
mod key;
mod line;
mod verify;

pub use chain::{Chain, Head, Link};
pub use event::{Door, Ended, Entry, Event, Knock, Payload};
pub use key::{AuditKey, BadAuditKey, PayloadKey, TrailKey};
pub use line::{BadLine, LINE_MAX, Line, Record};
pub use verify::{Bounds, Broken, Fault, Tail, Trust, Verified, verify};

#[cfg(test)]
mod tests;
