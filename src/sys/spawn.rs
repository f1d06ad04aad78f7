//! Starting a program the way posix_spawn(3) does, and as another user, which that cannot.
//!
//! fork(2) copies this process's page tables: half a millisecond for a small process, many for a large one. This child
//! borrows the memory instead (`CLONE_VM`), on a stack of its own, and the calling thread stands still until the child
//! has become the program or failed (`CLONE_VFORK`).
//!
//! # Security considerations
//!
//! Between its change of user and its execve, about a tenth of a millisecond, the child is the other user's process and
//! still in this process's memory. That user cannot look into it: the kernel makes memory undumpable before a change of
//! user shows, and that forbids ptrace(2) and /proc/PID/mem. (With fs.suid_dumpable = 1 it does not, and every
//! set-user-id program is open to him.) What he can do is what he can do to any process of his: kill it,
//! which ends the child alone, or stop it, which holds up the thread that waits for it until it is continued.
//!
//! No handler of this process runs in the child: all signals are blocked from before it exists until all dispositions
//! are back to default.

use std::convert::Infallible;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_void};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

// Where user ids once had 16 bits, the calls for 32 have names of their own.
#[cfg(target_pointer_width = "64")]
use libc::{SYS_setgroups, SYS_setresgid, SYS_setresuid};
#[cfg(target_pointer_width = "32")]
use libc::{
    SYS_setgroups32 as SYS_setgroups, SYS_setresgid32 as SYS_setresgid, SYS_setresuid32 as SYS_setresuid,
};
use nix::errno::Errno;
use nix::sys::prctl::set_dumpable;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::wait::waitpid;
use nix::unistd::{Gid, Pid, Uid};

/// A program to be started: in `/`, leading its own process group, without a terminal, with these three descriptors and
/// no other, no signal blocked, none ignored.
#[derive(Debug)]
pub struct Program<'a> {
    /// The file, executed as it is: no search, no shell.
    pub file: &'a CStr,
    /// Its arguments, its own name first.
    pub args: &'a [CString],
    /// Its whole environment, each `NAME=value`.
    pub env: &'a [CString],
    /// Its standard input, output and error.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Who it runs as, without further groups and capabilities; `None`: as this process.
    pub run_as: Option<(Uid, Gid)>,
}

/// Starts it. It is the caller's to reap.
///
/// # Errors
///
/// What the kernel says to the first step that fails: ENOEXEC for a file that it cannot execute, ENOSYS before Linux
/// 5.9. No process is left then.
pub fn spawn(program: &Program<'_>) -> io::Result<Pid> {
    let child = Child::new(program)?;
    let mut stack = Vec::<u128>::with_capacity(STACK);
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    // SAFETY: `top` ends a block of 16 * STACK bytes, aligned to 16, that nothing else uses; stacks grow down on all machines
    // that Rust's Linux runs on. `child` and what it points to outlive the call: CLONE_VFORK returns only when the child
    // has left this memory, and until then this thread does nothing, its errno included. The child runs `start` alone.
    #[expect(unsafe_code, reason = "no safe crate wraps vfork")]
    let cloned = Errno::result(unsafe {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        libc::clone(start, top.cast(), flags, (&raw const child).cast_mut().cast())
    });
    let started = match (cloned, child.failed.load(Ordering::Relaxed)) {
        (Err(errno), _) => Err(errno.into()),
        (Ok(pid), 0) => Ok(Pid::from_raw(pid)),
        // It is about to exit, and no signal can interrupt the wait.
        (Ok(pid), errno) => {
            waitpid(Pid::from_raw(pid), None).ok();
            Err(io::Error::from_raw_os_error(errno))
        }
    };
    // From here on a failure would lose the process; neither of these has one.
    mask.thread_set_mask().ok();
    if program.run_as.is_some() {
        // The change of user left fs.suid_dumpable in this memory: where that is 2, root's core dumps would hold the keys.
        set_dumpable(false).ok();
    }
    started
}

/// All that the child needs, made before there is one: it may not allocate.
struct Child {
    file: *const c_char,
    args: Vec<*const c_char>,
    env: Vec<*const c_char>,
    stdio: [RawFd; 3],
    run_as: Option<(u32, u32)>,
    /// The child's errno, once it has failed.
    failed: AtomicI32,
}

impl Child {
    fn new(program: &Program<'_>) -> io::Result<Child> {
        let run_as = program.run_as.map(|(uid, gid)| (uid.as_raw(), gid.as_raw()));
        let stdio = program.stdio.map(|fd| fd.as_raw_fd());
        // To setresuid(2), -1 means "stay who you are". A descriptor among the first three could be overwritten before
        // it is copied; std sees to it that these are taken.
        if run_as.is_some_and(|(uid, gid)| uid == u32::MAX || gid == u32::MAX)
            || stdio.iter().any(|fd| *fd <= 2)
        {
            return Err(Errno::EINVAL.into());
        }
        Ok(Child {
            file: program.file.as_ptr(),
            args: pointers(program.args),
            env: pointers(program.env),
            stdio,
            run_as,
            failed: AtomicI32::new(0),
        })
    }

    /// Becomes the program.
    ///
    /// # Safety
    ///
    /// To be called in a child that shares its parent's memory but not its descriptors and dispositions, with all
    /// signals blocked.
    #[expect(unsafe_code, reason = "nothing but system calls is safe here")]
    unsafe fn exec(&self) -> Result<Infallible, c_int> {
        // SAFETY: every call here is async-signal-safe: it takes no lock, allocates nothing, and changes only what the
        // kernel keeps for this child. The pointers are to memory of the parent, which waits. User and groups are
        // changed by bare system calls: libc's functions would change those of the parent's other threads too.
        unsafe {
            done(libc::setpgid(0, 0))?;
            // Or it could type into the terminal that siglatchd was started from. setsid(2) would do both, but in a session
            // of its own (an autogroup to the scheduler) a script starts milliseconds later on a busy machine: measured, a
            // third of the knocks per second.
            let terminal =
                libc::open(c"/dev/tty".as_ptr(), libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC);
            if terminal != -1 {
                done(libc::ioctl(terminal, libc::TIOCNOTTY))?;
            }
            for (to, from) in (0..).zip(self.stdio) {
                done(libc::dup2(from, to))?;
            }
            done(libc::syscall(libc::SYS_close_range, 3, c_uint::MAX, 0))?;
            done(libc::chdir(c"/".as_ptr()))?;
            if let Some((uid, gid)) = self.run_as {
                done(libc::syscall(SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()))?;
                done(libc::syscall(SYS_setresgid, gid, gid, gid))?;
                done(libc::syscall(SYS_setresuid, uid, uid, uid))?;
                // A change of user by root did this already; one by a mere capability did not.
                done(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))?;
            }
            // A bare call too: libc refuses two of them, which may be inherited as ignored. Zeros are the default action
            // in the kernel's own `struct sigaction`, whatever its size.
            let zeros = [0_u64; 8];
            for signal in (1..=SIGNALS).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
                done(libc::syscall(libc::SYS_rt_sigaction, signal, &raw const zeros, 0_usize, SET))?;
            }
            done(libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const zeros, 0_usize, SET))?;
            done(libc::execve(self.file, self.args.as_ptr(), self.env.as_ptr()))?;
        }
        Err(libc::ENOEXEC)
    }
}

/// Where the child begins; what it returns is its exit code.
extern "C" fn start(child: *mut c_void) -> c_int {
    // SAFETY: `spawn` hands its own `Child` over and waits.
    #[expect(unsafe_code, reason = "C hands over a bare pointer")]
    let child = unsafe { &*child.cast::<Child>() };
    // SAFETY: this is that child.
    #[expect(unsafe_code, reason = "as above")]
    let Err(errno) = unsafe { child.exec() };
    child.failed.store(errno, Ordering::Relaxed);
    EXIT
}

fn done(result: impl Into<c_long>) -> Result<(), c_int> {
    if result.into() == -1 { Err(Errno::last_raw()) } else { Ok(()) }
}

/// As execve(2) wants them: with a null behind.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Room on the child's stack, 32 KiB, of which it uses little: what it needs was made before.
const STACK: usize = 2 << 10;

const SIGNALS: c_int = 64;

/// Bytes of the kernel's set of signals; where it has more, every start fails.
const SET: usize = 8;

/// Nobody sees it: who failed to start is reaped in [`spawn`].
const EXIT: c_int = 127;

#[cfg(test)]
mod tests;
