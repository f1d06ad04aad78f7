//! SQLite's files: whose they are, who may read them, and which are no store.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use siglatch::exit::Exit;
use siglatch::store::sqlite::Found;
use siglatch::store::{Outcome, Record, SqliteStore, Store as _};

use super::{NOON, WALL, boot, edit, known, made, open, record, refusal};

#[test]
fn folder_and_files_are_for_their_owner_alone() {
    let made = made();
    let mut store = open(&made.folder, WALL).0;
    store.claim(WALL, &[record(NOON, 1)]).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&made.folder), 0o700);
    let mut files: Vec<_> = fs::read_dir(&made.folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap()).collect();
    assert_eq!(names, ["claims.db", "claims.db-shm", "claims.db-wal"]);
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn what_is_open_to_others_is_refused_with_the_way_to_close_it() {
    let cases = [("", 0o750, "chmod 700"), ("", 0o702, "chmod 700"), ("claims.db", 0o640, "chmod 600")];
    for (name, mode, hint) in cases {
        let made = made();
        let target = made.folder.join(name);
        fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
        let error = refusal(&made.folder);
        assert_eq!(error.exit, Exit::Permission);
        assert!(error.what.contains("is open to others"), "{}", error.what);
        assert!(error.hint.starts_with(hint), "{}", error.hint);
    }
}

#[test]
fn a_folder_of_somebody_else_is_refused() {
    let made = made();
    if std::os::unix::fs::chown(&made.folder, Some(12345), None).is_err() {
        eprintln!("SKIPPED a_folder_of_somebody_else_is_refused: needs root");
        return;
    }
    let error = refusal(&made.folder);
    assert_eq!(error.exit, Exit::Permission);
    assert!(error.what.contains("belongs to uid 12345"), "{}", error.what);
}

#[test]
fn what_is_no_folder_or_no_file_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::write(at("file"), "").unwrap();
    let error = refusal(&at("file"));
    assert_eq!(error.exit, Exit::Config);
    assert!(error.what.ends_with("file: cannot open: not a directory"), "{}", error.what);
    assert_eq!(refusal(&at("missing/state")).exit, Exit::Config);
    fs::create_dir(at("linked")).unwrap();
    fs::set_permissions(at("linked"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink(at("file"), at("linked/claims.db")).unwrap();
    let error = refusal(&at("linked"));
    assert!(error.what.contains("claims.db: cannot open"), "{}", error.what);
}

#[test]
fn the_folder_may_be_named_by_a_link() {
    let made = made();
    let link = made.folder.with_file_name("link");
    symlink(&made.folder, &link).unwrap();
    let mut store = open(&link, WALL).0;
    assert_eq!(store.claim(WALL, &[record(NOON, 1)]).unwrap(), [Outcome::New]);
    Box::new(store).close(WALL).unwrap();
}

#[test]
fn two_daemons_cannot_share_a_store() {
    let made = made();
    let held = open(&made.folder, WALL).0;
    let error = refusal(&made.folder);
    assert_eq!(error.exit, Exit::TryAgain);
    assert!(error.what.contains("in use by another process"), "{}", error.what);
    drop(held);
    open(&made.folder, WALL);
}

#[test]
fn a_damaged_file_is_refused() {
    let made = made();
    let file = made.folder.join("claims.db");
    let mut store = open(&made.folder, WALL).0;
    let batch: Vec<Record> = (0..500).map(|challenge| record(NOON, challenge)).collect();
    store.claim(WALL, &batch).unwrap();
    Box::new(store).close(WALL).unwrap();
    let whole = fs::read(&file).unwrap();
    let mut damaged = vec![
        b"not a database at all, though long enough for its header. ".repeat(40),
        whole[..whole.len() / 2].to_vec(),
    ];
    for page in 1..whole.len() / 4096 {
        let mut copy = whole.clone();
        copy[page * 4096..page * 4096 + 200].fill(0xA5);
        damaged.push(copy);
    }
    assert!(damaged.len() > 5);
    for (case, bytes) in damaged.iter().enumerate() {
        fs::write(&file, bytes).unwrap();
        let error = refusal(&made.folder);
        assert_eq!(error.exit, Exit::Config, "case {case}: {}", error.what);
        assert!(error.what.contains("claims.db"), "case {case}: {}", error.what);
        assert!(error.hint.contains("mv "), "case {case}: {}", error.hint);
        for log in ["claims.db-wal", "claims.db-shm"] {
            fs::remove_file(made.folder.join(log)).ok();
        }
    }
    fs::write(&file, whole).unwrap();
    assert_eq!(open(&made.folder, WALL).1, Found::Intact);
}

#[test]
fn a_file_from_an_older_version_keeps_its_claims() {
    let made = made();
    let mut store = open(&made.folder, WALL).0;
    store.claim(WALL, &[record(NOON + 20, 1)]).unwrap();
    Box::new(store).close(WALL).unwrap();
    edit(
        &made.folder,
        "DROP TABLE doors; DROP TABLE hooks; ALTER TABLE state RENAME COLUMN reserved TO synced_at;
          DROP TABLE uses; DROP TABLE recent_uses; DROP TABLE totp_steps; DROP TABLE totp_failures;
          DROP TABLE audit; DROP TABLE keys; DROP TABLE moved; PRAGMA user_version = 1",
    );
    let (mut store, found) = SqliteStore::open(&made.folder, 1000, WALL, &boot("b")).unwrap();
    assert_eq!(found, Found::Intact);
    assert_eq!(store.claim(WALL, &[record(NOON + 20, 1)]).unwrap(), [known()]);
}

#[test]
fn a_file_from_a_newer_version_is_refused_and_left_alone() {
    let made = made();
    edit(&made.folder, "PRAGMA user_version = 9");
    let before = fs::read(made.folder.join("claims.db")).unwrap();
    let error = refusal(&made.folder);
    assert_eq!(error.exit, Exit::Config);
    assert!(error.what.contains("newer siglatch (format 9, this one knows 8)"), "{}", error.what);
    assert_eq!(fs::read(made.folder.join("claims.db")).unwrap(), before);
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    for sql in ["PRAGMA application_id = 7", "PRAGMA user_version = -1", "PRAGMA application_id = 0"] {
        let made = made();
        edit(&made.folder, sql);
        let before = fs::read(made.folder.join("claims.db")).unwrap();
        assert_eq!(refusal(&made.folder).exit, Exit::Config, "{sql}");
        assert_eq!(fs::read(made.folder.join("claims.db")).unwrap(), before, "{sql}");
    }
}

#[test]
fn a_file_whose_tables_make_no_sense_is_refused() {
    for sql in [
        "DROP TABLE claims",
        "DROP TABLE state",
        "DELETE FROM state",
        "UPDATE state SET refuse_through = -1",
        "UPDATE state SET reserved = 4294967296",
        "INSERT INTO claims VALUES (-1, 1, 1, '192.0.2.1')",
        "INSERT INTO claims VALUES (4294967296, 1, 1, '192.0.2.1')",
    ] {
        let made = made();
        edit(&made.folder, sql);
        let error = refusal(&made.folder);
        assert_eq!(error.exit, Exit::Config, "{sql}: {}", error.what);
    }
}

#[test]
fn a_reader_beside_the_daemon_disturbs_nothing() {
    let made = made();
    let mut store = open(&made.folder, WALL).0;
    store.claim(WALL, &[record(NOON, 1)]).unwrap();
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let reader = rusqlite::Connection::open_with_flags(made.folder.join("claims.db"), flags).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = || reader.query_row("SELECT count(*) FROM claims", (), |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), 1);
    assert_eq!(store.claim(WALL, &[record(NOON, 2)]).unwrap(), [Outcome::New]);
    assert_eq!(count(), 1);
    drop(reader);
    drop(store);
    assert_eq!(open(&made.folder, WALL).1, Found::Intact);
}

#[test]
fn the_log_stays_bounded() {
    let made = made();
    let mut store = SqliteStore::open(&made.folder, 1_000_000, WALL, &boot("a")).unwrap().0;
    let mut fill = |timestamp| {
        for round in 0..60 {
            let batch: Vec<Record> =
                (0..500).map(|challenge| record(timestamp, round * 500 + challenge)).collect();
            store.claim(WALL, &batch).unwrap();
        }
        store.forget(WALL, timestamp).unwrap()
    };
    assert_eq!([fill(NOON), fill(NOON + 1)], [30_000, 30_000]);
    let log = fs::metadata(made.folder.join("claims.db-wal")).unwrap().len();
    assert!(log < 12 << 20, "{log} bytes");
}
