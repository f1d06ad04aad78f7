//! The real OpenSSH, client and server, on two hosts, with a firewall between them that a knock opens.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use siglatch::wire::invite::{Action, Answers, Asks, Host, Name, Opens};
use siglatch::wire::stamp::Postage;
use siglatch::wire::{ActionId, Invite, ServerId, UserId};

use crate::common::{Daemon, Site, until};
use crate::hosts::{CLIENT, CLIENT6, Hosts, NEIGHBOUR, SERVER, SERVER6};

const RULES: &str = "
table inet door {
    set open4 { type ipv4_addr; }
    set open6 { type ipv6_addr; }
    chain input {
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state established,related accept
        meta l4proto ipv6-icmp accept
        udp dport 50000 accept
        tcp dport 22 ip saddr @open4 accept
        tcp dport 22 ip6 saddr @open6 accept
    }
}
";

/// The payload is that of a release: the options of WIRE.md, in base64.
const SCRIPT: &str = r#"
case $1 in *:*) set=open6 ;; *) set=open4 ;; esac
case $7 in AFNMTwEBBAA=) what=delete ;; *) what=add ;; esac
exec nft "$what" element inet door "$set" "{ $1 }"
"#;

#[test]
fn ssh_goes_through_a_door_that_opens_for_it_alone() {
    let Some(gate) = Gate::new("[\"10.77.0.1:50000\", \"[fd77::1]:50000\"]") else { return };
    for family in ["-4", "-6"] {
        let closed = gate.run("ssh", &[family, "-F", "config", "-o", "ConnectTimeout=1", "gate", "true"]);
        assert_eq!(closed.status.code(), Some(255), "closed before: {closed:?}");
    }
    // As the help says it.
    let stanza = gate.ok("siglatch", &["ssh-config", "office"]);
    gate.append("config", &stanza);
    assert_eq!(gate.ok("ssh", &["-F", "config", "office", "echo through the proxy"]), "through the proxy\n");
    gate.wide_open();
    let bind = format!("BindAddress={NEIGHBOUR}");
    let other = ["-F", "config", "-o", "ConnectTimeout=1", "-o", &bind, "-4", "gate", "true"];
    assert_eq!(gate.run("ssh", &other).status.code(), Some(255), "for that source only");

    for (args, said) in [
        (&["ssh", "-4", "office", "-F", "config", "echo $SSH_CONNECTION"][..], "10.77.0.2 "),
        (&["ssh", "-6", "office", "ssh", "-F", "config", "echo $SSH_CONNECTION"], "fd77::2 "),
        // Of siglatch v1: no id, no stamp, no door that the profile knows of.
        (&["ssh", "old", "-F", "config", "echo $SSH_CONNECTION"], "10.77.0.2 "),
    ] {
        gate.close();
        let begun = Instant::now();
        let out = gate.ok("siglatch", args);
        assert!(out.starts_with(said), "{args:?}: {out}");
        println!("siglatch {}: {:?}", args.join(" "), begun.elapsed());
    }
    assert_eq!(gate.run("siglatch", &["ssh", "office", "-F", "config", "exit 7"]).status.code(), Some(7));
}

#[test]
fn a_large_transfer_arrives_whole_by_either_family() {
    let Some(gate) = Gate::new("[\"10.77.0.1:50000\", \"[fd77::1]:50000\"]") else { return };
    let mut bytes = vec![0; 64 << 20];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    fs::write(gate.site.path("large"), &bytes).unwrap();
    for family in ["-4", "-6"] {
        gate.close();
        let proxy = format!("ProxyCommand=siglatch proxy office --action ssh {family} %h %p");
        let large = gate.site.path("large").display().to_string();
        let copy = gate.site.path("copy").display().to_string();
        let via = ["-F", "config", "-o", &proxy];
        // There and back again.
        gate.ok("scp", &[&via[..], &[&large, &format!("gate:{copy}")]].concat());
        assert!(fs::read(&copy).unwrap() == bytes, "{family}: what went up");
        fs::remove_file(&copy).unwrap();
        let back = gate.run("ssh", &[&via[..], &["gate", &format!("cat {large}")]].concat());
        assert!(back.status.success() && back.stdout == bytes, "{family}: what came down");
        let open = if family == "-4" { CLIENT.to_string() } else { CLIENT6.to_string() };
        assert_eq!(gate.open(), [open]);
    }
}

#[test]
fn the_door_is_closed_behind_a_session_if_asked() {
    let Some(gate) = Gate::new("[\"10.77.0.1:50000\", \"[fd77::1]:50000\"]") else { return };
    let stanza = gate.ok("siglatch", &["ssh-config", "office", "--release"]);
    gate.append("config", &stanza);
    // A session that ends by itself, one that is cut short by Ctrl-C to its whole group, and one by a signal to ssh alone.
    let go = gate.site.path("go");
    // sshd leaves the command of a session that was cut short alone: it ends with the test's folder.
    let folder = gate.site.path(".");
    let wait =
        format!("while test -d {} && ! test -e {}; do sleep 0.05; done", folder.display(), go.display());
    let remote = format!("echo in; {wait}");
    for end in [End::ByItself, End::CtrlC, End::Signal] {
        let mut session = gate.spawn("ssh", &["-F", "config", "office", &remote]);
        let mut line = String::new();
        BufReader::new(session.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "in\n");
        gate.wide_open();
        let pid = i32::try_from(session.id()).unwrap();
        match end {
            End::ByItself => fs::write(&go, "").unwrap(),
            End::CtrlC => kill(Pid::from_raw(-pid), Signal::SIGINT).unwrap(),
            End::Signal => kill(Pid::from_raw(pid), Signal::SIGINT).unwrap(),
        }
        assert_eq!(session.wait().unwrap().success(), matches!(end, End::ByItself));
        until("the door to close", || gate.open().is_empty().then_some(()));
        drop(fs::remove_file(&go));
    }
}

enum End {
    ByItself,
    CtrlC,
    Signal,
}

#[test]
fn a_family_that_stays_shut_holds_nobody_up() {
    let Some(gate) = Gate::new("[\"10.77.0.1:50000\"]") else { return };
    gate.append("config", &gate.ok("siglatch", &["ssh-config", "office"]));
    for (program, args) in [
        ("ssh", &["-F", "config", "office", "echo in"][..]),
        ("siglatch", &["ssh", "office", "-F", "config", "echo in"]),
    ] {
        gate.close();
        let begun = Instant::now();
        assert_eq!(gate.ok(program, args), "in\n");
        assert!(begun.elapsed() < Duration::from_secs(8), "{program} took {:?}", begun.elapsed());
        assert_eq!(gate.open(), [CLIENT.to_string()]);
    }
}

#[test]
fn what_does_not_open_ends_in_time_with_a_word() {
    let Some(gate) = Gate::new("[\"10.77.0.1:50000\", \"[fd77::1]:50000\"]") else { return };
    let fails = |program: &str, args: &[&str], code: i32, word: &str| {
        let begun = Instant::now();
        let said = gate.run(program, args);
        let err = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.code(), Some(code), "{program} {args:?}: {err}");
        assert!(err.contains(word) && said.stdout.is_empty(), "{word:?} is not in {err}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{args:?} took {:?}", begun.elapsed());
    };
    // Not permitted, and told so.
    let wait = ["wait", "office", "other", "--port", "22"];
    fails("siglatch", &wait, 77, "error: other refused: action-unknown: ");
    // Nothing opens, and nobody says why: the packets are dropped.
    let wait = ["wait", "mute", "other", "--port", "22", "--timeout", "1s"];
    fails("siglatch", &wait, 75, "did not open in 1s: 10.77.0.1 is silent, fd77::1 is silent");
    let proxy = "ProxyCommand=siglatch proxy mute --action other --timeout 1s %h %p";
    fails(
        "ssh",
        &["-F", "config", "-o", proxy, "gate", "true"],
        255,
        "error: knocked mute for other (9), but gate",
    );
    // Opened, and nobody listens.
    fails(
        "siglatch",
        &["wait", "office", "ssh", "--port", "50022", "--timeout", "1s"],
        75,
        "did not open in 1s",
    );
    fails("siglatch", &["ssh", "nowhere"], 75, "cannot send to 203.0.113.1:50000: Network is unreachable");
    fails(
        "siglatch",
        &["wait", "office", "ssh", "--port", "22", "--host", "no-such-host.invalid"],
        75,
        "cannot resolve",
    );

    // A firewall that says no until it opens.
    gate.wide_open();
    gate.close();
    gate.nft("add rule inet door input tcp dport 22 reject with icmpx port-unreachable\n");
    assert!(
        gate.ok("siglatch", &["wait", "office", "ssh", "--port", "22"])
            .starts_with("gate port 22 is open at ")
    );
    gate.wide_open();
    gate.close();
    fails("siglatch", &wait, 75, "10.77.0.1: Connection refused");

    // A network that loses the first knocks.
    gate.nft("insert rule inet door input udp dport 50000 drop\n");
    let mut waiting = gate.spawn("siglatch", &["wait", "office", "ssh", "--port", "22"]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(waiting.try_wait().unwrap().is_none() && gate.open().is_empty());
    gate.nft(&format!("flush ruleset\n{RULES}"));
    assert!(waiting.wait().unwrap().success());
}

/// A server with sshd behind a firewall that drops, and a client with keys for both.
pub(crate) struct Gate {
    sshd: Child,
    /// `None`: it was killed.
    pub(crate) daemon: Option<Daemon>,
    pub(crate) site: Site,
    pub(crate) hosts: Hosts,
}

impl Gate {
    fn new(listen: &str) -> Option<Gate> {
        Gate::with(listen, RULES, |site| {
            site.action("ssh", 1, SCRIPT).user("alice", 1, &["ssh"], "");
        })
    }

    /// With these rules, and actions and users of one's own.
    pub(crate) fn with(listen: &str, rules: &str, tables: impl FnOnce(&mut Site)) -> Option<Gate> {
        let hosts = Hosts::new()?;
        let mut site = Site::new();
        site.top = site.top.replace("[\"127.0.0.1:0\"]", listen) + "reply = \"receipt\"\n";
        tables(&mut site);
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(site.path("id"));
        assert!(keygen.status().unwrap().success());
        fs::copy(site.path("id.pub"), site.path("authorized")).unwrap();
        site.file("hosts", format!("{SERVER} gate\n{SERVER6} gate\n{SERVER} old\n").as_bytes(), 0o644);
        let in_dir = |text: &str| text.replace("DIR", &site.dir.path().display().to_string());
        site.file("config", in_dir(CLIENT_CONFIG).as_bytes(), 0o600);
        let config = site.file("sshd_config", in_dir(SERVER_CONFIG).as_bytes(), 0o600);
        profiles(&site);

        fs::create_dir_all("/run/sshd").unwrap();
        let daemon = hosts.on(&hosts.server, || site.start());
        let sshd = hosts.on(&hosts.server, || {
            let mut sshd = Command::new("/usr/sbin/sshd");
            sshd.arg("-D").arg("-e").arg("-f").arg(config).stdin(Stdio::null());
            let log = File::create(site.path("sshd.log")).unwrap();
            let sshd = sshd.stdout(Stdio::null()).stderr(log).spawn().unwrap();
            until("sshd", || std::net::TcpStream::connect("127.0.0.1:22").ok());
            sshd
        });
        let gate = Gate { sshd, daemon: Some(daemon), site, hosts };
        gate.nft(rules);
        Some(gate)
    }

    /// The client's `program`, which sees the names of the two hosts and is in a process group of its own.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        use std::os::unix::process::CommandExt as _;
        let programs = std::path::Path::new(env!("CARGO_BIN_EXE_siglatch")).parent().unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["-m", "--", "sh", "-c", "mount --bind hosts /etc/hosts && exec \"$@\"", "sh", program])
            .args(args)
            .current_dir(self.site.dir.path())
            .env("HOME", self.site.path("home"))
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display()))
            .env_remove("XDG_CONFIG_HOME")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }

    pub(crate) fn spawn(&self, program: &str, args: &[&str]) -> Child {
        let mut command = self.command(program, args);
        self.hosts.on(&self.hosts.client, || command.spawn().unwrap())
    }

    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Output {
        self.spawn(program, args).wait_with_output().unwrap()
    }

    /// What it says when it ends well.
    pub(crate) fn ok(&self, program: &str, args: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.run(program, args);
        let log = fs::read_to_string(self.site.path("sshd.log")).unwrap();
        let err = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{program} {args:?}: {status}\n{err}\nsshd:\n{log}");
        String::from_utf8(stdout).unwrap()
    }

    pub(crate) fn append(&self, file: &str, text: &str) {
        let mut file = File::options().append(true).open(self.site.path(file)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn nft(&self, rules: &str) {
        self.hosts.on(&self.hosts.server, || {
            let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
            nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
            assert!(nft.wait().unwrap().success(), "{rules}");
        });
    }

    /// Behind the last script of the knocks before.
    fn close(&self) {
        std::thread::sleep(Duration::from_millis(100));
        let count = |code| {
            let log = self.daemon.as_ref().unwrap().log();
            log.iter().filter(|line| line.contains(code)).count()
        };
        until("the scripts to end", || (count("code=ran ") == count("code=finished ")).then_some(()));
        self.nft("flush set inet door open4\nflush set inet door open6\n");
    }

    /// Waits for the scripts of both knocks.
    fn wide_open(&self) {
        let client = [CLIENT.to_string(), CLIENT6.to_string()];
        until("both families to be open", || (self.open() == client).then_some(()));
    }

    /// Who may come in.
    pub(crate) fn open(&self) -> Vec<String> {
        let list = |set| Command::new("nft").args(["list", "set", "inet", "door", set]).output().unwrap();
        let text =
            self.hosts.on(&self.hosts.server, || [list("open4").stdout, list("open6").stdout].concat());
        let text = String::from_utf8(text).unwrap();
        let elements = text.lines().filter_map(|line| line.trim().strip_prefix("elements = {"));
        elements
            .flat_map(|list| list.trim_end_matches('}').split(','))
            .filter_map(|element| element.split_whitespace().next().map(str::to_owned))
            .collect()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        drop(self.sshd.kill());
        drop(self.sshd.wait());
    }
}

/// `office` as `siglatchctl user add` makes it, the same without answers, one of a siglatch v1 server, and one that there is
/// no way to.
fn profiles(site: &Site) {
    let folder = site.path("home/.config/siglatch");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
    let doors = |opens| {
        let action = |name, id| {
            (
                Name::parse(name).unwrap(),
                Action { id: ActionId::new(id).unwrap(), opens, asks: Asks::Nothing },
            )
        };
        BTreeMap::from([action("ssh", 1), action("other", 9)])
    };
    let invite = |name: &str, host: &str| Invite {
        name: Name::parse(name).unwrap(),
        host: Host::parse(host).unwrap(),
        port: 50000,
        server_id: Some(ServerId(site.server_id.0)),
        postage: Postage::Stamped,
        answers: Answers::Receipt,
        user: Name::parse("alice").unwrap(),
        user_id: UserId(1),
        hmac_key: site.hmac.clone(),
        server_key: site.key.public().clone(),
        key_action: None,
        addresses: Vec::new(),
        enrol: None,
        actions: doors(Opens::Door),
    };
    let old = Invite {
        server_id: None,
        postage: Postage::Plain,
        answers: Answers::Nothing,
        actions: doors(Opens::Nothing),
        ..invite("old", "old")
    };
    let mute = Invite { answers: Answers::Nothing, ..invite("mute", "gate") };
    let bob = Name::parse("bob").unwrap();
    let bobs = Invite { user: bob, user_id: UserId(2), ..invite("bobs", "gate") };
    for invite in [invite("office", "gate"), bobs, mute, old, invite("nowhere", "203.0.113.1")] {
        let path = folder.join(format!("{}.toml", invite.name));
        fs::write(&path, invite.to_toml().unwrap().as_bytes()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

const CLIENT_CONFIG: &str = "\
IdentityFile DIR/id
IdentitiesOnly yes
UserKnownHostsFile DIR/known
StrictHostKeyChecking accept-new
LogLevel ERROR
BatchMode yes
";

const SERVER_CONFIG: &str = "\
HostKey DIR/id
AuthorizedKeysFile DIR/authorized
PermitRootLogin yes
StrictModes no
UsePAM no
PasswordAuthentication no
PidFile none
Subsystem sftp internal-sftp
MaxStartups 100
";
