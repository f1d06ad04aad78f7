use super::*;

/// Whether a packet of `timestamp` gets as far as its claim at `wall`.
fn at_wall(timestamp: u32, wall: u64) -> Result<(), DropReason> {
    let mut desk = Desk::new(config());
    desk.now = at(wall);
    desk.opened(&made_at(timestamp), HOME).map(drop)
}

#[test]
fn the_window_includes_both_of_its_ends() {
    let (stale, ahead) = (Err(DropReason::Stale), Err(DropReason::Ahead));
    let noon = u64::from(NOON);
    let last = u64::from(u32::MAX);
    let cases = [
        (NOON, noon, Ok(())),
        (NOON, noon + 300, Ok(())),
        (NOON, noon + 301, stale),
        (NOON, noon - 300, Ok(())),
        (NOON, noon - 301, ahead),
        (0, 0, Ok(())),
        (0, 300, Ok(())),
        (0, 301, stale),
        (300, 0, Ok(())),
        (301, 0, ahead),
        (u32::MAX, 0, ahead),
        (u32::MAX, last - 301, ahead),
        (u32::MAX, last - 300, Ok(())),
        (u32::MAX, last, Ok(())),
        // The wall clock counts on where the packet's cannot, and nothing wraps.
        (u32::MAX, last + 300, Ok(())),
        (u32::MAX, last + 301, stale),
        (0, last + 1, stale),
        (300, last + 1, stale),
        (0, u64::MAX, stale),
        (u32::MAX, u64::MAX, stale),
    ];
    let mut tried = 0;
    for (timestamp, wall, expected) in cases {
        assert_eq!(at_wall(timestamp, wall), expected, "{timestamp} at {wall}");
        tried += 1;
    }
    assert_eq!(tried, 20);
}

#[test]
fn a_fraction_of_a_second_does_not_narrow_the_window() {
    let mut desk = Desk::new(config());
    desk.now.wall = Duration::new(u64::from(NOON) + 300, 999_999_999);
    assert_eq!(desk.outcome(&made_at(NOON), HOME), Ok(()));
    desk.now.wall = Duration::new(u64::from(NOON) - 300, 999_999_999);
    assert_eq!(desk.outcome(&signed(&knock(2), Binding::None), HOME), Ok(()));
}

#[test]
fn freshness_is_what_the_configuration_of_now_says() {
    let mut desk = Desk::new(config());
    desk.now = at(u64::from(NOON) + 11);
    desk.reload(Config { freshness: Duration::from_secs(10), ..config() });
    assert_eq!(desk.outcome(&plain(1), HOME), Err(DropReason::Stale));
    desk.reload(Config { freshness: Duration::from_secs(11), ..config() });
    assert_eq!(desk.outcome(&plain(1), HOME), Ok(()));
}

#[test]
fn a_knock_that_is_early_or_late_is_not_remembered() {
    let mut desk = Desk::new(config());
    for (wall, reason) in [(-301, DropReason::Ahead), (301, DropReason::Stale)] {
        desk.now = at(u64::from(NOON).checked_add_signed(wall).unwrap());
        for _ in 0..100 {
            assert_eq!(desk.outcome(&plain(1), HOME), Err(reason));
        }
    }
    desk.now = at(NOON.into());
    assert_eq!(desk.outcome(&plain(1), HOME), Ok(()), "its time has come");
}

#[test]
fn a_claim_that_took_long_is_judged_by_when_it_came() {
    let mut desk = Desk::new(config());
    let claim = desk.opened(&plain(1), HOME).unwrap();
    desk.now = at(u64::from(NOON) + 1000);
    assert!(desk.claimed(claim).is_ok(), "its sender was in time");
}
