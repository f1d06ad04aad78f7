//! Opening sealed packets with the RSA key, so that nobody learns how it went.
//!
//! # Security considerations
//!
//! PKCS#1 v1.5 encryption is broken by whoever can tell a well padded ciphertext from another one (Bleichenbacher
//! 1998, and many times since). So nobody is told: before opening, a false plaintext is derived from the ciphertext
//! under a secret of this process, and it is what goes on if anything is wrong, a well padded plaintext of a wrong
//! length included. It is the same for the same ciphertext, looks random, and fails at the keeper like a wrong HMAC.
//!
//! Libraries that look at the padding themselves fail where it is wrong, and failing takes its own time. So they do the
//! private-key operation alone, and the padding is looked at here, in constant time. `benches/timing` measures it.
//!
//! While two keys are good, nothing about a plain datagram says which it was sealed under. Each is opened with both, always, and
//! which plaintext goes on is chosen as the false one is. Of what was sealed under one key, one in 17 million looks sealed under
//! the other too: its sender knocks again.

#[cfg(feature = "aws-lc")]
mod aws_lc;
#[cfg(feature = "rust-rsa")]
mod rust_rsa;

use hkdf::Hkdf;
use sha2::Sha256;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::channel::Under;
use crate::wire::PLAINTEXT_LEN;
use crate::wire::rsa_key::MODULUS_MAX;

#[cfg(not(any(feature = "aws-lc", feature = "rust-rsa")))]
compile_error!("the server needs an opener: enable feature `aws-lc` or `rust-rsa`");

/// One way to do the private-key operation.
pub trait Decrypt: Send + Sync {
    /// Writes the padded block to the front of `room`, and returns it: as long as the modulus, whatever its padding is.
    /// `None` for a ciphertext that is not below the modulus, or not as long: anybody can tell that.
    fn decrypt<'a>(&self, ciphertext: &[u8], room: &'a mut [u8; MODULUS_MAX]) -> Option<&'a [u8]>;
}

/// The key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the private key cannot be used for opening")]
pub struct UnusableKey;

/// Opens sealed packets, with implicit rejection.
pub struct Opener {
    decrypt: Box<dyn Decrypt>,
    /// With the key before, while that is good.
    old: Option<Box<dyn Decrypt>>,
    secret: Zeroizing<[u8; 32]>,
}

impl Opener {
    /// The default opener of this build for a key in PKCS#8 DER.
    ///
    /// # Errors
    ///
    /// [`UnusableKey`].
    pub fn new(der: &[u8]) -> Result<Opener, UnusableKey> {
        Ok(Opener::with(default(der)?))
    }

    /// With another key that is good beside it: the one before, in PKCS#8 DER.
    ///
    /// # Errors
    ///
    /// [`UnusableKey`].
    pub fn and_old(self, der: &[u8]) -> Result<Opener, UnusableKey> {
        Ok(Opener { old: Some(default(der)?), ..self })
    }

    /// Every opener in this build, by name, for tests and measurements that treat them alike.
    ///
    /// # Errors
    ///
    /// [`UnusableKey`].
    pub fn each(der: &[u8]) -> Result<Vec<(&'static str, Opener)>, UnusableKey> {
        Ok(vec![
            #[cfg(feature = "aws-lc")]
            ("aws-lc", Opener::with(Box::new(aws_lc::AwsLc::new(der)?))),
            #[cfg(feature = "rust-rsa")]
            ("rust-rsa", Opener::with(Box::new(rust_rsa::RustRsa::new(der)?))),
        ])
    }

    /// Opens alike in each process: for fuzzing.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn steady(decrypt: Box<dyn Decrypt>, secret: [u8; 32]) -> Opener {
        Opener { decrypt, old: None, secret: Zeroizing::new(secret) }
    }

    pub(super) fn with(decrypt: Box<dyn Decrypt>) -> Opener {
        Opener { decrypt, old: None, secret: Zeroizing::new(rand::random()) }
    }

    /// The 245 bytes in `ciphertext`, or 245 others: one private-key operation, with the current key.
    pub fn open(&self, ciphertext: &[u8]) -> Zeroizing<[u8; PLAINTEXT_LEN]> {
        self.open_under(Under::CURRENT, ciphertext)
    }

    /// The same with this key; without an old one, what nobody sealed.
    pub fn open_under(&self, under: Under, ciphertext: &[u8]) -> Zeroizing<[u8; PLAINTEXT_LEN]> {
        let mut plaintext = self.false_plaintext(ciphertext);
        let decrypt = if under == Under::CURRENT { Some(&self.decrypt) } else { self.old.as_ref() };
        if let Some(decrypt) = decrypt {
            _ = put(&**decrypt, ciphertext, &mut plaintext);
        }
        plaintext
    }

    /// The same with whichever key fits, and which one that was: an operation with each, whatever comes of it.
    pub fn open_any(&self, ciphertext: &[u8]) -> (Zeroizing<[u8; PLAINTEXT_LEN]>, Under) {
        let mut plaintext = self.false_plaintext(ciphertext);
        let old = self.old.as_ref().map(|old| put(&**old, ciphertext, &mut plaintext));
        let current = put(&*self.decrypt, ciphertext, &mut plaintext);
        (plaintext, Under::old_if(old.unwrap_or(Choice::from(0)) & !current))
    }

    fn false_plaintext(&self, ciphertext: &[u8]) -> Zeroizing<[u8; PLAINTEXT_LEN]> {
        let mut plaintext = Zeroizing::new([0; PLAINTEXT_LEN]);
        // Cannot fail: the secret is one hash long, and 245 bytes are far below 255 hashes. If it did, zeros are no
        // packet either.
        let expanded =
            Hkdf::<Sha256>::from_prk(&*self.secret).map(|hkdf| hkdf.expand(ciphertext, &mut *plaintext));
        debug_assert!(matches!(expanded, Ok(Ok(()))), "245 bytes expand from 32");
        plaintext
    }
}

/// What this build opens with.
fn default(der: &[u8]) -> Result<Box<dyn Decrypt>, UnusableKey> {
    #[cfg(feature = "aws-lc")]
    let decrypt = aws_lc::AwsLc::new(der)?;
    #[cfg(not(feature = "aws-lc"))]
    let decrypt = rust_rsa::RustRsa::new(der)?;
    Ok(Box::new(decrypt))
}

/// Opens, and puts what comes out in the plaintext's place if it is well padded, which is returned.
fn put(decrypt: &dyn Decrypt, ciphertext: &[u8], plaintext: &mut [u8; PLAINTEXT_LEN]) -> Choice {
    let mut room = Zeroizing::new([0; MODULUS_MAX]);
    let block = decrypt.decrypt(ciphertext, &mut room);
    let Some((padding, message)) = block.and_then(|block| block.split_last_chunk::<PLAINTEXT_LEN>()) else {
        return Choice::from(0);
    };
    let good = is_padding(padding);
    for (to, from) in plaintext.iter_mut().zip(message) {
        to.conditional_assign(from, good);
    }
    good
}

/// RFC 8017 (7.2.1): 00 02, bytes that are not zero, 00; in constant time.
fn is_padding(padding: &[u8]) -> Choice {
    let [first, second, random @ .., last] = padding else { return Choice::from(0) };
    let zeros = random.iter().fold(Choice::from(0), |zeros, byte| zeros | byte.ct_eq(&0));
    first.ct_eq(&0) & second.ct_eq(&2) & !zeros & last.ct_eq(&0)
}

#[cfg(test)]
mod tests;
