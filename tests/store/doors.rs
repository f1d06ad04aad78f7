//! Doors are kept as they are given, over kills and errors, and read beside a daemon without disturbing it.

use siglatch::store::doors::{DoorKey, DoorRow};
use siglatch::store::sqlite::{Found, read_doors};
use siglatch::store::thread::Reply;
use siglatch::store::{MemoryStore, SqliteStore, Store, StoreThread};

use super::{NOON, WALL, boot, edit, ip, made, open, record};

fn key(action: &str, source: &str) -> DoorKey {
    DoorKey { action: action.to_owned(), source: ip(source) }
}

fn row(action: &str, source: &str, record: Option<&str>) -> DoorRow {
    DoorRow { key: key(action, source), record: record.map(str::to_owned) }
}

fn kept(list: &[(&str, &str, &str)]) -> Vec<(DoorKey, String)> {
    list.iter().map(|(action, source, record)| (key(action, source), (*record).to_owned())).collect()
}

#[test]
fn both_engines_keep_the_last_of_each_door() {
    let made = made();
    let engines: [Box<dyn Store>; 2] =
        [Box::new(open(&made.folder, WALL).0), Box::new(MemoryStore::new(9, WALL))];
    for mut store in engines {
        let rows = [
            row("ssh", "192.0.2.1", Some("1")),
            row("ssh", "2001:db8::1", Some("2")),
            row("web", "192.0.2.1", Some("3")),
            row("ssh", "192.0.2.1", Some("4")),
        ];
        store.keep(WALL, &rows).unwrap();
        store.keep(WALL, &[row("web", "192.0.2.1", None), row("web", "192.0.2.9", None)]).unwrap();
        let expected = kept(&[("ssh", "192.0.2.1", "4"), ("ssh", "2001:db8::1", "2")]);
        assert_eq!(store.doors(WALL).unwrap(), expected);
    }
}

#[test]
fn a_door_outlives_a_killed_process_and_claims_that_are_forgotten() {
    let made = made();
    let (mut store, _) = open(&made.folder, WALL);
    store.keep(WALL, &[row("ssh", "192.0.2.1", Some("1"))]).unwrap();
    store.claim(WALL, &[record(NOON, 1)]).unwrap();
    store.forget(WALL, NOON + 1).unwrap();
    // Dropped, not closed: as a kill leaves it.
    drop(store);
    let (mut store, found) = open(&made.folder, WALL);
    assert_eq!(found, Found::Intact);
    assert_eq!(store.doors(WALL).unwrap(), kept(&[("ssh", "192.0.2.1", "1")]));
    Box::new(store).close(WALL).unwrap();
    // Another boot of the machine.
    let (mut store, _) = SqliteStore::open(&made.folder, 9, WALL, &boot("b")).unwrap();
    assert_eq!(store.doors(WALL).unwrap().len(), 1);
}

#[test]
fn doors_are_read_beside_a_daemon_after_it_and_without_one_and_nothing_is_changed() {
    let made = made();
    let expected = kept(&[("ssh", "192.0.2.1", "1")]);
    let (mut store, _) = open(&made.folder, WALL);
    store.keep(WALL, &[row("ssh", "192.0.2.1", Some("1"))]).unwrap();
    assert_eq!(read_doors(&made.folder).unwrap(), expected);
    store.claim(WALL, &[record(NOON, 1)]).unwrap();
    drop(store);
    for _ in 0..2 {
        assert_eq!(read_doors(&made.folder).unwrap(), expected, "after a kill");
    }
    // Its log is still there: had it gone, the next would take the store for a lost one.
    let (store, found) = open(&made.folder, WALL);
    assert_eq!(found, Found::Intact);
    Box::new(store).close(WALL).unwrap();
    assert_eq!(read_doors(&made.folder).unwrap(), expected, "after a close in order");
    assert_eq!(open(&made.folder, WALL).1, Found::Intact);

    let nobody = tempfile::tempdir().unwrap();
    assert_eq!(read_doors(nobody.path()).unwrap(), []);
    assert_eq!(std::fs::read_dir(nobody.path()).unwrap().count(), 0);
}

#[test]
fn a_store_of_an_older_version_has_no_doors_and_then_has_room_for_them() {
    let made = made();
    edit(
        &made.folder,
        "DROP TABLE doors; DROP TABLE hooks; DROP TABLE uses; DROP TABLE recent_uses; DROP TABLE totp_steps; DROP TABLE totp_failures; DROP TABLE audit; DROP TABLE keys; DROP TABLE moved; PRAGMA user_version = 2",
    );
    assert_eq!(read_doors(&made.folder).unwrap(), []);
    let (mut store, _) = open(&made.folder, WALL);
    store.keep(WALL, &[row("ssh", "192.0.2.1", Some("1"))]).unwrap();
    assert_eq!(read_doors(&made.folder).unwrap().len(), 1);
}

#[test]
fn a_store_that_is_none_is_told_from_one_without_doors() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("claims.db"), [b'x'; 9000]).unwrap();
    let error = read_doors(temp.path()).unwrap_err();
    assert!(error.what.contains("cannot read the store"), "{}", error.what);
}

#[test]
fn the_thread_answers_for_each_door_among_claims() {
    let made = made();
    let (woken, wakes) = std::sync::mpsc::channel();
    let wake = move || woken.send(()).unwrap_or_default();
    let thread = StoreThread::start(Box::new(open(&made.folder, WALL).0), || WALL, wake).unwrap();
    for challenge in 0..100 {
        thread.submit(record(NOON + 1, challenge), challenge).unwrap();
        let source = format!("192.0.2.{challenge}");
        thread.keep(row("ssh", &source, Some("1"))).unwrap();
        if challenge == 50 {
            thread.forget(NOON).unwrap();
        }
    }
    drop(wakes);
    let (mut claims, mut doors) = (0, Vec::new());
    for reply in thread.close() {
        match reply {
            Reply::Claimed(..) => claims += 1,
            Reply::Kept(key, Ok(())) => doors.push(key.source),
            Reply::Kept(..)
            | Reply::KeptHook(..)
            | Reply::KeptKey(..)
            | Reply::Forgotten(_)
            | Reply::Failing(_)
            | Reply::Recovered { .. }
            | Reply::Head(_)
            | Reply::FileFailing(_)
            | Reply::FileRecovered
            | Reply::FileBroken(_)
            | Reply::Missed(_) => {}
        }
    }
    let sources: Vec<std::net::IpAddr> = (0..100).map(|host| ip(&format!("192.0.2.{host}"))).collect();
    assert_eq!((claims, doors), (100, sources));
    assert_eq!(read_doors(&made.folder).unwrap().len(), 100);
}
