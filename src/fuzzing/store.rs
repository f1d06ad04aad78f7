//! A store that outlives its daemon, and fails when told to.

use std::sync::{Arc, Mutex, PoisonError};

use crate::exit::Exit;
use crate::store::doors::{DoorKey, DoorRow};
use crate::store::hooks::HookRow;
use crate::store::{MemoryStore, Outcome, Record, Store, StoreError, Used};
use crate::wire::KnockId;

/// What is on the disk.
#[derive(Clone)]
pub(super) struct Disk(Arc<Mutex<(MemoryStore, Health)>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    Failing,
}

impl Disk {
    /// Nothing is claimed, and nothing up to `floor` (Unix seconds) will be.
    pub(super) fn new(floor: u64) -> Disk {
        let store = MemoryStore::new(MAX_CLAIMS, floor);
        Disk(Arc::new(Mutex::new((store, Health::Good))))
    }

    pub(super) fn open(&self) -> Box<dyn Store> {
        Box::new(self.clone())
    }

    pub(super) fn set(&self, health: Health) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = health;
    }

    fn with<T>(&self, act: impl FnOnce(&mut MemoryStore) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let (store, health) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match health {
            Health::Good => act(store),
            Health::Failing => Err(StoreError {
                what: "the disk is full".to_owned(),
                hint: "make room".to_owned(),
                exit: Exit::TryAgain,
            }),
        }
    }
}

impl Store for Disk {
    fn claim(&mut self, wall: u64, batch: &[Record]) -> Result<Vec<Outcome>, StoreError> {
        self.with(|store| store.claim(wall, batch))
    }

    fn forget(&mut self, wall: u64, before: u32) -> Result<u64, StoreError> {
        self.with(|store| store.forget(wall, before))
    }

    fn keep(&mut self, wall: u64, rows: &[DoorRow]) -> Result<(), StoreError> {
        self.with(|store| store.keep(wall, rows))
    }

    fn doors(&mut self, wall: u64) -> Result<Vec<(DoorKey, String)>, StoreError> {
        self.with(|store| store.doors(wall))
    }

    fn keep_hooks(&mut self, wall: u64, rows: &[HookRow]) -> Result<(), StoreError> {
        self.with(|store| store.keep_hooks(wall, rows))
    }

    fn hooks(&mut self, wall: u64) -> Result<Vec<(KnockId, String)>, StoreError> {
        self.with(|store| store.hooks(wall))
    }

    fn give_back(&mut self, wall: u64, used: Used) -> Result<(), StoreError> {
        self.with(|store| store.give_back(wall, used))
    }

    fn close(self: Box<Self>, _wall: u64) -> Result<(), StoreError> {
        Ok(())
    }
}

const MAX_CLAIMS: u64 = 8;
