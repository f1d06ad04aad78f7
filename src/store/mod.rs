//! What must outlive the process: claimed nonces, what was used up with them, doors that are to be closed, and the trail of
//! what was decided.
//!
//! In: batches of claims. Out: for each, whether it is the first ever, and within its limits. In: doors as they are to be
//! kept; out: that they are on the disk. In: webhooks; out: that a kill takes none along. In: events; out: lines of the
//! [audit](crate::audit) trail, that of a claim kept in the claim's own transaction. Never: the network, policy.
//!
//! # Promise
//!
//! A nonce is claimed once, ever. Forgetting a claim (expiry, a lost file) raises one floor, `refuse_through`, to that
//! claim's timestamp, and a nonce at or below the floor is refused; so neither a clock that steps back nor a larger
//! freshness revives anything.
//!
//! What a claim uses up ([`usage`]) is counted in its transaction. A kill gives nothing of it back, nor does a crash of the
//! machine: a transaction that counts against a limit is synced before it is answered.
//!
//! A file that is lost while the daemon is stopped takes the timestamps with it: the floor of a new one is the clock
//! at start, and what was claimed ahead of that clock can run again. So it is with a file that is replaced by an older
//! copy of itself: remove it instead.
//!
//! [`sqlite`] keeps claims on disk, [`memory`] forgets them at exit; [`thread`] owns an engine, so that no commit
//! stands between the keeper and its next event.

pub mod boot;
pub mod doors;
mod folder;
pub mod hooks;
pub mod journal;
pub mod keys;
pub mod memory;
pub mod moved;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod thread;
pub mod usage;

use std::net::IpAddr;

pub use boot::Boot;
use doors::{DoorKey, DoorRow};
use hooks::HookRow;
pub use journal::Journal;
use keys::KeyRow;
pub use memory::MemoryStore;
use moved::MovedRow;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;
pub use thread::StoreThread;
pub use usage::{Over, Use, Used};

use crate::audit::Line;
use crate::exit::{Exit, Failure};
use crate::wire::{KnockId, Nonce};

/// A nonce to be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What is claimed.
    pub nonce: Nonce,
    /// Who knocked: a copy from elsewhere is told from one resent.
    pub source: IpAddr,
    /// What is counted with it; nothing for a knock that will not run, or that uses nothing up.
    pub using: Option<Use>,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Claimed and counted, recorded: this one, and no other, may run.
    New,
    /// Claimed, recorded: it may run, as part of a use that was counted before.
    Shared,
    /// Claimed, but not counted: it must not run.
    Over(Over),
    /// Claimed before, from this source.
    Known(IpAddr),
    /// At or below the floor: whether it was claimed is forgotten.
    BelowFloor,
    /// No room for another unexpired claim.
    Full,
}

impl Outcome {
    /// Whether the nonce was claimed by this, and not before.
    pub fn is_claimed(self) -> bool {
        match self {
            Outcome::New | Outcome::Shared | Outcome::Over(_) => true,
            Outcome::Known(_) | Outcome::BelowFloor | Outcome::Full => false,
        }
    }
}

impl From<usage::Spent> for Outcome {
    fn from(spent: usage::Spent) -> Outcome {
        match spent {
            usage::Spent::Counted => Outcome::New,
            usage::Spent::Shared => Outcome::Shared,
            usage::Spent::Over(over) => Outcome::Over(over),
        }
    }
}

/// An engine.
pub trait Store: Send {
    /// Claims all of `batch` in one transaction at wall clock `wall` (Unix seconds). Outcomes are in the batch's order;
    /// of two equal nonces in it the first is [`Outcome::New`].
    ///
    /// What a crash of the machine could take along is at or below the floor that follows it; any other claim is synced
    /// to the disk before this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing of the batch may run.
    fn claim(&mut self, wall: u64, batch: &[Record]) -> Result<Vec<Outcome>, StoreError>;

    /// As [`claim`](Store::claim), and keeps the lines that `tell` makes of the outcomes, in the same transaction.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing of the batch may run, and no line is kept.
    fn claim_telling(
        &mut self,
        wall: u64,
        batch: &[Record],
        tell: &mut dyn FnMut(&[Outcome]) -> Vec<Line>,
    ) -> Result<Vec<Outcome>, StoreError> {
        let outcomes = self.claim(wall, batch)?;
        self.append(wall, &tell(&outcomes), Sync::Later)?;
        Ok(outcomes)
    }

    /// Keeps these lines, behind those that are kept, in one transaction. An engine that has no place for them keeps none.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: none of them is kept.
    fn append(&mut self, _wall: u64, _lines: &[Line], _sync: Sync) -> Result<(), StoreError> {
        Ok(())
    }

    /// The lines behind the one with this number, at most so many.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn lines(&mut self, _wall: u64, _behind: u64, _most: usize) -> Result<Vec<Line>, StoreError> {
        Ok(Vec::new())
    }

    /// The last line.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn last_line(&mut self, _wall: u64) -> Result<Option<Line>, StoreError> {
        Ok(None)
    }

    /// Lets go of lines up to this number that are older than `before` (milliseconds since the Unix epoch), but for the last.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: they stay.
    fn trim(&mut self, _wall: u64, _through: u64, _before: u64) -> Result<(), StoreError> {
        Ok(())
    }

    /// Called after claims were answered, when nobody waits: may sync now, so that the next ones need not.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the claims that were answered stand.
    fn reserve(&mut self, _wall: u64) -> Result<(), StoreError> {
        Ok(())
    }

    /// Forgets claims with a timestamp below `before` and raises the floor to the latest of them, in one transaction,
    /// synced; writes nothing if there are none. Returns how many claims are left.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing is forgotten.
    fn forget(&mut self, wall: u64, before: u32) -> Result<u64, StoreError>;

    /// Keeps these doors, the last of equal ones, in one transaction, synced to the disk before this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: none of them is kept.
    fn keep(&mut self, wall: u64, rows: &[DoorRow]) -> Result<(), StoreError>;

    /// All doors that are kept, each with its record.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn doors(&mut self, wall: u64) -> Result<Vec<(DoorKey, String)>, StoreError>;

    /// Keeps these webhooks, the last of equal ones, in one transaction. A crash of the machine may take it along.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: none of them is kept.
    fn keep_hooks(&mut self, wall: u64, rows: &[HookRow]) -> Result<(), StoreError>;

    /// All webhooks that are kept, each with its record.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn hooks(&mut self, wall: u64) -> Result<Vec<(KnockId, String)>, StoreError>;

    /// Keeps what became of a user's key, in place of what was kept of him, synced to the disk before this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it is not kept.
    fn keep_key(&mut self, _wall: u64, _row: &KeyRow) -> Result<(), StoreError> {
        Ok(())
    }

    /// All that became of users' keys.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn keys(&mut self, _wall: u64) -> Result<Vec<KeyRow>, StoreError> {
        Ok(Vec::new())
    }

    /// Keeps under which of the server's keys a user knocked last, in place of what was kept of him. A crash of the machine may take
    /// it along.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it is not kept.
    fn keep_moved(&mut self, _wall: u64, _row: &MovedRow) -> Result<(), StoreError> {
        Ok(())
    }

    /// All that is kept of that.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn moved(&mut self, _wall: u64) -> Result<Vec<MovedRow>, StoreError> {
        Ok(Vec::new())
    }

    /// Gives back a use of which nothing came, if it was counted. Nothing may depend on it: a crash may come first.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it stays used.
    fn give_back(&mut self, _wall: u64, _used: Used) -> Result<(), StoreError> {
        Ok(())
    }

    /// Ends in order: what is recorded is on the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn close(self: Box<Self>, wall: u64) -> Result<(), StoreError>;
}

/// When a transaction is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Before its commit returns, and with it all before it.
    Now,
    /// When the system gets to it.
    Later,
}

/// Why an engine cannot record.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct StoreError {
    /// What is wrong, and with which file.
    pub what: String,
    /// How to mend it.
    pub hint: String,
    /// The program's exit code, when it happens at start.
    pub exit: Exit,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::new(error.exit, error.what).hint(error.hint)
    }
}

/// A wall clock in the packet's unit; past its end (2106) it stands still, and refuses.
fn seconds(wall: u64) -> u32 {
    u32::try_from(wall).unwrap_or(u32::MAX)
}
