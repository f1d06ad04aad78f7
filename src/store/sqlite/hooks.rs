//! The table of webhooks: a row each, whose content is not looked into.

use std::path::Path;

use rusqlite::types::Type;
use rusqlite::{Connection, Transaction};

use super::fault::{self, Doing};
use super::{place, reader};
use crate::store::StoreError;
use crate::store::hooks::HookRow;
use crate::wire::KnockId;

/// The webhooks in the store in `folder`, whether or not a daemon has it open; none if there is no store. Changes nothing.
///
/// # Errors
///
/// [`StoreError`]: it cannot be read, or is none.
pub fn read_hooks(folder: &Path) -> Result<Vec<(KnockId, String)>, StoreError> {
    let file = place::file_in(folder);
    if file.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(Vec::new());
    }
    let connection = reader::open(folder)?;
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'hooks'";
    let tables = connection.query_row(tables, (), |row| row.get::<_, i64>(0));
    let hooks = tables.and_then(|tables| match tables {
        // An older siglatchd's, that the one to come will migrate.
        0 => Ok(Vec::new()),
        _ => select(&connection),
    });
    hooks.map_err(|error| fault::sqlite(&file, Doing::Read, &error))
}

pub(super) fn select(connection: &Connection) -> rusqlite::Result<Vec<(KnockId, String)>> {
    let mut statement = connection.prepare("SELECT id, record FROM hooks ORDER BY id")?;
    let rows = statement.query_map((), |row| {
        let id = KnockId::try_from(row.get::<_, String>(0)?)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into()))?;
        Ok((id, row.get(1)?))
    })?;
    rows.collect()
}

pub(super) fn put(transaction: &Transaction<'_>, row: &HookRow) -> rusqlite::Result<usize> {
    let id = row.id.to_string();
    match &row.record {
        Some(record) => {
            transaction.prepare_cached("INSERT OR REPLACE INTO hooks VALUES (?1, ?2)")?.execute((id, record))
        }
        None => transaction.prepare_cached("DELETE FROM hooks WHERE id = ?1")?.execute([id]),
    }
}
