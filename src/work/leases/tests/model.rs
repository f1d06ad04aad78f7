//! Any order of knocks, ends, answers of the store, crashes and clock steps.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Knock {
        user: usize,
        host: u8,
        hold: u32,
    },
    Release {
        user: usize,
        host: u8,
    },
    Revoke {
        user: usize,
    },
    /// A reload takes this user's permission away.
    Withdraw(usize),
    Pass(u64),
    /// The store answers the oldest request, well or not.
    Store(bool),
    /// The nth running script ends, with 0 or not.
    Ends(usize, bool),
    Refused(usize),
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let (user, host) = (0..3_usize, 1..3_u8);
    prop_oneof![
        4 => (user.clone(), host.clone(), 1..20_u32).prop_map(|(user, host, hold)| Op::Knock { user, host, hold }),
        1 => (user.clone(), host).prop_map(|(user, host)| Op::Release { user, host }),
        1 => user.clone().prop_map(|user| Op::Revoke { user }),
        1 => user.prop_map(Op::Withdraw),
        3 => (1..15_u64).prop_map(Op::Pass),
        8 => prop::bool::weighted(0.9).prop_map(Op::Store),
        5 => (0..4_usize, prop::bool::weighted(0.7)).prop_map(|(nth, well)| Op::Ends(nth, well)),
        1 => (0..4_usize).prop_map(Op::Refused),
        1 => Just(Op::Crash),
    ]
}

struct World {
    leases: Leases,
    now: Now,
    action: Action,
    queue: VecDeque<DoorRow>,
    disk: BTreeMap<DoorKey, String>,
    running: Vec<(DoorKey, Job, Duration)>,
    knocks: u64,
    ran: BTreeSet<KnockId>,
    refused: BTreeSet<KnockId>,
    /// Doors whose `run` was started and which no `undo` has closed since.
    open: BTreeSet<DoorKey>,
    /// Who holds what, by what the log was told, and until when.
    held: BTreeMap<(DoorKey, String), Duration>,
    /// Doors of which nobody held anything at some time since their `run`.
    emptied: BTreeSet<DoorKey>,
    /// What the kernel closes by itself, and when.
    kernel: BTreeMap<DoorKey, Duration>,
}

impl World {
    fn new(action: Action) -> World {
        World {
            leases: Leases::new(BOOT, 100),
            now: at(0),
            action,
            queue: VecDeque::new(),
            disk: BTreeMap::new(),
            running: Vec::new(),
            knocks: 0,
            ran: BTreeSet::new(),
            refused: BTreeSet::new(),
            open: BTreeSet::new(),
            held: BTreeMap::new(),
            emptied: BTreeSet::new(),
            kernel: BTreeMap::new(),
        }
    }

    fn step(&mut self, op: &Op) {
        let user = |user: usize| ["alice", "bob", "carol"][user];
        match op {
            Op::Knock { user: who, host, hold } => {
                self.knocks += 1;
                let opening = testing::opening(&self.action, user(*who), *host, self.knocks, Some(*hold));
                drop(self.leases.begin(self.now, opening));
            }
            Op::Release { user: who, host } => {
                let key = DoorKey { action: "open".to_owned(), source: [192, 0, 2, *host].into() };
                self.leases.release(&key, user(*who));
            }
            Op::Revoke { user: who } => {
                self.leases.revoke(&Whom::User(user(*who).to_owned()));
            }
            Op::Withdraw(who) => self.leases.withdraw(|about| {
                if about.user.name == user(*who) { Err(DropReason::NotPermitted) } else { Ok(()) }
            }),
            Op::Pass(seconds) => {
                let by = Duration::from_secs(*seconds);
                self.now.boot += by;
                self.now.mono += by;
                // The wall clock jumps about: within a boot nobody cares.
                self.now.wall = Duration::from_secs(1_700_000_000 + seconds * 7919 % 100_000);
                self.kernel.retain(|_, end| *end > self.now.boot);
                self.leases.due(self.now);
            }
            Op::Store(well) => self.answer(*well),
            Op::Ends(nth, well) => self.ends(*nth, *well),
            Op::Refused(nth) => self.not_started(*nth),
            Op::Crash => self.crash(),
        }
        self.commands();
    }

    fn commands(&mut self) {
        while let Some(command) = self.leases.command() {
            match command {
                Command::Keep(row) => {
                    assert!(!self.queue.iter().any(|other| other.key == row.key), "one request a door");
                    self.queue.push_back(row);
                }
                Command::Start(job) => self.start(job),
                Command::Refuse(about, _) => assert!(self.refused.insert(about.knock)),
                Command::Tell(note) => self.told(note),
            }
        }
    }

    fn start(&mut self, job: Job) {
        let (key, undo) = match job.whose() {
            Whose::Knock(about) => (DoorKey::of(about), None),
            Whose::Undo(undoing) => (undoing.door.clone(), Some(undoing)),
            Whose::Renewal(renewing) => {
                let key = renewing.door.clone();
                let ends = self.held.iter().filter(|((door, _), _)| *door == key).map(|(_, end)| *end);
                assert_eq!(Some(self.now.boot + renewing.left), ends.max(), "the latest end");
                assert!(self.open.contains(&key));
                assert!(
                    !self.running.iter().any(|(other, ..)| *other == key),
                    "one script of a door at a time"
                );
                self.running.push((key, job, self.now.boot));
                return;
            }
            Whose::Hook(_) => unreachable!(),
        };
        assert!(!self.running.iter().any(|(other, ..)| *other == key), "one script of a door at a time");
        let Some(undoing) = undo else {
            let knock = job.whose().knock().unwrap().knock;
            assert!(self.ran.insert(knock) && !self.refused.contains(&knock), "once");
            let kept = Record::parse(&self.disk[&key]).unwrap().turn;
            assert_eq!((kept.lease, kept.phase), (knock, Phase::Opening), "recorded before it runs");
            assert!(self.open.insert(key.clone()), "closed before it opens again");
            if self.held.keys().any(|(door, _)| *door == key) {
                self.emptied.remove(&key);
            }
            self.running.push((key, job, self.now.boot));
            return;
        };
        let known = undoing.reason == Reason::Recovered || self.emptied.contains(&key);
        assert!(known, "somebody holds {key}: {:?}", self.held);
        self.running.push((key, job, self.now.boot));
    }

    fn told(&mut self, note: Note) {
        let holder = (note.door.clone(), note.user);
        match note.what {
            Happening::Began(hold) => {
                assert_eq!(self.held.insert(holder, self.now.boot + hold), None);
            }
            Happening::Extended(left) => {
                self.held.insert(holder, self.now.boot + left).unwrap();
            }
            Happening::Ended(reason) => {
                let until = self.held.remove(&holder).unwrap();
                assert!(reason != Reason::Expired || until <= self.now.boot, "too early");
                if !self.held.keys().any(|(door, _)| *door == note.door) {
                    self.emptied.insert(note.door);
                }
            }
            Happening::UndoFailed(..) | Happening::RenewalFailed(..) => {}
        }
    }

    fn answer(&mut self, well: bool) {
        let Some(row) = self.queue.pop_front() else { return };
        if !well {
            self.leases.kept(self.now, &row.key, Err(()));
            return;
        }
        match row.record {
            Some(record) => self.disk.insert(row.key.clone(), record),
            None => self.disk.remove(&row.key),
        };
        self.leases.kept(self.now, &row.key, Ok::<(), ()>(()));
    }

    fn ends(&mut self, nth: usize, well: bool) {
        if nth >= self.running.len() {
            return;
        }
        let (key, job, began) = self.running.remove(nth);
        let late = job.exec().timeout + job.exec().grace;
        // As late as it may have run; what fails may have been killed behind it.
        if let Some(timeout) = job.stdin().and_then(timeout) {
            self.kernel.insert(key.clone(), self.now.boot.min(began + late) + timeout);
            self.kernel.retain(|_, end| *end > self.now.boot);
        }
        match job.whose() {
            Whose::Renewal(_) => {
                self.leases.renewed(self.now, &key, if well { Ran::Well } else { Ran::Failed })
            }
            Whose::Knock(_) => self.leases.ran(&key, if well { Ran::Well } else { Ran::Failed }),
            Whose::Undo(_) if well => {
                self.open.remove(&key);
                self.kernel.remove(&key);
                self.leases.undone(self.now, &key, Undone::Well);
            }
            Whose::Undo(_) => self.leases.undone(self.now, &key, Undone::Failed),
            Whose::Hook(_) => unreachable!(),
        }
    }

    /// It turns out that the runner had no room for it.
    fn not_started(&mut self, nth: usize) {
        if self.running.get(nth).is_some_and(|(_, job, _)| matches!(job.whose(), Whose::Knock(_))) {
            let (key, ..) = self.running.remove(nth);
            self.open.remove(&key);
            self.leases.ran(&key, Ran::Refused);
        }
    }

    /// What runs ends with the daemon, and what was not answered may be on the disk or not.
    fn crash(&mut self) {
        for (nth, row) in std::mem::take(&mut self.queue).into_iter().enumerate() {
            match row.record {
                Some(record) if nth % 2 == 0 => drop(self.disk.insert(row.key, record)),
                None if nth % 2 == 0 => drop(self.disk.remove(&row.key)),
                Some(_) | None => {}
            }
        }
        self.running.clear();
        self.held.clear();
        let found = rows(&self.disk);
        for (key, record) in &found {
            for (user, lease) in &record.turn.leases {
                self.held.insert((key.clone(), user.clone()), lease.until);
            }
            if record.turn.leases.is_empty() {
                self.emptied.insert(key.clone());
            }
        }
        self.leases = Leases::new(BOOT, 100);
        self.leases.recover(self.now, found);
    }

    /// Nobody knocks any more, nothing fails any more.
    fn wind_down(&mut self) {
        for _ in 0..2000 {
            self.step(&Op::Store(true));
            self.step(&Op::Ends(0, true));
            if self.queue.is_empty() && self.running.is_empty() {
                self.step(&Op::Pass(14));
            }
            if self.leases.is_empty() {
                return;
            }
        }
        panic!("a door is never closed: {:?}", self.leases);
    }
}

/// Of a batch that opens.
fn timeout(batch: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(batch).unwrap();
    let three = text.matches("{\"element\":").count() == 3;
    let digits = text.split("\"timeout\":").nth(1).filter(|_| three)?;
    Some(Duration::from_secs(digits.split(',').next().unwrap().parse().unwrap()))
}

proptest! {
    #[test]
    fn a_door_is_opened_once_by_a_knock_and_always_closed(
        ops in prop::collection::vec(op(), 1..120),
        again in prop_oneof![Just(Again::Extend), Just(Again::Restart), Just(Again::Refuse)],
        nft in any::<bool>(),
    ) {
        let mut world = World::new(if nft { testing::nft_door(again) } else { testing::door(again) });
        for op in &ops {
            world.step(op);
        }
        world.wind_down();
        prop_assert!(world.open.is_empty(), "open: {:?}", world.open);
        prop_assert!(world.disk.is_empty(), "recorded: {:?}", world.disk);
        prop_assert!(world.kernel.is_empty(), "in the kernel: {:?}", world.kernel);
        prop_assert!(world.held.is_empty(), "held: {:?}", world.held);
    }
}
