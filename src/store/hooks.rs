//! Webhooks that wait for their action, for their receiver, or for the administrator.
//!
//! The store keeps them as they are given; what they mean is the business of [`crate::work::hooks`]. A kill takes none of them
//! along, a crash of the machine the last ones: no knock waits for the disk on their account.

use crate::wire::KnockId;

/// A webhook as it is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookRow {
    /// Of the knock that it tells of.
    pub id: KnockId,
    /// All of it; `None`: nothing of it is to be left.
    pub record: Option<String>,
}
