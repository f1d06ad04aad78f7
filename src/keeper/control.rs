//! The control socket: `siglatchctl` asks, the keeper answers.
//!
//! In: connections to `control.sock` in `runtime_dir`. Out: requests, one a connection, and their replies. Never: a
//! blocking call.
//!
//! # Security considerations
//!
//! Whoever may ask can end leases. So the socket (0600) is in a folder (0700) that only its owner can enter, and only root
//! and the daemon's own user are heard, whatever became of the modes. What they say is bounded in length, number and
//! time all the same.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use nix::unistd::geteuid;
use rustix::net::sockopt::socket_peercred;

use crate::clock::Now;
use crate::control::{self, LINE_MAX, Reply, Request, SOCKET};

/// Tokens that it uses, from its first.
pub(super) const TOKENS: usize = CONNECTIONS + 1;

/// The daemon's end.
#[derive(Debug)]
pub(super) struct Control {
    registry: Registry,
    first_token: usize,
    path: PathBuf,
    listener: UnixListener,
    connections: [Option<Connection>; CONNECTIONS],
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    line: Vec<u8>,
    /// When (monotonic) it is given up.
    until: Duration,
}

impl Control {
    /// Opens the socket in `folder`, which is made if it is missing; its parent must exist.
    ///
    /// # Errors
    ///
    /// In the words that the log is told.
    pub(super) fn open(registry: Registry, first_token: usize, folder: &Path) -> Result<Control, String> {
        let path = folder.join(SOCKET);
        let fail = |error: io::Error| format!("{}: {error}", path.display());
        enter(folder)?;
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(format!(
                "{}: is another siglatchd's; give each a `runtime_dir` of its own",
                path.display()
            ));
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(fail(error)),
            Ok(()) | Err(_) => {}
        }
        let mut listener = UnixListener::bind(&path).map_err(fail)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(fail)?;
        registry.register(&mut listener, Token(first_token), Interest::READABLE).map_err(fail)?;
        Ok(Control { registry, first_token, path, listener, connections: Default::default() })
    }

    /// Something of this socket is ready; tokens that are not its own are ignored. `answer` carries out requests.
    pub(super) fn ready(&mut self, now: Now, token: Token, answer: impl FnMut(Request) -> Reply) {
        match token.0.checked_sub(self.first_token) {
            Some(0) => self.accept(now),
            Some(at) => self.read(at.saturating_sub(1), answer),
            None => {}
        }
    }

    /// Gives up those that say nothing.
    pub(super) fn due(&mut self, now: Now) {
        for place in &mut self.connections {
            place.take_if(|connection| connection.until <= now.mono);
        }
    }

    /// When (monotonic) [`Control::due`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.connections.iter().flatten().map(|connection| connection.until).min()
    }

    fn accept(&mut self, now: Now) {
        // Until there is nobody: readiness is told once. Who finds no place, or has no business here, is hung up on.
        while let Ok((mut stream, _)) = self.listener.accept() {
            let places = self.connections.iter_mut().zip(self.first_token.saturating_add(1)..);
            let Some((place, token)) = places.into_iter().find(|(place, _)| place.is_none()) else {
                continue;
            };
            if may_ask(&stream)
                && self.registry.register(&mut stream, Token(token), Interest::READABLE).is_ok()
            {
                *place = Some(Connection { stream, line: Vec::new(), until: now.mono.saturating_add(IDLE) });
            }
        }
    }

    fn read(&mut self, at: usize, mut answer: impl FnMut(Request) -> Reply) {
        let Some(place) = self.connections.get_mut(at) else {
            return;
        };
        let Some(connection) = place else {
            return;
        };
        let reply = match connection.line() {
            Line::Part => return,
            Line::Gone => None,
            Line::TooLong => Some(Reply::Failed(format!("a line has at most {LINE_MAX} bytes"))),
            Line::Whole(line) => Some(match control::read(line) {
                Ok(request) => answer(request),
                Err(bad) => Reply::Failed(bad.to_string()),
            }),
        };
        if let Some(line) = reply.and_then(|reply| control::write(&reply).ok()) {
            // It fits into the empty buffer of a socket; who is gone meanwhile wants no reply.
            connection.stream.write_all(&line).unwrap_or_default();
        }
        *place = None;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // What is left is known by that nobody answers, and taken away by the next daemon.
        std::fs::remove_file(&self.path).unwrap_or_default();
    }
}

enum Line<'a> {
    /// More is to come.
    Part,
    Whole(&'a [u8]),
    TooLong,
    /// Nothing more will come.
    Gone,
}

impl Connection {
    fn line(&mut self) -> Line<'_> {
        let mut buffer = [0; LINE_MAX];
        while self.line.len() < LINE_MAX && !self.line.contains(&b'\n') {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Line::Gone,
                Ok(len) => self.line.extend(buffer.get(..len).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Line::Part,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Line::Gone,
            }
        }
        let first = self.line.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
        if first.ends_with(b"\n") && first.len() <= LINE_MAX { Line::Whole(first) } else { Line::TooLong }
    }
}

fn enter(folder: &Path) -> Result<(), String> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(format!("{}: cannot make the folder: {error}", folder.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let meta = folder.symlink_metadata().map_err(|error| format!("{}: {error}", folder.display()))?;
    if !meta.is_dir() || meta.uid() != geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        let (folder, me) = (folder.display(), geteuid());
        return Err(format!(
            "{folder}: is not a folder of uid {me} alone: chown {me} {folder}; chmod 700 {folder}"
        ));
    }
    Ok(())
}

/// Root, or who runs the daemon.
fn may_ask(stream: &UnixStream) -> bool {
    socket_peercred(stream).is_ok_and(|peer| peer.uid.is_root() || peer.uid.as_raw() == geteuid().as_raw())
}

/// At once.
const CONNECTIONS: usize = 8;

/// So long a connection has for its line.
const IDLE: Duration = Duration::from_secs(5);
