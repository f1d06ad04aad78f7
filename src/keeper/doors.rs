//! Doors, wired: what the leases want is kept by the store, started by the runner and told to the log; what came of it
//! they hear.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::report::Report;
use super::run::knocks::give_back;
use crate::clock::Now;
use crate::config::resolved::Door;
use crate::control::status;
use crate::crash;
use crate::judge::{Claim, DropReason, Grant};
use crate::store::doors::DoorKey;
use crate::store::thread::Busy;
use crate::store::{StoreThread, Used};
use crate::work::job::About;
use crate::work::leases::{Begun, Command, Leases, Opening, Ran, Undone, Whom};
use crate::work::{Happened, How, Job, JobEvent, Whose};

/// What a knock for a door comes to.
#[derive(Debug)]
pub(super) enum Knocked {
    /// What becomes of it is heard of its job.
    Opens,
    /// It holds a door that another knock is just opening.
    Follows(DoorKey),
    /// It holds a door that is open, for so many seconds from now.
    Holds(u32),
    /// It ended so many leases: one, or none.
    Ended(usize),
    /// It is refused.
    Refused(DropReason),
}

/// The doors of the daemon.
#[derive(Debug)]
pub(super) struct Doors {
    leases: Leases,
    /// What those have used who follow a knock that is not decided.
    following: BTreeMap<DoorKey, Vec<Used>>,
}

impl Doors {
    pub(super) fn new(leases: Leases) -> Doors {
        Doors { leases, following: BTreeMap::new() }
    }

    /// A knock for a door: it opens it, holds it or ends its lease.
    pub(super) fn knock(
        &mut self,
        now: Now,
        grant: Grant,
        door: &Door,
        store: &StoreThread<Claim>,
        report: &mut Report,
    ) -> Knocked {
        if grant.options.release.is_some() {
            let about = About::from(grant);
            let ended = self.leases.release(&DoorKey::of(&about), &about.user.name);
            report.accepted(now, &about, released(ended));
            return Knocked::Ended(ended);
        }
        let opening = Opening::of(grant, door);
        let about = opening.about();
        match self.leases.begin(now, opening) {
            Begun::Opens => Knocked::Opens,
            Begun::Held => {
                report.accepted(now, &about, "held");
                let key = DoorKey::of(&about);
                if self.leases.is_open(&key) {
                    Knocked::Holds(self.left(now, &key, &about.user.name))
                } else {
                    self.following.entry(key.clone()).or_default().extend(about.used);
                    Knocked::Follows(key)
                }
            }
            Begun::Refused(reason) => {
                give_back(store, about.used);
                report.refused_later(now, &about, reason, reason.meaning());
                Knocked::Refused(reason)
            }
        }
    }

    /// For how many seconds a user still holds a door.
    pub(super) fn left(&self, now: Now, key: &DoorKey, user: &str) -> u32 {
        let left = self.leases.left(now, key, user).unwrap_or_default();
        u32::try_from(left.as_secs()).unwrap_or(u32::MAX)
    }

    /// Something happened to a script.
    pub(super) fn happened(&mut self, now: Now, event: &JobEvent, store: &StoreThread<Claim>) {
        match &event.whose {
            Whose::Knock(about) if about.action.door.is_some() => {
                if let Some(how) = ran(&event.what) {
                    crash::point("keeper-ran");
                    let key = DoorKey::of(about);
                    let following = self.following.remove(&key).unwrap_or_default();
                    if let Happened::Refused(_) = event.what {
                        following.into_iter().for_each(|used| give_back(store, Some(used)));
                    }
                    self.leases.ran(&key, how);
                }
            }
            Whose::Knock(_) | Whose::Hook(_) => {}
            Whose::Undo(undoing) => {
                if let Some(how) = undone(&event.what) {
                    crash::point("keeper-undone");
                    self.leases.undone(now, &undoing.door, how);
                }
            }
            Whose::Renewal(renewing) => {
                if let Some(how) = ran(&event.what) {
                    self.leases.renewed(now, &renewing.door, how);
                }
            }
        }
    }

    /// The store has kept a door, or not.
    pub(super) fn kept<E>(&mut self, now: Now, key: &DoorKey, result: Result<(), E>) {
        crash::point("keeper-kept");
        self.leases.kept(now, key, result);
    }

    /// Ends what has expired.
    pub(super) fn due(&mut self, now: Now) {
        self.leases.due(now);
    }

    /// When (monotonic) [`Doors::due`] has something to do.
    pub(super) fn next_deadline(&self, now: Now) -> Option<Duration> {
        self.leases.next_deadline().map(|at| now.mono.saturating_add(at.saturating_sub(now.boot)))
    }

    /// Who holds a door.
    pub(super) fn held(&self, now: Now) -> Vec<status::Lease> {
        let leases = self.leases.held().map(|(door, user, lease)| status::Lease {
            lease: lease.id.to_string(),
            user: user.to_owned(),
            action: door.action.clone(),
            from: lease.from,
            opens_for: door.source,
            left: lease.until.saturating_sub(now.boot).as_secs(),
        });
        leases.collect()
    }

    /// Doors that could not be closed.
    pub(super) fn failing(&self) -> u64 {
        self.leases.failing() as u64
    }

    /// The administrator ends leases. Returns how many.
    pub(super) fn revoke(&mut self, whom: &Whom) -> usize {
        self.leases.revoke(whom)
    }

    /// After a reload: no door begins while there are `max`, and who waits has to be permitted still.
    pub(super) fn reload(&mut self, max: usize, permits: impl Fn(&About) -> Result<(), DropReason>) {
        self.leases.set_max(max);
        self.leases.withdraw(permits);
        self.leases.renew();
    }

    /// The daemon stops.
    pub(super) fn shutdown(&mut self) {
        self.leases.shutdown();
    }

    /// Whether the daemon may end.
    pub(super) fn is_settled(&self) -> bool {
        self.leases.is_settled()
    }

    /// Does what is to be done by now; returns the knocks that are refused after all.
    pub(super) fn carry_out(
        &mut self,
        now: Now,
        store: &StoreThread<Claim>,
        mut start: impl FnMut(Job),
        report: &mut Report,
    ) -> Vec<(Arc<About>, DropReason)> {
        let mut refused = Vec::new();
        while let Some(command) = self.leases.command() {
            match command {
                Command::Keep(row) => {
                    let key = row.key.clone();
                    if let Err(Busy) = store.keep(row) {
                        self.leases.kept(now, &key, Err(Busy));
                    }
                }
                Command::Start(job) => {
                    start(job);
                    crash::point("keeper-door-started");
                }
                Command::Refuse(about, reason) => {
                    let following = self.following.remove(&DoorKey::of(&about)).unwrap_or_default();
                    following.into_iter().chain(about.used).for_each(|used| give_back(store, Some(used)));
                    report.refused_later(now, &about, reason, reason.meaning());
                    refused.push((about, reason));
                }
                Command::Tell(note) => report.lease(now, &note),
            }
        }
        refused
    }
}

/// What is said of a knock that ended so many leases.
pub(super) fn released(ended: usize) -> &'static str {
    if ended > 0 { "released" } else { "nothing to release" }
}

fn ran(what: &Happened) -> Option<Ran> {
    match what {
        Happened::Finished { how: How::Exited(0), .. } => Some(Ran::Well),
        Happened::Finished { .. } => Some(Ran::Failed),
        Happened::Refused(error) if error.reason() == DropReason::StartFailed => Some(Ran::Failed),
        Happened::Refused(_) => Some(Ran::Refused),
        Happened::Queued
        | Happened::Started
        | Happened::Line(..)
        | Happened::OutputCut
        | Happened::TimedOut
        | Happened::NotSignalled(_) => None,
    }
}

fn undone(what: &Happened) -> Option<Undone> {
    ran(what).map(|how| match how {
        Ran::Well => Undone::Well,
        Ran::Failed | Ran::Refused => Undone::Failed,
    })
}
