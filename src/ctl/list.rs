//! `siglatchctl user list` and `action list`: the configuration as tables.

use std::path::Path;

use toml_edit::{Array, Item, TableLike};

use super::document::Document;
use super::user::{exchanged, key_state};
use crate::exit::{self, Failure};

/// Lists the users of the configuration.
pub(super) fn users(config: &Path) -> Result<(), Failure> {
    let document = Document::open(config)?;
    let mut rows =
        vec![["USER", "ID", "ACTIONS", "KEY", "STATE", "ENABLED", "UNTIL", "KNOCKS"].map(str::to_owned)];
    let exchanged = exchanged(&document);
    rows.extend(document.entries("users").map(|(name, user)| {
        let state = key_state(&document, &exchanged, name, user).to_owned();
        let (until, knocks) = (value(user, "not_after"), value(user, "max_knocks"));
        let actions = texts(user, "actions", ", ");
        [name.to_owned(), id(user), actions, text(user, "hmac_key"), state, enabled(user), until, knocks]
    }));
    exit::say(&exit::columns(&rows))
}

/// Lists the actions of the configuration, each with the users that may knock for it.
pub(super) fn actions(config: &Path) -> Result<(), Failure> {
    let document = Document::open(config)?;
    let mut rows = vec![["ACTION", "ID", "USERS", "RUNS", "ENABLED"].map(str::to_owned)];
    rows.extend(document.entries("actions").map(|(name, action)| {
        let may = |user: &dyn TableLike| elements(user, "actions").any(|permitted| permitted == name);
        let users = document.entries("users").filter(|(_, user)| may(*user));
        let users: Vec<&str> = users.map(|(user, _)| user).collect();
        [name.to_owned(), id(action), or_none(users.join(", ")), runs(action), enabled(action)]
    }));
    exit::say(&exit::columns(&rows))
}

fn id(entry: &dyn TableLike) -> String {
    let id = entry.get("id").and_then(Item::as_integer);
    or_none(id.map(|id| id.to_string()).unwrap_or_default())
}

fn text(entry: &dyn TableLike, key: &str) -> String {
    or_none(entry.get(key).and_then(Item::as_str).unwrap_or_default().to_owned())
}

/// As it is written.
fn value(entry: &dyn TableLike, key: &str) -> String {
    let value = entry.get(key).and_then(Item::as_value);
    or_none(value.map(|value| value.clone().decorated("", "").to_string()).unwrap_or_default())
}

fn texts(entry: &dyn TableLike, key: &str, between: &str) -> String {
    or_none(elements(entry, key).collect::<Vec<_>>().join(between))
}

/// What it starts, or what the daemon does itself.
fn runs(action: &dyn TableLike) -> String {
    let nft = action.get("nft").and_then(Item::as_table_like);
    match (action.get("builtin").and_then(Item::as_str), nft) {
        (Some(builtin), _) => format!("builtin {builtin}"),
        (None, Some(door)) => format!("nft {} {}", text(door, "table"), text(door, "set")),
        (None, None) => texts(action, "run", " "),
    }
}

fn elements<'a>(entry: &'a dyn TableLike, key: &str) -> impl Iterator<Item = &'a str> {
    let list: Option<&Array> = entry.get(key).and_then(Item::as_array);
    list.into_iter().flatten().filter_map(|element| element.as_str())
}

fn enabled(entry: &dyn TableLike) -> String {
    match entry.get("enabled").and_then(Item::as_bool) {
        Some(false) => "no".to_owned(),
        Some(true) | None => "yes".to_owned(),
    }
}

fn or_none(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
