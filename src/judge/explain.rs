//! What would become of a knock: the judge's own stages, with nothing claimed, counted or remembered.

use super::{DropReason, Judge, Verified, policy, replay};
use crate::channel::Opened;
use crate::clock::Now;

/// What would become of it.
#[derive(Debug)]
pub struct Explained {
    /// Whose it is; `None`: not authentic, and nothing finer is known.
    pub verified: Option<Verified>,
    /// The first check that it fails; `None`: it would run, unless the store says that its nonce was claimed before, or that quota or
    /// cooldown forbid it.
    pub refused: Option<DropReason>,
}

impl Judge {
    /// Judges it as if it came now.
    pub fn explain(&self, now: Now, opened: &Opened) -> Explained {
        let Some(verified) = self.signers.verify(opened) else {
            return Explained { verified: None, refused: Some(DropReason::NotAuthentic) };
        };
        let judged = replay::fresh(now, self.config.freshness, verified.nonce.timestamp)
            .and_then(|()| self.replay.unseen(&verified))
            .and_then(|()| policy::using(now, &self.config, &verified).map_err(|denied| denied.reason));
        let refused = judged.err();
        Explained { verified: Some(verified), refused }
    }
}
