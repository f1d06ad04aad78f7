//! The audit trail, made where the order is made: on the store's thread.
//!
//! In: events. Out: lines of one chain, in the store first and then in `audit.jsonl` beside it. The record of a claim is
//! committed with the claim; what comes later waits, in bounded memory, for the next transaction. The file follows the
//! store: what it lacks, after a crash or a full disk, is copied from there.
//!
//! # Security considerations
//!
//! A head is told to nobody before all that it stands for is on the disk, so no crash makes it a lie. A crash of the machine
//! may take what came after the last checkpoint; the chain goes on behind what is left.

mod file;
mod recover;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use file::{FILE, files};
use file::{Standing, TrailFile};
use recover::{Fit, Longer};
pub use recover::{Folder, Recovered};

use super::{Outcome, Record, Store, StoreError, Sync};
use crate::audit::{AuditKey, Chain, Entry, Event, Head, Line, PayloadKey, TrailKey};
use crate::wire::ServerId;

/// When the trail is signed, and how it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Records after which it is signed, whatever the time.
    pub checkpoint_records: u64,
    /// Bytes of a file, after which the next one begins.
    pub rotate_size: u64,
    /// And its age.
    pub rotate_every: Duration,
    /// How long the store holds what is in a file; `None`: not at all.
    pub keep: Option<Duration>,
    /// Whose trail it is.
    pub server: Option<ServerId>,
}

/// Makes the trail.
#[derive(Debug)]
pub struct Journal {
    chain: Chain,
    key: AuditKey,
    keeping: Keeping,
    file: TrailFile,
    /// Without a record yet.
    pending: VecDeque<Entry>,
    /// Events for which there was no room, since that was last recorded.
    missed: u64,
    /// And since the start.
    all_missed: u64,
    /// Lines that the store has and the file has not, as long as they are few: they need not be read again.
    fresh: Vec<Line>,
    /// What somebody did to the file, until it is told.
    broken: Option<BrokenFile>,
    /// The last record that is signed, or was there at the start.
    signed: u64,
    /// Whether what was there at the start is not.
    left: bool,
    /// Whether the store may hold more than it said.
    ending: Ending,
    /// Holds the folder's lock, where the store does not.
    _folder: Option<Folder>,
}

/// The trail's file was not as it was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenFile {
    /// What was wrong with it, for people.
    pub what: String,
    /// Where it is now, if it was put aside; else what it lacked was written to it.
    pub aside: Option<PathBuf>,
}

/// What is known of the end of what the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Known,
    /// A transaction failed, and may be there all the same.
    Doubtful,
}

impl Journal {
    /// Opens the trail in `folder`, the store's, at wall clock `wall` (Unix seconds), mends what a crash left, and records
    /// that the daemon began.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: key or file cannot be read or made, or the store fails.
    pub fn open(
        folder: &Path,
        held: Option<Folder>,
        store: &mut dyn Store,
        keeping: Keeping,
        wall: u64,
    ) -> Result<(Journal, Recovered), StoreError> {
        recover::open(folder, held, store, keeping, wall)
    }

    /// What its checkpoints are verified with.
    pub fn public(&self) -> TrailKey {
        self.key.public()
    }

    /// Hides payloads.
    pub fn payload_key(&self) -> PayloadKey {
        self.key.payload_key()
    }

    /// Events that are to be recorded with the next transaction.
    pub(super) fn note(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            if self.pending.len() < PENDING {
                self.pending.push_back(entry);
            } else {
                self.missed = self.missed.saturating_add(1);
                self.all_missed = self.all_missed.saturating_add(1);
            }
        }
    }

    /// Events that have no record of their own and never will.
    pub(super) fn all_missed(&self) -> u64 {
        self.all_missed
    }

    /// Nothing is written any more: what waits has no record.
    pub(super) fn give_up(&mut self) {
        self.all_missed = self.all_missed.saturating_add(self.pending.len() as u64);
        self.pending.clear();
    }

    /// [`Store::claim`], with a record for each claim that is new.
    pub(super) fn claim(
        &mut self,
        store: &mut dyn Store,
        wall: u64,
        batch: &[Record],
        intents: &[Option<Box<Entry>>],
    ) -> Result<Vec<Outcome>, StoreError> {
        self.be_sure(store, wall)?;
        let (mut chain, mut lines) = (self.chain, Vec::new());
        let waiting = self.waiting(wall);
        let result = store.claim_telling(wall, batch, &mut |outcomes| {
            chain = self.chain;
            let claimed = intents.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_claimed());
            let intents = claimed.filter_map(|(intent, _)| intent.as_deref());
            lines = waiting.iter().chain(intents).map(|entry| chain.append(entry)).collect();
            lines.clone()
        });
        self.committed(result, chain, lines)
    }

    /// Records what waits.
    pub(super) fn write(&mut self, store: &mut dyn Store, wall: u64) -> Result<(), StoreError> {
        if self.pending.is_empty() && self.missed == 0 {
            return Ok(());
        }
        self.be_sure(store, wall)?;
        let mut chain = self.chain;
        let lines: Vec<Line> = self.waiting(wall).iter().map(|entry| chain.append(entry)).collect();
        let result = store.append(wall, &lines, Sync::Later);
        self.committed(result, chain, lines)
    }

    /// Whether there are enough records to be signed, or old ones, whatever the time.
    pub(super) fn is_due(&self) -> bool {
        self.left || self.unsigned() >= self.keeping.checkpoint_records
    }

    /// Signs what is not signed, and has all of it on the disk before the head is told; `None`: there is nothing new.
    pub(super) fn checkpoint(
        &mut self,
        store: &mut dyn Store,
        wall: u64,
    ) -> Result<Option<Head>, StoreError> {
        self.write(store, wall)?;
        if self.unsigned() == 0 {
            return Ok(None);
        }
        self.be_sure(store, wall)?;
        let mut chain = self.chain;
        let lines = vec![chain.checkpoint(millis(wall), &self.key, self.keeping.server)];
        let result = store.append(wall, &lines, Sync::Now);
        self.committed(result, chain, lines)?;
        (self.signed, self.left) = (self.chain.head().seq, false);
        Ok(Some(self.chain.head()))
    }

    /// Copies to the file what it lacks, whoever took that.
    pub(super) fn follow(&mut self, store: &mut dyn Store, wall: u64) -> Result<(), StoreError> {
        if let Standing::Otherwise(what) = self.file.look()? {
            let Fit { file, aside, .. } = recover::fit(self.file.folder(), store, wall, Longer::Foreign)?;
            self.file = file;
            self.broken = Some(BrokenFile { what, aside });
        }
        while self.file.last() < self.chain.head().seq {
            let next = self.file.last().saturating_add(1);
            let mut lines = std::mem::take(&mut self.fresh);
            if lines.first().is_none_or(|first| first.seq != next) {
                lines = store.lines(wall, self.file.last(), PIECE)?;
            }
            if lines.is_empty() {
                break;
            }
            self.file.append(&lines, self.keeping)?;
        }
        match self.keeping.keep {
            None => store.trim(wall, self.file.last(), u64::MAX),
            Some(_) => Ok(()),
        }
    }

    /// Has the file on the disk, and the store let go of what it no longer needs to hold.
    pub(super) fn settle(&mut self, store: &mut dyn Store, wall: u64) -> Result<(), StoreError> {
        self.file.sync()?;
        let Some(keep) = self.keeping.keep else { return Ok(()) };
        let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        store.trim(wall, self.file.last(), millis(wall).saturating_sub(keep))
    }

    /// What somebody did to the file; told once.
    pub(super) fn broken(&mut self) -> Option<BrokenFile> {
        self.broken.take()
    }

    /// Records that the file lacks.
    pub(super) fn unfiled(&self) -> u64 {
        self.chain.head().seq.saturating_sub(self.file.last())
    }

    fn unsigned(&self) -> u64 {
        self.chain.head().seq.saturating_sub(self.signed)
    }

    /// In the order of their records.
    fn waiting(&self, wall: u64) -> Vec<Entry> {
        let missed = (self.missed > 0)
            .then(|| Entry::new(Duration::from_secs(wall), Event::Missed { count: self.missed }));
        self.pending.iter().cloned().chain(missed).collect()
    }

    fn committed<T>(
        &mut self,
        result: Result<T, StoreError>,
        chain: Chain,
        lines: Vec<Line>,
    ) -> Result<T, StoreError> {
        match result {
            Ok(value) => {
                self.chain = chain;
                self.fresh.extend(lines);
                if self.fresh.len() > PENDING {
                    self.fresh = Vec::new();
                }
                self.pending.clear();
                self.missed = 0;
                Ok(value)
            }
            Err(error) => {
                self.ending = Ending::Doubtful;
                self.fresh.clear();
                Err(error)
            }
        }
    }

    /// A commit that failed may have come through: two lines with one number would end the chain.
    fn be_sure(&mut self, store: &mut dyn Store, wall: u64) -> Result<(), StoreError> {
        if self.ending == Ending::Doubtful {
            if let Some(last) = store.last_line(wall)?.filter(|last| last.seq > self.chain.head().seq) {
                self.chain = Chain::behind(Head::from(&last));
            }
            self.ending = Ending::Known;
        }
        Ok(())
    }
}

fn millis(wall: u64) -> u64 {
    wall.saturating_mul(1000)
}

/// Events that may wait for a store that fails.
const PENDING: usize = 4096;

/// Lines that are copied at once.
const PIECE: usize = 256;
