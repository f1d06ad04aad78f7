//! `siglatchctl`, as the administrator meets it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may")]

mod programs;

use std::os::unix::fs::{PermissionsExt as _, symlink};

use programs::{Desk, names};
use siglatch::wire::invite::{Answers, Asks, Opens};
use siglatch::wire::stamp::Postage;
use siglatch::wire::{HmacKey, Invite, PrivateKey, ServerId};

const AT: [&str; 2] = ["--config", "srv/siglatchd.toml"];

fn made() -> Desk {
    let desk = Desk::new();
    desk.ctl(&["init", "srv", "--host", "vpn.example.org"]).ok();
    desk
}

/// Root's listener becomes a user that every machine has.
fn with_listener_user(desk: &Desk, name: &str) {
    if nix::unistd::geteuid().is_root() {
        desk.write(name, format!("listener_user = \"daemon\"\n{}", desk.read(name)), 0o600);
    }
}

fn add(desk: &Desk, args: &[&str]) -> programs::Said {
    desk.ctl(&[&["user", "add"], args, &AT].concat())
}

fn invite(desk: &Desk, name: &str) -> Invite {
    Invite::parse(&desk.read(name)).unwrap()
}

fn value(desk: &Desk, key: &str) -> String {
    let config: toml::Table = desk.read("srv/siglatchd.toml").parse().unwrap();
    config[key].as_str().unwrap().to_owned()
}

#[test]
fn init_makes_all_that_a_server_needs_with_the_right_modes() {
    let desk = Desk::new();
    let listen = ["--listen", "127.0.0.1:1234", "--listen", "[::1]:1234"];
    let said = desk.ctl(&[&["init", "srv"], &listen[..]].concat()).ok();
    assert!(said.out.contains("next: siglatchctl user add alice --action hello"), "{}", said.out);
    let modes = [
        ("srv", 0o755),
        ("srv/keys", 0o700),
        ("srv/state", 0o700),
        ("srv/actions", 0o755),
        ("srv/server.key.pem", 0o600),
        ("srv/enrol.key", 0o600),
        ("srv/server.pub.pem", 0o644),
        ("srv/siglatchd.toml", 0o600),
        ("srv/actions/hello", 0o755),
    ];
    for (name, mode) in modes {
        assert_eq!(desk.mode(name), mode, "{name}");
    }
    assert_eq!(
        names(&desk.path("srv")),
        [
            "actions",
            "admin.key",
            "enrol.key",
            "keys",
            "server.key.pem",
            "server.pub.pem",
            "siglatchd.toml",
            "state"
        ]
    );
    let private = PrivateKey::from_pem(&desk.read("srv/server.key.pem")).unwrap();
    assert_eq!(private.public().to_pem().unwrap(), desk.read("srv/server.pub.pem"));
    assert_eq!(private.public().modulus().len(), 256);
    assert!(ServerId::parse(&value(&desk, "server_id")).is_some());
    let config: toml::Table = desk.read("srv/siglatchd.toml").parse().unwrap();
    assert_eq!(config["listen"].to_string(), "[\"127.0.0.1:1234\", \"[::1]:1234\"]");
    assert_eq!(config["state_dir"].as_str(), Some("state"));
    assert_eq!(config["runtime_dir"].as_str(), Some("run"));
    assert!(!desk.read("srv/siglatchd.toml").contains('@'), "the template is filled in");
}

#[test]
fn the_modes_do_not_depend_on_the_umask() {
    let desk = Desk::new();
    let init = format!("umask 077; exec {} init srv", env!("CARGO_BIN_EXE_siglatchctl"));
    desk.run("/bin/sh", &["-c", &init], b"").ok();
    assert_eq!((desk.mode("srv"), desk.mode("srv/actions/hello")), (0o755, 0o755));
    let init = format!("umask 0; exec {} init open", env!("CARGO_BIN_EXE_siglatchctl"));
    desk.run("/bin/sh", &["-c", &init], b"").ok();
    assert_eq!((desk.mode("open/keys"), desk.mode("open/siglatchd.toml")), (0o700, 0o600));
}

#[test]
fn the_sample_action_says_who_knocked() {
    let desk = made();
    let hello = desk.path("srv/actions/hello");
    let args = ["192.0.2.1", "1", "alice", "1", "hello", "1"];
    let hello = hello.to_str().unwrap();
    let said = desk.run(hello, &[&args[..], &["aGkgdGhlcmU="]].concat(), b"").ok();
    assert_eq!(said.out, "hello alice (user 1) from 192.0.2.1: action hello (1)\npayload: hi there\n");
    let said = desk.run(hello, &[&args[..], &[""]].concat(), b"").ok();
    assert_eq!(said.out.lines().count(), 1);
}

#[test]
fn init_changes_nothing_that_is_there_without_force() {
    let desk = made();
    let before = desk.read("srv/siglatchd.toml");
    desk.ctl(&["init", "srv"])
        .failed(78, "there already: ")
        .failed(78, "server.key.pem")
        .failed(78, "--force");
    assert_eq!(desk.read("srv/siglatchd.toml"), before);

    desk.write("half/server.pub.pem", "mine", 0o644);
    desk.ctl(&["init", "half"]).failed(78, "server.pub.pem");
    assert_eq!(names(&desk.path("half")), ["server.pub.pem"], "nothing was begun");

    desk.ctl(&["init", "srv", "--force"]).ok();
    assert_ne!(desk.read("srv/siglatchd.toml"), before, "a new id");
}

#[test]
fn init_that_cannot_finish_takes_its_files_away() {
    let desk = Desk::new();
    desk.write("srv/actions", "a file where a folder must be", 0o644);
    let said = desk.ctl(&["init", "srv"]);
    assert_ne!(said.code, 0);
    assert!(said.err.contains("actions"), "{}", said.err);
    assert!(!desk.path("srv/server.key.pem").exists());
    desk.ctl(&["init", "srv/actions/below"]).failed(75, "cannot make the folder srv/actions/below");
    desk.ctl(&["init", "srv", "--listen", "somewhere"]).failed(64, "--listen");
    desk.ctl(&["init", "srv", "--host", "a b"]).failed(64, "no host name");
}

#[test]
fn user_add_makes_key_invite_and_table() {
    let desk = made();
    let said = add(&desk, &["alice", "--action", "hello"]).ok();
    for step in ["siglatchd does not run (nothing is at", "siglatch join alice.invite.toml"] {
        assert!(said.out.contains(step), "{step} is not in {}", said.out);
    }
    assert_eq!((desk.mode("srv/keys/alice.hmac"), desk.mode("alice.invite.toml")), (0o600, 0o600));
    let key = desk.read("srv/keys/alice.hmac");
    assert_eq!((key.len(), key.ends_with('\n')), (65, true));

    let invite = invite(&desk, "alice.invite.toml");
    assert_eq!(invite.hmac_key, HmacKey::parse(key.as_bytes()).unwrap());
    assert_eq!(invite.host.as_str(), "vpn.example.org");
    assert_eq!((invite.name.as_str(), invite.user.as_str()), ("vpn", "alice"));
    assert_eq!((invite.port, invite.user_id.0), (50000, 1));
    assert_eq!(invite.server_id.unwrap().to_string(), value(&desk, "server_id"));
    assert_eq!(invite.server_key.to_pem().unwrap(), desk.read("srv/server.pub.pem"));
    assert_eq!(invite.postage, Postage::Stamped);
    let actions: Vec<String> =
        invite.actions.iter().map(|(name, action)| format!("{name} {}", action.id)).collect();
    assert_eq!(actions, ["hello 1"]);

    let config: toml::Table = desk.read("srv/siglatchd.toml").parse().unwrap();
    let alice = config["users"]["alice"].as_table().unwrap();
    assert_eq!(alice["id"].as_integer(), Some(1));
    assert_eq!(alice["hmac_key"].as_str(), Some("keys/alice.hmac"));
    assert_eq!(alice["actions"].to_string(), "[\"hello\"]");
}

const BY_HAND: &str = r#"# kept: top
listen = ["127.0.0.1:62201"] # kept: behind a value
private_key = "server.key.pem"

[users.zoe] # kept: zoe
id       = 1     # kept: odd   spacing
hmac_key = "keys/zoe.hmac"
actions  = [
    "web", # kept: in a list
]

# kept: above an action
[actions.web]
id = 2
run = ["/bin/true"]
[actions.ssh]
id = 1
run = ["/bin/true"]
# kept: the end
"#;

/// Every line of `before` stands in `after`, in order.
fn assert_kept(before: &str, after: &str) {
    let mut lines = after.lines();
    for line in before.lines() {
        assert!(lines.any(|kept| kept == line), "{line:?} is lost or moved:\n{after}");
    }
}

#[test]
fn user_add_loses_no_comment_and_no_order() {
    let desk = made();
    desk.write("srv/siglatchd.toml", BY_HAND, 0o640);
    add(&desk, &["alice", "--action", "ssh,web", "--host", "::1", "--port", "1"]).ok();
    let once = desk.read("srv/siglatchd.toml");
    assert_kept(BY_HAND, &once);
    assert_eq!(desk.mode("srv/siglatchd.toml"), 0o640, "the mode is kept");
    add(&desk, &["bob", "--action", "web", "--action", "ssh", "--host", "::1"]).ok();
    assert_kept(&once, &desk.read("srv/siglatchd.toml"));

    let (alice, bob) = (invite(&desk, "alice.invite.toml"), invite(&desk, "bob.invite.toml"));
    assert_eq!((alice.user_id.0, alice.port), (2, 1), "1 is zoe's");
    assert_eq!((bob.user_id.0, bob.port), (3, 62201), "the first in `listen`");
    assert_eq!((alice.name.as_str(), alice.server_id), ("server", None));
    assert_eq!(bob.actions.len(), 2);
}

#[test]
fn user_add_finds_its_place_in_other_ways_of_writing_users() {
    for users in [
        "users = {}",
        "users = { zoe = { id = 1 } }",
        "users.zoe = { id = 1 }",
        "users.zoe.id = 1",
        "[users]",
    ] {
        let desk = made();
        let text = match users {
            "[users]" => format!("{BY_HAND}[users]\n").replace("[users.zoe]", "[limits]"),
            _ => format!("{users}\n{BY_HAND}").replace("[users.zoe]", "[limits]"),
        };
        desk.write("srv/siglatchd.toml", text, 0o600);
        add(&desk, &["alice", "--action", "ssh", "--host", "::1"]).ok();
        let text = desk.read("srv/siglatchd.toml");
        let config: toml::Table = text.parse().unwrap();
        assert_eq!(config["users"]["alice"]["hmac_key"].as_str(), Some("keys/alice.hmac"), "{text}");
        assert_eq!(config["listen"].as_array().unwrap().len(), 1, "{text}");
    }
    let desk = made();
    desk.write("srv/siglatchd.toml", format!("users = 1\n{BY_HAND}").replace("[users.zoe]", "[x]"), 0o600);
    add(&desk, &["alice", "--action", "ssh", "--host", "::1"]).failed(78, "`users` holds no tables");
    assert_eq!(names(&desk.path("srv/keys")), [""; 0]);
}

#[test]
fn ids_of_included_files_are_taken_too() {
    let desk = made();
    let include = format!("include = [\"users.d/*.toml\"]\n{BY_HAND}");
    desk.write("srv/siglatchd.toml", include, 0o600);
    desk.write("srv/users.d/a.toml", "[users.yan]\nid = 2\n[actions.extra]\nid = 9\n", 0o600);
    desk.write("srv/users.d/notes.txt", "[users.no]\nid = 3\n", 0o600);
    add(&desk, &["alice", "--action", "extra", "--host", "::1"]).ok();
    assert_eq!(invite(&desk, "alice.invite.toml").user_id.0, 3);
    add(&desk, &["yan", "--action", "ssh", "--host", "::1"]).failed(78, "there is a user yan already");
    // Another key, in the file that has him, which names it from where it is.
    add(&desk, &["yan", "--action", "ssh", "--host", "::1", "--force"]).ok();
    let included: toml::Table = desk.read("srv/users.d/a.toml").parse().unwrap();
    let key = included["users"]["yan"]["hmac_key"].as_str().unwrap().to_owned();
    assert_eq!(std::path::Path::new(&key), desk.path("srv/keys/yan.hmac"));
    assert_eq!(invite(&desk, "yan.invite.toml").user_id.0, 2);
    assert!(!desk.read("srv/siglatchd.toml").contains("yan"));
    let list = desk.ctl(&[&["user", "list"][..], &AT].concat()).ok().out;
    let users: Vec<&str> = list.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(users, ["USER", "zoe", "alice", "yan"]);
}

#[test]
fn what_two_patterns_name_or_the_main_file_is_listed_once() {
    let desk = made();
    let include = format!("include = [\"*.toml\", \"z*.toml\"]\n{BY_HAND}");
    desk.write("srv/siglatchd.toml", include, 0o600);
    desk.write("srv/zusers.toml", "[users.yan]\nid = 2\n", 0o600);
    let list = desk.ctl(&[&["user", "list"][..], &AT].concat()).ok().out;
    let users: Vec<&str> = list.lines().map(|line| &line[..4]).collect();
    assert_eq!(users, ["USER", "zoe ", "yan "]);
}

#[test]
fn an_include_that_siglatchd_would_not_take_is_an_error() {
    let desk = made();
    let include = format!("include = [\"a*b*.toml\"]\n{BY_HAND}");
    desk.write("srv/siglatchd.toml", include, 0o600);
    desk.ctl(&[&["user", "list"][..], &AT].concat())
        .failed(78, "srv/siglatchd.toml: `include` takes one `*` only")
        .failed(78, "hint: write users.d/*.toml");
}

#[test]
fn a_user_cannot_be_added_wrongly() {
    let desk = made();
    let before = desk.read("srv/siglatchd.toml");
    add(&desk, &["alice", "--action", "hullo"])
        .failed(64, "no action hullo")
        .failed(64, "the actions are: hello");
    add(&desk, &["alice"]).failed(64, "--action");
    for name in ["../alice", ".alice", "-alice", "al ice", "a\nb", ""] {
        let said = desk.ctl(&["user", "add", "--action", "hello", AT[0], AT[1], "--", name]);
        said.failed(64, "a name is 1 to 64");
    }
    add(&desk, &["alice", "--action", "hello", "--port", "0"]).failed(64, "--port");
    add(&desk, &["alice", "--action", "hello", "--id", "65536"]).failed(64, "--id");
    desk.ctl(&["user", "add", "alice", "--action", "hello", "--config", "none.toml"])
        .failed(78, "none.toml: cannot be read")
        .failed(78, "siglatchctl init");
    desk.ctl(&["user", "add", "alice", "--action", "hello", "--config", "none/none.toml"])
        .failed(78, "none/none.toml: cannot be read")
        .failed(78, "siglatchctl init");
    assert_eq!(desk.read("srv/siglatchd.toml"), before);
    assert_eq!(names(&desk.path("srv/keys")), [""; 0]);

    desk.write("srv/siglatchd.toml", "listen = [", 0o600);
    add(&desk, &["alice", "--action", "hello"]).failed(78, "siglatchd.toml: TOML parse error at line 1");
    desk.write("srv/siglatchd.toml", &before, 0o622);
    add(&desk, &["alice", "--action", "hello"]).failed(78, "is writable by its group and others");
    desk.write("srv/siglatchd.toml", before.replace("public_host", "#"), 0o600);
    add(&desk, &["alice", "--action", "hello"]).failed(64, "--host NAME");
}

#[test]
fn a_user_is_added_once_and_force_gives_a_new_key() {
    let desk = made();
    add(&desk, &["zoe", "--action", "hello"]).ok();
    add(&desk, &["alice", "--action", "hello", "--id", "7"]).ok();
    let (config, key) = (desk.read("srv/siglatchd.toml"), desk.read("srv/keys/alice.hmac"));
    add(&desk, &["alice", "--action", "hello"]).failed(78, "there is a user alice already");
    add(&desk, &["bob", "--action", "hello", "--id", "7"]).failed(64, "the id 7 is alice's");
    assert_eq!(desk.read("srv/siglatchd.toml"), config);
    assert_eq!(desk.read("srv/keys/alice.hmac"), key);

    let kept = config.replace("id = 7", "id = 7\nallow_from = [\"192.0.2.0/24\"] # kept");
    desk.write("srv/siglatchd.toml", &kept, 0o600);
    add(&desk, &["alice", "--action", "hello", "--force"]).ok();
    assert_eq!(desk.read("srv/siglatchd.toml"), kept, "id and all else stay");
    let invite = invite(&desk, "alice.invite.toml");
    assert_eq!(invite.user_id.0, 7);
    assert_ne!(desk.read("srv/keys/alice.hmac"), key);
    assert_eq!(HmacKey::parse(desk.read("srv/keys/alice.hmac").as_bytes()).unwrap(), invite.hmac_key);
}

#[test]
fn an_invite_says_which_actions_are_doors() {
    let desk = made();
    let door = "\n[actions.ssh]\nid = 2\nrun = [\"/bin/true\"]\nundo = [\"/bin/true\"]\nhold = \"1h\"\n";
    desk.write("srv/siglatchd.toml", desk.read("srv/siglatchd.toml") + door, 0o600);
    add(&desk, &["alice", "--action", "hello", "--action", "ssh"]).ok();
    let text = desk.read("alice.invite.toml");
    assert!(text.ends_with("[actions]\n\"hello\" = 1\n\"ssh\" = { id = 2, door = true }\n"), "{text}");
    let actions = invite(&desk, "alice.invite.toml").actions;
    assert_eq!(
        actions.into_values().map(|action| action.opens).collect::<Vec<_>>(),
        [Opens::Nothing, Opens::Door]
    );
}

#[test]
fn an_invite_may_do_without_stamps_unless_they_are_required() {
    let desk = made();
    add(&desk, &["alice", "--action", "hello", "--no-stamp"]).ok();
    assert_eq!(invite(&desk, "alice.invite.toml").postage, Postage::Plain);
    assert!(desk.read("alice.invite.toml").contains("\nstamp = false\n"));

    let config = desk.read("srv/siglatchd.toml");
    let of_alice = config.replace("[users.alice]", "[users.alice]\nrequire_stamp = true");
    for (required, bobs_exit) in [(format!("require_stamp = true\n{config}"), 64), (of_alice, 0)] {
        desk.write("srv/siglatchd.toml", &required, 0o600);
        add(&desk, &["alice", "--action", "hello", "--force", "--no-stamp"])
            .failed(64, "`require_stamp` is true for alice")
            .failed(64, "leave --no-stamp out");
        assert_eq!(desk.read("srv/siglatchd.toml"), required);
        assert_eq!(add(&desk, &["bob", "--action", "hello", "--no-stamp"]).code, bobs_exit);
    }
    add(&desk, &["alice", "--action", "hello", "--force"]).ok();
    assert_eq!(invite(&desk, "alice.invite.toml").postage, Postage::Stamped);
}

#[test]
fn a_user_that_cannot_be_added_whole_leaves_nothing() {
    let desk = made();
    let before = desk.read("srv/siglatchd.toml");
    add(&desk, &["alice", "--action", "hello", "--invite", "no/such/folder/x"])
        .failed(78, "no/such/folder/x");
    assert_eq!(names(&desk.path("srv/keys")), [""; 0], "the key is taken away again");
    desk.write("alice.invite.toml", "mine", 0o600);
    add(&desk, &["alice", "--action", "hello"]).failed(78, "alice.invite.toml: is there already");
    assert_eq!(desk.read("alice.invite.toml"), "mine");
    symlink("/nowhere", desk.path("srv/keys/alice.hmac")).unwrap();
    add(&desk, &["alice", "--action", "hello", "--invite", "new"]).failed(78, "alice.hmac: is there already");
    assert_eq!(desk.read("srv/siglatchd.toml"), before);
    assert!(!desk.path("new").exists());
}

#[test]
fn an_invite_goes_from_server_to_user_through_a_pipe() {
    let desk = made();
    let said = add(&desk, &["alice", "--action", "hello", "--invite", "-"]).ok();
    assert!(said.err.contains("added alice (1)"), "{}", said.err);
    assert_eq!(Invite::parse(&said.out).unwrap().user.as_str(), "alice");
    assert_eq!(names(desk.path("").as_path()), ["srv"]);
}

#[test]
fn a_configuration_behind_a_link_is_edited_where_it_is() {
    let desk = made();
    desk.write("real/siglatchd.toml", desk.read("srv/siglatchd.toml"), 0o600);
    std::fs::remove_file(desk.path("srv/siglatchd.toml")).unwrap();
    symlink("../real/siglatchd.toml", desk.path("srv/siglatchd.toml")).unwrap();
    add(&desk, &["alice", "--action", "hello"]).ok();
    assert!(desk.path("srv/siglatchd.toml").is_symlink());
    assert!(desk.read("real/siglatchd.toml").contains("[users.alice]"));
    with_listener_user(&desk, "real/siglatchd.toml");
    desk.ctl(&["check", "srv/siglatchd.toml"]).ok();
}

#[test]
fn what_init_and_user_add_make_is_what_the_daemon_takes() {
    let desk = made();
    add(&desk, &["alice", "--action", "hello"]).ok();
    with_listener_user(&desk, "srv/siglatchd.toml");
    let said = desk.ctl(&["check", "srv/siglatchd.toml"]).ok();
    assert_eq!(said.out, "srv/siglatchd.toml is good: users: 1, actions: 4\n");
    assert_eq!(said.err, "");
}

#[test]
fn check_says_everything_that_is_wrong_with_its_line() {
    let desk = made();
    let text = desk.read("srv/siglatchd.toml");
    let text =
        text.replace("bind =", "bnid =").replace("id = 1\n", "id = 0\n").replace("vpn.example.org", "a b");
    desk.write("srv/siglatchd.toml", text, 0o600);
    let said = desk.ctl(&["check", "srv/siglatchd.toml"]);
    for part in
        ["did you mean `bind`", "`public_host` takes", "siglatchd would not take", "srv/siglatchd.toml:"]
    {
        assert!(said.err.contains(part), "{part:?} is not in {}", said.err);
    }
    said.failed(78, "`id` takes a whole number from 1 to 255");
    desk.ctl(&["check", "none.toml"]).failed(78, "none.toml");
}

#[test]
fn twelve_administrators_at_once_lose_no_user() {
    let desk = made();
    std::thread::scope(|scope| {
        for number in 0..12 {
            let desk = &desk;
            scope.spawn(move || {
                let name = format!("user{number}");
                loop {
                    let said = add(desk, &[&name, "--action", "hello"]);
                    match said.code {
                        0 => break,
                        75 => assert!(said.err.contains("another siglatchctl is changing it")),
                        _ => panic!("{said:?}"),
                    }
                }
            });
        }
    });
    let config: toml::Table = desk.read("srv/siglatchd.toml").parse().unwrap();
    let users = config["users"].as_table().unwrap();
    let mut ids: Vec<i64> = users.values().map(|user| user["id"].as_integer().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=12).collect::<Vec<i64>>());
}

#[test]
fn users_and_actions_are_listed_as_tables() {
    let desk = made();
    add(&desk, &["alice", "--action", "hello"]).ok();
    let rows = |args: &[&str]| -> Vec<String> {
        let out = desk.ctl(&[args, &AT].concat()).ok().out;
        out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(
        rows(&["user", "list"]),
        ["USER ID ACTIONS KEY STATE ENABLED UNTIL KNOCKS", "alice 1 hello keys/alice.hmac good yes - -"]
    );
    let hello = desk.path("srv/actions/hello").canonicalize().unwrap();
    assert_eq!(
        rows(&["action", "list"]),
        [
            "ACTION ID USERS RUNS ENABLED".to_owned(),
            "whoami 250 - builtin whoami yes".to_owned(),
            "server-key 251 - builtin server_key yes".to_owned(),
            "enrol 252 - builtin enrol yes".to_owned(),
            format!("hello 1 alice {} yes", hello.display())
        ]
    );
}

#[test]
fn a_totp_key_is_made_shown_once_and_kept_unless_forced() {
    let desk = made();
    add(&desk, &["alice", "--action", "hello"]).ok();
    let totp = |args: &[&str]| desk.ctl(&[&["user", "totp"], args, &AT].concat());
    totp(&["bob"]).failed(64, "there is no user bob");
    assert!(!desk.path("srv/keys/bob.totp").exists());
    let shown = totp(&["alice"]).ok();
    let key = desk.read("srv/keys/alice.totp");
    assert_eq!((key.trim().len(), desk.mode("srv/keys/alice.totp")), (32, 0o600));
    let uri = format!(
        "otpauth://totp/vpn.example.org:alice?secret={}&issuer=vpn.example.org&algorithm=SHA1&digits=6&period=30",
        key.trim()
    );
    assert!(shown.out.lines().any(|line| line == uri), "{}", shown.out);
    assert!(shown.out.chars().filter(|c| *c == '\u{2588}').count() > 200, "{}", shown.out);
    assert!(!shown.err.contains(key.trim()), "{}", shown.err);
    totp(&["alice"]).failed(78, "alice has a TOTP key already");
    assert_eq!(desk.read("srv/keys/alice.totp"), key);
    totp(&["alice", "--force"]).ok();
    assert_ne!(desk.read("srv/keys/alice.totp"), key);
    let asking =
        desk.read("srv/siglatchd.toml").replace("[actions.hello]\n", "[actions.hello]\ntotp = true\n");
    desk.write("srv/siglatchd.toml", asking, 0o600);
    with_listener_user(&desk, "srv/siglatchd.toml");
    desk.ctl(&["check", "srv/siglatchd.toml"]).ok();
}

#[test]
fn a_key_that_nobody_saw_is_not_in_force() {
    let desk = made();
    add(&desk, &["alice", "--action", "hello"]).ok();
    let before = desk.read("srv/siglatchd.toml");
    let ctl = env!("CARGO_BIN_EXE_siglatchctl");
    let unseen = format!("exec {ctl} user totp alice --config srv/siglatchd.toml > /dev/full");
    desk.run("/bin/sh", &["-c", &unseen], b"").failed(75, "cannot write the key to standard output");
    assert_eq!(desk.read("srv/siglatchd.toml"), before);
    assert!(!desk.path("srv/keys/alice.totp").exists());
}

#[test]
fn an_invite_says_whether_the_server_answers() {
    let desk = made();
    let answers = || invite(&desk, "alice.invite.toml").answers;
    add(&desk, &["alice", "--action", "whoami"]).ok();
    assert_eq!(answers(), Answers::Receipt);
    let config = desk.read("srv/siglatchd.toml");
    for (from, to, expected) in [
        ("reply = \"receipt\"", "reply = \"never\"", Answers::Nothing),
        ("reply = \"receipt\"", "", Answers::Nothing),
        ("[users.alice]\n", "[users.alice]\nreply = \"never\"\n", Answers::Nothing),
    ] {
        desk.write("srv/siglatchd.toml", config.replace(from, to), 0o600);
        add(&desk, &["alice", "--action", "whoami", "--force"]).ok();
        assert_eq!(answers(), expected, "{to:?}");
    }
}

#[test]
fn an_invite_says_which_actions_ask_for_a_code() {
    let desk = made();
    desk.write(
        "srv/siglatchd.toml",
        desk.read("srv/siglatchd.toml") + "totp = true\n[actions.plain]\nid = 7\n",
        0o600,
    );
    add(&desk, &["alice", "--action", "hello,plain"]).ok();
    let asks: Vec<Asks> =
        invite(&desk, "alice.invite.toml").actions.values().map(|action| action.asks).collect();
    assert_eq!(asks, [Asks::Totp, Asks::Nothing]);
}

#[test]
fn usage_of_a_server_that_was_never_knocked_is_a_heading() {
    let desk = made();
    let usage = |args: &[&str]| desk.ctl(&[&["usage"], args, &AT].concat());
    assert_eq!(usage(&[]).ok().out, "USER  ACTION  DAY  WEEK  TOTAL  FIRST  LAST\n");
    assert_eq!(usage(&["--csv"]).ok().out, "user_id,user,action_id,action,day,week,total,first,last\n");
    std::fs::remove_dir_all(desk.path("srv/state")).unwrap();
    usage(&[]).failed(78, "claims.db: cannot be read");
    desk.write(
        "srv/siglatchd.toml",
        format!("store = \"memory\"\n{}", desk.read("srv/siglatchd.toml")),
        0o600,
    );
    usage(&[]).failed(78, "keeps no usage");
}

#[test]
fn a_folder_with_an_odd_name_is_written_as_toml() {
    let desk = Desk::new();
    desk.ctl(&["init", "a \"b\" \\c"]).ok();
    let config: toml::Table = desk.read("a \"b\" \\c/siglatchd.toml").parse().unwrap();
    let run = config["actions"]["hello"]["run"][0].as_str().unwrap();
    let meta = std::fs::metadata(run).unwrap();
    assert_eq!(meta.permissions().mode() & 0o111, 0o111);
}

#[test]
fn help_names_every_command_and_usage_errors_end_with_64() {
    let desk = Desk::new();
    let help = desk.ctl(&["--help"]).ok().out;
    for command in ["init", "user", "action", "usage", "check"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in {help}");
    }
    for command in [
        &["init"][..],
        &["user", "add"],
        &["user", "totp"],
        &["user", "list"],
        &["action", "list"],
        &["usage"],
    ] {
        let help = desk.ctl(&[command, &["--help"]].concat()).ok().out;
        assert!(help.contains(&format!("Usage: siglatchctl {}", command.join(" "))), "{help}");
    }
    assert!(desk.ctl(&["--version"]).ok().out.starts_with("siglatchctl "));
    for args in [&[][..], &["user"], &["user", "ad"], &["user", "add"], &["init", "a", "b"]] {
        let said = desk.ctl(args);
        assert_eq!((said.code, said.out.as_str()), (64, ""), "{args:?}");
    }
}

#[test]
fn root_is_told_to_make_the_listeners_user_where_there_is_none() {
    let there = nix::unistd::User::from_name("siglatch-listen").unwrap().is_some();
    let needed = nix::unistd::geteuid().is_root() && !there;
    let desk = Desk::new();
    let said = desk.ctl(&["init", "srv"]).ok();
    let command = "useradd --system --no-create-home --shell /usr/sbin/nologin siglatch-listen";
    assert_eq!(said.out.contains(&format!("\nnext: {command}\n")), needed, "{}", said.out);
    let said = desk.ctl(&["check", "srv/siglatchd.toml"]);
    assert_eq!((said.code == 78, said.err.contains(command)), (needed, needed), "{}", said.err);
}
