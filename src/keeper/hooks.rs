//! Webhooks, wired: of what becomes of knocks the queue hears, and what it wants is kept by the store, sent by a child of
//! the runner and told to the log. The keeper itself speaks no HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::report::Report;
use crate::audit::Head;
use crate::clock::Now;
use crate::config::{Action, Config, User};
use crate::control::status;
use crate::exit::Exit;
use crate::judge::{Claim, DropReason, Grant};
use crate::store::StoreThread;
use crate::store::thread::Busy;
use crate::wire::KnockId;
use crate::work::hooks::{Command, Facts, HeadFacts, Hooks, Outcome, Sent, Told, Which};
use crate::work::{About, Happened, How, Job, JobEvent, Whose};

/// The webhooks of the daemon.
#[derive(Debug)]
pub(super) struct Webhooks {
    hooks: Hooks,
    /// Of the scripts that run: whose time was up.
    timed_out: BTreeSet<KnockId>,
    /// What senders said, the last line of each.
    said: BTreeMap<KnockId, String>,
}

impl Webhooks {
    pub(super) fn new(hooks: Hooks) -> Webhooks {
        Webhooks { hooks, timed_out: BTreeSet::new(), said: BTreeMap::new() }
    }

    /// Something happened to a script, or to a sender. `left`: for how many seconds the knock's user holds its door now.
    pub(super) fn happened(
        &mut self,
        now: Now,
        event: &JobEvent,
        config: &Config,
        left: impl Fn(&About) -> u32,
    ) {
        let about = match &event.whose {
            Whose::Knock(about) if about.action.webhook.is_some() => about,
            Whose::Hook(id) => return self.sender(now, *id, &event.what),
            Whose::Knock(_) | Whose::Undo(_) | Whose::Renewal(_) => return,
        };
        let outcome = match &event.what {
            Happened::Started => {
                self.hooks.began(Told::Knock(facts(now, about, config)));
                return;
            }
            Happened::TimedOut => {
                self.timed_out.insert(about.knock);
                return;
            }
            Happened::Finished { how, .. } => match how {
                _ if self.timed_out.remove(&about.knock) => Outcome::TimedOut,
                How::Exited(code) => Outcome::Exited { code: *code },
                How::Signaled(signal) => Outcome::Signaled { signal: *signal },
                How::Lost => Outcome::Unknown,
            },
            Happened::Refused(error) if error.reason() == DropReason::StartFailed => Outcome::NotStarted,
            Happened::Refused(_)
            | Happened::Queued
            | Happened::Line(..)
            | Happened::OutputCut
            | Happened::NotSignalled(_) => return,
        };
        let left = about.action.door.as_ref().map_or(0, |_| left(about));
        self.ended(now, facts(now, about, config), outcome, left);
    }

    /// What may be told of a knock, if somebody is to be told; its outcome is not known yet.
    pub(super) fn of(now: Now, grant: &Grant, config: &Config) -> Option<Facts> {
        grant.action.webhook.as_ref()?;
        let Grant { knock, user, action, source, opens_for, .. } = grant;
        Some(unknown(now, *knock, user, action, source.ip(), *opens_for, config))
    }

    /// The outcome of a knock is known; its user holds a door for so many seconds, or none.
    pub(super) fn ended(&mut self, now: Now, facts: Facts, outcome: Outcome, left: u32) {
        let until = (left > 0).then(|| now.unix().saturating_add(left.into()));
        self.hooks.ended(now, Told::Knock(Facts { outcome, until, ..facts }));
    }

    /// The audit trail is signed up to here, with this key.
    pub(super) fn head(&mut self, now: Now, head: Head, key: &str, config: &Config) {
        if config.audit.webhook.is_some() {
            let [id, ..] = head.link.0.as_chunks().0 else { return };
            self.hooks.ended(
                now,
                Told::Head(HeadFacts {
                    id: KnockId(*id),
                    time: now.unix(),
                    server: config.server_id.map(|id| id.to_string()),
                    head: head.to_string(),
                    key: key.to_owned(),
                }),
            );
        }
    }

    /// The store has kept a webhook, or not.
    pub(super) fn kept<E>(&mut self, now: Now, id: KnockId, result: Result<(), E>) {
        self.hooks.kept(now, id, result);
    }

    /// Sends what is due.
    pub(super) fn due(&mut self, now: Now) {
        self.hooks.due(now);
    }

    /// When (monotonic) [`Webhooks::due`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.hooks.next_deadline()
    }

    /// The administrator wants them sent now. Returns how many that are.
    pub(super) fn retry(&mut self, now: Now, which: Which) -> usize {
        self.hooks.retry(now, which)
    }

    /// The administrator wants them gone. Returns how many that were.
    pub(super) fn forget(&mut self, which: Which) -> usize {
        self.hooks.forget(which)
    }

    /// How many wait.
    pub(super) fn status(&self) -> status::Webhooks {
        let failed = self.hooks.failed();
        let pending = self.hooks.len().saturating_sub(failed);
        status::Webhooks { pending: pending as u64, failed: failed as u64 }
    }

    /// The daemon stops: it waits for no receiver.
    pub(super) fn stop(&mut self) {
        self.hooks.stop();
    }

    /// Does what is to be done by now.
    pub(super) fn carry_out(
        &mut self,
        now: Now,
        config: &Config,
        store: &StoreThread<Claim>,
        mut start: impl FnMut(Job),
        report: &Report,
    ) {
        while let Some(command) = self.hooks.command() {
            match command {
                Command::Keep(row) => {
                    let id = row.id;
                    if let Err(Busy) = store.keep_hook(row) {
                        self.hooks.kept(now, id, Err(Busy));
                    }
                }
                Command::Send(told) => match sender(now, config, &told) {
                    Ok(job) => start(job),
                    Err(why) => self.hooks.sent(now, told.id(), Sent::Never(why.to_owned())),
                },
                Command::Tell(note) => report.hook(&note),
            }
        }
    }

    /// Something happened to a sender.
    fn sender(&mut self, now: Now, id: KnockId, what: &Happened) {
        let how = match what {
            Happened::Line(_, text) => {
                self.said.insert(id, text.chars().take(WHY_MAX).collect());
                return;
            }
            Happened::Queued | Happened::Started | Happened::OutputCut | Happened::NotSignalled(_) => return,
            Happened::TimedOut => {
                self.said.insert(id, "the sender took too long".to_owned());
                return;
            }
            Happened::Refused(error) => Sent::Later(error.to_string()),
            Happened::Finished { how, .. } => {
                let said = self.said.remove(&id);
                let why = || said.unwrap_or_else(|| format!("the sender ended without a word ({how:?})"));
                match how {
                    How::Exited(0) => Sent::Well,
                    How::Exited(code) if *code == i32::from(Exit::Config.code()) => Sent::Never(why()),
                    How::Exited(_) | How::Signaled(_) | How::Lost => Sent::Later(why()),
                }
            }
        };
        self.hooks.sent(now, id, how);
    }
}

fn facts(now: Now, about: &About, config: &Config) -> Facts {
    let About { knock, user, action, source, opens_for, .. } = about;
    unknown(now, *knock, user, action, source.ip(), *opens_for, config)
}

fn unknown(
    now: Now,
    id: KnockId,
    user: &User,
    action: &Action,
    source: IpAddr,
    opens_for: IpAddr,
    config: &Config,
) -> Facts {
    Facts {
        id,
        time: now.unix(),
        server: config.server_id.map(|id| id.to_string()),
        user: user.name.clone(),
        action: action.name.clone(),
        source,
        opens_for: (opens_for != source).then_some(opens_for),
        outcome: Outcome::Unknown,
        until: None,
    }
}

/// To the receiver that its owner has now: what waits follows it to another address, and gets another key.
#[cfg(feature = "webhook")]
fn sender(now: Now, config: &Config, told: &Told) -> Result<Job, &'static str> {
    use crate::webhook::{Delivery, FLAG, Secret};
    use crate::work::hooks::AUDIT;
    use zeroize::Zeroizing;

    let webhook = match told.owner() {
        AUDIT => config.audit.webhook.as_ref(),
        name => config.actions.values().find(|action| action.name == name).and_then(|a| a.webhook.as_ref()),
    };
    let webhook = webhook.ok_or("its action has no `webhook` any more")?;
    let delivery = Delivery {
        url: webhook.url.clone(),
        id: told.id().to_string(),
        timestamp: now.unix(),
        key: Secret(webhook.key.to_hex().to_string()),
        body: told.body(),
        allow: webhook.allow.clone(),
        ca: webhook.ca.clone(),
        timeout: u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX),
    };
    let delivery = serde_json::to_vec(&delivery).map_err(|_| "it has no form in JSON")?;
    let deadline = TIMEOUT.saturating_add(MARGIN);
    Ok(Job::sender(told.id(), FLAG, Zeroizing::new(delivery), run_as(config), deadline))
}

#[cfg(not(feature = "webhook"))]
fn sender(_now: Now, _config: &Config, _told: &Told) -> Result<Job, &'static str> {
    Err("this build has no sender of webhooks")
}

/// Never root, who has no need to talk to the internet.
#[cfg(feature = "webhook")]
fn run_as(config: &Config) -> Option<crate::config::resolved::RunAs> {
    use crate::config::resolved::RunAs;

    let root = nix::unistd::geteuid().is_root();
    config.listener_user.or_else(|| root.then_some(RunAs { uid: NOBODY, gid: NOBODY }))
}

/// Where no listener's user is wanted (`sandbox = "off"`).
#[cfg(feature = "webhook")]
const NOBODY: u32 = 65_534;

/// For one attempt, from the look-up of the name to the end of the answer.
#[cfg(feature = "webhook")]
const TIMEOUT: Duration = Duration::from_secs(10);

/// For the sender to begin and to end.
#[cfg(feature = "webhook")]
const MARGIN: Duration = Duration::from_secs(5);

/// Characters of a reason.
const WHY_MAX: usize = 200;
