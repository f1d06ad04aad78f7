#![expect(clippy::arithmetic_side_effects, reason = "small numbers")]

use std::io::ErrorKind;
use std::net::Ipv4Addr;

use super::*;

const PLAIN: usize = 256;
const STAMPED: usize = 288;

struct Pair {
    sockets: Vec<(UdpSocket, Takes)>,
    address: SocketAddr,
}

impl Pair {
    fn on(address: &str) -> Pair {
        let sockets = bind(&[address.parse().unwrap()], PLAIN).unwrap();
        assert_eq!(sockets.origin, Origin::Bound);
        let addresses: Vec<_> = sockets.addresses().collect();
        assert_eq!(addresses.len(), 1, "one address, however many sockets");
        Pair { sockets: sockets.list, address: addresses[0] }
    }

    /// Lengths of what waits in the socket that is for these.
    fn waiting(&self, takes: Takes) -> Vec<usize> {
        let (socket, _) = self.sockets.iter().find(|(_, other)| *other == takes).unwrap();
        let mut buffer = [0; 2048];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok()).collect()
    }
}

#[test]
fn of_a_pair_the_second_gets_what_is_as_long_as_a_stamped_one_and_the_first_all_else() {
    for (listen, to) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.2"),
        ("[::1]:0", "::1"),
        ("[::]:0", "::1"),
        ("[::]:0", "127.0.0.1"),
    ] {
        let pair = Pair::on(listen);
        let to = SocketAddr::new(to.parse().unwrap(), pair.address.port());
        let from = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        // From many ports: it is no hash of them that chooses.
        for chunk in (0..=600).collect::<Vec<usize>>().chunks(100) {
            let from = UdpSocket::bind(from).unwrap();
            for len in chunk {
                from.send_to(&vec![7; *len], to).unwrap();
                from.send_to(&[9; STAMPED], to).unwrap();
            }
            let stamped = pair.waiting(Takes::Stamped);
            let others = chunk.iter().copied().filter(|len| *len != STAMPED);
            assert_eq!(pair.waiting(Takes::Plain), others.clone().collect::<Vec<_>>(), "{listen} {to}");
            assert_eq!(stamped, vec![STAMPED; 2 * chunk.len() - others.count()]);
        }
    }
}

#[test]
fn an_undrained_flood_of_plain_ones_takes_no_room_from_stamped_ones() {
    let pair = Pair::on("127.0.0.1:0");
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..20_000_u32 {
        from.send_to(&[1; PLAIN], pair.address).unwrap();
        if number.is_multiple_of(200) {
            from.send_to(&[2; STAMPED], pair.address).unwrap();
        }
    }
    assert_eq!(pair.waiting(Takes::Stamped).len(), 100, "all of them");
    assert!(pair.waiting(Takes::Plain).len() < 20_000, "that was no flood");
}

#[test]
fn an_address_is_not_shared_with_another_daemon() {
    let pair = Pair::on("127.0.0.1:0");
    let (address, error) = bind(&[pair.address], PLAIN).err().unwrap();
    assert_eq!((address, error.kind()), (pair.address, ErrorKind::AddrInUse));
    // Who asks for a share of a port gets none of one that is whole.
    let whole = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = whole.local_addr().unwrap();
    assert!(bind(&[address], PLAIN).is_err());
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), pair.address.port());
    assert!(bind(&[any], PLAIN).is_err(), "nor of a wider one");
    // What was bound for the failed attempts is free again, and so is the pair's address when it is gone.
    let address = pair.address;
    drop(pair);
    assert!(bind(&[address], PLAIN).is_ok());
}

#[test]
fn wildcards_of_both_families_stand_side_by_side() {
    let v4 = Pair::on("0.0.0.0:0");
    let port = v4.address.port();
    drop(v4);
    let listen = [format!("0.0.0.0:{port}"), format!("[::]:{port}")].map(|address| address.parse().unwrap());
    let both = bind(&listen, PLAIN).unwrap();
    assert_eq!(both.addresses().collect::<Vec<_>>(), listen);
    assert_eq!(both.list.len(), 4);
}
