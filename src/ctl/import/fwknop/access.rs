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
    let mut reading = Reading::default();
    reading.file(file, 0)?;
    Ok(reading.stanzas)
}

#[derive(Default)]
struct Reading {
    stanzas: Vec<Stanza>,
    /// Read so far.
    files: usize,
}

impl Reading {
    fn file(&mut self, file: &Path, depth: usize) -> Result<(), Failure> {
        self.files = self.files.saturating_add(1);
        if self.files > FILES_MAX {
            let what = format!("{}: is one of more than {FILES_MAX} files that are included", file.display());
            return Err(Failure::new(Exit::Config, what).hint("include each once"));
        }
        let text = files::read(file, Secrecy::Public, TEXT_MAX)?;
        // Behind an include goes on what began in front of it.
        let mut stanza = None;
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
                let found = included(what, &file.with_file_name(value), depth)?;
                let found = found.ok_or_else(|| wrong("fwknopd knows no such directive"))?;
                found.iter().try_for_each(|file| self.file(file, depth.saturating_add(1)))?;
                continue;
            }
            if key == "SOURCE" {
                stanza = Some(self.stanzas.len());
                self.stanzas.push(Stanza { place: place.clone(), settings: Vec::new() });
            }
            let open = stanza.and_then(|at| self.stanzas.get_mut(at));
            let open = open.ok_or_else(|| wrong("a stanza begins with SOURCE"))?;
            open.settings.push(Setting { place, key: key.to_owned(), value: value.to_owned() });
        }
        Ok(())
    }
}

/// The files that an include names; `None`: it is none.
fn included(what: &str, path: &Path, depth: usize) -> Result<Option<Vec<PathBuf>>, Failure> {
    if depth >= DEPTH_MAX {
        let what = format!("{}: is included by an include that is included", path.display());
        return Err(Failure::new(Exit::Config, what).hint(format!("at most {DEPTH_MAX} deep")));
    }
    Ok(match what {
        "include" => Some(vec![path.to_owned()]),
        "include_folder" => {
            let listed = std::fs::read_dir(path).map_err(|error| crate::ctl::cannot("list", path, &error))?;
            let mut found: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
            found.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
            found.sort();
            Some(found)
        }
        // Keys, which are made anew.
        "include_keys" => Some(Vec::new()),
        _ => None,
    })
}

/// Files in all.
const FILES_MAX: usize = 1000;

/// Of includes in includes.
const DEPTH_MAX: usize = 3;
