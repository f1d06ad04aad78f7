#![expect(clippy::arithmetic_side_effects, reason = "small numbers")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

fn stamped(user: u16) -> Way {
    Way::Stamped(UserId(user))
}

fn ways(lanes: &mut Lanes) -> Vec<Way> {
    std::iter::from_fn(|| lanes.pop(Ration::Any)).map(|sealed| sealed.way()).collect()
}

#[test]
fn stamped_come_first_then_settled_prefixes_then_strangers() {
    let mut lanes = Lanes::new(10);
    for way in [Way::Stranger, Way::Settled, stamped(1), Way::Stranger, Way::Settled, stamped(2)] {
        assert!(lanes.push(Sealed::sample(way, 0), 0).is_none());
    }
    assert_eq!(lanes.waiting(), (2, 4));
    assert_eq!(
        ways(&mut lanes),
        [stamped(1), stamped(2), Way::Settled, Way::Settled, Way::Stranger, Way::Stranger]
    );
    assert_eq!(lanes.waiting(), (0, 0));
}

#[test]
fn plain_ones_wait_while_enough_of_them_are_being_opened() {
    let mut lanes = Lanes::new(10);
    for way in [Way::Settled, Way::Stranger, stamped(1)] {
        assert!(lanes.push(Sealed::sample(way, 0), 0).is_none());
    }
    assert_eq!(lanes.pop(Ration::StampedOnly).unwrap().way(), stamped(1));
    assert!(lanes.pop(Ration::StampedOnly).is_none());
    assert_eq!(lanes.waiting(), (0, 2));
}

#[test]
fn one_stolen_laptop_starves_nobody() {
    let mut lanes = Lanes::new(100);
    for number in 0..100 {
        assert!(lanes.push(Sealed::sample(stamped(666), number), 0).is_none());
    }
    assert_eq!(lanes.push(Sealed::sample(stamped(666), 100), 0).unwrap().number(), 100, "his own is refused");
    for user in 1..=10 {
        let out = lanes.push(Sealed::sample(stamped(user), 1000), 0).unwrap();
        assert_eq!((out.way(), out.number()), (stamped(666), 100 - u64::from(user)), "his newest gives way");
    }
    let first: Vec<Way> = ways(&mut lanes).into_iter().take(11).collect();
    let each: Vec<Way> = std::iter::once(666).chain(1..=10).map(stamped).collect();
    assert_eq!(first, each, "everybody's turn comes within one of each other's");
}

#[test]
fn users_with_as_much_waiting_displace_each_other_no_further() {
    let mut lanes = Lanes::new(2);
    for user in [1, 2] {
        assert!(lanes.push(Sealed::sample(stamped(user), 0), 0).is_none());
    }
    for user in [3, 1, 2] {
        assert_eq!(lanes.push(Sealed::sample(stamped(user), 7), 0).unwrap().number(), 7);
    }
    assert_eq!(ways(&mut lanes), [stamped(1), stamped(2)]);
}

#[test]
fn a_flood_of_strangers_takes_no_room_from_settled_prefixes_and_stamps() {
    let mut lanes = Lanes::new(8);
    for number in 0..1000 {
        lanes.push(Sealed::sample(Way::Stranger, number), number);
    }
    for way in [Way::Settled, stamped(1)] {
        assert!(lanes.push(Sealed::sample(way, 0), 0).is_none());
    }
    assert_eq!(ways(&mut lanes)[..2], [stamped(1), Way::Settled]);
}

/// So many arrive for each that is opened, and one in a hundred is a knock; which of these were opened.
fn knocks_in_a_flood(arrivals: u64, seed: u64) -> Vec<bool> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut lanes = Lanes::new(256);
    let mut opened = BTreeMap::new();
    let most = 100 * 4000;
    for number in 0..most {
        let knock = number % 100 == 0 && (most / 10..most / 10 * 9).contains(&number);
        if knock {
            opened.insert(number, false);
        }
        lanes.push(Sealed::sample(Way::Stranger, number), random.next_u64());
        if random.random_range(0..arrivals) == 0
            && let Some(sealed) = lanes.pop(Ration::Any)
            && let Some(opened) = opened.get_mut(&sealed.number())
        {
            *opened = true;
        }
    }
    opened.into_values().collect()
}

#[test]
fn an_unknown_knock_has_its_share_of_the_budget_whenever_it_comes() {
    for (arrivals, seed) in [(2, 1), (8, 2), (40, 3)] {
        let opened = knocks_in_a_flood(arrivals, seed);
        // Also in the first and the second half alone: a queue that the flood has filled before is no hindrance.
        let (first, second) = opened.split_at(opened.len() / 2);
        for part in [&opened[..], first, second] {
            let (n, p) = (part.len() as f64, 1.0 / arrivals as f64);
            let served = part.iter().filter(|opened| **opened).count() as f64;
            let sigma = (n * p * (1.0 - p)).sqrt();
            assert!((served - n * p).abs() < 3.0 * sigma, "{served} of {n}, one in {arrivals} expected");
        }
    }
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        4 => (0..5u16).prop_map(stamped),
        1 => Just(Way::Settled),
        2 => Just(Way::Stranger),
    ]
}

proptest! {
    #[test]
    fn whatever_is_pushed_comes_out_once_and_no_lane_outgrows_its_room(
        room in 1usize..6,
        steps in prop::collection::vec((prop::option::of(way()), any::<u64>()), 1..200),
    ) {
        let mut lanes = Lanes::new(room);
        let mut inside = BTreeMap::new();
        for (number, (way, chance)) in (0..).zip(steps) {
            let out = match way {
                Some(way) => {
                    inside.insert(number, way);
                    lanes.push(Sealed::sample(way, number), chance)
                }
                None => lanes.pop(if chance % 2 == 0 { Ration::Any } else { Ration::StampedOnly }),
            };
            if let Some(sealed) = out {
                prop_assert_eq!(inside.remove(&sealed.number()), Some(sealed.way()));
            }
            let stamped = inside.values().filter(|way| !way.is_plain()).count();
            prop_assert_eq!(lanes.waiting(), (stamped, inside.len() - stamped));
            prop_assert!(stamped <= room && inside.len() - stamped <= 2 * room);
        }
        while let Some(sealed) = lanes.pop(Ration::Any) {
            prop_assert_eq!(inside.remove(&sealed.number()), Some(sealed.way()));
        }
        prop_assert!(inside.is_empty());
    }

    #[test]
    fn nobody_waits_longer_than_one_turn_of_each_other(
        waiting in prop::collection::vec(0..8u16, 1..60),
    ) {
        let mut lanes = Lanes::new(100);
        for user in &waiting {
            prop_assert!(lanes.push(Sealed::sample(stamped(*user), 0), 0).is_none());
        }
        let mut left: BTreeMap<u16, usize> = BTreeMap::new();
        waiting.iter().for_each(|user| *left.entry(*user).or_default() += 1);
        let mut passed: BTreeMap<u16, BTreeMap<u16, usize>> = BTreeMap::new();
        while let Some(Way::Stamped(UserId(user))) = lanes.pop(Ration::Any).map(|sealed| sealed.way()) {
            *left.get_mut(&user).unwrap() -= 1;
            passed.remove(&user);
            for (other, _) in left.iter().filter(|(other, left)| **other != user && **left > 0) {
                let times = passed.entry(*other).or_default().entry(user).or_default();
                *times += 1;
                prop_assert!(*times == 1, "{user} passed {other} twice");
            }
        }
        prop_assert!(left.values().all(|left| *left == 0));
    }
}
