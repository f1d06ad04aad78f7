//! The server's private key: read when it is needed, and not kept.

use super::credential;
use super::resolved::KeyFile;
use crate::exit::{Exit, Failure};
use crate::wire::PrivateKey;
use crate::wire::rsa_key::BadRsaKey;

impl KeyFile {
    /// Reads the key again, with the checks of the first time.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or has another key by now.
    pub fn read(&self) -> Result<PrivateKey, Failure> {
        let pem = credential::read(&self.path, PEM_MAX)?;
        let failed = |what: &dyn std::fmt::Display| {
            Failure::new(Exit::Config, format!("{}: {what}", self.path.display()))
        };
        let key = parse(&pem).map_err(|bad| failed(&bad))?;
        if *key.public() == self.public {
            Ok(key)
        } else {
            Err(failed(&"has another key than at the start").hint("a new key takes effect at a restart"))
        }
    }
}

pub(super) fn parse(pem: &[u8]) -> Result<PrivateKey, BadRsaKey> {
    let text = std::str::from_utf8(pem).map_err(|_| BadRsaKey::Unreadable("private key (PEM)"))?;
    PrivateKey::from_pem(text)
}

/// Longest private key file, in bytes: 8192 bits take 6400.
pub(super) const PEM_MAX: u64 = 64 << 10;
