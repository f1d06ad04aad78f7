//! What the listener takes, and what the kernel drops for it.

use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use nix::sys::signal::Signal;
use siglatch::wire::stamp::{Stamper, stamp};
use siglatch::wire::{BeaconKey, Binding, Knock, StampKey, UserId};

use crate::common::{Daemon, Site, field, knock, unix, until};

/// Datagrams that the kernel dropped in front of the daemon's sockets.
fn dropped(daemon: &Daemon) -> u64 {
    let table = fs::read_to_string("/proc/net/udp").unwrap();
    let port = format!(":{:04X}", daemon.address.port());
    let lines = table
        .lines()
        .filter(|line| line.split_whitespace().nth(1).is_some_and(|address| address.ends_with(&port)));
    lines.map(|line| line.split_whitespace().last().unwrap().parse::<u64>().unwrap()).sum()
}

fn stamped(site: &Site) -> Vec<u8> {
    site.stamped(&knock(1, b""), Binding::Server(site.server_id))
}

/// A knock of now with a stamp of another time.
fn stamped_at(site: &Site, timestamp: u32) -> Vec<u8> {
    let server = site.key.public();
    let stamper = Stamper::new(&StampKey::derive(server, &site.hmac));
    stamp(site.datagram(), UserId(1), timestamp, &BeaconKey::of(server), &stamper)
}

#[test]
fn a_flood_that_the_kernel_can_tell_never_reaches_the_listener() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let good = stamped(&site);
    let mut beacon = good.clone();
    beacon[263] ^= 1;
    let mut range = site.datagram();
    range[..4].fill(0xff);
    let old = stamped_at(&site, unix() - 600);
    for _ in 0..2000 {
        for datagram in [&good[..255], &good[..257], &good[..287], b"", &beacon, &range, &old] {
            socket.send_to(datagram, daemon.address).unwrap();
        }
    }
    assert_eq!(dropped(&daemon), 14_000);
    for (number, datagram) in [good, site.datagram()].iter().enumerate() {
        socket.send_to(datagram, daemon.address).unwrap();
        until("a good one", || (site.runs() == number + 1).then_some(()));
    }
    let stopped = daemon.stop();
    assert_eq!((stopped.count("received"), stopped.count("ran")), (2, 2));
}

#[test]
fn a_stamp_opens_its_datagram_once_and_a_copy_is_told_from_a_thiefs() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let datagram = stamped(&site);
    daemon.send(&datagram);
    until("the knock", || (site.runs() == 1).then_some(()));
    let mut moved = stamped(&site);
    moved[..256].copy_from_slice(&site.datagram());
    for _ in 0..5 {
        daemon.send(&datagram);
        UdpSocket::bind("127.0.0.2:0").unwrap().send_to(&datagram, daemon.address).unwrap();
        daemon.send(&moved);
    }
    daemon.send(&stamped(&site));
    until("another", || (site.runs() == 2).then_some(()));
    let stopped = daemon.stop();
    let counts = ["ran", "seen", "copied", "stamp", "received"].map(|code| stopped.count(code));
    assert_eq!(counts, [2, 5, 5, 5, 17]);
}

#[test]
fn stamps_are_taken_within_freshness_of_the_clock() {
    let site = Site::new().with_run();
    let daemon = site.start();
    for (number, skew) in [-298, -64, 64, 298].into_iter().enumerate() {
        let timestamp = unix().checked_add_signed(skew).unwrap();
        let knock = Knock { timestamp, ..knock(1, b"") };
        daemon.send(&site.stamped(&knock, Binding::Server(site.server_id)));
        until("a knock from another clock", || (site.runs() == number + 1).then_some(()));
    }
    daemon.stop();
}

#[test]
fn a_server_that_requires_stamps_reads_no_plain_datagram() {
    let mut site = Site::new().with_run();
    site.top += "require_stamp = true\n";
    let daemon = site.start();
    for _ in 0..100 {
        daemon.send(&site.datagram());
    }
    daemon.send(&stamped(&site));
    until("the stamped one", || (site.runs() == 1).then_some(()));
    assert_eq!(dropped(&daemon), 100);

    site.top = site.top.replace("require_stamp = true", "require_stamp = false");
    site.write_config();
    daemon.signal(Signal::SIGHUP);
    until("a plain one after the reload", || {
        daemon.send(&site.datagram());
        std::thread::sleep(Duration::from_millis(50));
        (site.runs() > 1).then_some(())
    });
    let stopped = daemon.stop();
    assert_eq!(stopped.count("received"), stopped.count("ran"));
}

#[test]
fn a_user_who_has_to_stamp_is_refused_without() {
    let mut site = Site::new().with_run();
    site.tables = site.tables.replace("[users.alice]\n", "[users.alice]\nrequire_stamp = true\n");
    let mut daemon = site.start();
    daemon.send(&site.datagram());
    let line = daemon.wait("the refusal", |line| line.contains("code=stamp-missing"));
    assert_eq!(field(&line, "user").unwrap(), "alice");
    daemon.send(&stamped(&site));
    until("the stamped one", || (site.runs() == 1).then_some(()));
    daemon.stop();
}

#[test]
fn a_reload_adds_and_removes_who_may_stamp() {
    let mut site = Site::new().with_run();
    let daemon = site.start();
    let stamped_by =
        |site: &Site, user| site.stamped(&Knock { user: UserId(user), ..knock(1, b"") }, Binding::None);
    let alice = site.tables.clone();
    let renumbered = alice.replace("[users.alice]\nid = 1", "[users.alice]\nid = 2");
    for (tables, added, removed) in [(renumbered, 2, 1), (alice, 1, 2)] {
        site.tables = tables;
        site.write_config();
        daemon.signal(Signal::SIGHUP);
        let before = site.runs();
        until("who was added", || {
            daemon.send(&stamped_by(&site, added));
            std::thread::sleep(Duration::from_millis(20));
            (site.runs() > before).then_some(())
        });
        until("who was added before", || {
            daemon.send(&stamped_by(&site, removed));
            daemon.send(&stamped_by(&site, added));
            std::thread::sleep(Duration::from_millis(200));
            (site.runs() > before + 1).then_some(())
        });
    }
    let stopped = daemon.stop();
    assert!(stopped.count("stamp") >= 2, "{:?}", stopped.counts());
    assert_eq!(stopped.count("not-authentic"), 0, "who was removed reached no private key");
}
