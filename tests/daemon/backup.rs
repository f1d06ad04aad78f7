//! `siglatchctl backup` and `restore`: what comes back runs no knock again, and gives nobody back what was taken away.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use age::secrecy::ExposeSecret as _;
use siglatch::wire::{Binding, HmacKey, Knock};

use crate::common::{Daemon, Site, knock, unix, until};

/// A site, and an identity of age in `key.txt` that its backups are for.
struct Kept {
    site: Site,
    recipient: String,
}

impl Kept {
    fn new() -> Kept {
        let site = Site::new().with_run();
        let identity = age::x25519::Identity::generate();
        let text = format!("# a comment\n{}\n", identity.to_string().expose_secret());
        site.file("key.txt", text.as_bytes(), 0o600);
        site.write_config();
        Kept { site, recipient: identity.to_public().to_string() }
    }

    fn ctl(&self, args: &[&str]) -> (String, i32) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
        let output = command.args(args).current_dir(self.site.dir.path()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8(said).unwrap(), output.status.code().unwrap())
    }

    #[track_caller]
    fn backup(&self, file: &str) -> String {
        let (said, code) =
            self.ctl(&["backup", file, "--recipient", &self.recipient, "--config", "siglatchd.toml"]);
        assert_eq!(code, 0, "{said}");
        // What is changed from now on is changed after it, to the second.
        let then = unix();
        until("the next second", || (unix() > then).then_some(()));
        said
    }

    fn restore(&self, file: &str, more: &[&str]) -> (String, i32) {
        self.ctl(&[&["restore", file, "--identity", "key.txt"], more].concat())
    }

    fn verify(&self, file: &str) -> (String, i32) {
        self.ctl(&["backup", "verify", file, "--identity", "key.txt"])
    }

    /// A knock that is later than what a restored store refuses.
    fn later(&self) -> Vec<u8> {
        let knock = Knock { timestamp: unix() + 2, ..knock(1, b"") };
        self.site.sealed(&knock, Binding::Server(self.site.server_id))
    }

    /// siglatchd on the configuration that is there.
    fn start(&self) -> Daemon {
        crate::common::spawn(&self.site.path("siglatchd.toml"), |_| {}).ready()
    }

    fn config(&self) -> toml::Table {
        fs::read_to_string(self.site.path("siglatchd.toml")).unwrap().parse().unwrap()
    }

    /// A user with a key of his own.
    fn user(&self, name: &str, id: u8) -> String {
        self.site.file(&format!("{name}.hmac"), &[id; 32], 0o600);
        format!("[users.{name}]\nid = {id}\nhmac_key = \"{name}.hmac\"\nactions = [\"run\"]\n")
    }

    /// Bob, carol, dave, a network that is banned, and the administrator eve. Returns the configuration without eve.
    fn with_more_people(&self) -> String {
        let text = fs::read_to_string(self.site.path("siglatchd.toml")).unwrap();
        let users = [("bob", 2), ("carol", 3), ("dave", 4)].map(|(name, id)| self.user(name, id)).concat();
        let text = format!("include = [\"users.d/*.toml\"]\ndeny_from = [\"192.0.2.0/24\"]\n{text}{users}");
        let key = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        let eve = format!("[admins.eve]\npublic_key = \"{key}\"\nrole = \"admin\"\n");
        self.site.file("siglatchd.toml", format!("{text}{eve}").as_bytes(), 0o600);
        text
    }

    fn lose(&self, names: &[&str]) {
        for name in names {
            let path: PathBuf = self.site.path(name);
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
}

#[test]
fn a_lost_server_comes_back_and_runs_no_knock_again() {
    let kept = Kept::new();
    let daemon = kept.start();
    let (before, after) = (kept.site.datagram(), kept.site.datagram());
    daemon.send(&before);
    until("a run", || (kept.site.runs() == 1).then_some(()));
    let said = kept.backup("one.age");
    assert!(said.contains("its SHA-256, to be kept elsewhere: "), "{said}");
    assert_eq!(fs::metadata(kept.site.path("one.age")).unwrap().permissions().mode() & 0o777, 0o600);
    let (verified, code) = kept.verify("one.age");
    assert_eq!((code, verified.contains("store: good")), (0, true), "{verified}");
    let hash = |text: &str| text.lines().last().unwrap().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(hash(&said), hash(&verified));
    daemon.send(&after);
    until("another", || (kept.site.runs() == 2).then_some(()));
    daemon.stop();

    kept.lose(&["siglatchd.toml", "server.key.pem", "alice.hmac", "admin.key", "actions", "state"]);
    let (said, code) = kept.restore("one.age", &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("knocks that were made before now are refused"), "{said}");
    let daemon = kept.start();
    daemon.send(&before);
    daemon.send(&after);
    daemon.send(&kept.later());
    until("a run of what is new", || (kept.site.runs() == 3).then_some(()));
    let stopped = daemon.stop();
    assert_eq!(
        (stopped.count("ran"), stopped.count("floor") + stopped.count("replay")),
        (1, 2),
        "{}",
        stopped.log.join("\n")
    );
    let (said, code) = kept.ctl(&["audit", "verify", "--config", "siglatchd.toml"]);
    assert_eq!(code, 0, "{said}");
    let left = fs::read_dir(kept.site.path("state")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_was_revoked_since_stays_revoked_and_the_newer_store_stays() {
    let kept = Kept::new();
    let text = kept.with_more_people();
    kept.backup("one.age");

    // One that came in since, by a pattern.
    fs::create_dir(kept.site.path("users.d")).unwrap();
    kept.site.file("users.d/new.toml", b"[users]\n", 0o600);
    let newer = text
        .replace("[\"192.0.2.0/24\"]", "[\"192.0.2.0/24\", \"198.51.100.0/24\"]")
        .replace("[users.bob]\n", "[users.bob]\nenabled = false\n")
        .replace(&kept.user("carol", 3), "");
    kept.site.file("siglatchd.toml", newer.as_bytes(), 0o600);
    kept.site.file("dave.hmac", &[9; 32], 0o600);
    let daemon = kept.start();
    let old = kept.site.datagram();
    daemon.send(&old);
    until("a run", || (kept.site.runs() == 1).then_some(()));
    let (said, code) = kept.restore("one.age", &["--force"]);
    assert_eq!(code, 75, "the daemon runs: {said}");
    daemon.stop();

    let (said, code) = kept.restore("one.age", &[]);
    assert_eq!(code, 78, "{said}");
    for reason in
        ["is newer than the backup", "its trail has ", "siglatchd.toml was changed", "dave.hmac was changed"]
    {
        assert!(said.contains(reason), "{reason} is not in {said}");
    }
    assert_eq!(fs::read_to_string(kept.site.path("siglatchd.toml")).unwrap(), newer);

    let (said, code) = kept.restore("one.age", &["--force"]);
    assert_eq!(code, 0, "{said}");
    for line in [
        "user bob was disabled since",
        "user carol was removed since",
        "administrator eve was removed",
        "networks were banned since",
        "dave.hmac was replaced since: stays",
        "the store that is there is whole and knows more",
        "siglatchd.toml.before-",
        "users.d/new.toml is in no backup",
    ] {
        assert!(said.contains(line), "{line} is not in {said}");
    }
    let config = kept.config();
    for (user, enabled) in [("alice", None), ("bob", Some(false)), ("carol", Some(false)), ("dave", None)] {
        assert_eq!(config["users"][user].get("enabled").and_then(toml::Value::as_bool), enabled, "{user}");
    }
    assert_eq!(config["deny_from"].as_array().unwrap().len(), 2);
    assert!(config["admins"].get("eve").is_none());
    let key = fs::read(kept.site.path("dave.hmac")).unwrap();
    assert_eq!(HmacKey::parse(&key).unwrap(), HmacKey::new([9; 32]).unwrap());
    let daemon = kept.start();
    daemon.send(&old);
    daemon.send(&kept.site.datagram());
    until("the fresh one", || (kept.site.runs() == 2).then_some(()));
    assert_eq!(daemon.stop().count("replay"), 1);
}

#[test]
fn a_damaged_store_is_put_aside_and_another_servers_configuration_needs_force() {
    let kept = Kept::new();
    kept.start().stop();
    kept.backup("one.age");
    kept.site.file("state/claims.db", b"no store", 0o600);
    let (said, code) = kept.restore("one.age", &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("claims.db.before-"), "{said}");
    let daemon = kept.start();
    daemon.send(&kept.later());
    until("a run", || (kept.site.runs() == 1).then_some(()));
    daemon.stop();

    let other = fs::read_to_string(kept.site.path("siglatchd.toml")).unwrap().replace("0707", "0808");
    kept.site.file("siglatchd.toml", other.as_bytes(), 0o600);
    let (said, code) = kept.restore("one.age", &[]);
    assert_eq!((code, said.contains("another server's")), (78, true), "{said}");
    let (said, code) = kept.restore("one.age", &["--force"]);
    assert_eq!((code, said.contains("stays disabled")), (0, false), "{said}");
}

#[test]
fn an_invite_that_was_open_is_void_on_the_restored_server_and_one_that_was_used_stays_its_users() {
    let mut kept = Kept::new();
    kept.site.top += "public_host = \"127.0.0.1\"\nreply = \"receipt\"\n";
    kept.site.write_config();
    let daemon = kept.start();
    let text = fs::read_to_string(kept.site.path("siglatchd.toml")).unwrap();
    let text = text.replace("127.0.0.1:0", &daemon.address.to_string());
    let port = daemon.address.port().to_string();
    daemon.stop();
    kept.site.file("siglatchd.toml", text.as_bytes(), 0o600);
    let daemon = kept.start();
    let ok = |(said, code): (String, i32)| if code == 0 { said } else { panic!("{said}") };
    for name in ["bob", "carol"] {
        let invite = format!("{name}.invite");
        let more = ["--once", "--expires", "2d", "--port", &port, "--profile-name", "office"];
        let at = ["--action", "run", "--invite", &invite, "--config", "siglatchd.toml"];
        ok(kept.ctl(&[&["user", "add", name], &more[..], &at[..]].concat()));
    }
    ok(kept.ctl(&["reload", "--config", "siglatchd.toml"]));
    let siglatch = |home: &str, args: &[&str]| {
        let mut client = Command::new(env!("CARGO_BIN_EXE_siglatch"));
        let home = kept.site.path(home);
        let output = client
            .args(args)
            .env("HOME", home)
            .env_remove("XDG_CONFIG_HOME")
            .current_dir(kept.site.dir.path())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8(said).unwrap(), output.status.code().unwrap())
    };
    ok(siglatch("carol", &["join", "carol.invite"]));
    kept.backup("one.age");
    daemon.stop();

    kept.lose(&["siglatchd.toml", "server.key.pem", "alice.hmac", "keys", "enrol.key", "actions", "state"]);
    let said = ok(kept.restore("one.age", &[]));
    assert!(said.contains("the invite of user bob was open: it is void, make another"), "{said}");
    assert!(!said.contains("carol"), "{said}");
    let daemon = kept.start();
    let now = unix();
    until("the next second", || (unix() > now).then_some(()));
    let (said, code) = siglatch("bob", &["join", "bob.invite"]);
    assert_ne!(code, 0, "{said}");
    ok(siglatch("carol", &["knock", "office", "run"]));
    until("a run", || (kept.site.runs() == 1).then_some(()));
    daemon.stop();
}

#[test]
fn a_backup_that_was_touched_or_is_for_somebody_else_changes_nothing() {
    let kept = Kept::new();
    kept.start().stop();
    kept.backup("good.age");
    let (said, code) =
        kept.ctl(&["backup", "good.age", "--recipient", &kept.recipient, "--config", "siglatchd.toml"]);
    assert_eq!((code, said.contains("no backup is overwritten")), (78, true), "{said}");
    let good = fs::read(kept.site.path("good.age")).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let stranger = age::x25519::Identity::generate();
    kept.site.file("other.txt", stranger.to_string().expose_secret().as_bytes(), 0o600);
    let bad = [
        ("flipped.age", flipped(good.len() / 2)),
        ("last.age", flipped(good.len() - 1)),
        ("head.age", flipped(100)),
        ("cut.age", good[..good.len() - 1].to_vec()),
        ("half.age", good[..good.len() / 2].to_vec()),
        ("longer.age", [&good[..], b"x"].concat()),
        ("empty.age", Vec::new()),
    ];
    let config = fs::read(kept.site.path("siglatchd.toml")).unwrap();
    kept.lose(&["alice.hmac"]);
    for (name, bytes) in &bad {
        kept.site.file(name, bytes, 0o600);
        for (said, code) in [kept.verify(name), kept.restore(name, &["--force"])] {
            assert_eq!(code, 78, "{name}: {said}");
        }
    }
    let (said, code) = kept.ctl(&["backup", "verify", "good.age", "--identity", "other.txt"]);
    assert_eq!((code, said.contains("another key or passphrase")), (78, true), "{said}");
    assert!(!kept.site.path("alice.hmac").exists());
    assert_eq!(fs::read(kept.site.path("siglatchd.toml")).unwrap(), config);
    assert_eq!(kept.restore("good.age", &[]).1, 0);
    assert!(kept.site.path("alice.hmac").exists());
}

#[test]
fn a_passphrase_opens_what_it_closed_and_a_short_one_closes_nothing() {
    let kept = Kept::new();
    kept.site.file("long", b"correct horse battery staple\n", 0o600);
    kept.site.file("wrong", b"correct horse battery stable\n", 0o600);
    kept.site.file("short", b"secret\n", 0o600);
    let with = |file: &str| {
        kept.ctl(&["backup", &format!("{file}.age"), "--passphrase-file", file, "--config", "siglatchd.toml"])
    };
    let (said, code) = with("short");
    assert_eq!((code, said.contains("at least 12 characters")), (64, true), "{said}");
    assert!(!kept.site.path("short.age").exists());
    let (said, code) = with("long");
    assert_eq!(code, 0, "{said}");
    let verify = |file: &str| kept.ctl(&["backup", "verify", "long.age", "--passphrase-file", file]);
    assert_eq!(verify("long").1, 0);
    let (said, code) = verify("wrong");
    assert_eq!((code, said.contains("another key or passphrase")), (78, true), "{said}");
    let (said, code) = kept.ctl(&["backup", "plain.age", "--config", "siglatchd.toml"]);
    assert_eq!((code, said.contains("--recipient")), (64, true), "{said}");
    kept.lose(&["alice.hmac"]);
    let (said, code) =
        kept.ctl(&["backup", "short.age", "--recipient", &kept.recipient, "--config", "siglatchd.toml"]);
    assert_eq!((code, said.contains("alice.hmac")), (78, true), "{said}");
}
