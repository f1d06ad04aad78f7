//! What an administrator sees of a configuration, good and bad.
#![cfg(feature = "server")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use siglatch::config::{self, Loaded, Problems};
use siglatch::wire::PrivateKey;

/// A folder with a key of the server, one of alice, and an action script.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("server.key.pem", 0o600, SERVER_KEY.as_bytes());
        folder.write("alice.hmac", 0o600, &[7; 32]);
        folder.write("open", 0o700, b"#!/bin/sh\n");
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, mode: u32, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Loads `text`; `HERE` in it stands for the folder.
    fn load(&self, text: &str) -> Result<Loaded, Problems> {
        let here = self.0.path().to_str().unwrap();
        self.write("siglatchd.toml", 0o644, text.replace("HERE", here).as_bytes());
        config::load(&self.path("siglatchd.toml"))
    }

    /// What a person sees, with the folder's name replaced again.
    fn shown(&self, problems: &Problems) -> String {
        problems
            .to_string()
            .replace(self.0.path().to_str().unwrap(), "HERE")
    }
}

static SERVER_KEY: LazyLock<String> =
    LazyLock::new(|| PrivateKey::generate().unwrap().to_pem().unwrap().to_string());

#[test]
fn look() {
    let folder = Folder::new();
    folder.write("weak.hmac", 0o644, &[7; 32]);
    folder.write("shut", 0o775, b"#!/bin/sh\n");
    let text = fs::read_to_string("/tmp/config-scratch/look.toml").unwrap();
    match folder.load(&text) {
        Ok(loaded) => println!("{}\n{:#?}", folder.shown(&loaded.warnings), loaded.config),
        Err(problems) => println!("{}", folder.shown(&problems)),
    }
}
