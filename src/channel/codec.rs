//! Messages to bytes and back.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use zeroize::Zeroizing;

use super::{Counts, Opened, Setup, SocketId, ToKeeper, ToListener};
use crate::wire::reader::{Reader, WrongLength};
use crate::wire::{PLAINTEXT_LEN, mac};

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message")]
pub struct Malformed;

impl From<WrongLength> for Malformed {
    fn from(_: WrongLength) -> Malformed {
        Malformed
    }
}

impl ToKeeper {
    /// The message's bytes; zeroized, for plaintext is among them.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(OPENED_LEN));
        match self {
            ToKeeper::Ready => out.push(READY),
            ToKeeper::Opened(opened) => {
                out.push(OPENED);
                out.extend(mac::mapped(opened.source.ip()));
                out.extend(opened.source.port().to_be_bytes());
                out.push(opened.socket.0);
                out.extend(opened.digest);
                out.extend(opened.plaintext.iter());
            }
            ToKeeper::Counts(counts) => {
                out.push(COUNTS);
                out.extend(counts.received.to_be_bytes());
                out.extend(counts.receive_errors.to_be_bytes());
                out.extend(counts.refused.iter().flat_map(|count| count.to_be_bytes()));
            }
        }
        out
    }

    /// Reads one message.
    ///
    /// # Errors
    ///
    /// [`Malformed`] for anything that `encode` does not write.
    pub fn decode(bytes: &[u8]) -> Result<ToKeeper, Malformed> {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8()? {
            READY => ToKeeper::Ready,
            OPENED => {
                let ip = Ipv6Addr::from_octets(*reader.array()?);
                let port = u16::from_be_bytes(*reader.array()?);
                ToKeeper::Opened(Opened {
                    source: SocketAddr::new(IpAddr::V6(ip).to_canonical(), port),
                    socket: SocketId(reader.u8()?),
                    digest: *reader.array()?,
                    plaintext: Zeroizing::new(*reader.array()?),
                })
            }
            COUNTS => {
                let mut counts = Counts {
                    received: u64::from_be_bytes(*reader.array()?),
                    receive_errors: u64::from_be_bytes(*reader.array()?),
                    ..Counts::default()
                };
                for count in &mut counts.refused {
                    *count = u64::from_be_bytes(*reader.array()?);
                }
                ToKeeper::Counts(counts)
            }
            _ => return Err(Malformed),
        };
        reader.end()?;
        Ok(message)
    }
}

impl ToListener {
    /// The message's bytes; zeroized, for the private key is among them.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        match self {
            ToListener::Setup(setup) => {
                let mut out = Zeroizing::new(Vec::with_capacity(setup.private_key.len().saturating_add(8)));
                out.push(SETUP);
                out.extend(setup.workers.to_be_bytes());
                out.extend(setup.queue.to_be_bytes());
                out.push(setup.sockets);
                out.extend(setup.private_key.iter());
                out
            }
            ToListener::Socket(socket) => Zeroizing::new(vec![SOCKET, socket.0]),
            ToListener::Stop => Zeroizing::new(vec![STOP]),
        }
    }

    /// Reads one message.
    ///
    /// # Errors
    ///
    /// [`Malformed`] for anything that `encode` does not write.
    pub fn decode(bytes: &[u8]) -> Result<ToListener, Malformed> {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8()? {
            SETUP => ToListener::Setup(Setup {
                workers: u16::from_be_bytes(*reader.array()?),
                queue: u32::from_be_bytes(*reader.array()?),
                sockets: reader.u8()?,
                private_key: Zeroizing::new(reader.rest().to_vec()),
            }),
            SOCKET => ToListener::Socket(SocketId(reader.u8()?)),
            STOP => ToListener::Stop,
            _ => return Err(Malformed),
        };
        reader.end()?;
        Ok(message)
    }
}

const READY: u8 = 1;
const OPENED: u8 = 2;
const COUNTS: u8 = 3;

const SETUP: u8 = 1;
const SOCKET: u8 = 2;
const STOP: u8 = 3;

const OPENED_LEN: usize = 1 + 16 + 2 + 1 + 32 + PLAINTEXT_LEN;
