//! Bytes that no client sends: nothing runs, nothing is answered, all is counted.

use rsa::rand_core::OsRng;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::common::{Daemon, Site, knock, until};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use siglatch::wire::{Binding, PLAINTEXT_LEN};

/// Whatever has the right length is opened, however much of it comes.
fn patient_site() -> Site {
    let mut site = Site::new().with_run();
    site.tables += "[limits]\nqueue = 65536\n";
    site
}

/// Sends no faster than the daemon's socket is emptied, and counts.
struct Sender {
    socket: UdpSocket,
    to: SocketAddr,
    sent: u64,
}

impl Sender {
    fn new(from: &str, daemon: &Daemon) -> Sender {
        Sender { socket: UdpSocket::bind(from).unwrap(), to: daemon.address, sent: 0 }
    }

    fn send(&mut self, datagram: &[u8]) {
        if self.sent.is_multiple_of(32) || datagram.len() > 1000 {
            until("room in the daemon's socket", || (kernel(self.to).waiting < 100_000).then_some(()));
        }
        self.send_at_once(datagram);
    }

    fn send_at_once(&mut self, datagram: &[u8]) {
        assert_eq!(self.socket.send_to(datagram, self.to).unwrap(), datagram.len());
        self.sent += 1;
    }

    fn assert_unanswered(&self) {
        self.socket.set_nonblocking(true).unwrap();
        let answer = self.socket.recv_from(&mut [0; 2048]);
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::WouldBlock, "no answer");
    }
}

/// What the kernel says of one of the daemon's sockets, or of both together.
#[derive(Debug)]
struct Kernel {
    /// Bytes that were not read yet.
    waiting: u64,
    /// Datagrams for which there was no room, or that a filter dropped.
    dropped: u64,
}

fn kernel(address: SocketAddr) -> Kernel {
    // The table is read in pieces, between which other tests open and close sockets: a line may be missed, or be there twice.
    until("one socket for plain datagrams, one for stamped ones", || {
        let lines = sockets(address);
        (lines.len() == 2).then(|| Kernel {
            waiting: lines.iter().map(|line| line.waiting).sum(),
            dropped: lines.iter().map(|line| line.dropped).sum(),
        })
    })
}

/// What the kernel says of each of the daemon's sockets.
fn sockets(address: SocketAddr) -> Vec<Kernel> {
    let table = fs::read_to_string("/proc/net/udp").unwrap();
    let port = format!(":{:04X}", address.port());
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = lines.filter(|fields| fields[1].ends_with(&port));
    ours.map(|fields| {
        let (_, waiting) = fields[4].split_once(':').unwrap();
        let dropped = fields.last().unwrap().parse().unwrap();
        Kernel { waiting: u64::from_str_radix(waiting, 16).unwrap(), dropped }
    })
    .collect()
}

#[test]
fn a_datagram_with_any_byte_changed_runs_nothing_and_takes_nothing_from_the_good_one() {
    let site = patient_site();
    let daemon = site.start();
    let good = site.datagram();
    let mut sender = Sender::new("127.0.0.1:0", &daemon);
    let modulus = site.key.public().modulus();
    let mut sieved = 0;
    for byte in 0..good.len() {
        for change in [1 << (byte % 8), 0xff] {
            let mut changed = good.clone();
            changed[byte] ^= change;
            sieved += u64::from(changed[..4] > modulus[..4]);
            sender.send(&changed);
        }
    }
    assert_eq!(sender.sent, 512);
    sender.send(&good);
    until("the good one", || (site.runs() == 1).then_some(()));
    sender.assert_unanswered();
    assert_eq!(kernel(daemon.address).dropped, sieved);
    let stopped = daemon.stop();
    assert_eq!((stopped.count("received"), stopped.count("ran")), (513 - sieved, 1));
    assert_eq!(stopped.count("not-authentic") + stopped.count("range"), 512 - sieved);
    assert_eq!(stopped.log.iter().filter(|line| line.contains("refused")).count(), 0);
}

#[test]
fn every_prefix_and_extension_of_a_datagram_is_dropped_by_the_kernel() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let good = site.datagram();
    let mut sender = Sender::new("127.0.0.1:0", &daemon);
    for len in 0..256 {
        sender.send(&good[..len]);
    }
    for len in (257..=1024).chain([1472, 1473, 2048, 4096, 8192, 9000, 65_507]) {
        let mut padded = good.clone();
        padded.resize(len, 0);
        sender.send(&padded);
        sender.send(&good.iter().cycle().take(len).copied().collect::<Vec<_>>());
    }
    assert_eq!(sender.sent, 256 + 2 * (768 + 7));
    sender.send(&good);
    until("the good one", || (site.runs() == 1).then_some(()));
    sender.assert_unanswered();
    assert_eq!(kernel(daemon.address).dropped, sender.sent - 1);
    let stopped = daemon.stop();
    assert_eq!((stopped.count("received"), stopped.count("ran")), (1, 1));
}

#[test]
fn a_packet_with_any_byte_changed_and_sealed_again_is_refused_or_is_the_same_knock() {
    let site = patient_site();
    let daemon = site.start();
    let plain = knock(1, b"hello").encode(&site.hmac, Binding::Server(site.server_id)).unwrap();
    let signed = 46 + b"hello".len();
    let mut sender = Sender::new("127.0.0.1:0", &daemon);
    for byte in 0..PLAINTEXT_LEN {
        let mut changed = *plain;
        changed[byte] ^= 1 << (byte % 8);
        sender.send(&site.key.public().seal(&mut OsRng, &changed).unwrap());
    }
    until("one of them", || (site.runs() == 1).then_some(()));
    let ran = fs::read_to_string(site.path("ran")).unwrap();
    assert!(ran.contains("\naGVsbG8=\n"), "what is not signed is not the script's: {ran}");
    sender.send(&site.datagram());
    until("a knock behind them all", || (site.runs() == 2).then_some(()));
    let stopped = daemon.stop();
    assert_eq!(stopped.count("not-authentic"), signed as u64);
    assert_eq!(stopped.count("replay"), (PLAINTEXT_LEN - signed - 1) as u64);
    assert_eq!((stopped.count("received"), stopped.count("ran")), (sender.sent, 2));
}

/// Random and mutated datagrams; most are short of a private-key operation, and all kinds that are not are among them.
struct Junk {
    random: StdRng,
    good: Vec<u8>,
    /// Well sealed; nothing in them is authentic.
    sealed: Vec<Vec<u8>>,
}

impl Junk {
    /// `good` has run already.
    fn new(site: &Site, good: Vec<u8>) -> Junk {
        let seed = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let plain = knock(1, b"hello").encode(&site.hmac, Binding::None).unwrap();
        let sealed = (0..200).map(|_| {
            let mut changed = *plain;
            changed[random.random_range(0..51)] ^= random.random_range(1..=255_u8);
            site.key.public().seal(&mut OsRng, &changed).unwrap()
        });
        Junk { sealed: sealed.collect(), random, good }
    }

    fn next(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        match random.random_range(0..100) {
            0..16 => bytes(random, 256),
            16..18 => {
                let mut changed = self.good.clone();
                for _ in 0..random.random_range(1..4) {
                    changed[random.random_range(0..256)] ^= random.random_range(1..=255_u8);
                }
                changed
            }
            18 => self.sealed[random.random_range(0..self.sealed.len())].clone(),
            19 => self.good.clone(),
            20 => self.good[..random.random_range(0..256)].to_vec(),
            21 => {
                let more = random.random_range(1..500);
                [self.good.clone(), bytes(random, more)].concat()
            }
            22 => {
                let len = random.random_range(0..9000);
                bytes(random, len)
            }
            _ => {
                let len = random.random_range(0..255);
                bytes(random, len)
            }
        }
    }
}

fn bytes(random: &mut StdRng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    random.fill(&mut bytes[..]);
    bytes
}

/// Resident memory of both processes, in KiB, without the program's own code, which comes in when it is used.
fn resident(daemon: &Daemon) -> u64 {
    let of = |pid: i32| -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    of(daemon.pid()) + of(daemon.listener())
}

#[test]
fn a_hundred_thousand_datagrams_of_junk_are_met_with_silence_and_counted() {
    let site = Site::new().with_run();
    let daemon = site.start();
    let good = site.datagram();
    let mut senders: Vec<Sender> =
        (1..=8).map(|host| Sender::new(&format!("127.0.0.{host}:0"), &daemon)).collect();
    senders[0].send(&good);
    until("the good one", || (site.runs() == 1).then_some(()));

    let mut junk = Junk::new(&site, good);
    let mut flood = || {
        for number in 0..45_000 {
            senders[number % 8].send(&junk.next());
        }
        // And while nobody reads.
        daemon.signal_both(Signal::SIGSTOP);
        for number in 0..5_000 {
            senders[number % 8].send_at_once(&junk.next());
        }
        daemon.signal_both(Signal::SIGCONT);
    };
    // What has a bound is full after a while; what has none grows with every flood.
    let mut grown = Vec::new();
    let mut before = resident(&daemon);
    while grown.len() < 2 || grown.last().is_some_and(|grown| *grown > 256) {
        assert!(grown.len() < 5, "grew with each flood, by {grown:?} KiB");
        flood();
        let after = resident(&daemon);
        grown.push(after.saturating_sub(before));
        before = after;
    }
    // The queue for the workers may still be full.
    let fresh = until("a knock behind it all", || {
        let (before, fresh) = (site.runs(), site.datagram());
        senders[0].send(&fresh);
        std::thread::sleep(Duration::from_millis(200));
        (site.runs() > before).then_some(fresh)
    });
    senders[0].send(&fresh);
    senders.iter().for_each(Sender::assert_unanswered);

    until("an empty socket", || (kernel(daemon.address).waiting == 0).then_some(()));
    let dropped = kernel(daemon.address).dropped;
    let sent: u64 = senders.iter().map(|sender| sender.sent).sum();
    let stopped = daemon.stop();
    println!("{sent} sent, {dropped} dropped, grown by {grown:?} KiB, {:?}", stopped.counts());
    assert!(sent >= 100_000 && dropped > 0);
    assert_eq!(stopped.count("received"), sent - dropped);
    assert_eq!(stopped.count("ran"), site.runs() as u64);
    for reason in ["not-authentic", "seen", "contested"] {
        assert!(stopped.count(reason) > 0, "{reason}: {:?}", stopped.counts());
    }
    assert!(stopped.log.len() < 100, "{}", stopped.log.join("\n"));
}
