//! The table of the audit trail: a line each, whose content is not looked into.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};

use super::fault::{self, Doing};
use super::{place, reader};
use crate::audit::Line;
use crate::store::StoreError;

/// The lines behind the one with this number in the store in `folder`, at most so many, whether or not a daemon has it open;
/// none if there is no store. Changes nothing.
///
/// # Errors
///
/// [`StoreError`]: it cannot be read, or is none.
pub fn read_lines(folder: &Path, behind: u64, most: usize) -> Result<Vec<Line>, StoreError> {
    let file = place::file_in(folder);
    if file.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(Vec::new());
    }
    let connection = reader::open(folder)?;
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'audit'";
    let tables = connection.query_row(tables, (), |row| row.get::<_, i64>(0));
    let lines = tables.and_then(|tables| match tables {
        // An older siglatchd's, that the one to come will migrate.
        0 => Ok(Vec::new()),
        _ => select(&connection, behind, most),
    });
    lines.map_err(|error| fault::sqlite(&file, Doing::Read, &error))
}

pub(super) fn put(transaction: &Transaction<'_>, lines: &[Line]) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached("INSERT INTO audit VALUES (?1, ?2, ?3)")?;
    for line in lines {
        insert.execute((signed(line.seq), signed(line.at), &line.text))?;
    }
    Ok(())
}

pub(super) fn select(connection: &Connection, behind: u64, most: usize) -> rusqlite::Result<Vec<Line>> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut statement =
        connection.prepare_cached("SELECT seq, at, line FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
    statement.query_map((signed(behind), most), line)?.collect()
}

pub(super) fn last(connection: &Connection) -> rusqlite::Result<Option<Line>> {
    let mut statement =
        connection.prepare_cached("SELECT seq, at, line FROM audit ORDER BY seq DESC LIMIT 1")?;
    statement.query_row((), line).optional()
}

/// In pieces, so that no claim waits long: what is left goes the next time. The last one tells where the trail goes on.
pub(super) fn trim(transaction: &Transaction<'_>, through: u64, before: u64) -> rusqlite::Result<usize> {
    let oldest = "SELECT seq FROM audit WHERE seq <= ?1 AND at < ?2
        AND seq < (SELECT max(seq) FROM audit) ORDER BY seq LIMIT 20000";
    let delete = format!("DELETE FROM audit WHERE seq IN ({oldest})");
    transaction.prepare_cached(&delete)?.execute((signed(through), signed(before)))
}

fn line(row: &Row<'_>) -> rusqlite::Result<Line> {
    let unsigned = |at: i64| at.unsigned_abs();
    Ok(Line { seq: unsigned(row.get(0)?), at: unsigned(row.get(1)?), text: row.get(2)? })
}

/// SQLite's integers end at 2^63, which is some 300 million years in milliseconds.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
