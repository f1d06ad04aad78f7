//! For builds without a C compiler: crate `rsa`, blinded, with precomputed values.
//!
//! RUSTSEC-2023-0071 is a timing side channel in this very operation. Blinding keeps the key out of it; implicit
//! rejection keeps the outcome from whoever cannot time it finely. The default build does not come here.

use rsa::pkcs8::DecodePrivateKey;
use rsa::rand_core::OsRng;
use rsa::{Pkcs1v15Encrypt, RsaPrivateKey};
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
    fn decrypt(&self, ciphertext: &[u8], room: &mut [u8; MODULUS_MAX]) -> Option<usize> {
        let message =
            self.0.decrypt_blinded(&mut OsRng, Pkcs1v15Encrypt, ciphertext).map(Zeroizing::new).ok()?;
        room.iter_mut().zip(message.iter()).for_each(|(to, from)| *to = *from);
        Some(message.len())
    }
}
