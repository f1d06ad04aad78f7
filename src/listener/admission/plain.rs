//! Plain datagrams: who gets the private-key operations that stamped ones leave. Pure.
//!
//! While there are enough, everybody. When they are short, prefixes (an IPv4 address, an IPv6 /64) that knocked well
//! lately come first, each within its allowance; of the others each has an allowance too, and what passes it shares what
//! is left by chance ([`lanes`](crate::listener::lanes)).

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use lru::LruCache;

use super::{Supply, Way};
use crate::bucket::{Bucket, Taken};
use crate::channel::Limits;
use crate::clock::Now;
use crate::reason::DropReason;

/// What is remembered about those who send no stamps. All of it is bounded, and nobody can choose where he falls: what is
/// hashed is hashed under a random key.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    hasher: RandomState,
    seen: Seen,
    prefixes: Prefixes,
    settled: Settled,
}

impl Strangers {
    /// Where it waits, and how it is known again.
    pub(super) fn take(
        &mut self,
        now: Now,
        supply: Supply,
        source: IpAddr,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<(Way, u64), DropReason> {
        // With its source: a thief's copy must not keep the datagram itself out.
        let mark = self.hasher.hash_one((source, bytes));
        if self.seen.set.contains(&mark) {
            return Err(DropReason::Seen);
        }
        let prefix = self.hasher.hash_one(prefix(source));
        let way = if self.settled.take(now, prefix, limits) == Taken::Yes {
            Way::Settled
        } else {
            let taken = match supply {
                Supply::Ample => Taken::Yes,
                Supply::Short => self.prefixes.take(now, prefix, limits),
            };
            match taken {
                Taken::Yes => Way::Stranger,
                Taken::No => return Err(DropReason::Prefix),
            }
        };
        self.seen.insert(mark);
        Ok((way, mark))
    }

    pub(super) fn settle(&mut self, now: Now, source: IpAddr) {
        let prefix = self.hasher.hash_one(prefix(source));
        self.settled.put(now, prefix);
    }

    pub(super) fn forget(&mut self, mark: u64) {
        self.seen.set.remove(&mark);
    }
}

/// An IPv4 address, or the upper half of an IPv6 one: who has one of it has all of it.
fn prefix(source: IpAddr) -> (u8, u64) {
    match source {
        IpAddr::V4(v4) => (4, u32::from(v4).into()),
        IpAddr::V6(v6) => (6, u64::try_from(u128::from(v6) >> 64).unwrap_or(u64::MAX)),
    }
}

/// The datagrams that were taken last. To forget one early costs an operation.
#[derive(Debug, Default)]
struct Seen {
    set: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Seen {
    fn insert(&mut self, mark: u64) {
        if self.order.len() >= SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        self.set.insert(mark);
        self.order.push_back(mark);
    }
}

/// Buckets by prefix, in a table of fixed size. One that is full again knows nothing, so another prefix may have its
/// place: nothing is ever swept.
#[derive(Debug, Default)]
struct Prefixes {
    /// By the prefix's hash, each within [`PROBES`] of its place. Empty until operations are short for the first time.
    slots: Vec<(u64, Bucket)>,
}

impl Prefixes {
    /// A prefix without a bucket, for there is no place for it, is left to chance with all the others.
    fn take(&mut self, now: Now, prefix: u64, limits: &Limits) -> Taken {
        let len = usize::try_from(limits.prefixes).unwrap_or(usize::MAX).max(PROBES);
        if self.slots.len() != len {
            self.slots = vec![(0, Bucket::default()); len];
        }
        let places = len.saturating_sub(PROBES).saturating_add(1) as u64;
        // Below the length of the table, so it fits.
        let start = usize::try_from(prefix.checked_rem(places).unwrap_or(0)).unwrap_or(0);
        let near = self.slots.get_mut(start..).unwrap_or_default();
        let near = near.get_mut(..PROBES).unwrap_or_default();
        let at = near
            .iter()
            .position(|(owner, _)| *owner == prefix)
            .or_else(|| near.iter().position(|(_, bucket)| bucket.is_full(now)));
        let Some((owner, bucket)) = at.and_then(|at| near.get_mut(at)) else {
            return Taken::Yes;
        };
        if *owner != prefix {
            (*owner, *bucket) = (prefix, Bucket::default());
        }
        bucket.take(now, limits.prefix_rate, limits.prefix_burst)
    }
}

/// Prefixes from which somebody knocked well lately, each with an allowance: there may be others behind one address.
#[derive(Debug)]
struct Settled(LruCache<u64, (Duration, Bucket)>);

impl Default for Settled {
    fn default() -> Settled {
        Settled(LruCache::unbounded())
    }
}

impl Settled {
    fn put(&mut self, now: Now, prefix: u64) {
        let until = now.mono.saturating_add(SETTLED_FOR);
        match self.0.get_mut(&prefix) {
            Some((known, _)) => *known = until,
            None => {
                if self.0.len() >= SETTLED {
                    self.0.pop_lru();
                }
                self.0.push(prefix, (until, Bucket::default()));
            }
        }
    }

    fn take(&mut self, now: Now, prefix: u64, limits: &Limits) -> Taken {
        match self.0.peek_mut(&prefix) {
            Some((until, bucket)) if now.mono < *until => {
                bucket.take(now, limits.prefix_rate, limits.prefix_burst)
            }
            Some(_) | None => Taken::No,
        }
    }
}

/// Datagrams that are known again, 16 bytes each.
const SEEN: usize = 8192;

/// Places in which a prefix's bucket may be.
const PROBES: usize = 8;

/// Settled prefixes; beyond, the one that knocked longest ago is a stranger again.
const SETTLED: usize = 8192;

/// How long after a good knock.
const SETTLED_FOR: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests;
