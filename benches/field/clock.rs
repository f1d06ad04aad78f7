//! The clock that the script reads too, and who else uses the time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::Try;

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

/// The share of all processors' time that is used, by whatever, while this thread sleeps so long.
pub(crate) fn busy_meanwhile(duration: Duration) -> Try<f64> {
    let before = idle_and_all()?;
    std::thread::sleep(duration);
    let after = idle_and_all()?;
    Ok(1.0 - (after.0 - before.0) / (after.1 - before.1).max(1.0))
}

/// Ticks since the start of the machine.
fn idle_and_all() -> Try<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let first = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> =
        first.split_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>()?;
    Ok((ticks.iter().skip(3).take(2).sum(), ticks.iter().sum()))
}

fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
