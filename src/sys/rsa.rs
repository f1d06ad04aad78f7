//! AWS-LC's RSA private-key operation without a look at the padding.
//!
//! Its safe wrapper, aws-lc-rs, offers only the one with it, which takes 45 ns longer where the padding is wrong.
//! `openssl/rsa.h` says what is to be done instead: RSA_NO_PADDING, and padding logic of the protocol's own.

#![expect(unsafe_code, reason = "aws-lc-rs does not wrap RSA_NO_PADDING")]

use std::ptr::NonNull;

use aws_lc_sys::{RSA, RSA_NO_PADDING, RSA_decrypt, RSA_free, RSA_private_key_from_bytes};

/// A private key in AWS-LC's memory.
pub(crate) struct RsaKey(NonNull<RSA>);

// SAFETY: nothing changes the key after `new`, and `openssl/rsa.h` lets any number of threads use such a key at once and
// any of them free it; blinding has a lock of its own.
unsafe impl Send for RsaKey {}
// SAFETY: as above; RSA_decrypt counts as not changing the key.
unsafe impl Sync for RsaKey {}

impl RsaKey {
    /// From an RSAPrivateKey (RFC 8017, A.1.2) in DER. `None`: it is none, or its numbers do not belong together.
    pub(crate) fn new(der: &[u8]) -> Option<RsaKey> {
        // SAFETY: pointer and length are a live slice's, which is read and not kept.
        let key = unsafe { RSA_private_key_from_bytes(der.as_ptr(), der.len()) };
        NonNull::new(key).map(RsaKey)
    }

    /// The private-key operation, blinded and in constant time. Writes a block as long as the modulus to the front of
    /// `room`, and returns its length. `None`: the ciphertext is not as long as the modulus or not below it, or `room` is
    /// too short.
    pub(crate) fn operate(&self, ciphertext: &[u8], room: &mut [u8]) -> Option<usize> {
        let mut len = 0;
        // SAFETY: the key lives as long as `self`. Pointers and lengths are of live slices that do not overlap: one is
        // read, of the other at most `room.len()` bytes are written, and neither is kept.
        let done = unsafe {
            RSA_decrypt(
                self.0.as_ptr(),
                &raw mut len,
                room.as_mut_ptr(),
                room.len(),
                ciphertext.as_ptr(),
                ciphertext.len(),
                RSA_NO_PADDING,
            )
        };
        (done == 1).then_some(len)
    }
}

impl Drop for RsaKey {
    fn drop(&mut self) {
        // SAFETY: `new` made it, and nobody uses it any more. AWS-LC clears what it frees.
        unsafe { RSA_free(self.0.as_ptr()) }
    }
}
