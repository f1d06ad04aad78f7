//! From totals that go on to how much there is of each in a second.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::control::status::Status;

/// The totals of the last minute.
#[derive(Default)]
pub(super) struct Rates {
    samples: VecDeque<Sample>,
}

struct Sample {
    at: Duration,
    up: u64,
    totals: BTreeMap<String, u64>,
}

/// One counter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) what: String,
    /// A second, between the last two answers.
    pub(super) now: f64,
    /// A second, over the last minute or since the first answer.
    pub(super) minute: f64,
    /// Since the daemon's start.
    pub(super) total: u64,
}

impl Rates {
    /// Notes what the daemon said at `at`.
    pub(super) fn note(&mut self, at: Duration, status: &Status) {
        // Another daemon counts from nothing.
        if self.samples.back().is_some_and(|last| last.up > status.up) {
            self.samples.clear();
        }
        self.samples.push_back(Sample { at, up: status.up, totals: totals(status) });
        while self.samples.front().is_some_and(|first| at.saturating_sub(first.at) > MINUTE) {
            self.samples.pop_front();
        }
    }

    /// Every counter.
    pub(super) fn all(&self) -> Vec<Rate> {
        let Some(last) = self.samples.back() else { return Vec::new() };
        let before = self.samples.iter().rev().nth(1);
        last.totals
            .iter()
            .map(|(what, total)| Rate {
                what: what.clone(),
                now: since(before, last, what),
                minute: since(self.samples.front(), last, what),
                total: *total,
            })
            .collect()
    }
}

fn since(earlier: Option<&Sample>, last: &Sample, what: &str) -> f64 {
    let Some(earlier) = earlier else { return 0.0 };
    let total = |sample: &Sample| sample.totals.get(what).copied().unwrap_or_default();
    let seconds = last.at.saturating_sub(earlier.at).as_secs_f64();
    let more = total(last).saturating_sub(total(earlier)) as f64;
    if seconds > 0.0 { more / seconds } else { 0.0 }
}

fn totals(status: &Status) -> BTreeMap<String, u64> {
    let counts = &status.counts;
    let mut totals = counts.refused.clone();
    let refused = totals.values().copied().fold(0, u64::saturating_add);
    totals.extend(
        [
            (RECEIVED, counts.received),
            (RAN, counts.ran),
            (REFUSED, refused),
            (STAMPED, status.lanes.stamped.opened),
            (PLAIN, status.lanes.plain.opened),
            ("(kernel drops)", counts.kernel_drops),
            ("(receive errors)", counts.receive_errors),
            ("(send errors)", counts.send_errors),
        ]
        .map(|(what, total)| (what.to_owned(), total)),
    );
    totals
}

/// Names that no reason has.
pub(super) const RECEIVED: &str = "(received)";
pub(super) const RAN: &str = "(ran)";
pub(super) const REFUSED: &str = "(refused)";
/// Opened, of each lane.
pub(super) const STAMPED: &str = "(stamped)";
pub(super) const PLAIN: &str = "(plain)";

const MINUTE: Duration = Duration::from_secs(60);
