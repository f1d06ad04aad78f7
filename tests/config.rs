//! What an administrator sees of a configuration, good and bad.
#![cfg(all(feature = "server", feature = "sqlite"))]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use rsa::rand_core::OsRng;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use rsa::pkcs8::EncodePrivateKey as _;
use siglatch::config::allowance::{Allowance, Period, Quota};
use siglatch::config::resolved::{Again, Arg, Args, Control, OnBusy, OnShutdown, Role, SecondFactor};
use siglatch::config::{self, Colours, Loaded, Problems};
use siglatch::wire::{ActionId, PrivateKey, UserId};

#[test]
fn a_user_may_knock_through_all_of_a_date_in_the_zone_of_the_server() {
    let last = |not_after: &str| {
        let folder = Folder::new();
        let top = "listen = [\"127.0.0.1:1\"]\nprivate_key = \"server.key.pem\"\nzone = \"Europe/Berlin\"";
        let user = format!(
            "[users.alice]\nid = 1\nhmac_key = \"alice.hmac\"\nnot_after = {not_after}\nmax_knocks = 3"
        );
        let loaded = folder.load(&format!("{top}\n{user}")).unwrap_or_else(|problems| panic!("{problems}"));
        let alice = &loaded.config.users[&UserId(1)];
        assert_eq!(alice.max_knocks, Some(3));
        alice.not_after.unwrap()
    };
    let nearly = Duration::from_nanos(999_999_999);
    for date in ["2030-07-01", "\"2030-07-01\""] {
        assert_eq!(last(date), last("2030-07-01T23:59:59+02:00") + nearly, "{date}");
    }
    // The clocks are put back at three.
    assert_eq!(last("2030-10-27"), last("2030-10-27T23:59:59+01:00") + nearly);
}

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
    assert_eq!(ssh.run.path, folder.path("open"));
    assert_eq!(ssh.run.args, ["--verbose"]);
    let literal = Arg::Literal("literal".to_owned());
    assert_eq!(ssh.args, Args::List(vec![Arg::Ip, literal, Arg::KnockId]));
    assert_eq!(ssh.env["PORT"], "22");
    assert_eq!((ssh.timeout, ssh.max_output), (Duration::from_secs(5400), 0));
    assert_eq!(ssh.on_busy, OnBusy::Queue(16));
}

#[test]
fn an_action_that_is_held_and_undone_is_a_door_with_an_id_to_release_it() {
    let folder = Folder::new();
    let door = "hold = \"30m\"\nundo = [\"HERE/open\", \"--close\"]\nmax_hold = \"2h\"\nagain = \"restart\"\non_shutdown = \"undo\"";
    let text = format!("{SERVER}[actions.ssh]\nid = 200\nrun = [\"HERE/open\"]\n{door}\nrelease_id = 201\n");
    let config = folder.load(&text).unwrap_or_else(|problems| panic!("{problems}")).config;
    let door = config.actions[&ActionId::new(200).unwrap()].door.as_ref().unwrap();
    assert_eq!((door.hold, door.max_hold), (Duration::from_secs(1800), Duration::from_secs(7200)));
    assert_eq!((&door.undo.path, &door.undo.args[..]), (&folder.path("open"), &["--close".to_owned()][..]));
    assert_eq!((door.again, door.on_shutdown), (Again::Restart, OnShutdown::Undo));
    for (id, named) in [(200, Some("ssh")), (201, Some("ssh")), (202, None)] {
        let action = config.action(ActionId::new(id).unwrap());
        assert_eq!(action.map(|action| action.name.as_str()), named, "{id}");
    }
}

#[test]
#[cfg(feature = "webhook")]
fn a_webhook_has_a_key_and_may_lead_inside_if_it_says_so() {
    let folder = Folder::new();
    folder.write("ca.pem", 0o644, CERTIFICATE);
    let keys = "webhook = \"https://[::1]:8443/x\"\nwebhook_key = \"alice.hmac\"\nwebhook_allow = [\"::1\"]\nwebhook_ca = \"ca.pem\"";
    let text = format!("{SERVER}[actions.ssh]\nid = 200\nrun = [\"HERE/open\"]\n{keys}\n");
    let loaded = folder.load(&text).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let webhook = loaded.config.actions[&ActionId::new(200).unwrap()].webhook.clone().unwrap();
    assert_eq!(
        (webhook.url.as_str(), &webhook.allow[..]),
        ("https://[::1]:8443/x", &["[::1]".to_owned()][..])
    );
    assert!(webhook.ca.unwrap().starts_with("-----BEGIN"));
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
    // As many carets as the folder's name is long.
    let carets = "^".repeat(folder.path("shared").to_str().unwrap().len() + 2);
    assert_eq!(folder.shown(&problems).replace(&carets, "WIDE"), FIVE_MISTAKES);
    assert_eq!(problems.len(), 5);
    let coloured = problems.render(Colours::On);
    assert!(coloured.contains("\u{1b}["), "{coloured}");
}

const FIVE_MISTAKES: &str = r#"error: `freshness` takes a time from 1s to 1h
 --> HERE/siglatchd.toml:4:15
  |
4 | freshness   = "2h"
  |               ^^^^
  |
  = help: a time is written "250ms", "90s", "5m" or "1h30m"

error: unknown key `hmac_kye` in [users.alice]
 --> HERE/siglatchd.toml:8:1
  |
8 | hmac_kye = "alice.hmac"
  | ^^^^^^^^
  |
  = help: did you mean `hmac_key`?

error: there is no action `shh`
 --> HERE/siglatchd.toml:9:13
  |
9 | actions  = ["shh"]
  |             ^^^^^
  |
  = help: did you mean `ssh`?

error: action id 7 is used by `ssh` (line 12) and `vpn` (line 16)
  --> HERE/siglatchd.toml:16:7
   |
12 | id  = 7
   |       - here too
...
16 | id  = 7
   |       ^
   |
   = help: give one of them an id of its own

error: HERE/shared is writable by its group (mode 0775)
  --> HERE/siglatchd.toml:17:8
   |
17 | run = ["HERE/shared"]
   |        WIDE
   |
   = help: chmod g-w HERE/shared
"#;

#[test]
fn each_mistake_is_told_in_words_that_say_how_to_mend_it() {
    let folder = Folder::new();
    let mut cases = 0;
    for (case, (text, told)) in MISTAKES.iter().enumerate() {
        let mut text =
            if text.contains("private_key") { (*text).to_owned() } else { format!("{SERVER}{text}") };
        if text.contains("\"ok\"") {
            text.push_str("\n[actions.ok]\nid = 99\nrun = [\"HERE/open\"]\n");
        }
        let shown = match folder.load(&text) {
            Ok(loaded) => folder.shown(&loaded.warnings),
            Err(problems) => folder.shown(&problems),
        };
        assert_eq!(brief(&shown), *told, "case {case}: {text}");
        assert!(!shown.contains('\u{1b}'), "it writes to the terminal: {shown:?}");
        cases += 1;
    }
    assert_eq!(cases, 108);
}

/// The two keys that every case needs, on one line: what follows starts on line 3.
const SERVER: &str = "listen = [\"127.0.0.1:0\"]\nprivate_key = \"server.key.pem\"\n";

const MISTAKES: &[(&str, &str)] = &[
    // the file
    (
        "allow_from = [\"::1\"",
        "error: this is no TOML: unclosed array, expected `]` @ 3:20 => everything behind it is read when it is mended",
    ),
    (
        "bind = none\n",
        "error: this is no TOML: text stands in straight quotes (\") @ 3:8 => true, false, numbers and dates stand without",
    ),
    (
        "bind: \"none\"\n",
        "error: this is no TOML: invalid unquoted key, expected letters, numbers, `-`, `_` @ 3:5 => a line is: key = value",
    ),
    (
        "[log]\nfreshness = \"5m\"",
        "error: unknown key `freshness` in [log] @ 4:1 => the keys here are level, format, summary, refused_per_minute; those of the server stand above the first [table]",
    ),
    (
        "bind = \"none\"\nbind = \"none\"\n",
        "error: `bind` stands twice in this table @ 4:1 => leave one of the two out",
    ),
    (
        "wibble = 1",
        "error: unknown key `wibble` @ 3:1 => the keys here are listen, private_key, old_private_key, server_id, enrol_key, public_host, public_addresses, state_dir, runtime_dir, freshness, zone, store, sandbox, listener_user, require_stamp, bind, reply, allow_from, deny_from, include, audit_payload, audit, log, limits, control, admins, users, actions",
    ),
    (
        "restrict = { a = [1, 2] }",
        "error: unknown key `restrict` @ 3:1 => the keys here are listen, private_key, old_private_key, server_id, enrol_key, public_host, public_addresses, state_dir, runtime_dir, freshness, zone, store, sandbox, listener_user, require_stamp, bind, reply, allow_from, deny_from, include, audit_payload, audit, log, limits, control, admins, users, actions",
    ),
    ("users = 3", "error: `users` takes a table @ 3:9 => write [users] and its keys below"),
    ("log = [\"info\"]", "error: `log` takes a table @ 3:7 => write [log] and its keys below"),
    (
        "[[users.alice]]\nid = 1",
        "error: `alice` takes a table @ 3:1 => write [users.alice] and its keys below",
    ),
    (
        "#private_key",
        "error: `listen` is missing @ 1:1 => write listen = [\"0.0.0.0:50000\", \"[::]:50000\"]\nerror: `private_key` is missing @ 1:1 => write private_key = \"server.key.pem\"",
    ),
    (
        "private_key = \"server.key.pem\"",
        "error: `listen` is missing @ 1:1 => write listen = [\"0.0.0.0:50000\", \"[::]:50000\"]",
    ),
    // addresses
    (
        "listen = []\nprivate_key = \"server.key.pem\"",
        "error: `listen` takes 1 to 16 addresses @ 1:10 => 0.0.0.0 and [::] stand for all addresses of this machine",
    ),
    (
        "listen = \"127.0.0.1:0\"\nprivate_key = \"server.key.pem\"",
        "error: `listen` takes a list @ 1:10 => write it in brackets, [ and ]",
    ),
    (
        "listen = [\"127.0.0.1\"]\nprivate_key = \"server.key.pem\"",
        "error: this is no address with a port @ 1:11 => add the port: \"127.0.0.1:50000\"",
    ),
    (
        "listen = [\"::1\"]\nprivate_key = \"server.key.pem\"",
        "error: this is no address with a port @ 1:11 => add the port: \"[::1]:50000\"",
    ),
    (
        "listen = [\"localhost:5\"]\nprivate_key = \"server.key.pem\"",
        "error: this is no address with a port @ 1:11 => write \"192.0.2.1:50000\" or \"[2001:db8::1]:50000\"; names are not looked up",
    ),
    (
        "listen = [\"1.2.3.4:5\", \"[::ffff:1.2.3.4]:5\"]\nprivate_key = \"server.key.pem\"",
        "error: 1.2.3.4:5 is listed twice @ 1:24 => leave one of the two out",
    ),
    (
        "listen = [\"0.0.0.0:5\", \"127.0.0.1:5\"]\nprivate_key = \"server.key.pem\"",
        "error: 0.0.0.0:5 and 127.0.0.1:5 cannot be bound together @ 1:24 => leave the single address out: the other one covers it",
    ),
    (
        "listen = [\"[::1]:5\", \"[::]:5\"]\nprivate_key = \"server.key.pem\"",
        "error: [::1]:5 and [::]:5 cannot be bound together @ 1:22 => leave the single address out: the other one covers it",
    ),
    (
        "allow_from = [\"192.0.2.7/24\"]",
        "error: 192.0.2.7/24 has bits set behind its first 24 @ 3:15 => write \"192.0.2.0/24\" for the network, or \"192.0.2.7\" for the address",
    ),
    (
        "allow_from = [\"192.0.2.0/33\"]",
        "error: this is neither an address nor a network @ 3:15 => write \"192.0.2.7\", \"192.0.2.0/24\" or \"2001:db8::/32\"",
    ),
    (
        "allow_from = [\"office.example\"]",
        "error: this is neither an address nor a network @ 3:15 => write \"192.0.2.7\", \"192.0.2.0/24\" or \"2001:db8::/32\"",
    ),
    // the server's key and id
    (
        "listen = [\"127.0.0.1:0\"]\nprivate_key = \"gone.pem\"",
        "error: HERE/gone.pem is not there @ 2:15 => name the right one, or make it first",
    ),
    (
        "listen = [\"127.0.0.1:0\"]\nprivate_key = \"readable.pem\"",
        "error: HERE/readable.pem is readable by its group (mode 0640) @ 2:15 => chmod 600 HERE/readable.pem",
    ),
    (
        "listen = [\"127.0.0.1:0\"]\nprivate_key = \"short.pem\"",
        "error: HERE/short.pem: the key has 1024 bits, it needs 2048 to 8192 @ 2:15 => `siglatchctl init` makes one",
    ),
    (
        "listen = [\"127.0.0.1:0\"]\nprivate_key = \"alice.hmac\"",
        "error: HERE/alice.hmac: no RSA private key (PEM, PKCS#8 or PKCS#1) in it @ 2:15 => `siglatchctl init` makes one",
    ),
    (
        "listen = [\"127.0.0.1:0\"]\nprivate_key = \"huge\"",
        "error: HERE/huge is longer than 65536 bytes @ 2:15 => name the right file",
    ),
    (
        "listen = [\"127.0.0.1:0\"]\nprivate_key = \".\"",
        "error: HERE/. is not a regular file @ 2:15 => name a file",
    ),
    (
        "listen = [\"127.0.0.1:0\"]\nprivate_key = \"open-folder/key\"",
        "error: HERE/open-folder is writable by its group (mode 0775) @ 2:15 => chmod g-w HERE/open-folder",
    ),
    (
        "listen = [\"127.0.0.1:0\"]\nprivate_key = \"server.key.pem\"\nold_private_key = \"gone.pem\"",
        "error: HERE/gone.pem is not there @ 3:19 => name the right one, or make it first",
    ),
    (
        "listen = [\"127.0.0.1:0\"]\nprivate_key = \"server.key.pem\"\nold_private_key = \"same.pem\"",
        "error: `old_private_key` is the same key as `private_key` @ 3:19 => leave it out",
    ),
    (
        "listen = [\"127.0.0.1:0\"]\nprivate_key = \"server.key.pem\"\nold_private_key = \"long.pem\"",
        "error: `old_private_key` has 3072 bits, `private_key` 2048: knocks for both are to be equally long @ 3:19 => a key of another length ends every invite: leave this out",
    ),
    (
        "server_id = \"6f0e\"",
        "error: `server_id` takes 32 hex digits @ 3:13 => make one with `openssl rand -hex 16`",
    ),
    (
        "bind = \"server\"",
        "error: `bind = \"server\"` without a `server_id`: every knock would be refused @ 3:8 => write server_id = \"...\" at the top of the main file",
    ),
    // words, times, numbers
    (
        "bind = \"sever\"",
        "error: `bind` takes \"none\", \"server\" or \"source\" @ 3:8 => did you mean \"server\"?",
    ),
    ("bind = \"\"", "error: `bind` takes \"none\", \"server\" or \"source\" @ 3:8"),
    (
        "freshness = \"0s\"",
        "error: `freshness` takes a time from 1s to 1h @ 3:13 => a time is written \"250ms\", \"90s\", \"5m\" or \"1h30m\"",
    ),
    (
        "freshness = 300",
        "error: `freshness` takes a time from 1s to 1h @ 3:13 => a time is written \"250ms\", \"90s\", \"5m\" or \"1h30m\"",
    ),
    (
        "freshness = \"1s500ms\"",
        "error: `freshness` takes whole seconds @ 3:13 => packets carry no smaller unit",
    ),
    (
        "store = \"postgres://db\"",
        "error: `store = \"postgres://db\"` is not built yet @ 3:9 => what works is \"sqlite\" or \"memory\"",
    ),
    ("sandbox = \"on\"", "error: `sandbox` takes \"best-effort\", \"required\" or \"off\" @ 3:11"),
    ("reply = \"always\"", "error: `reply` takes \"never\", \"receipt\" or \"receipt+output\" @ 3:9"),
    (
        "[actions.who]\nid = 9\nbuiltin = \"whoam\"",
        "error: `builtin` takes \"whoami\", \"enrol\", \"server_key\", \"status\", \"version\", \"list_users\", \"reload\", \"enable_user\" or \"disable_user\" @ 5:11 => did you mean \"whoami\"?",
    ),
    (
        "[actions.who]\nid = 9\nbuiltin = \"whoami\"\nrun = [\"/bin/true\"]\nstdin = \"payload\"",
        "error: `run` beside `builtin = \"whoami\"`: an action is one of the two @ 6:7 => leave one of them out\n\
         warning: `stdin` does nothing beside `builtin` @ 7:9 => leave it out",
    ),
    (
        "require_stamp = \"yes\"",
        "error: `require_stamp` takes true or false @ 3:17 => write it without quotes",
    ),
    (
        "log.level = \"verbose\"",
        "error: `level` takes \"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\" @ 3:13",
    ),
    ("limits.max_jobs = 0", "error: `max_jobs` takes a whole number from 1 to 4096 @ 3:19 => 64 if left out"),
    (
        "limits.max_jobs = \"8\"",
        "error: `max_jobs` takes a whole number @ 3:19 => write digits alone, without quotes",
    ),
    (
        "limits.queue = 99999999999999999999",
        "error: `queue` is out of range @ 3:16 => write a smaller number",
    ),
    // users
    (
        "[users.bob]\nhmac_key = \"bob.hmac\"\nactions = [\"ok\"]",
        "error: `id` is missing in [users.bob] @ 3:1 => write id = and a number that no other user has",
    ),
    (
        "[users.bob]\nid = 1\nhmac_key = \"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\"\nactions = [\"ok\"]",
        "error: `hmac_key` is a key, where a file's name belongs @ 5:12 => name a file of 32 random bytes, or of 64 hex digits",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/guess\"]",
        "error: HERE/guess is neither an ELF program nor a script that names its interpreter @ 5:8 => begin it with a line like #!/bin/sh",
    ),
    (
        "[users.bob]\nid = 65536\nhmac_key = \"bob.hmac\"\nactions = [\"ok\"]",
        "error: `id` takes a whole number from 0 to 65535 @ 4:6 => a packet has two bytes for it",
    ),
    (
        "[users.bob]\nid = 1\nactions = [\"ok\"]",
        "error: `hmac_key` is missing in [users.bob] @ 3:1 => name a file of 32 random bytes, or of 64 hex digits",
    ),
    (
        "[users.bob]\nid = 1\nhmac_key = \"zero.hmac\"\nactions = [\"ok\"]",
        "error: HERE/zero.hmac: the key is all zero @ 5:12 => make one: umask 077; head -c 32 /dev/urandom > HERE/zero.hmac",
    ),
    (
        "[users.bob]\nid = 1\nhmac_key = \"short.hmac\"\nactions = [\"ok\"]",
        "error: HERE/short.hmac: 16 bytes; an HMAC key is 32 raw bytes or 64 hex digits @ 5:12 => make one: umask 077; head -c 32 /dev/urandom > HERE/short.hmac",
    ),
    (
        "[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"\nactions = [\"ssh\"]",
        "error: there is no action `ssh` @ 6:12 => define it: [actions.ssh]",
    ),
    (
        "[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"\npublic_key = \"bob.pem\"\nactions = [\"ok\"]",
        "error: HERE/bob.pem is not there @ 6:14 => name the right one, or make it first",
    ),
    (
        "[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"\npublic_key = \"bob.hmac\"\nactions = [\"ok\"]",
        "error: HERE/bob.hmac: no RSA public key (PEM, SPKI) in it @ 6:14 => openssl pkey -in HIS-PRIVATE-KEY -pubout writes the half that belongs here",
    ),
    (
        "[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"\npublic_key = \"long.pub.pem\"\nactions = [\"ok\"]",
        "error: `public_key` has 3072 bits, the server's key 2048: a reply would be longer than its knock @ 6:14 => give the user a key of 2048 bits",
    ),
    (
        "[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"\nactions = [\"ok\"]\nnot_after = 2030-01-01T10:00:00",
        "error: `not_after` takes a date, or a moment with its offset from UTC, since 1970 @ 7:13 => write 2030-12-31 or 2030-12-31T23:59:59+01:00",
    ),
    (
        "[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"\nactions = [\"ok\"]\nmax_knocks = 0",
        "error: `max_knocks` takes a whole number from 1 to 4294967295 @ 7:14 => to keep him out write enabled = false",
    ),
    (
        "[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"\nactions = [\"ok\"]\ninvite_until = 2030-01-01T10:00:00Z",
        "error: his key cannot be exchanged: there is no `enrol_key` @ 7:16 => write enrol_key = \"...\" at the top of the main file",
    ),
    (
        "[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"\nactions = [\"ok\"]\nrotate_until = true",
        "error: `rotate_until` takes a date, or a moment with its offset from UTC, since 1970 @ 7:16 => write 2030-12-31 or 2030-12-31T23:59:59+01:00\n\
         error: his key cannot be exchanged: there is no `enrol_key` @ 7:16 => write enrol_key = \"...\" at the top of the main file",
    ),
    (
        "[users.\"bob\\u001b[31m\"]\nid = 1\nhmac_key = \"bob.hmac\"\nactions = [\"ok\"]",
        "error: this is no name for a user @ 3:8 => a name is 1 to 64 letters, digits, `.`, `_` or `-`, the first no `.` or `-`",
    ),
    (
        "[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"\nactions = [\"ok\"]\n[users.eve]\nid = 2\nhmac_key = \"bob.hmac\"\nactions = [\"ok\"]",
        "warning: `bob` and `eve` have the same HMAC key: each can knock as the other @ 7:8 => make a key for each",
    ),
    (
        "[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"",
        "warning: user `bob` may run nothing @ 3:8 => write actions = [\"...\"]",
    ),
    (
        "[users.bob]\nid = 99\nhmac_key = \"bob.hmac\"\nactions = [\"ok\"]\n[users.eve]\nid = 99\nhmac_key = \"alice.hmac\"\nactions = [\"ok\"]",
        "error: user id 99 is used by `bob` (line 4) and `eve` (line 8) @ 8:6 => give one of them an id of its own",
    ),
    (
        "freshness = \"\u{1b}[31m\"",
        "error: this is no TOML: invalid basic string, expected non-double-quote visible characters, `\\` @ 3:14 => everything behind it is read when it is mended",
    ),
    // actions
    (
        "[actions.a]\nid = 0\nrun = [\"HERE/open\"]",
        "error: `id` takes a whole number from 1 to 255 @ 4:6 => a packet has one byte for it, and 0 means a reply",
    ),
    (
        "[actions.a]\nid = 1",
        "error: `run` is missing in [actions.a] @ 3:1 => write run = [\"/etc/siglatch/actions/...\"]",
    ),
    (
        "[actions.a]\nid = 1\nrun = []",
        "error: `run` is empty @ 5:7 => write run = [\"/etc/siglatch/actions/...\"]",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"open\"]",
        "error: open is not an absolute path @ 5:8 => write the whole path, from /",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/gone\"]",
        "error: HERE/gone is not there @ 5:8 => name the right one, or make it first",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open --now\"]",
        "error: HERE/open --now is not there @ 5:8 => each argument is a text of its own: run = [\"HERE/open\", \"--now\"]",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/shared\"]",
        "error: HERE/shared is writable by its group (mode 0775) @ 5:8 => chmod g-w HERE/shared",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/alice.hmac\"]",
        "error: HERE/alice.hmac is not executable @ 5:8 => chmod +x HERE/alice.hmac",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/link\"]",
        "error: HERE/link is a symbolic link out of its folder @ 5:8 => name the file itself: /usr/bin/true",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\", \"{ip}\"]",
        "error: {ip} stands for nothing in `run` @ 5:32 => placeholders go into `args`",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nargs = [\"{port}\"]",
        "error: this is no placeholder @ 6:9 => an argument with braces is one of {ip} {user} {user_id} {action} {action_id} {payload_base64} {knock_id}, and nothing else",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nargs = [\"--from={ip}\"]",
        "error: this is no placeholder @ 6:9 => an argument with braces is one of {ip} {user} {user_id} {action} {action_id} {payload_base64} {knock_id}, and nothing else",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\", \"a\\u0000b\"]",
        "error: a program takes no NUL byte @ 5:32 => leave it out",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nenv = { SIGLATCH_IP = \"1\" }",
        "error: SIGLATCH_IP is set by siglatchd itself @ 6:9 => choose another name",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nrun_as = \"no-such-user\"",
        "error: this machine has no user `no-such-user` @ 6:10 => useradd --system no-such-user",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nmax_queue = 3",
        "warning: `max_queue` does nothing without a queue @ 6:13 => write on_busy = \"queue\" as well",
    ),
    (
        "zone = \"Atlantis\"",
        "error: there is no time zone \"Atlantis\" @ 3:8 => write one such as \"Europe/Berlin\", or \"UTC\"",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\ncooldown = \"0s\"",
        "error: `cooldown` takes a time from 1s to 31d @ 6:12 => a time is written \"250ms\", \"90s\", \"5m\" or \"1h30m\"",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\ncooldown = \"1500ms\"",
        "error: `cooldown` takes whole seconds @ 6:12 => write \"1s\" or more",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nquota = \"20/days\"",
        "error: `quota` takes a number from 1 to 999999 per \"hour\", \"day\" or \"week\" @ 6:9 => write \"20/day\"",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nhours = 8",
        "error: `hours` takes a text, or a list of 1 to 32 of them @ 6:9 => write \"mon-fri 08:00-18:00\", with a time zone behind it if it is not the server's",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nhours = []",
        "error: `hours` takes a text, or a list of 1 to 32 of them @ 6:9 => write \"mon-fri 08:00-18:00\", with a time zone behind it if it is not the server's",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nhours = [\"08:00-18:00\", \"monday 8-18\"]",
        "error: \"monday 8-18\" names no hours @ 6:9 => write \"mon-fri 08:00-18:00\", with a time zone behind it if it is not the server's",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nhours = \"08:00-08:00\"",
        "error: \"08:00-08:00\" ends when it begins @ 6:9 => a whole day is 00:00-24:00",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nhours = \"08:00-18:00 Mars\"",
        "error: there is no time zone \"Mars\" @ 6:9 => write one such as \"Europe/Berlin\", or \"UTC\"",
    ),
    (
        "[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"\nactions = [\"ok\"]\ntotp_key = \"short.hmac\"",
        "error: HERE/short.hmac is not a TOTP key: 26 to 103 letters and digits of base32 @ 7:12 => `siglatchctl user totp` makes one",
    ),
    (
        "[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"\nactions = [\"ok\"]\ntotp_key = \"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\"",
        "error: `totp_key` is a key, where a file's name belongs @ 7:12 => `siglatchctl user totp` makes one, and writes it here",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\ntotp = true\n[users.bob]\nid = 1\nhmac_key = \"bob.hmac\"\nactions = [\"a\"]",
        "warning: `bob` has no `totp_key`, and `a` asks for a code: it is refused him @ 7:8 => make one: siglatchctl user totp bob",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nhold = \"1h\"",
        "error: `hold` without `undo`: nothing would end it @ 6:8 => write undo = [\"/etc/siglatch/actions/...\"], the program that closes it",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nundo = [\"HERE/open\"]",
        "error: `undo` without `hold`: it would never run @ 6:8 => write hold = \"1h\"",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nhold = \"1h\"\nundo = [\"HERE/open\", \"{ip}\"]\nmax_hold = \"10m\"\nagain = \"extent\"",
        "error: {ip} stands for nothing in `undo` @ 7:33 => placeholders go into `args`\n\
         error: `max_hold` is below `hold` @ 8:12 => leave it out for as long as `hold`\n\
         error: `again` takes \"extend\", \"restart\" or \"refuse\" @ 9:9 => did you mean \"extend\"?",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nundo = []\nhold = \"31d\"\nrelease_id = 1",
        "error: `undo` is empty @ 6:8 => write undo = [\"/etc/siglatch/actions/...\"]\n\
         error: `hold` takes a time from 1s to 30d @ 7:8 => a time is written \"250ms\", \"90s\", \"5m\" or \"1h30m\"\n\
         error: action id 1 is used by `a` (line 4) and `a` (line 8) @ 8:14 => give one of them an id of its own",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\non_shutdown = \"undo\"",
        "warning: `on_shutdown` does nothing without a lease @ 6:15 => write `hold` and `undo` as well",
    ),
    // webhooks
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nwebhook = \"http://h\"\nwebhook_key = \"alice.hmac\"",
        "error: `webhook` takes a URL that begins with https://, of printable ASCII without user, password and # @ 6:11 => write webhook = \"https://hooks.example.org/siglatch\"",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nwebhook = \"https://h\"",
        "error: `webhook_key` is missing in [actions.a] @ 3:1 => what is sent is signed: name a file of 32 random bytes, or of 64 hex digits",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nwebhook = \"https://h\"\nwebhook_key = \"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\"",
        "error: `webhook_key` is a key, where a file's name belongs @ 7:15 => what is sent is signed: name a file of 32 random bytes, or of 64 hex digits",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nwebhook = \"https://h\"\nwebhook_key = \"server.key.pem\"\nwebhook_ca = \"alice.hmac\"\nwebhook_allow = [\"a b\", \"[::1]\"]",
        "error: HERE/server.key.pem is longer than 1024 bytes @ 7:15 => name the right file\n\
         error: HERE/alice.hmac: there is no certificate in it @ 8:14 => name a file with certificates in PEM\n\
         error: this is no host name and no IP address @ 9:18 => write it as it stands in `webhook`, without the port\n\
         warning: this is not the host of `webhook`: it does nothing @ 9:25 => write it as it stands in `webhook`, or leave it out",
    ),
    (
        "[actions.a]\nid = 1\nrun = [\"HERE/open\"]\nwebhook_ca = \"alice.hmac\"",
        "warning: `webhook_ca` does nothing without `webhook` @ 6:14 => write `webhook` as well",
    ),
];

#[test]
fn doors_of_nftables_are_read_without_opening_a_key() {
    let folder = Folder::new();
    folder.write("siglatchd.toml", 0o644, DOORS.as_bytes());
    let doors = config::doors(&folder.path("siglatchd.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(doors.listen, ["0.0.0.0:50000".parse().unwrap()]);
    let web = &doors.nft["web"];
    assert_eq!((web.set.v4(), web.set.v6()), ("web4".to_owned(), "web6".to_owned()));
    assert_eq!(doors.nft.len(), 2, "an action with a program is no door of nftables");

    let address = |of: &str, source: &str, named: Option<&str>| {
        let named = named.map(|named| named.parse().unwrap());
        doors.nft[of].opens_for.address(source.parse().unwrap(), named).map(|address| address.to_string())
    };
    let cases = [
        ("web", "192.0.2.7", None, Some("192.0.2.7")),
        ("web", "192.0.2.7", Some("192.0.2.7"), None),
        ("named", "192.0.2.7", None, Some("192.0.2.7")),
        ("named", "192.0.2.7", Some("198.51.100.9"), Some("198.51.100.9")),
        ("named", "192.0.2.7", Some("::ffff:198.51.100.9"), Some("198.51.100.9")),
        ("named", "192.0.2.7", Some("198.51.101.9"), None),
        ("named", "192.0.2.7", Some("2001:db8::9"), None),
    ];
    for (of, source, named, opened) in cases {
        assert_eq!(address(of, source, named).as_deref(), opened, "{of} {named:?}");
    }
}

const DOORS: &str = r#"
listen = ["0.0.0.0:50000"]
private_key = "not-there.pem"
[actions.web]
hold = "1h"
nft = { family = "inet", table = "siglatch", set = "web" }
[actions.named]
hold = "1h"
source = "payload"
allow_source = ["198.51.100.0/24"]
[actions.named.nft]
family = "inet"
table = "siglatch"
set = "named"
[actions.plain]
run = ["/not/there"]
"#;

#[test]
fn a_door_of_nftables_that_could_not_be_right_is_told() {
    let cases = [
        ("nft = 3", "error: `nft` takes a table @ 3:7 => write [actions.a.nft] and its keys below"),
        (
            "hold = \"1h\"\nnft = { family = \"inet\", table = \"t\", sets = \"s\" }",
            "error: unknown key `sets` in [actions.a.nft] @ 4:39 => did you mean `set`?",
        ),
        (
            "hold = \"1h\"\nnft = { family = \"ip\", table = \"t\", set = \"s\" }",
            "error: `family` takes \"inet\" @ 4:18 => one table of this family holds the sets and rules for IPv4 and for IPv6",
        ),
        (
            "nft = { family = \"inet\", table = \"t\", set = \"s\" }",
            "error: `nft` without `hold`: the kernel must know when the door closes @ 3:7 => write hold = \"1h\"",
        ),
        (
            "run = []\nhold = \"1h\"\nnft = { family = \"inet\", table = \"t\", set = \"s\" }\nenv = {}",
            "error: `run` beside `nft`: an action is one of the two @ 3:7 => leave one of them out\nwarning: `env` does nothing beside `nft` @ 6:7 => leave it out",
        ),
        (
            "hold = \"1h\"\nsource = \"payload\"\nallow_source = []\nnft = { family = \"inet\", table = \"t\", set = \"s\" }",
            "error: `source = \"payload\"` without `allow_source`: a user could open the door to anybody @ 4:10 => write allow_source = [\"198.51.100.0/24\"], or [\"0.0.0.0/0\", \"::/0\"] if that is meant",
        ),
        (
            "source = \"payload\"\nrun = [\"/bin/true\"]",
            "error: `source = \"payload\"` works with `nft` alone @ 3:10 => leave it out; a program in `run` gets the address that knocked",
        ),
        (
            "hold = \"1h\"\nnft = { family = \"inet\", table = \"t\", set = \"s\" }\n[actions.b]\nhold = \"1h\"\nnft = { family = \"inet\", table = \"t\", set = \"s\" }",
            "error: `a` and `b` have one set: closing one door would close the other @ 7:7 => give one of them a set of its own",
        ),
    ];
    let folder = Folder::new();
    for (text, told) in cases {
        let text = format!("listen = [\"0.0.0.0:50000\"]\n[actions.a]\n{text}\n");
        folder.write("siglatchd.toml", 0o644, text.as_bytes());
        let problems = config::doors(&folder.path("siglatchd.toml")).map(drop).unwrap_err();
        let shown = brief(&folder.shown(&problems));
        assert_eq!(shown, told, "{text}");
    }
}

#[test]
fn the_documented_configuration_loads_as_shipped_and_shows_the_defaults() {
    let folder = Folder::new();
    folder.write("keys/alice.hmac", 0o600, &[7; 32]);
    let public = PrivateKey::from_pem(&SERVER_KEY).unwrap().public().to_pem().unwrap();
    folder.write("keys/alice.pub.pem", 0o644, public.as_bytes());
    folder.write("keys/alice.totp", 0o600, b"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n");
    folder.write("keys/ssh.webhook", 0o600, &[7; 32]);
    folder.write("keys/audit.webhook", 0o600, &[7; 32]);
    folder.write("keys/internal-ca.pem", 0o644, CERTIFICATE);
    folder.write("actions/open-ssh", 0o700, b"#!/bin/sh\n");
    folder.write("actions/close-ssh", 0o700, b"#!/bin/sh\n");
    folder.write("users.d/none.toml", 0o644, b"");
    folder.write("enrol.key", 0o600, &[7; 32]);
    let recorded: serde_json::Value = serde_json::from_str(include_str!("vectors/siglatch-v1.json")).unwrap();
    folder.write("server.old.pem", 0o600, recorded["private_key_pem"].as_str().unwrap().as_bytes());
    folder.write("control.token", 0o600, &[b'7'; 32]);
    let me = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
    let shipped = SHIPPED.replace("/etc/siglatch/", "HERE/").replace("siglatch-run", &me.name);
    let shipped = shipped.replace("siglatch-exporter", "root");
    let controls = std::cell::RefCell::new(Vec::new());
    let load = |text: &str| {
        let loaded = folder.load(text).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        let mut config = loaded.config;
        config.server_id = None;
        config.audit.webhook = None;
        config.enrol_key = None;
        config.old_private_key = None;
        config.made = Default::default();
        config.limits.workers = 0;
        controls.borrow_mut().push(std::mem::take(&mut config.control));
        let users = std::mem::take(&mut config.users);
        let actions = std::mem::take(&mut config.actions);
        (config, users, actions)
    };
    let (defaults, _, _) = load(&shipped);
    let (shown, users, actions) = load(&switched_on(&shipped));
    assert_eq!(format!("{shown:?}"), format!("{defaults:?}"));
    let loaded = controls.take();
    let [by_default, control] = &loaded[..] else { panic!() };
    assert_eq!(*by_default, Control::default());
    assert_eq!((control.group, control.admins["carol"].role), (Some(0), Role::Viewer));
    assert_eq!(control.tcp.as_ref().unwrap().listen.to_string(), "127.0.0.1:50001");

    let (_, _, bare) = load(&format!("{SERVER}{OK_ACTION}"));
    let (ssh, bare) = (&actions[&ActionId::new(1).unwrap()], &bare[&ActionId::new(99).unwrap()]);
    assert_eq!((ssh.stdin, ssh.timeout, ssh.grace), (bare.stdin, bare.timeout, bare.grace));
    assert_eq!((ssh.max_running, ssh.max_output), (bare.max_running, bare.max_output));
    assert_eq!((ssh.payload, ssh.max_payload), (bare.payload, bare.max_payload));
    assert_eq!((ssh.bind, ssh.enabled), (bare.bind, bare.enabled));
    assert_eq!((ssh.on_busy, bare.on_busy), (OnBusy::Queue(16), OnBusy::Refuse));
    assert_eq!((ssh.second_factor, &bare.allowance), (SecondFactor::None, &Allowance::default()));
    let Quota { most, per, zone } = ssh.allowance.quota.as_ref().unwrap();
    assert_eq!((*most, *per, zone.iana_name()), (20, Period::Day, Some("Europe/Berlin")));
    assert_eq!((ssh.allowance.cooldown, ssh.allowance.hours.len()), (Some(10), 1));
    let alice = &users[&UserId(1)];
    assert_eq!((&alice.actions, alice.allowance.cooldown), (&vec![ssh.id], Some(1)));
    assert!(alice.totp_key.is_some());
}

/// The documented file with every setting in force.
fn switched_on(shipped: &str) -> String {
    let setting = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines: Vec<&str> = shipped
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| setting(rest)).unwrap_or(line))
        .collect();
    lines.join("\n")
}

/// As far as it is looked into at load.
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";

const SHIPPED: &str = include_str!("../config/siglatchd.toml");

#[test]
fn users_and_actions_come_from_included_files_too() {
    let folder = Folder::new();
    let bob = "[users.bob]\nid = 2\nhmac_key = \"../bob.hmac\"\nactions = [\"ok\"]\n";
    folder.write("users.d/bob.toml", 0o644, bob.as_bytes());
    folder.write("users.d/.half-written.toml", 0o644, b"nonsense");
    folder.write("users.d/notes.txt", 0o644, b"nonsense");
    let text = format!("{SERVER}include = [\"users.d/*.toml\"]\n{OK_ACTION}");
    let loaded = folder.load(&text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.config.users[&UserId(2)].name, "bob");
}

#[test]
fn a_mistake_in_an_included_file_is_told_with_that_files_name() {
    let folder = Folder::new();
    let user =
        |name: &str| format!("[users.{name}]\nid = 2\nhmac_key = \"../bob.hmac\"\nactions = [\"ok\"]\n");
    folder.write("users.d/bob.toml", 0o644, user("bob").as_bytes());
    folder.write("users.d/carol.toml", 0o644, format!("{}{}", user("carol"), user("bob")).as_bytes());
    folder.write("users.d/eve.toml", 0o664, user("eve").as_bytes());
    folder.write("users.d/listen.toml", 0o644, b"listen = []\n");
    let include =
        "include = [\"users.d/*.toml\", \"*.none\", \"none.d/*.toml\", \"*/a.toml\", \"**\", \"gone.toml\"]";
    let problems = folder.load(&format!("{SERVER}{include}\n{OK_ACTION}")).unwrap_err();
    assert_eq!(brief(&folder.shown(&problems)), INCLUDED_MISTAKES);
}

const INCLUDED_MISTAKES: &str = "\
error: HERE/users.d/eve.toml is writable by its group (mode 0664) @ 3:12 => chmod g-w HERE/users.d/eve.toml
warning: no file matches *.none @ 3:30 => leave it, if one is to come
warning: no file matches none.d/*.toml @ 3:40 => leave it, if one is to come
error: a `*` stands for a file's name, not for a folder's @ 3:57 => list the folders one by one
error: `include` takes one `*` only @ 3:69 => write users.d/*.toml for all files of a folder
error: HERE/gone.toml is not there @ 3:75 => name the right one, or make it first
warning: `bob` and `carol` have the same HMAC key: each can knock as the other @ users.d/carol.toml:1:8 => make a key for each
error: user id 2 is used by `bob` (HERE/users.d/bob.toml line 2) and `carol` (line 2) @ users.d/carol.toml:2:6 => give one of them an id of its own
error: user `bob` is defined twice @ users.d/carol.toml:5:8 => leave one of the two out, or rename it
error: unknown key `listen` @ users.d/listen.toml:1:1 => the keys here are users, actions";

const OK_ACTION: &str = "[actions.ok]\nid = 99\nrun = [\"HERE/open\"]\n";

#[test]
fn a_configuration_that_others_can_write_is_refused() {
    let folder = Folder::new();
    assert!(folder.load(SERVER).is_ok());
    folder.chmod("siglatchd.toml", 0o664);
    let problems = config::load(&folder.path("siglatchd.toml")).unwrap_err();
    let told = "error: HERE/siglatchd.toml is writable by its group (mode 0664)\n |\n = help: chmod g-w HERE/siglatchd.toml\n";
    assert_eq!(folder.shown(&problems), told);
}

#[test]
fn a_program_that_its_user_may_not_execute_is_warned_about() {
    let folder = Folder::new();
    let text = format!("{SERVER}{OK_ACTION}run_as = \"nobody\"\n");
    let shown = match folder.load(&text) {
        Ok(loaded) => folder.shown(&loaded.warnings),
        // Without root, running as somebody else is an error as well.
        Err(problems) => folder.shown(&problems),
    };
    if nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name != "nobody" {
        let told = "warning: nobody may not execute HERE/open @ 6:10 => chmod o+x HERE/open";
        assert!(brief(&shown).starts_with(told), "{shown}");
    }
    folder.chmod("open", 0o755);
    assert!(!format!("{:?}", folder.load(&text)).contains("may not execute"));
}

#[test]
fn a_reload_tells_which_settings_need_a_restart() {
    let folder = Folder::new();
    let old = folder.load(SERVER).unwrap().config;
    let same = folder.load(SERVER).unwrap().config;
    assert!(old.restart_changes(&same).is_empty());
    let text = r#"
        listen = ["[::1]:0"]
        private_key = "server.key.pem"
        state_dir = "state"
        freshness = "1s"
        limits.queue = 7
        log.format = "json"
        log.level = "off"
    "#;
    let new = folder.load(text).unwrap().config;
    assert_eq!(old.restart_changes(&new), ["listen", "state_dir", "limits.queue", "log.format"]);
    assert_eq!(new.state_dir, folder.path("state"));
}

#[test]
fn a_file_full_of_mistakes_is_told_in_part_and_soon() {
    let folder = Folder::new();
    let many: String = (0..50_000).map(|n| format!("wrong{n} = 1\n")).collect();
    let deep = format!("a = {}", "[".repeat(500_000));
    let keys = format!("{} = 1", vec!["a"; 250_000].join("."));
    let long = " ".repeat(1 << 20);
    let networks = format!("allow_from = [{}]", "\"x\",".repeat(20_000));
    let cases = [
        (networks, 20_000, "and 19900 more"),
        (many, 51, "there is more wrong with this file"),
        (deep, 1, "this is no TOML: cannot recurse further"),
        (keys, 1, "this is no TOML: recursion limit"),
        (long, 1, "is longer than 1048576 bytes"),
    ];
    for (text, count, told) in cases {
        let problems = folder.load(&format!("{SERVER}{text}")).unwrap_err();
        assert!(folder.shown(&problems).contains(told), "{told}");
        assert_eq!(problems.len(), count, "{told}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_make_it_panic(text in any::<Vec<u8>>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("siglatchd.toml");
        fs::write(&path, text).unwrap();
        prop_assert!(config::load(&path).unwrap_err().to_string().starts_with("error: "));
    }

    #[test]
    fn no_mutation_of_the_documented_file_makes_it_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..9, "\\PC{0,4}|[\\[\\]{}=\"'.,#\n]{1,3}"), 1..12),
    ) {
        let mut text = switched_on(SHIPPED);
        for (at, cut, insert) in edits {
            let start = text.floor_char_boundary(at.index(text.len()));
            let end = text.ceil_char_boundary(start.saturating_add(cut).min(text.len()));
            text.replace_range(start..end, &insert);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("siglatchd.toml");
        fs::write(&path, text).unwrap();
        prop_assert!(config::load(&path).unwrap_err().to_string().contains("error: "));
    }
}

/// A folder with keys, good and bad, and programs.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("server.key.pem", 0o600, SERVER_KEY.as_bytes());
        folder.write("readable.pem", 0o640, SERVER_KEY.as_bytes());
        folder.write("short.pem", 0o600, SHORT_KEY.as_bytes());
        folder.write("long.pem", 0o600, include_bytes!("vectors/rsa-3072.pem"));
        folder.write("same.pem", 0o600, SERVER_KEY.as_bytes());
        folder.write("huge", 0o600, &[b'-'; 70_000]);
        folder.write("open-folder/key", 0o600, SERVER_KEY.as_bytes());
        folder.chmod("open-folder", 0o775);
        folder.write("alice.hmac", 0o600, &[7; 32]);
        folder.write("bob.hmac", 0o600, &[8; 32]);
        folder.write("zero.hmac", 0o600, &[0; 32]);
        folder.write("short.hmac", 0o600, &[8; 16]);
        folder.write("long.pub.pem", 0o644, LONG_PUBLIC_KEY);
        folder.write("open", 0o700, b"#!/bin/sh\n");
        folder.write("shared", 0o775, b"#!/bin/sh\n");
        folder.write("guess", 0o700, b"echo\n");
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
        problems.to_string().replace(self.0.path().to_str().unwrap(), "HERE")
    }
}

/// Of what a person sees: for each problem what, where and how to mend it, without the drawing.
fn brief(shown: &str) -> String {
    let mut brief = String::new();
    for line in shown.lines() {
        let line = line.trim_start();
        if line.starts_with("error: ") || line.starts_with("warning: ") {
            brief.push_str(line);
        } else if let Some(place) =
            line.strip_prefix("--> HERE/").map(|place| place.trim_start_matches("siglatchd.toml:"))
        {
            brief.push_str(&format!(" @ {place}"));
        } else if let Some(hint) = line.strip_prefix("= help: ") {
            brief.push_str(&format!(" => {hint}"));
        } else if line.is_empty() {
            brief.push('\n');
        }
    }
    brief.trim_end().to_owned()
}

const LONG_PUBLIC_KEY: &[u8] = b"\
-----BEGIN PUBLIC KEY-----
MIIBojANBgkqhkiG9w0BAQEFAAOCAY8AMIIBigKCAYEApVoEhn3s8KK82dclZR/0
MkEevZxZn0TOPBZFA8Pq6nQLyDoYKnCtd0i/hRht4JdnPnAtBtrk52bSA7C8V6n0
Sg23vOMTiq3vIdBS1rMImvwPyBXQlhhlRI/TZQcCQ8Lg2mhZx5FMzvqHeFQWU+Mb
CevSF7PrLiP4uUJjHyzAN6a9PR389Ox7tH/dhNwzDRjYvu5/TOlCKPZBvmBBr+zd
MRtSwSOZK0RjlxBgXxP1+4Bu0o/cVdkoBq8o7a81zLOMXOWNpcFQ35xGNDWMsy56
EUdlGScneezM2sCVft+dWRA3o4YTSk5vT69DvOgL/kxMBhxLHthfFa3m+nV0Unxd
PalrHyltRkUKSp94SxzqVO758+kUflVZWc4507luRnpbg3KZtzFI2BT4F89n80mw
0X9WfwBVFcRjcyD++r3e2AF0j/6/eznbilmKVFtzsXoYJkmQT91gAUSL4UFMlL2W
K1pW8H70gNB8zkWqKspYdo0EEkXSxQzlGYyAfj1fmoTjAgMBAAE=
-----END PUBLIC KEY-----
";

static SERVER_KEY: LazyLock<String> =
    LazyLock::new(|| PrivateKey::generate(&mut OsRng).unwrap().to_pem().unwrap().to_string());

/// 1024 bits.
static SHORT_KEY: LazyLock<String> = LazyLock::new(|| {
    let key = rsa::RsaPrivateKey::new(&mut OsRng, 1024).unwrap();
    key.to_pkcs8_pem(rsa::pkcs8::LineEnding::LF).unwrap().to_string()
});
