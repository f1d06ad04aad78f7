//! The keeper's end of a channel: what is said at the other, and whether a listener may say that now.

use std::time::Duration;

use zeroize::Zeroizing;

use super::health::{Budget, Judged, Pulse};
use super::{Loss, Readied, Said};
use crate::channel::{Channel, MESSAGE_MAX, Received, ToKeeper};
use crate::clock::Now;
use crate::work::Drained;

/// Hears one listener, from its first word to its end.
pub(in crate::keeper) struct Ear {
    pub(super) channel: Channel,
    budget: Budget,
    pulse: Pulse,
    stage: Stage,
    buffer: Box<Zeroizing<[u8; MESSAGE_MAX]>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Ready,
    /// Told to; it must be gone by then, whatever it says.
    Stopping(Duration),
}

impl Ear {
    /// For one that was just started, with so many workers and room for so many datagrams.
    pub(in crate::keeper) fn new(now: Now, channel: Channel, workers: usize, queue: usize) -> Ear {
        Ear {
            channel,
            budget: Budget::new(workers, queue),
            pulse: Pulse::new(now, START),
            stage: Stage::Starting,
            buffer: Box::new(Zeroizing::new([0; MESSAGE_MAX])),
        }
    }

    /// Reads one message, and holds it against what a listener with so many sockets may say now.
    pub(in crate::keeper) fn hear(&mut self, now: Now, sockets: usize) -> Result<Said, Loss> {
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
            ToKeeper::Opened(_) | ToKeeper::Counts(_) | ToKeeper::Sources(_) | ToKeeper::Alive
                if self.stage == Stage::Starting =>
            {
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
            ToKeeper::Sources(sources) => Ok(Said::Sources(sources)),
            ToKeeper::Alive => {
                self.pulse.beat(now);
                Ok(Said::Alive)
            }
        }
    }

    /// Whether it has been silent for too long.
    pub(in crate::keeper) fn judge(&mut self, now: Now, drained: Drained) -> Judged {
        match self.stage {
            Stage::Stopping(by) if now.mono >= by => Judged::Silent,
            Stage::Starting | Stage::Ready | Stage::Stopping(_) => self.pulse.judge(now, drained),
        }
    }

    /// When (monotonic) it is judged, if nothing happens before.
    pub(super) fn due(&self) -> Duration {
        match self.stage {
            Stage::Starting | Stage::Ready => self.pulse.due(),
            Stage::Stopping(by) => self.pulse.due().min(by),
        }
    }

    /// For how long nothing was heard.
    pub(super) fn silent(&self, now: Now) -> Duration {
        self.pulse.silent(now)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// It was told to stop.
    pub(in crate::keeper) fn stop(&mut self, now: Now) {
        self.stage = Stage::Stopping(now.mono.saturating_add(STOP));
        self.pulse = Pulse::new(now, SILENCE);
    }
}

/// For the first word of a new one: a slow machine, a long key.
const START: Duration = Duration::from_secs(10);

/// A listener says each second that it is alive.
const SILENCE: Duration = Duration::from_secs(5);

/// For the longest queue on the slowest machine.
const STOP: Duration = Duration::from_secs(30);
