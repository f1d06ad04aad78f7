//! The chain: each line names the hash of the one before it, and some are signed.

use std::fmt;

use serde_json::Map;
use sha2::{Digest as _, Sha256};

use super::event::Entry;
use super::key::AuditKey;
use super::line::{Line, canonical};
use crate::wire::{ServerId, key::unhex};

/// SHA-256 of a line without its newline; zeros in front of the first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Link(pub [u8; 32]);

/// The end of a trail: `SEQ:HASH`, the hash in 64 hex digits. Whoever keeps one can tell any other trail from this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last record's number; 0: there is none.
    pub seq: u64,
    /// Of its line.
    pub link: Link,
}

/// Makes lines. A copy that is thrown away takes back what was made with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    head: Head,
}

impl Chain {
    /// Goes on behind this head.
    pub fn behind(head: Head) -> Chain {
        Chain { head }
    }

    /// Where it ends.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The next line.
    pub fn append(&mut self, entry: &Entry) -> Line {
        let seq = self.next();
        self.close(seq, entry.at, entry.line(self.head.link, seq))
    }

    /// The next line, signed: with it all before it.
    pub fn checkpoint(&mut self, at: u64, key: &AuditKey, server: Option<ServerId>) -> Line {
        let mut fields = Map::new();
        fields.insert("kind".to_owned(), CHECKPOINT.into());
        fields.insert("key".to_owned(), key.public().to_string().into());
        fields.extend(server.map(|server| ("server".to_owned(), server.to_string().into())));
        let seq = self.next();
        fields.insert("at".to_owned(), at.to_string().into());
        fields.insert("prev".to_owned(), self.head.link.to_string().into());
        fields.insert("seq".to_owned(), seq.to_string().into());
        let signature = key.sign(&message(server, &canonical(&fields)));
        fields.insert("signature".to_owned(), hex(&signature).into());
        self.close(seq, at, canonical(&fields))
    }

    fn next(&self) -> u64 {
        self.head.seq.saturating_add(1)
    }

    fn close(&mut self, seq: u64, at: u64, text: String) -> Line {
        self.head = Head { seq, link: Link::of(text.as_bytes()) };
        Line { seq, at, text }
    }
}

impl Head {
    /// No record yet.
    pub const NONE: Head = Head { seq: 0, link: Link([0; 32]) };

    /// Reads `SEQ:HASH`.
    pub fn parse(text: &str) -> Option<Head> {
        let (seq, link) = text.split_once(':')?;
        Some(Head { seq: seq.parse().ok()?, link: Link::parse(link)? })
    }
}

impl From<&Line> for Head {
    fn from(line: &Line) -> Head {
        Head { seq: line.seq, link: Link::of(line.text.as_bytes()) }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.link)
    }
}

impl Link {
    /// Of a line without its newline.
    pub fn of(line: &[u8]) -> Link {
        Link(Sha256::digest(line).into())
    }

    /// Reads 64 hex digits, small ones.
    pub fn parse(text: &str) -> Option<Link> {
        unhex(text.as_bytes()).map(Link).filter(|link| link.to_string() == text)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a checkpoint's signature is made of. `unsigned` is its canonical form without the signature.
pub(super) fn message(server: Option<ServerId>, unsigned: &str) -> Vec<u8> {
    let server = server.map_or([0; 16], |ServerId(id)| id);
    [DOMAIN, server.as_slice(), unsigned.as_bytes()].concat()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// The kind of a record that is signed.
pub(super) const CHECKPOINT: &str = "checkpoint";

/// No other signature of siglatch's begins so.
const DOMAIN: &[u8] = b"siglatch audit checkpoint 1";
