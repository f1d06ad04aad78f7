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
//! is written again until it is. A knock for a door that closes is the next turn: it begins when that `undo` has ended,
//! well or not.
//!
//! # Security considerations
//!
//! A door that stays open is the worst that can happen here, an `undo` that runs once too often the least. So whatever
//! was cut short is undone at the next start: also a `run` of which nobody knows whether it began. Who kills the daemon
//! alone, and not its scripts (systemd kills both), may have a `run` that ends after that `undo`.

mod record;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub use record::{Lease, Phase, Reason, Record, Step, Turn, Undoing};

use super::job::{About, Exec, Job};
use crate::clock::Now;
use crate::config::resolved::{Again, Door as Terms, OnShutdown};
use crate::judge::{DropReason, Grant};
use crate::store::doors::{DoorKey, DoorRow};
use crate::wire::KnockId;

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
    /// Start it, and say [`Leases::ran`] or [`Leases::undone`] when it ended.
    Start(Job),
    /// Refuse this knock: its door could not be recorded.
    Refuse(Arc<About>),
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    pub fn of(grant: Grant, terms: &Terms) -> Opening {
        let asked = grant.options.hold.map_or(terms.hold, |seconds| Duration::from_secs(seconds.into()));
        let (about, run, undo) = Job::of_door(grant, terms);
        Opening {
            about,
            run,
            undo,
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

    /// At start: what the store has. Doors that are open live on, in time; what was cut short is undone.
    pub fn recover(&mut self, now: Now, rows: impl IntoIterator<Item = (DoorKey, Record)>) {
        for (key, record) in rows {
            let turn = Some(record.revive(now, &self.out.boot_id));
            let mut door = Door { turn, ..Door::new(key.clone()) };
            door.recovered(&mut self.out);
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

    /// Ends what has expired, tries again what has failed.
    pub fn due(&mut self, now: Now) {
        if self.due <= now.boot {
            self.due = Duration::MAX;
            self.each(|door, out| {
                door.due(now, out);
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
        DoorKey { action: about.action.name.clone(), source: about.source.ip() }
    }
}

#[derive(Debug)]
struct Door {
    key: DoorKey,
    turn: Option<Turn>,
    /// Whoever knocks while there is none, or while it closes.
    next: Option<Next>,
    row: Row,
}

/// A turn that waits for the one before it, and for its row.
#[derive(Debug)]
struct Next {
    turn: Turn,
    about: Arc<About>,
    run: Job,
}

/// What the store has of a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    /// The door as it is.
    Kept,
    /// The door as it is, as soon as it has kept it.
    Asked,
    /// It was asked to keep what has changed since.
    Outdated,
    /// It could not; it is asked again at this time (since boot).
    Failed(Duration),
}

#[derive(Clone, Copy, Debug)]
enum Kept {
    Yes,
    No,
}

#[derive(Debug)]
struct Out {
    boot_id: String,
    commands: VecDeque<Command>,
}

impl Door {
    fn new(key: DoorKey) -> Door {
        Door { key, turn: None, next: None, row: Row::Kept }
    }

    fn begin(&mut self, now: Now, opening: Opening, out: &mut Out) -> Begun {
        let Opening { about, run, undo, hold, again, on_shutdown } = opening;
        let lease = Lease::new(now, about.knock, hold);
        let user = &about.user.name;
        let (turn, begun) = match (&mut self.turn, &mut self.next) {
            (Some(turn), _) if !turn.closes() => (turn, Begun::Held),
            (_, Some(next)) => (&mut next.turn, Begun::Held),
            (_, next @ None) => {
                let turn = Turn::new(lease.id, user, undo, on_shutdown);
                let about = Arc::clone(&about);
                (&mut next.insert(Next { turn, about, run }).turn, Begun::Opens)
            }
        };
        if let Err(reason) = turn.hold(now, &self.key, user, lease, again, out) {
            return Begun::Refused(reason);
        }
        if !self.is_undoing() {
            self.change(out);
        }
        begun
    }

    fn end(&mut self, reason: Reason, meant: impl Fn(&str, &Lease) -> bool, out: &mut Out) -> usize {
        let (before, undoing) = (self.leases(), self.is_undoing());
        let turns = self.turn.iter_mut().chain(self.next.iter_mut().map(|next| &mut next.turn));
        turns.for_each(|turn| turn.end(&self.key, reason, &meant, out));
        let ended = before.saturating_sub(self.leases());
        if ended > 0 && !undoing {
            self.close_if_over();
            self.change(out);
        }
        ended
    }

    /// A door that was open when the daemon ended stays so; all else is undone.
    fn recovered(&mut self, out: &mut Out) {
        let Some(turn) =
            self.turn.as_mut().filter(|turn| turn.phase != Phase::Open || turn.leases.is_empty())
        else {
            return;
        };
        turn.end(&self.key, Reason::Recovered, |_, _| true, out);
        turn.close(Reason::Recovered);
        self.change(out);
    }

    fn ran(&mut self, how: Ran, out: &mut Out) {
        let Some(turn) = self.turn.as_mut().filter(|turn| turn.phase == Phase::Opening) else {
            return;
        };
        match how {
            Ran::Well => {
                turn.phase = Phase::Open;
                self.close_if_over();
            }
            Ran::Failed => {
                turn.end(&self.key, Reason::Failed, |_, _| true, out);
                turn.close(Reason::Failed);
            }
            Ran::Refused => {
                turn.end(&self.key, Reason::Failed, |_, _| true, out);
                self.turn = None;
            }
        }
        self.change(out);
    }

    fn undone(&mut self, now: Now, how: Undone, out: &mut Out) {
        let Some(turn) = &mut self.turn else {
            return;
        };
        let Phase::Closing(reason, attempt, Step::Runs) = turn.phase else {
            return;
        };
        match how {
            Undone::Well => self.turn = None,
            Undone::Failed => {
                let (again, alarm) = back_off(attempt);
                turn.phase = Phase::Closing(reason, attempt, Step::Waits(now.boot.saturating_add(again)));
                out.tell(&self.key, turn.lease, &turn.user, Happening::UndoFailed(again, alarm));
            }
        }
        self.change(out);
    }

    fn due(&mut self, now: Now, out: &mut Out) {
        self.end(Reason::Expired, |_, lease| lease.until <= now.boot, out);
        if let (Some(turn), None) = (&mut self.turn, &self.next)
            && let Phase::Closing(reason, _, Step::Waits(at)) = turn.phase
            && at <= now.boot
        {
            turn.close(reason);
            self.change(out);
        }
        if matches!(self.row, Row::Failed(at) if at <= now.boot) {
            self.change(out);
        }
    }

    /// The row is no longer what the store has.
    fn change(&mut self, out: &mut Out) {
        self.row = match self.row {
            Row::Asked | Row::Outdated => Row::Outdated,
            Row::Kept | Row::Failed(_) => {
                let record = self.to_keep().map(|turn| Record::text(turn, &out.boot_id));
                out.commands.push_back(Command::Keep(DoorRow { key: self.key.clone(), record }));
                Row::Asked
            }
        }
    }

    /// What is to be known after a crash.
    fn to_keep(&self) -> Option<&Turn> {
        match &self.next {
            Some(next) if free(self.turn.as_ref()) => Some(&next.turn),
            Some(_) | None => self.turn.as_ref(),
        }
    }

    fn kept(&mut self, now: Now, kept: Kept, out: &mut Out) {
        match (self.row, kept) {
            (Row::Outdated, _) => {
                self.row = Row::Kept;
                self.change(out);
            }
            (Row::Asked, Kept::Yes) => {
                self.row = Row::Kept;
                self.proceed(out);
            }
            (Row::Asked, Kept::No) => {
                self.row = Row::Failed(now.boot.saturating_add(KEEP_AGAIN));
                match self.next.take_if(|_| free(self.turn.as_ref())) {
                    Some(mut next) => {
                        next.turn.end(&self.key, Reason::Failed, |_, _| true, out);
                        out.commands.push_back(Command::Refuse(next.about));
                    }
                    // A disk that is full keeps no door open.
                    None => self.proceed(out),
                }
            }
            (Row::Kept | Row::Failed(_), _) => {}
        }
    }

    /// Does what the row was waited for.
    fn proceed(&mut self, out: &mut Out) {
        if let Some(next) = self.next.take_if(|_| free(self.turn.as_ref())) {
            self.turn = Some(next.turn);
            out.commands.push_back(Command::Start(next.run));
            return;
        }
        let Some(turn) = &mut self.turn else {
            return;
        };
        if let Phase::Closing(reason, attempt, Step::ToBeKept) = turn.phase {
            turn.phase = Phase::Closing(reason, attempt, Step::Runs);
            let undoing = Undoing {
                door: self.key.clone(),
                lease: turn.lease,
                user: turn.user.clone(),
                attempt,
                reason,
            };
            out.commands.push_back(Command::Start(Job::undo(undoing, &turn.undo)));
        }
    }

    fn close_if_over(&mut self) {
        if let Some(turn) = &mut self.turn
            && turn.phase == Phase::Open
            && turn.leases.is_empty()
        {
            turn.close(turn.last);
        }
    }

    /// Whether an attempt to undo is under way, so that nothing else is to be kept.
    fn is_undoing(&self) -> bool {
        self.turn.as_ref().is_some_and(Turn::closes) && !free(self.turn.as_ref())
    }

    fn on_shutdown(&self) -> OnShutdown {
        self.turn
            .as_ref()
            .or(self.next.as_ref().map(|next| &next.turn))
            .map_or(OnShutdown::Keep, |turn| turn.on_shutdown)
    }

    fn leases(&self) -> usize {
        let next = self.next.as_ref().map_or(0, |next| next.turn.leases.len());
        self.turn.as_ref().map_or(0, |turn| turn.leases.len()).saturating_add(next)
    }

    fn is_settled(&self) -> bool {
        self.next.is_none() && self.turn.as_ref().is_none_or(Turn::is_settled)
    }

    fn is_gone(&self) -> bool {
        self.turn.is_none() && self.next.is_none() && self.row == Row::Kept
    }

    /// Since boot; at the latest.
    fn next_deadline(&self) -> Duration {
        let turns = self.turn.iter().chain(self.next.iter().map(|next| &next.turn));
        let ends = turns.flat_map(|turn| turn.leases.values().map(|lease| lease.until));
        let again = match (&self.turn, &self.next) {
            (Some(Turn { phase: Phase::Closing(_, _, Step::Waits(at)), .. }), None) => Some(*at),
            (Some(_) | None, _) => None,
        };
        let keep = match self.row {
            Row::Failed(at) => Some(at),
            Row::Kept | Row::Asked | Row::Outdated => None,
        };
        ends.chain(again).chain(keep).min().unwrap_or(Duration::MAX)
    }
}

impl Turn {
    /// A new lease, or one that goes on.
    fn hold(
        &mut self,
        now: Now,
        key: &DoorKey,
        user: &str,
        lease: Lease,
        again: Again,
        out: &mut Out,
    ) -> Result<(), DropReason> {
        let Some(held) = self.leases.get_mut(user) else {
            out.tell(key, lease.id, user, Happening::Began(lease.hold));
            self.leases.insert(user.to_owned(), lease);
            return Ok(());
        };
        match again {
            Again::Refuse => return Err(DropReason::Held),
            Again::Extend if held.until >= lease.until => {}
            Again::Extend | Again::Restart => *held = Lease { id: held.id, ..lease },
        }
        out.tell(key, held.id, user, Happening::Extended(held.until.saturating_sub(now.boot)));
        Ok(())
    }

    fn end(&mut self, key: &DoorKey, reason: Reason, meant: impl Fn(&str, &Lease) -> bool, out: &mut Out) {
        for (user, lease) in self.leases.extract_if(.., |user, lease| meant(user, lease)) {
            out.tell(key, lease.id, &user, Happening::Ended(reason));
            self.last = reason;
        }
    }

    /// The next attempt to undo it.
    fn close(&mut self, reason: Reason) {
        let attempt = match self.phase {
            Phase::Opening | Phase::Open => 1,
            Phase::Closing(_, attempt, _) => attempt.saturating_add(1),
        };
        self.phase = Phase::Closing(reason, attempt, Step::ToBeKept);
    }

    fn closes(&self) -> bool {
        matches!(self.phase, Phase::Closing(..))
    }

    fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Closing(_, _, Step::Waits(_)))
    }
}

impl Out {
    fn tell(&mut self, door: &DoorKey, lease: KnockId, user: &str, what: Happening) {
        let note = Note { lease, user: user.to_owned(), door: door.clone(), what };
        self.commands.push_back(Command::Tell(note));
    }
}

/// Whether nothing runs for this turn, and nothing that ran is to be undone before another.
fn free(turn: Option<&Turn>) -> bool {
    turn.is_none_or(|turn| matches!(turn.phase, Phase::Closing(_, _, Step::Waits(_))))
}

/// 1 s, 2 s, 4 s .. 5 min.
fn back_off(attempt: u32) -> (Duration, Alarm) {
    let doubled = SECOND.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
    if doubled < UNDO_AGAIN { (doubled, Alarm::Loud) } else { (UNDO_AGAIN, Alarm::Quiet) }
}

const SECOND: Duration = Duration::from_secs(1);

/// The longest between two attempts to undo.
const UNDO_AGAIN: Duration = Duration::from_secs(300);

/// Between two attempts to keep a row.
const KEEP_AGAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
