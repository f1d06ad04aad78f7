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
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::answer::{self, Sent};
use super::args;
use super::target::{Dash, NoTarget, Target, usage};
use super::totp;
use crate::config::files::{self, Existing};
use crate::exit::{self, Exit, Failure};
use crate::sys::{self, ClockSync};
use crate::wire::address::folded;
use crate::wire::invite::Answers;
use crate::wire::options::Options;
use crate::wire::packet::{Knock, Packet, PayloadTooLong};
use crate::wire::stamp::{Postage, Stamper, stamp};
use crate::wire::{BeaconKey, Binding, KnockId, PAYLOAD_MAX, Receipt, StampKey};

/// Runs the command.
pub(super) fn knock(args: &args::Knock) -> ExitCode {
    match prepare(args) {
        Ok((target, payload, binding)) => exit::end(send(args, &target, &payload, binding)),
        Err(NoTarget::Usage(error)) => exit::usage(&error),
        Err(NoTarget::Failure(failure)) => exit::end(Err(failure)),
    }
}

/// Runs `siglatch whoami`: a knock whose answer is all that it is for.
pub(super) fn whoami(args: args::Whoami) -> ExitCode {
    let args::Whoami { profile, action, wait, json } = args;
    knock(&args::Knock { words: vec![profile, action], wait: Some(wait), json, ..args::Knock::default() })
}

fn prepare(args: &args::Knock) -> Result<(Target, Zeroizing<Vec<u8>>, Binding), NoTarget> {
    let (target, dash) = Target::of(args)?;
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
    let payload = payload(&args.payload, dash)?;
    let options = Options { totp: totp::code(args, &target)?, ..Options::default() };
    let joined = options.join(&payload).map_err(|error| {
        Failure::new(Exit::Usage, error.to_string())
            .hint("nothing was sent; send less, or have the action fetch the rest")
    });
    Ok((target, Zeroizing::new(joined?), binding))
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

fn send(args: &args::Knock, target: &Target, payload: &[u8], binding: Binding) -> Result<(), Failure> {
    let destinations = destinations(args, target)?;
    if !args.quiet && sys::clock_sync() == Some(ClockSync::Unsynchronized) {
        exit::note(
            "warning: this machine's clock is not synchronized; a server refuses a knock that is minutes off",
        );
    }
    let total = destinations.len();
    // A knock of its own for each: one challenge sent twice would be a replay.
    let failed: Vec<Failure> = destinations
        .into_iter()
        .filter_map(|to| send_one(args, target, payload, binding, to).err())
        .collect();
    if failed.len() < total {
        failed.iter().for_each(|failure| exit::note(&format!("warning: {}", failure.what)));
        return Ok(());
    }
    super::last_of(failed)
}

/// Signs, seals, stamps and sends one datagram, and says so.
fn send_one(
    args: &args::Knock,
    target: &Target,
    payload: &[u8],
    binding: Binding,
    to: SocketAddr,
) -> Result<(), Failure> {
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
    if !args.quiet && !args.json {
        exit::say(&sent_words(args, target, &knock, binding, (id, to)))?;
    }
    let patience = match (args.wait, target.answers, target.postage) {
        (Some(patience), ..) => patience,
        (None, Answers::Receipt, Postage::Stamped) => WAIT,
        (None, Answers::Receipt | Answers::Nothing, _) => Duration::ZERO,
    };
    let hmac = Packet::decode(&*plain).map(|packet| *packet.hmac).map_err(|error| internal(&error))?;
    let sent = Sent { socket: &socket, to, datagram: &datagram, key: &target.hmac_key, hmac };
    let receipt = if patience.is_zero() { None } else { sent.wait(patience) };
    tell(args, target, (id, to), patience, receipt.as_ref())
}

/// What came of it.
fn tell(
    args: &args::Knock,
    target: &Target,
    (id, to): (KnockId, SocketAddr),
    patience: Duration,
    receipt: Option<&Receipt>,
) -> Result<(), Failure> {
    if args.json {
        let status = match receipt {
            Some(receipt) => receipt.status.to_string(),
            None if patience.is_zero() => "sent".to_owned(),
            None => "no-answer".to_owned(),
        };
        let line = json!({
            "profile": target.label, "action": target.action.number(), "to": to.to_string(),
            "knock": id.to_string(), "status": status,
            "text": receipt.map(|receipt| &receipt.text),
            "seen_from": receipt.map(|receipt| receipt.source.to_string()),
            "lease_seconds": receipt.map(|receipt| receipt.lease_seconds),
            "server_time": receipt.map(|receipt| receipt.server_time),
            "clock_ahead": receipt.map(answer::clock_off),
        });
        exit::say(&format!("{line}\n"))?;
    }
    let Some(receipt) = receipt else {
        return if patience.is_zero() { Ok(()) } else { Err(answer::none(to, patience)) };
    };
    let words = answer::words(&target.what, receipt);
    match answer::exit(receipt.status) {
        Exit::Ok if args.quiet || args.json => Ok(()),
        Exit::Ok => exit::say(&format!("{words}\n")),
        exit @ (Exit::Usage | Exit::Internal | Exit::TryAgain | Exit::Permission | Exit::Config) => {
            Err(Failure::new(exit, words))
        }
    }
}

fn sent_words(
    args: &args::Knock,
    target: &Target,
    knock: &Knock<'_>,
    binding: Binding,
    (id, to): (KnockId, SocketAddr),
) -> String {
    let Knock { timestamp, challenge, payload, .. } = knock;
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
    format!("knocked {label}: {what} as {who} to {to}{bound}, {postage}\n{detail}")
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
    match socket.send_to(datagram, to) {
        Ok(len) if len == datagram.len() => Ok(socket),
        Ok(len) => Err(Failure::new(Exit::Internal, format!("{len} bytes were sent to {to}"))),
        Err(error) => Err(Failure::new(Exit::TryAgain, format!("cannot send to {to}: {error}"))
            .hint("is the network up, and does it reach that address?")),
    }
}

/// The first address, or the first of the family that is asked for, or the first of each.
fn destinations(args: &args::Knock, target: &Target) -> Result<Vec<SocketAddr>, Failure> {
    let Target { host, port, .. } = target;
    let found = (host.as_str(), *port)
        .to_socket_addrs()
        .map_err(|error| Failure::new(Exit::TryAgain, format!("cannot resolve {host}: {error}")))?;
    let found: Vec<SocketAddr> = found.map(folded).collect();
    let v4 = || found.iter().find(|to| to.is_ipv4()).copied();
    let v6 = || found.iter().find(|to| to.is_ipv6()).copied();
    let (chosen, wanted) = match (args.bind_address, args.all_families, args.ipv4, args.ipv6) {
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

/// For the answer of a server that answers.
const WAIT: Duration = Duration::from_secs(2);
