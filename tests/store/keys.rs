//! Keys that were exchanged are kept, over kills, and read beside a daemon.

use siglatch::store::keys::{Exchanged, KeyRow, Next, Own};
use siglatch::store::sqlite::{Found, read_keys};
use siglatch::store::thread::Reply;
use siglatch::store::{MemoryStore, Store, StoreThread};
use siglatch::wire::enrol::EnrolPublic;
use siglatch::wire::{HmacKey, UserId};

use super::{WALL, edit, made, open};

fn key(byte: u8) -> HmacKey {
    HmacKey::new([byte; 32]).unwrap()
}

/// Of a user who has sent for a key.
fn sent(user: u16) -> KeyRow {
    let next = Some(Next { client: EnrolPublic([3; 32]), key: key(4) });
    KeyRow { user: UserId(user), exchanged: Exchanged { next, ..Exchanged::of(&key(1)) } }
}

/// Of one who has knocked under it.
fn exchanged(user: u16) -> KeyRow {
    let own = Some(Own { key: key(4), since: WALL, leave: WALL + 60 });
    KeyRow { user: UserId(user), exchanged: Exchanged { own, ..Exchanged::of(&key(1)) } }
}

#[test]
fn both_engines_keep_the_last_of_each_user() {
    let made = made();
    let engines: [Box<dyn Store>; 2] =
        [Box::new(open(&made.folder, WALL).0), Box::new(MemoryStore::new(9, WALL))];
    for mut store in engines {
        for row in [sent(2), sent(1), exchanged(2)] {
            store.keep_key(WALL, &row).unwrap();
        }
        assert_eq!(store.keys(WALL).unwrap(), [sent(1), exchanged(2)]);
    }
}

#[test]
fn a_key_outlives_a_killed_process_is_read_beside_one_and_what_it_replaced_is_overwritten() {
    let made = made();
    let (mut store, _) = open(&made.folder, WALL);
    store.keep_key(WALL, &sent(1)).unwrap();
    assert_eq!(read_keys(&made.folder).unwrap(), [sent(1)]);
    // Dropped, not closed: as a kill leaves it.
    drop(store);
    let (mut store, found) = open(&made.folder, WALL);
    assert_eq!((found, store.keys(WALL).unwrap()), (Found::Intact, vec![sent(1)]));
    store.keep_key(WALL, &exchanged(1)).unwrap();
    Box::new(store).close(WALL).unwrap();
    assert_eq!(read_keys(&made.folder).unwrap(), [exchanged(1)]);
    let file = std::fs::read(made.folder.join("claims.db")).unwrap();
    let client = EnrolPublic([3; 32]).to_string();
    assert!(!file.windows(64).any(|bytes| bytes == client.as_bytes()), "the row before is still in the file");
}

#[test]
fn a_store_of_an_older_siglatch_has_none_and_takes_some_when_it_is_opened() {
    let made = made();
    edit(&made.folder, "DROP TABLE keys; DROP TABLE moved; PRAGMA user_version = 6");
    assert_eq!(read_keys(&made.folder).unwrap(), []);
    let (mut store, _) = open(&made.folder, WALL);
    store.keep_key(WALL, &sent(1)).unwrap();
    assert_eq!(read_keys(&made.folder).unwrap(), [sent(1)]);
    assert_eq!(read_keys(&made.folder.join("nowhere")).unwrap(), []);
}

#[test]
fn a_key_that_cannot_be_read_is_no_reason_to_take_the_one_before() {
    let made = made();
    let (mut store, _) = open(&made.folder, WALL);
    store.keep_key(WALL, &sent(1)).unwrap();
    Box::new(store).close(WALL).unwrap();
    edit(&made.folder, "UPDATE keys SET record = '2 a b'");
    assert!(read_keys(&made.folder).is_err());
    assert!(open(&made.folder, WALL).0.keys(WALL).is_err());
}

#[test]
fn the_thread_answers_for_each_key_in_their_order() {
    let made = made();
    let (store, _) = open(&made.folder, WALL);
    let thread = StoreThread::<()>::start(Box::new(store), || WALL, || {}).unwrap();
    for user in 0..100 {
        thread.keep_key(sent(user)).unwrap();
    }
    let mut kept = Vec::new();
    for reply in thread.close() {
        let Reply::KeptKey(row, Ok(())) = reply else { panic!("{reply:?}") };
        kept.push(row.user.0);
    }
    assert_eq!(kept, (0..100).collect::<Vec<_>>());
}
