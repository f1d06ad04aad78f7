//! What an auditor is given: files of a trail.

use std::time::Duration;

use crate::audit::{AuditKey, Chain, Entry, Event, Head, Link, Record, Trust, verify};
use crate::wire::ServerId;

/// Verifies it as a file, with a key that it was not signed by unless it says so. What is whole has as many records as lines, each of
/// which has one form; and a trail that is made of its texts is whole, and is not any more with one byte changed.
pub fn audit(data: &[u8]) {
    let key = AuditKey::new(&[7; 32]);
    let trust = Trust { keys: vec![key.public()], heads: Vec::new() };
    let lines = || data.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec);
    for line in lines() {
        if let Ok(record) = Record::read(&line) {
            assert!(!line.contains(&b'\n') && record.seq > 0);
        }
    }
    match verify(lines(), &trust) {
        Ok(whole) => {
            assert_eq!(whole.records, lines().count() as u64);
            let last = lines().next_back().map(|line| Link::of(&line[..line.len() - 1]));
            assert_eq!(whole.last.link, last.unwrap_or(Head::NONE.link));
            assert!(whole.signed <= whole.last.seq && whole.first <= whole.last.seq);
        }
        Err(broken) => assert!(!broken.to_string().is_empty() && broken.line <= lines().count()),
    }
    let mut chain = Chain::behind(Head::NONE);
    let mut trail = String::new();
    for piece in data.chunks(64) {
        let text = String::from_utf8_lossy(piece);
        let event = Event::Admin { name: "root", request: &text, result: "done" };
        trail += &format!("{}\n", chain.append(&Entry::new(Duration::from_secs(1), event)).text);
    }
    trail += &format!("{}\n", chain.checkpoint(1000, &key, Some(ServerId([1; 16]))).text);
    let verified = |bytes: &[u8]| {
        verify(bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec), &trust)
            .map(|whole| whole.last)
    };
    assert_eq!(verified(trail.as_bytes()), Ok(chain.head()));
    let mut changed = trail.into_bytes();
    let at = data.iter().fold(0_usize, |at, byte| at.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let at = at % changed.len();
    changed[at] ^= 1 << (at % 8);
    assert!(verified(&changed).is_err(), "byte {at} was changed unseen");
}
