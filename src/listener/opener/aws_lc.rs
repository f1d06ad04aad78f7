//! The default: AWS-LC, constant time and four times as fast as pure Rust.

use aws_lc_rs::rsa::{Pkcs1PrivateDecryptingKey, PrivateDecryptingKey};

use super::{Decrypt, MODULUS_MAX, UnusableKey};

pub(super) struct AwsLc(Pkcs1PrivateDecryptingKey);

impl AwsLc {
    pub(super) fn new(der: &[u8]) -> Result<AwsLc, UnusableKey> {
        let key = PrivateDecryptingKey::from_pkcs8(der).map_err(|_| UnusableKey)?;
        Pkcs1PrivateDecryptingKey::new(key).map(AwsLc).map_err(|_| UnusableKey)
    }
}

impl Decrypt for AwsLc {
    fn decrypt(&self, ciphertext: &[u8], room: &mut [u8; MODULUS_MAX]) -> Option<usize> {
        self.0.decrypt(ciphertext, room).ok().map(|message| message.len())
    }
}
