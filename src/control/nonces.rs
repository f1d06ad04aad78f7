//! The nonces of requests: each is taken once, for as long as a request that has it could be fresh.

use std::time::Duration;

use lru::LruCache;

use super::sign::FRESHNESS;
use super::{Hex, Refused};
use crate::clock::Now;

/// The last ones. What is not expired is never thrown away for room.
#[derive(Debug)]
pub struct Nonces {
    /// Until when (monotonic) each is remembered; the oldest ends first.
    until: LruCache<Hex<16>, Duration>,
}

impl Default for Nonces {
    fn default() -> Nonces {
        // Grows as it is used: most daemons see a handful.
        Nonces { until: LruCache::unbounded() }
    }
}

impl Nonces {
    /// Takes one.
    ///
    /// # Errors
    ///
    /// [`Refused::Replayed`]; [`Refused::TooMany`]: there is no room for another.
    pub fn take(&mut self, now: Now, nonce: Hex<16>) -> Result<(), Refused> {
        while self.until.peek_lru().is_some_and(|(_, until)| *until <= now.mono) {
            self.until.pop_lru();
        }
        if self.until.contains(&nonce) {
            return Err(Refused::Replayed);
        }
        if self.until.len() >= MAX {
            return Err(Refused::TooMany);
        }
        // From FRESHNESS ahead of the clock to FRESHNESS behind it.
        self.until.put(nonce, now.mono.saturating_add(FRESHNESS.saturating_mul(2)));
        Ok(())
    }
}

const MAX: usize = 10_000;
