//! Secrets that the service manager hands over: `credential:NAME` where a key's file is named.
//!
//! systemd puts them (`LoadCredential=`, `LoadCredentialEncrypted=`, `SetCredentialEncrypted=`) into a folder that the service alone can
//! read, and says which in CREDENTIALS_DIRECTORY. Whom it says nothing, as root's siglatchctl, sees what the running service has.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::files::{self, BadFile, Secrecy};

/// Where the credential is; `None` for what is the name of a file.
///
/// # Errors
///
/// What is wrong, and how to mend it.
pub(crate) fn place(text: &str) -> Option<Result<PathBuf, (String, &'static str)>> {
    let name = text.strip_prefix("credential:")?;
    // The name of a file, and of no other than those that were handed over.
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        let what = format!("{name:?} is no name of a credential");
        return Some(Err((what, "write \"credential:NAME\", with the name that LoadCredential= has")));
    }
    Some(folder().map(|folder| folder.join(name)).ok_or_else(|| {
        let what = format!("there is no credential {name:?}: the service manager handed none over");
        (
            what,
            "write LoadCredential=NAME:FILE into the unit; elsewhere CREDENTIALS_DIRECTORY says the folder",
        )
    }))
}

/// Reads a secret, wherever it is.
///
/// # Errors
///
/// As [`files::read`].
pub(crate) fn read(path: &Path, max: u64) -> Result<Zeroizing<Vec<u8>>, BadFile> {
    let handed_over = folder().is_some_and(|folder| path.parent() == Some(&folder));
    files::read(path, if handed_over { Secrecy::Credential } else { Secrecy::Secret }, max)
}

fn folder() -> Option<PathBuf> {
    let told = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let of_unit = || Some(PathBuf::from(OF_UNIT)).filter(|folder| folder.is_dir());
    told.filter(|folder| folder.is_absolute()).or_else(of_unit)
}

/// Of siglatchd.service while it runs: root's and nobody else's.
const OF_UNIT: &str = "/run/credentials/siglatchd.service";
