//! One door: from knock to `undo`, and what the store has of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::record::{Kernel, Lease, Phase, Reason, Record, Renewing, Step, Told, Turn, Undoing};
use super::{Alarm, Begun, Command, Happening, Note, Opening, Ran, SECOND, Undone};
use crate::clock::Now;
use crate::config::resolved::OnShutdown;
use crate::judge::DropReason;
use crate::store::doors::{DoorKey, DoorRow};
use crate::wire::KnockId;
use crate::work::job::{About, Job};
use crate::work::nft;

/// A door that is held, or not closed yet.
#[derive(Debug)]
pub(super) struct Door {
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

/// Whether the store has kept a row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kept {
    Yes,
    No,
}

/// What is to be done, in order.
#[derive(Debug)]
pub(super) struct Out {
    /// Names this boot of the machine.
    pub(super) boot_id: String,
    pub(super) commands: VecDeque<Command>,
}

impl Door {
    pub(super) fn new(key: DoorKey) -> Door {
        Door { key, turn: None, next: None, row: Row::Kept }
    }

    /// One that the store has: if it was open it stays so, all else is undone.
    pub(super) fn recovered(key: DoorKey, mut turn: Turn, out: &mut Out) -> Door {
        if turn.phase == Phase::Open && !turn.leases.is_empty() {
            return Door { turn: Some(turn), ..Door::new(key) };
        }
        turn.end(&key, Reason::Recovered, |_, _| true, out);
        turn.close(Reason::Recovered);
        let mut door = Door { turn: Some(turn), ..Door::new(key) };
        door.change(out);
        door
    }

    pub(super) fn begin(&mut self, now: Now, opening: Opening, out: &mut Out) -> Begun {
        let Opening { about, run, undo, set, hold, again, on_shutdown } = opening;
        let lease = Lease::new(now, about.knock, about.source.ip(), hold);
        let user = &about.user.name;
        let (turn, begun) = match (&mut self.turn, &mut self.next) {
            (Some(turn), _) if !turn.closes() => (turn, Begun::Held),
            (_, Some(next)) => (&mut next.turn, Begun::Held),
            (_, next @ None) => {
                let turn = Turn::new(lease.id, user, undo, set, on_shutdown);
                let about = Arc::clone(&about);
                (&mut next.insert(Next { turn, about, run }).turn, Begun::Opens)
            }
        };
        if let Err(reason) = turn.hold(now, &self.key, user, lease, again, out) {
            return Begun::Refused(reason);
        }
        if self.wants_to_close() || !self.is_undoing() {
            self.change(out);
        }
        begun
    }

    /// Whoever knocks for a door whose `undo` has failed has it tried again now: what one turn opened is closed before the
    /// next begins.
    fn wants_to_close(&mut self) -> bool {
        if let Some(turn) = &mut self.turn
            && let Phase::Closing(reason, _, Step::Waits(_)) = turn.phase
        {
            turn.close(reason);
            true
        } else {
            false
        }
    }

    pub(super) fn end(
        &mut self,
        reason: Reason,
        meant: impl Fn(&str, &Lease) -> bool,
        out: &mut Out,
    ) -> usize {
        let (before, undoing) = (self.leases(), self.is_undoing());
        let turns = self.turn.iter_mut().chain(self.next.iter_mut().map(|next| &mut next.turn));
        turns.for_each(|turn| turn.end(&self.key, reason, &meant, out));
        let ended = before.saturating_sub(self.leases());
        if let Some(next) = self.next.take_if(|next| next.turn.leases.is_empty()) {
            out.commands.push_back(Command::Refuse(next.about, refusal(reason)));
        }
        if ended > 0 && !undoing {
            self.close_if_over();
            self.change(out);
        }
        ended
    }

    pub(super) fn is_open(&self) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.phase == Phase::Open)
    }

    pub(super) fn ran(&mut self, how: Ran, out: &mut Out) {
        let Some(turn) = self.turn.as_mut().filter(|turn| turn.phase == Phase::Opening) else {
            return;
        };
        turn.told(|until, _| if how == Ran::Well { Told::Known(until) } else { Told::Unknown });
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

    pub(super) fn undone(&mut self, now: Now, how: Undone, out: &mut Out) {
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
                if let Some(next) = self.next.take() {
                    self.refuse(next, DropReason::Busy, out);
                }
            }
        }
        self.change(out);
    }

    pub(super) fn due(&mut self, now: Now, out: &mut Out) {
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

    /// Tells the kernel when the door ends, if it does not know.
    pub(super) fn renew(&mut self, now: Now, out: &mut Out) {
        let Some(turn) = self.turn.as_mut().filter(|turn| turn.renewal().is_some_and(|at| at <= now.boot))
        else {
            return;
        };
        let left = turn.end_of_all().saturating_sub(now.boot);
        if let Some(batch) = turn.batch(&self.key, left) {
            let door = self.key.clone();
            let renewing = Renewing { door, lease: turn.lease, user: turn.user.clone(), left };
            out.commands.push_back(Command::Start(Job::renewal(renewing, &turn.undo, batch)));
        }
    }

    pub(super) fn renewed(&mut self, now: Now, how: Ran, out: &mut Out) {
        let Some(turn) = &mut self.turn else {
            return;
        };
        let mut failed = None;
        turn.told(|until, attempt| match how {
            Ran::Well => Told::Known(until),
            Ran::Failed | Ran::Refused => {
                let (again, alarm) = back_off(attempt);
                failed = Some(Happening::RenewalFailed(again, alarm));
                Told::Failed(attempt, now.boot.saturating_add(again))
            }
        });
        if let Some(what) = failed {
            out.tell(&self.key, turn.lease, &turn.user, what);
        }
        if turn.closes() && matches!(self.row, Row::Kept | Row::Failed(_)) {
            self.proceed(now, out);
        }
    }

    pub(super) fn forget_kernel(&mut self) {
        if let Some(Kernel { told: told @ Told::Known(_), .. }) =
            self.turn.as_mut().and_then(|turn| turn.kernel.as_mut())
        {
            *told = Told::Unknown;
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
            Some(next) if self.turn.is_none() => Some(&next.turn),
            Some(_) | None => self.turn.as_ref(),
        }
    }

    pub(super) fn kept(&mut self, now: Now, kept: Kept, out: &mut Out) {
        match (self.row, kept) {
            (Row::Outdated, _) => {
                self.row = Row::Kept;
                self.change(out);
            }
            (Row::Asked, Kept::Yes) => {
                self.row = Row::Kept;
                self.proceed(now, out);
            }
            (Row::Asked, Kept::No) => {
                self.row = Row::Failed(now.boot.saturating_add(KEEP_AGAIN));
                match self.next.take_if(|_| self.turn.is_none()) {
                    Some(next) => self.refuse(next, DropReason::StoreFailed, out),
                    // A disk that is full keeps no door open.
                    None => self.proceed(now, out),
                }
            }
            (Row::Kept | Row::Failed(_), _) => {}
        }
    }

    fn refuse(&self, mut next: Next, reason: DropReason, out: &mut Out) {
        next.turn.end(&self.key, Reason::Failed, |_, _| true, out);
        out.commands.push_back(Command::Refuse(next.about, reason));
    }

    pub(super) fn withdraw(&mut self, permits: impl Fn(&About) -> Result<(), DropReason>, out: &mut Out) {
        let Some(Err(reason)) = self.next.as_ref().map(|next| permits(&next.about)) else {
            return;
        };
        if let Some(next) = self.next.take() {
            self.refuse(next, reason, out);
        }
        if !self.is_undoing() {
            self.change(out);
        }
    }

    /// Does what the row was waited for.
    fn proceed(&mut self, now: Now, out: &mut Out) {
        if let Some(next) = self.next.take_if(|_| self.turn.is_none()) {
            let turn = self.turn.insert(next.turn);
            let left = turn.end_of_all().saturating_sub(now.boot);
            let run = match turn.batch(&self.key, left) {
                Some(batch) => next.run.reading(batch),
                None => next.run,
            };
            out.commands.push_back(Command::Start(run));
            return;
        }
        // What opens it anew must not come after what closes it.
        let Some(turn) = self.turn.as_mut().filter(|turn| !turn.is_being_told()) else {
            return;
        };
        if let Phase::Closing(reason, attempt, Step::ToBeKept) = turn.phase {
            turn.phase = Phase::Closing(reason, attempt, Step::Runs);
            let batch = turn.kernel.as_ref().map(|kernel| nft::close(&kernel.set, self.key.source).stdin);
            let undoing = Undoing {
                door: self.key.clone(),
                lease: turn.lease,
                user: turn.user.clone(),
                attempt,
                reason,
            };
            out.commands.push_back(Command::Start(Job::undo(undoing, &turn.undo, batch)));
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
        self.turn
            .as_ref()
            .is_some_and(|turn| matches!(turn.phase, Phase::Closing(_, _, Step::ToBeKept | Step::Runs)))
    }

    pub(super) fn on_shutdown(&self) -> OnShutdown {
        self.turn
            .as_ref()
            .or(self.next.as_ref().map(|next| &next.turn))
            .map_or(OnShutdown::Keep, |turn| turn.on_shutdown)
    }

    /// A user has one: of the turn, or of the one that follows it.
    pub(super) fn lease(&self, user: &str) -> Option<&Lease> {
        let turns = self.turn.iter().chain(self.next.iter().map(|next| &next.turn));
        turns.filter_map(|turn| turn.leases.get(user)).next_back()
    }

    pub(super) fn held(&self) -> impl Iterator<Item = (&str, &Lease)> {
        let turns = self.turn.iter().chain(self.next.iter().map(|next| &next.turn));
        turns.flat_map(|turn| &turn.leases).map(|(user, lease)| (user.as_str(), lease))
    }

    /// Whether its `undo` failed, and is tried again.
    pub(super) fn is_failing(&self) -> bool {
        let phase = self.turn.as_ref().map(|turn| turn.phase);
        matches!(phase, Some(Phase::Closing(_, 2.., _) | Phase::Closing(_, _, Step::Waits(_))))
    }

    fn leases(&self) -> usize {
        let next = self.next.as_ref().map_or(0, |next| next.turn.leases.len());
        self.turn.as_ref().map_or(0, |turn| turn.leases.len()).saturating_add(next)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.next.is_none() && self.turn.as_ref().is_none_or(Turn::is_settled)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.turn.is_none() && self.next.is_none() && self.row == Row::Kept
    }

    /// Since boot; at the latest.
    pub(super) fn next_deadline(&self) -> Duration {
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
        let renewal = self.turn.as_ref().and_then(Turn::renewal);
        ends.chain(again).chain(keep).chain(renewal).min().unwrap_or(Duration::MAX)
    }
}

impl Out {
    pub(super) fn tell(&mut self, door: &DoorKey, lease: KnockId, user: &str, what: Happening) {
        let note = Note { lease, user: user.to_owned(), door: door.clone(), what };
        self.commands.push_back(Command::Tell(note));
    }
}

/// What is said to a knock that waited, and whose lease has ended meanwhile.
fn refusal(reason: Reason) -> DropReason {
    match reason {
        Reason::Revoked => DropReason::NotPermitted,
        Reason::Shutdown => DropReason::Stopping,
        Reason::Expired | Reason::Released | Reason::Failed | Reason::Recovered => DropReason::Busy,
    }
}

/// 1 s, 2 s, 4 s .. 5 min.
fn back_off(attempt: u32) -> (Duration, Alarm) {
    let doubled = SECOND.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
    if doubled < UNDO_AGAIN { (doubled, Alarm::Loud) } else { (UNDO_AGAIN, Alarm::Quiet) }
}

/// The longest between two attempts to undo.
const UNDO_AGAIN: Duration = Duration::from_secs(300);

/// Between two attempts to keep a row.
const KEEP_AGAIN: Duration = Duration::from_secs(5);
