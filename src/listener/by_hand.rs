//! The listener without sockets and threads, a step at a time: for fuzzing.

use super::opener::Opener;
use super::pool::{self, Pool};
use super::run::take;
use super::tally::Tally;
use super::{Admission, Beacons, Datagram, Supply};
use crate::channel::{Channel, Lanes, Sent, ToKeeper};
use crate::clock::Now;

/// What the loop and its workers share.
pub(crate) struct Listener {
    pub(crate) admission: Admission,
    opener: Opener,
    pool: Pool,
    channel: Channel,
    tally: Tally,
    chance: u64,
}

impl Listener {
    /// `room` datagrams of each lane may wait to be opened.
    pub(crate) fn new(admission: Admission, opener: Opener, room: usize, channel: Channel) -> Listener {
        match channel.send(&ToKeeper::Ready.encode(), None) {
            Sent::Yes | Sent::Full | Sent::Closed => {}
        }
        Listener { admission, opener, pool: Pool::by_hand(room), channel, tally: Tally::default(), chance: 0 }
    }

    /// As if a socket had given it.
    pub(crate) fn datagram(&mut self, now: Now, supply: Supply, datagram: Datagram<'_>) {
        match self.admission.tick(now) {
            Beacons::Same | Beacons::Changed => {}
        }
        self.chance = self.chance.wrapping_add(1);
        take(now, supply, self.chance, datagram, &mut self.admission, &self.pool, &self.tally);
    }

    /// Opens what waits, as by so many workers: each finds out for itself that a channel is closed.
    pub(crate) fn work(&self) {
        while let Some(sealed) = self.pool.next() {
            match pool::open(&self.opener, &sealed, &self.channel, &self.tally) {
                Sent::Yes | Sent::Full | Sent::Closed => {}
            }
        }
    }

    /// Tells the keeper the counts, as at the end; they are returned for one that is gone.
    pub(crate) fn report(&self) -> crate::channel::Counts {
        let counts = self.tally.counts(Lanes::default());
        match self.channel.send(&ToKeeper::Counts(counts).encode(), None) {
            Sent::Yes | Sent::Full | Sent::Closed => counts,
        }
    }
}
