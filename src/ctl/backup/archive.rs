//! The tar file inside of a backup.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use age::Encryptor;
use nix::sys::statvfs::statvfs;
use sha2::{Digest as _, Sha256};
use tar::{Archive, Builder, Entry, EntryType, Header};

use super::manifest::{Filed, Manifest, Part, hex};
use super::seal;
use crate::ctl::args::backup::How;
use crate::exit::{Exit, Failure};

/// Writes manifest and contents, in the manifest's order.
pub(super) fn write(
    out: &File,
    encryptor: Encryptor,
    manifest: &Manifest,
    contents: Vec<Box<dyn Read>>,
) -> io::Result<()> {
    let mut tar = Builder::new(encryptor.wrap_output(out)?);
    let manifest_json = serde_json::to_vec(manifest).map_err(io::Error::other)?;
    if manifest_json.len() as u64 > MANIFEST_MAX {
        return Err(io::Error::other("these are more files than a backup takes"));
    }
    append(&mut tar, MANIFEST, manifest_json.len() as u64, manifest_json.as_slice())?;
    for ((at, filed), content) in manifest.files.iter().enumerate().zip(contents) {
        append(&mut tar, &at.to_string(), filed.len, content.take(filed.len))?;
    }
    tar.into_inner()?.finish().map(drop)
}

fn append(tar: &mut Builder<impl Write>, name: &str, len: u64, content: impl Read) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_size(len);
    header.set_mode(0o600);
    tar.append_data(&mut header, name, content)
}

/// Reads a backup to its end, compares each file with the manifest, and writes those of `parts` by their numbers into the
/// folder that `place` names.
pub(super) fn extract(
    file: &Path,
    how: &How,
    parts: &[Part],
    place: impl FnOnce(&Manifest) -> Result<PathBuf, Failure>,
) -> Result<Manifest, Failure> {
    let wrong = |what: String| {
        Failure::new(Exit::Config, format!("{}: {what}", file.display()))
            .hint("nothing was changed; take another backup")
    };
    let broken = |error: io::Error| wrong(format!("is damaged or cut off: {error}"));
    let (opened, len) = seal::open(file, how)?;
    let mut tar = Archive::new(opened);
    // As they are written: what else a tar file can say, of holes and long names, is not read at all.
    let mut entries = tar.entries().map_err(broken)?.raw(true);
    let first = entries.next().ok_or_else(|| wrong("is empty".to_owned()))?.map_err(broken)?;
    if !is_plain_file(&first, None) {
        return Err(wrong("is no backup of siglatch".to_owned()));
    }
    let mut json = Vec::new();
    first.take(MANIFEST_MAX).read_to_end(&mut json).map_err(broken)?;
    let manifest: Manifest = serde_json::from_slice(&json).map_err(|error| {
        let error = error.to_string().replace(char::is_control, " ");
        wrong(format!("is no backup of siglatch: {error}"))
    })?;
    manifest.check().map_err(wrong)?;
    if manifest.bytes() > len {
        return Err(wrong(format!("says that it holds {} bytes, and has {len}", manifest.bytes())));
    }
    let folder = place(&manifest)?;
    room(&folder, manifest.files.iter().filter(|filed| parts.contains(&filed.part)))?;
    for (at, filed) in manifest.files.iter().enumerate() {
        let entry = entries.next().ok_or_else(|| wrong(format!("lacks {}", filed.path.display())))?;
        let entry = entry.map_err(broken)?;
        let to = parts.contains(&filed.part).then(|| folder.join(at.to_string()));
        if !is_plain_file(&entry, Some(filed.len))
            || unpack(entry, to.as_deref(), filed).map_err(broken)? != filed.sha256
        {
            return Err(wrong(format!("{} in it is not what was put there", filed.path.display())));
        }
    }
    if entries.next().is_some() {
        return Err(wrong("holds more than it says".to_owned()));
    }
    // The last piece says that it is the last: what was cut off is found by reading on.
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(broken)?;
    Ok(manifest)
}

/// Whether it is what it seems, and as long.
fn is_plain_file(entry: &Entry<'_, impl Read>, len: Option<u64>) -> bool {
    entry.header().entry_type() == EntryType::Regular && len.is_none_or(|len| entry.size() == len)
}

/// Before a disk is full.
fn room<'a>(folder: &Path, files: impl Iterator<Item = &'a Filed>) -> Result<(), Failure> {
    let needed = files.map(|filed| filed.len).fold(0, u64::saturating_add);
    let free =
        statvfs(folder).map_or(u64::MAX, |disk| disk.blocks_available().saturating_mul(disk.fragment_size()));
    if needed <= free {
        return Ok(());
    }
    let what = format!("{}: has {free} bytes free, and {needed} are needed", folder.display());
    Err(Failure::new(Exit::TryAgain, what).hint("nothing was changed; make room"))
}

/// Its SHA-256. Written to a file, if one is named.
fn unpack(entry: impl Read, to: Option<&Path>, filed: &Filed) -> io::Result<String> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let out = to.map(|to| options.open(to)).transpose()?;
    let mut hashed = Hashed { out, hash: Sha256::new() };
    io::copy(&mut entry.take(filed.len.saturating_add(1)), &mut hashed)?;
    hashed.out.map_or(Ok(()), |out| out.sync_all())?;
    Ok(hex(&hashed.hash.finalize()))
}

struct Hashed {
    out: Option<File>,
    hash: Sha256,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(out) = &mut self.out {
            out.write_all(bytes)?;
        }
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const MANIFEST: &str = "manifest.json";

/// Longest manifest, in bytes.
const MANIFEST_MAX: u64 = 64 << 20;
