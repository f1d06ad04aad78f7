//! The reference of the configuration: made of the types and of the table of settings, tried on what siglatchd reads its
//! configuration with. Meanings are written by hand, in the page, and stay when it is made anew:
//!
//! ```sh
//! SIGLATCH_RENEW=1 cargo test --all-features --test book
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use siglatch::config::change::{SETTINGS, Takes};
use siglatch::config::resolved::Role;
use siglatch::config::{self, Loaded, Problems};

use crate::page::Page;
use crate::{file, read};

/// One key, as src/config/raw.rs has it.
struct Key {
    /// Dotted, `users.*.bind`.
    path: String,
    name: String,
    /// "text"; none where the value tells several apart.
    kind: Option<&'static str>,
}

/// A table of keys.
struct Section {
    title: String,
    keys: Vec<Key>,
}

#[test]
fn the_reference_has_every_key_with_its_type_and_when_it_takes_effect() {
    let old = read("docs/reference.md");
    let mut page = String::new();
    let mut sections = sections().into_iter();
    let mut section = None;
    for line in old.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = sections.next();
            assert_eq!(section.as_ref().map(|section| section.title.as_str()), Some(title));
        }
        // The table is made anew where it begins.
        if !line.starts_with('|') || section.is_none() && !page.contains("\n## ") {
            page.push_str(line);
            page.push('\n');
        } else if let Some(section) = section.take() {
            page.push_str(&table(&section, &old));
        }
    }
    assert!(sections.next().is_none(), "a table is missing");
    if std::env::var_os("SIGLATCH_RENEW").is_some() {
        fs::write(file("docs/reference.md"), &page).unwrap();
    }
    assert!(page == read("docs/reference.md"), "docs/reference.md is stale: SIGLATCH_RENEW=1 makes it anew");
    let keys = rows(&page);
    assert!(keys.len() > 100, "only {} keys", keys.len());
    for row in keys {
        assert!(!row[1].is_empty() && !row[2].is_empty() && !row[5].is_empty(), "say more about {row:?}");
    }
}

fn table(section: &Section, old: &str) -> String {
    let (_, of_old) = old.split_once(&format!("## {}\n", section.title)).unwrap();
    let of_old = rows(of_old.split("\n## ").next().unwrap());
    let mut text =
        "| key | type | default | limits | when | meaning |\n|---|---|---|---|---|---|\n".to_owned();
    for key in &section.keys {
        let name = format!("`{}`", key.name);
        let row = of_old.iter().find(|row| row[0] == name);
        let cell = |at: usize| row.map_or("", |row| row[at].as_str());
        let kind = key.kind.unwrap_or_else(|| cell(1));
        let (default, limits, meaning) = (cell(2), cell(3), cell(5));
        text += &format!("| {name} | {kind} | {default} | {limits} | {} | {meaning} |\n", when(&key.path));
    }
    text
}

fn when(path: &str) -> String {
    let setting = SETTINGS.iter().find(|setting| setting.key == path);
    match setting.map(|setting| (setting.takes, setting.role)) {
        Some((Takes::Live, Role::Admin)) => "set, admin".to_owned(),
        Some((Takes::Live, Role::Operator)) => "set, operator".to_owned(),
        Some((Takes::Live, Role::Viewer)) => panic!("a viewer sets {path}"),
        Some((Takes::AtRestart, _)) => "restart".to_owned(),
        None if path.starts_with("audit") => "restart".to_owned(),
        None => "reload".to_owned(),
    }
}

/// The rows of keys.
fn rows(text: &str) -> Vec<Vec<String>> {
    Page::parse(text).rows().into_iter().filter(|row| row.len() == 6 && row[0].starts_with('`')).collect()
}

/// What src/config/raw.rs says.
fn sections() -> Vec<Section> {
    let source = read("src/config/raw.rs");
    let structs = source.split("\n/// ").filter(|part| part.contains("pub(super) struct Raw"));
    structs
        .filter(|part| !part.contains("struct RawIncluded"))
        .map(|part| {
            let title = part.lines().next().unwrap().trim_end_matches('.').to_owned();
            let prefix = match title.trim_matches('`') {
                "nft` of an action" => "actions.*.nft.".to_owned(),
                name => match name.strip_prefix('[') {
                    Some(name) => name.trim_end_matches(']').replace("NAME", "*") + ".",
                    None => String::new(),
                },
            };
            let body = part.split(" {\n").nth(1).unwrap().split("\n}").next().unwrap();
            let fields = body.lines().filter_map(|line| line.trim().strip_prefix("pub(super) "));
            let keys = fields.filter_map(|field| {
                let (name, kind) = field.trim_end_matches(',').split_once(": ").unwrap();
                let kind = match kind {
                    "Option<Text>" => Some("text"),
                    "Option<Texts>" => Some("list of texts"),
                    "Option<Number>" => Some("whole number"),
                    "Option<bool>" => Some("true or false"),
                    "Option<Spanned<BTreeMap<Text, Text>>>" => Some("table of texts"),
                    "Option<Keys<RawNft>>" => Some("table"),
                    "Option<Any>" => None,
                    // Tables of their own.
                    _ if kind.contains("Keys<Raw") => return None,
                    _ => panic!("what is a {kind}?"),
                };
                Some(Key { path: format!("{prefix}{name}"), name: name.to_owned(), kind })
            });
            Section { keys: keys.collect(), title }
        })
        .collect()
}

#[test]
fn defaults_and_limits_are_those_of_the_reference() {
    let site = Site::new();
    let page = read("docs/reference.md");
    let (mut defaults, mut limits) = (0, 0);
    for section in sections() {
        let (_, part) = page.split_once(&format!("## {}\n", section.title)).unwrap();
        let rows = rows(part.split("\n## ").next().unwrap());
        for key in &section.keys {
            let row = rows.iter().find(|row| row[0] == format!("`{}`", key.name)).expect(&key.path);
            let path = key.path.as_str();
            let bare = site.with(path, None).unwrap_or_else(|bad| panic!("{path}: {bad}"));
            if let Some(default) = value(&row[2]) {
                let written = site.with(path, Some(default)).unwrap_or_else(|bad| panic!("{path}: {bad}"));
                assert_eq!(
                    format!("{:?}", written.config),
                    format!("{:?}", bare.config),
                    "{path}: the default is no {default}"
                );
                defaults += 1;
            }
            let allowed: Vec<&str> = row[3].split('`').skip(1).step_by(2).collect();
            let mut differs = false;
            for &value in &allowed {
                let loaded =
                    site.with(path, Some(value)).unwrap_or_else(|bad| panic!("{path} = {value}: {bad}"));
                let at_restart = !bare.config.restart_changes(&loaded.config).is_empty();
                assert!(!at_restart || row[4] == "restart", "{path} = {value}: not before a restart");
                differs |= at_restart;
            }
            assert!(
                row[4] != "restart" || allowed.is_empty() || differs,
                "{path}: does not take a restart, or only one value was tried"
            );
            if let [least, most] = allowed[..]
                && row[3].contains(" to ")
            {
                for beyond in [below(least), above(most)].into_iter().flatten() {
                    assert!(
                        site.with(path, Some(&beyond)).is_err(),
                        "{path} = {beyond} is beyond the limits"
                    );
                    limits += 1;
                }
            } else if !allowed.is_empty() {
                assert!(site.with(path, Some("\"nonsense\"")).is_err(), "{path} is not only these");
                limits += 1;
            }
        }
    }
    assert!(defaults > 40 && limits > 60, "only {defaults} defaults and {limits} limits");
}

/// A cell that is a value and not words about one.
fn value(cell: &str) -> Option<&str> {
    let inner = cell.strip_prefix('`')?.strip_suffix('`')?;
    (inner.starts_with(['"', '[', '{', 't', 'f']) || inner.parse::<i64>().is_ok()).then_some(inner)
}

fn below(least: &str) -> Option<String> {
    match least.parse::<i64>() {
        Ok(number) => Some((number - 1).to_string()),
        Err(_) if least == "\"0s\"" => None,
        Err(_) => Some(if least.ends_with("B\"") { "1" } else { "\"1ms\"" }.to_owned()),
    }
}

fn above(most: &str) -> Option<String> {
    match most.parse::<i64>() {
        Ok(number) => Some((number + 1).to_string()),
        Err(_) if most.ends_with("MiB\"") => Some(
            ((most.trim_matches('"').trim_end_matches("MiB").parse::<i64>().unwrap() << 20) + 1).to_string(),
        ),
        Err(_) => Some(most.trim_end_matches('"').to_owned() + "1ms\""),
    }
}

/// A folder with a configuration that can be used.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let vectors: serde_json::Value =
            serde_json::from_str(&read("tests/vectors/siglatch-v1.json")).unwrap();
        let pem = vectors["private_key_pem"].as_str().unwrap();
        for (name, mode, bytes) in [
            ("server.key.pem", 0o600, pem.as_bytes()),
            ("alice.hmac", 0o600, [7; 32].as_slice()),
            ("enrol.key", 0o600, &[9; 32]),
            ("open", 0o700, b"#!/bin/sh\n"),
        ] {
            put(folder.path(), name, mode, bytes);
        }
        Site(folder)
    }

    /// The configuration with this key written so, or not at all where it can be left out.
    fn with(&self, path: &str, value: Option<&str>) -> Result<Loaded, Problems> {
        let run = format!("run = ['{0}/open']", self.0.path().display());
        let door = format!("{run}\nundo = ['{0}/open']\nhold = '1h'", self.0.path().display());
        let nft = "nft.family = 'inet'\nnft.table = 'siglatch'\nnft.set = 'ssh'";
        let last = path.rsplit('.').next().unwrap();
        let action = match last {
            "builtin" if value.is_some() => "",
            "max_queue" => &format!("{run}\non_busy = 'queue'"),
            "hold" if value.is_none() => &run,
            "hold" => &format!("{run}\nundo = ['{0}/open']", self.0.path().display()),
            "max_hold" => &door.replace("'1h'", "'1s'"),
            "source" => &format!("hold = '1h'\n{nft}\nallow_source = ['192.0.2.0/24']"),
            "family" | "table" | "set" => &format!("hold = '1h'\n{nft}"),
            _ if path.starts_with("actions.*.") => &door,
            _ => &run,
        };
        let tables = [
            (
                "",
                "listen = ['127.0.0.1:1']\nprivate_key = 'server.key.pem'\nenrol_key = 'enrol.key'\n\
                 server_id = '00112233445566778899aabbccddeeff'",
            ),
            ("log", ""),
            ("audit", ""),
            ("limits", ""),
            ("control", ""),
            (
                "admins.*",
                "public_key = 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a'\nrole = 'viewer'",
            ),
            ("users.*", "id = 1\nhmac_key = 'alice.hmac'"),
            ("actions.*", action),
        ];
        let mut text = String::new();
        for (table, keys) in tables {
            if !table.is_empty() {
                text += &format!("\n[{}]\n", table.replace('*', "alice"));
            }
            let mut lines: Vec<String> = keys.lines().map(str::to_owned).collect();
            if table == "actions.*" {
                lines.push("id = 7".to_owned());
            }
            let inside = match table {
                "" => Some(path).filter(|path| !path.contains('.')),
                _ => path.strip_prefix(&format!("{table}.")),
            };
            if let (Some(key), Some(value)) = (inside, value) {
                lines.retain(|line| !line.starts_with(&format!("{key} = ")));
                lines.push(format!("{key} = {value}"));
            }
            text += &(lines.join("\n") + "\n");
        }
        put(self.0.path(), "siglatchd.toml", 0o600, text.as_bytes());
        config::load(&self.0.path().join("siglatchd.toml"))
    }
}

fn put(folder: &Path, name: &str, mode: u32, bytes: &[u8]) {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}
