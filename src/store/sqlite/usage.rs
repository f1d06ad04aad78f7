//! Uses in the store's file: counted in the claim's transaction, and read by who may read the file.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Transaction};

use super::fault::{self, Doing};
use super::schema::Format;
use super::{place, reader};
use crate::exit::Exit;
use crate::store::StoreError;
use crate::store::usage::{Ledger, Usage, Used, Waiting, oldest, quarter};
use crate::wire::{ActionId, UserId};

/// One user's, within a transaction.
pub(super) struct Uses<'t> {
    pub(super) transaction: &'t Transaction<'t>,
    pub(super) user: UserId,
}

impl Ledger for Uses<'_> {
    type Error = rusqlite::Error;

    fn uses(&mut self, action: Option<ActionId>, quarter: u32) -> rusqlite::Result<u64> {
        let uses: i64 = match action {
            Some(action) => self.transaction.prepare_cached(
                "SELECT ifnull(sum(uses), 0) FROM recent_uses WHERE user = ?1 AND action = ?2 AND quarter >= ?3",
            )?.query_row((self.user.0, action.number(), quarter), |row| row.get(0))?,
            None => self.transaction.prepare_cached(
                "SELECT ifnull(sum(uses), 0) FROM recent_uses WHERE user = ?1 AND quarter >= ?2",
            )?.query_row((self.user.0, quarter), |row| row.get(0))?,
        };
        Ok(uses.unsigned_abs())
    }

    fn ever(&mut self) -> rusqlite::Result<u64> {
        let uses: i64 = self
            .transaction
            .prepare_cached("SELECT ifnull(sum(uses), 0) FROM uses WHERE user = ?1")?
            .query_row([self.user.0], |row| row.get(0))?;
        Ok(uses.unsigned_abs())
    }

    fn last(&mut self, action: Option<ActionId>) -> rusqlite::Result<Option<u32>> {
        match action {
            Some(action) => self
                .transaction
                .prepare_cached("SELECT max(last) FROM uses WHERE user = ?1 AND action = ?2")?
                .query_row((self.user.0, action.number()), |row| row.get(0)),
            None => self
                .transaction
                .prepare_cached("SELECT max(last) FROM uses WHERE user = ?1")?
                .query_row([self.user.0], |row| row.get(0)),
        }
    }

    fn failures(&mut self, after: u32) -> rusqlite::Result<Vec<u32>> {
        let mut failures = self
            .transaction
            .prepare_cached("SELECT at FROM totp_failures WHERE user = ?1 AND at > ?2 ORDER BY at")?;
        failures.query_map((self.user.0, after), |row| row.get(0))?.collect()
    }

    fn step(&mut self) -> rusqlite::Result<Option<u32>> {
        self.transaction
            .prepare_cached("SELECT step FROM totp_steps WHERE user = ?1")?
            .query_row([self.user.0], |row| row.get(0))
            .optional()
    }

    fn waiting(&mut self, action: ActionId) -> rusqlite::Result<Option<Waiting>> {
        let row =
            |row: &rusqlite::Row<'_>| Ok(Waiting { family: row.get(0)?, at: row.get(1)?, step: row.get(2)? });
        self.transaction
            .prepare_cached(
                "SELECT family, last, step FROM uses
                 WHERE user = ?1 AND action = ?2 AND family > 0 AND last IS NOT NULL",
            )?
            .query_row((self.user.0, action.number()), row)
            .optional()
    }

    fn join(&mut self, action: ActionId) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("UPDATE uses SET family = 0 WHERE user = ?1 AND action = ?2")?
            .execute((self.user.0, action.number()))?;
        Ok(())
    }

    fn add_use(&mut self, action: ActionId, at: u32, waiting: Option<Waiting>) -> rusqlite::Result<()> {
        let (user, action) = (self.user.0, action.number());
        let (family, step) =
            (waiting.map(|waiting| waiting.family), waiting.and_then(|waiting| waiting.step));
        self.transaction
            .prepare_cached(
                "INSERT INTO uses VALUES (?1, ?2, 1, ?3, ?3, NULL, ?4, ?5)
                 ON CONFLICT DO UPDATE SET uses = uses + 1, before = last,
                    first = CASE uses WHEN 0 THEN ?3 ELSE first END, last = max(ifnull(last, 0), ?3),
                    family = ?4, step = ?5",
            )?
            .execute((user, action, at, family, step))?;
        self.transaction
            .prepare_cached(
                "INSERT INTO recent_uses VALUES (?1, ?2, ?3, 1) ON CONFLICT DO UPDATE SET uses = uses + 1",
            )?
            .execute((user, action, quarter(at)))?;
        self.transaction
            .prepare_cached("DELETE FROM recent_uses WHERE user = ?1 AND action = ?2 AND quarter < ?3")?
            .execute((user, action, oldest(at)))?;
        Ok(())
    }

    fn add_failure(&mut self, at: u32, until: u32) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("DELETE FROM totp_failures WHERE user = ?1 AND at <= ?2")?
            .execute((self.user.0, until))?;
        self.transaction
            .prepare_cached("INSERT INTO totp_failures VALUES (?1, ?2)")?
            .execute((self.user.0, at))?;
        Ok(())
    }

    fn set_step(&mut self, step: u32) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("INSERT INTO totp_steps VALUES (?1, ?2) ON CONFLICT DO UPDATE SET step = ?2")?
            .execute((self.user.0, step))?;
        Ok(())
    }
}

/// Takes one use back.
pub(super) fn give_back(transaction: &Transaction<'_>, used: Used) -> rusqlite::Result<()> {
    let Used { user, action, at } = used;
    let given = transaction
        .prepare_cached(
            "UPDATE uses SET uses = uses - 1, last = CASE last WHEN ?3 THEN before ELSE last END, family = NULL
             WHERE user = ?1 AND action = ?2 AND uses > 0 AND NOT (last = ?3 AND ifnull(family, -1) = 0)",
        )?
        .execute((user.0, action.number(), at))?;
    if given == 0 {
        return Ok(());
    }
    transaction
        .prepare_cached(
            "UPDATE recent_uses SET uses = uses - 1
             WHERE user = ?1 AND action = ?2 AND quarter = ?3 AND uses > 0",
        )?
        .execute((user.0, action.number(), quarter(at)))?;
    Ok(())
}

/// Everybody's uses as of `wall` (Unix seconds), by user and action. A daemon that has the store open is not in the way,
/// nor it in the daemon's: nothing in `folder` is made or changed.
///
/// # Errors
///
/// [`StoreError`] with 77 for a file that may not be read, 78 for one that is missing, damaged, foreign, or of another version,
/// 75 for a failing disk.
pub fn read_usage(folder: &Path, wall: u32) -> Result<Vec<Usage>, StoreError> {
    let file = place::file_in(folder);
    let connection = reader::open(folder)?;
    match Format::read(&connection, &file)? {
        format if format.is_current() => {}
        Format::Blank => return Err(outdated(&file, "has nothing in it yet")),
        Format::Version(_) => return Err(outdated(&file, "was written by an older siglatch")),
    }
    usage(&connection, wall).map_err(|error| fault::sqlite(&file, Doing::Read, &error))
}

fn usage(connection: &Connection, wall: u32) -> rusqlite::Result<Vec<Usage>> {
    let mut rows = connection.prepare(
        "SELECT user, action, uses, first, last,
            (SELECT ifnull(sum(uses), 0) FROM recent_uses r WHERE r.user = u.user AND r.action = u.action AND quarter > ?1),
            (SELECT ifnull(sum(uses), 0) FROM recent_uses r WHERE r.user = u.user AND r.action = u.action AND quarter > ?2)
         FROM uses u WHERE uses > 0 AND last IS NOT NULL ORDER BY user, action",
    )?;
    let (day, week) = (quarter(wall.saturating_sub(24 * 3600)), quarter(wall.saturating_sub(7 * 24 * 3600)));
    let row = |row: &rusqlite::Row<'_>| {
        let action = ActionId::new(row.get(1)?).ok_or(rusqlite::Error::IntegralValueOutOfRange(1, 0))?;
        Ok(Usage {
            user: UserId(row.get(0)?),
            action,
            uses: row.get::<_, i64>(2)?.unsigned_abs(),
            first: row.get(3)?,
            last: row.get(4)?,
            day: row.get::<_, i64>(5)?.unsigned_abs(),
            week: row.get::<_, i64>(6)?.unsigned_abs(),
        })
    };
    rows.query_map((day, week), row)?.collect()
}

fn outdated(file: &Path, what: &str) -> StoreError {
    StoreError {
        what: format!("{}: {what}", file.display()),
        hint: "start siglatchd of this version once".to_owned(),
        exit: Exit::Config,
    }
}
