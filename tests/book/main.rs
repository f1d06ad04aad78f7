//! The book says what is so: no chapter is missing, no link leads nowhere, every command and key that it names is there.
#![cfg(all(feature = "client", feature = "server", feature = "sqlite"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "a test stops at what it did not expect"
)]

mod commands;
mod cookbook;
mod links;
mod operations;
mod page;
mod pictures;
mod reference;
mod security;
mod start;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};

/// Below the repository's root.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The pages below docs, by their paths from the root, in order.
fn chapters() -> Vec<String> {
    let files = fs::read_dir(file("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut pages: Vec<String> = files
        .map(|name| format!("docs/{}", name.to_str().unwrap()))
        .filter(|name| name.ends_with(".md") && name != "docs/SUMMARY.md")
        .collect();
    pages.sort();
    pages
}

/// Every document that people read.
fn documents() -> Vec<String> {
    let mut all = chapters();
    all.extend(["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned));
    all
}
