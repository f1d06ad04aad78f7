//! `siglatchctl key rotate server`: another key for the server, while the one before stays good; and its end.
//!
//! A new key is in its file, and on the disk, before the configuration names it, and an old one is removed after the configuration
//! has let go of it: killed anywhere, this leaves a configuration that siglatchd starts with.

mod overlap;

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use rsa::rand_core::OsRng;
use toml_edit::Value;

use super::args::ServerRotate;
use super::document::{Document, lock};
use super::user::confirm;
use super::{Begun, internal};
use crate::config::change::Change;
use crate::config::credential;
use crate::config::files::{self, Existing, Secrecy};
use crate::crash;
use crate::exit::{self, Exit, Failure};
use crate::wire::{PrivateKey, PublicKey};
pub(super) use overlap::Overlap;

/// Runs the command.
pub(super) fn rotate(args: &ServerRotate) -> Result<(), Failure> {
    let _lock = lock(&args.at.config)?;
    let document = Document::open(&args.at.config)?;
    if args.finish { finish(document, args) } else { begin(document) }
}

fn begin(mut document: Document) -> Result<(), Failure> {
    if let Some(old) = document.text(OLD) {
        let what =
            format!("{}: the server's key is changed already: {OLD} = {old:?}", document.path().display());
        return Err(
            Failure::new(Exit::Config, what).hint("end that first: siglatchctl key rotate server --finish")
        );
    }
    let named = document.text(CURRENT).map(str::to_owned).ok_or_else(|| missing(&document, CURRENT))?;
    by_hand(&document, &named, NEW_BY_HAND)?;
    let old = document.folder().join(&named);
    let new = read(&old)?.generate_like(&mut OsRng).map_err(|error| internal(&error))?;
    let (next, path) = next(&named, document.folder());
    let pem = new.to_pem().map_err(|error| internal(&error))?;
    let public = new.public().to_pem().map_err(|error| internal(&error))?;

    document.set_builtin("server_key", "server-key")?;
    set(&mut document, CURRENT, Some(&next))?;
    set(&mut document, OLD, Some(&named))?;
    let mut begun = Begun::default();
    begun.write(path.clone(), pem.as_bytes(), 0o600, Existing::Keep)?;
    give_as(&old, &path)?;
    begun.write(public_file(&path), public.as_bytes(), 0o644, Existing::Keep)?;
    crash::point("rotate-before-config");
    // They stay, whatever comes of it: when writing the configuration fails, it may name them all the same.
    begun.done();
    document.save()?;
    crash::point("rotate-after-config");
    exit::say(&format!(
        "made {}: {} names it, and {} stays good beside it\n\
         next: systemctl restart siglatchd; invites from now on need that\n\
         then: have each user run: siglatch key update (siglatchctl status says who has not)\n\
         at last: siglatchctl key rotate server --finish\n",
        path.display(),
        document.path().display(),
        old.display(),
    ))
}

fn finish(mut document: Document, args: &ServerRotate) -> Result<(), Failure> {
    let Some(named) = document.text(OLD).map(str::to_owned) else {
        let what =
            format!("{}: one key of the server's is good: there is no {OLD}", document.path().display());
        return Err(Failure::new(Exit::Config, what).hint("siglatchctl key rotate server makes another"));
    };
    by_hand(&document, &named, END_BY_HAND)?;
    // The one that is left has to be there.
    let current = document.text(CURRENT).ok_or_else(|| missing(&document, CURRENT))?;
    if credential::place(current).is_none() {
        read(&document.folder().join(current))?;
    }
    let overlap = Overlap::of(&document).filter(|overlap| !overlap.behind.is_empty());
    if let Some(Overlap { behind, users, .. }) = overlap {
        exit::note(&format!("not moved to the new key: {}", behind.join(", ")));
        let locked_out = format!("lock out {} of {users} users, until each has a new invite", behind.len());
        if !args.yes {
            confirm(&format!("this would {locked_out}"), &format!("ending the old key will {locked_out}"))?;
        }
    }
    let path = document.folder().join(&named);
    let public = read(&path).ok().map(|key| key.public().clone());
    set(&mut document, OLD, None)?;
    document.save()?;
    crash::point("finish-after-config");
    remove(&path)?;
    let beside = public_file(&path);
    if public.is_some_and(|public| holds(&beside, &public)) {
        remove(&beside)?;
    }
    exit::say(&format!(
        "{} is gone, and what is sealed under it is not heard any more once siglatchd is restarted\n\
         next: systemctl restart siglatchd\n",
        path.display()
    ))
}

/// Gives the new file to whom the old one belongs: a siglatchd that is not root could not read it, and would not start.
fn give_as(old: &Path, new: &Path) -> Result<(), Failure> {
    let given = old.metadata().and_then(|meta| match new.metadata()?.uid() {
        own if own == meta.uid() => Ok(()),
        _ => chown(new, Some(meta.uid()), Some(meta.gid())),
    });
    given.map_err(|error| {
        let what = format!("{} cannot be given to whom {} belongs: {error}", new.display(), old.display());
        Failure::new(Exit::of_io(&error), what).hint("run this as root; nothing was changed")
    })
}

/// What is not this program's to write.
fn by_hand(document: &Document, named: &str, how: &'static str) -> Result<(), Failure> {
    let config = document.path().display();
    if let Some(key) = [CURRENT, OLD].into_iter().find(|key| document.is_environments(key)) {
        let what = format!(
            "{config}: `{key}` stands in the environment of siglatchd, which cannot be changed from here"
        );
        return Err(Failure::new(Exit::Config, what).hint(how));
    }
    if credential::place(named).is_some() {
        let what = format!(
            "{config}: {named:?} is handed over by the service manager: no other can be put in its place from here"
        );
        return Err(Failure::new(Exit::Config, what).hint(how));
    }
    Ok(())
}

fn set(document: &mut Document, key: &str, value: Option<&str>) -> Result<(), Failure> {
    let value = value.map(|text| Value::from(text).to_string());
    document.make(&Change { key: key.to_owned(), value })
}

fn read(path: &Path) -> Result<PrivateKey, Failure> {
    let pem = credential::read(path, PEM_MAX)?;
    let key = PrivateKey::from_pem(std::str::from_utf8(&pem).unwrap_or_default());
    key.map_err(|bad| Failure::new(Exit::Config, format!("{}: {bad}", path.display())))
}

fn missing(document: &Document, key: &str) -> Failure {
    Failure::new(Exit::Config, format!("{}: no `{key}`", document.path().display()))
}

/// `server.key.pem` is followed by `server-2.key.pem`, and so on; the first that is not there.
fn next(named: &str, folder: &Path) -> (String, PathBuf) {
    let file = named.rsplit_once('/').map_or(named, |(_, file)| file);
    let place = named.strip_suffix(file).unwrap_or_default();
    let (stem, end) = file.find('.').map_or((file, ""), |at| file.split_at(at));
    let numbered = stem.rsplit_once('-').and_then(|(stem, number)| Some((stem, number.parse::<u32>().ok()?)));
    let (stem, last) = numbered.unwrap_or((stem, 1));
    let names = (last..u32::MAX).map(|last| format!("{place}{stem}-{}{end}", last.saturating_add(1)));
    let mut free = names.map(|name| (folder.join(&name), name)).filter(|(path, _)| {
        [path.clone(), public_file(path)].iter().all(|path| path.symlink_metadata().is_err())
    });
    // There are not as many files.
    free.next().map_or_else(|| (named.to_owned(), folder.join(named)), |(path, name)| (name, path))
}

/// Of `server.key.pem` it is `server.pub.pem`.
pub(super) fn public_file(key: &Path) -> PathBuf {
    let name = key.file_name().unwrap_or_default().to_string_lossy();
    match name.strip_suffix(".key.pem") {
        Some(stem) => key.with_file_name(format!("{stem}.pub.pem")),
        None => key.with_file_name(format!("{name}.pub")),
    }
}

fn holds(file: &Path, key: &PublicKey) -> bool {
    let pem = files::read(file, Secrecy::Public, PEM_MAX);
    pem.is_ok_and(|pem| PublicKey::from_pem(&String::from_utf8_lossy(&pem)).is_ok_and(|other| other == *key))
}

fn remove(file: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            let what = format!(
                "the configuration does not name {} any more, but it cannot be removed: {error}",
                file.display()
            );
            Err(Failure::new(Exit::of_io(&error), what).hint("remove it by hand"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

const CURRENT: &str = "private_key";
const OLD: &str = "old_private_key";
const PEM_MAX: u64 = 64 << 10;

const NEW_BY_HAND: &str = "make a key of as many bits (openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048) and hand it over as \
    private_key, the one of now as old_private_key; add an action with builtin = \"server_key\"; then restart siglatchd";
const END_BY_HAND: &str = "take old_private_key away where it stands, then restart siglatchd";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_gets_the_next_name_that_is_free() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("s-3.key.pem"), "").unwrap();
        std::fs::write(dir.path().join("t-2.pub.pem"), "").unwrap();
        let cases = [
            ("server.key.pem", "server-2.key.pem"),
            ("server-2.key.pem", "server-3.key.pem"),
            ("s-2.key.pem", "s-4.key.pem"),
            ("t.key.pem", "t-3.key.pem"),
            ("my-key", "my-key-2"),
            ("a.b/priv", "a.b/priv-2"),
            ("/nowhere/x-9.pem", "/nowhere/x-10.pem"),
        ];
        for (named, expected) in cases {
            assert_eq!(next(named, dir.path()), (expected.to_owned(), dir.path().join(expected)), "{named}");
        }
        assert_eq!(public_file(Path::new("/x/s-2.key.pem")), Path::new("/x/s-2.pub.pem"));
        assert_eq!(public_file(Path::new("priv")), Path::new("priv.pub"));
    }
}
