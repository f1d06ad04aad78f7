use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;

const PLAIN: usize = 256;
const STAMPED: usize = 288;

fn bound(listen: &[&str]) -> Sockets {
    let listen: Vec<SocketAddr> = listen.iter().map(|address| address.parse().unwrap()).collect();
    bind(&listen, PLAIN).unwrap()
}

/// How many wait in it, and how long the first of them is.
fn drained(socket: &UdpSocket) -> (usize, usize) {
    let mut buffer = [0; 2048];
    let lengths: Vec<usize> = std::iter::from_fn(|| socket.recv(&mut buffer).ok()).collect();
    (lengths.len(), lengths.first().copied().unwrap_or(0))
}

fn send(from: &str, to: SocketAddr, len: usize) {
    UdpSocket::bind(from).unwrap().send_to(&vec![0; len], to).unwrap();
}

#[test]
fn stamped_datagrams_have_a_socket_of_their_own_on_each_address() {
    let mut sockets = bound(&["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"]);
    // Alone it takes IPv4 as well.
    sockets.list.extend(bound(&["[::]:0"]).list);
    let takes: Vec<Takes> = sockets.list.iter().map(|(_, takes)| *takes).collect();
    assert_eq!(takes, [Takes::Plain, Takes::Stamped].repeat(4));
    let addresses: Vec<SocketAddr> = sockets.addresses().collect();
    assert_eq!(addresses.len(), 4, "a pair has one address, also with a port of the system's choice");
    let mut tried = 0;
    for (pair, address) in sockets.list.chunks(2).zip(addresses) {
        let local: IpAddr =
            if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let mut ways = vec![local];
        if address == SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port())) {
            ways.push(Ipv4Addr::LOCALHOST.into());
        }
        for ip in ways {
            let to = SocketAddr::new(ip, address.port());
            for (len, expected) in [(PLAIN, 0), (STAMPED, 1), (1, 0), (STAMPED - 1, 0), (STAMPED + 1, 0)] {
                // The kernel would otherwise spread them by source.
                for _ in 0..8 {
                    send(&format!("{}:0", if ip.is_ipv4() { "127.0.0.1" } else { "[::1]" }), to, len);
                }
                assert_eq!(drained(&pair[expected].0), (8, len), "{to} {len}");
                assert_eq!(drained(&pair[1 - expected].0), (0, 0), "{to} {len}");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 25);
}

#[test]
fn an_address_that_another_daemon_has_is_not_shared_with_it() {
    let first = bound(&["127.0.0.1:0"]);
    let address = first.addresses().next().unwrap();
    let (refused, error) = bind(&[address], PLAIN).map(drop).unwrap_err();
    assert_eq!((refused, error.kind()), (address, io::ErrorKind::AddrInUse));
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    assert!(bind(&[any], PLAIN).is_err(), "nor a wider one");
    drop(first);
    assert!(bind(&[address], PLAIN).is_ok());
}

#[test]
fn a_flood_of_plain_datagrams_that_nobody_reads_takes_no_room_from_stamped_ones() {
    let sockets = bound(&["127.0.0.1:0"]);
    let to = sockets.addresses().next().unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..20_000 {
        sender.send_to(&[0; PLAIN], to).unwrap();
        if number % 200 == 0 {
            sender.send_to(&[0; STAMPED], to).unwrap();
        }
    }
    let (plain, stamped) = (drained(&sockets.list[0].0), drained(&sockets.list[1].0));
    assert!(plain.0 < 10_000, "{} fitted, so that was no flood", plain.0);
    assert_eq!(stamped, (100, STAMPED));
}

#[test]
fn every_other_length_goes_to_the_first_socket() {
    let sockets = bound(&["127.0.0.1:0"]);
    let to = sockets.addresses().next().unwrap();
    for lengths in (0..=600).collect::<Vec<usize>>().chunks(100) {
        lengths.iter().for_each(|len| send("127.0.0.1:0", to, *len));
        let others = lengths.iter().filter(|len| **len != STAMPED).count();
        assert_eq!(drained(&sockets.list[0].0).0, others, "{lengths:?}");
        assert_eq!(drained(&sockets.list[1].0).0, lengths.len() - others, "{lengths:?}");
    }
}

#[test]
fn wildcards_of_both_families_stand_side_by_side_on_one_port() {
    let port = bound(&["0.0.0.0:0"]).addresses().next().unwrap().port();
    let sockets = bound(&[&format!("0.0.0.0:{port}"), &format!("[::]:{port}")]);
    assert_eq!(sockets.list.len(), 4);
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    send("127.0.0.1:0", to, STAMPED);
    assert_eq!(drained(&sockets.list[1].0), (1, STAMPED), "IPv4 goes to its own");
}
