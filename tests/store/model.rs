//! Claims, forgetting, clock steps, kills, crashes of the machine and lost files in any order: what the store answers
//! is what a naive model answers, and no nonce is ever new twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use siglatch::store::{Boot, Outcome, Record, SqliteStore, Store as _};
use siglatch::wire::{Nonce, UserId};

use super::ip;

#[derive(Clone, Debug)]
enum Op {
    /// Timestamps around the clock, of a few users, challenges and sources.
    Claim(Vec<(i64, u16, u32, u8)>),
    /// Everything that was ever new, once more.
    ReplayAll,
    /// With this freshness.
    Forget(u32),
    /// Nobody waits.
    Reserve,
    Clock(i64),
    Kill,
    Close,
    /// So many unsynced transactions are gone; the clock is off by so much at the next boot, and so long it took.
    Crash(usize, i64, u64),
    /// The folder is gone at the next start.
    LostWhileStopped,
    /// The folder is gone while the store is open.
    LostWhileOpen,
}

fn op() -> impl Strategy<Value = Op> {
    let record = (-40_i64..15, 1_u16..3, 0_u32..2, 1_u8..3);
    prop_oneof![
        8 => prop::collection::vec(record, 1..4).prop_map(Op::Claim),
        3 => Just(Op::ReplayAll),
        2 => (0_u32..60).prop_map(Op::Forget),
        2 => Just(Op::Reserve),
        6 => (-60_i64..60).prop_map(Op::Clock),
        1 => Just(Op::Kill),
        1 => Just(Op::Close),
        4 => (0_usize..6, -60_i64..60, 0_u64..20).prop_map(|(lose, step, since)| Op::Crash(lose, step, since)),
        1 => Just(Op::LostWhileStopped),
        1 => Just(Op::LostWhileOpen),
    ]
}

/// What a store ought to know.
#[derive(Clone, Debug, Default)]
struct Model {
    claims: BTreeMap<Nonce, IpAddr>,
    floor: u32,
}

impl Model {
    fn claim(&mut self, record: &Record) -> Outcome {
        if record.nonce.timestamp <= self.floor {
            return Outcome::BelowFloor;
        }
        match self.claims.get(&record.nonce) {
            Some(source) => Outcome::Known(*source),
            None => {
                self.claims.insert(record.nonce, record.source);
                Outcome::New
            }
        }
    }

    fn forget(&mut self, before: u32) {
        let gone = self.claims.keys().map(|nonce| nonce.timestamp).filter(|at| *at < before).max();
        self.floor = self.floor.max(gone.unwrap_or(0));
        self.claims.retain(|nonce, _| nonce.timestamp >= before);
    }
}

/// What would be on the disk had the machine crashed here, and what the model knew then.
struct Moment {
    files: Vec<(PathBuf, Vec<u8>)>,
    reserved: u32,
    model: Model,
}

struct World {
    temp: tempfile::TempDir,
    wall: u64,
    boot: Boot,
    store: Option<SqliteStore>,
    model: Model,
    /// From the last sync on.
    moments: Vec<Moment>,
    ever_new: BTreeSet<Nonce>,
}

impl World {
    fn new() -> World {
        let memory = Path::new("/dev/shm");
        let temp = if memory.exists() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let boot = Boot { id: "0".to_owned(), time: 900 };
        SqliteStore::create(&temp.path().join("state"), 1000, &boot).unwrap();
        let mut world = World {
            temp,
            wall: 1000,
            boot,
            store: None,
            model: Model::default(),
            moments: Vec::new(),
            ever_new: BTreeSet::new(),
        };
        world.open();
        world
    }

    fn folder(&self) -> PathBuf {
        self.temp.path().join("state")
    }

    fn now(&self) -> u32 {
        u32::try_from(self.wall).unwrap()
    }

    fn open(&mut self) {
        self.store = Some(SqliteStore::open(&self.folder(), 1000, self.wall, &self.boot).unwrap().0);
        self.moment(Synced::Promised);
    }

    fn close(&mut self) {
        Box::new(self.store.take().unwrap()).close(self.wall).unwrap();
        self.moment(Synced::Promised);
    }

    fn moment(&mut self, synced: Synced) {
        let reserved = reserved(&self.folder());
        // A moved `reserved` says that the transaction that holds it was synced, and all before it.
        if synced == Synced::Promised || self.moments.last().is_none_or(|last| last.reserved != reserved) {
            self.moments.clear();
        }
        let files = fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| !path.ends_with("claims.db-shm"));
        let files = files.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        let model = self.model.clone();
        self.moments.push(Moment { files, reserved, model });
    }

    fn claim(&mut self, batch: &[Record]) {
        let outcomes = self.store.as_mut().unwrap().claim(self.wall, batch).unwrap();
        assert_eq!(outcomes.len(), batch.len());
        for (record, outcome) in batch.iter().zip(outcomes) {
            assert_eq!(outcome, self.model.claim(record), "{record:?}, floor {}", self.model.floor);
            if outcome == Outcome::New {
                assert!(self.ever_new.insert(record.nonce), "{:?} is new a second time", record.nonce);
            }
        }
        let reserved = self.moments.last().map_or(0, |last| last.reserved);
        let beyond = batch.iter().any(|record| record.nonce.timestamp > reserved);
        self.moment(if beyond { Synced::Promised } else { Synced::Perhaps });
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Claim(offsets) => {
                let record = |&(offset, user, challenge, source): &(i64, u16, u32, u8)| Record {
                    nonce: Nonce {
                        timestamp: self.now().saturating_add_signed(offset.try_into().unwrap()),
                        user: UserId(user),
                        challenge,
                    },
                    source: ip(&format!("192.0.2.{source}")),
                    using: None,
                };
                let batch: Vec<Record> = offsets.iter().map(record).collect();
                self.claim(&batch);
            }
            Op::ReplayAll => {
                let source = ip("198.51.100.1");
                let all = self.ever_new.iter().map(|&nonce| Record { nonce, source, using: None });
                self.claim(&all.collect::<Vec<_>>());
            }
            Op::Forget(freshness) => {
                let before = self.now().saturating_sub(*freshness);
                let known = self.model.claims.len() as u64;
                self.model.forget(before);
                let left = self.store.as_mut().unwrap().forget(self.wall, before).unwrap();
                assert_eq!(left, self.model.claims.len() as u64);
                self.moment(if known > left { Synced::Promised } else { Synced::Perhaps });
            }
            Op::Reserve => {
                self.store.as_mut().unwrap().reserve(self.wall).unwrap();
                self.moment(Synced::Perhaps);
            }
            Op::Clock(step) => self.wall = self.wall.saturating_add_signed(*step),
            Op::Kill => {
                self.store = None;
                self.open();
            }
            Op::Close => {
                self.close();
                self.open();
            }
            Op::Crash(lose, step, since) => self.crash(*lose, *step, *since),
            Op::LostWhileStopped => self.lost_while_stopped(),
            Op::LostWhileOpen => self.lost_while_open(),
        }
    }

    fn crash(&mut self, lose: usize, step: i64, since: u64) {
        self.store = None;
        let left = self.moments.len().saturating_sub(lose).max(1);
        self.moments.truncate(left);
        let moment = self.moments.pop().unwrap();
        fs::remove_dir_all(self.folder()).unwrap();
        self.make_folder();
        for (path, bytes) in moment.files {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        self.wall = self.wall.saturating_add_signed(step);
        self.boot = Boot { id: format!("{}'", self.boot.id), time: self.wall.saturating_sub(since) };
        self.model = moment.model;
        let boot = u32::try_from(self.boot.time).unwrap();
        self.model.floor = self.model.floor.max(boot).max(moment.reserved);
        self.open();
    }

    fn make_folder(&self) {
        fs::create_dir(self.folder()).unwrap();
        fs::set_permissions(self.folder(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }

    /// Claims ahead of the clock of the next start are the gap that the documents name.
    fn lost_while_stopped(&mut self) {
        self.store = None;
        fs::remove_dir_all(self.folder()).unwrap();
        self.model = Model { claims: BTreeMap::new(), floor: self.now() };
        let now = self.now();
        self.ever_new.retain(|nonce| nonce.timestamp <= now);
        self.open();
    }

    fn lost_while_open(&mut self) {
        fs::remove_dir_all(self.folder()).unwrap();
        let store = self.store.as_mut().unwrap();
        store.claim(self.wall, &[]).unwrap_err();
        store.claim(self.wall, &[]).unwrap();
        let now = self.now();
        let latest = self.model.claims.keys().map(|nonce| nonce.timestamp).max().unwrap_or(0);
        self.model.claims.clear();
        self.model.floor = self.model.floor.max(now).max(latest);
        self.moment(Synced::Promised);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Synced {
    Promised,
    Perhaps,
}

fn reserved(folder: &Path) -> u32 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let reader = rusqlite::Connection::open_with_flags(folder.join("claims.db"), flags).unwrap();
    reader.query_row("SELECT reserved FROM state", (), |row| row.get(0)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_nonce_is_ever_new_twice_and_a_naive_model_agrees(ops in prop::collection::vec(op(), 1..80)) {
        let mut world = World::new();
        for op in &ops {
            world.step(op);
        }
        world.step(&Op::ReplayAll);
    }
}
