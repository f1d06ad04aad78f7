//! A door of nftables from end to end: two hosts, a firewall that drops, the real OpenSSH behind it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::common::{Site, until};
use crate::hosts::{CLIENT, CLIENT6, NEIGHBOUR};
use crate::ssh::Gate;

const LISTEN: &str = "[\"10.77.0.1:50000\", \"[fd77::1]:50000\"]";

const RULES: &str = "
table inet door {
    set open4 { type ipv4_addr; flags timeout; }
    set open6 { type ipv6_addr; flags timeout; }
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

const DOOR: &str = "
[actions.ssh]
id = 1
nft = { family = \"inet\", table = \"door\", set = \"open\" }
hold = \"1h\"
";

fn gate(keys: &str) -> Option<Gate> {
    Gate::with(LISTEN, RULES, |site: &mut Site| {
        site.tables += &format!("{DOOR}{keys}\n");
        site.user("alice", 1, &["ssh"], "").user("bob", 2, &["ssh"], "");
    })
}

/// What ssh needs to come through, or not, by this family from this address.
fn enters(gate: &Gate, family: &str, from: &str) -> bool {
    let bind = format!("BindAddress={from}");
    let args = ["-F", "config", "-o", "ConnectTimeout=1", "-o", &bind, family, "gate", "true"];
    gate.run("ssh", &args).status.success()
}

fn client() -> Vec<String> {
    vec![CLIENT.to_string(), CLIENT6.to_string()]
}

/// A session that answers each line, by IPv4.
struct Session(Child);

impl Session {
    fn begin(gate: &Gate) -> Session {
        let mut command = gate.command("ssh", &["-F", "config", "-4", "gate", "cat"]);
        Session(gate.hosts.on(&gate.hosts.client, || command.stdin(Stdio::piped()).spawn().unwrap()))
    }

    fn echoes(&mut self) -> bool {
        self.0.stdin.as_mut().unwrap().write_all(b"still here\n").unwrap();
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line == "still here\n"
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_door_closes_in_time_with_the_daemon_alive_killed_and_restarted() {
    let Some(mut gate) = gate("") else { return };
    for family in ["-4", "-6"] {
        let from = if family == "-4" { CLIENT.to_string() } else { CLIENT6.to_string() };
        assert!(!enters(&gate, family, &from), "closed before: {family}");
    }
    for daemon in ["alive", "killed", "restarted after", "restarted before"] {
        gate.ok("siglatch", &["knock", "--for", "6s", "office", "ssh"]);
        let knocked = Instant::now();
        until("both families to be open", || (gate.open() == client()).then_some(()));
        assert!(enters(&gate, "-4", &CLIENT.to_string()) && enters(&gate, "-6", &CLIENT6.to_string()));
        assert!(!enters(&gate, "-4", &NEIGHBOUR.to_string()), "for that source only");
        let mut session = Session::begin(&gate);
        assert!(session.echoes());

        if daemon != "alive" {
            drop(gate.daemon.take().unwrap().kill());
        }
        if daemon == "restarted before" {
            // As after a reload of the firewall: the addresses are gone, and come back with the daemon.
            gate.nft(&format!("flush ruleset\n{RULES}"));
            gate.daemon = Some(gate.hosts.on(&gate.hosts.server, || gate.site.start()));
            until("both families to be open again", || (gate.open() == client()).then_some(()));
            assert!(knocked.elapsed() < Duration::from_secs(6), "in time");
        }
        until("the door to close", || gate.open().is_empty().then_some(()));
        let took = knocked.elapsed();
        assert!((5_500..9_000).contains(&took.as_millis()), "{daemon}: {took:?}");
        assert!(!enters(&gate, "-4", &CLIENT.to_string()), "closed again: {daemon}");
        assert!(session.echoes(), "a session outlives its door: {daemon}");
        if gate.daemon.is_none() {
            gate.daemon = Some(gate.hosts.on(&gate.hosts.server, || gate.site.start()));
        }
        let daemon = gate.daemon.as_mut().unwrap();
        for _ in 0..2 {
            daemon.wait("undo", |line| line.contains("code=undo-finished") && line.contains("rc=0"));
        }
    }
}

#[test]
fn two_users_behind_one_address_share_a_door_until_the_last_has_gone() {
    let Some(mut gate) = gate("") else { return };
    gate.ok("siglatch", &["knock", "-4", "--for", "2s", "office", "ssh"]);
    gate.ok("siglatch", &["knock", "-4", "bobs", "ssh"]);
    let daemon = gate.daemon.as_mut().unwrap();
    daemon.wait("alice's end", |line| {
        line.contains("code=lease-ended") && line.contains("user=alice") && line.contains("reason=expired")
    });
    assert_eq!(gate.open(), [CLIENT.to_string()]);
    assert!(enters(&gate, "-4", &CLIENT.to_string()));
    gate.ok("siglatch", &["release", "-4", "bobs", "ssh"]);
    until("the door to close", || gate.open().is_empty().then_some(()));
    assert!(!enters(&gate, "-4", &CLIENT.to_string()));
}

#[test]
fn a_knock_opens_for_the_address_that_it_names_where_that_is_allowed() {
    let Some(mut gate) = gate("source = \"payload\"\nallow_source = [\"10.77.0.3/32\"]") else { return };
    gate.ok("siglatch", &["knock", "-4", "--address", "10.77.0.3", "office", "ssh"]);
    until("the neighbour to be let in", || (gate.open() == [NEIGHBOUR.to_string()]).then_some(()));
    assert!(enters(&gate, "-4", &NEIGHBOUR.to_string()) && !enters(&gate, "-4", &CLIENT.to_string()));
    drop(gate.run("siglatch", &["knock", "-4", "--address", "10.77.0.4", "office", "ssh"]));
    gate.daemon.as_mut().unwrap().wait("a refusal", |line| line.contains("code=address"));
    gate.ok("siglatch", &["release", "-4", "--address", "10.77.0.3", "office", "ssh"]);
    until("the door to close", || gate.open().is_empty().then_some(()));
}

#[test]
fn a_reload_puts_back_what_a_new_ruleset_has_taken_out_and_a_missing_set_opens_nothing() {
    let Some(mut gate) = gate("") else { return };
    gate.ok("siglatch", &["knock", "office", "ssh"]);
    until("both families to be open", || (gate.open() == client()).then_some(()));
    gate.nft(&format!("flush ruleset\n{RULES}"));
    assert!(gate.open().is_empty());
    gate.daemon.as_mut().unwrap().signal(Signal::SIGHUP);
    until("both families to be open again", || (gate.open() == client()).then_some(()));

    gate.ok("siglatch", &["release", "office", "ssh"]);
    until("the door to close", || gate.open().is_empty().then_some(()));
    gate.nft("flush ruleset");
    drop(gate.run("siglatch", &["knock", "-4", "office", "ssh"]));
    let daemon = gate.daemon.as_mut().unwrap();
    daemon.wait("nft's word", |line| {
        line.contains("code=output") && line.contains("No such file or directory")
    });
    daemon.wait("the end", |line| line.contains("code=lease-ended") && line.contains("reason=failed"));
}
