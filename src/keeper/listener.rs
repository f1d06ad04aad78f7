//! The listener, as its keeper has it: started, told, heard, held to its word, and replaced.
//!
//! In: sockets, the configuration, the time. Out: what it says, as far as one may listen; scripts know nothing of it.
//!
//! # Security considerations
//!
//! Whatever reads from the network may be in an attacker's hands. A message that is malformed, comes at a moment when no
//! listener of ours says it, names a socket that it was not given, or is one more than honest workers could send, ends
//! it, and so does silence. It is ended with SIGKILL, and another takes its place only when it is reaped. A new one
//! comes at once at first, then later and later, so that who can end it writes few lines to the log.

mod child;
mod ear;
mod health;
mod outbox;
mod up;

use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Child;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Registry, Token};

use self::health::Backoff;
use self::up::Up;
use crate::channel::{Counts, Opened, RefusedFrom, Reply, Sent, Takes};
use crate::clock::Now;
use crate::config::Config;
use crate::control::status;
use crate::exit::Failure;
use crate::sys;
use crate::work::Drained;

pub(super) use child::{FLAG, main};
#[cfg(feature = "fuzzing")]
pub(super) use ear::Ear;
pub(super) use health::Judged;
#[cfg(feature = "fuzzing")]
pub(crate) use up::limits;

/// The one that runs, and the sockets that each of them gets.
pub(super) struct Listener {
    registry: Registry,
    token: Token,
    sockets: Vec<(UdpSocket, Takes)>,
    state: State,
    wanted: Wanted,
    backoff: Backoff,
    /// How many were started.
    started: u64,
    readied: Readied,
}

/// What may be listened to.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every message is the large one, and it lives briefly on the stack"
)]
pub(super) enum Said {
    /// It was opened.
    Opened(Opened),
    /// So much was refused.
    Counts(Counts),
    /// It came from there.
    Sources(Vec<RefusedFrom>),
    /// It receives from here on; the first since the start, or another.
    Ready(Readied),
    /// Nothing that would be anybody else's business.
    Alive,
    /// Nothing more for now.
    Nothing,
}

/// Whether a listener was ever ready: without one the daemon has not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readied {
    Never,
    Before,
}

/// What became of the listener since it was last looked after.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// It is gone.
    Lost,
    /// Another begins, and counts from zero.
    Started,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Running,
    Stopped,
}

enum State {
    Up(Box<Up>),
    /// Killed or gone, and not reaped yet.
    Ending(Ending),
    /// Until then there is none.
    Down(Duration),
    /// There will be none any more.
    Over,
}

struct Ending {
    child: Child,
    loss: Loss,
    lived: Duration,
    /// When it has had its time to end by itself.
    kill_at: Duration,
}

/// Why one is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It closed its end.
    Ended,
    Malformed,
    Flood,
    Silent,
}

impl Listener {
    /// None runs yet: the first [`tend`](Self::tend) starts it.
    pub(super) fn new(registry: Registry, token: Token, sockets: Vec<(UdpSocket, Takes)>) -> Listener {
        Listener {
            registry,
            token,
            sockets,
            state: State::Down(Duration::ZERO),
            wanted: Wanted::Running,
            backoff: Backoff::default(),
            started: 0,
            readied: Readied::Never,
        }
    }

    /// The next message.
    pub(super) fn hear(&mut self, now: Now) -> Said {
        let State::Up(up) = &mut self.state else {
            return Said::Nothing;
        };
        match up.ear.hear(now, self.sockets.len()) {
            Ok(Said::Ready(_)) => Said::Ready(std::mem::replace(&mut self.readied, Readied::Before)),
            Ok(said) => said,
            Err(loss) => {
                self.lose(now, loss);
                Said::Nothing
            }
        }
    }

    /// Ends one that hangs, reaps, starts another. To be called when all was heard that there was to hear, or else with
    /// [`Drained::More`].
    ///
    /// # Errors
    ///
    /// [`Failure`] when there never was one that was ready: it is of no use to try again.
    pub(super) fn tend(&mut self, now: Now, config: &Config, drained: Drained) -> Result<Change, Failure> {
        if let State::Up(up) = &mut self.state {
            up.send(&self.registry, self.token, &self.sockets);
            if up.ear.judge(now, drained) == Judged::Silent {
                self.lose(now, Loss::Silent);
            }
        }
        match self.state {
            State::Ending(_) => self.reap(now),
            State::Down(_) if self.wanted == Wanted::Stopped => {
                self.state = State::Over;
                Ok(Change::None)
            }
            State::Down(again_at) if now.mono >= again_at => self.start(now, config),
            State::Up(_) | State::Down(_) | State::Over => Ok(Change::None),
        }
    }

    /// When (monotonic) [`tend`](Self::tend) has something to do, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        match &self.state {
            State::Up(up) => Some(up.ear.due()),
            State::Down(again_at) => Some(*again_at),
            State::Ending(ending) => Some(ending.kill_at),
            State::Over => None,
        }
    }

    /// Whether datagrams are received, as far as one can know.
    pub(super) fn is_well(&self) -> bool {
        matches!(&self.state, State::Up(up) if up.ear.is_ready())
    }

    /// Whether one ever received.
    pub(super) fn has_begun(&self) -> bool {
        matches!(self.readied, Readied::Before)
    }

    /// As administrators are shown it.
    pub(super) fn status(&self, now: Now) -> status::Listener {
        let silent = match &self.state {
            State::Up(up) => up.ear.silent(now),
            State::Ending(_) | State::Down(_) | State::Over => Duration::ZERO,
        };
        status::Listener {
            well: self.is_well(),
            restarts: self.started.saturating_sub(1),
            silent: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Whether there is none, and will be none.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// After a reload: whatever differs for it.
    pub(super) fn reload(&mut self, old: &Config, new: &Config) {
        if let State::Up(up) = &mut self.state {
            up.reload(old, new);
            // An answer about it finds room behind it.
            up.send(&self.registry, self.token, &self.sockets);
        }
    }

    /// Somebody knocked well from there. It is no loss if that isn't heard.
    pub(super) fn settled(&self, source: IpAddr) {
        if let State::Up(up) = &self.state {
            up.settled(source);
        }
    }

    /// An answer to be sent.
    pub(super) fn reply(&self, reply: Reply) -> Sent {
        match &self.state {
            State::Up(up) => up.reply(reply),
            State::Ending(_) | State::Down(_) | State::Over => Sent::Closed,
        }
    }

    /// Datagrams that the kernel has dropped in front of its sockets, modulo 2^32.
    pub(super) fn drops(&self) -> u32 {
        self.sockets.iter().filter_map(|(socket, _)| sys::drops(socket)).fold(0, u32::wrapping_add)
    }

    /// Lets it finish what it has, and starts no other.
    pub(super) fn stop(&mut self, now: Now) {
        self.wanted = Wanted::Stopped;
        if let State::Up(up) = &mut self.state {
            up.stop(now);
        }
    }

    /// Ends the last one, and gives the sockets back as they came, without its filters.
    pub(super) fn give_back(&mut self) {
        self.end();
        for (socket, _) in &self.sockets {
            // There need not be any.
            socket2::SockRef::from(socket).detach_filter().ok();
            sys::leave_choice(socket).ok();
        }
    }

    fn end(&mut self) {
        let mut child = match std::mem::replace(&mut self.state, State::Over) {
            State::Up(up) => up.child,
            State::Ending(ending) => ending.child,
            State::Down(_) | State::Over => return,
        };
        child::kill(&mut child);
        drop(child.wait());
    }

    fn start(&mut self, now: Now, config: &Config) -> Result<Change, Failure> {
        self.started = self.started.saturating_add(1);
        match Up::start(now, config, self.started, (&self.registry, self.token), &self.sockets) {
            Ok(up) => {
                self.state = State::Up(Box::new(up));
                Ok(Change::Started)
            }
            Err(failure) if self.readied == Readied::Never => Err(failure),
            Err(Failure { exit: _, what, hint }) => {
                let wait = self.backoff.next(Duration::ZERO);
                let (hint, again) = (hint.unwrap_or_default(), seconds(wait));
                log::error!(code = "listener-failed", what, hint, again; "the listener cannot be started");
                self.state = State::Down(now.mono.saturating_add(wait));
                Ok(Change::None)
            }
        }
    }

    fn lose(&mut self, now: Now, loss: Loss) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Up(up) => {
                let Up { mut child, ear, since, .. } = *up;
                // What is left in there is nobody's any more.
                self.registry.deregister(&mut SourceFd(&ear.channel.as_raw_fd())).ok();
                if loss != Loss::Ended {
                    child::kill(&mut child);
                }
                let (lived, kill_at) = (now.mono.saturating_sub(since), now.mono.saturating_add(EXIT));
                State::Ending(Ending { child, loss, lived, kill_at })
            }
            other @ (State::Ending(_) | State::Down(_) | State::Over) => other,
        };
    }

    fn reap(&mut self, now: Now) -> Result<Change, Failure> {
        let State::Ending(ending) = &mut self.state else {
            return Ok(Change::None);
        };
        let status = match ending.child.try_wait() {
            Ok(None) => {
                if now.mono >= ending.kill_at {
                    child::kill(&mut ending.child);
                    ending.kill_at = now.mono.saturating_add(EXIT);
                }
                return Ok(Change::None);
            }
            Ok(Some(status)) => Some(status),
            // Somebody else reaped it.
            Err(_) => None,
        };
        let lived = ending.lived;
        let fate = child::fate(ending.loss, status);
        if self.wanted == Wanted::Stopped {
            self.state = State::Over;
            if !status.is_some_and(|status| status.success()) {
                log::warn!(code = "listener-lost", why = fate.why, hint = fate.hint; "the listener did not end as it should");
            }
            return Ok(Change::Lost);
        }
        if self.readied == Readied::Never {
            let what = format!("the listener did not start: {}", fate.why);
            return Err(Failure::new(fate.exit, what).hint(fate.hint));
        }
        let wait = self.backoff.next(lived);
        log::warn!(
            code = "listener-lost", why = fate.why, hint = fate.hint, again = seconds(wait);
            "the listener is gone, another takes its place"
        );
        self.state = State::Down(now.mono.saturating_add(wait));
        Ok(Change::Lost)
    }
}

impl Drop for Listener {
    /// Nobody is left to look after it.
    fn drop(&mut self) {
        self.end();
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f32())
}

/// From the end of its channel to its own.
const EXIT: Duration = Duration::from_secs(1);
