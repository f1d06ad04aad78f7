//! What a test may make a program do.
//!
//! With the feature `crash-points`, SIGLATCH_CRASH_AT=STEP in the environment makes the process end itself with SIGKILL
//! at its first [`point`] of that name, STEP:N at its Nth, SIGLATCH_LACKS=LAYER,... makes the kernel seem to lack a layer of the sandbox, and
//! SIGLATCH_MISBEHAVE=NUMBER:WHAT makes that listener hostile, counted from 1. Without the feature all of it compiles to
//! nothing.

use crate::layers::Layer;

/// Here a test may kill the process.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(crate) fn point(_step: &str) {}

/// Here a test may kill the process.
#[cfg(feature = "crash-points")]
pub(crate) fn point(step: &str) {
    use std::sync::OnceLock;

    use std::sync::atomic::{AtomicUsize, Ordering};

    use nix::sys::signal::{Signal, raise};

    static WANTED: OnceLock<Option<(String, usize)>> = OnceLock::new();
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let wanted = WANTED.get_or_init(|| {
        let wanted = std::env::var("SIGLATCH_CRASH_AT").ok()?;
        let (step, nth) = wanted.split_once(':').unwrap_or((&wanted, "1"));
        Some((step.to_owned(), nth.parse().ok()?))
    });
    let Some((_, nth)) = wanted.as_ref().filter(|(wanted, _)| wanted == step) else {
        return;
    };
    if SEEN.fetch_add(1, Ordering::Relaxed).wrapping_add(1) == *nth {
        // raise(3) sends to this thread: it runs no further instruction.
        if raise(Signal::SIGKILL).is_err() {
            std::process::abort();
        }
    }
}

/// Whether a test wants this kernel to lack a layer.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(crate) fn lacks(_layer: Layer) -> bool {
    false
}

/// Whether a test wants this kernel to lack a layer: by the environment, or, in the listener, which has none, by `--lacks`.
#[cfg(feature = "crash-points")]
pub(crate) fn lacks(layer: Layer) -> bool {
    let given = std::env::args().find_map(|arg| arg.strip_prefix("--lacks=").map(str::to_owned));
    let lacking = given.or_else(|| std::env::var("SIGLATCH_LACKS").ok()).unwrap_or_default();
    lacking.split(',').any(|name| format!("{layer:?}").eq_ignore_ascii_case(name))
}

/// What a test wants the listener with this number to do, as its arguments.
#[cfg(feature = "crash-points")]
pub(crate) fn orders(number: u64) -> Vec<String> {
    let lacks = std::env::var("SIGLATCH_LACKS").ok().map(|lacks| format!("--lacks={lacks}"));
    let misbehave = std::env::var("SIGLATCH_MISBEHAVE").ok();
    let what = misbehave.and_then(|misbehave| {
        let (at, what) = misbehave.split_once(':')?;
        (at == number.to_string()).then(|| format!("--misbehave={what}"))
    });
    lacks.into_iter().chain(what).collect()
}
