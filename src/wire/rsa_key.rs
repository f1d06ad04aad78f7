//! The server's RSA keys: read, made, written, and sealing with the public one.
//!
//! Opening is not here: it belongs to the listener's openers.

use std::fmt;

use rsa::pkcs1::{self, DecodeRsaPrivateKey, UintRef};
use rsa::pkcs8::{
    DecodePrivateKey, Document, EncodePrivateKey, EncodePublicKey, LineEnding, PrivateKeyInfo,
    SubjectPublicKeyInfoRef, der::Decode,
};
use rsa::rand_core::CryptoRngCore;
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, Pkcs1v15Encrypt, RsaPrivateKey, RsaPublicKey};
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
        PrivateKey::with_bits(random, 2048)
    }

    /// Makes another key, as long as this one.
    ///
    /// # Errors
    ///
    /// [`BadRsaKey::Unreadable`] when the key cannot be encoded.
    pub fn generate_like(&self, random: &mut impl CryptoRngCore) -> Result<PrivateKey, BadRsaKey> {
        PrivateKey::with_bits(random, self.public.modulus().len().saturating_mul(8))
    }

    fn with_bits(random: &mut impl CryptoRngCore, bits: usize) -> Result<PrivateKey, BadRsaKey> {
        let key = RsaPrivateKey::new(random, bits).map_err(|_| BadRsaKey::Unreadable("private key"))?;
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
        let der = key.to_pkcs8_der().map_err(|_| BadRsaKey::Unreadable("private key"))?.to_bytes();
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
        let key = spki(pem).ok_or(BadRsaKey::Unreadable("public key (PEM, SPKI)"))?;
        PublicKey::from_rsa(key)
    }

    /// Reads SPKI DER.
    ///
    /// # Errors
    ///
    /// [`BadRsaKey`].
    pub fn from_spki(der: &[u8]) -> Result<PublicKey, BadRsaKey> {
        PublicKey::from_rsa(public(der).ok_or(BadRsaKey::Unreadable("public key (SPKI DER)"))?)
    }

    /// SPKI PEM.
    ///
    /// # Errors
    ///
    /// [`BadRsaKey::Unreadable`] when the key cannot be encoded.
    pub fn to_pem(&self) -> Result<String, BadRsaKey> {
        self.0.to_public_key_pem(LineEnding::LF).map_err(|_| BadRsaKey::Unreadable("public key"))
    }

    /// SPKI DER: what names the server in what is derived for it.
    pub fn spki(&self) -> Vec<u8> {
        // A key that was read can be written; if not, nothing is derived that another has.
        self.0.to_public_key_der().map(|der| der.into_vec()).unwrap_or_default()
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
        self.0.encrypt(random, Pkcs1v15Encrypt, plain).map_err(|_| BadRsaKey::Unreadable("public key"))
    }

    fn from_rsa(key: RsaPublicKey) -> Result<PublicKey, BadRsaKey> {
        let bits = key.n().bits();
        if MODULUS_BITS.contains(&bits) { Ok(PublicKey(key)) } else { Err(BadRsaKey::Bits(bits)) }
    }
}

/// As `DecodePublicKey`, which stops at 4096 bits where `DecodePrivateKey` does not.
fn spki(pem: &str) -> Option<RsaPublicKey> {
    let (label, der) = Document::from_pem(pem).ok()?;
    if label == "PUBLIC KEY" { public(der.as_bytes()) } else { None }
}

fn public(der: &[u8]) -> Option<RsaPublicKey> {
    let info = SubjectPublicKeyInfoRef::from_der(der).ok()?;
    if info.algorithm != pkcs1::ALGORITHM_ID {
        return None;
    }
    let key = pkcs1::RsaPublicKey::from_der(info.subject_public_key.as_bytes()?).ok()?;
    let number = |bytes: UintRef<'_>| BigUint::from_bytes_be(bytes.as_bytes());
    let (modulus, exponent) = (number(key.modulus), number(key.public_exponent));
    RsaPublicKey::new_with_max_size(modulus, exponent, usize::MAX).ok()
}

#[cfg(test)]
mod tests {
    use rsa::rand_core::OsRng;

    use super::*;

    fn read(bits: usize) -> Result<PublicKey, BadRsaKey> {
        let modulus = BigUint::from_bytes_be(&vec![0xff; bits / 8]);
        let key = RsaPublicKey::new_with_max_size(modulus, 65537u32.into(), bits).unwrap();
        PublicKey::from_pem(&key.to_public_key_pem(LineEnding::LF).unwrap())
    }

    #[test]
    fn a_public_key_of_each_length_that_a_server_takes_is_read_and_seals() {
        for bits in [2048, 3072, 4096, 8192] {
            let key = read(bits).unwrap();
            assert_eq!(key.modulus().len(), bits / 8);
            assert_eq!(key.seal(&mut OsRng, &[1; PLAINTEXT_LEN]).unwrap().len(), bits / 8);
            assert_eq!(PublicKey::from_pem(&key.to_pem().unwrap()), Ok(key));
        }
        assert_eq!(read(1024), Err(BadRsaKey::Bits(1024)));
        assert_eq!(read(8200), Err(BadRsaKey::Bits(8200)));
    }

    #[test]
    fn what_is_no_public_rsa_key_is_none() {
        let pem = read(2048).unwrap().to_pem().unwrap();
        let private = pem.replace("PUBLIC", "PRIVATE");
        // The algorithm's last number: PSS instead of encryption.
        let pss = pem.replace("BAQEFAAOC", "BAQoFAAOC");
        let cut: String = pem.lines().filter(|line| !line.starts_with('I')).collect();
        assert_ne!(pss, pem);
        for text in [private, pss, cut, String::new()] {
            assert!(matches!(PublicKey::from_pem(&text), Err(BadRsaKey::Unreadable(_))), "{text}");
        }
    }
}
