//! The only reader of clocks. Everything else is handed a [`Now`].

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of the clocks; a loop takes one per wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since an arbitrary moment in this process; never steps back. For deadlines.
    pub mono: Duration,
    /// Wall clock: since the Unix epoch. May step either way.
    pub wall: Duration,
}

impl Now {
    /// Whole Unix seconds of the wall clock.
    pub fn unix(&self) -> u64 {
        self.wall.as_secs()
    }
}

/// Reads the clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose `mono` counts from here.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        Now { mono: self.start.elapsed(), wall: wall() }
    }
}

/// The wall clock, since the Unix epoch; a clock set before the epoch reads as the epoch.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
