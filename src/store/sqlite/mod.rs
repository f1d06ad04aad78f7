//! Claims, uses, doors, webhooks and the audit trail on disk: SQLite in `state_dir`.
//!
//! In: a folder of siglatchd's own (0700), the boot and the clock. Out: a [`Store`] that survives kill -9, a crash of
//! the machine, a full disk, and its own file's removal, each without running a knock twice.
//!
//! An error refuses the batch and drops the connection; the next batch opens the file again, so service returns by
//! itself. The floor in memory never sinks: a file that is gone or exchanged then raises it to the clock and past every
//! claim that this process saw.

mod audit;
#[cfg(feature = "backup")]
pub mod copy;
mod db;
mod doors;
mod fault;
mod hooks;
mod keys;
mod moved;
mod past;
mod place;
mod reader;
mod schema;
mod usage;

use std::path::{Path, PathBuf};

pub use audit::read_lines;
use db::{Db, Floors};
pub use doors::read_doors;
use fault::Doing;
pub use hooks::read_hooks;
pub use keys::read_keys;
pub use moved::read_moved;
pub use past::Found;
use place::Identity;
pub use usage::read_usage;

use super::doors::{DoorKey, DoorRow};
use super::hooks::HookRow;
use super::keys::KeyRow;
use super::moved::MovedRow;
use super::{Boot, Outcome, Record, Store, StoreError, Sync, Used, seconds};
use crate::audit::Line;
use crate::exit::Exit;
use crate::wire::KnockId;

/// Claims, uses, doors and webhooks in `claims.db`.
#[derive(Debug)]
pub struct SqliteStore {
    folder: PathBuf,
    max_claims: u64,
    boot: Boot,
    /// None after an error.
    db: Option<Db>,
    /// The file that was opened last.
    file: Option<Identity>,
    /// No connection to come may have a lower one.
    floor: u32,
    /// The largest timestamp that was claimed.
    latest: u32,
}

impl SqliteStore {
    /// Opens the store in `folder` at wall clock `wall` (Unix seconds), holding at most `max_claims` claims. The folder
    /// (0700) and the file (0600) are made if they are missing; the folder's parent must exist. Reads the whole file
    /// once, to check it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] with 77 for a folder or file that is not ours alone or cannot be written, 75 for a full or
    /// failing disk and a store in use, 78 for a file that is damaged, foreign, or from a newer version.
    pub fn open(
        folder: &Path,
        max_claims: u64,
        wall: u64,
        boot: &Boot,
    ) -> Result<(SqliteStore, Found), StoreError> {
        SqliteStore::open_with(folder, max_claims, wall, boot, seconds(wall))
    }

    /// Makes the store when the keys are made: no knock can be older than they are, so a new one refuses nothing. A
    /// store that is there keeps its claims.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn create(folder: &Path, wall: u64, boot: &Boot) -> Result<(), StoreError> {
        let (store, _) = SqliteStore::open_with(folder, 0, wall, boot, 0)?;
        Box::new(store).close(wall)
    }

    fn open_with(
        folder: &Path,
        max_claims: u64,
        wall: u64,
        boot: &Boot,
        blank: u32,
    ) -> Result<(SqliteStore, Found), StoreError> {
        let floors = Floors { least: 0, blank };
        let (db, found) = Db::open(folder, boot, seconds(wall), floors)?;
        let store = SqliteStore {
            folder: folder.to_owned(),
            max_claims,
            boot: boot.clone(),
            floor: db.floor,
            latest: db.tally.latest,
            file: db.identity(),
            db: Some(db),
        };
        Ok((store, found))
    }

    /// Runs `act` on the connection, that an error costs.
    fn with<R>(
        &mut self,
        wall: u32,
        doing: Doing,
        act: impl FnOnce(&mut Db) -> rusqlite::Result<R>,
    ) -> Result<R, StoreError> {
        let mut db = self.take_db(wall)?;
        let result = act(&mut db).map_err(|error| fault::sqlite(db.file(), doing, &error))?;
        self.floor = db.floor;
        self.latest = self.latest.max(db.tally.latest);
        self.db = Some(db);
        Ok(result)
    }

    /// The connection, or a new one after an error.
    fn take_db(&mut self, wall: u32) -> Result<Db, StoreError> {
        let lost = self.floor.max(self.latest).max(wall);
        match self.db.take() {
            Some(db) if db.in_place() => Ok(db),
            Some(db) => {
                self.floor = lost;
                Err(gone(db.file()))
            }
            None => {
                let same = place::identity(&place::file_in(&self.folder)) == self.file;
                let least = if same { self.floor } else { lost };
                let (db, _) = Db::open(&self.folder, &self.boot, wall, Floors { least, blank: lost })?;
                self.file = db.identity();
                Ok(db)
            }
        }
    }
}

impl Store for SqliteStore {
    fn claim(&mut self, wall: u64, batch: &[Record]) -> Result<Vec<Outcome>, StoreError> {
        self.claim_telling(wall, batch, &mut |_| Vec::new())
    }

    fn claim_telling(
        &mut self,
        wall: u64,
        batch: &[Record],
        tell: &mut dyn FnMut(&[Outcome]) -> Vec<Line>,
    ) -> Result<Vec<Outcome>, StoreError> {
        let (wall, max_claims) = (seconds(wall), self.max_claims);
        self.with(wall, Doing::Claim, |db| db.claim(wall, max_claims, batch, tell))
    }

    fn append(&mut self, wall: u64, lines: &[Line], sync: Sync) -> Result<(), StoreError> {
        self.with(seconds(wall), Doing::Append, |db| db.append(lines, sync))
    }

    fn lines(&mut self, wall: u64, behind: u64, most: usize) -> Result<Vec<Line>, StoreError> {
        self.with(seconds(wall), Doing::Read, |db| db.lines(behind, most))
    }

    fn last_line(&mut self, wall: u64) -> Result<Option<Line>, StoreError> {
        self.with(seconds(wall), Doing::Read, |db| db.last_line())
    }

    fn trim(&mut self, wall: u64, through: u64, before: u64) -> Result<(), StoreError> {
        self.with(seconds(wall), Doing::Append, |db| db.trim(through, before))
    }

    fn reserve(&mut self, wall: u64) -> Result<(), StoreError> {
        let wall = seconds(wall);
        self.with(wall, Doing::Reserve, |db| db.reserve(wall))
    }

    fn forget(&mut self, wall: u64, before: u32) -> Result<u64, StoreError> {
        let wall = seconds(wall);
        self.with(wall, Doing::Forget, |db| db.forget(before))
    }

    fn keep(&mut self, wall: u64, rows: &[DoorRow]) -> Result<(), StoreError> {
        self.with(seconds(wall), Doing::Keep, |db| db.keep(rows))
    }

    fn doors(&mut self, wall: u64) -> Result<Vec<(DoorKey, String)>, StoreError> {
        self.with(seconds(wall), Doing::Read, |db| db.doors())
    }

    fn keep_hooks(&mut self, wall: u64, rows: &[HookRow]) -> Result<(), StoreError> {
        self.with(seconds(wall), Doing::KeepHooks, |db| db.keep_hooks(rows))
    }

    fn hooks(&mut self, wall: u64) -> Result<Vec<(KnockId, String)>, StoreError> {
        self.with(seconds(wall), Doing::Read, |db| db.hooks())
    }

    fn keep_key(&mut self, wall: u64, row: &KeyRow) -> Result<(), StoreError> {
        self.with(seconds(wall), Doing::KeepKey, |db| db.keep_key(row))
    }

    fn keys(&mut self, wall: u64) -> Result<Vec<KeyRow>, StoreError> {
        self.with(seconds(wall), Doing::Read, |db| db.keys())
    }

    fn keep_moved(&mut self, wall: u64, row: &MovedRow) -> Result<(), StoreError> {
        self.with(seconds(wall), Doing::KeepMoved, |db| db.keep_moved(row))
    }

    fn moved(&mut self, wall: u64) -> Result<Vec<MovedRow>, StoreError> {
        self.with(seconds(wall), Doing::Read, |db| db.moved())
    }

    fn give_back(&mut self, wall: u64, used: Used) -> Result<(), StoreError> {
        self.with(seconds(wall), Doing::GiveBack, |db| db.give_back(used))
    }

    fn close(mut self: Box<Self>, wall: u64) -> Result<(), StoreError> {
        let wall = seconds(wall);
        let db = self.take_db(wall)?;
        let file = db.file().to_owned();
        db.close().map_err(|error| fault::sqlite(&file, Doing::Close, &error))
    }
}

fn gone(file: &Path) -> StoreError {
    StoreError {
        what: format!("{}: was removed or exchanged while in use", file.display()),
        hint: "leave the folder to siglatchd; knocks made before now are refused".to_owned(),
        exit: Exit::TryAgain,
    }
}
