//! The server's public key in pieces, as receipts carry it to who has the one before.
//!
//! ```text
//! knock:   option 5 (the argument of a built-in action) = offset u16
//! receipt: text = offset u16 | total u16 | the first 16 bytes of SHA-256(SPKI DER) | up to 200 bytes     big-endian
//! ```
//!
//! # Security considerations
//!
//! A receipt is sealed under a key that comes from the user's HMAC key and from the very knock that it answers. Who can make one
//! has the user's key, so is the server, or could knock in its user's name anyway: no other can put a key of his own in the place
//! of the server's. The hash is there against pieces of two keys in one, which a restart could mix, and proves nothing by itself.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::PublicKey;
use super::reader::{Reader, WrongLength};
use super::receipt::TEXT_MAX;
use super::rsa_key::{BadRsaKey, MODULUS_MAX};

/// Most bytes of the key in one piece.
pub const PIECE_MAX: usize = TEXT_MAX - HEAD_LEN;

/// Longest key in SPKI DER, in bytes: the modulus, and some for what is around it.
pub const SPKI_MAX: usize = MODULUS_MAX + 64;

/// Some of the key's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    offset: u16,
    total: u16,
    hash: KeyHash,
    bytes: Vec<u8>,
}

/// The first 16 bytes of SHA-256 over SPKI DER.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash([u8; 16]);

/// What was told is no piece of the key that the pieces before it are of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPiece {
    /// No piece, or one of another place.
    #[error("what the server told is no piece of a key")]
    Malformed,
    /// The server has another key than it had a moment before.
    #[error("the server told pieces of two keys: it was just given another")]
    TwoKeys,
    /// All pieces are there, and are not what was announced.
    #[error("the pieces that the server told do not make the key that it announced")]
    Hash,
    /// They make none that can be used.
    #[error("the key that the server told cannot be used: {0}")]
    Key(#[from] BadRsaKey),
}

impl From<WrongLength> for BadPiece {
    fn from(_: WrongLength) -> BadPiece {
        BadPiece::Malformed
    }
}

/// The key, as far as it was told.
#[derive(Debug, Default)]
pub struct Pieces {
    /// Of the first piece: how long it is, and its hash.
    about: Option<(u16, KeyHash)>,
    bytes: Vec<u8>,
}

impl KeyHash {
    /// Of this key.
    pub fn of(key: &PublicKey) -> KeyHash {
        KeyHash::of_spki(&key.spki())
    }

    fn of_spki(spki: &[u8]) -> KeyHash {
        let whole: [u8; 32] = Sha256::digest(spki).into();
        KeyHash(whole.first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Piece {
    /// What is told to who asks with this argument; `None`: there is no such place in the key.
    pub fn of(key: &PublicKey, argument: &[u8]) -> Option<Piece> {
        let offset = u16::from_be_bytes(argument.try_into().ok()?);
        let spki = key.spki();
        let bytes = spki.get(usize::from(offset)..).filter(|rest| !rest.is_empty())?;
        let bytes = bytes.get(..PIECE_MAX).unwrap_or(bytes).to_vec();
        Some(Piece { offset, total: u16::try_from(spki.len()).ok()?, hash: KeyHash::of_spki(&spki), bytes })
    }

    /// A receipt's text, at most [`TEXT_MAX`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let Piece { offset, total, hash, bytes } = self;
        [&offset.to_be_bytes()[..], &total.to_be_bytes(), &hash.0, bytes].concat()
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// [`BadPiece::Malformed`] for all that [`Piece::encode`] does not write.
    pub fn decode(text: &[u8]) -> Result<Piece, BadPiece> {
        let mut reader = Reader::new(text);
        let offset = u16::from_be_bytes(*reader.array()?);
        let total = u16::from_be_bytes(*reader.array()?);
        let hash = KeyHash(*reader.array()?);
        let bytes = reader.rest().to_vec();
        let end = usize::from(offset).saturating_add(bytes.len());
        let whole = end == usize::from(total) || bytes.len() == PIECE_MAX && end < usize::from(total);
        if bytes.is_empty() || bytes.len() > PIECE_MAX || usize::from(total) > SPKI_MAX || !whole {
            return Err(BadPiece::Malformed);
        }
        Ok(Piece { offset, total, hash, bytes })
    }

    /// Of the whole key.
    pub fn hash(&self) -> KeyHash {
        self.hash
    }
}

impl Pieces {
    /// What to ask for next: the argument; `None`: all of it was told.
    pub fn wanted(&self) -> Option<[u8; 2]> {
        let done = self.about.is_some_and(|(total, _)| self.bytes.len() >= usize::from(total));
        // Below SPKI_MAX.
        u16::try_from(self.bytes.len()).ok().filter(|_| !done).map(u16::to_be_bytes)
    }

    /// Takes the piece that was asked for.
    ///
    /// # Errors
    ///
    /// [`BadPiece`]: nothing can come of it any more.
    pub fn take(&mut self, piece: &Piece) -> Result<(), BadPiece> {
        let about = *self.about.get_or_insert((piece.total, piece.hash));
        if about != (piece.total, piece.hash) {
            return Err(BadPiece::TwoKeys);
        }
        if usize::from(piece.offset) != self.bytes.len() {
            return Err(BadPiece::Malformed);
        }
        self.bytes.extend(&piece.bytes);
        Ok(())
    }

    /// The key, once nothing is [`wanted`](Pieces::wanted) any more.
    ///
    /// # Errors
    ///
    /// [`BadPiece`].
    pub fn key(&self) -> Result<PublicKey, BadPiece> {
        let announced = self.about.map(|(_, hash)| hash);
        if self.wanted().is_some() || announced != Some(KeyHash::of_spki(&self.bytes)) {
            return Err(BadPiece::Hash);
        }
        let key = PublicKey::from_spki(&self.bytes)?;
        // What is derived for a server is derived from these bytes, and no others that would read as the same key.
        if key.spki() == self.bytes { Ok(key) } else { Err(BadPiece::Malformed) }
    }
}

const HEAD_LEN: usize = 2 + 2 + 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rsa::pkcs8::EncodePublicKey as _;
    use rsa::{BigUint, RsaPublicKey};

    use super::*;

    fn key(bits: usize, first: u8) -> PublicKey {
        let mut modulus = vec![0xff; bits / 8];
        modulus[1] = first;
        let modulus = BigUint::from_bytes_be(&modulus);
        let key = RsaPublicKey::new_with_max_size(modulus, 65537u32.into(), bits).unwrap();
        PublicKey::from_spki(key.to_public_key_der().unwrap().as_bytes()).unwrap()
    }

    /// As client and server do it, each piece by the wire.
    fn tell(key: impl Fn(usize) -> PublicKey) -> Result<(PublicKey, usize), BadPiece> {
        let mut pieces = Pieces::default();
        let mut told = 0_usize;
        while let Some(argument) = pieces.wanted() {
            let text = Piece::of(&key(told), &argument).unwrap().encode();
            assert!(text.len() <= TEXT_MAX);
            pieces.take(&Piece::decode(&text)?)?;
            told = told.saturating_add(1);
        }
        Ok((pieces.key()?, told))
    }

    #[test]
    fn a_key_of_each_length_is_told_in_pieces() {
        for (bits, pieces) in [(2048, 2), (3072, 3), (4096, 3), (8192, 6)] {
            assert_eq!(tell(|_| key(bits, 1)), Ok((key(bits, 1), pieces)), "{bits}");
        }
        assert_eq!(PIECE_MAX, 200);
    }

    #[test]
    fn a_key_that_changes_between_two_pieces_is_none() {
        let told = tell(|nth| key(2048, u8::try_from(nth).unwrap()));
        assert_eq!(told, Err(BadPiece::TwoKeys));
    }

    #[test]
    fn nobody_is_told_what_is_beyond_the_key() {
        for argument in [&[][..], &[0], &[0, 0, 0], &294_u16.to_be_bytes(), &[0xff, 0xff]] {
            assert_eq!(Piece::of(&key(2048, 1), argument), None, "{argument:?}");
        }
        let last = Piece::of(&key(2048, 1), &293_u16.to_be_bytes()).unwrap();
        assert_eq!(last.bytes.len(), 1);
    }

    #[test]
    fn a_piece_that_does_not_fit_what_was_told_before_ends_it() {
        let of = |offset: u16| Piece::of(&key(2048, 1), &offset.to_be_bytes()).unwrap();
        let mut pieces = Pieces::default();
        assert_eq!(pieces.take(&of(200)), Err(BadPiece::Malformed), "the second first");
        let mut pieces = Pieces::default();
        pieces.take(&of(0)).unwrap();
        assert_eq!(pieces.take(&of(0)), Err(BadPiece::Malformed), "the first again");
        assert_eq!(pieces.key(), Err(BadPiece::Hash), "half of it");
        let mut changed = of(200);
        changed.bytes[50] ^= 1;
        pieces.take(&changed).unwrap();
        assert_eq!(pieces.key(), Err(BadPiece::Hash));
        let huge = [0, 0, 0xff, 0xff].iter().chain(&[7; 216]).copied().collect::<Vec<u8>>();
        assert_eq!(Piece::decode(&huge), Err(BadPiece::Malformed));
    }

    #[test]
    fn what_is_told_and_is_no_rsa_key_is_refused() {
        let spki = vec![7; 40];
        let hash = KeyHash::of_spki(&spki);
        let mut pieces = Pieces::default();
        pieces.take(&Piece { offset: 0, total: 40, hash, bytes: spki }).unwrap();
        assert!(matches!(pieces.key(), Err(BadPiece::Key(_))));
    }

    proptest! {
        #[test]
        fn any_text_is_a_piece_or_not(
            head in (0_u16..900, 0_u16..1200, any::<[u8; 16]>()),
            bytes in proptest::collection::vec(any::<u8>(), 0..220),
        ) {
            let (offset, total, hash) = head;
            let text = [&offset.to_be_bytes()[..], &total.to_be_bytes(), &hash, &bytes].concat();
            if let Ok(piece) = Piece::decode(&text) {
                prop_assert_eq!(piece.encode(), text);
            }
        }
    }
}
