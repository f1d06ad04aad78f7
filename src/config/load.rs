//! From a path to a [`Config`], or to everything that is wrong with it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use toml_edit::DocumentMut;

use super::change::Change;
use super::edit::Edit;
use super::environment::{self, BadVariable};
use super::files::{self, Secrecy};
use super::include;
use super::problems::{Place, Problem, Problems, Severity, Source};
use super::raw::{Keys, RawAction, RawConfig, RawIncluded, RawUser, Text};
use super::resolve;
use super::resolved::{Config, Doors};
use super::shape::Document;

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What somebody should look at all the same.
    pub warnings: Problems,
    /// Which of the changes it was read with make it another one than the files say.
    pub unsaved: Vec<Change>,
}

/// Reads and checks a configuration file, the files it includes, and the keys and programs it names.
///
/// # Errors
///
/// [`Problems`]: everything that is wrong, warnings among it.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    load_with(path, &[])
}

/// Reads it as if these changes were written in it.
///
/// # Errors
///
/// [`Problems`]: as [`load`], and each change of which nothing can come.
pub fn load_with(path: &Path, changes: &[Change]) -> Result<Loaded, Problems> {
    let mut notes = Vec::new();
    let mut edit = Edit::new(changes);
    let config = read(path, &mut edit, &mut notes).and_then(|written| {
        edit.finish(&written.main, &mut notes);
        resolve::resolve(written, &mut notes)
    });
    let usable = notes.iter().all(|note| note.severity() == Severity::Warning);
    let problems = Problems::new(notes);
    match config {
        Some(config) if usable => Ok(Loaded { config, warnings: problems, unsaved: edit.changed() }),
        Some(_) | None => Err(problems),
    }
}

/// Reads what a firewall has to do with. Of everything else only the form is checked: no key is opened, so that whoever may
/// read the file can ask what firewall it needs.
///
/// # Errors
///
/// [`Problems`]: what is wrong with the form, or with a door.
pub fn doors(path: &Path) -> Result<Doors, Problems> {
    let mut notes = Vec::new();
    let doors =
        read(path, &mut Edit::new(&[]), &mut notes).map(|written| resolve::doors(&written, &mut notes));
    let usable = notes.iter().all(|note| note.severity() == Severity::Warning);
    doors.filter(|_| usable).ok_or_else(|| Problems::new(notes))
}

/// The raw keys of all files.
pub(super) struct Written {
    pub(super) main: Rc<Document>,
    pub(super) raw: RawConfig,
    pub(super) users: Vec<Entry<RawUser>>,
    pub(super) actions: Vec<Entry<RawAction>>,
    /// Every file.
    pub(super) documents: Vec<Rc<Document>>,
}

/// One user or action.
pub(super) struct Entry<T> {
    pub(super) document: Rc<Document>,
    pub(super) name: Text,
    pub(super) keys: Keys<T>,
}

fn read(path: &Path, edit: &mut Edit<'_>, notes: &mut Vec<Problem>) -> Option<Written> {
    let source = edit.made(from_environment(source(path, 0, None, notes)?, notes));
    let (document, mut raw) = Document::read::<RawConfig>(&source, notes)?;
    let main = Rc::new(document);
    let mut written = Written {
        users: entries(&main, std::mem::take(&mut raw.users)),
        actions: entries(&main, std::mem::take(&mut raw.actions)),
        documents: vec![Rc::clone(&main)],
        main,
        raw,
    };
    let patterns = written.raw.include.take();
    for (file, named) in include::files(&written.main, patterns, notes) {
        let included = self::source(&file, written.documents.len(), Some(named), notes)
            .map(|source| edit.made(source))
            .and_then(|source| Document::read::<RawIncluded>(&source, notes));
        let Some((document, raw)) = included else {
            continue;
        };
        let document = Rc::new(document);
        written.users.extend(entries(&document, raw.users));
        written.actions.extend(entries(&document, raw.actions));
        written.documents.push(document);
    }
    written.users = once("user", written.users, notes);
    written.actions = once("action", written.actions, notes);
    Some(written)
}

/// Reads one file, `named` by another; it must not be writable by others.
fn source(path: &Path, order: usize, named: Option<Place>, notes: &mut Vec<Problem>) -> Option<Arc<Source>> {
    let text = match files::read(path, Secrecy::Public, TEXT_MAX) {
        Ok(bytes) => String::from_utf8(bytes.to_vec()),
        Err(bad) => {
            let missing = bad.io.as_ref().is_some_and(|error| error.kind() == io::ErrorKind::NotFound);
            let problem = match &named {
                None if missing => Problem::bad_file(None, &bad).hint("siglatchctl init makes one"),
                Some(_) | None => Problem::bad_file(named, &bad),
            };
            notes.push(problem);
            return None;
        }
    };
    match text {
        Ok(text) => Some(Arc::new(Source::new(path, text, order))),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let source = Arc::new(Source::new(path, text, order));
            let what = "this is no UTF-8";
            notes.push(Problem::error(Place::new(&source, at..at), what));
            None
        }
    }
}

/// The main file with what the environment says in its place. One that is no TOML is left as it is: what is wrong with it is noted
/// by who reads it.
fn from_environment(source: Arc<Source>, notes: &mut Vec<Problem>) -> Arc<Source> {
    let document = if environment::is_set() { source.text.parse::<DocumentMut>().ok() } else { None };
    let Some(mut document) = document else {
        return source;
    };
    for BadVariable { harmless, what, hint } in environment::apply(&mut document) {
        let place = Place::new(&source, 0..0);
        let problem = if harmless { Problem::warning(place, what) } else { Problem::error(place, what) };
        notes.push(problem.hint(hint));
    }
    Arc::new(source.with(document.to_string()))
}

fn entries<T>(document: &Rc<Document>, tables: BTreeMap<Text, Keys<T>>) -> Vec<Entry<T>> {
    let mut entries: Vec<_> =
        tables.into_iter().map(|(name, keys)| Entry { document: Rc::clone(document), name, keys }).collect();
    entries.sort_by_key(|entry| entry.name.span().start);
    entries
}

/// Notes names that several files define, and keeps the first.
fn once<T>(kind: &str, entries: Vec<Entry<T>>, notes: &mut Vec<Problem>) -> Vec<Entry<T>> {
    let mut seen = BTreeMap::new();
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries {
        let place = entry.document.place(entry.name.span());
        match seen.get(entry.name.get_ref()) {
            None => {
                seen.insert(entry.name.get_ref().clone(), place);
                kept.push(entry);
            }
            Some(first) => notes.push(
                Problem::error(place, format!("{kind} `{}` is defined twice", entry.name))
                    .also(Clone::clone(first), "first here")
                    .hint("leave one of the two out, or rename it"),
            ),
        }
    }
    kept
}

/// Longest file, in bytes.
pub(crate) const TEXT_MAX: u64 = 1 << 20;
