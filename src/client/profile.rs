//! Profiles: installed invites, in `$XDG_CONFIG_HOME/siglatch/NAME.toml`, readable by their owner alone.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::config::files::{self, Existing, Secrecy};
use crate::exit::{Exit, Failure};
use crate::wire::Invite;
use crate::wire::invite::{INVITE_MAX, Name};

/// The folder of one user's profiles.
pub(super) struct Profiles {
    folder: PathBuf,
}

impl Profiles {
    /// The folder as the environment has it, whether it is there or not.
    pub(super) fn of_environment() -> Result<Profiles, Failure> {
        let var = |name| std::env::var_os(name).map(PathBuf::from);
        // XDG Base Directory Specification: a relative path is to be ignored.
        let config = var("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        let config = config.or_else(|| Some(var("HOME")?.join(".config")).filter(|path| path.is_absolute()));
        let folder = config
            .ok_or_else(|| {
                Failure::new(Exit::Config, "there is no folder for profiles")
                    .hint("set HOME or XDG_CONFIG_HOME to an absolute path")
            })?
            .join("siglatch");
        Ok(Profiles { folder })
    }

    /// Where they are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads one profile. The file's name is the profile's, whatever the invite was called.
    pub(super) fn load(&self, name: &Name) -> Result<Invite, Failure> {
        let path = self.path(name);
        let text = files::read(&path, Secrecy::Secret, INVITE_MAX)?;
        let invite = parse(&path.display().to_string(), &text)?;
        Ok(Invite { name: name.clone(), ..invite })
    }

    /// The names of all profiles, sorted, broken ones too.
    pub(super) fn names(&self) -> Result<Vec<Name>, Failure> {
        let entries = match self.folder.read_dir() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| self.unusable(&error))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let file = entry.map_err(|error| self.unusable(&error))?.file_name();
            names.extend(file.to_str().and_then(|file| Name::parse(file.strip_suffix(".toml")?)));
        }
        names.sort();
        Ok(names)
    }

    /// Writes an invite as a profile, and makes the folder if need be.
    pub(super) fn install(&self, invite: &Invite, existing: Existing) -> Result<PathBuf, Failure> {
        let path = self.path(&invite.name);
        let text = invite.to_toml().map_err(|error| Failure::new(Exit::Internal, error.to_string()))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|error| self.unusable(&error))?;
        if let Err(bad) = files::write(&path, text.as_bytes(), 0o600, existing) {
            let there = bad.io.as_ref().is_some_and(|error| error.kind() == io::ErrorKind::AlreadyExists);
            let failure = Failure::from(bad);
            return Err(if there {
                failure.hint("--name NEW installs it beside that one, --force replaces it")
            } else {
                failure
            });
        }
        Ok(path)
    }

    /// The name of one that is there.
    pub(super) fn find(&self, word: &str) -> Result<Name, Failure> {
        let names = self.names()?;
        Name::parse(word).filter(|name| names.contains(name)).ok_or_else(|| {
            let what = format!("no profile {word:?} in {}", self.folder.display());
            let names: Vec<&str> = names.iter().map(Name::as_str).collect();
            Failure::new(Exit::Config, what).hint(if names.is_empty() {
                "install an invite: siglatch join FILE".to_owned()
            } else {
                format!("the profiles are: {}", names.join(", "))
            })
        })
    }

    /// Holds off others who would change a profile, until it is dropped.
    pub(super) fn lock(&self) -> Result<File, Failure> {
        let folder = File::open(&self.folder).map_err(|error| self.unusable(&error))?;
        match folder.try_lock() {
            Ok(()) => Ok(folder),
            Err(TryLockError::WouldBlock) => {
                let what = format!("{}: another siglatch is changing a profile", self.folder.display());
                Err(Failure::new(Exit::TryAgain, what).hint("try again when it is done"))
            }
            Err(TryLockError::Error(error)) => Err(self.unusable(&error)),
        }
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.folder.join(format!("{name}.toml"))
    }

    fn unusable(&self, error: &io::Error) -> Failure {
        let what = format!("{}: cannot be used: {error}", self.folder.display());
        Failure::new(Exit::of_io(error), what)
    }
}

/// Reads an invite's bytes; `place` names them in what is said.
pub(super) fn parse(place: &str, bytes: &[u8]) -> Result<Invite, Failure> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| Failure::new(Exit::Config, format!("{place}: is no text")))?;
    Invite::parse(text).map_err(|bad| Failure::new(Exit::Config, format!("{place}: {bad}")))
}
