//! The keeper's loop.
//!
//! One wake: read the clock once; then signals and child exits, deadlines, the listener, the store, the scripts' pipes,
//! each with a budget, in this order. What a budget cut short makes the next poll return at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook_mio::v1_0::Signals;

use super::control::{self, Control};
use super::doors::Doors;
use super::exchange::Exchanges;
use super::hooks::Webhooks;
use super::listener::{Change, Listener, Readied, Said};
use super::moved::Moving;
use super::notify::{Health, Notify};
use super::receipts::Receipts;
use super::reload::{Finished, Reload, Wish};

use super::report::{Report, Trail};
use super::sockets::Origin;
use super::start::Started;
use super::{Fallen, cannot, logging};
use crate::audit::Event;
use crate::clock::{self, Clock, Now};
use crate::config::Config;
use crate::config::change;
use crate::config::resolved::AuditPayload;
use crate::exit::Failure;
use crate::judge::{Claim, Judge};
use crate::store::StoreThread;
use crate::store::thread::{self, Busy, QUEUE};
use crate::work::{About, Drained, Runner};

mod asked;
#[cfg(feature = "fuzzing")]
pub(crate) mod by_hand;
mod exchanged;
mod granted;
pub(super) mod knocks;
mod remote;
mod staged;

struct Keeper {
    config: Arc<Config>,
    clock: Clock,
    poll: Poll,
    signals: Signals,
    listener: Listener,
    origin: Origin,
    judge: Judge,
    store: StoreThread<Claim>,
    /// Claims that the store has not answered.
    claims: usize,
    runner: Runner,
    receipts: Receipts,
    doors: Doors,
    exchanges: Exchanges,
    moving: Moving,
    webhooks: Webhooks,
    /// `None` while it serves somebody.
    control: Option<Control>,
    reload: Reload,
    /// Settings that waited for this start, until they are written into the configuration.
    taken_over: (Vec<change::Change>, PathBuf),
    /// When (monotonic) it began.
    started: Duration,
    report: Report,
    notify: Notify,
    phase: Phase,
    /// Whether the listener has been heard to its end.
    unread: Drained,
    /// Whether the store has been heard to its end.
    unheard: Drained,
    summary_at: Duration,
    forget_at: Duration,
    /// When (monotonic) `status.json` is written next.
    status_at: Duration,
    /// When (monotonic) the trail is signed, if there is anything new in it.
    sign_at: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The listener may say anything.
    Serving,
    /// It was told to stop, and finishes what it has.
    Stopping,
    /// It is gone.
    Alone,
    /// A second signal: nothing is waited for.
    Hurried,
}

/// Runs until a signal ends it.
pub(super) fn run(started: Started) -> Result<(), Fallen> {
    let mut keeper = Keeper::new(started).map_err(Fallen::Early)?;
    let served = keeper.serve();
    let fallen = if keeper.listener.has_begun() { Fallen::Late } else { Fallen::Early };
    keeper.finish();
    served.map_err(fallen)
}

impl Keeper {
    fn new(started: Started) -> Result<Keeper, Failure> {
        let Started { exchanges, clock, judge, store, journal, audit, leases, hooks, sockets, .. } = started;
        let (moving, taken_over) = (started.moving, started.taken_over);
        let config = exchanges.config(clock.now());
        let io = |error: std::io::Error| cannot("start the loop", &error);
        let poll = Poll::new().map_err(io)?;
        let registry = poll.registry();
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGXFSZ]).map_err(io)?;
        registry.register(&mut signals, SIGNALS, Interest::READABLE).map_err(io)?;
        let waker = Arc::new(Waker::new(registry, THREADS).map_err(io)?);
        let state_dir = config.state_dir.clone();
        let reload = Reload::new(Arc::clone(&waker), state_dir, taken_over.0.clone());
        // A wake that fails leaves the reply to the next one.
        let wake = move || drop(waker.wake());
        let trail = Trail::new(match config.audit.payload {
            AuditPayload::Hashed => Some(journal.payload_key()),
            AuditPayload::Plain => None,
        });
        let store = StoreThread::start_telling(store, Some(journal), wall, wake).map_err(io)?;
        let runner = Runner::new(registry.try_clone().map_err(io)?, SCRIPTS, config.limits.max_jobs);
        let control = Control::open(registry.try_clone().map_err(io)?, CONTROL, &config)?;
        let now = clock.now();
        let addresses = sockets.addresses().collect();
        Ok(Keeper {
            report: Report::new(now, addresses, trail, audit),
            notify: Notify::new(now),
            listener: Listener::new(registry.try_clone().map_err(io)?, CHANNEL, sockets.list),
            origin: sockets.origin,
            summary_at: now.mono.saturating_add(config.log.summary),
            forget_at: now.mono.saturating_add(FORGET),
            status_at: now.mono,
            sign_at: now.mono.saturating_add(config.audit.checkpoint_every),
            config,
            clock,
            poll,
            signals,
            judge,
            store,
            claims: 0,
            runner,
            receipts: Receipts::default(),
            doors: Doors::new(leases),
            exchanges,
            moving,
            webhooks: Webhooks::new(hooks),
            control: Some(control),
            reload,
            taken_over,
            started: now.mono,
            phase: Phase::Serving,
            unread: Drained::All,
            unheard: Drained::All,
        })
    }

    fn serve(&mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(256);
        while !self.is_done() {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(cannot("wait for events", &error));
                }
                Ok(()) | Err(_) => {}
            }
            let now = self.clock.now();
            self.signals(now);
            self.deadlines(now);
            self.listener(now)?;
            self.claimed(now);
            events.iter().for_each(|event| self.runner.ready(event.token()));
            events.iter().for_each(|event| self.control(now, event.token()));
            self.hear_control(now);
            self.runner.read();
            self.scripts(now);
            self.report.trail.tend(now, &self.store);
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        match self.phase {
            Phase::Serving | Phase::Stopping => false,
            Phase::Alone => {
                self.claims == 0
                    && self.runner.is_idle()
                    && self.doors.is_settled()
                    && self.exchanges.is_settled()
            }
            Phase::Hurried => true,
        }
    }

    fn timeout(&self) -> Duration {
        let may_read = self.unread == Drained::More && self.claims < QUEUE;
        let asked = self.control.as_ref().map_or(Drained::All, Control::more);
        let more = [self.unheard, self.runner.more(), asked].contains(&Drained::More);
        if may_read || more {
            return Duration::ZERO;
        }
        let now = self.clock.now();
        let due = [
            Some(self.summary_at),
            Some(self.forget_at),
            Some(self.status_at),
            Some(self.sign_at),
            self.runner.next_deadline(),
            self.receipts.next_deadline(),
            self.listener.next_deadline(),
            self.notify.next_deadline(),
            self.report.trail.next_deadline(),
            self.doors.next_deadline(now),
            self.webhooks.next_deadline(),
            self.control.as_ref().and_then(Control::next_deadline),
        ];
        let next = due.into_iter().flatten().min().unwrap_or_default();
        // A millisecond is added because the poll counts whole ones, and one too early would spin.
        next.saturating_sub(now.mono).saturating_add(Duration::from_millis(1))
    }

    fn signals(&mut self, now: Now) {
        let pending: Vec<i32> = self.signals.pending().collect();
        for signal in pending {
            match signal {
                SIGCHLD => self.runner.reap(now),
                // A limit on file sizes is a full disk to the store, not the end of the daemon.
                SIGXFSZ => {}
                SIGHUP => {
                    self.notify.reloading();
                    self.reload.begin(now, &self.config, None, Wish::Reload);
                }
                _ => self.stop(now, signal),
            }
        }
        let reading = self.reload.is_under_way();
        if let Some(Finished { config, failed, reply, opened }) = self.reload.finished(now, &self.config) {
            failed.iter().for_each(|why| self.report.trail.note(now, Event::ReloadFailed { why }));
            config.into_iter().for_each(|config| self.reloaded(now, config));
            reply.into_iter().for_each(|(asker, reply)| self.replied(now, asker, &reply));
            opened.into_iter().for_each(|(asker, out)| self.explain(now, asker, out));
        }
        if reading && !self.reload.is_under_way() {
            self.notify.reloaded();
        }
    }

    fn reloaded(&mut self, now: Now, config: Arc<Config>) {
        self.exchanges.read(config);
        self.swap(now);
        let (users, actions) = (self.config.users.len(), self.config.actions.len());
        self.report.trail.note(now, Event::Reloaded { users, actions });
    }

    /// Goes on by the files as they were read last, with the keys that are in force.
    fn swap(&mut self, now: Now) {
        let config = self.exchanges.config(now);
        self.judge.reload(Arc::clone(&config));
        self.listener.reload(&self.config, &config);
        let permits = |about: &About| {
            let (user, action) = (&about.user, about.action.id);
            self.judge.permits(now, user, action, about.source.ip(), about.bound)
        };
        self.runner.reload(now, config.limits.max_jobs, permits);
        self.doors.reload(config.limits.max_doors, permits);
        logging::level(config.log.level);
        self.summary_at = self.summary_at.min(now.mono.saturating_add(config.log.summary));
        self.config = config;
    }

    fn stop(&mut self, now: Now, signal: i32) {
        if self.phase != Phase::Serving {
            self.phase = Phase::Hurried;
            return;
        }
        log::info!(code = "stopping", signal, running = self.runner.running(); "stopping");
        self.phase = Phase::Stopping;
        self.runner.stop();
        self.doors.shutdown();
        self.webhooks.stop();
        self.listener.stop(now);
        self.notify.stopping();
    }

    fn deadlines(&mut self, now: Now) {
        self.runner.due(now);
        while let Some(reply) = self.receipts.due(now) {
            self.answer(Some(reply));
        }
        self.doors.due(now);
        self.webhooks.due(now);
        self.control.iter_mut().for_each(|control| control.due(now));
        if now.mono >= self.summary_at {
            self.report.kernel_drops(self.listener.drops());
            self.report.summary(now);
            self.summary_at = now.mono.saturating_add(self.config.log.summary);
        }
        if now.mono >= self.status_at {
            self.write_status(now);
            self.status_at = now.mono.saturating_add(STATUS);
        }
        if now.mono >= self.forget_at {
            let before = now.unix().saturating_sub(self.config.freshness.as_secs());
            match self.store.forget(u32::try_from(before).unwrap_or(u32::MAX)) {
                // Busy: the next one forgets as much more.
                Ok(()) | Err(Busy) => {}
            }
            self.keep_again(now);
            self.forget_at = now.mono.saturating_add(FORGET);
        }
        if now.mono >= self.sign_at {
            match self.store.checkpoint() {
                // Busy: the next one signs as much more.
                Ok(()) | Err(Busy) => {}
            }
            self.sign_at = now.mono.saturating_add(self.config.audit.checkpoint_every);
        }
    }

    /// Hears the listener, as long as the store has room for what it may claim, and looks after it.
    fn listener(&mut self, now: Now) -> Result<(), Failure> {
        self.unread = Drained::More;
        for _ in 0..BUDGET {
            if self.claims >= QUEUE {
                break;
            }
            match self.listener.hear(now) {
                Said::Opened(opened) => self.opened(now, &opened),
                Said::Counts(counts) => self.report.listener(now, counts),
                Said::Sources(sources) => self.report.sources(now, &sources, &self.config),
                Said::Ready(first) => self.receiving(first),
                Said::Alive => {}
                Said::Nothing => {
                    self.unread = Drained::All;
                    break;
                }
            }
        }
        match self.listener.tend(now, &self.config, self.unread)? {
            Change::None => {}
            Change::Lost if self.phase != Phase::Serving => {}
            Change::Lost => self.notify.status("the listener is gone, another takes its place"),
            Change::Started => self.report.listener_gone(),
        }
        if self.phase == Phase::Stopping && self.listener.is_over() {
            self.phase = Phase::Alone;
        }
        let well = self.phase != Phase::Serving || self.listener.is_well();
        self.notify.turn(now, if well { Health::Well } else { Health::Unwell });
        Ok(())
    }

    fn receiving(&mut self, before: Readied) {
        match before {
            Readied::Never => {
                self.report.ready(&self.config);
                self.keep_taken_over();
            }
            Readied::Before => log::info!(code = "listener-ready"; "the new listener receives"),
        }
        self.notify.receiving(&self.report.status());
    }

    /// The loop is over: everything is closed in order, and the counts are told.
    fn finish(mut self) {
        match self.origin {
            Origin::Inherited => self.listener.give_back(),
            Origin::Bound => {}
        }
        let now = self.clock.now();
        let restarts = self.listener.status(now).restarts;
        self.report.kernel_drops(self.listener.drops());
        self.remove_status();
        drop(self.listener);
        self.report.record_muted(now);
        self.report.trail.note(now, Event::Stopped);
        for reply in self.store.close_telling(self.report.trail.take(now)) {
            match reply {
                thread::Reply::Failing(error) => self.report.store_failing(&error),
                thread::Reply::FileFailing(error) => self.report.audit_failing(&error),
                thread::Reply::Head(head) => self.report.audit_head(head),
                thread::Reply::FileBroken(broken) => self.report.audit_broken(&broken),
                thread::Reply::Missed(events) => self.report.audit_missed(events),
                thread::Reply::Claimed(..)
                | thread::Reply::Kept(..)
                | thread::Reply::KeptHook(..)
                | thread::Reply::KeptKey(..)
                | thread::Reply::Forgotten(_)
                | thread::Reply::Recovered { .. }
                | thread::Reply::FileRecovered => {}
            }
        }
        self.report.stopped(now.mono.saturating_sub(self.started), restarts);
    }
}

const CHANNEL: Token = Token(0);
/// Unix seconds.
fn wall() -> u64 {
    clock::wall().as_secs()
}

const SIGNALS: Token = Token(1);
/// The store has answered, or a configuration was read.
const THREADS: Token = Token(2);
const CONTROL: usize = 3;
const SCRIPTS: usize = CONTROL + control::TOKENS;

/// Messages of the listener per wake.
const BUDGET: usize = 256;

/// Time between two writings of `status.json`.
const STATUS: Duration = Duration::from_secs(5);

/// Time between two prunings of the store.
const FORGET: Duration = Duration::from_secs(30);
