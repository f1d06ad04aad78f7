//! `[action:NAME]`

use std::collections::BTreeMap;
use std::path::Path;

use super::server::{ALWAYS, OVERFLOW};
use super::{ActionId, Entry, Moving, Names, Section, Table, Taken, UNKNOWN, check_program, run_as};
use crate::wire::invite::Name;

/// All of them, and what they are called now.
pub(super) fn all<'a>(moving: &mut Moving<'a>) -> BTreeMap<&'a str, Taken> {
    let mut names = Names::default();
    let mut ids = BTreeMap::new();
    let mut taken = BTreeMap::new();
    let ini = moving.old.ini;
    for section in ini.all("action") {
        let name = names.take(&section.name);
        if name != section.name {
            moving.left(section, None, format!("is called {name}: {}", Name::RULE));
        }
        let mut table = Table::of("actions", &name);
        action(moving, section, &mut table, &mut ids);
        taken.insert(section.name.as_str(), if table.is_off() { Taken::Off } else { Taken::As(name) });
        moving.tables.push(table);
    }
    taken
}

fn action(moving: &mut Moving<'_>, section: &Section, table: &mut Table, ids: &mut BTreeMap<u8, String>) {
    id(moving, section, table, ids);
    run(moving, section, table);
    let enabled = section.get("enabled").is_none_or(|entry| moving.yes(section, entry));
    let mut offered = moving.old.server.get("actions").into_iter().flat_map(Entry::list);
    let offered = offered.any(|name| name == section.name);
    if !enabled || !offered {
        table.put("enabled", false);
    }
    if !offered {
        moving.left(section, None, "switched off: it is not among the server's `actions`");
    }
    for entry in &section.entries {
        setting(moving, section, entry, table);
    }
}

fn setting(moving: &mut Moving<'_>, section: &Section, entry: &Entry, table: &mut Table) {
    match entry.key.as_str() {
        "id" | "constructor" | "exec_split" | "enabled" | "handler" | "builtin" | "object"
        | "object_path" | "label" | "name" => {}
        "run_as" => match run_as(&entry.value) {
            Ok(()) => table.put("run_as", entry.value.as_str()),
            Err(what) => moving.off(section, Some(entry), table, what),
        },
        "allowed_ips" => moving.allow_from(section, entry, table),
        "require_ascii" => {
            if moving.yes(section, entry) {
                table.put("payload", "ascii");
            }
        }
        "destructor" => {
            let hold = section.get("keepalive_interval").map_or("300", |entry| entry.value.as_str());
            table.comment("To have it closed again: hold = \"...s\" and undo = [...], from");
            table.comment(&format!("destructor = {}, keepalive_interval = {hold}", entry.value));
            moving.decide(
                section,
                Some(entry),
                "siglatch v1 never ran it: write `hold` and `undo`, if it is to run now",
            );
        }
        "keepalive_interval" if section.get("destructor").is_none() => {
            moving.left(section, Some(entry), "does nothing without a destructor");
        }
        "keepalive_interval" => {}
        "payload_overflow" => moving.left(section, Some(entry), OVERFLOW),
        "enforce_wire_auth" | "reject_wire_auth_error" => moving.left(section, Some(entry), ALWAYS),
        _ => moving.decide(section, Some(entry), UNKNOWN),
    }
}

fn id(moving: &mut Moving<'_>, section: &Section, table: &mut Table, ids: &mut BTreeMap<u8, String>) {
    let entry = section.get("id");
    let id = entry.and_then(|entry| entry.value.parse::<u8>().ok());
    let Some(id) = id.filter(|id| ActionId::new(*id).is_some()) else {
        return moving.off(
            section,
            entry,
            table,
            "takes a number from 1 to 255: a packet has one byte for it",
        );
    };
    table.put("id", i64::from(id));
    match ids.get(&id).cloned() {
        Some(other) => {
            let what = format!("{other} has the id {id} already, and siglatch v1 asks the first");
            moving.off(section, entry, table, what);
        }
        None => drop(ids.insert(id, section.title())),
    }
}

/// siglatch v1 cuts a constructor once: program, and one argument with all that is left.
fn run(moving: &mut Moving<'_>, section: &Section, table: &mut Table) {
    if let Some(handler) = section.get("handler").filter(|entry| !entry.value.eq_ignore_ascii_case("shell")) {
        let builtin = section.get("builtin").map_or("", |entry| entry.value.as_str());
        let what = match builtin {
            "version" | "list_users" => format!("write builtin = {builtin:?}; plain knocks, as siglatch v1 clients send them, cannot ask for it"),
            "reload_config" => "write builtin = \"reload\"; plain knocks, as siglatch v1 clients send them, cannot ask for it".to_owned(),
            _ => "runs inside of siglatch v1: write a program for it, and name it in `run`".to_owned(),
        };
        return moving.off(section, Some(handler), table, what);
    }
    let Some(entry) = section.get("constructor").filter(|entry| !entry.value.is_empty()) else {
        return moving.off(section, None, table, "has no `constructor`");
    };
    let split = section.get("exec_split").is_none_or(|entry| moving.yes(section, entry));
    let words = match entry.value.split_once(' ').filter(|_| split) {
        Some((program, argument)) => vec![program, argument.trim_start_matches(' ')],
        None => vec![entry.value.as_str()],
    };
    let program = words.first().copied().unwrap_or_default();
    table.list("run", &words);
    if let Err(bad) = check_program(Path::new(program)) {
        let hint = bad.hint.clone().map(|hint| format!(" ({hint})")).unwrap_or_default();
        moving.off(section, Some(entry), table, format!("{bad}{hint}"));
    }
}
