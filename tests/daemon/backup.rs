//! `siglatchctl backup` and `restore`: what comes back runs no knock again, and gives nobody back what was taken away.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
#[cfg(feature = "crash-points")]
use std::os::unix::process::ExitStatusExt as _;
#[cfg(feature = "crash-points")]
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use age::secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
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

    /// `restore --force`, killed at a step.
    #[cfg(feature = "crash-points")]
    fn killed(&self, file: &str, step: &str) -> bool {
        let mut command = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
        command.args(["restore", file, "--identity", "key.txt", "--force"]);
        command.env("SIGLATCH_CRASH_AT", step).current_dir(self.site.dir.path());
        command.output().unwrap().status.signal() == Some(9)
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

    /// An archive as anybody can make one who knows the recipient: a manifest, and what follows it.
    fn forge(&self, file: &str, manifest: &serde_json::Value, entries: &[(u8, u64, &[u8])]) {
        let recipient: age::x25519::Recipient = self.recipient.parse().unwrap();
        let recipients = std::iter::once(&recipient as &dyn age::Recipient);
        let mut tar = Vec::new();
        let json = serde_json::to_vec(manifest).unwrap();
        for (kind, size, bytes) in [(b'0', json.len() as u64, &json[..])].iter().chain(entries) {
            let mut header = tar::Header::new_gnu();
            header.set_path("x").unwrap();
            header.set_size(*size);
            header.set_entry_type(tar::EntryType::new(*kind));
            if let (b'S', Some(gnu)) = (*kind, header.as_gnu_mut()) {
                gnu.set_real_size(1 << 40);
            }
            header.set_cksum();
            tar.extend(header.as_bytes());
            tar.extend(*bytes);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
        tar.resize(tar.len() + 1024, 0);
        let encryptor = age::Encryptor::with_recipients(recipients).unwrap();
        let mut out = encryptor.wrap_output(fs::File::create(self.site.path(file)).unwrap()).unwrap();
        out.write_all(&tar).unwrap();
        out.finish().unwrap();
    }

    /// The same with these files, as they are told: part, path, mode and content.
    fn forge_files(&self, file: &str, files: &[(&str, &str, u32, &[u8])]) {
        let told = files.iter().map(|(part, path, mode, bytes)| {
            let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            serde_json::json!({ "path": self.site.path(path), "part": part, "mode": mode, "len": bytes.len(), "sha256": hash })
        });
        let entries: Vec<_> = files.iter().map(|(.., bytes)| (b'0', bytes.len() as u64, *bytes)).collect();
        self.forge(file, &self.manifest(told.collect()), &entries);
    }

    fn manifest(&self, files: Vec<serde_json::Value>) -> serde_json::Value {
        serde_json::json!({
            "siglatch_backup": 1, "version": "0.1.0", "made_at": 4_000_000_000_u32, "store": null, "files": files,
            "config": self.site.path("siglatchd.toml"), "state_dir": self.site.path("state"),
        })
    }

    /// siglatchd, and the port that it has again after a restart, with users who can exchange their keys.
    fn exchanging(&mut self) -> (Daemon, String) {
        self.site.top += "public_host = \"127.0.0.1\"\nreply = \"receipt\"\n";
        self.site.write_config();
        let daemon = self.start();
        let text = fs::read_to_string(self.site.path("siglatchd.toml")).unwrap();
        let text = text.replace("127.0.0.1:0", &daemon.address.to_string());
        let port = daemon.address.port().to_string();
        daemon.stop();
        self.site.file("siglatchd.toml", text.as_bytes(), 0o600);
        (self.start(), port)
    }

    fn siglatch(&self, home: &str, args: &[&str]) -> (String, i32) {
        let mut client = Command::new(env!("CARGO_BIN_EXE_siglatch"));
        client.args(args).env("HOME", self.site.path(home)).env_remove("XDG_CONFIG_HOME");
        let output = client.current_dir(self.site.dir.path()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8(said).unwrap(), output.status.code().unwrap())
    }

    fn lose(&self, names: &[&str]) {
        for name in names {
            let path: PathBuf = self.site.path(name);
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
}

#[track_caller]
fn ok((said, code): (String, i32)) -> String {
    assert_eq!(code, 0, "{said}");
    said
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
    let (said, code) = kept.restore("one.age", &["--force"]);
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
    until("the refusal", || daemon.log().iter().any(|line| line.contains("code=replay")).then_some(()));
    daemon.send(&kept.site.datagram());
    until("the fresh one", || (kept.site.runs() == 2).then_some(()));
    assert_eq!(daemon.stop().count("replay"), 1);
}

#[test]
fn a_forged_backup_puts_nothing_where_it_does_not_belong_nor_under_a_mode_that_gives_it_away() {
    let kept = Kept::new();
    kept.start().stop();
    let config = fs::read(kept.site.path("siglatchd.toml")).unwrap();
    let main = ("config", "siglatchd.toml", 0o100_666, &config[..]);
    kept.site.file("passwd", b"before", 0o644);
    for (nth, bad) in [
        ("trail", "passwd", 0o644, &b"x"[..]),
        ("trail", "state/passwd", 0o644, b"x"),
        ("trail", "state/deep/audit.jsonl", 0o644, b"x"),
        ("store", "passwd", 0o644, b"x"),
        ("store", "state/claims.db-wal", 0o644, b"x"),
        ("store", "state/claims.db", 0o600, b"x"),
        ("key", "state/claims.db", 0o600, b"x"),
        ("program", "state/audit.key", 0o755, b"x"),
        ("config", "state/audit.jsonl", 0o600, b"x"),
        ("key", "siglatchd.toml", 0o600, b"x"),
        ("config", "../../siglatchd.toml", 0o600, b"x"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = format!("bad-{nth}.age");
        kept.forge_files(&file, &[main, bad]);
        for (said, code) in [kept.verify(&file), kept.restore(&file, &["--force"])] {
            assert_eq!(code, 78, "{bad:?}: {said}");
        }
    }
    kept.forge_files("lacks.age", &[("key", "alice.hmac", 0o600, b"x")]);
    assert_eq!(kept.restore("lacks.age", &["--force"]).1, 78);
    let mut loud = kept.manifest(Vec::new());
    loud["version"] = "\u{1b}[2J".into();
    kept.forge("loud.age", &loud, &[]);
    let (said, code) = kept.verify("loud.age");
    assert_eq!((code, said.contains('\u{1b}')), (78, false), "{said}");
    assert_eq!(fs::read(kept.site.path("passwd")).unwrap(), b"before");

    // What the configuration may name is put where it was, kept aside, and nobody's but its owner's.
    let key = kept.site.hmac.to_hex();
    let parts = [
        main,
        ("key", "alice.hmac", 0o104_666, key.as_bytes()),
        ("program", "bin/tool", 0o106_777, b"#!/bin/sh\n"),
    ];
    kept.forge_files("modes.age", &parts);
    let (said, code) = kept.verify("modes.age");
    assert_eq!(code, 0, "{said}");
    for (part, mode, path) in [("key", "104666", "alice.hmac"), ("program", "106777", "bin/tool")] {
        let line = said.lines().find(|line| line.ends_with(path)).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((words[0], words[1]), (part, mode), "{said}");
    }
    fs::create_dir(kept.site.path("bin")).unwrap();
    kept.site.file("bin/tool", b"before", 0o755);
    let (said, code) = kept.restore("modes.age", &["--force"]);
    assert_eq!(code, 0, "{said}");
    for (file, mode) in [("alice.hmac", 0o600), ("bin/tool", 0o755)] {
        let meta = fs::metadata(kept.site.path(file)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "{file}: {said}");
    }
    let line = said.lines().find(|line| line.contains("bin/tool.before-")).unwrap();
    let aside = line.rsplit(' ').next().unwrap();
    assert_eq!(fs::read(aside).unwrap(), b"before");
}

#[test]
fn files_outside_of_the_configurations_folder_are_named_and_need_force() {
    let kept = Kept::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let tool = elsewhere.path().join("tool");
    let config = fs::read(kept.site.path("siglatchd.toml")).unwrap();
    let main = ("config", "siglatchd.toml", 0o600, &config[..]);
    kept.forge_files("out.age", &[main, ("program", tool.to_str().unwrap(), 0o755, b"#!/bin/sh\n")]);
    let (said, code) = kept.restore("out.age", &[]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains(&format!("{} is outside of its folder", tool.display())), "{said}");
    assert!(!tool.exists());
    assert_eq!(kept.restore("out.age", &["--force"]).1, 0);
    assert!(tool.exists());
    kept.lose(&["siglatchd.toml"]);
    kept.forge_files("new.age", &[main]);
    let (said, code) = kept.restore("new.age", &[]);
    assert_eq!((code, said.contains("is its configuration, and not there yet")), (78, true), "{said}");
    assert!(!kept.site.path("siglatchd.toml").exists());
}

#[test]
fn a_bomb_is_refused_at_once_and_what_is_no_file_hangs_nobody() {
    let kept = Kept::new();
    let begun = std::time::Instant::now();
    let config = kept.site.path("siglatchd.toml");
    let told = |len: u64| {
        let main =
            serde_json::json!({ "path": config, "part": "config", "mode": 0o600, "len": len, "sha256": "" });
        kept.manifest(vec![main])
    };
    kept.forge("sparse.age", &told(512), &[(b'S', 512, &[0; 512])]);
    kept.forge("long.age", &told(1 << 19), &[(b'0', 512, &[0; 512])]);
    kept.forge("name.age", &told(512), &[(b'L', 1 << 40, &[b'a'; 512]), (b'0', 512, &[0; 512])]);
    kept.forge("pax.age", &told(512), &[(b'x', 512, &[b'1'; 512]), (b'0', 512, &[0; 512])]);
    let stanza = format!("-> X25519 {0}\n{0}\n", "A".repeat(43));
    let header = format!("age-encryption.org/v1\n{}--- {}\n", stanza.repeat(20_000), "A".repeat(43));
    kept.site.file("header.age", header.as_bytes(), 0o600);
    kept.site.file(
        "stanza.age",
        format!("age-encryption.org/v1\n-> {}", "a ".repeat(1 << 20)).as_bytes(),
        0o600,
    );
    nix::unistd::mkfifo(&kept.site.path("fifo.age"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for file in
        ["sparse.age", "long.age", "name.age", "pax.age", "header.age", "stanza.age", "fifo.age", "/dev/zero"]
    {
        for (said, code) in [kept.verify(file), kept.restore(file, &["--force"])] {
            assert_eq!(code, 78, "{file}: {said}");
        }
    }
    assert!(begun.elapsed().as_secs() < 60);
}

#[test]
fn what_was_narrowed_since_stays_narrow() {
    let mut kept = Kept::new();
    kept.site.action("more", 2, "true");
    kept.site.write_config();
    let text = kept.with_more_people().replace("actions = [\"run\"]\n", "actions = [\"run\", \"more\"]\n");
    let eve = "[admins.eve]\npublic_key = \"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c\"\nrole = ";
    let write = |text: &str, role: &str| {
        kept.site.file("siglatchd.toml", format!("{text}{eve}\"{role}\"\n").as_bytes(), 0o600);
    };
    let before = text.replace(
        "[users.dave]\n",
        "[users.dave]\nmax_knocks = 3\nallow_from = [\"10.0.0.0/8\"]\nquota = \"2/day\"\n",
    );
    write(&before, "admin");
    kept.start().stop();
    kept.backup("one.age");
    kept.site.file("enrol.key", "5a".repeat(32).as_bytes(), 0o600);
    kept.site.file("next.key.pem", kept.site.key.to_pem().unwrap().as_bytes(), 0o600);
    let newer = text
        .replace("\"server.key.pem\"", "\"next.key.pem\"")
        .replace("include = ", "enrol_key = \"enrol.key\"\nallow_from = [\"10.9.0.0/16\", \"127.0.0.0/8\"]\nfreshness = \"1m\"\ninclude = ")
        .replace("[users.bob]\n", "[users.bob]\nnot_after = 2020-01-01\nmax_knocks = 1\nbind = \"source\"\nrequire_stamp = true\n")
        .replace("[users.carol]\n", "[users.carol]\ninvite_until = 2100-01-01T00:00:00Z\nallow_from = [\"10.9.0.0/16\"]\nhours = \"mon 08:00-09:00\"\ncooldown = \"1h\"\n")
        .replace("[users.dave]\n", "[users.dave]\nmax_knocks = 5\nallow_from = [\"10.9.0.0/16\", \"192.0.2.0/24\"]\nquota = \"1/day\"\n")
        .replace("hmac_key = \"bob.hmac\"\nactions = [\"run\", \"more\"]", "hmac_key = \"bob-2.hmac\"\nactions = [\"more\"]")
        + &kept.user("zoe", 9);
    kept.site.file("bob-2.hmac", &[7; 32], 0o600);
    let newer = newer.replace("users.d/*.toml", "people.d/*.toml");
    write(&newer, "viewer");
    // One that came after the backup, and was taken out of force with the folder.
    fs::create_dir(kept.site.path("users.d")).unwrap();
    kept.site.file("users.d/mallory.toml", kept.user("mallory", 8).as_bytes(), 0o600);
    let (said, code) = kept.restore("one.age", &["--force"]);
    assert_eq!(code, 0, "{said}");
    let config = kept.config();
    let users = &config["users"];
    let is = |user: &str, key: &str, wanted: &str| {
        assert_eq!(users[user][key].to_string(), wanted, "{user} {key}: {said}")
    };
    is("bob", "actions", "[\"more\"]");
    is("bob", "not_after", "2020-01-01");
    is("bob", "max_knocks", "1");
    is("bob", "bind", "\"source\"");
    is("bob", "require_stamp", "true");
    is("bob", "hmac_key", &format!("{:?}", kept.site.path("bob-2.hmac").to_str().unwrap()));
    is("carol", "allow_from", "[\"10.9.0.0/16\"]");
    is("carol", "hours", "\"mon 08:00-09:00\"");
    is("carol", "invite_until", "2100-01-01T00:00:00Z");
    is("carol", "cooldown", "\"1h\"");
    is("carol", "actions", "[\"run\", \"more\"]");
    is("dave", "max_knocks", "3");
    is("dave", "allow_from", "[\"10.9.0.0/16\"]");
    is("dave", "quota", "\"1/day\"");
    assert_eq!(config["allow_from"].to_string(), "[\"10.9.0.0/16\", \"127.0.0.0/8\"]");
    assert!(!kept.site.path("users.d/mallory.toml").exists(), "{said}");
    assert_eq!(config["freshness"].as_str(), Some("1m"));
    assert_eq!(config["private_key"].as_str(), Some("next.key.pem"));
    assert_eq!(config["admins"]["eve"]["role"].as_str(), Some("viewer"));
    for line in [
        "user bob: what was set since stays: actions, bind, require_stamp, not_after, max_knocks, hmac_key",
        "user carol: what was set since stays: allow_from, cooldown, hours, invite_until",
        "user dave: what was set since stays: allow_from, quota",
        "allow_from was narrower since",
        "administrator eve may do less since",
        "user zoe is not in the backup",
    ] {
        assert!(said.contains(line), "{line} is not in {said}");
    }
    kept.start().stop();
}

#[test]
fn what_a_killed_backup_left_decrypted_goes_with_the_next() {
    let kept = Kept::new();
    kept.start().stop();
    let leave = |name: &str| {
        let folder = kept.site.path("state").join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("0"), b"a key").unwrap();
        folder
    };
    for command in ["backup", "restore"] {
        let left = [leave(".backup-abcdef"), leave(".restore-abcdef")];
        let used = leave(".restore-in-use");
        let holds = fs::File::open(&used).unwrap();
        holds.lock().unwrap();
        let (said, _) = kept.ctl(&["doctor", "--config", "siglatchd.toml"]);
        assert!(said.contains("left over from a backup or restore that was killed"), "{said}");
        if command == "backup" {
            kept.backup("one.age");
        } else {
            assert_eq!(kept.restore("one.age", &["--force"]).1, 0);
        }
        assert!(left.iter().all(|folder| !folder.exists()), "{command}");
        assert!(used.exists(), "{command}");
        fs::remove_dir_all(&used).unwrap();
    }
    let [old, new] = ["old", "new"].map(|name| leave(&format!("../.verify-siglatch-{name}")));
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(100);
    fs::File::open(&old).unwrap().set_modified(then).unwrap();
    let mut verify = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
    verify.args(["backup", "verify", "one.age", "--identity", "key.txt"]).env("TMPDIR", kept.site.dir.path());
    assert!(verify.current_dir(kept.site.dir.path()).status().unwrap().success());
    assert_eq!((old.exists(), new.exists()), (false, true));
}

/// Bob, carol, frank and gina stay out, eve is no administrator, dave's key is the new one, and a network is banned.
#[cfg(feature = "crash-points")]
#[track_caller]
fn assert_revoked(kept: &Kept, when: &str) {
    let main = kept.config();
    let included = fs::read_dir(kept.site.path("users.d")).unwrap().map(|entry| entry.unwrap().path());
    let included = included.filter(|file| file.extension().is_some_and(|end| end == "toml"));
    let included = included.map(|file| fs::read_to_string(file).unwrap().parse::<toml::Table>().unwrap());
    for file in std::iter::once(main.clone()).chain(included) {
        for user in ["bob", "carol", "frank", "gina"] {
            let user = file.get("users").and_then(|users| users.get(user));
            let off = user.is_none_or(|user| user.get("enabled") == Some(&toml::Value::Boolean(false)));
            assert!(off, "{when}: {user:?}");
        }
    }
    assert!(main["deny_from"].to_string().contains("198.51.100.0/24"), "{when}");
    assert!(main.get("admins").is_none_or(|admins| admins.get("eve").is_none()), "{when}");
    let key = fs::read(kept.site.path("dave.hmac")).unwrap();
    assert_eq!(HmacKey::parse(&key).unwrap(), HmacKey::new([9; 32]).unwrap(), "{when}");
}

#[cfg(feature = "crash-points")]
fn copy(from: &Path, to: &Path) {
    drop(fs::remove_dir_all(to));
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[cfg(feature = "crash-points")]
#[test]
fn what_was_revoked_stays_revoked_wherever_a_restore_is_killed() {
    let kept = Kept::new();
    let text = kept.with_more_people();
    fs::create_dir(kept.site.path("users.d")).unwrap();
    let [frank, gina] = [("frank", 5), ("gina", 6)].map(|(name, id)| {
        let key = kept.site.path(&format!("{name}.hmac"));
        kept.user(name, id).replace(&format!("{name}.hmac"), key.to_str().unwrap())
    });
    kept.site.file("users.d/one.toml", frank.as_bytes(), 0o600);
    kept.site.file("users.d/two.toml", gina.as_bytes(), 0o600);
    let daemon = kept.start();
    for runs in 1..=4 {
        daemon.send(&kept.site.datagram());
        until("a run", || (kept.site.runs() == runs).then_some(()));
    }
    daemon.stop();
    kept.backup("one.age");

    let newer = text
        .replace("[\"192.0.2.0/24\"]", "[\"192.0.2.0/24\", \"198.51.100.0/24\"]")
        .replace("[users.bob]\n", "[users.bob]\nenabled = false\n")
        .replace(&kept.user("carol", 3), "");
    kept.site.file("siglatchd.toml", newer.as_bytes(), 0o600);
    kept.site.file("users.d/one.toml", format!("{frank}enabled = false\n").as_bytes(), 0o600);
    kept.site.file("users.d/two.toml", b"[users]\n", 0o600);
    kept.site.file("dave.hmac", &[9; 32], 0o600);
    // A store that is newer and knows less, but one thing: a knock of a client whose clock is ahead.
    kept.lose(&["state"]);
    kept.site.fresh_store();
    let daemon = kept.start();
    let ahead = Knock { timestamp: unix() + 200, ..knock(1, b"") };
    let ahead = kept.site.sealed(&ahead, Binding::Server(kept.site.server_id));
    daemon.send(&ahead);
    until("a run", || (kept.site.runs() == 5).then_some(()));
    daemon.stop();
    fs::remove_file(kept.site.path("alice.hmac")).unwrap();
    let before = tempfile::tempdir().unwrap();
    let before = before.path().join("site");
    copy(kept.site.dir.path(), &before);

    let mut kills = 0;
    for step in ["restore-settled", "restore-aside", "restore-placed"] {
        for nth in 1.. {
            copy(&before, kept.site.dir.path());
            let step = format!("{step}:{nth}");
            if !kept.killed("one.age", &step) {
                break;
            }
            kills += 1;
            assert_revoked(&kept, &step);
            let (said, code) = kept.restore("one.age", &["--force"]);
            assert_eq!(code, 0, "{step}: {said}");
            assert_revoked(&kept, &format!("{step}, and again"));
            let daemon = kept.start();
            daemon.send(&ahead);
            let about = |line: &String| line.contains("knock=") || line.contains("knock refused");
            let told = until("what became of it", || daemon.log().into_iter().find(about));
            assert!(told.contains("code=floor"), "{step}: {told}");
            daemon.stop();
            assert_eq!(kept.site.runs(), 5, "{step}");
        }
    }
    assert!(kills >= 12, "{kills}");
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
    let (daemon, port) = kept.exchanging();
    for name in ["bob", "carol"] {
        let invite = format!("{name}.invite");
        let more = ["--once", "--expires", "2d", "--port", &port, "--profile-name", "office"];
        let at = ["--action", "run", "--invite", &invite, "--config", "siglatchd.toml"];
        ok(kept.ctl(&[&["user", "add", name], &more[..], &at[..]].concat()));
    }
    ok(kept.ctl(&["reload", "--config", "siglatchd.toml"]));
    ok(kept.siglatch("carol", &["join", "carol.invite"]));
    kept.backup("one.age");
    daemon.stop();

    kept.lose(&["siglatchd.toml", "server.key.pem", "alice.hmac", "keys", "enrol.key", "actions", "state"]);
    let said = ok(kept.restore("one.age", &["--force"]));
    assert!(said.contains("the invite of user bob was open: it is void, make another"), "{said}");
    assert!(!said.contains("carol"), "{said}");
    let daemon = kept.start();
    let now = unix();
    until("the next second", || (unix() > now).then_some(()));
    let (said, code) = kept.siglatch("bob", &["join", "bob.invite"]);
    assert_ne!(code, 0, "{said}");
    ok(kept.siglatch("carol", &["knock", "office", "run"]));
    until("a run", || (kept.site.runs() == 1).then_some(()));
    daemon.stop();
}

#[test]
fn with_a_lost_store_no_key_is_in_force_that_was_exchanged_for_another() {
    let mut kept = Kept::new();
    let (daemon, port) = kept.exchanging();
    let more = ["--once", "--expires", "2d", "--port", &port, "--profile-name", "office"];
    let at = ["--action", "run", "--invite", "carol.invite", "--config", "siglatchd.toml"];
    ok(kept.ctl(&[&["user", "add", "carol"], &more[..], &at[..]].concat()));
    ok(kept.ctl(&["reload", "--config", "siglatchd.toml"]));
    ok(kept.siglatch("carol", &["join", "carol.invite"]));
    ok(kept.siglatch("carol", &["knock", "office", "run"]));
    kept.backup("one.age");
    daemon.stop();

    // One that is begun anew goes on with the trail, but knows nothing of her key.
    kept.lose(&["state/claims.db"]);
    kept.start().stop();
    let said = ok(kept.restore("one.age", &["--force"]));
    assert!(said.contains("claims.db.before-"), "{said}");
    let daemon = kept.start();
    let now = unix();
    until("the next second", || (unix() > now).then_some(()));
    ok(kept.siglatch("carol", &["knock", "office", "run"]));
    ok(kept.ctl(&["key", "rotate", "user", "carol", "--config", "siglatchd.toml"]));
    ok(kept.siglatch("carol", &["key", "rotate", "office"]));
    ok(kept.siglatch("carol", &["knock", "office", "run"]));
    daemon.stop();

    kept.site.file("state/claims.db", b"no store", 0o600);
    let (said, code) = kept.restore("one.age", &[]);
    assert_eq!((code, said.contains("its trail has ")), (78, true), "{said}");
    #[cfg(feature = "crash-points")]
    for step in
        ["restore-aside", "restore-placed"].into_iter().flat_map(|step| (1..20).map(move |nth| (step, nth)))
    {
        let before = tempfile::tempdir().unwrap();
        let before = before.path().join("site");
        copy(kept.site.dir.path(), &before);
        let killed = kept.killed("one.age", &format!("{}:{}", step.0, step.1));
        if killed {
            ok(kept.restore("one.age", &["--force"]));
        }
        assert_eq!(kept.config()["users"]["carol"]["enabled"].as_bool(), Some(false), "{step:?}");
        copy(&before, kept.site.dir.path());
        assert!(killed || step.1 > 2, "{step:?}");
    }
    let said = ok(kept.restore("one.age", &["--force"]));
    assert!(said.contains("user carol exchanged his key since"), "{said}");
    assert_eq!(kept.config()["users"]["carol"]["enabled"].as_bool(), Some(false));
}

#[test]
fn a_backup_has_more_keys_than_open_files_and_says_what_it_lacks() {
    let kept = Kept::new();
    let text = fs::read_to_string(kept.site.path("siglatchd.toml")).unwrap();
    let users: String = (2..1200)
        .map(|id| kept.user(&format!("u{id}"), 0).replace("id = 0", &format!("id = {id}")))
        .collect();
    kept.site.file("hook.key", &[7; 32], 0o600);
    let audit = "[audit]\nwebhook = \"https://127.0.0.1/\"\nwebhook_key = \"hook.key\"\n[control]\ntoken = \"credential:token\"\n";
    kept.site.file("siglatchd.toml", format!("{text}{users}{audit}").as_bytes(), 0o600);
    kept.lose(&["state"]);
    let said = kept.backup("one.age");
    assert!(said.contains("not in the backup: credential:token"), "{said}");
    assert!(said.contains("not in the backup: the store: there is none in "), "{said}");
    let (said, code) = kept.verify("one.age");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("u1199.hmac") && said.contains("hook.key"), "{said}");
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
    assert_eq!((code, said.contains("not in it: ") && said.contains("alice.hmac")), (78, true), "{said}");
    let (said, code) = kept.ctl(&["backup", "verify", "short.age", "--identity", "key.txt"]);
    assert_eq!(
        (code, said.contains("server.key.pem"), said.contains("alice.hmac")),
        (0, true, false),
        "{said}"
    );
}

#[test]
fn rules_of_nftables_beside_the_configuration_come_back_and_are_to_be_loaded() {
    let kept = Kept::new();
    let text = fs::read_to_string(kept.site.path("siglatchd.toml")).unwrap();
    let door = "[actions.ssh]\nid = 9\nhold = \"1h\"\nnft = { family = \"inet\", table = \"siglatch\", set = \"ssh\" }\n";
    kept.site.file("siglatchd.toml", format!("{text}{door}").as_bytes(), 0o600);
    kept.backup("without.age");
    kept.site.file("doors.nft", b"\xff rules\n", 0o666);
    fs::create_dir(kept.site.path("folder.nft")).unwrap();
    kept.backup("with.age");
    let (said, code) = kept.verify("with.age");
    assert_eq!((code, said.matches("rules").count()), (0, 1), "{said}");
    kept.lose(&["siglatchd.toml", "doors.nft"]);
    let said = ok(kept.restore("with.age", &["--force"]));
    let doors = kept.site.path("doors.nft");
    assert!(said.contains(&format!(", then nft -f {}, then start siglatchd", doors.display())), "{said}");
    assert_eq!(fs::read(&doors).unwrap(), b"\xff rules\n");
    assert_eq!(fs::metadata(&doors).unwrap().permissions().mode() & 0o777, 0o644);
    kept.site.file("doors.nft", b"newer\n", 0o644);
    kept.lose(&["siglatchd.toml"]);
    let said = ok(kept.restore("without.age", &["--force"]));
    assert!(said.contains("make the rules of the doors, which the backup has not"), "{said}");
    assert_eq!(fs::read(&doors).unwrap(), b"newer\n");
    let config = fs::read(kept.site.path("siglatchd.toml")).unwrap();
    let main = ("config", "siglatchd.toml", 0o600, &config[..]);
    kept.forge_files("odd.age", &[main, ("rules", "cron", 0o644, b"x")]);
    let (said, code) = kept.restore("odd.age", &["--force"]);
    assert_eq!((code, said.contains("where nothing of its kind belongs")), (78, true), "{said}");
}
