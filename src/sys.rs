//! The only `unsafe`: what the kernel and AWS-LC offer and no safe crate wraps.

#[cfg(all(feature = "server", feature = "aws-lc"))]
pub(crate) mod rsa;
#[cfg(feature = "server")]
pub mod spawn;

#[cfg(feature = "server")]
use std::io;

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

/// Marks every open descriptor but 0, 1 and 2 close-on-exec: what this process was started with does not reach the
/// programs that it starts.
///
/// # Errors
///
/// When /proc/self/fd can't be read, or a descriptor can't be marked.
#[cfg(feature = "server")]
pub fn close_on_exec() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if fd <= 2 {
            continue;
        }
        // SAFETY: F_SETFD touches no memory and closes nothing. The flag is the one that everything opened by std has
        // already; a descriptor that was closed since it was listed gives EBADF.
        #[expect(unsafe_code, reason = "no safe wrapper takes a bare descriptor")]
        let marked = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        if marked == -1 && io::Error::last_os_error().raw_os_error() != Some(libc::EBADF) {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Has the program choose which socket of a SO_REUSEPORT group gets a datagram, by their order of binding:
/// SO_ATTACH_REUSEPORT_CBPF, socket(7). It sees the payload.
///
/// # Errors
///
/// The operating system's, when it refuses the program.
#[cfg(feature = "server")]
pub fn choose_socket(socket: &impl std::os::fd::AsRawFd, program: &[libc::sock_filter]) -> io::Result<()> {
    #![expect(unsafe_code, reason = "setsockopt(SO_ATTACH_REUSEPORT_CBPF) is wrapped by no safe crate")]
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let size = libc::socklen_t::try_from(size_of_val(&program)).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the kernel copies `len` instructions from `filter`, which outlive the call, and writes nothing; a program that
    // it does not like is refused.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes that program away again: SO_DETACH_REUSEPORT_BPF, socket(7).
///
/// # Errors
///
/// The operating system's; there was none, for one.
#[cfg(feature = "server")]
pub fn leave_choice(socket: &impl std::os::fd::AsRawFd) -> io::Result<()> {
    #![expect(unsafe_code, reason = "setsockopt(SO_DETACH_REUSEPORT_BPF) is wrapped by no safe crate")]
    /// The crate libc has it for glibc only.
    const SO_DETACH_REUSEPORT_BPF: libc::c_int = 68;
    let unused: libc::c_int = 0;
    let size = libc::socklen_t::try_from(size_of_val(&unused)).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the kernel reads an integer, which outlives the call, and writes nothing.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_DETACH_REUSEPORT_BPF,
            (&raw const unused).cast(),
            size,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many datagrams the kernel has dropped in front of a socket, for want of room or by its filter, modulo 2^32:
/// SO_MEMINFO. `None`: it does not say.
#[cfg(feature = "server")]
pub fn drops(socket: &impl std::os::fd::AsRawFd) -> Option<u32> {
    #![expect(unsafe_code, reason = "getsockopt(SO_MEMINFO) is wrapped by no safe crate")]
    let mut info = [0_u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut size = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
    // SAFETY: the kernel writes at most `size` bytes, which is what `info` has, and keeps neither pointer.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    if done == 0 { info.last().copied() } else { None }
}
