//! The key of the trail, and what is derived from it.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::chain::hex;
use crate::wire::key::unhex;

/// An Ed25519 key that signs checkpoints. Prints as a mask, zeroizes on drop.
pub struct AuditKey(SigningKey);

/// Its public half: 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TrailKey(VerifyingKey);

/// Hides payloads that are too short to be hashed without a key. Prints as a mask, zeroizes on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PayloadKey([u8; 32]);

/// A file that is no key of a trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not 64 hex digits")]
pub struct BadAuditKey;

impl AuditKey {
    /// From 32 random bytes.
    pub fn new(seed: &[u8; 32]) -> AuditKey {
        AuditKey(SigningKey::from_bytes(seed))
    }

    /// Reads the file: 64 hex digits, and white space around them.
    ///
    /// # Errors
    ///
    /// [`BadAuditKey`].
    pub fn parse(file: &[u8]) -> Result<AuditKey, BadAuditKey> {
        let seed = Zeroizing::new(unhex(file.trim_ascii()).ok_or(BadAuditKey)?);
        Ok(AuditKey::new(&seed))
    }

    /// What [`parse`](Self::parse) reads.
    pub fn to_file(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(hex(self.0.as_bytes()));
        text.push('\n');
        text
    }

    /// What checkpoints are verified with.
    pub fn public(&self) -> TrailKey {
        TrailKey(self.0.verifying_key())
    }

    /// For payloads: HKDF-SHA256 of the seed, without salt, info "siglatch audit payload 1".
    pub fn payload_key(&self) -> PayloadKey {
        let mut key = PayloadKey([0; 32]);
        let derived = Hkdf::<Sha256>::new(None, self.0.as_bytes()).expand(PAYLOAD, &mut key.0);
        debug_assert!(derived.is_ok(), "HKDF gives up to 8160 bytes");
        key
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl TrailKey {
    /// Reads 64 hex digits, small ones.
    pub fn parse(text: &str) -> Option<TrailKey> {
        let key = TrailKey(VerifyingKey::from_bytes(&unhex(text.as_bytes())?).ok()?);
        (key.to_string() == text).then_some(key)
    }

    /// Its 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Whether `signature` (64 bytes in hex) is this key's under `message`; one signature has one form.
    pub(super) fn signed(&self, message: &[u8], signature: &str) -> bool {
        let bytes = unhex(signature.as_bytes()).filter(|bytes: &[u8; 64]| hex(bytes) == signature);
        bytes.is_some_and(|bytes| self.0.verify_strict(message, &Signature::from_bytes(&bytes)).is_ok())
    }
}

impl PayloadKey {
    /// HMAC-SHA256 of a payload, in hex. Who has the audit key can tell whether a payload was the one that he thinks of.
    pub fn mac(&self, payload: &[u8]) -> String {
        // HMAC takes a key of any length.
        Hmac::<Sha256>::new_from_slice(&self.0)
            .map(|mac| hex(&mac.chain_update(payload).finalize().into_bytes()))
            .unwrap_or_default()
    }
}

impl fmt::Display for TrailKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(self.bytes()))
    }
}

impl fmt::Debug for TrailKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditKey(****)")
    }
}

impl fmt::Debug for PayloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PayloadKey(****)")
    }
}

const PAYLOAD: &[u8] = b"siglatch audit payload 1";
