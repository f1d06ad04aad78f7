//! A store taken away, and brought back.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::fault::{self, Doing};
use super::schema::Format;
use super::{place, reader};
use crate::store::StoreError;

/// How far a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// The number of the last record of its trail; 0 without one.
    pub head: u64,
    /// No knock made up to then may run again: the later of its floor and of what it claimed.
    pub floor: u32,
}

/// Writes a copy of the store in `folder` as it is at one moment, whether or not a daemon has it open, to a file that is not there
/// yet. Changes nothing in the store.
///
/// # Errors
///
/// [`StoreError`]: it cannot be read, or the copy cannot be written.
pub fn copy(folder: &Path, to: &Path) -> Result<(), StoreError> {
    let fail = |error| fault::sqlite(&place::file_in(folder), Doing::Copy, &error);
    let connection = reader::open(folder)?;
    connection.execute("VACUUM INTO ?1", [to.to_string_lossy()]).map(drop).map_err(fail)
}

/// Checks the whole store in `folder`; `None` if there is none.
///
/// # Errors
///
/// [`StoreError`]: it is damaged, or none of this siglatch.
pub fn standing(folder: &Path) -> Result<Option<Standing>, StoreError> {
    let file = place::file_in(folder);
    if file.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let fail = |error| fault::sqlite(&file, Doing::Read, &error);
    let connection = reader::open(folder)?;
    let version = Format::read(&connection, &file)?;
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(fail)?;
    if verdict != "ok" {
        return Err(fault::corrupt(&file, &verdict));
    }
    // One of before there was a trail is older than any that has one.
    let head = if version.is_current() { "(SELECT ifnull(max(seq), 0) FROM audit)" } else { "0" };
    let latest = "(SELECT ifnull(max(timestamp), 0) FROM claims)";
    let query = format!("SELECT {head}, max(refuse_through, {latest}) FROM state");
    connection
        .query_row(&query, (), |row| {
            Ok(Standing { head: row.get::<_, i64>(0)?.unsigned_abs(), floor: row.get(1)? })
        })
        .map(Some)
        .map_err(fail)
}

/// Makes a copy fit to be a store again: knocks made up to `floor` are refused.
///
/// # Errors
///
/// [`StoreError`]: it must not be used.
pub fn settle(file: &Path, floor: u32) -> Result<(), StoreError> {
    let fail = |error| fault::sqlite(file, Doing::Copy, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags).map_err(fail)?;
    let raise = "UPDATE state SET refuse_through = max(refuse_through, ?1), boot_id = NULL";
    connection.execute(raise, [floor]).map_err(fail)?;
    connection.close().map_err(|(_, error)| fail(error))
}
