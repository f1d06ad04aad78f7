//! A real knock runs the administrator's script, with what siglatch scripts expect; nothing else runs anything.

use std::fs;

use crate::common::{Site, field, knock};
use siglatch::wire::Binding;

#[test]
fn a_knock_runs_its_script_with_the_seven_arguments() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    daemon.send(&site.sealed(&knock(1, b"hello"), Binding::Server(site.server_id)));
    let ran = daemon.wait("the knock", |line| line.contains("code=ran"));
    assert_eq!(field(&ran, "user").unwrap(), "alice");
    assert_eq!(field(&ran, "bound").unwrap(), "server");
    daemon.wait("the script's end", |line| line.contains("code=finished"));
    let args = fs::read_to_string(site.path("ran")).unwrap();
    assert_eq!(args, "127.0.0.1\n1\nalice\n1\nrun\n1\naGVsbG8=\n--\n");
    let stopped = daemon.stop();
    assert_eq!((stopped.count("received"), stopped.count("ran")), (1, 1));
}

#[test]
fn a_replayed_datagram_is_refused_before_and_after_a_restart() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    let knock = knock(1, b"");
    let datagram = site.sealed(&knock, Binding::None);
    daemon.send(&datagram);
    daemon.wait("the knock", |line| line.contains("code=ran"));
    // The same bytes cost no operation; the same packet sealed again is another datagram.
    for _ in 0..3 {
        daemon.send(&datagram);
        daemon.send(&site.sealed(&knock, Binding::None));
    }
    daemon.wait_count("three refusals", 3, |line| line.contains("code=replay"));
    let stopped = daemon.stop();
    assert_eq!((stopped.count("replay"), stopped.count("seen")), (3, 3));

    let mut daemon = site.start();
    daemon.send(&datagram);
    daemon.wait("the refusal", |line| line.contains("code=replay"));
    daemon.stop();
    assert_eq!(site.runs(), 1);
}
