use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::draw;
use super::keys::{self, Step};
use super::view::{Panel, Typing, View};
use crate::control::status::{Lease, Status, Warning};
use crate::control::{Reply, Request};
use crate::exit::{Exit, Failure};
use crate::wire::KnockId;
use crate::work::leases::Whom;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn lease(lease: &str, user: &str, left: u64) -> Lease {
    Lease {
        lease: lease.to_owned(),
        user: user.to_owned(),
        action: "ssh".to_owned(),
        from: "192.0.2.7".parse().unwrap(),
        opens_for: "192.0.2.7".parse().unwrap(),
        left,
    }
}

/// Up for `up` seconds, with so many stale knocks.
fn status(up: u64, stale: u64) -> Status {
    let mut status = Status { version: "0.1.0".to_owned(), up, ..Status::default() };
    status.listen = vec!["127.0.0.1:50000".to_owned()];
    status.listener.well = true;
    status.counts.received = stale;
    status.counts.refused =
        [("stale".to_owned(), stale), ("rate".to_owned(), 3), ("range".to_owned(), 0)].into();
    status.doors.leases = vec![lease("00000000000000aa", "alice", 600), lease("00000000000000bb", "bob", 60)];
    status
}

fn tell(view: &mut View, at: u64, status: Status) {
    view.now = seconds(at);
    view.told(view.now, &Request::Status, Ok(Reply::Status(Box::new(status))));
}

fn seen(at: u64) -> View {
    let mut view = View::default();
    tell(&mut view, at, status(100, 10));
    view
}

fn press(view: &mut View, key: KeyCode) -> Step {
    keys::press(view, KeyEvent::new(key, KeyModifiers::NONE))
}

fn types(view: &mut View, keys: &str) -> Step {
    keys.chars().map(|key| press(view, KeyCode::Char(key))).last().unwrap()
}

fn picture(view: &View, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, view)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(row).collect()
}

fn users(view: &View) -> Vec<String> {
    view.leases().into_iter().map(|lease| lease.user).collect()
}

#[test]
fn a_rate_is_what_came_between_two_answers_and_over_a_minute() {
    let mut view = seen(10);
    let stale = |view: &View| {
        let row = view.reasons().into_iter().find(|rate| rate.what == "stale").unwrap();
        (row.now, row.minute, row.total)
    };
    assert_eq!(stale(&view), (0.0, 0.0, 10), "nothing is known before the second answer");
    tell(&mut view, 12, status(102, 30));
    assert_eq!(stale(&view), (10.0, 10.0, 30));
    tell(&mut view, 14, status(104, 30));
    assert_eq!(stale(&view), (0.0, 5.0, 30));
    tell(&mut view, 80, status(170, 30));
    assert_eq!(stale(&view).1, 0.0, "what was a minute ago is forgotten");
    tell(&mut view, 82, status(1, 4));
    assert_eq!(stale(&view), (0.0, 0.0, 4), "another daemon counts from nothing");
}

#[test]
fn rows_are_sorted_and_filtered_and_the_chosen_lease_stays_chosen() {
    let mut view = seen(10);
    assert_eq!(users(&view), ["bob", "alice"], "what ends first is first");
    press(&mut view, KeyCode::Down);
    assert_eq!(view.lease().unwrap().user, "alice");
    types(&mut view, "s");
    assert_eq!(users(&view), ["alice", "bob"]);
    types(&mut view, "r");
    assert_eq!(users(&view), ["bob", "alice"]);
    assert_eq!(view.lease().unwrap().user, "alice");
    types(&mut view, "/BO");
    assert_eq!((users(&view), view.lease().unwrap().user), (vec!["bob".to_owned()], "bob".to_owned()));
    assert_eq!(view.reasons(), [], "the filter is for both");
    press(&mut view, KeyCode::Esc);
    assert_eq!(users(&view).len(), 2);
    assert_eq!(press(&mut view, KeyCode::Esc), Step::Stay, "Esc ends nothing but the filter");
    press(&mut view, KeyCode::Tab);
    assert_eq!(view.panel, Panel::Reasons);
    let reasons = |view: &View| view.reasons().into_iter().map(|rate| rate.what).collect::<Vec<_>>();
    assert_eq!(reasons(&view), ["stale", "rate"], "what never happened is not shown");
    types(&mut view, "r");
    assert_eq!(reasons(&view), ["rate", "stale"]);
}

#[test]
fn a_lease_is_ended_by_a_plain_yes_alone() {
    let mut view = seen(10);
    for no in [KeyCode::Char('n'), KeyCode::Enter, KeyCode::Esc, KeyCode::Char('Y'), KeyCode::Char('q')] {
        types(&mut view, "x");
        assert!(
            matches!(&view.typing, Typing::Confirm(_, words) if words.contains("bob on ssh for 192.0.2.7"))
        );
        assert_eq!((press(&mut view, no), &view.typing), (Step::Stay, &Typing::Commands));
    }
    types(&mut view, "x");
    let esc_and_y = KeyEvent::new(KeyCode::Char('y'), KeyModifiers::ALT);
    assert_eq!((keys::press(&mut view, esc_and_y), &view.typing), (Step::Stay, &Typing::Commands));
    assert_eq!(
        types(&mut view, "xy"),
        Step::Revoke(Whom::Lease(KnockId::parse("00000000000000bb").unwrap()))
    );
    assert_eq!(types(&mut view, "uy"), Step::Revoke(Whom::User("bob".to_owned())));
    tell(&mut view, 11, Status::default());
    assert_eq!(
        (types(&mut view, "xy"), &view.typing),
        (Step::Stay, &Typing::Commands),
        "there is none to end"
    );
}

#[test]
fn what_is_confirmed_is_what_was_asked_even_if_another_lease_is_first_by_then() {
    let mut view = seen(10);
    types(&mut view, "x");
    let mut later = status(101, 10);
    later.doors.leases.push(lease("00000000000000cc", "carol", 1));
    tell(&mut view, 11, later);
    assert_eq!(view.lease().unwrap().user, "carol");
    assert_eq!(types(&mut view, "y"), Step::Revoke(Whom::Lease(KnockId::parse("00000000000000bb").unwrap())));
}

#[test]
fn it_asks_once_a_second_and_one_question_at_a_time() {
    let mut view = seen(10);
    assert!(view.asks() && !view.asks());
    view.now = seconds(60);
    assert!(!view.asks(), "the first one is not answered");
    tell(&mut view, 60, status(150, 10));
    assert!(view.asks());
    tell(&mut view, 60, status(150, 10));
    assert!(!view.asks(), "too soon");
}

#[test]
fn a_daemon_that_does_not_answer_is_told_and_time_goes_on() {
    let mut view = seen(10);
    assert!(!picture(&view, 80, 24)[0].contains("NO ANSWER"));
    view.now = seconds(15);
    let lines = picture(&view, 80, 24);
    assert!(lines[0].contains("NO ANSWER for 5s: it does not answer"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("bob") && line.contains("55s")), "{lines:#?}");
    view.told(view.now, &Request::Status, Err(Failure::new(Exit::TryAgain, "siglatchd hung up")));
    assert!(picture(&view, 80, 24)[0].contains("NO ANSWER for 5s: siglatchd hung up"));
    tell(&mut view, 16, status(1, 1));
    assert!(picture(&view, 80, 24)[0].contains("siglatchd 0.1.0, up 1s, serving"));
    view.told(
        view.now,
        &Request::Revoke(Whom::All),
        Err(Failure::new(Exit::Permission, "siglatchd refuses: this takes")),
    );
    let lines = picture(&view, 80, 24);
    assert!(lines[23].contains("siglatchd refuses") && !lines[0].contains("NO ANSWER"), "{lines:#?}");
}

#[test]
fn it_fits_on_80_by_24_and_is_drawn_at_any_size() {
    let mut view = seen(10);
    let mut full = status(101, 30);
    full.doors.leases = (0..40).map(|at| lease(&format!("{at:016x}"), &format!("user{at}"), at)).collect();
    full.warnings =
        vec![Warning { code: "x".to_owned(), what: "evil \x1b[2J\x07".to_owned(), hint: "mend".to_owned() }];
    tell(&mut view, 11, full);
    let lines = picture(&view, 80, 24);
    for part in [
        "siglatchd 0.1.0, up 1m41s",
        "REASON",
        "stale",
        "USER",
        "0000000000000000",
        "q quit",
        "WARNING  evil",
        "-> mend",
        "LATE",
    ] {
        assert!(lines.iter().any(|line| line.contains(part)), "{part}: {lines:#?}");
    }
    assert!(lines.iter().all(|line| !line.contains(char::is_control)), "{lines:#?}");
    press(&mut view, KeyCode::End);
    let lines = picture(&view, 80, 24);
    assert!(lines.iter().any(|line| line.contains("user39")), "the chosen row is seen: {lines:#?}");
    let mut drawn = 0;
    for width in [0, 1, 2, 5, 20, 79, 81, 300] {
        for height in 0..30 {
            picture(&view, width, height);
            drawn += 1;
        }
    }
    assert_eq!(drawn, 240);
}
