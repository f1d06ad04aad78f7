//! Under which of the server's keys each user knocked last, while one takes the place of another.
//!
//! It says who would be locked out if the old key ended now. Nothing is refused by it, and a crash may take the last of it along.

use sha2::{Digest as _, Sha256};

use crate::wire::{PublicKey, UserId};

/// What is known of one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedRow {
    /// Who.
    pub user: UserId,
    /// The current key, by [`fingerprint`]: with another one, none of this is about it.
    pub key: [u8; 32],
    /// When (Unix seconds) he knocked last under it.
    pub current: Option<u32>,
    /// And under the one before.
    pub old: Option<u32>,
    /// Whether the last of all was under the current one.
    pub moved: bool,
}

/// Names a key: SHA-256 over SPKI DER.
pub fn fingerprint(key: &PublicKey) -> [u8; 32] {
    Sha256::digest(key.spki()).into()
}
