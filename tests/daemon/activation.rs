//! Sockets that whoever starts the daemon has opened: systemd's socket activation.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::{Daemon, Site, until};
use socket2::{Domain, Socket, Type};

/// A datagram socket on this address, which may have others.
fn shared(address: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.into()
}

/// Starts the daemon with descriptors from 3 on, at most two, as systemd would.
fn given(site: &Site, descriptors: Vec<OwnedFd>) -> Daemon {
    site.spawn(|command| {
        let (program, args) = (command.get_program().to_owned(), command.get_args().map(Into::into));
        let args: Vec<std::ffi::OsString> = args.collect();
        let count = descriptors.len();
        let mut wrapped = Command::new("sh");
        let script =
            format!("exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ LISTEN_FDS={count} exec \"$@\"");
        wrapped.args(["-c", &script, "sh"]).arg(program).args(args);
        wrapped.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut descriptors = descriptors.into_iter();
        if let Some(first) = descriptors.next() {
            wrapped.stdin(first);
        }
        if let Some(second) = descriptors.next() {
            wrapped.stdout(second);
        }
        *command = wrapped;
    })
}

fn ready(daemon: &mut Daemon, address: SocketAddr) {
    let line = daemon.wait("ready", |line| line.contains("code=ready"));
    assert!(line.contains(&format!("listen={address} ")), "{line}");
    daemon.address = address;
}

#[test]
fn a_socket_that_was_given_is_served_and_listen_is_not_looked_at() {
    let mut site = Site::new().with_run();
    // Nobody could listen there.
    site.top = site.top.replace("127.0.0.1:0", "192.0.2.1:1");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut daemon = given(&site, vec![socket.try_clone().unwrap().into()]);
    ready(&mut daemon, address);
    daemon.wait("word of it", |line| line.contains("code=inherited"));
    daemon.send(&site.datagram());
    until("a run", || (site.runs() == 1).then_some(()));
    daemon.stop();

    // It is its owner's, and still open.
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"later", address).unwrap();
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 5);
}

#[test]
fn a_filter_does_not_stay_on_a_socket_that_is_given_back() {
    let site = Site::new().with_run();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut daemon = given(&site, vec![socket.try_clone().unwrap().into()]);
    ready(&mut daemon, address);
    // As if it were a listener's: it takes nothing.
    let nothing = socket2::SockFilter::new(0x06, 0, 0, 0);
    socket2::SockRef::from(&socket).attach_filter(&[nothing]).unwrap();
    daemon.stop();

    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"later", address).unwrap();
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 5);
}

#[test]
fn two_sockets_that_are_given_back_share_their_address_as_before() {
    let site = Site::new().with_run();
    let first = shared("127.0.0.1:0".parse().unwrap());
    let address = first.local_addr().unwrap();
    let second = shared(address);
    let given_away = [&first, &second].map(|socket| socket.try_clone().unwrap().into());
    let mut daemon = given(&site, given_away.into());
    ready(&mut daemon, address);
    daemon.stop();

    // Short ones all go to the first while the daemon's program chooses; without it the sender's port does.
    for _ in 0..64 {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"later", address).unwrap();
    }
    for socket in [first, second] {
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 5);
    }
}

#[test]
fn two_sockets_on_one_address_are_one_address() {
    let site = Site::new().with_run();
    let first = shared("127.0.0.1:0".parse().unwrap());
    let address = first.local_addr().unwrap();
    let second = shared(address);
    let mut daemon = given(&site, vec![first.into(), second.into()]);
    ready(&mut daemon, address);
    daemon.stop();
}

#[test]
fn what_is_no_udp_socket_is_refused() {
    let site = Site::new().with_run();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = std::fs::File::open(site.path("server.key.pem")).unwrap();
    let unbound: UdpSocket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap().into();
    for descriptor in [OwnedFd::from(tcp), file.into(), unbound.into()] {
        let refused = given(&site, vec![descriptor]).ended();
        let log = refused.log.join("\n");
        assert_eq!(refused.status.code(), Some(78), "{log}");
        assert!(log.contains("LISTEN_FDS: socket 0 is") && log.contains("ListenDatagram="), "{log}");
    }
}
