//! For builds without a C compiler: crate `rsa`, blinded, with precomputed values.
//!
//! RUSTSEC-2023-0071 is a timing side channel in this very operation. Blinding keeps the key out of it; implicit
//! rejection keeps the outcome from whoever cannot time it finely. The default build does not come here.

use rsa::hazmat::rsa_decrypt_and_check;
use rsa::pkcs8::DecodePrivateKey;
use rsa::rand_core::OsRng;
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, RsaPrivateKey};
use zeroize::Zeroizing;

use super::{Decrypt, MODULUS_MAX, UnusableKey};

pub(super) struct RustRsa(RsaPrivateKey);

impl RustRsa {
    pub(super) fn new(der: &[u8]) -> Result<RustRsa, UnusableKey> {
        let mut key = RsaPrivateKey::from_pkcs8_der(der).map_err(|_| UnusableKey)?;
        key.precompute().map_err(|_| UnusableKey)?;
        Ok(RustRsa(key))
    }
}

impl Decrypt for RustRsa {
    fn decrypt<'a>(&self, ciphertext: &[u8], room: &'a mut [u8; MODULUS_MAX]) -> Option<&'a [u8]> {
        let len = self.0.size();
        if ciphertext.len() != len {
            return None;
        }
        let number = BigUint::from_bytes_be(ciphertext);
        let number = Zeroizing::new(rsa_decrypt_and_check(&self.0, Some(&mut OsRng), &number).ok()?);
        let bytes = Zeroizing::new(number.to_bytes_be());
        // A number has no leading zeros, a block has.
        let block = room.get_mut(..len)?;
        block.iter_mut().rev().zip(bytes.iter().rev()).for_each(|(to, from)| *to = *from);
        Some(block)
    }
}
