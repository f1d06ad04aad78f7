//! Whether a trail is whole, and where it first is not.

use std::fmt;
use std::iter::Peekable;
use std::time::Duration;

use super::chain::{Head, Link, message};
use super::key::TrailKey;
use super::line::{BadLine, Record, canonical};
use crate::wire::ServerId;

/// What a trail is verified against.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Who may have signed it.
    pub keys: Vec<TrailKey>,
    /// Heads that were kept elsewhere.
    pub heads: Vec<Head>,
}

/// A trail that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many records.
    pub records: u64,
    /// The first one's number; 0 where there is none.
    pub first: u64,
    /// Where it ends.
    pub last: Head,
    /// How many of them are signed.
    pub checkpoints: u64,
    /// The last of these. What comes after it is chained, and not signed yet.
    pub signed: u64,
    /// What comes after it, and after the last head that was kept: it may be anybody's.
    pub open: Tail,
}

/// Records at the end of a trail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// How many.
    pub records: u64,
    /// When the earliest of them was, in milliseconds since the Unix epoch.
    pub from: u64,
    /// And the latest.
    pub to: u64,
}

/// The longest tail that a siglatchd leaves unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Records.
    pub records: u64,
    /// From the first to the last of them.
    pub time: Duration,
}

impl Bounds {
    /// Of one that signs after so many records, or after this time: what waited for a store that failed comes at once, and who is busy
    /// signs the next time.
    pub fn new(records: u64, every: Duration) -> Bounds {
        let time = every.saturating_mul(2).saturating_add(Duration::from_mins(1));
        Bounds { records: records.saturating_add(BURST), time }
    }
}

impl Verified {
    /// Whether there are records, and no more of them are without a signature than must be. `now`: since the Unix epoch.
    pub fn is_proven(&self, bounds: Bounds, now: Duration) -> bool {
        let Tail { records, from, to } = self.open;
        // Where nothing is signed, not even the times of the records say how long that has been so.
        let until = if records == self.records {
            Duration::from_millis(to).max(now)
        } else {
            Duration::from_millis(to)
        };
        let time = until.saturating_sub(Duration::from_millis(from));
        self.records > 0 && records <= bounds.records && time <= bounds.time
    }
}

/// A trail that is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct Broken {
    /// The line of the record that was changed, where that is known, else the one where it shows; counted from 0.
    pub line: usize,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This record's line is none, or not the one that the next record was made behind.
    Changed(u64, Option<BadLine>),
    /// This record does not belong behind those before it, and nothing comes after it that tells which of them was changed.
    AtOrBefore(u64),
    /// These are missing.
    Removed(u64, u64),
    /// A record with this number does not belong there.
    Inserted(u64),
    /// This one comes later than it must.
    Reordered(u64),
    /// From here on there is nothing, and a head that was kept tells of more.
    CutOff(u64),
    /// All up to this record was made anew, after the first number, by somebody who has not the key.
    Forged(u64, u64),
    /// This one is signed by none of the keys that are trusted.
    Foreign(u64, String),
    /// This record is whole, and not the one of the head that was kept.
    OtherHead(u64),
    /// The head that was kept is of a record before the first one here.
    NotHere(u64),
}

/// Reads lines, each with the newline at its end, to the last one or the first fault.
///
/// # Errors
///
/// [`Broken`] with the first record that was changed, removed, inserted, reordered or cut off.
pub fn verify(lines: impl Iterator<Item = Vec<u8>>, trust: &Trust) -> Result<Verified, Broken> {
    let mut rest = lines.peekable();
    let open = Tail::default();
    let mut seen = Verified { records: 0, first: 0, last: Head::NONE, checkpoints: 0, signed: 0, open };
    for line in 0_usize.. {
        let Some(bytes) = rest.next() else { break };
        let before = Fault::Changed(seen.last.seq, None);
        let broken = |fault| Broken { line: line.saturating_sub(usize::from(fault == before)), fault };
        let (record, link) = next(&seen, &bytes, &mut rest, trust).map_err(broken)?;
        seen.open.add(record.at);
        if record.is_checkpoint() {
            signed(&seen, &record, link, &mut rest, trust).map_err(broken)?;
            seen.checkpoints = seen.checkpoints.saturating_add(1);
            seen.signed = record.seq;
            seen.open = Tail::default();
        }
        if seen.records == 0 {
            seen.first = record.seq;
        }
        seen.records = seen.records.saturating_add(1);
        seen.last = Head { seq: record.seq, link };
        for head in trust.heads.iter().filter(|head| head.seq == record.seq) {
            if head.link != link {
                return Err(broken(Fault::OtherHead(record.seq)));
            }
            seen.open = Tail::default();
        }
    }
    let end = |fault| Broken { line: usize::try_from(seen.records).unwrap_or(usize::MAX), fault };
    match trust.heads.iter().find(|head| head.seq > seen.last.seq || head.seq < seen.first) {
        Some(head) if head.seq > seen.last.seq => Err(end(Fault::CutOff(seen.last.seq.saturating_add(1)))),
        Some(head) => Err(end(Fault::NotHere(head.seq))),
        None => Ok(seen),
    }
}

impl Tail {
    fn add(&mut self, at: u64) {
        let is_first = self.records == 0;
        self.records = self.records.saturating_add(1);
        self.from = if is_first { at } else { self.from.min(at) };
        self.to = self.to.max(at);
    }
}

/// The record of a line, if it is the one that comes next.
fn next<I: Iterator<Item = Vec<u8>>>(
    seen: &Verified,
    bytes: &[u8],
    rest: &mut Peekable<I>,
    trust: &Trust,
) -> Result<(Record, Link), Fault> {
    let read = whole(bytes);
    let expected = match (&read, seen.records) {
        (Ok((record, _)), 0) => record.seq,
        (Ok(_) | Err(_), _) => seen.last.seq.saturating_add(1),
    };
    let (record, link) = read.map_err(|bad| Fault::Changed(expected, Some(bad)))?;
    if record.seq != expected {
        return Err(misplaced(record.seq, expected, rest));
    }
    let first_ever = expected == 1;
    if (seen.records > 0 || first_ever) && record.prev != seen.last.link {
        if first_ever {
            return Err(Fault::Changed(expected, None));
        }
        if is_signed(&record, trust) == Signed::Well {
            return Err(Fault::Changed(seen.last.seq, None));
        }
        return Err(match follows(rest, record.seq, link) {
            // This one is as it was made, so it is the one before that is not.
            Some(true) => Fault::Changed(seen.last.seq, None),
            Some(false) => Fault::Changed(expected, None),
            None => Fault::AtOrBefore(expected),
        });
    }
    Ok((record, link))
}

/// What a line with its newline says, and what the next one must name.
fn whole(line: &[u8]) -> Result<(Record, Link), BadLine> {
    let line = line.strip_suffix(b"\n").ok_or(BadLine::Torn)?;
    Ok((Record::read(line)?, Link::of(line)))
}

/// Whether the next line is a record that was made behind this one; `None`: there is none that could tell.
fn follows<I: Iterator<Item = Vec<u8>>>(rest: &mut Peekable<I>, seq: u64, link: Link) -> Option<bool> {
    let (next, _) = rest.peek().and_then(|line| whole(line).ok())?;
    (next.seq.checked_sub(1) == Some(seq)).then_some(next.prev == link)
}

/// A record stands where another one should.
fn misplaced<I: Iterator<Item = Vec<u8>>>(seq: u64, expected: u64, rest: &mut Peekable<I>) -> Fault {
    let number = |line: &Vec<u8>| whole(line).ok().map(|(record, _)| record.seq);
    let next = rest.peek().and_then(number);
    let fits = next.is_some_and(|next| next.checked_sub(1) == Some(expected));
    if seq < expected && !fits {
        return Fault::Inserted(seq);
    }
    if rest.any(|line| number(&line) == Some(expected)) {
        return Fault::Reordered(expected);
    }
    if fits { Fault::Changed(expected, None) } else { Fault::Removed(expected, seq.saturating_sub(1)) }
}

/// Whether a checkpoint is signed by a key that is trusted.
fn signed<I: Iterator<Item = Vec<u8>>>(
    seen: &Verified,
    record: &Record,
    link: Link,
    rest: &mut Peekable<I>,
    trust: &Trust,
) -> Result<(), Fault> {
    match is_signed(record, trust) {
        Signed::Well => Ok(()),
        Signed::ByAnother => {
            Err(Fault::Foreign(record.seq, record.text("key").unwrap_or_default().to_owned()))
        }
        Signed::Badly => Err(match follows(rest, record.seq, link) {
            // Who forges what comes before it makes what comes after it anew, too.
            Some(true) => Fault::Forged(seen.signed, record.seq),
            None if seen.records > 0 => Fault::AtOrBefore(record.seq),
            Some(false) | None => Fault::Changed(record.seq, None),
        }),
    }
}

/// What a record's signature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signed {
    Well,
    Badly,
    ByAnother,
}

fn is_signed(record: &Record, trust: &Trust) -> Signed {
    let key = record.text("key").and_then(TrailKey::parse).filter(|key| trust.keys.contains(key));
    let Some(key) = key else { return Signed::ByAnother };
    let server = record.text("server").and_then(ServerId::parse);
    let mut unsigned = record.fields.clone();
    unsigned.remove("signature");
    let message = message(server, &canonical(&unsigned));
    let signature = record.text("signature").unwrap_or_default();
    if key.signed(&message, signature) { Signed::Well } else { Signed::Badly }
}

/// Records that come at once, when a store works again that has failed.
const BURST: u64 = 5_000;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Changed(seq, None) => write!(f, "record {seq} was changed"),
            Fault::Changed(seq, Some(bad)) => write!(f, "record {seq} was changed: {bad}"),
            Fault::AtOrBefore(seq) => write!(f, "record {seq}, or one before it, was changed"),
            Fault::Removed(from, to) if from == to => write!(f, "record {from} was removed"),
            Fault::Removed(from, to) => write!(f, "records {from} to {to} were removed"),
            Fault::Inserted(seq) => write!(f, "a record with the number {seq} was inserted"),
            Fault::Reordered(seq) => write!(f, "record {seq} was moved"),
            Fault::CutOff(seq) => write!(f, "record {seq} and those behind it were cut off"),
            Fault::Forged(from, to) => {
                let from = from.saturating_add(1);
                write!(
                    f,
                    "records {from} to {to} are not what the key signed: one of them was changed, and what follows made anew"
                )
            }
            Fault::Foreign(seq, key) => {
                write!(f, "record {seq} is signed by a key that is not trusted: {key:?}")
            }
            Fault::OtherHead(seq) => write!(
                f,
                "record {seq} is not the one of the head that was kept: it was changed, or one before it"
            ),
            Fault::NotHere(seq) => {
                write!(f, "record {seq}, of the head that was kept, comes before the first one here")
            }
        }
    }
}
