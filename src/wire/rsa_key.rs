//! The server's RSA keys: read, made, written, and sealing with the public one.
//!
//! Opening is not here: it belongs to the listener's openers.

use std::fmt;

use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding, PrivateKeyInfo,
    der::Decode,
};
use rsa::rand_core::CryptoRngCore;
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Encrypt, RsaPrivateKey, RsaPublicKey};
use zeroize::Zeroizing;

use super::PLAINTEXT_LEN;

/// Smallest and largest modulus, in bits.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Longest modulus, and so the longest datagram ever taken, in bytes.
pub const MODULUS_MAX: usize = 8192 / 8;

/// Why a PEM file holds no usable key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRsaKey {
    /// No key of the kind that is wanted.
    #[error("no RSA {0} in it")]
    Unreadable(&'static str),
    /// Fewer than 2048 bits, or more than 8192.
    #[error("the key has {0} bits, it needs 2048 to 8192")]
    Bits(usize),
}

/// The server's private key, as PKCS#8 DER. Prints as a mask, zeroizes on drop.
#[derive(Clone)]
pub struct PrivateKey {
    der: Zeroizing<Vec<u8>>,
    public: PublicKey,
}

impl PrivateKey {
    /// Makes a key of 2048 bits, the size of siglatch v1.
    ///
    /// # Errors
    ///
    /// [`BadRsaKey::Unreadable`] when the key cannot be encoded.
    pub fn generate(random: &mut impl CryptoRngCore) -> Result<PrivateKey, BadRsaKey> {
        let key = RsaPrivateKey::new(random, 2048).map_err(|_| BadRsaKey::Unreadable("private key"))?;
        PrivateKey::from_rsa(&key)
    }

    /// Reads PEM, PKCS#8 (`BEGIN PRIVATE KEY`) or PKCS#1 (`BEGIN RSA PRIVATE KEY`).
    ///
    /// # Errors
    ///
    /// [`BadRsaKey`].
    pub fn from_pem(pem: &str) -> Result<PrivateKey, BadRsaKey> {
        let key = RsaPrivateKey::from_pkcs8_pem(pem)
            .or_else(|_| RsaPrivateKey::from_pkcs1_pem(pem))
            .map_err(|_| BadRsaKey::Unreadable("private key (PEM, PKCS#8 or PKCS#1)"))?;
        PrivateKey::from_rsa(&key)
    }

    /// Reads PKCS#8 DER, the form in which the key travels to the listener.
    ///
    /// # Errors
    ///
    /// [`BadRsaKey`].
    pub fn from_der(der: &[u8]) -> Result<PrivateKey, BadRsaKey> {
        let unreadable = BadRsaKey::Unreadable("private key (PKCS#8 DER)");
        PrivateKeyInfo::from_der(der).map_err(|_| unreadable.clone())?;
        PrivateKey::from_rsa(&RsaPrivateKey::from_pkcs8_der(der).map_err(|_| unreadable)?)
    }

    /// PKCS#8 DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// PKCS#8 PEM, the form of its file.
    ///
    /// # Errors
    ///
    /// [`BadRsaKey::Unreadable`] when the key cannot be encoded.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, BadRsaKey> {
        RsaPrivateKey::from_pkcs8_der(&self.der)
            .ok()
            .and_then(|key| key.to_pkcs8_pem(LineEnding::LF).ok())
            .ok_or(BadRsaKey::Unreadable("private key"))
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    fn from_rsa(key: &RsaPrivateKey) -> Result<PrivateKey, BadRsaKey> {
        let public = PublicKey::from_rsa(key.to_public_key())?;
        let der = key
            .to_pkcs8_der()
            .map_err(|_| BadRsaKey::Unreadable("private key"))?
            .to_bytes();
        Ok(PrivateKey { der, public })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(****)")
    }
}

/// The server's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(RsaPublicKey);

impl PublicKey {
    /// Reads PEM, SPKI (`BEGIN PUBLIC KEY`).
    ///
    /// # Errors
    ///
    /// [`BadRsaKey`].
    pub fn from_pem(pem: &str) -> Result<PublicKey, BadRsaKey> {
        let key = RsaPublicKey::from_public_key_pem(pem)
            .map_err(|_| BadRsaKey::Unreadable("public key (PEM, SPKI)"))?;
        PublicKey::from_rsa(key)
    }

    /// SPKI PEM.
    ///
    /// # Errors
    ///
    /// [`BadRsaKey::Unreadable`] when the key cannot be encoded.
    pub fn to_pem(&self) -> Result<String, BadRsaKey> {
        self.0
            .to_public_key_pem(LineEnding::LF)
            .map_err(|_| BadRsaKey::Unreadable("public key"))
    }

    /// The modulus, big-endian, without leading zeros: 256 bytes for 2048 bits. As long as the datagrams are.
    pub fn modulus(&self) -> Vec<u8> {
        self.0.n().to_bytes_be()
    }

    /// Seals a packet: RSA, PKCS#1 v1.5 encryption padding, as long as the modulus.
    ///
    /// # Errors
    ///
    /// [`BadRsaKey::Unreadable`] when the key cannot be used.
    pub fn seal(
        &self,
        random: &mut impl CryptoRngCore,
        plain: &[u8; PLAINTEXT_LEN],
    ) -> Result<Vec<u8>, BadRsaKey> {
        self.0
            .encrypt(random, Pkcs1v15Encrypt, plain)
            .map_err(|_| BadRsaKey::Unreadable("public key"))
    }

    fn from_rsa(key: RsaPublicKey) -> Result<PublicKey, BadRsaKey> {
        let bits = key.n().bits();
        if MODULUS_BITS.contains(&bits) {
            Ok(PublicKey(key))
        } else {
            Err(BadRsaKey::Bits(bits))
        }
    }
}
