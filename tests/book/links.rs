//! Chapters and links.

use std::path::{Path, PathBuf};

use crate::page::Page;
use crate::{chapters, documents, file, read};

#[test]
fn the_summary_names_every_chapter_once_and_no_other() {
    let summary = Page::parse(&read("docs/SUMMARY.md"));
    let mut named: Vec<String> = summary.links().iter().map(|link| format!("docs/{link}")).collect();
    named.sort();
    assert_eq!(named, chapters());
}

#[test]
fn every_link_and_anchor_leads_somewhere() {
    let mut links = 0;
    for document in documents() {
        let page = Page::parse(&read(&document));
        for link in page.links() {
            if link.starts_with("https://") {
                continue;
            }
            let (target, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let path = if target.is_empty() { document.clone() } else { beside(&document, target) };
            assert!(file(&path).exists(), "{document}: {link}");
            assert!(
                !document.starts_with("docs/") || path.starts_with("docs/"),
                "{document}: {link}: the book has no such page, name the file without a link"
            );
            if !anchor.is_empty() {
                let anchors = Page::parse(&read(&path)).anchors();
                assert!(anchors.iter().any(|there| there == anchor), "{document}: {link}: {anchors:?}");
            }
            links += 1;
        }
    }
    assert!(links > 100, "only {links} links were found");
}

#[test]
fn documents_that_the_book_includes_have_no_links_of_their_own() {
    for page in ["docs/contributing.md", "docs/report.md"] {
        let text = read(page);
        let included = text.trim().strip_prefix("{{#include ../").and_then(|rest| rest.strip_suffix("}}"));
        let links = Page::parse(&read(included.unwrap())).links();
        assert!(
            links.iter().all(|link| link.starts_with("https://")),
            "{page}: {links:?} lead elsewhere in the book"
        );
    }
}

/// A link's target, from the root.
fn beside(document: &str, target: &str) -> String {
    let mut path = PathBuf::new();
    for part in &Path::new(document).parent().unwrap().join(target) {
        if part == ".." {
            assert!(path.pop(), "{document}: {target}");
        } else {
            path.push(part);
        }
    }
    path.to_str().unwrap().to_owned()
}
