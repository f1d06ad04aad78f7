//! Sockets that whoever started the daemon opened for it: systemd's socket activation, sd_listen_fds(3).

use std::net::UdpSocket;

use listenfd::ListenFd;

use super::sockets::{Origin, Sockets, join};
use crate::channel::Takes;
use crate::exit::{Exit, Failure};

/// What there is. Takes LISTEN_FDS out of the environment, so not when there are threads.
pub(super) fn take() -> ListenFd {
    ListenFd::from_env()
}

/// All of them, UDP sockets with an address; `None` if there are none.
///
/// # Errors
///
/// [`Failure`] for anything else, and for a third socket on one address.
pub(super) fn sockets(mut given: ListenFd, modulus_len: usize) -> Result<Option<Sockets>, Failure> {
    if given.len() > MOST {
        return Err(wrong(format!("{} sockets are more than the {MOST} that siglatchd takes", given.len())));
    }
    let mut list: Vec<(UdpSocket, Takes)> = Vec::new();
    for number in 0..given.len() {
        let socket = match given.take_udp_socket(number) {
            Ok(Some(socket)) => socket,
            Ok(None) => continue,
            Err(error) => return Err(wrong(format!("socket {number} is of no use: {error}"))),
        };
        let unusable = |error: std::io::Error| wrong(format!("socket {number} is of no use: {error}"));
        let address = socket.local_addr().map_err(unusable)?;
        if address.port() == 0 {
            return Err(wrong(format!("socket {number} is not bound to a port")));
        }
        socket.set_nonblocking(true).map_err(unusable)?;
        let same = |other: &&mut (UdpSocket, Takes)| other.0.local_addr().ok() == Some(address);
        let mut before: Vec<_> = list.iter_mut().filter(same).collect();
        let takes = match before.as_mut_slice() {
            [] => Takes::Both,
            [(_, takes)] => {
                *takes = Takes::Plain;
                join(&socket, modulus_len).map_err(unusable)?;
                Takes::Stamped
            }
            _ => return Err(wrong(format!("{address} has more than two sockets"))),
        };
        list.push((socket, takes));
    }
    Ok(if list.is_empty() { None } else { Some(Sockets { list, origin: Origin::Inherited }) })
}

fn wrong(what: String) -> Failure {
    Failure::new(Exit::Config, format!("LISTEN_FDS: {what}"))
        .hint("a socket unit gives siglatchd UDP sockets with ListenDatagram=ADDRESS:PORT, one or two for an address")
}

/// As many as `listen` can make.
const MOST: usize = 32;
