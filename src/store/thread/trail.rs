//! The trail, as the store's thread looks after it: when nobody waits for a claim.

use super::{Journal, NotRecorded, Reply, StoreError, Worker, say};
use crate::audit::Entry;
use crate::crash;

/// Whether there is a reply to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Something,
    Nothing,
}

impl<T> Worker<T> {
    /// What the trail lacks is written when nobody waits for it any more.
    pub(super) fn tend(&mut self, wall: impl Fn() -> u64) -> Said {
        let Some(journal) = &mut self.journal else { return Said::Nothing };
        let filed = self.file_failing.is_none();
        let written = journal.write(&mut *self.store, wall());
        let due = journal.is_due();
        let said = if self.settle(written, 0).is_none() { Said::Something } else { Said::Nothing };
        if due {
            self.checkpoint(wall());
            return Said::Something;
        }
        let follows = self.follow(wall()).is_ok();
        if self.broken() == Said::Nothing && follows == filed { said } else { Said::Something }
    }

    pub(super) fn note(&mut self, entries: Vec<Entry>) {
        if let Some(journal) = &mut self.journal {
            journal.note(entries);
            self.count();
        }
    }

    /// Signs all of it. What cannot be written by now never is.
    pub(super) fn end(&mut self, wall: u64) {
        self.checkpoint(wall);
        if let Some(journal) = &mut self.journal {
            journal.give_up();
            self.count();
        }
    }

    /// Reports that there are more events without a record.
    fn count(&mut self) {
        let missed = self.journal.as_ref().map_or(0, Journal::all_missed);
        if missed > self.missed {
            self.missed = missed;
            say(&self.outbox, Reply::Missed(missed));
        }
    }

    pub(super) fn checkpoint(&mut self, wall: u64) {
        let Some(journal) = &mut self.journal else { return };
        let signed = journal.checkpoint(&mut *self.store, wall);
        let Some(head) = self.settle(signed, 0) else { return };
        crash::point("audit-signed");
        // Also where there is nothing new: who changes the file is not to wait for that.
        let follows = self.follow(wall);
        self.broken();
        let (Some(head), Ok(())) = (head, follows) else { return };
        let settled = self.journal.as_mut().map_or(Ok(()), |journal| journal.settle(&mut *self.store, wall));
        if self.file(settled).is_ok() {
            say(&self.outbox, Reply::Head(head));
        }
    }

    fn follow(&mut self, wall: u64) -> Result<(), NotRecorded> {
        crash::point("audit-before-file");
        let followed = self.journal.as_mut().map_or(Ok(()), |journal| journal.follow(&mut *self.store, wall));
        crash::point("audit-after-file");
        self.file(followed)
    }

    /// Reports what somebody did to the trail's file.
    fn broken(&mut self) -> Said {
        let Some(broken) = self.journal.as_mut().and_then(Journal::broken) else { return Said::Nothing };
        say(&self.outbox, Reply::FileBroken(broken));
        Said::Something
    }

    /// Reports that the trail's file began to fail or to work again.
    fn file(&mut self, result: Result<(), StoreError>) -> Result<(), NotRecorded> {
        match result {
            Ok(()) => {
                if self.file_failing.take().is_some() {
                    say(&self.outbox, Reply::FileRecovered);
                }
                Ok(())
            }
            Err(error) => {
                if self.file_failing.as_deref() != Some(&error.what) {
                    self.file_failing = Some(error.what.clone());
                    say(&self.outbox, Reply::FileFailing(error));
                }
                Err(NotRecorded)
            }
        }
    }
}
