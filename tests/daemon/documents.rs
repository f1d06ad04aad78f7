//! What the documents say is so: their commands are run, their tables are complete.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use siglatch::reason::DropReason;
use siglatch::wire::invite::Invite;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_first_pages_commands_take_a_newcomer_to_ssh_behind_a_knock() {
    if !nix::unistd::geteuid().is_root() {
        return crate::common::skipped("two hosts in network namespaces need root");
    }
    let binaries = Path::new(env!("CARGO_BIN_EXE_siglatchd")).parent().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readme.sh");
    let output = Command::new("bash").arg(script).arg(binaries).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("the documents' commands work"), "{said}");
}

#[test]
fn a_client_that_was_written_after_the_specification_knocks_and_is_answered() {
    let mut site = crate::common::Site::new();
    site.top += "reply = \"receipt\"\nbind = \"server\"\n";
    let site = site.with_run();
    let daemon = site.start();
    let invite = Invite::parse(&format!(
        "siglatch = 1\nname = \"office\"\nhost = \"127.0.0.1\"\naddresses = [\"192.0.2.1\"]\nport = {}\nserver_id = \"{}\"\n\
         user = \"alice\"\nuser_id = 1\nhmac_key = \"{}\"\nserver_key = \"\"\"\n{}\"\"\"\n[enrol]\nkey = \"{}\"\naction = 255\n\
         [actions]\nother = 2\nrun = {{ id = 1, door = false }}\n",
        daemon.address.port(),
        "07".repeat(16),
        *site.hmac.to_hex(),
        site.key.public().to_pem().unwrap(),
        "cd".repeat(32),
    ));
    let line = invite.unwrap().to_line().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/knock.py");
    let mut client = Command::new("python3");
    client
        .arg(script)
        .args(["run", "hi"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut client = client.spawn().unwrap();
    client.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    let output = client.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("'status': 'done'"), "{said}");
    assert_eq!(daemon.stop().count("ran"), 1);
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
