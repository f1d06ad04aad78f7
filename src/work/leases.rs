//! Who holds which door until when; when `run` and `undo` are due.
//!
//! Pure: it hears of knocks, of what the store has kept, of scripts that ended, and of the time; it says what is to be
//! kept, started and told.
//!
//! A **door** is (action, source); a **lease** is one user's hold on it. `run` opens the door for its first lease, `undo`
//! closes it when its last one has ended: who ends his lease shuts out no neighbour behind the same address. From `run`
//! to `undo` is a **turn**:
//!
//! ```text
//!  knock --> row written --> run --> open --> last lease ends --> row written --> undo --> row removed
//!                             |                                        ^           |
//!                             +-- fails -------------------------------+           +-- fails: again later
//! ```
//!
//! What is here is what holds; the store follows. Two things wait for it: `run` starts only when the row that says
//! so is on the disk, or not at all, and `undo` only when its attempt is, or cannot be. A row that could not be written
//! is written again until it is. A knock for a door that closes is the next turn: it begins when that `undo` has ended
//! well, and is refused when it fails. What one turn opened is closed before the next begins.
//!
//! # Security considerations
//!
//! A door that stays open is the worst that can happen here, an `undo` that runs once too often the least. So whatever
//! was cut short is undone at the next start: also a `run` of which nobody knows whether it began. Who kills the daemon
//! alone, and not its scripts (systemd kills both), may have a `run` that ends after that `undo`.

mod door;
mod record;
mod turn;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub use record::{BadRecord, Lease, Phase, Reason, Record, Renewing, Step, Turn, Undoing};

use super::job::{About, Exec, Job};
use crate::clock::Now;
use crate::config::resolved::{self, Again, NftSet, OnShutdown};
use crate::judge::{DropReason, Grant};
use crate::store::doors::{DoorKey, DoorRow};
use crate::wire::KnockId;
use door::{Door, Kept, Out};

/// All doors that are held, or not closed yet.
#[derive(Debug)]
pub struct Leases {
    doors: BTreeMap<DoorKey, Door>,
    max: usize,
    out: Out,
    /// Nothing is due before (since boot).
    due: Duration,
}

/// A knock for a door.
#[derive(Debug)]
pub struct Opening {
    about: Arc<About>,
    run: Job,
    undo: Exec,
    set: Option<NftSet>,
    hold: Duration,
    again: Again,
    on_shutdown: OnShutdown,
}

/// What became of a knock for a door.
#[derive(Debug)]
#[must_use]
pub enum Begun {
    /// Its `run` is on its way; more is heard of it as of any job.
    Opens,
    /// The door is open or opens already: nothing runs for it.
    Held,
    /// It is refused.
    Refused(DropReason),
}

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Keep this, synced, and say [`Leases::kept`].
    Keep(DoorRow),
    /// Start it, and say [`Leases::ran`], [`Leases::undone`] or [`Leases::renewed`] when it ended.
    Start(Job),
    /// Refuse this knock, for a reason that came up while it waited.
    Refuse(Arc<About>, DropReason),
    /// Log it.
    Tell(Note),
}

/// Something that the log is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The lease's id; of an `undo` the one that opened the door.
    pub lease: KnockId,
    /// Whose it is.
    pub user: String,
    /// Which door.
    pub door: DoorKey,
    /// What happened.
    pub what: Happening,
}

/// What happened to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// It began, for this long.
    Began(Duration),
    /// Another knock of its user came: it ends this much later than now.
    Extended(Duration),
    /// It ended.
    Ended(Reason),
    /// The door could not be closed: tried again after this.
    UndoFailed(Duration, Alarm),
    /// The kernel could not be told when to close the door: tried again after this.
    RenewalFailed(Duration, Alarm),
}

/// Whether a failed `undo` is worth waking somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// It failed more often than before.
    Loud,
    /// It has been failing for long.
    Quiet,
}

/// How `run` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// With exit code 0.
    Well,
    /// In any other way, or it could not be started.
    Failed,
    /// It was never to be started.
    Refused,
}

/// How `undo` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// With exit code 0.
    Well,
    /// In any other way, or it could not be started.
    Failed,
}

/// Whose leases are meant.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Whom {
    /// The one with this id.
    Lease(KnockId),
    /// All of this user.
    User(String),
    /// All.
    All,
}

impl Opening {
    /// What `grant` asks for: never longer than `max_hold`, never less than a second.
    pub fn of(grant: Grant, terms: &resolved::Door) -> Opening {
        let asked = grant.options.hold.map_or(terms.hold, |seconds| Duration::from_secs(seconds.into()));
        let (about, run, undo) = Job::of_door(grant, terms);
        Opening {
            about,
            run,
            undo,
            set: terms.nft.as_ref().map(|nft| nft.set.clone()),
            hold: asked.max(SECOND).min(terms.max_hold),
            again: terms.again,
            on_shutdown: terms.on_shutdown,
        }
    }

    /// Whose knock it is.
    pub fn about(&self) -> Arc<About> {
        Arc::clone(&self.about)
    }
}

impl Leases {
    /// No doors, and never more than `max`. `boot_id` names this boot of the machine; empty if unknown.
    pub fn new(boot_id: &str, max: usize) -> Leases {
        let out = Out { boot_id: boot_id.to_owned(), commands: VecDeque::new() };
        Leases { doors: BTreeMap::new(), max, out, due: Duration::MAX }
    }

    /// After a reload: no door begins while there are `max`.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// After a reload: a knock that waits for its door to be closed, or to be recorded, has to be permitted still. Who holds
    /// a lease keeps it.
    pub fn withdraw(&mut self, permits: impl Fn(&About) -> Result<(), DropReason>) {
        self.each(|door, out| {
            door.withdraw(&permits, out);
            0
        });
    }

    /// At start: what the store has. Doors that are open live on, in time; what was cut short is undone.
    pub fn recover(&mut self, now: Now, rows: impl IntoIterator<Item = (DoorKey, Record)>) {
        for (key, record) in rows {
            let turn = record.revive(now, &self.out.boot_id);
            let door = Door::recovered(key.clone(), turn, &mut self.out);
            self.doors.insert(key, door);
        }
        self.due = Duration::ZERO;
        self.due(now);
    }

    /// A knock came.
    pub fn begin(&mut self, now: Now, opening: Opening) -> Begun {
        let key = DoorKey::of(&opening.about);
        let full = self.doors.len() >= self.max;
        let door = match self.doors.entry(key) {
            Entry::Occupied(door) => door.into_mut(),
            Entry::Vacant(_) if full => return Begun::Refused(DropReason::DoorsFull),
            Entry::Vacant(room) => {
                let key = room.key().clone();
                room.insert(Door::new(key))
            }
        };
        let begun = door.begin(now, opening, &mut self.out);
        self.due = self.due.min(door.next_deadline());
        begun
    }

    /// A user ends his lease. Returns how many leases that were: none or one.
    pub fn release(&mut self, key: &DoorKey, user: &str) -> usize {
        self.with(key, |door, out| door.end(Reason::Released, |name, _| name == user, out)).unwrap_or(0)
    }

    /// The administrator ends leases. Returns how many.
    pub fn revoke(&mut self, whom: &Whom) -> usize {
        self.each(|door, out| {
            let meant = |user: &str, lease: &Lease| match whom {
                Whom::Lease(id) => lease.id == *id,
                Whom::User(name) => name == user,
                Whom::All => true,
            };
            door.end(Reason::Revoked, meant, out)
        })
    }

    /// The daemon stops: doors that are not to outlive it are closed.
    pub fn shutdown(&mut self) {
        self.each(|door, out| match door.on_shutdown() {
            OnShutdown::Keep => 0,
            OnShutdown::Undo => door.end(Reason::Shutdown, |_, _| true, out),
        });
    }

    /// How long a user still holds a door.
    pub fn left(&self, now: Now, key: &DoorKey, user: &str) -> Option<Duration> {
        self.doors.get(key)?.lease(user).map(|lease| lease.until.saturating_sub(now.boot))
    }

    /// Whether `run` has opened it, and it is not being closed.
    pub fn is_open(&self, key: &DoorKey) -> bool {
        self.doors.get(key).is_some_and(Door::is_open)
    }

    /// The store has kept what was asked last for this door, or could not.
    pub fn kept<E>(&mut self, now: Now, key: &DoorKey, result: Result<(), E>) {
        let kept = if result.is_ok() { Kept::Yes } else { Kept::No };
        self.with(key, |door, out| door.kept(now, kept, out));
    }

    /// A `run` ended.
    pub fn ran(&mut self, key: &DoorKey, how: Ran) {
        self.with(key, |door, out| door.ran(how, out));
    }

    /// An `undo` ended.
    pub fn undone(&mut self, now: Now, key: &DoorKey, how: Undone) {
        self.with(key, |door, out| door.undone(now, how, out));
    }

    /// The kernel was told another end of a door, or could not be.
    pub fn renewed(&mut self, now: Now, key: &DoorKey, how: Ran) {
        self.with(key, |door, out| door.renewed(now, how, out));
    }

    /// After a reload: the kernel is told of every door again, for the rules may have been loaded anew.
    pub fn renew(&mut self) {
        self.each(|door, _| {
            door.forget_kernel();
            0
        });
    }

    /// Ends what has expired, tries again what has failed.
    pub fn due(&mut self, now: Now) {
        if self.due <= now.boot {
            self.due = Duration::MAX;
            self.each(|door, out| {
                door.due(now, out);
                door.renew(now, out);
                0
            });
        }
    }

    /// When (since boot) [`Leases::due`] has something to do.
    pub fn next_deadline(&self) -> Option<Duration> {
        (!self.doors.is_empty()).then_some(self.due)
    }

    /// The next thing to be done; ask until there is none, after each call of another method.
    pub fn command(&mut self) -> Option<Command> {
        self.out.commands.pop_front()
    }

    /// Whether no door is just being opened or closed: the daemon may end.
    pub fn is_settled(&self) -> bool {
        self.doors.values().all(Door::is_settled)
    }

    /// Every lease, by its door and user.
    pub fn held(&self) -> impl Iterator<Item = (&DoorKey, &str, &Lease)> {
        self.doors.iter().flat_map(|(key, door)| door.held().map(move |(user, lease)| (key, user, lease)))
    }

    /// Doors whose `undo` has failed, and is tried again.
    pub fn failing(&self) -> usize {
        self.doors.values().filter(|door| door.is_failing()).count()
    }

    /// How many doors there are.
    pub fn len(&self) -> usize {
        self.doors.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.doors.is_empty()
    }

    fn with<R>(&mut self, key: &DoorKey, act: impl FnOnce(&mut Door, &mut Out) -> R) -> Option<R> {
        let door = self.doors.get_mut(key)?;
        let result = act(door, &mut self.out);
        self.due = self.due.min(door.next_deadline());
        if door.is_gone() {
            self.doors.remove(key);
        }
        Some(result)
    }

    fn each(&mut self, mut act: impl FnMut(&mut Door, &mut Out) -> usize) -> usize {
        let keys: Vec<DoorKey> = self.doors.keys().cloned().collect();
        keys.iter().fold(0, |sum, key| sum.saturating_add(self.with(key, &mut act).unwrap_or(0)))
    }
}

impl DoorKey {
    /// The door that a knock is for.
    pub fn of(about: &About) -> DoorKey {
        DoorKey { action: about.action.name.clone(), source: about.opens_for }
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
