//! Which files `include` names: a path, or one `*` in its last component; sorted, relative to the main file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::problems::Problem;
use super::raw::{Text, Texts};
use super::shape::Document;

/// All files, each once, pattern by pattern.
pub(super) fn files(document: &Document, patterns: Option<Texts>, notes: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut seen = BTreeSet::new();
    for pattern in patterns.map(toml::Spanned::into_inner).unwrap_or_default() {
        match matches(&document.source.path, &pattern) {
            Ok(found) if found.is_empty() => notes.push(Problem::warning(
                document.place(pattern.span()),
                format!("no file matches {}", pattern.get_ref()),
            )),
            Ok(found) => files.extend(found.into_iter().filter(|file| seen.insert(file.clone()))),
            Err((what, hint)) => {
                notes.push(Problem::error(document.place(pattern.span()), what).hint(hint));
            }
        }
        if files.len() > FILES_MAX {
            let what = format!("more than {FILES_MAX} files are included");
            notes.push(
                Problem::error(document.place(pattern.span()), what).hint("put several users into one file"),
            );
            return Vec::new();
        }
    }
    files
}

/// The files that a pattern names, or what is wrong with it and how to mend that.
fn matches(main: &Path, pattern: &Text) -> Result<BTreeSet<PathBuf>, (String, String)> {
    let path = main.with_file_name("").join(pattern.get_ref());
    let Some(last) = path.file_name().and_then(|name| name.to_str()) else {
        return Err((
            "`include` takes files, not folders".to_owned(),
            "write users.d/*.toml for all files of a folder".to_owned(),
        ));
    };
    if pattern.get_ref().matches('*').count() != last.matches('*').count() {
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
    let folder = path.with_file_name("");
    let listed = std::fs::read_dir(&folder).map_err(|error| {
        let what = format!("{}: cannot list: {error}", folder.display());
        (what, "make the folder, or leave the pattern out".to_owned())
    })?;
    let mut found = BTreeSet::new();
    for entry in listed {
        let entry = entry.map_err(|error| {
            (
                format!("{}: cannot list: {error}", folder.display()),
                "try again".to_owned(),
            )
        })?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let fits = name.len() >= start.len().saturating_add(end.len())
            && name.starts_with(start)
            && name.ends_with(end);
        // As in a shell, and so that an editor's and our own half-written files are passed by.
        if fits && (start.starts_with('.') || !name.starts_with('.')) {
            found.insert(entry.path());
        }
    }
    Ok(found)
}

/// Most files that one configuration includes.
const FILES_MAX: usize = 1000;
