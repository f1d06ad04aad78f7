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
mod health;
mod outbox;

use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::process::Child;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use zeroize::Zeroizing;

use self::health::{Backoff, Budget, Judged, Pulse};
use self::outbox::Outbox;
use super::stamps;
use crate::channel::{
    Channel, Confinement, Counts, Limits, MESSAGE_MAX, Opened, Plain, Received, Sent, Setup, SocketId, Takes,
    ToKeeper, ToListener,
};
use crate::clock::Now;
use crate::config::Config;
use crate::config::resolved::{Sandbox, Stamp};
use crate::exit::Failure;
use crate::work::Drained;

pub(super) use child::{FLAG, main};

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
pub(super) enum Said {
    /// It was opened.
    Opened(Opened),
    /// So much was refused.
    Counts(Counts),
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

struct Up {
    child: Child,
    channel: Channel,
    outbox: Outbox,
    budget: Budget,
    pulse: Pulse,
    stage: Stage,
    since: Duration,
    interest: Interest,
}

struct Ending {
    child: Child,
    loss: Loss,
    lived: Duration,
    /// When it has had its time to end by itself.
    kill_at: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Ready,
    /// Told to; it must be gone by then, whatever it says.
    Stopping(Duration),
}

/// Why one is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
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
        match up.hear(now, self.sockets.len()) {
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
            if up.judge(now, drained) == Judged::Silent {
                self.lose(now, Loss::Silent);
            }
        }
        let change = self.reap(now)?;
        match self.state {
            State::Down(_) if self.wanted == Wanted::Stopped => self.state = State::Over,
            State::Down(again_at) if now.mono >= again_at => return self.start(now, config),
            State::Up(_) | State::Ending(_) | State::Down(_) | State::Over => {}
        }
        Ok(change)
    }

    /// When (monotonic) [`tend`](Self::tend) has something to do, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        match &self.state {
            State::Up(up) => Some(match up.stage {
                Stage::Starting | Stage::Ready => up.pulse.due(),
                Stage::Stopping(by) => up.pulse.due().min(by),
            }),
            State::Down(again_at) => Some(*again_at),
            State::Ending(ending) => Some(ending.kill_at),
            State::Over => None,
        }
    }

    /// Whether datagrams are received, as far as one can know.
    pub(super) fn is_well(&self) -> bool {
        matches!(&self.state, State::Up(up) if up.stage == Stage::Ready)
    }

    /// Whether there is none, and will be none.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// After a reload: whatever differs for it.
    pub(super) fn reload(&mut self, old: &Config, new: &Config) {
        let State::Up(up) = &mut self.state else { return };
        if limits(old) != limits(new) {
            up.outbox.push(&ToListener::Limits(limits(new)));
        }
        for change in stamps::difference(Some(old), new) {
            up.outbox.push(&ToListener::StampKeys(change));
        }
    }

    /// Somebody knocked well from there. It is no loss if that isn't heard.
    pub(super) fn settled(&self, source: std::net::IpAddr) {
        if let State::Up(up) = &self.state
            && up.outbox.is_empty()
        {
            match up.channel.send(&ToListener::Settled(source).encode(), None) {
                Sent::Yes | Sent::Full | Sent::Closed => {}
            }
        }
    }

    /// Lets it finish what it has, and starts no other.
    pub(super) fn stop(&mut self, now: Now) {
        self.wanted = Wanted::Stopped;
        if let State::Up(up) = &mut self.state {
            up.outbox.push(&ToListener::Stop);
            up.stage = Stage::Stopping(now.mono.saturating_add(STOP));
            up.pulse = Pulse::new(now, SILENCE);
        }
    }

    /// Gives the sockets back as they came, without the filters of the last listener.
    pub(super) fn detach_filters(&self) {
        for (socket, _) in &self.sockets {
            // There need not be one.
            socket2::SockRef::from(socket).detach_filter().ok();
        }
    }

    fn start(&mut self, now: Now, config: &Config) -> Result<Change, Failure> {
        self.started = self.started.saturating_add(1);
        match self.spawn(now, config) {
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

    fn spawn(&self, now: Now, config: &Config) -> Result<Up, Failure> {
        let mut outbox = Outbox::default();
        let (workers, queue) = (config.limits.workers, config.limits.queue);
        // Read for this listener, and forgotten when it is sent.
        let key = Zeroizing::new(config.private_key.read()?.der().to_vec());
        outbox.push(&ToListener::Setup(Setup {
            private_key: key,
            workers: u16::try_from(workers).unwrap_or(u16::MAX),
            queue: u32::try_from(queue).unwrap_or(u32::MAX),
            confinement: match config.sandbox {
                Sandbox::Required | Sandbox::BestEffort => Confinement::On,
                Sandbox::Off => Confinement::Off,
            },
            user: config.listener_user.map(|user| (user.uid, user.gid)),
        }));
        outbox.push(&ToListener::Limits(limits(config)));
        for (place, (number, (_, takes))) in (0..).zip(&self.sockets).enumerate() {
            outbox.push_socket(&ToListener::Socket(SocketId(number), *takes), place);
        }
        for keys in stamps::difference(None, config) {
            outbox.push(&ToListener::StampKeys(keys));
        }
        outbox.push(&ToListener::Begin);

        let (child, channel) = child::start(self.started)?;
        let mut up = Up {
            child,
            channel,
            outbox,
            budget: Budget::new(workers, queue),
            pulse: Pulse::new(now, START),
            stage: Stage::Starting,
            since: now.mono,
            interest: Interest::READABLE,
        };
        let fd = up.channel.as_raw_fd();
        if let Err(error) = self.registry.register(&mut SourceFd(&fd), self.token, up.interest) {
            child::kill(&mut up.child);
            drop(up.child.wait());
            return Err(super::cannot("watch the listener", &error));
        }
        up.send(&self.registry, self.token, &self.sockets);
        Ok(up)
    }

    fn lose(&mut self, now: Now, loss: Loss) {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Up(up) => {
                let Up { mut child, channel, since, .. } = *up;
                // What is left in there is nobody's any more.
                self.registry.deregister(&mut SourceFd(&channel.as_raw_fd())).ok();
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
        let child = match &mut self.state {
            State::Up(up) => &mut up.child,
            State::Ending(ending) => &mut ending.child,
            State::Down(_) | State::Over => return,
        };
        child::kill(child);
        drop(child.wait());
    }
}

impl Up {
    /// Reads one message, and holds it against what a listener may say now.
    fn hear(&mut self, now: Now, sockets: usize) -> Result<Said, Loss> {
        let mut buffer = Zeroizing::new([0; MESSAGE_MAX]);
        let message = match self.channel.receive(&mut buffer) {
            Received::Message(len, None) => buffer.get(..len).and_then(|bytes| ToKeeper::decode(bytes).ok()),
            Received::Message(_, Some(_)) => None,
            Received::Empty => return Ok(Said::Nothing),
            Received::End => return Err(Loss::Ended),
        };
        let message = message.ok_or(Loss::Malformed)?;
        self.budget.spend(now, &message)?;
        let stopping = matches!(self.stage, Stage::Stopping(_));
        match message {
            ToKeeper::Ready if self.stage == Stage::Starting => {
                self.stage = Stage::Ready;
                self.pulse = Pulse::new(now, SILENCE);
                Ok(Said::Ready(Readied::Before))
            }
            // One that was told to stop before it had begun.
            ToKeeper::Ready if stopping => Ok(Said::Alive),
            _ if self.stage == Stage::Starting => Err(Loss::Malformed),
            ToKeeper::Ready => Err(Loss::Malformed),
            ToKeeper::Opened(opened) => {
                if stopping {
                    self.pulse.beat(now);
                }
                if usize::from(opened.socket.0) < sockets {
                    Ok(Said::Opened(opened))
                } else {
                    Err(Loss::Malformed)
                }
            }
            ToKeeper::Counts(counts) => Ok(Said::Counts(counts)),
            ToKeeper::Alive => {
                self.pulse.beat(now);
                Ok(Said::Alive)
            }
        }
    }

    fn judge(&mut self, now: Now, drained: Drained) -> Judged {
        match self.stage {
            Stage::Stopping(by) if now.mono >= by => Judged::Silent,
            Stage::Starting | Stage::Ready | Stage::Stopping(_) => self.pulse.judge(now, drained),
        }
    }

    /// Wakes the loop when there is room for what waits.
    fn send(&mut self, registry: &Registry, token: Token, sockets: &[(UdpSocket, Takes)]) {
        self.outbox.flush(&self.channel, sockets);
        let wanted =
            if self.outbox.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        if wanted != self.interest
            && registry.reregister(&mut SourceFd(&self.channel.as_raw_fd()), token, wanted).is_ok()
        {
            self.interest = wanted;
        }
    }
}

/// What a listener goes by.
pub(crate) fn limits(config: &Config) -> Limits {
    Limits {
        freshness: u32::try_from(config.freshness.as_secs()).unwrap_or(u32::MAX),
        plain: match config.stamp {
            Stamp::Optional => Plain::Taken,
            Stamp::Required => Plain::Refused,
        },
        user_rate: config.limits.user_rate,
        user_burst: config.limits.user_burst,
        prefix_rate: config.limits.prefix_rate,
        prefix_burst: config.limits.prefix_burst,
        prefixes: config.limits.prefixes,
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f32())
}

/// For the first word of a new one: a slow machine, a long key.
const START: Duration = Duration::from_secs(10);

/// A listener says each second that it is alive.
const SILENCE: Duration = Duration::from_secs(5);

/// For the longest queue on the slowest machine.
const STOP: Duration = Duration::from_secs(30);

/// From the end of its channel to its own.
const EXIT: Duration = Duration::from_secs(1);
