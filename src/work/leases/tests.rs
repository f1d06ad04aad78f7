#![expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]

use super::*;
use crate::config::Action;
use crate::work::job::Whose;
use crate::work::testing;

mod kernel;
mod model;

const BOOT: &str = "01234567-89ab-cdef-0123-456789abcdef";

fn at(seconds: u64) -> Now {
    let boot = Duration::from_secs(1000 + seconds);
    Now { mono: boot, boot, wall: Duration::from_secs(1_700_000_000 + seconds) }
}

/// Leases, with a store and a runner that do what they are told.
struct Bench {
    leases: Leases,
    disk: BTreeMap<DoorKey, String>,
    knocks: u64,
    /// "run" or "undo reason attempt", and what was told.
    seen: Vec<String>,
    refused: usize,
}

impl Bench {
    fn new() -> Bench {
        let leases = Leases::new(BOOT, 100);
        Bench { leases, disk: BTreeMap::new(), knocks: 0, seen: Vec::new(), refused: 0 }
    }

    fn knock(&mut self, now: Now, action: &Action, user: &str, hold: Option<u32>) -> Begun {
        self.knocks += 1;
        let begun = self.leases.begin(now, testing::opening(action, user, 7, self.knocks, hold));
        self.settle(now);
        begun
    }

    /// The store keeps everything; what starts is noted.
    fn settle(&mut self, now: Now) {
        while let Some(command) = self.leases.command() {
            match command {
                Command::Keep(row) => {
                    match row.record {
                        Some(record) => self.disk.insert(row.key.clone(), record),
                        None => self.disk.remove(&row.key),
                    };
                    self.leases.kept(now, &row.key, Ok::<(), ()>(()));
                }
                Command::Start(job) => self.seen.push(name(&job)),
                Command::Refuse(..) => self.refused += 1,
                Command::Tell(Note { user, what: Happening::Ended(reason), .. }) => {
                    self.seen.push(format!("{user} {reason}"));
                }
                Command::Tell(Note { what: Happening::UndoFailed(again, alarm), .. }) => {
                    self.seen.push(format!("failed {} {alarm:?}", again.as_secs()));
                }
                Command::Tell(Note { what: Happening::RenewalFailed(again, alarm), .. }) => {
                    self.seen.push(format!("renewal failed {} {alarm:?}", again.as_secs()));
                }
                Command::Tell(_) => {}
            }
        }
    }

    fn renewed(&mut self, now: Now, how: Ran) {
        self.leases.renewed(now, &key(), how);
        self.settle(now);
    }

    fn due(&mut self, now: Now) {
        self.leases.due(now);
        self.settle(now);
    }

    fn ran(&mut self, now: Now, how: Ran) {
        self.leases.ran(&key(), how);
        self.settle(now);
    }

    fn undone(&mut self, now: Now, how: Undone) {
        self.leases.undone(now, &key(), how);
        self.settle(now);
    }

    fn seen(&mut self) -> Vec<String> {
        std::mem::take(&mut self.seen)
    }

    /// The daemon is killed, and another starts.
    fn killed(self, now: Now, boot_id: &str) -> Bench {
        let mut leases = Leases::new(boot_id, 100);
        leases.recover(now, rows(&self.disk));
        let mut bench = Bench { leases, ..self };
        bench.settle(now);
        bench
    }
}

fn rows(disk: &BTreeMap<DoorKey, String>) -> Vec<(DoorKey, Record)> {
    disk.iter().map(|(key, text)| (key.clone(), Record::parse(text).unwrap())).collect()
}

fn name(job: &Job) -> String {
    match job.whose() {
        Whose::Knock(_) => "run".to_owned(),
        Whose::Undo(undoing) => format!("undo {} {}", undoing.reason, undoing.attempt),
        Whose::Renewal(renewing) => format!("renewal {}", renewing.left.as_secs()),
        Whose::Hook(_) => unreachable!(),
    }
}

fn key() -> DoorKey {
    DoorKey { action: "open".to_owned(), source: [192, 0, 2, 7].into() }
}

#[test]
fn a_door_runs_once_and_is_undone_once_when_its_time_is_over() {
    let (mut bench, door) = (Bench::new(), testing::door(Again::Extend));
    assert!(matches!(bench.knock(at(0), &door, "alice", None), Begun::Opens));
    bench.ran(at(1), Ran::Well);
    assert_eq!(bench.leases.next_deadline(), Some(at(60).boot));
    bench.due(at(59));
    assert_eq!(bench.seen(), ["run"]);
    bench.due(at(60));
    assert_eq!(bench.seen(), ["alice expired", "undo expired 1"]);
    bench.undone(at(61), Undone::Well);
    assert!(bench.leases.is_empty() && bench.disk.is_empty());
}

#[test]
fn undo_is_given_what_run_was_given_and_why_it_runs() {
    let (mut bench, door) = (Bench::new(), testing::door(Again::Extend));
    let mut jobs = Vec::new();
    let mut take = |bench: &mut Bench| {
        while let Some(command) = bench.leases.command() {
            match command {
                Command::Keep(row) => bench.leases.kept(at(0), &row.key, Ok::<(), ()>(())),
                Command::Start(job) => jobs.push(job),
                Command::Refuse(..) | Command::Tell(_) => {}
            }
        }
    };
    assert!(matches!(
        bench.leases.begin(at(0), testing::opening(&door, "alice", 7, 0xabc, None)),
        Begun::Opens
    ));
    take(&mut bench);
    bench.leases.ran(&key(), Ran::Failed);
    take(&mut bench);
    let [run, undo] = &jobs[..] else { panic!("{jobs:?}") };
    assert_eq!(undo.program().to_str(), Some("/bin/false"));
    assert_eq!(undo.args()[0], "-u");
    assert_eq!(undo.args()[1..], *run.args());
    let (run, undo) = (run.env(), undo.env());
    assert_eq!(undo[..run.len()], *run);
    let more: Vec<String> =
        undo.iter().skip(run.len() - 1).map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        more,
        ["SIGLATCH_LEASE_ID=0000000000000abc", "SIGLATCH_ATTEMPT=1", "SIGLATCH_LEASE_REASON=failed"]
    );
}

#[test]
fn one_user_s_end_does_not_shut_out_his_neighbour_behind_the_same_address() {
    let (mut bench, door) = (Bench::new(), testing::door(Again::Extend));
    assert!(matches!(bench.knock(at(0), &door, "alice", None), Begun::Opens));
    bench.ran(at(1), Ran::Well);
    assert!(matches!(bench.knock(at(30), &door, "bob", None), Begun::Held));
    assert_eq!(bench.leases.left(at(31), &key(), "bob"), Some(Duration::from_secs(59)));
    assert_eq!(bench.leases.left(at(31), &key(), "carol"), None);
    bench.due(at(60));
    assert_eq!(bench.seen(), ["run", "alice expired"]);
    assert_eq!(bench.leases.release(&key(), "bob"), 1);
    bench.settle(at(61));
    assert_eq!(bench.seen(), ["bob released", "undo released 1"]);
}

#[test]
fn a_second_knock_extends_restarts_or_is_refused_and_never_runs_twice() {
    for (again, begun, end) in
        [(Again::Extend, "Held", 310), (Again::Restart, "Held", 20), (Again::Refuse, "Refused(Held)", 310)]
    {
        let (mut bench, door) = (Bench::new(), testing::door(again));
        assert!(matches!(bench.knock(at(10), &door, "alice", Some(300)), Begun::Opens));
        bench.ran(at(11), Ran::Well);
        let second = bench.knock(at(10), &door, "alice", Some(10));
        assert_eq!(format!("{second:?}"), begun);
        assert_eq!(bench.leases.next_deadline(), Some(at(end).boot));
        bench.due(at(end - 1));
        assert_eq!(bench.seen(), ["run"]);
        bench.due(at(end));
        assert_eq!(bench.seen(), ["alice expired", "undo expired 1"]);
    }
}

#[test]
fn nobody_holds_a_door_longer_than_max_hold_or_less_than_a_second() {
    for (asked, granted) in
        [(None, 60), (Some(10), 10), (Some(600), 600), (Some(u32::MAX), 600), (Some(0), 1)]
    {
        let (mut bench, door) = (Bench::new(), testing::door(Again::Extend));
        assert!(matches!(bench.knock(at(0), &door, "alice", asked), Begun::Opens));
        assert_eq!(bench.leases.next_deadline(), Some(at(granted).boot), "{asked:?}");
    }
}

#[test]
fn a_run_that_fails_is_undone_and_one_that_never_started_is_not() {
    let (mut bench, door) = (Bench::new(), testing::door(Again::Extend));
    assert!(matches!(bench.knock(at(0), &door, "alice", None), Begun::Opens));
    bench.ran(at(1), Ran::Failed);
    assert_eq!(bench.seen(), ["run", "alice failed", "undo failed 1"]);
    bench.undone(at(2), Undone::Well);
    assert!(matches!(bench.knock(at(3), &door, "alice", None), Begun::Opens));
    bench.ran(at(3), Ran::Refused);
    assert_eq!(bench.seen(), ["run", "alice failed"]);
    assert!(bench.leases.is_empty() && bench.disk.is_empty());
}

#[test]
fn an_undo_that_fails_is_tried_again_ever_more_slowly_and_loudly_until_it_is_an_old_story() {
    let (mut bench, door) = (Bench::new(), testing::door(Again::Extend));
    assert!(matches!(bench.knock(at(0), &door, "alice", None), Begun::Opens));
    bench.ran(at(1), Ran::Well);
    let mut now = 60;
    bench.due(at(now));
    bench.seen();
    for delay in [1, 2, 4, 8, 16, 32, 64, 128, 256] {
        bench.undone(at(now), Undone::Failed);
        bench.due(at(now + delay - 1));
        assert_eq!(bench.seen(), [format!("failed {delay} Loud")]);
        now += delay;
        bench.due(at(now));
        assert_eq!(bench.seen().len(), 1);
    }
    bench.undone(at(now), Undone::Failed);
    assert_eq!(bench.seen(), ["failed 300 Quiet"]);
    bench.due(at(now + 300));
    assert_eq!(bench.seen(), ["undo expired 11"]);
    bench.undone(at(now + 300), Undone::Well);
    assert!(bench.leases.is_empty() && bench.disk.is_empty());
}

#[test]
fn a_knock_during_undo_runs_when_that_has_ended_well_and_is_refused_when_it_fails() {
    let (mut bench, door) = (Bench::new(), testing::door(Again::Extend));
    assert!(matches!(bench.knock(at(0), &door, "alice", None), Begun::Opens));
    bench.ran(at(1), Ran::Well);
    bench.due(at(60));
    assert!(matches!(bench.knock(at(61), &door, "bob", None), Begun::Opens));
    assert!(matches!(bench.knock(at(61), &door, "alice", None), Begun::Held));
    assert_eq!(bench.seen(), ["run", "alice expired", "undo expired 1"]);
    bench.undone(at(62), Undone::Failed);
    assert_eq!(bench.refused, 1);
    assert_eq!(bench.seen(), ["failed 1 Loud", "alice failed", "bob failed"]);
    // It is tried again at once, and what was opened is closed by what was recorded then.
    assert!(matches!(bench.knock(at(62), &door, "bob", None), Begun::Opens));
    assert_eq!(bench.seen(), ["undo expired 2"]);
    bench.undone(at(63), Undone::Well);
    assert_eq!(bench.seen(), ["run"]);
    bench.ran(at(63), Ran::Refused);
    assert_eq!(bench.seen(), ["bob failed"]);
    assert!(bench.leases.is_empty() && bench.disk.is_empty());
}

#[test]
fn a_knock_that_waits_and_whose_lease_is_ended_runs_nothing() {
    let (mut bench, door) = (Bench::new(), testing::door(Again::Extend));
    assert!(matches!(bench.knock(at(0), &door, "alice", None), Begun::Opens));
    bench.ran(at(1), Ran::Well);
    bench.due(at(60));
    assert!(matches!(bench.knock(at(61), &door, "eve", None), Begun::Opens));
    assert_eq!(bench.leases.revoke(&Whom::User("eve".to_owned())), 1);
    bench.settle(at(61));
    assert_eq!(bench.refused, 1);
    bench.undone(at(62), Undone::Well);
    assert_eq!(bench.seen(), ["run", "alice expired", "undo expired 1", "eve revoked"]);
    assert!(bench.leases.is_empty() && bench.disk.is_empty());
}

#[test]
fn a_lease_that_the_store_cannot_record_runs_nothing_and_one_that_ends_is_undone_all_the_same() {
    let door = testing::door(Again::Extend);
    let mut leases = Leases::new(BOOT, 100);
    assert!(matches!(leases.begin(at(0), testing::opening(&door, "alice", 7, 1, None)), Begun::Opens));
    let mut refused = 0;
    while let Some(command) = leases.command() {
        match command {
            Command::Keep(row) => leases.kept(at(0), &row.key, Err(())),
            Command::Start(job) => panic!("{job:?}"),
            Command::Refuse(..) => refused += 1,
            Command::Tell(_) => {}
        }
    }
    assert_eq!(refused, 1);

    let mut bench = Bench::new();
    assert!(matches!(bench.knock(at(0), &door, "alice", None), Begun::Opens));
    bench.ran(at(1), Ran::Well);
    bench.leases.due(at(60));
    let mut started = Vec::new();
    while let Some(command) = bench.leases.command() {
        match command {
            Command::Keep(row) => bench.leases.kept(at(60), &row.key, Err(())),
            Command::Start(job) => started.push(name(&job)),
            Command::Refuse(..) | Command::Tell(_) => {}
        }
    }
    assert_eq!(started, ["undo expired 1"]);
    // The disk has room again: what it did not keep is made up for.
    bench.due(at(66));
    bench.undone(at(66), Undone::Well);
    assert!(bench.leases.is_empty() && bench.disk.is_empty());
}

#[test]
fn over_a_kill_an_open_door_lives_on_and_what_was_cut_short_is_undone() {
    let door = testing::door(Again::Extend);
    let open = |ran: bool| {
        let mut bench = Bench::new();
        assert!(matches!(bench.knock(at(0), &door, "alice", None), Begun::Opens));
        if ran {
            bench.ran(at(1), Ran::Well);
        }
        bench
    };
    let mut lives = open(true).killed(at(10), BOOT);
    lives.due(at(59));
    assert_eq!(lives.seen(), ["run"]);
    lives.due(at(60));
    assert_eq!(lives.seen(), ["alice expired", "undo expired 1"]);

    let mut late = open(true).killed(at(61), BOOT);
    assert_eq!(late.seen(), ["run", "alice expired", "undo expired 1"]);

    let mut opening = open(false).killed(at(10), BOOT);
    assert_eq!(opening.seen(), ["run", "alice recovered", "undo recovered 1"]);
    let mut undoing = opening.killed(at(11), BOOT);
    assert_eq!(undoing.seen(), ["undo recovered 2"]);
    undoing.undone(at(12), Undone::Well);
    assert!(undoing.killed(at(13), BOOT).leases.is_empty());
}

#[test]
fn a_clock_that_steps_changes_nothing_within_a_boot_and_never_prolongs_a_lease_over_one() {
    let door = testing::door(Again::Extend);
    let open = || {
        let mut bench = Bench::new();
        assert!(matches!(bench.knock(at(0), &door, "alice", None), Begun::Opens));
        bench.ran(at(1), Ran::Well);
        bench
    };
    let stepped = |seconds, step: i64| Now {
        wall: Duration::from_secs(
            (1_700_000_000 + i64::try_from(seconds).unwrap() + step).try_into().unwrap(),
        ),
        ..at(seconds)
    };
    for step in [-86_400, 86_400] {
        let mut bench = open();
        bench.due(stepped(59, step));
        assert_eq!(bench.seen(), ["run"]);
        let mut bench = bench.killed(stepped(59, step), BOOT);
        assert_eq!(bench.seen(), [""; 0]);
        bench.due(stepped(60, step));
        assert_eq!(bench.seen(), ["alice expired", "undo expired 1"]);
    }
    let booted = |seconds: u64, wall: u64| Now {
        boot: Duration::from_secs(seconds),
        mono: Duration::from_secs(seconds),
        wall: Duration::from_secs(1_700_000_000 + wall),
    };
    let mut later = open().killed(booted(5, 50), "another boot");
    assert_eq!(later.leases.next_deadline(), Some(Duration::from_secs(15)));
    later.due(booted(15, 60));
    assert_eq!(later.seen(), ["run", "alice expired", "undo expired 1"]);
    let back = open().killed(Now { wall: Duration::ZERO, ..booted(5, 0) }, "another boot");
    assert_eq!(back.leases.next_deadline(), Some(Duration::from_secs(65)));
    // Where boots cannot be told apart the wall clock decides.
    let unknown = open().killed(at(10), "");
    assert_eq!(unknown.leases.next_deadline(), Some(at(60).boot));
}

#[test]
fn who_waits_for_a_door_to_be_closed_has_to_be_permitted_still_and_who_holds_one_keeps_it() {
    let (mut bench, door) = (Bench::new(), testing::door(Again::Extend));
    assert!(matches!(bench.knock(at(0), &door, "alice", None), Begun::Opens));
    bench.ran(at(1), Ran::Well);
    bench.leases.withdraw(|_| Err(DropReason::UserGone));
    bench.settle(at(2));
    assert_eq!((bench.seen(), bench.refused), (vec!["run".to_owned()], 0));
    bench.due(at(60));
    assert!(matches!(bench.knock(at(61), &door, "bob", None), Begun::Opens));
    bench.leases.withdraw(|about| if about.user.name == "bob" { Err(DropReason::UserGone) } else { Ok(()) });
    bench.settle(at(62));
    bench.undone(at(63), Undone::Well);
    assert_eq!(bench.seen(), ["alice expired", "undo expired 1", "bob failed"]);
    assert_eq!(bench.refused, 1);
    assert!(bench.leases.is_empty() && bench.disk.is_empty());
}

#[test]
fn the_administrator_ends_leases_by_id_by_user_and_all() {
    let door = testing::door(Again::Extend);
    let open = || {
        let mut bench = Bench::new();
        assert!(matches!(bench.knock(at(0), &door, "alice", None), Begun::Opens));
        bench.ran(at(1), Ran::Well);
        assert!(matches!(bench.knock(at(1), &door, "bob", None), Begun::Held));
        bench
    };
    for (whom, count) in [
        (Whom::Lease(KnockId(2_u64.to_be_bytes())), 1),
        (Whom::User("bob".to_owned()), 1),
        (Whom::User("carol".to_owned()), 0),
        (Whom::All, 2),
    ] {
        let mut bench = open();
        assert_eq!(bench.leases.revoke(&whom), count, "{whom:?}");
        bench.settle(at(2));
        assert_eq!(bench.seen().iter().any(|seen| seen == "undo revoked 1"), count == 2, "{whom:?}");
    }
}

#[test]
fn what_is_not_to_outlive_the_daemon_is_undone_when_it_stops() {
    let mut undone = testing::door(Again::Extend);
    undone.door.as_mut().unwrap().on_shutdown = OnShutdown::Undo;
    for (door, ends) in [(undone, true), (testing::door(Again::Extend), false)] {
        let mut bench = Bench::new();
        assert!(matches!(bench.knock(at(0), &door, "alice", None), Begun::Opens));
        assert!(!bench.leases.is_settled());
        bench.ran(at(1), Ran::Well);
        bench.leases.shutdown();
        bench.settle(at(2));
        assert_eq!(bench.seen().last().unwrap() == "undo shutdown 1", ends);
        assert_eq!(bench.leases.is_settled(), !ends);
    }
}

#[test]
fn no_more_doors_begin_than_there_may_be() {
    let (door, mut leases) = (testing::door(Again::Extend), Leases::new(BOOT, 2));
    for host in [1, 2] {
        assert!(matches!(leases.begin(at(0), testing::opening(&door, "alice", host, 1, None)), Begun::Opens));
    }
    let third = leases.begin(at(0), testing::opening(&door, "alice", 3, 1, None));
    assert!(matches!(third, Begun::Refused(DropReason::DoorsFull)));
    let held = leases.begin(at(0), testing::opening(&door, "bob", 2, 2, None));
    assert!(matches!(held, Begun::Held));
}
