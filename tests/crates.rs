//! docs/crates.md has every crate that the programs are built of, with the version that is asked for, and no other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test stops at what it did not expect"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn every_crate_from_outside_is_in_the_document_with_its_version() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let wanted: BTreeMap<String, String> = manifest["dependencies"]
        .as_table()
        .unwrap()
        .iter()
        .map(|(name, value)| {
            (name.clone(), value.get("version").unwrap_or(value).as_str().unwrap().to_owned())
        })
        .collect();
    let document = read("docs/crates.md");
    let rows: Vec<(String, String)> = document
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            Some((cells.next()?.strip_suffix('`')?.to_owned(), cells.next()?.to_owned()))
        })
        .collect();
    let named: BTreeMap<String, String> = rows.iter().cloned().collect();
    assert_eq!(named.len(), rows.len(), "one stands there twice");
    assert!(wanted.len() > 40, "only {} were found", wanted.len());
    assert_eq!(named, wanted);
}

#[test]
fn what_is_said_of_advisories_is_what_cargo_deny_is_told() {
    let deny: toml::Table = read("deny.toml").parse().unwrap();
    let document = read("docs/crates.md");
    let ignored = deny["advisories"]["ignore"].as_array().unwrap();
    for advisory in ignored {
        let id = advisory["id"].as_str().unwrap();
        assert!(document.contains(&format!("| {id} ")), "docs/crates.md does not answer {id}");
    }
    assert_eq!(document.matches("\n| RUSTSEC-").count(), ignored.len());
}
