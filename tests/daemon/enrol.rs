//! Keys that are exchanged for others, over restarts, by the client and by who should not.

use std::fs;
use std::process::{Command, Output};

use siglatch::wire::enrol::{EnrolPublic, EnrolSecret, Exchanged};
use siglatch::wire::options::Options;
use siglatch::wire::{Binding, HmacKey, Invite, Knock, UserId};

use crate::common::{Daemon, Site, field, knock, unix, until};

const ENROL: u8 = 9;
const LATER: &str = "2099-01-01T00:00:00Z";

fn ctl(site: &Site, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
    command.args(args).arg("--config").arg(site.path("siglatchd.toml")).output().unwrap()
}

pub(crate) fn siglatch(site: &Site, home: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siglatch"));
    command.args(args).env("HOME", site.path(home)).env_remove("XDG_CONFIG_HOME").output().unwrap()
}

#[track_caller]
pub(crate) fn ok(output: Output) -> String {
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{} {}", said(&output.stdout), said(&output.stderr));
    said(&output.stdout)
}

#[track_caller]
pub(crate) fn failed(output: &Output, code: i32, what: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(what), "{what}: {said}");
}

/// The daemon again, with its configuration as it was edited, at the same port.
fn again(site: &Site, daemon: Daemon) -> Daemon {
    let file = site.path("siglatchd.toml");
    let text = fs::read_to_string(&file).unwrap().replace("127.0.0.1:0", &daemon.address.to_string());
    daemon.kill();
    site.start_with(|_| fs::write(&file, &text).unwrap())
}

/// An invite for bob, for one use, in `bob.invite`; the daemon knows him.
fn invited(site: &Site, daemon: &Daemon) -> String {
    let invite = site.path("bob.invite").to_str().unwrap().to_owned();
    let port = daemon.address.port().to_string();
    let added = ["user", "add", "bob", "--action", "run", "--once", "--expires", "2d", "--invite", &invite];
    let said = ok(ctl(site, &[&added[..], &["--port", &port, "--profile-name", "office"]].concat()));
    assert!(said.contains("siglatch1:"), "{said}");
    ok(ctl(site, &["reload"]));
    invite
}

fn site() -> Site {
    let mut site = Site::new().with_run();
    site.top += "public_host = \"127.0.0.1\"\nreply = \"receipt\"\n";
    site
}

/// The key in a profile.
fn key(site: &Site, home: &str) -> String {
    let profile: toml::Table =
        fs::read_to_string(site.path(home).join(".config/siglatch/office.toml")).unwrap().parse().unwrap();
    profile["hmac_key"].as_str().unwrap().to_owned()
}

#[test]
fn an_invite_for_one_use_is_dead_once_it_was_used_and_its_user_has_a_key_that_it_does_not_hold() {
    let site = site();
    let daemon = site.start();
    let invite = invited(&site, &daemon);
    let bob: toml::Table = fs::read_to_string(site.path("siglatchd.toml")).unwrap().parse().unwrap();
    assert!(bob["users"]["bob"]["invite_until"].as_datetime().is_some());
    let file = fs::read_to_string(site.path("keys/bob.hmac")).unwrap();
    let state = || {
        ok(ctl(&site, &["user", "list"])).lines().last().unwrap().split_whitespace().nth(4).map(str::to_owned)
    };
    assert_eq!(state().as_deref(), Some("invite"));

    let said = ok(siglatch(&site, "bob", &["join", &invite]));
    assert!(said.contains("the key of office is another now, which only you and the server know"), "{said}");
    assert_ne!(key(&site, "bob"), file.trim());
    ok(siglatch(&site, "bob", &["knock", "office", "run"]));
    until("a run", || (site.runs() == 1).then_some(()));

    let shown = ok(ctl(&site, &["user", "show", "bob"]));
    assert!(shown.contains("; exchanged for another, which the store has"), "{shown}");
    assert_eq!(state().as_deref(), Some("exchanged"));
    let late = siglatch(&site, "thief", &["join", &invite]);
    failed(&late, 77, "somebody else has sent for a key with yours: tell the administrator");
    failed(&siglatch(&site, "thief", &["knock", "office", "run"]), 78, "is its invite's");

    let mut daemon = again(&site, daemon);
    failed(&siglatch(&site, "thief", &["key", "rotate", "office", "--wait", "1s"]), 77, "key-taken");
    daemon.wait("the alarm", |line| line.contains("code=key-contested ") && line.contains("user=bob"));
    ok(siglatch(&site, "bob", &["knock", "office", "run"]));
    until("another run", || (site.runs() == 2).then_some(()));
    failed(&siglatch(&site, "bob", &["key", "rotate", "office"]), 77, "siglatchctl key rotate user");
    daemon.wait("its refusal", |line| line.contains("code=key-exchange "));
    assert_eq!(fs::read_to_string(site.path("keys/bob.hmac")).unwrap(), file, "the store has the new one");
    daemon.stop();
}

#[test]
fn a_key_is_rotated_when_the_administrator_gives_leave_and_revoked_at_once() {
    let site = site();
    let daemon = site.start();
    let invite = invited(&site, &daemon);
    ok(siglatch(&site, "bob", &["join", &invite]));
    let first = key(&site, "bob");
    let said = ok(ctl(&site, &["key", "rotate", "user", "bob", "--overlap", "1h"]));
    assert!(said.contains("bob may exchange his key until 20"), "{said}");
    ok(siglatch(&site, "bob", &["knock", "office", "run"]));
    ok(siglatch(&site, "bob", &["key", "rotate", "office"]));
    assert_ne!(key(&site, "bob"), first);
    failed(&siglatch(&site, "bob", &["key", "rotate", "office"]), 77, "key-exchange");
    let daemon = again(&site, daemon);
    ok(siglatch(&site, "bob", &["knock", "office", "run"]));
    until("two runs", || (site.runs() == 2).then_some(()));

    let said = ok(ctl(&site, &["key", "revoke", "user", "bob"]));
    assert!(said.contains("siglatchd goes by that now"), "{said}");
    failed(&siglatch(&site, "bob", &["knock", "office", "run", "--wait", "1s"]), 3, "");
    let daemon = again(&site, daemon);
    failed(&siglatch(&site, "bob", &["knock", "office", "run", "--wait", "1s"]), 3, "");
    assert_eq!(site.runs(), 2);
    daemon.stop();
}

#[test]
fn an_invite_is_void_on_a_store_that_does_not_know_whether_it_was_used() {
    let site = site();
    let daemon = site.start();
    let invite = invited(&site, &daemon);
    ok(siglatch(&site, "bob", &["join", &invite]));
    ok(siglatch(&site, "bob", &["knock", "office", "run"]));
    let file = site.path("siglatchd.toml");
    let text = fs::read_to_string(&file).unwrap().replace("127.0.0.1:0", &daemon.address.to_string());
    daemon.stop();
    fs::remove_file(site.path("state/claims.db")).unwrap();
    let mut daemon = site.start_with(|_| fs::write(&file, &text).unwrap());
    let line = daemon.wait("what is void", |line| line.contains("code=invites-void "));
    assert_eq!(field(&line, "users").as_deref(), Some("bob"));
    let now = unix();
    until("knocks of later than the new store", || (unix() > now).then_some(()));
    failed(&siglatch(&site, "thief", &["join", &invite]), 77, "");
    failed(&siglatch(&site, "thief", &["knock", "office", "run"]), 78, "is its invite's");
    let mut daemon = again(&site, daemon);
    failed(&siglatch(&site, "thief", &["key", "rotate", "office"]), 77, "");
    daemon.wait("its refusal", |line| line.contains("code=options "));
    daemon.stop();
    assert_eq!(site.runs(), 1);
}

#[test]
fn a_client_that_did_not_hear_that_its_key_is_kept_gets_it_after_the_leave_is_over_too() {
    let site = site();
    let daemon = site.start();
    let invite = invited(&site, &daemon);
    ok(siglatch(&site, "bob", &["join", &invite]));
    ok(ctl(&site, &["key", "rotate", "user", "bob", "--overlap", "1h"]));
    let file = site.path("siglatchd.toml");
    let text = fs::read_to_string(&file).unwrap().replace("127.0.0.1:0", &daemon.address.to_string());
    daemon.stop();
    // Nobody answers, but our half is in the profile; then it arrives, and the answer does not.
    failed(&siglatch(&site, "bob", &["key", "rotate", "office", "--wait", "1s"]), 3, "");
    let profile = fs::read_to_string(site.path("bob").join(".config/siglatch/office.toml")).unwrap();
    let profile = Invite::parse(&profile).unwrap();
    let enrol = profile.enrol.unwrap();
    let daemon = site.start_with(|_| fs::write(&file, &text).unwrap());
    let options = Options { argument: Some(enrol.secret.unwrap().public().0.to_vec()), ..Options::default() };
    let payload = options.join(b"").unwrap();
    let asks = Knock { user: UserId(2), action: enrol.action, ..knock(1, &payload) };
    daemon.send(&stamped(&site, &profile.hmac_key, &asks));
    count(&daemon, "accepted", 1);
    let over = text.lines().map(|line| match line.starts_with("rotate_until") {
        true => "rotate_until = 2020-01-01T00:00:00Z\n".to_owned(),
        false => format!("{line}\n"),
    });
    fs::write(&file, over.collect::<String>()).unwrap();
    ok(ctl(&site, &["reload"]));
    ok(siglatch(&site, "bob", &["key", "rotate", "office"]));
    assert_ne!(key(&site, "bob"), *profile.hmac_key.to_hex());
    ok(siglatch(&site, "bob", &["knock", "office", "run"]));
    daemon.stop();
    assert_eq!(site.runs(), 1);
}

#[test]
fn a_join_that_had_no_answer_goes_on_with_the_half_that_it_has_sent() {
    let site = site();
    let daemon = site.start();
    let invite = invited(&site, &daemon);
    let file = site.path("siglatchd.toml");
    let text = fs::read_to_string(&file).unwrap().replace("127.0.0.1:0", &daemon.address.to_string());
    daemon.stop();
    failed(&siglatch(&site, "bob", &["join", &invite]), 3, "tell the administrator");
    let daemon = site.start_with(|_| fs::write(&file, &text).unwrap());
    let said = ok(siglatch(&site, "bob", &["join", &invite, "--force", "--name", "other"]));
    assert!(said.contains("the profile office was begun with this invite: it goes on"), "{said}");
    ok(siglatch(&site, "bob", &["knock", "office", "run"]));
    daemon.stop();
    assert_eq!(site.runs(), 1);
}

#[test]
fn an_invite_that_brings_a_half_of_the_exchange_along_has_no_say_in_it() {
    let site = site();
    let daemon = site.start();
    let invite = invited(&site, &daemon);
    let planted = "secret = \"".to_owned() + &"77".repeat(32) + "\"\n";
    let text =
        fs::read_to_string(&invite).unwrap().replace("once = true\n", &format!("once = true\n{planted}"));
    assert!(text.contains(&planted));
    fs::write(&invite, &text).unwrap();
    ok(siglatch(&site, "bob", &["join", &invite]));
    let invite = Invite::parse(&text).unwrap();
    let known = EnrolSecret::new([0x77; 32]);
    let of = Exchanged { key: &invite.hmac_key, server: site.server_id, user: UserId(2) };
    let known = known.at_client(invite.enrol.unwrap().server, of).unwrap();
    assert_ne!(key(&site, "bob"), *known.to_hex());
    ok(siglatch(&site, "bob", &["knock", "office", "run"]));
    daemon.stop();
}

#[test]
fn a_user_is_out_at_once_even_where_the_configuration_has_another_mistake() {
    for command in [&["key", "revoke", "user", "bob"][..], &["user", "remove", "bob", "--yes"]] {
        let site = site();
        let daemon = site.start();
        let invite = invited(&site, &daemon);
        ok(siglatch(&site, "bob", &["join", &invite]));
        ok(siglatch(&site, "bob", &["knock", "office", "run"]));
        let file = site.path("siglatchd.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("[actions.run]\n", "[actions.run]\ntimeout = \"soon\"\n")).unwrap();
        let said = ctl(&site, command);
        failed(&said, 78, "bob is switched off in siglatchd, and holds no lease; but the files are changed");
        failed(&said, 78, "`timeout` takes a time");
        failed(&siglatch(&site, "bob", &["knock", "office", "run", "--wait", "1s"]), 3, "");
        daemon.stop();
        assert_eq!(site.runs(), 1);
    }
}

/// A site where alice's key is an invite's, or may be rotated.
fn exchanging(more: &str) -> (Site, EnrolSecret) {
    let mut site = Site::new();
    let out = site.path("ran");
    site.action("run", 1, &format!("echo -- >> {}", out.display()));
    site.user("alice", 1, &["run"], more);
    site.top += "enrol_key = \"enrol.key\"\n";
    site.tables += &format!("[actions.enrol]\nid = {ENROL}\nbuiltin = \"enrol\"\n");
    let keeper = EnrolSecret::new([0x42; 32]);
    site.file("enrol.key", keeper.to_hex().as_bytes(), 0o600);
    (site, keeper)
}

fn stamped(site: &Site, key: &HmacKey, knock: &Knock<'_>) -> Vec<u8> {
    use siglatch::wire::stamp::{Stamper, stamp};
    use siglatch::wire::{BeaconKey, StampKey};
    let plain = knock.encode(key, Binding::Server(site.server_id)).unwrap();
    let server = site.key.public();
    let sealed = server.seal(&mut rsa::rand_core::OsRng, &plain).unwrap();
    let stamper = Stamper::new(&StampKey::derive(server, key));
    stamp(sealed, knock.user, knock.timestamp, &BeaconKey::of(server), &stamper)
}

fn sends(site: &Site, key: &HmacKey, client: EnrolPublic) -> Vec<u8> {
    let options = Options { argument: Some(client.0.to_vec()), ..Options::default() };
    stamped(site, key, &knock(ENROL, &options.join(b"").unwrap()))
}

fn count(daemon: &Daemon, code: &str, count: usize) {
    daemon.wait_count(code, count, |line| line.contains(&format!("code={code} ")));
}

#[test]
fn a_second_client_of_one_invite_is_refused_and_alarmed_over_a_restart_and_the_first_goes_on() {
    let (site, keeper) = exchanging(&format!("require_stamp = true\ninvite_until = {LATER}"));
    let daemon = site.start();
    let (first, second) = (EnrolSecret::new([1; 32]), EnrolSecret::new([2; 32]));
    daemon.send(&stamped(&site, &site.hmac, &knock(1, b"")));
    count(&daemon, "key-exchange", 1);
    daemon.send(&sends(&site, &site.hmac, first.public()));
    count(&daemon, "accepted", 1);
    daemon.send(&sends(&site, &site.hmac, second.public()));
    count(&daemon, "key-taken", 1);
    count(&daemon, "key-contested", 1);
    let status = ok(ctl(&site, &["status"]));
    assert!(status.contains("two have sent for a new key of alice's"), "{status}");
    daemon.kill();

    let mut daemon = site.start();
    daemon.send(&sends(&site, &site.hmac, second.public()));
    count(&daemon, "key-taken", 1);
    daemon.send(&sends(&site, &site.hmac, first.public()));
    count(&daemon, "accepted", 1);
    let of = Exchanged { key: &site.hmac, server: site.server_id, user: UserId(1) };
    let new = first.at_client(keeper.public(), of).unwrap();
    daemon.send(&stamped(&site, &new, &knock(1, b"")));
    let line = daemon.wait("the exchange", |line| line.contains("code=key-exchanged "));
    assert_eq!(field(&line, "user").as_deref(), Some("alice"));
    until("a run", || (site.runs() == 1).then_some(()));
    // The invite is good for nothing any more, but for being told from noise.
    daemon.send(&sends(&site, &site.hmac, first.public()));
    count(&daemon, "key-taken", 2);
    daemon.send(&stamped(&site, &site.hmac, &knock(1, b"")));
    count(&daemon, "key-exchange", 1);
    daemon.send(&stamped(&site, &new, &knock(1, b"")));
    until("another run", || (site.runs() == 2).then_some(()));
    daemon.stop();
    let kinds = ok(ctl(&site, &["audit", "show"]));
    for kind in ["key-exchanged", "key-taken"] {
        assert!(kinds.contains(kind), "{kind}: {kinds}");
    }
    ok(ctl(&site, &["audit", "verify"]));
}

#[test]
fn while_a_key_is_rotated_both_are_good_and_the_first_knock_under_the_new_one_ends_the_old() {
    let (site, keeper) = exchanging(&format!("rotate_until = {LATER}"));
    let daemon = site.start();
    let client = EnrolSecret::new([1; 32]);
    daemon.send(&sends(&site, &site.hmac, client.public()));
    count(&daemon, "accepted", 1);
    daemon.send(&site.datagram());
    until("a run under the old key", || (site.runs() == 1).then_some(()));
    let of = Exchanged { key: &site.hmac, server: site.server_id, user: UserId(1) };
    let new = client.at_client(keeper.public(), of).unwrap();
    daemon.send(&stamped(&site, &new, &knock(1, b"")));
    until("a run under the new key", || (site.runs() == 2).then_some(()));
    daemon.send(&site.datagram());
    until("the old key is dead", || ok(ctl(&site, &["status"])).contains("not-authentic 1").then_some(()));
    daemon.stop();
    assert_eq!(site.runs(), 2);
}

#[test]
fn another_exchange_under_a_key_that_is_new_is_refused_and_the_new_key_is_good() {
    let (site, keeper) = exchanging(&format!("rotate_until = {LATER}"));
    let daemon = site.start();
    let client = EnrolSecret::new([1; 32]);
    daemon.send(&sends(&site, &site.hmac, client.public()));
    count(&daemon, "accepted", 1);
    let of = Exchanged { key: &site.hmac, server: site.server_id, user: UserId(1) };
    let new = client.at_client(keeper.public(), of).unwrap();
    // The listener knows the new key's stamps by then.
    daemon.send(&site.datagram());
    until("a run under the old key", || (site.runs() == 1).then_some(()));
    daemon.send(&sends(&site, &new, EnrolSecret::new([2; 32]).public()));
    count(&daemon, "key-exchange", 1);
    daemon.send(&stamped(&site, &new, &knock(1, b"")));
    until("a run under the new key", || (site.runs() == 2).then_some(()));
    daemon.stop();
}

#[test]
fn a_key_is_exchanged_where_all_else_is_bound_to_the_source() {
    let mut site = site();
    site.top += "bind = \"source\"\n";
    let daemon = site.start();
    let invite = invited(&site, &daemon);
    ok(siglatch(&site, "bob", &["join", &invite]));
    failed(&siglatch(&site, "bob", &["knock", "office", "run"]), 77, "binding");
    ok(siglatch(&site, "bob", &["knock", "office", "run", "--source", "127.0.0.1"]));
    until("a run", || (site.runs() == 1).then_some(()));
    daemon.stop();
}

#[test]
fn a_user_who_is_gone_from_the_files_alone_is_out_when_he_is_removed_again() {
    let site = site();
    let daemon = site.start();
    let invite = invited(&site, &daemon);
    ok(siglatch(&site, "bob", &["join", &invite]));
    let socket = site.path("runtime/control.sock");
    let away = site.path("runtime/away.sock");
    fs::rename(&socket, &away).unwrap();
    let said = ctl(&site, &["user", "remove", "bob", "--yes"]);
    failed(&said, 75, "the files are changed, but siglatchd runs and is not at");
    ok(siglatch(&site, "bob", &["knock", "office", "run"]));
    fs::rename(&away, &socket).unwrap();
    failed(&ctl(&site, &["user", "remove", "bob", "--yes"]), 64, "there is no user bob");
    failed(&siglatch(&site, "bob", &["knock", "office", "run", "--wait", "1s"]), 3, "");
    daemon.stop();
}

#[test]
fn an_invite_that_is_over_exchanges_nothing() {
    let (site, _) = exchanging("invite_until = 2020-01-01T00:00:00Z");
    let daemon = site.start();
    daemon.send(&sends(&site, &site.hmac, EnrolSecret::new([1; 32]).public()));
    count(&daemon, "key-exchange", 1);
    daemon.send(&stamped(&site, &site.hmac, &knock(1, b"")));
    count(&daemon, "key-exchange", 2);
    daemon.stop();
    assert_eq!(site.runs(), 0);
}

#[test]
fn what_is_no_public_key_is_refused_and_nothing_comes_of_it() {
    let (site, _) = exchanging(&format!("invite_until = {LATER}"));
    let daemon = site.start();
    for (nth, bytes) in [&[][..], &[7; 31], &[7; 33], &[0; 32]].into_iter().enumerate() {
        let options = Options { argument: Some(bytes.to_vec()), ..Options::default() };
        daemon.send(&stamped(&site, &site.hmac, &knock(ENROL, &options.join(b"").unwrap())));
        count(&daemon, "options", nth + 1);
    }
    daemon.send(&sends(&site, &site.hmac, EnrolSecret::new([1; 32]).public()));
    count(&daemon, "accepted", 1);
    daemon.stop();
}
