//! Starts scripts, reads what they print, holds them to their deadlines and reaps them.
//!
//! In: jobs, readiness of pipes, child exits, the time. Out: [`JobEvent`]s. Never: a shell, a blocking call, the log.
//!
//! # In a loop
//!
//! On each wake, in this order: [`Runner::reap`] if SIGCHLD came, [`Runner::due`], [`Runner::start`] for what was
//! granted, [`Runner::ready`] for each readiness event at `first_token` or above, then [`Runner::read`], then
//! [`Runner::events`]. The next poll's timeout ends at [`Runner::next_deadline`] and is zero while [`Runner::more`]
//! says so.
//!
//! # Security considerations
//!
//! A process id is signalled only before it is reaped, so it can't have become somebody else's. A script that was told
//! to end takes its whole process group with it; one that ends in time leaves its background children alone, and
//! nobody waits for them. A script that floods its output is read a bounded piece per wake.

use std::collections::BTreeMap;
use std::time::Duration;

use mio::{Registry, Token};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};

use super::event::{Happened, JobEvent, StartError};
use super::job::{About, Job, Whose};
use super::jobs::{Admit, Jobs, Order, Phase, Slot};
use crate::clock::Now;
use crate::judge::DropReason;
use script::{READ_MAX, Reaped, Rest, Script};

mod script;

/// All scripts of the daemon.
#[derive(Debug)]
pub struct Runner {
    registry: Registry,
    first_token: usize,
    jobs: Jobs,
    scripts: BTreeMap<Slot, Script>,
    /// Whose output was read last.
    read_last: Slot,
    events: Vec<JobEvent>,
    buffer: Box<[u8; READ_MAX]>,
}

/// Whether there is more to read than one wake may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// No.
    All,
    /// Yes: the next poll must not wait, no new readiness will tell.
    More,
}

impl Runner {
    /// Runs at most `max_jobs` at once, and as many that undo something; uses the tokens from `first_token`, two for each.
    pub fn new(registry: Registry, first_token: usize, max_jobs: usize) -> Runner {
        Runner {
            registry,
            first_token,
            jobs: Jobs::new(max_jobs),
            scripts: BTreeMap::new(),
            read_last: Slot(0),
            events: Vec::new(),
            buffer: Box::new([0; READ_MAX]),
        }
    }

    /// After a reload: how many may run at once from now on, and what of that which waits may still run.
    pub fn reload(&mut self, now: Now, max_jobs: usize, permits: impl Fn(&About) -> Result<(), DropReason>) {
        self.jobs.set_max(max_jobs);
        for (about, reason) in self.jobs.withdraw(permits) {
            self.tell(&Whose::Knock(about), Happened::Refused(StartError::Withdrawn(reason)));
        }
        self.start_waiting(now);
    }

    /// Starts the job, queues it or refuses it; which of them is the first event about it.
    pub fn start(&mut self, now: Now, job: Job) {
        let whose = job.whose().clone();
        match self.jobs.admit(job) {
            Admit::Start(job) => self.spawn(now, &job),
            Admit::Wait => self.tell(&whose, Happened::Queued),
            Admit::Refuse(error) => self.tell(&whose, Happened::Refused(error)),
        }
    }

    /// A pipe of this runner became readable. Tokens that are not its own are ignored.
    pub fn ready(&mut self, token: Token) {
        let Some(at) = token.0.checked_sub(self.first_token) else {
            return;
        };
        if let Some(script) = self.scripts.get_mut(&Slot(at / 2)) {
            script.ready(at % 2);
        }
    }

    /// Reads what is ready, at most 4 KiB from each pipe, until there is enough to tell for one wake; the next call goes
    /// on where this one stopped.
    pub fn read(&mut self) {
        let (first, rest): (Vec<Slot>, Vec<Slot>) =
            self.scripts.keys().partition(|slot| **slot > self.read_last);
        for slot in first.into_iter().chain(rest) {
            if self.events.len() >= EVENTS {
                return;
            }
            if let Some(script) = self.scripts.get_mut(&slot) {
                script.read(&mut self.buffer, &mut self.events);
            }
            self.read_last = slot;
        }
    }

    /// Whether [`Runner::read`] has to be called again without waiting.
    pub fn more(&self) -> Drained {
        if self.scripts.values().any(Script::more) { Drained::More } else { Drained::All }
    }

    /// A child may have exited (SIGCHLD): reaps all that did, and starts what waited for their room.
    pub fn reap(&mut self, now: Now) {
        let slots: Vec<Slot> = self.scripts.keys().copied().collect();
        for slot in slots {
            let rest = match self.jobs.phase(slot) {
                Some(Phase::Running { .. }) | None => Rest::Spare,
                Some(Phase::Terminating { .. } | Phase::Killed) => Rest::End,
            };
            let Some(script) = self.scripts.get_mut(&slot) else {
                continue;
            };
            let Reaped::Gone(how) = script.reap(rest) else {
                continue;
            };
            script.read_rest(&mut self.buffer, &mut self.events);
            let whose = script.whose.clone();
            let took = now.mono.saturating_sub(script.started);
            self.scripts.remove(&slot);
            self.jobs.ended(slot);
            self.tell(&whose, Happened::Finished { how, took });
        }
        if std::process::id() == INIT {
            self.reap_orphans();
        }
        self.start_waiting(now);
    }

    /// Tells those whose time is up to end, and ends those whose grace is over.
    pub fn due(&mut self, now: Now) {
        while let Some((slot, order)) = self.jobs.due(now.mono) {
            let Some(script) = self.scripts.get_mut(&slot) else {
                continue;
            };
            let sent = script.signal(order);
            let whose = script.whose.clone();
            match order {
                Order::Terminate => self.tell(&whose, Happened::TimedOut),
                Order::Kill => {}
            }
            if let Err(errno) = sent {
                self.tell(&whose, Happened::NotSignalled(errno));
            }
        }
    }

    /// When (monotonic) [`Runner::due`] has something to do.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.jobs.next_deadline()
    }

    /// The daemon stops: nothing is started from now on but what undoes something, what waited is refused, what runs
    /// keeps its deadline. Done when [`Runner::is_idle`].
    pub fn stop(&mut self) {
        for job in self.jobs.stop() {
            self.tell(job.whose(), Happened::Refused(StartError::Stopping));
        }
    }

    /// What happened since the last call, in order.
    pub fn events(&mut self) -> Vec<JobEvent> {
        std::mem::take(&mut self.events)
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.jobs.running()
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.jobs.running() == 0 && self.jobs.waiting() == 0
    }

    /// Reaps who fell to this process because his parent is gone; all of its own were reaped just now.
    fn reap_orphans(&self) {
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Some(pid) = waitid(Id::All, peek).ok().and_then(|status| status.pid()) {
            // One of its own that ended meanwhile: its SIGCHLD is on its way.
            let own = self.scripts.values().any(|script| script.pid() == pid);
            if own || waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
                return;
            }
        }
    }

    fn start_waiting(&mut self, now: Now) {
        while let Some(job) = self.jobs.next_waiting() {
            self.spawn(now, &job);
        }
    }

    fn spawn(&mut self, now: Now, job: &Job) {
        let slot = self.jobs.free_slot();
        let token = self.first_token.saturating_add(slot.0.saturating_mul(2));
        let tokens = [Token(token), Token(token.saturating_add(1))];
        let what = match Script::start(&self.registry, tokens, now, job) {
            Ok(script) => {
                self.jobs.started(now.mono, job);
                self.scripts.insert(slot, script);
                Happened::Started
            }
            Err(error) => Happened::Refused(error),
        };
        self.tell(job.whose(), what);
    }

    fn tell(&mut self, whose: &Whose, what: Happened) {
        self.events.push(JobEvent { whose: whose.clone(), what });
    }
}

/// Nothing more is read in a wake that has so much to tell: a line costs far more than the byte that ends it.
const EVENTS: usize = 1024;

/// The process to which orphans fall: the daemon itself, if nothing else runs in its container.
const INIT: u32 = 1;

impl Drop for Runner {
    /// Ends what still runs: nobody is left to hold it to its deadline.
    fn drop(&mut self) {
        for script in self.scripts.values_mut() {
            // Only who lacks the right to is left alone, and that was told when it mattered.
            script.signal(Order::Kill).ok();
        }
    }
}

#[cfg(test)]
mod tests;
