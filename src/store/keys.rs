//! Keys that users have in place of those in their files, because they were exchanged (`wire::enrol`).
//!
//! They are secrets: the file that they are in is its owner's alone. Without it the keys in the files would be in force again.

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::wire::enrol::EnrolPublic;
use crate::wire::key::unhex;
use crate::wire::{HmacKey, UserId};

/// What is known of one user's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Whose.
    pub user: UserId,
    /// All of it.
    pub exchanged: Exchanged,
}

/// What became of the key in a user's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// Of the key in the file, by [`fingerprint`]: with another one there, none of this is about it.
    pub file: [u8; 32],
    /// What is in force in its place.
    pub own: Option<Own>,
    /// What will be, from the first knock under it on.
    pub next: Option<Next>,
}

/// A key that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// It.
    pub key: HmacKey,
    /// Since when, Unix seconds.
    pub since: u64,
    /// Until when (Unix seconds) it could have been exchanged for: that leave is used up.
    pub leave: u64,
}

/// A key that was not knocked under yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// Of the client that has it.
    pub client: EnrolPublic,
    /// It.
    pub key: HmacKey,
}

/// Names a key, and tells nothing about it.
pub fn fingerprint(key: &HmacKey) -> [u8; 32] {
    Sha256::new().chain_update(b"siglatch key 1").chain_update(key.bytes()).finalize().into()
}

impl Exchanged {
    /// Nothing became of it yet.
    pub fn of(key: &HmacKey) -> Exchanged {
        Exchanged { file: fingerprint(key), own: None, next: None }
    }

    /// Whether it is about this key in the file.
    pub fn is_of(&self, key: &HmacKey) -> bool {
        self.file == fingerprint(key)
    }

    /// As the store keeps it: `1 FILE KEY SINCE LEAVE CLIENT NEXT`, with `-` for what there is not. Holds the keys.
    pub fn to_text(&self) -> Zeroizing<String> {
        let file = EnrolPublic(self.file);
        let own = self.own.as_ref().map_or("- 0 0".to_owned().into(), |own| {
            Zeroizing::new(format!("{} {} {}", *own.key.to_hex(), own.since, own.leave))
        });
        let next = self.next.as_ref().map_or("- -".to_owned().into(), |next| {
            Zeroizing::new(format!("{} {}", next.client, *next.key.to_hex()))
        });
        Zeroizing::new(format!("1 {file} {} {}", *own, *next))
    }

    /// Reads it; `None`: it is none.
    pub fn parse(text: &str) -> Option<Exchanged> {
        let words: Vec<&str> = text.split(' ').collect();
        let ["1", file, own, since, leave, client, next] = words.as_slice() else { return None };
        let key = |hex: &str| HmacKey::parse(hex.as_bytes()).ok();
        let own = match *own {
            "-" => None,
            own => Some(Own { key: key(own)?, since: since.parse().ok()?, leave: leave.parse().ok()? }),
        };
        let next = match (*client, *next) {
            ("-", "-") => None,
            (client, next) => Some(Next { client: EnrolPublic::parse(client)?, key: key(next)? }),
        };
        Some(Exchanged { file: unhex(file.as_bytes())?, own, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_and_anything_else_is_not() {
        let key = |byte| HmacKey::new([byte; 32]).unwrap();
        let own = Own { key: key(2), since: 1_700_000_000, leave: 1_800_000_000 };
        let next = Next { client: EnrolPublic([3; 32]), key: key(4) };
        let none = Exchanged::of(&key(1));
        for exchanged in [
            none.clone(),
            Exchanged { own: Some(own.clone()), ..none.clone() },
            Exchanged { next: Some(next.clone()), ..none.clone() },
            Exchanged { own: Some(own), next: Some(next), ..none },
        ] {
            let text = exchanged.to_text();
            assert_eq!(Exchanged::parse(&text), Some(exchanged));
            for bad in [&text[1..], &text[..text.len() - 1], &format!("{} -", *text), ""] {
                assert_eq!(Exchanged::parse(bad), None, "{bad}");
            }
        }
        assert_ne!(fingerprint(&key(1)), fingerprint(&key(2)));
    }
}
