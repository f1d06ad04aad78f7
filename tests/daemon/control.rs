//! What administrators see of a running daemon, and what nobody else gets of it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use siglatch::control::sign::sign;
use siglatch::control::{Hello, Hex, Reply, Request, Signed, read, write};

use crate::common::{ADMIN_KEY, Daemon, Site, field, unix, until};

pub(crate) fn ctl(site: &Site, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
    command.args(args).arg("--config").arg(site.path("siglatchd.toml")).output().unwrap()
}

pub(crate) fn out(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn refused(output: &Output, code: i32, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(why), "{said}");
}

fn status(site: &Site) -> serde_json::Value {
    serde_json::from_str(&out(&ctl(site, &["status", "--json"]))).unwrap()
}

/// A connection as any program could make it.
struct Line {
    stream: BufReader<UnixStream>,
    hello: Hello,
}

impl Line {
    fn open(site: &Site) -> Line {
        let stream = UnixStream::connect(site.path("runtime/control.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        Line { stream, hello: read(line.as_bytes()).unwrap() }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    fn hear(&mut self) -> Option<Reply> {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap_or(0);
        (!line.is_empty()).then(|| read(line.as_bytes()).unwrap())
    }

    fn ask(&mut self, line: &[u8]) -> Option<Reply> {
        self.say(line);
        self.hear()
    }
}

fn key(seed: &str) -> SigningKey {
    let Hex(seed) = Hex::<32>::parse(seed).unwrap();
    SigningKey::from_bytes(&seed)
}

fn request(hello: &Hello, seed: &str, admin: &str, nonce: u8, at: u32) -> Vec<u8> {
    let signed = Signed {
        admin: admin.to_owned(),
        nonce: Hex([nonce; 16]),
        at: at.to_string(),
        request: Request::Status,
    };
    write(&sign(&signed, hello, &key(seed)).unwrap()).unwrap()
}

pub(crate) fn works(site: &Site, daemon: &Daemon) {
    let before = site.runs();
    daemon.send(&site.datagram());
    until("a knock", || (site.runs() > before).then_some(()));
}

#[test]
fn status_tells_what_came_and_what_became_of_it() {
    let site = Site::new().with_run();
    let daemon = site.start();
    works(&site, &daemon);
    daemon.send(&site.sealed(&crate::common::knock(9, b""), siglatch::wire::Binding::Server(site.server_id)));
    let ran = || status(&site)["counts"]["refused"]["action-unknown"] == 1;
    until("both", || ran().then_some(()));
    let seen = status(&site);
    assert_eq!((&seen["counts"]["received"], &seen["counts"]["ran"]), (&2.into(), &1.into()));
    let refused: u64 =
        seen["counts"]["refused"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(refused, 1, "{seen}");
    assert_eq!(seen["scripts"]["ended"]["run"]["succeeded"], 1);
    assert_eq!((&seen["phase"], &seen["listener"]["well"]), (&"serving".into(), &true.into()));
    assert_eq!(seen["listen"][0], daemon.address.to_string());
    assert_eq!(seen["lanes"]["plain"], serde_json::json!({"opened": 2, "waiting": 0, "short-for": null}));
    let latest: Vec<&str> =
        seen["latest"].as_array().unwrap().iter().map(|knock| knock["became"].as_str().unwrap()).collect();
    assert_eq!(latest, ["action-unknown", "ran"], "{seen}");
    assert_eq!(
        (&seen["latest"][1]["user"], &seen["latest"][1]["from"]),
        (&"alice".into(), &"127.0.0.1".into())
    );
    assert_eq!(seen["warnings"].as_array().unwrap().len(), 0, "{seen}");
    let screen = out(&ctl(&site, &["status"]));
    for part in [
        "up ",
        "2 received, 1 ran",
        "2 opened, 0 waiting",
        "action-unknown 1",
        "1 ended well",
        "1 users, 1 actions",
    ] {
        assert!(screen.contains(part), "{part}: {screen}");
    }
    assert!(screen.lines().count() <= 24 && screen.lines().all(|line| line.len() <= 120), "{screen}");
    let file = until("status.json", || {
        let text = fs::read(site.path("runtime/status.json")).ok()?;
        let file: serde_json::Value = serde_json::from_slice(&text).unwrap();
        (file["counts"]["ran"] == 1).then_some(file)
    });
    assert_eq!(file["counts"], seen["counts"]);
    let versions = out(&ctl(&site, &["version"]));
    assert_eq!(versions.lines().filter(|line| line.ends_with(env!("CARGO_PKG_VERSION"))).count(), 2);
    let stopped = daemon.stop();
    let totals =
        ["received", "ran", "action-unknown", "scripts-succeeded", "scripts-failed", "listener-restarts"];
    assert_eq!(totals.map(|name| stopped.count(name)), [2, 1, 1, 1, 0, 0]);
}

#[test]
fn what_is_set_is_in_force_at_once_and_saved_only_if_asked() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    works(&site, &daemon);
    let before = fs::read_to_string(site.path("siglatchd.toml")).unwrap();

    let tried = out(&ctl(&site, &["set", "users.alice.enabled", "false", "--dry-run"]));
    assert_eq!(tried, "users.alice.enabled = false: would be in force at once\n");
    works(&site, &daemon);

    let set = out(&ctl(&site, &["set", "users.alice.enabled", "false"]));
    assert!(set.contains("is in force until siglatchd ends"), "{set}");
    daemon.send(&site.datagram());
    daemon.wait("a refusal", |line| line.contains("code=user-disabled"));
    assert_eq!(fs::read_to_string(site.path("siglatchd.toml")).unwrap(), before);
    assert_eq!(out(&ctl(&site, &["diff"])), "in force, in no file:      users.alice.enabled = false\n");
    assert!(out(&ctl(&site, &["status"])).contains("WARNING        settings that no file has"));

    // A reload forgets none of it: an administrator would open again what another one has closed.
    assert_eq!(out(&ctl(&site, &["reload"])), "reloaded: users: 1, actions: 1\n");
    daemon.send(&site.datagram());
    daemon.wait_count("another", 2, |line| line.contains("code=user-disabled"));

    out(&ctl(&site, &["enable", "user", "alice"]));
    works(&site, &daemon);
    assert!(fs::read_to_string(site.path("siglatchd.toml")).unwrap().contains("enabled = true"));
    assert_eq!(out(&ctl(&site, &["diff"])), "the daemon runs as its files say\n");
    let acts = daemon.log().iter().filter(|line| field(line, "admin").as_deref() == Some("root")).count();
    assert_eq!(acts, 5, "set, set, reload, and enable, which sets and reloads: {:#?}", daemon.log());
    daemon.stop();
}

#[test]
fn what_cannot_be_set_says_why_and_changes_nothing() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let before = fs::read(site.path("siglatchd.toml")).unwrap();
    for (args, code, why) in [
        (&["set", "users.bob.enabled", "false", "--save"][..], 78, "there is no such user or action"),
        (&["set", "log.level", "loud", "--save"], 78, "`level` takes"),
        (&["set", "log.levl", "debug"], 64, "did you mean `log.level`?"),
        (&["set", "actions.run.run", "[\"/bin/sh\"]"], 64, "edit the file"),
        (&["set", "limits.user_rate", "0"], 78, "takes a whole number from 1"),
        (&["set", "listen", "[\"nonsense\"]"], 78, "no address with a port"),
        (&["ban", "nonsense"], 78, "neither an address nor a network"),
        (&["unban", "192.0.2.1"], 78, "is not banned"),
    ] {
        refused(&ctl(&site, args), code, why);
    }
    assert_eq!(fs::read(site.path("siglatchd.toml")).unwrap(), before);
    assert!(!site.path("state/pending.toml").exists());
    works(&site, &daemon);
    daemon.stop();
}

#[test]
fn a_banned_network_is_refused_until_it_is_not() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    out(&ctl(&site, &["ban", "127.0.0.0/8"]));
    daemon.send(&site.datagram());
    daemon.wait("a refusal", |line| line.contains("code=source"));
    assert!(
        fs::read_to_string(site.path("siglatchd.toml")).unwrap().contains("deny_from = [\"127.0.0.0/8\"]")
    );
    assert_eq!(status(&site)["config"]["banned"][0], "127.0.0.0/8");
    out(&ctl(&site, &["unban", "127.0.0.0/8"]));
    works(&site, &daemon);
    daemon.stop();
}

#[test]
fn a_file_of_settings_is_applied_whole_or_not_at_all() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let good = site.file("good.toml", b"[log]\nlevel = \"debug\"\n[users.alice]\nquota = \"1/day\"\n", 0o600);
    let bad = site.file("bad.toml", b"[users.alice]\nenabled = false\nquota = \"lots\"\n", 0o600);
    refused(&ctl(&site, &["apply", bad.to_str().unwrap()]), 78, "quota");
    works(&site, &daemon);
    let said = out(&ctl(&site, &["apply", good.to_str().unwrap()]));
    assert_eq!(said.lines().count(), 2, "{said}");
    daemon.stop();
}

#[test]
fn what_takes_a_restart_waits_for_it_and_is_rolled_back_if_it_cannot_be() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let said = out(&ctl(&site, &["set", "limits.workers", "1"]));
    assert_eq!(said, "limits.workers = 1: takes effect at the next start\n");
    assert_eq!(out(&ctl(&site, &["pending"])), "limits.workers = 1\n");
    daemon.stop();
    let config = fs::read_to_string(site.path("siglatchd.toml")).unwrap();

    let mut daemon = site.start();
    daemon.wait("pending-applied", |line| line.contains("code=pending-applied"));
    assert!(fs::read_to_string(site.path("siglatchd.toml")).unwrap().contains("workers = 1"));
    assert_eq!(fs::read_to_string(site.path("siglatchd.toml.before-pending")).unwrap(), config);
    assert_eq!(out(&ctl(&site, &["pending"])), "nothing waits for the next start\n");
    assert_eq!(out(&ctl(&site, &["reload"])), "reloaded: users: 1, actions: 1\n");

    // An address that is free when it is checked, and taken when it is needed.
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = format!("[\"{}\"]", taken.local_addr().unwrap());
    out(&ctl(&site, &["set", "listen", &listen]));
    daemon.stop();
    let mut daemon = site.start();
    let line = daemon.wait("rolled back", |line| line.contains("code=pending-rolled-back"));
    assert!(line.contains("cannot listen on"), "{line}");
    assert!(site.path("state/pending.failed.toml").exists());
    works(&site, &daemon);
    out(&ctl(&site, &["set", "limits.queue", "64"]));
    assert_eq!(out(&ctl(&site, &["pending", "--discard"])), "nothing waits for the next start\n");
    daemon.stop();
    assert!(!site.path("state/pending.toml").exists());
}

#[test]
fn only_an_enrolled_administrator_is_heard_for_this_server_now_and_once() {
    let mut site = Site::new().with_run();
    let other = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    let public = Hex(key(other).verifying_key().to_bytes());
    site.tables += &format!("[admins.carol]\npublic_key = \"{public}\"\nrole = \"viewer\"\n");
    let mut daemon = site.start();
    let says = |reply: Option<Reply>, wanted: &str| {
        let said = format!("{reply:?}");
        assert!(said.contains(wanted), "{said}");
    };
    let mut line = Line::open(&site);
    let good = request(&line.hello, ADMIN_KEY, "root", 1, unix());
    says(line.ask(&good), "Status");
    says(line.ask(&good), "Replayed");
    assert_eq!(line.hear(), None, "hung up");
    for (wanted, seed, admin, at) in [
        ("NotSigned", other, "root", unix()),
        ("NotSigned", ADMIN_KEY, "nobody", unix()),
        ("Stale(4", ADMIN_KEY, "root", unix() - 400),
        ("Stale(4", ADMIN_KEY, "root", unix() + 400),
        ("Status", other, "carol", unix()),
    ] {
        let mut line = Line::open(&site);
        let bytes = request(&line.hello, seed, admin, 2, at);
        says(line.ask(&bytes), wanted);
    }
    // Signed for another connection, and for another server.
    let (mut line, elsewhere) = (Line::open(&site), Line::open(&site));
    let bytes = request(&elsewhere.hello, ADMIN_KEY, "root", 3, unix());
    says(line.ask(&bytes), "NotSigned");
    let mut line = Line::open(&site);
    let hello = Hello { server_id: Hex([8; 16]), ..line.hello.clone() };
    says(line.ask(&request(&hello, ADMIN_KEY, "root", 4, unix())), "NotSigned");

    site.file("carol.key", other.as_bytes(), 0o600);
    let carol = ["--admin-key", site.path("carol.key").to_str().unwrap()].map(str::to_owned);
    let as_carol = |args: &[&str]| ctl(&site, &[args, &[&carol[0], &carol[1]]].concat());
    out(&as_carol(&["status"]));
    for args in
        [&["reload"][..], &["revoke", "--all"], &["set", "log.level", "debug"], &["disable", "user", "alice"]]
    {
        refused(&as_carol(args), 77, "you have \"viewer\"");
    }
    refused(&ctl(&site, &["status", "--admin-key", site.path("new.key").to_str().unwrap()]), 77, "enrol it");
    daemon.wait_count("nothing", 0, |_| false);
    works(&site, &daemon);
    daemon.wait("a knock", |line| line.contains("code=ran"));
    daemon.stop();
}

#[test]
fn lines_that_are_too_long_half_or_never_end_hold_nobody_up() {
    let site = Site::new().with_run();
    let daemon = site.start();
    for bad in [&b"\n"[..], b"{}\n", b"\xff\xfe\n", b"[[[[[[\n", b"{\"signed\":1,\"signature\":\"\"}\n"] {
        let mut line = Line::open(&site);
        line.say(bad);
        let said = format!("{:?}", line.hear());
        assert!(said.contains("Malformed") || said.contains("NotSigned"), "{said}");
        assert_eq!(line.hear(), None);
    }
    let mut line = Line::open(&site);
    line.stream.get_mut().set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    drop(line.stream.get_mut().write_all(&vec![b'a'; 1 << 20]));
    assert!(format!("{:?}", line.hear()).contains("at most 65536 bytes"));

    // Idle ones, half lines, and those who ask and do not read.
    let mut idle: Vec<Line> = Vec::new();
    for number in 0..200 {
        let Ok(stream) = UnixStream::connect(site.path("runtime/control.sock")) else { continue };
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut stream = BufReader::new(stream);
        let mut hello = String::new();
        if stream.read_line(&mut hello).is_err() || hello.is_empty() {
            continue;
        }
        let mut line = Line { stream, hello: read(hello.as_bytes()).unwrap() };
        if number % 3 == 0 {
            drop(line.stream.get_mut().write_all(b"{\"signed\":"));
        }
        if number % 3 == 1 {
            for nonce in 0..20 {
                let bytes = request(&line.hello, ADMIN_KEY, "root", nonce, unix());
                drop(line.stream.get_mut().write_all(&bytes));
            }
        }
        idle.push(line);
    }
    assert_eq!(idle.len(), 200, "each was greeted");
    let began = Instant::now();
    works(&site, &daemon);
    assert_eq!(status(&site)["counts"]["ran"], 1);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // Idle connections end.
    let mut last = idle.pop().unwrap();
    assert!(last.stream.read_to_end(&mut Vec::new()).is_ok() || last.hear().is_none());
    daemon.stop();
}

#[test]
fn the_socket_is_closed_to_others_and_a_second_daemon_is_refused() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let mode = |name: &str| fs::metadata(site.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("runtime"), mode("runtime/control.sock")), (0o700, 0o600));
    let other = Site::new().with_run();
    let (runtime, top) = (site.path("runtime"), other.top.clone());
    let mut other = other;
    other.top = top.replace("runtime_dir = \"runtime\"", &format!("runtime_dir = {runtime:?}"));
    let stopped = other.spawn(|_| {}).ended();
    assert!(
        stopped.log.iter().any(|line| line.contains("another siglatchd answers there")),
        "{:#?}",
        stopped.log
    );
    works(&site, &daemon);
    daemon.kill();
    // The socket of a dead daemon is in nobody's way.
    let daemon = site.start();
    assert_eq!(status(&site)["phase"], "serving");
    daemon.stop();
    assert!(!site.path("runtime/control.sock").exists());
    // A folder that others can enter is not used.
    fs::set_permissions(site.path("runtime"), fs::Permissions::from_mode(0o755)).unwrap();
    let stopped = site.spawn(|_| {}).ended();
    assert!(stopped.log.iter().any(|line| line.contains("is not a folder of uid")), "{:#?}", stopped.log);
}

#[test]
fn over_tcp_a_token_is_asked_for_before_anything_is_said() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut site = Site::new().with_run();
    let token = "0123456789abcdef0123456789abcdef";
    site.file("control.token", token.as_bytes(), 0o600);
    site.tables += &format!("[control]\nlisten = \"127.0.0.1:{port}\"\ntoken = \"control.token\"\n");
    let daemon = site.start();
    let (address, file) = (format!("127.0.0.1:{port}"), site.path("control.token"));
    let asked = ctl(&site, &["status", "--tcp", &address, "--token", file.to_str().unwrap()]);
    assert!(out(&asked).contains("listening"));
    let wrong = site.file("wrong.token", "x".repeat(32).as_bytes(), 0o600);
    refused(
        &ctl(&site, &["status", "--tcp", &address, "--token", wrong.to_str().unwrap()]),
        75,
        "another token",
    );
    for bad in ["{\"token\":\"\"}\n", "GET / HTTP/1.1\r\n\r\n", "\n"] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(bad.as_bytes()).unwrap();
        let mut said = Vec::new();
        drop(stream.read_to_end(&mut said));
        assert_eq!(said, b"", "nothing is said to {bad:?}");
    }
    daemon.stop();
}

#[test]
fn a_knock_can_be_tried_and_a_datagram_explained_and_nothing_runs() {
    let mut site = Site::new().with_run();
    site.action("other", 2, "exit 0");
    site.tables = site.tables.replace("[users.alice]", "[users.alice]\nallow_from = [\"192.0.2.0/24\"]");
    let daemon = site.start();
    let tried = out(&ctl(&site, &["test-knock", "alice", "run", "--from", "192.0.2.7"]));
    assert!(tried.contains("of alice for action 1") && tried.contains("bound to source, stamped"), "{tried}");
    assert!(tried.contains("it would run"), "{tried}");
    for (args, code, why) in [
        (&["test-knock", "alice", "run"][..], 77, "source: "),
        (&["test-knock", "alice", "other", "--from", "192.0.2.7"], 77, "not-permitted: "),
        (&["test-knock", "alice", "9", "--from", "192.0.2.7"], 77, "action-unknown: "),
        (&["test-knock", "alice", "nothing"], 78, "there is no action `nothing`"),
        (&["test-knock", "bob", "run"], 78, "there is no user `bob`"),
    ] {
        refused(&ctl(&site, args), code, why);
    }

    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let explain =
        |bytes: &[u8], from: &str| ctl(&site, &["explain", "--datagram", &hex(bytes), "--from", from]);
    let good = site.datagram();
    let said = out(&explain(&good, "192.0.2.7"));
    assert!(said.contains("bound to server, plain") && said.contains("it would run"), "{said}");
    refused(&explain(&good, "198.51.100.1"), 77, "source: ");
    let knock = crate::common::knock(1, b"");
    let stamped = site.stamped(&knock, siglatch::wire::Binding::Server(site.server_id));
    assert!(out(&explain(&stamped, "192.0.2.7")).contains("stamped"));
    let flipped = |at: usize| {
        let mut bad = stamped.clone();
        bad[at] ^= 1;
        bad
    };
    let high = [&[0xff; 4][..], &good[4..]].concat();
    // Before the HMAC nothing finer than "not authentic" is known, for the administrator, too.
    let cases = [
        (flipped(100)[..256].to_vec(), "not-authentic: "),
        (flipped(255)[..256].to_vec(), "not-authentic: "),
        (flipped(258), "not-authentic: "),
        (flipped(270), "not-authentic: "),
        (flipped(287), "not-authentic: "),
        (good[..255].to_vec(), "not-authentic: "),
        (high, "not-authentic: "),
        (Vec::new(), "not-authentic: "),
    ];
    for (bytes, why) in cases {
        refused(&explain(&bytes, "192.0.2.7"), 77, why);
    }
    refused(&ctl(&site, &["explain", "--datagram", "xyz"]), 78, "hex digits");
    assert_eq!((site.runs(), status(&site)["counts"]["received"].clone()), (0, 0.into()));
    daemon.stop();
}

#[test]
fn who_asks_without_end_holds_up_no_knock() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let mut line = Line::open(&site);
    let asked: Vec<u8> =
        (0..=255).flat_map(|nonce| request(&line.hello, ADMIN_KEY, "root", nonce, unix())).collect();
    let mut reader = line.stream.get_ref().try_clone().unwrap();
    let replies = std::thread::spawn(move || {
        let mut said = String::new();
        drop(reader.read_to_string(&mut said));
        said.matches("{\"status\":").count()
    });
    line.say(&asked);
    works(&site, &daemon);
    line.stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(replies.join().unwrap(), 256);
    daemon.stop();
}
