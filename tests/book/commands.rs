//! Every command that a document names is there, with the options that it is given.

use std::collections::BTreeMap;
use std::process::Command;

use crate::page::Page;
use crate::{documents, read};

const PROGRAMS: [(&str, &str); 3] = [
    ("siglatch", env!("CARGO_BIN_EXE_siglatch")),
    ("siglatchctl", env!("CARGO_BIN_EXE_siglatchctl")),
    ("siglatchd", env!("CARGO_BIN_EXE_siglatchd")),
];

#[test]
fn every_command_and_option_that_a_document_names_is_there() {
    let mut help = BTreeMap::new();
    for (name, program) in PROGRAMS {
        ask(name, program, &mut vec![name.to_owned()], &mut help);
    }
    assert!(help.len() > 50, "only {} commands", help.len());
    let mut named = 0;
    for document in documents() {
        let page = Page::parse(&read(&document));
        let shells = page.blocks.iter().filter(|block| ["", "sh"].contains(&block.language.as_str()));
        let lines = shells.flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>());
        for text in lines.chain(page.code()) {
            // What is hashed for the id of a kind of log line.
            for command in commands(&text).filter(|command| command[1..] != ["log"]) {
                check(&document, &command, &help);
                named += 1;
            }
        }
    }
    assert!(named > 150, "only {named} commands are named");
}

/// The commands of ours in a line of shell.
fn commands(text: &str) -> impl Iterator<Item = Vec<String>> {
    let text = text.split(" #").next().unwrap().replace("$(", " && ").replace(" | ", " && ");
    let parts: Vec<String> = text.split("&&").map(str::to_owned).collect();
    parts.into_iter().filter_map(|part| {
        let words: Vec<String> =
            part.split_whitespace().skip_while(|word| *word == "$").map(str::to_owned).collect();
        let program = words.first()?;
        PROGRAMS.iter().any(|(name, _)| name == program).then_some(words)
    })
}

fn check(document: &str, command: &[String], help: &BTreeMap<Vec<String>, String>) {
    let known = (1..=command.len()).rev().find(|many| help.contains_key(&command[..*many])).unwrap();
    let text = &help[&command[..known]];
    let shown = command.join(" ");
    if let Some(word) = command.get(known)
        && text.contains("\nCommands:\n")
    {
        let is_word = word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-');
        assert!(!is_word || word.starts_with("--"), "{document}: there is no `{shown}`");
    }
    for word in command.iter().filter(|word| word.starts_with("--") && word.len() > 2) {
        let option = word.split(['=', '[', ',', ')', '"']).next().unwrap();
        assert!(text.contains(option), "{document}: no {option} in `{shown}`");
    }
}

/// What a command and those below it say of themselves.
fn ask(name: &str, program: &str, words: &mut Vec<String>, help: &mut BTreeMap<Vec<String>, String>) {
    let output = Command::new(program).args(&words[1..]).arg("--help").output().unwrap();
    assert!(output.status.success(), "{name}: {words:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    if let Some((_, listed)) = text.split_once("\nCommands:\n") {
        for line in listed.lines().take_while(|line| !line.is_empty()) {
            let word = line.split_whitespace().next().unwrap();
            // What is wrapped stands further right.
            if line.starts_with("  ") && !line.starts_with("   ") && word != "help" {
                words.push(word.to_owned());
                ask(name, program, words, help);
                words.pop();
            }
        }
    }
    help.insert(words.clone(), text);
}
