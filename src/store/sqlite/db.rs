//! One connection: its transactions, and when they are synced.
//!
//! SQLite's WAL loses its last transactions when the machine crashes, unless they were synced. `reserved` is a moment
//! that is on the disk before anything up to it is left to the system: a batch that holds a timestamp beyond it is
//! synced, and reserves the next [`AHEAD`] seconds. So whatever a crash takes is at or below `reserved`, which becomes
//! the floor: whatever the clock does over the crash. The price is that knocks made up to [`AHEAD`] seconds after the
//! crash are refused.
//!
//! A reservation that is half used up is renewed when nobody waits, so steady knocks never wait for the disk, and
//! the first after a pause does. When nobody knocks, nothing is written.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::audit;
use super::doors;
use super::fault::{self, Doing};
use super::hooks;
use super::keys;
use super::moved;
use super::past::{Found, Past, Wal};
use super::place::{self, Identity, Place};
use super::schema::Format;
use super::usage::{self, Uses};
use crate::audit::Line;
use crate::crash;
use crate::store::doors::{DoorKey, DoorRow};
use crate::store::hooks::HookRow;
use crate::store::keys::KeyRow;
use crate::store::moved::MovedRow;
use crate::store::{Boot, Outcome, Record, StoreError, Sync, Use, Used, usage::spend};
use crate::wire::KnockId;

/// An open file: checked, migrated, marked as in use.
#[derive(Debug)]
pub(super) struct Db {
    connection: Connection,
    file: Option<Identity>,
    wal: Option<Identity>,
    /// What the connection does at present.
    sync: Sync,
    pub(super) tally: Tally,
    /// Timestamps up to this are refused.
    pub(super) floor: u32,
    /// Claims up to this may be lost in a crash of the machine: it would refuse them.
    reserved: u32,
    // Behind the connection: the folder's lock ends after it.
    place: Place,
}

/// What is known of the claims without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    /// How many there are.
    pub(super) claims: u64,
    /// The largest timestamp claimed.
    pub(super) latest: u32,
}

/// The floors that an opener asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floors {
    /// Whatever is found.
    pub(super) least: u32,
    /// If there is nothing in the file.
    pub(super) blank: u32,
}

impl Db {
    pub(super) fn open(
        folder: &Path,
        boot: &Boot,
        wall: u32,
        floors: Floors,
    ) -> Result<(Db, Found), StoreError> {
        let place = Place::enter(folder)?;
        let wal = if place.wal.exists() { Wal::Kept } else { Wal::Missing };
        let fail = |error| fault::sqlite(&place.file, Doing::Open, &error);
        let mut connection = connect(&place.file).map_err(fail)?;
        let format = Format::read(&connection, &place.file)?;
        set_up(&connection).map_err(fail)?;
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(fail)?;
        if verdict != "ok" {
            return Err(fault::corrupt(&place.file, &verdict));
        }
        let (found, floor) = mark_in_use(&mut connection, format, boot, wal, wall, floors).map_err(fail)?;
        let tally = tally(&connection).map_err(fail)?;
        let db = Db {
            connection,
            file: place::identity(&place.file),
            wal: place::identity(&place.wal),
            sync: Sync::Now,
            tally,
            floor,
            reserved: wall,
            place,
        };
        Ok((db, found))
    }

    /// Whether what is written still arrives where the next start will look for it.
    pub(super) fn in_place(&self) -> bool {
        self.file == place::identity(&self.place.file) && self.wal == place::identity(&self.place.wal)
    }

    pub(super) fn file(&self) -> &Path {
        &self.place.file
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        self.file
    }

    pub(super) fn claim(
        &mut self,
        wall: u32,
        max_claims: u64,
        batch: &[Record],
        tell: &mut dyn FnMut(&[Outcome]) -> Vec<Line>,
    ) -> rusqlite::Result<Vec<Outcome>> {
        let beyond = batch.iter().any(|record| record.nonce.timestamp > self.reserved);
        let ahead = wall.saturating_add(AHEAD);
        // The floor that follows a crash refuses the knocks that it took along; it gives nobody back what they used up.
        let limited = batch.iter().any(|record| record.using.as_ref().is_some_and(Use::is_limited));
        // A clock that stepped back takes its reservation along, or a crash would refuse what it would wrongly have been.
        let sync = if beyond || limited || ahead < self.reserved { Sync::Now } else { Sync::Later };
        crash::point("store-claim-before");
        let transaction = begin(&mut self.connection, &mut self.sync, sync)?;
        let mut tally = self.tally;
        let outcomes = batch
            .iter()
            .map(|record| claim_one(&transaction, record, self.floor, max_claims, &mut tally))
            .collect::<rusqlite::Result<Vec<Outcome>>>()?;
        audit::put(&transaction, &tell(&outcomes))?;
        if sync == Sync::Now {
            reserve(&transaction, ahead)?;
        }
        crash::point("store-claim-before-commit");
        transaction.commit()?;
        crash::point("store-claim-after-commit");
        self.tally = tally;
        if sync == Sync::Now {
            self.reserved = ahead;
        }
        Ok(outcomes)
    }

    /// Reserves anew if less than half of [`AHEAD`] is left.
    pub(super) fn reserve(&mut self, wall: u32) -> rusqlite::Result<()> {
        if wall.saturating_add(AHEAD / 2) <= self.reserved {
            return Ok(());
        }
        let ahead = wall.saturating_add(AHEAD);
        let transaction = begin(&mut self.connection, &mut self.sync, Sync::Now)?;
        reserve(&transaction, ahead)?;
        crash::point("store-reserve-before-commit");
        transaction.commit()?;
        crash::point("store-reserve-after-commit");
        self.reserved = ahead;
        Ok(())
    }

    pub(super) fn forget(&mut self, before: u32) -> rusqlite::Result<u64> {
        crash::point("store-forget-before");
        let latest: Option<u32> = self
            .connection
            .prepare_cached("SELECT max(timestamp) FROM claims WHERE timestamp < ?1")?
            .query_row([before], |row| row.get(0))?;
        let Some(latest) = latest else {
            return Ok(self.tally.claims);
        };
        let floor = self.floor.max(latest);
        let transaction = begin(&mut self.connection, &mut self.sync, Sync::Now)?;
        let gone =
            transaction.prepare_cached("DELETE FROM claims WHERE timestamp < ?1")?.execute([before])?;
        transaction.prepare_cached("UPDATE state SET refuse_through = ?1")?.execute([floor])?;
        crash::point("store-forget-before-commit");
        transaction.commit()?;
        crash::point("store-forget-after-commit");
        self.floor = floor;
        self.tally.claims = self.tally.claims.saturating_sub(gone as u64);
        Ok(self.tally.claims)
    }

    /// Synced: what follows must not happen without it.
    pub(super) fn keep(&mut self, rows: &[DoorRow]) -> rusqlite::Result<()> {
        crash::point("store-keep-before");
        let transaction = begin(&mut self.connection, &mut self.sync, Sync::Now)?;
        for row in rows {
            doors::put(&transaction, row)?;
        }
        crash::point("store-keep-before-commit");
        transaction.commit()?;
        crash::point("store-keep-after-commit");
        Ok(())
    }

    pub(super) fn doors(&self) -> rusqlite::Result<Vec<(DoorKey, String)>> {
        doors::select(&self.connection)
    }

    /// A crash of the machine may take it along.
    pub(super) fn keep_hooks(&mut self, rows: &[HookRow]) -> rusqlite::Result<()> {
        crash::point("store-hooks-before");
        let transaction = begin(&mut self.connection, &mut self.sync, Sync::Later)?;
        for row in rows {
            hooks::put(&transaction, row)?;
        }
        crash::point("store-hooks-before-commit");
        transaction.commit()?;
        crash::point("store-hooks-after-commit");
        Ok(())
    }

    pub(super) fn hooks(&self) -> rusqlite::Result<Vec<(KnockId, String)>> {
        hooks::select(&self.connection)
    }

    /// Synced: who is told of a key has no other. What it takes the place of is overwritten.
    pub(super) fn keep_key(&mut self, row: &KeyRow) -> rusqlite::Result<()> {
        crash::point("store-key-before");
        self.connection.pragma_update(None, "secure_delete", true)?;
        let transaction = begin(&mut self.connection, &mut self.sync, Sync::Now)?;
        keys::put(&transaction, row)?;
        crash::point("store-key-before-commit");
        transaction.commit()?;
        crash::point("store-key-after-commit");
        self.connection.pragma_update(None, "secure_delete", false)
    }

    pub(super) fn keys(&self) -> rusqlite::Result<Vec<KeyRow>> {
        keys::select(&self.connection)
    }

    pub(super) fn keep_moved(&mut self, row: &MovedRow) -> rusqlite::Result<()> {
        let transaction = begin(&mut self.connection, &mut self.sync, Sync::Later)?;
        moved::put(&transaction, row)?;
        transaction.commit()
    }

    pub(super) fn moved(&self) -> rusqlite::Result<Vec<MovedRow>> {
        moved::select(&self.connection)
    }

    pub(super) fn append(&mut self, lines: &[Line], sync: Sync) -> rusqlite::Result<()> {
        crash::point("store-audit-before");
        let transaction = begin(&mut self.connection, &mut self.sync, sync)?;
        audit::put(&transaction, lines)?;
        crash::point("store-audit-before-commit");
        transaction.commit()?;
        crash::point("store-audit-after-commit");
        Ok(())
    }

    pub(super) fn lines(&self, behind: u64, most: usize) -> rusqlite::Result<Vec<Line>> {
        audit::select(&self.connection, behind, most)
    }

    pub(super) fn last_line(&self) -> rusqlite::Result<Option<Line>> {
        audit::last(&self.connection)
    }

    /// A crash of the machine may bring them back.
    pub(super) fn trim(&mut self, through: u64, before: u64) -> rusqlite::Result<()> {
        let transaction = begin(&mut self.connection, &mut self.sync, Sync::Later)?;
        audit::trim(&transaction, through, before)?;
        transaction.commit()
    }

    /// A crash of the machine may take it along.
    pub(super) fn give_back(&mut self, used: Used) -> rusqlite::Result<()> {
        crash::point("store-give-back-before");
        let transaction = begin(&mut self.connection, &mut self.sync, Sync::Later)?;
        usage::give_back(&transaction, used)?;
        crash::point("store-give-back-before-commit");
        transaction.commit()?;
        crash::point("store-give-back-after-commit");
        Ok(())
    }

    pub(super) fn close(mut self) -> rusqlite::Result<()> {
        crash::point("store-close-before");
        let transaction = begin(&mut self.connection, &mut self.sync, Sync::Now)?;
        transaction.execute("UPDATE state SET boot_id = NULL", ())?;
        crash::point("store-close-before-commit");
        transaction.commit()?;
        crash::point("store-close-after-commit");
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        self.connection.close().map_err(|(_, error)| error)
    }
}

/// A connection that has not yet touched the file.
fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    // Somebody who reads (siglatchctl, a backup) holds up a commit for moments only.
    connection.busy_timeout(Duration::from_secs(2))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // A log that is missing tells the next start that claims are: only a close in order may remove it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", WAL_PAGES, |_| Ok(()))
}

/// Writes, synced, that the store is open in this boot. A start that could not write fails here, and not at the first
/// knock.
fn mark_in_use(
    connection: &mut Connection,
    format: Format,
    boot: &Boot,
    wal: Wal,
    wall: u32,
    floors: Floors,
) -> rusqlite::Result<(Found, u32)> {
    crash::point("store-open-before");
    synchronous(connection, Sync::Now)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    format.migrate(&transaction)?;
    let past = Past::read(&transaction)?;
    let found = match format {
        Format::Blank => Found::Lost { floor: floors.blank },
        Format::Version(_) => past.found(boot, wal, wall),
    };
    let floor = past.refuse_through.max(found.floor()).max(floors.least);
    transaction.execute(
        "UPDATE state SET refuse_through = ?1, reserved = ?2, boot_id = ?3",
        params![floor, wall, boot.id],
    )?;
    crash::point("store-open-before-commit");
    transaction.commit()?;
    crash::point("store-open-after-commit");
    // Whatever a failed sync left in the log is copied out of it: what comes later must not rest on it.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
    Ok((found, floor))
}

fn tally(connection: &Connection) -> rusqlite::Result<Tally> {
    connection.query_row("SELECT count(*), ifnull(max(timestamp), 0) FROM claims", (), |row| {
        Ok(Tally { claims: row.get::<_, i64>(0)?.unsigned_abs(), latest: row.get(1)? })
    })
}

fn begin<'a>(
    connection: &'a mut Connection,
    current: &mut Sync,
    sync: Sync,
) -> rusqlite::Result<Transaction<'a>> {
    if *current != sync {
        synchronous(connection, sync)?;
        *current = sync;
    }
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

fn synchronous(connection: &Connection, sync: Sync) -> rusqlite::Result<()> {
    let name = match sync {
        Sync::Now => "FULL",
        Sync::Later => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", name)
}

fn reserve(transaction: &Transaction<'_>, ahead: u32) -> rusqlite::Result<usize> {
    transaction.prepare_cached("UPDATE state SET reserved = ?1")?.execute([ahead])
}

fn claim_one(
    transaction: &Transaction<'_>,
    record: &Record,
    floor: u32,
    max_claims: u64,
    tally: &mut Tally,
) -> rusqlite::Result<Outcome> {
    let nonce = record.nonce;
    if nonce.timestamp <= floor {
        return Ok(Outcome::BelowFloor);
    }
    let key = (nonce.timestamp, nonce.user.0, nonce.challenge);
    let known: Option<String> = transaction
        .prepare_cached("SELECT source FROM claims WHERE timestamp = ?1 AND user = ?2 AND challenge = ?3")?
        .query_row(key, |row| row.get(0))
        .optional()?;
    if let Some(source) = known {
        let source = source.parse::<IpAddr>().map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
        })?;
        return Ok(Outcome::Known(source));
    }
    if tally.claims >= max_claims {
        return Ok(Outcome::Full);
    }
    transaction.prepare_cached("INSERT INTO claims VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        key.0,
        key.1,
        key.2,
        record.source.to_string()
    ])?;
    tally.claims = tally.claims.saturating_add(1);
    tally.latest = tally.latest.max(nonce.timestamp);
    let Some(using) = &record.using else {
        return Ok(Outcome::New);
    };
    spend(&mut Uses { transaction, user: nonce.user }, using).map(Outcome::from)
}

/// Seconds beyond the clock that a sync reserves: the longest that knocks are refused after a crash of the machine.
const AHEAD: u32 = 10;

/// The log goes back into the file after so many pages of 4 KiB,
const WAL_PAGES: u32 = 1000;
/// and is cut to this when a large `forget` made it longer.
const WAL_BYTES: u32 = 8 << 20;
