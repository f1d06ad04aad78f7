//! Messages to bytes and back.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use zeroize::Zeroizing;

use super::{
    Confinement, Counts, Lane, Lanes, Limits, Load, Opened, Plain, REPLY_MAX, RefusedFrom, Reply,
    SOURCES_MAX, STAMP_KEYS_MAX, Setup, SocketId, StampKeys, Takes, ToKeeper, ToListener, Under,
};
use crate::wire::reader::{Reader, WrongLength};
use crate::wire::stamp::StampKey;
use crate::wire::{PLAINTEXT_LEN, UserId, mac};

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
                out.extend(address(opened.source));
                out.extend(mac::mapped(opened.local));
                out.push(opened.socket.0);
                let (stamped, user) = match opened.lane {
                    Lane::Plain => (0, UserId(0)),
                    Lane::Stamped(user) => (1, user),
                };
                // Two bits, so that neither is looked at to write the other.
                out.push(stamped | opened.under.0 << 1);
                out.extend(user.0.to_be_bytes());
                out.extend(opened.digest);
                out.extend(opened.plaintext.iter());
            }
            ToKeeper::Counts(counts) => {
                out.push(COUNTS);
                out.extend(counts.receive_errors.to_be_bytes());
                out.extend(counts.send_errors.to_be_bytes());
                out.extend(counts.refused.iter().flat_map(|count| count.to_be_bytes()));
                [counts.lanes.plain, counts.lanes.stamped].iter().for_each(|load| put_load(&mut out, load));
            }
            ToKeeper::Sources(sources) => {
                // The sender cuts at SOURCES_MAX.
                out.extend([SOURCES, u8::try_from(sources.len()).unwrap_or(u8::MAX)]);
                sources.iter().for_each(|refused| put_refused(&mut out, refused));
            }
            ToKeeper::Alive => out.push(ALIVE),
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
            OPENED => ToKeeper::Opened(opened(&mut reader)?),
            COUNTS => {
                let mut counts = Counts::ZERO;
                counts.receive_errors = u64::from_be_bytes(*reader.array()?);
                counts.send_errors = u64::from_be_bytes(*reader.array()?);
                for count in &mut counts.refused {
                    *count = u64::from_be_bytes(*reader.array()?);
                }
                counts.lanes = Lanes { plain: load(&mut reader)?, stamped: load(&mut reader)? };
                ToKeeper::Counts(counts)
            }
            SOURCES => {
                let count = usize::from(reader.u8()?);
                if count > SOURCES_MAX {
                    return Err(Malformed);
                }
                ToKeeper::Sources((0..count).map(|_| refused(&mut reader)).collect::<Result<_, _>>()?)
            }
            ALIVE => ToKeeper::Alive,
            _ => return Err(Malformed),
        };
        reader.end()?;
        Ok(message)
    }
}

impl ToListener {
    /// The message's bytes; zeroized, for the private key is among them.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(self.room()));
        match self {
            ToListener::Setup(setup) => {
                out.push(SETUP);
                out.extend(setup.workers.to_be_bytes());
                out.extend(setup.queue.to_be_bytes());
                out.push(match setup.confinement {
                    Confinement::Off => 0,
                    Confinement::On => 1,
                });
                let (given, (uid, gid)) = (setup.user.is_some(), setup.user.unwrap_or_default());
                out.push(given.into());
                out.extend(uid.to_be_bytes());
                out.extend(gid.to_be_bytes());
                // A key has at most 5,000 bytes.
                out.extend(u16::try_from(setup.private_key.len()).unwrap_or(u16::MAX).to_be_bytes());
                out.extend(setup.private_key.iter());
                out.extend(setup.old_private_key.iter().flat_map(|key| key.iter()));
            }
            ToListener::Limits(limits) => put_limits(&mut out, limits),
            ToListener::Socket(socket, takes) => {
                out.extend([SOCKET, socket.0]);
                out.push(match takes {
                    Takes::Plain => 0,
                    Takes::Stamped => 1,
                    Takes::Both => 2,
                });
            }
            ToListener::StampKeys(StampKeys { removed, added }) => {
                out.push(STAMP_KEYS);
                // The sender cuts at STAMP_KEYS_MAX.
                out.extend(u16::try_from(removed.len()).unwrap_or(u16::MAX).to_be_bytes());
                removed.iter().for_each(|user| out.extend(user.0.to_be_bytes()));
                for (user, key) in added {
                    out.extend(user.0.to_be_bytes());
                    out.extend(key.bytes());
                }
            }
            ToListener::Begin => out.push(BEGIN),
            ToListener::Settled(source) => {
                out.push(SETTLED);
                out.extend(mac::mapped(*source));
            }
            ToListener::Reply(reply) => put_reply(&mut out, reply),
            ToListener::Stop => out.push(STOP),
        }
        out
    }

    /// Enough that keys are never moved while they are written: what they are moved from is not zeroized.
    fn room(&self) -> usize {
        match self {
            ToListener::Setup(setup) => {
                let old = setup.old_private_key.as_ref().map_or(0, |key| key.len());
                setup.private_key.len().saturating_add(old).saturating_add(32)
            }
            ToListener::StampKeys(keys) => {
                let (removed, added) = (keys.removed.len(), keys.added.len());
                removed.saturating_mul(2).saturating_add(added.saturating_mul(34)).saturating_add(8)
            }
            ToListener::Reply(reply) => reply.bytes.len().saturating_add(96),
            ToListener::Limits(_)
            | ToListener::Socket(..)
            | ToListener::Begin
            | ToListener::Settled(_)
            | ToListener::Stop => 32,
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
            SETUP => ToListener::Setup(setup(&mut reader)?),
            LIMITS => {
                let plain = match reader.u8()? {
                    0 => Plain::Taken,
                    1 => Plain::Refused,
                    _ => return Err(Malformed),
                };
                let mut number = || reader.array().map(|bytes| u32::from_be_bytes(*bytes));
                ToListener::Limits(Limits {
                    plain,
                    freshness: number()?,
                    user_rate: number()?,
                    user_burst: number()?,
                    prefix_rate: number()?,
                    prefix_burst: number()?,
                    prefixes: number()?,
                })
            }
            SOCKET => {
                let socket = SocketId(reader.u8()?);
                ToListener::Socket(
                    socket,
                    match reader.u8()? {
                        0 => Takes::Plain,
                        1 => Takes::Stamped,
                        2 => Takes::Both,
                        _ => return Err(Malformed),
                    },
                )
            }
            STAMP_KEYS => ToListener::StampKeys(stamp_keys(&mut reader)?),
            BEGIN => ToListener::Begin,
            SETTLED => ToListener::Settled(ip(&mut reader)?),
            REPLY => ToListener::Reply(reply(&mut reader)?),
            STOP => ToListener::Stop,
            _ => return Err(Malformed),
        };
        reader.end()?;
        Ok(message)
    }
}

/// Address, place of the reason, count.
fn put_refused(out: &mut Vec<u8>, RefusedFrom { source, reason, count }: &RefusedFrom) {
    // No other reason is a listener's.
    let place = (0..).zip(Counts::REASONS).find(|(_, other)| other == reason).map_or(0, |(place, _)| place);
    out.extend(mac::mapped(*source));
    out.push(place);
    out.extend(count.to_be_bytes());
}

fn refused(reader: &mut Reader<'_>) -> Result<RefusedFrom, Malformed> {
    let (source, place) = (ip(reader)?, reader.u8()?);
    let reason = *Counts::REASONS.get(usize::from(place)).ok_or(Malformed)?;
    Ok(RefusedFrom { source, reason, count: u32::from_be_bytes(*reader.array()?) })
}

fn opened(reader: &mut Reader<'_>) -> Result<Opened, Malformed> {
    let (source, local, socket) = (socket_address(reader)?, ip(reader)?, SocketId(reader.u8()?));
    let (way, user) = (reader.u8()?, u16::from_be_bytes(*reader.array()?));
    let lane = match (way & 1, user) {
        (0, 0) => Lane::Plain,
        (1, user) => Lane::Stamped(UserId(user)),
        (_, _) => return Err(Malformed),
    };
    if way > 3 {
        return Err(Malformed);
    }
    let (under, digest) = (Under(way >> 1), *reader.array()?);
    let plaintext = Zeroizing::new(*reader.array::<PLAINTEXT_LEN>()?);
    Ok(Opened { source, local, socket, lane, under, digest, plaintext })
}

fn put_load(out: &mut Vec<u8>, Load { waiting, short }: &Load) {
    out.extend(waiting.to_be_bytes());
    out.push((*short).into());
}

fn load(reader: &mut Reader<'_>) -> Result<Load, Malformed> {
    let waiting = u32::from_be_bytes(*reader.array()?);
    match reader.u8()? {
        short @ 0..=1 => Ok(Load { waiting, short: short == 1 }),
        _ => Err(Malformed),
    }
}

fn setup(reader: &mut Reader<'_>) -> Result<Setup, Malformed> {
    let workers = u16::from_be_bytes(*reader.array()?);
    let queue = u32::from_be_bytes(*reader.array()?);
    let confinement = match reader.u8()? {
        0 => Confinement::Off,
        1 => Confinement::On,
        _ => return Err(Malformed),
    };
    let given = reader.u8()?;
    let ids = (u32::from_be_bytes(*reader.array()?), u32::from_be_bytes(*reader.array()?));
    let user = match (given, ids) {
        (0, (0, 0)) => None,
        (1, ids) => Some(ids),
        (_, _) => return Err(Malformed),
    };
    let len = u16::from_be_bytes(*reader.array()?);
    let private_key = Zeroizing::new(reader.bytes(len.into())?.to_vec());
    let old_private_key = Some(reader.rest()).filter(|key| !key.is_empty());
    let old_private_key = old_private_key.map(|key| Zeroizing::new(key.to_vec()));
    Ok(Setup { private_key, old_private_key, workers, queue, confinement, user })
}

fn stamp_keys(reader: &mut Reader<'_>) -> Result<StampKeys, Malformed> {
    let count = usize::from(u16::from_be_bytes(*reader.array()?));
    let user = |reader: &mut Reader<'_>| reader.array().map(|id| UserId(u16::from_be_bytes(*id)));
    let mut keys = StampKeys::default();
    for _ in 0..count {
        keys.removed.push(user(reader)?);
    }
    let mut added = Reader::new(reader.rest());
    while !added.is_empty() {
        keys.added.push((user(&mut added)?, StampKey::from_bytes(*added.array()?)));
    }
    if keys.removed.len() > STAMP_KEYS_MAX || keys.added.len() > STAMP_KEYS_MAX {
        return Err(Malformed);
    }
    Ok(keys)
}

fn put_limits(out: &mut Vec<u8>, limits: &Limits) {
    let Limits { freshness, plain, user_rate, user_burst, prefix_rate, prefix_burst, prefixes } = limits;
    out.push(LIMITS);
    out.push(match plain {
        Plain::Taken => 0,
        Plain::Refused => 1,
    });
    let numbers = [freshness, user_rate, user_burst, prefix_rate, prefix_burst, prefixes];
    out.extend(numbers.into_iter().flat_map(|number| number.to_be_bytes()));
}

fn put_reply(out: &mut Vec<u8>, reply: &Reply) {
    out.push(REPLY);
    out.extend(reply.digest);
    out.push(reply.socket.0);
    out.extend(address(reply.to));
    out.extend(mac::mapped(reply.from));
    out.extend(reply.until.to_be_bytes());
    out.extend(&reply.bytes);
}

fn reply(reader: &mut Reader<'_>) -> Result<Reply, Malformed> {
    let reply = Reply {
        digest: *reader.array()?,
        socket: SocketId(reader.u8()?),
        to: socket_address(reader)?,
        from: ip(reader)?,
        until: u32::from_be_bytes(*reader.array()?),
        bytes: reader.rest().to_vec(),
    };
    if (1..=REPLY_MAX).contains(&reply.bytes.len()) { Ok(reply) } else { Err(Malformed) }
}

/// Address, port, and the scope of an IPv6 address of one link: without it nobody there can be answered.
fn address(address: SocketAddr) -> [u8; 22] {
    let scope = match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(v6) => v6.scope_id(),
    };
    let bytes = mac::mapped(address.ip()).into_iter().chain(address.port().to_be_bytes());
    let mut whole = [0; 22];
    whole.iter_mut().zip(bytes.chain(scope.to_be_bytes())).for_each(|(to, from)| *to = from);
    whole
}

fn socket_address(reader: &mut Reader<'_>) -> Result<SocketAddr, Malformed> {
    let (ip, port) = (ip(reader)?, u16::from_be_bytes(*reader.array()?));
    match (ip, u32::from_be_bytes(*reader.array()?)) {
        (IpAddr::V4(v4), 0) => Ok((v4, port).into()),
        (IpAddr::V4(_), _) => Err(Malformed),
        (IpAddr::V6(v6), scope) => Ok(SocketAddrV6::new(v6, port, 0, scope).into()),
    }
}

/// IPv6, or v4-mapped and folded.
fn ip(reader: &mut Reader<'_>) -> Result<IpAddr, WrongLength> {
    Ok(IpAddr::V6(Ipv6Addr::from_octets(*reader.array()?)).to_canonical())
}

const READY: u8 = 1;
const OPENED: u8 = 2;
const COUNTS: u8 = 3;
const ALIVE: u8 = 4;
const SOURCES: u8 = 5;

const SETUP: u8 = 1;
const SOCKET: u8 = 2;
const STOP: u8 = 3;
const LIMITS: u8 = 4;
const STAMP_KEYS: u8 = 5;
const BEGIN: u8 = 6;
const SETTLED: u8 = 7;
const REPLY: u8 = 8;

const OPENED_LEN: usize = 1 + 22 + 16 + 1 + 3 + 32 + PLAINTEXT_LEN;
