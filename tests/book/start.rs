//! The first page: whatever is typed there is typed by a test.

use crate::page::{Block, Page};
use crate::read;

#[test]
fn every_command_of_the_first_page_is_run_by_a_test() {
    let page = Page::parse(&read("docs/start.md"));
    let mut blocks = 0;
    for block in &page.blocks {
        let marker = block.marker.as_deref();
        match marker {
            // By tests/readme.sh.
            Some("server" | "client" | "server later") => {}
            Some("packages") => block.text.lines().for_each(is_typed),
            Some(_) | None => panic!("nobody runs this: {}", block.text),
        }
        assert_eq!(block.language, "sh");
        blocks += 1;
    }
    assert!(blocks > 8, "only {blocks} blocks");
}

/// By what tests the packages.
fn is_typed(line: &str) {
    let scripts = ["tests/package/boot.sh", "tests/package/install.sh", "scripts/check"].map(read);
    let command = line.split(" #").next().unwrap();
    let words = command.split_whitespace().map(|word| word.rsplit('/').next().unwrap());
    let typed = scripts.iter().flat_map(|script| script.lines()).any(|line| {
        let mut rest = line;
        words.clone().all(|word| {
            // The test has an older package, too.
            let start = word.split('*').next().unwrap();
            rest.split_once(start).map(|(_, behind)| rest = behind).is_some()
        })
    });
    assert!(typed, "no test of the packages types: {command}");
}

#[test]
fn the_quick_start_is_a_part_of_the_first_page() {
    let lines = |page: &Page, marker: &str| -> Vec<String> {
        let is_there = |block: &&Block| block.marker.as_deref() == Some(marker);
        let text: String = page.blocks.iter().filter(is_there).map(|block| block.text.as_str()).collect();
        text.lines().map(str::to_owned).collect()
    };
    let (readme, page) = (Page::parse(&read("README.md")), Page::parse(&read("docs/start.md")));
    let mut count = 0;
    for marker in ["server", "client"] {
        let all = lines(&page, marker);
        let mut rest = all.iter();
        for line in lines(&readme, marker) {
            assert!(
                rest.any(|other| *other == line),
                "{marker}: not on the first page, or not in this order: {line}"
            );
            count += 1;
        }
    }
    assert!(count > 15, "only {count} lines");
}
