//! What `siglatch` makes of answers, and of none: words, exit codes, copies of what got lost.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::DirBuilderExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use siglatch::wire::invite::{Action, Answers, Asks, Host, Name, Opens};
use siglatch::wire::receipt::{Receipt, Status};
use siglatch::wire::stamp::Postage;
use siglatch::wire::{ActionId, Invite, KnockId, UserId};

use crate::common::{Daemon, Site, field, skipped, unix};

/// How `siglatch` ended, and what it said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    /// Its last line on standard output.
    fn last(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }
}

/// Alice may run what `tables` has; stamped knocks are answered.
fn site(actions: &[(&str, u8, &str, &str)]) -> Site {
    let mut site = Site::new();
    site.top += "reply = \"receipt\"\n";
    for (name, id, script, keys) in actions {
        site.action_with(name, *id, script, keys);
    }
    let names: Vec<&str> =
        actions.iter().map(|(name, ..)| *name).filter(|name| *name != "forbidden").collect();
    site.user("alice", 1, &names, "");
    site
}

/// The profile `office`, for this port, with these actions.
fn joined(site: &Site, to: SocketAddr, actions: &[(&str, u8, Opens)]) {
    let host = if to.ip().is_unspecified() { "two.example".to_owned() } else { to.ip().to_string() };
    let action = |(name, id, opens): &(&str, u8, Opens)| {
        let id = ActionId::new(*id).unwrap();
        (Name::parse(name).unwrap(), Action { id, opens: *opens, asks: Asks::Nothing })
    };
    let invite = Invite {
        name: Name::parse("office").unwrap(),
        host: Host::parse(&host).unwrap(),
        port: to.port(),
        server_id: Some(site.server_id),
        postage: Postage::Stamped,
        answers: Answers::Receipt,
        user: Name::parse("alice").unwrap(),
        user_id: UserId(1),
        hmac_key: site.hmac.clone(),
        server_key: site.key.public().clone(),
        key_action: None,
        addresses: Vec::new(),
        enrol: None,
        actions: actions.iter().map(action).collect::<BTreeMap<_, _>>(),
    };
    let folder = site.path("home/.config/siglatch");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
    site.file("home/.config/siglatch/office.toml", invite.to_toml().unwrap().as_bytes(), 0o600);
}

fn siglatch(site: &Site, args: &[&str]) -> Said {
    siglatch_with(site, args, |_| {})
}

fn siglatch_with(site: &Site, args: &[&str], adjust: impl FnOnce(&mut Command)) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siglatch"));
    adjust(&mut command);
    said(&mut command, site, args)
}

/// Where `two.example` has an address of each family. `None`: only root can have it so.
fn siglatch_of_both(site: &Site, args: &[&str]) -> Option<Said> {
    if !nix::unistd::geteuid().is_root() {
        skipped("names of our own take root");
        return None;
    }
    let hosts = site.file("hosts", b"127.0.0.1 two.example\n::1 two.example\n", 0o644);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]).arg(hosts);
    Some(said(command.arg(env!("CARGO_BIN_EXE_siglatch")), site, args))
}

fn said(command: &mut Command, site: &Site, args: &[&str]) -> Said {
    command.args(args).env("HOME", site.path("home")).env_remove("XDG_CONFIG_HOME").stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn started(site: &Site, actions: &[(&str, u8, Opens)]) -> Daemon {
    let daemon = site.start();
    joined(site, daemon.address, actions);
    daemon
}

const RUN: &[(&str, u8, Opens)] = &[("run", 1, Opens::Nothing)];

#[test]
fn each_answer_has_words_and_an_exit_code_of_its_own() {
    let site = site(&[
        ("run", 1, "exit 0", ""),
        ("fail", 2, "exit 3", ""),
        ("slow", 3, "sleep 5", "max_running = 1"),
        ("seldom", 4, "exit 0", "cooldown = \"1h\""),
        ("forbidden", 5, "exit 0", ""),
    ]);
    let daemon = started(&site, RUN);
    let to = daemon.address;
    let said = siglatch(&site, &["knock", "--wait", "20s", "office", "run"]);
    let sent = format!("knocked office: run (1) as alice (1) to {to}, bound to the server, stamped\n");
    assert_eq!((said.code, said.out), (0, format!("{sent}run done, seen from 127.0.0.1\n")));
    assert_eq!(said.err.lines().filter(|line| !line.contains("not synchronized")).count(), 0, "{}", said.err);

    assert_eq!(siglatch(&site, &["knock", "--wait", "20s", "office", "4"]).code, 0);
    let slow = siglatch(&site, &["knock", "office", "3"]);
    assert_eq!((slow.code, slow.last()), (2, "3 still running, seen from 127.0.0.1"));
    let cases = [
        ("2", 1, "error: 2 failed: rc=3; seen from 127.0.0.1"),
        ("3", 75, "error: 3 refused: busy: `max_running`"),
        ("4", 4, "error: 4 refused: cooldown: sooner than `cooldown`"),
        ("5", 77, "error: 5 refused: not-permitted: "),
    ];
    for (action, code, message) in cases {
        let said = siglatch(&site, &["knock", "--wait", "20s", "office", action]);
        assert!(said.code == code && said.err.contains(message), "{action}: {said:?}");
        assert!(said.err.contains("; seen from 127.0.0.1"), "{said:?}");
        let quiet = siglatch(&site, &["knock", "-q", "--wait", "20s", "office", action]);
        assert_eq!((quiet.code, quiet.out.as_str()), (code, ""), "{action}");
    }
    let quota = siglatch(&site, &["knock", "--wait", "20s", "office", "4"]).err;
    assert!(quota.contains("; next in 59m") && quota.contains(", at 20"), "{quota}");
    daemon.stop();
}

#[test]
fn the_answer_is_waited_for_as_long_as_is_asked_or_not_at_all() {
    let site = site(&[("slow", 1, "sleep 3; exit 0", "")]);
    let daemon = started(&site, &[("slow", 1, Opens::Nothing)]);
    let said = siglatch(&site, &["knock", "office", "slow", "--wait", "20s"]);
    assert_eq!((said.code, said.last()), (0, "slow done, seen from 127.0.0.1"));
    let said = siglatch(&site, &["knock", "office", "slow", "--wait", "0"]);
    assert_eq!((said.code, said.out.lines().count()), (0, 1), "{said:?}");
    for (args, message) in [
        (&["--wait", "2m"][..], "no time up to 1m"),
        (&["--wait", "1s", "--no-stamp"], "there is no receipt for a plain knock"),
        (&["--json", "--quiet"], "cannot be used with"),
    ] {
        let said = siglatch(&site, &[&["knock", "office", "slow"], args].concat());
        assert!(said.code == 64 && said.err.contains(message), "{said:?}");
    }
    daemon.stop();
}

#[test]
fn no_answer_names_what_to_look_at_its_own_clock_first_after_the_same_bytes_came_again() {
    let site = site(&[("run", 1, "exit 0", "")]);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = silent.local_addr().unwrap();
    joined(&site, to, RUN);
    let begun = Instant::now();
    let said = siglatch(&site, &["knock", "office", "run", "--wait", "1s500ms"]);
    assert!(begun.elapsed() >= Duration::from_millis(1500));
    assert!(
        said.code == 3 && said.err.contains(&format!("error: no answer from {to} in 1s500ms\n")),
        "{said:?}"
    );
    let hint = said.err.split_once(" hint: ").unwrap().1;
    assert!(hint.starts_with("look at this machine's clock first, which says "), "{hint}");
    silent.set_nonblocking(true).unwrap();
    let mut buffer = [0; 512];
    let mut heard = Vec::new();
    while let Ok(len) = silent.recv(&mut buffer) {
        heard.push(buffer[..len].to_vec());
    }
    assert_eq!(heard.len(), 3, "after 0, 300 and 900 ms");
    assert!(heard.iter().all(|datagram| *datagram == heard[0]));

    drop(silent);
    let said = siglatch(&site, &["knock", "office", "run", "--wait", "500ms"]);
    assert!(said.code == 3 && said.err.contains("500ms, and nothing listens on that port\n"), "{said:?}");
}

#[test]
fn what_anybody_else_says_is_no_answer() {
    let site = site(&[("run", 1, "exit 0", "")]);
    let hostile = UdpSocket::bind("127.0.0.1:0").unwrap();
    joined(&site, hostile.local_addr().unwrap(), RUN);
    let receipt = Receipt {
        status: Status::Done,
        knock: KnockId([1; 8]),
        server_time: unix(),
        lease_seconds: 0,
        source: [127, 0, 0, 1].into(),
        text: Vec::new(),
    };
    // Well made with the user's key, for another knock; and noise of every length.
    let other = receipt.seal(&site.hmac, &[9; 32], [0; 12]);
    let stop = Arc::new(AtomicBool::new(false));
    let thread = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            hostile.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let mut from = None;
            while !stop.load(Ordering::Relaxed) {
                from = hostile.recv_from(&mut [0; 512]).ok().map(|(_, from)| from).or(from);
                for len in [0, 1, 4, 15, 16, 31, 32, 70, 286, 287, 1400] {
                    from.map(|from| hostile.send_to(&[b'S'; 1400][..len], from));
                }
                from.map(|from| hostile.send_to(&other, from));
            }
        }
    });
    let begun = Instant::now();
    let said = siglatch(&site, &["knock", "office", "run", "--wait", "1s"]);
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    assert!(said.code == 3 && said.err.contains("no answer from"), "{said:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "a flood of them holds nobody up");
}

/// Carries datagrams to the daemon and back, but for the first so many each way.
fn lossy(daemon: SocketAddr, mut lost_there: u32, mut lost_back: u32) -> SocketAddr {
    let (front, back) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    back.connect(daemon).unwrap();
    let address = front.local_addr().unwrap();
    for socket in [&front, &back] {
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    }
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let mut client = None;
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if let Ok((len, from)) = front.recv_from(&mut buffer) {
                client = Some(from);
                match lost_there.checked_sub(1) {
                    Some(left) => lost_there = left,
                    None => drop(back.send(&buffer[..len])),
                }
            }
            if let Ok(len) = back.recv(&mut buffer) {
                match lost_back.checked_sub(1) {
                    Some(left) => lost_back = left,
                    None => drop(front.send_to(&buffer[..len], client.unwrap())),
                }
            }
        }
    });
    address
}

#[test]
fn a_knock_that_is_lost_and_an_answer_that_is_lost_are_made_up_for_and_it_runs_once() {
    for (there, back) in [(1, 0), (0, 1), (1, 2)] {
        let mut site = Site::new().with_run();
        site.top += "reply = \"receipt\"\n";
        let daemon = site.start();
        joined(&site, lossy(daemon.address, there, back), RUN);
        let said = siglatch(&site, &["knock", "office", "run", "--wait", "15s"]);
        assert_eq!(
            (said.code, said.last()),
            (0, "run done, seen from 127.0.0.1"),
            "{there} {back}: {said:?}"
        );
        let stopped = daemon.stop();
        assert_eq!((site.runs(), stopped.count("ran")), (1, 1));
    }
}

#[test]
fn json_has_a_line_for_each_address_and_the_same_exit_codes() {
    let site = site(&[("run", 1, "exit 0", ""), ("fail", 2, "exit 9", "")]);
    let mut daemon = started(&site, RUN);
    let line = |said: &Said| -> serde_json::Value { serde_json::from_str(&said.out).unwrap() };
    let done = siglatch(&site, &["knock", "--json", "--wait", "20s", "office", "run"]);
    let json = line(&done);
    assert_eq!((done.code, json["status"].as_str()), (0, Some("done")));
    let ran = daemon.wait("the knock", |line| line.contains("code=ran"));
    assert_eq!(json["knock"].as_str(), Some(field(&ran, "knock").unwrap().as_str()));
    assert_eq!((json["profile"].as_str(), json["action"].as_u64()), (Some("office"), Some(1)));
    assert_eq!(json["to"].as_str(), Some(daemon.address.to_string().as_str()));
    assert_eq!((json["seen_from"].as_str(), json["lease_seconds"].as_u64()), (Some("127.0.0.1"), Some(0)));
    assert!(json["clock_ahead"].as_i64().unwrap().abs() < 5);

    let failed = siglatch(&site, &["knock", "--json", "--wait", "20s", "office", "2"]);
    assert_eq!((failed.code, line(&failed)["status"].as_str()), (1, Some("failed")));
    assert_eq!(line(&failed)["text"].as_str(), Some("rc=9"));
    assert!(!failed.err.contains("error"), "{}", failed.err);
    let sent = siglatch(&site, &["knock", "--json", "--wait", "0", "office", "run"]);
    assert_eq!((sent.code, line(&sent)["status"].as_str()), (0, Some("sent")));
    daemon.stop();
    let none = siglatch(&site, &["knock", "--json", "--wait", "300ms", "office", "run"]);
    assert_eq!((none.code, line(&none)["status"].as_str()), (3, Some("no-answer")));
    assert!(line(&none)["text"].is_null());
}

#[test]
fn whoami_says_address_time_and_what_one_may_do() {
    let mut site = site(&[("run", 1, "exit 0", "")]);
    site.tables += "\n[actions.me]\nid = 7\nbuiltin = \"whoami\"\n";
    site.tables = site.tables.replace("[\"run\"]", "[\"run\", \"me\"]");
    let daemon = started(&site, &[("run", 1, Opens::Nothing), ("whoami", 7, Opens::Nothing)]);
    let said = siglatch(&site, &["whoami", "--wait", "20s", "office"]);
    assert_eq!(said.code, 0, "{said:?}");
    let (first, second) = said.out.trim_end().split_once('\n').unwrap();
    assert!(first.starts_with("seen from 127.0.0.1, server time ") && first.ends_with(" UTC"), "{first}");
    assert_eq!(second, "alice (1) may knock for run (1), me (7)");
    let json: serde_json::Value =
        serde_json::from_str(&siglatch(&site, &["whoami", "--json", "--wait", "20s", "office"]).out).unwrap();
    assert_eq!(json["status"].as_str(), Some("done"));
    let none = siglatch(&site, &["whoami", "--wait", "20s", "office", "--action", "9"]);
    assert!(none.code == 77 && none.err.contains("action-unknown"), "{none:?}");
    let unnamed = siglatch(&site, &["whoami", "office", "--action", "nobody"]);
    assert!(
        unnamed.code == 64 && unnamed.err.contains("its actions are: run (1), whoami (7)"),
        "{unnamed:?}"
    );
    daemon.stop();
}

#[test]
fn a_door_is_knocked_by_both_families_and_both_answers_are_told() {
    if let Err(error) = UdpSocket::bind("[::1]:0") {
        return skipped(&format!("there is no IPv6 here: {error}"));
    }
    const DOOR: &[(&str, u8, Opens)] = &[("door", 1, Opens::Door)];
    let with = |listen: &str| {
        let mut site = Site::new().with_door("1h", "");
        site.top = site.top.replace("127.0.0.1:0", listen) + "reply = \"receipt\"\n";
        let daemon = site.start();
        joined(&site, SocketAddr::new([0; 4].into(), daemon.address.port()), DOOR);
        (site, daemon)
    };
    let (site, daemon) = with("[::]:0");
    let Some(said) = siglatch_of_both(&site, &["knock", "--wait", "20s", "office", "door", "--for", "10m"])
    else {
        return;
    };
    let open: Vec<_> =
        said.out.lines().filter(|line| line.starts_with("door open for 9m59s, seen from ")).collect();
    assert_eq!((said.code, open.len()), (0, 2), "{said:?}");
    assert!(open[0].ends_with(" 127.0.0.1") && open[1].ends_with(" ::1"), "{open:?}");
    for (expected, code) in [("released", 0), ("nothing to release", 0)] {
        let said = siglatch_of_both(&site, &["release", "office", "door"]).unwrap();
        let lines =
            said.out.lines().filter(|line| *line == "release done, seen from ::1" || *line == expected);
        assert_eq!((said.code, lines.count()), (code, 3), "{said:?}");
    }
    daemon.stop();

    // The other family is nobody's: one that opened is enough, and the other is not waited for.
    let begun = Instant::now();
    let (site, daemon) = with("127.0.0.1:0");
    let said = siglatch_of_both(&site, &["knock", "office", "door", "--wait", "20s"]).unwrap();
    assert!(
        said.code == 0 && said.last().starts_with("door open for 59m59s, seen from 127.0.0.1"),
        "{said:?}"
    );
    assert!(said.err.contains("warning: no answer from [::1]:"), "{said:?}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let said = siglatch_of_both(&site, &["knock", "office", "door", "--for", "4h"]).unwrap();
    let cut = said.out.contains(" (the server gives at most that), seen from 127.0.0.1");
    assert!(said.code == 0 && cut, "{said:?}");
    assert!(!said.err.contains("not synchronized"), "an answer proves the clock: {said:?}");
    daemon.stop();
}

#[test]
fn who_waits_for_a_door_hears_at_once_that_it_is_refused() {
    let site = site(&[("forbidden", 1, "exit 0", ""), ("broken", 2, "exit 7", "")]);
    let daemon = started(&site, &[("forbidden", 1, Opens::Door), ("broken", 2, Opens::Door)]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    for (action, code, message) in [
        ("forbidden", 77, "error: forbidden refused: not-permitted: "),
        ("broken", 1, "error: broken failed: rc=7"),
    ] {
        let begun = Instant::now();
        let args = ["wait", "office", action, "--port", &nobody, "--timeout", "30s", "-4"];
        let said = siglatch(&site, &args);
        assert!(said.code == code && said.err.contains(message), "{said:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "the door was waited for");
    }
    daemon.stop();
}

#[test]
fn a_clock_that_is_off_is_told() {
    let Some(library) = crate::time::library() else {
        return;
    };
    let site = site(&[("run", 1, "exit 0", "")]);
    let daemon = started(&site, RUN);
    for (offset, words) in
        [("-100s", "; this clock is 100 s behind the server's"), ("+99s", " s ahead of the server's")]
    {
        let said = siglatch_with(&site, &["knock", "--wait", "20s", "office", "run"], |command| {
            command
                .env("LD_PRELOAD", &library)
                .env("FAKETIME", offset)
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        });
        assert!(said.code == 0 && said.last().contains(words), "{said:?}");
    }
    daemon.stop();
}
