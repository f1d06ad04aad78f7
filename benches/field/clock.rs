//! The clock that the script reads too.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC, in nanoseconds.
pub(crate) fn nanos() -> u64 {
    read(ClockId::Monotonic)
}

/// Processor time of this thread, in nanoseconds.
pub(crate) fn thread_nanos() -> u64 {
    read(ClockId::ThreadCPUTime)
}

/// A duration as the clock counts, up to 584 years.
pub(crate) fn ns(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// Sleeps until the clock shows this.
pub(crate) fn sleep_until(nanoseconds: u64) {
    std::thread::sleep(Duration::from_nanos(nanoseconds.saturating_sub(nanos())));
}

/// Wall clock, Unix seconds.
pub(crate) fn unix() -> u32 {
    clock_gettime(ClockId::Realtime).tv_sec as u32
}

fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
