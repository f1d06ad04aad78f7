//! A listener in an attacker's hands, in a test build: with all that the real one has, it has no effect.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{Daemon, Site, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Starts with a first listener that does this, and waits until it is gone and another receives.
fn outlived(site: &Site, order: &str, lacks: &str) -> (Daemon, String) {
    let mut daemon = site.start_with(|command| {
        command.env("SIGLATCH_MISBEHAVE", format!("1:{order}")).env("SIGLATCH_LACKS", lacks);
    });
    let lost = daemon.wait("its end", |line| line.contains("code=listener-lost"));
    daemon.wait("another", |line| line.contains("code=listener-ready"));
    (daemon, lost)
}

/// A knock runs, and that is all that ran.
fn serves(site: &Site, daemon: Daemon) {
    let before = site.runs();
    daemon.send(&site.datagram());
    until("a knock to run", || (site.runs() == before + 1).then_some(()));
    daemon.stop();
}

#[test]
fn what_a_taken_listener_asks_of_the_kernel_ends_it_and_does_nothing() {
    let site = Site::new().with_run();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    tcp.set_nonblocking(true).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_nonblocking(true).unwrap();
    let touched = site.path("touched");
    let orders = [
        "open=/etc/passwd".to_owned(),
        format!("tcp={}", tcp.local_addr().unwrap()),
        format!("udp={}", udp.local_addr().unwrap()),
        format!("exec={}", touched.display()),
        "kill".to_owned(),
        "ptrace".to_owned(),
    ];
    for order in orders {
        let (daemon, lost) = outlived(&site, &order, "");
        assert!(lost.contains("it made a system call that its sandbox forbids"), "{order}: {lost}");
        serves(&site, daemon);
    }
    assert!(tcp.accept().is_err(), "somebody connected");
    assert!(udp.recv(&mut [0; 8]).is_err(), "somebody sent");
    assert!(!touched.exists());
}

#[test]
fn each_layer_holds_without_the_others() {
    let site = Site::new().with_run();
    let folder = site.path("open");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(site.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = folder.join("file");
    let unlink = format!("unlink={}", file.display());
    // An error number from 100 on; 99 is success.
    let (again, too_many, denied, not_permitted) = (111, 124, 113, 101);
    for (order, lacks, end, remains) in [
        (unlink.as_str(), "seccomp", denied, true),
        (&unlink, "seccomp,landlock", 99, false),
        ("open=/etc/passwd", "seccomp,landlock", too_many, true),
        ("udp=127.0.0.1:9", "seccomp,landlock", too_many, true),
        ("exec=/tmp/x", "seccomp,landlock", again, true),
        ("kill", "seccomp", not_permitted, true),
        ("ptrace", "seccomp", not_permitted, true),
    ] {
        fs::write(&file, "").unwrap();
        let (daemon, lost) = outlived(&site, order, lacks);
        assert!(lost.contains(&format!("it ended with code {end}")), "{order} without {lacks}: {lost}");
        assert_eq!(file.exists(), remains, "{order} without {lacks}");
        serves(&site, daemon);
    }
    for order in [unlink.as_str(), "open=/etc/passwd", "kill"] {
        let (daemon, lost) = outlived(&site, order, "landlock");
        assert!(lost.contains("its sandbox forbids"), "{order}: {lost}");
        assert!(file.exists());
        serves(&site, daemon);
    }
}

#[test]
fn a_forged_opened_is_a_datagram_with_a_wrong_hmac() {
    let mut site = Site::new().with_run();
    site.tables += "[log]\nsummary = \"10s\"\n";
    let daemon = site.start_with(|command| {
        command.env("SIGLATCH_MISBEHAVE", "1:forge");
    });
    let listener = daemon.listener();
    daemon.send(&site.datagram());
    until("a knock to run", || (site.runs() == 1).then_some(()));
    assert_eq!(daemon.listener(), listener, "a lie is no crime");
    let stopped = daemon.stop();
    assert_eq!((stopped.count("not-authentic"), stopped.count("ran")), (1, 1));
}

#[test]
fn what_no_listener_says_ends_one() {
    let mut site = Site::new().with_run();
    site.tables += "[limits]\nworkers = 1\nqueue = 1\n";
    for (order, why) in [
        ("malformed", "it said what no listener says"),
        ("no-such-socket", "it said what no listener says"),
        ("ready-again", "it said what no listener says"),
        ("flood", "it said more than a listener can have to say"),
        ("flood-opened", "it said more than a listener can have to say"),
        ("abort", "it died of signal 6"),
    ] {
        let (daemon, lost) = outlived(&site, order, "");
        assert!(lost.contains(why), "{order}: {lost}");
        serves(&site, daemon);
    }
}

#[test]
fn a_first_listener_that_is_never_ready_is_a_start_that_failed() {
    let site = Site::new().with_run();
    let begin = Instant::now();
    let failed = site
        .spawn(|command| {
            command.env("SIGLATCH_MISBEHAVE", "1:never-ready");
        })
        .ended();
    let log = failed.log.join("\n");
    assert_eq!(failed.status.code(), Some(75), "{log}");
    assert!(log.contains("the listener did not start: it said nothing for too long"), "{log}");
    assert!(begin.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_later_listener_that_is_never_ready_is_replaced() {
    let site = Site::new().with_run();
    let mut daemon = site.start_with(|command| {
        command.env("SIGLATCH_MISBEHAVE", "2:never-ready");
    });
    kill(Pid::from_raw(daemon.listener()), Signal::SIGKILL).unwrap();
    daemon.wait("the third", |line| line.contains("code=listener-ready"));
    let lost = daemon.log().iter().filter(|line| line.contains("code=listener-lost")).count();
    assert_eq!(lost, 2);
    serves(&site, daemon);
}

#[test]
fn a_layer_that_the_kernel_lacks_is_said_once_or_refuses_the_start() {
    let mut site = Site::new().with_run();
    let lacking = |command: &mut Command| {
        command.env("SIGLATCH_LACKS", "landlock");
    };
    let daemon = site.start_with(lacking);
    kill(Pid::from_raw(daemon.listener()), Signal::SIGKILL).unwrap();
    daemon.wait_count("another", 1, |line| line.contains("code=listener-ready"));
    daemon.signal(Signal::SIGHUP);
    daemon.wait_count("the reload", 1, |line| line.contains("code=reloaded"));
    let said = |line: &&String| line.contains("layer=Landlock") && line.contains("code=sandbox-missing");
    assert_eq!(daemon.log().iter().filter(said).count(), 1);
    serves(&site, daemon);

    for (program, args) in [
        (env!("CARGO_BIN_EXE_siglatchd"), vec!["--check", "--config"]),
        (env!("CARGO_BIN_EXE_siglatchctl"), vec!["check"]),
    ] {
        let mut command = Command::new(program);
        command.args(args).arg(site.write_config());
        lacking(&mut command);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("this kernel lacks Landlock"), "{said}");
        assert_eq!(output.status.code(), Some(0), "{said}");
    }

    site.top += "sandbox = \"required\"\n";
    let refused = site.spawn(lacking).ended();
    let log = refused.log.join("\n");
    assert_eq!(refused.status.code(), Some(78), "{log}");
    assert!(log.contains("this kernel lacks Landlock") && log.contains("sandbox"), "{log}");
    site.start().stop();
}
