//! What is left of the claims after a kill, a crash of the machine, a lost file.

use std::fs;
use std::path::Path;

use siglatch::store::sqlite::Found;
use siglatch::store::{Boot, Outcome, SqliteStore, Store as _};

use super::{NOON, WALL, boot, floor_of, known, made, open, record};

#[test]
fn claims_and_floor_outlive_a_killed_process() {
    let made = made();
    let mut store = open(&made.folder, WALL).0;
    store.claim(WALL, &[record(NOON - 9, 1), record(NOON, 2)]).unwrap();
    store.forget(WALL, NOON - 5).unwrap();
    drop(store);
    let (mut store, found) = open(&made.folder, WALL + 60);
    assert_eq!(found, Found::Intact);
    assert_eq!(floor_of(&mut store, WALL + 60), NOON - 9);
    assert_eq!(store.claim(WALL, &[record(NOON, 2)]).unwrap(), [known()]);
}

#[test]
fn a_close_in_order_leaves_one_file_and_a_new_boot_raises_nothing() {
    let made = made();
    let mut store = open(&made.folder, WALL).0;
    store.claim(WALL, &[record(NOON, 2)]).unwrap();
    Box::new(store).close(WALL).unwrap();
    let left: Vec<_> = fs::read_dir(&made.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["claims.db"]);
    let (mut store, found) = SqliteStore::open(&made.folder, 1000, WALL + 9, &boot("b")).unwrap();
    assert_eq!(found, Found::Intact);
    assert_eq!(floor_of(&mut store, WALL + 9), 0);
}

/// What a start in another boot, at `time`, finds.
fn after_a_crash(folder: &Path, time: u64, wall: u64) -> Found {
    let next = Boot { id: "b".to_owned(), time };
    SqliteStore::open(folder, 1000, wall, &next).unwrap().1
}

#[test]
fn a_crash_of_the_machine_raises_the_floor_to_the_later_of_boot_and_what_was_reserved() {
    for (time, floor) in [(WALL - 1000, NOON + 17), (WALL + 90, NOON + 90)] {
        let made = made();
        let mut store = open(&made.folder, WALL).0;
        store.claim(WALL + 7, &[record(NOON + 7, 1)]).unwrap();
        drop(store);
        let next = Boot { id: "b".to_owned(), time };
        let (mut store, found) = SqliteStore::open(&made.folder, 1000, WALL + 100, &next).unwrap();
        assert_eq!(found, Found::Crashed { floor });
        assert_eq!(floor_of(&mut store, WALL + 100), floor);
    }
}

#[test]
fn a_crash_after_nothing_was_claimed_refuses_nothing_that_came_later() {
    let made = made();
    drop(open(&made.folder, WALL).0);
    assert_eq!(after_a_crash(&made.folder, WALL - 1000, WALL + 100), Found::Crashed { floor: NOON });
}

#[test]
fn a_claim_beyond_what_is_reserved_reserves_ten_seconds_from_its_clock() {
    let made = made();
    let mut store = open(&made.folder, WALL).0;
    // Past for the clock, but later than anything that a crash would refuse.
    store.claim(WALL + 60, &[record(NOON + 50, 1)]).unwrap();
    drop(store);
    assert_eq!(after_a_crash(&made.folder, WALL - 1000, WALL - 9), Found::Crashed { floor: NOON + 70 });
}

#[test]
fn claims_within_what_is_reserved_move_nothing_and_are_below_the_floor_of_a_crash() {
    let made = made();
    let mut store = open(&made.folder, WALL).0;
    store.claim(WALL, &[record(NOON + 1, 1)]).unwrap();
    store.claim(WALL + 9, &[record(NOON + 10, 2)]).unwrap();
    drop(store);
    assert_eq!(after_a_crash(&made.folder, WALL - 1000, WALL), Found::Crashed { floor: NOON + 10 });
}

#[test]
fn a_claim_ahead_of_what_is_reserved_is_synced_and_locks_out_nobody_for_as_long() {
    let made = made();
    let mut store = open(&made.folder, WALL).0;
    store.claim(WALL, &[record(NOON + 200, 1)]).unwrap();
    drop(store);
    assert_eq!(after_a_crash(&made.folder, WALL - 1000, WALL), Found::Crashed { floor: NOON + 10 });
    let outcomes = open(&made.folder, WALL).0.claim(WALL, &[record(NOON + 200, 1)]).unwrap();
    assert_eq!(outcomes, [known()]);
}

#[test]
fn a_reservation_is_renewed_when_half_of_it_is_used_up_and_not_before() {
    for (wait, floor) in [(0, NOON + 10), (5, NOON + 10), (6, NOON + 16), (60, NOON + 70)] {
        let made = made();
        let mut store = open(&made.folder, WALL).0;
        store.claim(WALL, &[record(NOON + 1, 1)]).unwrap();
        store.reserve(WALL + wait).unwrap();
        drop(store);
        assert_eq!(after_a_crash(&made.folder, WALL - 1000, WALL), Found::Crashed { floor }, "{wait} s");
    }
}

#[test]
fn forgetting_nothing_writes_nothing() {
    let made = made();
    let mut store = open(&made.folder, WALL).0;
    store.claim(WALL, &[record(NOON, 1)]).unwrap();
    let wal = made.folder.join("claims.db-wal");
    let before = fs::read(&wal).unwrap();
    assert_eq!(store.forget(WALL + 500, NOON).unwrap(), 1);
    assert!(fs::read(&wal).unwrap() == before);
    assert_eq!(store.forget(WALL + 500, NOON + 1).unwrap(), 0);
    assert!(fs::read(&wal).unwrap() != before);
}

#[test]
fn a_clock_that_was_far_ahead_before_a_crash_locks_nobody_out() {
    let made = made();
    let mut store = open(&made.folder, WALL + 1_000_000).0;
    // Set right: what is reserved with it counts from the right clock.
    store.claim(WALL, &[record(NOON, 1)]).unwrap();
    drop(store);
    assert_eq!(after_a_crash(&made.folder, WALL - 1000, WALL + 100), Found::Crashed { floor: NOON + 10 });
}

#[test]
fn an_unknown_boot_counts_as_a_crash() {
    let made = made();
    drop(SqliteStore::open(&made.folder, 1000, WALL, &boot("")).unwrap());
    let (_, found) = SqliteStore::open(&made.folder, 1000, WALL, &boot("")).unwrap();
    assert_eq!(found, Found::Crashed { floor: NOON });
}

#[test]
fn a_missing_file_is_a_lost_file() {
    let temp = tempfile::tempdir().unwrap();
    let (mut store, found) = open(&temp.path().join("state"), WALL);
    assert_eq!(found, Found::Lost { floor: NOON });
    let outcomes = store.claim(WALL, &[record(NOON, 1), record(NOON + 1, 1)]).unwrap();
    assert_eq!(outcomes, [Outcome::BelowFloor, Outcome::New]);
}

#[test]
fn an_emptied_file_is_a_lost_file() {
    let made = made();
    let mut store = open(&made.folder, WALL).0;
    store.claim(WALL, &[record(NOON, 1)]).unwrap();
    drop(store);
    fs::File::options().write(true).truncate(true).open(made.folder.join("claims.db")).unwrap();
    assert_eq!(open(&made.folder, WALL).1, Found::Lost { floor: NOON });
}

#[test]
fn a_log_that_was_removed_from_a_killed_store_is_a_lost_file() {
    let made = made();
    let mut store = open(&made.folder, WALL).0;
    store.claim(WALL, &[record(NOON, 1)]).unwrap();
    drop(store);
    fs::remove_file(made.folder.join("claims.db-wal")).unwrap();
    let (mut store, found) = open(&made.folder, WALL + 1);
    assert_eq!(found, Found::Lost { floor: NOON + 1 });
    assert_eq!(store.claim(WALL + 1, &[record(NOON, 1)]).unwrap(), [Outcome::BelowFloor]);
}

#[test]
fn making_a_store_again_keeps_its_claims_and_floor() {
    let made = made();
    let mut store = open(&made.folder, WALL).0;
    store.claim(WALL, &[record(NOON - 9, 1), record(NOON, 2)]).unwrap();
    store.forget(WALL, NOON).unwrap();
    drop(store);
    SqliteStore::create(&made.folder, WALL, &boot("a")).unwrap();
    let again = [record(NOON - 9, 1), record(NOON, 2)];
    let outcomes = open(&made.folder, WALL).0.claim(WALL, &again).unwrap();
    assert_eq!(outcomes, [Outcome::BelowFloor, known()]);
}

#[test]
fn a_store_that_vanishes_while_in_use_refuses_all_that_it_may_have_known() {
    let removals: [fn(&Path); 4] = [
        |folder| fs::remove_dir_all(folder).unwrap(),
        |folder| fs::remove_file(folder.join("claims.db")).unwrap(),
        |folder| fs::remove_file(folder.join("claims.db-wal")).unwrap(),
        |folder| {
            let other = folder.with_file_name("other");
            SqliteStore::create(&other, WALL, &boot("a")).unwrap();
            fs::rename(other.join("claims.db"), folder.join("claims.db")).unwrap();
        },
    ];
    for (case, remove) in removals.into_iter().enumerate() {
        let made = made();
        let mut store = open(&made.folder, WALL).0;
        let ahead = record(NOON + 200, 1);
        assert_eq!(store.claim(WALL, &[ahead]).unwrap(), [Outcome::New]);
        remove(&made.folder);
        let error = store.claim(WALL, &[record(NOON, 2)]).unwrap_err();
        assert!(error.what.contains("was removed or exchanged"), "case {case}: {}", error.what);
        let outcomes = store.claim(WALL, &[ahead, record(NOON + 201, 3)]).unwrap();
        assert_eq!(outcomes, [Outcome::BelowFloor, Outcome::New], "case {case}");
        drop(store);
        let outcomes = open(&made.folder, WALL).0.claim(WALL, &[ahead]).unwrap();
        assert_eq!(outcomes, [Outcome::BelowFloor], "case {case}, after a restart");
    }
}
