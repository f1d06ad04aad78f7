//! A real knock runs the administrator's script, with what siglatch scripts expect; nothing else runs anything.

use std::fs;
use std::net::UdpSocket;

use crate::common::{Site, field, knock, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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

#[test]
fn a_copy_that_a_new_listener_has_not_seen_is_refused_by_the_keeper() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let datagrams = [site.datagram(), site.stamped(&knock(1, b""), Binding::Server(site.server_id))];
    datagrams.iter().for_each(|datagram| daemon.send(datagram));
    until("both to run", || (site.runs() == 2).then_some(()));
    kill(Pid::from_raw(daemon.listener()), Signal::SIGKILL).unwrap();
    daemon.wait_count("a new listener", 1, |line| line.contains("code=listener-ready"));
    datagrams.iter().for_each(|datagram| daemon.send(datagram));
    daemon.wait_count("the refusals", 2, |line| line.contains("code=replay"));
    let thief = UdpSocket::bind("127.0.0.2:0").unwrap();
    // Of a stamped one it is the listener who knows.
    for datagram in &datagrams {
        thief.send_to(datagram, daemon.address).unwrap();
    }
    daemon.wait_count("the alarm", 1, |line| line.contains("code=contested"));
    daemon.send(&site.datagram());
    until("another knock", || (site.runs() == 3).then_some(()));
    let stopped = daemon.stop();
    let counts = ["ran", "replay", "contested", "copied"].map(|code| stopped.count(code));
    assert_eq!(counts, [3, 2, 1, 1]);
}
