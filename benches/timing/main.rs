//! Whether the time that a sealed packet takes tells what was wrong with it.
//!
//! In the manner of dudect (Reparaz, Balasch, Verbauwhede 2017): each round opens and judges one packet of each
//! [`Class`], in random order, all of them made for this one sample; then Welch's t compares any two classes, and
//! |t| >= 4.5 is a leak. Every opener of the build is measured, with the judge right behind it, its caches as cold as an
//! opening leaves them. One more class is a microsecond late on purpose: a run that does not find it is too noisy to say
//! anything, and fails too. The default opener is measured with two keys as well, each of them the one that fits.
//!
//! `cargo bench --all-features --bench timing` takes half an hour. `-- ROUNDS` instead of 50,000, and `-- ROUNDS OPENER` for
//! one of them, are for a first look.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement stops at what it did not expect, and reads the clock"
)]

mod class;
#[path = "../common/mod.rs"]
mod common;
mod stats;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rsa::rand_core::OsRng;
use sha2::{Digest as _, Sha256};
use siglatch::channel::{Lane, Opened, SocketId, Under};
use siglatch::clock::Now;
use siglatch::judge::{Decision, Decoys, Judge};
use siglatch::listener::opener::Opener;
use siglatch::wire::{HmacKey, PLAINTEXT_LEN, PrivateKey, ServerId};
use zeroize::Zeroizing;

use class::{Block, Class, Maker};
use stats::Samples;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let rounds = args.first().map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    stay_on_one_core();
    let key = PrivateKey::generate(&mut OsRng).unwrap();
    // Another one, above every packet.
    let modulus = key.public().modulus();
    let mut others = std::iter::repeat_with(|| PrivateKey::generate(&mut OsRng).unwrap());
    let other = others.find(|other| other.public().modulus() > modulus).unwrap();
    let maker = Maker::new(key.public(), USERS);
    let mut desk = Desk::new(&key);
    let named = |current: &PrivateKey, old: Option<&PrivateKey>, what: &'static str| {
        let openers = Opener::each(current.der()).unwrap().into_iter();
        // Of two keys the default opener is measured: the others differ from it in nothing that two are about.
        openers
            .take(if old.is_some() { 1 } else { usize::MAX })
            .map(|(name, opener)| {
                let opener = match old {
                    Some(old) => opener.and_old(old.der()).unwrap(),
                    None => opener,
                };
                (name, format!("{name}{what}"), opener)
            })
            .collect::<Vec<_>>()
    };
    let openers = [
        named(&key, None, ""),
        named(&key, Some(&other), " beside an old key"),
        named(&other, Some(&key), " as the old key"),
    ];
    let mut subjects: Vec<_> = openers
        .into_iter()
        .flatten()
        .filter(|(name, ..)| args.get(1).is_none_or(|only| only == name))
        .map(|(_, name, opener)| {
            let judge = Samples::new(format!("the judge behind {name}"));
            (opener, Samples::new(format!("opener {name}")), judge)
        })
        .collect();

    let mut random = rand::rng();
    for _ in 0..rounds.div_ceil(BATCH) {
        // Made before anything is timed, and copied to one place when its turn comes: making leaves no trace in caches.
        let batch: Vec<_> =
            (0..BATCH).map(|_| Class::ALL.map(|class| maker.sealed(class, &mut random))).collect();
        for (opener, openings, judgements) in &mut subjects {
            for round in &batch {
                let mut order: [usize; Class::ALL.len()] = std::array::from_fn(|at| at);
                order.shuffle(&mut random);
                let (mut opened, mut judged) = ([0; Class::ALL.len()], [0; Class::ALL.len()]);
                for at in order {
                    (opened[at], judged[at]) = desk.open_and_judge(opener, Class::ALL[at], &round[at]);
                }
                openings.push(opened);
                judgements.push(judged);
            }
        }
    }

    let samples = subjects.iter().flat_map(|(_, openings, judgements)| [openings, judgements]);
    let verdicts: Vec<bool> = samples.map(Samples::report).collect();
    if verdicts.iter().all(|good| *good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What happens to a packet behind the socket.
struct Desk {
    judge: Judge,
    now: Now,
    ciphertext: Block,
    opened: Opened,
}

impl Desk {
    fn new(key: &PrivateKey) -> Desk {
        let decoys = Decoys {
            key: HmacKey::new(rand::rng().random()).unwrap(),
            server: ServerId(rand::rng().random()),
        };
        let opened = Opened {
            source: "192.0.2.1:4000".parse().unwrap(),
            local: [127, 0, 0, 1].into(),
            socket: SocketId(0),
            lane: Lane::Plain,
            under: Under::CURRENT,
            digest: [0; 32],
            plaintext: Zeroizing::new([0; PLAINTEXT_LEN]),
        };
        Desk {
            judge: Judge::new(Arc::new(common::config(key.public(), USERS, 10)), decoys),
            now: Now {
                mono: Duration::from_secs(1000),
                boot: Duration::ZERO,
                wall: Duration::from_secs(1_700_000_000),
            },
            ciphertext: [0; class::MODULUS],
            opened,
        }
    }

    /// Nanoseconds of opening, and of judging.
    fn open_and_judge(&mut self, opener: &Opener, class: Class, sealed: &Block) -> (u32, u32) {
        self.ciphertext = *sealed;
        self.opened.digest = Sha256::digest(sealed).into();

        let start = Instant::now();
        (self.opened.plaintext, self.opened.under) = opener.open_any(black_box(&self.ciphertext));
        class.plant();
        let opening = start.elapsed();

        let start = Instant::now();
        let decision = self.judge.opened(self.now, black_box(&self.opened));
        class.plant();
        let judging = start.elapsed();

        assert!(matches!(decision, Decision::Refuse(_)), "{class:?} is not authentic");
        (opening.as_nanos() as u32, judging.as_nanos() as u32)
    }
}

/// Cores differ in speed, and moving between them costs.
fn stay_on_one_core() {
    let mut last = CpuSet::new();
    last.set(std::thread::available_parallelism().unwrap().get() - 1).unwrap();
    if let Err(error) = sched_setaffinity(Pid::from_raw(0), &last) {
        println!("not held on one core: {error}");
    }
}

/// Samples of each class.
const ROUNDS: usize = 50_000;
/// Rounds that are made at once: a megabyte of ciphertexts.
const BATCH: usize = 500;
const USERS: u16 = 100;
