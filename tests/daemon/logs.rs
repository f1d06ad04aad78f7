//! The log as other programs read it: fail2ban, systemd's journal.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};

use sha2::{Digest as _, Sha256};
use siglatch::wire::Binding;

use crate::common::{Daemon, Site, field, knock, skipped};

const FILTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/fail2ban/filter.d/siglatch.conf");

fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

fn said(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// 256 bytes that open to nothing, from this address.
fn send_junk(daemon: &Daemon, from: [u8; 4], junk: u8) {
    let socket = UdpSocket::bind((IpAddr::from(from), 0)).unwrap();
    socket.send_to(&[junk; 256], daemon.address).unwrap();
}

/// With lines that name sources, and an action that prints such lines itself.
fn site(format: &str) -> Site {
    let mut site = Site::new();
    let text =
        "2026-01-01T00:00:00.000Z WARN  siglatch_refused code=refused from=198.51.100.7 reason=stamp count=9";
    let json = r#"{"code":"refused","count":9,"from":"198.51.100.7","level":"warn","message":"siglatch_refused","reason":"stamp","time":""}"#;
    let script = format!("echo '{text}'; printf 'x\\r{text}\\n'; echo '{json}'; echo ended");
    site.action("forge", 1, &script).user("alice", 1, &["forge"], "");
    site.tables += &format!("\n[log]\nformat = {format:?}\nsummary = \"10s\"\nrefused_per_minute = 60\n");
    site
}

/// Whatever the form of the log.
fn start(site: &Site, format: &str) -> Daemon {
    if format == "text" {
        return site.start();
    }
    let mut daemon = site.spawn(|_| {});
    let ready = daemon.wait("ready", |line| line.contains(r#""code":"ready""#));
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    daemon.address = ready["listen"].as_str().unwrap().parse().unwrap();
    daemon
}

#[test]
fn fail2ban_finds_in_each_form_of_the_log_who_was_refused_and_nobody_else() {
    if !runs("fail2ban-regex") {
        return skipped("fail2ban is not here");
    }
    for format in ["text", "json"] {
        let site = site(format);
        let mut daemon = start(&site, format);
        send_junk(&daemon, [127, 0, 0, 9], 1);
        send_junk(&daemon, [127, 0, 0, 9], 2);
        // A stamp that does not fit: the listener knows from whom, and tells.
        let mut forged = site.stamped(&knock(1, b""), Binding::Server(site.server_id));
        forged[150] ^= 1;
        UdpSocket::bind("127.0.0.8:0").unwrap().send_to(&forged, daemon.address).unwrap();
        daemon.send(&site.datagram());
        daemon.wait("the script's output", |line| line.contains("ended"));
        daemon.wait("the listener's word", |line| {
            line.contains("siglatch_refused") && line.contains("127.0.0.8")
        });
        daemon.wait_count("both of the others", 2, |line| {
            line.contains("siglatch_refused") && line.contains("127.0.0.9")
        });
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        let log = daemon.ended().log.join("\n");
        let file = site.file("log", log.as_bytes(), 0o600);
        let output =
            Command::new("fail2ban-regex").args(["-o", "ip"]).arg(&file).arg(FILTER).output().unwrap();
        let mut banned: Vec<String> = said(output).lines().map(str::to_owned).collect();
        banned.sort();
        assert_eq!(banned, ["127.0.0.8", "127.0.0.9", "127.0.0.9"], "{format}\n{log}");
    }
}

#[test]
fn fail2ban_takes_the_shipped_filter_and_jail() {
    let theirs = Path::new("/etc/fail2ban");
    if !runs("fail2ban-client") || !theirs.exists() {
        return skipped("fail2ban is not here");
    }
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("fail2ban");
    assert!(Command::new("cp").arg("-r").args([theirs, &base]).status().unwrap().success());
    std::fs::copy(FILTER, base.join("filter.d/siglatch.conf")).unwrap();
    let jail = concat!(env!("CARGO_MANIFEST_DIR"), "/config/fail2ban/jail.d/siglatch.conf");
    let jail = std::fs::read_to_string(jail).unwrap();
    assert!(jail.contains("\nenabled  = false\n"), "nobody has it by accident");
    std::fs::write(base.join("jail.d/siglatch.conf"), jail.replace("= false", "= true")).unwrap();
    // Other jails may lack their logs here.
    std::fs::write(base.join("jail.local"), "[sshd]\nenabled = false\n").unwrap();
    let mut client = Command::new("fail2ban-client");
    let dump = said(client.arg("-c").arg(&base).arg("--dp").output().unwrap());
    assert!(dump.contains("['add', 'siglatch', 'systemd']") && dump.contains("--dports 50000"), "{dump}");
}

#[test]
fn nobody_is_named_unless_that_is_asked_for_but_the_busiest_in_the_summary() {
    let mut site = site("text");
    site.tables = site.tables.replace("refused_per_minute = 60", "");
    let mut daemon = site.start();
    for junk in 0..20 {
        send_junk(&daemon, [127, 0, 0, 9], junk);
    }
    send_junk(&daemon, [127, 0, 0, 7], 100);
    let summary = daemon.wait("the summary", |line| line.contains("code=summary"));
    assert_eq!(field(&summary, "top").as_deref(), Some("127.0.0.9=20 127.0.0.7=1"), "{summary}");
    assert!(!daemon.log().iter().any(|line| line.contains("siglatch_refused")));
    daemon.stop();
}

#[test]
fn lines_that_name_a_source_are_bounded() {
    let site = site("text");
    let mut daemon = site.start();
    for junk in 0..100 {
        send_junk(&daemon, [127, 0, 0, 9], junk);
    }
    daemon.send(&site.datagram());
    daemon.wait("what came behind them", |line| line.contains("code=ran"));
    let stopped = daemon.stop();
    let named = stopped.log.iter().filter(|line| line.contains("siglatch_refused")).count();
    assert_eq!(stopped.count("not-authentic"), 100);
    assert!((60..=65).contains(&named), "{named} lines");
}

/// Runs a real journald and siglatchd in a mount namespace, with standard error as a service has it, and prints what the
/// journal has of siglatchd.
const JOURNAL: &str = r#"
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/systemd/journal /run/log/journal
/lib/systemd/systemd-journald >/dev/null 2>&1 &
journald=$!
entries() {
    for file in $(find /run/log/journal -name '*.journal'); do
        journalctl --file "$file" --output json --no-pager SYSLOG_IDENTIFIER=siglatchd || true
    done
}
wait_for() {
    for _ in $(seq 200); do "$@" && return; sleep 0.1; done
    echo "waited in vain for $*" >&2
    return 1
}
wait_for test -S /run/systemd/journal/socket
JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) "$1" --config "$2" &
daemon=$!
ready() { entries | grep -q '"SIGLATCH_CODE":"ready"'; }
stopped() { entries | grep -q '"SIGLATCH_CODE":"stopped"'; }
wait_for ready
kill "$daemon"
wait "$daemon"
wait_for stopped
entries
kill "$journald"
"#;

#[test]
fn under_systemd_each_line_is_an_entry_of_the_journal_with_its_fields() {
    let journald = Path::new("/lib/systemd/systemd-journald");
    if !nix::unistd::geteuid().is_root() || !journald.exists() {
        return skipped("a journal of its own needs root and systemd");
    }
    let mut site = Site::new().with_run();
    site.tables += "\n[log]\nformat = \"auto\"\n";
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-c", JOURNAL, "journal", env!("CARGO_BIN_EXE_siglatchd")]);
    let output = command.arg(site.write_config()).env_remove("RUST_LOG").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let entries: Vec<serde_json::Value> =
        said(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(stderr, "", "nothing is said twice");
    let ready = entries.iter().find(|entry| entry["SIGLATCH_CODE"] == "ready").unwrap();
    let message = ready["MESSAGE"].as_str().unwrap();
    assert!(message.starts_with("listening code=ready listen=127.0.0.1:"), "{message}");
    assert_eq!((&ready["PRIORITY"], &ready["SIGLATCH_USERS"]), (&"6".into(), &"1".into()));
    for entry in &entries {
        let code = entry["SIGLATCH_CODE"].as_str().unwrap();
        // As docs/codes.md says.
        let digest = Sha256::digest(format!("siglatch log {code}"));
        let id: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(entry["MESSAGE_ID"], id.as_str(), "{code}");
    }
    let filter = std::fs::read_to_string(FILTER).unwrap();
    let id: String =
        Sha256::digest("siglatch log refused")[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(filter.contains(&format!("MESSAGE_ID={id}")), "fail2ban asks the journal for another code");
}

/// The same on a machine without a journal; the log goes to a file.
const NO_JOURNAL: &str = r#"
set -e
mount -t tmpfs tmpfs /run
"$1" --config "$2" 2>"$3" &
daemon=$!
for _ in $(seq 200); do grep -q code=ready "$3" && break; sleep 0.1; done
kill "$daemon"
wait "$daemon"
"#;

#[test]
fn without_a_journal_the_log_is_text_all_the_same() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("a machine without a journal takes a mount namespace, and that takes root");
    }
    let mut site = Site::new().with_run();
    site.tables += "\n[log]\nformat = \"journal\"\n";
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-c", NO_JOURNAL, "journal", env!("CARGO_BIN_EXE_siglatchd")]);
    said(command.args([site.write_config(), site.path("log")]).env_remove("RUST_LOG").output().unwrap());
    let log = std::fs::read_to_string(site.path("log")).unwrap();
    for code in ["journal-missing", "ready", "stopped"] {
        assert!(log.contains(&format!(" code={code} ")), "{code}\n{log}");
    }
}
