//! RSA worker threads behind a bounded queue, so that no private-key operation stands between a socket and the next
//! datagram.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::Sealed;
use super::opener::Opener;
use super::tally::Tally;
use crate::channel::{Channel, Lane, Opened, Sent, ToKeeper};
use crate::reason::DropReason;

/// Opens what it is offered and sends it on.
pub(super) struct Pool {
    queue: SyncSender<Sealed>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts the workers.
    pub(super) fn start(
        opener: Opener,
        workers: u16,
        queue: usize,
        channel: &Arc<Channel>,
        tally: &Arc<Tally>,
    ) -> std::io::Result<Pool> {
        let (sender, receiver) = sync_channel(queue);
        let shared = Arc::new((opener, Mutex::new(receiver)));
        let workers = (0..workers.max(1))
            .map(|number| {
                let (shared, channel, tally) = (Arc::clone(&shared), Arc::clone(channel), Arc::clone(tally));
                let work = move || work(&shared.0, &shared.1, &channel, &tally);
                std::thread::Builder::new().name(format!("opener-{number}")).spawn(work)
            })
            .collect::<Result<_, _>>()?;
        Ok(Pool { queue: sender, workers })
    }

    /// Nobody works on the queue but who holds its end.
    #[cfg(feature = "fuzzing")]
    pub(super) fn by_hand(queue: usize) -> (Pool, Receiver<Sealed>) {
        let (sender, receiver) = sync_channel(queue);
        let pool = Pool { queue: sender, workers: Vec::new() };
        (pool, receiver)
    }

    /// Queues a datagram. Never blocks.
    pub(super) fn offer(&self, sealed: Sealed) -> Result<(), DropReason> {
        self.queue.try_send(sealed).map_err(|_| DropReason::Queue)
    }

    /// Lets the workers finish what is queued, and waits for them.
    pub(super) fn finish(self) {
        drop(self.queue);
        for worker in self.workers {
            // A worker has nothing to say; one that panicked has aborted the process.
            drop(worker.join());
        }
    }
}

fn work(opener: &Opener, queue: &Mutex<Receiver<Sealed>>, channel: &Channel, tally: &Tally) {
    // The lock is held while waiting: one worker waits for a datagram, the others for the lock.
    while let Ok(sealed) = { queue.lock().unwrap_or_else(PoisonError::into_inner).recv() } {
        // Closed: nobody is left to open the rest of the queue for.
        if open(opener, &sealed, channel, tally) == Sent::Closed {
            return;
        }
    }
}

/// Opens one datagram and sends it on.
pub(super) fn open(opener: &Opener, sealed: &Sealed, channel: &Channel, tally: &Tally) -> Sent {
    let opened = Opened {
        source: sealed.source(),
        socket: sealed.socket(),
        lane: Lane::Plain,
        digest: Sha256::digest(sealed.ciphertext()).into(),
        plaintext: opener.open(sealed.ciphertext()),
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
