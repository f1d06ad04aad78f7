//! The store as siglatchctl reads it, beside a daemon or without one.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::fault::{self, Doing};
use super::place;
use crate::exit::Exit;
use crate::store::{StoreError, folder};

/// A connection that changes nothing. Without a log nobody has the store open, and the file is taken as it is: the engine
/// would make a log, and the next start could not tell that one is missing.
pub(super) fn open(folder: &Path) -> Result<Connection, StoreError> {
    let file = &place::file_in(folder);
    File::open(file).map_err(|error| unreadable(file, &error))?;
    let fail = |error: rusqlite::Error| fault::sqlite(file, Doing::Read, &error);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let how = if folder.join("claims.db-wal").exists() { "mode=ro" } else { "immutable=1" };
    let connection = Connection::open_with_flags(uri(file, how), flags).map_err(fail)?;
    connection.busy_timeout(Duration::from_secs(2)).map_err(fail)?;
    for (option, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
    ] {
        connection.set_db_config(option, on).map_err(fail)?;
    }
    Ok(connection)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the system's errors are not ours to list")]
fn unreadable(file: &Path, error: &io::Error) -> StoreError {
    let (hint, exit) = match error.kind() {
        io::ErrorKind::NotFound => ("siglatchd makes it at its first start", Exit::Config),
        io::ErrorKind::PermissionDenied => ("run this as root, or as siglatchd's user", Exit::Permission),
        _ => (folder::FAILING, Exit::TryAgain),
    };
    StoreError { what: format!("{}: cannot be read: {error}", file.display()), hint: hint.to_owned(), exit }
}

/// SQLite's form of a file's name, <https://www.sqlite.org/uri.html>.
fn uri(file: &Path, how: &str) -> OsString {
    let mut name = b"file:".to_vec();
    for byte in file.as_os_str().as_bytes() {
        match byte {
            b'%' | b'?' | b'#' => name.extend(format!("%{byte:02x}").bytes()),
            _ => name.push(*byte),
        }
    }
    name.extend(b"?".iter().chain(how.as_bytes()));
    OsString::from_vec(name)
}
