//! The store's promises, one file each: what both engines do, SQLite's files, disks that fail, processes that are
//! killed, the thread, and a model that sees them all mixed.
#![cfg(all(feature = "server", feature = "sqlite"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is a failed test")]
#![allow(clippy::arithmetic_side_effects, reason = "so is an overflow")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a test says is for the console")]

mod audit;
mod claims;
mod disk;
mod doors;
mod files;
mod hooks;
mod keys;
#[cfg(feature = "crash-points")]
mod killed;
mod lost;
mod model;
mod moved;
mod thread;
mod usage;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use siglatch::store::sqlite::Found;
use siglatch::store::{Boot, Outcome, Record, SqliteStore, Store, StoreError};
use siglatch::wire::{Nonce, UserId};

const NOON: u32 = 1_700_000_000;
const WALL: u64 = NOON as u64;

fn record(timestamp: u32, challenge: u32) -> Record {
    Record { nonce: Nonce { timestamp, user: UserId(1), challenge }, source: ip("192.0.2.1"), using: None }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What [`record`] is known as.
fn known() -> Outcome {
    Outcome::Known(ip("192.0.2.1"))
}

fn boot(id: &str) -> Boot {
    Boot { id: id.to_owned(), time: WALL - 1000 }
}

fn open(folder: &Path, wall: u64) -> (SqliteStore, Found) {
    SqliteStore::open(folder, 1000, wall, &boot("a")).unwrap()
}

fn refusal(folder: &Path) -> StoreError {
    SqliteStore::open(folder, 1000, WALL, &boot("a")).unwrap_err()
}

/// A store that was made with the keys: its floor is 0.
struct Made {
    _temp: tempfile::TempDir,
    folder: PathBuf,
}

fn made() -> Made {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("state");
    SqliteStore::create(&folder, WALL, &boot("a")).unwrap();
    Made { _temp: temp, folder }
}

fn edit(folder: &Path, sql: &str) {
    let database = rusqlite::Connection::open(folder.join("claims.db")).unwrap();
    database.execute_batch(sql).unwrap();
}

/// The floor, found by knocking.
fn floor_of(store: &mut dyn Store, wall: u64) -> u32 {
    let (mut low, mut high) = (0, NOON + 1_000_000);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if store.claim(wall, &[record(middle, u32::MAX)]).unwrap() == [Outcome::BelowFloor] {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}
