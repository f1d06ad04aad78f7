//! `siglatchctl import`: what comes out is taken by siglatchd, lets in whom the old daemon let in, and nobody else.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use siglatch::wire::{Binding, Knock, UserId};

use crate::common::{Daemon, Site, knock, listener_user, skipped, spawn, unix, until};

/// A site, and an old daemon's folder `old` in it.
struct Old(Site);

impl Old {
    fn new() -> Old {
        let site = Site::new();
        let keys = site.path("old");
        fs::create_dir(&keys).unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o755)).unwrap();
        site.file("old/server_priv.pem", site.key.to_pem().unwrap().as_bytes(), 0o600);
        site.file("old/root.hmac.key", site.hmac.to_hex().as_bytes(), 0o600);
        site.file("old/root.pub.pem", site.key.public().to_pem().unwrap().as_bytes(), 0o644);
        let ran = site.path("ran");
        let script = format!("#!/bin/sh\n{{ printf '%s\\n' \"$@\"; echo --; }} >> {}\n", ran.display());
        site.file("old/grant ip.sh", script.as_bytes(), 0o755);
        Old(site)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let text = text.replace("@OLD@", self.0.path("old").to_str().unwrap());
        self.0.file(&format!("old/{name}"), text.as_bytes(), 0o644)
    }

    fn import(&self, kind: &str, from: &str, more: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
        command.args(["import", kind]).arg(self.0.path(from)).arg("--into").arg(self.0.path("new"));
        Said::of(&command.args(more).output().unwrap())
    }

    fn config(&self) -> String {
        fs::read_to_string(self.0.path("new/siglatchd.toml")).unwrap()
    }

    /// siglatchd on what came out.
    fn start(&self) -> Daemon {
        let text = format!("{}{}", listener_user(), self.config());
        let config = self.0.file("new/siglatchd.toml", text.as_bytes(), 0o600);
        spawn(&config, |_| {}).ready()
    }

    /// A plain knock as a siglatch v1 client makes it, later than any that the old daemon could have taken.
    fn plain(&self, user: u16, action: u8, payload: &[u8]) -> Vec<u8> {
        let knock = Knock { user: UserId(user), timestamp: unix() + 2, ..knock(action, payload) };
        self.0.sealed(&knock, Binding::None)
    }
}

struct Said {
    out: String,
    err: String,
    code: i32,
}

impl Said {
    fn of(output: &Output) -> Said {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Said { out: text(&output.stdout), err: text(&output.stderr), code: output.status.code().unwrap() }
    }

    #[track_caller]
    fn code(self, code: i32) -> Said {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self
    }

    /// The report has these lines.
    #[track_caller]
    fn reports(&self, lines: &[&str]) {
        for line in lines {
            assert!(self.out.contains(line), "{line} is not in\n{}", self.out);
        }
    }
}

fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// As siglatch v1 ships it, filled in.
const SERVER: &str = "# siglatchd configuration
log_file = /tmp/siglatch.log

[server:secure]
enabled = yes
port = @PORT@
bind_ip = 127.0.0.1
secure = yes
allowed_ips = 127.0.0.0/8, 192.0.2.7/24
priv_key_path = @OLD@/server_priv.pem
deaddrops = message
actions = grant_ip, quiet
logging = yes

[server:insecure]
enabled = no
port = 50001
secure = no

; dead drops
[deaddrop:message]
constructor = /bin/sh @OLD@/drop.sh
starts_with = message

[action:grant_ip]
id = 1
constructor = /bin/sh @OLD@/grant ip.sh
exec_split = 1
require_ascii = yes
allowed_ips = 127.0.0.1

[action:quiet]
id = 2
enabled = no
constructor = @OLD@/grant ip.sh
exec_split = no

[action:kept back]
id = 3
constructor = /bin/sh @OLD@/grant ip.sh

[user:root]
id = 1
enabled = yes
key_file = @OLD@/root.pub.pem
hmac_file = @OLD@/root.hmac.key
actions = grant_ip, quiet, kept back

[user:guest]
id = 2
hmac_file = @OLD@/root.hmac.key
actions = grant_ip
";

#[test]
fn a_v1_client_knocks_the_imported_server_and_its_script_gets_the_seven_arguments() {
    let old = Old::new();
    old.file("server.conf", &SERVER.replace("@PORT@", &free_port().to_string()));
    let said = old.import("siglatch", "old/server.conf", &[]).code(1);
    said.reports(&[
        "to be decided by you:\n",
        "server.conf:21: [deaddrop:message]: a dead drop runs for whoever sends its word",
        "not taken over as it was:\n",
        "server.conf:2: log_file: the log goes to",
        "server.conf:15: [server:insecure]: another server",
        "server.conf:38: [action:kept back]: is called kept_back",
        "server.conf:38: [action:kept back]: switched off: it is not among the server's `actions`",
        "server.conf:49: [user:guest]: has no `enabled`",
        "may run for 30s: `timeout`",
        "not in force: 0\n",
    ]);
    assert!(said.err.contains("left to decide: 1"), "{}", said.err);
    let config: toml::Table = old.config().parse().unwrap();
    assert_eq!(config["allow_from"].to_string(), "[\"127.0.0.0/8\", \"192.0.2.0/24\"]");
    assert_eq!(config["actions"]["grant_ip"]["payload"].as_str(), Some("ascii"));
    for (name, mode) in
        [("server.key.pem", 0o600), ("keys/root.hmac", 0o600), ("admin.key", 0o600), ("keys", 0o700)]
    {
        let meta = fs::metadata(old.0.path("new").join(name)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "{name}");
    }

    let daemon = old.start();
    for (user, action, payload) in
        [(1, 1, &b"hi"[..]), (1, 2, b""), (1, 3, b""), (2, 1, b""), (1, 1, b"\xff")]
    {
        daemon.send(&old.plain(user, action, payload));
    }
    daemon.send(&old.0.sealed(&Knock { timestamp: unix() - 5, ..knock(1, b"before") }, Binding::None));
    until("what was sent", || (old.0.runs() == 1).then_some(()));
    daemon.wait_count("the others", 5, |line| line.contains("knock refused"));
    let ran = fs::read_to_string(old.0.path("ran")).unwrap();
    assert_eq!(ran, "127.0.0.1\n1\nroot\n1\ngrant_ip\n1\naGk=\n--\n");
    let stopped = daemon.stop();
    assert_eq!((stopped.count("ran"), stopped.count("floor")), (1, 1), "{}", stopped.log.join("\n"));
}

/// Nearly all of it cannot be in force.
const CROOKED: &str = "[server:secure]
priv_key_path = server_priv.pem
enabled = yes
actions = gone, inside, tool, undone, twice, who, where

[action:gone]
id = 1
constructor = /nowhere/at all
[action:inside]
id = 2
handler = builtin
builtin = reload_config
[action:tool]
id = 0
constructor = /bin/true
[action:undone]
id = 4
constructor = /bin/true
destructor = /bin/false
keepalive_interval = 60
[action:twice]
id = 4
constructor = /bin/true
[action:who]
id = 5
constructor = /bin/true
run_as = nobody-at-all
[action:where]
id = 6
constructor = /bin/true
allowed_ips = somewhere

[user:root]
id = 1
enabled = yes
hmac_file = root.hmac.key
actions = gone, undone, absent
[user:lost]
id = 2
enabled = yes
hmac_file = lost.key
[user:again]
id = 1
enabled = yes
hmac_file = root.hmac.key
[user:open]
id = 4
enabled = yes
hmac_file = open.key
";

#[test]
fn what_cannot_be_in_force_is_written_as_a_comment_and_told() {
    let old = Old::new();
    old.file("server.conf", CROOKED);
    old.0.file("old/open.key", &[7; 32], 0o644);
    let said = old.import("siglatch", "old/server.conf", &[]).code(1);
    said.reports(&[
        ":1: [server:secure]: has no `secure`, which siglatch v1 takes for no",
        ":8: [action:gone] constructor: /nowhere/at is not there",
        ":11: [action:inside] handler: write builtin = \"reload\"",
        ":14: [action:tool] id: takes a number from 1 to 255",
        ":19: [action:undone] destructor: siglatch v1 never ran it",
        ":22: [action:twice] id: [action:undone] has the id 4 already",
        ":27: [action:who] run_as: this machine has no user \"nobody-at-all\"",
        ":31: [action:where] allowed_ips: \"somewhere\" is neither an address nor a network",
        ":37: [user:root] actions: there is no [action:absent]",
        "lost.key is not there",
        ":43: [user:again] id: [user:root] has the id 1 already",
        "others can read",
        "tables: 11, of which not in force: 8\n",
    ]);
    let config = old.config();
    assert!(config.contains("# not in force: this machine has no user"), "{config}");
    assert!(config.contains("\n#[actions.who]\n"), "{config}");
    let config: toml::Table = config.parse().unwrap();
    let names = |section: &str| config[section].as_table().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        (names("actions"), names("users")),
        (vec!["undone".to_owned()], vec!["open".into(), "root".into()])
    );
    assert_eq!(config["users"]["root"]["actions"].to_string(), "[\"undone\"]");
    drop(old.start().stop());
}

#[test]
fn what_may_limit_somebody_in_an_ini_is_asked_about_and_the_user_in_force_stays_so() {
    let old = Old::new();
    let text = "[server:secure]\nenabled = no\nsecure = yes\npriv_key_path = server_priv.pem\nactions = a\nonly_from = friends\n\
                [action:a]\nid = 1\nconstructor = /bin/true\nallowed_ips =\n\
                [user:bob]\nid = 2\nenabled = no\nhmac_file = root.hmac.key\nactions = a\n\
                [user:bob2]\nid = 2\nenabled = yes\nhmac_file = root.hmac.key\nactions = a\nnot_after = 2020\n";
    old.file("server.conf", text);
    let said = old.import("siglatch", "old/server.conf", &[]).code(1);
    let (decide, _) = said.out.split_once("not taken over as it was:").unwrap_or((&said.out, ""));
    for line in [
        ":2: [server:secure] enabled: was off",
        ":6: [server:secure] only_from: is not known here",
        ":10: [action:a] allowed_ips: names nobody",
        ":12: [user:bob] id: [user:bob2] has the id 2 too, and is enabled",
        ":21: [user:bob2] not_after: is not known here",
    ] {
        assert!(decide.contains(line), "{line} is not in\n{}", said.out);
    }
    let config: toml::Table = old.config().parse().unwrap();
    assert_eq!(config["users"].as_table().unwrap().keys().collect::<Vec<_>>(), ["bob2"]);
    assert!(config.get("actions").is_none());
}

#[test]
fn an_import_without_a_question_ends_with_0_and_one_that_fails_writes_nothing() {
    let old = Old::new();
    let good = "[server:secure]\nenabled = yes\nsecure = yes\npriv_key_path = server_priv.pem\nactions = a\n\
                [action:a]\nid = 1\nconstructor = /bin/true\n\
                [user:u]\nid = 1\nenabled = yes\nhmac_file = root.hmac.key\nactions = a\n";
    let wrong = [
        ("", 78, "no [server:NAME]"),
        ("[server:a\n", 78, "server.conf:1: [server:a is no section"),
        ("port\n", 78, "server.conf:1: \"port\" is neither"),
        ("[server:a]\nport = 1\nport = 2\n", 78, "server.conf:3: `port` stands in line 2 already"),
        ("[user:a]\n[user:a]\n", 78, "server.conf:2: [user:a] stands in line 1 already"),
        ("[server:a]\nport = 70000\n", 78, "server.conf:2: port takes a number"),
        ("[server:a]\nbind_ip = ::1\n", 78, "bind_ip takes an IPv4 address"),
        ("[server:a]\nallowed_ips = x\n", 78, "server.conf:2: allowed_ips: \"x\" is neither"),
        ("[server:\u{1b}[2J]\n", 78, "server.conf:1: a control character"),
        ("[server:a]\nenabled = 1\n[server:b]\nenabled = 1\n", 64, "say it with --server: a, b"),
        ("default_server = c\n[server:a]\n", 64, "there is no [server:c]"),
        ("[server:secure]\npriv_key_path = root.pub.pem\n", 78, "root.pub.pem"),
    ];
    for (text, code, message) in wrong {
        old.file("server.conf", text);
        let said = old.import("siglatch", "old/server.conf", &[]).code(code);
        assert!(said.err.contains(message), "{message} is not in {}", said.err);
        assert!(!old.0.path("new").exists(), "{text}");
    }
    old.file("server.conf", good);
    old.import("siglatch", "old/server.conf", &[]).code(0);
    let before = old.config();
    let said = old.import("siglatch", "old/server.conf", &[]).code(78);
    assert!(said.err.contains("there already: "), "{}", said.err);
    assert_eq!(old.config(), before);
}

/// fwknopd 2.6.10 takes it (`fwknopd -D`).
const ACCESS: &str = "# stanzas
SOURCE              192.0.2.9/24, 198.51.100.7
OPEN_PORTS          tcp/22, udp/51820
REQUIRE_USERNAME    alice
FW_ACCESS_TIMEOUT   60
KEY_BASE64          wzNP62oPPgEc+kXDPQLHPOayQBuNbYUTPP+QrErNDmg=
HMAC_KEY_BASE64     Yh+xizBnl6FotC5ec7FanVGClRMlsOAPh2u6eovnerfBVKwaVKzjGoblFMHMc593TNyi0dWn4opLoTIV9q/ttg==
ACCESS_EXPIRE_EPOCH 1924905600
REQUIRE_SOURCE_ADDRESS Y

SOURCE: ANY;
OPEN_PORTS: tcp/80;
KEY: verysecret;
CMD_CYCLE_OPEN: /bin/sh @OLD@/say.sh open $IP $PKT_SRC/32 p$PORT $PROTO it's $HOME;
CMD_CYCLE_CLOSE: /bin/sh @OLD@/say.sh close $SRC;
CMD_CYCLE_TIMER: 1;

%include more.conf
";

const MORE: &str = "SOURCE ANY
OPEN_PORTS udp/51820, tcp/22
REQUIRE_USERNAME alice
FW_ACCESS_TIMEOUT 60
GPG_DECRYPT_ID ABCD1234
SOURCE ANY
KEY another
SOURCE ANY
OPEN_PORTS tcp/443
FORCE_NAT 10.0.0.1 443
SOURCE 10.0.0.0/8
OPEN_PORTS tcp/22
ENABLE_CMD_EXEC Y
CMD_EXEC_USER nobody
SOURCE ANY
OPEN_PORTS tcp/80,tcp/81
CMD_CYCLE_OPEN /bin/true $PORT
CMD_CYCLE_CLOSE NONE
CMD_CYCLE_TIMER 5
SOURCE ANY
OPEN_PORTS icmp/1
ACCESS_EXPIRE 13/45/20
";

#[test]
fn an_fwknop_server_becomes_users_and_doors_with_keys_of_their_own() {
    if !std::path::Path::new("/usr/sbin/nft").exists() {
        return skipped("doors of nftables need nft");
    }
    let old = Old::new();
    old.file("access.conf", ACCESS);
    old.file("more.conf", MORE);
    old.file("fwknopd.conf", &format!("#UDPSERV_PORT 1;\nPCAP_FILTER  udp port {};\n", free_port()));
    let said = old.file("said", "");
    old.file("say.sh", &format!("printf '%s|' \"$@\" >> {0}; echo >> {0}\n", said.display()));
    let report = old.import("fwknop", "old", &[]).code(1);
    report.reports(&[
        "access.conf:6: KEY_BASE64: keys are made anew",
        "more.conf:6: SOURCE: opens what the knock asks for",
        "more.conf:10: FORCE_NAT: a door lets through what arrives at this machine",
        "more.conf:13: ENABLE_CMD_EXEC: a knock brings no command here",
        "more.conf:14: CMD_EXEC_USER: goes with commands that knocks bring",
        "more.conf:17: CMD_CYCLE_OPEN: $PORT is one of several ports",
        "more.conf:21: OPEN_PORTS: \"icmp/1\" is no port",
        "more.conf:22: ACCESS_EXPIRE: is no date",
        "of which not in force: 4\n",
        "siglatchctl firewall snippet tcp22 tcp22-udp51820 --tcp 22 --config",
        "siglatchctl firewall snippet tcp22-udp51820 --udp 51820 --config",
        "siglatchctl user add alice-2 --action tcp22-udp51820 --force",
    ]);
    for secret in ["wzNP62oPPgEc", "Yh+xizBnl6Fo", "verysecret"] {
        assert!(!format!("{}{}{}", report.out, report.err, old.config()).contains(secret), "{secret}");
    }
    let config: toml::Table = old.config().parse().unwrap();
    let users: Vec<&String> = config["users"].as_table().unwrap().keys().collect();
    assert_eq!(users, ["alice", "alice-2", "user-2", "user-6"]);
    let alice = &config["users"]["alice"];
    assert_eq!(alice["allow_from"].to_string(), "[\"192.0.2.0/24\", \"198.51.100.7\"]");
    assert_eq!(alice["not_after"].to_string(), "2030-12-31T00:00:00Z");
    let door = &config["actions"]["tcp22-udp51820"];
    assert_eq!((door["hold"].as_str(), door["max_hold"].as_str()), (Some("1m"), Some("5m")));
    assert_eq!(door["nft"]["set"].as_str(), Some("tcp22-udp51820"));

    let invite = old.0.path("invite");
    let mut add = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
    add.args(["user", "add", "user-2", "--action", "cycle", "--force", "--host", "127.0.0.1"]);
    add.args(["--profile-name", "office", "--invite"]).arg(&invite);
    Said::of(&add.arg("--config").arg(old.0.path("new/siglatchd.toml")).output().unwrap()).code(0);
    let daemon = old.start();
    // The floor of a store that is new is the second of its start.
    let started = unix();
    until("the next second", || (unix() > started).then_some(()));
    for args in [&["join", invite.to_str().unwrap()][..], &["knock", "office", "cycle"]] {
        let mut client = Command::new(env!("CARGO_BIN_EXE_siglatch"));
        Said::of(
            &client.args(args).env("HOME", old.0.dir.path()).env_remove("XDG_CONFIG_HOME").output().unwrap(),
        )
        .code(0);
    }
    let lines = until("the close command", || {
        let text = fs::read_to_string(&said).unwrap();
        text.contains("close").then_some(text)
    });
    assert_eq!(lines, "open|127.0.0.1|127.0.0.1/32|p80|6|it's|HOME|\nclose|127.0.0.1|\n");
    daemon.stop();
}

/// Each stanza is limited by what fwknopd reads there.
const LIMITED: &str = "SOURCE ANY
REQUIRE_USERNAME bound
OPEN_PORTS tcp/22
%include inner.conf
REQUIRE_SOURCE_ADDRESS Y
SOURCE ANY
REQUIRE_USERNAME closed
OPEN_PORTS tcp/22
RESTRICT_PORTS TCP/022 , udp/1
SOURCE ANY
REQUIRE_USERNAME untold
CMD_CYCLE_OPEN /bin/true $CLIENT_TIMEOUT
CMD_CYCLE_CLOSE NONE
SOURCE ANY
REQUIRE_USERNAME unknown
CMD_CYCLE_OPEN /bin/true
CMD_CYCLE_CLOSE NONE
RESTRICT_PORTS tcp/22
SOURCE ANY
REQUIRE_USERNAME last
OPEN_PORTS tcp/22, tcp/23
OPEN_PORTS tcp/22
LIMIT_TO friends
SOURCE ANY, 192.0.2.1
REQUIRE_USERNAME mixed
OPEN_PORTS tcp/22
SOURCE ANY
REQUIRE_USERNAME delivered
OPEN_PORTS tcp/22
KEY_BASE64 __CHANGEME__
SOURCE ANY
REQUIRE_USERNAME old
OPEN_PORTS tcp/22
ACCESS_EXPIRE 12/31/20
";

#[test]
fn what_limits_somebody_in_access_conf_limits_him_here_or_is_to_be_decided() {
    if !std::path::Path::new("/usr/sbin/nft").exists() {
        return skipped("doors of nftables need nft");
    }
    let old = Old::new();
    old.file("access.conf", LIMITED);
    old.file("inner.conf", "SOURCE ANY\nREQUIRE_USERNAME inner\nOPEN_PORTS tcp/22\n");
    let conf =
        "PCAP_INTF eth0;\nPCAP_FILTER udp port 50123 and src net 10.0.0.0/8;\nMAX_SPA_PACKET_AGE 60;\n";
    old.file("fwknopd.conf", conf);
    let report = old.import("fwknop", "old", &[]).code(1);
    let (decide, left) = report.out.split_once("not taken over as it was:").unwrap();
    for line in [
        "fwknopd.conf: PCAP_INTF: \"eth0\"",
        "fwknopd.conf: PCAP_FILTER: \"udp port 50123 and src net 10.0.0.0/8\"",
        "access.conf:9: RESTRICT_PORTS: some of OPEN_PORTS",
        "access.conf:12: CMD_CYCLE_OPEN: a script is not told $CLIENT_TIMEOUT",
        "access.conf:18: RESTRICT_PORTS: it is not known which ports",
        "access.conf:23: LIMIT_TO: is not known here",
        "access.conf:24: SOURCE: \"ANY\" is neither",
        "access.conf:30: KEY_BASE64: was never changed",
        "access.conf:34: ACCESS_EXPIRE: is no date",
    ] {
        assert!(decide.contains(line), "{line} is not in\n{}", report.out);
    }
    for line in [
        "access.conf:5: REQUIRE_SOURCE_ADDRESS: his knocks are to be bound",
        "access.conf:21: OPEN_PORTS: fwknopd takes that of",
    ] {
        assert!(left.contains(line), "{line} is not in\n{}", report.out);
    }
    let config: toml::Table = old.config().parse().unwrap();
    let users = config["users"].as_table().unwrap();
    assert_eq!(users.keys().collect::<Vec<_>>(), ["bound", "inner", "last"]);
    assert_eq!(users["bound"].get("bind").and_then(toml::Value::as_str), Some("source"));
    assert_eq!(users["inner"].get("bind"), None);
    assert_eq!(users["last"]["actions"].to_string(), "[\"tcp22\"]");
    assert_eq!(config["freshness"].as_str(), Some("1m"));
}

#[test]
fn an_access_conf_that_is_none_is_refused_with_its_line() {
    let old = Old::new();
    let wrong = [
        ("", "has no SOURCE"),
        ("OPEN_PORTS tcp/22\n", "access.conf:1: a stanza begins with SOURCE"),
        ("SOURCE ANY\nOPEN_PORTS\n", "access.conf:2: this is no `VARIABLE value`"),
        ("SOURCE \u{1b}[2J\n", "access.conf:1: a control character"),
        ("%include access.conf\n", "at most 3 deep"),
        ("%include absent.conf\n", "absent.conf is not there"),
        ("%exclude more.conf\n", "access.conf:1: fwknopd knows no such directive"),
        (&"%include empty.conf\n".repeat(2000), "more than 1000 files"),
    ];
    old.file("empty.conf", "");
    for (text, message) in wrong {
        old.file("access.conf", text);
        let said = old.import("fwknop", "old", &[]).code(78);
        assert!(said.err.contains(message), "{message} is not in {}", said.err);
        assert!(!old.0.path("new").exists(), "{text}");
    }
}
