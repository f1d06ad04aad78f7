//! What came of a knock is told, signed, to a real HTTPS receiver: late if need be, and never in anybody's way.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use siglatch::wire::options::Release;
use siglatch::wire::{Binding, Options};

use crate::common::{Daemon, Site, children, field, knock, unix, until};

/// A receiver, with an authority of its own.
struct Receiver {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Receiver {
    /// On a port that is free, but nobody is there yet.
    fn new() -> Receiver {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let receiver = Receiver { folder, port, child: None };
        let extensions = "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
        fs::write(receiver.folder.path().join("ext"), extensions).unwrap();
        let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 \
                    -subj /CN=authority -addext basicConstraints=critical,CA:TRUE && \
                    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout hook.key -out hook.csr -subj /CN=hook && \
                    openssl x509 -req -in hook.csr -CA ca.pem -CAkey ca.key -days 2 -extfile ext -out hook.pem";
        let made =
            Command::new("sh").args(["-c", make]).current_dir(receiver.folder.path()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        receiver
    }

    /// Answers so from now on.
    fn answers(&mut self, status: &str) {
        self.stop();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/webhook/receiver.py");
        let starts = self.log().iter().filter(|line| line.get("port").is_some()).count();
        let child = Command::new("python3")
            .args([script, "hook.pem", "hook.key", "log", status])
            .env("RECEIVER_PORT", self.port.to_string())
            .current_dir(self.folder.path())
            .spawn()
            .unwrap();
        self.child = Some(child);
        until("the receiver", || {
            (self.log().iter().filter(|line| line.get("port").is_some()).count() > starts).then_some(())
        });
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What it was sent: the bodies, each after its signature and its id were compared.
    fn posts(&self) -> Vec<Value> {
        let posts = self.log().into_iter().filter(|line| line.get("body").is_some());
        posts.map(|post| genuine(&post)).collect()
    }

    fn post(&self, nth: usize) -> Value {
        until("a POST", || self.posts().get(nth).cloned())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}

fn genuine(post: &Value) -> Value {
    let body = post["body"].as_str().unwrap();
    let signature = post["headers"]["siglatch-signature"].as_str().unwrap();
    let (time, tag) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    assert!(time.parse::<u32>().unwrap().abs_diff(unix()) < 30);
    let mut mac = Hmac::<Sha256>::new_from_slice(&[0x5a; 32]).unwrap();
    mac.update(format!("{time}.{body}").as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(tag, hex);
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["id"], post["headers"]["siglatch-delivery"]);
    body
}

/// The code that the document offers says so too, and no to another body.
fn is_genuine_as_documented(receiver: &Receiver) {
    let document = include_str!("../../docs/webhook.md");
    let (_, code) = document.split_once("```python\n").unwrap();
    let (code, _) = code.split_once("```").unwrap();
    let post = receiver.log().into_iter().find(|line| line.get("body").is_some()).unwrap();
    let check = "import sys\nkey, header, body = bytes.fromhex(sys.argv[1]), sys.argv[2], sys.argv[3].encode()\n\
                 assert is_genuine(key, header, body) and not is_genuine(key, header, body + b' ')";
    let checked = Command::new("python3")
        .args(["-c", &format!("{code}\n{check}"), &"5a".repeat(32)])
        .args([post["headers"]["siglatch-signature"].as_str().unwrap(), post["body"].as_str().unwrap()])
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

/// The sender that runs, and the user that it runs as.
fn sender(daemon: &Daemon) -> (i32, u32) {
    until("the sender", || {
        let pid = children(daemon.pid()).into_iter().find(|pid| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"\0--webhook\0"))
        })?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:\t"))?;
        Some((pid, uid.split('\t').next()?.parse().ok()?))
    })
}

impl Site {
    /// The keys of an action that tells this receiver.
    fn hook(&self, receiver: &Receiver) -> String {
        self.file("hook.key", "5a".repeat(32).as_bytes(), 0o600);
        let ca = fs::read(receiver.folder.path().join("ca.pem")).unwrap();
        // So many that no small pipe holds them.
        self.file("ca.pem", &ca.repeat(60), 0o644);
        format!(
            "webhook = \"https://127.0.0.1:{}/hook\"\nwebhook_key = \"hook.key\"\nwebhook_allow = [\"127.0.0.1\"]\nwebhook_ca = \"ca.pem\"",
            receiver.port
        )
    }

    /// Alice may run `run`, which does so, and is told.
    fn with_hook(mut self, receiver: &Receiver, script: &str) -> Site {
        let keys = self.hook(receiver);
        self.action_with("run", 1, script, &keys).user("alice", 1, &["run"], "");
        self
    }

    fn webhooks(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
        command.arg("webhooks").args(args).arg("--config").arg(self.path("siglatchd.toml")).output().unwrap()
    }

    fn listed(&self, which: &str) -> Vec<Value> {
        serde_json::from_str(&said(&self.webhooks(&[which, "--json"]))).unwrap()
    }
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn ran(daemon: &mut Daemon, site: &Site) -> String {
    let before = daemon.log().len();
    daemon.send(&site.datagram());
    let line =
        until("a run", || daemon.log().into_iter().skip(before).find(|line| line.contains("code=ran")));
    field(&line, "knock").unwrap()
}

#[test]
fn the_outcome_of_a_knock_is_told_signed_and_nothing_of_it_is_left() {
    let mut receiver = Receiver::new();
    receiver.answers("200");
    let site = Site::new().with_hook(&receiver, "exit 3");
    let mut daemon = site.start();
    let id = ran(&mut daemon, &site);
    let body = receiver.post(0);
    is_genuine_as_documented(&receiver);
    assert_eq!((body["id"].as_str(), body["outcome"].as_str()), (Some(id.as_str()), Some("exited")));
    assert_eq!((body["code"].as_u64(), body["user"].as_str()), (Some(3), Some("alice")));
    assert_eq!((body["action"].as_str(), body["source"].as_str()), (Some("run"), Some("127.0.0.1")));
    assert_eq!(body["server"], site.server_id.to_string());
    assert!(body["time"].as_u64().unwrap().abs_diff(unix().into()) < 30);
    assert!(body.get("until").is_none());
    daemon.wait("that it was sent", |line| line.contains("code=webhook-sent"));
    until("an empty store", || site.listed("pending").is_empty().then_some(()));
    daemon.stop();
    assert_eq!((receiver.posts().len(), site.listed("failed").len()), (1, 0));
}

#[test]
fn heads_of_the_audit_trail_are_told_and_are_those_that_it_has() {
    let mut receiver = Receiver::new();
    let mut site = Site::new().with_run();
    let keys = site.hook(&receiver);
    site.tables += &format!("\n[audit]\ncheckpoint_every = \"1s\"\n{keys}\n");
    let mut daemon = site.start();
    ran(&mut daemon, &site);
    let kept = until("a head that waits", || site.listed("pending").first().cloned());
    let (_, hash) = kept["head"].as_str().unwrap().split_once(':').unwrap();
    assert_eq!(kept["id"], hash[..16]);
    receiver.answers("200");
    daemon.kill();
    let mut daemon = site.start();
    let first = until("the one that waited", || {
        receiver.posts().into_iter().find(|post| post["head"] == kept["head"])
    });
    assert_eq!(first["server"], site.server_id.to_string());
    ran(&mut daemon, &site);
    let sent = receiver.posts().len();
    let last = receiver.post(sent);
    let sent = daemon.wait("that it was sent", |line| line.contains("webhook-sent"));
    assert_eq!(
        (field(&sent, "user"), field(&sent, "action")),
        (Some("-".to_owned()), Some("[audit]".to_owned()))
    );
    daemon.stop();
    let told: Vec<String> =
        receiver.posts().iter().map(|post| post["head"].as_str().unwrap().to_owned()).collect();
    for head in [&first["head"], &last["head"]] {
        let head = head.as_str().unwrap();
        assert!(told.contains(&head.to_owned()), "{told:?}");
        let mut verify = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
        verify.args(["audit", "verify", "--head", head, "--config"]).arg(site.path("siglatchd.toml"));
        said(&verify.output().unwrap());
    }
}

#[test]
fn a_script_that_was_ended_or_could_not_start_is_told_as_such() {
    let mut receiver = Receiver::new();
    receiver.answers("200");
    let mut site = Site::new();
    let keys = site.hook(&receiver);
    site.action_with("slow", 1, "sleep 60", &format!("timeout = \"300ms\"\n{keys}"));
    site.action_with("killed", 2, "kill -9 $$", &keys).action_with("gone", 3, "", &keys);
    site.user("alice", 1, &["slow", "killed", "gone"], "");
    let mut daemon = site.start();
    fs::remove_file(site.path("actions/gone")).unwrap();
    for (action, outcome) in [(1, "timed-out"), (2, "signaled"), (3, "not-started")] {
        daemon.send(&site.sealed(&knock(action, b""), Binding::Server(site.server_id)));
        let nth = usize::from(action) - 1;
        assert_eq!(receiver.post(nth)["outcome"], outcome);
    }
    assert_eq!(receiver.post(1)["signal"], 9);
    // A knock that is refused is nobody's business.
    daemon.send(&site.sealed(&knock(9, b""), Binding::Server(site.server_id)));
    daemon.wait("a refusal", |line| line.contains("knock refused") && line.contains("action=9"));
    daemon.stop();
    assert_eq!(receiver.posts().len(), 3);
}

#[test]
fn of_a_door_it_is_told_until_when_it_is_held() {
    let mut receiver = Receiver::new();
    receiver.answers("204");
    let site = Site::new();
    let keys = site.hook(&receiver);
    let site = site.with_door("1h", &keys);
    let mut daemon = site.start();
    let asking = |options: Options| {
        site.sealed(&knock(1, &options.join(b"").unwrap()), Binding::Server(site.server_id))
    };
    let release = Options { release: Some(Release), ..Options::default() };
    let knocks = [Options::default(), Options::default(), release.clone(), release];
    let told = knocks.map(|options| {
        let nth = receiver.posts().len();
        daemon.send(&asking(options));
        receiver.post(nth)
    });
    let outcomes = told.each_ref().map(|body| body["outcome"].as_str().unwrap());
    assert_eq!(outcomes, ["exited", "held", "released", "nothing-to-release"]);
    let until = told.each_ref().map(|body| body["until"].as_u64());
    for end in &until[..2] {
        assert!(end.unwrap().abs_diff(u64::from(unix()) + 3600) < 30, "{until:?}");
    }
    assert_eq!(until[2..], [None, None]);
    daemon.wait("undo", |line| line.contains("code=undo-finished"));
    daemon.stop();
}

#[test]
fn while_the_receiver_is_down_it_is_kept_over_a_kill_and_delivered_later() {
    let mut receiver = Receiver::new();
    let site = Site::new().with_hook(&receiver, "exit 0");
    let mut daemon = site.start();
    let id = ran(&mut daemon, &site);
    let retry = daemon.wait("a retry", |line| line.contains("code=webhook-retry"));
    assert_eq!(
        (field(&retry, "again").unwrap(), field(&retry, "knock").unwrap()),
        ("10s".into(), id.clone())
    );
    let pending = until("a row", || site.listed("pending").into_iter().find(|row| row["attempts"] == 1));
    assert_eq!((pending["id"].as_str(), pending["state"].as_str()), (Some(id.as_str()), Some("pending")));
    daemon.kill();
    // Nobody is there, and the store is read all the same.
    assert_eq!(site.listed("pending").len(), 1);
    let table = said(&site.webhooks(&["pending"]));
    assert!(table.starts_with("WEBHOOK") && table.contains(&id) && table.contains("refused"), "{table}");
    assert_eq!(site.webhooks(&["retry", &id]).status.code(), Some(75));
    receiver.answers("200");
    let mut daemon = site.start();
    daemon.wait("what was found", |line| line.contains("code=webhooks-found"));
    // By itself, after the ten seconds.
    daemon.wait("that it was sent", |line| line.contains("code=webhook-sent"));
    let body = receiver.post(0);
    assert_eq!((body["id"].as_str(), body["outcome"].as_str()), (Some(id.as_str()), Some("exited")));
    daemon.stop();
    assert_eq!(site.listed("pending").len(), 0);
}

#[test]
fn a_kill_while_the_script_runs_is_told_as_such() {
    let mut receiver = Receiver::new();
    receiver.answers("200");
    let site = Site::new().with_hook(&receiver, "sleep 3");
    let mut daemon = site.start();
    let id = ran(&mut daemon, &site);
    until("a row", || site.listed("pending").into_iter().find(|row| row["state"] == "running"));
    daemon.kill();
    let daemon = site.start();
    let body = receiver.post(0);
    assert_eq!((body["id"].as_str(), body["outcome"].as_str()), (Some(id.as_str()), Some("unknown")));
    daemon.stop();
}

#[test]
fn what_failed_is_listed_and_sent_or_dropped_when_the_administrator_says_so() {
    let mut receiver = Receiver::new();
    receiver.answers("404");
    let site = Site::new().with_hook(&receiver, "exit 0");
    let mut daemon = site.start();
    let ids = [ran(&mut daemon, &site), ran(&mut daemon, &site), ran(&mut daemon, &site)];
    daemon.wait_count("failures", 3, |line| line.contains("code=webhook-failed") && line.contains("404"));
    until("rows", || (site.listed("failed").len() == 3).then_some(()));
    let failed = site.listed("failed");
    assert_eq!(failed[0]["why"], "the receiver answers 404");
    assert_eq!(said(&site.webhooks(&["drop", &ids[0]])), "1 webhook dropped\n");
    assert_eq!(site.webhooks(&["retry", &ids[0]]).status.code(), Some(75));
    assert_eq!(site.webhooks(&["retry"]).status.code(), Some(64));
    assert_eq!(site.webhooks(&["retry", "zz"]).status.code(), Some(64));
    receiver.answers("200");
    let before = receiver.posts().len();
    assert_eq!(said(&site.webhooks(&["retry", &ids[1]])), "1 webhook to be sent now\n");
    assert_eq!(receiver.post(before)["id"].as_str(), Some(ids[1].as_str()));
    assert_eq!(said(&site.webhooks(&["retry", "--all"])), "1 webhook to be sent now\n");
    assert_eq!(receiver.post(before + 1)["id"].as_str(), Some(ids[2].as_str()));
    until("an empty store", || site.listed("failed").is_empty().then_some(()));
    assert_eq!(said(&site.webhooks(&["drop", "--all"])), "0 webhooks dropped\n");
    daemon.stop();
}

#[test]
fn a_receiver_that_hangs_delays_no_knock_and_no_stop() {
    let mut receiver = Receiver::new();
    let hanging = TcpListener::bind(("127.0.0.1", receiver.port)).unwrap();
    let site = Site::new().with_hook(&receiver, "exit 0");
    let mut daemon = site.start();
    ran(&mut daemon, &site);
    let (connection, _) = hanging.accept().unwrap();
    // Nobody who might do harm, and nothing that says what is sent.
    let (sender, uid) = sender(&daemon);
    assert!(!nix::unistd::geteuid().is_root() || uid != 0);
    assert_eq!(fs::read(format!("/proc/{sender}/environ")).unwrap_or_default(), b"");
    let begun = Instant::now();
    for _ in 0..20 {
        ran(&mut daemon, &site);
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    until("21 rows", || (site.listed("pending").len() == 21).then_some(()));
    let begun = Instant::now();
    daemon.stop();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    until("the sender's end", || (!fs::exists(format!("/proc/{sender}")).unwrap()).then_some(()));
    drop((connection, hanging));
    receiver.answers("200");
    let daemon = site.start();
    daemon.wait_count("all of them", 21, |line| line.contains("code=webhook-sent"));
    daemon.stop();
    // The one that hung was never read, so none came twice.
    assert_eq!(receiver.posts().len(), 21);
    assert_eq!(site.listed("pending").len() + site.listed("failed").len(), 0);
}

#[test]
fn a_reload_gives_what_waits_another_receiver_or_none() {
    let mut receiver = Receiver::new();
    let mut site = Site::new().with_hook(&receiver, "exit 0");
    let mut daemon = site.start();
    let id = ran(&mut daemon, &site);
    daemon.wait("a retry", |line| line.contains("code=webhook-retry"));
    let (tables, old) = (site.tables.clone(), receiver.port);
    site.tables = tables.replace("webhook", "#webhook");
    site.write_config();
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon.wait_count("a reload", 1, |line| line.contains("code=reloaded"));
    said(&site.webhooks(&["retry", &id]));
    let failed = daemon.wait("its end", |line| line.contains("code=webhook-failed"));
    assert!(failed.contains("no `webhook` any more"), "{failed}");
    receiver.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    receiver.answers("200");
    site.tables = tables.replace(&format!(":{old}/"), &format!(":{}/", receiver.port));
    site.write_config();
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon.wait_count("another reload", 2, |line| line.contains("code=reloaded"));
    said(&site.webhooks(&["retry", "--all"]));
    assert_eq!(receiver.post(0)["id"].as_str(), Some(id.as_str()));
    daemon.stop();
}

#[test]
fn without_a_user_of_the_listener_s_the_sender_is_nobody() {
    let receiver = Receiver::new();
    let hanging = TcpListener::bind(("127.0.0.1", receiver.port)).unwrap();
    let mut site = Site::new().with_hook(&receiver, "exit 0");
    site.top += "sandbox = \"off\"\n";
    let mut daemon = site.start();
    ran(&mut daemon, &site);
    drop(hanging.accept().unwrap());
    daemon.wait("a retry", |line| line.contains("code=webhook-retry"));
    let id = site.listed("pending")[0]["id"].as_str().unwrap().to_owned();
    said(&site.webhooks(&["retry", &id]));
    let connection = hanging.accept().unwrap();
    let (_, uid) = sender(&daemon);
    assert!(!nix::unistd::geteuid().is_root() || uid == 65_534, "{uid}");
    drop(connection);
    daemon.stop();
}
