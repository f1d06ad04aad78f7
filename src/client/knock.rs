//! `siglatch knock`: a target and a payload become one datagram for each address.

use rsa::rand_core::OsRng;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::answer;
use super::args;
use super::target::{Dash, NoTarget, Target, usage};
use super::totp;
use crate::config::files::{self, Existing};
use crate::config::units;
use crate::exit::{self, Exit, Failure};
use crate::wire::address::folded;
use crate::wire::invite::Opens;
use crate::wire::options::Options;
use crate::wire::packet::{Knock, Packet, PayloadTooLong};
use crate::wire::stamp::{Postage, Stamper, stamp};
use crate::wire::{BeaconKey, Binding, KnockId, PAYLOAD_MAX, StampKey};

/// A datagram that was sent.
pub(super) struct Sent {
    /// Connected: it hears what the network says, and nobody else.
    pub(super) socket: UdpSocket,
    /// The address that was knocked.
    pub(super) to: SocketAddr,
    pub(super) id: KnockId,
    /// The packet's: an answer opens for no other.
    pub(super) hmac: [u8; 32],
    /// Seconds for which the door is asked to be open.
    pub(super) hold: Option<u32>,
    datagram: Vec<u8>,
}

impl Sent {
    /// Sends the same bytes again, in case they were lost: a server that got them runs nothing twice.
    pub(super) fn again(&self) {
        // The first may only tell what became of the one before. Whoever waits for what it brings about sees that it failed.
        drop(self.socket.send(&self.datagram).or_else(|_| self.socket.send(&self.datagram)));
    }
}

/// Runs the command.
pub(super) fn knock(args: &args::Knock) -> ExitCode {
    match prepare(args) {
        Ok((target, payload, binding)) => {
            let exit = answer::patience(args, &target).and_then(|patience| {
                let sent = send(args, &target, &payload, binding, destinations(args, &target)?)?;
                answer::conclude(args, &target, &sent, patience)
            });
            exit.map_or_else(|failure| exit::end(Err(failure)), ExitCode::from)
        }
        Err(NoTarget::Usage(error)) => exit::usage(&error),
        Err(NoTarget::Failure(failure)) => exit::end(Err(failure)),
    }
}

fn prepare(args: &args::Knock) -> Result<(Target, Zeroizing<Vec<u8>>, Binding), NoTarget> {
    let (mut target, dash) = Target::of(args)?;
    let binding = match (target.server_id, args.source) {
        (Some(server), Some(source)) => Binding::Source(server, source),
        (Some(server), None) => Binding::Server(server),
        (None, None) => Binding::None,
        (None, Some(_)) => {
            return Err(usage(
                "--source needs the server's id: ask for an invite that has it, or give --server-id",
            ));
        }
    };
    let options = Options {
        hold: args.hold,
        address: args.address,
        totp: totp::code(args, &target)?,
        argument: args.argument.as_ref().map(|text| text.as_bytes().to_vec()),
        ..Options::default()
    };
    let payload = target.with(&options, &payload(&args.payload, dash)?)?;
    if let Some(seconds) = args.hold {
        target.what += &format!(" for {}", units::show_duration(Duration::from_secs(seconds.into())));
    }
    Ok((target, payload, binding))
}

/// The payload's bytes as they are; one that does not fit is refused, never cut.
fn payload(args: &args::Payload, dash: Dash) -> Result<Zeroizing<Vec<u8>>, NoTarget> {
    let stdin = Path::new("-");
    let bytes = match (&args.payload, &args.payload_file, dash) {
        (None, None, Dash::Absent) => Vec::new(),
        (Some(text), None, Dash::Absent) => OsStr::as_bytes(text).to_vec(),
        (None, Some(path), Dash::Absent) if path != stdin => {
            let failed = |error| unreadable(&path.display().to_string(), &error);
            File::open(path).and_then(bounded).map_err(failed)?
        }
        (None, Some(_), Dash::Absent) | (None, None, Dash::Given) => {
            bounded(io::stdin().lock()).map_err(|error| unreadable("standard input", &error))?
        }
        (Some(_), _, _) | (None, Some(_), Dash::Given) => {
            return Err(usage("give one payload: --payload, --payload-file or `-`"));
        }
    };
    if bytes.len() > PAYLOAD_MAX {
        let what = match &args.payload {
            Some(text) => PayloadTooLong(text.len()).to_string(),
            None => format!("the payload is longer than {PAYLOAD_MAX} bytes"),
        };
        let hint = "nothing was sent; send less, or have the action fetch the rest";
        return Err(Failure::new(Exit::Usage, what).hint(hint).into());
    }
    Ok(Zeroizing::new(bytes))
}

/// One byte more than fits, to see that it does not.
fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take((PAYLOAD_MAX as u64).saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(place: &str, error: &io::Error) -> Failure {
    let exit = if error.kind() == io::ErrorKind::PermissionDenied { Exit::Permission } else { Exit::Usage };
    Failure::new(exit, format!("{place}: cannot read the payload: {error}"))
}

/// Knocks each destination; one that was knocked is enough.
pub(super) fn send(
    args: &args::Knock,
    target: &Target,
    payload: &[u8],
    binding: Binding,
    destinations: Vec<SocketAddr>,
) -> Result<Vec<Sent>, Failure> {
    let (mut sent, mut failed) = (Vec::new(), Vec::new());
    for to in destinations {
        // A knock of its own for each: one challenge sent twice would be a replay.
        match send_one(args, target, payload, binding, to) {
            Ok(knock) => sent.push(knock),
            Err(failure) => failed.push(failure),
        }
    }
    if sent.is_empty() {
        super::last_of(failed)?;
    } else if !args.quiet {
        failed.iter().for_each(|failure| exit::note(&format!("warning: {}", failure.what)));
    }
    Ok(sent)
}

/// Signs, seals, stamps and sends one datagram, and says so.
fn send_one(
    args: &args::Knock,
    target: &Target,
    payload: &[u8],
    binding: Binding,
    to: SocketAddr,
) -> Result<Sent, Failure> {
    let internal = |error: &dyn std::fmt::Display| Failure::new(Exit::Internal, error.to_string());
    let challenge = SysRng.try_next_u32().map_err(|error| internal(&error))?;
    // The last moment: reading the payload and resolving the name may have taken their time.
    let timestamp = u32::try_from(crate::clock::wall().as_secs())
        .map_err(|_| Failure::new(Exit::TryAgain, "this machine's clock is past 2106: set it"))?;
    let knock = Knock { timestamp, user: target.user, action: target.action, challenge, payload };
    let plain = knock.encode(&target.hmac_key, binding).map_err(|error| internal(&error))?;
    let sealed = target.server_key.seal(&mut OsRng, &plain).map_err(|error| internal(&error))?;
    let id = KnockId::of(Sha256::digest(&sealed).into());
    let datagram = match target.postage {
        Postage::Plain => sealed,
        Postage::Stamped => stamped(target, sealed, timestamp),
    };
    if let Some(path) = &args.save {
        files::write(path, &datagram, 0o600, Existing::Keep).map_err(|bad| {
            Failure::from(bad).hint("nothing was sent; --save takes the name of a new file")
        })?;
    }
    let from = args.bind_address.unwrap_or(match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    });
    let socket = emit(from, to, &datagram)?;
    let hmac = Packet::decode(&*plain).map(|packet| *packet.hmac).map_err(|error| internal(&error))?;
    let hold = args.hold;
    let sent = Sent { socket, to, id, hmac, hold, datagram };
    if args.quiet || args.json {
        return Ok(sent);
    }

    let Target { label, who, what, postage, .. } = target;
    let bound = match binding {
        Binding::None => ", not bound to a server".to_owned(),
        Binding::Server(_) => ", bound to the server".to_owned(),
        Binding::Source(_, source) => format!(", bound to the server and to {source}"),
    };
    let detail = if args.verbose {
        let length = payload.len();
        format!(
            "  knock {id}, timestamp {timestamp}, challenge {challenge:#010x}, payload of {length} bytes\n"
        )
    } else {
        String::new()
    };
    exit::say(&format!("knocked {label}: {what} as {who} to {to}{bound}, {postage}\n{detail}"))?;
    Ok(sent)
}

/// Fresh from the operating system's generator.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| Failure::new(Exit::Internal, format!("no randomness: {error}")))?;
    Ok(bytes)
}

/// For the timestamp that is in the sealed packet.
fn stamped(target: &Target, sealed: Vec<u8>, timestamp: u32) -> Vec<u8> {
    let Target { server_key, hmac_key, user, .. } = target;
    let stamper = Stamper::new(&StampKey::derive(server_key, hmac_key));
    stamp(sealed, *user, timestamp, &BeaconKey::of(server_key), &stamper)
}

fn emit(from: IpAddr, to: SocketAddr, datagram: &[u8]) -> Result<UdpSocket, Failure> {
    let socket = UdpSocket::bind((from, 0))
        .map_err(|error| Failure::new(Exit::TryAgain, format!("cannot send from {from}: {error}")))?;
    match socket.connect(to).and_then(|()| socket.send(datagram)) {
        Ok(len) if len == datagram.len() => Ok(socket),
        Ok(len) => Err(Failure::new(Exit::Internal, format!("{len} bytes were sent to {to}"))),
        Err(error) => Err(Failure::new(Exit::TryAgain, format!("cannot send to {to}: {error}"))
            .hint("is the network up, and does it reach that address?")),
    }
}

/// The first address, or the first of the family that is asked for, or the first of each, as for a door that nothing
/// narrows to one.
pub(super) fn destinations(args: &args::Knock, target: &Target) -> Result<Vec<SocketAddr>, Failure> {
    let Target { host, port, .. } = target;
    let narrowed =
        [args.bind_address, args.source, args.address].iter().any(Option::is_some) || args.save.is_some();
    let door = target.opens == Some(Opens::Door) && !narrowed && !args.ipv4 && !args.ipv6;
    let found: Vec<SocketAddr> = match (host.as_str(), *port).to_socket_addrs() {
        Ok(found) => found.map(folded).collect(),
        Err(error) if target.addresses.is_empty() => {
            return Err(Failure::new(Exit::TryAgain, format!("cannot resolve {host}: {error}")));
        }
        Err(error) => {
            exit::note(&format!("cannot resolve {host} ({error}): its profile knows where it is"));
            target.addresses.iter().map(|address| SocketAddr::new(*address, *port)).collect()
        }
    };
    let v4 = || found.iter().find(|to| to.is_ipv4()).copied();
    let v6 = || found.iter().find(|to| to.is_ipv6()).copied();
    let (chosen, wanted) = match (args.bind_address, args.all_families || door, args.ipv4, args.ipv6) {
        (Some(from), ..) if from.is_ipv4() && args.ipv6 || from.is_ipv6() && args.ipv4 => {
            let what = format!("--bind-address {from} is of the other family than -4 or -6 asks for");
            return Err(Failure::new(Exit::Usage, what));
        }
        (_, true, ..) => (v4().into_iter().chain(v6()).collect(), "address"),
        (_, _, true, _) | (Some(IpAddr::V4(_)), ..) => (Vec::from_iter(v4()), "IPv4 address"),
        (_, _, _, true) | (Some(IpAddr::V6(_)), ..) => (Vec::from_iter(v6()), "IPv6 address"),
        (None, false, false, false) => (found.first().copied().into_iter().collect(), "address"),
    };
    if chosen.is_empty() {
        return Err(Failure::new(Exit::TryAgain, format!("{host} has no {wanted}")));
    }
    Ok(chosen)
}
