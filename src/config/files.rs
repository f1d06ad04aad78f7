//! Files opened first and checked on their descriptor, and files that appear whole or not at all.
//!
//! # Security considerations
//!
//! A key that others can read is refused, not warned about; so is one in a folder where others can swap it. What is
//! checked is the opened file, so nothing can be exchanged between the check and the reading.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// Nobody but its owner: keys, profiles.
    Secret,
    /// The same, as the service manager hands it over: by an access list, whose mask stands where the group's rights do.
    Credential,
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
#[error("{} {what}", path.display())]
pub struct BadFile {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it, as a person says it behind its name: "is not executable".
    pub what: String,
    /// How to mend it, where that is known.
    pub hint: Option<String>,
    /// The operating system's error, when that is what is wrong.
    #[source]
    pub io: Option<io::Error>,
}

impl BadFile {
    fn new(path: &Path, what: impl Into<String>, hint: impl Into<String>) -> BadFile {
        BadFile { path: path.to_owned(), what: what.into(), hint: Some(hint.into()), io: None }
    }

    fn io(path: &Path, done: &str, error: io::Error) -> BadFile {
        let (what, hint) = if error.kind() == io::ErrorKind::AlreadyExists {
            ("is there already".to_owned(), Some("nothing is overwritten without --force"))
        } else if error.kind() == io::ErrorKind::NotFound {
            ("is not there".to_owned(), Some("name the right one, or make it first"))
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            let hint = "run this as root, or as the user to whom it belongs";
            (format!("cannot be {done}: {error}"), Some(hint))
        } else {
            (format!("cannot be {done}: {error}"), None)
        };
        BadFile { path: path.to_owned(), what, hint: hint.map(str::to_owned), io: Some(error) }
    }
}

/// Reads a file of at most `max` bytes, after its owner and mode, and those of its folder, have been checked.
///
/// # Errors
///
/// [`BadFile`] when it is missing, no regular file, too long, owned by somebody else, or open to others; or when it is
/// in a folder where others could swap it.
pub fn read(path: &Path, secrecy: Secrecy, max: u64) -> Result<Zeroizing<Vec<u8>>, BadFile> {
    check_folders(path)?;
    // O_NONBLOCK: a FIFO in the file's place must not hang whoever opens it.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(|error| BadFile::io(path, "opened", error))?;
    let meta = file.metadata().map_err(|error| BadFile::io(path, "inspected", error))?;
    if !meta.is_file() {
        return Err(BadFile::new(path, "is not a regular file", "name a file"));
    }
    check_mode(path, &meta, secrecy)?;
    // Room for all of it at once: a buffer that grows leaves copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(max).unwrap_or(0).saturating_add(1)));
    file.take(max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| BadFile::io(path, "read", error))?;
    if bytes.len() as u64 > max {
        return Err(BadFile::new(path, format!("is longer than {max} bytes"), "name the right file"));
    }
    Ok(bytes)
}

/// Checks that a program can be started and that nobody but root and this process's user can change it: absolute, a
/// regular executable file, a program or a script with `#!`, it and every folder above it writable by their owner alone, no
/// symbolic link out of its folder.
///
/// # Errors
///
/// [`BadFile`] naming the first that does not hold.
pub fn check_program(path: &Path) -> Result<(), BadFile> {
    if !path.is_absolute() {
        return Err(BadFile::new(path, "is not an absolute path", "write the whole path, from /"));
    }
    let real = path.canonicalize().map_err(|error| BadFile::io(path, "found", error))?;
    let named = folder_of(path);
    // Written without links, it names its folder without links: this runs before each start of a script.
    let named = if real == path {
        named.to_owned()
    } else {
        named.canonicalize().map_err(|error| BadFile::io(named, "found", error))?
    };
    if named != folder_of(&real) {
        return Err(BadFile::new(
            path,
            "is a symbolic link out of its folder",
            format!("name the file itself: {}", real.display()),
        ));
    }
    let meta = std::fs::metadata(&named).map_err(|error| BadFile::io(&named, "inspected", error))?;
    check_mode(&named, &meta, Secrecy::Public)?;
    // Who can rename a folder further up can put another in its place, between this check and the start too.
    for folder in named.ancestors().skip(1) {
        check_folder(folder)?;
    }
    let meta = std::fs::metadata(&real).map_err(|error| BadFile::io(&real, "inspected", error))?;
    if !meta.is_file() {
        return Err(BadFile::new(&real, "is not a regular file", "name a program or script"));
    }
    check_mode(&real, &meta, Secrecy::Public)?;
    if meta.mode() & 0o111 == 0 {
        let hint = format!("chmod +x {}", real.display());
        return Err(BadFile::new(&real, "is not executable", hint));
    }
    if starts_as_nothing(&real) {
        let what = "is neither an ELF program nor a script that names its interpreter";
        return Err(BadFile::new(&real, what, "begin it with a line like #!/bin/sh"));
    }
    Ok(())
}

/// Whether a shell would have to guess what the file is: execvp would ask one.
fn starts_as_nothing(program: &Path) -> bool {
    let mut start = [0; 4];
    // What may be executed but not read is left to the kernel.
    File::open(program).is_ok_and(|mut file| {
        !matches!((file.read(&mut start), start), (Ok(_), [b'#', b'!', ..] | [0x7f, b'E', b'L', b'F']))
    })
}

/// Checks that nobody else can put another file in the place of `path`, or of what it links to.
fn check_folders(path: &Path) -> Result<(), BadFile> {
    let real = path.canonicalize().map_err(|error| BadFile::io(path, "opened", error))?;
    for folder in [folder_of(path), folder_of(&real)] {
        check_folder(folder)?;
    }
    Ok(())
}

/// Checks that nobody else can put another file or folder in the place of one that is in `folder`.
fn check_folder(folder: &Path) -> Result<(), BadFile> {
    let meta = std::fs::metadata(folder).map_err(|error| BadFile::io(folder, "inspected", error))?;
    // In a sticky folder of root's, such as /tmp, everybody makes files but nobody replaces those of others.
    if meta.mode() & 0o1000 != 0 && meta.uid() == 0 {
        return Ok(());
    }
    check_mode(folder, &meta, Secrecy::Public)
}

/// The folder that `path` is in; "." for a name alone.
pub(crate) fn folder_of(path: &Path) -> &Path {
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
        Secrecy::Credential if meta.mode() & 0o022 == 0 => (0o004, "readable", "r"),
        Secrecy::Secret | Secrecy::Credential | Secrecy::Public => (0o022, "writable", "w"),
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
        Secrecy::Credential => "have the service manager hand it over: LoadCredential=".to_owned(),
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
    let fail = |error| BadFile::io(path, "written", error);
    let mut file = tempfile::Builder::new()
        .prefix(".siglatch-")
        .permissions(std::fs::Permissions::from_mode(mode))
        .tempfile_in(folder)
        .map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    // The umask narrowed the mode at creation.
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    match existing {
        Existing::Replace => file.persist(path).map_err(|error| fail(error.error))?,
        Existing::Keep => file.persist_noclobber(path).map_err(|error| fail(error.error))?,
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)
}
