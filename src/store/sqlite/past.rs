//! How the store was left, and what floor follows from it.

use rusqlite::Connection;

use crate::store::{Boot, seconds};

/// What an opener found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Every claim that was ever made.
    Intact,
    /// The machine crashed and may have taken the last claims along: knocks made up to `floor` are refused.
    Crashed {
        /// The later of boot and what was reserved, Unix seconds; it may lie seconds ahead.
        floor: u32,
    },
    /// No claims, though there may have been some: a new file, or its log was removed. Knocks made up to `floor` are
    /// refused.
    Lost {
        /// Now, Unix seconds; 0 from [`create`](super::SqliteStore::create).
        floor: u32,
    },
}

impl Found {
    pub(super) fn floor(self) -> u32 {
        match self {
            Found::Intact => 0,
            Found::Crashed { floor } | Found::Lost { floor } => floor,
        }
    }
}

/// The one row of `state`.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) refuse_through: u32,
    reserved: u32,
    /// None after a close in order.
    boot_id: Option<String>,
}

/// Whether the write-ahead log was there before the engine made one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wal {
    Kept,
    Missing,
}

impl Past {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Past> {
        let row = |row: &rusqlite::Row<'_>| {
            Ok(Past { refuse_through: row.get(0)?, reserved: row.get(1)?, boot_id: row.get(2)? })
        };
        connection.query_row("SELECT refuse_through, reserved, boot_id FROM state", (), row)
    }

    /// An open store always has its log, until it is closed in order: without it, claims are missing.
    pub(super) fn found(&self, boot: &Boot, wal: Wal, now: u32) -> Found {
        match (&self.boot_id, wal) {
            (None, Wal::Kept | Wal::Missing) => Found::Intact,
            (Some(_), Wal::Missing) => Found::Lost { floor: now.max(self.reserved) },
            (Some(id), Wal::Kept) if *id == boot.id && !id.is_empty() => Found::Intact,
            (Some(_), Wal::Kept) => Found::Crashed { floor: seconds(boot.time).max(self.reserved) },
        }
    }
}
