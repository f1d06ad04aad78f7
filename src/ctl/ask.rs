//! Questions to the running daemon, signed, over its control socket.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use super::admin;
use super::args::Way;
use super::document::Document;
use super::{internal, random};
use crate::clock;
use crate::config::files::{self, Secrecy};
use crate::control::sign::sign;
use crate::control::{self, Bearer, Hello, Hex, REPLY_MAX, Refused, Reply, Request, SOCKET, Signed, VERSION};
use crate::exit::{Exit, Failure};
use crate::wire::ServerId;

/// A connection to the daemon, and in whose name it is used.
pub(super) struct Daemon {
    stream: BufReader<Stream>,
    hello: Hello,
    admin: String,
    key: SigningKey,
}

/// One question.
///
/// # Errors
///
/// 75: nobody is there, or too many ask; 77: it is not for who asks; 78: no key to sign with.
pub(super) fn ask(way: &Way, request: &Request) -> Result<Reply, Failure> {
    Daemon::connect(way)?.ask(request)
}

impl Daemon {
    /// Connects, and hears the daemon's first line.
    ///
    /// # Errors
    ///
    /// As [`ask`].
    pub(super) fn connect(way: &Way) -> Result<Daemon, Failure> {
        let (at, admin, key, server) = signer(way)?;
        let mut stream = at.connect().map_err(|error| unreachable(&at, &error))?;
        let hello: Hello = stream.hear().map_err(|error| unreachable(&at, &error))?;
        if hello.siglatch != VERSION {
            let what = format!("siglatchd {} speaks {}, not {VERSION}", hello.version, hello.siglatch);
            return Err(Failure::new(Exit::Config, what).hint("use the siglatchctl of its version"));
        }
        if let Some(server) = server.filter(|server| hello.server_id != Hex(server.0)) {
            let what =
                format!("who answers is server {}, and the configuration is {server}'s", hello.server_id);
            return Err(Failure::new(Exit::Permission, what)
                .hint("nothing was asked: see --config, --socket and --tcp"));
        }
        Ok(Daemon { stream, hello, admin, key })
    }

    /// The daemon's version.
    pub(super) fn version(&self) -> &str {
        &self.hello.version
    }

    /// One question of several.
    ///
    /// # Errors
    ///
    /// As [`ask`].
    pub(super) fn ask(&mut self, request: &Request) -> Result<Reply, Failure> {
        let signed = Signed {
            admin: self.admin.clone(),
            nonce: Hex(random()?),
            at: clock::wall().as_secs().to_string(),
            request: request.clone(),
        };
        let envelope = sign(&signed, &self.hello, &self.key).map_err(|error| internal(&error))?;
        let line = control::write(&envelope).map_err(|error| internal(&error))?;
        let lost = |error: io::Error| {
            Failure::new(Exit::TryAgain, format!("siglatchd hung up: {error}"))
                .hint("it may have been stopped, or have too many to answer: try again")
        };
        self.stream.get_mut().write_all(&line).map_err(lost)?;
        let reply = self.stream.hear().map_err(lost)?;
        if let Reply::Refused(refused) = &reply {
            return Err(refusal(refused, &self.admin));
        }
        Ok(reply)
    }
}

/// What it did not do.
pub(super) fn nothing(reply: &Reply) -> Failure {
    match reply {
        Reply::Failed(why) => Failure::new(Exit::Config, why),
        Reply::Refused(_)
        | Reply::Status(_)
        | Reply::Revoked(_)
        | Reply::Webhooks(_)
        | Reply::Reloaded { .. }
        | Reply::Set(_)
        | Reply::Explained(_) => Failure::new(Exit::Internal, "siglatchd answers something else"),
    }
}

/// A folder that the configuration names, relative to it.
pub(super) fn folder(document: &Document, key: &str, default: &str) -> PathBuf {
    document.folder().join(document.text(key).unwrap_or(default))
}

/// Where the daemon is, and who asks with which key.
fn signer(way: &Way) -> Result<(Place, String, SigningKey, Option<ServerId>), Failure> {
    let told = match (&way.tcp, &way.token, &way.socket) {
        (Some(address), Some(token), _) => Some(Place::Tcp(*address, self::token(token)?)),
        (_, _, Some(socket)) => Some(Place::Unix(socket.clone())),
        (_, _, None) => None,
    };
    if let (Some(place), Some(admin), Some(key)) = (&told, &way.admin, &way.admin_key) {
        // Who asks from elsewhere need not be able to read the configuration.
        return Ok((place.clone(), admin.to_string(), admin::read(key)?, None));
    }
    let document = Document::open(&way.config).map_err(|failure| match failure.hint {
        None => failure.hint("with --socket, --as and --admin-key none is read"),
        Some(_) => failure,
    })?;
    let place =
        told.unwrap_or_else(|| Place::Unix(folder(&document, "runtime_dir", "/run/siglatch").join(SOCKET)));
    let (key, file) = admin::own(&document, way.admin_key.as_deref())?;
    let name = match &way.admin {
        Some(name) => name.to_string(),
        None => admin::name_of(&document, &key, &file)?,
    };
    let server = document.text("server_id").and_then(ServerId::parse);
    Ok((place, name, key, server))
}

fn token(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let bytes = files::read(file, Secrecy::Secret, 1024)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| internal(&error))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

#[derive(Clone)]
enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr, Zeroizing<String>),
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Place {
    fn connect(&self) -> io::Result<BufReader<Stream>> {
        let stream = match self {
            Place::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Stream::Unix(stream)
            }
            Place::Tcp(address, token) => {
                let mut stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                let bearer = control::write(&Bearer { token: token.to_string() });
                stream.write_all(&Zeroizing::new(bearer.map_err(io::Error::other)?))?;
                Stream::Tcp(stream)
            }
        };
        Ok(BufReader::new(stream))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Unix(path) => path.display().fmt(f),
            Place::Tcp(address, _) => address.fmt(f),
        }
    }
}

trait Hear {
    fn hear<T: serde::de::DeserializeOwned>(&mut self) -> io::Result<T>;
}

impl Hear for BufReader<Stream> {
    fn hear<T: serde::de::DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut line = Vec::new();
        self.take(REPLY_MAX as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "nothing was said"));
        }
        control::read(&line).map_err(io::Error::other)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unreachable(at: &Place, error: &io::Error) -> Failure {
    let what = format!("cannot ask siglatchd at {at}: {error}");
    let hint = match (error.kind(), at) {
        (io::ErrorKind::PermissionDenied, _) => "run this as root",
        (io::ErrorKind::UnexpectedEof, Place::Unix(_)) => "it has too many to answer, or you are not root",
        (io::ErrorKind::UnexpectedEof, Place::Tcp(..)) => "it has too many to answer, or another token",
        (_, _) => "does it run, and with this configuration?",
    };
    Failure::new(Exit::of_io(error), what).hint(hint)
}

fn refusal(refused: &Refused, admin: &str) -> Failure {
    let what = format!("siglatchd refuses: {refused}");
    match refused {
        Refused::NotSigned => Failure::new(Exit::Permission, what).hint(format!(
            "it knows no `{admin}` with this key: was he added since it read its configuration? siglatchctl reload, or send it SIGHUP"
        )),
        Refused::Role { .. } => {
            Failure::new(Exit::Permission, what).hint("somebody with that role can ask, or give it to you in [admins]")
        }
        Refused::Stale(_) => Failure::new(Exit::TryAgain, what).hint("set the clocks"),
        Refused::Replayed | Refused::TooMany => Failure::new(Exit::TryAgain, what),
        Refused::Malformed(_) => {
            Failure::new(Exit::Internal, what).hint("is it of another version? siglatchctl version")
        }
    }
}

/// For a reply; a configuration may take long to read.
const PATIENCE: Duration = Duration::from_secs(30);
