//! `siglatchctl restore`: everything is read and checked first, then put in place, the main file last.
//!
//! # Security considerations
//!
//! It can be killed at any moment, and is begun again then. What was revoked since is read from the configuration that is there, so
//! there is one at every moment: a file is kept aside by a second name, and the new one, in which everything that was revoked is
//! revoked already, is renamed over it. Until the main file is, which comes last, it is the one of before that says what is in force.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item};
use zeroize::Zeroizing;

use super::filed::Trail;
use super::gather::{STORE, trail};
use super::manifest::{Filed, Manifest, Part};
use super::revoked::{self, Revoked, tables};
use super::scratch::{self, Scratch};
use super::{archive, invites};
use crate::clock;
use crate::config::files::{self, Existing, Secrecy, folder_of};
use crate::config::{self, Colours, include};
use crate::crash;
use crate::ctl::args::FOLDER;
use crate::ctl::args::backup::Restore;
use crate::ctl::document::{Document, lock as lock_config};
use crate::ctl::{internal, make_folder};
use crate::exit::{self, Exit, Failure};
use crate::store::journal::Folder;
use crate::store::keys::KeyRow;
use crate::store::sqlite::copy::{Standing, settle, standing};
use crate::store::sqlite::read_keys;
use crate::wire::HmacKey;

/// Runs the command.
pub(in crate::ctl) fn restore(args: &Restore) -> Result<(), Failure> {
    let mut held = None;
    let mut editing = None;
    let manifest = archive::extract(&args.file, &args.how, &Part::ALL, |manifest| {
        make_folder(folder_of(&manifest.state_dir), 0o755)?;
        // A daemon that runs holds it.
        let lock = Folder::enter(&manifest.state_dir)?;
        // Nor may anybody write into what is replaced.
        editing = manifest.config.exists().then(|| lock_config(&manifest.config)).transpose()?;
        let scratch = Scratch::make(&manifest.state_dir, scratch::RESTORING)?;
        let path = scratch.path().to_owned();
        held = Some((lock, scratch));
        Ok(path)
    })?;
    let Some((_lock, scratch)) = held else { return Err(internal(&"no folder")) };
    let now = Now::read(&manifest, scratch.path())?;
    let newer = now.newer(&manifest, scratch.path());
    let reasons =
        [("what is there is newer than the backup", newer), ("it is to go elsewhere", elsewhere(&manifest))];
    let reasons = reasons.into_iter().filter(|(_, why)| !why.is_empty());
    let reasons: Vec<String> = reasons.map(|(head, why)| format!("{head}: {}", why.join("; "))).collect();
    if !reasons.is_empty() && !args.force {
        return Err(Failure::new(Exit::Config, reasons.join("; "))
            .hint("nothing was changed; --force restores it all the same"));
    }
    scratch::sweep_written(&manifest);
    let mut restoring = Restoring {
        manifest: &manifest,
        now,
        scratch: scratch.path(),
        keys: BTreeSet::new(),
        said: Vec::new(),
    };
    restoring.revoke()?;
    restoring.state()?;
    restoring.config()?;
    restoring.others()?;
    let Restoring { said, .. } = restoring;
    drop(editing);
    // Names come from whoever made the backup.
    let said = said.iter().map(|line| line.replace(char::is_control, " "));
    let said: String = said.map(|line| format!("  {line}\n")).collect();
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
    /// What is filed, if the store cannot say it.
    trail: Trail,
    /// What keys are exchanged for by it, and by that of the backup.
    keys: [Vec<KeyRow>; 2],
}

impl Now {
    fn read(manifest: &Manifest, scratch: &Path) -> Result<Now, Failure> {
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
        let after = manifest.store.map_or(0, |before| before.head);
        let trail = if store.is_none() { Trail::read(&manifest.state_dir, after) } else { Trail::default() };
        let keys = if store.is_some() { read_keys(&manifest.state_dir)? } else { Vec::new() };
        let keys = [keys, exchanged(manifest, scratch)?];
        Ok(Now { revoked, stranger, store, trail, keys })
    }

    /// What speaks against restoring.
    fn newer(&self, manifest: &Manifest, scratch: &Path) -> Vec<String> {
        let mut newer: Vec<String> = self.stranger.iter().map(|why| (*why).to_owned()).collect();
        let head = |standing: &Option<Standing>| standing.map_or(0, |standing| standing.head);
        let more = head(&self.store).max(self.trail.head).saturating_sub(head(&manifest.store));
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
        self.stranger.is_none() && self.store.is_some_and(|now| now.head >= before) && !self.has_lost_keys()
    }

    /// Whether the store is another than it was: one that was begun anew goes on with the trail, and knows of no exchange.
    fn has_lost_keys(&self) -> bool {
        let [now, before] = &self.keys;
        let files = self.revoked.iter().flat_map(|revoked| &revoked.keys);
        let files = files.filter_map(|file| files::read(file, Secrecy::Secret, 1024).ok());
        let in_files: Vec<HmacKey> = files.filter_map(|bytes| HmacKey::parse(&bytes).ok()).collect();
        let known = |row: &KeyRow| {
            now.iter().any(|now| now.exchanged.file == row.exchanged.file && now.exchanged.own.is_some())
        };
        let lost = before.iter().filter(|row| row.exchanged.own.is_some() && !known(row));
        lost.into_iter().any(|row| in_files.iter().any(|key| row.exchanged.is_of(key)))
    }

    /// What keys are exchanged for, by the store that will be there.
    fn exchanged(&self, manifest: &Manifest) -> &[KeyRow] {
        let [now, before] = &self.keys;
        if self.knows_more(manifest) { now } else { before }
    }
}

struct Restoring<'a> {
    manifest: &'a Manifest,
    now: Now,
    /// The backup's files, by their numbers.
    scratch: &'a Path,
    /// Files of users' keys, by the configuration of before.
    keys: BTreeSet<PathBuf>,
    /// What the administrator should know.
    said: Vec<String>,
}

impl Restoring<'_> {
    /// Keys and programs, then the configuration that names them, its main file last.
    fn config(&mut self) -> Result<(), Failure> {
        let manifest = self.manifest;
        let turn = |filed: &Filed| match filed.part {
            Part::Key | Part::Program => Some(0),
            Part::Config if filed.path != manifest.config => Some(1),
            Part::Config => Some(LAST),
            Part::Trail | Part::Store => None,
        };
        let files = manifest.files.iter().enumerate();
        let mut files: Vec<_> = files.filter_map(|(at, filed)| Some((turn(filed)?, at, filed))).collect();
        files.sort_by_key(|(turn, ..)| *turn);
        for (turn, at, filed) in files {
            if turn == LAST {
                self.take_out()?;
            }
            let staged = self.scratch.join(at.to_string());
            if same(&filed.path, &staged) {
                continue;
            }
            let revoked = self.now.revoked.as_ref();
            let replaced = revoked.is_some_and(|revoked| revoked.keys.contains(&filed.path))
                || self.keys.contains(&filed.path) && usable(&filed.path);
            if replaced && changed_since(&filed.path, manifest.made_at) {
                self.said.push(format!("{} was replaced since: stays", filed.path.display()));
                continue;
            }
            let bytes = Zeroizing::new(std::fs::read(staged).map_err(|error| internal(&error))?);
            let folder = if filed.part == Part::Key { 0o700 } else { 0o755 };
            make_folder(folder_of(&filed.path), folder)?;
            self.keep(&filed.path)?;
            files::write(&filed.path, &bytes, filed.mode_in_place(), Existing::Replace)?;
            crash::point("restore-placed");
        }
        Ok(())
    }

    /// Puts aside what the main file of before would include, and that of now does not: it was taken out of force.
    fn take_out(&mut self) -> Result<(), Failure> {
        let Manifest { config, files, .. } = self.manifest;
        let Some(revoked) = &self.now.revoked else { return Ok(()) };
        let main = files.iter().position(|filed| filed.path == *config);
        let text = main.and_then(|at| std::fs::read_to_string(self.scratch.join(at.to_string())).ok());
        let Some(Ok(document)) = text.map(|text| text.parse::<DocumentMut>()) else { return Ok(()) };
        let patterns = document.get("include").and_then(Item::as_array).into_iter().flatten();
        let included =
            patterns.filter_map(|pattern| include::matches(config, pattern.as_str()?).ok()).flatten();
        let known =
            |file: &PathBuf| revoked.files.contains(file) || files.iter().any(|filed| filed.path == *file);
        let strangers: Vec<PathBuf> = included.filter(|file| !known(file)).collect();
        strangers.iter().try_for_each(|file| self.put_aside(file))
    }

    /// The store and its trail, together or not at all: the store last, which says that they are.
    fn state(&mut self) -> Result<(), Failure> {
        let Manifest { state_dir, files, store, .. } = self.manifest;
        if self.now.knows_more(self.manifest) {
            self.said
                .push("the store that is there is whole and knows more: it stays, with its trail".to_owned());
            return Ok(());
        }
        let place = self.manifest.place_of_store();
        let trails = files.iter().enumerate().filter(|(_, file)| file.part == Part::Trail);
        let state: Vec<(usize, &Filed)> = trails.chain(place).collect();
        if state.is_empty() {
            return Ok(());
        }
        let standings = [store.as_ref(), self.now.store.as_ref()].into_iter().flatten();
        let now = u32::try_from(clock::wall().as_secs()).unwrap_or(u32::MAX);
        let floor = standings.map(|standing| standing.floor).fold(now, u32::max);
        if let Some((at, _)) = place {
            settle(&self.scratch.join(at.to_string()), floor)?;
            self.said.push("knocks that were made before now are refused".to_owned());
        }
        let old = state_dir.join(STORE);
        // It is all in one file then, and what it knows is not lost if this ends before the other one is in its place.
        let whole = self.now.store.is_some() && settle(&old, floor).is_ok();
        crash::point("restore-settled");
        for file in trail(state_dir)? {
            self.put_aside(&file)?;
        }
        if whole {
            self.keep(&old)?;
        } else {
            // What belongs to a store that is gone is thrown away by the next one: the store itself goes first.
            for more in ["", "-wal", "-shm"] {
                self.put_aside(&state_dir.join(format!("{STORE}{more}")))?;
            }
        }
        for (at, filed) in state {
            let staged = self.scratch.join(at.to_string());
            std::fs::rename(staged, &filed.path).map_err(|error| cannot(&filed.path, &error))?;
            crash::point("restore-placed");
        }
        File::open(state_dir).and_then(|folder| folder.sync_all()).map_err(|error| cannot(state_dir, &error))
    }

    /// Takes away again what was taken away since, and what was only promised, in the backup's files that are not in place yet.
    fn revoke(&mut self) -> Result<(), Failure> {
        let revoked = self.now.revoked.as_ref();
        let exchanged = self.now.exchanged(self.manifest);
        let files = self.manifest.files.iter().enumerate().filter(|(_, filed)| filed.part == Part::Config);
        let mut users = BTreeSet::new();
        for (at, filed) in files {
            let staged = self.scratch.join(at.to_string());
            let text = std::fs::read_to_string(&staged).map_err(|error| internal(&error))?;
            let Ok(mut document) = text.parse::<DocumentMut>() else { continue };
            if self.now.stranger.is_none() {
                let keys = tables(&mut document, "users")
                    .filter_map(|(_, user)| user.get("hmac_key")?.as_str().map(str::to_owned));
                self.keys.extend(keys.map(|key| folder_of(&filed.path).join(key)));
            }
            let mut said = invites::end(self.manifest, self.scratch, filed, &mut document, exchanged)?;
            said.extend(revoked::lost(&self.now.trail.exchanged, &mut document));
            if let Some(revoked) = revoked {
                said.extend(revoked.apply(&filed.path, &mut document));
                if filed.path == self.manifest.config {
                    said.extend(revoked.apply_to_all(&mut document));
                }
            }
            if !said.is_empty() {
                std::fs::write(&staged, document.to_string()).map_err(|error| internal(&error))?;
            }
            self.said.extend(said);
            users.extend(tables(&mut document, "users").map(|(name, _)| name));
        }
        self.said.extend(revoked.into_iter().flat_map(|revoked| revoked.added(&users)));
        Ok(())
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

    /// Gives a file a second name beside, for whoever wants it back: it is there until another is renamed over it.
    fn keep(&mut self, file: &Path) -> Result<(), Failure> {
        let aside = beside(file);
        // Some file systems have no second names.
        let kept = std::fs::hard_link(file, &aside).or_else(|_| std::fs::copy(file, &aside).map(drop));
        self.kept(file, &aside, kept)
    }

    /// Takes it away to there.
    fn put_aside(&mut self, file: &Path) -> Result<(), Failure> {
        let aside = beside(file);
        self.kept(file, &aside, std::fs::rename(file, &aside))
    }

    fn kept(&mut self, file: &Path, aside: &Path, kept: io::Result<()>) -> Result<(), Failure> {
        match kept {
            Ok(()) => self.said.push(format!("what was there is kept as {}", aside.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot(file, &error)),
        }
        crash::point("restore-aside");
        Ok(())
    }
}

fn usable(key: &Path) -> bool {
    files::read(key, Secrecy::Secret, 1024).is_ok_and(|bytes| HmacKey::parse(&bytes).is_ok())
}

/// The turn of the main file.
const LAST: u8 = 2;

/// What keys are exchanged for, by the backup's store.
fn exchanged(manifest: &Manifest, scratch: &Path) -> Result<Vec<KeyRow>, Failure> {
    let Some((at, _)) = manifest.place_of_store() else { return Ok(Vec::new()) };
    // It is read by its name.
    let folder = scratch.join("store");
    std::fs::create_dir(&folder)
        .and_then(|()| std::fs::hard_link(scratch.join(at.to_string()), folder.join(STORE)))
        .map_err(|error| internal(&error))?;
    Ok(read_keys(&folder)?)
}

/// What a backup puts where nobody would look for it: who knows its recipient may have made it.
fn elsewhere(manifest: &Manifest) -> Vec<String> {
    let config = &manifest.config;
    let unusual = folder_of(config) != Path::new(FOLDER) && config.symlink_metadata().is_err();
    let new = unusual.then(|| format!("{} is its configuration, and not there yet", config.display()));
    let outside =
        manifest.outside().map(|filed| format!("{} is outside of its folder", filed.path.display()));
    new.into_iter().chain(outside).collect()
}

/// A name that is free.
fn beside(file: &Path) -> PathBuf {
    let now = clock::wall().as_secs();
    let beside = |number: u32| {
        let mut aside = file.as_os_str().to_owned();
        aside.push(if number == 0 { format!(".before-{now}") } else { format!(".before-{now}-{number}") });
        PathBuf::from(aside)
    };
    let mut free = (0..).map(beside).filter(|aside| aside.symlink_metadata().is_err());
    free.next().unwrap_or_default()
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
