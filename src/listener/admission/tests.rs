#![expect(clippy::arithmetic_side_effects, reason = "small numbers")]

use std::time::Duration;

use proptest::prelude::*;
use rsa::rand_core::OsRng;

use super::*;
use crate::wire::stamp::{Epoch, Stamper, stamp};
use crate::wire::{PrivateKey, StampKey};

const START: u64 = 1_700_000_000;
const MODULUS: [u8; 256] = [0xb0; 256];
pub(super) const LIMITS: Limits = Limits {
    freshness: 300,
    plain: Plain::Taken,
    user_rate: 10,
    user_burst: 50,
    prefix_rate: 10,
    prefix_burst: 50,
    prefixes: 1024,
};

pub(super) fn beacon() -> BeaconKey {
    let vectors = include_str!("../../../tests/vectors/siglatch-v1.json");
    let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
    let key = PrivateKey::from_pem(vectors["private_key_pem"].as_str().unwrap()).unwrap();
    BeaconKey::of(key.public())
}

fn key(seed: u8) -> StampKey {
    StampKey::from_bytes([seed; 32])
}

/// Alice is user 1 with key 1, Bob 2 with key 2.
struct Rig {
    admission: Admission,
    beacon: BeaconKey,
    now: Now,
    supply: Supply,
    /// Makes each datagram another.
    serial: u64,
}

impl Rig {
    fn new(limits: Limits) -> Rig {
        let now =
            Now { mono: Duration::from_secs(1), boot: Duration::ZERO, wall: Duration::from_secs(START) };
        let mut admission = Admission::new(now, MODULUS.to_vec(), beacon(), limits);
        let added = vec![(UserId(1), key(1)), (UserId(2), key(2))];
        admission.stamp_keys(&StampKeys { removed: Vec::new(), added });
        Rig { admission, beacon: beacon(), now, supply: Supply::Ample, serial: 0 }
    }

    fn sealed(&mut self) -> Vec<u8> {
        self.serial += 1;
        let mut sealed = vec![0x55; 256];
        sealed[8..16].copy_from_slice(&self.serial.to_be_bytes());
        sealed
    }

    /// A datagram stamped with that user's first key, at that distance from now.
    fn stamped(&mut self, user: u8, skew: i64) -> Vec<u8> {
        let timestamp = self.now.unix().checked_add_signed(skew).unwrap().try_into().unwrap();
        let sealed = self.sealed();
        stamp(sealed, UserId(user.into()), timestamp, &self.beacon, &Stamper::new(&key(user)))
    }

    fn send_on(&mut self, takes: Takes, source: &str, bytes: &[u8]) -> Result<Sealed, DropReason> {
        let source = SocketAddr::new(source.parse().unwrap(), 9);
        let datagram = Datagram { source, local: [127, 0, 0, 1].into(), socket: SocketId(3), takes, bytes };
        match self.admission.datagram(self.now, self.supply, datagram) {
            Step::Open(sealed) => Ok(sealed),
            Step::Drop(reason) => Err(reason),
        }
    }

    fn send(&mut self, source: &str, bytes: &[u8]) -> Result<Way, DropReason> {
        self.send_on(Takes::Both, source, bytes).map(|sealed| sealed.way())
    }

    /// How many of so many new plain datagrams from there pass.
    fn passing(&mut self, source: &str, tries: usize) -> usize {
        (0..tries)
            .filter(|_| {
                let sealed = self.sealed();
                self.send(source, &sealed).is_ok()
            })
            .count()
    }

    fn wait(&mut self, time: Duration) -> Beacons {
        self.now.mono += time;
        self.now.wall += time;
        self.admission.tick(self.now)
    }
}

const HOME: &str = "192.0.2.1";
const ELSEWHERE: &str = "198.51.100.1";
const ALICE: Way = Way::Stamped(UserId(1));
const BOB: Way = Way::Stamped(UserId(2));

#[test]
fn while_two_keys_are_good_a_stamp_for_either_is_taken_and_says_which() {
    let old = BeaconKey::of(PrivateKey::generate(&mut OsRng).unwrap().public());
    let mut rig = Rig::new(LIMITS);
    let current = std::mem::replace(&mut rig.beacon, old.clone());
    let stamped = rig.stamped(1, 0);
    assert_eq!(rig.send(HOME, &stamped), Err(DropReason::Beacon), "one key is good");
    let one = rig.admission.beacons().len();

    let mut rig = Rig { admission: rig.admission.and_old(vec![0xc0; 256], old.clone()), ..rig };
    assert_eq!(rig.admission.beacons().len(), 2 * one);
    // Now, a window later, and with other limits: both are in every epoch.
    for (wait, freshness) in [(0, 300), (1000, 300), (0, 3600)] {
        let _sieve_is_not_looked_at = rig.wait(Duration::from_secs(wait));
        rig.admission.set_limits(rig.now, Limits { freshness, ..LIMITS });
        for (beacon, under) in [(&current, Under::CURRENT), (&old, Under::OLD)] {
            rig.beacon = beacon.clone();
            for skew in [0, 1 - i64::from(freshness), i64::from(freshness) - 1] {
                let stamped = rig.stamped(1, skew);
                let epoch = &stamped[256..264];
                assert!(rig.admission.beacons().iter().any(|beacon| beacon == epoch), "the kernel knows it");
                assert_eq!(rig.send_on(Takes::Both, HOME, &stamped).unwrap().under(), Some(under));
                assert_eq!(rig.send(HOME, &stamped), Err(DropReason::Seen));
                assert!(rig.admission.stamps.has_taken(&Stamped::split(&stamped, 256).unwrap()));
            }
        }
    }
    let plain = rig.sealed();
    assert_eq!(rig.send_on(Takes::Both, HOME, &plain).unwrap().under(), None, "nobody can tell");
    // Below the larger of the two.
    assert_eq!(rig.send(HOME, &[0xbf; 256]), Ok(Way::Stranger));
    assert_eq!(rig.send(HOME, &[0xc0; 256]), Err(DropReason::Range));
}

#[test]
fn a_length_passes_only_on_a_socket_that_is_for_it() {
    let mut rig = Rig::new(LIMITS);
    let longest = rig.admission.buffer().len();
    assert_eq!(longest, 289, "a longer datagram must not look like one of 288 bytes");
    let mut passed = Vec::new();
    for takes in [Takes::Plain, Takes::Stamped, Takes::Both] {
        for len in 0..=longest {
            let mut datagram = rig.stamped(1, 0);
            datagram.resize(len, 0);
            match rig.send_on(takes, HOME, &datagram) {
                Ok(sealed) => {
                    assert_eq!(sealed.ciphertext(), &datagram[..256], "without its stamp");
                    assert_eq!(sealed.socket(), SocketId(3));
                    passed.push((takes, len, sealed.lane()));
                }
                Err(reason) => assert_eq!(reason, DropReason::Length, "{takes:?} {len}"),
            }
        }
    }
    let (plain, alice) = (Lane::Plain, Lane::Stamped(UserId(1)));
    assert_eq!(
        passed,
        [
            (Takes::Plain, 256, plain),
            (Takes::Stamped, 288, alice),
            (Takes::Both, 256, plain),
            (Takes::Both, 288, alice)
        ]
    );
}

#[test]
fn what_is_not_below_the_modulus_costs_no_operation_and_no_stamp() {
    let mut rig = Rig::new(LIMITS);
    let stamper = Stamper::new(&key(1));
    let mut edge = MODULUS.to_vec();
    for (last, outcome) in [(0xb0, false), (0xb1, false), (0xaf, true)] {
        edge[255] = last;
        let stamped = stamp(edge.clone(), UserId(1), START.try_into().unwrap(), &rig.beacon, &stamper);
        for datagram in [&edge, &stamped] {
            let sent = rig.send(HOME, datagram);
            assert_eq!(sent.is_ok(), outcome, "{last:x} {}", datagram.len());
            assert!(sent.is_ok() || sent == Err(DropReason::Range));
        }
    }
}

#[test]
fn a_mapped_source_is_folded() {
    let mut rig = Rig::new(LIMITS);
    let datagram = rig.stamped(1, 0);
    let sealed = rig.send_on(Takes::Both, "::ffff:192.0.2.1", &datagram).unwrap();
    assert_eq!(sealed.source(), "192.0.2.1:9".parse().unwrap());
    assert_eq!(rig.send(HOME, &datagram), Err(DropReason::Seen), "it is the same address");
}

#[test]
fn a_stamp_with_any_bit_changed_is_refused_and_takes_nothing_from_the_good_one() {
    let mut rig = Rig::new(LIMITS);
    let good = rig.stamped(1, 0);
    for bit in 0..good.len() * 8 {
        let mut changed = good.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let reason = rig.send(HOME, &changed).unwrap_err();
        let expected = match bit / 8 {
            // The first bit makes it larger than the modulus.
            0 if bit == 7 => DropReason::Range,
            256..264 => DropReason::Beacon,
            _ => DropReason::Stamp,
        };
        assert_eq!(reason, expected, "bit {bit}");
    }
    assert_eq!(rig.send(HOME, &good), Ok(ALICE));
}

#[test]
fn nobodys_and_anothers_stamps_are_refused() {
    let mut rig = Rig::new(LIMITS);
    assert_eq!(rig.stamped(3, 0).len(), 288);
    let stranger = rig.stamped(3, 0);
    assert_eq!(rig.send(HOME, &stranger), Err(DropReason::Stamp));
    let (alice, bob) = (rig.stamped(1, 0), rig.stamped(2, 0));
    let moved = [&alice[..256], &bob[256..]].concat();
    assert_eq!(rig.send(HOME, &moved), Err(DropReason::Stamp), "a stamp sticks to its datagram");
    assert_eq!(rig.send(HOME, &bob), Ok(BOB));
}

#[test]
fn a_stamped_datagram_is_opened_once_as_long_as_its_epoch_is_in_the_window() {
    let mut rig = Rig::new(LIMITS);
    let datagram = rig.stamped(1, 300);
    assert_eq!(rig.send(HOME, &datagram), Ok(ALICE));
    let mut copies = 0;
    loop {
        match rig.send(HOME, &datagram) {
            Err(DropReason::Seen) => {}
            other => {
                assert_eq!(other, Err(DropReason::Beacon));
                break;
            }
        }
        assert_eq!(rig.send(ELSEWHERE, &datagram), Err(DropReason::Copied));
        copies += 1;
        let _changed = rig.wait(Duration::from_secs(10));
    }
    assert!(copies >= 60, "{copies} times within ten minutes");
}

#[test]
fn a_stamped_datagram_that_found_no_room_may_come_again() {
    let mut rig = Rig::new(LIMITS);
    for datagram in [rig.stamped(1, 0), rig.sealed()] {
        let sealed = rig.send_on(Takes::Both, HOME, &datagram).unwrap();
        rig.admission.forget(&sealed);
        let again = rig.send_on(Takes::Both, HOME, &datagram).unwrap();
        assert_eq!(again.lane(), sealed.lane());
        assert_eq!(rig.send(HOME, &datagram), Err(DropReason::Seen));
    }
}

#[test]
fn each_user_has_a_bucket_and_a_refused_datagram_leaves_no_tag() {
    let mut rig = Rig::new(LIMITS);
    let mut last = Vec::new();
    for number in 0..60 {
        last = rig.stamped(1, 0);
        let expected = if number < 50 { Ok(ALICE) } else { Err(DropReason::StampRate) };
        assert_eq!(rig.send(HOME, &last), expected, "{number}");
    }
    let bob = rig.stamped(2, 0);
    assert_eq!(rig.send(HOME, &bob), Ok(BOB), "another's bucket is his own");
    let _same = rig.wait(Duration::from_millis(100));
    assert_eq!(rig.send(HOME, &last), Ok(ALICE), "ten a second");
    assert_eq!(rig.send(HOME, &last), Err(DropReason::Seen));
}

#[test]
fn a_change_of_who_may_stamp_takes_effect_at_once() {
    let mut rig = Rig::new(LIMITS);
    for removed in [vec![UserId(1)], vec![UserId(1), UserId(77)]] {
        rig.admission.stamp_keys(&StampKeys { removed, added: Vec::new() });
        for skew in [-300, 0, 300] {
            let alice = rig.stamped(1, skew);
            assert_eq!(rig.send(HOME, &alice), Err(DropReason::Stamp), "removed, {skew} s");
            let bob = rig.stamped(2, skew);
            assert_eq!(rig.send(HOME, &bob), Ok(BOB));
        }
    }
    let before = rig.stamped(3, 0);
    let change =
        StampKeys { removed: vec![UserId(2)], added: vec![(UserId(3), key(3)), (UserId(2), key(9))] };
    rig.admission.stamp_keys(&change);
    let bob = rig.stamped(2, 0);
    assert_eq!(rig.send(HOME, &bob), Err(DropReason::Stamp), "his key was exchanged");
    assert_eq!(rig.send(HOME, &before), Ok(Way::Stamped(UserId(3))), "added");
    let _changed = rig.wait(Duration::from_secs(640));
    let later = rig.stamped(3, 0);
    assert_eq!(rig.send(HOME, &later), Ok(Way::Stamped(UserId(3))), "in later epochs too");
}

#[test]
fn stamped_only_means_that_no_plain_one_is_looked_at() {
    let mut rig = Rig::new(Limits { plain: Plain::Refused, ..LIMITS });
    let (plain, stamped) = (rig.sealed(), rig.stamped(1, 0));
    assert_eq!(rig.send(HOME, &plain), Err(DropReason::Unstamped));
    assert_eq!(rig.send(HOME, &stamped), Ok(ALICE));
    rig.admission.set_limits(rig.now, LIMITS);
    assert_eq!(rig.send(HOME, &plain), Ok(Way::Stranger));
}

#[test]
fn a_thiefs_copy_does_not_keep_a_plain_datagram_out() {
    let mut rig = Rig::new(LIMITS);
    let datagram = rig.sealed();
    assert_eq!(rig.send(ELSEWHERE, &datagram), Ok(Way::Stranger));
    assert_eq!(rig.send(HOME, &datagram), Ok(Way::Stranger));
    assert_eq!(rig.send(HOME, &datagram), Err(DropReason::Seen));
}

#[test]
fn a_prefix_has_an_allowance_only_while_operations_are_short() {
    let mut rig = Rig::new(LIMITS);
    assert_eq!(rig.passing(HOME, 200), 200);
    rig.supply = Supply::Short;
    assert_eq!(rig.passing(HOME, 200), 50);
    assert_eq!(rig.passing("192.0.2.2", 200), 50, "an address of its own");
    assert_eq!(rig.passing("2001:db8::1", 200), 50);
    assert_eq!(rig.passing("2001:db8::ffff:2", 200), 0, "the same /64");
    assert_eq!(rig.passing("2001:db8:0:1::1", 200), 50, "another /64");
    let _same = rig.wait(Duration::from_secs(2));
    assert_eq!(rig.passing(HOME, 200), 20);
    rig.supply = Supply::Ample;
    assert_eq!(rig.passing(HOME, 200), 200);
}

#[test]
fn a_full_table_of_prefixes_still_serves_who_knocked_well_and_leaves_newcomers_to_chance() {
    let mut rig = Rig::new(Limits { prefixes: 8, ..LIMITS });
    rig.supply = Supply::Short;
    rig.admission.settled(rig.now, HOME.parse().unwrap());
    for last in 0..100 {
        rig.passing(&format!("203.0.113.{last}"), 1);
    }
    let datagram = rig.sealed();
    assert_eq!(rig.send(HOME, &datagram), Ok(Way::Settled));
    let datagram = rig.sealed();
    assert_eq!(rig.send(ELSEWHERE, &datagram), Ok(Way::Stranger));
}

#[test]
fn who_shares_a_settled_prefix_takes_only_its_allowance() {
    let mut rig = Rig::new(LIMITS);
    for source in [HOME, "2001:db8::1"] {
        rig.admission.settled(rig.now, source.parse().unwrap());
    }
    rig.supply = Supply::Short;
    assert_eq!(rig.passing(HOME, 500), 100, "settled, and then as a stranger");
    let datagram = rig.sealed();
    assert_eq!(rig.send("2001:db8::2", &datagram), Ok(Way::Settled), "no one else's");
    let _changed = rig.wait(Duration::from_secs(25 * 3600));
    let datagram = rig.sealed();
    assert_eq!(rig.send("2001:db8::2", &datagram), Ok(Way::Stranger), "that is long ago");
}

proptest! {
    #[test]
    fn a_stamp_is_taken_by_its_distance_from_the_clock_and_nothing_else(
        start in 10_000u64..u64::from(u32::MAX) - 10_000,
        freshness in 1u32..=3600,
        // What the listener lived through: time, and steps of its clock.
        waits in prop::collection::vec(-4000i64..4000, 0..4),
        skews in prop::collection::vec(-4000i64..4000, 1..4),
    ) {
        let mut rig = Rig::new(Limits { freshness, user_burst: 1000, ..LIMITS });
        rig.now.wall = Duration::from_secs(start);
        let _changed = rig.admission.tick(rig.now);
        for wait in waits {
            let wall = start.saturating_add_signed(wait).min(u64::from(u32::MAX) - 5000);
            rig.now.wall = Duration::from_secs(wall);
            let _changed = rig.admission.tick(rig.now);
        }
        let edges = [-i64::from(freshness), i64::from(freshness)];
        for skew in skews.into_iter().chain(edges) {
            let datagram = rig.stamped(1, skew);
            let timestamp = rig.now.unix().checked_add_signed(skew).unwrap();
            let window = Epoch::window(rig.now.unix(), freshness.into());
            let good = window.contains(&Epoch::of(timestamp));
            prop_assert!(good || skew.unsigned_abs() > u64::from(freshness));
            let sent = rig.send(HOME, &datagram);
            prop_assert_eq!(sent, if good { Ok(ALICE) } else { Err(DropReason::Beacon) });
            // The kernel's sieve lets through whatever is good now, and in the epoch before and after.
            let near = window.start().0.saturating_sub(1)..=window.end().0 + 1;
            let beacon: [u8; 8] = datagram[256..264].try_into().unwrap();
            let sieve = rig.admission.beacons();
            prop_assert_eq!(sieve.contains(&beacon), near.contains(&Epoch::of(timestamp).0));
        }
    }

    #[test]
    fn no_bytes_make_it_open_what_no_key_made(
        mut bytes in prop::collection::vec(any::<u8>(), 288),
        beacon in any::<bool>(),
    ) {
        let mut rig = Rig::new(LIMITS);
        if beacon {
            let good = rig.stamped(1, 0);
            bytes[256..272].copy_from_slice(&good[256..272]);
        }
        let reason = rig.send_on(Takes::Both, HOME, &bytes).unwrap_err();
        prop_assert!([DropReason::Range, DropReason::Beacon, DropReason::Stamp].contains(&reason));
    }
}

#[test]
fn a_clock_that_steps_within_the_window_and_back_forgets_no_tag() {
    let mut rig = Rig::new(LIMITS);
    let datagram = rig.stamped(1, 0);
    assert_eq!(rig.send(HOME, &datagram), Ok(ALICE));
    for step in [-300i64, 300, -299, 250, 0] {
        rig.now.wall = Duration::from_secs(START.checked_add_signed(step).unwrap());
        let _changed = rig.admission.tick(rig.now);
        assert_eq!(rig.send(HOME, &datagram), Err(DropReason::Seen), "{step}");
    }
}

#[test]
fn the_kernels_beacons_stay_right_until_they_are_replaced() {
    for freshness in [1, 63, 64, 65, 300, 3600] {
        let mut rig = Rig::new(Limits { freshness, user_burst: 10_000, ..LIMITS });
        let mut attached = rig.admission.beacons();
        let mut changes = 0;
        for _ in 0..300 {
            // The listener is late by up to half a second: everything good by now was let through.
            rig.now.mono += Duration::from_secs(1);
            rig.now.wall += Duration::from_secs(1);
            let window = Epoch::window(rig.now.unix(), freshness.into());
            let good = (window.start().0..=window.end().0).map(|epoch| rig.beacon.beacon(Epoch(epoch)));
            good.for_each(|beacon| assert!(attached.contains(&beacon), "{freshness}"));
            if rig.admission.tick(rig.now) == Beacons::Changed {
                attached = rig.admission.beacons();
                changes += 1;
            }
            for skew in [-i64::from(freshness), 0, freshness.into()] {
                let datagram = rig.stamped(1, skew);
                assert_eq!(rig.send(HOME, &datagram), Ok(ALICE), "{freshness} {skew}");
            }
        }
        assert!((4..=10).contains(&changes), "{changes} in 300 s");
    }
}
