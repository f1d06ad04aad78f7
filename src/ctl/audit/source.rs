//! Lines of a trail, from files, a bundle, or a server's folder and its store.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read as _};
use std::path::{Path, PathBuf};

use super::bundle::Bundle;
use crate::audit::{LINE_MAX, Line, Record};
use crate::exit::{self, Exit, Failure};
use crate::store::journal;

/// Lines with their newlines.
pub(in crate::ctl) struct Source {
    parts: Vec<Part>,
    at: usize,
    /// The folder whose store goes on where its files end.
    store: Option<PathBuf>,
    /// The last line that was seen.
    last: Vec<u8>,
    /// Lines that are no records.
    strange: u64,
    failed: Option<Failure>,
}

struct Part {
    name: String,
    reader: Box<dyn BufRead>,
    /// That came out of it.
    lines: usize,
}

impl Source {
    /// Those of the server whose state is in `folder`.
    pub(in crate::ctl) fn of_server(folder: &Path) -> Result<Source, Failure> {
        let list = || journal::files(folder).map_err(|error| unreadable(folder, &error));
        let mut files = list()?;
        loop {
            let source = Source::of_files(&files);
            // One that was full got another name meanwhile.
            let now = list()?;
            if now == files {
                return Ok(Source { store: Some(folder.to_owned()), ..source? });
            }
            files = now;
        }
    }

    pub(super) fn of_files(files: &[PathBuf]) -> Result<Source, Failure> {
        let open = |path: &PathBuf| match File::open(path) {
            Ok(file) => Ok(Part::new(path.display().to_string(), BufReader::new(file))),
            Err(error) => Err(unreadable(path, &error)),
        };
        Ok(Source::new(files.iter().map(open).collect::<Result<_, _>>()?))
    }

    pub(super) fn of_bundle(path: &Path, bundle: Bundle) -> Source {
        let name = format!("{} in {}", super::bundle::RECORDS, path.display());
        Source::new(vec![Part::new(name, bundle.records)])
    }

    fn new(parts: Vec<Part>) -> Source {
        Source { parts, at: 0, store: None, last: Vec::new(), strange: 0, failed: None }
    }

    /// The records, each with its line; what is none is left out, and told at the [`end`](Self::end).
    pub(in crate::ctl) fn records(&mut self) -> impl Iterator<Item = (Record, Vec<u8>)> {
        std::iter::from_fn(|| {
            loop {
                let line = self.next()?;
                match Record::read(line.trim_ascii_end()) {
                    Ok(record) => return Some((record, line)),
                    Err(_) => self.strange = self.strange.saturating_add(1),
                }
            }
        })
    }

    /// Whether all of it could be read; says how many lines were no records.
    pub(in crate::ctl) fn end(mut self) -> Result<(), Failure> {
        if self.strange > 0 {
            let strange = self.strange;
            exit::note(&format!("warning: lines that are no records, and left out here: {strange}"));
            exit::note(" hint: `siglatchctl audit verify` says where the first one is");
        }
        self.failed()
    }

    /// Whether it ended because it could not be read.
    pub(super) fn failed(&mut self) -> Result<(), Failure> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Where a line stood, counted from 0 over all of them.
    pub(in crate::ctl) fn place(&self, line: usize) -> String {
        let mut left = line;
        for part in &self.parts {
            if left < part.lines {
                return format!("{}, line {}", part.name, left.saturating_add(1));
            }
            left = left.saturating_sub(part.lines);
        }
        self.parts
            .last()
            .map_or("there are no files".to_owned(), |last| format!("at the end of {}", last.name))
    }

    /// What the store has behind the files.
    fn go_on(&mut self, folder: &Path) -> Result<(), Failure> {
        let last = Record::read(self.last.trim_ascii_end()).map_or(0, |last| last.seq);
        let lines = piece(folder, last, usize::MAX)?;
        let text: String = lines.iter().flat_map(|line| [line.text.as_str(), "\n"]).collect();
        self.parts.push(Part::new("the store".to_owned(), Cursor::new(text)));
        Ok(())
    }
}

impl Iterator for Source {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let is_last = self.at.saturating_add(1) == self.parts.len();
            let Some(part) = self.parts.get_mut(self.at) else {
                let folder = self.store.take()?;
                self.go_on(&folder).map_err(|failure| self.failed = Some(failure)).ok()?;
                continue;
            };
            let mut line = Vec::new();
            // Longer ones are no records, and are not read to their ends.
            let read = (&mut part.reader).take(LONGEST).read_until(b'\n', &mut line);
            if let Err(error) = read {
                self.failed = Some(unreadable(Path::new(&part.name), &error));
                return None;
            }
            // Half a line is one that siglatchd is just writing, or could not: the store has it.
            let being_written =
                self.store.is_some() && !line.ends_with(b"\n") && line.len() <= LINE_MAX && is_last;
            if line.is_empty() || being_written {
                self.at = self.at.saturating_add(1);
                continue;
            }
            part.lines = part.lines.saturating_add(1);
            if self.store.is_some() {
                self.last.clone_from(&line);
            }
            return Some(line);
        }
    }
}

/// A line that is too long by a byte, and its newline.
const LONGEST: u64 = LINE_MAX as u64 + 2;

impl Part {
    fn new(name: String, reader: impl BufRead + 'static) -> Part {
        Part { name, reader: Box::new(reader), lines: 0 }
    }
}

/// All lines of the store, a piece of them at a time.
pub(in crate::ctl) fn stored(folder: &Path) -> impl Iterator<Item = Result<Line, Failure>> {
    let (mut behind, mut lines) = (0, Vec::<Line>::new().into_iter());
    std::iter::from_fn(move || {
        if lines.as_slice().is_empty() {
            lines = match piece(folder, behind, PIECE) {
                Ok(lines) => lines.into_iter(),
                Err(failure) => return Some(Err(failure)),
            };
        }
        let line = lines.next()?;
        behind = line.seq;
        Some(Ok(line))
    })
}

/// The folder of a server with `store = "memory"` has none.
#[cfg(feature = "sqlite")]
fn piece(folder: &Path, behind: u64, most: usize) -> Result<Vec<Line>, Failure> {
    Ok(crate::store::sqlite::read_lines(folder, behind, most)?)
}

#[cfg(not(feature = "sqlite"))]
fn piece(_folder: &Path, _behind: u64, _most: usize) -> Result<Vec<Line>, Failure> {
    Ok(Vec::new())
}

/// Lines of the store at once.
const PIECE: usize = 10_000;

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(Exit::of_io(error), format!("{}: cannot be read: {error}", path.display()));
    match error.kind() == io::ErrorKind::PermissionDenied {
        true => failure.hint("run this as root, or as siglatchd's user"),
        false => failure,
    }
}
