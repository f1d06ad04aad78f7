//! The near end of the FIFO into which the script (`arrived.c`) writes.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nix::sys::stat::Mode;

use crate::{Try, clock};

/// A script ran.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Which.
    pub(crate) token: u32,
    /// When its first instruction did, by [`clock::nanos`].
    pub(crate) at: u64,
}

/// All arrivals, in order.
pub(crate) struct Arrivals {
    /// What the script is told as its first argument.
    pub(crate) fifo: PathBuf,
    receiver: Receiver<Arrival>,
}

impl Arrivals {
    /// Makes the FIFO, for scripts of any user, and a thread that reads it.
    pub(crate) fn new(dir: &Path) -> Try<Arrivals> {
        let fifo = dir.join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::empty())?;
        std::fs::set_permissions(&fifo, std::os::unix::fs::PermissionsExt::from_mode(0o622))?;
        // Open for writing too: it has no end while it has a writer.
        let file = OpenOptions::new().read(true).write(true).open(&fifo)?;
        let (sender, receiver) = channel();
        std::thread::spawn(move || read(file, &sender));
        Ok(Arrivals { fifo, receiver })
    }

    /// The next arrival, if there is one before `deadline`.
    pub(crate) fn before(&self, deadline: u64) -> Option<Arrival> {
        let left = deadline.saturating_sub(clock::nanos());
        self.receiver.recv_timeout(Duration::from_nanos(left)).ok()
    }

    /// This one, if it comes before `deadline`; others are thrown away.
    pub(crate) fn of(&self, token: u32, deadline: u64) -> Option<Arrival> {
        std::iter::from_fn(|| self.before(deadline)).find(|arrival| arrival.token == token)
    }
}

fn read(mut fifo: File, sender: &Sender<Arrival>) {
    let mut buffer = [0; RECORD * 64];
    // A write of one record is atomic, so only whole records are read.
    while let Ok(length) = fifo.read(&mut buffer) {
        for record in buffer[..length].chunks_exact(RECORD) {
            if let Some(arrival) = decode(record)
                && sender.send(arrival).is_err()
            {
                return;
            }
        }
    }
}

fn decode(record: &[u8]) -> Option<Arrival> {
    let (at, token) = record.split_first_chunk()?;
    let token = std::str::from_utf8(token).ok()?.trim_end_matches('\0').parse().ok()?;
    Some(Arrival { token, at: u64::from_ne_bytes(*at) })
}

/// Nanoseconds and token.
const RECORD: usize = 32;
