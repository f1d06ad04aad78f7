//! Two hosts and a wire between them, each a network namespace of its own.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

use crate::common::skipped;

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub(crate) const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
/// The client's too.
pub(crate) const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

/// The client's also has all of 10.78.0.0/16.
pub(crate) struct Hosts {
    pub(crate) server: String,
    pub(crate) client: String,
}

impl Hosts {
    pub(crate) fn new() -> Option<Hosts> {
        if !nix::unistd::geteuid().is_root() {
            skipped("network namespaces take root");
            return None;
        }
        static MADE: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let (server, client) = (format!("siglatch-s{id}"), format!("siglatch-c{id}"));
        let hosts = Hosts { server: server.clone(), client: client.clone() };
        for line in [
            format!("netns add {server}"),
            format!("netns add {client}"),
            format!("-n {server} link add wire type veth peer name wire netns {client}"),
            format!("-n {server} addr add {SERVER}/24 dev wire"),
            format!("-n {client} addr add {CLIENT}/24 dev wire"),
            format!("-n {client} addr add {NEIGHBOUR}/24 dev wire"),
            format!("-n {server} addr add {SERVER6}/64 dev wire nodad"),
            format!("-n {client} addr add {CLIENT6}/64 dev wire nodad"),
            format!("-n {server} link set wire up"),
            format!("-n {client} link set wire up"),
            format!("-n {server} link set lo up"),
            format!("-n {client} link set lo up"),
            format!("-n {server} route add 10.78.0.0/16 via {CLIENT}"),
            format!("-n {client} route add local 10.78.0.0/16 dev lo"),
        ] {
            let status = Command::new("ip").args(line.split(' ')).status();
            assert!(status.is_ok_and(|status| status.success()), "ip {line}");
        }
        Some(hosts)
    }

    /// Does it on a thread that is in that namespace: what it opens and starts stays there.
    pub(crate) fn on<T: Send>(&self, host: &str, act: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{host}")).unwrap();
        std::thread::scope(|scope| {
            let act = scope.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                act()
            });
            act.join().unwrap()
        })
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in [&self.server, &self.client] {
            drop(Command::new("ip").args(["netns", "del", host]).status());
        }
    }
}
