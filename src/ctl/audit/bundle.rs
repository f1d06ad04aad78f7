//! A trail for a third party: a tar file of records, checkpoints, the public key, and a manifest of their hashes.
//!
//! # Security considerations
//!
//! Somebody else made it. What is in it is bounded, read piece by piece and written nowhere. The manifest says what was meant to
//! be in it; what is true the records say, to who has the key from elsewhere.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::source::unreadable;
use crate::audit::{Head, Link, Record, TrailKey};
use crate::ctl::internal;
use crate::exit::{Exit, Failure};

/// What was in one.
pub(super) struct Bundle {
    pub(super) records: Box<dyn BufRead>,
    pub(super) key: TrailKey,
    pub(super) head: Head,
}

/// A file in one.
struct Member {
    /// Where it begins.
    at: u64,
    len: u64,
    hash: Link,
    /// At most [`SMALL`] bytes of it.
    start: Vec<u8>,
}

/// `manifest.json`
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// Which form of bundle this is.
    siglatch: String,
    /// SHA-256 of the other files, in hex.
    files: BTreeMap<String, String>,
    /// Where the records end.
    head: String,
}

/// The bytes of a bundle with these lines.
pub(super) fn write(lines: &[Vec<u8>], key: TrailKey) -> Result<Vec<u8>, Failure> {
    let checkpoint =
        |line: &&Vec<u8>| Record::read(line.trim_ascii_end()).is_ok_and(|record| record.is_checkpoint());
    let checkpoints: Vec<&[u8]> = lines.iter().filter(checkpoint).map(Vec::as_slice).collect();
    let files = [
        (KEY, format!("{key}\n").into_bytes()),
        (CHECKPOINTS, checkpoints.concat()),
        (RECORDS, lines.concat()),
    ];
    let last = lines.last().map(|line| line.trim_ascii_end()).unwrap_or_default();
    let seq = Record::read(last).map_err(|bad| {
        Failure::new(Exit::Config, format!("the last line of the trail cannot be exported: {bad}"))
            .hint("`siglatchctl audit verify` says where the trail is not whole")
    })?;
    let manifest = Manifest {
        siglatch: FORM.to_owned(),
        files: files.iter().map(|(name, bytes)| ((*name).to_owned(), Link::of(bytes).to_string())).collect(),
        head: Head { seq: seq.seq, link: Link::of(last) }.to_string(),
    };
    let mut manifest = serde_json::to_vec_pretty(&manifest).map_err(|error| internal(&error))?;
    manifest.push(b'\n');
    let all = files.iter().map(|(_, bytes)| bytes.len() as u64).fold(0, u64::saturating_add);
    if all.saturating_add(SMALL as u64) > MAX {
        return Err(Failure::new(Exit::Config, "a bundle holds 4 GiB at most, and this is more")
            .hint("--since leaves out what is older; or copy the files of the trail as they are"));
    }
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in [(MANIFEST, manifest)].iter().chain(&files) {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, name, bytes.as_slice()).map_err(|error| internal(&error))?;
    }
    tar.into_inner().map_err(|error| internal(&error))
}

impl Bundle {
    /// Whether a file is a tar file; records begin with a brace.
    pub(super) fn is_one(path: &Path) -> Result<bool, Failure> {
        let mut start = Vec::new();
        let read = File::open(path).and_then(|file| file.take(512).read_to_end(&mut start));
        read.map_err(|error| unreadable(path, &error))?;
        Ok(start.get(257..262) == Some(b"ustar"))
    }

    pub(super) fn read(path: &Path) -> Result<Bundle, Failure> {
        let unreadable = |error: io::Error| unreadable(path, &error);
        let mut file = File::open(path).map_err(unreadable)?;
        let bad = |what: &str| {
            let what = format!("{}: {what}", path.display());
            Failure::new(Exit::Config, what)
                .hint("`siglatchctl audit export` makes bundles; ask for it once more")
        };
        let mut members = members(&file).map_err(|error| {
            // Said by who reads it, and not by the system.
            if error.kind() == io::ErrorKind::Other { bad(&error.to_string()) } else { unreadable(error) }
        })?;
        let manifest = members.remove(MANIFEST).ok_or_else(|| bad("there is no manifest in it"))?;
        let manifest: Manifest = serde_json::from_slice(&manifest.start)
            .map_err(|error| bad(&format!("its manifest: {error}")))?;
        if manifest.siglatch != FORM {
            return Err(bad("it is of a form that this siglatch does not know"));
        }
        for (name, hash) in &manifest.files {
            let member = members.get(name).ok_or_else(|| bad(&format!("{name} is missing in it")))?;
            if member.hash.to_string() != *hash {
                return Err(bad(&format!("{name} in it is not what its manifest says: it was changed")));
            }
        }
        let listed = |name: &str| manifest.files.contains_key(name);
        let mut take = |name: &str| {
            let member = members.remove(name).filter(|_| listed(name));
            member.ok_or_else(|| bad(&format!("{name} is missing in it, or in its manifest")))
        };
        let (records, key) = (take(RECORDS)?, take(KEY)?);
        file.seek(SeekFrom::Start(records.at)).map_err(unreadable)?;
        let key = std::str::from_utf8(&key.start).ok().and_then(|key| TrailKey::parse(key.trim_end()));
        Ok(Bundle {
            records: Box::new(BufReader::new(file.take(records.len))),
            key: key.ok_or_else(|| bad(&format!("{KEY} in it is no public key")))?,
            head: Head::parse(&manifest.head).ok_or_else(|| bad("its manifest has no head"))?,
        })
    }
}

/// Reads all of them to their ends, by name; what is not a bundle's is left out.
fn members(file: &File) -> io::Result<BTreeMap<String, Member>> {
    let (mut members, mut all) = (BTreeMap::new(), 0_u64);
    // As they are in the file: what is sparse or named elsewhere says little and becomes much.
    for entry in tar::Archive::new(file).entries()?.raw(true) {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(io::Error::other(format!("{name:?} in it is no regular file")));
        }
        all = all.saturating_add(entry.size());
        if all > MAX {
            return Err(io::Error::other("it holds more than 4 GiB"));
        }
        if ![MANIFEST, KEY, CHECKPOINTS, RECORDS].contains(&name.as_str()) {
            continue;
        }
        let mut member =
            Member { at: entry.raw_file_position(), len: 0, hash: Link([0; 32]), start: Vec::new() };
        let (mut hasher, mut piece) = (Sha256::new(), vec![0; SMALL]);
        loop {
            let read = entry.read(&mut piece)?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            hasher.update(bytes);
            member.len = member.len.saturating_add(bytes.len() as u64);
            if member.len <= SMALL as u64 {
                member.start.extend(bytes);
            }
        }
        if member.len < entry.size() {
            return Err(io::Error::other(format!("it ends in the middle of {name}")));
        }
        member.hash = Link(hasher.finalize().into());
        if members.insert(name.clone(), member).is_some() {
            return Err(io::Error::other(format!("{name} is in it twice")));
        }
    }
    Ok(members)
}

pub(super) const RECORDS: &str = "records.jsonl";
const CHECKPOINTS: &str = "checkpoints.jsonl";
const KEY: &str = "key.hex";
const MANIFEST: &str = "manifest.json";
const FORM: &str = "audit bundle 1";

/// Bytes of all files in it.
const MAX: u64 = 4 << 30;

/// Bytes of a file that is read as a whole, and of a piece of one that is not.
const SMALL: usize = 64 * 1024;
