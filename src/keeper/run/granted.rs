//! What comes of a granted knock: a door, a script, or what the daemon does itself; and its answer.

use std::sync::Arc;

use super::Keeper;
use super::knocks::give_back;
use crate::channel::{Reply, Sent};
use crate::clock::Now;
use crate::config::resolved::{Builtin, Enabled};
use crate::config::{Config, User};
use crate::judge::{Claim, Grant};
use crate::keeper::doors::{Doors, Knocked};
use crate::keeper::receipts::Receipts;
use crate::keeper::report::Report;
use crate::store::StoreThread;
use crate::work::{About, Happened, Job, Whose};

impl Keeper {
    pub(super) fn granted(&mut self, now: Now, grant: Grant) {
        let Keeper { receipts, doors, store, report, config, .. } = self;
        let (job, reply) = take(now, grant, receipts, doors, store, report, config);
        job.into_iter().for_each(|job| self.runner.start(now, job));
        self.answer(reply);
    }

    /// What happened to scripts, and what doors want of it, until there is nothing new.
    pub(super) fn scripts(&mut self, now: Now) {
        loop {
            let start = |job| self.runner.start(now, job);
            for (about, reason) in self.doors.carry_out(now, &self.store, start, &mut self.report) {
                let replies = self.receipts.withdrawn(now, &about, reason);
                self.answer(replies);
            }
            let events = self.runner.events();
            if events.is_empty() {
                return;
            }
            for event in events {
                if let (Whose::Knock(about), Happened::Refused(_)) = (&event.whose, &event.what) {
                    give_back(&self.store, about.used);
                }
                self.report.job(now, &event);
                let replies = self.receipts.job(now, &event, |door, user| self.doors.left(now, door, user));
                self.answer(replies);
                self.doors.happened(now, &event);
            }
        }
    }

    /// Has the listener send them; what it does not take is counted and forgotten.
    pub(super) fn answer(&mut self, replies: impl IntoIterator<Item = Reply>) {
        for reply in replies {
            match self.listener.reply(reply) {
                Sent::Yes => {}
                Sent::Full | Sent::Closed => self.report.counts.unsent(),
            }
        }
    }
}

/// What is to be started for it now, or what is answered now; a door does either later.
pub(super) fn take(
    now: Now,
    grant: Grant,
    receipts: &mut Receipts,
    doors: &mut Doors,
    store: &StoreThread<Claim>,
    report: &mut Report,
    config: &Config,
) -> (Option<Job>, Option<Reply>) {
    receipts.granted(now, &grant, config);
    let (knock, action) = (grant.knock, Arc::clone(&grant.action));
    let reply = match (action.builtin, &action.door) {
        (None, None) => return (Some(Job::from(grant)), None),
        (Some(Builtin::Whoami), _) => {
            let about = About::from(grant);
            report.accepted(&about, "whoami");
            receipts.served(now, knock, 0, &whoami(&about.user, config))
        }
        (None, Some(door)) => match doors.knock(now, grant, door, store, report) {
            Knocked::Opens => None,
            Knocked::Follows(key) => {
                receipts.follows(knock, key);
                None
            }
            Knocked::Holds(left) => receipts.served(now, knock, left, "it was open already"),
            Knocked::Ended(what) => receipts.served(now, knock, 0, what),
            Knocked::Refused(reason) => receipts.unserved(now, knock, reason),
        },
    };
    (None, reply)
}

/// Who he is here, and what he may knock for: by the configuration of now.
fn whoami(user: &User, config: &Config) -> String {
    let actions = user.actions.iter().filter_map(|id| config.actions.get(id));
    let actions = actions.filter(|action| action.enabled == Enabled::Yes);
    let list: Vec<String> = actions.map(|action| format!("{} ({})", action.name, action.id)).collect();
    format!("{} ({}) may knock for {}", user.name, user.id, list.join(", "))
}
