//! How many datagrams came, ran, and were refused for what: `received = ran + refused` once nothing is under way.

use crate::channel;
use crate::reason::DropReason;

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    listener: channel::Counts,
    ran: u64,
    refused: [u64; DropReason::ALL.len()],
}

impl Counts {
    /// The listener's totals, as it last told them.
    pub(super) fn listener(&mut self, counts: channel::Counts) {
        self.listener = counts;
    }

    pub(super) fn ran(&mut self) {
        self.ran = self.ran.saturating_add(1);
    }

    pub(super) fn refused(&mut self, reason: DropReason) {
        // ALL is in the order of declaration.
        if let Some(count) = self.refused.get_mut(reason as usize) {
            *count = count.saturating_add(1);
        }
    }

    pub(super) fn received(&self) -> u64 {
        self.listener.received
    }

    pub(super) fn receive_errors(&self) -> u64 {
        self.listener.receive_errors
    }

    pub(super) fn all_ran(&self) -> u64 {
        self.ran
    }

    /// By reason, in pipeline order: the listener's and the keeper's own.
    pub(super) fn by_reason(&self) -> impl Iterator<Item = (DropReason, u64)> {
        let listener = channel::Counts::REASONS.into_iter().zip(self.listener.refused);
        DropReason::ALL.iter().zip(self.refused).map(move |(reason, own)| {
            let there = listener.clone().find(|(other, _)| other == reason).map_or(0, |(_, count)| count);
            (*reason, own.saturating_add(there))
        })
    }
}
