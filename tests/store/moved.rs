//! Who knocked under which of the server's keys is kept, over kills, and read beside a daemon.

use siglatch::store::moved::MovedRow;
use siglatch::store::sqlite::read_moved;
use siglatch::store::{MemoryStore, Store, StoreThread};
use siglatch::wire::UserId;

use super::{WALL, edit, made, open};

fn row(user: u16, current: Option<u32>, old: Option<u32>) -> MovedRow {
    MovedRow { user: UserId(user), key: [9; 32], current, old, moved: current > old }
}

#[test]
fn both_engines_keep_the_last_of_each_user() {
    let made = made();
    let engines: [Box<dyn Store>; 2] =
        [Box::new(open(&made.folder, WALL).0), Box::new(MemoryStore::new(9, WALL))];
    for mut store in engines {
        for row in [row(2, None, Some(7)), row(1, Some(u32::MAX), None), row(2, Some(9), Some(7))] {
            store.keep_moved(WALL, &row).unwrap();
        }
        assert_eq!(store.moved(WALL).unwrap(), [row(1, Some(u32::MAX), None), row(2, Some(9), Some(7))]);
    }
}

#[test]
fn it_outlives_a_killed_process_and_is_read_beside_one() {
    let made = made();
    let (store, _) = open(&made.folder, WALL);
    let thread = StoreThread::<()>::start(Box::new(store), || WALL, || {}).unwrap();
    for user in 0..100 {
        thread.keep_moved(row(user, Some(1), None)).unwrap();
    }
    assert!(thread.close().is_empty(), "nothing is answered");
    assert_eq!(read_moved(&made.folder).unwrap().len(), 100);
    let (mut store, _) = open(&made.folder, WALL);
    store.keep_moved(WALL, &row(7, None, Some(3))).unwrap();
    drop(store);
    assert_eq!(open(&made.folder, WALL).0.moved(WALL).unwrap()[7], row(7, None, Some(3)));
}

#[test]
fn a_store_of_an_older_siglatch_has_none_and_takes_some_when_it_is_opened() {
    let made = made();
    edit(&made.folder, "DROP TABLE moved; PRAGMA user_version = 7");
    assert_eq!(read_moved(&made.folder).unwrap(), []);
    let (mut store, _) = open(&made.folder, WALL);
    store.keep_moved(WALL, &row(1, Some(5), None)).unwrap();
    assert_eq!(read_moved(&made.folder).unwrap(), [row(1, Some(5), None)]);
    assert_eq!(read_moved(&made.folder.join("nowhere")).unwrap(), []);
}
