//! The control socket: administrators ask, the keeper answers.
//!
//! In: connections to `control.sock` in `runtime_dir`, and to a loopback port if the configuration has one. Out: requests that an
//! enrolled administrator has signed, and their replies. Never: a blocking call.
//!
//! # Security considerations
//!
//! The socket is in a folder that only its owner (and one group, if the configuration names it) can enter, and its mode is right
//! from its first moment. Over it only root, the daemon's own user and that group are heard; over TCP, where nobody knows who
//! speaks, a token is asked for before anything is said, and who has not shown it takes nobody's place. What is asked has to be signed all the same. Whoever says nothing, or too much, or
//! does not read, has one of a few places, and loses it to the next who comes.

mod connection;

use std::collections::BTreeSet;
use std::fs::{DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::{TcpListener, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;
use rustix::net::sockopt::socket_peercred;

use super::cannot;
use crate::clock::Now;
use crate::config::Config;
use crate::config::resolved;
use crate::control::nonces::Nonces;
use crate::control::sign::Asked;
use crate::control::{Hello, Hex, Reply, SOCKET, VERSION};
use crate::exit::{Exit, Failure};
use crate::work::Drained;
use connection::{Connection, Over, Stream};

/// Tokens that it uses, from its first.
pub(super) const TOKENS: usize = CONNECTIONS + 2;

/// The daemon's end.
#[derive(Debug)]
pub(super) struct Control {
    registry: Registry,
    first_token: usize,
    path: PathBuf,
    group: Option<u32>,
    unix: UnixListener,
    tcp: Option<TcpListener>,
    /// Who has somebody at the door that was not let in yet.
    waiting: Waiting,
    /// When (monotonic) the next ones of TCP are.
    tcp_at: Duration,
    server_id: Hex<16>,
    nonces: Nonces,
    connections: [Option<Connection>; CONNECTIONS],
    /// Those that have more to say than fits into one wake.
    unread: BTreeSet<usize>,
    /// Connections so far.
    accepted: u64,
}

/// Where somebody may still wait to be accepted: readiness is told once.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    unix: bool,
    tcp: bool,
}

/// Who waits for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    place: usize,
    connection: u64,
}

impl Control {
    /// Opens what the configuration says; the folder is made if it is missing, its parent must exist.
    ///
    /// # Errors
    ///
    /// Another siglatchd answers there, or the socket cannot be made.
    pub(super) fn open(registry: Registry, first_token: usize, config: &Config) -> Result<Control, Failure> {
        let path = config.runtime_dir.join(SOCKET);
        let group = config.control.group;
        enter(&config.runtime_dir, group)?;
        let mut unix = bind(&path, group)?;
        let tcp = config.control.tcp.as_ref().map(|tcp| listen(tcp.listen)).transpose()?;
        let io = |error: io::Error| cannot("watch the control socket", &error);
        registry.register(&mut unix, Token(first_token), Interest::READABLE).map_err(io)?;
        let mut control = Control {
            registry,
            first_token,
            path,
            group,
            unix,
            tcp,
            waiting: Waiting::default(),
            tcp_at: Duration::ZERO,
            server_id: Hex(config.server_id.map_or([0; 16], |id| id.0)),
            nonces: Nonces::default(),
            connections: Default::default(),
            unread: BTreeSet::new(),
            accepted: 0,
        };
        if let Some(tcp) = &mut control.tcp {
            let token = Token(first_token.saturating_add(1));
            control.registry.register(tcp, token, Interest::READABLE).map_err(io)?;
        }
        Ok(control)
    }

    /// Something of this socket is ready; tokens that are not its own are ignored. `serve` carries out a request, and answers at
    /// once or by [`Control::answer`].
    pub(super) fn ready(
        &mut self,
        now: Now,
        token: Token,
        config: &resolved::Control,
        mut serve: impl FnMut(Ticket, Asked) -> Option<Reply>,
    ) {
        match token.0.checked_sub(self.first_token) {
            Some(0) => self.waiting.unix = true,
            Some(1) => self.waiting.tcp = true,
            Some(at) => self.turn(now, at.saturating_sub(2), config, &mut serve),
            None => {}
        }
    }

    /// Whether somebody has more to say than was heard: [`Control::hear`] it.
    pub(super) fn more(&self) -> Drained {
        if self.unread.is_empty() && !self.waiting.unix { Drained::All } else { Drained::More }
    }

    /// Lets in who waits, and hears on those that were cut short.
    pub(super) fn hear(
        &mut self,
        now: Now,
        config: &resolved::Control,
        mut serve: impl FnMut(Ticket, Asked) -> Option<Reply>,
    ) {
        self.accept_unix(now, config, &mut serve);
        self.accept_tcp(now, config, &mut serve);
        for at in self.unread.clone() {
            self.turn(now, at, config, &mut serve);
        }
    }

    /// The reply to a request that took time.
    pub(super) fn answer(
        &mut self,
        now: Now,
        ticket: Ticket,
        reply: &Reply,
        config: &resolved::Control,
        mut serve: impl FnMut(Ticket, Asked) -> Option<Reply>,
    ) {
        if let Some(Some(connection)) = self.connections.get_mut(ticket.place)
            && connection.id == ticket.connection
        {
            connection.answer(now, reply);
            self.turn(now, ticket.place, config, &mut serve);
        }
    }

    /// Gives up those that say nothing, or do not read.
    pub(super) fn due(&mut self, now: Now) {
        for place in &mut self.connections {
            place.take_if(|connection| connection.until <= now.mono);
        }
    }

    /// When (monotonic) [`Control::due`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let tcp_at = self.waiting.tcp.then_some(self.tcp_at);
        self.connections.iter().flatten().map(|connection| connection.until).chain(tcp_at).min()
    }

    fn accept_unix(
        &mut self,
        now: Now,
        config: &resolved::Control,
        serve: &mut impl FnMut(Ticket, Asked) -> Option<Reply>,
    ) {
        for _ in 0..BUDGET {
            if !self.waiting.unix {
                return;
            }
            match self.unix.accept() {
                Ok((stream, _)) if may_ask(&stream, self.group) => {
                    self.take(now, Stream::Unix(stream), config, serve);
                }
                Ok(_) => {}
                Err(_) => self.waiting.unix = false,
            }
        }
    }

    fn accept_tcp(
        &mut self,
        now: Now,
        config: &resolved::Control,
        serve: &mut impl FnMut(Ticket, Asked) -> Option<Reply>,
    ) {
        if now.mono < self.tcp_at {
            return;
        }
        for _ in 0..BUDGET {
            match self.tcp.as_ref().filter(|_| self.waiting.tcp).map(TcpListener::accept) {
                Some(Ok((stream, _))) => self.take(now, Stream::Tcp(stream), config, serve),
                Some(Err(_)) => self.waiting.tcp = false,
                None => return,
            }
        }
        // Whoever can reach the port may knock there without end: it is no more than so many a second.
        self.tcp_at = now.mono.saturating_add(PAUSE);
    }

    /// Gives it a place: a free one, or that of who has been idle for longest, those first who have not shown the token. Of these there
    /// are few, and none of them takes the place of who has a right to it.
    fn take(
        &mut self,
        now: Now,
        stream: Stream,
        config: &resolved::Control,
        serve: &mut impl FnMut(Ticket, Asked) -> Option<Reply>,
    ) {
        let is_stranger = |place: &Option<Connection>| place.as_ref().is_some_and(Connection::is_unknown);
        let strangers = self.connections.iter().filter(|place| is_stranger(place)).count();
        let rank = |place: &Option<Connection>| match (place, &stream) {
            (None, Stream::Tcp(_)) if strangers >= STRANGERS => None,
            (None, _) => Some((0, Duration::ZERO)),
            (Some(connection), _) if connection.is_unknown() => Some((1, connection.until)),
            (Some(connection), Stream::Unix(_)) if connection.is_idle() => Some((2, connection.until)),
            (Some(_), _) => None,
        };
        let places = self.connections.iter().enumerate();
        let Some((_, at)) = places.filter_map(|(at, place)| Some((rank(place)?, at))).min() else {
            return;
        };
        self.accepted = self.accepted.saturating_add(1);
        let hello = Hello {
            siglatch: VERSION.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            server_id: self.server_id,
            hello: Hex(rand::random()),
        };
        let mut connection = Connection::new(now, stream, hello, self.accepted);
        let token = Token(self.first_token.saturating_add(2).saturating_add(at));
        if let Some(place) = self.connections.get_mut(at) {
            // Closed before the new one is registered.
            *place = None;
            if connection.register(&self.registry, token).is_ok() {
                *place = Some(connection);
                self.turn(now, at, config, serve);
            }
        }
    }

    fn turn(
        &mut self,
        now: Now,
        at: usize,
        config: &resolved::Control,
        serve: &mut impl FnMut(Ticket, Asked) -> Option<Reply>,
    ) {
        let Some(place) = self.connections.get_mut(at) else { return };
        let Some(connection) = place else {
            self.unread.remove(&at);
            return;
        };
        let ticket = Ticket { place: at, connection: connection.id };
        let nonces = &mut self.nonces;
        match connection.turn(now, config, nonces, |asked| serve(ticket, asked)) {
            Ok(Drained::All) => drop(self.unread.remove(&at)),
            Ok(Drained::More) => drop(self.unread.insert(at)),
            Err(Over) => {
                *place = None;
                self.unread.remove(&at);
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // What is left is known by that nobody answers, and taken away by the next daemon.
        std::fs::remove_file(&self.path).unwrap_or_default();
    }
}

fn bind(path: &Path, group: Option<u32>) -> Result<UnixListener, Failure> {
    let fail = |error: io::Error| cannot(&format!("open {}", path.display()), &error);
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let what = format!("{}: another siglatchd answers there", path.display());
        return Err(Failure::new(Exit::Config, what).hint("stop it, or give each a `runtime_dir` of its own"));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(fail(error)),
        Ok(()) | Err(_) => {}
    }
    // Nobody can connect before its mode is right. What other threads make meanwhile is for its owner alone, too.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let bound = bound.map_err(fail)?;
    if group.is_some() {
        std::os::unix::fs::chown(path, None, group).map_err(fail)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(fail)?;
    }
    Ok(bound)
}

fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|error| {
        cannot(&format!("listen on {address}"), &error)
            .hint("see `control.listen`; `ss -tlnp` says who has the port")
    })
}

fn enter(folder: &Path, group: Option<u32>) -> Result<(), Failure> {
    let fail = |error: &io::Error| cannot(&format!("use {}", folder.display()), error);
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(cannot(&format!("make the folder {}", folder.display()), &error));
        }
        Ok(()) | Err(_) => {}
    }
    let meta = folder.symlink_metadata().map_err(|error| fail(&error))?;
    // A group may have been let in before, to pass through it.
    let others = if group.is_some() { 0o007 } else { 0o067 };
    if !meta.is_dir() || meta.uid() != geteuid().as_raw() || meta.mode() & others != 0 {
        let (folder, me) = (folder.display(), geteuid());
        let what = format!("{folder}: is not a folder of uid {me} alone");
        return Err(Failure::new(Exit::Config, what)
            .hint("name one in `runtime_dir` that is not there yet: siglatchd makes it for itself"));
    }
    let mode = if group.is_some() { 0o710 } else { 0o700 };
    if group.is_some() {
        std::os::unix::fs::chown(folder, None, group).map_err(|error| fail(&error))?;
    }
    std::fs::set_permissions(folder, Permissions::from_mode(mode)).map_err(|error| fail(&error))
}

/// Root, who runs the daemon, or whoever the modes let in if that is a group.
fn may_ask(stream: &UnixStream, group: Option<u32>) -> bool {
    let known = |uid: rustix::fs::Uid| uid.is_root() || uid.as_raw() == geteuid().as_raw();
    socket_peercred(stream).is_ok_and(|peer| group.is_some() || known(peer.uid))
}

/// At once.
const CONNECTIONS: usize = 16;

/// Of these, over TCP and without the token yet.
const STRANGERS: usize = 4;

/// Newcomers per wake.
const BUDGET: usize = 16;

/// Between so many and the next, over TCP.
const PAUSE: Duration = Duration::from_millis(20);
