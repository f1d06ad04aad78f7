//! Binding the addresses of `listen`.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::channel::Takes;

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

/// One bound socket for each address, in order.
///
/// An IPv6 wildcard also takes IPv4 unless an IPv4 address with its port is listed besides.
///
/// # Errors
///
/// The first address that cannot be bound, and why.
pub(super) fn bind(listen: &[SocketAddr]) -> Result<Vec<UdpSocket>, (SocketAddr, io::Error)> {
    listen
        .iter()
        .map(|address| {
            let v4_besides = listen.iter().any(|other| other.is_ipv4() && other.port() == address.port());
            let stack =
                if address.ip().is_unspecified() && !v4_besides { Stack::Dual } else { Stack::Single };
            bind_one(*address, stack).map_err(|error| (*address, error))
        })
        .collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stack {
    Single,
    Dual,
}

fn bind_one(address: SocketAddr, stack: Stack) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(stack == Stack::Single)?;
    }
    // The kernel gives less where its maximum is lower.
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Bytes; more would only queue stale knocks.
const RECEIVE_BUFFER: usize = 1 << 20;
