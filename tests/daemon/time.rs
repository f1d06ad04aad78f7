//! Recorded datagrams of real siglatch v1 clients, sent to the real daemon at the time they were recorded, and clocks
//! that step.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

use crate::common::{Daemon, Site, knock, recorded, unix, until};
use base64::Engine as _;
use siglatch::wire::{Binding, Knock};

/// A daemon whose clock is so many seconds off the real one, all its life.
fn start_at(site: &Site, offset: i64) -> Daemon {
    let library = library().unwrap();
    site.start_with(|command: &mut Command| {
        command.env("LD_PRELOAD", library).env("FAKETIME", format!("{offset:+}"));
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    })
}

/// A clock that a test moves, under libfaketime. The library is not made for threads that ask while it reads a new
/// offset: one reading may be any other.
struct Clock<'a>(&'a Site);

impl Clock<'_> {
    /// Seconds off the real one.
    fn set(&self, offset: i64) {
        let text = format!("{offset:+}\n");
        // Renamed into place: the daemon never reads half of it.
        fs::write(self.0.path("clock.new"), text).unwrap();
        fs::rename(self.0.path("clock.new"), self.0.path("clock")).unwrap();
    }

    fn start(&self) -> Daemon {
        let library = library().unwrap();
        let file = self.0.path("clock");
        self.0.start_with(|command: &mut Command| {
            command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", file);
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        })
    }
}

pub(crate) fn library() -> Option<String> {
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let path = format!("/usr/lib/{triple}/faketime/libfaketime.so.1");
    if !Path::new(&path).exists() {
        crate::common::skipped("libfaketime is not installed (Debian's faketime)");
        return None;
    }
    Some(path)
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// Its users and actions are the recorded ones; each script writes its arguments, NUL behind each.
fn recorded_site(datagrams: &[serde_json::Value]) -> Site {
    let mut site = Site::new();
    let mut users = std::collections::BTreeMap::<u64, Vec<String>>::new();
    for datagram in datagrams {
        let (name, user) = (datagram["name"].as_str().unwrap(), datagram["user_id"].as_u64().unwrap());
        let out = site.path(name);
        let script =
            format!("printf '%s\\0' \"$@\" >> {0}.new; echo >> {0}.times; mv {0}.new {0}", out.display());
        site.action(name, datagram["action_id"].as_u64().unwrap().try_into().unwrap(), &script);
        users.entry(user).or_default().push(name.to_owned());
    }
    for (user, actions) in &users {
        let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
        site.user(&format!("user{user}"), (*user).try_into().unwrap(), &actions, "");
    }
    site
}

#[test]
fn the_recorded_datagrams_of_real_v1_clients_run_their_actions_once() {
    if library().is_none() {
        return;
    }
    let vectors = recorded();
    let datagrams = vectors["datagrams"].as_array().unwrap();
    assert_eq!(datagrams.len(), 8);

    let site = recorded_site(datagrams);
    // The store as it would have been: made before they were sent.
    fs::remove_dir_all(site.path("state")).unwrap();
    let sent_at = datagrams[0]["timestamp"].as_i64().unwrap();
    // Five seconds before they came, so that a new store does not take them for older than itself.
    let daemon = start_at(&site, sent_at - 5 - i64::from(unix()));

    for datagram in datagrams {
        let bytes = unhex(datagram["datagram_hex"].as_str().unwrap());
        daemon.send(&bytes);
        let name = datagram["name"].as_str().unwrap();
        let args = until(name, || fs::read(site.path(name)).ok());
        let payload = unhex(datagram["payload_hex"].as_str().unwrap());
        let user = datagram["user_id"].as_u64().unwrap();
        let expected = [
            "127.0.0.1".to_owned(),
            user.to_string(),
            format!("user{user}"),
            datagram["action_id"].to_string(),
            name.to_owned(),
            "1".to_owned(),
            base64::engine::general_purpose::STANDARD.encode(&payload),
        ];
        let args = String::from_utf8(args).unwrap();
        assert_eq!(args, expected.map(|arg| arg + "\0").concat(), "{name}");
        daemon.send(&bytes);
        UdpSocket::bind("127.0.0.2:0").unwrap().send_to(&bytes, daemon.address).unwrap();
    }
    daemon.wait_count("the refusals of the copies", 8, |line| line.contains("code=contested"));
    let stopped = daemon.stop();
    let counts = ["ran", "seen", "contested"].map(|code| stopped.count(code));
    assert_eq!(counts, [8, 8, 8]);
    for datagram in datagrams {
        let times = site.path(&format!("{}.times", datagram["name"].as_str().unwrap()));
        assert_eq!(fs::read_to_string(times).unwrap(), "\n", "once");
    }
}

#[test]
fn a_copy_is_refused_as_long_as_its_timestamp_is_fresh_and_after() {
    if library().is_none() {
        return;
    }
    let site = Site::new().with_run();
    let clock = Clock(&site);
    clock.set(0);
    let mut daemon = clock.start();
    let sent = knock(1, b"");
    let datagram = site.sealed(&sent, Binding::None);
    daemon.send(&datagram);
    daemon.wait("the knock", |line| line.contains("code=ran"));
    // A wrong step in any direction runs nothing; 90 s is longer than the 60 s of others' nonces.
    for (offset, code) in [(90, "replay"), (295, "replay"), (400, "stale"), (-400, "ahead"), (0, "replay")] {
        clock.set(offset);
        until(code, || {
            let before = daemon.log().len();
            // Sealed again: the same bytes would not come this far.
            daemon.send(&site.sealed(&sent, Binding::None));
            let log = until("the refusal", || Some(daemon.log()).filter(|log| log.len() > before));
            log[before..].iter().any(|line| line.contains(&format!("code={code}"))).then_some(())
        });
    }
    clock.set(200);
    daemon.stop();
    let mut daemon = clock.start();
    daemon.send(&datagram);
    daemon.wait("the refusal after a restart", |line| line.contains("code=replay"));
    daemon.stop();
    assert_eq!(site.runs(), 1);
}

#[test]
fn a_knock_from_a_clock_that_is_off_says_how_far() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    for (timestamp, code, why) in [(unix() - 400, "stale", "s behind"), (unix() + 400, "ahead", "s ahead")] {
        daemon.send(&site.sealed(&Knock { timestamp, ..knock(1, b"") }, Binding::None));
        let line = daemon.wait(code, |line| line.contains(&format!("code={code}")));
        assert!(line.contains("the sender's clock is") && line.contains(why), "{line}");
    }
    for timestamp in [unix() - 295, unix() + 295] {
        daemon.send(&site.sealed(&Knock { timestamp, ..knock(1, b"") }, Binding::None));
    }
    until("two that are within", || (site.runs() == 2).then_some(()));
    daemon.stop();
}
