//! Why a listener could not start: it has no log, so its exit code says it.

use std::io;

use super::opener::UnusableKey;

/// A step of a listener's start that failed, or what ended it early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum ListenerError {
    /// The keeper said something else than set-up and sockets, or went away.
    #[error("the keeper did not finish the set-up")]
    Setup = 10,
    /// The key cannot be used.
    #[error("{UnusableKey}")]
    Key = 11,
    /// The operating system refused threads, descriptors or polling.
    #[error("the system refused threads, descriptors or memory")]
    Io = 12,
    /// Session, groups, group or user could not be changed.
    #[error("it cannot become `listener_user`")]
    User = 13,
    /// Capabilities could not be dropped.
    #[error("it cannot drop its capabilities")]
    Capabilities = 14,
    /// no_new_privs could not be set.
    #[error("it cannot set no_new_privs")]
    NoNewPrivs = 15,
    /// The kernel has Landlock and refused it.
    #[error("the kernel has Landlock and refused to enforce it")]
    Landlock = 16,
    /// Resource limits could not be lowered.
    #[error("it cannot lower its resource limits")]
    Limits = 17,
    /// The kernel has seccomp filters and refused one.
    #[error("the kernel has seccomp filters and refused to install one")]
    Seccomp = 18,
}

impl ListenerError {
    /// Every one.
    pub const ALL: [ListenerError; 9] = [
        ListenerError::Setup,
        ListenerError::Key,
        ListenerError::Io,
        ListenerError::User,
        ListenerError::Capabilities,
        ListenerError::NoNewPrivs,
        ListenerError::Landlock,
        ListenerError::Limits,
        ListenerError::Seccomp,
    ];

    /// The exit code of a listener that ended for it.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Which one has this exit code.
    pub fn of_code(code: i32) -> Option<ListenerError> {
        ListenerError::ALL.into_iter().find(|error| i32::from(error.code()) == code)
    }

    /// What to look at.
    pub fn hint(self) -> &'static str {
        match self {
            ListenerError::Setup => "report this",
            ListenerError::Key => "see `private_key`",
            ListenerError::Io => {
                "see the limits on threads and memory (systemd: TasksMax, MemoryMax), and `limits.workers`"
            }
            ListenerError::User => {
                "whoever starts siglatchd as root must leave it CAP_SETUID and CAP_SETGID (systemd: CapabilityBoundingSet)"
            }
            ListenerError::Capabilities
            | ListenerError::NoNewPrivs
            | ListenerError::Landlock
            | ListenerError::Limits
            | ListenerError::Seccomp => {
                "a container or another sandbox around siglatchd may forbid it: see `sandbox`"
            }
        }
    }
}

impl From<io::Error> for ListenerError {
    fn from(_: io::Error) -> ListenerError {
        ListenerError::Io
    }
}

impl From<UnusableKey> for ListenerError {
    fn from(_: UnusableKey) -> ListenerError {
        ListenerError::Key
    }
}
