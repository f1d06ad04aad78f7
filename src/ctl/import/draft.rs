//! What an import is about to write: a configuration and its files, which appear together or not at all.

use std::path::{Path, PathBuf};

use rsa::rand_core::OsRng;
use toml_edit::{Array, Key, Value};
use zeroize::Zeroizing;

use crate::config::files::Existing;
use crate::config::{self, Colours};
use crate::ctl::args::{FOLDER, import::Into};
use crate::ctl::{Begun, admin, cannot, internal, make_folder, random};
use crate::exit::{self, Exit, Failure};
use crate::wire::{PrivateKey, ServerId};

/// A configuration, not written yet.
pub(super) struct Draft {
    /// Absolute.
    dir: PathBuf,
    state_dir: &'static str,
    runtime_dir: &'static str,
    files: Vec<NewFile>,
}

struct NewFile {
    path: PathBuf,
    bytes: Zeroizing<Vec<u8>>,
    mode: u32,
}

impl Draft {
    /// In this folder.
    pub(super) fn new(into: &Into) -> Result<Draft, Failure> {
        let dir = std::path::absolute(&into.into).map_err(|error| cannot("use", &into.into, &error))?;
        let usual = into.into == Path::new(FOLDER);
        Ok(Draft {
            dir,
            state_dir: if usual { "/var/lib/siglatch" } else { "state" },
            runtime_dir: if usual { "/run/siglatch" } else { "run" },
            files: Vec::new(),
        })
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file below the folder, by its name there.
    pub(super) fn file(&mut self, name: &str, bytes: Zeroizing<Vec<u8>>, mode: u32) {
        self.files.push(NewFile { path: self.dir.join(name), bytes, mode });
    }

    /// The same from a file that is there. It is no copy if that is the one.
    pub(super) fn copy(&mut self, name: &str, from: &Path, bytes: Zeroizing<Vec<u8>>, mode: u32) {
        let same = self.dir.join(name).canonicalize().ok().zip(from.canonicalize().ok());
        if same.is_none_or(|(there, here)| there != here) {
            self.file(name, bytes, mode);
        }
    }

    /// The server's key, or a new one; its public half goes beside it.
    pub(super) fn server_key(&mut self, key: Option<PrivateKey>) -> Result<(), Failure> {
        let key = match key {
            Some(key) => key,
            None => PrivateKey::generate(&mut OsRng).map_err(|error| internal(&error))?,
        };
        let private = key.to_pem().map_err(|error| internal(&error))?;
        let public = key.public().to_pem().map_err(|error| internal(&error))?;
        self.file("server.key.pem", Zeroizing::new(private.as_bytes().to_vec()), 0o600);
        self.file("server.pub.pem", Zeroizing::new(public.into_bytes()), 0o644);
        Ok(())
    }

    /// Writes all of it, and has the daemon's own check look at it: what siglatchd would refuse does not stay.
    pub(super) fn write(mut self, about: &str, top: &Table, tables: &[Table]) -> Result<(), Failure> {
        let admin = admin::make()?;
        let public = admin::public_of(&admin).ok_or_else(|| internal(&"a key that is none was made"))?;
        let own = Table::new("")
            .set("private_key", "server.key.pem")
            .set("server_id", ServerId(random()?).to_string())
            .set("state_dir", self.state_dir)
            .set("runtime_dir", self.runtime_dir);
        let admins = Table::new("admins.root").set("public_key", public.to_string()).set("role", "admin");
        let tables: String =
            [top, &own, &admins].into_iter().chain(tables).map(|table| table.text() + "\n").collect();
        self.file(admin::FILE, Zeroizing::new(admin.as_bytes().to_vec()), 0o600);
        let text = format!("{about}{tables}");
        self.file("siglatchd.toml", Zeroizing::new(text.into_bytes()), 0o600);
        self.check_absent()?;

        let mut made = Made::default();
        for (folder, mode) in [("", 0o755), ("keys", 0o700), ("actions", 0o755)] {
            made.folder(self.dir.join(folder), mode)?;
        }
        // No store: the first start makes one that refuses every knock made before it, those that the old server took too.
        let mut begun = Begun::default();
        for NewFile { path, bytes, mode } in self.files {
            begun.write(path, &bytes, mode, Existing::Keep)?;
        }
        if let Err(problems) = config::load(&self.dir.join("siglatchd.toml")) {
            exit::note(problems.render(Colours::Off).trim_end());
            let what = "siglatchd would not take what comes out; nothing was written";
            return Err(
                Failure::new(Exit::Config, what).hint("mend that in what is imported, or on this machine")
            );
        }
        begun.done();
        made.folders.clear();
        Ok(())
    }

    fn check_absent(&self) -> Result<(), Failure> {
        let there = self.files.iter().filter(|file| file.path.symlink_metadata().is_ok());
        let there: Vec<String> = there.map(|file| file.path.display().to_string()).collect();
        if there.is_empty() {
            return Ok(());
        }
        let what = format!("there already: {}", there.join(", "));
        Err(Failure::new(Exit::Config, what).hint("nothing was changed; name another folder with --into"))
    }
}

/// Folders that are made, and taken away again, empty, unless all is well. Declared before what is in them, so dropped after it.
#[derive(Default)]
struct Made {
    folders: Vec<PathBuf>,
}

impl Made {
    fn folder(&mut self, folder: PathBuf, mode: u32) -> Result<(), Failure> {
        if !folder.exists() {
            make_folder(&folder, mode)?;
            self.folders.push(folder);
        }
        Ok(())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for folder in self.folders.iter().rev() {
            // One that somebody uses stays.
            drop(std::fs::remove_dir(folder));
        }
    }
}

/// A table of the configuration.
#[derive(Debug)]
pub(super) struct Table {
    lines: Vec<String>,
    /// Why it is written as a comment.
    off: Option<String>,
}

impl Table {
    /// `users.alice`; empty for the top of the file.
    pub(super) fn new(header: &str) -> Table {
        let lines = if header.is_empty() { Vec::new() } else { vec![format!("[{header}]")] };
        Table { lines, off: None }
    }

    /// `[users.NAME]`, or `[actions.NAME]`.
    pub(super) fn of(section: &str, name: &str) -> Table {
        Table::new(&format!("{section}.{}", Key::new(name)))
    }

    /// With one more setting.
    pub(super) fn set(mut self, key: &str, value: impl std::convert::Into<Value>) -> Table {
        self.put(key, value);
        self
    }

    /// One more setting; of two with one name the last one counts.
    pub(super) fn put(&mut self, key: &str, value: impl std::convert::Into<Value>) {
        self.lines.retain(|line| !line.starts_with(&format!("{key} = ")));
        self.lines.push(format!("{key} = {}", value.into()));
    }

    /// A list of texts.
    pub(super) fn list<S: AsRef<str>>(&mut self, key: &str, texts: impl IntoIterator<Item = S>) {
        let array: Array = texts.into_iter().map(|text| Value::from(text.as_ref())).collect();
        self.put(key, array);
    }

    /// A line that only says something.
    pub(super) fn comment(&mut self, line: &str) {
        self.lines.push(format!("# {}", one_line(line)));
    }

    /// Takes it out of force: it is written as a comment, with the first reason.
    pub(super) fn switch_off(&mut self, why: &str) {
        self.off.get_or_insert_with(|| one_line(why));
    }

    /// Whether it is a comment.
    pub(super) fn is_off(&self) -> bool {
        self.off.is_some()
    }

    fn text(&self) -> String {
        let Some(why) = &self.off else {
            return self.lines.iter().map(|line| format!("{line}\n")).collect();
        };
        let lines: String = self.lines.iter().map(|line| format!("#{line}\n")).collect();
        format!("# not in force: {why}\n{lines}")
    }
}

/// A comment ends with its line: what comes from elsewhere must not go on behind it.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
