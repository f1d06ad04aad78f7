//! Who may, when and how often: refused knocks, restarts, kills and what `siglatchctl usage` says of them.

use std::process::{Command, Output};

use siglatch::config::TotpKey;
use siglatch::wire::Binding;
use siglatch::wire::options::{Options, TotpCode};

use crate::common::{Daemon, Site, field, knock, unix, until};

/// Alice's knock for action 1, with what [`code`] makes.
fn coded(site: &Site, code: [u8; 6]) -> Vec<u8> {
    let options = Options { totp: TotpCode::new(code), ..Options::default() };
    site.sealed(&knock(1, &options.join(b"hi").unwrap()), Binding::Server(site.server_id))
}

/// The key of alice's authenticator, and the code that it shows so many steps from now.
fn code(key: &TotpKey, steps: i64) -> [u8; 6] {
    let secret = totp_rs::Secret::try_from_base32(&*key.to_base32()).unwrap();
    let authenticator = totp_rs::Builder::new().with_secret(secret).build().unwrap();
    let then = i64::from(unix()) + steps * 30;
    authenticator.generate(then.try_into().unwrap()).to_string().as_bytes().try_into().unwrap()
}

fn wrong(key: &TotpKey) -> [u8; 6] {
    let right = [-2, -1, 0, 1, 2].map(|steps| code(key, steps));
    [*b"000000", *b"111111", *b"222222", *b"333333", *b"444444", *b"555555"]
        .into_iter()
        .find(|code| !right.contains(code))
        .unwrap()
}

/// Alice's action 1 with these keys; it leaves a file for each run.
fn site(user: &str, action: &str) -> Site {
    let mut site = Site::new();
    let script = format!(
        "printf '%s\\n' \"$7\" >> {}; echo -- >> {}",
        site.path("payloads").display(),
        site.path("ran").display()
    );
    site.action_with("run", 1, &script, action).user("alice", 1, &["run"], user);
    site
}

fn refused(daemon: &mut Daemon, datagram: &[u8], code: &str) -> String {
    let fits = |line: &&String| line.contains(&format!("code={code} "));
    let before = daemon.log().iter().filter(fits).count();
    daemon.send(datagram);
    until(code, || daemon.log().iter().filter(fits).nth(before).cloned())
}

fn runs(site: &Site, count: usize) {
    until("a run", || (site.runs() == count).then_some(()));
}

fn ctl(site: &Site, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
    command.args(args).arg("--config").arg(site.path("siglatchd.toml")).output().unwrap()
}

fn usage(site: &Site) -> String {
    let output = ctl(site, &["usage", "--csv"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// user_id,user,action_id,action,day,week,total
fn used(site: &Site) -> String {
    let csv = usage(site);
    let line = csv.lines().nth(1).unwrap_or_default();
    line.split(',').take(7).collect::<Vec<_>>().join(",")
}

#[test]
fn a_quota_holds_over_a_kill_and_a_restart_and_its_refusal_says_when_it_ends() {
    let site = site("", "quota = \"3/week\"");
    let daemon = site.start();
    daemon.send(&site.datagram());
    runs(&site, 1);
    daemon.kill();
    let mut daemon = site.start();
    daemon.send(&site.datagram());
    runs(&site, 2);
    assert_eq!(used(&site), "1,alice,1,run,2,2,2", "beside a running daemon");
    daemon.stop();
    daemon = site.start();
    daemon.send(&site.datagram());
    runs(&site, 3);
    let late = site.datagram();
    let line = refused(&mut daemon, &late, "quota");
    let next: jiff::Timestamp = field(&line, "next").unwrap().parse().unwrap();
    let days = (next.as_second() - i64::from(unix())) as f64 / 86_400.0;
    assert!((0.0..=7.1).contains(&days), "{line}");
    // A copy of it is a copy, and nothing was used by either.
    daemon.send(&site.datagram());
    daemon.wait_count("another refusal", 2, |line| line.contains("code=quota"));
    let stopped = daemon.stop();
    assert_eq!((stopped.count("quota"), site.runs()), (2, 3));
    assert_eq!(used(&site), "1,alice,1,run,3,3,3", "after a stop");
}

#[test]
fn a_cooldown_refuses_until_it_is_over() {
    let site = site("cooldown = \"3s\"", "");
    let mut daemon = site.start();
    daemon.send(&site.datagram());
    runs(&site, 1);
    let line = refused(&mut daemon, &site.datagram(), "cooldown");
    let next: jiff::Timestamp = field(&line, "next").unwrap().parse().unwrap();
    until("its end", || (i64::from(unix()) >= next.as_second()).then_some(()));
    daemon.send(&site.datagram());
    runs(&site, 2);
    daemon.stop();
}

#[test]
fn out_of_hours_nothing_runs_and_the_next_opening_is_told() {
    let now = jiff::Timestamp::from_second(unix().into()).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
    let tomorrow = now.tomorrow().unwrap().start_of_day().unwrap();
    let day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
        [tomorrow.weekday().to_monday_zero_offset() as usize];
    // Two days from now, should midnight come between.
    let mut site = site("", &format!("hours = [\"{day} 12:00-13:00 UTC\", \"{day} 14:00-15:00\"]"));
    site.top += "zone = \"UTC\"\n";
    let mut daemon = site.start();
    let line = refused(&mut daemon, &site.datagram(), "hours");
    let next = tomorrow.with().hour(12).build().unwrap().timestamp().to_string();
    assert_eq!(field(&line, "next"), Some(next));
    daemon.stop();
    assert_eq!(used(&site), "");
}

#[test]
fn what_is_refused_as_busy_is_given_back() {
    let mut site = Site::new();
    let gate = site.path("gate");
    let script = format!(
        "echo -- >> {}; while ! [ -e {} ]; do sleep 0.02; done",
        site.path("ran").display(),
        gate.display()
    );
    site.action_with("run", 1, &script, "quota = \"2/week\"\nmax_running = 1").user("alice", 1, &["run"], "");
    let mut daemon = site.start();
    daemon.send(&site.datagram());
    runs(&site, 1);
    for _ in 0..3 {
        refused(&mut daemon, &site.datagram(), "busy");
    }
    until("it is given back", || (used(&site) == "1,alice,1,run,1,1,1").then_some(()));
    std::fs::write(gate, "").unwrap();
    daemon.wait("the end", |line| line.contains("code=finished"));
    daemon.send(&site.datagram());
    runs(&site, 2);
    refused(&mut daemon, &site.datagram(), "quota");
    daemon.stop();
}

#[test]
fn a_guest_knocks_as_often_as_he_was_given_and_no_more_over_a_restart() {
    let mut site = site("max_knocks = 2", "max_running = 1");
    // To ask who one is is no use of it.
    site.tables = site.tables.replace("actions = [\"run\"]", "actions = [\"run\", \"me\"]");
    site.tables += "\n[actions.me]\nid = 7\nbuiltin = \"whoami\"\n";
    let mut daemon = site.start();
    for nth in 1..=3 {
        daemon.send(&site.sealed(&knock(7, b""), Binding::Server(site.server_id)));
        daemon.wait_count("an answer", nth, |line| line.contains("action=me "));
    }
    daemon.send(&site.datagram());
    runs(&site, 1);
    daemon.kill();
    daemon = site.start();
    daemon.send(&site.datagram());
    runs(&site, 2);
    let line = refused(&mut daemon, &site.datagram(), "user-spent");
    assert_eq!(field(&line, "next"), None, "{line}");
    site.tables = site.tables.replace("max_knocks = 2", "max_knocks = 3");
    site.write_config();
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon.wait("the reload", |line| line.contains("code=reloaded"));
    daemon.send(&site.datagram());
    runs(&site, 3);
    refused(&mut daemon, &site.datagram(), "user-spent");
    assert_eq!(daemon.stop().count("user-spent"), 2);
}

#[test]
fn a_guest_whose_time_is_over_is_refused_and_named_in_the_status() {
    let site = site("not_after = 2020-02-29", "");
    let mut daemon = site.start();
    refused(&mut daemon, &site.datagram(), "user-expired");
    let shown = String::from_utf8(ctl(&site, &["status"]).stdout).unwrap();
    assert!(shown.lines().any(|line| line.split_whitespace().eq(["expired", "alice"])), "{shown}");
    daemon.stop();
}

/// A site whose action asks for a code, and the key that makes it.
fn guarded() -> (Site, TotpKey) {
    let site = site("totp_key = \"keys/alice.totp\"", "totp = true");
    std::fs::create_dir(site.path("keys")).unwrap();
    let key = TotpKey::new(*b"12345678901234567890").unwrap();
    site.file("keys/alice.totp", key.to_base32().as_bytes(), 0o600);
    (site, key)
}

#[test]
fn a_code_opens_once_and_is_nowhere_written() {
    let (site, key) = guarded();
    let mut daemon = site.start();
    refused(&mut daemon, &site.datagram(), "totp-missing");
    // The step before is taken too, but not when a later one was used.
    let (earlier, now) = (code(&key, -1), code(&key, 0));
    daemon.send(&coded(&site, now));
    runs(&site, 1);
    refused(&mut daemon, &coded(&site, now), "totp-used");
    if earlier != now {
        refused(&mut daemon, &coded(&site, earlier), "totp-used");
    }
    daemon.kill();
    let mut daemon = site.start();
    refused(&mut daemon, &coded(&site, now), "totp-used");
    let stopped = daemon.stop();
    let shown = String::from_utf8(now.to_vec()).unwrap();
    let secrets = |line: &&String| line.contains(&format!("={shown}")) || line.contains(&*key.to_base32());
    assert_eq!(stopped.log.iter().find(secrets), None);
    // Options are not the script's.
    assert_eq!(std::fs::read_to_string(site.path("payloads")).unwrap(), "aGk=\n");
}

#[test]
fn five_wrong_codes_lock_over_a_restart_and_the_right_one_does_not_help() {
    let (site, key) = guarded();
    let mut daemon = site.start();
    for _ in 0..4 {
        refused(&mut daemon, &coded(&site, wrong(&key)), "totp");
    }
    daemon.kill();
    let mut daemon = site.start();
    refused(&mut daemon, &coded(&site, wrong(&key)), "totp");
    daemon.stop();
    let mut daemon = site.start();
    let line = refused(&mut daemon, &coded(&site, code(&key, 0)), "totp-locked");
    let next: jiff::Timestamp = field(&line, "next").unwrap().parse().unwrap();
    assert!((840..=900).contains(&(next.as_second() - i64::from(unix()))), "{line}");
    daemon.stop();
    assert_eq!(site.runs(), 0);
}

#[test]
fn a_key_that_siglatchctl_made_makes_codes_that_siglatch_sends() {
    let mut site = site("", "totp = true");
    site.top += "public_host = \"vpn\"\n";
    site.write_config();
    let made = ctl(&site, &["user", "totp", "alice"]);
    assert!(made.status.success(), "{made:?}");
    let shown = String::from_utf8(made.stdout).unwrap();
    let uri = shown.lines().find(|line| line.starts_with("otpauth://totp/vpn:alice?secret=")).unwrap();
    let base32 = uri.split(['=', '&']).nth(1).unwrap();
    let key = TotpKey::parse(base32.as_bytes()).unwrap();
    assert_eq!(std::fs::read_to_string(site.path("keys/alice.totp")).unwrap().trim(), base32);
    let written = std::fs::read_to_string(site.path("siglatchd.toml")).unwrap();
    assert!(written.contains("totp_key = \"keys/alice.totp\""), "{written}");
    // The daemon's start writes it anew.
    site.tables =
        site.tables.replace("actions = [\"run\"]", "actions = [\"run\"]\ntotp_key = \"keys/alice.totp\"");
    let daemon = site.start();
    site.file("server.pub.pem", site.key.public().to_pem().unwrap().as_bytes(), 0o644);
    let port = daemon.address.port().to_string();
    let at = |name| site.path(name).to_str().unwrap().to_owned();
    let (pem, hmac, id) = (at("server.pub.pem"), at("alice.hmac"), site.server_id.to_string());
    let code = String::from_utf8(code(&key, 0).to_vec()).unwrap();
    let spaced = format!("{} {}", &code[..3], &code[3..]);
    let sent = Command::new(env!("CARGO_BIN_EXE_siglatch"))
        .args(["knock", "--host", "127.0.0.1", "--port", &port, "--user-id", "1", "--server-key", &pem])
        .args(["--hmac-key", &hmac, "--server-id", &id, "--totp", &spaced, "--payload", "hi", "1"])
        .output()
        .unwrap();
    assert!(sent.status.success(), "{sent:?}");
    runs(&site, 1);
    assert!(!String::from_utf8_lossy(&sent.stdout).contains(&code));
    daemon.stop();
    assert_eq!(std::fs::read_to_string(site.path("payloads")).unwrap(), "aGk=\n");
}
