//! The cookbook: siglatchd takes each recipe, and shellcheck each script.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::page::{Block, Page};
use crate::read;

const TOP: &str = "listen = [\"127.0.0.1:50000\"]\nprivate_key = \"server.key.pem\"\nsandbox = \"off\"\n\
                   server_id = \"00112233445566778899aabbccddeeff\"\nreply = \"receipt\"\n";

#[test]
fn siglatchd_takes_every_recipe_alone_and_all_of_them_together() {
    let page = Page::parse(&read("docs/cookbook.md"));
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let vectors: serde_json::Value = serde_json::from_str(&read("tests/vectors/siglatch-v1.json")).unwrap();
    put(here, "server.key.pem", 0o600, vectors["private_key_pem"].as_str().unwrap());
    put(here, "keys/vault.webhook", 0o600, &"08".repeat(32));
    put(here, "actions/door-ipset", 0o755, &read("scripts/actions/door-ipset"));
    for block in scripts(&page) {
        put(here, block.marker.as_deref().unwrap(), 0o755, &block.text);
    }
    let mut all = TOP.to_owned();
    let mut recipes = 0;
    for block in page.blocks.iter().filter(|block| block.language == "toml") {
        all += &block.text;
        check(here, &format!("{TOP}{}", block.text));
        recipes += 1;
    }
    check(here, &all);
    assert!(recipes > 8, "only {recipes} recipes");
}

#[test]
fn shellcheck_finds_nothing_in_the_scripts_of_the_documents() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    for page in ["docs/cookbook.md", "docs/guide.md"] {
        let page = Page::parse(&read(page));
        for block in page.blocks.iter().filter(|block| block.text.starts_with("#!")) {
            put(folder.path(), &format!("{count}.sh"), 0o755, &block.text);
            count += 1;
        }
    }
    assert!(count > 2, "only {count} scripts");
    let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    match Command::new("shellcheck").args(files).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) if std::env::var_os("SIGLATCH_SKIP_NOTHING").is_none() => {
            println!("SKIPPED: shellcheck: {error}");
        }
        Err(error) => panic!("shellcheck: {error}"),
    }
}

#[test]
fn the_scripts_of_the_cookbook_do_what_it_says() {
    let page = Page::parse(&read("docs/cookbook.md"));
    let folder = tempfile::tempdir().unwrap();
    for block in scripts(&page) {
        let text = block.text.replace("/usr/bin/wakeonlan", "echo woken");
        put(folder.path(), block.marker.as_deref().unwrap(), 0o755, &text);
    }
    let run = |name: &str, said: &str| {
        let path = folder.path().join("actions").join(name);
        let output =
            Command::new("sh").arg("-c").arg(format!("printf '{said}' | {}", path.display())).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run("wake", "nas"), (Some(0), "woken 02:00:5e:10:00:01\n".to_owned()));
    assert_eq!(run("wake", "nas; reboot").0, Some(2));
    let (code, report) = run("report", "");
    assert_eq!((code, report.lines().count()), (Some(0), 3), "{report}");
    assert!(report.len() <= 220, "{report}");
}

fn scripts(page: &Page) -> impl Iterator<Item = &Block> {
    let named = |block: &&Block| block.marker.as_deref().is_some_and(|marker| marker.starts_with("actions/"));
    page.blocks.iter().filter(named)
}

fn check(folder: &Path, text: &str) {
    let here = folder.to_str().unwrap();
    put(folder, "siglatchd.toml", 0o600, &text.replace("/etc/siglatch", here));
    let output = Command::new(env!("CARGO_BIN_EXE_siglatchd"))
        .args(["--check", "--config", &format!("{here}/siglatchd.toml")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn put(folder: &Path, name: &str, mode: u32, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}
