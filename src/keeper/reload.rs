//! A new configuration, whole, or the old one and the reasons: at SIGHUP, and when an administrator asks for it or changes settings.
//!
//! It is read on a thread of its own: a slow disk, a user database across the network or very many users hold up
//! neither a knock nor the stop.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use ipnet::IpNet;
use mio::Waker;

use super::control::Ticket;
use super::dry::{self, Dry};
use super::pending;
use crate::clock::Now;
use crate::config::change::{BadChange, Change, Taken, Takes, merge};
use crate::config::resolved::Enabled;
use crate::config::{self, Config, Loaded, Problems, environment};
use crate::control::{Ban, How, Reply, Set, status};
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
    /// To hear nobody from a network, or to hear it again.
    Ban(Ban),
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
    /// Why the files that were read again are not it.
    pub(super) failed: Option<String>,
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
#[derive(Debug, Default)]
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
    pub(super) fn begin(&mut self, now: Now, config: &Arc<Config>, asker: Option<Asker>, wish: Wish) {
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
        let (unsaved, pending) = (self.unsaved.clone(), self.pending.clone());
        let setup = Setup { old: Arc::clone(config), unsaved, pending, state_dir: self.state_dir.clone() };
        let read = move || {
            let read = match wish {
                Wish::Reload => {
                    Read::Config(config::load_with(&setup.old.path, &setup.unsaved).map(Box::new))
                }
                Wish::Set(set) => Read::Set(setup.set(&set)),
                Wish::Ban(ban) => Read::Set(setup.ban(&ban)),
                Wish::Open(config, dry) => Read::Opened(dry.open(now, &config)),
                Wish::Discard => {
                    let done = pending::write(&setup.state_dir, &[]).map_err(|failure| failure.what);
                    Read::Set(done.map(|()| Ready::default()))
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
        self.unsaved.clear();
    }

    /// How much this administrator waits for.
    pub(super) fn asked_by(&self, admin: &str) -> usize {
        let under_way = self.under_way.iter().map(|(asker, _)| asker);
        let askers = self.queue.iter().map(|(asker, _)| asker).chain(under_way).flatten();
        askers.filter(|asker| asker.act.as_ref().is_some_and(|act| act.admin == admin)).count()
    }

    /// Whether one is read.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// What came of the one that was read, where that is known.
    pub(super) fn finished(&mut self, now: Now, old: &Arc<Config>) -> Option<Finished> {
        let (_, receiver) = self.under_way.as_ref()?;
        let read = match receiver.try_recv() {
            Ok(read) => Some(read),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => None,
        };
        let asker = self.under_way.take().and_then(|(asker, _)| asker);
        let mut failed = None;
        let (config, reply) = match read {
            Some(Read::Config(read)) => {
                let done = self.read(now, old, read);
                failed = self.last.as_ref().and_then(|last| last.failed.clone());
                done
            }
            Some(Read::Set(ready)) => self.set(old, ready),
            Some(Read::Opened(Ok(out))) => {
                self.go_on(now, old);
                let opened = asker.map(|asker| (asker, out));
                return Some(Finished { opened, ..Finished::default() });
            }
            Some(Read::Opened(Err(why))) => (None, Reply::Failed(why)),
            None => (None, Reply::Failed("the thread that read the configuration is gone".to_owned())),
        };
        self.go_on(now, config.as_ref().unwrap_or(old));
        Some(Finished { config, failed, reply: asker.map(|asker| (asker, reply)), opened: None })
    }

    fn go_on(&mut self, now: Now, config: &Arc<Config>) {
        if let Some((asker, wish)) = self.queue.pop_front() {
            self.begin(now, config, asker, wish);
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
            Ok(Accepted { config, unsaved, mut warnings, warned }) => {
                let hides = |change| format!("{change} was set by hand, and hides what the files say");
                warnings.extend(unsaved.iter().map(hides));
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

/// What a change is made to.
struct Setup {
    /// In force.
    old: Arc<Config>,
    unsaved: Vec<Change>,
    pending: Vec<Change>,
    state_dir: PathBuf,
}

impl Setup {
    /// Checks all of it; writes down what waits for a start.
    fn set(self, set: &Set) -> Result<Ready, String> {
        let taken = set.changes.iter().map(|change| {
            let under = environment::variable(&change.key);
            Ok(Taken { change: change.clone(), takes: change.takes()?, under })
        });
        let taken = taken.collect::<Result<Vec<_>, BadChange>>().map_err(|bad| bad.to_string())?;
        let of = |takes: Takes| -> Vec<Change> {
            taken.iter().filter(|taken| taken.takes == takes).map(|taken| taken.change.clone()).collect()
        };
        let (live, waits) = (of(Takes::Live), of(Takes::AtRestart));
        let all = merge(&self.pending, &waits);
        if !waits.is_empty() {
            self.load(&merge(&all, &live))?;
        }
        let loaded = match self.live(&live) {
            Ok(loaded) => loaded,
            Err(why) if waits.is_empty() => Some(Box::new(self.patched(&live).ok_or(why)?)),
            Err(why) => return Err(why),
        };
        match set.how {
            How::Try => Ok(Ready { loaded: None, pending: self.pending, taken }),
            How::Apply => {
                if !waits.is_empty() {
                    pending::write(&self.state_dir, &all).map_err(|failure| failure.what)?;
                }
                Ok(Ready { loaded, pending: all, taken })
            }
        }
    }

    /// To the networks that the files name, with what was set by hand; if they cannot be read, to those in force.
    fn ban(self, ban: &Ban) -> Result<Ready, String> {
        let mut list = match self.load(&[]) {
            Ok(loaded) => loaded.config.deny_from.0,
            Err(_) => self.old.deny_from.0.clone(),
        };
        let (Ban::On(text) | Ban::Off(text)) = ban;
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let net = net.map_err(|_| format!("{text} is neither an address nor a network"))?.trunc();
        let before = list.len();
        list.retain(|other| *other != net);
        match ban {
            Ban::On(_) => list.push(net),
            Ban::Off(_) if list.len() == before => return Err(format!("{net} is not banned")),
            Ban::Off(_) => {}
        }
        let list: toml_edit::Array = list.iter().map(ToString::to_string).collect();
        let change = Change { key: DENY_FROM.to_owned(), value: Some(list.to_string()) };
        self.set(&Set { changes: vec![change], how: How::Apply })
    }

    fn load(&self, changes: &[Change]) -> Result<Loaded, String> {
        let changes = merge(&self.unsaved, changes);
        config::load_with(&self.old.path, &changes).map_err(|problems| problems.summary())
    }

    /// With changes that are in force at once, if there are any.
    fn live(&self, changes: &[Change]) -> Result<Option<Box<Loaded>>, String> {
        if changes.is_empty() {
            return Ok(None);
        }
        let loaded = self.load(changes)?;
        match self.old.restart_changes(&loaded.config).as_slice() {
            [] => Ok(Some(Box::new(loaded))),
            fixed => Err(waits_for_start(fixed)),
        }
    }

    /// The configuration in force with nothing but these, where files that cannot be used must not keep somebody in: `None` if
    /// they are about more than who is heard.
    fn patched(&self, changes: &[Change]) -> Option<Loaded> {
        let mut config = Config::clone(&self.old);
        changes.iter().try_for_each(|change| patch(&mut config, change))?;
        let unsaved = merge(&self.unsaved, changes);
        Some(Loaded { config, warnings: Problems::default(), unsaved })
    }
}

fn patch(config: &mut Config, change: &Change) -> Option<()> {
    let value = change.value.as_deref()?;
    if change.key == DENY_FROM {
        let list: toml_edit::Value = value.parse().ok()?;
        let nets = list.as_array()?.iter().map(|net| net.as_str()?.parse().ok());
        config.deny_from.0 = nets.collect::<Option<_>>()?;
        return Some(());
    }
    let enabled = if value.parse().ok()? { Enabled::Yes } else { Enabled::No };
    let name = change.key.strip_suffix(".enabled")?;
    if let Some(name) = name.strip_prefix("users.") {
        let user = config.users.values_mut().find(|user| user.name == name)?;
        Arc::make_mut(user).enabled = enabled;
    } else {
        let name = name.strip_prefix("actions.")?;
        let action = config.actions.values_mut().find(|action| action.name == name)?;
        Arc::make_mut(action).enabled = enabled;
    }
    Some(())
}

const DENY_FROM: &str = "deny_from";

fn waits_for_start(fixed: &[&str]) -> String {
    format!("{} changed in the files, and takes effect at a restart only", fixed.join(", "))
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
    log::error!(
        code = "reload-failed", restart = fixed.join(", ");
        "not reloaded, the old configuration stays: these change at restart only"
    );
    Err(waits_for_start(&fixed))
}

fn tell(problems: &Problems) -> String {
    for problem in problems.iter() {
        log::error!(code = "config-problem", what = problem.summary(); "the configuration has a problem");
    }
    log::error!(code = "reload-failed", problems = problems.len(); "not reloaded, the old configuration stays");
    problems.summary()
}
