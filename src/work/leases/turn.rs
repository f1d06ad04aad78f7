//! A turn: who holds the door, and what the kernel was told of it.

use std::time::Duration;

use super::Happening;
use super::door::Out;
use super::record::{Kernel, Lease, Phase, Reason, Step, Told, Turn};
use crate::clock::Now;
use crate::config::resolved::Again;
use crate::judge::DropReason;
use crate::store::doors::DoorKey;
use crate::work::nft;

impl Turn {
    /// A new lease, or one that goes on.
    pub(super) fn hold(
        &mut self,
        now: Now,
        key: &DoorKey,
        user: &str,
        lease: Lease,
        again: Again,
        out: &mut Out,
    ) -> Result<(), DropReason> {
        let Some(held) = self.leases.get_mut(user) else {
            out.tell(key, lease.id, user, Happening::Began(lease.hold));
            self.leases.insert(user.to_owned(), lease);
            return Ok(());
        };
        match again {
            Again::Refuse => return Err(DropReason::Held),
            Again::Extend if held.until >= lease.until => {}
            Again::Extend | Again::Restart => *held = Lease { id: held.id, ..lease },
        }
        out.tell(key, held.id, user, Happening::Extended(held.until.saturating_sub(now.boot)));
        Ok(())
    }

    pub(super) fn end(
        &mut self,
        key: &DoorKey,
        reason: Reason,
        meant: impl Fn(&str, &Lease) -> bool,
        out: &mut Out,
    ) {
        for (user, lease) in self.leases.extract_if(.., |user, lease| meant(user, lease)) {
            out.tell(key, lease.id, &user, Happening::Ended(reason));
            self.last = reason;
        }
    }

    /// When the last lease ends.
    pub(super) fn end_of_all(&self) -> Duration {
        self.leases.values().map(|lease| lease.until).max().unwrap_or_default()
    }

    /// What opens the door until `left` is over, which the kernel is told herewith.
    pub(super) fn batch(&mut self, key: &DoorKey, left: Duration) -> Option<Vec<u8>> {
        let until = self.end_of_all();
        let kernel = self.kernel.as_mut()?;
        let attempt = match kernel.told {
            Told::Failed(attempt, _) => attempt.saturating_add(1),
            Told::Unknown | Told::Asked(..) | Told::Known(_) => 1,
        };
        kernel.told = Told::Asked(until, attempt);
        Some(nft::open(&kernel.set, key.source, left).stdin)
    }

    /// When (since boot) the kernel is to be told, if it is to be.
    pub(super) fn renewal(&self) -> Option<Duration> {
        let kernel = self.kernel.as_ref().filter(|_| self.phase == Phase::Open && !self.leases.is_empty())?;
        match kernel.told {
            Told::Unknown => Some(Duration::ZERO),
            Told::Known(until) => (until != self.end_of_all()).then_some(Duration::ZERO),
            Told::Failed(_, at) => Some(at),
            Told::Asked(..) => None,
        }
    }

    pub(super) fn is_being_told(&self) -> bool {
        self.closes() && matches!(&self.kernel, Some(Kernel { told: Told::Asked(..), .. }))
    }

    /// What came of telling the kernel.
    pub(super) fn told(&mut self, came: impl FnOnce(Duration, u32) -> Told) {
        if let Some(kernel) = &mut self.kernel
            && let Told::Asked(until, attempt) = kernel.told
        {
            kernel.told = came(until, attempt);
        }
    }

    /// The next attempt to undo it.
    pub(super) fn close(&mut self, reason: Reason) {
        let attempt = match self.phase {
            Phase::Opening | Phase::Open => 1,
            Phase::Closing(_, attempt, _) => attempt.saturating_add(1),
        };
        self.phase = Phase::Closing(reason, attempt, Step::ToBeKept);
    }

    pub(super) fn closes(&self) -> bool {
        matches!(self.phase, Phase::Closing(..))
    }

    pub(super) fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Closing(_, _, Step::Waits(_)))
    }
}
