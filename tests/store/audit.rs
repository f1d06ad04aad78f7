//! The trail beside a store: a claim and its record are one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use siglatch::audit::{Entry, Event, Knock, Trust, verify};
use siglatch::store::journal::{Journal, Keeping};
use siglatch::store::sqlite::read_lines;
use siglatch::store::thread::{QUEUE, Reply};
use siglatch::store::{MemoryStore, Outcome, SqliteStore, Store, StoreThread};
use siglatch::wire::KnockId;

use super::{NOON, WALL, boot, ip, made, open, record};

fn keeping(keep: Option<Duration>) -> Keeping {
    Keeping {
        checkpoint_records: 1000,
        rotate_size: 1 << 20,
        rotate_every: Duration::from_secs(86_400),
        keep,
        server: None,
    }
}

fn journal(folder: &Path, store: &mut dyn Store, wall: u64) -> Journal {
    Journal::open(folder, None, store, keeping(Some(Duration::from_secs(100))), wall).unwrap().0
}

fn intent(challenge: u32) -> Entry {
    let knock = Knock {
        id: KnockId(u64::from(challenge).to_be_bytes()),
        user: "alice",
        action: "ssh",
        from: ip("192.0.2.1"),
        bound: "server",
    };
    Entry::new(Duration::from_secs(WALL), Event::Ran(knock))
}

/// Of all records in the file, the store's behind them included.
fn kinds(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("audit.jsonl")).unwrap();
    let key = siglatch::audit::AuditKey::parse(&fs::read(folder.join("audit.key")).unwrap()).unwrap();
    let trust = Trust { keys: vec![key.public()], heads: Vec::new() };
    let lines = text.split_inclusive('\n').map(|line| line.as_bytes().to_vec());
    let verified = verify(lines, &trust).unwrap();
    assert_eq!(read_lines(folder, verified.last.seq, usize::MAX).unwrap(), [], "the file lacks something");
    let kind = |line: &str| line.split("\"kind\":\"").nth(1)?.split('"').next().map(str::to_owned);
    text.lines().filter_map(kind).collect()
}

/// How many events have no record, as was said last.
fn missed(replies: Vec<Reply<u32>>) -> Option<u64> {
    let said = |reply| if let Reply::Missed(events) = reply { Some(events) } else { None };
    replies.into_iter().filter_map(said).next_back()
}

fn claim(thread: &StoreThread<u32>, challenge: u32) {
    thread.submit_telling(record(NOON + 1, challenge), Some(intent(challenge)), challenge).unwrap();
}

#[test]
fn a_claim_that_is_new_is_recorded_once_and_a_copy_is_not() {
    let made = made();
    let (mut store, _) = open(&made.folder, WALL);
    let journal = journal(&made.folder, &mut store, WALL);
    let thread = StoreThread::start_telling(Box::new(store), Some(journal), || WALL, || {}).unwrap();
    for challenge in [1, 2, 1] {
        claim(&thread, challenge);
    }
    let entry = Entry::new(Duration::from_secs(WALL), Event::Stopped);
    let replies = thread.close_telling(vec![entry]);
    let new = |reply: &&Reply<u32>| matches!(reply, Reply::Claimed(_, Ok(Outcome::New)));
    assert_eq!(replies.iter().filter(new).count(), 2);
    assert_eq!(kinds(&made.folder), ["key-made", "started", "ran", "ran", "stopped", "checkpoint"]);
}

#[test]
fn a_record_that_cannot_be_written_lets_nothing_run() {
    let made = made();
    let (mut store, _) = open(&made.folder, WALL);
    let journal = journal(&made.folder, &mut store, WALL);
    super::edit(
        &made.folder,
        "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END",
    );
    let thread = StoreThread::start_telling(Box::new(store), Some(journal), || WALL, || {}).unwrap();
    claim(&thread, 1);
    let replies = thread.close();
    assert!(matches!(replies[..], [Reply::Failing(_), Reply::Claimed(1, Err(_)), ..]), "{replies:?}");
    assert!(!replies.iter().any(|reply| matches!(reply, Reply::Missed(_))), "it was refused: {replies:?}");
    super::edit(&made.folder, "DROP TRIGGER full");
    // It was not claimed either.
    let (mut store, _) = open(&made.folder, WALL);
    assert_eq!(store.claim(WALL, &[record(NOON + 1, 1)]).unwrap(), [Outcome::New]);
}

#[test]
fn what_waited_for_a_store_that_failed_is_recorded_and_what_had_no_room_counted() {
    let made = made();
    let (mut store, _) = open(&made.folder, WALL);
    let journal = journal(&made.folder, &mut store, WALL);
    super::edit(
        &made.folder,
        "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END",
    );
    let thread = StoreThread::<u32>::start_telling(Box::new(store), Some(journal), || WALL, || {}).unwrap();
    for number in 0..5000 {
        while thread.note(vec![intent(number)]).is_err() {
            std::thread::yield_now();
        }
    }
    // Until it has failed with all of them.
    while thread.forget(NOON - 1).is_err() {}
    let deadline = Duration::from_secs(20);
    let mut waited = Duration::ZERO;
    let mut replies = Vec::new();
    while !matches!(replies.last(), Some(Reply::Forgotten(_))) {
        std::thread::sleep(Duration::from_millis(5));
        waited += Duration::from_millis(5);
        assert!(waited < deadline);
        replies.extend(std::iter::from_fn(|| thread.try_recv()));
    }
    assert_eq!(missed(replies), Some(904));
    super::edit(&made.folder, "DROP TRIGGER full");
    assert_eq!(missed(thread.close()), None, "none since");
    let kinds = kinds(&made.folder);
    assert_eq!(kinds.iter().filter(|kind| *kind == "ran").count(), 4096);
    assert_eq!(kinds[kinds.len() - 2..], ["missed", "checkpoint"]);
    let text = fs::read_to_string(made.folder.join("audit.jsonl")).unwrap();
    assert!(text.contains(r#""count":"904""#));
}

#[test]
fn what_still_waits_when_the_daemon_stops_is_counted() {
    let made = made();
    let (mut store, _) = open(&made.folder, WALL);
    let journal = journal(&made.folder, &mut store, WALL);
    super::edit(
        &made.folder,
        "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END",
    );
    let thread = StoreThread::<u32>::start_telling(Box::new(store), Some(journal), || WALL, || {}).unwrap();
    thread.note(vec![intent(1), intent(2)]).unwrap();
    let replies = thread.close_telling(vec![Entry::new(Duration::from_secs(WALL), Event::Stopped)]);
    assert_eq!(missed(replies), Some(3));
}

#[test]
fn events_that_come_while_the_store_is_busy_take_no_place_of_a_claim() {
    let made = made();
    let (mut store, _) = SqliteStore::open(&made.folder, 10_000, WALL, &boot("a")).unwrap();
    let journal = journal(&made.folder, &mut store, WALL);
    let thread = StoreThread::start_telling(Box::new(store), Some(journal), || WALL, || {}).unwrap();
    let other = rusqlite::Connection::open(made.folder.join("claims.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    claim(&thread, 0);
    let waiting = (1..=100).filter(|number| thread.note(vec![intent(*number)]).is_err()).count();
    (1..).take(QUEUE - 1).for_each(|challenge| claim(&thread, challenge));
    other.execute_batch("ROLLBACK").unwrap();
    let replies = thread.close();
    let new = |reply: &&Reply<u32>| matches!(reply, Reply::Claimed(_, Ok(Outcome::New)));
    assert_eq!(replies.iter().filter(new).count(), QUEUE);
    let recorded = kinds(&made.folder).iter().filter(|kind| *kind == "ran").count();
    assert_eq!(recorded, QUEUE + 100 - waiting);
}

#[test]
fn old_records_leave_the_store_once_they_are_in_a_file() {
    let made = made();
    for wall in [WALL, WALL + 50, WALL + 150] {
        let (mut store, _) = open(&made.folder, wall);
        let journal = journal(&made.folder, &mut store, wall);
        let thread =
            StoreThread::<u32>::start_telling(Box::new(store), Some(journal), move || wall, || {}).unwrap();
        thread.close();
    }
    assert_eq!(kinds(&made.folder).len(), 7);
    let kept: Vec<u64> =
        read_lines(&made.folder, 0, usize::MAX).unwrap().iter().map(|line| line.seq).collect();
    assert_eq!(kept, [4, 5, 6, 7], "those of 100 seconds");
}

#[test]
fn a_store_in_memory_holds_nothing_that_is_in_the_file() {
    let temp = tempfile::tempdir().unwrap();
    let mut store = MemoryStore::new(100, WALL);
    let (journal, _) = Journal::open(temp.path(), None, &mut store, keeping(None), WALL).unwrap();
    let thread = StoreThread::start_telling(Box::new(store), Some(journal), || WALL, || {}).unwrap();
    for challenge in 0..50 {
        claim(&thread, challenge);
    }
    thread.close();
    assert_eq!(fs::read_to_string(temp.path().join("audit.jsonl")).unwrap().lines().count(), 53);
}

#[test]
fn a_file_of_another_trail_is_put_aside_and_one_of_ours_is_not() {
    let (made, other) = (made(), made());
    let begin = |folder: &Path, times| {
        for _ in 0..times {
            let (mut store, _) = open(folder, WALL);
            let journal = journal(folder, &mut store, WALL);
            StoreThread::<u32>::start_telling(Box::new(store), Some(journal), || WALL, || {})
                .unwrap()
                .close();
        }
    };
    begin(&other.folder, 3);
    begin(&made.folder, 2);
    let file = made.folder.join("audit.jsonl");
    let ours = fs::read(&file).unwrap();
    let found = |bytes: Vec<u8>| {
        fs::write(&file, bytes).unwrap();
        let (mut store, _) = open(&made.folder, WALL);
        let keeping = keeping(Some(Duration::from_secs(100)));
        Journal::open(&made.folder, None, &mut store, keeping, WALL).unwrap().1
    };
    // What a crash leaves, and more: all of it is cut off.
    let junk = [ours.clone(), b"\n".repeat(300_000), vec![0; 5000]].concat();
    let cut = found(junk);
    assert_eq!((cut.cut, cut.aside), (305_000, None));
    let theirs = fs::read(other.folder.join("audit.jsonl")).unwrap();
    let aside = found(theirs.clone()).aside.unwrap();
    assert_eq!(fs::read(aside).unwrap(), theirs);
    assert!(kinds(&made.folder).len() > 5, "ours is written anew, from the store");
    let aside = found(vec![b'x'; 100_000]).aside.unwrap();
    assert_eq!(fs::read(aside).unwrap().len(), 100_000);
    kinds(&made.folder);
}

#[test]
fn a_key_that_is_none_or_open_to_others_stops_the_start() {
    let made = made();
    let key = made.folder.join("audit.key");
    let (mut store, _) = open(&made.folder, WALL);
    let mut refusal = |bytes: &str, mode| {
        fs::write(&key, bytes).unwrap();
        fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        Journal::open(&made.folder, None, &mut store, keeping(None), WALL).unwrap_err()
    };
    assert!(refusal("short", 0o600).what.contains("is not 64 hex digits"));
    assert!(refusal(&"a".repeat(64), 0o644).what.contains("is readable by its group and others"));
}

#[test]
fn a_store_of_an_older_siglatch_has_no_trail_and_begins_one() {
    let made = made();
    super::edit(&made.folder, "DROP TABLE audit; DROP TABLE keys; DROP TABLE moved; PRAGMA user_version = 5");
    assert_eq!(read_lines(&made.folder, 0, usize::MAX).unwrap(), []);
    let (mut store, _) = SqliteStore::open(&made.folder, 1000, WALL, &boot("a")).unwrap();
    drop(journal(&made.folder, &mut store, WALL));
    assert_eq!(read_lines(&made.folder, 0, usize::MAX).unwrap().len(), 2);
}
