//! Signals: HUP swaps the configuration whole or keeps the old one, TERM and INT end in order. And how the daemon says
//! that it cannot start.

use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use crate::common::{Daemon, Site, field, knock, until};
use nix::sys::signal::Signal;
use siglatch::wire::Binding;

fn reloaded(daemon: &mut Daemon, site: &Site, code: &str) -> String {
    let before = daemon.log().len();
    site.write_config();
    daemon.signal(Signal::SIGHUP);
    until(code, || {
        let log = daemon.log();
        log[before..].iter().find(|line| line.contains(&format!("code={code}"))).cloned()
    })
}

#[test]
fn a_reload_takes_the_whole_new_configuration_and_forgets_no_nonce() {
    let mut site = Site::new().with_run();
    let mut daemon = site.start();
    let (ran, denied) = (knock(1, b""), knock(1, b""));
    let sealed = |knock| site.sealed(knock, Binding::None);
    let (datagram, [first, second]) = (sealed(&ran), [(); 2].map(|()| sealed(&denied)));
    let again = sealed(&ran);
    daemon.send(&datagram);
    daemon.wait("the knock", |line| line.contains("code=ran"));

    site.tables = site.tables.replace("actions = [\"run\"]", "actions = [\"run\"]\nenabled = false");
    reloaded(&mut daemon, &site, "reloaded");
    daemon.send(&first);
    daemon.wait("the denial", |line| line.contains("code=user-disabled"));

    site.tables = site.tables.replace("\nenabled = false", "");
    reloaded(&mut daemon, &site, "reloaded");
    daemon.send(&again);
    daemon.send(&second);
    daemon.wait_count("both to be refused", 2, |line| line.contains("code=replay"));
    daemon.send(&site.datagram());
    until("a new one", || (site.runs() == 2).then_some(()));
    daemon.stop();
}

#[test]
fn a_broken_configuration_is_refused_whole_and_says_where() {
    let mut site = Site::new().with_run();
    let mut daemon = site.start();
    let good = site.tables.clone();
    site.tables += "\n[users.bob]\nid = 1\nhmac_kye = \"bob.hmac\"\n";
    let line = reloaded(&mut daemon, &site, "reload-failed");
    assert!(line.contains("the old configuration stays"), "{line}");
    let problems: Vec<_> =
        daemon.log().into_iter().filter(|line| line.contains("code=config-problem")).collect();
    assert!(
        problems.iter().any(|line| line.contains("siglatchd.toml:") && line.contains("hmac_kye")),
        "{problems:?}"
    );
    daemon.send(&site.datagram());
    until("the old one serves", || (site.runs() == 1).then_some(()));

    site.tables = good + "\n[limits]\nworkers = 7\n";
    let line = reloaded(&mut daemon, &site, "reload-failed");
    assert!(line.contains("limits.workers"), "{line}");
    daemon.stop();
}

#[test]
fn a_running_script_survives_a_reload_that_removes_it() {
    let mut site = Site::new();
    let (begun, go, done) = (site.path("begun"), site.path("go"), site.path("done"));
    let script = format!(
        "echo > {}; until [ -e {} ]; do sleep 0.05; done; echo > {}",
        begun.display(),
        go.display(),
        done.display()
    );
    site.action("slow", 1, &script).user("alice", 1, &["slow"], "");
    let mut daemon = site.start();
    daemon.send(&site.datagram());
    until("its begin", || begun.exists().then_some(()));
    site.tables.clear();
    reloaded(&mut daemon, &site, "reloaded");
    fs::write(go, "").unwrap();
    let line = daemon.wait("its end", |line| line.contains("code=finished"));
    assert_eq!(field(&line, "rc").unwrap(), "0");
    assert!(done.exists());
    daemon.stop();
}

#[test]
fn term_and_int_wait_for_the_running_script_and_tell_the_counts() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut site = Site::new();
        let done = site.path("done");
        site.action("slow", 1, &format!("echo begun; sleep 0.5; echo > {}", done.display()));
        site.user("alice", 1, &["slow"], "");
        let mut daemon = site.start();
        daemon.send(&site.datagram());
        daemon.wait("its begin", |line| line.contains("text=begun"));
        daemon.signal(signal);
        daemon.wait("the stop", |line| line.contains("code=stopping"));
        let stopped = daemon.ended();
        assert_eq!(stopped.status.code(), Some(0));
        assert!(done.exists(), "the script came to its end");
        assert!(stopped.log.last().unwrap().contains("code=stopped"));
        stopped.assert_balanced();
    }
}

#[test]
fn a_script_that_ignores_term_does_not_hold_the_stop_up() {
    let mut site = Site::new();
    site.action_with("stuck", 1, "trap '' TERM; echo begun; sleep 100", "timeout = \"1s\"\ngrace = \"1s\"");
    site.user("alice", 1, &["stuck"], "");
    let mut daemon = site.start();
    daemon.send(&site.datagram());
    daemon.wait("its begin", |line| line.contains("text=begun"));
    let stopped = daemon.stop();
    assert!(stopped.log.iter().any(|line| line.contains("signal=9")), "{:?}", stopped.log);
}

#[test]
fn a_second_signal_waits_for_nothing() {
    let mut site = Site::new();
    let pid = site.path("pid");
    site.action("long", 1, &format!("echo $$ > {}; echo begun; sleep 100", pid.display()));
    site.user("alice", 1, &["long"], "");
    let mut daemon = site.start();
    daemon.send(&site.datagram());
    daemon.wait("its begin", |line| line.contains("text=begun"));
    daemon.signal(Signal::SIGTERM);
    daemon.wait("the stop", |line| line.contains("code=stopping"));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().status.code(), Some(0));
    let script = fs::read_to_string(pid).unwrap();
    until("the script's end", || (!fs::exists(format!("/proc/{}", script.trim())).unwrap()).then_some(()));
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_knock() {
    let mut site = Site::new().with_run();
    site.action_with("loud", 2, "yes 0123456789 | head -c 900000", "max_output = \"1MiB\"");
    site.tables = site.tables.replace("actions = [\"run\"]", "actions = [\"run\", \"loud\"]");
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.top = site.top.replace("127.0.0.1:0", &free.to_string());
    let mut child = Command::new(env!("CARGO_BIN_EXE_siglatchd"))
        .arg("--config")
        .arg(site.write_config())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |action| {
        let datagram = site.sealed(&knock(action, b""), Binding::None);
        socket.send_to(&datagram, free).unwrap();
    };
    until("the first knock", || {
        send(1);
        std::thread::sleep(Duration::from_millis(200));
        (site.runs() > 0).then_some(())
    });
    (0..4).for_each(|_| send(2));
    std::thread::sleep(Duration::from_millis(1500));
    let before = site.runs();
    send(1);
    until("a knock while the log is stuck", || (site.runs() > before).then_some(()));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM)
        .unwrap();
    let status = until("the end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_crash_leaves_no_core_with_the_keys() {
    let site = Site::new().with_run();
    let dumps = |command: &str| {
        use std::os::unix::process::ExitStatusExt as _;
        let mut shell = Command::new("sh");
        shell.current_dir(site.dir.path()).args(["-c", &format!("ulimit -c unlimited; {command}")]);
        shell.status().unwrap().core_dumped()
    };
    if !dumps("kill -QUIT $$") {
        // Without this the test would prove nothing.
        return println!("this machine writes no core dumps at all");
    }
    let daemon = site.start_with(|command| {
        let siglatchd = format!("ulimit -c unlimited; exec {} --config $0", env!("CARGO_BIN_EXE_siglatchd"));
        let config = site.path("siglatchd.toml");
        *command = Command::new("sh");
        command.arg("-c").arg(siglatchd).arg(config).stderr(std::process::Stdio::piped());
    });
    daemon.signal(Signal::SIGQUIT);
    use std::os::unix::process::ExitStatusExt as _;
    let status = daemon.ended().status;
    assert!(status.signal().is_some() && !status.core_dumped(), "{status:?}");
}

#[test]
fn a_second_daemon_on_the_port_says_who_to_ask() {
    let mut site = Site::new().with_run();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    site.top = site.top.replace("127.0.0.1:0", &taken.local_addr().unwrap().to_string());
    let ended = site.spawn(|_| {}).ended();
    assert_eq!(ended.status.code(), Some(75));
    assert!(
        ended.log[0].contains("cannot listen on 127.0.0.1:") && ended.log[0].contains("ss -ulpn"),
        "{:?}",
        ended.log
    );
}

#[test]
fn a_second_daemon_on_the_store_is_refused() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let second = site.spawn(|_| {}).ended();
    assert_eq!(second.status.code(), Some(75), "{:?}", second.log);
    daemon.stop();
}

#[test]
fn json_lines_are_json_with_the_same_fields() {
    let mut site = Site::new().with_run();
    site.tables += "\n[log]\nformat = \"json\"\n";
    let daemon = site.spawn(|_| {});
    until("ready", || daemon.log().iter().any(|line| line.contains("\"ready\"")).then_some(()));
    daemon.signal(Signal::SIGTERM);
    let stopped = daemon.ended();
    for line in &stopped.log {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["time"].is_string() && line["level"].is_string() && line["code"].is_string(), "{line}");
    }
    let last: serde_json::Value = serde_json::from_str(stopped.log.last().unwrap()).unwrap();
    assert_eq!((last["code"].as_str(), last["received"].as_u64()), (Some("stopped"), Some(0)));
}

#[test]
fn the_level_comes_from_the_configuration_and_rust_log_overrides_it() {
    let mut site = Site::new().with_run();
    site.tables += "\n[log]\nlevel = \"error\"\n";
    let daemon = site.spawn(|_| {});
    // It says nothing, not even that it is ready: it is when its signals work.
    std::thread::sleep(Duration::from_millis(500));
    daemon.signal(Signal::SIGTERM);
    let ended = daemon.ended();
    assert_eq!((ended.status.code(), ended.log.len()), (Some(0), 0), "{:?}", ended.log);
    let loud = site.start_with(|command| {
        command.env("RUST_LOG", "siglatch=info");
    });
    loud.stop();
}

#[test]
fn the_command_line_says_what_it_wants() {
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_siglatchd")).args(args).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    let (code, help) = run(&["--help"]);
    assert_eq!(code, 0);
    for word in ["--config", "--check", "HUP", "RUST_LOG"] {
        assert!(help.contains(word), "{word} is missing:\n{help}");
    }
    assert_eq!(run(&["--version"]), (0, format!("siglatchd {}\n", env!("CARGO_PKG_VERSION"))));
    assert_eq!(run(&["--chekc"]).0, 64);
    let (code, said) = run(&["--config", "/nonexistent/siglatchd.toml"]);
    assert!(code == 78 && said.contains("/nonexistent/siglatchd.toml"), "{code}: {said}");

    let site = Site::new().with_run();
    let config = site.write_config();
    let (code, said) = run(&["--check", "--config", config.to_str().unwrap()]);
    assert!(code == 0 && said.contains("is good: users: 1, actions: 1"), "{code}: {said}");
    site.file("alice.hmac", site.hmac.to_hex().as_bytes(), 0o644);
    let (code, said) = run(&["--check", "--config", config.to_str().unwrap()]);
    assert!(code == 78 && said.contains("chmod 600"), "{code}: {said}");
}

#[test]
fn each_family_is_served_and_the_v4_of_a_dual_stack_socket_is_v4() {
    let mut site = Site::new().with_run();
    site.top = site.top.replace("[\"127.0.0.1:0\"]", "[\"[::]:0\"]");
    site.top += "allow_from = [\"127.0.0.0/8\", \"::1\"]\n";
    let mut daemon = site.start();
    for (from, to) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
        daemon.address.set_ip(to.parse().unwrap());
        let socket = UdpSocket::bind(from).unwrap();
        let source = socket.local_addr().unwrap();
        let datagram = site.sealed(&knock(1, b""), Binding::Source(site.server_id, source.ip()));
        socket.send_to(&datagram, daemon.address).unwrap();
        let line =
            daemon.wait(to, |line| line.contains("code=ran") && line.contains(&format!("from={source}")));
        assert_eq!(field(&line, "bound").unwrap(), "source");
    }
    daemon.stop();
}
