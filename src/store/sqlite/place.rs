//! The store's file, before the engine sees it.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::store::StoreError;
use crate::store::folder::{self, refused};

/// A folder that is ours, locked while this lives, with a file in it.
#[derive(Debug)]
pub(super) struct Place {
    /// The engine's file.
    pub(super) file: PathBuf,
    /// Its write-ahead log.
    pub(super) wal: PathBuf,
    /// Holds the lock.
    _folder: File,
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Place {
    /// Makes the folder (0700, its parent must exist) and an empty file (0600) if they are missing, else checks their
    /// owner and mode. The engine gives its other files the mode of this one, so it must be right before it sees it.
    pub(super) fn enter(folder: &Path) -> Result<Place, StoreError> {
        let opened = folder::enter(folder)?;
        let file = file_in(folder);
        folder::open_file(&file)?;
        opened.sync_all().map_err(|error| refused(folder, "sync", &error))?;
        Ok(Place { file, wal: folder.join("claims.db-wal"), _folder: opened })
    }
}

/// The engine's file in `folder`.
pub(super) fn file_in(folder: &Path) -> PathBuf {
    folder.join("claims.db")
}

/// The file that `path` names now.
pub(super) fn identity(path: &Path) -> Option<Identity> {
    let meta = std::fs::metadata(path).ok()?;
    Some(Identity(meta.dev(), meta.ino()))
}
