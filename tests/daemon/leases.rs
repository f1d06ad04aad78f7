//! A door that a knock opened is closed: in time, early, once, and whatever ends in between.

use std::fs;
use std::net::UdpSocket;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use siglatch::wire::options::Release;
use siglatch::wire::{Binding, Knock, Options, UserId};

use crate::common::{Daemon, Site, field, knock, until};

/// Alice's knock for the door, with options.
fn asking(site: &Site, options: &Options) -> Vec<u8> {
    site.sealed(&knock(1, &options.join(b"").unwrap()), Binding::Server(site.server_id))
}

fn hold(seconds: u32) -> Options {
    Options { hold: Some(seconds), ..Options::default() }
}

fn ctl(site: &Site, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
    command.args(args).arg("--config").arg(site.path("siglatchd.toml")).output().unwrap()
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn leases(site: &Site) -> Vec<serde_json::Value> {
    serde_json::from_str(&out(&ctl(site, &["leases", "--json"]))).unwrap()
}

fn opened(daemon: &mut Daemon, site: &Site) {
    let before = site.said().len();
    daemon.send(&site.datagram());
    until("an open door", || (site.said().len() > before).then_some(()));
    daemon.wait_count("run's end", 1, |line| line.contains("code=finished"));
    let recorded = || leases(site).iter().all(|lease| lease["state"] != "opens");
    until("its record", || recorded().then_some(()));
}

#[test]
fn a_door_opens_for_as_long_as_is_asked_and_closes_by_itself() {
    let site = Site::new().with_door("1h", "");
    let mut daemon = site.start();
    let begun = Instant::now();
    daemon.send(&asking(&site, &hold(2)));
    let began = daemon.wait("the lease", |line| line.contains("code=lease-began"));
    assert_eq!(field(&began, "seconds").unwrap(), "2");
    assert_eq!(
        (field(&began, "user").unwrap(), field(&began, "from").unwrap()),
        ("alice".into(), "127.0.0.1".into())
    );
    daemon.wait("the end", |line| line.contains("code=lease-ended") && line.contains("reason=expired"));
    assert!(begun.elapsed() >= Duration::from_secs(2), "too early");
    daemon.wait("undo", |line| line.contains("code=undo-finished"));
    assert_eq!(site.said(), ["run 127.0.0.1 alice", "undo 127.0.0.1 alice expired 1"]);
    let text = fs::read_to_string(site.path("said")).unwrap();
    let ids: Vec<&str> = text.lines().map(|line| line.split(' ').nth(3).unwrap()).collect();
    let id = field(&began, "lease").unwrap();
    assert_eq!(ids, [&id, &id]);
    until("its row is gone", || leases(&site).is_empty().then_some(()));
    let stopped = daemon.stop();
    assert_eq!((stopped.count("received"), stopped.count("ran")), (1, 1));
}

#[test]
fn a_second_knock_and_a_neighbour_run_nothing_and_the_last_to_leave_closes_the_door() {
    let mut site = Site::new().with_door("1h", "");
    site.user("bob", 2, &["door"], "");
    let mut daemon = site.start();
    opened(&mut daemon, &site);
    daemon.send(&site.datagram());
    daemon.wait("the second knock", |line| line.contains("code=lease-extended"));
    let release = Options { release: Some(Release), ..Options::default() };
    let payload = release.join(b"").unwrap();
    daemon.send(&site.sealed(&Knock { user: UserId(2), ..knock(1, b"") }, Binding::Server(site.server_id)));
    daemon.wait("bob", |line| line.contains("code=lease-began") && line.contains("user=bob"));
    assert_eq!(
        leases(&site).iter().map(|lease| lease["user"].as_str().unwrap()).collect::<Vec<_>>(),
        ["alice", "bob"]
    );
    daemon.send(&asking(&site, &release));
    daemon.wait("alice's end", |line| line.contains("code=lease-ended") && line.contains("reason=released"));
    assert_eq!(site.said(), ["run 127.0.0.1 alice"]);
    daemon.send(
        &site.sealed(&Knock { user: UserId(2), ..knock(1, &payload) }, Binding::Server(site.server_id)),
    );
    until("undo", || (site.said().len() == 2).then_some(()));
    // Whose knock opened the door is whose it is closed for.
    assert_eq!(site.said()[1], "undo 127.0.0.1 alice released 1");
    let stopped = daemon.stop();
    assert_eq!((stopped.count("received"), stopped.count("ran")), (5, 5));
}

#[test]
fn a_plain_v1_client_closes_by_the_release_id_and_another_address_is_another_door() {
    let site = Site::new().with_door("1h", "release_id = 101\nagain = \"refuse\"");
    let mut daemon = site.start();
    opened(&mut daemon, &site);
    let elsewhere = UdpSocket::bind("127.0.0.2:0").unwrap();
    elsewhere.send_to(&site.datagram(), daemon.address).unwrap();
    until("another door", || (site.said().len() == 2).then_some(()));
    daemon.send(&site.datagram());
    daemon.wait("a refusal", |line| line.contains("code=held"));
    daemon.send(&site.sealed(&knock(101, b""), Binding::None));
    until("undo", || (site.said().len() == 3).then_some(()));
    assert_eq!(site.said()[2], "undo 127.0.0.1 alice released 1");
    daemon.send(&site.sealed(&knock(101, b""), Binding::None));
    daemon.wait("nothing to release", |line| {
        line.contains("code=accepted") && line.contains("nothing to release")
    });
    assert_eq!(leases(&site)[0]["from"], "127.0.0.2");
    daemon.stop();
}

#[test]
fn a_run_that_fails_is_undone_and_an_undo_that_fails_is_tried_again_with_an_alarm() {
    let mut site = Site::new().with_door("1h", "");
    let marker = site.path("mended");
    let said = site.path("said");
    let undo = format!(
        "#!/bin/sh\necho undo $1 $3 - $SIGLATCH_LEASE_REASON $SIGLATCH_ATTEMPT >> {0}\ntest -e {1}\n",
        said.display(),
        marker.display()
    );
    site.file("actions/undo", undo.as_bytes(), 0o755);
    site.file("actions/door", b"#!/bin/sh\nexit 3\n", 0o755);
    site.tables += "\n[limits]\nmax_doors = 1\n";
    let mut daemon = site.start();
    daemon.send(&site.datagram());
    let alarm = daemon.wait("the alarm", |line| line.contains("ERROR") && line.contains("code=undo-failed"));
    assert_eq!(field(&alarm, "again").unwrap(), "1s");
    UdpSocket::bind("127.0.0.2:0").unwrap().send_to(&site.datagram(), daemon.address).unwrap();
    daemon.wait("no room", |line| line.contains("code=doors-full"));
    daemon.wait_count("two attempts", 2, |line| line.contains("code=undo-failed"));
    fs::write(&marker, "").unwrap();
    daemon.wait("the end", |line| line.contains("code=undo-finished") && line.contains("rc=0"));
    let said = site.said();
    assert_eq!(said[..2], ["undo 127.0.0.1 alice failed 1", "undo 127.0.0.1 alice failed 2"]);
    daemon.stop();
}

#[test]
fn a_door_that_is_open_when_the_daemon_stops_or_is_killed_is_closed_in_time_by_the_next() {
    for end in [Signal::SIGTERM, Signal::SIGKILL] {
        let site = Site::new().with_door("1h", "");
        let mut daemon = site.start();
        daemon.send(&asking(&site, &hold(5)));
        daemon.wait("run's end", |line| line.contains("code=finished"));
        std::thread::sleep(Duration::from_millis(300));
        daemon.signal(end);
        daemon.ended();
        // The store is read, whether or not somebody is there.
        assert_eq!(leases(&site)[0]["state"], "open", "{end}");
        let mut daemon = site.start();
        daemon.wait("what was found", |line| line.contains("code=doors-found"));
        daemon.send(&site.datagram());
        daemon.wait("that it is held", |line| line.contains("code=accepted"));
        out(&ctl(&site, &["revoke", "--all"]));
        until("undo", || (site.said().len() == 2).then_some(()));
        daemon.stop();

        let mut daemon = site.start();
        daemon.send(&asking(&site, &hold(1)));
        daemon.wait("run's end", |line| line.contains("code=finished"));
        std::thread::sleep(Duration::from_millis(100));
        daemon.signal(end);
        daemon.ended();
        std::thread::sleep(Duration::from_millis(1000));
        assert!(leases(&site).is_empty() || leases(&site)[0]["state"] != "open");
        let daemon = site.start();
        until("undo of what expired meanwhile", || (site.said().len() == 4).then_some(()));
        daemon.stop();
        assert_eq!(
            site.said(),
            [
                "run 127.0.0.1 alice",
                "undo 127.0.0.1 alice revoked 1",
                "run 127.0.0.1 alice",
                "undo 127.0.0.1 alice expired 1"
            ]
        );
    }
}

#[test]
fn the_undo_that_was_recorded_is_what_runs_whatever_a_reload_changed() {
    let mut site = Site::new().with_door("1h", "");
    let mut daemon = site.start();
    opened(&mut daemon, &site);
    site.tables = site.tables.replace("actions/undo", "actions/door");
    site.write_config();
    daemon.signal(Signal::SIGHUP);
    daemon.wait("the reload", |line| line.contains("code=reloaded"));
    out(&ctl(&site, &["revoke", "--user", "alice"]));
    until("undo", || (site.said().len() == 2).then_some(()));
    assert_eq!(site.said()[1], "undo 127.0.0.1 alice revoked 1");
    // Gone from the configuration altogether, and the daemon with it.
    opened(&mut daemon, &site);
    daemon.kill();
    site.tables = String::new();
    let mut daemon = site.start();
    daemon.wait("what was found", |line| line.contains("code=doors-found"));
    out(&ctl(&site, &["revoke", "--all"]));
    daemon.wait("undo", |line| line.contains("code=undo-finished"));
    daemon.stop();
}

#[test]
fn what_is_not_to_outlive_the_daemon_is_closed_when_it_stops() {
    let site = Site::new().with_door("1h", "on_shutdown = \"undo\"");
    let mut daemon = site.start();
    opened(&mut daemon, &site);
    daemon.stop();
    assert_eq!(site.said()[1], "undo 127.0.0.1 alice shutdown 1");
    assert!(leases(&site).is_empty());
}

#[test]
fn leases_are_listed_for_people_and_ended_by_their_id() {
    let site = Site::new().with_door("1h", "");
    let mut daemon = site.start();
    assert_eq!(out(&ctl(&site, &["leases"])), "LEASE  USER  ACTION  FROM  LEFT  UNTIL  STATE\n");
    opened(&mut daemon, &site);
    let listed = out(&ctl(&site, &["leases"]));
    let row: Vec<&str> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[1], row[2], row[3], row[6]), ("alice", "door", "127.0.0.1", "open"), "{listed}");
    assert!(row[4].starts_with("59m5") && row[5].ends_with('Z'), "{listed}");
    let unknown = ctl(&site, &["revoke", "0123456789abcdef"]);
    assert_eq!(unknown.status.code(), Some(75), "{unknown:?}");
    let nobody = ctl(&site, &["revoke", "--user", "nobody"]);
    assert_eq!((nobody.status.code(), nobody.stdout.len()), (Some(64), 0));
    let said = String::from_utf8_lossy(&nobody.stderr);
    assert!(said.contains("there is no user nobody") && said.contains("siglatchctl user list"), "{said}");
    assert_eq!(out(&ctl(&site, &["revoke", row[0]])), "1 lease revoked\n");
    until("undo", || (site.said().len() == 2).then_some(()));
    daemon.stop();
    let down = ctl(&site, &["revoke", "--all"]);
    assert_eq!(down.status.code(), Some(75), "{down:?}");
    assert_eq!(ctl(&site, &["revoke"]).status.code(), Some(64));
    assert_eq!(ctl(&site, &["revoke", "--all", "--user", "alice"]).status.code(), Some(64));
}
