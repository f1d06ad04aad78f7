//! Doors that are held, or not closed yet: what must be known after a crash to close them.
//!
//! The store keeps them as they are given; what they mean is the business of [`crate::work::leases`].

use std::fmt;
use std::net::IpAddr;

/// What a source got from an action, whoever knocked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DoorKey {
    /// The action's name: its id may become another's.
    pub action: String,
    /// Where from; `::ffff:` folded.
    pub source: IpAddr,
}

impl fmt::Display for DoorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.action, self.source)
    }
}

/// A door as it is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorRow {
    /// Which.
    pub key: DoorKey,
    /// All of it; `None`: it is closed, and nothing of it is to be left.
    pub record: Option<String>,
}
