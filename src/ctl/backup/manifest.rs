//! What a backup says that it holds.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

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
    Trail,
    Store,
}

impl Part {
    pub(super) const ALL: [Part; 5] = [Part::Config, Part::Key, Part::Program, Part::Trail, Part::Store];
}

impl Manifest {
    /// Whether it is one that this program can restore: of this format, and every path plain and absolute.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.siglatch_backup != FORMAT {
            let format = self.siglatch_backup;
            return Err(format!("is of format {format}, and this program knows {FORMAT}"));
        }
        let paths = self.files.iter().map(|file| file.path.as_path());
        match paths.chain([self.config.as_path(), self.state_dir.as_path()]).find(|path| !is_plain(path)) {
            Some(path) => Err(format!("names {path:?}, which is no plain path from /")),
            None => Ok(()),
        }
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

/// Of the manifest and what it lists.
pub(super) const FORMAT: u32 = 1;
