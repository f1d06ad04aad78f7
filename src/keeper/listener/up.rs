//! One listener that runs: what it is told, what it says, and whether it may.

use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Child;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use zeroize::Zeroizing;

use super::health::{Budget, Judged, Pulse};
use super::outbox::Outbox;
use super::{Loss, Readied, Said, child};
use crate::channel::{
    Channel, Confinement, Limits, MESSAGE_MAX, Plain, Received, Sent, Setup, SocketId, Takes, ToKeeper,
    ToListener,
};
use crate::clock::Now;
use crate::config::Config;
use crate::config::resolved::{Sandbox, Stamp};
use crate::exit::Failure;
use crate::keeper::{cannot, stamps};
use crate::work::Drained;

/// A listener that runs, as far as is known.
pub(super) struct Up {
    pub(super) child: Child,
    pub(super) channel: Channel,
    outbox: Outbox,
    budget: Budget,
    pulse: Pulse,
    stage: Stage,
    /// When (monotonic) it was started.
    pub(super) since: Duration,
    interest: Interest,
    buffer: Box<Zeroizing<[u8; MESSAGE_MAX]>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Ready,
    /// Told to; it must be gone by then, whatever it says.
    Stopping(Duration),
}

impl Up {
    /// Starts one, the `number`th.
    pub(super) fn start(
        now: Now,
        config: &Config,
        number: u64,
        (registry, token): (&Registry, Token),
        sockets: &[(UdpSocket, Takes)],
    ) -> Result<Up, Failure> {
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
        for (place, (number, (_, takes))) in (0..).zip(sockets).enumerate() {
            outbox.push_socket(&ToListener::Socket(SocketId(number), *takes), place);
        }
        for keys in stamps::difference(None, config) {
            outbox.push(&ToListener::StampKeys(keys));
        }
        outbox.push(&ToListener::Begin);

        let (child, channel) = child::start(number)?;
        let mut up = Up {
            child,
            channel,
            outbox,
            budget: Budget::new(workers, queue),
            pulse: Pulse::new(now, START),
            stage: Stage::Starting,
            since: now.mono,
            interest: Interest::READABLE,
            buffer: Box::new(Zeroizing::new([0; MESSAGE_MAX])),
        };
        let fd = up.channel.as_raw_fd();
        if let Err(error) = registry.register(&mut SourceFd(&fd), token, up.interest) {
            child::kill(&mut up.child);
            drop(up.child.wait());
            return Err(cannot("watch the listener", &error));
        }
        up.send(registry, token, sockets);
        Ok(up)
    }

    /// Reads one message, and holds it against what a listener may say now.
    pub(super) fn hear(&mut self, now: Now, sockets: usize) -> Result<Said, Loss> {
        let message = match self.channel.receive(&mut self.buffer) {
            Received::Message(len, None) => {
                self.buffer.get(..len).and_then(|bytes| ToKeeper::decode(bytes).ok())
            }
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
            ToKeeper::Ready => Err(Loss::Malformed),
            // It has not begun.
            ToKeeper::Opened(_) | ToKeeper::Counts(_) | ToKeeper::Alive if self.stage == Stage::Starting => {
                Err(Loss::Malformed)
            }
            ToKeeper::Opened(opened) if usize::from(opened.socket.0) < sockets => {
                if stopping {
                    self.pulse.beat(now);
                }
                Ok(Said::Opened(opened))
            }
            ToKeeper::Opened(_) => Err(Loss::Malformed),
            ToKeeper::Counts(counts) => Ok(Said::Counts(counts)),
            ToKeeper::Alive => {
                self.pulse.beat(now);
                Ok(Said::Alive)
            }
        }
    }

    /// Whether it has been silent for too long.
    pub(super) fn judge(&mut self, now: Now, drained: Drained) -> Judged {
        match self.stage {
            Stage::Stopping(by) if now.mono >= by => Judged::Silent,
            Stage::Starting | Stage::Ready | Stage::Stopping(_) => self.pulse.judge(now, drained),
        }
    }

    /// Sends what waits, and has the loop woken when there is room for the rest.
    pub(super) fn send(&mut self, registry: &Registry, token: Token, sockets: &[(UdpSocket, Takes)]) {
        self.outbox.flush(&self.channel, sockets);
        let wanted =
            if self.outbox.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        if wanted != self.interest
            && registry.reregister(&mut SourceFd(&self.channel.as_raw_fd()), token, wanted).is_ok()
        {
            self.interest = wanted;
        }
    }

    /// When (monotonic) it is judged, if nothing happens before.
    pub(super) fn due(&self) -> Duration {
        match self.stage {
            Stage::Starting | Stage::Ready => self.pulse.due(),
            Stage::Stopping(by) => self.pulse.due().min(by),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// After a reload: whatever differs for it.
    pub(super) fn reload(&mut self, old: &Config, new: &Config) {
        if limits(old) != limits(new) {
            self.outbox.push(&ToListener::Limits(limits(new)));
        }
        for change in stamps::difference(Some(old), new) {
            self.outbox.push(&ToListener::StampKeys(change));
        }
    }

    /// Somebody knocked well from there. It is no loss if that isn't heard.
    pub(super) fn settled(&self, source: IpAddr) {
        if self.outbox.is_empty() {
            match self.channel.send(&ToListener::Settled(source).encode(), None) {
                Sent::Yes | Sent::Full | Sent::Closed => {}
            }
        }
    }

    /// Lets it finish what it has.
    pub(super) fn stop(&mut self, now: Now) {
        self.outbox.push(&ToListener::Stop);
        self.stage = Stage::Stopping(now.mono.saturating_add(STOP));
        self.pulse = Pulse::new(now, SILENCE);
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

/// For the first word of a new one: a slow machine, a long key.
const START: Duration = Duration::from_secs(10);

/// A listener says each second that it is alive.
const SILENCE: Duration = Duration::from_secs(5);

/// For the longest queue on the slowest machine.
const STOP: Duration = Duration::from_secs(30);
