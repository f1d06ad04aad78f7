//! `audit.jsonl`: what is written to it, and when the next one begins.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::{Keeping, StoreError};
use crate::audit::{Line, Record};
use crate::exit::Exit;
use crate::store::folder::{self, refused};

/// The file that is written to.
pub const FILE: &str = "audit.jsonl";

/// The files of the trail in `folder` in their order, the one that is written to last; those that are there.
///
/// # Errors
///
/// The folder cannot be read.
pub fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut full = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let first = name.to_str().and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl"));
        full.extend(
            first.and_then(|first| first.parse::<u64>().ok()).map(|first| (first, folder.join(name))),
        );
    }
    full.sort();
    let now = folder.join(FILE);
    Ok(full.into_iter().map(|(_, path)| path).chain(now.exists().then_some(now)).collect())
}

/// Whether the file is as it was left.
#[derive(Debug)]
pub(super) enum Standing {
    AsWritten,
    /// Somebody else wrote to it: what is seen of that.
    Otherwise(String),
}

/// Written at its end, and nowhere else.
#[derive(Debug)]
pub(super) struct TrailFile {
    folder: PathBuf,
    opened: File,
    /// Bytes of whole lines.
    len: u64,
    /// Whether half a line may stand behind them.
    torn: bool,
    /// Number and time (milliseconds) of its first record.
    first: Option<(u64, u64)>,
    /// The last record that is in a file.
    last: u64,
}

impl TrailFile {
    /// A file with whole lines alone, `len` bytes. `last`: the last record in it, or in those before it.
    pub(super) fn new(folder: &Path, opened: File, len: u64, first: Option<&Record>, last: u64) -> TrailFile {
        let first = first.map(|first| (first.seq, first.at));
        TrailFile { folder: folder.to_owned(), opened, len, torn: false, first, last }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The last record that is in a file.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Looks at it as it is now. Who moves it away, to archive it, gets a new one in its place.
    pub(super) fn look(&mut self) -> Result<Standing, StoreError> {
        if self.torn {
            self.torn = self.opened.set_len(self.len).is_err();
        }
        let path = self.path();
        let ours = self.opened.metadata().map_err(|error| refused(&path, "inspect", &error))?;
        let same = |there: &fs::Metadata| (ours.dev(), ours.ino()) == (there.dev(), there.ino());
        Ok(match fs::symlink_metadata(&path) {
            Ok(there) if same(&there) && (there.len() == self.len || self.torn) => Standing::AsWritten,
            Ok(there) if same(&there) => {
                Standing::Otherwise(format!("has {} bytes, and {} were written to it", there.len(), self.len))
            }
            Ok(there) if there.is_file() && there.len() > 0 => {
                Standing::Otherwise("is another file than the one that was written to".to_owned())
            }
            Ok(_) | Err(_) => {
                self.begin()?;
                Standing::AsWritten
            }
        })
    }

    /// Writes lines that come next, to a file that was [looked](Self::look) at.
    pub(super) fn append(&mut self, lines: &[Line], keeping: Keeping) -> Result<(), StoreError> {
        let Some((first, last)) = lines.first().zip(lines.last()) else { return Ok(()) };
        if self.is_full(first.at, keeping) {
            self.rotate()?;
        }
        let text: String = lines.iter().flat_map(|line| [line.text.as_str(), "\n"]).collect();
        if let Err(error) = self.opened.write_all_at(text.as_bytes(), self.len) {
            // Half a line must not stay; if it does the next one is written over it.
            self.torn = self.opened.set_len(self.len).is_err();
            return Err(refused(&self.path(), "write", &error));
        }
        self.len = self.len.saturating_add(text.len() as u64);
        self.first.get_or_insert((first.seq, first.at));
        self.last = last.seq;
        Ok(())
    }

    /// Has it on the disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.opened.sync_data().map_err(|error| refused(&self.path(), "sync", &error))
    }

    fn is_full(&self, now: u64, keeping: Keeping) -> bool {
        let age = u64::try_from(keeping.rotate_every.as_millis()).unwrap_or(u64::MAX);
        let is_old = |(_, at): (u64, u64)| now.saturating_sub(at) >= age;
        self.len >= keeping.rotate_size || self.first.is_some_and(is_old)
    }

    fn rotate(&mut self) -> Result<(), StoreError> {
        let Some((first, _)) = self.first else { return Ok(()) };
        self.sync()?;
        let (from, to) = (self.path(), self.folder.join(format!("audit-{first:012}.jsonl")));
        if to.exists() {
            return Err(StoreError {
                what: format!("{}: is there already, and {FILE} was to become it", to.display()),
                hint: "move it out of the folder; until then the store alone has what comes".to_owned(),
                exit: Exit::Config,
            });
        }
        fs::rename(&from, &to).map_err(|error| refused(&from, "rename", &error))?;
        self.begin()
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.opened = folder::open_file(&self.path())?;
        let meta = self.opened.metadata().map_err(|error| refused(&self.path(), "inspect", &error))?;
        (self.len, self.torn, self.first) = (meta.len(), false, None);
        let folder = File::open(&self.folder).and_then(|folder| folder.sync_all());
        folder.map_err(|error| refused(&self.folder, "sync", &error))
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }
}
