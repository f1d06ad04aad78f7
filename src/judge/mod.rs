//! What may run.
//!
//! In: [`Opened`], the time, a configuration. Out: a claim to be made, then a [`Grant`] or a [`Refusal`]. Never:
//! sockets, files, clocks, processes, the log, randomness of its own.
//!
//! # Security considerations
//!
//! Until [`mac::verify`](crate::wire::mac::verify) has named a binding a packet may have been made by anybody; nothing
//! is remembered about it, and one outcome, [`DropReason::NotAuthentic`], covers all that can be wrong with it, at one
//! cost. Its nonce is claimed whether it is permitted or not, so that a knock that was denied does not come alive after a
//! reload; what a permitted one uses up is counted with the claim. A copy is recognised before the user's bucket is
//! touched: who replays a captured knock must not lock its sender out.

mod allowance;
mod explain;
mod grant;
mod hours;
mod policy;
mod replay;
mod totp;
mod verify;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

pub use crate::reason::DropReason;
pub use explain::Explained;
pub use grant::Grant;
pub use replay::Claim;
pub use verify::{Asked, Decoys, Verified};

use crate::bucket::{Bucket, Taken};
use crate::channel::Opened;
use crate::clock::Now;
use crate::config::{Config, User};
use crate::store::{self, Used};
use crate::wire::{ActionId, Bound, UserId};
use allowance::Denied;
use replay::Replay;
use verify::Signers;

/// Decides about opened datagrams, in two calls: a claim may have to wait for the store.
#[derive(Debug)]
pub struct Judge {
    config: Arc<Config>,
    decoys: Decoys,
    signers: Signers,
    replay: Replay,
    buckets: HashMap<UserId, Bucket>,
}

/// About an opened datagram.
#[must_use]
#[derive(Debug)]
pub enum Decision {
    /// Authentic, fresh, and not seen before: its nonce is to be claimed.
    Claim(Claim),
    /// Nothing more to do.
    Refuse(Refusal),
}

/// About a claimed knock.
#[must_use]
#[derive(Debug)]
pub enum Verdict {
    /// It may run.
    Grant(Grant),
    /// Nothing more to do.
    Refuse(Refusal),
}

/// A refused datagram: a value, not an error.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: DropReason,
    /// Whose it was; known once its HMAC has verified.
    pub verified: Option<Verified>,
    /// When (Unix seconds) it would not be refused for this, where that is a matter of time.
    pub next: Option<u32>,
    /// What was counted for it, to be given back.
    pub unused: Option<Used>,
}

impl Refusal {
    fn new(Denied { reason, next }: Denied, verified: Verified) -> Refusal {
        Refusal { reason, verified: Some(verified), next, unused: None }
    }
}

impl Judge {
    /// A judge for this configuration.
    pub fn new(config: Arc<Config>, decoys: Decoys) -> Judge {
        let replay = Replay::new(config.limits.nonce_cache);
        let signers = Signers::new(&config, &decoys);
        Judge { config, decoys, signers, replay, buckets: HashMap::new() }
    }

    /// Swaps the configuration; remembered nonces and buckets survive.
    pub fn reload(&mut self, config: Arc<Config>) {
        self.replay.resize(config.limits.nonce_cache);
        self.buckets.retain(|user, _| config.users.contains_key(user));
        self.signers = Signers::new(&config, &self.decoys);
        self.config = config;
    }

    /// Decode, HMAC, freshness, replay, bucket; and what the knock would use up, which the store is to count.
    pub fn opened(&mut self, now: Now, opened: &Opened) -> Decision {
        let Some(verified) = self.signers.verify(opened) else {
            let reason = DropReason::NotAuthentic;
            return Decision::Refuse(Refusal { reason, verified: None, next: None, unused: None });
        };
        match self.admit(now, &verified) {
            Ok(()) => {
                let using = policy::using(now, &self.config, &verified);
                Decision::Claim(self.replay.claim(now, self.config.freshness, verified, using))
            }
            Err(reason) => Decision::Refuse(Refusal::new(reason.into(), verified)),
        }
    }

    /// What became of the claim, then binding, user, action, source, payload once more: a reload may have come between.
    /// `None`: the store could not record it.
    pub fn claimed(&mut self, now: Now, claim: Claim, outcome: Option<store::Outcome>) -> Verdict {
        let nonce = claim.record().nonce;
        match outcome {
            Some(store::Outcome::Known(first)) => {
                self.replay.first_came_from(&nonce, first);
                self.put_back(nonce.user);
            }
            Some(store::Outcome::BelowFloor) => self.put_back(nonce.user),
            Some(
                store::Outcome::New | store::Outcome::Shared | store::Outcome::Over(_) | store::Outcome::Full,
            )
            | None => {}
        }
        match claim.settle(&self.config, outcome).and_then(|fresh| fresh.authorize(now, &self.config)) {
            Ok(grant) => Verdict::Grant(grant),
            Err(refusal) => Verdict::Refuse(refusal),
        }
    }

    /// A copy that the nonce cache did not know must not cost its user anything either.
    fn put_back(&mut self, user: UserId) {
        if let Some(bucket) = self.buckets.get_mut(&user) {
            bucket.put_back(self.config.limits.user_rate);
        }
    }

    /// Whether a knock that was granted and waits its turn would be granted by the configuration of now.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn permits(
        &self,
        now: Now,
        user: &User,
        action: ActionId,
        source: IpAddr,
        bound: Bound,
    ) -> Result<(), DropReason> {
        policy::permit(now, &self.config, user, action, source, bound)
    }

    fn admit(&mut self, now: Now, verified: &Verified) -> Result<(), DropReason> {
        if verified.action == 0 {
            return Err(DropReason::ReservedAction);
        }
        replay::fresh(now, self.config.freshness, verified.nonce.timestamp)?;
        self.replay.unseen(verified)?;
        let limits = &self.config.limits;
        let bucket = self.buckets.entry(verified.user.id).or_default();
        match bucket.take(now, limits.user_rate, limits.user_burst) {
            Taken::Yes => Ok(()),
            Taken::No => Err(DropReason::Rate),
        }
    }
}

#[cfg(test)]
mod tests;
