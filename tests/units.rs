//! The unit that is shipped: systemd takes it, and it confines what it says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops at what it did not expect"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const UNIT: &str = "siglatch-exporter.service";

/// The unit in a folder of its own, as if the program built here were installed.
fn installed() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_siglatchctl")).parent().unwrap().display().to_string();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/systemd").join(UNIT);
    let unit = folder.path().join(UNIT);
    let text = fs::read_to_string(shipped).unwrap().replace("/usr/sbin/", &format!("{programs}/"));
    fs::write(&unit, text).unwrap();
    (folder, unit)
}

fn analyze(args: &[&str], unit: &Path) -> String {
    let output = Command::new("systemd-analyze").args(args).arg(unit).output();
    let output = output.unwrap_or_else(|error| panic!("systemd-analyze: {error}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{args:?}:\n{said}");
    said
}

#[test]
fn systemd_has_nothing_to_say_against_the_exporters_unit_and_finds_it_tight() {
    let (_folder, unit) = installed();
    assert_eq!(analyze(&["verify", "--man=no"], &unit), "");
    let said = analyze(&["security", "--offline=true", "--no-pager"], &unit);
    let line = said.lines().find(|line| line.contains("Overall exposure level")).unwrap();
    let exposure: f32 = line.split(": ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(exposure <= 2.0, "{line}");
}
