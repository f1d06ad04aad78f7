//! Binding the addresses of `listen`.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::channel::Takes;
use crate::listener::filter;
use crate::sys;

/// What is listened on, in the order of their numbers.
pub(super) struct Sockets {
    pub(super) list: Vec<(UdpSocket, Takes)>,
    pub(super) origin: Origin,
}

/// Who opened the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// This process, for `listen`.
    Bound,
    /// Who started it, and keeps them.
    Inherited,
}

impl Sockets {
    /// Their addresses, each once.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let mut addresses: Vec<SocketAddr> =
            self.list.iter().filter_map(|(socket, _)| socket.local_addr().ok()).collect();
        addresses.dedup();
        addresses.into_iter()
    }
}

/// Two bound sockets for each address, in order: plain datagrams go to the first, stamped ones to the second, so that a
/// flood of plain ones takes no room from them.
///
/// An IPv6 wildcard also takes IPv4 unless an IPv4 address with its port is listed besides.
///
/// # Errors
///
/// The first address that cannot be bound, and why.
pub(super) fn bind(listen: &[SocketAddr], modulus_len: usize) -> Result<Sockets, (SocketAddr, io::Error)> {
    let mut list = Vec::with_capacity(listen.len().saturating_mul(2));
    for address in listen {
        let v4_besides = listen.iter().any(|other| other.is_ipv4() && other.port() == address.port());
        let stack = if address.ip().is_unspecified() && !v4_besides { Stack::Dual } else { Stack::Single };
        let (plain, stamped) = pair(*address, stack, modulus_len).map_err(|error| (*address, error))?;
        list.extend([(plain, Takes::Plain), (stamped, Takes::Stamped)]);
    }
    Ok(Sockets { list, origin: Origin::Bound })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stack {
    Single,
    Dual,
}

fn pair(address: SocketAddr, stack: Stack, modulus_len: usize) -> io::Result<(UdpSocket, UdpSocket)> {
    let plain = unbound(address, stack)?;
    // Without SO_REUSEPORT: an address that another daemon has is not to be shared with it.
    plain.bind(&address.into())?;
    plain.set_reuse_port(true)?;
    let plain = UdpSocket::from(plain);
    let stamped = unbound(address, stack)?;
    stamped.set_reuse_port(true)?;
    stamped.bind(&plain.local_addr()?.into())?;
    join(&plain, modulus_len)?;
    Ok((plain, stamped.into()))
}

/// Of two sockets on one address the first gets plain datagrams, the second stamped ones.
///
/// # Errors
///
/// When they share their address in no way that the kernel can choose in.
pub(super) fn join(either: &UdpSocket, modulus_len: usize) -> io::Result<()> {
    sys::choose_socket(either, &filter::by_length(modulus_len))
}

fn unbound(address: SocketAddr, stack: Stack) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(stack == Stack::Single)?;
    }
    // The kernel gives less where its maximum is lower.
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Bytes; more would only queue stale knocks.
const RECEIVE_BUFFER: usize = 1 << 20;

#[cfg(test)]
mod tests;
