//! Users who exchange their keys: what the store keeps of it, what they are told, and the alarm.

use super::Keeper;
use super::granted::Enrolling;
use crate::audit::{Event, Knock};
use crate::clock::Now;
use crate::judge::{DropReason, Grant};
use crate::keeper::exchange::{Begun, Kept};
use crate::store::keys::KeyRow;
use crate::store::thread::{Busy, NotRecorded};
use crate::wire::enrol::EnrolPublic;
use crate::work::About;

/// Under which key somebody knocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The one that he has had.
    Old,
    /// The one that this client sent for, for the first time.
    New(EnrolPublic),
}

impl Keeper {
    /// With the first knock under a new key the old one ends.
    pub(super) fn confirmed(&mut self, now: Now, grant: &Grant) -> Standing {
        let Some((client, row)) = self.exchanges.confirm(now, &grant.user) else { return Standing::Old };
        self.keep_key(now, row);
        let (user, action) = (&grant.user.name, &grant.action.name);
        let (id, from, bound) = (grant.knock, grant.source.ip(), grant.bound.name());
        self.report.trail.note(now, Event::KeyExchanged(Knock { id, user, action, from, bound }));
        log::info!(
            code = "key-exchanged", knock:% = id, user, from:%;
            "the user's new key is in force, the old one is not"
        );
        self.swap(now);
        Standing::New(client)
    }

    /// Somebody sends for another key.
    pub(super) fn enrol(&mut self, now: Now, enrolling: &Enrolling, standing: Standing) {
        let Enrolling { about, client } = enrolling;
        let knock = about.knock;
        let client = <[u8; 32]>::try_from(client.as_slice()).map(EnrolPublic).ok();
        match standing {
            Standing::New(before) if client == Some(before) => {
                self.report.accepted(now, about, "knocked under its new key");
                if self.exchanges.is_known(about.user.id, knock) {
                    self.tell(now, knock, DONE);
                }
                return;
            }
            // Another exchange, for which there is no leave: the one before has ended with this knock.
            Standing::New(_) => {
                let reason = DropReason::KeyExchange;
                self.report.refused_later(now, about, reason, reason.meaning());
                let reply = self.receipts.unserved(now, knock, reason);
                return self.answer(reply);
            }
            Standing::Old => {}
        }
        let begun = client.map_or(Begun::Useless, |client| self.exchanges.begin(&about.user, client, knock));
        match begun {
            Begun::Keep(row) => {
                self.report.accepted(now, about, "sent for another key");
                self.keep_key(now, row);
            }
            Begun::Waits => self.report.accepted(now, about, "sent for another key"),
            Begun::Again => {
                self.report.accepted(now, about, "sent for another key");
                self.tell(now, knock, KEPT);
            }
            Begun::Taken => self.contested(now, about),
            Begun::Useless => {
                self.report.refused_later(now, about, DropReason::Options, "this is no public key");
                let reply = self.receipts.unserved(now, knock, DropReason::Options);
                self.answer(reply);
            }
        }
    }

    /// What the store could not keep when a new key came into force.
    pub(super) fn keep_again(&mut self, now: Now) {
        for row in self.exchanges.unkept() {
            self.keep_key(now, row);
        }
    }

    fn keep_key(&mut self, now: Now, row: KeyRow) {
        if let Err(Busy) = self.store.keep_key(row.clone()) {
            self.key_kept(now, &row, Err(NotRecorded));
        }
    }

    /// The store has kept a key, or has not.
    pub(super) fn key_kept(&mut self, now: Now, row: &KeyRow, result: Result<(), NotRecorded>) {
        let knocks = match self.exchanges.kept(row, result) {
            Kept::Pending(knocks) => knocks,
            Kept::InForce(knocks) => return knocks.into_iter().for_each(|knock| self.tell(now, knock, DONE)),
        };
        if !knocks.is_empty() {
            self.swap(now);
        }
        for knock in knocks {
            match result {
                Ok(()) => self.tell(now, knock, KEPT),
                Err(NotRecorded) => {
                    let reply = self.receipts.unserved(now, knock, DropReason::StoreFailed);
                    self.answer(reply);
                }
            }
        }
    }

    /// Two have one key, and it is not known which of them is the user.
    fn contested(&mut self, now: Now, about: &About) {
        let reason = DropReason::KeyTaken;
        self.report.refused_later(now, about, reason, reason.meaning());
        let user = &about.user.name;
        // Once: who tries it again and again fills no log.
        if self.exchanges.contested.insert(user.clone()) {
            log::error!(
                code = "key-contested", knock:% = about.knock, user, from:% = about.source;
                "somebody else has sent for this user's new key before: end both, siglatchctl key revoke user"
            );
        }
        let reply = self.receipts.unserved(now, about.knock, reason);
        self.answer(reply);
    }
}

/// What the client is told.
const KEPT: &str = "the new key is kept; knock under it, and the old one ends";
const DONE: &str = "the new key is in force, the old one is not";
