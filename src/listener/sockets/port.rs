//! One socket: who sent a datagram, which of this machine's addresses he sent it to, and an answer from there.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd as _;

use mio::net::UdpSocket;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, cmsg_space, recvmsg, sendmsg, setsockopt,
    sockopt,
};

/// Receives and answers.
#[derive(Debug)]
pub(in crate::listener) struct Port {
    pub(super) socket: UdpSocket,
    bound: Bound,
    family: Family,
    control: Vec<u8>,
}

/// What a datagram that came in by it was sent to.
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// This address.
    To(IpAddr),
    /// Any of this machine's: the kernel says which.
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    /// And IPv4 in mapped form.
    V6,
}

impl Port {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Port> {
        let local = socket.local_addr()?;
        let bound = if local.ip().is_unspecified() { Bound::Any } else { Bound::To(local.ip()) };
        let family = if local.is_ipv4() { Family::V4 } else { Family::V6 };
        match (bound, family) {
            (Bound::To(_), _) => {}
            (Bound::Any, Family::V4) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            (Bound::Any, Family::V6) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        Ok(Port { socket, bound, family, control: vec![0; CONTROL] })
    }

    /// Length, source and destination of the next datagram; the latter unspecified where nothing says it.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, IpAddr)> {
        match self.bound {
            Bound::To(local) => self.socket.recv_from(buffer).map(|(len, source)| (len, source, local)),
            Bound::Any => self.receive_with_info(buffer),
        }
    }

    /// Sends an answer from this address, or from any if it is unspecified. Never blocks.
    pub(super) fn send(&self, bytes: &[u8], to: SocketAddr, from: IpAddr) -> io::Result<()> {
        let to: SockaddrStorage = match (self.family, to) {
            (Family::V6, SocketAddr::V4(v4)) => {
                SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
            }
            (Family::V4 | Family::V6, other) => other.into(),
        };
        let (v4, v6);
        let info = match (self.bound, from) {
            (Bound::To(_), _) => None,
            (Bound::Any, from) if from.is_unspecified() => None,
            (Bound::Any, IpAddr::V4(from)) if self.family == Family::V4 => {
                v4 = info_v4(from);
                Some(ControlMessage::Ipv4PacketInfo(&v4))
            }
            (Bound::Any, from) => {
                v6 = info_v6(from);
                Some(ControlMessage::Ipv6PacketInfo(&v6))
            }
        };
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg(fd, &[IoSlice::new(bytes)], info.as_slice(), flags, Some(&to))?;
        Ok(())
    }

    fn receive_with_info(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, IpAddr)> {
        let mut slices = [IoSliceMut::new(buffer)];
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut self.control), flags)?;
        let source = message.address.as_ref().and_then(socket_addr).ok_or(io::ErrorKind::InvalidData)?;
        let mut local = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        for control in message.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::Ipv4PacketInfo(info) = control {
                local = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into();
            } else if let ControlMessageOwned::Ipv6PacketInfo(info) = control {
                local = Ipv6Addr::from(info.ipi6_addr.s6_addr).to_canonical();
            }
        }
        Ok((message.bytes, source, local))
    }
}

fn socket_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from(*v4));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from(*v6)))
}

fn info_v4(from: Ipv4Addr) -> libc::in_pktinfo {
    let from = libc::in_addr { s_addr: u32::from(from).to_be() };
    libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: from }
}

fn info_v6(from: IpAddr) -> libc::in6_pktinfo {
    let from = match from {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: from.octets() }, ipi6_ifindex: 0 }
}

/// For the longer of the two.
const CONTROL: usize = cmsg_space::<libc::in6_pktinfo>();

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as Plain;

    use super::*;

    fn port(address: &str) -> (Port, u16) {
        let socket = Plain::bind(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let port = socket.local_addr().unwrap().port();
        (Port::new(UdpSocket::from_std(socket)).unwrap(), port)
    }

    fn received(port: &mut Port) -> (usize, SocketAddr, IpAddr) {
        for _ in 0..1000 {
            match port.receive(&mut [0; 100]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                other => return other.unwrap(),
            }
        }
        panic!("nothing came")
    }

    #[test]
    fn an_answer_comes_from_the_address_that_was_knocked() {
        let cases = [
            ("0.0.0.0:0", "127.0.0.1:0", "127.0.0.53"),
            ("[::]:0", "127.0.0.1:0", "127.0.0.53"),
            ("[::]:0", "[::1]:0", "::1"),
            ("127.0.0.9:0", "127.0.0.1:0", "127.0.0.9"),
        ];
        for (listen, client, knocked) in cases {
            let (mut server, number) = port(listen);
            let knocked = SocketAddr::new(knocked.parse().unwrap(), number);
            let client = Plain::bind(client).unwrap();
            client.send_to(b"knock", knocked).unwrap();
            let (len, source, local) = received(&mut server);
            assert_eq!((len, local), (5, knocked.ip()), "{listen}");
            let source = crate::wire::address::folded(source);
            assert_eq!(source, client.local_addr().unwrap(), "{listen}");
            server.send(b"who", source, local).unwrap();
            let (len, from) = client.recv_from(&mut [0; 100]).unwrap();
            assert_eq!((len, from), (3, knocked), "{listen}");
            assert!(server.send(b"who", SocketAddr::new(source.ip(), 0), local).is_err(), "{listen}");
        }
    }
}
