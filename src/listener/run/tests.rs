#![expect(clippy::arithmetic_side_effects, reason = "small numbers")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use rand::RngExt as _;

use super::*;
use crate::channel::{Limits, Plain, SocketId, StampKeys, Takes};
use crate::wire::stamp::{Stamper, stamp};
use crate::wire::{StampKey, UserId};

/// A listener whose workers open so many each millisecond, by a clock that is moved by hand.
struct Rig {
    admission: Admission,
    beacon: BeaconKey,
    pool: Pool,
    tally: Tally,
    shortage: Shortage,
    random: StdRng,
    now: Now,
    serial: u64,
    /// Numbers of datagrams.
    opened: BTreeSet<u64>,
}

const ROOM: usize = 256;

const LIMITS: Limits = Limits {
    freshness: 300,
    plain: Plain::Taken,
    user_rate: 10,
    user_burst: 50,
    prefix_rate: 10,
    prefix_burst: 50,
    prefixes: 65_536,
};

impl Rig {
    fn new(seed: u64) -> Rig {
        let vectors = include_str!("../../../tests/vectors/siglatch-v1.json");
        let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
        let key = PrivateKey::from_pem(vectors["private_key_pem"].as_str().unwrap()).unwrap();
        let beacon = BeaconKey::of(key.public());
        let now = Now {
            mono: Duration::from_secs(1),
            boot: Duration::ZERO,
            wall: Duration::from_secs(1_700_000_000),
        };
        let mut admission = Admission::new(now, vec![0xb0; 256], beacon.clone(), LIMITS);
        let added = vec![(UserId(1), StampKey::from_bytes([1; 32]))];
        admission.stamp_keys(&StampKeys { removed: Vec::new(), added });
        Rig {
            admission,
            beacon,
            pool: Pool::by_hand(ROOM),
            tally: Tally::default(),
            shortage: Shortage::new(ROOM),
            random: StdRng::seed_from_u64(seed),
            now,
            serial: 0,
            opened: BTreeSet::new(),
        }
    }

    fn send(&mut self, source: IpAddr, bytes: &[u8]) {
        let supply = self.shortage.supply(self.now, self.pool.waiting().1);
        let source = SocketAddr::new(source, 9);
        let datagram =
            Datagram { source, local: [127, 0, 0, 1].into(), socket: SocketId(0), takes: Takes::Both, bytes };
        let chance = self.random.next_u64();
        let fate = take(self.now, supply, chance, datagram, &mut self.admission, &self.pool, &self.tally);
        if matches!(fate, Fate::Dropped(DropReason::Prefix | DropReason::Queue)) {
            self.shortage.refused(self.now);
        }
    }

    /// A new datagram from there; its number.
    fn plain(&mut self, source: IpAddr) -> u64 {
        let sealed = self.sealed();
        self.send(source, &sealed);
        self.serial
    }

    fn stamped(&mut self, source: IpAddr) -> u64 {
        let (sealed, now) = (self.sealed(), self.now.unix().try_into().unwrap());
        let stamper = Stamper::new(&StampKey::from_bytes([1; 32]));
        let stamped = stamp(sealed, UserId(1), now, &self.beacon, &stamper);
        self.send(source, &stamped);
        self.serial
    }

    fn sealed(&mut self) -> Vec<u8> {
        self.serial += 1;
        let mut sealed = vec![0; 256];
        sealed[248..].copy_from_slice(&self.serial.to_be_bytes());
        sealed
    }

    fn open(&mut self, budget: usize) {
        for sealed in std::iter::from_fn(|| self.pool.next()).take(budget) {
            self.opened.insert(u64::from_be_bytes(sealed.ciphertext()[248..].try_into().unwrap()));
        }
        self.now.mono += Duration::from_millis(1);
    }

    /// For so many milliseconds so many arrive in each, and `budget` are opened; every `pause` milliseconds `knock` is
    /// among them, at a random place. How many knocks there were, and how many were opened.
    fn flood(
        &mut self,
        millis: u64,
        budget: usize,
        arrivals: u64,
        mut garbage: impl FnMut(&mut Rig),
        pause: u64,
        mut knock: impl FnMut(&mut Rig) -> u64,
    ) -> (usize, usize) {
        let mut knocks = Vec::new();
        for milli in 0..millis {
            let place = (milli % pause == 0).then(|| self.random.random_range(0..arrivals));
            for number in 0..arrivals {
                if place == Some(number) {
                    knocks.push(knock(self));
                } else {
                    garbage(self);
                }
            }
            self.open(budget);
        }
        (0..ROOM * 2).for_each(|_| self.open(1));
        (knocks.len(), knocks.iter().filter(|number| self.opened.contains(number)).count())
    }

    fn anywhere(&mut self) -> IpAddr {
        IpAddr::from(self.random.random::<u32>().to_be_bytes())
    }
}

const FLOODER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 66));
const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn from_anywhere(rig: &mut Rig) {
    let source = rig.anywhere();
    rig.plain(source);
}

#[test]
fn below_the_budget_everybody_is_opened_from_the_flooders_own_address_too() {
    let mut rig = Rig::new(1);
    let garbage = |rig: &mut Rig| {
        rig.plain(FLOODER);
    };
    let (knocks, opened) = rig.flood(5000, 3, 2, garbage, 100, |rig| rig.plain(FLOODER));
    assert_eq!((knocks, opened), (50, 50));
    assert_eq!(rig.opened.len(), 10_000);
}

#[test]
fn a_flood_from_one_source_keeps_no_other_source_out() {
    let mut rig = Rig::new(2);
    let garbage = |rig: &mut Rig| {
        rig.plain(FLOODER);
    };
    let (knocks, opened) = rig.flood(10_000, 1, 20, garbage, 100, |rig| rig.plain(HOME));
    assert_eq!(knocks, 100);
    assert!(opened >= 99, "{opened} of {knocks}");
}

#[test]
fn a_flood_from_everywhere_keeps_no_prefix_out_that_knocked_well() {
    let mut rig = Rig::new(3);
    rig.admission.settled(rig.now, HOME);
    let (knocks, opened) = rig.flood(10_000, 1, 20, from_anywhere, 100, |rig| rig.plain(HOME));
    assert_eq!((knocks, opened), (100, 100));
}

#[test]
fn no_plain_flood_keeps_a_stamp_out() {
    let mut rig = Rig::new(4);
    let (knocks, opened) = rig.flood(10_000, 1, 20, from_anywhere, 100, |rig| rig.stamped(HOME));
    assert_eq!((knocks, opened), (100, 100));
}

#[test]
fn a_knock_from_an_unknown_prefix_has_its_share_of_the_budget() {
    for (arrivals, seed) in [(4, 5), (20, 6)] {
        let mut rig = Rig::new(seed);
        let knock = |rig: &mut Rig| {
            let source = rig.anywhere();
            rig.plain(source)
        };
        let (knocks, opened) = rig.flood(20_000, 1, arrivals, from_anywhere, 10, knock);
        let (n, p) = (knocks as f64, 1.0 / arrivals as f64);
        let sigma = (n * p * (1.0 - p)).sqrt();
        assert!(
            (opened as f64 - n * p).abs() < 3.0 * sigma,
            "{opened} of {knocks}, one in {arrivals} expected"
        );
    }
}

#[test]
fn what_arrives_is_opened_or_counted() {
    let mut rig = Rig::new(7);
    rig.flood(2000, 1, 10, from_anywhere, 10, |rig| rig.plain(FLOODER));
    let refused: u64 = rig.tally.counts(Lanes::default()).refused.iter().sum();
    assert_eq!(rig.pool.waiting(), (0, 0));
    assert_eq!(rig.serial, rig.opened.len() as u64 + refused);
}

#[test]
fn operations_are_short_from_a_half_full_queue_until_a_second_after_nobody_was_held_back() {
    let at = |millis| Now { mono: Duration::from_millis(millis), boot: Duration::ZERO, wall: Duration::ZERO };
    let mut shortage = Shortage::new(100);
    assert_eq!(shortage.supply(at(0), 50), Supply::Ample);
    assert_eq!(shortage.supply(at(1), 51), Supply::Short);
    assert_eq!(shortage.supply(at(900), 1), Supply::Short, "something waits still");
    shortage.refused(at(1000));
    assert_eq!(shortage.supply(at(1999), 0), Supply::Short);
    assert_eq!(shortage.supply(at(5000), 1), Supply::Short);
    assert!(shortage.is_short());
    assert_eq!(shortage.supply(at(5001), 0), Supply::Ample);
    assert_eq!(shortage.supply(at(5002), 50), Supply::Ample);
}
