//! How many datagrams came, ran, and were refused for what: `received = ran + refused` once nothing is under way.

use crate::channel::{self, Lane};
use crate::control::status;
use crate::reason::DropReason;

/// Totals since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    /// Of this listener, as it last told them.
    listener: channel::Counts,
    /// Of those before it, which each began at zero.
    former: channel::Counts,
    opened: status::Lanes<u64>,
    ran: u64,
    /// Answers that no listener took.
    unsent: u64,
    refused: [u64; DropReason::ALL.len()],
}

impl Counts {
    pub(super) const ZERO: Counts = Counts {
        listener: channel::Counts::ZERO,
        former: channel::Counts::ZERO,
        opened: status::Lanes { plain: 0, stamped: 0 },
        ran: 0,
        unsent: 0,
        refused: [0; DropReason::ALL.len()],
    };

    /// The listener's totals, as it last told them.
    pub(super) fn listener(&mut self, counts: channel::Counts) {
        self.listener = counts;
    }

    /// Another listener begins to count.
    pub(super) fn listener_gone(&mut self) {
        self.former = self.both();
        self.listener = channel::Counts::ZERO;
    }

    /// A datagram came out of the listener.
    pub(super) fn opened(&mut self, lane: Lane) {
        let count = match lane {
            Lane::Plain => &mut self.opened.plain,
            Lane::Stamped(_) => &mut self.opened.stamped,
        };
        *count = count.saturating_add(1);
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

    /// What the listeners opened or refused: not what died with one of them.
    pub(super) fn received(&self) -> u64 {
        let opened = self.opened.plain.saturating_add(self.opened.stamped);
        self.both().refused.into_iter().fold(opened, u64::saturating_add)
    }

    /// What the listeners opened.
    pub(super) fn all_opened(&self) -> status::Lanes<u64> {
        self.opened
    }

    /// What waits for the listener's workers, as it last told.
    pub(super) fn lanes(&self) -> channel::Lanes {
        self.listener.lanes
    }

    pub(super) fn receive_errors(&self) -> u64 {
        self.both().receive_errors
    }

    /// Answers that could not be sent, or not even be handed to a listener.
    pub(super) fn send_errors(&self) -> u64 {
        self.both().send_errors.saturating_add(self.unsent)
    }

    pub(super) fn unsent(&mut self) {
        self.unsent = self.unsent.saturating_add(1);
    }

    pub(super) fn all_ran(&self) -> u64 {
        self.ran
    }

    /// By reason, in pipeline order: the listeners' and the keeper's own.
    pub(super) fn by_reason(&self) -> impl Iterator<Item = (DropReason, u64)> {
        let listener = channel::Counts::REASONS.into_iter().zip(self.both().refused);
        DropReason::ALL.iter().zip(self.refused).map(move |(reason, own)| {
            let there = listener.clone().find(|(other, _)| other == reason).map_or(0, |(_, count)| count);
            (*reason, own.saturating_add(there))
        })
    }

    /// As administrators are shown them. `drops` are the kernel's.
    pub(super) fn picture(&self, drops: u64) -> status::Counts {
        status::Counts {
            received: self.received(),
            ran: self.ran,
            refused: self.by_reason().map(|(reason, count)| (reason.code().to_owned(), count)).collect(),
            kernel_drops: drops,
            receive_errors: self.receive_errors(),
            send_errors: self.send_errors(),
        }
    }

    fn both(&self) -> channel::Counts {
        let mut sum = self.listener;
        sum.receive_errors = sum.receive_errors.saturating_add(self.former.receive_errors);
        sum.send_errors = sum.send_errors.saturating_add(self.former.send_errors);
        sum.refused
            .iter_mut()
            .zip(self.former.refused)
            .for_each(|(sum, former)| *sum = sum.saturating_add(former));
        sum
    }
}
