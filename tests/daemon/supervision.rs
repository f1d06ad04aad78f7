//! Whatever becomes of the listener, or of its keeper, the door works again or is shut.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::common::{Daemon, Site, field, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn strike(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn is_there(pid: i32) -> bool {
    // A zombie is gone.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// A knock runs.
fn serves(site: &Site, daemon: &Daemon) {
    let before = site.runs();
    daemon.send(&site.datagram());
    until("a knock to run", || (site.runs() > before).then_some(()));
}

#[test]
fn a_killed_listener_is_replaced_within_a_second_and_the_counts_go_on() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let mut sent = 0;
    for round in 1..=3 {
        let listener = daemon.listener();
        // The listener itself counts the second.
        let datagram = site.datagram();
        (0..2).for_each(|_| daemon.send(&datagram));
        until("a knock to run", || (site.runs() == 2 * round - 1).then_some(()));
        sent += 1;
        // Counts are told twice a second.
        std::thread::sleep(Duration::from_millis(1200));
        let struck = Instant::now();
        strike(listener, Signal::SIGKILL);
        daemon.wait_count("a new one", round, |line| line.contains("code=listener-ready"));
        assert!(struck.elapsed() < Duration::from_secs(1), "{:?}", struck.elapsed());
        assert!(daemon.listener() != listener);
        serves(&site, &daemon);
    }
    let lost = |line: &&String| line.contains("code=listener-lost") && line.contains("SIGKILL");
    assert_eq!(daemon.log().iter().filter(lost).count(), 3);
    let stopped = daemon.stop();
    assert_eq!((stopped.count("seen"), stopped.count("ran")), (sent, 6));
}

#[test]
fn a_datagram_that_comes_while_there_is_no_listener_waits_for_the_next() {
    let site = Site::new().with_run();
    let daemon = site.start();
    daemon.signal(Signal::SIGSTOP);
    strike(daemon.listener(), Signal::SIGKILL);
    daemon.send(&site.datagram());
    daemon.signal(Signal::SIGCONT);
    until("the knock", || (site.runs() == 1).then_some(()));
    daemon.stop();
}

#[test]
fn a_listener_that_keeps_dying_comes_back_later_and_writes_few_lines() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(4) {
        if let Some(pid) = crate::common::listener_of(daemon.pid()) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let lines = daemon.log().len();
    assert!(lines < 30, "{lines} lines in 4 s");
    daemon.wait("a longer wait", |line| {
        field(line, "again").is_some_and(|again| again.trim_end_matches('s').parse::<f32>().unwrap() > 0.5)
    });
    serves(&site, &daemon);
    daemon.stop();
}

#[test]
fn a_killed_keeper_leaves_no_listener() {
    let site = Site::new().with_run();
    for stopped in [false, true] {
        let daemon = site.start();
        let listener = daemon.listener();
        if stopped {
            strike(listener, Signal::SIGSTOP);
        }
        daemon.kill();
        until("the listener's end", || (!is_there(listener)).then_some(()));
    }
}

#[test]
fn a_hung_listener_is_replaced() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    let listener = daemon.listener();
    strike(listener, Signal::SIGSTOP);
    let line = daemon.wait("its loss", |line| line.contains("code=listener-lost"));
    assert!(line.contains("it said nothing for too long"), "{line}");
    assert!(!is_there(listener));
    serves(&site, &daemon);
    daemon.stop();
}

#[test]
fn a_keeper_that_was_stopped_itself_blames_nobody() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let listener = daemon.listener();
    daemon.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(8));
    daemon.signal(Signal::SIGCONT);
    serves(&site, &daemon);
    daemon.signal_both(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(8));
    daemon.signal_both(Signal::SIGCONT);
    std::thread::sleep(Duration::from_secs(2));
    serves(&site, &daemon);
    assert_eq!(daemon.listener(), listener, "it is the same");
    daemon.stop();
}

#[test]
fn signals_are_for_the_keeper_alone() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let listener = daemon.listener();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        strike(listener, signal);
    }
    serves(&site, &daemon);
    assert_eq!(daemon.listener(), listener);
    // As systemd stops a service: all of its processes are told.
    strike(listener, Signal::SIGTERM);
    let stopped = daemon.stop();
    assert!(!stopped.log.join("\n").contains("listener-lost"));
}

#[test]
fn a_listener_that_does_not_end_does_not_keep_the_daemon() {
    let site = Site::new().with_run();
    let daemon = site.start();
    strike(daemon.listener(), Signal::SIGSTOP);
    let begin = Instant::now();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().status.code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn a_key_that_is_gone_is_waited_for_and_loudly() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    fs::rename(site.path("server.key.pem"), site.path("away")).unwrap();
    strike(daemon.listener(), Signal::SIGKILL);
    let line = daemon.wait("the failure", |line| line.contains("code=listener-failed"));
    assert!(line.contains("ERROR") && line.contains("server.key.pem is not there"), "{line}");
    fs::rename(site.path("away"), site.path("server.key.pem")).unwrap();
    daemon.wait("a new one", |line| line.contains("code=listener-ready"));
    serves(&site, &daemon);
    daemon.stop();
}

#[test]
fn the_service_manager_hears_the_truth_about_both() {
    let site = Site::new().with_run();
    let manager = Manager::new(&site);
    let path = manager.path.clone();
    let daemon = site.start_with(move |command| {
        command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "400000");
    });
    manager.wait("READY=1\nSTATUS=listening on 127.0.0.1:");
    manager.wait("WATCHDOG=1");
    manager.wait("WATCHDOG=1");

    daemon.signal(Signal::SIGHUP);
    manager.wait("RELOADING=1\nMONOTONIC_USEC=");
    manager.wait("READY=1");
    // One that changes nothing, too.
    fs::write(site.path("siglatchd.toml"), "x").unwrap();
    daemon.signal(Signal::SIGHUP);
    manager.wait("RELOADING=1\nMONOTONIC_USEC=");
    manager.wait("READY=1");

    // Again and again, so that there is a while without one.
    for _ in 0..6 {
        until("a listener's end", || {
            let pid = crate::common::listener_of(daemon.pid())?;
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok()
        });
        manager.wait("STATUS=the listener is gone");
    }
    manager.drain();
    let heard = manager.next_within(Duration::from_millis(500));
    assert!(heard.as_deref() != Some("WATCHDOG=1"), "the watchdog is told that all is well");
    manager.wait("STATUS=listening on");
    manager.wait("WATCHDOG=1");

    daemon.signal(Signal::SIGTERM);
    manager.wait("STOPPING=1");
    daemon.ended();
}

#[test]
fn a_stopped_keeper_feeds_no_watchdog() {
    let site = Site::new().with_run();
    let manager = Manager::new(&site);
    let path = manager.path.clone();
    let daemon = site.start_with(move |command| {
        command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "200000");
    });
    manager.wait("WATCHDOG=1");
    daemon.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(200));
    manager.drain();
    assert_eq!(manager.next_within(Duration::from_millis(500)), None);
    daemon.signal(Signal::SIGCONT);
    manager.wait("WATCHDOG=1");
    daemon.stop();
}

/// Stands in systemd's place.
struct Manager {
    path: std::path::PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn new(site: &Site) -> Manager {
        let path = site.path("notify");
        Manager { socket: UnixDatagram::bind(&path).unwrap(), path }
    }

    fn next_within(&self, time: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let mut buffer = [0; 4096];
        let len = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..len]).trim_end().to_owned())
    }

    fn drain(&self) {
        while self.next_within(Duration::from_millis(1)).is_some() {}
    }

    fn wait(&self, start: &str) {
        until(start, || self.next_within(Duration::from_millis(100))?.starts_with(start).then_some(()));
    }
}
