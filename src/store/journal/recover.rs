//! Where the trail goes on after a stop, a kill, or a crash of the machine.
//!
//! After a kill the store may have lines that the file lacks, and the file half a line at its end. After a crash of the
//! machine either may lack what the other has; the chain goes on behind the longer one.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{FILE, TrailFile, files};
use super::{Ending, Journal, Keeping, PIECE, StoreError};
use crate::audit::{AuditKey, Chain, Entry, Event, Head, LINE_MAX, Line, Record};
use crate::config::files::{self as keys, BadFile, Existing, Secrecy};
use crate::exit::Exit;
use crate::store::Store;
use crate::store::folder::{self, refused};

/// The trail's folder, held against another daemon.
#[derive(Debug)]
pub struct Folder(#[expect(dead_code, reason = "it is locked while it is open")] File);

/// What was found, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Where the trail goes on.
    pub head: Head,
    /// Bytes of a line that was not whole, cut off.
    pub cut: u64,
    /// The public key, if it was made now.
    pub made: Option<String>,
    /// A file that does not belong to what the store holds: put aside.
    pub aside: Option<PathBuf>,
    /// The public key that signed the trail until now, if that is another.
    pub before: Option<String>,
}

/// The file, fit to be written to.
pub(super) struct Fit {
    pub(super) file: TrailFile,
    /// The last line that is in a file.
    last: Option<Line>,
    cut: u64,
    pub(super) aside: Option<PathBuf>,
}

/// What a file is that goes on where the store ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Longer {
    /// The store's, which a crash of the machine took back.
    Ours,
    Foreign,
}

/// Whole lines at the end of a file.
struct Tail {
    file: File,
    /// Bytes of whole lines.
    len: u64,
    /// And of what is behind them.
    torn: u64,
    /// The last whole line.
    last: Option<Line>,
}

impl Folder {
    /// Makes the folder if it is missing, checks and locks it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it is not ours alone, or in use.
    pub fn enter(folder: &Path) -> Result<Folder, StoreError> {
        folder::enter(folder).map(Folder)
    }
}

pub(super) fn open(
    folder: &Path,
    held: Option<Folder>,
    store: &mut dyn Store,
    keeping: Keeping,
    wall: u64,
) -> Result<(Journal, Recovered), StoreError> {
    let (key, made) = key(folder)?;
    let public = key.public().to_string();
    let before = signer(folder, store, wall)?.filter(|before| *before != public);
    let Fit { file, last: filed, cut, aside } = fit(folder, store, wall, Longer::Ours)?;
    let stored = store.last_line(wall)?;
    let last = filed.iter().chain(&stored).max_by_key(|line| line.seq);
    let head = last.map_or(Head::NONE, Head::from);
    let record = last.and_then(|line| Record::read(line.text.as_bytes()).ok());
    let left = record.is_some_and(|record| !record.is_checkpoint());
    let mut journal = Journal {
        chain: Chain::behind(head),
        key,
        keeping,
        file,
        pending: Default::default(),
        missed: 0,
        all_missed: 0,
        broken: None,
        fresh: Vec::new(),
        signed: head.seq,
        left,
        ending: Ending::Known,
        _folder: held,
    };
    let at = Duration::from_secs(wall);
    let key = match (&made, &before) {
        (Some(key), _) => Some(Event::KeyMade { key }),
        (None, Some(before)) => Some(Event::KeyChanged { key: &public, before }),
        (None, None) => None,
    };
    let key = key.map(|event| Entry::new(at, event));
    let version = env!("CARGO_PKG_VERSION");
    journal.note(key.into_iter().chain([Entry::new(at, Event::Started { version, cut })]));
    journal.write(store, wall)?;
    journal.follow(store, wall)?;
    Ok((journal, Recovered { head, cut, made, aside, before }))
}

/// Puts the file aside if it is not of the store's trail, and cuts off what is half a line.
pub(super) fn fit(
    folder: &Path,
    store: &mut dyn Store,
    wall: u64,
    longer: Longer,
) -> Result<Fit, StoreError> {
    let path = folder.join(FILE);
    let mut tail = Tail::read(&path)?;
    let stored = store.last_line(wall)?;
    let mut aside = None;
    if !tail.fits(&path, store, stored.as_ref(), wall, longer)? {
        let mut names = (wall..).map(|wall| folder.join(format!("audit-aside-{wall}.jsonl")));
        let away = names.find(|path| !path.exists()).unwrap_or_default();
        fs::rename(&path, &away).map_err(|error| refused(&path, "rename", &error))?;
        tail = Tail::read(&path)?;
        aside = Some(away);
    }
    let cut = tail.torn;
    if cut > 0 {
        tail.file.set_len(tail.len).map_err(|error| refused(&path, "cut", &error))?;
    }
    let last = match tail.last {
        Some(last) => Some(last),
        None => last_full(folder)?,
    };
    let (first, seq) = (first(&tail.file), last.as_ref().map_or(0, |line| line.seq));
    let file = TrailFile::new(folder, tail.file, tail.len, first.as_ref(), seq);
    Ok(Fit { file, last, cut, aside })
}

/// The key of the last checkpoint in the store, or else in the file.
fn signer(folder: &Path, store: &mut dyn Store, wall: u64) -> Result<Option<String>, StoreError> {
    let key = |line: &[u8]| Record::read(line).ok()?.signer().map(str::to_owned);
    let mut through = store.last_line(wall)?.map_or(0, |last| last.seq);
    while through > 0 {
        let behind = through.saturating_sub(PIECE as u64);
        let lines = store.lines(wall, behind, PIECE)?;
        let found = lines.iter().rev().find_map(|line| key(line.text.as_bytes()));
        if found.is_some() {
            return Ok(found);
        }
        if lines.is_empty() {
            break;
        }
        through = behind;
    }
    let file = fs::read(folder.join(FILE)).unwrap_or_default();
    Ok(file.split(|byte| *byte == b'\n').rev().find_map(key))
}

/// The key, and the public one if it was made now.
fn key(folder: &Path) -> Result<(AuditKey, Option<String>), StoreError> {
    let path = folder.join(KEY);
    if path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        let key = AuditKey::new(&rand::random());
        keys::write(&path, key.to_file().as_bytes(), 0o600, Existing::Keep).map_err(bad_file)?;
        let made = key.public().to_string();
        return Ok((key, Some(made)));
    }
    let bytes = keys::read(&path, Secrecy::Secret, 1024).map_err(bad_file)?;
    let key = AuditKey::parse(&bytes).map_err(|bad| StoreError {
        what: format!("{} {bad}", path.display()),
        hint: "put the key back, or move the file away: siglatchd makes a new one, which is recorded"
            .to_owned(),
        exit: Exit::Config,
    })?;
    Ok((key, None))
}

fn bad_file(bad: BadFile) -> StoreError {
    let exit = bad.io.as_ref().map_or(Exit::Permission, Exit::of_io);
    StoreError { what: bad.to_string(), hint: bad.hint.unwrap_or_default(), exit }
}

/// The last line of the last file that is full.
fn last_full(folder: &Path) -> Result<Option<Line>, StoreError> {
    let files = files(folder).map_err(|error| refused(folder, "read", &error))?;
    match files.iter().rev().find(|path| !path.ends_with(FILE)) {
        Some(path) => Ok(Tail::read(path)?.last),
        None => Ok(None),
    }
}

fn first(file: &File) -> Option<Record> {
    let mut bytes = vec![0; LINE_MAX];
    let len = file.read_at(&mut bytes, 0).ok()?;
    let line = bytes.get(..len)?.split(|byte| *byte == b'\n').next()?;
    Record::read(line).ok()
}

impl Tail {
    fn read(path: &Path) -> Result<Tail, StoreError> {
        let fail = |error| refused(path, "read", &error);
        let file = folder::open_file(path)?;
        let all = file.metadata().map_err(fail)?.len();
        let (mut end, mut window) = (all, WINDOW);
        loop {
            // From the end back, in pieces that hold a whole line at least.
            let start = end.saturating_sub(window);
            let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(0)];
            file.read_exact_at(&mut bytes, start).map_err(fail)?;
            let newlines =
                bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
            // What is before the first newline of this piece begins in the one before it.
            let mut left = bytes.len();
            for newline in newlines {
                let before = bytes.get(..newline).unwrap_or_default();
                let from = before.iter().rposition(|byte| *byte == b'\n').map(|at| at.saturating_add(1));
                let Some(from) = from.or((start == 0).then_some(0)) else {
                    left = newline.saturating_add(1);
                    break;
                };
                if let Some(last) = before.get(from..).and_then(line) {
                    let len = start.saturating_add(newline as u64).saturating_add(1);
                    return Ok(Tail { file, len, torn: all.saturating_sub(len), last: Some(last) });
                }
            }
            if start == 0 {
                return Ok(Tail { file, len: 0, torn: all, last: None });
            }
            end = start.saturating_add(left as u64);
            window = window.saturating_mul(2);
        }
    }

    /// Whether file and store are of one trail.
    fn fits(
        &self,
        path: &Path,
        store: &mut dyn Store,
        stored: Option<&Line>,
        wall: u64,
        longer: Longer,
    ) -> Result<bool, StoreError> {
        // More than one line's worth that is none: not what a crash leaves.
        if self.last.is_none() && self.torn > LINE_MAX as u64 {
            return Ok(false);
        }
        let (Some(filed), Some(stored)) = (&self.last, stored) else {
            return Ok(true);
        };
        if filed.seq > stored.seq && longer == Longer::Foreign {
            return Ok(false);
        }
        if filed.seq > stored.seq {
            return Ok(same(path, stored)?.is_none_or(|same| same));
        }
        let beside = store.lines(wall, filed.seq.saturating_sub(1), 1)?;
        Ok(beside.first().is_none_or(|line| line.seq != filed.seq || line.text == filed.text))
    }
}

/// Whether the file has this line; `None` where it has none of its number.
fn same(path: &Path, stored: &Line) -> Result<Option<bool>, StoreError> {
    let bytes = fs::read(path).map_err(|error| refused(path, "read", &error))?;
    // Those behind it are few.
    let mut lines = bytes.split(|byte| *byte == b'\n').rev().filter_map(line);
    Ok(lines
        .find(|line| line.seq <= stored.seq)
        .filter(|line| line.seq == stored.seq)
        .map(|line| line.text == stored.text))
}

fn line(bytes: &[u8]) -> Option<Line> {
    let Record { seq, at, .. } = Record::read(bytes).ok()?;
    Some(Line { seq, at, text: String::from_utf8(bytes.to_vec()).ok()? })
}

/// Bytes that hold a whole line, wherever it begins.
const WINDOW: u64 = 2 * LINE_MAX as u64;

/// The file of the key, in the folder of the store.
pub(crate) const KEY: &str = "audit.key";
