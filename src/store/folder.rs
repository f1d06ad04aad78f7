//! The folder of the store, for the daemon alone.
//!
//! # Security considerations
//!
//! Whoever can write here can make a knock run twice; whoever can read here learns who knocks from where. So the
//! folder is for its owner alone, and that is this process's user. The lock keeps a second daemon from counting and
//! forgetting in the same file.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use super::StoreError;
use crate::config::files::folder_of;
use crate::exit::Exit;

/// Makes the folder (0700, its parent must exist) if it is missing, else checks its owner and mode. It is locked until the
/// file that comes out is closed.
pub(super) fn enter(folder: &Path) -> Result<File, StoreError> {
    make(folder)?;
    let fail = |doing: &'static str| move |error| refused(folder, doing, &error);
    let opened = File::open(folder).map_err(fail("open"))?;
    let meta = opened.metadata().map_err(fail("inspect"))?;
    if !meta.is_dir() {
        return Err(refused(folder, "open", &io::ErrorKind::NotADirectory.into()));
    }
    check(folder, &meta, "700")?;
    lock(folder, &opened)?;
    Ok(opened)
}

/// Opens a file (0600) for reading and writing, an empty one if it is missing.
pub(super) fn open_file(file: &Path) -> Result<File, StoreError> {
    let fail = |doing: &'static str| move |error| refused(file, doing, &error);
    let special = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .mode(0o600)
        .custom_flags(special.bits())
        .open(file)
        .map_err(fail("open"))?;
    let meta = opened.metadata().map_err(fail("inspect"))?;
    if !meta.is_file() {
        return Err(wrong(file, "is not a regular file", format!("mv {0} {0}.old", file.display())));
    }
    check(file, &meta, "600")?;
    Ok(opened)
}

fn make(folder: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(refused(folder, "make", &error)),
    }
    let parent = folder_of(folder);
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(|error| refused(parent, "sync", &error))
}

/// A child of ours that has not yet become its script holds a copy of the lock, for moments.
fn lock(folder: &Path, opened: &File) -> Result<(), StoreError> {
    for _ in 0..100 {
        match opened.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(refused(folder, "lock", &error)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    Err(StoreError {
        what: format!("{}: is in use by another process", folder.display()),
        hint: "stop the other siglatchd, or give this one a `state_dir` of its own".to_owned(),
        exit: Exit::TryAgain,
    })
}

fn check(path: &Path, meta: &Metadata, mode: &str) -> Result<(), StoreError> {
    let me = nix::unistd::geteuid().as_raw();
    if meta.uid() != me {
        let what = format!("belongs to uid {}, not to uid {me}", meta.uid());
        return Err(wrong(path, &what, format!("chown {me} {}", path.display())));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        let what = format!("is open to others (mode {:04o})", meta.mode() & 0o7777);
        return Err(wrong(path, &what, format!("chmod {mode} {}", path.display())));
    }
    Ok(())
}

fn wrong(path: &Path, what: &str, hint: String) -> StoreError {
    StoreError { what: format!("{}: {what}", path.display()), hint, exit: Exit::Permission }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the system's errors are not ours to list")]
pub(super) fn refused(path: &Path, doing: &str, error: &io::Error) -> StoreError {
    let (hint, exit) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (FULL, Exit::TryAgain),
        io::ErrorKind::NotFound => ("make the folder that it is to be in first", Exit::Config),
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            ("name a folder of its own in `state_dir`", Exit::Config)
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => (READ_ONLY, Exit::Permission),
        _ => (FAILING, Exit::TryAgain),
    };
    StoreError { what: format!("{}: cannot {doing}: {error}", path.display()), hint: hint.to_owned(), exit }
}

pub(super) const FULL: &str = "make room on its disk";
pub(super) const READ_ONLY: &str = "let siglatchd's user write there";
pub(super) const FAILING: &str = "look into the kernel's log for its disk";
