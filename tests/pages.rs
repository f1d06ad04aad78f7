//! Manual pages and completions: made of the command lines as they are, for each command, and read by what reads them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at what it did not expect"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

const PROGRAMS: [(&str, &str, &str); 3] = [
    (env!("CARGO_BIN_EXE_siglatch"), "siglatch", "1"),
    (env!("CARGO_BIN_EXE_siglatchctl"), "siglatchctl", "8"),
    (env!("CARGO_BIN_EXE_siglatchd"), "siglatchd", "8"),
];

fn made() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    run(env!("CARGO_BIN_EXE_siglatch-pages"), &[folder.path().to_str().unwrap()]);
    folder
}

/// What a program says, which succeeds.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).env("LC_ALL", "C.UTF-8").output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {args:?}:\n{said}");
    said
}

/// Every command that `--help` tells of, with its words.
fn commands(program: &str, words: &[String], found: &mut Vec<Vec<String>>) {
    found.push(words.to_vec());
    let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
    args.push("--help");
    let help = run(program, &args);
    let Some((_, listed)) = help.split_once("\nCommands:\n") else { return };
    for line in listed.lines().take_while(|line| !line.is_empty()) {
        let name = line.split_whitespace().next().unwrap();
        // What is wrapped stands further right.
        if line.starts_with("  ") && !line.starts_with("   ") && name != "help" {
            commands(program, &[words, &[name.to_owned()]].concat(), found);
        }
    }
}

#[test]
fn every_command_has_a_page_with_each_of_its_options() {
    let folder = made();
    let mut pages = 0;
    for (program, name, section) in PROGRAMS {
        let mut found = Vec::new();
        commands(program, &[], &mut found);
        for words in found {
            let page = [&[name.to_owned()], &words[..]].concat().join("-");
            let file = folder.path().join(format!("man/{page}.{section}"));
            let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{page}: {error}"));
            let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
            args.push("--help");
            for line in run(program, &args).lines() {
                let word = line
                    .split_whitespace()
                    .find(|word| word.starts_with("--"))
                    .filter(|_| line.trim_start().starts_with('-'));
                // An option's value may be left out: `--qr[=<FILE>]`.
                let word = word.and_then(|word| word.split(['[', '=']).next());
                if let Some(option) = word.map(|word| word.trim_end_matches(','))
                    && option != "--help"
                {
                    assert!(text.contains(&option.replace('-', "\\-")), "{page} lacks {option}");
                }
            }
            pages += 1;
        }
    }
    assert!(pages > 40, "only {pages} pages");
    let files = fs::read_dir(folder.path().join("man")).unwrap().count();
    assert_eq!(files, pages + 1, "one for each command, and siglatchd.toml(5)");
}

#[test]
fn man_shows_the_pages_and_warns_of_nothing() {
    let folder = made();
    for file in fs::read_dir(folder.path().join("man")).unwrap() {
        let file = file.unwrap().path();
        let shown = Command::new("man")
            .args(["--warnings", "--encoding=UTF-8", "--local-file", file.to_str().unwrap()])
            .env("LC_ALL", "C.UTF-8")
            .env("MANWIDTH", "100")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&shown.stderr);
        assert!(shown.status.success() && said.is_empty(), "{}: {said}", file.display());
        assert!(shown.stdout.len() > 200, "{}", file.display());
    }
    let page = run("man", &["--local-file", folder.path().join("man/siglatchd.toml.5").to_str().unwrap()]);
    assert!(page.contains("listen = [\"0.0.0.0:50000\""), "{page}");
}

#[test]
fn the_same_bytes_come_out_each_time() {
    let read = |folder: &Path| -> BTreeMap<String, Vec<u8>> {
        let places = ["man", "bash", "zsh", "fish"].map(|place| folder.join(place));
        let files =
            places.iter().flat_map(|place| fs::read_dir(place).unwrap()).map(|file| file.unwrap().path());
        files
            .map(|file| (file.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&file).unwrap()))
            .collect()
    };
    let (one, other) = (made(), made());
    assert_eq!(read(one.path()), read(other.path()));
}

#[test]
fn shells_complete_commands_and_options() {
    let folder = made();
    let at = folder.path().display();
    for (words, wanted) in
        [("siglatch kno", "knock"), ("siglatchctl user a", "add"), ("siglatchd --ch", "--check")]
    {
        let name = words.split(' ').next().unwrap();
        let script = format!(
            "source {at}/bash/{name}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             \"$(complete -p {name} | sed 's/.* -F \\([^ ]*\\) .*/\\1/')\" {name} \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        assert_eq!(run("bash", &["-c", &script]).trim(), wanted, "bash: {words}");
        let said = run(
            "fish",
            &[
                "--no-config",
                "-c",
                &format!("source {at}/fish/{name}.fish; complete --do-complete '{words}'"),
            ],
        );
        assert!(said.lines().any(|line| line.split('\t').next() == Some(wanted)), "fish: {words}: {said}");
        run("zsh", &["-n", &format!("{at}/zsh/_{name}")]);
    }
}
