//! The exchange of a user's HMAC key for one that only he and the keeper know.
//!
//! ```text
//! new key = HKDF-SHA256( salt = the key that is exchanged, ikm = X25519(E, K),
//!                        info = "siglatch enrol 1" || server id (16) || user id (u16, big-endian) || E (32) || K (32) )
//! ```
//!
//! K is the keeper's X25519 public key (RFC 7748), which the invite carries; E is one that the client makes for this exchange, and
//! sends in a knock under the key that is exchanged.
//!
//! # Security considerations
//!
//! Who has the old key and every datagram knows neither secret, so not the new key. Who opens the sealed knock, as the listener
//! does, sees E and no more. That E is the user's and no other's is only proved by the old key: who has that, and comes first, is
//! the user to the server, and who comes second is told, and alarms.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use super::key::{BadKey, unhex};
use super::{HmacKey, ServerId, UserId};

/// Half of an exchange: the keeper's for long, or the client's for one. Prints as a mask, zeroizes on drop.
#[derive(Clone)]
pub struct EnrolSecret(StaticSecret);

/// E or K: 32 bytes, 64 hex digits. Not a secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnrolPublic(pub [u8; 32]);

/// What is exchanged, and with whom: all that both sides know beforehand.
#[derive(Clone, Copy, Debug)]
pub struct Exchanged<'a> {
    /// The key that the invite holds, or that the user has had until now.
    pub key: &'a HmacKey,
    /// Of the server.
    pub server: ServerId,
    /// Whose key it is.
    pub user: UserId,
}

impl EnrolSecret {
    /// From 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> EnrolSecret {
        EnrolSecret(StaticSecret::from(bytes))
    }

    /// Reads a file: as an HMAC key's, 32 raw bytes or 64 hex digits.
    ///
    /// # Errors
    ///
    /// [`BadKey`].
    pub fn parse(file: &[u8]) -> Result<EnrolSecret, BadKey> {
        HmacKey::parse(file).map(|key| EnrolSecret::new(*key.bytes()))
    }

    /// What is shown to the other side.
    pub fn public(&self) -> EnrolPublic {
        EnrolPublic(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// 64 hex digits.
    pub fn to_hex(&self) -> Zeroizing<String> {
        hex(self.0.as_bytes())
    }

    /// The new key, at the client, whose secret this is. `None`: K is none that anybody could have a secret of.
    pub fn at_client(&self, keeper: EnrolPublic, of: Exchanged<'_>) -> Option<HmacKey> {
        derive(&self.0, keeper, self.public(), keeper, of)
    }

    /// The same at the keeper, whose secret this is.
    pub fn at_keeper(&self, client: EnrolPublic, of: Exchanged<'_>) -> Option<HmacKey> {
        derive(&self.0, client, client, self.public(), of)
    }
}

impl EnrolPublic {
    /// Of nobody: no secret has it, and who sends it gets nothing.
    pub const NOBODY: EnrolPublic = EnrolPublic([0; 32]);

    /// Reads 64 hex digits.
    pub fn parse(text: &str) -> Option<EnrolPublic> {
        unhex(text.as_bytes()).map(EnrolPublic)
    }
}

fn derive(
    own: &StaticSecret,
    theirs: EnrolPublic,
    e: EnrolPublic,
    k: EnrolPublic,
    of: Exchanged<'_>,
) -> Option<HmacKey> {
    let shared = own.diffie_hellman(&x25519_dalek::PublicKey::from(theirs.0));
    // A point of low order: everybody would know what comes out.
    if !shared.was_contributory() {
        return None;
    }
    let user = of.user.0.to_be_bytes();
    let info = [LABEL, &of.server.0[..], &user, &e.0, &k.0];
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(of.key.bytes()), shared.as_bytes()).expand_multi_info(&info, &mut *key).ok()?;
    HmacKey::new(*key).ok()
}

impl fmt::Debug for EnrolSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnrolSecret(****)")
    }
}

impl PartialEq for EnrolSecret {
    fn eq(&self, other: &EnrolSecret) -> bool {
        self.public() == other.public()
    }
}

impl fmt::Display for EnrolPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for EnrolPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hex(bytes: &[u8; 32]) -> Zeroizing<String> {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    Zeroizing::new(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect())
}

const LABEL: &[u8] = b"siglatch enrol 1";

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(digits: &str) -> EnrolSecret {
        EnrolSecret::parse(digits.as_bytes()).unwrap()
    }

    fn invites() -> HmacKey {
        HmacKey::new([0xab; 32]).unwrap()
    }

    fn of(key: &HmacKey) -> Exchanged<'_> {
        Exchanged { key, server: ServerId([7; 16]), user: UserId(0x0102) }
    }

    /// RFC 7748, 6.1.
    const ALICE: &str = "77076d0a7318a57d3c16c17251b26645df1f8f3a2a0e4f7a3c1d8a4e5f6b7c8d";

    #[test]
    fn both_sides_come_to_the_same_key_and_each_part_of_what_they_know_is_in_it() {
        let (e, k) = (secret(ALICE), EnrolSecret::new([9; 32]));
        let old = invites();
        let new = e.at_client(k.public(), of(&old)).unwrap();
        assert_eq!(k.at_keeper(e.public(), of(&old)), Some(new.clone()));
        assert_ne!(new, old);
        let others = [
            k.at_keeper(EnrolSecret::new([8; 32]).public(), of(&old)),
            EnrolSecret::new([8; 32]).at_keeper(e.public(), of(&old)),
            k.at_keeper(e.public(), of(&HmacKey::new([0xac; 32]).unwrap())),
            k.at_keeper(e.public(), Exchanged { server: ServerId([8; 16]), ..of(&old) }),
            k.at_keeper(e.public(), Exchanged { user: UserId(0x0201), ..of(&old) }),
        ];
        assert!(others.iter().all(|other| other.as_ref().is_some_and(|other| *other != new)));
    }

    #[test]
    fn the_derivation_is_that_of_the_specification() {
        let (e, k) = (EnrolSecret::new([1; 32]), EnrolSecret::new([2; 32]));
        let shared = e.0.diffie_hellman(&x25519_dalek::PublicKey::from(k.public().0));
        let info = [b"siglatch enrol 1", &[7; 16][..], &[1, 2], &e.public().0, &k.public().0].concat();
        let mut expected = [0; 32];
        Hkdf::<Sha256>::new(Some(&[0xab; 32]), shared.as_bytes()).expand(&info, &mut expected).unwrap();
        assert_eq!(*e.at_client(k.public(), of(&invites())).unwrap().bytes(), expected);
    }

    #[test]
    fn a_public_key_that_gives_everybody_the_same_secret_is_refused() {
        let k = EnrolSecret::new([9; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        for low in [[0; 32], one] {
            assert_eq!(k.at_keeper(EnrolPublic(low), of(&invites())), None);
            assert_eq!(k.at_client(EnrolPublic(low), of(&invites())), None);
        }
    }

    #[test]
    fn a_secret_prints_as_a_mask_and_reads_back() {
        let secret = EnrolSecret::new([0x5a; 32]);
        assert_eq!(format!("{secret:?}"), "EnrolSecret(****)");
        assert_eq!(EnrolSecret::parse(secret.to_hex().as_bytes()).unwrap(), secret);
        assert_eq!(EnrolPublic::parse(&secret.public().to_string()), Some(secret.public()));
        assert_eq!(EnrolPublic::parse("ab"), None);
    }
}
