//! `siglatchctl audit`: whether the trail is whole, what is in it, and how somebody else can tell.
//!
//! Reads files and the store, whether siglatchd runs or not, and changes neither.

mod bundle;
mod proof;
mod source;

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use zeroize::Zeroizing;

use super::args::audit::{Export, Show, Verify};
use super::ask::folder;
use super::document::Document;
use crate::audit::{AuditKey, Head, Link, Record, TrailKey, Trust, Verified, verify as check};
use crate::clock;
use crate::config;
use crate::config::files::{self, Existing};
use crate::exit::{self, Exit, Failure};
use bundle::Bundle;
pub(super) use proof::{bounds, not_proven};
pub(super) use source::{Source, stored};

/// Says whether a trail is whole.
pub(super) fn verify(args: &Verify) -> Result<(), Failure> {
    let mut keys = args.keys.clone();
    let (mut from_bundle, mut end) = (None, None);
    let mut source = match args.files.as_slice() {
        [] => Source::of_server(&state_dir(&args.at.config)?)?,
        [only] if Bundle::is_one(only)? => {
            let bundle = Bundle::read(only)?;
            end = Some(bundle.head);
            from_bundle = Some(bundle.key).filter(|_| keys.is_empty());
            keys.extend(from_bundle);
            Source::of_bundle(only, bundle)
        }
        files => Source::of_files(files)?,
    };
    if keys.is_empty() {
        keys.push(public_key(&args.at.config).map_err(|failure| Failure {
            hint: Some(
                "give the public key with --key, or --config with the server's configuration".to_owned(),
            ),
            ..failure
        })?);
    }
    let verified = check(&mut source, &Trust { keys, heads: args.heads.clone() });
    source.failed()?;
    let verified = verified.map_err(|broken| {
        let place = source.place(broken.line);
        Failure::new(Exit::Config, format!("the trail is not whole: {broken} ({place})"))
            .hint("keep these files as they are: they are the evidence")
    })?;
    // Who made the bundle says where it ends, which proves nothing.
    if let Some(end) = end.filter(|end| *end != verified.last) {
        let what = format!("its records end at {}, and by its manifest they should at {end}", verified.last);
        return Err(Failure::new(Exit::Config, what).hint("it was cut off: ask for it once more"));
    }
    let bounds = bounds(&args.at.config);
    if !verified.is_proven(bounds, clock::wall()) {
        return Err(not_proven(&verified, bounds));
    }
    exit::say(&said(&verified))?;
    if let Some(key) = from_bundle {
        exit::note(&format!(
            "note: by the key in the bundle itself, {key}: compare it with the one that you were given"
        ));
    }
    Ok(())
}

fn said(verified: &Verified) -> String {
    let Verified { first, last, checkpoints, signed, .. } = verified;
    let unsigned = match last.seq.saturating_sub(*signed) {
        0 => "all of it is signed".to_owned(),
        _ if *checkpoints == 0 => "none of it is signed yet".to_owned(),
        more => format!("signed up to record {signed}, {more} more are not signed yet"),
    };
    let missing =
        if *first > 1 { format!(" (what came before record {first} is not here)") } else { String::new() };
    format!(
        "whole: records {first} to {}{missing}, {checkpoints} checkpoints, {unsigned}\nhead {last}\n",
        last.seq
    )
}

/// Prints records.
pub(super) fn show(args: &Show) -> Result<(), Failure> {
    let mut source = Source::of_server(&state_dir(&args.at.config)?)?;
    let id = args.trace.map(|id| id.to_string());
    let mut text = String::new();
    for (record, line) in source.records() {
        let of = |field| record.text(field).is_some_and(|text| Some(text) == id.as_deref());
        if record.at < args.since.unwrap_or(0) || id.is_some() && !of("knock") && !of("lease") {
            continue;
        }
        if args.json {
            text.push_str(&String::from_utf8_lossy(&line));
        } else {
            text.push_str(&format!("{:>8}  {}  {}\n", record.seq, moment(record.at), words(&record)));
        }
        if text.len() > PIECE {
            exit::say(&std::mem::take(&mut text))?;
        }
    }
    exit::say(&text)?;
    source.end()
}

/// Kind and fields, but for those that every record has. What is in them may come from far away, or be forged: nothing of it
/// steers the terminal or turns what stands beside it.
pub(super) fn words(record: &Record) -> String {
    let mut words = record.kind().escape_debug().to_string();
    for (name, value) in record.fields().filter(|(name, _)| !["at", "kind", "prev", "seq"].contains(name)) {
        words += &match value.as_str() {
            Some(text) => format!(" {}={text:?}", name.escape_debug()),
            None => format!(" {}={}", name.escape_debug(), value.to_string().escape_debug()),
        };
    }
    words
}

/// Writes a bundle.
pub(super) fn export(args: &Export) -> Result<(), Failure> {
    let mut source = Source::of_server(&state_dir(&args.at.config)?)?;
    let since = args.since.unwrap_or(0);
    let mut lines = Vec::new();
    for line in &mut source {
        // From the first one on all of them: the chain has no gaps.
        let wanted = |line: &[u8]| Record::read(line.trim_ascii_end()).is_ok_and(|record| record.at >= since);
        if !lines.is_empty() || since == 0 || wanted(&line) {
            lines.push(line);
        }
    }
    source.failed()?;
    if lines.is_empty() {
        return Err(Failure::new(Exit::TryAgain, "there are no records to be exported"));
    }
    let bundle = bundle::write(&lines, public_key(&args.at.config)?)?;
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    files::write(&args.out, &bundle, 0o600, existing)?;
    exit::say(&format!("{} records written to {}\n", lines.len(), args.out.display()))
}

/// Prints the last head that is signed.
pub(super) fn head(config: &Path) -> Result<(), Failure> {
    let mut source = Source::of_server(&state_dir(config)?)?;
    let signed = source.records().filter(|(record, _)| record.is_checkpoint());
    let last =
        signed.last().map(|(record, line)| Head { seq: record.seq, link: Link::of(line.trim_ascii_end()) });
    source.end()?;
    let last = last.ok_or_else(|| {
        Failure::new(Exit::TryAgain, "nothing is signed yet")
            .hint("siglatchd signs every few minutes, and when it stops")
    })?;
    exit::say(&format!("{last}\n"))
}

/// Prints the public key.
pub(super) fn key(config: &Path) -> Result<(), Failure> {
    exit::say(&format!("{}\n", public_key(config)?))
}

/// The folder that the trail is in.
pub(super) fn state_dir(config: &Path) -> Result<PathBuf, Failure> {
    Ok(folder(&Document::open(config)?, "state_dir", "/var/lib/siglatch"))
}

pub(super) fn public_key(config: &Path) -> Result<TrailKey, Failure> {
    let path = state_dir(config)?.join("audit.key");
    // Not as the daemon reads it, which it has to belong to: who asks here may be root.
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_MAX));
    File::open(&path).and_then(|file| file.take(KEY_MAX as u64).read_to_end(&mut bytes)).map_err(
        |error| {
            let failure = source::unreadable(&path, &error);
            let missing = error.kind() == ErrorKind::NotFound;
            if missing { failure.hint("siglatchd makes it at its first start") } else { failure }
        },
    )?;
    let key = AuditKey::parse(&bytes)
        .map_err(|bad| Failure::new(Exit::Config, format!("{} {bad}", path.display())))?;
    Ok(key.public())
}

/// 2026-01-16T09:30:00.123Z
pub(super) fn moment(millis: u64) -> String {
    let moment = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    moment.map_or_else(|| millis.to_string(), |moment| format!("{moment:.3}"))
}

/// A date (of this machine's zone), a time, or how long ago: in milliseconds since the Unix epoch.
pub(super) fn since(text: &str) -> Option<u64> {
    if let Some(ago) = config::duration(text) {
        return u64::try_from(clock::wall().saturating_sub(ago).as_millis()).ok();
    }
    let date = |text: &str| text.parse::<Date>().ok()?.to_zoned(TimeZone::system()).ok();
    let time = text.parse::<Timestamp>().ok().or_else(|| Some(date(text)?.timestamp()))?;
    u64::try_from(Duration::try_from(time.as_duration()).ok()?.as_millis()).ok()
}

/// Bytes of the key's file.
const KEY_MAX: usize = 1024;

/// Bytes that are written at once.
const PIECE: usize = 64 * 1024;
