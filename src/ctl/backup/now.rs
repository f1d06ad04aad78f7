//! What is there before a backup is put back: what it took away, and whether it is newer.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use toml_edit::DocumentMut;
use zeroize::Zeroizing;

use super::filed::Trail;
use super::gather::STORE;
use super::manifest::{Filed, Manifest, Part};
use super::revoked::Revoked;
use crate::config::files::{self, Secrecy};
use crate::ctl::document::Document;
use crate::ctl::internal;
use crate::exit::Failure;
use crate::store::keys::KeyRow;
use crate::store::sqlite::copy::{Standing, standing};
use crate::store::sqlite::read_keys;
use crate::wire::HmacKey;

/// What is there before.
pub(super) struct Now {
    /// What its configuration revoked, if it is that of the backup's server.
    pub(super) revoked: Option<Revoked>,
    /// Why it is not.
    pub(super) stranger: Option<&'static str>,
    /// None, or one that cannot be used.
    pub(super) store: Option<Standing>,
    /// What is filed, if the store cannot say it.
    pub(super) trail: Trail,
    /// What keys are exchanged for by it, and by that of the backup.
    keys: [Vec<KeyRow>; 2],
}

impl Now {
    pub(super) fn read(manifest: &Manifest, scratch: &Path) -> Result<Now, Failure> {
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
    pub(super) fn newer(&self, manifest: &Manifest, scratch: &Path) -> Vec<String> {
        let mut newer: Vec<String> = self.stranger.iter().map(|why| (*why).to_owned()).collect();
        let head = |standing: &Option<Standing>| standing.map_or(0, |standing| standing.head);
        let more = head(&self.store).max(self.trail.head).saturating_sub(head(&manifest.store));
        if more > 0 {
            newer.push(format!("its trail has {more} records more"));
        }
        for (at, Filed { path, part, .. }) in manifest.files.iter().enumerate() {
            if matches!(part, Part::Config | Part::Key | Part::Rules)
                && changed_since(path, manifest.made_at)
                && !same(path, &scratch.join(at.to_string()))
            {
                newer.push(format!("{} was changed", path.display()));
            }
        }
        newer
    }

    /// Whether the store that is there is the backup's, or what became of it.
    pub(super) fn knows_more(&self, manifest: &Manifest) -> bool {
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
    pub(super) fn exchanged(&self, manifest: &Manifest) -> &[KeyRow] {
        let [now, before] = &self.keys;
        if self.knows_more(manifest) { now } else { before }
    }
}

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

/// As the file has it, whatever the environment says.
fn server_id(config: &Path) -> Option<String> {
    let text = std::fs::read_to_string(config).ok()?;
    Some(text.parse::<DocumentMut>().ok()?.get("server_id")?.as_str()?.to_owned())
}

/// Whether two files are one.
pub(super) fn same(one: &Path, other: &Path) -> bool {
    let read = |path| std::fs::read(path).map(Zeroizing::new).ok();
    read(one).is_some_and(|one| Some(one) == read(other))
}

/// To the second: of a file that differs, the second of the backup is after it.
pub(super) fn changed_since(file: &Path, then: u64) -> bool {
    std::fs::metadata(file).is_ok_and(|meta| u64::try_from(meta.mtime()).is_ok_and(|changed| changed >= then))
}
