//! A new key for the server: nobody is locked out until the old one is ended.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::time::Duration;

use siglatch::wire::Binding;

use crate::common::{Daemon, Site, knock, spawn, until};
use crate::enrol::{failed, ok, siglatch};

fn ctl(site: &Site, args: &[&str]) -> Output {
    ctl_with(site, args, |_| {})
}

fn ctl_with(site: &Site, args: &[&str], adjust: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
    command.args(args).arg("--config").arg(site.path("siglatchd.toml"));
    adjust(&mut command);
    command.output().unwrap()
}

fn site() -> Site {
    let mut site = Site::new().with_run();
    site.top += "# This comment is here to stay.\npublic_host = \"127.0.0.1\"\nreply = \"receipt\"\n";
    site
}

/// The daemon, at a port that it keeps from then on.
fn start(site: &Site) -> Daemon {
    let daemon = site.start();
    let text = config(site).replace("127.0.0.1:0", &daemon.address.to_string());
    fs::write(site.path("siglatchd.toml"), text).unwrap();
    again(site, daemon)
}

/// Another one, with the configuration as it was edited.
fn again(site: &Site, daemon: Daemon) -> Daemon {
    daemon.kill();
    spawn(&site.path("siglatchd.toml"), |_| {}).ready()
}

fn config(site: &Site) -> String {
    fs::read_to_string(site.path("siglatchd.toml")).unwrap()
}

/// Adds a user with the profile `office` in a home of his name; the daemon knows him.
fn join(site: &Site, name: &str, port: u16) {
    let (port, invite) = (port.to_string(), site.path(&format!("{name}.invite")));
    let invite = invite.to_str().unwrap();
    ok(ctl(
        site,
        &[
            "user",
            "add",
            name,
            "--action",
            "run",
            "--port",
            &port,
            "--invite",
            invite,
            "--profile-name",
            "office",
        ],
    ));
    ok(siglatch(site, name, &["join", invite]));
}

fn profile(site: &Site, home: &str) -> String {
    fs::read_to_string(site.path(home).join(".config/siglatch/office.toml")).unwrap()
}

#[track_caller]
fn runs(site: &Site, count: usize) {
    until("a run", || (site.runs() == count).then_some(()));
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, from its beginning to its end")]
fn old_invites_and_new_ones_are_good_until_the_administrator_ends_it_and_is_told_who_is_locked_out() {
    let site = site();
    let daemon = start(&site);
    let port = daemon.address.port();
    join(&site, "bob", port);
    ok(ctl(&site, &["reload"]));
    ok(siglatch(&site, "bob", &["knock", "office", "run"]));
    let before = config(&site);

    let said = ok(ctl(&site, &["key", "rotate", "server"]));
    assert!(said.contains("server-2.key.pem") && said.contains("siglatch key update"), "{said}");
    failed(&ctl(&site, &["key", "rotate", "server"]), 78, "is changed already: old_private_key");
    let after = config(&site);
    let kept: Vec<&str> = before.lines().filter(|line| !line.starts_with("private_key")).collect();
    assert!(kept.iter().all(|line| after.contains(line)), "{after}");
    assert!(after.contains("private_key = \"server-2.key.pem\"\n"), "{after}");
    assert!(after.contains("old_private_key = \"server.key.pem\"\n"), "{after}");
    assert_eq!(fs::metadata(site.path("server-2.key.pem")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(site.path("server-2.pub.pem")).unwrap().contains("BEGIN PUBLIC KEY"));
    failed(&ctl(&site, &["reload"]), 78, "private_key, old_private_key changed in the files");

    let daemon = again(&site, daemon);
    join(&site, "carol", port);
    ok(ctl(&site, &["reload"]));
    ok(siglatch(&site, "carol", &["knock", "office", "run"]));
    ok(siglatch(&site, "bob", &["knock", "office", "run"]));
    daemon.send(&site.stamped(&knock(1, b""), Binding::Server(site.server_id)));
    runs(&site, 4);
    daemon.send(&site.datagram());
    runs(&site, 5);
    let status = ok(ctl(&site, &["status"]));
    assert!(status.contains("2 of 3 users have not moved to the new one: alice, bob"), "{status}");
    let json = ok(ctl(&site, &["status", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["rotation"]["behind"], 2, "{json}");

    let old = profile(&site, "bob");
    failed(
        &siglatch(&site, "bob", &["key", "update"]),
        78,
        "does not say which action tells the server's key",
    );
    let said = ok(siglatch(&site, "bob", &["key", "update", "office", "--action", "255"]));
    assert!(said.contains("office has the server's new key, "), "{said}");
    let new = profile(&site, "bob");
    assert!(new != old && new.contains("key_action = 255\n"), "{new}");
    let said = ok(siglatch(&site, "bob", &["key", "update"]));
    assert!(said.contains("office has the server's key already, "), "{said}");
    assert_eq!(profile(&site, "bob"), new);
    ok(siglatch(&site, "carol", &["key", "update"]));

    // Killed: what is known of them is in the store.
    let daemon = again(&site, daemon);
    let status = ok(ctl(&site, &["status"]));
    assert!(status.contains("1 of 3 users have not moved to the new one: alice"), "{status}");
    let shown = |name| ok(ctl(&site, &["user", "show", name]));
    assert!(shown("alice").contains("STILL THE OLD ONE, 20"), "{}", shown("alice"));
    assert!(shown("bob").contains("knocks under the new one, 20"), "{}", shown("bob"));
    let doctor = ctl(&site, &["doctor"]);
    let doctor = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.contains("not moved: 1 of 3 users: alice"), "{doctor}");
    ok(siglatch(&site, "bob", &["knock", "office", "run"]));
    runs(&site, 6);

    let asked = ctl(&site, &["key", "rotate", "server", "--finish"]);
    failed(&asked, 64, "not moved to the new key: alice");
    failed(&asked, 64, "lock out 1 of 3 users");
    assert!(site.path("server.key.pem").exists() && config(&site).contains("old_private_key"));
    let said = ok(ctl(&site, &["key", "rotate", "server", "--finish", "--yes"]));
    assert!(said.contains("next: systemctl restart siglatchd"), "{said}");
    assert!(!site.path("server.key.pem").exists() && !config(&site).contains("old_private_key"));
    failed(&ctl(&site, &["key", "rotate", "server", "--finish"]), 78, "there is no old_private_key");

    let daemon = again(&site, daemon);
    daemon.send(&site.stamped(&knock(1, b""), Binding::Server(site.server_id)));
    daemon.send(&site.datagram());
    ok(siglatch(&site, "bob", &["knock", "office", "run"]));
    ok(siglatch(&site, "carol", &["knock", "office", "run"]));
    runs(&site, 8);
    let status = ok(ctl(&site, &["status"]));
    assert!(!status.contains("server key"), "{status}");
    let stopped = daemon.stop();
    assert_eq!((stopped.count("not-authentic"), stopped.count("received")), (1, 3), "{:?}", stopped.counts());
    assert_eq!(stopped.count("ran"), 2);
}

#[test]
fn a_listener_that_is_started_again_after_the_old_key_is_gone_goes_on_with_the_new_one() {
    let site = site();
    let daemon = start(&site);
    ok(ctl(&site, &["key", "rotate", "server"]));
    let mut daemon = again(&site, daemon);
    join(&site, "carol", daemon.address.port());
    ok(ctl(&site, &["reload"]));
    ok(ctl(&site, &["key", "rotate", "server", "--finish", "--yes"]));
    let listener = nix::unistd::Pid::from_raw(daemon.listener());
    nix::sys::signal::kill(listener, nix::sys::signal::Signal::SIGKILL).unwrap();
    daemon.wait("another listener", |line| line.contains("code=listener-ready"));
    daemon.wait("a word on it", |line| line.contains("code=old-key-gone"));
    ok(siglatch(&site, "carol", &["knock", "office", "run"]));
    runs(&site, 1);
    daemon.stop();
}

#[test]
fn whoever_may_knock_at_all_is_told_the_key_whatever_keeps_him_from_his_actions() {
    let mut site = site();
    site.top += "require_stamp = true\nbind = \"server\"\n";
    let daemon = start(&site);
    let port = daemon.address.port();
    ok(ctl(&site, &["key", "rotate", "server"]));
    let daemon = again(&site, daemon);
    join(&site, "bob", port);
    let text = config(&site)
        .replace("[users.bob]\n", "[users.bob]\ncooldown = \"1h\"\nmax_knocks = 1\nreply = \"never\"\n");
    fs::write(site.path("siglatchd.toml"), text).unwrap();
    ok(ctl(&site, &["reload"]));
    for _ in 0..3 {
        ok(siglatch(&site, "bob", &["key", "update", "office"]));
    }
    ok(siglatch(&site, "bob", &["knock", "office", "run", "--wait", "0"]));
    runs(&site, 1);
    ok(siglatch(&site, "bob", &["key", "update", "office"]));
    let shown = ok(ctl(&site, &["user", "show", "bob"]));
    assert!(shown.contains("1 of 1, SPENT"), "{shown}");
    ok(ctl(&site, &["user", "disable", "bob"]));
    failed(&siglatch(&site, "bob", &["key", "update", "office", "--wait", "500ms"]), 3, "no answer");
    daemon.stop();
}

/// Between client and daemon: hands on so many knocks, and loses the first answers.
fn relay(daemon: SocketAddr, knocks: usize, lost: usize) -> u16 {
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = front.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        let (mut handed, mut answers) = (0, 0);
        // Each client has a socket of its own, as each knock has.
        while let Ok((len, client)) = front.recv_from(&mut buffer) {
            if handed >= knocks {
                continue;
            }
            handed += 1;
            let back = BACK.with(|back| back.try_clone().unwrap());
            back.connect(daemon).unwrap();
            back.send(&buffer[..len]).unwrap();
            back.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            if let Ok(len) = back.recv(&mut buffer) {
                answers += 1;
                if answers > lost {
                    front.send_to(&buffer[..len], client).unwrap();
                }
            }
        }
    });
    port
}

thread_local! {
    static BACK: UdpSocket = UdpSocket::bind("127.0.0.1:0").unwrap();
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again_and_a_key_that_nothing_answers_under_is_not_taken() {
    let site = site();
    let daemon = start(&site);
    let whole = relay(daemon.address, usize::MAX, 1);
    // Both pieces of the key are told, and then there is silence.
    let half = relay(daemon.address, 2, 0);
    join(&site, "bob", whole);
    join(&site, "dave", half);
    ok(ctl(&site, &["key", "rotate", "server"]));
    let daemon = again(&site, daemon);

    let before = profile(&site, "dave");
    let update = ["key", "update", "office", "--action", "255", "--wait", "2s"];
    failed(&siglatch(&site, "dave", &update), 3, "the server told a new key, and does not answer under it");
    assert_eq!(profile(&site, "dave"), before);
    let said = ok(siglatch(&site, "bob", &update));
    assert!(said.contains("office has the server's new key"), "{said}");
    daemon.stop();
}

#[test]
fn what_is_not_its_own_to_write_is_said_to_be_done_by_hand_and_nothing_is_changed() {
    let site = site();
    site.write_config();
    let before = config(&site);
    let rotate = ["key", "rotate", "server"];
    let by_environment = ctl_with(&site, &rotate, |ctl| {
        ctl.env("SIGLATCH_PRIVATE_KEY", site.path("server.key.pem"));
    });
    failed(&by_environment, 78, "`private_key` stands in the environment");
    assert_eq!(config(&site), before);
    let handed_over = before.replace("\"server.key.pem\"", "\"credential:server\"");
    fs::write(site.path("siglatchd.toml"), &handed_over).unwrap();
    failed(&ctl(&site, &rotate), 78, "openssl genpkey");
    assert_eq!(config(&site), handed_over);
    assert!(!site.path("server-2.key.pem").exists());
}

#[cfg(feature = "crash-points")]
#[test]
fn killed_at_any_step_it_leaves_a_configuration_that_the_daemon_starts_with() {
    for (step, finish) in
        [("rotate-before-config", false), ("rotate-after-config", false), ("finish-after-config", true)]
    {
        let site = site();
        site.write_config();
        let rotate = ["key", "rotate", "server"];
        if finish {
            ok(ctl(&site, &rotate));
        }
        let args = [&rotate[..], if finish { &["--finish", "--yes"] } else { &[] }].concat();
        let killed = ctl_with(&site, &args, |ctl| {
            ctl.env("SIGLATCH_CRASH_AT", step);
        });
        assert_eq!(killed.status.code(), None, "{step}");
        let daemon = spawn(&site.path("siglatchd.toml"), |_| {}).ready();
        daemon.stop();
        // What is to be done goes on from there.
        let on = ctl(&site, &args);
        assert_eq!(on.status.success(), step == "rotate-before-config", "{step}");
    }
}
