//! The listener without sockets and threads, a step at a time: for fuzzing.

use std::sync::mpsc::Receiver;

use super::opener::Opener;
use super::pool::{self, Pool};
use super::run::take;
use super::tally::Tally;
use super::{Admission, Datagram, Sealed};
use crate::channel::{Channel, Sent, ToKeeper};

/// What the loop and its workers share.
pub(crate) struct Listener {
    admission: Admission,
    opener: Opener,
    pool: Pool,
    queue: Receiver<Sealed>,
    channel: Channel,
    tally: Tally,
}

impl Listener {
    /// `queue` datagrams may wait to be opened.
    pub(crate) fn new(modulus: Vec<u8>, opener: Opener, queue: usize, channel: Channel) -> Listener {
        let (pool, queue) = Pool::by_hand(queue);
        Listener { admission: Admission::new(modulus), opener, pool, queue, channel, tally: Tally::default() }
    }

    /// As if a socket had given it.
    pub(crate) fn datagram(&self, datagram: Datagram<'_>) {
        take(datagram, &self.admission, &self.pool, &self.tally);
    }

    /// Opens what waits, as by so many workers: each finds out for itself that a channel is closed.
    pub(crate) fn work(&self) {
        for sealed in self.queue.try_iter() {
            match pool::open(&self.opener, &sealed, &self.channel, &self.tally) {
                Sent::Yes | Sent::Full | Sent::Closed => {}
            }
        }
    }

    /// Tells the keeper the counts, as at the end; they are returned for one that is gone.
    pub(crate) fn report(&self) -> crate::channel::Counts {
        let counts = self.tally.counts();
        match self.channel.send(&ToKeeper::Counts(counts).encode(), None) {
            Sent::Yes | Sent::Full | Sent::Closed => counts,
        }
    }
}
