//! Everything at once for a while: floods, knocks, copies of them, reloads, kills of the listener, scripts that are slow or
//! noisy or leave children behind, clock steps. `scripts/soak` runs it for minutes, the gate for seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use siglatch::wire::Binding;

use crate::common::{
    Daemon, Site, children, field, knock, listener_of, memory, open_descriptors, state, until,
};

#[test]
fn nothing_runs_twice_or_leaks_whatever_happens_at_once() {
    let length = std::env::var("SIGLATCH_SOAK_SECONDS").map_or(12, |text| text.parse().unwrap());
    let site = site();
    let daemon = site.start_with(|command| {
        command.env("SIGLATCH_CLOCK_FILE", site.path("clock"));
    });
    let soak = &Soak::new(&site, &daemon);
    soak.until_quiet("the first knocks");
    let descriptors = open_descriptors(daemon.pid());

    let early = std::thread::scope(|scope| {
        let early = scope.spawn(|| soak.watch(Duration::from_secs(length)));
        scope.spawn(|| soak.forever(Duration::from_millis(30), || soak.knock(soak.next())));
        scope.spawn(|| soak.forever(Duration::from_millis(400), || soak.hostile()));
        scope.spawn(|| soak.forever(Duration::from_millis(700), || soak.reload()));
        scope.spawn(|| soak.forever(Duration::from_secs(3), || soak.kill_listener()));
        scope.spawn(|| soak.forever(Duration::from_secs(2), || soak.step_clock()));
        for seed in 0..2 {
            let mut flood = Flood::new(seed);
            scope.spawn(move || soak.forever(Duration::from_millis(5), || flood.burst(soak)));
        }
        early.join().unwrap()
    });

    soak.set_clock(0);
    fs::remove_file(site.path("siglatchd.toml.broken")).ok();
    site.write_config();
    daemon.signal(Signal::SIGHUP);
    soak.until_quiet("knocks after it all");
    until("all scripts to end", || (children(daemon.pid()).len() == 1).then_some(()));
    assert_eq!(open_descriptors(daemon.pid()), descriptors, "descriptors of the keeper");
    let late = memory(&daemon);
    assert!(late <= early + early / 4 + (4 << 10), "memory went from {early} to {late} KiB");
    for child in children(daemon.pid()) {
        assert_ne!(state(child), Some('Z'), "{child} was not reaped");
    }
    let sent = soak.sequence.load(Ordering::Relaxed);
    let stopped = daemon.stop();
    let ran = ran(&site);
    let twice: Vec<_> = ran.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "ran more than once: {twice:?}");
    let said = said_to_have_finished(&stopped.log);
    let missing: Vec<_> = said.difference(&ids(&site)).cloned().collect();
    assert!(missing.is_empty(), "finished in the log, and did not run: {missing:?}");
    assert!(ran.len() > 20, "of {sent} knocks only {} ran", ran.len());
    println!("soak: {length} s, {sent} knocks, {} ran, {:?}", ran.len(), stopped.counts());
}

/// What runs: a knock's number and id to a file; a script that does not end; one that never stops talking and leaves a
/// child that holds its output.
fn site() -> Site {
    let mut site = Site::new();
    let ran = site.path("ran");
    site.action("record", 1, &format!("echo \"$7 $SIGLATCH_KNOCK_ID\" >> {}", ran.display()));
    site.action_with(
        "stuck",
        2,
        "trap '' TERM; sleep 60",
        "timeout = \"500ms\"\ngrace = \"500ms\"\nmax_running = 2",
    );
    site.action_with("noisy", 3, "sleep 1 & yes | head -c 300000", "timeout = \"3s\"\nmax_running = 2");
    site.user("alice", 1, &["record", "stuck", "noisy"], "");
    site.tables += "\n[limits]\nuser_rate = 1000\nuser_burst = 1000\n";
    site.file("clock", b"0", 0o644);
    site
}

/// How often each numbered knock ran.
fn ran(site: &Site) -> BTreeMap<String, u32> {
    let mut ran = BTreeMap::new();
    for line in fs::read_to_string(site.path("ran")).unwrap_or_default().lines() {
        *ran.entry(line.split(' ').next().unwrap().to_owned()).or_default() += 1;
    }
    ran
}

/// The ids of what ran.
fn ids(site: &Site) -> BTreeSet<String> {
    let text = fs::read_to_string(site.path("ran")).unwrap_or_default();
    text.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect()
}

fn said_to_have_finished(log: &[String]) -> BTreeSet<String> {
    log.iter()
        .filter(|line| {
            line.contains("code=finished") && line.contains("action=record") && line.contains("rc=0")
        })
        .filter_map(|line| field(line, "knock"))
        .collect()
}

struct Soak<'a> {
    site: &'a Site,
    daemon: &'a Daemon,
    over: AtomicBool,
    sequence: AtomicU32,
    /// What was sent lately, for who copies it.
    sent: Mutex<Vec<Vec<u8>>>,
    random: Mutex<StdRng>,
}

impl<'a> Soak<'a> {
    fn new(site: &'a Site, daemon: &'a Daemon) -> Soak<'a> {
        Soak {
            site,
            daemon,
            over: AtomicBool::new(false),
            sequence: AtomicU32::new(1),
            sent: Mutex::default(),
            random: Mutex::new(StdRng::seed_from_u64(7)),
        }
    }

    fn next(&self) -> u32 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    fn chance(&self, of: u32) -> bool {
        self.random.lock().unwrap().random_range(0..of) == 0
    }

    fn forever(&self, pause: Duration, mut act: impl FnMut()) {
        while !self.over.load(Ordering::Relaxed) {
            act();
            std::thread::sleep(pause);
        }
    }

    /// The memory of keeper and listener in KiB when everything has been used, a third into it; ends it all in time.
    fn watch(&self, length: Duration) -> u64 {
        let start = Instant::now();
        std::thread::sleep(length / 3);
        let early = memory(self.daemon);
        std::thread::sleep(length.saturating_sub(start.elapsed()));
        self.over.store(true, Ordering::Relaxed);
        early
    }

    /// A knock of each kind, under one number each; twice the same bytes now and then, as a network does.
    fn knock(&self, number: u32) {
        let payload = number.to_string();
        let knock = knock(1, payload.as_bytes());
        let binding = Binding::Server(self.site.server_id);
        let datagram = if number.is_multiple_of(2) {
            self.site.stamped(&knock, binding)
        } else {
            self.site.sealed(&knock, binding)
        };
        self.daemon.send(&datagram);
        if self.chance(4) {
            self.daemon.send(&datagram);
        }
        let mut sent = self.sent.lock().unwrap();
        if sent.len() == 64 {
            sent.remove(0);
        }
        sent.push(datagram);
    }

    /// Scripts that a daemon must not trip over.
    fn hostile(&self) {
        let action = if self.chance(2) { 2 } else { 3 };
        self.daemon.send(&self.site.stamped(&knock(action, b""), Binding::None));
    }

    /// Now and then with a configuration that is broken.
    fn reload(&self) {
        let path = self.site.write_config();
        if self.chance(3) {
            fs::write(path, "listen = 7").unwrap();
        }
        self.daemon.signal(Signal::SIGHUP);
    }

    fn kill_listener(&self) {
        if let Some(pid) = listener_of(self.daemon.pid()) {
            // Gone by now is as good.
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }

    /// Within what is fresh, beyond it, and back.
    fn step_clock(&self) {
        for seconds in [20, -20, 900, -900, 0] {
            self.set_clock(seconds);
            std::thread::sleep(Duration::from_millis(150));
        }
    }

    fn set_clock(&self, seconds: i64) {
        let new = self.site.file("clock.new", seconds.to_string().as_bytes(), 0o644);
        fs::rename(new, self.site.path("clock")).unwrap();
    }

    /// Knocks until three of them in a row have run.
    fn until_quiet(&self, what: &str) {
        for _ in 0..3 {
            let before = ran(self.site).len();
            until(what, || {
                self.knock(self.next());
                std::thread::sleep(Duration::from_millis(50));
                (ran(self.site).len() > before).then_some(())
            });
        }
    }
}

/// Garbage of every kind from many addresses.
struct Flood {
    sockets: Vec<UdpSocket>,
    random: StdRng,
}

impl Flood {
    fn new(seed: u8) -> Flood {
        let from = |last| UdpSocket::bind((Ipv4Addr::new(127, 9, seed, last), 0)).unwrap();
        Flood { sockets: (1..=64).map(from).collect(), random: StdRng::seed_from_u64(seed.into()) }
    }

    fn burst(&mut self, soak: &Soak<'_>) {
        for _ in 0..20 {
            let datagram = self.datagram(soak);
            let socket = &self.sockets[self.random.random_range(0..self.sockets.len())];
            // The network may be full: then it is lost, as there.
            drop(socket.send_to(&datagram, soak.daemon.address));
        }
    }

    fn datagram(&mut self, soak: &Soak<'_>) -> Vec<u8> {
        let copy = |random: &mut StdRng| {
            let sent = soak.sent.lock().unwrap();
            if sent.is_empty() { Vec::new() } else { sent[random.random_range(0..sent.len())].clone() }
        };
        let len = match self.random.random_range(0..6) {
            0 => self.random.random_range(0..600),
            1 | 2 => 256,
            3 => 288,
            4 => return copy(&mut self.random),
            _ => {
                let mut changed = copy(&mut self.random);
                if !changed.is_empty() {
                    let at = self.random.random_range(0..changed.len());
                    changed[at] ^= 1 << self.random.random_range(0..8);
                }
                return changed;
            }
        };
        let mut bytes = vec![0; len];
        self.random.fill(&mut bytes[..]);
        if let Some(first) = bytes.first_mut() {
            *first &= 0x7f;
        }
        bytes
    }
}
