//! The sender of webhooks, the real program, against a real HTTPS server with a certificate authority of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests may"
)]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests start programs and talk"
)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

const NAME: &str = "hooks.siglatch.test";
const KEY: [u8; 32] = [0x5a; 32];

/// A folder with an authority and a certificate for [`NAME`] and 127.0.0.1.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Bench {
        let bench = Bench(tempfile::tempdir().unwrap());
        let extensions = format!("subjectAltName=DNS:{NAME},IP:127.0.0.1\nbasicConstraints=CA:FALSE\n");
        std::fs::write(bench.path("ext"), extensions).unwrap();
        let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 \
                    -subj /CN=authority -addext basicConstraints=critical,CA:TRUE && \
                    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout hook.key -out hook.csr -subj /CN=hook && \
                    openssl x509 -req -in hook.csr -CA ca.pem -CAkey ca.key -days 2 -extfile ext -out hook.pem";
        let made = Command::new("sh").args(["-c", make]).current_dir(bench.0.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A receiver that answers so, and its port.
    fn receiver(&self, status: &str) -> (Running, u64) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/webhook/receiver.py");
        let child = Command::new("python3")
            .args([script, "hook.pem", "hook.key", "log", status])
            .current_dir(self.0.path())
            .spawn()
            .unwrap();
        let running = Running(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(port) = self.log().first().and_then(|line| line["port"].as_u64()) {
                return (running, port);
            }
            assert!(Instant::now() < deadline, "the receiver does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it was sent.
    fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn posts(&self) -> Vec<Value> {
        self.log().into_iter().filter(|line| line.get("body").is_some()).collect()
    }

    fn delivery(&self, url: &str, allow: &[&str]) -> Value {
        json!({
            "url": url, "id": "0001020304050607", "timestamp": 1_700_000_000, "key": "5a".repeat(32),
            "body": "{\"user\":\"alice\"}", "allow": allow,
            "ca": std::fs::read_to_string(self.path("ca.pem")).unwrap(), "timeout": 3000,
        })
    }
}

/// Ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The sender's end, given this on standard input.
fn send(delivery: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_siglatchd"))
        .arg("--webhook")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(delivery.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn fails(output: &Output, code: i32, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(why), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(output.status.code(), Some(code), "{said}");
}

#[test]
fn a_delivery_arrives_signed_over_time_and_body() {
    let bench = Bench::new();
    let (_receiver, port) = bench.receiver("200");
    let sent =
        send(&bench.delivery(&format!("https://127.0.0.1:{port}/hook?x=1"), &["127.0.0.1"]).to_string());
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let posts = bench.posts();
    assert_eq!(posts.len(), 1);
    assert_eq!(posts[0]["path"], "/hook?x=1");
    assert_eq!(posts[0]["body"], "{\"user\":\"alice\"}");
    let headers = &posts[0]["headers"];
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["siglatch-delivery"], "0001020304050607");
    let mut mac = Hmac::<Sha256>::new_from_slice(&KEY).unwrap();
    mac.update(b"1700000000.{\"user\":\"alice\"}");
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(headers["siglatch-signature"], format!("t=1700000000,v1={hex}"));
}

#[test]
fn what_the_receiver_answers_decides_whether_trying_again_may_help() {
    for (status, code) in [("204", 0), ("302", 78), ("404", 78), ("429", 75), ("503", 75)] {
        let bench = Bench::new();
        let (_receiver, port) = bench.receiver(status);
        let delivery = bench.delivery(&format!("https://127.0.0.1:{port}/"), &["127.0.0.1"]);
        let sent = send(&delivery.to_string());
        assert_eq!(sent.status.code(), Some(code), "{status}: {}", String::from_utf8_lossy(&sent.stderr));
        // A redirect leads nowhere.
        assert_eq!(bench.posts().len(), 1, "{status}");
    }
}

#[test]
fn nothing_is_said_to_who_does_not_prove_his_name() {
    let bench = Bench::new();
    let (_receiver, port) = bench.receiver("200");
    let mut delivery = bench.delivery(&format!("https://localhost:{port}/"), &["localhost"]);
    fails(&send(&delivery.to_string()), 75, "certificate");
    // An authority that the system does not know.
    delivery["url"] = format!("https://127.0.0.1:{port}/").into();
    delivery["allow"] = json!(["127.0.0.1"]);
    delivery["ca"] = Value::Null;
    fails(&send(&delivery.to_string()), 75, "");
    assert!(bench.posts().is_empty());
}

#[test]
fn an_address_inside_is_not_even_connected_to() {
    let bench = Bench::new();
    let (_receiver, port) = bench.receiver("200");
    let refused = "is no address of the open internet";
    for host in
        ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "0x7f.1", "2130706433"]
    {
        fails(
            &send(&bench.delivery(&format!("https://{host}:{port}/"), &["other.example"]).to_string()),
            78,
            refused,
        );
    }
    assert_eq!(bench.log().len(), 1, "somebody connected");
}

#[test]
fn what_is_no_delivery_is_said_so() {
    let bench = Bench::new();
    let good = bench.delivery("https://127.0.0.1:9/", &["127.0.0.1"]);
    let broken = |key: &str, value: Value| {
        let mut delivery = good.clone();
        delivery[key] = value;
        delivery.to_string()
    };
    let cases = [
        (String::new(), 78, "siglatchd starts this itself"),
        ("{".to_owned(), 78, "siglatchd starts this itself"),
        (broken("more", json!(1)), 78, "siglatchd starts this itself"),
        (broken("key", json!("zz")), 78, "the key does not sign"),
        (broken("ca", json!("no PEM")), 78, "no certificate"),
        (broken("url", json!("http://127.0.0.1:9/")), 78, "https"),
        (broken("url", json!("nonsense")), 78, ""),
        (good.to_string(), 75, ""),
    ];
    for (delivery, code, why) in cases {
        fails(&send(&delivery), code, why);
    }
}

#[test]
fn a_receiver_that_never_answers_takes_no_longer_than_the_timeout() {
    let bench = Bench::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let mut delivery = bench.delivery(&url, &["127.0.0.1"]);
    delivery["timeout"] = json!(500);
    let start = Instant::now();
    fails(&send(&delivery.to_string()), 75, "timeout");
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// In namespaces of its own, where `9.9.9.9` is this machine and the resolver is the test's: the name has these addresses,
/// one look-up after the other.
fn send_named(bench: &Bench, addresses: &[&str]) -> Option<Output> {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("SIGLATCH_SKIP_NOTHING").is_none(), "needs root");
        eprintln!("SKIPPED: network namespaces need root");
        return None;
    }
    std::fs::write(bench.path("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n")
        .unwrap();
    std::fs::write(bench.path("nsswitch.conf"), "hosts: dns\n").unwrap();
    std::fs::write(bench.path("delivery"), bench.delivery(&format!("https://{NAME}/"), &[]).to_string())
        .unwrap();
    let script = format!(
        "mount --bind resolv.conf /etc/resolv.conf && mount --bind nsswitch.conf /etc/nsswitch.conf && \
         ip link set lo up && ip address add 9.9.9.9/32 dev lo || exit 99; \
         python3 {receiver} hook.pem hook.key log 200 {addresses} & \
         for i in $(seq 200); do grep -q port log 2>/dev/null && break; sleep 0.05; done; \
         {sender} --webhook < delivery; code=$?; kill $!; exit $code",
        receiver = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/webhook/receiver.py"),
        addresses = addresses.join(" "),
        sender = env!("CARGO_BIN_EXE_siglatchd"),
    );
    Some(
        Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", &script])
            .current_dir(bench.0.path())
            .output()
            .unwrap(),
    )
}

#[test]
fn a_name_that_changes_its_address_leads_to_the_one_that_was_checked() {
    let bench = Bench::new();
    let Some(sent) = send_named(&bench, &["9.9.9.9", "127.0.0.2"]) else { return };
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let log = bench.log();
    assert_eq!(log.iter().filter(|line| line.get("asked").is_some()).count(), 1, "{log:?}");
    assert!(log.contains(&json!({ "sni": NAME })), "{log:?}");
    let posts = bench.posts();
    assert_eq!(posts.len(), 1);
    assert_eq!(posts[0]["at"], "9.9.9.9");
}

#[test]
fn a_name_that_leads_inside_is_refused() {
    let bench = Bench::new();
    let Some(sent) = send_named(&bench, &["127.0.0.2", "9.9.9.9"]) else { return };
    fails(&sent, 78, "127.0.0.2 is no address of the open internet");
    let log = bench.log();
    assert!(!log.iter().any(|line| line.get("sni").is_some()), "{log:?}");
}
