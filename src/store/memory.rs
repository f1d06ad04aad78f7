//! Claims, uses, doors and webhooks in memory: for tests and throw-away machines.
//!
//! It forgets at exit, so its floor is the time at which it started. What was claimed ahead of that clock can run
//! again after a restart, and a door that was open then stays so.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::convert::Infallible;
use std::net::IpAddr;

use super::doors::{DoorKey, DoorRow};
use super::hooks::HookRow;
use super::keys::KeyRow;
use super::moved::MovedRow;
use super::usage::{Ledger, Waiting, oldest, quarter, spend};
use super::{Outcome, Record, Store, StoreError, Sync, Used, seconds};
use crate::audit::Line;
use crate::exit::Exit;
use crate::wire::{ActionId, KnockId, Nonce, UserId};

/// Claims until exit.
#[derive(Debug)]
pub struct MemoryStore {
    claims: BTreeMap<Nonce, IpAddr>,
    users: BTreeMap<UserId, Uses>,
    max_claims: u64,
    floor: u32,
    doors: BTreeMap<DoorKey, String>,
    hooks: BTreeMap<KnockId, String>,
    keys: BTreeMap<UserId, KeyRow>,
    moved: BTreeMap<UserId, MovedRow>,
    /// Until they are in a file.
    lines: BTreeMap<u64, Line>,
}

/// One user's.
#[derive(Debug, Default)]
struct Uses {
    actions: BTreeMap<ActionId, Of>,
    failures: Vec<u32>,
    step: Option<u32>,
}

/// One action's: as the tables of SQLite have them.
#[derive(Debug, Default)]
struct Of {
    ever: u64,
    quarters: BTreeMap<u32, u64>,
    last: Option<u32>,
    before: Option<u32>,
    waiting: Option<Waiting>,
    joined: Option<u32>,
}

impl MemoryStore {
    /// Holds at most `max_claims`, refuses what is not later than `wall` (now, Unix seconds).
    pub fn new(max_claims: u64, wall: u64) -> MemoryStore {
        MemoryStore {
            claims: BTreeMap::new(),
            users: BTreeMap::new(),
            max_claims,
            floor: seconds(wall),
            doors: BTreeMap::new(),
            hooks: BTreeMap::new(),
            keys: BTreeMap::new(),
            moved: BTreeMap::new(),
            lines: BTreeMap::new(),
        }
    }

    /// Lines that cannot be written to the file wait here, and not without end.
    fn has_room(&self) -> Result<(), StoreError> {
        if self.lines.len() < LINES {
            return Ok(());
        }
        Err(StoreError {
            what: "too many records wait to be written to the audit file".to_owned(),
            hint: "let siglatchd write in its state_dir".to_owned(),
            exit: Exit::TryAgain,
        })
    }

    fn claim_one(&mut self, record: &Record) -> Outcome {
        if record.nonce.timestamp <= self.floor {
            return Outcome::BelowFloor;
        }
        let full = self.claims.len() as u64 >= self.max_claims;
        match self.claims.entry(record.nonce) {
            Entry::Occupied(known) => Outcome::Known(*known.get()),
            Entry::Vacant(_) if full => Outcome::Full,
            Entry::Vacant(room) => {
                room.insert(record.source);
                let uses = self.users.entry(record.nonce.user).or_default();
                record.using.map_or(Outcome::New, |using| {
                    let Ok(spent) = spend(uses, &using);
                    spent.into()
                })
            }
        }
    }
}

impl Store for MemoryStore {
    fn claim(&mut self, _wall: u64, batch: &[Record]) -> Result<Vec<Outcome>, StoreError> {
        Ok(batch.iter().map(|record| self.claim_one(record)).collect())
    }

    fn forget(&mut self, _wall: u64, before: u32) -> Result<u64, StoreError> {
        let first_kept = Nonce { timestamp: before, user: UserId(0), challenge: 0 };
        let kept = self.claims.split_off(&first_kept);
        if let Some((latest, _)) = self.claims.last_key_value() {
            self.floor = self.floor.max(latest.timestamp);
        }
        self.claims = kept;
        Ok(self.claims.len() as u64)
    }

    fn keep(&mut self, _wall: u64, rows: &[DoorRow]) -> Result<(), StoreError> {
        for row in rows {
            match &row.record {
                Some(record) => self.doors.insert(row.key.clone(), record.clone()),
                None => self.doors.remove(&row.key),
            };
        }
        Ok(())
    }

    fn doors(&mut self, _wall: u64) -> Result<Vec<(DoorKey, String)>, StoreError> {
        Ok(self.doors.clone().into_iter().collect())
    }

    fn keep_hooks(&mut self, _wall: u64, rows: &[HookRow]) -> Result<(), StoreError> {
        for row in rows {
            match &row.record {
                Some(record) => self.hooks.insert(row.id, record.clone()),
                None => self.hooks.remove(&row.id),
            };
        }
        Ok(())
    }

    fn hooks(&mut self, _wall: u64) -> Result<Vec<(KnockId, String)>, StoreError> {
        Ok(self.hooks.clone().into_iter().collect())
    }

    fn keep_key(&mut self, _wall: u64, row: &KeyRow) -> Result<(), StoreError> {
        self.keys.insert(row.user, row.clone());
        Ok(())
    }

    fn keys(&mut self, _wall: u64) -> Result<Vec<KeyRow>, StoreError> {
        Ok(self.keys.values().cloned().collect())
    }

    fn keep_moved(&mut self, _wall: u64, row: &MovedRow) -> Result<(), StoreError> {
        self.moved.insert(row.user, *row);
        Ok(())
    }

    fn moved(&mut self, _wall: u64) -> Result<Vec<MovedRow>, StoreError> {
        Ok(self.moved.values().copied().collect())
    }

    fn give_back(&mut self, _wall: u64, used: Used) -> Result<(), StoreError> {
        let of = self.users.get_mut(&used.user).and_then(|uses| uses.actions.get_mut(&used.action));
        if let Some(of) = of.filter(|of| of.joined != Some(used.at)) {
            of.waiting = None;
            of.ever = of.ever.saturating_sub(1);
            if let Some(count) = of.quarters.get_mut(&quarter(used.at)) {
                *count = count.saturating_sub(1);
            }
            if of.last == Some(used.at) {
                of.last = of.before;
            }
        }
        Ok(())
    }

    fn claim_telling(
        &mut self,
        wall: u64,
        batch: &[Record],
        tell: &mut dyn FnMut(&[Outcome]) -> Vec<Line>,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.has_room()?;
        let outcomes = self.claim(wall, batch)?;
        self.append(wall, &tell(&outcomes), Sync::Later)?;
        Ok(outcomes)
    }

    fn append(&mut self, _wall: u64, lines: &[Line], _sync: Sync) -> Result<(), StoreError> {
        self.has_room()?;
        self.lines.extend(lines.iter().map(|line| (line.seq, line.clone())));
        Ok(())
    }

    fn lines(&mut self, _wall: u64, behind: u64, most: usize) -> Result<Vec<Line>, StoreError> {
        Ok(self.lines.range(behind.saturating_add(1)..).take(most).map(|(_, line)| line.clone()).collect())
    }

    fn last_line(&mut self, _wall: u64) -> Result<Option<Line>, StoreError> {
        Ok(self.lines.last_key_value().map(|(_, line)| line.clone()))
    }

    fn trim(&mut self, _wall: u64, through: u64, _before: u64) -> Result<(), StoreError> {
        self.lines = self.lines.split_off(&through);
        Ok(())
    }

    fn close(self: Box<Self>, _wall: u64) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Uses {
    fn of(&self, action: Option<ActionId>) -> impl Iterator<Item = &Of> {
        self.actions
            .iter()
            .filter(move |(id, _)| action.is_none_or(|action| action == **id))
            .map(|(_, of)| of)
    }
}

impl Ledger for Uses {
    type Error = Infallible;

    fn uses(&mut self, action: Option<ActionId>, quarter: u32) -> Result<u64, Infallible> {
        Ok(self.of(action).flat_map(|of| of.quarters.range(quarter..)).map(|(_, count)| count).sum())
    }

    fn ever(&mut self) -> Result<u64, Infallible> {
        Ok(self.of(None).map(|of| of.ever).sum())
    }

    fn last(&mut self, action: Option<ActionId>) -> Result<Option<u32>, Infallible> {
        Ok(self.of(action).filter_map(|of| of.last).max())
    }

    fn failures(&mut self, after: u32) -> Result<Vec<u32>, Infallible> {
        let mut failures: Vec<u32> = self.failures.iter().copied().filter(|at| *at > after).collect();
        failures.sort_unstable();
        Ok(failures)
    }

    fn step(&mut self) -> Result<Option<u32>, Infallible> {
        Ok(self.step)
    }

    fn waiting(&mut self, action: ActionId) -> Result<Option<Waiting>, Infallible> {
        Ok(self.actions.get(&action).and_then(|of| of.waiting))
    }

    fn join(&mut self, action: ActionId) -> Result<(), Infallible> {
        if let Some(of) = self.actions.get_mut(&action) {
            of.joined = of.waiting.take().map(|waiting| waiting.at);
        }
        Ok(())
    }

    fn add_use(&mut self, action: ActionId, at: u32, waiting: Option<Waiting>) -> Result<(), Infallible> {
        let of = self.actions.entry(action).or_default();
        of.waiting = waiting;
        of.ever = of.ever.saturating_add(1);
        of.before = of.last;
        of.last = of.last.max(Some(at));
        let count = of.quarters.entry(quarter(at)).or_default();
        *count = count.saturating_add(1);
        of.quarters = of.quarters.split_off(&oldest(at));
        Ok(())
    }

    fn add_failure(&mut self, at: u32, until: u32) -> Result<(), Infallible> {
        self.failures.retain(|failure| *failure > until);
        self.failures.push(at);
        Ok(())
    }

    fn set_step(&mut self, step: u32) -> Result<(), Infallible> {
        self.step = Some(step);
        Ok(())
    }
}

/// Lines that are in no file yet.
const LINES: usize = 16_384;
