//! What a knock is answered with, by whom, how often; and who is not answered.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use rsa::pkcs8::DecodePrivateKey as _;
use rsa::{Pkcs1v15Encrypt, RsaPrivateKey};
use siglatch::wire::options::{Options, Release};
use siglatch::wire::receipt::Status;
use siglatch::wire::{Binding, Bound, Knock, Packet, Receipt, ServerId, UserId, mac};

use crate::common::{Daemon, Site, field, knock, recorded, skipped, unix};

/// A knock that was sent, and the socket at which its answer arrives.
struct Sent {
    socket: UdpSocket,
    datagram: Vec<u8>,
    hmac: [u8; 32],
}

impl Sent {
    fn again(&self) {
        self.socket.send(&self.datagram).unwrap();
    }

    fn bytes(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let len = self.socket.recv(&mut buffer).expect("an answer");
        assert!(len <= self.datagram.len(), "{len} bytes for {}", self.datagram.len());
        buffer[..len].to_vec()
    }

    fn receipt(&self, site: &Site) -> Receipt {
        Receipt::open(&self.bytes(), &site.hmac, &self.hmac).expect("a receipt for this knock")
    }

    /// Nothing (more) came, and by now it would have.
    fn assert_silent(&self) {
        self.socket.set_nonblocking(true).unwrap();
        let heard = self.socket.recv(&mut [0; 2048]);
        assert_eq!(heard.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
        self.socket.set_nonblocking(false).unwrap();
    }
}

fn socket(from: &str, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn send(site: &Site, knock: &Knock<'_>, socket: UdpSocket, datagram: Vec<u8>) -> Sent {
    let plain = knock.encode(&site.hmac, Binding::Server(site.server_id)).unwrap();
    let sent = Sent { socket, datagram, hmac: plain[12..44].try_into().unwrap() };
    sent.again();
    sent
}

/// Sends alice's knock with her stamp.
fn stamped(site: &Site, daemon: &Daemon, knock: &Knock<'_>) -> Sent {
    let datagram = site.stamped(knock, Binding::Server(site.server_id));
    send(site, knock, socket("127.0.0.1", daemon.address), datagram)
}

fn plain(site: &Site, daemon: &Daemon, knock: &Knock<'_>) -> Sent {
    let datagram = site.sealed(knock, Binding::Server(site.server_id));
    send(site, knock, socket("127.0.0.1", daemon.address), datagram)
}

/// Alice may run action 1, `script`; stamped knocks are answered.
fn site(script: &str) -> Site {
    let mut site = Site::new();
    site.top += "reply = \"receipt\"\n";
    site.action("run", 1, script).user("alice", 1, &["run"], "");
    site
}

#[test]
fn a_stamped_knock_is_answered_from_the_address_and_family_that_was_knocked() {
    if let Err(error) = UdpSocket::bind("[::1]:0") {
        return skipped(&format!("there is no IPv6 here: {error}"));
    }
    let cases = [
        ("0.0.0.0:0", "127.0.0.1", "127.0.0.53"),
        ("[::]:0", "127.0.0.2", "127.0.0.54"),
        ("[::]:0", "::1", "::1"),
        ("127.0.0.9:0", "127.0.0.1", "127.0.0.9"),
    ];
    for (listen, from, knocked) in cases {
        let mut site = site("exit 0");
        site.top = site.top.replace("127.0.0.1:0", listen);
        let mut daemon = site.start();
        let knock = knock(1, b"");
        let datagram = site.stamped(&knock, Binding::Server(site.server_id));
        // Connected: what comes from another address, or another port, is not heard.
        let to = SocketAddr::new(knocked.parse().unwrap(), daemon.address.port());
        let receipt = send(&site, &knock, socket(from, to), datagram).receipt(&site);
        let ran = daemon.wait("the knock", |line| line.contains("code=ran"));
        assert_eq!(receipt.status, Status::Done, "{listen}");
        assert_eq!(receipt.knock.to_string(), field(&ran, "knock").unwrap());
        assert_eq!(receipt.source.to_string(), from);
        assert!(receipt.server_time.abs_diff(unix()) <= 5);
        assert_eq!((receipt.lease_seconds, &*receipt.words()), (0, ""));
        assert_eq!(daemon.stop().count("send-errors"), 0);
    }
}

#[test]
fn each_outcome_is_told_as_it_is() {
    let mut site = site("case \"$(cat)\" in slow) sleep 1;; fail) exit 3;; kill) kill -9 $$;; esac");
    site.tables =
        site.tables.replace("[actions.run]\n", "[actions.run]\nstdin = \"payload\"\nmax_payload = 9\n");
    site.action_with("one", 2, "sleep 3", "max_running = 1");
    site.action("gone", 3, "exit 0").action("other", 4, "exit 0");
    site.tables = site.tables.replace("[\"run\"]", "[\"run\", \"one\", \"gone\"]");
    let daemon = site.start();
    fs::remove_file(site.path("actions/gone")).unwrap();
    let cases: [(u8, &[u8], Status, &str); 7] = [
        (1, b"", Status::Done, ""),
        (1, b"fail", Status::Failed, "rc=3"),
        (1, b"kill", Status::Failed, "signal=9"),
        (1, b"0123456789", Status::Denied, "payload: "),
        (4, b"", Status::Denied, "not-permitted: "),
        (9, b"", Status::Denied, "action-unknown: "),
        (3, b"", Status::Failed, "start-failed: "),
    ];
    for (action, payload, status, text) in cases {
        let receipt = stamped(&site, &daemon, &knock(action, payload)).receipt(&site);
        assert_eq!(receipt.status, status, "{action} {payload:?}");
        assert!(
            receipt.words().starts_with(text) && receipt.text.is_empty() == text.is_empty(),
            "{receipt:?}"
        );
    }
    let slow = stamped(&site, &daemon, &knock(1, b"slow"));
    let first = stamped(&site, &daemon, &knock(2, b""));
    daemon.wait_count("the first", 1, |line| line.contains("code=ran") && line.contains("action=one"));
    let second = stamped(&site, &daemon, &knock(2, b""));
    assert_eq!(second.receipt(&site).status, Status::Busy);
    for sent in [slow, first] {
        assert_eq!(sent.receipt(&site).status, Status::Running);
        assert_eq!(sent.receipt(&site).status, Status::Done);
    }
    daemon.stop();
}

#[test]
fn five_copies_get_the_latest_receipt_and_nothing_runs_for_them() {
    let mut site = Site::new().with_run();
    site.top += "reply = \"receipt\"\n";
    let mut daemon = site.start();
    let sent = stamped(&site, &daemon, &knock(1, b""));
    let bytes = sent.bytes();
    let elsewhere = socket("127.0.0.1", daemon.address);
    elsewhere.send(&sent.datagram).unwrap();
    for _ in 0..8 {
        sent.again();
    }
    for _ in 0..5 {
        assert_eq!(sent.bytes(), bytes, "the same bytes, under the same nonce");
    }
    // What is answered last was read last.
    assert_eq!(stamped(&site, &daemon, &knock(1, b"")).receipt(&site).status, Status::Done);
    sent.assert_silent();
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.recv(&mut [0; 2048]).is_err(), "a copy from another port is answered");

    // Who has no memory of it knows of the claim, and answers no replay.
    let listener = daemon.listener();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(listener), nix::sys::signal::Signal::SIGKILL).unwrap();
    daemon.wait("another listener", |line| line.contains("code=listener-ready"));
    sent.again();
    daemon.wait("the replay", |line| line.contains("code=replay"));
    assert_eq!(stamped(&site, &daemon, &knock(1, b"")).receipt(&site).status, Status::Done);
    let stopped = daemon.stop();
    sent.assert_silent();
    assert_eq!((site.runs(), stopped.count("ran")), (3, 3));
}

#[test]
fn a_copy_that_comes_while_it_runs_is_told_so_and_then_how_it_ended() {
    let site = site("sleep 1; exit 4");
    let daemon = site.start();
    let sent = stamped(&site, &daemon, &knock(1, b""));
    assert_eq!(sent.receipt(&site).status, Status::Running);
    sent.again();
    assert_eq!(sent.receipt(&site).status, Status::Running);
    assert_eq!(sent.receipt(&site).status, Status::Failed);
    sent.again();
    assert_eq!(sent.receipt(&site).status, Status::Failed);
    assert_eq!(daemon.stop().count("ran"), 1);
}

#[test]
fn who_is_not_known_or_not_fresh_hears_nothing() {
    let mut site = site("exit 0");
    site.user("bob", 2, &["run"], "");
    let daemon = site.start();
    let now = unix();
    let here = Binding::Server(site.server_id);
    let send_as =
        |knock: &Knock<'_>, datagram| send(&site, knock, socket("127.0.0.1", daemon.address), datagram);
    let mut silent = Vec::new();
    // Stale by the packet, though not by its stamp.
    let stale = Knock { timestamp: now - 310, ..knock(1, b"") };
    silent.push(send_as(&stale, site.stamped(&stale, here)));
    // Of another server, and a stamp that was put on somebody else's knock.
    let knocked = knock(1, b"");
    silent.push(send_as(&knocked, site.stamped(&knocked, Binding::Server(ServerId([9; 16])))));
    let bobs = Knock { user: UserId(2), ..knock(1, b"") };
    let mut moved = site.stamped(&bobs, here);
    moved.truncate(256);
    let moved = site.stamp_as(moved, UserId(1), now);
    silent.push(send_as(&bobs, moved));
    // Plain: there is no public key to seal an answer with.
    silent.push(plain(&site, &daemon, &knock(1, b"")));
    let stopped = {
        assert_eq!(stamped(&site, &daemon, &knock(1, b"")).receipt(&site).status, Status::Done);
        daemon.stop()
    };
    silent.iter().for_each(Sent::assert_silent);
    assert_eq!(stopped.count("received"), 5, "{:?}", stopped.counts());
}

#[test]
fn users_have_the_last_word_on_answers_actions_the_one_before() {
    let cases = [
        ("never", "", "", None),
        ("receipt", "", "", Some("")),
        ("receipt+output", "", "", Some("one\ntwo")),
        ("receipt", "never", "", None),
        ("never", "receipt", "", Some("")),
        ("receipt", "receipt", "never", None),
        ("never", "never", "receipt+output", Some("one\ntwo")),
    ];
    for (server, action, user, expected) in cases {
        let key = |value: &str| if value.is_empty() { String::new() } else { format!("reply = {value:?}") };
        let mut site = Site::new();
        site.top += &format!("reply = {server:?}\n");
        site.action_with("run", 1, "echo one; echo two >&2", &key(action)).user(
            "alice",
            1,
            &["run"],
            &key(user),
        );
        let mut daemon = site.start();
        let sent = stamped(&site, &daemon, &knock(1, b""));
        match expected {
            Some(text) => {
                let mut lines: Vec<_> = sent.receipt(&site).words().lines().map(str::to_owned).collect();
                lines.sort();
                assert_eq!(lines.join("\n"), text, "{server} {action} {user}");
            }
            None => drop(daemon.wait("the end", |line| line.contains("code=finished"))),
        }
        daemon.stop();
        sent.assert_silent();
    }
}

#[test]
fn output_is_told_as_far_as_there_is_room_and_behind_the_exit_code() {
    let mut site = site("printf 'x%.0s' $(seq 300); echo; echo more; exit 2");
    site.top = site.top.replace("\"receipt\"", "\"receipt+output\"");
    let daemon = site.start();
    let receipt = stamped(&site, &daemon, &knock(1, b"")).receipt(&site);
    assert_eq!(receipt.words(), format!("rc=2\n{}", "x".repeat(215)));
    daemon.stop();
}

#[test]
fn a_plain_knock_of_who_has_a_public_key_gets_the_reply_of_v1_once() {
    let mut site = site("exit 0");
    site.action("fail", 3, "exit 1").action("kill", 4, "kill -9 $$").action_with(
        "one",
        5,
        "sleep 1",
        "max_running = 1",
    );
    site.tables = site.tables.replace(
        "actions = [\"run\"]",
        "actions = [\"run\", \"fail\", \"kill\", \"one\"]\npublic_key = \"alice.pub.pem\"",
    );
    let pem = recorded()["private_key_pem"].as_str().unwrap().to_owned();
    site.file("alice.pub.pem", site.key.public().to_pem().unwrap().as_bytes(), 0o644);
    let alice = RsaPrivateKey::from_pkcs8_pem(&pem).unwrap();
    let daemon = site.start();
    let cases = [(1, 1, "1: OK run"), (3, 2, "3: ERROR fail rc=1"), (4, 2, "4: ERROR kill rc=137")];
    let mut asked = Vec::new();
    for (action, status, text) in cases {
        let knock = knock(action, b"");
        let sent = plain(&site, &daemon, &knock);
        let bytes = sent.bytes();
        assert_eq!(bytes.len(), 256);
        let reply = alice.decrypt(Pkcs1v15Encrypt, &bytes).unwrap();
        let packet = Packet::decode(&reply).unwrap();
        assert_eq!((packet.timestamp, packet.user, packet.action), (knock.timestamp, UserId(1), 0));
        assert_eq!(packet.challenge, knock.challenge);
        assert_eq!(packet.payload, [&[status, action, 0], text.as_bytes()].concat());
        let (any, server) = ("192.0.2.1".parse().unwrap(), site.server_id);
        assert_eq!(mac::verify(&site.hmac, &packet.signed, packet.hmac, server, any), Some(Bound::None));
        sent.again();
        asked.push(sent);
    }
    // It did not run: silence, as from siglatch v1. The one that is busy meanwhile is answered when it has.
    let busy = plain(&site, &daemon, &knock(5, b""));
    daemon.wait_count("the one that is busy", 1, |line| {
        line.contains("code=ran") && line.contains("action=one")
    });
    asked.push(plain(&site, &daemon, &knock(5, b"")));
    asked.push(plain(&site, &daemon, &knock(9, b"")));
    assert_eq!(busy.bytes().len(), 256);
    daemon.stop();
    busy.assert_silent();
    asked.iter().for_each(Sent::assert_silent);
}

#[test]
fn who_can_not_be_answered_is_counted() {
    let site = site("exit 0");
    let daemon = site.start();
    // Its port is closed before it is answered: that is no error, an answer may get lost.
    drop(stamped(&site, &daemon, &knock(1, b"")));
    match crate::sources::send_raw(
        0,
        daemon.address,
        &site.stamped(&knock(1, b""), Binding::Server(site.server_id)),
    ) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return skipped("a raw socket takes root");
        }
        sent => sent.unwrap(),
    };
    daemon.wait_count("both ends", 2, |line| line.contains("code=finished"));
    assert_eq!(stamped(&site, &daemon, &knock(1, b"")).receipt(&site).status, Status::Done);
    let stopped = daemon.stop();
    assert_eq!((stopped.count("send-errors"), stopped.count("ran")), (1, 3));
}

#[test]
fn a_door_tells_for_how_long_it_is_open_and_a_follower_what_became_of_it() {
    let mut site = Site::new();
    site.top += "reply = \"receipt\"\n";
    let undo = site.file("actions/undo", b"#!/bin/sh\n", 0o755);
    let keys = format!("hold = \"1h\"\nundo = [{undo:?}]");
    site.action_with("door", 1, "sleep 1", &keys).action_with("shut", 2, "sleep 1; exit 5", &keys);
    site.user("alice", 1, &["door", "shut"], "").user("bob", 2, &["door", "shut"], "");
    let daemon = site.start();
    let ask = |user: u16, action: u8, options: &Options| {
        let payload = options.join(b"").unwrap();
        let knock = Knock { user: UserId(user), ..knock(action, &payload) };
        let datagram = site.sealed(&knock, Binding::Server(site.server_id));
        let datagram = site.stamp_as(datagram, UserId(user), knock.timestamp);
        send(&site, &knock, socket("127.0.0.1", daemon.address), datagram)
    };
    let hold = |seconds| Options { hold: Some(seconds), ..Options::default() };
    let opens = ask(1, 1, &Options::default());
    let follows = ask(2, 1, &hold(60));
    for (sent, most) in [(&opens, 3600), (&follows, 60)] {
        let running = sent.receipt(&site);
        assert_eq!((running.status, running.lease_seconds), (Status::Running, 0));
        let done = sent.receipt(&site);
        assert_eq!((done.status, &*done.words()), (Status::Done, ""));
        assert!((most - 5..=most).contains(&done.lease_seconds), "{done:?}");
    }
    let again = ask(2, 1, &hold(600)).receipt(&site);
    assert_eq!((again.status, &*again.words()), (Status::Done, "it was open already"));
    assert!((595..=600).contains(&again.lease_seconds), "{again:?}");
    let release = Options { release: Some(Release), ..Options::default() };
    for text in ["released", "nothing to release"] {
        let released = ask(1, 1, &release).receipt(&site);
        assert_eq!((released.status, released.lease_seconds), (Status::Done, 0));
        assert_eq!(released.words(), text);
    }

    let (opens, follows) = (ask(1, 2, &Options::default()), ask(2, 2, &Options::default()));
    for sent in [opens, follows] {
        assert_eq!(sent.receipt(&site).status, Status::Running);
        let failed = sent.receipt(&site);
        assert_eq!((failed.status, failed.lease_seconds), (Status::Failed, 0));
        assert_eq!(failed.words(), "rc=5");
    }
    daemon.stop();
}

#[test]
fn who_comes_too_often_is_told_when_he_may_come_again() {
    let mut site = Site::new();
    site.top += "reply = \"receipt\"\n";
    site.action_with("run", 1, "exit 0", "cooldown = \"1h\"").user("alice", 1, &["run"], "");
    let daemon = site.start();
    assert_eq!(stamped(&site, &daemon, &knock(1, b"")).receipt(&site).status, Status::Done);
    let refused = stamped(&site, &daemon, &knock(1, b"")).receipt(&site);
    assert_eq!(refused.status, Status::Quota);
    assert!(
        refused.words().starts_with("cooldown: ")
            && ["; next in 1h, at 20", "; next in 59m59s, at 20"]
                .iter()
                .any(|next| refused.words().contains(next)),
        "{refused:?}"
    );
    daemon.stop();
}

#[test]
fn whoami_says_who_one_is_and_what_one_may_knock_for_and_starts_nothing() {
    let mut site = site("exit 0");
    site.tables += "\n[actions.whoami]\nid = 7\nbuiltin = \"whoami\"\n[actions.off]\nid = 8\nbuiltin = \"whoami\"\nenabled = false\n";
    site.tables = site.tables.replace("[\"run\"]", "[\"run\", \"whoami\", \"off\"]");
    let mut daemon = site.start();
    let receipt = stamped(&site, &daemon, &knock(7, b"")).receipt(&site);
    assert_eq!((receipt.status, receipt.source.to_string()), (Status::Done, "127.0.0.1".to_owned()));
    assert_eq!(receipt.words(), "alice (1) may knock for run (1), whoami (7)");
    daemon.wait("its line", |line| line.contains("code=accepted") && line.contains("what=whoami"));
    assert_eq!(daemon.stop().count("ran"), 1);
}

#[test]
fn an_administrator_steers_from_afar_by_knocks_that_are_bound_and_permitted() {
    let mut site = site("exit 0");
    let builtins = ["status", "version", "list_users", "reload", "enable_user", "disable_user"];
    for (builtin, id) in builtins.into_iter().zip(11..) {
        site.tables += &format!("\n[actions.{builtin}]\nid = {id}\nbuiltin = \"{builtin}\"\n");
    }
    site.tables = site.tables.replace("[\"run\"]", &format!("{:?}", [&["run"][..], &builtins].concat()));
    site.user("bob", 2, &["run"], "");
    let mut daemon = site.start();
    let ask = |action: u8, argument: &str| {
        let argument = Some(argument.as_bytes().to_vec()).filter(|argument| !argument.is_empty());
        let payload = Options { argument, ..Options::default() }.join(b"").unwrap();
        stamped(&site, &daemon, &knock(action, &payload)).receipt(&site)
    };
    let text = |action, argument: &str| {
        let receipt = ask(action, argument);
        assert_eq!(receipt.status, Status::Done, "{receipt:?}");
        receipt.words().into_owned()
    };
    assert!(
        text(11, "").contains("ran 1, refused 0; leases 0, scripts 0; warnings: none"),
        "{}",
        text(11, "")
    );
    assert_eq!(text(12, ""), env!("CARGO_PKG_VERSION"));
    assert_eq!(text(16, "bob"), "users.bob.enabled = false, until siglatchd ends");
    assert_eq!(text(13, ""), "2: alice, bob (off)");
    assert_eq!(text(14, ""), "reloaded: users: 2, actions: 7");
    assert_eq!(text(13, ""), "2: alice, bob (off)", "a reload forgets none of it");
    assert_eq!(text(15, "bob"), "users.bob.enabled = true, until siglatchd ends");
    let failed = ask(16, "carol");
    assert_eq!((failed.status, &*failed.words()), (Status::Failed, "there is no user \"carol\""));
    assert_eq!(ask(16, "").status, Status::Failed);
    assert_eq!(ask(12, "bob").status, Status::Done, "to an action without options it is a payload like any");
    // Who may not, and what is bound to nothing.
    let line = daemon.wait("its line", |line| line.contains("code=admin"));
    assert!(line.contains("admin=\"user alice\"") && line.contains("DisableUser bob"), "{line}");
    daemon.send(&site.sealed(&knock(14, b""), Binding::None));
    daemon.wait("a refusal", |line| line.contains("code=binding") && line.contains("action=reload"));
    daemon.stop();
}

/// Opens `reply` with `alice.pem`, and makes its MAC under the key $1: WIRE "v1" and "The v1 reply", in shell.
const SHELL: &str = r#"
set -eu
openssl pkeyutl -decrypt -inkey alice.pem -pkeyopt rsa_padding_mode:pkcs1 -in reply -out plain
len=$(od -An -tu2 --endian=little -j44 -N2 plain)
{ head -c 12 plain; tail -c +45 plain | head -c $((2 + len)); } > signed
openssl dgst -sha256 -binary signed > digest
openssl dgst -sha256 -mac HMAC -macopt "hexkey:$1" -binary digest > mac
"#;

#[test]
fn openssl_opens_and_verifies_the_reply_of_v1_which_is_what_the_wire_says_byte_for_byte() {
    let mut site = site("exit 0");
    site.tables = site.tables.replace("actions = [", "public_key = \"alice.pub.pem\"\nactions = [");
    site.file("alice.pub.pem", site.key.public().to_pem().unwrap().as_bytes(), 0o644);
    site.file("alice.pem", site.key.to_pem().unwrap().as_bytes(), 0o600);
    let daemon = site.start();
    let knock = knock(1, b"what is asked is not repeated");
    site.file("reply", &plain(&site, &daemon, &knock).bytes(), 0o600);
    daemon.stop();

    let shell = ["-c", SHELL, "bash", &site.hmac.to_hex()];
    let done = Command::new("bash").args(shell).current_dir(site.path(".")).output();
    let done = match done {
        Err(error) if error.kind() == ErrorKind::NotFound => return skipped("there is no bash"),
        done => done.unwrap(),
    };
    if done.status.code() == Some(127) {
        return skipped("there is no openssl");
    }
    assert!(done.status.success(), "{done:?}");
    let text = b"1: OK run";
    let mut expected = vec![1];
    expected.extend(knock.timestamp.to_le_bytes());
    expected.extend([1, 0]); // the user, little-endian
    expected.push(0); // what a request never has
    expected.extend(knock.challenge.to_le_bytes());
    expected.extend(fs::read(site.path("mac")).unwrap());
    expected.extend([3 + u8::try_from(text.len()).unwrap(), 0]);
    expected.extend([1, 1, 0]); // OK, of action 1, nothing was cut
    expected.extend(text);
    expected.resize(245, 0);
    assert_eq!(fs::read(site.path("plain")).unwrap(), expected);
}
