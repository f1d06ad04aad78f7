//! A user's HMAC key, and the two forms of its file.

use std::fmt;

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A user's 32-byte key. Prints as a mask, compares in constant time, zeroizes on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct HmacKey([u8; 32]);

/// Why a file's bytes are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Neither 32 raw bytes nor 64 hex digits.
    #[error("{0} bytes; an HMAC key is 32 raw bytes or 64 hex digits")]
    Length(usize),
    /// All zero.
    #[error("the key is all zero")]
    AllZero,
}

impl HmacKey {
    /// Reads a key file: exactly 32 bytes are raw, else 64 hex digits with white space ignored.
    ///
    /// # Errors
    ///
    /// [`BadKey`] for anything else, and for a key of zeros.
    pub fn parse(file: &[u8]) -> Result<HmacKey, BadKey> {
        let bytes = match <[u8; 32]>::try_from(file) {
            Ok(raw) => raw,
            Err(_) => {
                let digits: Zeroizing<Vec<u8>> =
                    Zeroizing::new(file.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect());
                unhex(&digits).ok_or(BadKey::Length(file.len()))?
            }
        };
        HmacKey::new(bytes)
    }

    /// A key from its bytes.
    ///
    /// # Errors
    ///
    /// [`BadKey::AllZero`].
    pub fn new(bytes: [u8; 32]) -> Result<HmacKey, BadKey> {
        if bytes == [0; 32] { Err(BadKey::AllZero) } else { Ok(HmacKey(bytes)) }
    }

    /// `one`, or `other` if `choice` is set, in a time that does not tell.
    pub fn select(one: &HmacKey, other: &HmacKey, choice: Choice) -> HmacKey {
        let mut key = one.clone();
        key.0.iter_mut().zip(&other.0).for_each(|(to, from)| to.conditional_assign(from, choice));
        key
    }

    /// The key's bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 hex digits, the form in invites and profiles.
    pub fn to_hex(&self) -> Zeroizing<String> {
        let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
        Zeroizing::new(self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect())
    }
}

impl PartialEq for HmacKey {
    fn eq(&self, other: &HmacKey) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for HmacKey {}

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacKey(****)")
    }
}

/// `N` bytes from exactly `2 * N` hex digits.
pub(crate) fn unhex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_raw_or_hex() {
        let key = HmacKey::parse(b"0123456789abcdef0123456789ABCDEF").unwrap();
        assert_eq!(key.bytes(), b"0123456789abcdef0123456789ABCDEF", "exactly 32 bytes are always raw");
        let hex = "10111213 14151617 18191a1b 1c1d1e1f\n20212223 24252627 28292A2B 2c2d2e2f\n";
        let key = HmacKey::parse(hex.as_bytes()).unwrap();
        assert_eq!(key.bytes()[..3], [0x10, 0x11, 0x12]);
        assert_eq!(HmacKey::parse(key.to_hex().as_bytes()).unwrap(), key);
    }

    #[test]
    fn a_weak_or_broken_key_file_is_refused() {
        let zeros = "0".repeat(64);
        let cases: [(&[u8], BadKey); 6] = [
            (b"", BadKey::Length(0)),
            (&[7; 31], BadKey::Length(31)),
            (&[7; 33], BadKey::Length(33)),
            (&[0; 32], BadKey::AllZero),
            (zeros.as_bytes(), BadKey::AllZero),
            (&[b'g'; 64], BadKey::Length(64)),
        ];
        for (bytes, problem) in cases {
            assert_eq!(HmacKey::parse(bytes).unwrap_err(), problem);
        }
    }

    #[test]
    fn a_key_prints_as_a_mask() {
        assert_eq!(format!("{:?}", HmacKey::new([7; 32]).unwrap()), "HmacKey(****)");
    }
}
