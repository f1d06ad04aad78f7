//! The file's format: whose it is, its version, and how older ones become the current one.

use std::path::Path;

use rusqlite::{Connection, Transaction};

use super::fault::{self, Doing};
use crate::exit::Exit;
use crate::store::StoreError;

/// "SLat" in the file's header: a store of siglatch.
const APPLICATION_ID: i32 = 0x534C_6174;

/// Each brings a file from the version that is its index to the next; version 0 is an empty file. Never edited once
/// released, only added to.
const MIGRATIONS: &[&str] = &[
    // `state` has one row. `synced_at`: the wall clock at the last sync. `boot_id`: NULL after a close in order.
    "CREATE TABLE claims (
        timestamp INTEGER NOT NULL,
        user      INTEGER NOT NULL,
        challenge INTEGER NOT NULL,
        source    TEXT    NOT NULL,
        PRIMARY KEY (timestamp, user, challenge)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE state (
        id             INTEGER PRIMARY KEY CHECK (id = 1),
        refuse_through INTEGER NOT NULL,
        synced_at      INTEGER NOT NULL,
        boot_id        TEXT
    ) STRICT;
    INSERT INTO state VALUES (1, 0, 0, NULL);",
    // What is later was synced. It once was the clock at the last sync; now it may lie ahead of it.
    "ALTER TABLE state RENAME COLUMN synced_at TO reserved;",
    // Doors that are to be closed. `record` is JSON, its meaning that of src/work/leases/record.rs.
    "CREATE TABLE doors (
        action TEXT NOT NULL,
        source TEXT NOT NULL,
        record TEXT NOT NULL,
        PRIMARY KEY (action, source)
    ) STRICT, WITHOUT ROWID;",
    // `uses`: what a user used of an action, ever; `before` is `last` without the last. `recent_uses`: the same by quarters of
    // an hour since the Unix epoch. Both count down when one is given back. While the last use of a door waits for its twin,
    // `family` is 4 or 6 and `step` that of its code; when it came, `family` is 0.
    "CREATE TABLE uses (
        user   INTEGER NOT NULL,
        action INTEGER NOT NULL,
        uses   INTEGER NOT NULL,
        first  INTEGER NOT NULL,
        last   INTEGER,
        before INTEGER,
        family INTEGER,
        step   INTEGER,
        PRIMARY KEY (user, action)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE recent_uses (
        user    INTEGER NOT NULL,
        action  INTEGER NOT NULL,
        quarter INTEGER NOT NULL,
        uses    INTEGER NOT NULL,
        PRIMARY KEY (user, action, quarter)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE totp_steps (
        user INTEGER PRIMARY KEY,
        step INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE totp_failures (
        user INTEGER NOT NULL,
        at   INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX totp_failures_of ON totp_failures (user, at);",
    // Webhooks, by the id of the knock that they tell of. `record` is JSON, its meaning that of src/work/hooks/record.rs.
    "CREATE TABLE hooks (
        id     TEXT PRIMARY KEY,
        record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;",
    // The audit trail: `at` in milliseconds since the Unix epoch, `line` without its newline.
    "CREATE TABLE audit (
        seq  INTEGER PRIMARY KEY,
        at   INTEGER NOT NULL,
        line TEXT NOT NULL
    ) STRICT;",
    // Keys in place of those in files. `record` is as src/store/keys.rs says, and a secret.
    "CREATE TABLE keys (
        user   INTEGER PRIMARY KEY,
        record TEXT NOT NULL
    ) STRICT;",
    // When each user knocked last under the server's key with this fingerprint, 32 bytes, and under the one before it; `moved`: 1 if
    // the last of all was under the former.
    "CREATE TABLE moved (
        user    INTEGER PRIMARY KEY,
        key     BLOB NOT NULL,
        current INTEGER,
        old     INTEGER,
        moved   INTEGER NOT NULL
    ) STRICT;",
];

/// What a file is, before anything in it is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Nothing in it: just made, or lost.
    Blank,
    /// A store of this version, 1 to the current one.
    Version(usize),
}

impl Format {
    /// Reads the header.
    pub(super) fn read(connection: &Connection, file: &Path) -> Result<Format, StoreError> {
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        let fail = |error| fault::sqlite(file, Doing::Open, &error);
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0)).map_err(fail)?;
        let ours = pragma("application_id").map_err(fail)? == APPLICATION_ID;
        let version = pragma("user_version").map_err(fail)?;
        match (ours, usize::try_from(version).unwrap_or(usize::MAX)) {
            (false, 0) if tables == 0 => Ok(Format::Blank),
            (true, version @ 1..) if version <= MIGRATIONS.len() => Ok(Format::Version(version)),
            (true, 1..) => Err(StoreError {
                what: format!(
                    "{}: was written by a newer siglatch (format {version}, this one knows {})",
                    file.display(),
                    MIGRATIONS.len()
                ),
                hint: format!("install that version again, or {}", fault::start_over(file)),
                exit: Exit::Config,
            }),
            (true | false, _) => Err(StoreError {
                what: format!("{}: is not a store of siglatch", file.display()),
                hint: fault::start_over(file),
                exit: Exit::Config,
            }),
        }
    }

    /// Whether nothing is left to [`migrate`](Format::migrate).
    pub(super) fn is_current(self) -> bool {
        self == Format::Version(MIGRATIONS.len())
    }

    /// Brings the file to the current version.
    pub(super) fn migrate(self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let version = match self {
            Format::Blank => 0,
            Format::Version(version) => version,
        };
        for step in MIGRATIONS.iter().skip(version) {
            transaction.execute_batch(step)?;
        }
        if version < MIGRATIONS.len() {
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
        }
        Ok(())
    }
}
