//! Doors in the real nftables, each test in a network namespace of its own.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may")]
#![allow(clippy::arithmetic_side_effects, clippy::print_stdout, reason = "tests may")]
#![allow(clippy::disallowed_methods, reason = "tests start programs and wait for them")]

mod programs;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use programs::{Desk, Said};
use siglatch::config::resolved::NftSet;
use siglatch::work::nft::{self, Exec};

/// A machine of one's own: what this thread and the programs that it starts see of the network.
struct Host {
    desk: Desk,
}

impl Host {
    fn new() -> Option<Host> {
        if !nix::unistd::geteuid().is_root() || unshare(CloneFlags::CLONE_NEWNET).is_err() {
            println!("SKIPPED: network namespaces take root");
            assert!(std::env::var_os("SIGLATCH_SKIP_NOTHING").is_none());
            return None;
        }
        let host = Host { desk: Desk::new() };
        host.sh("ip link set lo up");
        host.desk.write("siglatchd.toml", CONFIG, 0o600);
        Some(host)
    }

    fn sh(&self, script: &str) -> String {
        self.desk.run("/bin/sh", &["-ec", script], b"").ok().out
    }

    fn load(&self, ruleset: &str) {
        self.desk.run("/usr/sbin/nft", &["-f", "-"], ruleset.as_bytes()).ok();
    }

    /// Every table, by its name: one that was put back is the last in nft's own list.
    fn rules(&self) -> String {
        self.sh("nft list tables | sort | while read -r table; do nft -s list $table; done")
    }

    fn exec(&self, exec: &Exec) -> Said {
        let args: Vec<&str> = exec.args.iter().map(String::as_str).collect();
        self.desk.run(exec.program, &args, &exec.stdin)
    }

    fn elements(&self, set: &NftSet) -> Vec<(String, Option<u64>)> {
        let lists = nft::list(set).map(|list| nft::elements(self.exec(&list).ok().out.as_bytes()).unwrap());
        let all = lists.into_iter().flatten();
        all.map(|element| (element.address.to_string(), element.left.map(|left| left.as_secs()))).collect()
    }

    fn snippet(&self, more: &[&str]) -> String {
        let args = [&["firewall", "snippet", "--config", "siglatchd.toml"], more].concat();
        self.desk.ctl(&args).ok().out
    }

    fn doctor(&self) -> Said {
        self.desk.ctl(&["doctor", "--config", "siglatchd.toml"])
    }

    #[track_caller]
    fn ill(&self, message: &str) {
        let said = self.doctor();
        assert_eq!(said.code, 78, "{said:?}");
        let doors = said.doors();
        assert!(doors.contains("  BAD ") && doors.contains(message), "{message:?} is not in\n{doors}");
    }

    /// `firewall try` of `ruleset`, which has the table `tried`; and the rules as they were. It has loaded them, and asked.
    fn trying(&self, ruleset: &str, revert: &str) -> (Trial, String) {
        let before = self.rules();
        self.desk.write("try.nft", ruleset, 0o600);
        let mut child = Command::new(env!("CARGO_BIN_EXE_siglatchctl"))
            .args(["firewall", "try", "--revert", revert, "try.nft"])
            .current_dir(self.desk.path("."))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        until("the ruleset", || self.sh("nft list tables").contains("inet tried"));
        let mut asked = [0; 1];
        child.stderr.as_mut().unwrap().read_exact(&mut asked).unwrap();
        (Trial(child), before)
    }
}

struct Trial(Child);

impl Trial {
    /// How it ended and what was said, by the watcher too.
    fn end(mut self, answer: &[u8]) -> (i32, String) {
        self.0.stdin.take().unwrap().write_all(answer).unwrap();
        self.wait()
    }

    fn wait(mut self) -> (i32, String) {
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap().code().unwrap_or(-1), said)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }
}

#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn web() -> NftSet {
    NftSet { table: "siglatch".to_owned(), name: "web".to_owned() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const CONFIG: &str = r#"
listen = ["0.0.0.0:50000", "[::]:50000"]
[actions.web]
id = 1
hold = "1h"
nft = { family = "inet", table = "siglatch", set = "web" }
[actions.ssh]
id = 2
hold = "1h"
nft = { family = "inet", table = "siglatch", set = "ssh" }
"#;

const SETS: &str = "table inet siglatch { set web4 { type ipv4_addr; flags timeout; }; set web6 { type ipv6_addr; flags timeout; }; }";

#[test]
fn doctor_names_addresses_in_a_set_that_nobody_has_a_lease_for() {
    let Some(host) = Host::new() else { return };
    host.load(&host.snippet(&["web", "--tcp", "22"]));
    host.doctor().ok_of_web();
    host.exec(&nft::open(&web(), ip("192.0.2.7"), Duration::from_secs(60))).ok();
    let said = host.doctor();
    assert!(said.out.contains("  look  192.0.2.7 is in web4 for another "), "{}", said.out);
    host.sh("nft 'delete element inet siglatch web4 { 192.0.2.7 }'");
    assert!(!host.doctor().out.contains("192.0.2.7"));
}

// --- batches

#[test]
fn a_door_that_is_open_gets_the_new_timeout_longer_or_shorter() {
    let Some(host) = Host::new() else { return };
    host.load(SETS);
    for address in ["192.0.2.7", "2001:db8::7"] {
        for seconds in [3600, 7200, 60] {
            host.exec(&nft::open(&web(), ip(address), Duration::from_secs(seconds))).ok();
            let left = host.elements(&web()).into_iter().find(|(of, _)| of == address).unwrap().1.unwrap();
            assert!((seconds - 5..=seconds).contains(&left), "{address}: {left} of {seconds}");
        }
    }
    assert_eq!(host.elements(&web()).len(), 2);
}

#[test]
fn a_door_closes_whether_it_was_open_or_not() {
    let Some(host) = Host::new() else { return };
    host.load(SETS);
    for address in ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.9"] {
        host.exec(&nft::close(&web(), ip(address))).ok();
        host.exec(&nft::open(&web(), ip(address), Duration::from_secs(60))).ok();
        assert_eq!(host.elements(&web()).len(), 1);
        host.exec(&nft::close(&web(), ip(address))).ok();
        host.exec(&nft::close(&web(), ip(address))).ok();
        assert_eq!(host.elements(&web()), []);
    }
}

#[test]
fn the_kernel_closes_a_door_by_itself() {
    let Some(host) = Host::new() else { return };
    host.load(SETS);
    host.exec(&nft::open(&web(), ip("192.0.2.7"), Duration::from_millis(10))).ok();
    assert_eq!(host.elements(&web()).len(), 1);
    until("the end of the door", || host.elements(&web()).is_empty());
}

#[test]
fn a_set_that_could_not_close_by_itself_is_not_opened() {
    let Some(host) = Host::new() else { return };
    host.load("table inet siglatch { set web4 { type ipv4_addr; }; }");
    assert_ne!(host.exec(&nft::open(&web(), ip("192.0.2.7"), Duration::from_secs(60))).code, 0);
    assert_eq!(host.sh("nft list set inet siglatch web4").matches("192.0.2.7").count(), 0);
    assert_ne!(host.exec(&nft::open(&web(), ip("2001:db8::7"), Duration::from_secs(60))).code, 0, "no set");
}

// --- snippet

#[test]
fn a_snippet_closes_its_ports_to_all_but_those_in_the_sets() {
    let Some(host) = Host::new() else { return };
    let other = Other::new(&host);
    let servers = [listen("10.9.0.1:22"), listen("[fd09::1]:22"), listen("10.9.0.1:80")];
    let address = |of: usize| servers[of].local_addr().unwrap();
    let mut session = other.connect(address(0)).expect("open at first");

    let snippet = host.snippet(&["web", "--tcp", "22", "--udp", "53"]);
    host.desk.write("doors.nft", &snippet, 0o600);
    host.sh("nft -c -f doors.nft; nft -f doors.nft");
    let once = host.rules();
    for (of, server) in [(0, "10.9.0.1"), (1, "fd09::1")] {
        assert!(other.connect(address(of)).is_none(), "{server} is closed");
        assert!(TcpStream::connect_timeout(&address(of), CONNECT).is_ok(), "{server} itself gets through");
        let from = if of == 0 { "10.9.0.2" } else { "fd09::2" };
        host.exec(&nft::open(&web(), ip(from), Duration::from_secs(60))).ok();
        assert!(other.connect(address(of)).is_some(), "{server} is open");
    }
    assert!(other.connect(address(2)).is_some(), "no port of the snippet's");
    session.write_all(b"still here").unwrap();
    assert!(other.asks_udp("10.9.0.1:53".parse().unwrap()), "open for datagrams too");

    host.sh("nft -f doors.nft");
    assert_eq!(host.elements(&web()).len(), 2, "loaded again, it keeps the addresses");
    assert!(other.connect(address(0)).is_some(), "loaded again, the doors are as they were");
    host.exec(&nft::close(&web(), ip("10.9.0.2"))).ok();
    host.exec(&nft::close(&web(), ip("fd09::2"))).ok();
    assert_eq!(host.rules(), once, "nothing stands twice");
    assert!(other.connect(address(0)).is_none() && other.connect(address(1)).is_none(), "closed again");
    assert!(!other.asks_udp("10.9.0.1:53".parse().unwrap()), "for datagrams too");
    session.write_all(b"and still here").unwrap();
    session.set_read_timeout(Some(CONNECT)).unwrap();
    let mut echoed = [0; 24];
    session.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"still hereand still here");
    host.doctor().ok_of_web();
}

#[test]
fn a_snippet_of_two_actions_lets_either_in() {
    let Some(host) = Host::new() else { return };
    let snippet = host.snippet(&["web", "ssh", "--tcp", "22"]);
    host.load(&snippet);
    assert_eq!(snippet.matches(" accept\n").count(), 6, "{snippet}");
    let said = host.doctor().sound();
    assert_eq!(said.out.matches("opens and closes").count(), 4, "{}", said.out);
}

#[test]
fn the_last_of_two_snippets_of_one_port_stands_and_doctor_names_one_command_for_both() {
    let Some(host) = Host::new() else { return };
    host.load(&host.snippet(&["web", "--tcp", "22"]));
    host.load(&host.snippet(&["ssh", "--tcp", "22", "--tcp", "80"]));
    host.ill("no rule looks into the set web4");
    let mend = "siglatchctl firewall snippet ssh:tcp/22 ssh:tcp/80 web:tcp/PORT > new-doors.nft; \
                siglatchctl firewall try new-doors.nft";
    host.ill(mend);
    host.load(&host.snippet(&["ssh:tcp/22", "ssh:tcp/80", "web:tcp/22"]));
    let said = host.doctor().sound();
    assert_eq!(said.out.matches("opens and closes").count(), 4, "{}", said.out);
}

#[test]
fn each_of_two_doors_opens_its_own_port_alone() {
    let Some(host) = Host::new() else { return };
    let other = Other::new(&host);
    let servers = [listen("10.9.0.1:22"), listen("10.9.0.1:80")];
    let address = |of: usize| servers[of].local_addr().unwrap();
    host.load(&host.snippet(&["ssh:tcp/22", "web:tcp/80"]));
    assert!(other.connect(address(0)).is_none() && other.connect(address(1)).is_none());
    host.exec(&nft::open(&web(), ip("10.9.0.2"), Duration::from_secs(60))).ok();
    assert!(other.connect(address(0)).is_none() && other.connect(address(1)).is_some());
    host.load(&host.snippet(&["ssh", "--tcp", "22", "--udp", "53"]));
    assert!(other.connect(address(1)).is_some(), "what is loaded beside it leaves the other port alone");
    assert!(other.connect(address(0)).is_none());
}

#[test]
fn a_snippet_is_for_actions_that_have_a_set() {
    let Some(host) = Host::new() else { return };
    let at = ["--config", "siglatchd.toml"];
    let snippet = |more: &[&str]| host.desk.ctl(&[&["firewall", "snippet"], more, &at].concat());
    snippet(&["nobody", "--tcp", "22"]).failed(78, "those that have it: ssh, web");
    snippet(&["web"]).failed(64, "which port is behind web?");
    snippet(&["web", "ssh", "--tcp", "22", "--udp", "53"]).failed(64, "which port is behind which action?");
    snippet(&["web:tcp/22", "--tcp", "22"]).failed(64, "every action has its port already");
    snippet(&["web:udp/50000"]).failed(78, "knocks arrive at 0.0.0.0:50000");
    for bad in
        ["web:22", "web:tcp/0", "web:sctp/1", "web:tcp/65536", "web:tcp/", "web:", ":tcp/1", "we;b:tcp/1"]
    {
        snippet(&[bad]).failed(64, bad);
    }
    snippet(&["web", "--udp", "50000"]).failed(78, "knocks arrive at 0.0.0.0:50000");
    snippet(&["web", "--tcp", "0"]).failed(64, "1..=65535");
    snippet(&["we;b", "--tcp", "1"]).failed(64, "we;b");
    host.desk.write("siglatchd.toml", CONFIG.replacen("\"siglatch\"", "\"other\"", 1), 0o600);
    snippet(&["web", "ssh", "--tcp", "22"]).failed(78, "two tables, siglatch and other");
}

#[test]
fn hostile_names_never_reach_a_ruleset() {
    let desk = Desk::new();
    let hostile =
        ["", "a b", "a;b", "a}", "a\\n", "1a", "-a", "$x", "@x", "a\\\"", "é", "*", "a/b", &"a".repeat(65)];
    for name in hostile {
        for key in ["table = \"siglatch\"", "set = \"web\""] {
            let (word, _) = key.split_once(' ').unwrap();
            desk.write("siglatchd.toml", CONFIG.replacen(key, &format!("{word} = \"{name}\""), 1), 0o600);
            desk.ctl(&["firewall", "snippet", "--config", "siglatchd.toml", "web", "--tcp", "22"])
                .failed(78, &format!("`{word}` takes a name of nftables"));
        }
    }
}

// --- try

#[test]
fn a_trial_that_is_confirmed_stays() {
    let Some(host) = Host::new() else { return };
    let (trial, before) = host.trying(TRIED, "1m");
    let (code, said) = trial.end(b"yes\n");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("kept: "), "{said}");
    assert!(host.rules() != before && host.rules().contains("tried"));
}

#[test]
fn a_trial_without_an_answer_is_taken_back_when_its_time_is_over() {
    let Some(host) = Host::new() else { return };
    host.load(BEFORE);
    let (mut trial, before) = host.trying(TRIED, "1s");
    let stdin = trial.0.stdin.take();
    let (code, said) = trial.wait();
    assert_eq!(code, 75, "{said}");
    assert!(said.contains("taken back: nobody said yes within 1s; the firewall is as it was"), "{said}");
    assert_eq!(host.rules(), before);
    drop(stdin);
}

#[test]
fn a_trial_is_taken_back_at_the_end_of_input_and_at_any_other_word() {
    let Some(host) = Host::new() else { return };
    host.load(BEFORE);
    for answer in [&b""[..], b"no\n", b"\n", b"yes", b"y\n", b"YES\n", &[b'y'; 500], b"no\nyes\n"] {
        let (trial, before) = host.trying(TRIED, "1m");
        let (code, said) = trial.end(answer);
        if answer == b"yes" {
            assert_eq!(code, 0, "a last line without its end is one");
            host.load("flush ruleset");
            host.load(BEFORE);
            continue;
        }
        assert_eq!(code, 75, "{answer:?}: {said}");
        assert!(said.contains("taken back: nobody said yes"), "{said}");
        assert_eq!(host.rules(), before);
    }
}

#[test]
fn a_trial_is_taken_back_when_who_asks_is_killed() {
    let Some(host) = Host::new() else { return };
    host.load(BEFORE);
    for signal in [Signal::SIGKILL, Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        let (mut trial, before) = host.trying(TRIED, "1m");
        let stdin = trial.0.stdin.take();
        trial.signal(signal);
        let (_, said) = trial.wait();
        assert!(said.contains("taken back: nobody said yes"), "{signal}: {said}");
        assert_eq!(host.rules(), before);
        drop(stdin);
    }
}

#[test]
fn a_watcher_that_is_told_to_end_takes_the_rules_back_first() {
    let Some(host) = Host::new() else { return };
    let (mut trial, before) = host.trying(TRIED, "1m");
    let stdin = trial.0.stdin.take();
    let parent = trial.0.id();
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    let watcher = Pid::from_raw(children.trim().parse().unwrap());
    assert_eq!(nix::unistd::getsid(Some(watcher)).unwrap(), watcher, "a session of its own");
    kill(watcher, Signal::SIGTERM).unwrap();
    let (code, said) = trial.wait();
    assert_eq!((code, host.rules()), (75, before), "{said}");
    drop(stdin);
}

#[test]
fn a_trial_that_flushes_everything_brings_back_what_there_was() {
    let Some(host) = Host::new() else { return };
    host.load(BEFORE);
    host.exec(&nft::open(&web(), ip("192.0.2.7"), Duration::from_secs(600))).ok();
    let (trial, before) = host.trying(&format!("flush ruleset\n{TRIED}"), "1m");
    assert!(!host.rules().contains("web4"));
    trial.end(b"no\n");
    assert_eq!(host.rules(), before);
    let elements = host.elements(&web());
    assert!(matches!(elements.as_slice(), [(_, Some(500..=600))]), "with what is left: {elements:?}");
}

#[test]
fn a_ruleset_that_nft_refuses_is_not_loaded() {
    let Some(host) = Host::new() else { return };
    host.load(BEFORE);
    let before = host.rules();
    host.desk.write("bad.nft", "table inet x { chain }", 0o600);
    host.desk.ctl(&["firewall", "try", "bad.nft"]).failed(78, "nft says: ");
    host.desk.ctl(&["firewall", "try", "none.nft"]).failed(78, "there is no file ");
    host.desk.ctl(&["firewall", "try", "--revert", "0s", "bad.nft"]).failed(64, "1s to 1d");
    host.desk.write("open.nft", TRIED, 0o666);
    host.desk.ctl(&["firewall", "try", "open.nft"]).failed(78, "open.nft");
    assert_eq!(host.rules(), before);
}

#[test]
fn tables_that_nft_cannot_put_back_are_left_alone() {
    let Some(host) = Host::new() else { return };
    host.sh("iptables-nft -A INPUT -m recent --set");
    let (trial, before) = host.trying(TRIED, "1m");
    assert_eq!(trial.end(b"no\n").0, 75);
    assert_eq!(host.rules(), before);

    host.desk.write("flush.nft", format!("flush  ruleset;\n{TRIED}"), 0o600);
    let said = host.desk.ctl(&["firewall", "try", "flush.nft"]);
    said.failed(78, "nft could not put back: ip filter");
    assert_eq!(host.rules(), before);

    host.desk.write("hidden.nft", format!("include \"./flush.nft\"\n{BEFORE}"), 0o600);
    let said = host.desk.ctl(&["firewall", "try", "hidden.nft"]).failed(70, "not taken back: ip filter");
    let (_, copy) = said.err.split_once("the rules as they were are in ").unwrap();
    let copy = PathBuf::from(copy.lines().next().unwrap());
    assert!(std::fs::read_to_string(&copy).unwrap().contains("recent"));
    std::fs::remove_file(copy).unwrap();
    assert_eq!(host.rules(), "", "what came with it is gone again");
}

const BEFORE: &str = "table inet siglatch { set web4 { type ipv4_addr; flags timeout; }; set web6 { type ipv6_addr; flags timeout; }; chain c { type filter hook input priority 0; policy accept; tcp dport 22 counter accept; tcp dport 23 drop; }; }\ntable ip other { chain c { tcp dport 1 drop; }; }\n";

const TRIED: &str = "table inet tried { chain c { type filter hook input priority 0; policy drop; }; }\nadd rule inet tried c iif lo accept\nadd table inet siglatch\nadd chain inet siglatch more\n";

// --- doctor

#[test]
fn a_door_whose_parts_are_missing_or_wrong_is_told_with_its_remedy() {
    let Some(host) = Host::new() else { return };
    host.desk.write("siglatchd.toml", CONFIG.split("[actions.ssh]").next().unwrap(), 0o600);
    host.ill("there is no table inet siglatch\n        mend: siglatchctl firewall snippet web:tcp/PORT > new-doors.nft");
    let good = host.snippet(&["web", "--tcp", "22"]);
    let cases = [
        (
            "set web6 { type ipv6_addr; flags timeout; }",
            "set web7 { type ipv6_addr; flags timeout; }",
            "there is no set web6",
        ),
        ("type ipv4_addr; flags timeout;", "type ipv4_addr;", "the set web4 has no `flags timeout`"),
        ("ip6 saddr @web6 tcp dport 22 accept", "", "no rule looks into the set web6"),
        ("ip saddr @web4", "ip daddr @web4", "something else than the source address (saddr) in web4"),
        ("ip saddr @web4 tcp dport 22 accept", "ip saddr @web4 tcp dport 22 drop", "lets nobody through"),
        ("iif \"lo\" accept", "drop", "takes every packet before web4 is looked into"),
        ("tcp dport 22 tcp flags & (syn | ack) == syn drop", "", "the door is always open"),
        ("type filter hook input priority filter - 5; policy accept;", "", "no packet comes to the chain"),
    ];
    for (part, instead, message) in cases {
        assert!(good.contains(part), "{part}");
        let broken = good
            .replace(part, instead)
            .replace("@web6", if message.contains("no set web6") { "@web7" } else { "@web6" });
        host.load(&format!("flush ruleset\n{broken}"));
        host.ill(message);
    }
    host.load("flush ruleset\ntable inet siglatch { set web4 { type ipv6_addr; flags timeout; }; }");
    host.ill("the set web4 of inet siglatch is of the type ipv6_addr, no ipv4_addr");
    host.load(&format!("flush ruleset\n{}", good.replace("ct state established,related accept", "")));
    let said = host.doctor().sound();
    assert!(
        said.out.contains("  look  no rule of inet siglatch accepts established connections"),
        "{}",
        said.out
    );
    host.load(&format!("flush ruleset\n{good}"));
    host.doctor().ok_of_web();
}

#[test]
fn a_firewall_behind_the_door_that_drops_its_port_is_told() {
    let Some(host) = Host::new() else { return };
    host.desk.write("siglatchd.toml", CONFIG.split("[actions.ssh]").next().unwrap(), 0o600);
    let good = host.snippet(&["web", "--tcp", "22"]);
    host.load(&good);
    host.sh(
        "iptables-nft -N ufw-user-input; iptables-nft -A INPUT -j ufw-user-input; iptables-nft -P INPUT DROP",
    );
    host.ill("ip filter INPUT (priority 0, ufw) drops tcp 22: whatever the door accepts\n        mend: ufw allow 22/tcp");
    host.sh("iptables-nft -A ufw-user-input -p tcp --dport 22 -j ACCEPT");
    host.ill("ip filter INPUT (priority 0, ufw) drops udp 50000: no knock arrives there\n        mend: ufw allow 50000/udp");
    host.sh("iptables-nft -A ufw-user-input -p udp --dport 50000 -j ACCEPT");
    host.doctor().ok_of_web();
    host.load(&host.snippet(&["web", "--tcp", "22", "--tcp", "443"]));
    host.ill("(priority 0, ufw) drops tcp 443: whatever the door accepts");
    host.load(&format!("delete table inet siglatch\n{good}"));
    host.sh("iptables-nft -F ufw-user-input; iptables-nft -A ufw-user-input -s 10.0.0.0/8 -p tcp --dport 22 -j ACCEPT");
    host.ill("drops udp 50000");
    assert!(
        host.doctor().out.contains("  look  ip filter INPUT (priority 0, ufw) drops tcp 22, but for what")
    );
    host.sh("iptables-nft -F ufw-user-input; iptables-nft -A ufw-user-input -m recent --rcheck -j ACCEPT");
    let said = host.doctor().sound();
    assert!(said.out.contains("  look  ip filter INPUT"), "{}", said.out);

    host.load(&format!(
        "flush ruleset\n{good}\ntable inet firewalld {{ chain filter_INPUT {{ type filter hook input priority filter + 10; policy accept; ct state established accept; jump zone; reject; }}; chain zone {{ tcp dport {{ 80, 443 }} accept; }}; }}"
    ));
    host.ill("firewall-cmd --permanent --add-port=22/tcp");
    host.load("add rule inet firewalld zone tcp dport 20-30 accept\nadd rule inet firewalld zone udp dport 50000 ct state new accept");
    host.doctor().ok_of_web();

    host.load(&format!(
        "flush ruleset\n{good}\ntable ip nat {{ chain PREROUTING {{ type nat hook prerouting priority dstnat; jump DOCKER; }}; chain DOCKER {{ tcp dport 22 dnat to 172.17.0.2:22; }}; }}"
    ));
    host.ill("ip nat PREROUTING redirects tcp 22 before the door's chain");
}

#[test]
fn what_another_firewall_accepts_is_read_with_care() {
    let Some(host) = Host::new() else { return };
    host.desk.write("siglatchd.toml", CONFIG.split("[actions.ssh]").next().unwrap(), 0o600);
    let good =
        host.snippet(&["web", "--tcp", "22"]).replace("tcp dport 22 accept", "tcp dport { 22, 443 } accept");
    let (bad, look) = ("BAD   inet mine input", "look  inet mine input");
    let cases = [
        ("tcp dport 20-25 accept; tcp dport 443 ct state new accept;", None, None),
        ("accept;", None, None),
        ("tcp dport 22 accept;", Some(bad), Some("drops tcp 443: ")),
        ("tcp dport { 22, 443 } ct state established accept;", Some(look), Some("drops tcp 22, but for ")),
        ("tcp dport { 22, 443 } ip saddr 10.0.0.0/8 accept;", Some(look), Some("drops tcp 22, but for ")),
        ("tcp dport @known accept;", Some(look), Some("drops tcp 443, but for ")),
        ("tcp dport vmap { 22 : accept, 443 : accept };", Some(look), Some("drops tcp 443, but for ")),
        ("udp dport { 22, 443 } accept;", Some(bad), Some("drops tcp 22: ")),
        ("th dport { 22, 443 } accept;", None, None),
    ];
    for (rules, level, told) in cases {
        host.load(&format!(
            "flush ruleset\n{good}\ntable inet mine {{ set known {{ type inet_service; elements = {{ 22, 443 }}; }}; chain input {{ type filter hook input priority 0; policy drop; udp dport 50000 accept; {rules} }}; }}"
        ));
        let out = host.doctor().out;
        match (level, told) {
            (Some(level), Some(told)) => {
                assert!(
                    out.lines().any(|line| line.contains(level) && line.contains(told)),
                    "{rules}\n{out}"
                );
            }
            _ => assert!(!out.contains("inet mine"), "{rules}\n{out}"),
        }
    }
}

#[test]
fn without_doors_there_is_nothing_to_look_at() {
    let desk = Desk::new();
    desk.write("siglatchd.toml", CONFIG.split("[actions").next().unwrap(), 0o600);
    let said = desk.ctl(&["doctor", "--config", "siglatchd.toml"]);
    assert!(
        said.out.ends_with("doors\n  good  no action has `nft`: there is no door to look at\n"),
        "{said:?}"
    );
}

impl Said {
    /// What was found of knocks and doors; the rest of this configuration is not there.
    fn doors(&self) -> &str {
        self.out.split_once("\nknocks\n").unwrap().1
    }

    #[track_caller]
    fn sound(self) -> Said {
        assert!(!self.doors().contains("  BAD "), "{self:?}");
        self
    }

    #[track_caller]
    fn ok_of_web(self) {
        assert!(
            self.out.contains("  good  web4 opens and closes\n  good  web6 opens and closes\n"),
            "{self:?}"
        );
    }
}

// --- the sample scripts

fn script(name: &str) -> String {
    format!("{}/scripts/actions/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_ipset_script_opens_and_closes_for_one_address() {
    let Some(host) = Host::new() else { return };
    let other = Other::new(&host);
    let servers = [listen("10.9.0.1:22"), listen("[fd09::1]:22")];
    for (iptables, set, family) in [("iptables", "doors4", "inet"), ("ip6tables", "doors6", "inet6")] {
        host.sh(&format!(
            "ipset create {set} hash:ip family {family} timeout 3600
             {iptables} -I INPUT -p tcp --dport 22 --syn -j DROP
             {iptables} -I INPUT -p tcp --dport 22 -m set --match-set {set} src -j ACCEPT"
        ));
    }
    for (server, from) in servers.iter().zip(["10.9.0.2", "fd09::2"]) {
        let address = server.local_addr().unwrap();
        let door = |verb: &str, hold: u32| {
            host.sh(&format!("SET=doors SIGLATCH_IP={from} HOLD={hold} {} {verb}", script("door-ipset")))
        };
        door("close", 60);
        assert!(other.connect(address).is_none(), "{from}: closed");
        door("open", 60);
        door("open", 600);
        assert!(other.connect(address).is_some(), "{from}: open");
        let list = host.sh("ipset list");
        assert!(
            list.contains(&format!("{from} timeout 59")) || list.contains(&format!("{from} timeout 600")),
            "{list}"
        );
        door("close", 60);
        assert!(other.connect(address).is_none(), "{from}: closed again");
        door("open", 1);
        until("the end of the door", || other.connect(address).is_none());
    }
}

#[test]
fn the_firewalld_script_opens_and_closes_for_one_address_and_doctor_knows_firewalld() {
    let Some(host) = Host::new() else { return };
    let other = Other::new(&host);
    let firewalld = Firewalld::start(&host);
    let servers = [listen("10.9.0.1:22"), listen("[fd09::1]:22")];
    firewalld.sh(&host, "firewall-cmd --quiet --remove-service=ssh");
    for (server, from) in servers.iter().zip(["10.9.0.2", "fd09::2"]) {
        let address = server.local_addr().unwrap();
        let door = |verb: &str, hold: u32| {
            let script = script("door-firewalld");
            firewalld.sh(&host, &format!("SIGLATCH_IP={from} HOLD={hold} {script} {verb}"))
        };
        door("close", 60);
        assert!(other.connect(address).is_none(), "{from}: closed");
        door("open", 1);
        door("open", 60);
        std::thread::sleep(Duration::from_secs(2));
        assert!(other.connect(address).is_some(), "{from}: open, for the later time");
        door("close", 60);
        assert!(other.connect(address).is_none(), "{from}: closed again");
        door("open", 1);
        until("the end of the door", || other.connect(address).is_none());
    }

    host.desk.write("siglatchd.toml", CONFIG.split("[actions.ssh]").next().unwrap(), 0o600);
    host.load(&host.snippet(&["web", "--tcp", "22"]));
    host.ill("inet firewalld filter_INPUT (priority 10, firewalld) drops tcp 22");
    firewalld.sh(&host, "firewall-cmd --quiet --add-port=22/tcp --add-port=50000/udp");
    host.doctor().ok_of_web();
}

/// With a bus of its own.
struct Firewalld {
    bus: String,
    running: Vec<Child>,
}

impl Firewalld {
    fn start(host: &Host) -> Firewalld {
        let socket = host.desk.path("bus");
        let bus = format!("unix:path={}", socket.display());
        host.desk.write("bus.conf", BUS.replace("@BUS", &bus), 0o600);
        let run = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args).env("DBUS_SYSTEM_BUS_ADDRESS", &bus).current_dir(host.desk.path("."));
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let dbus = run("dbus-daemon", &["--config-file=bus.conf", "--nofork"]);
        let mut firewalld = Firewalld { bus: bus.clone(), running: vec![dbus] };
        until("the bus", || socket.exists());
        firewalld.running.push(run("firewalld", &["--nofork", "--nopid", "--log-file", "firewalld.log"]));
        until("firewalld", || firewalld.sh(host, "firewall-cmd --state 2>&1 || true") == "running\n");
        firewalld
    }

    fn sh(&self, host: &Host, script: &str) -> String {
        host.sh(&format!("export DBUS_SYSTEM_BUS_ADDRESS={}; {script}", self.bus))
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        for child in &mut self.running {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>@BUS</listen><auth>EXTERNAL</auth><policy context="default"><allow user="*"/>
<allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
"#;

// --- the other host

const CONNECT: Duration = Duration::from_millis(400);

/// A host on the other end of a wire: its commands are run in its own namespace.
struct Other {
    commands: std::sync::mpsc::Sender<Ask>,
}

enum Ask {
    Connect(SocketAddr, std::sync::mpsc::Sender<Option<TcpStream>>),
    Udp(SocketAddr, std::sync::mpsc::Sender<bool>),
}

impl Other {
    fn new(host: &Host) -> Other {
        let (commands, asked) = std::sync::mpsc::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (go, wired) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(nix::unistd::gettid()).unwrap();
            wired.recv().unwrap();
            for ask in asked {
                match ask {
                    Ask::Connect(to, answer) => {
                        answer.send(TcpStream::connect_timeout(&to, CONNECT).ok()).unwrap()
                    }
                    Ask::Udp(to, answer) => {
                        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                        socket.set_read_timeout(Some(CONNECT)).unwrap();
                        socket.send_to(b"?", to).unwrap();
                        answer.send(socket.recv(&mut [0; 8]).is_ok()).unwrap();
                    }
                }
            }
        });
        let other = is_ready.recv().unwrap();
        let there = format!("nsenter --net=/proc/{other}/ns/net ip");
        host.sh(&format!(
            "ip link add wire type veth peer name wire netns {other}
             ip addr add 10.9.0.1/24 dev wire; ip addr add fd09::1/64 dev wire nodad; ip link set wire up
             {there} addr add 10.9.0.2/24 dev wire; {there} addr add fd09::2/64 dev wire nodad; {there} link set wire up"
        ));
        let udp = UdpSocket::bind("10.9.0.1:53").unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 8];
            while let Ok((_, from)) = udp.recv_from(&mut buffer) {
                udp.send_to(b"!", from).unwrap();
            }
        });
        go.send(()).unwrap();
        let other = Other { commands };
        until("the wire", || other.asks_udp("10.9.0.1:53".parse().unwrap()));
        other
    }

    fn connect(&self, to: SocketAddr) -> Option<TcpStream> {
        let (answer, answered) = std::sync::mpsc::channel();
        self.commands.send(Ask::Connect(to, answer)).unwrap();
        answered.recv().unwrap()
    }

    fn asks_udp(&self, to: SocketAddr) -> bool {
        let (answer, answered) = std::sync::mpsc::channel();
        self.commands.send(Ask::Udp(to, answer)).unwrap();
        answered.recv().unwrap()
    }
}

/// Accepts, and echoes.
fn listen(address: &str) -> TcpListener {
    until("the address", || TcpListener::bind(address).is_ok());
    let listener = TcpListener::bind(address).unwrap();
    let accepting = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        for stream in accepting.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    listener
}
