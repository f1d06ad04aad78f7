//! The judge and a store against a naive model: over knocks, copies, reloads, restarts, crashes, clock steps and
//! expiry in any order, nothing runs that the model refuses, nothing runs twice, and what must run runs.
#![cfg(all(feature = "server", feature = "sqlite"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect"
)]

mod disk;
mod naive;
mod packet;
mod rules;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::test_runner::{Config, TestRunner};
use siglatch::reason::DropReason;

use disk::Engine;
use world::{Op, Tally, World};

/// Runs `cases` random histories, and returns what they came to.
fn histories(engine: Engine, cases: u32) -> Tally {
    let total = RefCell::new(BTreeMap::new());
    let default = Config::default();
    let config = Config {
        // PROPTEST_CASES asks for more.
        cases: cases.max(default.cases),
        failure_persistence: None,
        ..default
    };
    let outcome = TestRunner::new(config).run(&world::history(), |(rules, ops)| {
        let mut world = World::new(engine, rules);
        ops.iter().for_each(|op| world.step(op));
        world.step(&Op::Settle);
        world.step(&Op::ReplayAll);
        world.step(&Op::Settle);
        for (verdict, count) in world.finish() {
            *total.borrow_mut().entry(verdict).or_default() += count;
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    total.into_inner()
}

/// Histories that never got somewhere prove nothing about it.
fn assert_reaches_everything(tally: &Tally) {
    let judged = |reason: &&DropReason| {
        (DropReason::NotAuthentic..=DropReason::Payload).contains(*reason)
            // Not in this model: the world knocks faster than any bucket, has no queue in front of its store, and no door that
            // may open for others.
            && !matches!(reason, DropReason::Rate | DropReason::StoreBusy | DropReason::Address)
    };
    let mut reached = 0;
    for verdict in DropReason::ALL.iter().filter(judged).map(|reason| Err(*reason)).chain([Ok(())]) {
        assert!(tally.contains_key(&verdict), "{verdict:?} was never reached: {tally:?}");
        reached += 1;
    }
    assert_eq!(reached, 22);
}

#[test]
fn a_judge_with_a_store_in_memory_does_what_the_model_does() {
    let tally = histories(Engine::Memory, 2048);
    println!("{tally:?}");
    assert_reaches_everything(&tally);
}

#[test]
fn a_judge_with_a_store_on_disk_does_what_the_model_does() {
    let tally = histories(Engine::Sqlite, 384);
    println!("{tally:?}");
    assert_reaches_everything(&tally);
}
