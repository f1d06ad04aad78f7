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
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item};
use zeroize::Zeroizing;

use super::gather::{STORE, trail};
use super::manifest::{Filed, Manifest, Part};
use super::now::{Now, changed_since, same};
use super::revoked::{self, tables};
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
use crate::store::sqlite::copy::settle;
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
    // Where no configuration of this server is, none is to be in force without its store. Where one is, what the trail says of
    // users is in the new one before it is put aside.
    if restoring.now.revoked.is_none() {
        restoring.state()?;
        restoring.config()?;
    } else {
        restoring.config()?;
        restoring.state()?;
    }
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
    let rules = rules(&manifest);
    exit::say(&format!(
        "restored {config}\n{said}next: siglatchctl check {config}{rules}, then start siglatchd\n"
    ))
}

/// How the doors of nftables come back: before siglatchd starts, or they stand open.
fn rules(manifest: &Manifest) -> String {
    if config::doors(&manifest.config).is_ok_and(|doors| doors.nft.is_empty()) {
        return String::new();
    }
    let files = manifest.files.iter().filter(|filed| filed.part == Part::Rules);
    let load: String = files.map(|filed| format!(", then nft -f {}", filed.path.display())).collect();
    if !load.is_empty() {
        return load;
    }
    ", then make the rules of the doors, which the backup has not (siglatchctl firewall snippet), and load them".to_owned()
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
    /// Keys, programs and rules, then the configuration that names them, its main file last.
    fn config(&mut self) -> Result<(), Failure> {
        let manifest = self.manifest;
        let turn = |filed: &Filed| match filed.part {
            Part::Key | Part::Program | Part::Rules => Some(0),
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

fn cannot(file: &Path, error: &io::Error) -> Failure {
    let what = format!("{}: cannot be replaced: {error}", file.display());
    Failure::new(Exit::of_io(error), what)
        .hint("part of the backup is in place: mend that, and restore again with --force")
}
