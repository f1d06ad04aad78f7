//! Who may ask the running daemon for what, over which way.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use zeroize::Zeroizing;

/// Who may ask the running daemon, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// The group that may enter the folder of the control socket, beside its owner. At restart only.
    pub group: Option<u32>,
    /// The other way to it. At restart only.
    pub tcp: Option<Loopback>,
    /// By name.
    pub admins: BTreeMap<String, Admin>,
}

/// The control socket over TCP, for who is not in the same file system.
#[derive(Clone, PartialEq, Eq)]
pub struct Loopback {
    /// A loopback address.
    pub listen: SocketAddr,
    /// What is said first on a connection.
    pub token: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loopback").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// An administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The Ed25519 key that his requests are signed with.
    pub public_key: [u8; 32],
    /// What he may ask.
    pub role: Role,
}

/// What an administrator may ask; each may what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Viewer,
    /// End leases, reload, turn users and actions on and off, ban networks.
    Operator,
    /// Change every setting that there is a request for.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        })
    }
}

/// What `siglatchctl` does on the server, by a knock. Only by one that is bound to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// How the daemon does, in a line.
    Status,
    /// Its version.
    Version,
    /// Who may knock.
    ListUsers,
    /// Read the configuration again.
    Reload,
    /// Take the named user's knocks again.
    EnableUser,
    /// Refuse them until siglatchd ends.
    DisableUser,
}

impl Remote {
    /// Whether a knock for it names a user.
    pub fn argument(self) -> Argument {
        match self {
            Remote::Status | Remote::Version | Remote::ListUsers | Remote::Reload => Argument::None,
            Remote::EnableUser | Remote::DisableUser => Argument::User,
        }
    }
}

/// What stands behind the name of a built-in action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// Nothing.
    None,
    /// A user's name.
    User,
}
