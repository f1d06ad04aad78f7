//! A token bucket.

use std::time::Duration;

use crate::clock::Now;

/// A bucket that fills at a rate and starts full; kept as the moment at which it will be full again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    full_at: Duration,
}

/// Whether there was a token.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// There was.
    Yes,
    /// There was none.
    No,
}

impl Bucket {
    /// Takes a token out of a bucket that holds `burst` and gains `rate` a second, both at least one.
    pub(crate) fn take(&mut self, now: Now, rate: u32, burst: u32) -> Taken {
        self.take_every(now, interval(rate), burst)
    }

    /// Whether it holds all it can: to forget it is to forget nothing.
    pub(crate) fn is_full(&self, now: Now) -> bool {
        self.full_at <= now.mono
    }

    /// Puts back a token that was taken for nothing.
    pub(crate) fn put_back(&mut self, rate: u32) {
        self.full_at = self.full_at.saturating_sub(interval(rate));
    }

    /// Takes a token out of a bucket that holds `burst` and gains one each `interval`.
    pub(crate) fn take_every(&mut self, now: Now, interval: Duration, burst: u32) -> Taken {
        let full_at = self.full_at.max(now.mono).saturating_add(interval);
        if full_at.saturating_sub(now.mono) > interval.saturating_mul(burst) {
            return Taken::No;
        }
        self.full_at = full_at;
        Taken::Yes
    }
}

fn interval(rate: u32) -> Duration {
    Duration::from_secs(1).checked_div(rate).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_burst_and_fills_at_its_rate() {
        let at =
            |millis| Now { mono: Duration::from_millis(millis), boot: Duration::ZERO, wall: Duration::ZERO };
        let mut bucket = Bucket::default();
        let mut taken =
            |millis, tries| (0..tries).filter(|_| bucket.take(at(millis), 10, 50) == Taken::Yes).count();
        assert_eq!(taken(1000, 60), 50);
        assert_eq!(taken(1099, 5), 0);
        assert_eq!(taken(1100, 5), 1);
        assert_eq!(taken(2100, 20), 10);
        assert_eq!(taken(3_600_000, 60), 50, "it never holds more than its burst");
    }
}
