//! access.conf as fwknopd reads it: `VARIABLE value` by lines, a stanza from each SOURCE on, other files included.

use std::path::{Path, PathBuf};

use crate::config::TEXT_MAX;
use crate::config::files::{self, Secrecy};
use crate::exit::{Exit, Failure};

/// What one SOURCE begins.
#[derive(Debug)]
pub(super) struct Stanza {
    /// File and line, for people.
    pub(super) place: String,
    pub(super) settings: Vec<Setting>,
}

/// One line.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) place: String,
    pub(super) key: String,
    pub(super) value: String,
}

impl Stanza {
    /// The last one of this name, as fwknopd has it.
    pub(super) fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().rev().find(|setting| setting.key == key)
    }
}

impl Setting {
    /// The words between commas and spaces.
    pub(super) fn list(&self) -> impl Iterator<Item = &str> {
        self.value.split([',', ' ', '\t']).filter(|word| !word.is_empty())
    }

    pub(super) fn yes(&self) -> bool {
        self.value.starts_with(['Y', 'y'])
    }
}

/// Reads a file and what it includes.
///
/// # Errors
///
/// [`Failure`] names file and line.
pub(super) fn read(file: &Path) -> Result<Vec<Stanza>, Failure> {
    let mut stanzas = Vec::new();
    read_into(file, 0, &mut stanzas)?;
    Ok(stanzas)
}

fn read_into(file: &Path, depth: usize, stanzas: &mut Vec<Stanza>) -> Result<(), Failure> {
    let text = files::read(file, Secrecy::Public, TEXT_MAX)?;
    for (line, written) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let place = format!("{}:{line}", file.display());
        let wrong = |what: &str| Failure::new(Exit::Config, format!("{place}: {what}"));
        let written = written.trim_ascii();
        if written.is_empty() || written.starts_with(b"#") || written.starts_with(b";") {
            continue;
        }
        let written = std::str::from_utf8(written).map_err(|_| wrong("this is no text"))?;
        // It would be shown on a terminal, and written into a script.
        if written.contains(|c: char| c.is_control() && c != '\t') {
            return Err(wrong("a control character"));
        }
        let (key, value) = written.split_once([' ', '\t']).unwrap_or((written, ""));
        let key = key.split(':').next().unwrap_or_default();
        let value = value.split(';').next().unwrap_or_default().trim();
        if value.is_empty() {
            return Err(wrong("this is no `VARIABLE value`"));
        }
        if let Some(what) = key.strip_prefix('%') {
            include(what, &file.with_file_name(value), depth, stanzas)?;
            continue;
        }
        if key == "SOURCE" {
            stanzas.push(Stanza { place: place.clone(), settings: Vec::new() });
        }
        let stanza = stanzas.last_mut().ok_or_else(|| wrong("a stanza begins with SOURCE"))?;
        stanza.settings.push(Setting { place, key: key.to_owned(), value: value.to_owned() });
    }
    Ok(())
}

fn include(what: &str, path: &Path, depth: usize, stanzas: &mut Vec<Stanza>) -> Result<(), Failure> {
    if depth >= DEPTH_MAX {
        let what = format!("{}: is included by an include that is included", path.display());
        return Err(Failure::new(Exit::Config, what).hint(format!("at most {DEPTH_MAX} deep")));
    }
    match what {
        "include" => read_into(path, depth.saturating_add(1), stanzas),
        "include_folder" => {
            let listed = std::fs::read_dir(path).map_err(|error| crate::ctl::cannot("list", path, &error))?;
            let mut found: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
            found.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
            found.sort();
            found.iter().try_for_each(|file| read_into(file, depth.saturating_add(1), stanzas))
        }
        // Keys, which are made anew.
        _ => Ok(()),
    }
}

/// Of includes in includes.
const DEPTH_MAX: usize = 3;
