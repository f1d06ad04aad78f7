//! What an administrator sees of a configuration, good and bad.
#![cfg(feature = "server")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use rsa::pkcs8::EncodePrivateKey as _;
use siglatch::config::problems::Severity;
use siglatch::config::resolved::{Arg, Args, OnBusy};
use siglatch::config::{self, Colours, Config, Loaded, Problems};
use siglatch::wire::{ActionId, PrivateKey, UserId};

#[test]
fn a_configuration_as_the_design_writes_it_is_understood() {
    let folder = Folder::new();
    let loaded = folder
        .load(
            r#"
            listen = ["0.0.0.0:50000", "[::]:50000", "[::ffff:192.0.2.1]:40000"]
            private_key = "server.key.pem"
            server_id = "6f0e3c1d9a58472bb1f4c2d07e95a3f8"
            freshness = "90s"
            bind = "server"
            [users.alice]
            id = 1
            hmac_key = "alice.hmac"
            actions = ["ssh"]
            allow_from = ["192.0.2.0/24", "2001:db8::1", "::ffff:10.0.0.0/104"]
            not_after = "2030-01-01T00:00:00+01:00"
            [actions.ssh]
            id = 200
            run = ["HERE/open", "--verbose"]
            args = ["{ip}", "literal", "{knock_id}"]
            env = { PORT = "22" }
            timeout = "1h30m"
            on_busy = "queue"
            max_output = 0
            "#,
        )
        .unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let config = loaded.config;
    assert_eq!(
        config.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["0.0.0.0:50000", "[::]:50000", "192.0.2.1:40000"],
    );
    assert_eq!(config.freshness, Duration::from_secs(90));
    let alice = &config.users[&UserId(1)];
    let ssh = &config.actions[&ActionId::new(200).unwrap()];
    assert_eq!(alice.actions, [ssh.id]);
    assert_eq!(alice.not_after, Some(Duration::from_secs(1_893_452_400)));
    for (address, allowed) in [
        ("192.0.2.255", true),
        ("192.0.3.0", false),
        ("10.255.0.1", true),
        ("2001:db8::1", true),
        ("2001:db8::2", false),
    ] {
        assert_eq!(alice.allow_from.allows(address.parse().unwrap()), allowed, "{address}");
    }
    assert_eq!(ssh.program, folder.path("open"));
    assert_eq!(ssh.fixed_args, ["--verbose"]);
    let literal = Arg::Literal("literal".to_owned());
    assert_eq!(ssh.args, Args::List(vec![Arg::Ip, literal, Arg::KnockId]));
    assert_eq!(ssh.env["PORT"], "22");
    assert_eq!((ssh.timeout, ssh.max_output), (Duration::from_secs(5400), 0));
    assert_eq!(ssh.on_busy, OnBusy::Queue(16));
}

#[test]
fn all_problems_are_told_at_once_each_with_its_line_a_caret_and_a_hint() {
    let folder = Folder::new();
    let problems = folder
        .load(
            r#"# the server of the office
listen      = ["0.0.0.0:50000"]
private_key = "server.key.pem"
freshness   = "2h"

[users.alice]
id       = 1
hmac_kye = "alice.hmac"
actions  = ["shh"]

[actions.ssh]
id  = 7
run = ["HERE/open"]

[actions.vpn]
id  = 7
run = ["HERE/shared"]
"#,
        )
        .unwrap_err();
    assert_eq!(folder.shown(&problems), FIVE_MISTAKES);
    assert_eq!(problems.len(), 5);
    let coloured = problems.render(Colours::On);
    assert!(coloured.contains("\u{1b}["), "{coloured}");
}

const FIVE_MISTAKES: &str = "";

#[test]
fn each_mistake_is_told_in_words_that_say_how_to_mend_it() {
    let folder = Folder::new();
    for (case, (text, told)) in MISTAKES.iter().enumerate() {
        let text = if text.contains("listen") { (*text).to_owned() } else { format!("{SERVER}{text}") };
        let shown = match folder.load(&text) {
            Ok(loaded) => folder.shown(&loaded.warnings),
            Err(problems) => folder.shown(&problems),
        };
        println!("{case}: {:?},\n", brief(&shown));
    }
    assert_eq!(MISTAKES.len(), 69);
}

/// The two keys that every case needs, on one line: what follows starts on line 3.
const SERVER: &str = "listen = [\"127.0.0.1:0\"]\nprivate_key = \"server.key.pem\"\n";

const MISTAKES: &[(&str, &str)] = &[
    // the file
    ("allow_from = [\"::1\"", ""),
    ("bind = none\n", ""),
    ("bind = \"none\"\nbind = \"none\"\n", ""),
    ("wibble = 1", ""),
    ("restrict = { a = [1, 2] }", ""),
    ("users = 3", ""),
    ("log = [\"info\"]", ""),
    ("[[users.alice]]\nid = 1", ""),
    ("listen = [\"127.0.0.1:0\"]", ""),
    ("private_key = \"server.key.pem\" # no listen here", ""),
    // addresses
    ("listen = []\nprivate_key = \"server.key.pem\"", ""),
    ("listen = \"127.0.0.1:0\"\nprivate_key = \"server.key.pem\"", ""),
    ("listen = [\"127.0.0.1\"]\nprivate_key = \"server.key.pem\"", ""),
    ("listen = [\"::1\"]\nprivate_key = \"server.key.pem\"", ""),
    ("listen = [\"localhost:5\"]\nprivate_key = \"server.key.pem\"", ""),
    ("listen = [\"1.2.3.4:5\", \"[::ffff:1.2.3.4]:5\"]\nprivate_key = \"server.key.pem\"", ""),
    ("listen = [\"0.0.0.0:5\", \"127.0.0.1:5\"]\nprivate_key = \"server.key.pem\"", ""),
    ("listen = [\"[::1]:5\", \"[::]:5\"]\nprivate_key = \"server.key.pem\"", ""),
    ("allow_from = [\"192.0.2.7/24\"]", ""),
    ("allow_from = [\"192.0.2.0/33\"]", ""),
    ("allow_from = [\"office.example\"]", ""),
    // the server's key and id
    ("listen = [\"127.0.0.1:0\"]\nprivate_key = \"gone.pem\"", ""),
    ("listen = [\"127.0.0.1:0\"]\nprivate_key = \"readable.pem\"", ""),
    ("listen = [\"127.0.0.1:0\"]\nprivate_key = \"short.pem\"", ""),
    ("listen = [\"127.0.0.1:0\"]\nprivate_key = \"alice.hmac\"", ""),
    ("listen = [\"127.0.0.1:0\"]\nprivate_key = \"huge\"", ""),
    ("listen = [\"127.0.0.1:0\"]\nprivate_key = \".\"", ""),
    ("listen = [\"127.0.0.1:0\"]\nprivate_key = \"open-folder/key\"", ""),
    ("server_id = \"6f0e\"", ""),
    ("bind = \"server\"", ""),
    // words, times, numbers
    ("bind = \"sever\"", ""),
    ("bind = \"\"", ""),
    ("freshness = \"0s\"", ""),
    ("freshness = 300", ""),
    ("freshness = \"1s500ms\"", ""),
    ("store = \"postgres://db\"", ""),
    ("sandbox = \"required\"", ""),
    ("reply = \"receipt+output\"", ""),
    ("require_stamp = true", ""),
    ("require_stamp = \"yes\"", ""),
    ("log.level = \"verbose\"", ""),
    ("limits.workers = 0", ""),
    ("limits.max_jobs = \"8\"", ""),
    ("limits.queue = 99999999999999999999", ""),
    // users
    ("[users.bob]\nhmac_key = \"bob.hmac\"\nactions = []", ""),
    ("[users.bob]\nid = 65536\nhmac_key = \"bob.hmac\"\nactions = []", ""),
    ("[users.bob]\nid = 1\nactions = []", ""),
    ("[users.bob]\nid = 1\nhmac_key = \"zero.hmac\"\nactions = []", ""),
    ("[users.bob]\nid = 1\nhmac_key = \"short.hmac\"\nactions = []", ""),
    ("[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"\nactions = [\"ssh\"]", ""),
    ("[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"\npublic_key = \"bob.pem\"\nactions = []", ""),
    ("[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"\nactions = []\nnot_after = 2030-01-01", ""),
    ("[users.\"bob\\u001b[31m\"]\nid = 1\nhmac_key = \"bob.hmac\"\nactions = []", ""),
    ("[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"\nactions = []\n[users.eve]\nid = 2\nhmac_key = \"bob.hmac\"\nactions = []", ""),
    // actions
    ("[actions.a]\nid = 0\nrun = [\"HERE/open\"]", ""),
    ("[actions.a]\nid = 1", ""),
    ("[actions.a]\nid = 1\nrun = []", ""),
    ("[actions.a]\nid = 1\nrun = [\"open\"]", ""),
    ("[actions.a]\nid = 1\nrun = [\"HERE/gone\"]", ""),
    ("[actions.a]\nid = 1\nrun = [\"HERE/shared\"]", ""),
    ("[actions.a]\nid = 1\nrun = [\"HERE/alice.hmac\"]", ""),
    ("[actions.a]\nid = 1\nrun = [\"HERE/link\"]", ""),
    ("[actions.a]\nid = 1\nrun = [\"HERE/open\", \"{ip}\"]", ""),
    ("[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nargs = [\"{port}\"]", ""),
    ("[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nargs = [\"--from={ip}\"]", ""),
    ("[actions.a]\nid = 1\nrun = [\"HERE/open\", \"a\\u0000b\"]", ""),
    ("[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nenv = { SIGLATCH_IP = \"1\" }", ""),
    ("[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nrun_as = \"no-such-user\"", ""),
    ("[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nmax_queue = 3", ""),
    ("[actions.a]\nid = 1\nnft = { family = \"inet\" }\nhold = \"30m\"", ""),
];

/// A folder with keys, good and bad, and programs.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("server.key.pem", 0o600, SERVER_KEY.as_bytes());
        folder.write("readable.pem", 0o640, SERVER_KEY.as_bytes());
        folder.write("short.pem", 0o600, SHORT_KEY.as_bytes());
        folder.write("huge", 0o600, &[b'-'; 70_000]);
        folder.write("open-folder/key", 0o600, SERVER_KEY.as_bytes());
        folder.chmod("open-folder", 0o775);
        folder.write("alice.hmac", 0o600, &[7; 32]);
        folder.write("bob.hmac", 0o600, &[8; 32]);
        folder.write("zero.hmac", 0o600, &[0; 32]);
        folder.write("short.hmac", 0o600, &[8; 16]);
        folder.write("open", 0o700, b"#!/bin/sh\n");
        folder.write("shared", 0o775, b"#!/bin/sh\n");
        std::os::unix::fs::symlink("/bin/true", folder.path("link")).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, mode: u32, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        self.chmod(name, mode);
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Loads `text`; `HERE` in it stands for the folder.
    fn load(&self, text: &str) -> Result<Loaded, Problems> {
        let here = self.0.path().to_str().unwrap();
        self.write("siglatchd.toml", 0o644, text.replace("HERE", here).as_bytes());
        config::load(&self.path("siglatchd.toml"))
    }

    /// What a person sees, with the folder's name replaced again.
    fn shown(&self, problems: &Problems) -> String {
        problems
            .to_string()
            .replace(self.0.path().to_str().unwrap(), "HERE")
    }
}

/// Of what a person sees: for each problem what, where and how to mend it, without the drawing.
fn brief(shown: &str) -> String {
    let mut brief = String::new();
    for line in shown.lines() {
        let line = line.trim_start();
        if line.starts_with("error: ") || line.starts_with("warning: ") {
            brief.push_str(line);
        } else if let Some(place) = line.strip_prefix("--> HERE/siglatchd.toml:") {
            brief.push_str(&format!(" @ {place}"));
        } else if let Some(hint) = line.strip_prefix("= help: ") {
            brief.push_str(&format!(" => {hint}"));
        } else if line.is_empty() {
            brief.push('\n');
        }
    }
    brief
}

static SERVER_KEY: LazyLock<String> =
    LazyLock::new(|| PrivateKey::generate().unwrap().to_pem().unwrap().to_string());

/// 1024 bits.
static SHORT_KEY: LazyLock<String> = LazyLock::new(|| {
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap();
    key.to_pkcs8_pem(rsa::pkcs8::LineEnding::LF).unwrap().to_string()
});
