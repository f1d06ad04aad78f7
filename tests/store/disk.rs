//! Disks that are full or read-only. They need root, for a small tmpfs of their own.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use siglatch::exit::Exit;
use siglatch::store::doors::{DoorKey, DoorRow};
use siglatch::store::usage::{Terms, Window};
use siglatch::store::{Outcome, Record, SqliteStore, Store as _, StoreError, Use};
use siglatch::wire::ActionId;

use super::{NOON, WALL, boot, open, record, refusal};

/// A tmpfs of 1 MiB. One at a time: what another test starts would hold deleted files of this one for a moment, and their
/// room would come back after the disk was found to be full.
struct Disk {
    temp: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl Disk {
    fn mount(test: &str) -> Option<Disk> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let temp = tempfile::tempdir().unwrap();
        let mounted = run("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs"], temp.path());
        if !mounted {
            eprintln!("SKIPPED {test}: cannot mount a tmpfs, needs root");
            return None;
        }
        Some(Disk { temp, _turn: turn })
    }

    fn folder(&self) -> PathBuf {
        self.temp.path().join("state")
    }

    fn fill(&self) {
        let mut filler = fs::File::create(self.temp.path().join("filler")).unwrap();
        // What was freed just now comes back a moment later.
        let mut quiet = 0;
        while quiet < 5 {
            quiet += 1;
            for size in [65536, 4096, 512, 1] {
                while filler.write_all(&vec![0; size]).is_ok() {
                    quiet = 0;
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.temp.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["--lazy"], self.temp.path());
    }
}

#[expect(clippy::disallowed_methods, reason = "mounting needs a program")]
fn run(program: &str, arguments: &[&str], path: &Path) -> bool {
    let output = Command::new(program).args(arguments).arg(path).output();
    output.is_ok_and(|output| output.status.success())
}

fn assert_full(error: &StoreError) {
    assert_eq!(error.exit, Exit::TryAgain, "{}", error.what);
    assert!(error.what.contains("full") || error.what.contains("I/O"), "{}", error.what);
    assert!(error.hint.contains("make room on its disk"), "{}", error.hint);
}

#[test]
fn a_full_disk_refuses_claims_and_service_returns_by_itself() {
    let Some(disk) = Disk::mount("a_full_disk_refuses_claims_and_service_returns_by_itself") else {
        return;
    };
    SqliteStore::create(&disk.folder(), WALL, &boot("a")).unwrap();
    let mut store = open(&disk.folder(), WALL).0;
    let kept = record(NOON, 1);
    assert_eq!(store.claim(WALL, &[kept]).unwrap(), [Outcome::New]);
    for round in 1..3 {
        disk.fill();
        let batch: Vec<Record> = (0..400).map(|challenge| record(NOON + round, challenge)).collect();
        for _ in 0..3 {
            assert_full(&store.claim(WALL, &batch).unwrap_err());
        }
        disk.make_room();
        assert_eq!(store.claim(WALL, &batch).unwrap(), [Outcome::New; 400]);
        assert!(matches!(
            store.claim(WALL, &[kept, batch[9]]).unwrap()[..],
            [Outcome::Known(_), Outcome::Known(_)]
        ));
    }
}

#[test]
fn a_full_disk_keeps_no_door_and_says_so() {
    let Some(disk) = Disk::mount("a_full_disk_keeps_no_door_and_says_so") else {
        return;
    };
    SqliteStore::create(&disk.folder(), WALL, &boot("a")).unwrap();
    let mut store = open(&disk.folder(), WALL).0;
    let row = |host: u8| DoorRow {
        key: DoorKey { action: "ssh".to_owned(), source: [192, 0, 2, host].into() },
        record: Some("x".repeat(2000)),
    };
    store.keep(WALL, &[row(0)]).unwrap();
    disk.fill();
    let many: Vec<DoorRow> = (1..100).map(row).collect();
    for _ in 0..3 {
        assert_full(&store.keep(WALL, &many).unwrap_err());
    }
    disk.make_room();
    assert_eq!(store.doors(WALL).unwrap().len(), 1);
    store.keep(WALL, &many).unwrap();
    assert_eq!(store.doors(WALL).unwrap().len(), 100);
}

#[test]
fn on_a_full_disk_nothing_is_used_up_without_a_run_nor_run_without_being_used_up() {
    let Some(disk) = Disk::mount("on_a_full_disk_nothing_is_used_up_without_a_run") else {
        return;
    };
    SqliteStore::create(&disk.folder(), WALL, &boot("a")).unwrap();
    let mut store = open(&disk.folder(), WALL).0;
    let quota = Window { most: 3, since: NOON - 900, until: NOON + 900 };
    let of_action = Terms { cooldown: None, quota: Some(quota) };
    let action = ActionId::new(1).unwrap();
    let using = Some(Use {
        at: NOON,
        action,
        of_action,
        of_user: Terms::default(),
        most: None,
        code: None,
        family: None,
    });
    let knock = |challenge| [Record { using, ..record(NOON, challenge) }];
    assert_eq!(store.claim(WALL, &knock(0)).unwrap(), [Outcome::New]);
    disk.fill();
    let mut ran = 1;
    for challenge in 1..200 {
        let batch: Vec<Record> =
            (0..400).map(|nth| record(NOON - 1, challenge * 1000 + nth)).chain(knock(challenge)).collect();
        ran += match store.claim(WALL, &batch) {
            Ok(outcomes) => outcomes.iter().filter(|outcome| **outcome == Outcome::New).count() - 400,
            Err(error) => {
                assert_full(&error);
                break;
            }
        };
    }
    disk.make_room();
    for challenge in 1000..1010 {
        ran += usize::from(store.claim(WALL, &knock(challenge)).unwrap() == [Outcome::New]);
    }
    assert_eq!(ran, 3);
}

#[test]
fn a_full_disk_is_seen_at_start() {
    let Some(disk) = Disk::mount("a_full_disk_is_seen_at_start") else {
        return;
    };
    SqliteStore::create(&disk.folder(), WALL, &boot("a")).unwrap();
    disk.fill();
    assert_full(&refusal(&disk.folder()));
    disk.make_room();
    open(&disk.folder(), WALL);
}

#[test]
fn a_full_disk_is_seen_when_the_store_is_made() {
    let Some(disk) = Disk::mount("a_full_disk_is_seen_when_the_store_is_made") else {
        return;
    };
    disk.fill();
    assert_full(&refusal(&disk.folder()));
    disk.make_room();
    open(&disk.folder(), WALL);
}

#[test]
fn a_read_only_disk_is_seen_at_start() {
    let Some(disk) = Disk::mount("a_read_only_disk_is_seen_at_start") else {
        return;
    };
    SqliteStore::create(&disk.folder(), WALL, &boot("a")).unwrap();
    assert!(run("mount", &["-o", "remount,ro"], disk.temp.path()));
    for folder in [disk.folder(), disk.temp.path().join("new")] {
        let error = refusal(&folder);
        assert_eq!(error.exit, Exit::Permission, "{}", error.what);
        assert!(error.what.contains("Read-only file system"), "{}", error.what);
    }
}
