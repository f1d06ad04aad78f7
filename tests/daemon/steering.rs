//! Administrators at their worst: several at once, in a hurry, over files that are half edited, and some who may not.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use crate::common::{Site, until};
use crate::control::{ctl, out, refused, works};

fn banned(site: &Site) -> usize {
    let status: serde_json::Value = serde_json::from_str(&out(&ctl(site, &["status", "--json"]))).unwrap();
    status["config"]["banned"].as_array().unwrap().len()
}

fn trail(site: &Site) -> String {
    out(&ctl(site, &["audit", "show", "--json"]))
}

#[test]
fn a_start_that_fails_with_what_waited_for_it_goes_on_without() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    for (key, value) in [
        ("runtime_dir", "/proc/nowhere/run"),
        ("runtime_dir", "/etc"),
        ("state_dir", "/proc/nowhere/state"),
        ("control.listen", listen.as_str()),
    ] {
        let mut site = Site::new().with_run();
        site.file("control.token", &[b'7'; 32], 0o600);
        site.tables += "[control]\nlisten = \"127.0.0.1:0\"\ntoken = \"control.token\"\n";
        let daemon = site.start();
        out(&ctl(&site, &["set", key, value]));
        daemon.stop();
        let before = fs::read_to_string(site.path("siglatchd.toml")).unwrap();
        let mut daemon = site.start();
        let told = daemon.wait("a line", |line| line.contains("code=pending-rolled-back"));
        assert!(told.contains("pending.failed.toml"), "{told}");
        works(&site, &daemon);
        assert_eq!(out(&ctl(&site, &["pending"])), "nothing waits for the next start\n", "{key}");
        let doctor = String::from_utf8(ctl(&site, &["doctor"]).stdout).unwrap();
        assert!(doctor.contains("were put aside"), "{doctor}");
        daemon.stop();
        assert_eq!(fs::read_to_string(site.path("siglatchd.toml")).unwrap(), before);
        assert!(!site.path("runtime/status.json").exists(), "nobody takes it for running");
    }
}

#[test]
fn of_bans_that_come_at_once_none_is_lost() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let all = |how: &[&str], first: usize| {
        std::thread::scope(|scope| {
            let bans: Vec<_> = (first..first + 6)
                .map(|last| {
                    let site = &site;
                    scope.spawn(move || ctl(site, &[&["ban", &format!("192.0.2.{last}")], how].concat()))
                })
                .collect();
            bans.into_iter().for_each(|ban| drop(out(&ban.join().unwrap())));
        });
    };
    // What one administrator waits for has an end, so these may be told to try again: ask as often.
    let ban = |last: usize| {
        until("a ban", || {
            let said = ctl(&site, &["ban", &format!("198.51.100.{last}"), "--until-restart"]);
            said.status.success().then_some(())
        });
    };
    std::thread::scope(|scope| (0..8).for_each(|last| drop(scope.spawn(move || ban(last)))));
    assert_eq!(banned(&site), 8);
    all(&[], 1);
    assert_eq!(banned(&site), 14);
    let text = fs::read_to_string(site.path("siglatchd.toml")).unwrap();
    assert!((1..7).all(|last| text.contains(&format!("192.0.2.{last}/32"))), "{text}");
    // One that somebody writes there by hand is none the less there.
    fs::write(
        site.path("siglatchd.toml"),
        text.replace("deny_from = [", "deny_from = [\"203.0.113.0/24\", "),
    )
    .unwrap();
    out(&ctl(&site, &["ban", "192.0.2.77"]));
    assert_eq!(banned(&site), 16);
    daemon.stop();
}

#[test]
fn who_is_to_be_kept_out_is_out_although_the_files_are_half_edited() {
    let mut site = Site::new().with_run();
    site.user("bob.smith", 7, &["run"], "");
    site.tables = site.tables.replace("[users.bob.smith]", "[users.\"bob.smith\"]");
    let daemon = site.start();
    out(&ctl(&site, &["disable", "user", "bob.smith"]));
    let good = fs::read_to_string(site.path("siglatchd.toml")).unwrap();
    assert!(good.contains("enabled = false"), "{good}");
    for (edited, keeps) in [
        (format!("bogus_key = 1\n{good}"), true),
        (good.replace("listen = [", "listen = [\"127.0.0.1:1\", "), true),
        (format!("{good}\n[users"), false),
    ] {
        fs::write(site.path("siglatchd.toml"), &edited).unwrap();
        let (socket, key) = (site.path("runtime/control.sock"), site.path("admin.key"));
        let way =
            ["--socket", socket.to_str().unwrap(), "--as", "root", "--admin-key", key.to_str().unwrap()];
        let said = if keeps {
            ctl(&site, &["disable", "user", "alice"])
        } else {
            refused(&ctl(&site, &["disable", "user", "alice"]), 78, "--socket, --as and --admin-key");
            ctl(&site, &[&["disable", "user", "alice", "--until-restart"], &way[..]].concat())
        };
        assert!(said.status.success(), "{said:?}");
        let told = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
        assert!(told.contains("users.alice.enabled = false"), "{told}");
        let before = daemon.log().len();
        daemon.send(&site.datagram());
        until("a refusal", || {
            daemon.log().into_iter().skip(before).find(|line| line.contains("code=user-disabled"))
        });
        out(&ctl(&site, &[&["ban", "192.0.2.0/24", "--until-restart"], &way[..]].concat()));
        fs::write(site.path("siglatchd.toml"), &good).unwrap();
        assert_eq!(banned(&site), 1);
        out(&ctl(&site, &["unban", "192.0.2.0/24", "--until-restart"]));
        out(&ctl(&site, &["enable", "user", "alice", "--until-restart"]));
        works(&site, &daemon);
    }
    refused(&ctl(&site, &["disable", "user", "carol"]), 64, "there is no user carol");
    refused(&ctl(&site, &["enable", "action", "none"]), 64, "siglatchctl action list names them");
    daemon.stop();
}

#[test]
fn nothing_is_done_without_a_whole_record_and_who_may_not_is_recorded() {
    let mut site = Site::new().with_run();
    let looker = site.file("looker.key", "11".repeat(32).as_bytes(), 0o600);
    let public = ed25519_dalek::SigningKey::from_bytes(&[0x11; 32]).verifying_key().to_bytes();
    let public = siglatch::control::Hex(public).to_string();
    site.tables += &format!("[admins.looker]\npublic_key = {public:?}\nrole = \"viewer\"\n");
    let mut daemon = site.start();
    let looks = ["--admin-key", looker.to_str().unwrap()];
    out(&ctl(&site, &[&["status"], &looks[..]].concat()));
    refused(
        &ctl(&site, &[&["disable", "user", "alice", "--until-restart"], &looks[..]].concat()),
        77,
        "this takes the role",
    );
    daemon.wait("a line", |line| line.contains("code=admin-refused") && line.contains("admin=looker"));
    let long = format!("[{}\"192.0.2.0/24\"]", " ".repeat(5000));
    refused(&ctl(&site, &["set", "deny_from", &long]), 78, "no whole record");
    assert_eq!(banned(&site), 0);
    works(&site, &daemon);
    until("the records", || {
        let trail = trail(&site);
        (trail.contains("\"looker\"") && trail.contains("users.alice.enabled")).then_some(())
    });
    daemon.stop();
}

#[test]
fn nothing_is_signed_for_another_server() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let text = fs::read_to_string(site.path("siglatchd.toml")).unwrap();
    let other = text.replace(&site.server_id.to_string(), &"ab".repeat(16));
    assert_ne!(text, other);
    fs::write(site.path("siglatchd.toml"), other).unwrap();
    refused(&ctl(&site, &["disable", "user", "alice", "--until-restart"]), 77, "who answers is server");
    fs::write(site.path("siglatchd.toml"), text).unwrap();
    works(&site, &daemon);
    daemon.stop();
}

#[test]
fn strangers_at_the_tcp_port_take_nobodys_place() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut site = Site::new().with_run();
    let token = site.file("control.token", &[b'7'; 32], 0o600);
    site.tables += &format!("[control]\nlisten = \"127.0.0.1:{port}\"\ntoken = \"control.token\"\n");
    let daemon = site.start();
    let _held: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let begin = Instant::now();
    for _ in 0..10 {
        out(&ctl(&site, &["status"]));
    }
    works(&site, &daemon);
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
    let address = format!("127.0.0.1:{port}");
    let asks = ["status", "--tcp", &address, "--token", token.to_str().unwrap()];
    until("an answer over TCP", || ctl(&site, &asks).status.success().then_some(()));
    daemon.stop();
}
