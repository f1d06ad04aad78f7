//! How much a listener may say, how long it may say nothing, and how soon the next one comes. Pure.

use std::time::Duration;

use super::Loss;
use crate::bucket::{Bucket, Taken};
use crate::channel::ToKeeper;
use crate::clock::Now;
use crate::work::Drained;

/// Far more than honest workers can send.
#[derive(Debug)]
pub(super) struct Budget {
    opened: Bucket,
    others: Bucket,
    rate: u32,
    burst: u32,
}

impl Budget {
    pub(super) fn new(workers: usize, queue: usize) -> Budget {
        let rate = u32::try_from(workers).unwrap_or(u32::MAX).max(1).saturating_mul(OPENED_RATE);
        // What its workers had ready while the keeper was not looking, and a second of their work.
        let burst = u32::try_from(queue).unwrap_or(u32::MAX).saturating_add(rate);
        Budget { opened: Bucket::default(), others: Bucket::default(), rate, burst }
    }

    /// One message more.
    pub(super) fn spend(&mut self, now: Now, message: &ToKeeper) -> Result<(), Loss> {
        let taken = match message {
            ToKeeper::Opened(_) => self.opened.take(now, self.rate, self.burst),
            ToKeeper::Ready | ToKeeper::Counts(_) | ToKeeper::Sources(_) | ToKeeper::Alive => {
                self.others.take(now, OTHERS_RATE, OTHERS_BURST)
            }
        };
        match taken {
            Taken::Yes => Ok(()),
            Taken::No => Err(Loss::Flood),
        }
    }
}

/// Whether it has been heard lately.
#[derive(Debug)]
pub(super) struct Pulse {
    heard: Duration,
    patience: Duration,
}

#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::keeper) enum Judged {
    /// As far as one can know.
    Well,
    /// All that it said was heard, and that was too long ago.
    Silent,
}

impl Pulse {
    pub(super) fn new(now: Now, patience: Duration) -> Pulse {
        Pulse { heard: now.mono, patience }
    }

    pub(super) fn beat(&mut self, now: Now) {
        self.heard = now.mono;
    }

    /// For how long it has not been heard.
    pub(super) fn silent(&self, now: Now) -> Duration {
        now.mono.saturating_sub(self.heard)
    }

    /// When (monotonic) it has been silent for too long.
    pub(super) fn due(&self) -> Duration {
        self.heard.saturating_add(self.patience)
    }

    /// A keeper that comes late has slept itself: stopped, swapped out, on a machine that was suspended. It cannot say
    /// of anybody else that he did, and neither can one that has not read all; the time begins anew.
    pub(super) fn judge(&mut self, now: Now, drained: Drained) -> Judged {
        if now.mono < self.due() {
            return Judged::Well;
        }
        if drained == Drained::More || now.mono > self.due().saturating_add(LATE) {
            self.beat(now);
            return Judged::Well;
        }
        Judged::Silent
    }
}

/// The time until the next one: none at first, then twice as long each time, until one has lived a while.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// One has ended that lived for so long.
    pub(super) fn next(&mut self, lived: Duration) -> Duration {
        if lived >= A_WHILE {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        match self.failures {
            0 | 1 => Duration::ZERO,
            more => FIRST.saturating_mul(1 << more.saturating_sub(2).min(16)).min(LONGEST),
        }
    }
}

/// Opened datagrams per second and worker: four times what the fastest core is known to open.
const OPENED_RATE: u32 = 10_000;

/// Other messages per second: five are usual.
const OTHERS_RATE: u32 = 20;

/// More than fit into the channel while a keeper does not look.
const OTHERS_BURST: u32 = 4000;

/// A wake that comes so much later than it was ordered says that this process did not run.
const LATE: Duration = Duration::from_secs(1);

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
const A_WHILE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::channel::{Lane, Opened, SocketId, Under};
    use crate::wire::PLAINTEXT_LEN;

    fn at(millis: u64) -> Now {
        Now { mono: Duration::from_millis(millis), boot: Duration::ZERO, wall: Duration::ZERO }
    }

    #[test]
    fn a_listener_that_keeps_dying_comes_back_later_and_later_until_it_lives() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..12).map(|_| backoff.next(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(backoff.next(A_WHILE), Duration::ZERO);
        assert_eq!(backoff.next(Duration::ZERO), FIRST);
    }

    #[test]
    fn silence_is_judged_by_who_was_awake_and_has_read_everything() {
        let mut pulse = Pulse::new(at(0), Duration::from_secs(5));
        assert_eq!(pulse.judge(at(4999), Drained::All), Judged::Well);
        assert_eq!(pulse.judge(at(5100), Drained::More), Judged::Well, "there may be word of it");
        assert_eq!(pulse.judge(at(10_101), Drained::All), Judged::Silent);

        pulse.beat(at(20_000));
        assert_eq!(pulse.judge(at(300_000), Drained::All), Judged::Well, "the keeper itself was stopped");
        assert_eq!(pulse.judge(at(305_000), Drained::All), Judged::Silent);
    }

    #[test]
    fn a_budget_ends_a_flood_and_no_honest_listener() {
        let mut budget = Budget::new(2, 2048);
        // A keeper that was stopped for an hour finds a channel full of them.
        assert!((0..1500).all(|_| budget.spend(at(3_600_000), &ToKeeper::Alive).is_ok()));
        let mut budget = Budget::new(1, 16);
        let spent = (0..10_000).take_while(|_| budget.spend(at(0), &ToKeeper::Alive).is_ok()).count();
        assert_eq!(spent, 4000);
        assert!(budget.spend(at(50), &ToKeeper::Alive).is_ok());
        assert_eq!(budget.spend(at(50), &ToKeeper::Ready), Err(Loss::Flood));

        let opened = ToKeeper::Opened(Opened {
            source: ([192, 0, 2, 1], 9).into(),
            local: [127, 0, 0, 1].into(),
            socket: SocketId(0),
            lane: Lane::Plain,
            under: Under::CURRENT,
            digest: [0; 32],
            plaintext: Zeroizing::new([0; PLAINTEXT_LEN]),
        });
        let spent = (0..20_000).take_while(|_| budget.spend(at(50), &opened).is_ok()).count();
        assert_eq!(spent, 10_016, "what its queue holds and a second of one worker");
    }
}
