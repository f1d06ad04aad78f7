//! A new configuration, whole, or the old one and the reasons: at SIGHUP, and when an administrator asks for it or changes settings.
//!
//! It is read on a thread of its own: a slow disk, a user database across the network or very many users hold up
//! neither a knock nor the stop.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use mio::Waker;

use super::control::Ticket;
use super::dry::{self, Dry};
use super::pending;
use crate::clock::Now;
use crate::config::change::{BadChange, Change, Taken, Takes, merge};
use crate::config::{self, Config, Loaded, Problems};
use crate::control::{How, Reply, Set, status};
use crate::wire::KnockId;

/// Reads one configuration at a time.
#[derive(Debug)]
pub(super) struct Reload {
    waker: Arc<Waker>,
    under_way: Option<(Option<Asker>, Receiver<Read>)>,
    queue: VecDeque<(Option<Asker>, Wish)>,
    state_dir: PathBuf,
    /// What was changed, and differs from what the files say.
    unsaved: Vec<Change>,
    /// What takes effect at the next start.
    pending: Vec<Change>,
    reloads: u64,
    failed: u64,
    last: Option<status::Reload>,
}

/// Who waits for what comes of it, and what the audit trail has of it.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) who: Who,
    /// Nothing, if it changes nothing.
    pub(super) act: Option<Act>,
}

/// What an administrator does.
#[derive(Clone, Debug)]
pub(super) struct Act {
    /// His name.
    pub(super) admin: String,
    pub(super) what: String,
}

/// Where the reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Somebody at the control socket.
    Control(Ticket),
    /// Somebody who knocked.
    Knock(KnockId),
}

/// What is wanted of the configuration.
#[derive(Debug)]
pub(super) enum Wish {
    /// To be read again.
    Reload,
    /// To be another one.
    Set(Set),
    /// That nothing waits for the next start.
    Discard,
    /// A datagram to be opened, by the configuration in force.
    Open(Arc<Config>, Arc<Dry>),
}

/// What a reading came to.
#[derive(Debug, Default)]
pub(super) struct Finished {
    /// What to go on with, if it is another one.
    pub(super) config: Option<Arc<Config>>,
    /// Who is told what.
    pub(super) reply: Option<(Asker, Reply)>,
    /// What came out of a datagram, and who asked.
    pub(super) opened: Option<(Asker, dry::Out)>,
}

#[derive(Debug)]
enum Read {
    Config(Result<Box<Loaded>, Problems>),
    Set(Result<Ready, String>),
    Opened(Result<dry::Out, String>),
}

/// Settings that may be changed.
#[derive(Debug)]
struct Ready {
    /// With those that are live; none: there is none of these, or nothing is to be done.
    loaded: Option<Box<Loaded>>,
    pending: Vec<Change>,
    taken: Vec<Taken>,
}

impl Reload {
    /// `waker` is called when there is something to [`finished`](Self::finished). `state_dir` holds what waits for the
    /// next start; `unsaved` is in force, and not in the files.
    pub(super) fn new(waker: Arc<Waker>, state_dir: PathBuf, unsaved: Vec<Change>) -> Reload {
        let pending = pending::read(&state_dir).unwrap_or_default();
        let (queue, under_way) = (VecDeque::new(), None);
        Reload { waker, under_way, queue, state_dir, unsaved, pending, reloads: 0, failed: 0, last: None }
    }

    /// Begins to read `path`, or does so when what is read now, which may be older than the wish, is read.
    pub(super) fn begin(&mut self, now: Now, path: PathBuf, asker: Option<Asker>, wish: Wish) {
        if self.under_way.is_some() {
            let reloads =
                |(asker, wish): &(Option<Asker>, Wish)| asker.is_none() && matches!(wish, Wish::Reload);
            if asker.is_some() || !self.queue.iter().any(reloads) {
                self.queue.push_back((asker, wish));
            }
            return;
        }
        let (sender, receiver) = channel();
        let waker = Arc::clone(&self.waker);
        let (unsaved, pending, state_dir) =
            (self.unsaved.clone(), self.pending.clone(), self.state_dir.clone());
        let read = move || {
            let read = match wish {
                Wish::Reload => Read::Config(config::load_with(&path, &unsaved).map(Box::new)),
                Wish::Set(set) => Read::Set(set_up(&path, &set, &unsaved, &pending, &state_dir)),
                Wish::Open(config, dry) => Read::Opened(dry.open(now, &config)),
                Wish::Discard => {
                    let done = pending::write(&state_dir, &[]).map_err(|failure| failure.what);
                    Read::Set(done.map(|()| Ready { loaded: None, pending: Vec::new(), taken: Vec::new() }))
                }
            };
            // Nobody listens any more when the daemon stops; the loop's next wake sees what a failed one tells.
            drop(sender.send(read));
            drop(waker.wake());
        };
        match std::thread::Builder::new().name("reload".to_owned()).spawn(read) {
            Ok(_) => self.under_way = Some((asker, receiver)),
            Err(error) => {
                log::error!(code = "reload-failed", error:%; "not reloaded, the old configuration stays: no thread");
            }
        }
    }

    /// What waited for this start is part of the files now.
    pub(super) fn taken_over(&mut self) {
        self.pending.clear();
    }

    /// Whether one is read.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// What came of the one that was read, where that is known.
    pub(super) fn finished(&mut self, now: Now, old: &Config) -> Option<Finished> {
        let (_, receiver) = self.under_way.as_ref()?;
        let read = match receiver.try_recv() {
            Ok(read) => Some(read),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => None,
        };
        let asker = self.under_way.take().and_then(|(asker, _)| asker);
        let (config, reply) = match read {
            Some(Read::Config(read)) => self.read(now, old, read),
            Some(Read::Set(ready)) => self.set(old, ready),
            Some(Read::Opened(Ok(out))) => {
                self.go_on(now, old);
                let opened = asker.map(|asker| (asker, out));
                return Some(Finished { opened, ..Finished::default() });
            }
            Some(Read::Opened(Err(why))) => (None, Reply::Failed(why)),
            None => (None, Reply::Failed("the thread that read the configuration is gone".to_owned())),
        };
        self.go_on(now, old);
        Some(Finished { config, reply: asker.map(|asker| (asker, reply)), opened: None })
    }

    fn go_on(&mut self, now: Now, old: &Config) {
        if let Some((asker, wish)) = self.queue.pop_front() {
            self.begin(now, old.path.clone(), asker, wish);
        }
    }

    /// What administrators are shown of it.
    pub(super) fn status(&self, now: Now, config: &Config) -> status::Config {
        let expired = config.users.values().filter(|user| user.is_expired(now.wall));
        let shown = |changes: &[Change]| changes.iter().map(Change::to_string).collect();
        status::Config {
            path: config.path.display().to_string(),
            users: config.users.len() as u64,
            expired: expired.map(|user| user.name.clone()).collect(),
            actions: config.actions.len() as u64,
            reloads: self.reloads,
            reloads_failed: self.failed,
            last_reload: self.last.clone(),
            unsaved: shown(&self.unsaved),
            pending: shown(&self.pending),
            banned: config.deny_from.0.iter().map(ToString::to_string).collect(),
        }
    }

    fn read(
        &mut self,
        now: Now,
        old: &Config,
        read: Result<Box<Loaded>, Problems>,
    ) -> (Option<Arc<Config>>, Reply) {
        let at = now.unix();
        match read.map_err(|problems| tell(&problems)).and_then(|loaded| accept(old, *loaded)) {
            Ok(Accepted { config, unsaved, warnings, warned }) => {
                self.unsaved = unsaved;
                self.reloads = self.reloads.saturating_add(1);
                self.last = Some(status::Reload { at, failed: None });
                let (users, actions) = (config.users.len(), config.actions.len());
                log::info!(code = "reloaded", users, actions, warnings = warned; "reloaded");
                (Some(config), Reply::Reloaded { users, actions, warnings })
            }
            Err(why) => {
                self.failed = self.failed.saturating_add(1);
                self.last = Some(status::Reload { at, failed: Some(why.clone()) });
                (None, Reply::Failed(format!("not reloaded, the old configuration stays: {why}")))
            }
        }
    }

    fn set(&mut self, old: &Config, ready: Result<Ready, String>) -> (Option<Arc<Config>>, Reply) {
        let Ready { loaded, pending, taken } = match ready {
            Ok(ready) => ready,
            Err(why) => return (None, Reply::Failed(why)),
        };
        let accepted = match loaded.map(|loaded| accept(old, *loaded)).transpose() {
            Ok(accepted) => accepted,
            Err(why) => return (None, Reply::Failed(why)),
        };
        self.pending = pending;
        let config = accepted.map(|Accepted { config, unsaved, .. }| {
            self.unsaved = unsaved;
            config
        });
        (config, Reply::Set(taken))
    }
}

/// Checks all of it; writes down what waits for a start.
fn set_up(
    path: &std::path::Path,
    set: &Set,
    unsaved: &[Change],
    pending: &[Change],
    state_dir: &std::path::Path,
) -> Result<Ready, String> {
    let taken = set.changes.iter().map(|change| Ok(Taken { change: change.clone(), takes: change.takes()? }));
    let taken = taken.collect::<Result<Vec<_>, BadChange>>().map_err(|bad| bad.to_string())?;
    let of = |takes: Takes| -> Vec<Change> {
        taken.iter().filter(|taken| taken.takes == takes).map(|taken| taken.change.clone()).collect()
    };
    let (live, waits) = (of(Takes::Live), of(Takes::AtRestart));
    let load = |changes: &[Change]| config::load_with(path, changes).map_err(|problems| problems.summary());
    let all = merge(pending, &waits);
    if !waits.is_empty() {
        load(&merge(unsaved, &merge(&all, &live)))?;
    }
    let loaded = if live.is_empty() { None } else { Some(Box::new(load(&merge(unsaved, &live))?)) };
    match set.how {
        How::Try => Ok(Ready { loaded: None, pending: pending.to_vec(), taken }),
        How::Apply => {
            if !waits.is_empty() {
                pending::write(state_dir, &all).map_err(|failure| failure.what)?;
            }
            Ok(Ready { loaded, pending: all, taken })
        }
    }
}

/// A configuration to go on with.
struct Accepted {
    config: Arc<Config>,
    unsaved: Vec<Change>,
    /// The first of them.
    warnings: Vec<String>,
    /// How many there are.
    warned: usize,
}

fn accept(old: &Config, loaded: Loaded) -> Result<Accepted, String> {
    let warnings: Vec<String> = loaded.warnings.iter().map(config::Problem::summary).collect();
    for what in &warnings {
        log::warn!(code = "config-warning", what; "the configuration has a weak spot");
    }
    let fixed = old.restart_changes(&loaded.config);
    if fixed.is_empty() {
        let Loaded { config, unsaved, warnings: all } = loaded;
        return Ok(Accepted { config: Arc::new(config), unsaved, warnings, warned: all.len() });
    }
    let restart = fixed.join(", ");
    log::error!(
        code = "reload-failed", restart;
        "not reloaded, the old configuration stays: these change at restart only"
    );
    Err(format!("{restart} changed in the files, and takes effect at a restart only"))
}

fn tell(problems: &Problems) -> String {
    for problem in problems.iter() {
        log::error!(code = "config-problem", what = problem.summary(); "the configuration has a problem");
    }
    log::error!(code = "reload-failed", problems = problems.len(); "not reloaded, the old configuration stays");
    problems.summary()
}
