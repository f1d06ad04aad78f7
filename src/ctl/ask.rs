//! A question to the running daemon, over its control socket.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::document::Document;
use super::internal;
use crate::control::{self, LINE_MAX, Reply, Request, SOCKET};
use crate::exit::{Exit, Failure};

/// The daemon's answer.
///
/// # Errors
///
/// 75: nobody is there, or too many ask; 77: it is for root.
pub(super) fn ask(document: &Document, request: &Request) -> Result<Reply, Failure> {
    let socket = &folder(document, "runtime_dir", "/run/siglatch").join(SOCKET);
    let line = control::write(request).map_err(|error| internal(&error))?;
    let exchange = || -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&line)?;
        let mut reply = Vec::new();
        stream.take(LINE_MAX as u64).read_to_end(&mut reply)?;
        Ok(reply)
    };
    let reply = exchange().map_err(|error| {
        let what = format!("cannot ask siglatchd at {}: {error}", socket.display());
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let runs =
            "does it run, and with this configuration? its log says `control-failed` if it has no socket";
        Failure::new(Exit::of_io(&error), what).hint(if denied { "run this as root" } else { runs })
    })?;
    if reply.is_empty() {
        return Err(Failure::new(
            Exit::TryAgain,
            "siglatchd hung up: it has too many to answer, or you are not root",
        ));
    }
    control::read(&reply).map_err(|error| internal(&error))
}

/// What it did not do.
pub(super) fn nothing(reply: &Reply) -> Failure {
    let why = match reply {
        Reply::Failed(why) => why,
        Reply::Revoked(_) | Reply::Webhooks(_) => "it answers something else",
    };
    Failure::new(Exit::Internal, format!("siglatchd did nothing: {why}"))
}

/// A folder that the configuration names, relative to it.
pub(super) fn folder(document: &Document, key: &str, default: &str) -> PathBuf {
    document.folder().join(document.text(key).unwrap_or(default))
}

const PATIENCE: Duration = Duration::from_secs(5);
