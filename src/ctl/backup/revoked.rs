//! What was revoked since a backup was made, by the configuration that is there: it stays revoked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use toml_edit::{Item, TableLike};

use crate::config::change::Change;
use crate::config::files::{self, Secrecy};
use crate::ctl::document::Document;
use crate::exit::Failure;
use crate::wire::HmacKey;

/// The configuration of now, as far as it takes something away from somebody.
#[derive(Default)]
pub(super) struct Revoked {
    /// Users and actions that are there, and whether they are switched on.
    switched: BTreeMap<(&'static str, String), bool>,
    /// Administrators, with their keys.
    admins: BTreeMap<String, String>,
    banned: BTreeSet<String>,
    /// Files of users' keys that can be used.
    pub(super) keys: BTreeSet<PathBuf>,
}

impl Revoked {
    /// Reads it.
    pub(super) fn read(now: &Document) -> Revoked {
        let text =
            |table: &dyn TableLike, key| table.get(key).and_then(Item::as_str).unwrap_or_default().to_owned();
        let switched = SECTIONS.into_iter().flat_map(|section| {
            now.entries(section).map(move |(name, table)| ((section, name.to_owned()), is_on(table)))
        });
        let hmac = now.key_files("hmac_key").map(|(_, file)| file).filter(|file| {
            files::read(file, Secrecy::Secret, 1024).is_ok_and(|bytes| HmacKey::parse(&bytes).is_ok())
        });
        let totp = now.key_files("totp_key").map(|(_, file)| file);
        Revoked {
            switched: switched.collect(),
            admins: now.admins().map(|(name, admin)| (name.to_owned(), text(admin, "public_key"))).collect(),
            banned: banned(now),
            keys: hmac.chain(totp).filter_map(|file| std::path::absolute(file).ok()).collect(),
        }
    }

    /// Takes the same away in a configuration of before, and says what.
    ///
    /// # Errors
    ///
    /// [`Failure`]: it cannot be written.
    pub(super) fn apply(&self, before: &mut Document) -> Result<Vec<String>, Failure> {
        let mut said = Vec::new();
        let mut changes = Vec::new();
        for section in SECTIONS {
            let kind = section.trim_end_matches('s');
            for (name, _) in before.entries(section).filter(|(_, table)| is_on(*table)) {
                let why = match self.switched.get(&(section, name.to_owned())) {
                    Some(true) => continue,
                    Some(false) => "was disabled",
                    None => "was removed",
                };
                said.push(format!("{kind} {name} {why} since: stays disabled"));
                changes.push(Change {
                    key: format!("{section}.{name}.enabled"),
                    value: Some("false".to_owned()),
                });
            }
        }
        let bans = banned(before);
        if !self.banned.is_subset(&bans) {
            let all: toml_edit::Array = bans.union(&self.banned).map(String::as_str).collect();
            changes.push(Change { key: "deny_from".to_owned(), value: Some(all.to_string()) });
            said.push("networks were banned since: stay banned".to_owned());
        }
        let gone = |name: &str, admin: &dyn TableLike| {
            self.admins.get(name).map(String::as_str) != admin.get("public_key").and_then(Item::as_str)
        };
        let admins = before.admins().filter(|(name, admin)| gone(name, *admin));
        let admins: Vec<String> = admins.map(|(name, _)| name.to_owned()).collect();
        for name in admins {
            before.remove_admin(&name);
            said.push(format!("administrator {name} was removed, or has another key, since: is left out"));
        }
        changes.iter().try_for_each(|change| before.make(change))?;
        Ok(said)
    }
}

fn is_on(table: &dyn TableLike) -> bool {
    table.get("enabled").and_then(Item::as_bool) != Some(false)
}

fn banned(document: &Document) -> BTreeSet<String> {
    let list = document.get("deny_from").and_then(Item::as_array);
    list.into_iter().flatten().filter_map(|network| network.as_str()).map(str::to_owned).collect()
}

const SECTIONS: [&str; 2] = ["users", "actions"];
