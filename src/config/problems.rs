//! What is wrong with a configuration: each problem with its place, the line, a caret and how to mend it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{Annotation, AnnotationKind, Element, Level, Renderer, Snippet};

use super::files::BadFile;

/// Everything that is wrong or doubtful, in the order of the files' lines. `Display` renders it without colours.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn new(mut problems: Vec<Problem>) -> Problems {
        problems.sort_by_key(|problem| {
            problem.places.first().map(|place| (place.at.source.order, place.at.span.start))
        });
        Problems(problems)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first error (without one, the first of them) on one line, and how many there are.
    pub fn summary(&self) -> String {
        let first = self.0.iter().find(|problem| problem.is_error()).or(self.0.first());
        let first = first.map(Problem::summary).unwrap_or_default();
        match self.len() {
            0 | 1 => first,
            more => format!("{first} (one of {more} problems)"),
        }
    }

    /// One by one, of very many the first hundred: a log has room for other things too.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter().take(SHOWN_MAX)
    }

    /// All of them (of very many, the first hundred) as a person reads them, an empty line between two, with a line end
    /// behind the last.
    pub fn render(&self, colours: Colours) -> String {
        let mut text = String::new();
        for problem in self.iter() {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&problem.render(colours));
            text.push('\n');
        }
        let left = self.len().saturating_sub(SHOWN_MAX);
        if left > 0 {
            text.push_str(&format!("\nand {left} more\n"));
        }
        text
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Colours::Off))
    }
}

impl std::error::Error for Problems {}

/// Whether to write terminal colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// For a terminal.
    On,
    /// For files, the journal and pipes.
    Off,
}

/// What a problem means for the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// It cannot be used.
    Error,
    /// It can be used, but somebody should look at it.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug)]
pub struct Problem {
    severity: Severity,
    what: String,
    places: Vec<Marked>,
    hint: Option<String>,
}

impl Problem {
    pub(super) fn error(at: Place, what: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            what: shown(&what.into()),
            places: vec![Marked { at, note: None }],
            hint: None,
        }
    }

    pub(super) fn warning(at: Place, what: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(at, what) }
    }

    /// A file cannot be used; `at` is where it is named, if that is in a file.
    pub(super) fn bad_file(at: Option<Place>, bad: &BadFile) -> Problem {
        Problem {
            severity: Severity::Error,
            what: shown(&bad.to_string()),
            places: at.into_iter().map(|at| Marked { at, note: None }).collect(),
            hint: bad.hint.as_deref().map(shown),
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(shown(&hint.into()));
        self
    }

    /// Another line that has to do with it.
    pub(super) fn also(mut self, at: Place, note: impl Into<String>) -> Problem {
        self.places.push(Marked { at, note: Some(note.into()) });
        self
    }

    /// What it means for the configuration.
    pub(super) fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong, on one line: for a log.
    pub fn summary(&self) -> String {
        match self.places.first() {
            Some(place) => format!("{}: {}", place.at, self.what),
            None => self.what.clone(),
        }
    }

    /// How to mend it, where that is known.
    pub fn remedy(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether the configuration cannot be used, for this alone.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    fn render(&self, colours: Colours) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut elements: Vec<Element<'_>> = Vec::new();
        let mut rest = self.places.as_slice();
        while let Some((first, _)) = rest.split_first() {
            let source = &first.at.source;
            let here = rest.iter().take_while(|place| Arc::ptr_eq(&place.at.source, source)).count();
            let (here, others) = rest.split_at(here);
            elements.push(snippet(source, here).into());
            rest = others;
        }
        if let Some(hint) = &self.hint {
            elements.push(Level::HELP.message(hint).into());
        }
        let renderer = match colours {
            Colours::On => Renderer::styled(),
            Colours::Off => Renderer::plain(),
        };
        renderer.render(&[level.primary_title(&self.what).elements(elements)])
    }
}

/// A stretch of a file of the configuration.
#[derive(Clone, Debug)]
pub(super) struct Place {
    source: Arc<Source>,
    span: Range<usize>,
}

impl Place {
    pub(super) fn new(source: &Arc<Source>, span: Range<usize>) -> Place {
        Place { source: Arc::clone(source), span }
    }

    /// "line 31", with the file when it is not that of `other`.
    pub(super) fn beside(&self, other: &Place) -> String {
        let line = self.line();
        if Arc::ptr_eq(&self.source, &other.source) {
            format!("line {line}")
        } else {
            format!("{} line {line}", self.source.path.display())
        }
    }

    fn line(&self) -> usize {
        self.before().matches('\n').count().saturating_add(1)
    }

    fn column(&self) -> usize {
        let line = self.before().rsplit('\n').next().unwrap_or_default();
        line.chars().count().saturating_add(1)
    }

    fn before(&self) -> &str {
        self.source.text.get(..self.span.start).unwrap_or_default()
    }
}

/// `file:line:column`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = (self.line(), self.column());
        write!(f, "{}:{line}:{column}", self.source.path.display())
    }
}

/// A file of the configuration, as it was read.
#[derive(Debug)]
pub(super) struct Source {
    /// As it was named: for people.
    pub(super) path: PathBuf,
    /// Where it is, whatever the working directory becomes.
    pub(super) absolute: PathBuf,
    pub(super) text: String,
    order: usize,
}

impl Source {
    /// `order` is its place among the files that were read.
    pub(super) fn new(path: &Path, text: String, order: usize) -> Source {
        Source {
            path: path.to_owned(),
            absolute: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            text,
            order,
        }
    }

    /// The same file, as if it said this.
    pub(super) fn with(&self, text: String) -> Source {
        Source { path: self.path.clone(), absolute: self.absolute.clone(), text, order: self.order }
    }
}

#[derive(Debug)]
struct Marked {
    at: Place,
    note: Option<String>,
}

/// Names come out of files: none may write to a terminal, or start a line of a log.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn snippet<'a>(source: &'a Source, places: &'a [Marked]) -> Snippet<'a, Annotation<'a>> {
    let mark = |kind: AnnotationKind, place: &'a Marked| {
        kind.span(place.at.span.clone()).label(place.note.as_deref())
    };
    // The renderer shows control characters as pictures, but not these; spans count bytes, and `·` has as many.
    let text = source.text.replace(|c: char| !c.is_ascii() && c.is_control(), "·");
    Snippet::source(text).path(shown(&source.path.to_string_lossy())).annotations(places.iter().map(
        |place| match place.note {
            None => mark(AnnotationKind::Primary, place),
            Some(_) => mark(AnnotationKind::Context, place),
        },
    ))
}

/// Problems that are shown at once.
const SHOWN_MAX: usize = 100;
