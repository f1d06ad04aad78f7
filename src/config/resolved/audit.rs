//! How the audit trail is kept.

use std::time::Duration;

use super::Webhook;

/// How the audit trail is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// How payloads are recorded.
    pub payload: AuditPayload,
    /// Records after which it is signed, whatever the time.
    pub checkpoint_records: u64,
    /// Time after which it is signed, if there are new records.
    pub checkpoint_every: Duration,
    /// Bytes of a file, after which the next one begins.
    pub rotate_size: u64,
    /// And its age.
    pub rotate_every: Duration,
    /// How long the store holds records that are in a file.
    pub keep: Duration,
    /// Where it is told how far the trail is signed.
    pub webhook: Option<Webhook>,
}

impl Audit {
    /// Where nothing is written.
    pub const DEFAULT: Audit = Audit {
        payload: AuditPayload::Hashed,
        checkpoint_records: 10_000,
        checkpoint_every: Duration::from_mins(5),
        rotate_size: 16 << 20,
        rotate_every: Duration::from_hours(30 * 24),
        keep: Duration::from_hours(7 * 24),
        webhook: None,
    };
}

/// How payloads are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditPayload {
    /// As a hash under a key of the daemon's.
    Hashed,
    /// As they are.
    Plain,
}
