//! What the daemon says: one line for each knock whose HMAC verified, one summary per interval for all the rest. And what it
//! records of the former, for the trail.
//!
//! # Security considerations
//!
//! Who captured a knock can send copies of it without end, and each of them verifies. A user's refusals therefore have
//! a small allowance of lines and records for each reason, so that many of one kind hide no other; what goes beyond is
//! counted, and told in the summary.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use log::kv::Value;
use log::{Level, Record};

use super::counts::Counts;
use super::reload::{Act, Asker};
use crate::audit::Event;
use crate::bucket::{Bucket, Taken};
use crate::channel::{self, RefusedFrom};
use crate::clock::Now;
use crate::config::Config;
use crate::control::Reply;
use crate::control::status::{Audit, Decision, Doors, Ended, Lane, Lanes, Scripts, Status, Store};
use crate::judge::DropReason;
use crate::sources::Sources;
use crate::wire::UserId;
use crate::work::{Happened, How};

mod doors;
mod hooks;
mod knocks;
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
    /// For lines on administrators who may not.
    refusals: Bucket,
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
            refusals: Bucket::default(),
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

    /// An administrator asked for something.
    pub(super) fn admin(&mut self, now: Now, name: &str, request: &str, result: &str) {
        self.trail.note(now, Event::Admin { name, request, result });
    }

    /// An administrator asked for something that is not for him, or too much of it. He may do so without end.
    pub(super) fn refused_admin(&mut self, now: Now, asker: &Asker, refusal: &Reply) {
        let Some(Act { admin, what }) = &asker.act else { return };
        if self.refusals.take_every(now, LINE_EVERY, LINES) == Taken::Yes {
            let why = serde_json::to_string(refusal).unwrap_or_default();
            let act: String = what.chars().take(ACT_SHOWN).collect();
            log::warn!(code = "admin-refused", admin, act, why; "an administrator is refused");
            self.admin(now, admin, &act, &why);
        }
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

/// Letters of a refused request.
const ACT_SHOWN: usize = 1000;

/// Lines that a user's refusals for one reason may take at once.
const LINES: u32 = 20;

/// For what is said so often a minute.
const MINUTE: Duration = Duration::from_secs(60);

/// And one more each.
const LINE_EVERY: Duration = Duration::from_secs(10);
