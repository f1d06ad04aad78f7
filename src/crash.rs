//! Steps at which a test may kill the process.
//!
//! With the feature `crash-points`, SIGLATCH_CRASH_AT=STEP in the environment makes the process end itself with SIGKILL
//! at its first [`point`] of that name. Without the feature a [`point`] compiles to nothing.

/// Here a test may kill the process.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(crate) fn point(_step: &str) {}

/// Here a test may kill the process.
#[cfg(feature = "crash-points")]
pub(crate) fn point(step: &str) {
    use std::sync::OnceLock;

    use nix::sys::signal::{Signal, raise};

    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var("SIGLATCH_CRASH_AT").ok());
    if wanted.as_deref() == Some(step) {
        // raise(3) sends to this thread: it runs no further instruction.
        if raise(Signal::SIGKILL).is_err() {
            std::process::abort();
        }
    }
}
