//! `siglatchctl backup`, `backup verify` and `restore`: all that a server is, in one encrypted file.
//!
//! In: a configuration, what it names, and the state. Out: a tar file in an age file: `manifest.json`, then what it lists, by number.
//!
//! # Security considerations
//!
//! It holds every key. It is written with mode 0600 and never unencrypted to a disk, but for what is in a folder of its own (0700) for
//! a moment: the store's copy, and all of it while it is restored. Who knows a recipient can make a backup to him, and a configuration that is restored is one that root
//! runs programs from: the hash that is printed is to be kept where the backup is not, unless a passphrase encrypts it.

mod archive;
mod filed;
mod gather;
mod invites;
mod manifest;
mod narrowed;
mod now;
mod restore;
mod revoked;
mod scratch;
mod seal;

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use self::manifest::{Filed, Part};
pub(super) use self::restore::restore;
use self::scratch::Scratch;
pub(super) use self::scratch::left_over;
use super::args::backup::{Backup, BackupCommand, Verify};
use super::internal;
use crate::exit::{self, Exit, Failure};
use crate::store::sqlite::copy::standing;

/// Runs the command.
pub(super) fn backup(args: &Backup) -> Result<(), Failure> {
    match (&args.command, &args.file) {
        (Some(BackupCommand::Verify(args)), _) => verify(args),
        (None, Some(file)) => make(args, file),
        (None, None) => Err(internal(&"no file")),
    }
}

fn make(args: &Backup, file: &Path) -> Result<(), Failure> {
    let encryptor = seal::encryptor(&args.whom)?;
    let gathered = gather::gather(&args.at.config)?;
    let fail = |error: &io::Error| {
        let what = format!("{}: cannot be written: {error}", file.display());
        if error.kind() == io::ErrorKind::AlreadyExists {
            Failure::new(Exit::Config, what).hint("name another one: no backup is overwritten")
        } else {
            Failure::new(Exit::of_io(error), what)
        }
    };
    let out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(|error| fail(&error))?;
    let written = archive::write(&out, encryptor, &gathered.manifest, gathered.contents);
    if let Err(error) = written.and_then(|()| out.sync_all()) {
        drop(std::fs::remove_file(file));
        return Err(fail(&error));
    }
    for what in &gathered.lacks {
        exit::note(&format!("warning: not in the backup: {what}"));
    }
    let (count, bytes) = (gathered.manifest.files.len(), gathered.manifest.bytes());
    exit::say(&format!(
        "wrote {}: files: {count}, bytes: {bytes}\nits SHA-256, to be kept elsewhere: {}\n",
        file.display(),
        sha256(file)?
    ))?;
    if gathered.missing.is_empty() {
        return Ok(());
    }
    let what = format!("written, but these are not there, and so not in it: {}", gathered.missing.join(", "));
    Err(Failure::new(Exit::Config, what)
        .hint("the configuration names them: mend that, with siglatchctl check, and make another backup"))
}

fn verify(args: &Verify) -> Result<(), Failure> {
    let scratch = Scratch::make(&std::env::temp_dir(), scratch::VERIFYING)?;
    let manifest =
        archive::extract(&args.file, &args.how, &[Part::Store], |_| Ok(scratch.path().to_owned()))?;
    let store = manifest.place_of_store().is_some();
    if let Some((at, _)) = manifest.place_of_store() {
        // By its number there, by its own name for who reads it.
        let folder = scratch.path().join("store");
        std::fs::create_dir(&folder)
            .and_then(|()| std::fs::rename(scratch.path().join(at.to_string()), folder.join("claims.db")))
            .map_err(|error| internal(&error))?;
        let found = standing(&folder)?;
        if found != manifest.store {
            let what = format!("{}: the store in it is another than it says", args.file.display());
            return Err(Failure::new(Exit::Config, what));
        }
    }
    let listed = manifest.files.iter().map(|filed| {
        let Filed { path, part, mode, len, .. } = filed;
        format!("  {part:7}  {mode:04o}  {len:>9}  {}\n", path.display())
    });
    let listed: String = listed.collect();
    exit::say(&format!(
        "{} is whole: of {}, made at {}, by siglatchctl {}\n{listed}files: {}, bytes: {}, store: {}\nits SHA-256: {}\n",
        args.file.display(),
        manifest.config.display(),
        super::audit::moment(manifest.made_at.saturating_mul(1000)),
        manifest.version,
        manifest.files.len(),
        manifest.bytes(),
        if store { "good" } else { "none" },
        sha256(&args.file)?
    ))
}

fn sha256(file: &Path) -> Result<String, Failure> {
    let fail = |error: io::Error| Failure::new(Exit::of_io(&error), format!("{}: {error}", file.display()));
    let (mut file, _) = seal::file(file)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece).map_err(fail)? {
            0 => return Ok(manifest::hex(&hash.finalize())),
            read => hash.update(piece.get(..read).unwrap_or_default()),
        }
    }
}
