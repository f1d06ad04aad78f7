//! The listener's loop: channel and sockets in, sealed datagrams to the pool, counts to the keeper.

use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::admission::{Beacons, Supply};
use super::opener::{Opener, UnusableKey};
use super::pool::Pool;
use super::replies::Replies;
use super::setup::{self, Begun};
use super::sockets::{Mesh, Sockets};
use super::tally::Tally;
use super::{Admission, Datagram, ListenerError, Step, sandbox};
use crate::channel::{
    ALIVE_EVERY, Channel, Counts, Lanes, Load, MESSAGE_MAX, Received, Reply, Sent, ToKeeper, ToListener,
};
use crate::clock::{Clock, Now};
use crate::reason::DropReason;
use crate::sources::Sources;
use crate::wire::address::folded;
use crate::wire::{BeaconKey, PrivateKey};

/// Takes over key and sockets from `channel`, then receives until it is told to stop or the keeper is gone.
///
/// # Errors
///
/// [`ListenerError`] when it cannot start. Nothing about a datagram is ever an error.
pub(super) fn run(channel: Channel) -> Result<(), ListenerError> {
    let channel = Arc::new(channel);
    let tally = Arc::new(Tally::default());
    let mut poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&channel.as_raw_fd()), CHANNEL, Interest::READABLE)?;

    let Begun { setup, limits, sockets, keys } = setup::hear(&channel, &mut poll)?;
    sandbox::enter(&setup)?;
    let public = |der: &[u8]| PrivateKey::from_der(der).map(|key| key.public().clone());
    let key = public(&setup.private_key).map_err(|_| UnusableKey)?;
    let mut opener = Opener::new(&setup.private_key)?;
    let queue = usize::try_from(setup.queue).unwrap_or(usize::MAX);
    let clock = Clock::start();
    let modulus = key.modulus();
    // Half of the modulus or less: it is below it.
    let warm_up = modulus.iter().map(|byte| byte >> 1).collect();
    let mut admission = Admission::new(clock.now(), modulus, BeaconKey::of(&key), limits);
    if let Some(der) = &setup.old_private_key {
        let old = public(der).map_err(|_| UnusableKey)?;
        opener = opener.and_old(der)?;
        admission = admission.and_old(old.modulus(), BeaconKey::of(&old));
    }
    let pool = Pool::start(opener, warm_up, setup.workers, queue, &channel, &tally)?;
    keys.iter().for_each(|keys| admission.stamp_keys(keys));
    let confinement = setup.confinement;
    drop((setup, key, keys));

    let mut sockets = Sockets::register(sockets, &poll)?;
    sandbox::close(confinement)?;
    let mut receiver = Receiver {
        channel: &channel,
        pool: &pool,
        tally: &tally,
        clock,
        admission,
        beacons: Vec::new(),
        replies: Replies::new(),
        again: Vec::new(),
        shortage: Shortage::new(queue),
        random: StdRng::from_rng(&mut rand::rng()),
        sources: Sources::default(),
        noted: 0,
        told: Told { counts: Counts::ZERO, counts_at: Duration::ZERO, alive_at: None },
    };
    receiver.sift(&sockets);
    #[cfg(feature = "crash-points")]
    super::misbehave::before_ready();
    if channel.send(&ToKeeper::Ready.encode(), None) != Sent::Yes {
        return Err(ListenerError::Setup);
    }
    #[cfg(feature = "crash-points")]
    super::misbehave::after_ready(&channel);
    receiver.receive(&mut poll, &mut sockets)?;
    drop(sockets);
    pool.finish();
    // The keeper may have gone first: then nobody wants to know.
    let _last = channel.send_patiently(&ToKeeper::Counts(tally.counts(Lanes::default())).encode(), REPORT);
    Ok(())
}

/// The loop: what it decides with, and whom it hands on to.
struct Receiver<'a> {
    channel: &'a Channel,
    pool: &'a Pool,
    tally: &'a Tally,
    clock: Clock,
    admission: Admission,
    /// As the kernel's sieve has them.
    beacons: Vec<[u8; 8]>,
    /// What copies get.
    replies: Replies,
    /// For copies that were read in this wake.
    again: Vec<Reply>,
    shortage: Shortage,
    random: StdRng,
    /// Of what was refused since the keeper was told.
    sources: Sources,
    /// So many datagrams are in there, or were.
    noted: u32,
    told: Told,
}

/// What the keeper was told last, and when (monotonic).
struct Told {
    counts: Counts,
    counts_at: Duration,
    alive_at: Option<Duration>,
}

/// Whether to go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Receive,
    End,
}

impl Receiver<'_> {
    fn receive(&mut self, poll: &mut Poll, sockets: &mut Sockets) -> Result<(), ListenerError> {
        let mut events = Events::with_capacity(64);
        let mut buffer = self.admission.buffer();
        let mut message = Zeroizing::new([0; MESSAGE_MAX]);
        loop {
            let timeout = if sockets.any_ready() { Duration::ZERO } else { REPORT };
            wait(poll, &mut events, Some(timeout))?;
            let now = self.clock.now();
            if self.hear(now, sockets, &mut message) == Next::End {
                return Ok(());
            }
            if self.admission.tick(now) == Beacons::Changed {
                self.sift(sockets);
            }
            sockets.mark_ready(&events);
            let supply = self.shortage.supply(now, self.pool.waiting().1);
            self.pool.set_supply(supply);
            let tally = self.tally;
            sockets.drain(
                now,
                &mut buffer,
                |datagram| self.take(now, supply, datagram),
                || tally.receive_error(),
            );
            for reply in std::mem::take(&mut self.again) {
                self.send(sockets, &reply);
            }
            let refused = sockets.adapt(now, &mesh(&self.admission, &self.beacons));
            (0..refused).for_each(|_| tally.receive_error());
            self.tell(now, sockets);
        }
    }

    /// What the keeper says, all of it: it is little.
    fn hear(&mut self, now: Now, sockets: &Sockets, buffer: &mut [u8; MESSAGE_MAX]) -> Next {
        loop {
            let len = match self.channel.receive(buffer) {
                Received::Message(len, _) => len,
                Received::Empty => return Next::Receive,
                Received::End => return Next::End,
            };
            match buffer.get(..len).and_then(|bytes| ToListener::decode(bytes).ok()) {
                Some(ToListener::StampKeys(keys)) => {
                    self.admission.stamp_keys(&keys);
                    buffer.zeroize();
                }
                Some(ToListener::Reply(reply)) => {
                    self.send(sockets, &reply);
                    self.replies.keep(now, reply);
                }
                Some(ToListener::Settled(source)) => self.admission.settled(now, source),
                Some(ToListener::Limits(limits)) => {
                    self.admission.set_limits(now, limits);
                    self.sift(sockets);
                }
                // Whatever else a keeper could say now is no reason to go on receiving.
                Some(
                    ToListener::Stop | ToListener::Setup(_) | ToListener::Socket(..) | ToListener::Begin,
                )
                | None => {
                    return Next::End;
                }
            }
        }
    }

    /// Queues a datagram for a worker, or counts why not.
    fn take(&mut self, now: Now, supply: Supply, datagram: Datagram<'_>) {
        let chance = self.random.next_u64();
        match take(now, supply, chance, datagram, &mut self.admission, self.pool, self.tally) {
            Fate::Queued => {}
            // Who had to go may be another.
            Fate::Dropped(DropReason::Queue) => self.shortage.refused(now),
            // Most servers answer nobody, and copies cost them a look-up.
            Fate::Dropped(DropReason::Seen) if self.replies.is_empty() => {}
            Fate::Dropped(DropReason::Seen) => {
                let digest = self.admission.copy(&datagram);
                let source = folded(datagram.source);
                self.again.extend(digest.and_then(|digest| self.replies.again(now, &digest, source)));
            }
            Fate::Dropped(reason) => {
                if reason == DropReason::Prefix {
                    self.shortage.refused(now);
                }
                if self.noted < NOTED {
                    self.noted = self.noted.saturating_add(1);
                    self.sources.refused(folded(datagram.source).ip(), reason);
                }
            }
        }
    }

    /// One that fails is counted and forgotten.
    fn send(&self, sockets: &Sockets, reply: &Reply) {
        if sockets.send(reply).is_err() {
            self.tally.send_error();
        }
    }

    /// New filters on all sockets.
    fn sift(&mut self, sockets: &Sockets) {
        self.beacons = self.admission.beacons();
        let refused = sockets.sift(&mesh(&self.admission, &self.beacons));
        (0..refused).for_each(|_| self.tally.receive_error());
    }

    fn tell(&mut self, now: Now, sockets: &Sockets) {
        let told = &mut self.told;
        if told.alive_at.is_none_or(|at| now.mono.saturating_sub(at) >= ALIVE_EVERY) {
            told.alive_at = Some(now.mono);
            match self.channel.send(&ToKeeper::Alive.encode(), None) {
                // Full: a keeper that hears nothing of what it was sent needs no more of it.
                Sent::Yes | Sent::Full | Sent::Closed => {}
            }
        }
        if now.mono.saturating_sub(told.counts_at) < REPORT {
            return;
        }
        let (share, stamped) = sockets.flooded(now);
        let (stamped_waiting, plain_waiting) = self.pool.waiting();
        let load = |waiting, short| Load { waiting: u32::try_from(waiting).unwrap_or(u32::MAX), short };
        let counts = self.tally.counts(Lanes {
            plain: load(plain_waiting, share || self.shortage.is_short()),
            stamped: load(stamped_waiting, stamped),
        });
        if counts == told.counts {
            return;
        }
        match self.channel.send(&ToKeeper::Counts(counts).encode(), None) {
            Sent::Yes => (told.counts, told.counts_at) = (counts, now.mono),
            // They are totals: the next report makes up for this one.
            Sent::Full | Sent::Closed => return,
        }
        self.noted = 0;
        let sources = self.sources.take();
        if !sources.is_empty() {
            match self.channel.send(&ToKeeper::Sources(sources).encode(), None) {
                // It is no loss if that isn't heard.
                Sent::Yes | Sent::Full | Sent::Closed => {}
            }
        }
    }
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Queued,
    /// It, or, for want of room, another in its place.
    Dropped(DropReason),
}

/// Queues a datagram for a worker; it, or who had to make room for it, is counted.
pub(super) fn take(
    now: Now,
    supply: Supply,
    chance: u64,
    datagram: Datagram<'_>,
    admission: &mut Admission,
    pool: &Pool,
    tally: &Tally,
) -> Fate {
    match admission.datagram(now, supply, datagram) {
        Step::Open(sealed) => match pool.offer(sealed, chance) {
            None => Fate::Queued,
            Some(other) => {
                admission.forget(&other);
                tally.refused(DropReason::Queue);
                Fate::Dropped(DropReason::Queue)
            }
        },
        Step::Drop(reason) => {
            tally.refused(reason);
            Fate::Dropped(reason)
        }
    }
}

/// Whether more plain datagrams come than can be opened: from when half of the room for them is taken, until nothing
/// waits and nobody was held back for a while.
#[derive(Debug)]
struct Shortage {
    room: usize,
    short: bool,
    held_back_at: Duration,
}

impl Shortage {
    fn new(room: usize) -> Shortage {
        Shortage { room, short: false, held_back_at: Duration::ZERO }
    }

    /// With so many plain ones waiting.
    fn supply(&mut self, now: Now, waiting: usize) -> Supply {
        if waiting > self.room / 2 {
            self.short = true;
            self.held_back_at = now.mono;
        } else if waiting == 0 && now.mono.saturating_sub(self.held_back_at) >= CALM {
            self.short = false;
        }
        if self.short { Supply::Short } else { Supply::Ample }
    }

    fn refused(&mut self, now: Now) {
        self.held_back_at = now.mono;
    }

    fn is_short(&self) -> bool {
        self.short
    }
}

fn mesh<'a>(admission: &'a Admission, beacons: &'a [[u8; 8]]) -> Mesh<'a> {
    Mesh { modulus: admission.modulus(), plain: admission.plain(), beacons }
}

pub(super) fn wait(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        polled => polled,
    }
}

/// Beyond any socket's number.
const CHANNEL: Token = Token(usize::MAX - 1);

/// How often counts are told when something was received.
const REPORT: Duration = Duration::from_millis(500);

/// Refused datagrams whose source is looked at, between two reports: a flood pays for no more.
const NOTED: u32 = 1024;

/// How long nobody must have been held back until nobody is.
const CALM: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
