//! The whole pipeline: a program of knocks and mishaps, from the socket's bytes to the script's start.
//!
//! The rooms are the real ones, stepped by hand; sealing is the one thing that is not. It pads as PKCS#1 v1.5 does and
//! leaves out the RSA, so that a fuzzer can reach what lies behind it. [`ledger`] holds what runs to what was signed.

mod program;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::channel::{Channel, SocketId, Takes};
use crate::clock::Now;
use crate::config::Config;
use crate::fuzzing::knock::MODULUS;
use crate::fuzzing::ledger::Ledger;
use crate::fuzzing::menu;
use crate::fuzzing::store::Disk;
use crate::keeper::by_hand::{Heard, Keeper};
use crate::keeper::{Loss, limits, stamp_keys};
use crate::listener::by_hand::Listener;
use crate::listener::opener::{Decrypt, Opener};
use crate::listener::{Datagram, Supply};
use crate::reason::DropReason;
use crate::wire::rsa_key::MODULUS_MAX;
use crate::wire::stamp::STAMP_LEN;
use program::{Operation, Program, Stages, Start};

/// What a program brought about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Reasons that something was refused for.
    pub refused: BTreeSet<DropReason>,
    /// Knocks that were granted.
    pub granted: u64,
    /// What they and others were answered, in the receipt's words; "v1" for replies to plain ones.
    pub answers: BTreeSet<String>,
}

/// Runs `data` as a program.
///
/// # Panics
///
/// Where something was granted that nobody signed, that is stale, or that was granted before; where a datagram is not
/// counted exactly once; where somebody is answered who should not be, or more often or at more length than he may.
pub fn pipeline(data: &[u8]) -> Seen {
    let mut world = World::new();
    for operation in Program::new(data) {
        world.step(operation);
        world.flow(world.stages);
    }
    world.end();
    world.ledger.seen
}

/// Everything that a program acts on.
struct World {
    now: Now,
    configs: &'static [Arc<Config>],
    disk: Disk,
    listener: Listener,
    keeper: Keeper,
    /// Whether there are private-key operations enough.
    supply: Supply,
    /// Which stages go on by themselves.
    stages: Stages,
    /// Everything that was sent, to be sent again.
    sent: Vec<Vec<u8>>,
    ledger: Ledger,
}

impl World {
    fn new() -> World {
        let configs = menu::configs();
        let now = Now { mono: Duration::from_secs(1), boot: Duration::ZERO, wall: menu::START };
        let disk = Disk::new(now.unix() - 600);
        let (ours, theirs) = Channel::pair().expect("a socket pair");
        World {
            now,
            configs,
            listener: listener(now, &configs[0], theirs),
            keeper: keeper(now, Arc::clone(&configs[0]), &disk, ours),
            disk,
            supply: Supply::Ample,
            stages: Stages::ALL,
            sent: Vec::new(),
            ledger: Ledger::default(),
        }
    }

    fn step(&mut self, operation: Operation<'_>) {
        let now = self.now;
        match operation {
            Operation::Knock(knock) => {
                let datagram = self.ledger.sign(&knock, now);
                self.send(knock.source, &datagram);
            }
            Operation::Stamped(stamp, knock) => {
                let sealed = self.ledger.sign(&knock, now);
                let datagram = self.ledger.stamp(&stamp, sealed, now);
                self.send(knock.source, &datagram);
            }
            Operation::Supply(supply) => self.supply = supply,
            Operation::Settled(source) => self.listener.admission.settled(now, source.ip().to_canonical()),
            Operation::Raw(source, bytes) => self.send(source, &bytes),
            Operation::Again { nth, source, flip } => {
                if self.sent.is_empty() {
                    return;
                }
                let mut datagram = self.sent[usize::from(nth) % self.sent.len()].clone();
                if let (Some((at, bits)), false) = (flip, datagram.is_empty()) {
                    let at = usize::from(at) % datagram.len();
                    datagram[at] ^= bits;
                }
                self.send(source, &datagram);
            }
            Operation::Wait(time) => {
                self.now.mono += time;
                self.now.boot += time;
                self.now.wall += time;
            }
            Operation::StepClock(seconds) => {
                let wall = i64::try_from(now.unix()).unwrap_or(0).saturating_add(seconds);
                self.now.wall = Duration::from_secs(wall.try_into().unwrap_or(0));
                self.ledger.epochs_come_again();
            }
            Operation::Reload(nth) => {
                let config = &self.configs[usize::from(nth) % self.configs.len()];
                let admission = &mut self.listener.admission;
                let changes = stamp_keys(Some(self.keeper.config()), config);
                changes.iter().for_each(|change| admission.stamp_keys(change));
                admission.set_limits(now, limits(config));
                self.keeper.swap(now, Arc::clone(config));
                self.ledger.epochs_come_again();
            }
            Operation::Restart(start) => self.restart(start),
            Operation::Store(health) => self.disk.set(health),
            Operation::Stages(stages) => self.stages = stages,
            Operation::Exit(nth) => self.keeper.exit(now, usize::from(nth)),
            Operation::Due => self.keeper.due(now),
            Operation::Forget => self.keeper.forget(now),
            Operation::Stop => self.keeper.stop(now),
            Operation::HangUp => {
                self.flow(Stages::ALL);
                self.keeper.hang_up();
            }
        }
    }

    fn send(&mut self, source: SocketAddr, bytes: &[u8]) {
        // As a socket cuts it: one byte above the longest taken.
        let bytes = bytes.get(..=MODULUS.len() + STAMP_LEN).unwrap_or(bytes);
        let socket = SocketId(0);
        self.ledger.delivered(self.keeper.config(), source, bytes);
        self.listener.datagram(
            self.now,
            self.supply,
            Datagram { source, local: [127, 0, 0, 1].into(), socket, takes: Takes::Both, bytes },
        );
        self.sent.push(bytes.to_vec());
    }

    /// Lets what came go on.
    fn flow(&mut self, stages: Stages) {
        let (now, ledger) = (self.now, &mut self.ledger);
        if stages.open {
            self.listener.work();
        }
        if stages.judge {
            let config = Arc::clone(self.keeper.config());
            loop {
                match self.keeper.hear(now).expect("a listener of ours says what it may") {
                    Heard::Opened(opened, judged) => ledger.opened(now, &config, &opened, judged),
                    Heard::Other => {}
                    Heard::Nothing => break,
                }
            }
        }
        if stages.store {
            self.keeper.commit(now);
        }
        if stages.answer {
            let admission = &mut self.listener.admission;
            self.keeper.claimed(now, |config, grant| {
                ledger.verdict(now, config, grant);
                grant.into_iter().for_each(|grant| admission.settled(now, grant.source.ip()));
            });
        }
        for about in self.keeper.started() {
            Ledger::started(self.keeper.config(), &about);
        }
        self.keeper.answers().iter().for_each(|answer| self.ledger.answered(answer));
    }

    /// Everything to its end; then what came is what ran and what was refused.
    fn end(&mut self) {
        self.flow(Stages::ALL);
        self.keeper.stop(self.now);
        let counts = self.listener.report();
        self.flow(Stages::ALL);
        // A door that closes may have a knock behind it, and the store a word about each.
        for nth in 0..SETTLES {
            if self.keeper.is_settled() {
                break;
            }
            assert!(nth + 1 < SETTLES, "a door that is never opened or closed");
            self.keeper.exit(self.now, 0);
            self.flow(Stages::ALL);
        }
        assert_eq!(self.keeper.unanswered(), 0, "what is over is answered");
        self.keeper.listener_counts(counts);
        self.ledger.balance(self.keeper.counts());
    }

    fn restart(&mut self, start: Start) {
        match start {
            Start::InOrder => self.end(),
            Start::Killed => self.ledger.forget_waiting(),
            Start::StoreLost => {
                self.end();
                self.disk = Disk::new(self.now.unix());
                self.ledger.store_lost(self.now);
            }
            Start::Listener => return self.listener_lost(),
        }
        let config = Arc::clone(self.keeper.config());
        let (ours, theirs) = Channel::pair().expect("a socket pair");
        self.listener = listener(self.now, &config, theirs);
        self.keeper = keeper(self.now, config, &self.disk, ours);
        self.ledger.listener_lost();
    }

    /// What it had told is heard; what it had not is lost.
    fn listener_lost(&mut self) {
        let (ours, theirs) = Channel::pair().expect("a socket pair");
        self.flow(Stages { judge: true, ..Stages::NONE });
        self.listener = listener(self.now, self.keeper.config(), theirs);
        match self.keeper.hear(self.now) {
            // The second: its keeper had hung up before.
            Err(Loss::Ended) | Ok(Heard::Nothing) => {}
            Err(_) | Ok(Heard::Opened(..) | Heard::Other) => panic!("it said something after its end"),
        }
        self.keeper.listener(self.now, ours);
        self.ledger.listener_lost();
    }
}

fn listener(now: Now, config: &Config, channel: Channel) -> Listener {
    let opener = Opener::steady(Box::new(NoRsa), [42; 32]);
    let admission = menu::admission(now, MODULUS.to_vec(), config);
    Listener::new(admission, opener, QUEUE, channel)
}

fn keeper(now: Now, config: Arc<Config>, disk: &Disk, channel: Channel) -> Keeper {
    Keeper::new(now, config, menu::decoys(), disk.open(), QUEUE, channel)
}

/// PKCS#1 v1.5 without RSA.
struct NoRsa;

impl Decrypt for NoRsa {
    fn decrypt<'a>(&self, ciphertext: &[u8], room: &'a mut [u8; MODULUS_MAX]) -> Option<&'a [u8]> {
        let block = &mut room[..ciphertext.len()];
        block.copy_from_slice(ciphertext);
        Some(block)
    }
}

/// Far more than what runs and waits.
const SETTLES: usize = 100;

/// What may wait for a worker, and for the store.
const QUEUE: usize = 2;
