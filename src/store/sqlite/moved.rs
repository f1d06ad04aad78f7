//! The table of who has moved to the server's new key.

use std::path::Path;

use rusqlite::{Connection, Transaction};

use super::fault::{self, Doing};
use super::{place, reader};
use crate::store::StoreError;
use crate::store::moved::MovedRow;
use crate::wire::UserId;

/// Who knocked when under which key, of the store in `folder`, whether or not a daemon has it open; none if there is no store. Changes
/// nothing.
///
/// # Errors
///
/// [`StoreError`]: it cannot be read, or is none.
pub fn read_moved(folder: &Path) -> Result<Vec<MovedRow>, StoreError> {
    let file = place::file_in(folder);
    if file.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(Vec::new());
    }
    let connection = reader::open(folder)?;
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'moved'";
    let tables = connection.query_row(tables, (), |row| row.get::<_, i64>(0));
    let rows = tables.and_then(|tables| match tables {
        // An older siglatchd's, that the one to come will migrate.
        0 => Ok(Vec::new()),
        _ => select(&connection),
    });
    rows.map_err(|error| fault::sqlite(&file, Doing::Read, &error))
}

pub(super) fn select(connection: &Connection) -> rusqlite::Result<Vec<MovedRow>> {
    let mut statement =
        connection.prepare("SELECT user, key, current, old, moved FROM moved ORDER BY user")?;
    let rows = statement.query_map((), |row| {
        Ok(MovedRow {
            user: UserId(row.get(0)?),
            key: row.get(1)?,
            current: row.get(2)?,
            old: row.get(3)?,
            moved: row.get(4)?,
        })
    })?;
    rows.collect()
}

pub(super) fn put(transaction: &Transaction<'_>, row: &MovedRow) -> rusqlite::Result<usize> {
    transaction.prepare_cached("INSERT OR REPLACE INTO moved VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
        row.user.0,
        row.key,
        row.current,
        row.old,
        row.moved,
    ))
}
