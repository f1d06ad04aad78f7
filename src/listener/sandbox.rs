//! How the listener locks itself in, before it reads the first datagram.
//!
//! [`enter`] before there are threads: session, user, capabilities, no_new_privs, Landlock; a thread inherits them.
//! [`close`] when each thread has worked once: limits, then the list of system calls for all of them.
//!
//! # Security considerations
//!
//! What is left to somebody who has taken over the process: to read from its sockets, to talk to the keeper, to reckon.
//! He opens nothing, connects to nobody, starts and signals nobody. He can send bytes by the sockets that he reads from,
//! which is how knocks are answered, and by no other. A layer that this kernel lacks is left out, which is the keeper's
//! to tell; one that it has and refuses ends the listener.

use std::collections::BTreeMap;

use landlock::{ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetStatus, Scope};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Uid, getpid, getppid, setgroups, setresgid, setresuid, setsid};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities,
};
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::ListenerError;
use crate::channel::{Confinement, Setup};
use crate::layers::Layer;

/// First of all: a name in `ps`, a session of its own, no signal but those that nobody can keep off. A terminal's or a
/// service manager's signals are for the keeper, who tells what to do.
pub(super) fn detach() -> Result<(), ListenerError> {
    rustix::thread::set_name(c"siglatch-listen").map_err(|_| ListenerError::User)?;
    SigSet::all().thread_set_mask().map_err(|_| ListenerError::User)?;
    setsid().map(drop).map_err(|_| ListenerError::User)
}

/// Before there are threads.
pub(super) fn enter(setup: &Setup) -> Result<(), ListenerError> {
    let keeper = getppid();
    if setup.confinement == Confinement::On {
        drop_capabilities_for_good();
        if let Some((uid, gid)) = setup.user {
            become_user(Uid::from_raw(uid), Gid::from_raw(gid)).map_err(|_| ListenerError::User)?;
        }
        clear_ambient_capability_set()
            .and_then(|()| set_capabilities(None, NO_CAPABILITIES))
            .map_err(|_| ListenerError::Capabilities)?;
    }
    // A core dump, or a debugger of the same user, would have the key.
    prctl::set_dumpable(false).map_err(|_| ListenerError::User)?;
    // A change of user takes it back, so not before. The channel's end ends the loop; this ends one that hangs.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|_| ListenerError::User)?;
    if getppid() != keeper {
        return Err(ListenerError::Setup);
    }
    if setup.confinement == Confinement::On {
        prctl::set_no_new_privs().map_err(|_| ListenerError::NoNewPrivs)?;
        if !Layer::Landlock.is_missing() {
            forbid_files()?;
        }
    }
    Ok(())
}

/// When each thread has worked once: what they need from the system for that, they have.
pub(super) fn close(confinement: Confinement) -> Result<(), ListenerError> {
    if confinement == Confinement::Off {
        return Ok(());
    }
    for (resource, most) in LIMITS {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(|_| ListenerError::Limits)?;
    }
    if Layer::Seccomp.is_missing() {
        return Ok(());
    }
    let filter = filter().map_err(|_| ListenerError::Seccomp)?;
    seccompiler::apply_filter_all_threads(&filter).map_err(|_| ListenerError::Seccomp)
}

/// The bounding set, where the privilege for that is there. Where it is not, no_new_privs does the same.
fn drop_capabilities_for_good() {
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if remove_capability_from_bounding_set(one).is_err() {
            return;
        }
    }
}

fn become_user(uid: Uid, gid: Gid) -> nix::Result<()> {
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

/// No path, no TCP port; where the kernel is new enough no abstract socket and no signal to whoever is outside either.
fn forbid_files() -> Result<(), ListenerError> {
    let enforced = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(|ruleset| ruleset.restrict_self())
        .map_err(|_| ListenerError::Landlock)?;
    match enforced.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(ListenerError::Landlock),
    }
}

/// Any other system call ends the process.
fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_HERE).map(|call| (*call, Vec::new())).collect();
    let is = |argument, value| SeccompCondition::new(argument, Dword, SeccompCmpOp::Eq, value);
    let without = |argument, bits| SeccompCondition::new(argument, Dword, SeccompCmpOp::MaskedEq(bits), 0);
    let number = |value: libc::c_int| u64::from(value.unsigned_abs());
    let socket = is(1, number(libc::SOL_SOCKET))?;
    let data = without(2, number(libc::PROT_EXEC))?;
    for (call, conditions) in [
        // Kernel filters are replaced as time goes on.
        (libc::SYS_setsockopt, vec![socket.clone(), is(2, number(libc::SO_ATTACH_FILTER))?]),
        (libc::SYS_getsockopt, vec![socket]),
        // Memory that is executable is nobody's.
        (libc::SYS_mmap, vec![data.clone()]),
        (libc::SYS_mprotect, vec![data]),
        // Looked at by builds with checks before they close one.
        (libc::SYS_fcntl, vec![is(1, number(libc::F_GETFD))?]),
        // abort(3), so that a panic is seen to be one.
        (libc::SYS_tgkill, vec![is(0, number(getpid().as_raw()))?]),
    ] {
        rules.insert(call, vec![SeccompRule::new(conditions)?]);
    }
    let here = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, here)?.try_into()
}

const NO_CAPABILITIES: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

/// What it doesn't know the kernel isn't asked for.
const NEWEST: ABI = ABI::V9;

/// No process or thread more, no descriptor (poll(2) counts its own against that: it polls one), no byte in a file.
const LIMITS: [(Resource, u64); 4] =
    [(Resource::Nproc, 0), (Resource::Nofile, 1), (Resource::Fsize, 0), (Resource::Core, 0)];

/// What the loop, its workers, the allocator and the openers call, whatever the arguments.
const ALLOWED: &[i64] = &[
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    // Messages to the keeper, answers to who knocked.
    libc::SYS_sendmsg,
    // An eventfd, and the keeper.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    // The allocator's, when it makes an arena.
    libc::SYS_sched_getaffinity,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_getrandom,
    // Where the vDSO does not serve.
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    // At a thread's end.
    libc::SYS_sigaltstack,
    libc::SYS_set_robust_list,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What newer architectures have left out.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_time];

/// What newer architectures have left out.
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[i64] = &[];
