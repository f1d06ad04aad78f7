//! What is said of the store, and of the audit trail that it makes.

use super::Report;
use crate::audit::Head;
use crate::store::StoreError;
use crate::store::journal::{BrokenFile, FILE};

impl Report {
    /// The store fails: knocks are refused.
    pub(in crate::keeper) fn store_failing(&mut self, error: &StoreError) {
        self.store = Some(error.what.clone());
        log::error!(code = "store-failing", what = error.what, hint = error.hint; "the store fails: knocks are refused");
    }

    /// So many claims are left in the store.
    pub(in crate::keeper) fn forgot(&mut self, left: u64) {
        self.claims = Some(left);
        log::debug!(code = "forgot", left; "claims forgotten");
    }

    /// The store works again.
    pub(in crate::keeper) fn store_recovered(&mut self, refused: u64) {
        self.store = None;
        log::info!(code = "store-recovered", refused; "the store works again");
    }

    /// The trail is on the disk up to here. Whoever keeps the line elsewhere can tell another trail from this one.
    pub(in crate::keeper) fn audit_head(&mut self, head: Head) {
        self.audit.seq = head.seq;
        self.audit.head = head.link.to_string();
        log::info!(code = "audit-head", head:%; "audit trail signed");
    }

    /// The trail's file was not as it was left.
    pub(in crate::keeper) fn audit_broken(&mut self, broken: &BrokenFile) {
        let BrokenFile { what, aside } = broken;
        let file = aside.as_ref().map_or_else(|| FILE.to_owned(), |aside| aside.display().to_string());
        self.audit.broken = Some(format!("{FILE} {what}"));
        log::error!(
            code = "audit-broken", file, what;
            "somebody else wrote to the audit file: it is made what the store holds"
        );
    }

    /// So many events have no record, for the store could not take them.
    pub(in crate::keeper) fn audit_missed(&mut self, events: u64) {
        self.audit.missed = events;
    }

    /// Events that have no record, since the start.
    pub(super) fn all_missed(&self) -> u64 {
        self.audit.missed.saturating_add(self.trail.all_missed())
    }

    /// The public key that it is signed with, in hex.
    pub(in crate::keeper) fn audit_key(&self) -> &str {
        &self.audit.public_key
    }

    /// The trail's file cannot be written.
    pub(in crate::keeper) fn audit_failing(&mut self, error: &StoreError) {
        self.audit.failing = Some(error.what.clone());
        log::error!(
            code = "audit-file-failing", what = error.what, hint = error.hint;
            "the audit file cannot be written: the store alone has the trail"
        );
    }

    /// It can.
    pub(in crate::keeper) fn audit_recovered(&mut self) {
        self.audit.failing = None;
        log::info!(code = "audit-file-recovered"; "the audit file is whole again");
    }
}
