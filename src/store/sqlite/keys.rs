//! The table of exchanged keys.

use std::path::Path;

use rusqlite::types::Type;
use rusqlite::{Connection, Transaction};
use zeroize::Zeroizing;

use super::fault::{self, Doing};
use super::{place, reader};
use crate::store::StoreError;
use crate::store::keys::{Exchanged, KeyRow};
use crate::wire::UserId;

/// The exchanged keys in the store in `folder`, whether or not a daemon has it open; none if there is no store. Changes nothing.
///
/// # Errors
///
/// [`StoreError`]: it cannot be read, or is none.
pub fn read_keys(folder: &Path) -> Result<Vec<KeyRow>, StoreError> {
    let file = place::file_in(folder);
    if file.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(Vec::new());
    }
    let connection = reader::open(folder)?;
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'keys'";
    let tables = connection.query_row(tables, (), |row| row.get::<_, i64>(0));
    let keys = tables.and_then(|tables| match tables {
        // An older siglatchd's, that the one to come will migrate.
        0 => Ok(Vec::new()),
        _ => select(&connection),
    });
    keys.map_err(|error| fault::sqlite(&file, Doing::Read, &error))
}

pub(super) fn select(connection: &Connection) -> rusqlite::Result<Vec<KeyRow>> {
    let mut statement = connection.prepare("SELECT user, record FROM keys ORDER BY user")?;
    let rows = statement.query_map((), |row| {
        let record = Zeroizing::new(row.get::<_, String>(1)?);
        let bad = || rusqlite::Error::FromSqlConversionFailure(1, Type::Text, "no record of a key".into());
        Ok(KeyRow { user: UserId(row.get(0)?), exchanged: Exchanged::parse(&record).ok_or_else(bad)? })
    })?;
    rows.collect()
}

pub(super) fn put(transaction: &Transaction<'_>, row: &KeyRow) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO keys VALUES (?1, ?2)")?
        .execute((row.user.0, row.exchanged.to_text().as_str()))
}
