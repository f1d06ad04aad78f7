//! What a backup says that it holds.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::gather::{STORE, is_trail};
use crate::config::TEXT_MAX;
use crate::config::files::folder_of;
use crate::store::sqlite::copy::Standing;

/// The first file of a backup.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// The format's version.
    pub(super) siglatch_backup: u32,
    /// Of the program that made it.
    pub(super) version: String,
    /// Unix seconds.
    pub(super) made_at: u64,
    /// The main file, absolute.
    pub(super) config: PathBuf,
    /// The state's folder, absolute.
    pub(super) state_dir: PathBuf,
    /// How far the store was, if there was one.
    pub(super) store: Option<Standing>,
    /// Every other file of the backup, in its order.
    pub(super) files: Vec<Filed>,
}

/// A file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filed {
    /// Absolute.
    pub(super) path: PathBuf,
    pub(super) part: Part,
    pub(super) mode: u32,
    /// Bytes.
    pub(super) len: u64,
    /// Hex.
    pub(super) sha256: String,
}

/// What it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Part {
    Config,
    Key,
    Program,
    /// Of the firewall.
    Rules,
    Trail,
    Store,
}

impl Part {
    pub(super) const ALL: [Part; 6] =
        [Part::Config, Part::Key, Part::Program, Part::Rules, Part::Trail, Part::Store];
}

impl Manifest {
    /// Whether it is one that this program can restore: of this format, every path plain and absolute and there once, each file where
    /// its part belongs.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.siglatch_backup != FORMAT {
            let format = self.siglatch_backup;
            return Err(format!("is of format {format}, and this program knows {FORMAT}"));
        }
        if self.version.len() > 64 || self.version.contains(char::is_control) {
            return Err("was made by a program of no version".to_owned());
        }
        let paths = self.files.iter().map(|file| file.path.as_path());
        if let Some(path) =
            paths.chain([self.config.as_path(), self.state_dir.as_path()]).find(|path| !is_plain(path))
        {
            return Err(format!("names {path:?}, which is no plain path from /"));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.files.iter().find(|file| !seen.insert(&file.path)) {
            return Err(format!("has {} twice", twice.path.display()));
        }
        self.files.iter().try_for_each(|file| self.check_place(file))?;
        if !self.files.iter().any(|file| file.path == self.config && file.part == Part::Config) {
            return Err(format!("lacks {}, its configuration", self.config.display()));
        }
        if self.store.is_some() != self.place_of_store().is_some() {
            return Err("says of its store what is not so".to_owned());
        }
        Ok(())
    }

    /// Who made it may have been anybody: no part is put where another belongs, and none is longer than any can be.
    fn check_place(&self, Filed { path, part, len, .. }: &Filed) -> Result<(), String> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let in_state = path.parent() == Some(&self.state_dir);
        let (fits, longest) = match part {
            Part::Trail => (in_state && is_trail(name), u64::MAX),
            Part::Store => (in_state && name == STORE, u64::MAX),
            Part::Config => (true, TEXT_MAX),
            Part::Key => (true, KEY_MAX),
            Part::Program => (true, PROGRAM_MAX),
            Part::Rules => (is_rules(path), PROGRAM_MAX),
        };
        let of_state = in_state && (is_trail(name) || name.starts_with(STORE));
        if !fits || (of_state && !matches!(part, Part::Trail | Part::Store)) {
            return Err(format!("has {}, where nothing of its kind belongs", path.display()));
        }
        if *len > longest {
            return Err(format!("has {}, which is longer than {longest} bytes", path.display()));
        }
        Ok(())
    }

    /// Configuration, keys, programs and rules that are not in the configuration's folder.
    pub(super) fn outside(&self) -> impl Iterator<Item = &Filed> {
        let folder = folder_of(&self.config);
        let placed = |file: &&Filed| !matches!(file.part, Part::Trail | Part::Store);
        self.files.iter().filter(placed).filter(move |file| !file.path.starts_with(folder))
    }

    /// The store's number and its record.
    pub(super) fn place_of_store(&self) -> Option<(usize, &Filed)> {
        self.files.iter().enumerate().find(|(_, file)| file.part == Part::Store)
    }

    /// Of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len).fold(0, u64::saturating_add)
    }
}

impl Filed {
    /// What of its mode it gets back: nobody but its owner ever writes it, nobody becomes another by it, and nobody else reads a key.
    pub(super) fn mode_in_place(&self) -> u32 {
        let mask = match self.part {
            Part::Config | Part::Rules => 0o644,
            Part::Key if self.path.to_string_lossy().ends_with(".pub.pem") => 0o644,
            Part::Key | Part::Trail | Part::Store => 0o600,
            Part::Program => 0o755,
        };
        self.mode & mask
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Part::Config => "config",
            Part::Key => "key",
            Part::Program => "program",
            Part::Rules => "rules",
            Part::Trail => "trail",
            Part::Store => "store",
        })
    }
}

/// Whether a file of this name has rules of nftables.
pub(super) fn is_rules(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "nft")
}

fn is_plain(path: &Path) -> bool {
    let mut components = path.components();
    components.next() == Some(Component::RootDir)
        && components.all(|component| matches!(component, Component::Normal(_)))
        && path.to_str().is_some_and(|text| !text.contains(char::is_control))
}

/// Small digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Longest key, in bytes.
const KEY_MAX: u64 = 1 << 20;

/// Longest program, in bytes: it is in memory for a moment.
const PROGRAM_MAX: u64 = 256 << 20;

/// Of the manifest and what it lists.
pub(super) const FORMAT: u32 = 1;
