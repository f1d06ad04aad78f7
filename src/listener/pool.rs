//! RSA worker threads, so that no private-key operation stands between a socket and the next datagram.
//!
//! They take what waits in the order of the [`Lanes`]. While operations are short, plain datagrams never have more than half
//! of the workers: what strangers send leaves processors to those who have stamps, and to the scripts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::admission::{Sealed, Supply, Way};
use super::lanes::{Lanes, Ration};
use super::opener::Opener;
use super::tally::Tally;
use crate::channel::{Channel, Opened, Sent, ToKeeper};
use crate::reason::DropReason;

/// Opens what it is offered and sends it on.
pub(super) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What the loop and the workers share.
struct Shared {
    work: Mutex<Work>,
    more: Condvar,
    /// How many wait, to be read without the lock.
    stamped: AtomicUsize,
    plain: AtomicUsize,
    short: AtomicBool,
}

struct Work {
    lanes: Lanes,
    /// Workers that may be at plain datagrams while operations are short.
    plain_most: usize,
    plain_now: usize,
    /// Workers that wait to be woken: to wake one is a system call.
    idle: usize,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// What waits is opened, then the workers end.
    Closing,
}

impl Pool {
    /// Starts the workers; each has opened `warm_up` when this returns, so that it has from the system what it needs for
    /// that.
    pub(super) fn start(
        opener: Opener,
        warm_up: Vec<u8>,
        workers: u16,
        room: usize,
        channel: &Arc<Channel>,
        tally: &Arc<Tally>,
    ) -> std::io::Result<Pool> {
        let workers = usize::from(workers.max(1));
        let shared = Arc::new(Shared::new(room, workers));
        let own = Arc::new((opener, warm_up));
        let warm = Arc::new(Barrier::new(workers.saturating_add(1)));
        let workers = (0..workers)
            .map(|number| {
                let (own, shared, warm) = (Arc::clone(&own), Arc::clone(&shared), Arc::clone(&warm));
                let (channel, tally) = (Arc::clone(channel), Arc::clone(tally));
                let work = move || {
                    drop(own.0.open_any(&own.1));
                    warm.wait();
                    shared.work(&own.0, &channel, &tally);
                };
                std::thread::Builder::new().name(format!("opener-{number}")).spawn(work)
            })
            .collect::<Result<_, _>>()?;
        warm.wait();
        Ok(Pool { shared, workers })
    }

    /// Nobody works on it but who calls [`Pool::next`].
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn by_hand(room: usize) -> Pool {
        Pool { shared: Arc::new(Shared::new(room, 2)), workers: Vec::new() }
    }

    /// What a worker would open now.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn next(&self) -> Option<Sealed> {
        let mut work = self.shared.lock();
        let sealed = work.lanes.pop(Ration::Any);
        self.shared.count(&work);
        sealed
    }

    /// Queues a datagram. Who is returned has no room: this one, or another whose place it took. `chance` is random.
    pub(super) fn offer(&self, sealed: Sealed, chance: u64) -> Option<Sealed> {
        let mut work = self.shared.lock();
        let out = work.lanes.push(sealed, chance);
        self.shared.count(&work);
        let wakes = self.shared.wakes(&work);
        drop(work);
        if wakes {
            self.shared.more.notify_one();
        }
        out
    }

    /// Whether strangers get all the operations they ask for.
    pub(super) fn set_supply(&self, supply: Supply) {
        self.shared.short.store(supply == Supply::Short, Ordering::Relaxed);
    }

    /// How many wait: stamped, plain.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.shared.stamped.load(Ordering::Relaxed), self.shared.plain.load(Ordering::Relaxed))
    }

    /// Lets the workers finish what is queued, and waits for them.
    pub(super) fn finish(self) {
        self.shared.lock().phase = Phase::Closing;
        self.shared.more.notify_all();
        for worker in self.workers {
            // A worker has nothing to say; one that panicked has aborted the process.
            drop(worker.join());
        }
    }
}

impl Shared {
    fn new(room: usize, workers: usize) -> Shared {
        let plain_most = (workers / 2).max(1);
        let lanes = Lanes::new(room);
        Shared {
            work: Mutex::new(Work { lanes, plain_most, plain_now: 0, idle: 0, phase: Phase::Open }),
            more: Condvar::new(),
            stamped: AtomicUsize::new(0),
            plain: AtomicUsize::new(0),
            short: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, work: &Work) {
        let (stamped, plain) = work.lanes.waiting();
        self.stamped.store(stamped, Ordering::Relaxed);
        self.plain.store(plain, Ordering::Relaxed);
    }

    /// What a worker that is at nothing may take.
    fn ration(&self, work: &Work) -> Ration {
        let short = self.short.load(Ordering::Relaxed);
        if short && work.plain_now >= work.plain_most { Ration::StampedOnly } else { Ration::Any }
    }

    /// Whether one is asleep that could be at something. Plain ones that wait for their ration need nobody to be woken: who
    /// is at plain ones takes them.
    fn wakes(&self, work: &Work) -> bool {
        let (stamped, plain) = work.lanes.waiting();
        work.idle > 0 && (stamped > 0 || plain > 0 && self.ration(work) == Ration::Any)
    }

    fn work(&self, opener: &Opener, channel: &Channel, tally: &Tally) {
        let mut done = None;
        while let Some(sealed) = self.take(done) {
            // Closed: nobody is left to open the rest for.
            if open(opener, &sealed, channel, tally) == Sent::Closed {
                return;
            }
            done = Some(sealed.way());
        }
    }

    /// Waits for the next datagram, after one that has gone this way; `None`: there will be none.
    fn take(&self, done: Option<Way>) -> Option<Sealed> {
        let mut work = self.lock();
        if done.is_some_and(Way::is_plain) {
            work.plain_now = work.plain_now.saturating_sub(1);
        }
        loop {
            let ration = self.ration(&work);
            if let Some(sealed) = work.lanes.pop(ration) {
                if sealed.way().is_plain() {
                    work.plain_now = work.plain_now.saturating_add(1);
                }
                self.count(&work);
                // Another may have been woken for what it had to leave, and may take it now.
                if self.wakes(&work) {
                    self.more.notify_one();
                }
                return Some(sealed);
            }
            // Plain ones that this worker leaves are taken by those who are at them.
            if work.phase == Phase::Closing {
                return None;
            }
            work.idle = work.idle.saturating_add(1);
            work = self.more.wait(work).unwrap_or_else(PoisonError::into_inner);
            work.idle = work.idle.saturating_sub(1);
        }
    }
}

/// Opens one datagram and sends it on.
pub(super) fn open(opener: &Opener, sealed: &Sealed, channel: &Channel, tally: &Tally) -> Sent {
    let (plaintext, under) = match sealed.under() {
        Some(under) => (opener.open_under(under, sealed.ciphertext()), under),
        None => opener.open_any(sealed.ciphertext()),
    };
    let opened = Opened {
        source: sealed.source(),
        local: sealed.local(),
        socket: sealed.socket(),
        lane: sealed.lane(),
        under,
        digest: Sha256::digest(sealed.ciphertext()).into(),
        plaintext,
    };
    let sent = channel.send_patiently(&ToKeeper::Opened(opened).encode(), PATIENCE);
    match sent {
        Sent::Yes => {}
        Sent::Full | Sent::Closed => tally.refused(DropReason::Channel),
    }
    sent
}

/// A keeper that has taken nothing for so long is stuck; the queue has been filling meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
