//! The default: AWS-LC, constant time and four times as fast as pure Rust.

use rsa::pkcs8::{PrivateKeyInfo, der::Decode};

use super::{Decrypt, MODULUS_MAX, UnusableKey};
use crate::sys::rsa::RsaKey;

pub(super) struct AwsLc(RsaKey);

impl AwsLc {
    pub(super) fn new(der: &[u8]) -> Result<AwsLc, UnusableKey> {
        let info = PrivateKeyInfo::from_der(der).map_err(|_| UnusableKey)?;
        RsaKey::new(info.private_key).map(AwsLc).ok_or(UnusableKey)
    }
}

impl Decrypt for AwsLc {
    fn decrypt<'a>(&self, ciphertext: &[u8], room: &'a mut [u8; MODULUS_MAX]) -> Option<&'a [u8]> {
        let len = self.0.operate(ciphertext, room)?;
        room.get(..len)
    }
}
