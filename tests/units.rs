//! The units that are shipped: systemd takes them, they confine what they say, and they name users and folders that are made.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops at what it did not expect"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(path)
}

/// Runs a program; what it said, when it succeeds and says nothing it should not.
fn run(program: &str, args: &[&str]) -> String {
    // systemd-analyze wants a user's to look at his units.
    let runtime = tempfile::tempdir().unwrap();
    let output = Command::new(program).args(args).env("XDG_RUNTIME_DIR", runtime.path()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {args:?}:\n{said}");
    said
}

/// The units in a folder of their own, as if the programs built here were installed.
fn installed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_siglatchd")).parent().unwrap().display().to_string();
    for unit in [
        "siglatchd.service",
        "siglatchd.service.d/strict.conf",
        "siglatchd.socket",
        "siglatch-exporter.service",
        "user/siglatchd.service",
    ] {
        let text = fs::read_to_string(shipped("systemd").join(unit)).unwrap();
        let to = folder.path().join(unit);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, text.replace("/usr/sbin/", &format!("{programs}/"))).unwrap();
    }
    folder
}

/// What `systemd-analyze security` makes of a unit, in tenths.
fn exposure(unit: &Path) -> u32 {
    let said = run("systemd-analyze", &["security", "--offline=true", "--no-pager", unit.to_str().unwrap()]);
    let line =
        said.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_else(|| panic!("{said}"));
    let number = line.split(": ").nth(1).unwrap().split(' ').next().unwrap();
    number.replace('.', "").parse().unwrap()
}

#[test]
fn systemd_has_nothing_to_say_against_the_units() {
    let folder = installed();
    for (manager, unit) in [
        ("--system", "siglatchd.service"),
        ("--system", "siglatchd.socket"),
        ("--system", "siglatch-exporter.service"),
        ("--user", "user/siglatchd.service"),
    ] {
        let path = folder.path().join(unit);
        let said = run("systemd-analyze", &["verify", manager, "--man=no", path.to_str().unwrap()]);
        assert_eq!(said, "", "{unit}");
    }
}

#[test]
fn the_units_are_as_tight_as_the_document_says() {
    let folder = installed();
    let unit = |name| folder.path().join(name);
    let strict = exposure(&unit("siglatchd.service"));
    fs::remove_dir_all(unit("siglatchd.service.d")).unwrap();
    let document = fs::read_to_string(shipped("../docs/install.md")).unwrap();
    let exporter = exposure(&unit("siglatch-exporter.service"));
    assert!(exporter <= 20, "{exporter}");
    for (name, tenths) in [
        ("`siglatch-exporter.service`", exporter),
        ("`siglatchd.service`", exposure(&unit("siglatchd.service"))),
        ("`siglatchd.service` with `strict.conf`", strict),
    ] {
        let row = format!("| {name} | {}.{} |", tenths / 10, tenths % 10);
        assert!(document.contains(&row), "docs/install.md lacks: {row}");
    }
}

#[test]
fn users_and_folders_that_the_units_name_are_made() {
    let root = tempfile::tempdir().unwrap();
    let at = format!("--root={}", root.path().display());
    fs::create_dir(root.path().join("etc")).unwrap();
    run("systemd-sysusers", &[&at, shipped("systemd/siglatchd.sysusers").to_str().unwrap()]);
    let passwd = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    for user in ["siglatch-listen", "siglatch-exporter"] {
        let line = passwd.lines().find(|line| line.starts_with(&format!("{user}:"))).expect(user);
        assert!(line.ends_with(":/:/usr/sbin/nologin"), "{line}");
    }
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    run("systemd-tmpfiles", &["--create", &at, shipped("systemd/siglatchd.tmpfiles").to_str().unwrap()]);
    for (folder, mode) in [
        ("etc/siglatch", 0o755),
        ("var/lib/siglatch", 0o700),
        ("run/siglatch", 0o700),
        ("etc/siglatch-exporter", 0o755),
    ] {
        use std::os::unix::fs::PermissionsExt as _;
        let found = fs::metadata(root.path().join(folder)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, mode, "{folder}");
    }
}

#[test]
fn apparmor_reads_the_profile() {
    run(
        "apparmor_parser",
        &["--skip-kernel-load", "--skip-cache", shipped("apparmor/usr.sbin.siglatchd").to_str().unwrap()],
    );
}
