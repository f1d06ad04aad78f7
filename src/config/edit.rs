//! Changes made to the texts of a configuration while it is read; the files stay as they are.

use std::sync::Arc;

use toml_edit::DocumentMut;

use super::change::{Applied, Change};
use super::problems::{Problem, Source};
use super::shape::Document;

/// Changes, and what has come of each.
pub(super) struct Edit<'a> {
    changes: Vec<(&'a Change, Result<Applied, String>)>,
}

impl Edit<'_> {
    /// Nothing has come of them yet.
    pub(super) fn new(changes: &[Change]) -> Edit<'_> {
        Edit { changes: changes.iter().map(|change| (change, Ok(Applied::NotHere))).collect() }
    }

    /// The text with what belongs into it: a change is made in the first file that has its table. One that is no TOML is left as it is:
    /// what is wrong with it is noted by who reads it.
    pub(super) fn made(&mut self, source: Arc<Source>) -> Arc<Source> {
        if self.changes.is_empty() {
            return source;
        }
        let Ok(mut document) = source.text.parse::<DocumentMut>() else {
            return source;
        };
        for (change, became) in &mut self.changes {
            if *became == Ok(Applied::NotHere) {
                *became = change.apply(&mut document).map_err(|bad| bad.to_string());
            }
        }
        Arc::new(source.with(document.to_string()))
    }

    /// Notes those of which nothing came.
    pub(super) fn finish(&self, main: &Document, notes: &mut Vec<Problem>) {
        for (change, became) in &self.changes {
            let what = match became {
                Ok(Applied::Changed | Applied::Same) => continue,
                Ok(Applied::NotHere) => format!("`{}`: there is no such user or action", change.key),
                Err(bad) => bad.clone(),
            };
            notes.push(Problem::error(main.place(0..0), what));
        }
    }

    /// Those that made a difference.
    pub(super) fn changed(&self) -> Vec<Change> {
        let changed = self.changes.iter().filter(|(_, became)| *became == Ok(Applied::Changed));
        changed.map(|(change, _)| (*change).clone()).collect()
    }
}
