//! What comes of a granted knock: a door, a script, or what the daemon does itself; and its answer.

use std::sync::Arc;

use super::Keeper;
use super::knocks::give_back;
use crate::channel::{Reply, Sent};
use crate::clock::Now;
use crate::config::resolved::{Builtin, Enabled, Remote};
use crate::config::{Config, User};
use crate::judge::{Claim, DropReason, Grant};
use crate::keeper::doors::{Doors, Knocked, released};
use crate::keeper::hooks::Webhooks;
use crate::keeper::receipts::Receipts;
use crate::keeper::report::Report;
use crate::store::StoreThread;
use crate::store::doors::DoorKey;
use crate::wire::KnockId;
use crate::wire::server_key::Piece;
use crate::work::hooks::Outcome;
use crate::work::{About, Happened, Job, Whose};

impl Keeper {
    pub(super) fn granted(&mut self, now: Now, grant: Grant) {
        let standing = self.confirmed(now, &grant);
        let Keeper { receipts, doors, store, report, config, .. } = self;
        let told = Webhooks::of(now, &grant, config);
        let Taken { job, reply, outcome, remote, enrol } =
            take(now, grant, receipts, doors, store, report, config);
        remote.into_iter().for_each(|asked| self.remote(now, asked));
        enrol.into_iter().for_each(|about| self.enrol(now, &about, standing));
        job.into_iter().for_each(|job| self.runner.start(now, job));
        self.answer(reply);
        if let (Some(facts), Some((outcome, left))) = (told, outcome) {
            self.webhooks.ended(now, facts, outcome, left);
        }
    }

    /// What happened to scripts, and what doors and webhooks want of it, until there is nothing new.
    pub(super) fn scripts(&mut self, now: Now) {
        loop {
            let start = |job| self.runner.start(now, job);
            for (about, reason) in self.doors.carry_out(now, &self.store, start, &mut self.report) {
                let replies = self.receipts.withdrawn(now, &about, reason);
                self.answer(replies);
            }
            let start = |job| self.runner.start(now, job);
            self.webhooks.carry_out(now, &self.config, &self.store, start, &self.report);
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
                self.doors.happened(now, &event, &self.store);
                let left = |about: &About| self.doors.left(now, &DoorKey::of(about), &about.user.name);
                self.webhooks.happened(now, &event, &self.config, left);
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

/// What comes of a granted knock at once.
#[derive(Default)]
pub(super) struct Taken {
    /// What is to be started for it; for a door that may come later.
    pub(super) job: Option<Job>,
    /// What is answered.
    pub(super) reply: Option<Reply>,
    /// What is told of it if nothing runs for it, and for how many seconds its user holds a door then.
    outcome: Option<(Outcome, u32)>,
    /// What the daemon does of itself for it; it is answered when it is done.
    pub(super) remote: Option<Asked>,
    /// Whose key is to be exchanged, and with what.
    pub(super) enrol: Option<Enrolling>,
}

/// Who sends for another key.
#[derive(Debug)]
pub(super) struct Enrolling {
    pub(super) about: About,
    /// The client's half; 32 bytes, if it is one.
    pub(super) client: Vec<u8>,
}

/// What somebody asks for from afar.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) knock: KnockId,
    pub(super) user: Arc<User>,
    pub(super) what: Remote,
    /// Whom it is about, if it is about somebody.
    pub(super) argument: String,
}

/// Has it served.
pub(super) fn take(
    now: Now,
    grant: Grant,
    receipts: &mut Receipts,
    doors: &mut Doors,
    store: &StoreThread<Claim>,
    report: &mut Report,
    config: &Config,
) -> Taken {
    receipts.granted(now, &grant, config);
    let (knock, user, action) = (grant.knock, Arc::clone(&grant.user), Arc::clone(&grant.action));
    let (reply, outcome) = match (action.builtin, &action.door) {
        (None, None) => return Taken { job: Some(Job::from(grant)), ..Taken::default() },
        (Some(Builtin::Whoami), _) => {
            let about = About::from(grant);
            report.accepted(now, &about, "whoami");
            let reply = receipts.served(now, knock, 0, &whoami(&about.user, config));
            (reply, Some((Outcome::Answered, 0)))
        }
        (Some(Builtin::ServerKey), _) => {
            let piece =
                Piece::of(&config.private_key.public, grant.options.argument.as_deref().unwrap_or_default());
            let about = About::from(grant);
            match piece {
                Some(piece) => {
                    report.accepted(now, &about, "was told the server's key");
                    (receipts.handed(now, knock, piece.encode()), Some((Outcome::Answered, 0)))
                }
                None => {
                    report.refused_later(now, &about, DropReason::Options, "there is no such piece of a key");
                    (receipts.unserved(now, knock, DropReason::Options), None)
                }
            }
        }
        (Some(Builtin::Enrol), _) => {
            let client = grant.options.argument.clone().unwrap_or_default();
            let enrol = Some(Enrolling { about: About::from(grant), client });
            return Taken { enrol, ..Taken::default() };
        }
        (Some(Builtin::Remote(what)), _) => {
            let argument = String::from_utf8(grant.options.argument.clone().unwrap_or_default());
            report.accepted(now, &About::from(grant), "asked from afar");
            let asked = Asked { knock, user, what, argument: argument.unwrap_or_default() };
            return Taken { remote: Some(asked), outcome: Some((Outcome::Answered, 0)), ..Taken::default() };
        }
        (None, Some(door)) => match doors.knock(now, grant, door, store, report) {
            Knocked::Opens => (None, None),
            Knocked::Follows(key) => {
                let left = doors.left(now, &key, &user.name);
                receipts.follows(knock, key);
                (None, Some((Outcome::Held, left)))
            }
            Knocked::Holds(left) => {
                (receipts.served(now, knock, left, "it was open already"), Some((Outcome::Held, left)))
            }
            Knocked::Ended(ended) => {
                let outcome = if ended > 0 { Outcome::Released } else { Outcome::NothingToRelease };
                (receipts.served(now, knock, 0, released(ended)), Some((outcome, 0)))
            }
            Knocked::Refused(reason) => (receipts.unserved(now, knock, reason), None),
        },
    };
    Taken { reply, outcome, ..Taken::default() }
}

/// Who he is here, and what he may knock for: by the configuration of now.
fn whoami(user: &User, config: &Config) -> String {
    let actions = user.actions.iter().filter_map(|id| config.actions.get(id));
    let actions = actions.filter(|action| action.enabled == Enabled::Yes);
    let list: Vec<String> = actions.map(|action| format!("{} ({})", action.name, action.id)).collect();
    format!("{} ({}) may knock for {}", user.name, user.id, list.join(", "))
}
