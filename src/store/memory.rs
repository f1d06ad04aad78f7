//! Claims and doors in memory: for tests and throw-away machines.
//!
//! It forgets at exit, so its floor is the time at which it started. What was claimed ahead of that clock can run
//! again after a restart, and a door that was open then stays so.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use super::doors::{DoorKey, DoorRow};
use super::{Outcome, Record, Store, StoreError, seconds};
use crate::wire::{Nonce, UserId};

/// Claims until exit.
#[derive(Debug)]
pub struct MemoryStore {
    claims: BTreeMap<Nonce, IpAddr>,
    max_claims: u64,
    floor: u32,
    doors: BTreeMap<DoorKey, String>,
}

impl MemoryStore {
    /// Holds at most `max_claims`, refuses what is not later than `wall` (now, Unix seconds).
    pub fn new(max_claims: u64, wall: u64) -> MemoryStore {
        MemoryStore { claims: BTreeMap::new(), max_claims, floor: seconds(wall), doors: BTreeMap::new() }
    }

    fn claim_one(&mut self, record: &Record) -> Outcome {
        if record.nonce.timestamp <= self.floor {
            return Outcome::BelowFloor;
        }
        let full = self.claims.len() as u64 >= self.max_claims;
        match self.claims.entry(record.nonce) {
            Entry::Occupied(known) => Outcome::Known(*known.get()),
            Entry::Vacant(_) if full => Outcome::Full,
            Entry::Vacant(room) => {
                room.insert(record.source);
                Outcome::New
            }
        }
    }
}

impl Store for MemoryStore {
    fn claim(&mut self, _wall: u64, batch: &[Record]) -> Result<Vec<Outcome>, StoreError> {
        Ok(batch.iter().map(|record| self.claim_one(record)).collect())
    }

    fn forget(&mut self, _wall: u64, before: u32) -> Result<u64, StoreError> {
        let first_kept = Nonce { timestamp: before, user: UserId(0), challenge: 0 };
        let kept = self.claims.split_off(&first_kept);
        if let Some((latest, _)) = self.claims.last_key_value() {
            self.floor = self.floor.max(latest.timestamp);
        }
        self.claims = kept;
        Ok(self.claims.len() as u64)
    }

    fn keep(&mut self, _wall: u64, rows: &[DoorRow]) -> Result<(), StoreError> {
        for row in rows {
            match &row.record {
                Some(record) => self.doors.insert(row.key.clone(), record.clone()),
                None => self.doors.remove(&row.key),
            };
        }
        Ok(())
    }

    fn doors(&mut self, _wall: u64) -> Result<Vec<(DoorKey, String)>, StoreError> {
        Ok(self.doors.clone().into_iter().collect())
    }

    fn close(self: Box<Self>, _wall: u64) -> Result<(), StoreError> {
        Ok(())
    }
}
