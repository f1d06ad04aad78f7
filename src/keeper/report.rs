//! What the daemon says: one line for each knock whose HMAC verified, one summary per interval for all the rest. And what it
//! records of the former, for the trail.
//!
//! # Security considerations
//!
//! Who captured a knock can send copies of it without end, and each of them verifies. A user's refusals therefore have
//! a small allowance of lines and records for each reason, so that many of one kind hide no other; what goes beyond is
//! counted, and told in the summary.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use log::kv::Value;
use log::{Level, Record};

use super::counts::Counts;
use super::logging;
use crate::audit::Event;
use crate::bucket::{Bucket, Taken};
use crate::channel::{self, RefusedFrom};
use crate::clock::Now;
use crate::config::{Config, User};
use crate::control::status::{Audit, Decision, Doors, Ended, Lane, Lanes, Scripts, Status, Store};
use crate::judge::{DropReason, Refusal, Verified};
use crate::sources::Sources;
use crate::wire::{Bound, UserId};
use crate::work::{About, Happened, How, JobEvent, Whose};

mod doors;
mod hooks;
mod store;
mod trail;

pub(super) use trail::Trail;

/// Counts and speaks.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) counts: Counts,
    told: Counts,
    since: Duration,
    addresses: Vec<SocketAddr>,
    lines: HashMap<(UserId, DropReason), Spoken>,
    /// What is to be recorded.
    pub(super) trail: Trail,
    /// Refusals without a line since the last summary.
    muted: u64,
    /// Where they came from, before they were authentic.
    sources: Sources,
    /// For lines that name one.
    named: Bucket,
    /// Since when (monotonic) each lane has more than it can take.
    loaded: Lanes<Option<Duration>>,
    drops: Drops,
    /// Of knocks whose HMAC verified, the latest last.
    latest: VecDeque<Decision>,
    /// Scripts that ended, by their action's name.
    ended: BTreeMap<String, Ended>,
    undo_failed: u64,
    /// What is wrong with the store.
    store: Option<String>,
    /// Claims that it remembered when it last forgot some.
    claims: Option<u64>,
    audit: Audit,
}

/// Of one user's refusals for one reason.
#[derive(Debug)]
struct Spoken {
    allowance: Bucket,
    user: String,
    /// Without a line and a record since the last summary.
    muted: u64,
}

/// Datagrams that the kernel dropped.
#[derive(Clone, Copy, Debug, Default)]
struct Drops {
    /// As it last said, modulo 2^32.
    said: u32,
    all: u64,
    /// When the last summary was written.
    told: u64,
}

impl Report {
    /// Nothing has happened yet.
    pub(super) fn new(now: Now, addresses: Vec<SocketAddr>, trail: Trail, audit: Audit) -> Report {
        Report {
            counts: Counts::ZERO,
            told: Counts::ZERO,
            since: now.mono,
            addresses,
            lines: HashMap::new(),
            trail,
            muted: 0,
            sources: Sources::default(),
            named: Bucket::default(),
            loaded: Lanes::default(),
            drops: Drops::default(),
            latest: VecDeque::new(),
            ended: BTreeMap::new(),
            undo_failed: 0,
            store: None,
            claims: None,
            audit,
        }
    }

    /// What it has counted, in an administrator's words.
    pub(super) fn picture(&self, now: Now) -> Status {
        let (opened, waiting) = (self.counts.all_opened(), self.counts.lanes());
        let lane = |opened, load: channel::Load, since: Option<Duration>| Lane {
            opened,
            waiting: load.waiting.into(),
            short_for: since.map(|since| now.mono.saturating_sub(since).as_secs()),
        };
        Status {
            at: now.unix(),
            listen: self.addresses.iter().map(SocketAddr::to_string).collect(),
            lanes: Lanes {
                plain: lane(opened.plain, waiting.plain, self.loaded.plain),
                stamped: lane(opened.stamped, waiting.stamped, self.loaded.stamped),
            },
            counts: self.counts.picture(self.drops.all),
            latest: self.latest.iter().rev().cloned().collect(),
            scripts: Scripts { running: 0, ended: self.ended.clone() },
            doors: Doors { undo_failed: self.undo_failed, ..Doors::default() },
            audit: Audit { missed: self.all_missed(), ..self.audit.clone() },
            store: Store { failing: self.store.clone(), claims: self.claims, ..Store::default() },
            ..Status::default()
        }
    }

    /// A script of this action's has ended, or is told to.
    fn ended(&mut self, action: &str, what: &Happened) {
        let count: fn(&mut Ended) -> &mut u64 = match what {
            Happened::TimedOut => |ended| &mut ended.timed_out,
            Happened::Finished { how: How::Exited(0), .. } => |ended| &mut ended.succeeded,
            Happened::Finished { .. } => |ended| &mut ended.failed,
            Happened::Queued
            | Happened::Refused(_)
            | Happened::Started
            | Happened::Line(..)
            | Happened::OutputCut
            | Happened::NotSignalled(_) => return,
        };
        let count = count(self.ended.entry(action.to_owned()).or_default());
        *count = count.saturating_add(1);
    }

    /// Datagrams are received from here on.
    pub(super) fn ready(&self, config: &Config) {
        let listen = self.listen();
        let (users, actions) = (config.users.len(), config.actions.len());
        log::info!(code = "ready", listen, users, actions, version = env!("CARGO_PKG_VERSION"); "listening");
    }

    /// Where it listens, for people.
    pub(super) fn status(&self) -> String {
        format!("listening on {}", self.listen())
    }

    /// A datagram that was refused; with a line of its own if it was authentic.
    pub(super) fn refused(&mut self, now: Now, refusal: &Refusal, config: &Config) {
        self.counts.refused(refusal.reason);
        let Some(verified) = &refusal.verified else { return };
        if !self.may_speak(now, &verified.user, refusal.reason) {
            return;
        }
        let action = trail::action(verified, config);
        self.trail.refused(now, verified, &action, refusal.reason, refusal.next);
        self.decided(Decision {
            at: now.unix(),
            knock: verified.knock.to_string(),
            user: verified.user.name.clone(),
            action: action.clone(),
            from: verified.source.ip(),
            became: refusal.reason.code().to_owned(),
        });
        let why = why(now, refusal.reason, verified);
        let mut fields = vec![
            ("code", Value::from(refusal.reason.code())),
            ("knock", Value::from_display(&verified.knock)),
            ("user", Value::from(verified.user.name.as_str())),
            ("action", Value::from(action.as_str())),
            ("from", Value::from_display(&verified.source)),
            ("bound", Value::from_display(&verified.bound)),
            ("why", Value::from(why.as_str())),
        ];
        let next = refusal.next.and_then(|next| jiff::Timestamp::from_second(next.into()).ok());
        fields.extend(next.iter().map(|next| ("next", Value::from_display(next))));
        write(Level::Warn, "knock refused", &fields);
    }

    /// What became of a granted knock.
    pub(super) fn job(&mut self, now: Now, event: &JobEvent) {
        let about = match &event.whose {
            Whose::Knock(about) => about,
            Whose::Undo(undoing) => {
                self.ended(&undoing.door.action, &event.what);
                return self.undo(now, undoing, &event.what);
            }
            Whose::Renewal(renewing) => return self.renewal(renewing, &event.what),
            // What is said of it is known where it is waited for.
            Whose::Hook(_) => return,
        };
        let (knock, user, action) = (about.knock, &about.user.name, &about.action.name);
        self.ended(action, &event.what);
        match &event.what {
            Happened::Queued => {
                log::info!(code = "queued", knock:%, user, action; "knock accepted, waits its turn")
            }
            Happened::Refused(error) => self.refused_later(now, about, error.reason(), error),
            Happened::Started => {
                self.counts.ran();
                self.trail.knock(now, about, Event::Ran);
                self.decided(decision(now, about, "ran"));
                let (from, bound) = (about.source, about.bound);
                log::info!(code = "ran", knock:%, user, action, from:%, bound:%; "knock accepted");
            }
            // A script that prints faster than the log is read must not wash out who ran what.
            Happened::Line(..) if logging::is_crowded() => logging::lose(),
            Happened::Line(stream, text) => {
                log::info!(code = "output", knock:%, action, stream:%, text; "script output");
            }
            Happened::OutputCut => {
                log::warn!(code = "output-cut", knock:%, action; "script output beyond max_output is thrown away")
            }
            Happened::TimedOut => {
                log::warn!(code = "timeout", knock:%, action; "script told to end, its time is up")
            }
            Happened::NotSignalled(error) => {
                log::error!(code = "not-signalled", knock:%, action, error:%; "script could not be told to end")
            }
            Happened::Finished { how, took } => {
                let how_long = trail::ended(*how, *took);
                self.trail.knock(now, about, |knock| Event::Finished { knock, how: how_long });
                let took = format!("{}ms", took.as_millis());
                match how {
                    How::Exited(0) => {
                        log::info!(code = "finished", knock:%, user, action, rc = 0, took; "script finished")
                    }
                    How::Exited(rc) => {
                        log::warn!(code = "finished", knock:%, user, action, rc, took; "script finished")
                    }
                    How::Signaled(signal) => {
                        log::warn!(code = "finished", knock:%, user, action, signal, took; "script finished")
                    }
                    How::Lost => {
                        log::error!(code = "finished", knock:%, user, action, took; "script finished, nobody knows how")
                    }
                }
            }
        }
    }

    /// An administrator asked for something.
    pub(super) fn admin(&mut self, now: Now, name: &str, request: &str, result: &str) {
        self.trail.note(now, Event::Admin { name, request, result });
    }

    /// The listener's counts.
    pub(super) fn listener(&mut self, now: Now, counts: channel::Counts) {
        self.counts.listener(counts);
        let since = |lane: &mut Option<Duration>, short: bool| match short {
            true => drop(lane.get_or_insert(now.mono)),
            false => *lane = None,
        };
        since(&mut self.loaded.plain, counts.lanes.plain.short);
        since(&mut self.loaded.stamped, counts.lanes.stamped.short);
    }

    /// Another listener begins, and nothing waits there.
    pub(super) fn listener_gone(&mut self) {
        self.counts.listener_gone();
        self.loaded = Lanes::default();
    }

    /// How many datagrams the kernel says that it has dropped, modulo 2^32.
    pub(super) fn kernel_drops(&mut self, said: u32) {
        let more = said.wrapping_sub(self.drops.said);
        self.drops.said = said;
        self.drops.all = self.drops.all.saturating_add(more.into());
    }

    /// What became of a knock whose HMAC verified.
    fn decided(&mut self, decision: Decision) {
        if self.latest.len() >= LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back(decision);
    }

    /// Where what is not authentic came from; with a line for each while there are few, if these are wanted.
    pub(super) fn sources(&mut self, now: Now, sources: &[RefusedFrom], config: &Config) {
        for refused in sources {
            self.sources.note(*refused);
            let lines = config.log.refused_per_minute;
            let interval = MINUTE.checked_div(lines).unwrap_or(Duration::MAX);
            if lines > 0 && self.named.take_every(now, interval, lines) == Taken::Yes {
                let RefusedFrom { source, reason, count } = refused;
                // For people this has no use: the message is a name for tools to look for.
                log::warn!(code = "refused", from:% = source, reason:%, count; "siglatch_refused");
            }
        }
    }

    /// One line, if anything was refused or dropped without a line of its own since the last.
    pub(super) fn summary(&mut self, now: Now) {
        // A hostile listener counts as far as one can.
        let unspoken = |counts: &Counts| {
            let unspoken = counts.by_reason().filter(|(reason, _)| !reason.is_authentic());
            unspoken.fold(0, |sum: u64, (_, count)| sum.saturating_add(count))
        };
        self.record_muted(now);
        let dropped = self.drops.all.saturating_sub(self.drops.told);
        if unspoken(&self.counts) == unspoken(&self.told)
            && self.muted == 0
            && dropped == 0
            && self.counts.send_errors() == self.told.send_errors()
        {
            return;
        }
        let seconds = now.mono.saturating_sub(self.since).as_secs();
        let mut more = vec![("seconds", Value::from(seconds)), ("muted", self.muted.into())];
        let lanes = [("plain-short-for", self.loaded.plain), ("stamped-short-for", self.loaded.stamped)];
        more.extend(
            lanes.iter().filter_map(|(lane, since)| {
                Some((*lane, now.mono.saturating_sub((*since)?).as_secs().into()))
            }),
        );
        let unsent = self.counts.send_errors().saturating_sub(self.told.send_errors());
        if unsent > 0 {
            more.push(("send-errors", unsent.into()));
        }
        if dropped > 0 {
            more.push(("kernel-drops", dropped.into()));
        }
        let top = self.sources.top();
        if !top.is_empty() {
            more.push(("top", top.as_str().into()));
        }
        self.drops.told = self.drops.all;
        speak("summary", "refused lately", &self.counts, &self.told, &more);
        self.told = self.counts;
        self.muted = 0;
        self.since = now.mono;
    }

    /// The totals, at the end.
    pub(super) fn stopped(&self, up: Duration, restarts: u64) {
        let scripts = |count: fn(&Ended) -> u64| self.ended.values().map(count).fold(0, u64::saturating_add);
        let more = [
            ("seconds", up.as_secs()),
            ("listener-restarts", restarts),
            ("kernel-drops", self.drops.all),
            ("receive-errors", self.counts.receive_errors()),
            ("send-errors", self.counts.send_errors()),
            ("scripts-succeeded", scripts(|ended| ended.succeeded)),
            ("scripts-failed", scripts(|ended| ended.failed)),
            ("scripts-timed-out", scripts(|ended| ended.timed_out)),
            ("undo-failed", self.undo_failed),
            ("audit-seq", self.audit.seq),
            ("audit-missed", self.all_missed()),
        ];
        let more = more.map(|(name, count)| (name, Value::from(count)));
        speak("stopped", "stopped", &self.counts, &Counts::ZERO, &more);
    }

    fn listen(&self) -> String {
        self.addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(" ")
    }

    /// A knock that was granted and does nothing.
    pub(super) fn refused_later(
        &mut self,
        now: Now,
        about: &About,
        reason: DropReason,
        why: impl fmt::Display,
    ) {
        self.counts.refused(reason);
        if self.may_speak(now, &about.user, reason) {
            let reason = reason.code();
            self.trail.knock(now, about, |knock| Event::Refused { knock, reason, next: None });
            self.decided(decision(now, about, reason));
            log::warn!(
                code = reason, knock:% = about.knock, user = about.user.name, action = about.action.name,
                from:% = about.source, bound:% = about.bound, why:%;
                "knock refused"
            );
        }
    }

    fn may_speak(&mut self, now: Now, user: &User, reason: DropReason) -> bool {
        let spoken = self.lines.entry((user.id, reason)).or_insert_with(|| Spoken {
            allowance: Bucket::default(),
            user: user.name.clone(),
            muted: 0,
        });
        let taken = spoken.allowance.take_every(now, LINE_EVERY, LINES);
        if taken == Taken::No {
            spoken.muted = spoken.muted.saturating_add(1);
            self.muted = self.muted.saturating_add(1);
        }
        taken == Taken::Yes
    }

    /// What was refused without a record each is recorded as one.
    pub(super) fn record_muted(&mut self, now: Now) {
        for ((_, reason), Spoken { user, muted, .. }) in &mut self.lines {
            let (count, reason) = (std::mem::take(muted), reason.code());
            if count > 0 {
                self.trail.note(now, Event::RefusedMore { user, reason, count });
            }
        }
    }
}

fn decision(now: Now, about: &About, became: &str) -> Decision {
    Decision {
        at: now.unix(),
        knock: about.knock.to_string(),
        user: about.user.name.clone(),
        action: about.action.name.clone(),
        from: about.source.ip(),
        became: became.to_owned(),
    }
}

/// One line with what came between two counts: received, ran, and each reason that counted anything.
fn speak(
    code: &'static str,
    message: &'static str,
    counts: &Counts,
    told: &Counts,
    more: &[(&str, Value<'_>)],
) {
    let between = |now: u64, then: u64| now.saturating_sub(then);
    let mut fields = vec![("code", Value::from(code))];
    fields.extend(more.iter().cloned());
    fields.push(("received", between(counts.received(), told.received()).into()));
    fields.push(("ran", between(counts.all_ran(), told.all_ran()).into()));
    for ((reason, now), (_, then)) in counts.by_reason().zip(told.by_reason()) {
        if now > then {
            fields.push((reason.code(), between(now, then).into()));
        }
    }
    write(Level::Info, message, &fields);
}

/// A line whose fields are not known beforehand.
fn write(level: Level, message: &str, fields: &[(&str, Value<'_>)]) {
    if level > log::max_level() {
        return;
    }
    log::logger().log(
        &Record::builder()
            .args(format_args!("{message}"))
            .level(level)
            .target(module_path!())
            .module_path_static(Some(module_path!()))
            .key_values(&fields)
            .build(),
    );
}

/// What the sender or the administrator may want to look at.
fn why(now: Now, reason: DropReason, verified: &Verified) -> String {
    if reason == DropReason::Binding && verified.bound == Bound::None {
        return "bound to nothing, as siglatch v1 clients knock, and `bind` asks for more".to_owned();
    }
    if !matches!(reason, DropReason::Stale | DropReason::Ahead) {
        return reason.meaning().to_owned();
    }
    let (now, sent) = (now.unix(), u64::from(verified.nonce.timestamp));
    let side = if sent < now { "behind" } else { "ahead" };
    format!("the sender's clock is {} s {side}", now.abs_diff(sent))
}

/// Decisions that are shown.
const LATEST: usize = 20;

/// Lines that a user's refusals for one reason may take at once.
const LINES: u32 = 20;

/// For what is said so often a minute.
const MINUTE: Duration = Duration::from_secs(60);

/// And one more each.
const LINE_EVERY: Duration = Duration::from_secs(10);
