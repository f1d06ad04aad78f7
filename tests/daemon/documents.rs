//! What the documents say is so: their commands are run, their tables are complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use siglatch::reason::DropReason;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_readmes_commands_take_a_newcomer_to_ssh_behind_a_knock() {
    if !nix::unistd::geteuid().is_root() {
        return crate::common::skipped("two hosts in network namespaces need root");
    }
    let binaries = Path::new(env!("CARGO_BIN_EXE_siglatchd")).parent().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readme.sh");
    let output = Command::new("bash").arg(script).arg(binaries).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("the README's commands work"), "{said}");
}

#[test]
fn the_catalogue_has_every_code_and_no_other() {
    let catalogue = read("docs/codes.md");
    let rows: BTreeSet<&str> =
        catalogue.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut codes: BTreeSet<String> = DropReason::ALL.iter().map(|reason| reason.code().to_owned()).collect();
    assert!(codes.len() > 20);
    for reason in DropReason::ALL {
        assert!(catalogue.contains(&format!("| `{reason}` | {} |", reason.meaning())), "{reason}");
    }
    let mut todo = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/keeper")];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = fs::read_to_string(path).unwrap().replace(char::is_whitespace, "");
        for quoted in ["code=\"", "(\"code\",Value::from(\"", ";speak(\"", "{speak(\""] {
            codes.extend(text.split(quoted).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
    }
    let codes: BTreeSet<&str> = codes.iter().map(String::as_str).collect();
    assert_eq!(rows, codes);
}

#[test]
fn the_readmes_table_has_every_key_of_the_documented_configuration() {
    let readme = read("README.md");
    let config = read("config/siglatchd.toml");
    let mut keys = 0;
    for line in config.lines() {
        let Some((key, _)) = line.strip_prefix('#').unwrap_or(line).split_once(" = ") else {
            continue;
        };
        if key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_') {
            assert!(readme.contains(&format!("`{key}`")), "`{key}` is missing in the README");
            keys += 1;
        }
    }
    assert!(keys > 40, "only {keys} keys were found");
}

#[test]
fn the_documents_links_lead_somewhere() {
    let mut links = 0;
    for document in
        ["README.md", "SECURITY.md", "CHANGELOG.md", "docs/codes.md", "docs/install.md", "docs/metrics.md"]
    {
        let folder = Path::new(document).parent().unwrap();
        for target in
            read(document).split("](").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned())
        {
            if target.starts_with("https://") {
                continue;
            }
            let file = target.split('#').next().unwrap();
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(file);
            assert!(path.exists(), "{document}: {target}");
            links += 1;
        }
    }
    assert!(links >= 2, "only {links} links were found");
}
