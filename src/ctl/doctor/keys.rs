//! How old the keys are, and who could read the one that administrators sign with. The modes of the others are the
//! configuration's to check.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::Finding;
use crate::clock;
use crate::config::files::{self, Secrecy};
use crate::ctl::admin;
use crate::ctl::ask::folder;
use crate::ctl::document::Document;
use crate::ctl::server_key::Overlap;
use crate::ctl::user;
use crate::store::keys::fingerprint;
use crate::wire::HmacKey;

/// Looks at every key that the configuration names, and at the administrator's beside it.
pub(super) fn look(document: &Document) -> Vec<Finding> {
    let admin = document.folder().join(admin::FILE);
    let mut findings = Vec::new();
    if admin.symlink_metadata().is_ok() {
        findings.extend(files::read(&admin, Secrecy::Secret, 1024).err().map(|bad| {
            Finding::bad(bad.to_string(), bad.hint.unwrap_or_else(|| "run this as root".to_owned()))
        }));
    }
    findings.extend(ages(&keys(document, admin), clock::wall()));
    findings.extend(Overlap::of(document).map(overlap));
    findings
}

/// Two keys of the server's.
fn overlap(Overlap { age, users, behind, .. }: Overlap) -> Finding {
    let days = age.map_or(0, |age| age.as_secs() / 86_400);
    let names = behind.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if behind.len() > NAMED { ", ..." } else { "" };
    let what = match behind.len() {
        0 => format!(
            "everybody has moved to the server's new key, and the old one is good, too, for {days} days"
        ),
        count => format!(
            "two keys of the server's are good, for {days} days; not moved: {count} of {users} users: {names}{more}"
        ),
    };
    if days <= OVERLAP && !behind.is_empty() {
        return Finding::good(what);
    }
    Finding::doubt(what, "end the old one: siglatchctl key rotate server --finish")
}

/// A file, and how the key in it is replaced.
pub(super) struct Key {
    pub(super) file: PathBuf,
    /// When (Unix seconds) it was exchanged for another, which the store has.
    pub(super) exchanged: Option<u64>,
    pub(super) mend: String,
}

fn keys(document: &Document, admin: PathBuf) -> Vec<Key> {
    let mut keys = vec![Key {
        file: admin,
        exchanged: None,
        mend: "move it away, and enrol another: siglatchctl admin add NAME --role admin".to_owned(),
    }];
    keys.extend(document.text("private_key").map(|file| Key {
        file: document.folder().join(file),
        exchanged: None,
        mend: "give the server another: siglatchctl key rotate server".to_owned(),
    }));
    keys.push(Key {
        file: folder(document, "state_dir", "/var/lib/siglatch").join("audit.key"),
        exchanged: None,
        mend: "stop siglatchd, keep the file elsewhere, start it: it makes another and records that"
            .to_owned(),
    });
    let exchanged = exchanged(document);
    keys.extend(document.key_files("hmac_key").map(|(user, file)| {
        Key {
            exchanged: files::read(&file, Secrecy::Secret, 1024)
                .ok()
                .and_then(|bytes| HmacKey::parse(&bytes).ok())
                .and_then(|key| exchanged.get(&fingerprint(&key)).copied()),
            file,
            mend: format!("siglatchctl key rotate user {user}, and have him: siglatch key rotate PROFILE"),
        }
    }));
    keys.extend(document.key_files("totp_key").map(|(user, file)| Key {
        file,
        exchanged: None,
        mend: format!("siglatchctl user totp {user} --force"),
    }));
    keys
}

/// When keys were exchanged, by the fingerprints of those in the files.
fn exchanged(document: &Document) -> BTreeMap<[u8; 32], u64> {
    let all = user::exchanged(document).into_iter();
    all.filter_map(|exchanged| Some((exchanged.file, exchanged.own?.since))).collect()
}

/// By the times of the files; those that cannot be looked at are left out.
pub(super) fn ages(keys: &[Key], wall: Duration) -> Vec<Finding> {
    let file = |key: &Key| key.file.metadata().ok().and_then(|meta| u64::try_from(meta.mtime()).ok());
    let made = |key: &Key| file(key).map(|file| key.exchanged.unwrap_or(file));
    let days = |made: u64| wall.as_secs().saturating_sub(made) / 86_400;
    let aged = keys.iter().filter_map(|key| Some((days(made(key)?), key)));
    let (old, young): (Vec<_>, Vec<_>) = aged.partition(|(days, _)| *days > OLD);
    let mut findings: Vec<Finding> = old
        .iter()
        .map(|(days, key)| Finding::doubt(format!("{} is {days} days old", key.file.display()), &key.mend))
        .collect();
    if let Some((days, _)) = young.iter().max_by_key(|(days, _)| *days) {
        let oldest = format!("keys that are young enough: {}, the oldest {days} days", young.len());
        findings.push(Finding::good(oldest));
    }
    findings
}

/// Days for which two keys of the server's may be good.
const OVERLAP: u64 = 90;

/// Users who are named.
const NAMED: usize = 10;

/// Days: the two years of NIST SP 800-57, part 1, 5.3.6, for keys that authenticate.
const OLD: u64 = 730;
