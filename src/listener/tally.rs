//! What the loop and the workers count.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::channel::{Counts, Lanes};
use crate::reason::DropReason;

/// Shared by the loop and its workers; only ever rises.
#[derive(Debug, Default)]
pub(super) struct Tally {
    receive_errors: AtomicU64,
    send_errors: AtomicU64,
    refused: [AtomicU64; Counts::REASONS.len()],
}

impl Tally {
    pub(super) fn receive_error(&self) {
        self.receive_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn send_error(&self) {
        self.send_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, reason: DropReason) {
        let counter = Counts::REASONS.iter().zip(&self.refused).find(|(other, _)| **other == reason);
        debug_assert!(counter.is_some(), "{reason} is no reason of the listener's");
        if let Some((_, count)) = counter {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn counts(&self, lanes: Lanes) -> Counts {
        Counts {
            receive_errors: self.receive_errors.load(Ordering::Relaxed),
            send_errors: self.send_errors.load(Ordering::Relaxed),
            refused: self.refused.each_ref().map(|count| count.load(Ordering::Relaxed)),
            lanes,
        }
    }
}
