use super::*;

fn at(millis: u64) -> Now {
    Now { mono: Duration::from_millis(millis), boot: Duration::ZERO, wall: Duration::ZERO }
}

/// Looks every millisecond from then to then, and adapts; when the filter was to be replaced.
fn looks(flood: &mut Flood, from: u64, to: u64, drained: Drained) -> Vec<u64> {
    (from..to)
        .filter(|time| {
            flood.look(at(*time), drained);
            flood.adapt(at(*time))
        })
        .collect()
}

#[test]
fn a_socket_that_never_runs_empty_gets_half_as_much_each_tenth_of_a_second() {
    let mut flood = Flood::default();
    assert_eq!(looks(&mut flood, 1000, 1450, Drained::More), [1100, 1200, 1300, 1400]);
    assert_eq!(flood.halvings, 4);
    looks(&mut flood, 1450, 60_000, Drained::More);
    assert_eq!(flood.halvings, HALVINGS, "one of 1024 at least");
    assert!(looks(&mut flood, 60_000, 70_000, Drained::More).is_empty(), "and no filter for nothing");
}

#[test]
fn a_socket_that_runs_empty_gets_twice_as_much_each_two_seconds() {
    let mut flood = Flood::default();
    looks(&mut flood, 0, 310, Drained::More);
    assert_eq!(flood.halvings, 3);
    assert_eq!(looks(&mut flood, 310, 9000, Drained::Empty), [2300, 4300, 6300]);
    assert_eq!(flood.halvings, 0);
}

#[test]
fn a_burst_that_is_read_in_time_changes_nothing() {
    let mut flood = Flood::default();
    for start in (0..10_000).step_by(100) {
        assert!(looks(&mut flood, start, start + 90, Drained::More).is_empty());
        assert!(looks(&mut flood, start + 90, start + 100, Drained::Empty).is_empty());
    }
    assert!(!flood.is_full(at(10_000)));
}

#[test]
fn a_flood_that_goes_on_is_let_in_twice_as_wide_for_a_tenth_of_a_second_only() {
    let mut flood = Flood::default();
    // What comes is read when at most a quarter is let through.
    let drained = |flood: &Flood| if flood.halvings < 2 { Drained::More } else { Drained::Empty };
    let mut full = 0;
    for time in 0..60_000 {
        let drained = drained(&flood);
        flood.look(at(time), drained);
        flood.adapt(at(time));
        full += u32::from(drained == Drained::More);
    }
    assert!(flood.halvings <= 2);
    assert!(full < 4000, "full in {full} of 60,000 looks");
}

#[test]
fn an_error_is_no_flood() {
    let mut flood = Flood::default();
    assert!(looks(&mut flood, 0, 1000, Drained::Failed).is_empty());
    assert!(!flood.is_full(at(1000)));
}

#[test]
fn a_listener_that_was_stopped_and_finds_its_buffers_full_keeps_nothing_out() {
    let mut flood = Flood::default();
    flood.look(at(0), Drained::More);
    // Half a second later it reads what has come meanwhile.
    assert!(looks(&mut flood, 500, 543, Drained::More).is_empty());
    assert!(looks(&mut flood, 543, 544, Drained::Empty).is_empty());
    flood.look(at(600), Drained::More);
    assert_eq!(looks(&mut flood, 700, 770, Drained::More), [762], "more than they hold");
}
