//! The table of doors: a row each, whose content is not looked into.

use std::net::IpAddr;
use std::path::Path;

use rusqlite::types::Type;
use rusqlite::{Connection, Transaction};

use super::fault::{self, Doing};
use super::{place, reader};
use crate::store::StoreError;
use crate::store::doors::{DoorKey, DoorRow};

/// The doors in the store in `folder`, whether or not a daemon has it open; none if there is no store. Changes nothing.
///
/// # Errors
///
/// [`StoreError`]: it cannot be read, or is none.
pub fn read_doors(folder: &Path) -> Result<Vec<(DoorKey, String)>, StoreError> {
    let file = place::file_in(folder);
    if file.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(Vec::new());
    }
    let connection = reader::open(folder)?;
    select(&connection).map_err(|error| fault::sqlite(&file, Doing::Read, &error))
}

pub(super) fn select(connection: &Connection) -> rusqlite::Result<Vec<(DoorKey, String)>> {
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'doors'";
    // An older siglatchd's, that the one to come will migrate.
    if connection.query_row(tables, (), |row| row.get::<_, i64>(0))? == 0 {
        return Ok(Vec::new());
    }
    let mut statement =
        connection.prepare("SELECT action, source, record FROM doors ORDER BY action, source")?;
    let rows = statement.query_map((), |row| {
        let source: String = row.get(1)?;
        let source = source
            .parse::<IpAddr>()
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error)))?;
        Ok((DoorKey { action: row.get(0)?, source }, row.get(2)?))
    })?;
    rows.collect()
}

pub(super) fn put(transaction: &Transaction<'_>, row: &DoorRow) -> rusqlite::Result<usize> {
    let source = row.key.source.to_string();
    match &row.record {
        Some(record) => transaction
            .prepare_cached("INSERT OR REPLACE INTO doors VALUES (?1, ?2, ?3)")?
            .execute((&row.key.action, source, record)),
        None => transaction
            .prepare_cached("DELETE FROM doors WHERE action = ?1 AND source = ?2")?
            .execute((&row.key.action, source)),
    }
}
