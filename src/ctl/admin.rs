//! `siglatchctl admin`: who may ask the running daemon, and the key that he signs with.

use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use toml_edit::TableLike;
use zeroize::Zeroizing;

use super::args::{AdminAdd, AdminKey, At};
use super::document::{Document, lock};
use super::random;
use crate::config::files::{self, Existing, Secrecy};
use crate::control::Hex;
use crate::exit::{self, Exit, Failure};

/// Prints the public key of who runs this.
pub(super) fn key(args: &AdminKey) -> Result<(), Failure> {
    let document = Document::open(&args.at.config)?;
    let (key, file) = own(&document, args.admin_key.as_deref())?;
    exit::note(&format!("the public half of {}", file.display()));
    exit::say(&format!("{}\n", public(&key)))
}

/// Adds an administrator to the configuration.
pub(super) fn add(args: &AdminAdd) -> Result<(), Failure> {
    let _lock = lock(&args.at.config)?;
    let mut document = Document::open(&args.at.config)?;
    let key = match &args.key {
        Some(key) => Hex::parse(key).ok_or_else(|| {
            Failure::new(Exit::Usage, "a public key has 64 hex digits")
                .hint("`siglatchctl admin key` prints it")
        })?,
        None => public(&own(&document, None)?.0),
    };
    let role = args.role.to_string();
    document.set_admin(&args.name, &key.to_string(), &role)?;
    document.save()?;
    exit::say(&format!(
        "{} may ask as {role}, when siglatchd has read it: siglatchctl reload, or send it SIGHUP\n",
        args.name
    ))
}

/// Lists them.
pub(super) fn list(at: &At) -> Result<(), Failure> {
    let document = Document::open(&at.config)?;
    let text = |table: &dyn TableLike, key: &str| {
        table.get(key).and_then(toml_edit::Item::as_str).unwrap_or_default().to_owned()
    };
    let rows = document
        .admins()
        .map(|(name, table)| [name.to_owned(), text(table, "role"), text(table, "public_key")]);
    let head = ["NAME", "ROLE", "PUBLIC KEY"].map(str::to_owned);
    exit::say(&exit::columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>()))
}

/// The key of who runs this, and its file: the one that is named, or the one beside the configuration, which is made at first use.
pub(super) fn own(document: &Document, named: Option<&Path>) -> Result<(SigningKey, PathBuf), Failure> {
    let file = named.map_or_else(|| document.folder().join(FILE), Path::to_owned);
    if file.symlink_metadata().is_err() {
        exit::note(&format!("made {}: what you ask of siglatchd is signed with it", file.display()));
        files::write(&file, make()?.as_bytes(), 0o600, Existing::Keep)?;
    }
    Ok((read(&file)?, file))
}

/// Reads a key.
pub(super) fn read(file: &Path) -> Result<SigningKey, Failure> {
    let bytes = files::read(file, Secrecy::Secret, 1024)?;
    let text = std::str::from_utf8(&bytes).ok().map(str::trim);
    match text.and_then(Hex::<32>::parse) {
        Some(Hex(seed)) => Ok(SigningKey::from_bytes(&Zeroizing::new(seed))),
        None => {
            let what = format!("{}: is no key, which has 64 hex digits", file.display());
            Err(Failure::new(Exit::Config, what).hint("move it away: siglatchctl makes another one"))
        }
    }
}

/// A new one, as its file has it.
pub(super) fn make() -> Result<Zeroizing<String>, Failure> {
    let seed: Zeroizing<[u8; 32]> = Zeroizing::new(random()?);
    Ok(Zeroizing::new(format!("{}\n", Hex(*seed))))
}

/// The public half of what [`make`] made.
pub(super) fn public_of(text: &str) -> Option<Hex<32>> {
    let Hex(seed) = Hex::<32>::parse(text.trim())?;
    Some(public(&SigningKey::from_bytes(&Zeroizing::new(seed))))
}

/// Whose key it is.
pub(super) fn name_of(document: &Document, key: &SigningKey, file: &Path) -> Result<String, Failure> {
    let public = public(key);
    let has = |table: &dyn TableLike| {
        let key = table.get("public_key").and_then(toml_edit::Item::as_str);
        key.and_then(Hex::parse) == Some(public)
    };
    let name = document.admins().find(|(_, table)| has(*table)).map(|(name, _)| name.to_owned());
    name.ok_or_else(|| {
        let what =
            format!("{}: no administrator in {} has this key", file.display(), document.path().display());
        Failure::new(Exit::Permission, what).hint(
            "enrol it: siglatchctl admin add NAME --role admin; then siglatchctl reload, or send it SIGHUP",
        )
    })
}

fn public(key: &SigningKey) -> Hex<32> {
    Hex(key.verifying_key().to_bytes())
}

/// Beside the configuration.
pub(super) const FILE: &str = "admin.key";
