//! `siglatchctl restore`: everything is read and checked first, then put in place, what was revoked last.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use toml_edit::DocumentMut;
use zeroize::Zeroizing;

use super::gather::{STORE, trail};
use super::manifest::{Filed, Manifest, Part};
use super::revoked::Revoked;
use super::{archive, invites};
use crate::clock;
use crate::config::files::{self, Existing, folder_of};
use crate::config::{self, Colours};
use crate::ctl::args::backup::Restore;
use crate::ctl::document::{Document, lock};
use crate::ctl::{internal, make_folder};
use crate::exit::{self, Exit, Failure};
use crate::store::journal::Folder;
use crate::store::keys::KeyRow;
use crate::store::sqlite::copy::{Standing, settle, standing};
use crate::store::sqlite::read_keys;

/// Runs the command.
pub(in crate::ctl) fn restore(args: &Restore) -> Result<(), Failure> {
    let mut held = None;
    let manifest = archive::extract(&args.file, &args.how, &Part::ALL, |manifest| {
        make_folder(folder_of(&manifest.state_dir), 0o755)?;
        // A daemon that runs holds it.
        let lock = Folder::enter(&manifest.state_dir)?;
        let scratch = tempfile::Builder::new().prefix(".restore-").tempdir_in(&manifest.state_dir);
        let scratch = scratch.map_err(|error| internal(&error))?;
        let path = scratch.path().to_owned();
        held = Some((lock, scratch));
        Ok(path)
    })?;
    let Some((_lock, scratch)) = held else { return Err(internal(&"no folder")) };
    // Nor may anybody write into what is replaced.
    let there = manifest.config.exists();
    let _editing = there.then(|| lock(&manifest.config)).transpose()?;
    let now = Now::read(&manifest, scratch.path());
    let newer = now.newer(&manifest, scratch.path());
    if !newer.is_empty() && !args.force {
        let what = format!("what is there is newer than the backup: {}", newer.join("; "));
        return Err(
            Failure::new(Exit::Config, what).hint("nothing was changed; --force restores it all the same")
        );
    }
    let mut restoring = Restoring { manifest: &manifest, now, scratch: scratch.path(), said: Vec::new() };
    // First, so that nobody who was kept out is let in if this ends half way through.
    restoring.revoke()?;
    restoring.config()?;
    restoring.state()?;
    restoring.others()?;
    let Restoring { said, .. } = restoring;
    let said: String = said.iter().map(|line| format!("  {line}\n")).collect();
    let config = manifest.config.display();
    if let Err(problems) = config::load(&manifest.config) {
        exit::note(problems.render(Colours::Off).trim_end());
        exit::note("all is restored, but siglatchd would not take it on this machine");
    }
    exit::say(&format!("restored {config}\n{said}next: siglatchctl check {config}, then start siglatchd\n"))
}

/// What is there before.
struct Now {
    /// What its configuration revoked, if it is that of the backup's server.
    revoked: Option<Revoked>,
    /// Why it is not.
    stranger: Option<&'static str>,
    /// None, or one that cannot be used.
    store: Option<Standing>,
}

impl Now {
    fn read(manifest: &Manifest, scratch: &Path) -> Now {
        let store = standing(&manifest.state_dir).ok().flatten();
        let there = manifest.config.symlink_metadata().is_ok();
        let main = manifest.files.iter().position(|file| file.path == manifest.config);
        let before = main.and_then(|at| server_id(&scratch.join(at.to_string())));
        let (revoked, stranger) = match Document::open(&manifest.config) {
            Ok(now) if server_id(&manifest.config) == before => (Some(Revoked::read(&now)), None),
            Ok(_) => (None, Some("its configuration is another server's")),
            Err(_) if there => (None, Some("its configuration cannot be read, nor what was revoked in it")),
            Err(_) => (None, None),
        };
        Now { revoked, stranger, store }
    }

    /// What speaks against restoring.
    fn newer(&self, manifest: &Manifest, scratch: &Path) -> Vec<String> {
        let mut newer: Vec<String> = self.stranger.iter().map(|why| (*why).to_owned()).collect();
        let head = |standing: &Option<Standing>| standing.map_or(0, |standing| standing.head);
        let more = head(&self.store).saturating_sub(head(&manifest.store));
        if more > 0 {
            newer.push(format!("its trail has {more} records more"));
        }
        for (at, Filed { path, part, .. }) in manifest.files.iter().enumerate() {
            if matches!(part, Part::Config | Part::Key)
                && changed_since(path, manifest.made_at)
                && !same(path, &scratch.join(at.to_string()))
            {
                newer.push(format!("{} was changed", path.display()));
            }
        }
        newer
    }

    /// Whether the store that is there is the backup's, or what became of it.
    fn knows_more(&self, manifest: &Manifest) -> bool {
        let before = manifest.store.map_or(0, |before| before.head);
        self.stranger.is_none() && self.store.is_some_and(|now| now.head >= before)
    }
}

struct Restoring<'a> {
    manifest: &'a Manifest,
    now: Now,
    /// The backup's files, by their numbers.
    scratch: &'a Path,
    /// What the administrator should know.
    said: Vec<String>,
}

impl Restoring<'_> {
    /// Configuration, keys and programs.
    fn config(&mut self) -> Result<(), Failure> {
        for (at, filed) in self.manifest.files.iter().enumerate() {
            let mode = match filed.part {
                Part::Config | Part::Program => 0o755,
                Part::Key => 0o700,
                Part::Trail | Part::Store => continue,
            };
            let staged = self.scratch.join(at.to_string());
            if same(&filed.path, &staged) {
                continue;
            }
            let revoked = self.now.revoked.as_ref();
            let replaced = revoked.is_some_and(|revoked| revoked.keys.contains(&filed.path));
            if replaced && changed_since(&filed.path, self.manifest.made_at) {
                self.said.push(format!("{} was replaced since: stays", filed.path.display()));
                continue;
            }
            let bytes = Zeroizing::new(std::fs::read(staged).map_err(|error| internal(&error))?);
            make_folder(folder_of(&filed.path), mode)?;
            self.put_aside(&filed.path)?;
            files::write(&filed.path, &bytes, filed.mode, Existing::Keep)?;
        }
        Ok(())
    }

    /// The store and its trail, together or not at all.
    fn state(&mut self) -> Result<(), Failure> {
        let Manifest { state_dir, files, store, .. } = self.manifest;
        if self.now.knows_more(self.manifest) {
            self.said
                .push("the store that is there is whole and knows more: it stays, with its trail".to_owned());
            return Ok(());
        }
        let state =
            files.iter().enumerate().filter(|(_, file)| matches!(file.part, Part::Trail | Part::Store));
        let state: Vec<(usize, &Filed)> = state.collect();
        if state.is_empty() {
            return Ok(());
        }
        let standings = [store.as_ref(), self.now.store.as_ref()].into_iter().flatten();
        let now = u32::try_from(clock::wall().as_secs()).unwrap_or(u32::MAX);
        let floor = standings.map(|standing| standing.floor).fold(now, u32::max);
        if let Some((at, _)) = self.manifest.place_of_store() {
            settle(&self.scratch.join(at.to_string()), floor)?;
            self.said.push("knocks that were made before now are refused".to_owned());
        }
        let parts = ["", "-wal", "-shm"].map(|more| state_dir.join(format!("{STORE}{more}")));
        for file in parts.into_iter().chain(trail(state_dir)?) {
            self.put_aside(&file)?;
        }
        for (at, filed) in state {
            let staged = self.scratch.join(at.to_string());
            std::fs::rename(staged, &filed.path).map_err(|error| cannot(&filed.path, &error))?;
        }
        Ok(())
    }

    /// Takes away again what was taken away since, and what was only promised, in the backup's files that are not in place yet.
    fn revoke(&mut self) -> Result<(), Failure> {
        let revoked = self.now.revoked.as_ref();
        let exchanged = self.exchanged()?;
        let files = self.manifest.files.iter().enumerate().filter(|(_, filed)| filed.part == Part::Config);
        for (at, filed) in files {
            let staged = self.scratch.join(at.to_string());
            let text = std::fs::read_to_string(&staged).map_err(|error| internal(&error))?;
            let Ok(mut document) = text.parse::<DocumentMut>() else { continue };
            let mut said = invites::end(self.manifest, self.scratch, filed, &mut document, &exchanged)?;
            if let Some(revoked) = revoked {
                said.extend(revoked.apply(&mut document));
                if filed.path == self.manifest.config {
                    said.extend(revoked.ban(&mut document));
                }
            }
            if !said.is_empty() {
                std::fs::write(&staged, document.to_string()).map_err(|error| internal(&error))?;
            }
            self.said.extend(said);
        }
        Ok(())
    }

    /// What keys were exchanged for, by the store that will be there.
    fn exchanged(&self) -> Result<Vec<KeyRow>, Failure> {
        if self.now.knows_more(self.manifest) {
            return Ok(read_keys(&self.manifest.state_dir)?);
        }
        let Some((at, _)) = self.manifest.place_of_store() else { return Ok(Vec::new()) };
        // It is read by its name.
        let folder = self.scratch.join("store");
        std::fs::create_dir(&folder)
            .and_then(|()| std::fs::hard_link(self.scratch.join(at.to_string()), folder.join(STORE)))
            .map_err(|error| internal(&error))?;
        Ok(read_keys(&folder)?)
    }

    /// Says which files with users and actions came in since.
    fn others(&mut self) -> Result<(), Failure> {
        let document = Document::open(&self.manifest.config)?;
        let known = |file: &&Path| self.manifest.files.iter().any(|filed| filed.path == **file);
        let others = document.files().filter(|file| !known(file));
        self.said
            .extend(others.map(|file| format!("{} is in no backup, and stays in force", file.display())));
        Ok(())
    }

    /// Keeps a file beside, for whoever wants it back.
    fn put_aside(&mut self, file: &Path) -> Result<(), Failure> {
        let now = clock::wall().as_secs();
        let beside = |number: u32| {
            let mut aside = file.as_os_str().to_owned();
            aside.push(if number == 0 {
                format!(".before-{now}")
            } else {
                format!(".before-{now}-{number}")
            });
            PathBuf::from(aside)
        };
        let mut free = (0..).map(beside).filter(|aside| aside.symlink_metadata().is_err());
        let aside = free.next().unwrap_or_default();
        match std::fs::rename(file, &aside) {
            Ok(()) => self.said.push(format!("what was there is kept as {}", aside.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot(file, &error)),
        }
        Ok(())
    }
}

/// As the file has it, whatever the environment says.
fn server_id(config: &Path) -> Option<String> {
    let text = std::fs::read_to_string(config).ok()?;
    Some(text.parse::<DocumentMut>().ok()?.get("server_id")?.as_str()?.to_owned())
}

fn same(one: &Path, other: &Path) -> bool {
    let read = |path| std::fs::read(path).map(Zeroizing::new).ok();
    read(one).is_some_and(|one| Some(one) == read(other))
}

/// To the second: of a file that differs, the second of the backup is after it.
fn changed_since(file: &Path, then: u64) -> bool {
    std::fs::metadata(file).is_ok_and(|meta| u64::try_from(meta.mtime()).is_ok_and(|changed| changed >= then))
}

fn cannot(file: &Path, error: &io::Error) -> Failure {
    let what = format!("{}: cannot be replaced: {error}", file.display());
    Failure::new(Exit::of_io(error), what)
        .hint("part of the backup is in place: mend that, and restore again with --force")
}
