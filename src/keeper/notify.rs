//! What the service manager is told: sd_notify(3). Without NOTIFY_SOCKET nobody is told anything. Never blocks.

use std::cell::Cell;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::clock::Now;

/// Tells it.
#[derive(Debug)]
pub(super) struct Notify {
    /// Half of the time in which it wants to hear something.
    every: Option<Duration>,
    /// When (monotonic) it hears from us next.
    next: Duration,
    started: Started,
    failing: Cell<Failing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Started {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failing {
    Yes,
    No,
}

/// Whether both processes do what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Well,
    Unwell,
}

impl Notify {
    pub(super) fn new(now: Now) -> Notify {
        // At least a millisecond: less would spin.
        let half = |time: Duration| time.checked_div(2).unwrap_or(time).max(Duration::from_millis(1));
        let every = sd_notify::watchdog_enabled().map(half);
        Notify { every, next: now.mono, started: Started::No, failing: Cell::new(Failing::No) }
    }

    /// Datagrams are received: the service has started, or, after the first time, is well again.
    pub(super) fn receiving(&mut self, status: &str) {
        match std::mem::replace(&mut self.started, Started::Yes) {
            Started::No => self.tell(&[NotifyState::Ready, NotifyState::Status(status)]),
            Started::Yes => self.status(status),
        }
    }

    /// In a word, for `systemctl status`.
    pub(super) fn status(&self, status: &str) {
        self.tell(&[NotifyState::Status(status)]);
    }

    /// The configuration is read again.
    pub(super) fn reloading(&self) {
        if self.started == Started::Yes
            && let Ok(now) = NotifyState::monotonic_usec_now()
        {
            self.tell(&[NotifyState::Reloading, now]);
        }
    }

    /// It is in force, or the old one stays.
    pub(super) fn reloaded(&self) {
        if self.started == Started::Yes {
            self.tell(&[NotifyState::Ready]);
        }
    }

    pub(super) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// The loop turns. Whether the watchdog hears of it is up to the listener's health too.
    pub(super) fn turn(&mut self, now: Now, health: Health) {
        let Some(every) = self.every else { return };
        if now.mono >= self.next {
            self.next = now.mono.saturating_add(every);
            match health {
                Health::Well => self.tell(&[NotifyState::Watchdog]),
                Health::Unwell => {}
            }
        }
    }

    /// When (monotonic) the loop has to turn for it.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.every.map(|_| self.next)
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let failing = match send(states) {
            Ok(()) => Failing::No,
            Err(error) => {
                if self.failing.get() == Failing::No {
                    log::warn!(code = "notify-failed", error:%; "the service manager cannot be told how siglatchd is");
                }
                Failing::Yes
            }
        };
        self.failing.set(failing);
    }
}

/// As sd_notify(3), which would wait for a service manager that doesn't read.
fn send(states: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(lines.as_bytes(), &address).map(drop)
}
