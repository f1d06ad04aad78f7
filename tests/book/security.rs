//! The page about security: what is said to hold something is there.

use std::fs;
use std::path::PathBuf;

use crate::page::Page;
use crate::{file, read};

#[test]
fn every_failure_of_a_predecessor_names_a_test_that_is_there() {
    let page = read("docs/security.md");
    let (_, table) = page.split_once("## What went wrong elsewhere\n").unwrap();
    let rows = Page::parse(table.split("\n## ").next().unwrap()).rows();
    let sources = sources();
    let (mut failures, mut uncovered) = (0, 0);
    for row in rows.iter().filter(|row| row.len() == 3 && row[0] != "seen in") {
        let names: Vec<&str> = row[2].split('`').skip(1).step_by(2).collect();
        let (tests, others): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| name.contains('_') && !name.starts_with("siglatch_"));
        for name in &tests {
            assert!(
                sources.iter().any(|source| source.contains(&format!("#[test]\nfn {name}("))
                    || source.contains(&format!("#[test]\n    fn {name}("))),
                "no test is called {name}: {row:?}"
            );
        }
        let script = others.iter().any(|name| name.starts_with("scripts/") && file(name).exists());
        if tests.is_empty() && !script {
            assert!(row[2].starts_with("no test "), "{row:?}");
            uncovered += 1;
        }
        failures += 1;
    }
    assert!(failures >= 30, "only {failures} failures");
    assert_eq!(uncovered, 1, "more is not covered");
}

/// All sources that may have tests.
fn sources() -> Vec<String> {
    let mut todo: Vec<PathBuf> = ["src", "tests"].map(file).into();
    let mut found = Vec::new();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(fs::read_to_string(path).unwrap());
        }
    }
    found
}
