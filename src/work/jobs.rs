//! Which jobs run, which wait, and when a running one is told to end.
//!
//! Pure: it hears of starts, ends and the time, and says what is to be started or signalled. It knows no process.
//!
//! A job runs until its action's `timeout`, is then told to end (TERM), and is ended (KILL) a `grace` later.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::event::StartError;
use super::job::{About, Job, Whose};
use crate::config::Action;
use crate::config::resolved::OnBusy;
use crate::judge::DropReason;
use crate::wire::ActionId;

/// The place of a running job: the lowest that was free, so below the most that ever ran at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub usize);

/// Running and waiting jobs.
#[derive(Debug)]
pub struct Jobs {
    max: usize,
    running: BTreeMap<Slot, Running>,
    waiting: VecDeque<Job>,
    /// Those that nothing but `max` may hold up.
    undos: VecDeque<Job>,
    doors: Doors,
}

/// What is to happen to a job.
#[derive(Debug)]
#[must_use]
pub enum Admit {
    /// Start it now, and say [`Jobs::started`] if that worked.
    Start(Job),
    /// It waits its turn and comes out of [`Jobs::next_waiting`].
    Wait,
    /// It does not run: [`StartError::Busy`] or [`StartError::Stopping`].
    Refuse(StartError),
}

/// What a job's process group is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The time is up: end (TERM).
    Terminate,
    /// The grace is over: be ended (KILL).
    Kill,
}

/// Where a running job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Within its timeout.
    Running {
        /// When it is told to end.
        deadline: Duration,
    },
    /// Told to end.
    Terminating {
        /// When it is ended.
        kill_at: Duration,
    },
    /// Ended, but not gone yet.
    Killed,
}

#[derive(Debug)]
struct Running {
    room: Room,
    grace: Duration,
    phase: Phase,
}

/// What a job counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Run(ActionId),
    Undo,
    /// Whoever starts these counts them.
    Beside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doors {
    Open,
    Closed,
}

impl Jobs {
    /// Nothing runs, and never more than `max` at once; beside them as many that undo something.
    pub fn new(max: usize) -> Jobs {
        Jobs {
            max,
            running: BTreeMap::new(),
            waiting: VecDeque::new(),
            undos: VecDeque::new(),
            doors: Doors::Open,
        }
    }

    /// After a reload: from now on no job is started while `max` run.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Decides about a new job. Nobody overtakes a waiting job of the same action. What undoes something is never
    /// refused, and starts while the daemon stops. A webhook always starts, but not then.
    pub fn admit(&mut self, job: Job) -> Admit {
        if let Whose::Hook(_) = job.whose() {
            return match self.doors {
                Doors::Open => Admit::Start(job),
                Doors::Closed => Admit::Refuse(StartError::Stopping),
            };
        }
        let Some(action) = job.limited_by() else {
            if self.has_room_to_undo() {
                return Admit::Start(job);
            }
            self.undos.push_back(job);
            return Admit::Wait;
        };
        if self.doors == Doors::Closed {
            return Admit::Refuse(StartError::Stopping);
        }
        let same = |job: &&Job| job.limited_by().is_some_and(|other| other.id == action.id);
        let ahead = self.waiting.iter().filter(same).count();
        if ahead == 0 && self.has_room(action) {
            return Admit::Start(job);
        }
        match action.on_busy {
            OnBusy::Queue(most) if ahead < most => {
                self.waiting.push_back(job);
                Admit::Wait
            }
            OnBusy::Queue(_) | OnBusy::Refuse => Admit::Refuse(StartError::Busy),
        }
    }

    /// The longest-waiting job that there is room for, to be started now.
    pub fn next_waiting(&mut self) -> Option<Job> {
        if !self.undos.is_empty() && self.has_room_to_undo() {
            return self.undos.pop_front();
        }
        let place = self
            .waiting
            .iter()
            .position(|job| job.limited_by().is_some_and(|action| self.has_room(action)))?;
        self.waiting.remove(place)
    }

    /// Takes out of the queue what is no longer permitted; returned with the reasons, in order.
    pub fn withdraw(
        &mut self,
        permits: impl Fn(&About) -> Result<(), DropReason>,
    ) -> Vec<(Arc<About>, DropReason)> {
        let mut withdrawn = Vec::new();
        self.waiting.retain(|job| match job.whose() {
            Whose::Undo(_) | Whose::Renewal(_) | Whose::Hook(_) => true,
            Whose::Knock(about) => match permits(about) {
                Ok(()) => true,
                Err(reason) => {
                    withdrawn.push((Arc::clone(about), reason));
                    false
                }
            },
        });
        withdrawn
    }

    /// Where the next job that is started will be.
    pub fn free_slot(&self) -> Slot {
        let taken = self.running.keys().zip(0..).take_while(|(slot, at)| slot.0 == *at).count();
        Slot(taken)
    }

    /// A job runs in [`Jobs::free_slot`] as of `now` (monotonic).
    pub fn started(&mut self, now: Duration, job: &Job) {
        let exec = job.exec();
        self.running.insert(
            self.free_slot(),
            Running {
                room: room(job),
                grace: exec.grace,
                phase: Phase::Running { deadline: now.saturating_add(exec.timeout) },
            },
        );
    }

    /// A job is gone.
    pub fn ended(&mut self, slot: Slot) {
        self.running.remove(&slot);
    }

    /// The next order that is due; ask until there is none.
    pub fn due(&mut self, now: Duration) -> Option<(Slot, Order)> {
        self.running.iter_mut().find_map(|(slot, job)| match job.phase {
            Phase::Running { deadline } if deadline <= now => {
                // Counted from the order, not from the deadline: a late wake takes nobody's grace.
                job.phase = Phase::Terminating { kill_at: now.saturating_add(job.grace) };
                Some((*slot, Order::Terminate))
            }
            Phase::Terminating { kill_at } if kill_at <= now => {
                job.phase = Phase::Killed;
                Some((*slot, Order::Kill))
            }
            Phase::Running { .. } | Phase::Terminating { .. } | Phase::Killed => None,
        })
    }

    /// When (monotonic) the next order is due.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.running
            .values()
            .filter_map(|job| match job.phase {
                Phase::Running { deadline } => Some(deadline),
                Phase::Terminating { kill_at } => Some(kill_at),
                Phase::Killed => None,
            })
            .min()
    }

    /// Where the job in `slot` is in its life.
    pub fn phase(&self, slot: Slot) -> Option<Phase> {
        self.running.get(&slot).map(|job| job.phase)
    }

    /// From now on nothing is admitted but what undoes something. What runs keeps its deadline; what waited is returned,
    /// to be refused.
    pub fn stop(&mut self) -> impl Iterator<Item = Job> + use<> {
        self.doors = Doors::Closed;
        std::mem::take(&mut self.waiting).into_iter()
    }

    /// How many run; nobody waits for a webhook.
    pub fn running(&self) -> usize {
        self.running.values().filter(|job| job.room != Room::Beside).count()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len().saturating_add(self.undos.len())
    }

    fn has_room(&self, action: &Action) -> bool {
        let same = self.running.values().filter(|job| job.room == Room::Run(action.id)).count();
        same < action.max_running && self.running().saturating_sub(self.undoing()) < self.max
    }

    fn has_room_to_undo(&self) -> bool {
        self.undoing() < self.max
    }

    fn undoing(&self) -> usize {
        self.running.values().filter(|job| job.room == Room::Undo).count()
    }
}

fn room(job: &Job) -> Room {
    match job.whose() {
        Whose::Knock(about) => Room::Run(about.action.id),
        Whose::Undo(_) | Whose::Renewal(_) => Room::Undo,
        Whose::Hook(_) => Room::Beside,
    }
}

#[cfg(test)]
mod tests;
