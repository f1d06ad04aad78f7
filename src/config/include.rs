//! Which files `include` names: a path, or one `*` in its last component; sorted, relative to the main file.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::problems::{Place, Problem};
use super::raw::Texts;
use super::shape::Document;

/// All files, each once, pattern by pattern, with the place that names it.
pub(super) fn files(
    document: &Document,
    patterns: Option<Texts>,
    notes: &mut Vec<Problem>,
) -> Vec<(PathBuf, Place)> {
    let mut files = Vec::new();
    // A pattern that fits the main file doesn't mean it.
    let mut seen = BTreeSet::from([document.source.path.clone()]);
    for pattern in patterns.map(toml::Spanned::into_inner).unwrap_or_default() {
        let place = document.place(pattern.span());
        match matches(&document.source.path, pattern.get_ref()) {
            Ok(found) if found.is_empty() => {
                let what = format!("no file matches {pattern}");
                notes.push(Problem::warning(place, what).hint("leave it, if one is to come"));
            }
            Ok(found) => {
                let new = found.into_iter().filter(|file| seen.insert(file.clone()));
                files.extend(new.map(|file| (file, place.clone())));
            }
            Err((what, hint)) => notes.push(Problem::error(place, what).hint(hint)),
        }
        if files.len() > FILES_MAX {
            let what = format!("more than {FILES_MAX} files are included");
            let place = document.place(pattern.span());
            notes.push(Problem::error(place, what).hint("put several users into one file"));
            return Vec::new();
        }
    }
    files
}

/// The files that a pattern in `main` names, or what is wrong with it and how to mend that.
pub(crate) fn matches(main: &Path, pattern: &str) -> Result<BTreeSet<PathBuf>, (String, String)> {
    let path = main.parent().unwrap_or(Path::new("")).join(pattern);
    let Some(last) = path.file_name().and_then(|name| name.to_str()) else {
        return Err((
            "`include` takes files, not folders".to_owned(),
            "write users.d/*.toml for all files of a folder".to_owned(),
        ));
    };
    if pattern.matches('*').count() != last.matches('*').count() {
        return Err((
            "a `*` stands for a file's name, not for a folder's".to_owned(),
            "list the folders one by one".to_owned(),
        ));
    }
    let Some((start, end)) = last.split_once('*') else {
        return Ok(BTreeSet::from([path]));
    };
    if end.contains('*') {
        return Err((
            "`include` takes one `*` only".to_owned(),
            "write users.d/*.toml for all files of a folder".to_owned(),
        ));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let fail = |error: io::Error| {
        let what = format!("{} cannot be listed: {error}", folder.display());
        (what, "siglatchd must be able to read it".to_owned())
    };
    let listed = match std::fs::read_dir(Path::new(".").join(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        listed => listed.map_err(fail)?,
    };
    let mut found = BTreeSet::new();
    for entry in listed {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let fits = name.len() >= start.len().saturating_add(end.len())
            && name.starts_with(start)
            && name.ends_with(end);
        // As in a shell, and so that an editor's and our own half-written files are passed by.
        if fits && (start.starts_with('.') || !name.starts_with('.')) {
            found.insert(folder.join(entry.file_name()));
        }
    }
    Ok(found)
}

/// Most files that one configuration includes.
const FILES_MAX: usize = 1000;
