//! The only `unsafe`: what the kernel offers and no safe crate wraps.

#[cfg(feature = "server")]
pub mod spawn;

/// Whether the kernel knows this machine's clock to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockSync {
    /// Something (NTP, a hypervisor) keeps it right.
    Synchronized,
    /// Nothing does, or it has lost its source.
    Unsynchronized,
}

/// Asks the kernel whether the clock is kept right: adjtimex(2). `None`: it does not say.
#[cfg(target_os = "linux")]
pub fn clock_sync() -> Option<ClockSync> {
    #![expect(unsafe_code, reason = "adjtimex(2) is wrapped by no safe crate")]
    // SAFETY: `timex` is integers and a `timeval` of integers; all of them may be zero.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // `modes` is zero: nothing is set, so no privilege is needed.
    // SAFETY: the pointer is to a live `timex` of this libc's own layout, which the call fills and does not keep.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    match state {
        -1 => None,
        libc::TIME_ERROR => Some(ClockSync::Unsynchronized),
        _ if timex.status & libc::STA_UNSYNC != 0 => Some(ClockSync::Unsynchronized),
        _ => Some(ClockSync::Synchronized),
    }
}

/// Other kernels are not asked.
#[cfg(not(target_os = "linux"))]
pub fn clock_sync() -> Option<ClockSync> {
    None
}
