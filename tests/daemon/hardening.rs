//! An unlucky starter, a machine that is odd, a script that is loud: the daemon serves on.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::os::unix::fs::chown;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Site, children, field, knock, listener_of, skipped, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use siglatch::wire::Binding;

/// Lets another program start the daemon.
fn by(command: &mut Command, starter: &[&str]) {
    let mut wrapped = Command::new(starter[0]);
    wrapped
        .args(&starter[1..])
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    *command = wrapped;
}

#[test]
fn a_starter_that_blocks_signals_keeps_none_from_the_daemon() {
    let site = Site::new().with_run();
    let mut daemon = site.start_with(|command| by(command, &["env", "--block-signal"]));
    daemon.send(&site.datagram());
    daemon.wait("the script to be reaped", |line| line.contains("code=finished"));
    daemon.stop();
}

#[test]
fn orphans_that_fall_to_a_daemon_that_is_init_are_reaped() {
    if !geteuid().is_root() {
        return skipped("a namespace of process ids takes root");
    }
    let mut site = Site::new();
    let out = site.path("orphan");
    let script = format!("(sleep 0.2; echo > {}) & exit 0", out.display());
    site.action("orphan", 1, &script).user("alice", 1, &["orphan"], "");
    let mut daemon = site.start_with(|command| by(command, &["unshare", "--pid", "--fork", "--kill-child"]));
    let init = children(daemon.pid())[0];
    daemon.send(&site.datagram());
    daemon.wait("the script's end", |line| line.contains("code=finished"));
    until("the orphan's end", || out.exists().then_some(()));
    let listener = listener_of(init).unwrap();
    until("no zombie", || (children(init) == [listener]).then_some(()));
    kill(Pid::from_raw(init), Signal::SIGTERM).unwrap();
    daemon.ended().assert_balanced();
}

#[test]
fn a_knock_that_waits_does_not_outlive_the_permission_for_it() {
    let mut site = Site::new();
    let (go, out) = (site.path("go"), site.path("ran"));
    let script =
        format!("echo -- >> {}; while [ ! -e {} ]; do sleep 0.05; done", out.display(), go.display());
    site.action_with("run", 1, &script, "max_running = 1\non_busy = \"queue\"");
    let without_alice = site.tables.clone();
    site.user("alice", 1, &["run"], "");
    let mut daemon = site.start();
    daemon.send(&site.datagram());
    daemon.wait("the first", |line| line.contains("code=ran"));
    daemon.send(&site.datagram());
    daemon.wait("the second", |line| line.contains("code=queued"));

    site.tables = without_alice;
    site.write_config();
    daemon.signal(Signal::SIGHUP);
    daemon.wait("the refusal", |line| line.contains("code=user-gone"));
    fs::write(&go, "").unwrap();
    daemon.wait("the first's end", |line| line.contains("code=finished"));
    let stopped = daemon.stop();
    assert_eq!((stopped.count("ran"), stopped.count("user-gone")), (1, 1));
    assert_eq!(site.runs(), 1);
}

#[test]
fn a_reload_that_takes_long_holds_up_neither_knock_nor_stop() {
    let mut site = Site::new().with_run();
    for id in 2..6000 {
        let key = if id % 2 == 0 { "alice.hmac" } else { "bob.hmac" };
        site.tables += &format!("[users.u{id}]\nid = {id}\nhmac_key = \"{key}\"\nactions = [\"run\"]\n");
    }
    site.file("bob.hmac", &[5; 32], 0o600);
    let daemon = site.start();
    // A machine that is busy elsewhere may let the reload win now and then; one that waits for it loses always.
    let ran_first = |times: usize| {
        let before = daemon.log().len();
        daemon.signal(Signal::SIGHUP);
        daemon.send(&site.datagram());
        daemon.wait_count("the knock", times, |line| line.contains("code=ran"));
        daemon.wait_count("the reload", times, |line| line.contains("code=reloaded"));
        let line = |code: &str| daemon.log()[before..].iter().position(|line| line.contains(code));
        line("code=ran") < line("code=config-warning")
    };
    assert!((1..=5).any(ran_first), "no knock ran before a reload was through");
    daemon.signal(Signal::SIGHUP);
    daemon.stop();
}

#[test]
fn a_configuration_with_thousands_of_weak_spots_writes_a_hundred_lines() {
    let mut site = Site::new().with_run();
    for id in 2..3000 {
        site.tables += &format!("[users.u{id}]\nid = {id}\nhmac_key = \"alice.hmac\"\n");
    }
    let mut daemon = site.start();
    let before = daemon.log().len();
    daemon.signal(Signal::SIGHUP);
    let line = daemon.wait("the reload", |line| line.contains("code=reloaded"));
    assert!(line.contains("warnings=5996"), "{line}");
    assert!(daemon.log().len() - before < 110, "{} lines", daemon.log().len());
    daemon.stop();
}

#[test]
fn a_script_that_floods_a_slow_log_washes_out_no_line_about_a_knock() {
    let mut site = Site::new().with_run();
    site.action_with("flood", 2, "yes '' | head -c 200000", "max_output = \"1MiB\"");
    site.tables = site.tables.replace("[\"run\"]", "[\"run\", \"flood\"]");
    let mut child = Command::new(env!("CARGO_BIN_EXE_siglatchd"))
        .arg("--config")
        .arg(site.write_config())
        .env_remove("RUST_LOG")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let address = log.find_map(|line| field(&line, "listen")).unwrap();
    let slowly = std::thread::spawn(move || {
        let slow = |(number, line): (usize, String)| {
            if number % 10 == 0 {
                std::thread::sleep(Duration::from_micros(500));
            }
            line
        };
        log.enumerate().map(slow).filter(|line| !line.contains("code=output ")).collect::<Vec<_>>()
    });
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..6 {
        let flood = site.sealed(&knock(2, b""), Binding::None);
        socket.send_to(&flood, &address).unwrap();
    }
    for number in 1..=20 {
        socket.send_to(&site.datagram(), &address).unwrap();
        until("the knock", || (site.runs() == number).then_some(()));
    }
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let log = slowly.join().unwrap();
    assert!(child.wait().unwrap().success());
    let lines = |code: &str| log.iter().filter(|line| line.contains(code)).count();
    assert!(lines("code=log-lost") > 0, "the log was never full");
    assert_eq!((lines("code=ran"), lines("code=finished")), (26, 26));
}

#[test]
fn a_program_below_a_folder_of_somebody_else_is_refused() {
    if !geteuid().is_root() {
        return skipped("a folder of somebody else takes root");
    }
    let mut site = Site::new();
    let home = site.path("home");
    fs::create_dir_all(home.join("actions")).unwrap();
    let program = site.file("home/actions/run", b"#!/bin/sh\n", 0o755);
    site.tables = format!("[actions.run]\nid = 1\nrun = [{program:?}]\n");
    chown(&home, Some(65534), None).unwrap();
    let refused = site.spawn(|_| {}).ended();
    assert_eq!(refused.status.code(), Some(78), "{:?}", refused.log);
    assert!(refused.log.join("\n").contains("home belongs to uid 65534"), "{:?}", refused.log);

    chown(&home, Some(0), None).unwrap();
    site.start().stop();
}

#[test]
fn a_second_signal_does_not_wait_for_a_long_queue() {
    let mut site = Site::new().with_run();
    site.tables += "[limits]\nqueue = 65536\nworkers = 1\n";
    let daemon = site.start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..20_000_u32 {
        let mut junk = [0x11; 256];
        junk[8..12].copy_from_slice(&number.to_le_bytes());
        socket.send_to(&junk, daemon.address).unwrap();
        if number % 300 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let begin = Instant::now();
    daemon.signal(Signal::SIGTERM);
    daemon.wait_count("the first to be heard", 1, |line| line.contains("code=stopping"));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().status.code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn a_trickle_of_datagrams_does_not_hold_the_summary_back() {
    let mut site = Site::new().with_run();
    site.tables += "[log]\nsummary = \"10s\"\n";
    let daemon = site.start();
    until("a summary", || {
        daemon.send(&[1; 256]);
        std::thread::sleep(Duration::from_millis(200));
        daemon.log().iter().any(|line| line.contains("code=summary") && line.contains(" seen=")).then_some(())
    });
    daemon.stop();
}

#[test]
fn captured_knocks_replayed_after_a_restart_lock_nobody_out() {
    let mut site = Site::new().with_run();
    site.tables += "[limits]\nuser_rate = 1\nuser_burst = 5\n";
    let daemon = site.start();
    let captured: Vec<_> = (0..5).map(|_| site.datagram()).collect();
    captured.iter().for_each(|datagram| daemon.send(datagram));
    until("all to run", || (site.runs() == 5).then_some(()));
    daemon.kill();

    let daemon = site.start();
    for (number, datagram) in captured.iter().enumerate() {
        daemon.send(datagram);
        daemon.wait_count("the refusal", number + 1, |line| line.contains("code=replay"));
    }
    (0..5).for_each(|_| daemon.send(&site.datagram()));
    until("the sender's own knocks", || (site.runs() == 10).then_some(()));
    assert_eq!(daemon.stop().count("rate"), 0);
}

#[test]
fn a_limit_on_file_sizes_refuses_knocks_and_does_not_end_the_daemon() {
    let mut site = Site::new().with_run();
    site.tables += "[limits]\nuser_burst = 1000\n";
    let mut daemon = site.start_with(|command| by(command, &["prlimit", "--fsize=50000", "--"]));
    until("the limit", || {
        daemon.send(&site.datagram());
        daemon.log().iter().any(|line| line.contains("code=store-failing")).then_some(())
    });
    daemon.wait("a refusal", |line| line.contains("code=store-failed"));
    daemon.signal(Signal::SIGTERM);
    daemon.ended().assert_balanced();
}

#[test]
fn sixty_scripts_that_print_nothing_but_newlines_delay_no_knock() {
    let mut site = Site::new().with_run();
    let keys = "max_output = \"1MiB\"\nmax_running = 60\ntimeout = \"10s\"\ngrace = \"0s\"";
    site.action_with("flood", 2, "yes ''", keys);
    site.tables = site.tables.replace("[\"run\"]", "[\"run\", \"flood\"]");
    site.tables += "[limits]\nuser_burst = 1000\n";
    let daemon = site.start();
    for _ in 0..60 {
        daemon.send(&site.sealed(&knock(2, b""), Binding::None));
    }
    daemon.wait_count("the floods", 60, |line| line.contains("action=flood from="));
    for number in 1..=5 {
        let begin = Instant::now();
        daemon.send(&site.datagram());
        until("the knock", || (site.runs() == number).then_some(()));
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    daemon.kill();
}
