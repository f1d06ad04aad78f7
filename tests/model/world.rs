//! The real judge on a real store, the model beside it, and what happens to both.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use siglatch::channel::{self, Lane, Opened, SocketId};
use siglatch::clock::Now;
use siglatch::judge::{Claim, Decision, Decoys, Judge, Verdict as Judged};
use siglatch::reason::DropReason;
use siglatch::store::{Outcome, Store};
use siglatch::wire::{HmacKey, ServerId, UserId};
use zeroize::Zeroizing;

use crate::disk::{Disk, Engine};
use crate::naive::{Claimed, Health, Naive, Nonce, Verdict};
use crate::packet::{self, Sent};
use crate::rules::{NOON, Rules, SOURCES, rules};

/// How often each verdict was given.
pub(crate) type Tally = BTreeMap<Verdict, u64>;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Made so many seconds off the clock of now, sent from one of the sources.
    Knock(i64, Sent, usize),
    /// One of all that were ever sent, from where it came or from elsewhere.
    Replay(prop::sample::Index, Option<usize>),
    ReplayAll,
    /// The store answers all claims.
    Settle,
    /// It cannot record them.
    SettleFailing,
    Reload(Rules),
    Clock(i64),
    /// Expired claims are forgotten.
    Forget,
    /// The process is killed, or closes its store in order; its claims under way were recorded before, or not.
    Restart(End, Under),
    /// The machine: the clock is off by so much at the next boot, and that was so many seconds ago.
    Crash(i64, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Killed,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Under {
    Recorded,
    Lost,
}

pub(crate) fn history() -> impl Strategy<Value = ((Rules, usize), Vec<Op>)> {
    let step = prop_oneof![4 => -20_i64..40, 1 => -700_i64..700];
    let op = prop_oneof![
        14 => packet::knock().prop_map(|(offset, sent, from)| Op::Knock(offset, sent, from)),
        6 => (any::<prop::sample::Index>(), prop::option::weighted(0.3, 0..SOURCES.len())).prop_map(|(at, from)| Op::Replay(at, from)),
        1 => Just(Op::ReplayAll),
        6 => Just(Op::Settle),
        1 => Just(Op::SettleFailing),
        2 => rules().prop_map(Op::Reload),
        3 => step.prop_map(Op::Clock),
        2 => Just(Op::Forget),
        1 => (
            prop::sample::select(vec![End::Killed, End::Closed]),
            prop::sample::select(vec![Under::Recorded, Under::Lost]),
        )
            .prop_map(|(end, under)| Op::Restart(end, under)),
        1 => (-60_i64..60, 0_u64..60).prop_map(|(step, since)| Op::Crash(step, since)),
    ];
    let room = prop_oneof![3 => Just(1000_usize), 1 => 1_usize..10];
    ((rules(), room), prop::collection::vec(op, 1..80))
}

pub(crate) struct World {
    disk: Disk,
    wall: u64,
    rules: Rules,
    judge: Judge,
    store: Option<Box<dyn Store>>,
    model: Naive,
    /// Every knock, and where it first came from.
    sent: Vec<(Sent, usize)>,
    /// Claims that the store has not answered; what the judge refused meanwhile waits with them.
    waiting: Vec<(Claimed, Result<Claim, DropReason>)>,
    ran: BTreeSet<Nonce>,
    highest_wall: u64,
    received: u64,
    lost: u64,
    tally: Tally,
}

impl World {
    pub(crate) fn new(engine: Engine, (rules, room): (Rules, usize)) -> World {
        let disk = Disk::new(engine, room, NOON);
        let store = disk.open(NOON - 400);
        let mut world = World {
            judge: Judge::new(rules.config(), decoys()),
            rules,
            store: Some(store),
            disk,
            wall: NOON,
            model: Naive { room, ..Naive::default() },
            sent: Vec::new(),
            waiting: Vec::new(),
            ran: BTreeSet::new(),
            highest_wall: NOON,
            received: 0,
            lost: 0,
            tally: Tally::new(),
        };
        if engine == Engine::Memory {
            world.model.raise(NOON as u32 - 400);
        }
        world
    }

    /// What became of all that was received.
    pub(crate) fn finish(self) -> Tally {
        let verdicts: u64 = self.tally.values().sum();
        assert!(self.waiting.is_empty());
        assert_eq!(self.received, verdicts + self.lost, "received = ran + refused");
        self.tally
    }

    pub(crate) fn step(&mut self, op: &Op) {
        match op {
            Op::Knock(offset, sent, source) => {
                let timestamp = self.wall.saturating_add_signed(*offset) as u32;
                let sent = Sent { timestamp, ..*sent };
                self.sent.push((sent, *source));
                self.receive(sent, *source);
            }
            Op::Replay(at, from) if !self.sent.is_empty() => {
                let (sent, source) = self.sent[at.index(self.sent.len())];
                self.receive(sent, from.unwrap_or(source));
            }
            Op::Replay(..) => {}
            Op::ReplayAll => {
                for (sent, source) in self.sent.clone() {
                    self.receive(sent, source);
                }
            }
            Op::Settle => self.settle(Health::Works),
            Op::SettleFailing => self.settle(Health::Fails),
            Op::Reload(rules) => {
                self.rules = rules.clone();
                self.judge.reload(rules.config());
            }
            Op::Clock(step) => self.set_clock(*step),
            Op::Forget => {
                let before = self.wall.saturating_sub(self.rules.freshness) as u32;
                self.model.forget(before);
                let left = self.store.as_mut().unwrap().forget(self.wall, before).unwrap();
                assert_eq!(left, self.model.claims.len() as u64);
            }
            Op::Restart(end, under) => self.restart(*end, *under),
            Op::Crash(step, since) => self.crash(*step, *since),
        }
    }

    fn set_clock(&mut self, step: i64) {
        self.wall = self.wall.saturating_add_signed(step);
        self.highest_wall = self.highest_wall.max(self.wall);
    }

    fn now(&self) -> Now {
        Now { mono: Duration::from_secs(1), boot: Duration::ZERO, wall: Duration::from_secs(self.wall) }
    }

    fn receive(&mut self, sent: Sent, source: usize) {
        self.received += 1;
        let plain = sent.bytes();
        let opened = Opened {
            lane: sent.stamp.map_or(Lane::Plain, |user| Lane::Stamped(UserId(user))),
            under: channel::Under::CURRENT,
            source: SocketAddr::new(SOURCES[source].parse().unwrap(), 4000),
            local: [127, 0, 0, 1].into(),
            socket: SocketId(0),
            digest: Sha256::digest(plain).into(),
            plaintext: Zeroizing::new(plain),
        };
        let judged = match self.judge.opened(self.now(), &opened) {
            Decision::Claim(claim) => Ok(claim),
            Decision::Refuse(refusal) => Err(refusal.reason),
        };
        match self.model.opened(&self.rules, self.wall, sent, source) {
            Ok(claimed) => self.waiting.push((claimed, judged)),
            Err(reason) => {
                assert_eq!(judged.map(|claim| claim.record()), Err(reason), "{sent:?}");
                self.count(Err(reason));
            }
        }
    }

    fn count(&mut self, verdict: Verdict) {
        *self.tally.entry(verdict).or_default() += 1;
    }

    /// The store's answers to what is waiting, in order.
    fn claim(&mut self) -> Vec<Outcome> {
        let batch: Vec<_> =
            self.waiting.iter().filter_map(|(_, judged)| Some(judged.as_ref().ok()?.record())).collect();
        self.store.as_mut().unwrap().claim(self.wall, &batch).unwrap()
    }

    fn settle(&mut self, health: Health) {
        let mut outcomes = match health {
            Health::Works => self.claim(),
            Health::Fails => Vec::new(),
        }
        .into_iter();
        for (claimed, judged) in std::mem::take(&mut self.waiting) {
            let verdict = judged.and_then(|claim| self.claimed(claim, outcomes.next()));
            let may = self.model.settled(&self.rules, self.wall, &claimed, health);
            assert!(may.contains(&verdict), "{verdict:?} is none of {may:?}: {claimed:?}");
            if is_recorded(verdict) {
                self.model.record(claimed.sent.nonce(), claimed.source);
            }
            if verdict.is_ok() {
                let nonce = claimed.sent.nonce();
                assert!(self.ran.insert(nonce), "{nonce:?} ran a second time");
            }
            self.count(verdict);
        }
    }

    fn claimed(&mut self, claim: Claim, outcome: Option<Outcome>) -> Result<(), DropReason> {
        let nonce = claim.record().nonce;
        match self.judge.claimed(self.now(), claim, outcome) {
            Judged::Grant(grant) => {
                assert_eq!((grant.user.id, grant.timestamp), (nonce.user, nonce.timestamp));
                Ok(())
            }
            Judged::Refuse(refusal) => Err(refusal.reason),
        }
    }

    fn restart(&mut self, end: End, under: Under) {
        if under == Under::Recorded {
            let mut outcomes = self.claim().into_iter();
            for (claimed, judged) in &self.waiting {
                // The second family of a door is as new to it as the first.
                let new = [Some(Outcome::New), Some(Outcome::Shared)];
                if judged.is_ok() && new.contains(&outcomes.next()) {
                    self.model.record(claimed.sent.nonce(), claimed.source);
                }
            }
        }
        let store = self.store.take().unwrap();
        match end {
            End::Killed => drop(store),
            End::Closed => store.close(self.wall).unwrap(),
        }
        self.start();
    }

    fn crash(&mut self, step: i64, since: u64) {
        self.store = None;
        self.set_clock(step);
        if self.disk.engine == Engine::Sqlite {
            let boot = self.disk.reboot(self.wall.saturating_sub(since));
            self.model.raise(boot);
            let reserved = self.highest_wall as u32 + 10;
            self.model.floor_at_most = self.model.floor_at_most.max(reserved);
        }
        self.start();
    }

    /// What was under way died with the process before.
    fn start(&mut self) {
        self.lost += self.waiting.len() as u64;
        self.waiting.clear();
        self.model.asked.clear();
        if self.disk.engine == Engine::Memory {
            // The gap that the documents name: what ran ahead of this clock is forgotten.
            let floor = self.wall as u32;
            (self.model.floor, self.model.floor_at_most) = (floor, floor);
            self.model.claims.clear();
            self.ran.retain(|nonce| nonce.1 <= floor);
        }
        self.store = Some(self.disk.open(self.wall));
        self.judge = Judge::new(self.rules.config(), decoys());
    }
}

/// Whether a knock with this verdict was new to the store.
fn is_recorded(verdict: Verdict) -> bool {
    match verdict {
        Ok(()) => true,
        Err(reason) => reason >= DropReason::UserGone,
    }
}

fn decoys() -> Decoys {
    Decoys { key: HmacKey::new([0xde; 32]).unwrap(), server: ServerId([0xde; 16]) }
}
