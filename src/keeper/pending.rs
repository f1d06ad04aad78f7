//! `pending.toml` in `state_dir`: settings that siglatchd takes over when it starts next.
//!
//! They are written into the configuration, whose old text is kept beside it, once the daemon has started with them; if it does not start with
//! them it starts without, and they are put aside.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml_edit::DocumentMut;

use crate::config::change::{Applied, Change};
use crate::config::files::{self, Existing, Secrecy};
use crate::config::{self, Config, Loaded, TEXT_MAX};
use crate::exit::{Exit, Failure};

#[derive(Default, Serialize, Deserialize)]
struct File {
    #[serde(default)]
    change: Vec<Change>,
}

/// What waits; nothing if there is no such file.
///
/// # Errors
///
/// It cannot be read.
pub(super) fn read(state_dir: &Path) -> Result<Vec<Change>, Failure> {
    let path = state_dir.join(NAME);
    let bytes = match files::read(&path, Secrecy::Public, TEXT_MAX) {
        Ok(bytes) => bytes,
        Err(bad) if bad.io.as_ref().is_some_and(|error| error.kind() == io::ErrorKind::NotFound) => {
            return Ok(Vec::new());
        }
        Err(bad) => return Err(bad.into()),
    };
    let file = std::str::from_utf8(&bytes).ok().and_then(|text| toml::from_str::<File>(text).ok());
    let wrong = || Failure::new(Exit::Config, format!("{}: is no list of settings", path.display()));
    file.map(|file| file.change).ok_or_else(wrong)
}

/// What became of what waited for this start.
#[derive(Debug)]
pub(super) enum TakenOver {
    /// These, from this folder, are in force.
    These(Vec<Change>, PathBuf),
    /// They cannot be used, and were put aside there.
    PutAside(String, PathBuf),
}

impl TakenOver {
    /// Where they are from, if there are any.
    pub(super) fn staged(&self) -> Option<PathBuf> {
        match self {
            TakenOver::These(changes, folder) if !changes.is_empty() => Some(folder.clone()),
            TakenOver::These(..) | TakenOver::PutAside(..) => None,
        }
    }

    /// The daemon did not come to receive anything with those in `folder`.
    pub(super) fn roll_back(failure: &Failure, folder: &Path) -> TakenOver {
        TakenOver::PutAside(failure.what.clone(), put_aside(folder))
    }

    /// Those in force, and where they are from; and a line in the log if there might have been others.
    pub(super) fn tell(self) -> (Vec<Change>, PathBuf) {
        match self {
            TakenOver::These(changes, folder) => (changes, folder),
            TakenOver::PutAside(what, aside) => {
                log::error!(
                    code = "pending-rolled-back", what, aside:% = aside.display();
                    "settings that waited for this start cannot be used, it goes on without them"
                );
                (Vec::new(), PathBuf::new())
            }
        }
    }
}

/// The configuration with what waits, if it can be used so.
pub(super) fn take_over(loaded: Loaded, bind: Bind) -> (Loaded, TakenOver) {
    let state_dir = loaded.config.state_dir.clone();
    let tried = read(&state_dir).and_then(|changes| {
        if changes.is_empty() {
            return Ok(None);
        }
        let with = config::load_with(&loaded.config.path, &changes)
            .map_err(|problems| Failure::new(Exit::Config, problems.summary()))?;
        match bind {
            Bind::Own => drop(super::start::bind(&with.config)?),
            Bind::Inherited => {}
        }
        Ok(Some((with, changes)))
    });
    match tried {
        Ok(Some((with, changes))) => (with, TakenOver::These(changes, state_dir)),
        Ok(None) => (loaded, TakenOver::These(Vec::new(), state_dir)),
        Err(Failure { what, .. }) => {
            let aside = put_aside(&state_dir);
            (loaded, TakenOver::PutAside(what, aside))
        }
    }
}

/// Whose sockets the daemon listens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bind {
    /// Its own.
    Own,
    /// Those of who started it.
    Inherited,
}

/// Replaces what waits.
///
/// # Errors
///
/// It cannot be written.
pub(super) fn write(state_dir: &Path, changes: &[Change]) -> Result<(), Failure> {
    let path = state_dir.join(NAME);
    if changes.is_empty() {
        return match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(super::cannot(&format!("remove {}", path.display()), &error))
            }
            Ok(()) | Err(_) => Ok(()),
        };
    }
    let text = toml::to_string(&File { change: changes.to_vec() });
    let text = text.map_err(|error| Failure::new(Exit::Internal, error.to_string()))?;
    let text = format!("# What siglatchd takes over when it starts next: siglatchctl pending\n\n{text}");
    Ok(files::write(&path, text.as_bytes(), 0o600, Existing::Replace)?)
}

/// The daemon has started with them, from `folder`: they become part of the configuration. Users and actions in included files aside, since none of them
/// takes effect at a start only.
///
/// # Errors
///
/// The configuration cannot be written: they wait on, and are in force all the same.
pub(super) fn keep(config: &Config, changes: &[Change], folder: &Path) -> Result<PathBuf, Failure> {
    let bytes = files::read(&config.path, Secrecy::Public, TEXT_MAX)?;
    let wrong = |what: &dyn std::fmt::Display| {
        Failure::new(Exit::Config, format!("{}: {what}", config.path.display()))
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| wrong(&error))?;
    let mut document: DocumentMut = text.parse().map_err(|error| wrong(&error))?;
    let mut differs = false;
    for change in changes {
        match change.apply(&mut document).map_err(|bad| wrong(&bad))? {
            Applied::Changed => differs = true,
            Applied::Same | Applied::NotHere => {}
        }
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&config.path).map_err(|error| wrong(&error))?.permissions(),
    ) & 0o7777;
    let mut backup = config.path.clone().into_os_string();
    backup.push(".before-pending");
    let backup = PathBuf::from(backup);
    // The same text is there if this was cut short before: the backup is of what was there first.
    if differs {
        files::write(&backup, &bytes, mode, Existing::Replace)?;
        let real = config.path.canonicalize().map_err(|error| wrong(&error))?;
        files::write(&real, document.to_string().as_bytes(), mode, Existing::Replace)?;
    }
    write(folder, &[])?;
    Ok(backup)
}

/// The daemon could not start with them: they are put aside.
fn put_aside(state_dir: &Path) -> PathBuf {
    let aside = state_dir.join(ASIDE);
    // If that fails they are tried, and told of, at the next start again.
    std::fs::rename(state_dir.join(NAME), &aside).unwrap_or_default();
    aside
}

const NAME: &str = "pending.toml";
const ASIDE: &str = "pending.failed.toml";
