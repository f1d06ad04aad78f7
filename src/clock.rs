//! The only reader of clocks. Everything else is handed a [`Now`].

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of the clocks; a loop takes one per wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since an arbitrary moment in this process; never steps back. For deadlines.
    pub mono: Duration,
    /// Since the machine booted, the time that it slept included (CLOCK_BOOTTIME); never steps back. For leases, whose
    /// deadlines outlive this process.
    pub boot: Duration,
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

    /// Reads the clocks.
    pub fn now(&self) -> Now {
        Now { mono: self.start.elapsed(), boot: boot(), wall: wall() }
    }
}

/// Since the machine booted; zero where the kernel has no such clock.
#[cfg(feature = "server")]
pub fn boot() -> Duration {
    let read = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    read.map(Duration::from).unwrap_or_default()
}

/// A client holds no leases.
#[cfg(not(feature = "server"))]
fn boot() -> Duration {
    Duration::ZERO
}

/// The wall clock, since the Unix epoch; a clock set before the epoch reads as the epoch.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn wall() -> Duration {
    stepped(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(not(feature = "crash-points"))]
fn stepped(wall: Duration) -> Duration {
    wall
}

/// As far from the truth as a test has written to the file SIGLATCH_CLOCK_FILE, in seconds.
#[cfg(feature = "crash-points")]
fn stepped(wall: Duration) -> Duration {
    static FILE: std::sync::OnceLock<Option<std::ffi::OsString>> = std::sync::OnceLock::new();
    let file = FILE.get_or_init(|| std::env::var_os("SIGLATCH_CLOCK_FILE")).as_ref();
    let step = file
        .and_then(|path| std::fs::read_to_string(path).ok())
        .and_then(|text| text.trim().parse::<i64>().ok());
    let by = Duration::from_secs(step.unwrap_or(0).unsigned_abs());
    if step.unwrap_or(0) < 0 { wall.saturating_sub(by) } else { wall.saturating_add(by) }
}
