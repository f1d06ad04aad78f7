//! A listener in the hands of an attacker, for tests: it has all that the real one has at that moment.
//!
//! `--misbehave=WHAT` or `--misbehave=WHAT=ARGUMENT`. An attempt that the kernel answered ends the process: with 99 if it
//! succeeded, with 100 and the error number if not.

use std::io;
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::getppid;
use zeroize::Zeroizing;

use crate::channel::{Channel, Lane, Opened, Sent, SocketId, ToKeeper, Under};
use crate::clock;
use crate::wire::{PLAINTEXT_LEN, UserId};

/// Never says that it is ready.
pub(super) fn before_ready() {
    if let Some(("never-ready", _)) = order().as_deref().map(split) {
        hang();
    }
}

/// Everything else.
pub(super) fn after_ready(channel: &Channel) {
    let Some(order) = order() else { return };
    let (what, argument) = split(&order);
    match what {
        "open" => end(std::fs::read(argument).map(drop)),
        "unlink" => end(std::fs::remove_file(argument)),
        "tcp" => end(TcpStream::connect(argument).map(drop)),
        "udp" => {
            end(UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", argument)).map(drop))
        }
        "exec" => end(touch(argument)),
        "kill" => end(kill(getppid(), Signal::SIGKILL).map_err(Into::into)),
        "ptrace" => end(ptrace::seize(getppid(), ptrace::Options::empty()).map_err(Into::into)),
        "abort" => std::process::abort(),
        "hang" => hang(),
        "forge" => say(channel, &ToKeeper::Opened(forged(SocketId(0))).encode()),
        "no-such-socket" => say(channel, &ToKeeper::Opened(forged(SocketId(200))).encode()),
        "ready-again" => say(channel, &ToKeeper::Ready.encode()),
        "malformed" => say(channel, &[99]),
        "flood" => flood(channel, &ToKeeper::Alive.encode()),
        "flood-opened" => flood(channel, &ToKeeper::Opened(forged(SocketId(0))).encode()),
        _ => {}
    }
}

fn order() -> Option<String> {
    std::env::args().find_map(|arg| arg.strip_prefix("--misbehave=").map(str::to_owned))
}

fn split(order: &str) -> (&str, &str) {
    order.split_once('=').unwrap_or((order, ""))
}

#[expect(clippy::disallowed_methods, reason = "an attacker runs no destructors")]
fn end(attempt: io::Result<()>) {
    std::process::exit(match attempt {
        Ok(()) => 99,
        Err(error) => error.raw_os_error().unwrap_or(0).saturating_add(100),
    });
}

#[expect(clippy::disallowed_methods, reason = "an attacker starts what he likes")]
fn touch(path: &str) -> io::Result<()> {
    std::process::Command::new("/bin/touch").arg(path).status().map(drop)
}

fn hang() {
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

fn say(channel: &Channel, message: &[u8]) {
    match channel.send(message, None) {
        Sent::Yes | Sent::Full | Sent::Closed => {}
    }
}

fn flood(channel: &Channel, message: &[u8]) {
    while channel.send_patiently(message, Duration::from_secs(1)) != Sent::Closed {}
}

/// User 1 asks for action 1, as far as one who has no HMAC key can say so.
fn forged(socket: SocketId) -> Opened {
    let mut plaintext = Zeroizing::new([0; PLAINTEXT_LEN]);
    let timestamp = u32::try_from(clock::wall().as_secs()).unwrap_or(0).to_le_bytes();
    let head = [1].into_iter().chain(timestamp).chain([1, 0, 1]);
    plaintext.iter_mut().zip(head).for_each(|(to, from)| *to = from);
    Opened {
        source: ([192, 0, 2, 1], 9).into(),
        local: [127, 0, 0, 1].into(),
        socket,
        lane: Lane::Stamped(UserId(1)),
        under: Under::CURRENT,
        digest: [7; 32],
        plaintext,
    }
}
