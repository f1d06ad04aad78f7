//! Files opened first and checked on their descriptor, and files that appear whole or not at all.
//!
//! # Security considerations
//!
//! A key that others can read is refused, not warned about; so is one in a folder where others can swap it. What is
//! checked is the opened file, so nothing can be exchanged between the check and the reading.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use zeroize::Zeroizing;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// Nobody but its owner: keys, profiles.
    Secret,
    /// Anybody, but only its owner writes it.
    Public,
}

/// What to do with a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Keep it and fail.
    Keep,
    /// Replace it.
    Replace,
}

/// Why a file cannot be used; what, where and how to mend it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct BadFile {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
    /// How to mend it, where that is known.
    pub hint: Option<String>,
    /// The operating system's error, when that is what is wrong.
    #[source]
    pub io: Option<io::Error>,
}

impl BadFile {
    fn new(path: &Path, what: impl Into<String>, hint: impl Into<String>) -> BadFile {
        BadFile {
            path: path.to_owned(),
            what: what.into(),
            hint: Some(hint.into()),
            io: None,
        }
    }

    fn io(path: &Path, doing: &str, error: io::Error) -> BadFile {
        let (what, hint) = if error.kind() == io::ErrorKind::AlreadyExists {
            let hint = "nothing is overwritten without --force".to_owned();
            ("is there already".to_owned(), Some(hint))
        } else {
            (format!("cannot {doing}: {error}"), None)
        };
        BadFile {
            path: path.to_owned(),
            what,
            hint,
            io: Some(error),
        }
    }
}

/// Reads a file of at most `max` bytes, after its owner and mode have been checked.
///
/// # Errors
///
/// [`BadFile`] when it is missing, no regular file, too long, owned by somebody else, open to others, or in a folder
/// where others could exchange it.
pub fn read(path: &Path, secrecy: Secrecy, max: u64) -> Result<Zeroizing<Vec<u8>>, BadFile> {
    let folder = folder_of(path);
    let opened = File::open(folder).map_err(|error| BadFile::io(folder, "open", error))?;
    check_folder(folder, &opened)?;
    let name = path
        .file_name()
        .ok_or_else(|| BadFile::new(path, "is not a regular file", "name a file"))?;
    // O_NONBLOCK: a FIFO in the file's place must not hang whoever opens it.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file: File = nix::fcntl::openat(&opened, name, flags, Mode::empty())
        .map_err(|errno| BadFile::io(path, "open", errno.into()))?
        .into();
    let meta = file
        .metadata()
        .map_err(|error| BadFile::io(path, "inspect", error))?;
    if !meta.is_file() {
        return Err(BadFile::new(path, "is not a regular file", "name a file"));
    }
    check_mode(path, &meta, secrecy)?;
    if meta.len() > max {
        return Err(BadFile::new(
            path,
            format!("is longer than {max} bytes"),
            "name the right file",
        ));
    }
    // Room for all of it at once: a buffer that grows leaves copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        usize::try_from(max).unwrap_or(0).saturating_add(1),
    ));
    file.take(max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| BadFile::io(path, "read", error))?;
    if bytes.len() as u64 > max {
        return Err(BadFile::new(
            path,
            format!("is longer than {max} bytes"),
            "name the right file",
        ));
    }
    Ok(bytes)
}

/// Checks that a program can be started and that nobody but root and this process's user can change it: absolute, a
/// regular executable file, it and its folder writable by their owner alone, no symbolic link out of its folder.
///
/// # Errors
///
/// [`BadFile`] naming the first that does not hold.
pub fn check_program(path: &Path) -> Result<(), BadFile> {
    if !path.is_absolute() {
        return Err(BadFile::new(
            path,
            "is not an absolute path",
            "write the whole path, from /",
        ));
    }
    let real = path
        .canonicalize()
        .map_err(|error| BadFile::io(path, "find", error))?;
    let folder = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
    let named = folder(path);
    let named = named
        .canonicalize()
        .map_err(|error| BadFile::io(&named, "find", error))?;
    if named != folder(&real) {
        return Err(BadFile::new(
            path,
            "is a symbolic link out of its folder",
            format!("name the file itself: {}", real.display()),
        ));
    }
    let file = File::open(&named).map_err(|error| BadFile::io(&named, "open", error))?;
    let meta = file
        .metadata()
        .map_err(|error| BadFile::io(&named, "inspect", error))?;
    check_mode(&named, &meta, Secrecy::Public)?;
    let meta = std::fs::metadata(&real).map_err(|error| BadFile::io(&real, "inspect", error))?;
    if !meta.is_file() {
        return Err(BadFile::new(
            &real,
            "is not a regular file",
            "name a program or script",
        ));
    }
    check_mode(&real, &meta, Secrecy::Public)?;
    if meta.mode() & 0o111 == 0 {
        let hint = format!("chmod +x {}", real.display());
        return Err(BadFile::new(&real, "is not executable", hint));
    }
    Ok(())
}

/// A folder whose files only root and this process's user can exchange. Everybody may write a sticky one (`/tmp`), but
/// nobody there touches what is another's.
fn check_folder(path: &Path, folder: &File) -> Result<(), BadFile> {
    let meta = folder
        .metadata()
        .map_err(|error| BadFile::io(path, "inspect", error))?;
    if meta.mode() & 0o1000 == 0 {
        check_mode(path, &meta, Secrecy::Public)
    } else {
        Ok(())
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    }
}

/// Owner and mode of an opened file or folder: owned by root or by this process's user, written by nobody else, and
/// a secret read by nobody else.
fn check_mode(path: &Path, meta: &Metadata, secrecy: Secrecy) -> Result<(), BadFile> {
    let me = nix::unistd::geteuid().as_raw();
    if meta.uid() != 0 && meta.uid() != me {
        let what = format!("belongs to uid {}, neither to root nor to uid {me}", meta.uid());
        return Err(BadFile::new(path, what, format!("chown {me} {}", path.display())));
    }
    let (bits, verb, letter) = match secrecy {
        Secrecy::Secret if meta.mode() & 0o022 == 0 => (0o044, "readable", "r"),
        Secrecy::Secret | Secrecy::Public => (0o022, "writable", "w"),
    };
    let open = meta.mode() & bits;
    if open == 0 {
        return Ok(());
    }
    let (whom, who) = match (open & 0o070 != 0, open & 0o007 != 0) {
        (true, true) => ("its group and others", "go"),
        (true, false) => ("its group", "g"),
        (false, _) => ("others", "o"),
    };
    let what = format!("is {verb} by {whom} (mode {:04o})", meta.mode() & 0o7777);
    let hint = match secrecy {
        Secrecy::Secret => format!("chmod 600 {}", path.display()),
        Secrecy::Public => format!("chmod {who}-{letter} {}", path.display()),
    };
    Err(BadFile::new(path, what, hint))
}

/// Writes a file that appears whole, with its mode from the start, or not at all.
///
/// # Errors
///
/// [`BadFile`] when it is there already and [`Existing::Keep`] is asked for, or cannot be written.
pub fn write(path: &Path, bytes: &[u8], mode: u32, existing: Existing) -> Result<(), BadFile> {
    let folder = folder_of(path);
    let fail = |error| BadFile::io(path, "write", error);
    let mut file = tempfile::Builder::new()
        .prefix(".siglatch-")
        .permissions(std::fs::Permissions::from_mode(mode))
        .tempfile_in(folder)
        .map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    // The umask narrowed the mode at creation.
    file.as_file()
        .set_permissions(std::fs::Permissions::from_mode(mode))
        .map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    match existing {
        Existing::Replace => file.persist(path).map_err(|error| fail(error.error))?,
        Existing::Keep => file.persist_noclobber(path).map_err(|error| fail(error.error))?,
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(fail)
}
