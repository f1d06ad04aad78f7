//! `public_key` of a user: what replies to his plain knocks are sealed with.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::section::Section;
use crate::config::files::{self, Secrecy};
use crate::config::load::Entry;
use crate::config::problems::Problem;
use crate::config::raw::{RawUser, Table, Text};
use crate::config::resolved::User;
use crate::wire::{PublicKey, UserId};

/// Reads its file.
pub(super) fn resolve(user: &mut Section<'_>, text: &Text) -> Option<PublicKey> {
    let path = user.path(text);
    let pem = match files::read(&path, Secrecy::Public, PEM_MAX) {
        Ok(pem) => pem,
        Err(bad) => {
            user.bad_file(text.span(), &bad);
            return None;
        }
    };
    PublicKey::from_pem(&String::from_utf8_lossy(&pem))
        .map_err(|bad| {
            let hint = "openssl pkey -in HIS-PRIVATE-KEY -pubout writes the half that belongs here";
            user.error(text.span(), format!("{}: {bad}", path.display()), hint);
        })
        .ok()
}

/// Notes keys that are longer than the server's: a reply must not be longer than the knock that it answers.
pub(super) fn check_lengths(
    entries: &[Entry<RawUser>],
    users: &BTreeMap<UserId, Arc<User>>,
    server: &PublicKey,
    notes: &mut Vec<Problem>,
) {
    for entry in entries {
        let Table(raw) = entry.keys.get_ref();
        let user = users.values().find(|user| user.name == *entry.name.get_ref());
        let key = user.and_then(|user| user.public_key.as_ref());
        let (Some(text), Some(key)) = (&raw.public_key, key) else {
            continue;
        };
        let [own, most] = [key, server].map(|key| key.modulus().len().saturating_mul(8));
        if own > most {
            let what = format!(
                "`public_key` has {own} bits, the server's key {most}: a reply would be longer than its knock"
            );
            let hint = format!("give the user a key of {most} bits");
            notes.push(Problem::error(entry.document.place(text.span()), what).hint(hint));
        }
    }
}

/// Longest file, in bytes.
const PEM_MAX: u64 = 16 * 1024;
