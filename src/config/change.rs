//! Settings that are changed by name: which there are, when each takes effect, and how it is written into the text of a
//! configuration, whose comments and order stay.
//!
//! What a program runs, as whom, and with which key is not among them: that is written by hand, and reloaded.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml_edit::{Decor, DocumentMut, Item, RawString, Table, TableLike, Value};

use super::resolved::Role;
use super::shape::{closest, dotted};

/// One setting, and what to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Change {
    /// Dotted, as in `limits.user_rate` or `users.alice.enabled`.
    pub key: String,
    /// Its value in TOML; none: what it is if nothing is written.
    pub value: Option<String>,
}

/// What came of a change, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Taken {
    /// Which.
    pub change: Change,
    /// When it is in force.
    pub takes: Takes,
    /// The variable of the daemon's environment that stands over its files for it: what a file says is not in force after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under: Option<String>,
}

/// When a setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Takes {
    /// At once.
    Live,
    /// When the daemon starts.
    AtRestart,
}

/// One that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChange {
    /// There is no such setting, or it is none that is changed by name.
    #[error("`{key}` is not a setting that can be changed here; {hint}")]
    NoSetting {
        /// As it was asked for.
        key: String,
        /// What may have been meant, or is to be done instead.
        hint: String,
    },
    /// Its value is no TOML.
    #[error("`{key}`: {what}")]
    NoValue {
        /// As it was asked for.
        key: String,
        /// What is wrong with it.
        what: String,
    },
}

/// Whether a text holds what a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It has another value now.
    Changed,
    /// It had this value.
    Same,
    /// It has no such user or action.
    NotHere,
}

impl Change {
    /// As people write it: what is no TOML is text, so that `debug` need not be quoted twice.
    ///
    /// # Errors
    ///
    /// [`BadChange`].
    pub fn parse(key: &str, value: &str) -> Result<Change, BadChange> {
        let value: Value = match value.trim().parse() {
            Ok(value) => value,
            Err(_) if value.starts_with(['"', '\'', '[', '{']) => {
                return Err(BadChange::NoValue { key: key.to_owned(), what: "this is no TOML".to_owned() });
            }
            Err(_) => Value::from(value),
        };
        let change = Change { key: key.to_owned(), value: Some(value.decorated("", "").to_string()) };
        change.setting().map(|_| change.clone())
    }

    /// When it takes effect.
    ///
    /// # Errors
    ///
    /// [`BadChange::NoSetting`].
    pub fn takes(&self) -> Result<Takes, BadChange> {
        self.setting().map(|(setting, _)| setting.takes)
    }

    /// The least that one must be to ask for it.
    pub fn role(&self) -> Role {
        let role = self.setting().map_or(Role::Operator, |(setting, _)| setting.role);
        match (self.key.as_str(), self.value.as_deref()) {
            // Nobody hides by it what he does.
            ("log.level", Some("\"info\"" | "\"debug\"" | "\"trace\"") | None) => Role::Operator,
            _ => role,
        }
    }

    /// Writes it into a configuration.
    ///
    /// # Errors
    ///
    /// [`BadChange`]: the text is as it was.
    pub fn apply(&self, document: &mut DocumentMut) -> Result<Applied, BadChange> {
        let (_, path) = self.setting()?;
        let value = self.value.as_deref().map(|text| self.value_of(text)).transpose()?;
        let Some((last, tables)) = path.split_last() else {
            return Ok(Applied::NotHere);
        };
        let Some(table) = descend(document.as_table_mut(), tables) else {
            return Ok(Applied::NotHere);
        };
        Ok(put(table, last, value))
    }

    fn value_of(&self, text: &str) -> Result<Value, BadChange> {
        text.parse().map_err(|bad: toml_edit::TomlError| BadChange::NoValue {
            key: self.key.clone(),
            what: bad.message().to_owned(),
        })
    }

    /// Which it is, and where it stands.
    fn setting(&self) -> Result<(&'static Setting, Vec<&str>), BadChange> {
        let found = SETTINGS.iter().find_map(|setting| Some((setting, path(setting.key, &self.key)?)));
        found.ok_or_else(|| {
            let hint = match self.meant() {
                Some(key) => format!("did you mean `{key}`?"),
                None => "edit the file, then `siglatchctl reload`".to_owned(),
            };
            BadChange::NoSetting { key: self.key.clone(), hint }
        })
    }

    /// The setting in the same table with a name like this one's.
    fn meant(&self) -> Option<String> {
        let split = |key: &'static str| key.rsplit_once('.').unwrap_or(("", key));
        let (table, name) = self.key.rsplit_once('.').unwrap_or(("", &self.key));
        let there = SETTINGS.iter().map(|setting| split(setting.key));
        let same = |other: &str| match other.strip_suffix('*') {
            Some(tables) => table.strip_prefix(tables).is_some_and(|name| !name.is_empty()),
            None => other == table,
        };
        let names = there.filter(|(other, _)| same(other)).map(|(_, name)| name);
        closest(name, names).map(|name| dotted(table, name))
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {value}", self.key),
            None => write!(f, "{} as it is by default", self.key),
        }
    }
}

/// Settings in the order of making: of two for one key the later counts.
pub fn merge(old: &[Change], new: &[Change]) -> Vec<Change> {
    let mut merged: Vec<Change> =
        old.iter().filter(|old| new.iter().all(|new| new.key != old.key)).cloned().collect();
    for (at, change) in new.iter().enumerate() {
        if new.iter().skip(at.saturating_add(1)).all(|later| later.key != change.key) {
            merged.push(change.clone());
        }
    }
    merged
}

/// The table of a key. Those of the server are made if they are missing; users and actions are not.
fn descend<'a>(root: &'a mut Table, path: &[&str]) -> Option<&'a mut dyn TableLike> {
    let mut table: &mut dyn TableLike = root;
    for (depth, name) in path.iter().enumerate() {
        if depth == 0 && path.len() == 1 && !table.contains_key(name) {
            table.insert(name, Item::Table(Table::new()));
        }
        table = table.get_mut(name)?.as_table_like_mut()?;
    }
    Some(table)
}

fn put(table: &mut dyn TableLike, key: &str, value: Option<Value>) -> Applied {
    let plain = |item: &Item| item.as_value().map(|value| value.clone().decorated("", "").to_string());
    let old = table.get(key).and_then(plain);
    let Some(value) = value else {
        take_out(table, key);
        return if old.is_some() { Applied::Changed } else { Applied::Same };
    };
    if old == Some(value.clone().decorated("", "").to_string()) {
        return Applied::Same;
    }
    match table.get_mut(key) {
        // A comment behind the old value stays.
        Some(Item::Value(there)) => {
            let decor = there.decor().clone();
            *there = value;
            *there.decor_mut() = decor;
        }
        Some(Item::None | Item::Table(_) | Item::ArrayOfTables(_)) | None => {
            table.insert(key, Item::Value(value.decorated(" ", "")));
        }
    }
    Applied::Changed
}

/// What stands above it as a comment goes to what comes next.
fn take_out(table: &mut dyn TableLike, key: &str) {
    let text = |decor: &Decor| decor.prefix().and_then(RawString::as_str).unwrap_or_default().to_owned();
    let above = table.key(key).map(|key| text(key.leaf_decor())).unwrap_or_default();
    let next = table.iter().map(|(name, _)| name.to_owned()).skip_while(|name| name != key).nth(1);
    table.remove(key);
    let Some(next) = next.filter(|_| above.contains('#')) else { return };
    if let Some(next) = table.get_mut(&next).and_then(first_header) {
        let prefix = above + &text(next.decor());
        next.decor_mut().set_prefix(prefix);
    } else if let Some(mut next) = table.key_mut(&next) {
        let prefix = above + &text(next.leaf_decor());
        next.leaf_decor_mut().set_prefix(prefix);
    }
}

/// The first table at or below this that has a header of its own.
fn first_header(item: &mut Item) -> Option<&mut Table> {
    let table = item.as_table_mut()?;
    if !table.is_implicit() {
        return Some(table);
    }
    table.iter_mut().find_map(|(_, item)| first_header(item))
}

/// The tables and the name that a key is made of, if it is of this kind. The names of users and actions may have dots.
fn path<'a>(pattern: &'a str, key: &'a str) -> Option<Vec<&'a str>> {
    let Some((table, last)) = pattern.split_once(".*.") else {
        return (pattern == key).then(|| key.split('.').collect());
    };
    let name = key.strip_prefix(table)?.strip_prefix('.')?.strip_suffix(last)?.strip_suffix('.')?;
    (!name.is_empty()).then(|| vec![table, name, last])
}

/// One that is changed by name.
#[derive(Debug)]
pub struct Setting {
    /// Dotted; `*` is any name.
    pub key: &'static str,
    /// When it takes effect.
    pub takes: Takes,
    /// The least that one must be to change it.
    pub role: Role,
}

const fn live(key: &'static str, role: Role) -> Setting {
    Setting { key, takes: Takes::Live, role }
}

const fn at_restart(key: &'static str) -> Setting {
    Setting { key, takes: Takes::AtRestart, role: Role::Admin }
}

/// All of them.
pub const SETTINGS: &[Setting] = &[
    live("users.*.enabled", Role::Operator),
    live("actions.*.enabled", Role::Operator),
    live("log.level", Role::Admin),
    live("log.summary", Role::Operator),
    live("log.refused_per_minute", Role::Operator),
    live("deny_from", Role::Operator),
    live("allow_from", Role::Admin),
    live("require_stamp", Role::Admin),
    live("bind", Role::Admin),
    live("reply", Role::Admin),
    live("freshness", Role::Admin),
    live("limits.user_rate", Role::Admin),
    live("limits.user_burst", Role::Admin),
    live("limits.prefix_rate", Role::Admin),
    live("limits.prefix_burst", Role::Admin),
    live("limits.prefixes", Role::Admin),
    live("limits.nonce_cache", Role::Admin),
    live("limits.max_jobs", Role::Admin),
    live("limits.max_doors", Role::Admin),
    live("users.*.actions", Role::Admin),
    live("users.*.allow_from", Role::Admin),
    live("users.*.not_after", Role::Admin),
    live("users.*.max_knocks", Role::Admin),
    live("users.*.quota", Role::Admin),
    live("users.*.cooldown", Role::Admin),
    live("users.*.hours", Role::Admin),
    live("users.*.require_stamp", Role::Admin),
    live("users.*.bind", Role::Admin),
    live("users.*.reply", Role::Admin),
    live("actions.*.allow_from", Role::Admin),
    live("actions.*.quota", Role::Admin),
    live("actions.*.cooldown", Role::Admin),
    live("actions.*.hours", Role::Admin),
    live("actions.*.timeout", Role::Admin),
    live("actions.*.hold", Role::Admin),
    live("actions.*.max_hold", Role::Admin),
    live("actions.*.max_running", Role::Admin),
    live("actions.*.bind", Role::Admin),
    live("actions.*.reply", Role::Admin),
    live("actions.*.totp", Role::Admin),
    at_restart("listen"),
    at_restart("private_key"),
    at_restart("old_private_key"),
    at_restart("state_dir"),
    at_restart("runtime_dir"),
    at_restart("store"),
    at_restart("sandbox"),
    at_restart("listener_user"),
    at_restart("limits.workers"),
    at_restart("limits.queue"),
    at_restart("limits.max_claims"),
    at_restart("log.format"),
    at_restart("control.group"),
    at_restart("control.listen"),
    at_restart("control.token"),
];

#[cfg(test)]
mod tests;
