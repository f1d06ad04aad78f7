//! The way of a knock through the keeper: judged, claimed in the store, judged again, run.

use super::{Keeper, Phase};
use crate::audit::Entry;
use crate::channel::{Opened, RefusedFrom};
use crate::clock::Now;
use crate::crash;
use crate::judge::{Claim, Decision, DropReason, Judge, Refusal, Verdict, Verified};
use crate::keeper::receipts::Receipts;
use crate::store::thread::{self, Busy};
use crate::store::{Outcome, StoreThread, Used};
use crate::work::Drained;

impl Keeper {
    pub(super) fn opened(&mut self, now: Now, opened: &Opened) {
        self.report.counts.opened(opened.lane);
        let intent = |claim: &Claim| {
            let intent = self.report.trail.intent(now, claim, &self.config);
            // What came before is recorded before: at the last moment, so that it is one transaction, and the claim waits for no other.
            self.report.trail.hand_over(now, &self.store);
            Some(intent)
        };
        match submit(&mut self.judge, &self.store, self.phase, now, opened, intent) {
            Ok(()) => self.claims = self.claims.saturating_add(1),
            Err(refusal) => {
                if !refusal.reason.is_authentic() {
                    let (source, reason) = (opened.source.ip(), refusal.reason);
                    self.report.sources(now, &[RefusedFrom { source, reason, count: 1 }], &self.config);
                }
                self.report.refused(now, &refusal, &self.config);
            }
        }
    }

    /// What the store has answered; starts scripts.
    pub(super) fn claimed(&mut self, now: Now) {
        self.unheard = Drained::More;
        for _ in 0..STARTS {
            match self.reply() {
                Some(thread::Reply::Claimed(claim, outcome)) => {
                    self.claims = self.claims.saturating_sub(1);
                    crash::point("keeper-claimed");
                    if outcome.is_ok_and(Outcome::is_claimed) {
                        self.moved(now, claim.verified());
                    }
                    match self.judge.claimed(now, claim, outcome.ok()) {
                        Verdict::Grant(grant) => {
                            let source = grant.source.ip();
                            self.granted(now, grant);
                            self.listener.settled(source);
                        }
                        Verdict::Refuse(refusal) => {
                            self.answer(Receipts::refused(now, &refusal, &self.config));
                            give_back(&self.store, refusal.unused);
                            self.report.refused(now, &refusal, &self.config);
                        }
                    }
                    crash::point("keeper-started");
                }
                Some(thread::Reply::Kept(key, result)) => self.doors.kept(now, &key, result),
                Some(thread::Reply::KeptHook(id, result)) => self.webhooks.kept(now, id, result),
                Some(thread::Reply::KeptKey(row, result)) => self.key_kept(now, &row, result),
                Some(thread::Reply::Forgotten(left)) => self.report.forgot(left),
                Some(thread::Reply::Failing(error)) => self.report.store_failing(&error),
                Some(thread::Reply::Recovered { refused }) => self.report.store_recovered(refused),
                Some(thread::Reply::Head(head)) => {
                    self.report.audit_head(head);
                    self.webhooks.head(now, head, self.report.audit_key(), &self.config);
                }
                Some(thread::Reply::FileFailing(error)) => self.report.audit_failing(&error),
                Some(thread::Reply::FileRecovered) => self.report.audit_recovered(),
                Some(thread::Reply::FileBroken(broken)) => self.report.audit_broken(&broken),
                Some(thread::Reply::Missed(events)) => self.report.audit_missed(events),
                None => {
                    self.unheard = Drained::All;
                    return;
                }
            }
        }
    }

    /// Under which of the server's keys he knocked; whether he may run what he knocked for is another matter.
    fn moved(&mut self, now: Now, knocked: &Verified) {
        let Some(row) = self.moving.knocked(now, knocked.user.id, knocked.under) else { return };
        // Busy: his next knock is as good.
        if self.store.keep_moved(row).is_ok() {
            self.moving.kept(row);
        }
    }

    /// The store's next reply. With nothing else to do a claim is waited for a little: it is answered in less time than it
    /// takes to be woken.
    fn reply(&self) -> Option<thread::Reply<Claim>> {
        let busy = self.claims == 0 || self.unread == Drained::More || self.runner.more() == Drained::More;
        let looks = if busy { 1 } else { LOOKS };
        (0..looks).find_map(|look| {
            if look > 0 {
                std::thread::yield_now();
            }
            self.store.try_recv()
        })
    }
}

/// Judges an opened datagram; what it claims is the store's to answer, which records `intent` with it.
pub(super) fn submit(
    judge: &mut Judge,
    store: &StoreThread<Claim>,
    phase: Phase,
    now: Now,
    opened: &Opened,
    intent: impl FnOnce(&Claim) -> Option<Entry>,
) -> Result<(), Refusal> {
    match judge.opened(now, opened) {
        // Not claimed: its sender may send it again when the daemon is back.
        Decision::Claim(claim) if phase != Phase::Serving => Err(claim.refuse(DropReason::Stopping)),
        Decision::Claim(claim) => {
            let (record, intent) = (claim.record(), intent(&claim));
            store.submit_telling(record, intent, claim).map_err(|claim| claim.refuse(DropReason::StoreBusy))
        }
        Decision::Refuse(refusal) => Err(refusal),
    }
}

/// What was counted for a knock that came to nothing after all.
pub(in crate::keeper) fn give_back(store: &StoreThread<Claim>, unused: Option<Used>) {
    match unused.map(|used| store.give_back(used)) {
        // Busy: it stays used, as after a crash.
        None | Some(Ok(()) | Err(Busy)) => {}
    }
}

/// Replies of the store per wake: each may start a script, which takes half a millisecond.
const STARTS: usize = 32;
/// For a reply of the store before the loop goes to sleep: some 120 microseconds.
const LOOKS: usize = 250;
