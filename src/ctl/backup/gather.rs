//! What belongs into a backup: all that a configuration names, and the state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use toml_edit::Item;
use zeroize::Zeroizing;

use super::manifest::{FORMAT, Filed, Manifest, Part, hex, is_rules};
use super::scratch::{self, Scratch};
use crate::clock;
use crate::config::credential;
use crate::ctl::ask::folder;
use crate::ctl::document::{Document, lock};
use crate::ctl::server_key::public_file;
use crate::ctl::{admin, internal};
use crate::exit::{Exit, Failure};
use crate::store::sqlite::copy::{copy, standing};

/// A backup, not written yet.
pub(super) struct Gathered {
    pub(super) manifest: Manifest,
    /// As the manifest lists them.
    pub(super) contents: Vec<Box<dyn Read>>,
    /// Files that the configuration names, and are not there.
    pub(super) missing: Vec<String>,
    /// What else is not in it, though the server needs it.
    pub(super) lacks: Vec<String>,
    /// The store's copy, until it is written.
    _scratch: Option<Scratch>,
}

/// Opens all of it.
pub(super) fn gather(config: &Path) -> Result<Gathered, Failure> {
    // A change half way through would be one half in it.
    let _lock = lock(config)?;
    let document = Document::open(config)?;
    let absolute = |path: &Path| std::path::absolute(path).map_err(|error| internal(&error));
    let state_dir = absolute(&folder(&document, "state_dir", "/var/lib/siglatch"))?;
    let mut files = Vec::new();
    let mut contents: Vec<Box<dyn Read>> = Vec::new();
    let mut take = |path: PathBuf, from: &Path, part| -> Result<(), Failure> {
        let (filed, content) = open(path, from, part)?;
        files.push(filed);
        contents.push(content);
        Ok(())
    };
    let mut missing = Vec::new();
    for (path, part) in named(&document)? {
        let gone = path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if gone && matches!(part, Part::Key | Part::Program) {
            missing.push(path.display().to_string());
        } else {
            take(path.clone(), &path, part)?;
        }
    }
    // The trail first: what the store knows beyond it, the next start copies there.
    for path in trail(&state_dir)? {
        take(path.clone(), &path, Part::Trail)?;
    }
    let mut scratch = None;
    let mut store = None;
    if state_dir.join(STORE).exists() {
        let folder = Scratch::make(&state_dir, scratch::MAKING)?;
        copy(&state_dir, &folder.path().join(STORE))?;
        store = standing(folder.path())?;
        take(state_dir.join(STORE), &folder.path().join(STORE), Part::Store)?;
        scratch = Some(folder);
    }
    let manifest = Manifest {
        siglatch_backup: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        made_at: clock::wall().as_secs(),
        config: document.path().to_owned(),
        state_dir,
        store,
        files,
    };
    manifest.check().map_err(|what| Failure::new(Exit::Config, format!("the configuration {what}")))?;
    scratch::sweep_written(&manifest);
    let state = manifest.state_dir.display();
    let no_store = manifest.store.is_none().then(|| format!("the store: there is none in {state}"));
    let lacks = credentials(&document).into_iter().chain(no_store).collect();
    Ok(Gathered { manifest, contents, missing, lacks, _scratch: scratch })
}

/// Configuration files, keys, and the programs and rules of nftables in the configuration's folder.
fn named(document: &Document) -> Result<BTreeMap<PathBuf, Part>, Failure> {
    let mut named = BTreeMap::new();
    let mut add = |path: &Path, part| -> Result<(), Failure> {
        let path = std::path::absolute(path).map_err(|error| internal(&error))?;
        named.entry(path).or_insert(part);
        Ok(())
    };
    document.files().try_for_each(|file| add(file, Part::Config))?;
    let folder = document.folder();
    for key in TOP_KEYS.into_iter().filter_map(|key| document.text(key)).filter(|key| is_file(key)) {
        let key = folder.join(key);
        add(&key, Part::Key)?;
        // Beside a key of the server's, if it is there: whoever made it by hand may not have it.
        let public = public_file(&key);
        if public.exists() {
            add(&public, Part::Key)?;
        }
    }
    for (table, key) in TABLE_KEYS {
        let table = document.get(table).and_then(Item::as_table_like);
        if let Some(file) = table.and_then(|table| table.get(key)?.as_str()).filter(|key| is_file(key)) {
            add(&folder.join(file), Part::Key)?;
        }
    }
    for (section, key) in KEYS {
        for (_, file) in document.named_files(section, key) {
            add(&file, Part::Key)?;
        }
    }
    let own = folder.join(admin::FILE);
    if own.exists() {
        add(&own, Part::Key)?;
    }
    for (_, action) in document.entries("actions") {
        let programs =
            ["run", "undo"].into_iter().filter_map(|key| action.get(key)?.as_array()?.get(0)?.as_str());
        for program in programs.map(Path::new).filter(|program| program.starts_with(folder)) {
            add(program, Part::Program)?;
        }
    }
    for entry in std::fs::read_dir(folder).map_err(|error| cannot(folder, "listed", &error))? {
        let file = entry.map_err(|error| cannot(folder, "listed", &error))?.path();
        if is_rules(&file) && file.is_file() {
            add(&file, Part::Rules)?;
        }
    }
    Ok(named)
}

/// What the service manager has to bring along again.
fn credentials(document: &Document) -> BTreeSet<String> {
    let top = TOP_KEYS.into_iter().filter_map(|key| document.text(key));
    let tables = TABLE_KEYS
        .into_iter()
        .filter_map(|(table, key)| document.get(table)?.as_table_like()?.get(key)?.as_str());
    let entries = KEYS.into_iter().flat_map(|(section, key)| {
        document.entries(section).filter_map(move |(_, table)| table.get(key)?.as_str())
    });
    top.chain(tables).chain(entries).filter(|key| !is_file(key)).map(str::to_owned).collect()
}

/// A credential of the service manager's is none of ours to keep.
fn is_file(name: &str) -> bool {
    credential::place(name).is_none()
}

/// The audit trail and its key.
pub(super) fn trail(state_dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let listed = match std::fs::read_dir(state_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(|error| cannot(state_dir, "listed", &error))?,
    };
    let mut files = Vec::new();
    for entry in listed {
        let name = entry.map_err(|error| cannot(state_dir, "listed", &error))?.file_name();
        let name = name.to_string_lossy();
        if is_trail(&name) {
            files.push(state_dir.join(&*name));
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a file of this name in the state's folder is one of them.
pub(super) fn is_trail(name: &str) -> bool {
    name == "audit.key" || (name.starts_with("audit") && name.ends_with(".jsonl"))
}

/// As long as it is now: a trail goes on.
fn open(path: PathBuf, from: &Path, part: Part) -> Result<(Filed, Box<dyn Read>), Failure> {
    let fail = |error: io::Error| cannot(from, "read", &error);
    let mut file = File::open(from).map_err(fail)?;
    let meta = file.metadata().map_err(fail)?;
    if !meta.is_file() {
        return Err(Failure::new(Exit::Config, format!("{}: is not a regular file", from.display())));
    }
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 << 10];
    let mut content = (&mut file).take(meta.len());
    let mut len: u64 = 0;
    loop {
        let read = content.read(&mut piece).map_err(fail)?;
        if read == 0 {
            break;
        }
        hash.update(piece.get(..read).unwrap_or_default());
        len = len.saturating_add(read as u64);
    }
    file.rewind().map_err(fail)?;
    let mode = if part == Part::Store { 0o600 } else { meta.mode() & 0o7777 };
    let filed = Filed { path, part, mode, len, sha256: hex(&hash.finalize()) };
    if len > SMALL {
        return Ok((filed, Box::new(file)));
    }
    // There may be more keys than a process may have files open.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(len).unwrap_or(0)));
    file.take(len).read_to_end(&mut bytes).map_err(fail)?;
    Ok((filed, Box::new(Cursor::new(bytes))))
}

fn cannot(path: &Path, done: &str, error: &io::Error) -> Failure {
    let what = format!("{}: cannot be {done}: {error}", path.display());
    if error.kind() == io::ErrorKind::NotFound {
        Failure::new(Exit::Config, what)
            .hint("the configuration names it: mend that first, with siglatchctl check")
    } else {
        Failure::new(Exit::of_io(error), what)
    }
}

/// Bytes of a file that is held in memory.
const SMALL: u64 = 64 << 10;

/// The store's file in the state's folder.
pub(super) const STORE: &str = "claims.db";

/// Where the top level names keys.
const TOP_KEYS: [&str; 3] = ["private_key", "old_private_key", "enrol_key"];

/// Where tables of the top level do.
const TABLE_KEYS: [(&str, &str); 3] =
    [("control", "token"), ("audit", "webhook_key"), ("audit", "webhook_ca")];

/// Where users and actions name keys.
const KEYS: [(&str, &str); 5] = [
    ("users", "hmac_key"),
    ("users", "public_key"),
    ("users", "totp_key"),
    ("actions", "webhook_key"),
    ("actions", "webhook_ca"),
];
