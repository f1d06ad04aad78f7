//! What was revoked since a backup was made, by the configuration that is there: it stays revoked, the whole of it or the part.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, value};

use super::narrowed::{self, Rule, narrow};
use crate::config::allowance::server_zone;
use crate::config::credential;
use crate::config::files::{self, Secrecy, folder_of};
use crate::ctl::document::Document;
use crate::wire::HmacKey;

/// The configuration of now, as far as it takes something away from somebody.
pub(super) struct Revoked {
    /// Users and actions that are there.
    entries: BTreeMap<(&'static str, String), Table>,
    /// Where the users' keys are.
    keys_of: BTreeMap<(&'static str, String), PathBuf>,
    /// Administrators.
    admins: BTreeMap<String, Table>,
    /// What holds for everybody.
    top: Table,
    /// What names the server's key, and the one before it; if the key is there.
    server: Option<[Option<String>; 2]>,
    banned: BTreeSet<String>,
    zone: TimeZone,
    /// Files of users' keys that can be used.
    pub(super) keys: BTreeSet<PathBuf>,
    /// It, and what it includes.
    pub(super) files: BTreeSet<PathBuf>,
}

impl Revoked {
    /// Reads it.
    pub(super) fn read(now: &Document) -> Revoked {
        let entries = SECTIONS.into_iter().flat_map(|(section, _)| {
            now.entries(section).map(move |(name, table)| ((section, name.to_owned()), plain(table)))
        });
        let mut keys_of = BTreeMap::new();
        for key in KEYS {
            for (name, file) in now.key_files(key) {
                keys_of.extend(std::path::absolute(file).map(|file| ((key, name.to_owned()), file)));
            }
        }
        let usable = |((key, _), file): &(&(&str, String), &PathBuf)| {
            let read =
                || files::read(file, Secrecy::Secret, 1024).map(|bytes| HmacKey::parse(&bytes).is_ok());
            *key != "hmac_key" || read().unwrap_or(false)
        };
        let mut top = Table::new();
        for (key, _) in narrowed::TOP {
            top.extend(now.get(key).and_then(Item::as_value).map(|set| (*key, value(set.clone()))));
        }
        Revoked {
            entries: entries.collect(),
            keys: keys_of.iter().filter(usable).map(|(_, file)| file.clone()).collect(),
            keys_of,
            admins: now.admins().map(|(name, admin)| (name.to_owned(), plain(admin))).collect(),
            top,
            server: now
                .text("private_key")
                .filter(|key| now.folder().join(key).exists())
                .map(|key| [Some(key.to_owned()), now.text("old_private_key").map(str::to_owned)]),
            banned: banned(now.get("deny_from")),
            zone: server_zone(now.text("zone")),
            files: now.files().map(Path::to_owned).collect(),
        }
    }

    /// Takes the same away in a `file` of before, and says what.
    pub(super) fn apply(&self, file: &Path, before: &mut DocumentMut) -> Vec<String> {
        let mut said = Vec::new();
        for (section, rules) in SECTIONS {
            let kind = section.trim_end_matches('s');
            for (name, table) in tables(before, section) {
                let now = self.entries.get(&(section, name.clone()));
                let why = match now {
                    Some(now) if is_on(now) => "",
                    Some(_) => "was disabled",
                    None => "was removed",
                };
                if !why.is_empty() && is_on(table) {
                    table.insert("enabled", value(false));
                    said.push(format!("{kind} {name} {why} since: stays disabled"));
                }
                let Some(now) = now else { continue };
                let mut drawn = narrow(table, now, rules, &self.zone);
                if section == "users" {
                    drawn.extend(KEYS.into_iter().filter(|key| self.keep_key(key, &name, file, table, now)));
                }
                if !drawn.is_empty() {
                    said.push(format!("{kind} {name}: what was set since stays: {}", drawn.join(", ")));
                }
            }
        }
        said.extend(self.admins(before));
        said
    }

    /// Does the same for the main file of before.
    pub(super) fn apply_to_all(&self, before: &mut DocumentMut) -> Vec<String> {
        let drawn = narrow(before.as_table_mut(), &self.top, narrowed::TOP, &self.zone);
        let drawn = drawn.into_iter().map(|key| format!("{key} was narrower since: stays so"));
        let mut said: Vec<String> = drawn.collect();
        if let Some([key, old]) = self.server.as_ref().filter(|[key, _]| text(before, "private_key") != *key)
        {
            for (name, is) in [("private_key", key), ("old_private_key", old)] {
                match is {
                    Some(is) => drop(before.insert(name, value(is))),
                    None => drop(before.remove(name)),
                }
            }
            said.push("the server has another key since: it stays".to_owned());
        }
        let bans = banned(before.get("deny_from"));
        if !self.banned.is_subset(&bans) {
            before.insert("deny_from", value(bans.union(&self.banned).collect::<Array>()));
            said.push("networks were banned since: stay banned".to_owned());
        }
        said
    }

    /// Users that came since, and so are in none of the files of before, which have these.
    pub(super) fn added(&self, before: &BTreeSet<String>) -> impl Iterator<Item = String> {
        let users =
            self.entries.keys().filter(|(section, name)| *section == "users" && !before.contains(name));
        users.map(|(_, name)| format!("user {name} is not in the backup"))
    }

    /// A key that is in another place than it was is another one.
    fn keep_key(
        &self,
        key: &'static str,
        name: &str,
        file: &Path,
        table: &mut dyn TableLike,
        now: &Table,
    ) -> bool {
        let text = |table: &dyn TableLike| table.get(key).and_then(Item::as_str).map(str::to_owned);
        let Some(written) = text(now) else { return false };
        let was = text(table);
        let is = match self.keys_of.get(&(key, name.to_owned())) {
            _ if credential::place(&written).is_some() => written,
            Some(is) if was.as_ref().is_none_or(|was| folder_of(file).join(was) != *is) => {
                is.to_string_lossy().into_owned()
            }
            Some(_) | None => return false,
        };
        if was.as_ref() == Some(&is) {
            return false;
        }
        table.insert(key, value(is));
        true
    }

    fn admins(&self, before: &mut DocumentMut) -> Vec<String> {
        let mut said = Vec::new();
        let mut gone = Vec::new();
        for (name, admin) in tables(before, "admins") {
            let key =
                |admin: &dyn TableLike| admin.get("public_key").and_then(Item::as_str).map(str::to_owned);
            match self.admins.get(&name).filter(|now| key(*now) == key(admin)) {
                None => gone.push(name),
                Some(now) if !narrow(admin, now, narrowed::ADMIN, &self.zone).is_empty() => {
                    said.push(format!("administrator {name} may do less since: stays so"));
                }
                Some(_) => {}
            }
        }
        for name in gone {
            if let Some(admins) = before.get_mut("admins").and_then(Item::as_table_like_mut) {
                admins.remove(&name);
            }
            said.push(format!("administrator {name} was removed, or has another key, since: is left out"));
        }
        said
    }
}

/// Switches off users whose newer keys nobody has any more: those in their files are good for nothing, or stolen.
pub(super) fn lost(exchanged: &BTreeSet<String>, before: &mut DocumentMut) -> Vec<String> {
    let users = tables(before, "users").filter(|(name, user)| exchanged.contains(name) && is_on(*user));
    let off = users.map(|(name, user)| {
        user.insert("enabled", value(false));
        format!(
            "user {name} exchanged his key since, and it is lost with the store: is disabled, make another"
        )
    });
    off.collect()
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

/// The same, whether it is written in one line or in several.
fn plain(table: &dyn TableLike) -> Table {
    table.iter().map(|(key, item)| (key.to_owned(), item.clone())).collect()
}

fn text(table: &DocumentMut, key: &str) -> Option<String> {
    Some(table.get(key)?.as_str()?.to_owned())
}

fn is_on(table: &dyn TableLike) -> bool {
    table.get("enabled").and_then(Item::as_bool) != Some(false)
}

fn banned(list: Option<&Item>) -> BTreeSet<String> {
    let list = list.and_then(Item::as_array);
    list.into_iter().flatten().filter_map(|network| network.as_str()).map(str::to_owned).collect()
}

const SECTIONS: [(&str, &[(&str, Rule)]); 2] = [("users", narrowed::USER), ("actions", narrowed::ACTION)];

/// What names a user's keys.
const KEYS: [&str; 2] = ["hmac_key", "totp_key"];
