//! What both engines promise.

use siglatch::store::{MemoryStore, Outcome, Record, SqliteStore, Store};
use siglatch::wire::UserId;

use super::{NOON, WALL, boot, ip, known, made, open, record};

fn on_both(test: impl Fn(&mut dyn Store)) {
    let made = made();
    test(&mut open(&made.folder, WALL).0);
    test(&mut MemoryStore::new(1000, WALL - 500));
}

#[test]
fn a_nonce_is_claimed_once() {
    on_both(|store| {
        let first = record(NOON, 1);
        let copy = Record { source: ip("2001:db8::1"), ..first };
        assert_eq!(store.claim(WALL, &[first]).unwrap(), [Outcome::New]);
        assert_eq!(store.claim(WALL, &[copy]).unwrap(), [known()]);
        assert_eq!(store.claim(WALL, &[copy]).unwrap(), [known()]);
    });
}

#[test]
fn an_ipv6_source_is_remembered() {
    on_both(|store| {
        let first = Record { source: ip("2001:db8::1"), ..record(NOON, 1) };
        let outcomes = store.claim(WALL, &[first, record(NOON, 1)]).unwrap();
        assert_eq!(outcomes, [Outcome::New, Outcome::Known(first.source)]);
    });
}

#[test]
fn of_two_equal_nonces_in_a_batch_the_first_is_new() {
    on_both(|store| {
        let (one, two) = (record(NOON, 1), record(NOON, 2));
        let outcomes = store.claim(WALL, &[one, two, one]).unwrap();
        assert_eq!(outcomes, [Outcome::New, Outcome::New, known()]);
    });
}

#[test]
fn users_timestamps_and_challenges_are_told_apart() {
    on_both(|store| {
        let one = record(NOON, 1);
        let mut other_user = one;
        other_user.nonce.user = UserId(u16::MAX);
        let batch = [one, other_user, record(NOON + 1, 1), record(NOON, u32::MAX)];
        assert_eq!(store.claim(WALL, &batch).unwrap(), [Outcome::New; 4]);
        assert_eq!(store.claim(WALL, &batch).unwrap(), [known(); 4]);
    });
}

#[test]
fn what_was_forgotten_stays_refused_and_so_does_all_before_it() {
    on_both(|store| {
        let batch = [record(NOON + 1, 1), record(NOON + 5, 2), record(NOON + 9, 3)];
        assert_eq!(store.claim(WALL, &batch).unwrap(), [Outcome::New; 3]);
        assert_eq!(store.forget(WALL, NOON + 9).unwrap(), 1);
        let again = [batch[1], record(NOON + 2, 9), batch[2], record(NOON + 6, 9)];
        assert_eq!(
            store.claim(WALL, &again).unwrap(),
            // The last is later than all that was forgotten, though earlier than asked for.
            [Outcome::BelowFloor, Outcome::BelowFloor, known(), Outcome::New]
        );
    });
}

#[test]
fn forgetting_nothing_leaves_the_floor() {
    on_both(|store| {
        assert_eq!(store.forget(WALL, u32::MAX).unwrap(), 0);
        assert_eq!(store.claim(WALL, &[record(NOON, 1)]).unwrap(), [Outcome::New]);
    });
}

#[test]
fn the_last_second_of_the_timestamp_is_a_second_like_others() {
    on_both(|store| {
        let last = record(u32::MAX, 1);
        assert_eq!(store.claim(u64::MAX, &[last, last]).unwrap(), [Outcome::New, known()]);
        assert_eq!(store.forget(u64::MAX, u32::MAX).unwrap(), 1);
        assert_eq!(store.claim(u64::MAX, &[last]).unwrap(), [known()]);
    });
}

#[test]
fn a_full_store_refuses_what_is_new_and_still_knows_what_is_known() {
    let made = made();
    let mut sqlite = SqliteStore::open(&made.folder, 2, WALL, &boot("a")).unwrap().0;
    let mut memory = MemoryStore::new(2, WALL - 500);
    for store in [&mut sqlite as &mut dyn Store, &mut memory] {
        let batch = [1, 2, 3, 1].map(|challenge| record(NOON, challenge));
        let outcomes = store.claim(WALL, &batch).unwrap();
        assert_eq!(outcomes, [Outcome::New, Outcome::New, Outcome::Full, known()]);
        assert_eq!(store.forget(WALL, NOON + 1).unwrap(), 0);
        assert_eq!(store.claim(WALL, &[record(NOON + 1, 3)]).unwrap(), [Outcome::New]);
    }
    drop(sqlite);
    let mut reopened = SqliteStore::open(&made.folder, 2, WALL, &boot("a")).unwrap().0;
    let batch = [record(NOON + 1, 4), record(NOON + 1, 5)];
    assert_eq!(reopened.claim(WALL, &batch).unwrap(), [Outcome::New, Outcome::Full]);
}

#[test]
fn memory_refuses_what_was_knocked_before_it_started() {
    let mut store = MemoryStore::new(10, WALL);
    let outcomes = store.claim(WALL, &[record(NOON, 1), record(NOON + 1, 1)]).unwrap();
    assert_eq!(outcomes, [Outcome::BelowFloor, Outcome::New]);
}
