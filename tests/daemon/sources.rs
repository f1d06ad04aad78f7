//! Where a knock comes from: each family, both at one socket, and places where no client is.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use crate::common::{Daemon, Site, field, knock, skipped, until};
use siglatch::wire::Binding;
use socket2::{Domain, Protocol, Socket, Type};

/// A site that listens on `listen`, where alice may knock from `allow_from` only.
fn site_for(listen: &str, allow_from: &str) -> Option<Site> {
    if let Err(error) = UdpSocket::bind("[::1]:0") {
        skipped(&format!("there is no IPv6 here: {error}"));
        return None;
    }
    let mut site = Site::new().with_run();
    site.top = site.top.replace("127.0.0.1:0", listen);
    site.tables =
        site.tables.replace("[users.alice]\n", &format!("[users.alice]\nallow_from = [\"{allow_from}\"]\n"));
    Some(site)
}

/// Sends it from the loopback address of `host`'s family.
fn send_by(host: &str, daemon: &Daemon, datagram: &[u8]) {
    let ip: std::net::IpAddr = host.parse().unwrap();
    let socket = UdpSocket::bind(SocketAddr::new(ip, 0)).unwrap();
    socket.send_to(datagram, SocketAddr::new(ip, daemon.address.port())).unwrap();
}

#[test]
fn a_knock_over_ipv6_runs_with_its_address() {
    let Some(site) = site_for("[::1]:0", "::1/128") else {
        return;
    };
    let mut daemon = site.start();
    let source = "::1".parse().unwrap();
    send_by("::1", &daemon, &site.sealed(&knock(1, b""), Binding::Source(site.server_id, source)));
    let ran = daemon.wait("the knock", |line| line.contains("code=ran"));
    assert!(field(&ran, "from").unwrap().starts_with("[::1]:"), "{ran}");
    assert_eq!(field(&ran, "bound").unwrap(), "source");
    until("the script", || (site.runs() == 1).then_some(()));
    assert!(fs::read_to_string(site.path("ran")).unwrap().starts_with("::1\n"));
    daemon.stop();
}

#[test]
fn an_ipv4_knock_at_a_socket_for_both_families_is_an_ipv4_knock() {
    let Some(site) = site_for("[::]:0", "127.0.0.0/8") else {
        return;
    };
    let mut daemon = site.start();
    let source = "127.0.0.1".parse().unwrap();
    let datagram = site.sealed(&knock(1, b""), Binding::Source(site.server_id, source));
    send_by("127.0.0.1", &daemon, &datagram);
    let ran = daemon.wait("the knock", |line| line.contains("code=ran"));
    assert!(field(&ran, "from").unwrap().starts_with("127.0.0.1:"), "{ran}");
    assert_eq!(field(&ran, "bound").unwrap(), "source");
    until("the script", || (site.runs() == 1).then_some(()));
    assert!(fs::read_to_string(site.path("ran")).unwrap().starts_with("127.0.0.1\n"));

    send_by("::1", &daemon, &site.datagram());
    daemon.wait("the other family", |line| line.contains("code=source"));
    assert_eq!(daemon.stop().count("ran"), 1);
}

#[test]
fn a_list_for_ipv6_lets_no_mapped_ipv4_source_in() {
    let Some(site) = site_for("[::]:0", "::/0") else {
        return;
    };
    let mut daemon = site.start();
    send_by("127.0.0.1", &daemon, &site.datagram());
    daemon.wait("the refusal", |line| line.contains("code=source"));
    send_by("::1", &daemon, &site.datagram());
    daemon.wait("the knock", |line| line.contains("code=ran"));
    assert_eq!(daemon.stop().count("ran"), 1);
}

/// A datagram from 127.0.0.1 and any port, without a socket that could have it.
pub(crate) fn send_raw(from_port: u16, to: SocketAddr, datagram: &[u8]) -> std::io::Result<usize> {
    let len = u16::try_from(8 + datagram.len()).unwrap();
    let header = [from_port, to.port(), len, 0].map(u16::to_be_bytes).concat();
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP))?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.send_to(&[&header, datagram].concat(), &to.into())
}

#[test]
fn a_source_that_cannot_be_answered_jams_nothing() {
    let site = Site::new().with_run();
    let mut daemon = site.start();
    let own_port = daemon.address.port();
    for (port, runs) in [(0, 1), (own_port, 2)] {
        match send_raw(port, daemon.address, &site.datagram()) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return skipped("a raw socket takes root");
            }
            sent => sent.unwrap(),
        };
        until("the knock", || (site.runs() == runs).then_some(()));
        daemon.wait("its line", |line| {
            line.contains("code=ran") && line.contains(&format!("from=127.0.0.1:{port} "))
        });
    }
    daemon.send(&site.datagram());
    until("one that can be answered", || (site.runs() == 3).then_some(()));
    let stopped = daemon.stop();
    assert_eq!((stopped.count("received"), stopped.count("ran")), (3, 3));
}
