//! Two hosts and a wire between them: who is enrolled gets through while everybody else knocks too.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use siglatch::wire::Binding;

use crate::common::{Daemon, Site, knock, memory, until};
use crate::hosts::{CLIENT, Hosts};

#[test]
fn enrolled_users_get_through_a_flood_from_everywhere() {
    let Some(hosts) = Hosts::new() else { return };
    let mut site = Site::new().with_run();
    site.top = site.top.replace("127.0.0.1:0", "10.77.0.1:50000");
    let mut daemon = hosts.on(&hosts.server, || site.start());
    let (flooding, sent) = (AtomicBool::new(true), AtomicU64::new(0));
    let client = hosts.on(&hosts.client, || UdpSocket::bind((CLIENT, 0)).unwrap());
    let send = |datagram: &[u8]| client.send_to(datagram, daemon.address).unwrap();

    send(&site.datagram());
    until("the knock that settles the client's address", || (site.runs() == 1).then_some(()));
    let idle = memory(&daemon);
    let (stamped, plain) = std::thread::scope(|scope| {
        for seed in 0..2 {
            let mut flood = hosts.on(&hosts.client, || Flood::new(seed, &site, &daemon));
            let (flooding, sent) = (&flooding, &sent);
            scope.spawn(move || {
                while flooding.load(Ordering::Relaxed) {
                    sent.fetch_add(flood.burst(), Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(500));
        let (mut stamped, mut plain) = (0, 0);
        for _ in 0..30 {
            for (ran, datagram) in [
                (&mut stamped, site.stamped(&knock(1, b""), Binding::Server(site.server_id))),
                (&mut plain, site.datagram()),
            ] {
                let before = site.runs();
                send(&datagram);
                *ran += usize::from(within(Duration::from_secs(5), || site.runs() > before));
                // As fast as a user may.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        flooding.store(false, Ordering::Relaxed);
        (stamped, plain)
    });
    let flooded = memory(&daemon);
    println!("flood: {} datagrams, memory {idle} -> {flooded} KiB", sent.load(Ordering::Relaxed));
    assert_eq!(stamped, 30, "every stamped knock");
    assert!(plain >= 27, "{plain} of 30 plain knocks of an address that knocked well before");
    assert!(sent.load(Ordering::Relaxed) > 10_000, "that was no flood");
    assert!(flooded < idle + (8 << 10), "memory went from {idle} to {flooded} KiB");
    client.set_nonblocking(true).unwrap();
    assert!(client.recv(&mut [0; 2048]).is_err(), "no answer");

    send(&site.datagram());
    daemon.wait("the flood to be told", |line| line.contains("code=ran"));
    let stopped = daemon.stop();
    let refusals = stopped.log.iter().filter(|line| line.contains("refused")).count();
    assert!(refusals <= 2, "{refusals} lines about what a stranger sent:\n{}", stopped.log.join("\n"));
    assert_eq!(stopped.count("ran"), u64::try_from(site.runs()).unwrap());
}

fn within(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// What strangers send, from two hundred addresses.
struct Flood {
    sockets: Vec<UdpSocket>,
    to: SocketAddr,
    /// A stamped knock, seen on the wire: its beacon is right.
    seen: Vec<u8>,
    random: StdRng,
}

impl Flood {
    fn new(seed: u8, site: &Site, daemon: &Daemon) -> Flood {
        let from = |last| UdpSocket::bind((Ipv4Addr::new(10, 78, seed, last), 0)).unwrap();
        let seen = site.stamped(&knock(1, b""), Binding::None);
        let sockets = (1..=200).map(from).collect();
        Flood { sockets, to: daemon.address, seen, random: StdRng::seed_from_u64(seed.into()) }
    }

    fn burst(&mut self) -> u64 {
        let kind = self.random.random_range(0..4);
        for _ in 0..100 {
            let mut datagram = vec![0; [256, 288, 256, 100][kind]];
            self.random.fill(&mut datagram[..]);
            datagram[0] &= 0x7f;
            if kind == 1 {
                // All but the tag is right, and the tag is not.
                datagram[256..272].copy_from_slice(&self.seen[256..272]);
            }
            let socket = &self.sockets[self.random.random_range(0..self.sockets.len())];
            // A full wire loses it, as elsewhere.
            drop(socket.send_to(&datagram, self.to));
        }
        std::thread::sleep(Duration::from_millis(5));
        100
    }
}
