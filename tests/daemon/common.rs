//! A site in a temporary folder, the real daemon on it, and knocks over a real socket.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rsa::rand_core::{OsRng, RngCore as _};
use siglatch::store::{Boot, SqliteStore};
use siglatch::wire::stamp::{Stamper, stamp};
use siglatch::wire::{ActionId, BeaconKey, Binding, HmacKey, Knock, PrivateKey, ServerId, StampKey, UserId};

/// A folder with everything that a daemon needs.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) key: PrivateKey,
    pub(crate) hmac: HmacKey,
    pub(crate) server_id: ServerId,
    /// Top-level keys of the configuration.
    pub(crate) top: String,
    /// Its tables.
    pub(crate) tables: String,
}

/// A line for the configuration: root's listener becomes a user that every machine has.
pub(crate) fn listener_user() -> &'static str {
    if nix::unistd::geteuid().is_root() { "listener_user = \"daemon\"\n" } else { "" }
}

/// The key that opens the recorded datagrams; making one takes longer than most tests.
pub(crate) fn recorded() -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/siglatch-v1.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// What `root`, who may ask for everything, signs with: RFC 8032, 7.1, test 1.
pub(crate) const ADMIN_KEY: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
/// Its public half.
pub(crate) const ADMIN: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

impl Site {
    /// One user, alice (1), who may run nothing yet; a store in which nothing was ever claimed.
    pub(crate) fn new() -> Site {
        let vectors = recorded();
        let key = PrivateKey::from_pem(vectors["private_key_pem"].as_str().unwrap()).unwrap();
        let hmac = HmacKey::parse(vectors["hmac_key_hex"].as_str().unwrap().as_bytes()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let site = Site {
            key,
            hmac,
            server_id: ServerId([7; 16]),
            top: format!(
                "listen = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\nruntime_dir = \"runtime\"\n{}",
                listener_user()
            ),
            tables: String::new(),
            dir,
        };
        site.file("server.key.pem", site.key.to_pem().unwrap().as_bytes(), 0o600);
        site.file("alice.hmac", site.hmac.to_hex().as_bytes(), 0o600);
        site.file("admin.key", ADMIN_KEY.as_bytes(), 0o600);
        fs::create_dir(site.path("actions")).unwrap();
        fs::set_permissions(site.path("actions"), fs::Permissions::from_mode(0o755)).unwrap();
        site.fresh_store();
        site
    }

    /// A store that refuses nothing, as `siglatchctl init` makes it.
    pub(crate) fn fresh_store(&self) {
        let wall = unix().into();
        SqliteStore::create(&self.path("state"), wall, &Boot::read(wall)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// A script, and an action that runs it.
    pub(crate) fn action(&mut self, name: &str, id: u8, script: &str) -> &mut Site {
        self.action_with(name, id, script, "")
    }

    /// The same with more keys in its table.
    pub(crate) fn action_with(&mut self, name: &str, id: u8, script: &str, keys: &str) -> &mut Site {
        let path = self.file(&format!("actions/{name}"), format!("#!/bin/sh\n{script}\n").as_bytes(), 0o755);
        self.tables += &format!("\n[actions.{name}]\nid = {id}\nrun = [{path:?}]\n{keys}\n");
        self
    }

    /// A user with alice's key.
    pub(crate) fn user(&mut self, name: &str, id: u16, actions: &[&str], keys: &str) -> &mut Site {
        self.tables += &format!(
            "\n[users.{name}]\nid = {id}\nhmac_key = \"alice.hmac\"\nactions = {actions:?}\n{keys}\n"
        );
        self
    }

    /// The usual: alice may run `run`, which writes its arguments, one a line, and a last line `--`, to `ran`.
    pub(crate) fn with_run(mut self) -> Site {
        let out = self.path("ran");
        let script = format!("{{ printf '%s\\n' \"$@\"; echo --; }} >> {}", out.display());
        self.action("run", 1, &script).user("alice", 1, &["run"], "");
        self
    }

    /// A door that alice may open: `run` and `undo` write a line each to `said`, with what `keys` say beside `hold`.
    pub(crate) fn with_door(mut self, hold: &str, keys: &str) -> Site {
        let said = self.path("said");
        let line = |what: &str, more: &str| {
            format!("echo {what} $1 $3 $SIGLATCH_LEASE_ID{more} >> {}", said.display())
        };
        let undo = line("undo", " $SIGLATCH_LEASE_REASON $SIGLATCH_ATTEMPT");
        let undo = self.file("actions/undo", format!("#!/bin/sh\n{undo}\n").as_bytes(), 0o755);
        let keys = format!("hold = {hold:?}\nundo = [{undo:?}]\n{keys}");
        self.action_with("door", 1, &line("run", ""), &keys).user("alice", 1, &["door"], "");
        self
    }

    /// What the scripts of [`Site::with_door`] said: "run IP USER", "undo IP USER REASON ATTEMPT".
    pub(crate) fn said(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("said")).unwrap_or_default();
        let without_id = |line: &str| {
            let words = line.split(' ').enumerate().filter(|(at, _)| *at != 3).map(|(_, word)| word);
            words.collect::<Vec<_>>().join(" ")
        };
        text.lines().map(without_id).collect()
    }

    /// How often the script of [`Site::with_run`] ran.
    pub(crate) fn runs(&self) -> usize {
        fs::read_to_string(self.path("ran")).unwrap_or_default().lines().filter(|line| *line == "--").count()
    }

    pub(crate) fn write_config(&self) -> PathBuf {
        let text = format!(
            "{}private_key = \"server.key.pem\"\nserver_id = \"{}\"\n\
             [admins.root]\npublic_key = \"{ADMIN}\"\nrole = \"admin\"\n{}",
            self.top, self.server_id, self.tables
        );
        self.file("siglatchd.toml", text.as_bytes(), 0o600)
    }

    pub(crate) fn start(&self) -> Daemon {
        self.start_with(|_| {})
    }

    pub(crate) fn start_with(&self, adjust: impl FnOnce(&mut Command)) -> Daemon {
        self.spawn(adjust).ready()
    }

    /// Starts it without waiting until it is ready.
    pub(crate) fn spawn(&self, adjust: impl FnOnce(&mut Command)) -> Daemon {
        spawn(&self.write_config(), adjust)
    }

    /// A sealed datagram of alice's for action 1, bound to the server, fresh.
    pub(crate) fn datagram(&self) -> Vec<u8> {
        self.sealed(&knock(1, b""), Binding::Server(self.server_id))
    }

    pub(crate) fn sealed(&self, knock: &Knock<'_>, binding: Binding) -> Vec<u8> {
        self.key.public().seal(&mut OsRng, &knock.encode(&self.hmac, binding).unwrap()).unwrap()
    }
}

impl Site {
    /// The same with alice's stamp.
    pub(crate) fn stamped(&self, knock: &Knock<'_>, binding: Binding) -> Vec<u8> {
        self.stamp_as(self.sealed(knock, binding), knock.user, knock.timestamp)
    }

    /// With the stamp of a user who has alice's key.
    pub(crate) fn stamp_as(&self, sealed: Vec<u8>, user: UserId, timestamp: u32) -> Vec<u8> {
        let server = self.key.public();
        let stamper = Stamper::new(&StampKey::derive(server, &self.hmac));
        stamp(sealed, user, timestamp, &BeaconKey::of(server), &stamper)
    }
}

/// Alice's knock for `action`, now, with a random challenge.
pub(crate) fn knock(action: u8, payload: &[u8]) -> Knock<'_> {
    Knock {
        timestamp: unix(),
        user: UserId(1),
        action: ActionId::new(action).unwrap(),
        challenge: OsRng.next_u32(),
        payload,
    }
}

pub(crate) fn unix() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// Starts siglatchd on a configuration, without waiting until it is ready.
pub(crate) fn spawn(config: &Path, adjust: impl FnOnce(&mut Command)) -> Daemon {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siglatchd"));
    command.arg("--config").arg(config).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    adjust(&mut command);
    let mut child = command.spawn().unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let (stderr, to) = (child.stderr.take().unwrap(), Arc::clone(&log));
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n') {
            to.lock().unwrap().push(String::from_utf8(line.unwrap()).unwrap());
        }
    });
    Daemon { child, log, reader: Some(reader), address: "127.0.0.1:0".parse().unwrap() }
}

/// A running siglatchd.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
    pub(crate) address: SocketAddr,
}

impl Daemon {
    /// Waits until it takes knocks.
    pub(crate) fn ready(mut self) -> Daemon {
        let ready = self.wait("ready", |line| line.contains("code=ready"));
        let listen = field(&ready, "listen").unwrap();
        self.address = listen.split(' ').next().unwrap().parse().unwrap();
        self
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    /// The process that reads from the network, once there is one.
    pub(crate) fn listener(&self) -> i32 {
        until("a listener", || listener_of(self.pid()))
    }

    pub(crate) fn send(&self, datagram: &[u8]) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(datagram, self.address).unwrap();
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line that fits, at most 20 s.
    pub(crate) fn wait(&mut self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        until(what, || {
            let log = self.log();
            if let Some(line) = log.iter().find(|line| fits(line)) {
                return Some(line.clone());
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("waiting for {what}: siglatchd ended ({status}):\n{}", log.join("\n"));
            }
            None
        })
    }

    /// Waits until `count` lines fit.
    pub(crate) fn wait_count(&self, what: &str, count: usize, fits: impl Fn(&str) -> bool) {
        until(what, || (self.log().iter().filter(|line| fits(line)).count() >= count).then_some(()));
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    pub(crate) fn signal_both(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.listener()), signal).unwrap();
        self.signal(signal);
    }

    /// Waits for the end it is already going to.
    pub(crate) fn ended(mut self) -> Stopped {
        let status = until("the end", || self.child.try_wait().unwrap());
        self.reader.take().unwrap().join().unwrap();
        Stopped { status, log: self.log() }
    }

    /// SIGTERM, then exit code 0 and balanced counts.
    pub(crate) fn stop(self) -> Stopped {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let stopped = self.ended();
        assert_eq!(stopped.status.code(), Some(0), "{}", stopped.log.join("\n"));
        stopped.assert_balanced();
        stopped
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) -> Stopped {
        self.child.kill().unwrap();
        self.ended()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the daemon's log:\n{}", self.log().join("\n"));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A siglatchd that ended.
pub(crate) struct Stopped {
    pub(crate) status: ExitStatus,
    pub(crate) log: Vec<String>,
}

impl Stopped {
    /// The counts of its last line.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        let line =
            self.log.iter().find(|line| line.contains("code=stopped")).expect("a line with the counts");
        line.split(' ')
            .filter_map(|field| field.split_once('='))
            .filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?)))
            .collect()
    }

    pub(crate) fn count(&self, key: &str) -> u64 {
        self.counts().get(key).copied().unwrap_or(0)
    }

    /// `received = ran + refused by reason`.
    pub(crate) fn assert_balanced(&self) {
        let counts = self.counts();
        let refused: u64 =
            siglatch::reason::DropReason::ALL.iter().filter_map(|reason| counts.get(reason.code())).sum();
        assert_eq!(counts["received"], counts["ran"] + refused, "{counts:?}\n{}", self.log.join("\n"));
    }
}

/// The children of a process.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

/// The listener of the keeper with this process id.
pub(crate) fn listener_of(keeper: i32) -> Option<i32> {
    children(keeper).into_iter().find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "siglatch-listen\n")
    })
}

/// R, S, Z ... as /proc has it; `None` for one that is gone.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// How many descriptors a process has open.
pub(crate) fn open_descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Proportional memory of keeper and listener, in KiB.
pub(crate) fn memory(daemon: &Daemon) -> u64 {
    let pids = [Some(daemon.pid()), listener_of(daemon.pid())];
    pids.into_iter().flatten().map(|pid| pss(pid).unwrap_or(0)).sum()
}

fn pss(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Waits for a condition, at most 20 s.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited 20 s for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A field's value in a log line.
pub(crate) fn field(line: &str, key: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!(" {key}="))?;
    match rest.strip_prefix('"') {
        Some(quoted) => Some(quoted.split('"').next()?.to_owned()),
        None => Some(rest.split(' ').next()?.to_owned()),
    }
}

/// Says loudly that a test needs what is not here, and counts as skipped.
pub(crate) fn skipped(why: &str) {
    assert!(
        std::env::var_os("SIGLATCH_SKIP_NOTHING").is_none(),
        "nothing may be skipped, and this would be: {why}"
    );
    println!("SKIPPED: {why}");
    eprintln!("SKIPPED: {why}");
}
