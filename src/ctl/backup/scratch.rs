//! Folders for a moment, with decrypted files in them, gone when they are dropped; those of whoever was killed go with the next one.

use std::collections::BTreeSet;
use std::fs::{File, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::manifest::{Manifest, Part};
use crate::clock;
use crate::config::files::folder_of;
use crate::ctl::{cannot, internal};
use crate::exit::Failure;

/// A folder (0700), and what says that it is in use.
pub(super) struct Scratch {
    folder: TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes one in `folder`, and removes those that nobody uses.
    pub(super) fn make(folder: &Path, prefix: &str) -> Result<Scratch, Failure> {
        sweep(folder);
        let fail = |error| cannot("make", &folder.join(prefix), &error);
        let made = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(folder)
            .map_err(fail)?;
        let lock = File::open(made.path()).map_err(|error| internal(&error))?;
        lock.try_lock().map_err(|error| internal(&error))?;
        Ok(Scratch { folder: made, _lock: lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes what is left over in `folder`; what cannot be removed is doctor's to tell.
fn sweep(folder: &Path) {
    for path in left_over(folder) {
        drop(std::fs::remove_dir_all(path));
    }
}

/// Folders in `folder` with decrypted files of somebody who was killed.
pub(in crate::ctl) fn left_over(folder: &Path) -> Vec<PathBuf> {
    let mut left = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !PREFIXES.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            continue;
        }
        let path = entry.path();
        // Elsewhere than in the state's folder nothing keeps two from each other until the new folder is locked.
        let is_old = |meta: &Metadata| {
            let age = clock::wall().as_secs().saturating_sub(meta.mtime().unsigned_abs());
            age > MINUTE || !name.to_string_lossy().starts_with(VERIFYING)
        };
        let me = nix::unistd::geteuid().as_raw();
        let own = path.symlink_metadata();
        let own = own.is_ok_and(|meta| meta.is_dir() && meta.uid() == me && is_old(&meta));
        // Whoever lives holds it.
        if own && File::open(&path).is_ok_and(|folder| folder.try_lock().is_ok()) {
            left.push(path);
        }
    }
    left
}

/// Removes what is left over of files that were to be written where those of the manifest are. The configuration is locked.
pub(super) fn sweep_written(manifest: &Manifest) {
    let placed = manifest.files.iter().filter(|file| !matches!(file.part, Part::Trail | Part::Store));
    let folders: BTreeSet<&Path> = placed.map(|file| folder_of(&file.path)).collect();
    for folder in folders.into_iter().filter(|folder| *folder != manifest.state_dir) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let begun = entry.file_name().to_string_lossy().starts_with(WRITING);
            let own = |meta: Metadata| meta.is_file() && meta.uid() == nix::unistd::geteuid().as_raw();
            if begun && entry.path().symlink_metadata().is_ok_and(own) {
                drop(std::fs::remove_file(entry.path()));
            }
        }
    }
}

/// Of a backup that is made, one that is put back, and one that is looked at.
const PREFIXES: [&str; 3] = [MAKING, RESTORING, VERIFYING];
/// In seconds.
const MINUTE: u64 = 60;

/// Of a file that is written beside the one that it is to be.
const WRITING: &str = ".siglatch-";
pub(super) const MAKING: &str = ".backup-";
pub(super) const RESTORING: &str = ".restore-";
pub(super) const VERIFYING: &str = ".verify-siglatch-";
