//! Verified -> Claim -> Fresh: each knock in its time, and once.

use std::net::IpAddr;
use std::time::Duration;

use lru::LruCache;

use super::allowance::{self, Denied};
use super::{DropReason, Refusal, Verified};
use crate::clock::Now;
use crate::config::Config;
use crate::config::resolved::SecondFactor;
use crate::store::{self, Use, Used};
use crate::wire::Nonce;

/// An authentic knock, fresh by the clock, whose nonce is to be claimed in the store.
#[derive(Debug)]
pub struct Claim {
    verified: Verified,
    /// What is counted with it; or why it will not run, though it is claimed all the same.
    using: Result<Option<Use>, Denied>,
}

/// A knock whose nonce is claimed, and whose use is counted: this one, and no other, may run.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) verified: Verified,
    pub(super) used: Option<Used>,
    /// What was proved beside the HMAC.
    pub(super) proved: SecondFactor,
}

impl Claim {
    /// What the store is to record.
    pub fn record(&self) -> store::Record {
        store::Record {
            nonce: self.verified.nonce,
            source: self.verified.source.ip(),
            using: self.using.ok().flatten(),
        }
    }

    /// Whose it is.
    pub fn verified(&self) -> &Verified {
        &self.verified
    }

    /// The store didn't take it: nothing was recorded.
    pub fn refuse(self, reason: DropReason) -> Refusal {
        Refusal::new(reason.into(), self.verified)
    }

    pub(super) fn settle(self, config: &Config, outcome: Option<store::Outcome>) -> Result<Fresh, Refusal> {
        let verified = self.verified;
        let proved = match self.using {
            Ok(Some(Use { code: Some(_), .. })) => SecondFactor::Totp,
            Ok(_) | Err(_) => SecondFactor::None,
        };
        let denied = match outcome {
            Some(store::Outcome::New) => match self.using {
                Ok(using) => {
                    let user = verified.user.id;
                    let used = using.map(|Use { at, action, .. }| Used { user, action, at });
                    return Ok(Fresh { verified, used, proved });
                }
                Err(denied) => denied,
            },
            Some(store::Outcome::Shared) => return Ok(Fresh { verified, used: None, proved }),
            Some(store::Outcome::Over(over)) => allowance::over(config, &verified, over),
            Some(store::Outcome::Known(source)) => copy_from(source, &verified).into(),
            Some(store::Outcome::BelowFloor) => DropReason::Floor.into(),
            Some(store::Outcome::Full) => DropReason::StoreFull.into(),
            None => DropReason::StoreFailed.into(),
        };
        Err(Refusal::new(denied, verified))
    }
}

/// Whether the timestamp is within `freshness` of the wall clock, both ends included.
pub(super) fn fresh(now: Now, freshness: Duration, timestamp: u32) -> Result<(), DropReason> {
    let (now, timestamp, freshness) = (now.unix(), u64::from(timestamp), freshness.as_secs());
    if timestamp.saturating_add(freshness) < now {
        Err(DropReason::Stale)
    } else if now.saturating_add(freshness) < timestamp {
        Err(DropReason::Ahead)
    } else {
        Ok(())
    }
}

/// Nonces claimed lately: a fast way to say no. The store says yes.
#[derive(Debug)]
pub(super) struct Replay {
    seen: LruCache<Nonce, Seen>,
    limit: usize,
}

#[derive(Debug)]
struct Seen {
    source: IpAddr,
    expires: u64,
}

impl Replay {
    pub(super) fn new(limit: usize) -> Replay {
        Replay { seen: LruCache::unbounded(), limit }
    }

    pub(super) fn resize(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(super) fn unseen(&self, verified: &Verified) -> Result<(), DropReason> {
        match self.seen.peek(&verified.nonce) {
            Some(seen) => Err(copy_from(seen.source, verified)),
            None => Ok(()),
        }
    }

    /// Remembers the nonce before the store has it, so that a copy that comes meanwhile is refused. An unexpired nonce
    /// is never forgotten for another: when there is no room, the store alone knows the new one.
    pub(super) fn claim(
        &mut self,
        now: Now,
        freshness: Duration,
        verified: Verified,
        using: Result<Option<Use>, Denied>,
    ) -> Claim {
        while self.seen.len() >= self.limit
            && self.seen.peek_lru().is_some_and(|(_, oldest)| oldest.expires < now.unix())
        {
            self.seen.pop_lru();
        }
        if self.seen.len() < self.limit {
            let expires = u64::from(verified.nonce.timestamp).saturating_add(freshness.as_secs());
            self.seen.push(verified.nonce, Seen { source: verified.source.ip(), expires });
        }
        Claim { verified, using }
    }

    /// Copies are told apart by the source that the store has, not by the first one seen since the start: that one may
    /// be the thief's.
    pub(super) fn first_came_from(&mut self, nonce: &Nonce, source: IpAddr) {
        if let Some(seen) = self.seen.peek_mut(nonce) {
            seen.source = source;
        }
    }
}

/// A client may send a knock twice; it does not move to another address meanwhile.
fn copy_from(first: IpAddr, copy: &Verified) -> DropReason {
    if copy.source.ip() == first { DropReason::Replay } else { DropReason::Contested }
}
