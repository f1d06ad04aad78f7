//! A user's second factor: the key that his authenticator shares with the server.

use std::fmt;

use totp_rs::{Builder, Secret, Totp};
use zeroize::Zeroizing;

/// Makes the codes of RFC 6238, with SHA-1, six digits and steps of [`STEP`](TotpKey::STEP), as every authenticator
/// takes them.
#[derive(Clone, PartialEq, Eq)]
pub struct TotpKey(Totp);

/// Not 16 to 64 bytes in base32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a TOTP key: 26 to 103 letters and digits of base32")]
pub struct BadTotpKey;

impl TotpKey {
    /// Seconds that a code is shown.
    pub const STEP: u32 = 30;

    /// Bytes of a key that is made here, as RFC 4226 recommends.
    pub const LEN: usize = 20;

    /// A key of these bytes, 16 to 64.
    ///
    /// # Errors
    ///
    /// [`BadTotpKey`].
    pub fn new(secret: impl Into<Secret>) -> Result<TotpKey, BadTotpKey> {
        let secret = secret.into();
        if !(16..=64).contains(&secret.as_bytes().len()) {
            return Err(BadTotpKey);
        }
        // Each step is asked for by itself.
        let made =
            Builder::new().with_secret(secret).with_step_duration(TotpKey::STEP.into()).with_skew(0).build();
        made.map(TotpKey).map_err(|_| BadTotpKey)
    }

    /// Reads base32, in either case, with or without padding and white space.
    ///
    /// # Errors
    ///
    /// [`BadTotpKey`].
    pub fn parse(text: &[u8]) -> Result<TotpKey, BadTotpKey> {
        let letters = text.iter().filter(|byte| !byte.is_ascii_whitespace()).map(u8::to_ascii_uppercase);
        let mut kept = Zeroizing::new(String::with_capacity(text.len()));
        kept.extend(letters.map(char::from));
        let kept = kept.trim_end_matches('=');
        TotpKey::new(Secret::try_from_base32(kept).map_err(|_| BadTotpKey)?)
    }

    /// Whether `code` is the one of this step, in constant time.
    pub fn makes(&self, code: &[u8; 6], step: u32) -> bool {
        let code = std::str::from_utf8(code).unwrap_or_default();
        self.0.check(code, u64::from(step).saturating_mul(TotpKey::STEP.into())).is_some()
    }

    /// As [`TotpKey::parse`] reads it.
    pub fn to_base32(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.secret().to_base32())
    }
}

impl fmt::Debug for TotpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_rfc() {
        // RFC 6238, appendix B, SHA-1: the last six of its eight digits.
        let key = TotpKey::new(*b"12345678901234567890").unwrap();
        let codes = [
            (59, b"287082"),
            (1_111_111_109, b"081804"),
            (1_111_111_111, b"050471"),
            (1_234_567_890, b"005924"),
            (2_000_000_000, b"279037"),
        ];
        for (time, code) in codes {
            assert!(key.makes(code, time / TotpKey::STEP), "{time}");
            assert!(!key.makes(code, time / TotpKey::STEP + 1), "{time}");
            assert!(!key.makes(b"000000", time / TotpKey::STEP), "{time}");
        }
    }

    #[test]
    fn a_key_reads_as_people_copy_it() {
        let key = TotpKey::new(*b"12345678901234567890").unwrap();
        let text = key.to_base32();
        assert_eq!(*text, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        for written in [
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n",
            "gezd gnbv gy3t qojq gezd gnbv gy3t qojq",
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ==",
        ] {
            assert_eq!(TotpKey::parse(written.as_bytes()), Ok(key.clone()), "{written}");
        }
        for bad in [
            "",
            "GEZDGNBVGY3TQOJQ",
            "1EZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
            "GEZDGNBVGY3TQOJQ-EZDGNBVGY3TQOJQ",
            "\u{e9}",
        ] {
            assert_eq!(TotpKey::parse(bad.as_bytes()), Err(BadTotpKey), "{bad}");
        }
        assert_eq!(TotpKey::parse(&[0xff; 40]), Err(BadTotpKey));
        assert_eq!(format!("{key:?}"), "TotpKey(***)");
    }
}
