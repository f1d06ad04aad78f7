//! What was revoked since a backup was made, by the configuration that is there: it stays revoked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use toml_edit::{Array, DocumentMut, Item, TableLike, value};

use crate::config::files::{self, Secrecy};
use crate::ctl::document::Document;
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
            banned: banned(now.get("deny_from")),
            keys: hmac.chain(totp).filter_map(|file| std::path::absolute(file).ok()).collect(),
        }
    }

    /// Takes the same away in a file of before, and says what.
    pub(super) fn apply(&self, before: &mut DocumentMut) -> Vec<String> {
        let mut said = Vec::new();
        for section in SECTIONS {
            let kind = section.trim_end_matches('s');
            for (name, table) in tables(before, section) {
                let why = match self.switched.get(&(section, name.clone())) {
                    Some(true) => continue,
                    Some(false) => "was disabled",
                    None => "was removed",
                };
                if is_on(table) {
                    table.insert("enabled", value(false));
                    said.push(format!("{kind} {name} {why} since: stays disabled"));
                }
            }
        }
        let gone = |(name, admin): &(String, &mut dyn TableLike)| {
            self.admins.get(name).map(String::as_str) != admin.get("public_key").and_then(Item::as_str)
        };
        let gone: Vec<String> = tables(before, "admins").filter(gone).map(|(name, _)| name).collect();
        for name in gone {
            if let Some(admins) = before.get_mut("admins").and_then(Item::as_table_like_mut) {
                admins.remove(&name);
            }
            said.push(format!("administrator {name} was removed, or has another key, since: is left out"));
        }
        said
    }

    /// Bans the same networks in the main file of before, and says so.
    pub(super) fn ban(&self, before: &mut DocumentMut) -> Vec<String> {
        let bans = banned(before.get("deny_from"));
        if self.banned.is_subset(&bans) {
            return Vec::new();
        }
        before.insert("deny_from", value(bans.union(&self.banned).collect::<Array>()));
        vec!["networks were banned since: stay banned".to_owned()]
    }
}

/// Name and keys of each table below this one.
pub(super) fn tables<'a>(
    document: &'a mut DocumentMut,
    section: &str,
) -> impl Iterator<Item = (String, &'a mut dyn TableLike)> {
    let section = document.get_mut(section).and_then(Item::as_table_like_mut);
    let entries = section.into_iter().flat_map(|section| section.iter_mut());
    entries.filter_map(|(name, item)| Some((name.get().to_owned(), item.as_table_like_mut()?)))
}

fn is_on(table: &dyn TableLike) -> bool {
    table.get("enabled").and_then(Item::as_bool) != Some(false)
}

fn banned(list: Option<&Item>) -> BTreeSet<String> {
    let list = list.and_then(Item::as_array);
    list.into_iter().flatten().filter_map(|network| network.as_str()).map(str::to_owned).collect()
}

const SECTIONS: [&str; 2] = ["users", "actions"];
