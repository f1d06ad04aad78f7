//! What a container gives siglatchd: settings in the environment, secrets as credentials.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use crate::common::{Site, until};
use crate::control::{ctl, out, refused};

/// `siglatchd --check` on the site's configuration with this environment: what it says, and how it ends.
fn check(site: &Site, environment: &[(&str, &str)]) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siglatchd"));
    command.args(["--check", "--config"]).arg(site.write_config()).envs(environment.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    (String::from_utf8([stdout, stderr].concat()).unwrap(), status.code().unwrap())
}

#[test]
fn the_environment_stands_over_the_file_and_says_so_where_it_is_wrong() {
    let site = Site::new().with_run();
    let wrong = [
        ("SIGLATCH_FRESHNESS", "soon", "`freshness` takes a time", "# SIGLATCH_FRESHNESS"),
        ("SIGLATCH_LISTEN", "127.0.0.1:0,here", "here", "# SIGLATCH_LISTEN"),
        ("SIGLATCH_REQUIRE_STAMP", "maybe", "SIGLATCH_REQUIRE_STAMP cannot be read", "write true or false"),
        ("SIGLATCH_ALLOW_FROM", "", "SIGLATCH_ALLOW_FROM cannot be read", "or unset it"),
        ("SIGLATCH_BIND", "x\"\nlisten = []", "`bind` takes", "# SIGLATCH_BIND"),
        ("SIGLATCH_PRIVATE_KEY", "absent.pem", "absent.pem is not there", "# SIGLATCH_PRIVATE_KEY"),
    ];
    for (name, value, message, more) in wrong {
        let (said, code) = check(&site, &[(name, value)]);
        assert_eq!(code, 78, "{said}");
        assert!(said.contains(message) && said.contains(more), "{said}");
    }
    let (said, code) = check(&site, &[("SIGLATCH_BINT", "none")]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("SIGLATCH_BINT is no setting") && said.contains("did you mean SIGLATCH_BIND?"),
        "{said}"
    );
    // Of a script, of a test, of no setting at all, and of a table that is none of the top.
    let others = [
        ("SIGLATCH_USER", "alice"),
        ("SIGLATCH_PORT", "x"),
        ("SIGLATCH_ACTION", "x"),
        ("SIGLATCH_LIMITS", "x"),
    ];
    let (said, code) = check(&site, &others);
    assert_eq!((code, said.contains("SIGLATCH")), (0, false), "{said}");
}

#[test]
fn a_daemon_runs_by_the_environment_and_what_asks_it_finds_it_there() {
    let mut site = Site::new().with_run();
    // What the file says here cannot be used: it does not count.
    site.top = site.top.replace("127.0.0.1:0", "nowhere").replace("\"runtime\"", "\"/absent/folder\"");
    let environment = [
        ("SIGLATCH_LISTEN", "127.0.0.1:0"),
        ("SIGLATCH_RUNTIME_DIR", "runtime"),
        ("SIGLATCH_REPLY", "never"),
    ];
    let daemon = site.start_with(|command| {
        command.envs(environment);
    });
    daemon.send(&site.datagram());
    until("a run", || (site.runs() == 1).then_some(()));
    let ask = |environment: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
        command
            .args(["status", "--config"])
            .arg(site.path("siglatchd.toml"))
            .envs(environment.iter().copied());
        command.output().unwrap().status.code()
    };
    assert_eq!(ask(&environment), Some(0));
    assert_ne!(ask(&[]), Some(0));
    let before = fs::read_to_string(site.path("siglatchd.toml")).unwrap();
    let mut add = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
    add.args(["user", "add", "bob", "--action", "run", "--invite", "-", "--config"])
        .arg(site.path("siglatchd.toml"));
    add.envs(environment)
        .env("SIGLATCH_PUBLIC_HOST", "vpn.example.org")
        .env("SIGLATCH_LISTEN", "127.0.0.1:1234");
    let output = add.output().unwrap();
    let invite = String::from_utf8(output.stdout).unwrap();
    assert!(invite.contains("host = \"vpn.example.org\"\nport = 1234\n"), "{invite}");
    let after = fs::read_to_string(site.path("siglatchd.toml")).unwrap();
    assert!(after.starts_with(before.lines().next().unwrap()) && !after.contains("1234"), "{after}");
    daemon.stop();
}

#[test]
fn what_the_environment_stands_over_is_said_to_be_in_no_file_and_the_file_stays() {
    let mut site = Site::new().with_run();
    site.top += "deny_from = [\"198.51.100.0/24\"]\n";
    let daemon = site.start_with(|command| {
        command.env("SIGLATCH_DENY_FROM", "192.0.2.0/24");
    });
    let before = fs::read_to_string(site.path("siglatchd.toml")).unwrap();
    let banned = ctl(&site, &["ban", "203.0.113.7"]);
    refused(&banned, 78, "in force until siglatchd ends, but not in the configuration: SIGLATCH_DENY_FROM");
    assert_eq!(fs::read_to_string(site.path("siglatchd.toml")).unwrap(), before);
    let differs = out(&ctl(&site, &["diff"]));
    assert!(differs.contains("203.0.113.7") && differs.contains("192.0.2.0/24"), "{differs}");
    daemon.stop();
}

#[test]
fn secrets_that_the_service_manager_hands_over_are_read_below_its_folder_alone() {
    let mut site = Site::new().with_run();
    let folder = site.path("credentials");
    fs::create_dir(&folder).unwrap();
    // As systemd shows them to a service with a user of its own: the group's rights are the mask of an access list.
    site.file("credentials/alice", site.hmac.to_hex().as_bytes(), 0o440);
    site.file("credentials/server", site.key.to_pem().unwrap().as_bytes(), 0o440);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o550)).unwrap();
    site.tables = site.tables.replace("\"alice.hmac\"", "\"credential:alice\"");
    for secret in ["server.key.pem", "alice.hmac"] {
        fs::remove_file(site.path(secret)).unwrap();
    }
    let directory = folder.to_str().unwrap().to_owned();
    let key = ("SIGLATCH_PRIVATE_KEY", "credential:server");
    let daemon = site.start_with(|command| {
        command.envs([("CREDENTIALS_DIRECTORY", directory.as_str()), key]);
    });
    daemon.send(&site.datagram());
    until("a run", || (site.runs() == 1).then_some(()));
    refused(&ctl(&site, &["key", "revoke", "user", "alice"]), 78, "the key of alice is a credential");
    daemon.stop();

    let here = ("CREDENTIALS_DIRECTORY", directory.as_str());
    let (said, code) = check(&site, &[key]);
    assert_eq!((code, said.contains("the service manager handed none over")), (78, true), "{said}");
    assert!(said.contains("LoadCredential=NAME:FILE"), "{said}");
    for name in ["../alice.hmac", "", ".", "..", "a/b"] {
        let key = format!("credential:{name}");
        let (said, code) = check(&site, &[here, ("SIGLATCH_PRIVATE_KEY", &key)]);
        assert_eq!((code, said.contains("is no name of a credential")), (78, true), "{name}: {said}");
    }
    let (said, code) = check(&site, &[here, ("SIGLATCH_PRIVATE_KEY", "credential:absent")]);
    assert_eq!((code, said.contains("absent is not there")), (78, true), "{said}");
    fs::set_permissions(folder.join("server"), fs::Permissions::from_mode(0o444)).unwrap();
    let (said, code) = check(&site, &[here, key]);
    assert_eq!((code, said.contains("is readable by ")), (78, true), "{said}");
}
