//! The daemon's configuration as a text to be edited: comments and order stay.
//!
//! What is wrong with its values is not looked for here; `siglatchctl check` does that.

mod builtin;

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, Value, value};

use crate::config::change::{Applied, BadChange, Change};
use crate::config::files::{self, Existing, Secrecy, folder_of};
use crate::config::{TEXT_MAX, credential, environment, include};
use crate::exit::{Exit, Failure};
use crate::wire::invite::Name;

/// A configuration file, and those it includes.
pub(super) struct Document {
    path: PathBuf,
    /// The file itself, where `path` is a link: a link is not to be replaced by a file.
    real: PathBuf,
    main: DocumentMut,
    /// What the environment says over its top level, which is never saved.
    environment: DocumentMut,
    included: Vec<DocumentMut>,
    /// Where those are.
    files: Vec<PathBuf>,
    /// Which of those were changed.
    changed: BTreeSet<usize>,
}

impl Document {
    /// Reads the file and what it includes.
    pub(super) fn open(path: &Path) -> Result<Document, Failure> {
        let real = path.canonicalize().map_err(|error| missing(path, &error))?;
        let path = std::path::absolute(path).map_err(|error| missing(path, &error))?;
        let main = parse(&path)?;
        let environment = environment()?;
        let patterns = environment.get("include").or_else(|| main.get("include")).and_then(Item::as_array);
        let patterns = patterns.into_iter().flatten();
        let wrong = |(what, hint): (String, String)| {
            Failure::new(Exit::Config, format!("{}: {what}", path.display())).hint(hint)
        };
        let mut files = BTreeSet::new();
        for pattern in patterns.filter_map(|pattern| pattern.as_str()) {
            files.extend(include::matches(&path, pattern).map_err(wrong)?);
        }
        // A pattern that fits the main file doesn't mean it.
        files.remove(&path);
        let included = files.iter().map(|file| parse(file)).collect::<Result<_, _>>()?;
        let (files, changed) = (files.into_iter().collect(), BTreeSet::new());
        Ok(Document { path, real, main, environment, included, files, changed })
    }

    /// The file, as it is named.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that its paths are relative to.
    pub(super) fn folder(&self) -> &Path {
        folder_of(&self.path)
    }

    /// The file and those it includes.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.path).chain(&self.files).map(PathBuf::as_path)
    }

    /// Files that `key` of users names, each with its user; relative to the file that names it.
    pub(super) fn key_files(&self, key: &str) -> impl Iterator<Item = (&str, PathBuf)> {
        self.named_files("users", key)
    }

    /// The same of users (`users`) or actions (`actions`).
    pub(super) fn named_files(&self, section: &str, key: &str) -> impl Iterator<Item = (&str, PathBuf)> {
        let documents = std::iter::once(&self.main).chain(&self.included);
        self.files().zip(documents).flat_map(move |(file, document)| {
            let tables = document.get(section).and_then(Item::as_table_like);
            tables.into_iter().flat_map(TableLike::iter).filter_map(move |(name, table)| {
                let named = table.as_table_like()?.get(key)?.as_str()?;
                // Not ours to keep: it is made anew for each start.
                credential::place(named).is_none().then_some(())?;
                Some((name, folder_of(file).join(named)))
            })
        })
    }

    /// A top-level value, the environment's if that has one.
    pub(super) fn get(&self, key: &str) -> Option<&Item> {
        self.environment.get(key).or_else(|| self.main.get(key))
    }

    /// Whether the environment says it, whatever the file does.
    pub(super) fn is_environments(&self, key: &str) -> bool {
        self.environment.contains_key(key)
    }

    /// A top-level text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// The first element of a top-level list of texts.
    pub(super) fn first(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_array()?.get(0)?.as_str()
    }

    /// Name and keys of each user (`users`) or action (`actions`), included files last.
    pub(super) fn entries<'a>(
        &'a self,
        section: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a dyn TableLike)> {
        std::iter::once(&self.main)
            .chain(&self.included)
            .filter_map(move |document| document.get(section)?.as_table_like())
            .flat_map(TableLike::iter)
            .filter_map(|(name, item)| Some((name, item.as_table_like()?)))
    }

    /// Whether the user stands in this file, in another one, or nowhere.
    pub(super) fn user(&self, name: &Name) -> Standing {
        let holds = |document: &DocumentMut| {
            let users = document.get("users").and_then(Item::as_table_like);
            users.is_some_and(|users| users.contains_key(name.as_str()))
        };
        if holds(&self.main) {
            Standing::Here
        } else if self.included.iter().any(holds) {
            Standing::Elsewhere
        } else {
            Standing::Nowhere
        }
    }

    /// Adds the user to this file, or gives him these values, wherever he is, and leaves the others.
    pub(super) fn set_user(&mut self, name: &Name, values: Vec<(&str, Value)>) -> Result<(), Failure> {
        if self.user(name) == Standing::Elsewhere {
            values.into_iter().for_each(|(key, new)| self.set_of_user(name, key, new));
            return Ok(());
        }
        let users = self.main.entry("users").or_insert_with(|| {
            let mut users = Table::new();
            users.set_implicit(true);
            Item::Table(users)
        });
        let fresh = match users {
            Item::Value(_) => value(InlineTable::new()),
            Item::None | Item::Table(_) | Item::ArrayOfTables(_) => Item::Table(Table::new()),
        };
        let users = users.as_table_like_mut();
        let user = users.map(|users| users.entry(name.as_str()).or_insert(fresh));
        let Some(user) = user.and_then(Item::as_table_like_mut) else {
            let what = format!("{}: `users` holds no tables", self.path.display());
            return Err(Failure::new(Exit::Config, what));
        };
        for (key, new) in values {
            user.insert(key, value(new));
        }
        Ok(())
    }

    /// Takes these values from the user, where this file has him.
    pub(super) fn unset_user(&mut self, name: &Name, keys: &[&str]) {
        self.edit_user(name, |user| keys.iter().for_each(|key| drop(user.remove(key))));
    }

    /// Gives the user this value, in the file that has him.
    pub(super) fn set_of_user(&mut self, name: &Name, key: &str, new: Value) {
        self.edit_user(name, |user| drop(user.insert(key, value(new.clone()))));
    }

    fn edit_user(&mut self, name: &Name, edit: impl Fn(&mut dyn TableLike)) {
        let edit = |document: &mut DocumentMut| {
            let users = document.get_mut("users").and_then(Item::as_table_like_mut);
            let user = users.and_then(|users| users.get_mut(name.as_str())).and_then(Item::as_table_like_mut);
            user.map(&edit).is_some()
        };
        if edit(&mut self.main) {
            return;
        }
        if let Some(at) = self.included.iter_mut().position(edit) {
            self.changed.insert(at);
        }
    }

    /// Takes the user out of the file that has him; what was said above his table goes with it.
    pub(super) fn remove_user(&mut self, name: &Name) {
        let remove = |document: &mut DocumentMut| {
            let users = document.get_mut("users").and_then(Item::as_table_like_mut);
            users.and_then(|users| users.remove(name.as_str())).is_some()
        };
        if remove(&mut self.main) {
            return;
        }
        if let Some(at) = self.included.iter_mut().position(remove) {
            self.changed.insert(at);
        }
    }

    /// Keeps the files that [`Document::save`] replaces as they are, each beside itself with this at the end of its name.
    pub(super) fn keep_old(&self, end: &str) -> Result<(), Failure> {
        let changed = self.changed.iter().filter_map(|at| self.files.get(*at)).chain([&self.real]);
        changed.into_iter().try_for_each(|file| {
            let mut old = file.clone().into_os_string();
            old.push(end);
            let bytes = files::read(file, Secrecy::Public, TEXT_MAX)?;
            Ok(files::write(Path::new(&old), &bytes, mode(file)?, Existing::Replace)?)
        })
    }

    /// Gives a user of this file the key in `file`; `None` if he has one and is to keep it.
    pub(super) fn set_totp_key(&mut self, name: &Name, file: &str, existing: Existing) -> Option<()> {
        let users = self.main.get_mut("users").and_then(Item::as_table_like_mut)?;
        let user = users.get_mut(name.as_str()).and_then(Item::as_table_like_mut)?;
        if existing == Existing::Keep && user.contains_key("totp_key") {
            return None;
        }
        user.insert("totp_key", value(file));
        Some(())
    }

    /// Those who may ask the running daemon.
    pub(super) fn admins(&self) -> impl Iterator<Item = (&str, &dyn TableLike)> {
        let admins = self.main.get("admins").and_then(Item::as_table_like);
        let admins = admins.into_iter().flat_map(TableLike::iter);
        admins.filter_map(|(name, item)| Some((name, item.as_table_like()?)))
    }

    /// Adds one of them, or gives him these values.
    pub(super) fn set_admin(&mut self, name: &Name, public_key: &str, role: &str) -> Result<(), Failure> {
        let admins = self.main.entry("admins").or_insert_with(|| {
            let mut admins = Table::new();
            admins.set_implicit(true);
            Item::Table(admins)
        });
        let admin = admins
            .as_table_like_mut()
            .map(|admins| admins.entry(name.as_str()).or_insert(Item::Table(Table::new())));
        let Some(admin) = admin.and_then(Item::as_table_like_mut) else {
            let what = format!("{}: `admins` holds no tables", self.path.display());
            return Err(Failure::new(Exit::Config, what));
        };
        admin.insert("public_key", value(public_key));
        admin.insert("role", value(role));
        Ok(())
    }

    /// Makes a change in the file that it belongs into.
    pub(super) fn make(&mut self, change: &Change) -> Result<(), Failure> {
        let bad = |bad: BadChange| Failure::new(Exit::Usage, bad.to_string());
        match change.apply(&mut self.main).map_err(bad)? {
            Applied::Changed | Applied::Same => return Ok(()),
            Applied::NotHere => {}
        }
        for (at, included) in self.included.iter_mut().enumerate() {
            match change.apply(included).map_err(bad)? {
                Applied::Changed => {
                    self.changed.insert(at);
                    return Ok(());
                }
                Applied::Same => return Ok(()),
                Applied::NotHere => {}
            }
        }
        Err(Failure::new(Exit::Usage, format!("`{}`: there is no such user or action", change.key)))
    }

    /// Replaces the file, and those it includes that were changed, whole, with the modes they have.
    pub(super) fn save(&self) -> Result<(), Failure> {
        let included = self.files.iter().zip(&self.included).enumerate();
        for (_, (file, document)) in included.filter(|(at, _)| self.changed.contains(at)) {
            replace(file, document)?;
        }
        replace(&self.real, &self.main)
    }
}

/// Where a user stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// In the file that is edited.
    Here,
    /// In an included file, which is not.
    Elsewhere,
    /// He is new.
    Nowhere,
}

/// Holds off other editors of this configuration until it is dropped; waits some seconds for one who is at it.
pub(super) fn lock(config: &Path) -> Result<File, Failure> {
    let failed = |error: &std::io::Error| {
        let what = format!("{}: cannot be locked: {error}", config.display());
        Failure::new(Exit::of_io(error), what)
    };
    let real = config.canonicalize().map_err(|error| missing(config, &error))?;
    let folder = File::open(folder_of(&real)).map_err(|error| failed(&error))?;
    let mut locked = folder.try_lock();
    for _ in 0..LOCK_TRIES {
        if !matches!(locked, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(LOCK_PAUSE);
        locked = folder.try_lock();
    }
    match locked {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => {
            let what = format!("{}: another siglatchctl is changing it", config.display());
            Err(Failure::new(Exit::TryAgain, what).hint("try again when it is done"))
        }
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

/// Ten seconds.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// What siglatchd would read over its file here.
fn environment() -> Result<DocumentMut, Failure> {
    let mut document = DocumentMut::new();
    match environment::apply(&mut document).into_iter().find(|bad| !bad.harmless) {
        Some(bad) => Err(Failure::new(Exit::Config, bad.what).hint(bad.hint)),
        None => Ok(document),
    }
}

fn replace(file: &Path, document: &DocumentMut) -> Result<(), Failure> {
    Ok(files::write(file, document.to_string().as_bytes(), mode(file)?, Existing::Replace)?)
}

fn mode(file: &Path) -> Result<u32, Failure> {
    let meta = file.metadata().map_err(|error| {
        let what = format!("{}: cannot be inspected: {error}", file.display());
        Failure::new(Exit::of_io(&error), what)
    })?;
    Ok(meta.permissions().mode() & 0o7777)
}

fn missing(path: &Path, error: &std::io::Error) -> Failure {
    let what = format!("{}: cannot be read: {error}", path.display());
    Failure::new(Exit::Config, what).hint("make one with siglatchctl init, or name it with --config")
}

fn parse(path: &Path) -> Result<DocumentMut, Failure> {
    let bytes = files::read(path, Secrecy::Public, TEXT_MAX)?;
    let wrong = |what: String| Failure::new(Exit::Config, format!("{}: {what}", path.display()));
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is no text".to_owned()))?;
    text.parse().map_err(|error: toml_edit::TomlError| wrong(error.to_string().trim_end().to_owned()))
}
