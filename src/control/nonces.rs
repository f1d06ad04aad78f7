//! The nonces of requests: each is taken once, for as long as a request that has it could be fresh. Each administrator has room of his
//! own, so that none asks so much that another is not heard.

use std::collections::HashMap;
use std::time::Duration;

use lru::LruCache;

use super::sign::FRESHNESS;
use super::{Hex, Refused};
use crate::clock::Now;

/// The last ones, by administrator. What is not expired is never thrown away for room.
#[derive(Debug, Default)]
pub struct Nonces {
    /// Until when (monotonic) each is remembered; the oldest ends first.
    of: HashMap<String, LruCache<Hex<16>, Duration>>,
}

impl Nonces {
    /// Takes one of this administrator's.
    ///
    /// # Errors
    ///
    /// [`Refused::Replayed`]; [`Refused::TooMany`]: there is no room for another.
    pub fn take(&mut self, now: Now, admin: &str, nonce: Hex<16>) -> Result<(), Refused> {
        // Grows as it is used: most see a handful.
        let until = self.of.entry(admin.to_owned()).or_insert_with(LruCache::unbounded);
        while until.peek_lru().is_some_and(|(_, until)| *until <= now.mono) {
            until.pop_lru();
        }
        if until.contains(&nonce) {
            return Err(Refused::Replayed);
        }
        if until.len() >= MAX {
            return Err(Refused::TooMany);
        }
        // From FRESHNESS ahead of the clock to FRESHNESS behind it.
        until.put(nonce, now.mono.saturating_add(FRESHNESS.saturating_mul(2)));
        Ok(())
    }
}

/// Of one administrator.
const MAX: usize = 10_000;
