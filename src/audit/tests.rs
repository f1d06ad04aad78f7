#![allow(clippy::arithmetic_side_effects, reason = "a panic is a failed test")]

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::wire::{KnockId, ServerId};

const SERVER: ServerId = ServerId([7; 16]);
const NOON: u64 = 1_700_000_000_000;

fn key() -> AuditKey {
    AuditKey::new(&[9; 32])
}

fn trust() -> Trust {
    Trust { keys: vec![key().public()], heads: Vec::new() }
}

fn knock(number: u64) -> Knock<'static> {
    let from = IpAddr::from([192, 0, 2, 7]);
    Knock { id: KnockId(number.to_be_bytes()), user: "alice", action: "ssh", from, bound: "server" }
}

fn entry(number: u64, event: Event<'_>) -> Entry {
    Entry::new(Duration::from_millis(NOON + number), event)
}

/// Lines with their newlines; a checkpoint each ten, the last one is one.
fn trail(records: u64) -> Vec<Vec<u8>> {
    let mut chain = Chain::behind(Head::NONE);
    let mut lines = Vec::new();
    for number in 1..=records {
        let line = if number % 10 == 0 || number == records {
            chain.checkpoint(NOON + number, &key(), Some(SERVER))
        } else if number % 3 == 0 {
            chain.append(&entry(
                number,
                Event::Refused { knock: knock(number), reason: "quota", next: Some(7) },
            ))
        } else {
            chain.append(&entry(number, Event::Ran(knock(number))))
        };
        assert_eq!(line.seq, number);
        lines.push(format!("{}\n", line.text).into_bytes());
    }
    lines
}

fn verified(lines: &[Vec<u8>]) -> Result<Verified, Fault> {
    verify(lines.iter().cloned(), &trust()).map_err(|broken| broken.fault)
}

/// Lines of these bytes, as a reader of files finds them.
fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// Makes the chain anew behind the record at `from`, as who has not the key can.
fn relink(lines: &mut [Vec<u8>], from: usize) {
    for at in from + 1..lines.len() {
        let link = Link::of(lines[at - 1].strip_suffix(b"\n").unwrap());
        let mut fields = Record::read(lines[at].strip_suffix(b"\n").unwrap()).unwrap().fields;
        fields.insert("prev".to_owned(), link.to_string().into());
        lines[at] = format!("{}\n", serde_json_canonicalizer::to_string(&fields).unwrap()).into_bytes();
    }
}

#[test]
fn a_record_is_one_line_in_canonical_form() {
    let mut chain = Chain::behind(Head::NONE);
    let line = chain.append(&entry(0, Event::Ran(knock(258))));
    let zeros = "0".repeat(64);
    assert_eq!(
        line.text,
        format!(
            r#"{{"action":"ssh","at":"1700000000000","bound":"server","from":"192.0.2.7","kind":"ran","knock":"0000000000000102","prev":"{zeros}","seq":"1","user":"alice"}}"#
        )
    );
    let next = chain.append(&entry(1, Event::Missed { count: u64::MAX }));
    let record = Record::read(next.text.as_bytes()).unwrap();
    assert_eq!(record.prev, Link::of(line.text.as_bytes()));
    assert_eq!(record.text("count"), Some("18446744073709551615"));
    assert_eq!(Head::parse(&chain.head().to_string()), Some(Head::from(&next)));
}

#[test]
fn a_text_from_outside_cannot_leave_its_field() {
    let mut chain = Chain::behind(Head::NONE);
    let request = "\"}\n{\"kind\":\"admin\"\u{0}\u{2028}";
    let line = chain.append(&entry(0, Event::Admin { name: "root", request, result: &"ü".repeat(4000) }));
    assert!(!line.text.contains('\n'));
    let record = Record::read(line.text.as_bytes()).unwrap();
    assert_eq!((record.kind(), record.text("request")), ("admin", Some(request)));
    assert_eq!(record.text("result").unwrap().chars().count(), 2049, "it is cut");
}

#[test]
fn a_whole_trail_is_whole_from_any_record_on() {
    let lines = trail(35);
    let all = verified(&lines).unwrap();
    assert_eq!((all.records, all.first, all.last.seq, all.checkpoints, all.signed), (35, 1, 35, 4, 35));
    for from in 1..35 {
        let part = verified(&lines[from..]).unwrap();
        assert_eq!((part.first, part.last), (from as u64 + 1, all.last));
    }
    assert_eq!(verified(&[]).unwrap().records, 0);
}

#[test]
fn what_anybody_could_have_made_is_not_proven() {
    let bounds = Bounds::new(10, Duration::from_secs(60));
    assert_eq!(bounds, Bounds { records: 5_010, time: Duration::from_secs(180) });
    let now = Duration::from_millis(NOON + 200_000);
    // Behind so many signed ones, so many more, each so much later than the one before.
    let proven = |signed: u64, more: u64, apart: u64, now: Duration, kept: Option<u64>| {
        let mut chain = Chain::behind(Head::NONE);
        let mut lines: Vec<String> =
            (0..signed).map(|at| chain.append(&entry(at, Event::Stopped)).text).collect();
        if signed > 0 {
            lines.push(chain.checkpoint(NOON, &key(), None).text);
        }
        let mut heads = Vec::new();
        for number in 0..more {
            lines.push(chain.append(&entry(number * apart, Event::Stopped)).text);
            heads.extend(kept.filter(|kept| *kept == number).map(|_| chain.head()));
        }
        let trust = Trust { heads, ..trust() };
        let lines = lines.into_iter().map(|line| format!("{line}\n").into_bytes());
        verify(lines, &trust).unwrap().is_proven(bounds, now)
    };
    let noon = Duration::from_millis(NOON);
    for (signed, more, apart, now, kept, expected) in [
        (3, 0, 0, now, None, true),
        (3, 5_010, 0, now, None, true),
        (3, 5_011, 0, now, None, false),
        (3, 181, 1000, now, None, true),
        (3, 182, 1000, now, None, false),
        // When that was says nothing: it is a file from the archive, or siglatchd was killed.
        (3, 10, 1, now * 2, None, true),
        // Nothing is signed at all.
        (0, 0, 0, noon, None, false),
        (0, 10, 1, noon, None, true),
        (0, 10, 1, now, None, false),
        (0, 182, 1000, noon, None, false),
        // What was kept elsewhere proves as a signature does.
        (0, 10, 1, now, Some(9), true),
        (3, 5_020, 1000, now, Some(5_015), true),
        (0, 5_020, 1000, now, Some(4_000), false),
    ] {
        assert_eq!(
            proven(signed, more, apart, now, kept),
            expected,
            "{signed} {more} {apart} {now:?} {kept:?}"
        );
    }
}

/// Whether a change of a byte of this record is found, by what comes before and after it, and the record named.
fn is_found(lines: &[Vec<u8>], at: usize, place: usize, value: u8) {
    let mut bytes = lines[at].clone();
    bytes[place] = value;
    // What is before it is whole, and what is behind it is reached only if this is not found.
    let before = lines[at.saturating_sub(1)..at].iter().cloned();
    let joined = usize::from(bytes.last() != Some(&b'\n'));
    if joined > 0 {
        bytes.extend(lines.get(at + 1).map_or(&[][..], Vec::as_slice));
    }
    let behind = lines.iter().skip(at + 1 + joined).cloned();
    let found = verify(before.chain(split(&bytes)).chain(behind), &trust());
    let fault = found.expect_err("a change was not found").fault;
    let named = match fault {
        // Another number is another record, where nothing behind it tells.
        Fault::Inserted(_) if at + 1 == lines.len() => at as u64 + 1,
        Fault::Changed(seq, _) | Fault::AtOrBefore(seq) | Fault::Inserted(seq) => seq,
        Fault::Foreign(seq, _) | Fault::Removed(seq, _) | Fault::Reordered(seq) => seq,
        Fault::Forged(..) | Fault::OtherHead(_) | Fault::NotHere(_) | Fault::CutOff(_) => {
            panic!("{fault} for a change of record {}", at + 1)
        }
    };
    // The first one here may have any number.
    assert!(named == at as u64 + 1 || at == 0, "{fault} for a change of record {}", at + 1);
}

#[test]
fn a_change_of_each_byte_of_two_hundred_records_is_found_and_its_record_named() {
    let lines = trail(200);
    verified(&lines).unwrap();
    // Each of the 255 that there are, one after the other.
    let mut differences = (1..=u8::MAX).cycle();
    for (at, line) in lines.iter().enumerate() {
        for (place, byte) in line.iter().enumerate() {
            is_found(&lines, at, place, byte ^ differences.next().unwrap());
        }
    }
}

#[test]
fn every_change_of_each_byte_of_a_record_is_found_and_the_record_named() {
    let lines = trail(4);
    verified(&lines).unwrap();
    let mut changes = 0;
    for (place, byte) in lines[1].iter().enumerate() {
        for value in (0..=u8::MAX).filter(|value| value != byte) {
            is_found(&lines, 1, place, value);
            changes += 1;
        }
    }
    assert_eq!(changes, lines[1].len() * 255);
}

#[test]
fn what_was_done_to_a_trail_is_said() {
    let original = trail(40);
    let edit = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut lines = original.clone();
        change(&mut lines);
        verified(&lines).unwrap_err()
    };
    let other = |lines: &mut Vec<Vec<u8>>, at: usize| {
        lines[at] = String::from_utf8(lines[at].clone()).unwrap().replace("alice", "mallo").into_bytes();
    };
    let cases = [
        (edit(&|lines| other(lines, 6)), Fault::Changed(7, None)),
        (edit(&|lines| drop(lines.remove(6))), Fault::Removed(7, 7)),
        (edit(&|lines| drop(lines.drain(6..12))), Fault::Removed(7, 12)),
        (edit(&|lines| lines.insert(6, lines[2].clone())), Fault::Inserted(3)),
        (edit(&|lines| lines.insert(6, lines[5].clone())), Fault::Inserted(6)),
        (edit(&|lines| lines.swap(6, 7)), Fault::Reordered(7)),
        (edit(&|lines| lines.swap(6, 20)), Fault::Reordered(7)),
        (
            edit(&|lines| {
                other(lines, 12);
                relink(lines, 12);
            }),
            Fault::Forged(10, 20),
        ),
        (edit(&|lines| lines[39].truncate(20)), Fault::Changed(40, Some(BadLine::Torn))),
        (edit(&|lines| lines.push(b"\n".to_vec())), Fault::Changed(41, Some(BadLine::Json))),
        (
            edit(&|lines| lines[3] = [&lines[3][..1], b" ", &lines[3][1..]].concat()),
            Fault::Changed(4, Some(BadLine::Form)),
        ),
    ];
    for (number, (said, meant)) in cases.iter().enumerate() {
        assert_eq!(said, meant, "case {number}");
    }
    assert_eq!(cases.len(), 11);
}

#[test]
fn the_place_that_is_named_is_where_the_record_stands_that_was_changed() {
    let changed = |at: usize, of: usize| {
        let mut lines = trail(40);
        lines.truncate(of);
        lines[at] = String::from_utf8(lines[at].clone()).unwrap().replace("alice", "mallo").into_bytes();
        verify(lines.into_iter(), &trust()).unwrap_err()
    };
    for at in [0, 1, 6, 8, 10, 37] {
        assert_eq!(changed(at, 40), Broken { line: at, fault: Fault::Changed(at as u64 + 1, None) });
    }
    // Behind the changed one there is one more, and nothing that says which of the two it was.
    let either = changed(6, 8);
    assert_eq!(either, Broken { line: 7, fault: Fault::AtOrBefore(8) });
    assert_eq!(either.to_string(), "record 8, or one before it, was changed");
}

#[test]
fn a_head_that_was_kept_tells_what_the_key_cannot() {
    let lines = trail(40);
    let head = verified(&lines).unwrap().last;
    let with = |lines: &[Vec<u8>], head| {
        let trust = Trust { heads: vec![head], ..trust() };
        verify(lines.iter().cloned(), &trust).map_err(|broken| broken.fault)
    };
    with(&lines, head).unwrap();
    // Cut behind a checkpoint: each line of it is signed.
    verified(&lines[..30]).unwrap();
    assert_eq!(with(&lines[..30], head), Err(Fault::CutOff(31)));
    // Made anew by somebody who has the key.
    let mut chain = Chain::behind(Head::NONE);
    let mut forged: Vec<Vec<u8>> = Vec::new();
    for number in 1..40 {
        forged.push(format!("{}\n", chain.append(&entry(number, Event::Stopped)).text).into_bytes());
    }
    forged.push(format!("{}\n", chain.checkpoint(NOON, &key(), Some(SERVER)).text).into_bytes());
    verified(&forged).unwrap();
    assert_eq!(with(&forged, head), Err(Fault::OtherHead(40)));
    let third = Head { seq: 3, ..head };
    assert_eq!(with(&lines[5..], third), Err(Fault::NotHere(3)));
}

#[test]
fn who_is_not_trusted_signs_nothing() {
    let mut chain = Chain::behind(Head::NONE);
    let mallory = AuditKey::new(&[1; 32]);
    let line = format!("{}\n", chain.checkpoint(NOON, &mallory, Some(SERVER)).text).into_bytes();
    assert_eq!(verified(std::slice::from_ref(&line)), Err(Fault::Foreign(1, mallory.public().to_string())));
    let said = String::from_utf8(line).unwrap();
    let as_ours = said.replace(&mallory.public().to_string(), &key().public().to_string());
    assert_eq!(verified(&[as_ours.into_bytes()]), Err(Fault::Changed(1, None)));
    // A checkpoint of another server.
    let mut chain = Chain::behind(Head::NONE);
    let line = chain.checkpoint(NOON, &key(), Some(SERVER)).text;
    let moved = line.replace(&SERVER.to_string(), &ServerId([8; 16]).to_string());
    assert_eq!(verified(&[format!("{moved}\n").into_bytes()]), Err(Fault::Changed(1, None)));
}

#[test]
fn a_key_is_a_file_of_hex_digits() {
    let key = key();
    let again = AuditKey::parse(key.to_file().as_bytes()).unwrap();
    assert_eq!(again.public(), key.public());
    assert_eq!(again.payload_key().mac(b"x"), key.payload_key().mac(b"x"));
    assert_ne!(key.payload_key().mac(b"x"), AuditKey::new(&[1; 32]).payload_key().mac(b"x"));
    assert_eq!(TrailKey::parse(&key.public().to_string()), Some(key.public()));
    for bad in ["", "ab", &"g".repeat(64), &"a".repeat(65)] {
        assert_eq!(AuditKey::parse(bad.as_bytes()).unwrap_err(), BadAuditKey);
    }
    assert_eq!(format!("{key:?} {:?}", key.payload_key()), "AuditKey(****) PayloadKey(****)");
}

#[test]
fn canonical_json_is_that_of_rfc_8785() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/vectors/rfc8785.json")).unwrap();
    let form = |value: &serde_json::Value| serde_json_canonicalizer::to_string(value).unwrap();
    let values = vectors["values"].as_array().unwrap();
    for pair in values {
        let input: serde_json::Value = serde_json::from_str(pair[0].as_str().unwrap()).unwrap();
        assert_eq!(form(&input), pair[1].as_str().unwrap());
    }
    let bits = |text: &serde_json::Value| u64::from_str_radix(text.as_str().unwrap(), 16).unwrap();
    let numbers = vectors["numbers"].as_array().unwrap();
    for pair in numbers {
        let number = f64::from_bits(bits(&pair[0]));
        assert_eq!(serde_json_canonicalizer::to_string(&number).unwrap(), pair[1].as_str().unwrap());
    }
    let none = vectors["no_number"].as_array().unwrap();
    for text in none {
        assert!(serde_json_canonicalizer::to_string(&f64::from_bits(bits(text))).is_err());
    }
    assert_eq!((values.len(), numbers.len(), none.len()), (2, 24, 2));
}

proptest! {
    #[test]
    fn whatever_is_read_has_one_form(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(record) = Record::read(&bytes) {
            prop_assert_eq!(serde_json_canonicalizer::to_vec(&record.fields).unwrap(), bytes);
        }
    }

    #[test]
    fn a_trail_with_lines_out_of_place_is_never_whole(seed in proptest::collection::vec((0..30_usize, 0..30_usize), 1..4)) {
        let original = trail(30);
        let mut lines = original.clone();
        for (from, to) in seed {
            let line = lines.remove(from);
            lines.insert(to, line);
        }
        prop_assert_eq!(verified(&lines).is_ok(), lines == original);
    }
}
