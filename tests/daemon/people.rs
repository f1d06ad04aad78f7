//! Users who come and go while the daemon runs.

use std::process::{Command, Output};

use crate::common::{Site, field, until};

fn ctl(site: &Site, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
    command.args(args).arg("--config").arg(site.path("siglatchd.toml")).output().unwrap()
}

#[test]
fn a_user_who_is_removed_is_out_at_once_and_his_door_closes() {
    let site = Site::new().with_door("1h", "");
    let daemon = site.start();
    daemon.send(&site.datagram());
    until("the door is open", || (site.said() == ["run 127.0.0.1 alice"]).then_some(()));
    let said = ctl(&site, &["user", "remove", "alice", "--yes"]);
    assert!(said.status.success(), "{said:?}");
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("siglatchd goes by that now; leases of alice that were ended: 1"), "{text}");
    until("the door is closed", || (site.said().len() == 2).then_some(()));
    daemon.send(&site.datagram());
    until("he is refused", || {
        let status = ctl(&site, &["status"]).stdout;
        String::from_utf8_lossy(&status).contains("not-authentic 1").then_some(())
    });
    assert!(!site.path("alice.hmac").exists());
    daemon.stop();
}

#[test]
fn a_user_is_switched_off_and_on() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    let off = ctl(&site, &["user", "disable", "alice"]);
    assert!(off.status.success(), "{off:?}");
    daemon.send(&site.datagram());
    let line = daemon.wait("a refusal", |line| line.contains("code=user-disabled"));
    assert_eq!(field(&line, "user").as_deref(), Some("alice"));
    assert!(ctl(&site, &["user", "enable", "alice"]).status.success());
    daemon.send(&site.datagram());
    until("a run", || (site.runs() == 1).then_some(()));
    daemon.stop();
}

#[test]
fn a_new_user_is_given_no_id_that_somebody_used() {
    let mut site = Site::new().with_run();
    site.top += "public_host = \"vpn\"\n";
    let daemon = site.start();
    daemon.send(&site.datagram());
    until("a run", || (site.runs() == 1).then_some(()));
    assert!(ctl(&site, &["user", "remove", "alice", "--yes"]).status.success());
    let invite = site.path("bob.invite");
    let invite = invite.to_str().unwrap();
    let added = ctl(&site, &["user", "add", "bob", "--action", "run", "--invite", invite, "--port", "1"]);
    assert!(String::from_utf8_lossy(&added.stdout).contains("added bob (2)"), "{added:?}");
    daemon.stop();
}

#[test]
fn a_running_daemon_goes_by_a_new_user_at_once() {
    let mut site = Site::new().with_run();
    site.top += "public_host = \"vpn\"\n";
    let mut daemon = site.start();
    let add = |name: &str, invite: &str| {
        ctl(&site, &["user", "add", name, "--action", "run", "--invite", invite, "--port", "1"])
    };
    let file = site.path("bob.invite");
    let added = add("bob", file.to_str().unwrap());
    let said = String::from_utf8(added.stdout).unwrap();
    assert!(added.status.success() && said.contains("siglatchd goes by that now\nnext: hand "), "{said}");
    daemon.wait("a reload", |line| line.contains("code=reloaded"));
    let added = add("carol", "-");
    assert!(String::from_utf8_lossy(&added.stderr).contains("siglatchd goes by that now"), "{added:?}");
    let invite = siglatch::wire::Invite::parse(std::str::from_utf8(&added.stdout).unwrap()).unwrap();
    assert_eq!(invite.user.as_str(), "carol");
    daemon.stop();
}

#[test]
fn a_user_is_added_where_the_daemon_cannot_read_what_else_is_wrong() {
    let mut site = Site::new().with_run();
    site.top += "public_host = \"vpn\"\n";
    let daemon = site.start();
    let config = std::fs::read_to_string(site.path("siglatchd.toml")).unwrap();
    site.file("siglatchd.toml", format!("{config}\n[actions.bad]\nid = 1\n").as_bytes(), 0o600);
    let invite = site.path("bob.invite");
    let invite = invite.to_str().unwrap();
    let added = ctl(&site, &["user", "add", "bob", "--action", "run", "--invite", invite, "--port", "1"]);
    assert!(added.status.success(), "{added:?}");
    let (out, err) = (String::from_utf8_lossy(&added.stdout), String::from_utf8_lossy(&added.stderr));
    assert!(out.contains("added bob (2)") && !out.contains("goes by that"), "{out}");
    assert!(err.contains("warning: the files are changed, but siglatchd goes on as before"), "{err}");
    assert!(err.contains("then: siglatchctl reload"), "{err}");
    assert!(std::path::Path::new(invite).exists());
    daemon.stop();
}
