//! `siglatchctl doctor` on a server that works, and on one that does not: each finding has its remedy.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::common::Site;

/// What it says, and how it ends.
fn doctor(site: &Site) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
    let output = command.arg("doctor").arg("--config").arg(site.path("siglatchd.toml")).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

#[track_caller]
fn finds(site: &Site, finding: &str, mend: &str) {
    let (said, _) = doctor(site);
    let mut lines = said.lines().skip_while(|line| !line.contains(finding));
    assert!(lines.next().is_some(), "{finding}\n{said}");
    assert!(
        lines.next().is_some_and(|line| line.contains("mend: ") && line.contains(mend)),
        "{mend}\n{said}"
    );
}

#[test]
fn a_server_that_works_is_good_in_every_section() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let (said, code) = doctor(&site);
    assert_eq!(code, Some(0), "{said}");
    for good in [
        "siglatchd.toml can be used: users: 1, actions: 1",
        &format!("siglatchd {} answers, up ", env!("CARGO_PKG_VERSION")),
        "keys that are young enough: 4",
        "state is for its owner alone (mode 0700)",
        "runtime is for its owner alone (mode 0700)",
        "MiB free",
        "this kernel has every layer",
        "no action has `nft`",
        "the audit trail is whole up to record 2, and signed up to 0",
    ] {
        assert!(
            said.lines().any(|line| line.starts_with("  good  ") && line.contains(good)),
            "{good}\n{said}"
        );
    }
    assert!(said.contains("\nclock\n"));
    daemon.stop();
    finds(&site, "BAD   siglatchd cannot be asked: cannot ask siglatchd at ", "does it run");
    assert_eq!(doctor(&site).1, Some(78));
}

#[test]
fn what_is_wrong_is_told_with_its_remedy_and_nothing_is_changed() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let mode = |name: &str, mode| fs::set_permissions(site.path(name), Permissions::from_mode(mode)).unwrap();
    let age = |name: &str, time| {
        File::options().write(true).open(site.path(name)).unwrap().set_modified(time).unwrap()
    };

    age("siglatchd.toml", SystemTime::now() + Duration::from_secs(5));
    finds(&site, "look  ", "siglatchctl check; siglatchctl reload");
    age("siglatchd.toml", SystemTime::now() - Duration::from_secs(60));
    assert!(!doctor(&site).0.contains("was changed after"));

    age("alice.hmac", SystemTime::now() - Duration::from_secs(800 * 86_400));
    finds(&site, "alice.hmac is 800 days old", "siglatchctl key rotate user alice");

    for (name, open, right, finding) in [
        ("admin.key", 0o644, 0o600, "admin.key is readable by its group and others"),
        ("alice.hmac", 0o640, 0o600, "alice.hmac is readable by its group"),
        ("state", 0o755, 0o700, "state is open to others (mode 0755)"),
        ("runtime", 0o711, 0o700, "runtime is open to others (mode 0711)"),
    ] {
        mode(name, open);
        finds(&site, finding, &format!("chmod {right:o} "));
        let (said, code) = doctor(&site);
        assert!(said.contains("  BAD ") && code == Some(78), "{name}: {said}");
        mode(name, right);
    }

    fs::remove_file(site.path("admin.key")).unwrap();
    finds(&site, "look  siglatchd cannot be asked: there is no key to sign with", "siglatchctl admin add");
    assert!(!site.path("admin.key").exists(), "none is made");
    daemon.stop();
}

#[test]
fn a_trail_that_was_changed_is_found_in_its_file_and_in_the_store() {
    let site = Site::new().with_run();
    site.start().stop();
    finds_bad(&site, None);
    let text = fs::read_to_string(site.path("state/audit.jsonl")).unwrap();
    fs::write(site.path("state/audit.jsonl"), text.replacen("\"version\":\"", "\"version\":\"7", 1)).unwrap();
    finds_bad(&site, Some("the audit trail is not whole: record 2 was changed ("));
    fs::write(site.path("state/audit.jsonl"), text).unwrap();
    finds_bad(&site, None);
    let store = rusqlite::Connection::open(site.path("state/claims.db")).unwrap();
    store
        .execute("UPDATE audit SET line = replace(line, 'version\":\"', 'version\":\"7') WHERE seq = 2", ())
        .unwrap();
    drop(store);
    finds_bad(&site, Some("the audit trail is whole, but the store's record 2 is another"));
}

#[track_caller]
fn finds_bad(site: &Site, finding: Option<&str>) {
    let (said, code) = doctor(site);
    assert_eq!(code, Some(78), "{said}");
    // Nobody has started siglatchd.
    let bad = |line: &&str| line.starts_with("  BAD ") && !line.contains("siglatchd cannot be asked");
    assert_eq!(said.lines().filter(bad).count(), usize::from(finding.is_some()), "{said}");
    assert!(said.contains(finding.unwrap_or("the audit trail is whole up to record")), "{said}");
}
