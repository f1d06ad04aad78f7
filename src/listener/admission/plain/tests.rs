use super::*;
use crate::channel::Plain;

const LIMITS: Limits = Limits {
    freshness: 300,
    plain: Plain::Taken,
    user_rate: 10,
    user_burst: 50,
    prefix_rate: 10,
    prefix_burst: 50,
    prefixes: 4096,
};

fn at(millis: u64) -> Now {
    Now { mono: Duration::from_millis(millis), boot: Duration::ZERO, wall: Duration::ZERO }
}

fn source(number: u32) -> IpAddr {
    IpAddr::from(number.to_be_bytes())
}

#[test]
fn whatever_comes_memory_is_bounded() {
    let mut strangers = Strangers::default();
    for number in 0..40_000 {
        let now = at(u64::from(number) / 100);
        strangers.settle(now, source(number));
        for from in [number, number + 7] {
            let taken = strangers.take(now, Supply::Short, source(from), &number.to_be_bytes(), &LIMITS);
            // Every other one finds no room behind, and comes again.
            if let Ok((_, mark)) = taken
                && number % 2 == 0
            {
                strangers.forget(mark);
            }
        }
    }
    assert!(strangers.seen.order.len() <= SEEN && strangers.seen.set.len() <= SEEN);
    assert_eq!((strangers.prefixes.slots.len(), strangers.settled.0.len()), (4096, SETTLED));
}

#[test]
fn one_that_found_no_room_may_come_again_however_often() {
    let mut strangers = Strangers::default();
    for _ in 0..100 {
        let (_, mark) = strangers.take(at(0), Supply::Ample, source(1), b"it", &LIMITS).unwrap();
        let again = strangers.take(at(0), Supply::Ample, source(1), b"it", &LIMITS);
        assert_eq!(again, Err(DropReason::Seen));
        strangers.forget(mark);
    }
}

#[test]
fn who_knocked_well_last_is_settled_when_too_many_have() {
    let mut strangers = Strangers::default();
    let settled = u32::try_from(SETTLED).unwrap();
    (0..settled).for_each(|number| strangers.settle(at(0), source(number)));
    strangers.settle(at(1), source(0));
    strangers.settle(at(2), source(settled));
    for (number, way) in [(0, Way::Settled), (1, Way::Stranger), (2, Way::Settled), (settled, Way::Settled)] {
        let taken = strangers.take(at(3), Supply::Ample, source(number), b"it", &LIMITS);
        assert_eq!(taken.map(|(way, _)| way), Ok(way), "{number}");
    }
}

#[test]
fn a_prefix_keeps_its_bucket_while_others_come_and_go() {
    let mut strangers = Strangers::default();
    let mut passed = 0;
    // A flood of a hundred new sources a millisecond, in which one source sends one: for two seconds.
    for millis in 0..2000_u32 {
        for number in 0..100 {
            let stranger = source(1_000_000 + millis * 100 + number);
            let _by_chance = strangers.take(at(millis.into()), Supply::Short, stranger, b"it", &LIMITS);
        }
        let own = strangers.take(at(millis.into()), Supply::Short, source(1), &millis.to_be_bytes(), &LIMITS);
        passed += u32::from(own.is_ok());
    }
    assert!((69..=71).contains(&passed), "{passed} of a burst of 50 and 10 a second");
}

#[test]
fn a_change_of_limits_is_no_hindrance() {
    let mut strangers = Strangers::default();
    for prefixes in [1, 8, 9, 4096, 0, 1] {
        let limits = Limits { prefixes, ..LIMITS };
        for number in 0..100 {
            let taken =
                strangers.take(at(0), Supply::Short, source(number), &prefixes.to_be_bytes(), &limits);
            assert!(matches!(taken, Ok(_) | Err(DropReason::Seen)));
        }
    }
}
