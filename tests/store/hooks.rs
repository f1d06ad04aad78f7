//! Webhooks are kept as they are given, over kills, and read beside a daemon.

use siglatch::store::hooks::HookRow;
use siglatch::store::sqlite::{Found, read_hooks};
use siglatch::store::thread::Reply;
use siglatch::store::{MemoryStore, Store, StoreThread};
use siglatch::wire::KnockId;

use super::{WALL, edit, made, open};

fn id(number: u8) -> KnockId {
    KnockId([number; 8])
}

fn row(number: u8, record: Option<&str>) -> HookRow {
    HookRow { id: id(number), record: record.map(str::to_owned) }
}

#[test]
fn both_engines_keep_the_last_of_each_webhook() {
    let made = made();
    let engines: [Box<dyn Store>; 2] =
        [Box::new(open(&made.folder, WALL).0), Box::new(MemoryStore::new(9, WALL))];
    for mut store in engines {
        let rows = [row(2, Some("two")), row(1, Some("one")), row(3, Some("three")), row(1, Some("1"))];
        store.keep_hooks(WALL, &rows).unwrap();
        store.keep_hooks(WALL, &[row(3, None), row(9, None)]).unwrap();
        assert_eq!(store.hooks(WALL).unwrap(), [(id(1), "1".to_owned()), (id(2), "two".to_owned())]);
    }
}

#[test]
fn a_webhook_outlives_a_killed_process_and_is_read_beside_one() {
    let made = made();
    let (mut store, _) = open(&made.folder, WALL);
    store.keep_hooks(WALL, &[row(1, Some("one"))]).unwrap();
    assert_eq!(read_hooks(&made.folder).unwrap(), [(id(1), "one".to_owned())]);
    // Dropped, not closed: as a kill leaves it.
    drop(store);
    let (mut store, found) = open(&made.folder, WALL);
    assert_eq!((found, store.hooks(WALL).unwrap().len()), (Found::Intact, 1));
    Box::new(store).close(WALL).unwrap();
    assert_eq!(read_hooks(&made.folder).unwrap().len(), 1);
}

#[test]
fn a_store_of_an_older_siglatch_has_none_and_takes_some_when_it_is_opened() {
    let made = made();
    edit(
        &made.folder,
        "DROP TABLE hooks; DROP TABLE audit; DROP TABLE keys; DROP TABLE moved; PRAGMA user_version = 4",
    );
    assert_eq!(read_hooks(&made.folder).unwrap(), []);
    let (mut store, _) = open(&made.folder, WALL);
    store.keep_hooks(WALL, &[row(1, Some("one"))]).unwrap();
    assert_eq!(read_hooks(&made.folder).unwrap().len(), 1);
    assert_eq!(read_hooks(&made.folder.join("nowhere")).unwrap(), []);
}

#[test]
fn the_thread_answers_for_each_webhook_in_their_order() {
    let made = made();
    let (store, _) = open(&made.folder, WALL);
    let thread = StoreThread::<()>::start(Box::new(store), || WALL, || {}).unwrap();
    for number in 0..100 {
        thread.keep_hook(row(number, Some("x"))).unwrap();
    }
    let mut kept = Vec::new();
    for reply in thread.close() {
        let Reply::KeptHook(id, Ok(())) = reply else { panic!("{reply:?}") };
        kept.push(id);
    }
    assert_eq!(kept, (0..100).map(id).collect::<Vec<_>>());
}
