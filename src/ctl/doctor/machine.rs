//! What the machine gives: time, room, folders, a kernel that locks in.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::geteuid;

use super::Finding;
use crate::config::missing_listener;
use crate::config::resolved::{Config, Sandbox, StoreKind};
use crate::layers::Layer;
use crate::sys::{self, ClockSync};

/// Whether knocks and this machine can agree on the time.
pub(super) fn clock() -> Finding {
    match sys::clock_sync() {
        Some(ClockSync::Synchronized) => Finding::good("something keeps this machine's clock right"),
        Some(ClockSync::Unsynchronized) => Finding::doubt(
            "nothing keeps this machine's clock right: knocks are refused once it is off by more than `freshness`",
            "timedatectl set-ntp true, or run chrony or another NTP client",
        ),
        None => Finding::doubt(
            "the kernel does not say whether its clock is right",
            "timedatectl, or chronyc tracking",
        ),
    }
}

/// The folders that are the daemon's own.
pub(super) fn folders(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.store == StoreKind::Sqlite {
        findings.extend(own(&config.state_dir, 0o077));
        findings.extend(room(&config.state_dir));
        findings.extend(left_over(&config.state_dir));
    }
    if config.runtime_dir.exists() {
        let others = if config.control.group.is_some() { 0o007 } else { 0o077 };
        findings.extend(own(&config.runtime_dir, others));
    }
    findings
}

/// A folder that nobody else may enter; `others`: the bits of its mode that let somebody.
pub(super) fn own(folder: &Path, others: u32) -> Vec<Finding> {
    let shown = folder.display();
    let meta = match folder.symlink_metadata() {
        Ok(meta) => meta,
        Err(error) => {
            let mend = format!("siglatchd makes it at its start; or: mkdir -m 700 {shown}");
            return vec![Finding::doubt(format!("{shown}: {error}"), mend)];
        }
    };
    let (mode, uid, me) = (meta.mode() & 0o7777, meta.uid(), geteuid().as_raw());
    let mut findings = Vec::new();
    if !meta.is_dir() {
        findings.push(Finding::bad(format!("{shown} is no folder"), "name a folder of its own"));
    } else if mode & others != 0 {
        let what = format!("{shown} is open to others (mode {mode:04o}): siglatchd does not start with it");
        findings.push(Finding::bad(what, format!("chmod 700 {shown}")));
    }
    if uid != me {
        let what = format!("{shown} belongs to uid {uid}: nobody else can run siglatchd with it");
        findings.push(Finding::doubt(what, format!("run it so, or: chown {me} {shown}")));
    }
    if findings.is_empty() {
        findings.push(Finding::good(format!("{shown} is for its owner alone (mode {mode:04o})")));
    }
    findings
}

/// Decrypted keys that nobody needs.
#[cfg(feature = "backup")]
fn left_over(folder: &Path) -> Vec<Finding> {
    let left = crate::ctl::backup::left_over(folder).into_iter();
    let finding = |path: std::path::PathBuf| {
        let what = format!(
            "{} is left over from a backup or restore that was killed, with keys in it",
            path.display()
        );
        Finding::doubt(what, format!("rm -r {}; the next backup does it, too", path.display()))
    };
    left.map(finding).collect()
}

#[cfg(not(feature = "backup"))]
fn left_over(_: &Path) -> Vec<Finding> {
    Vec::new()
}

/// Whether claims can be written there for some time to come.
fn room(folder: &Path) -> Option<Finding> {
    let disk = statvfs(folder).ok()?;
    let space = Space {
        bytes: disk.blocks_available().saturating_mul(disk.fragment_size()),
        // Some file systems count no files.
        files: (disk.files() > 0).then(|| disk.files_available()),
    };
    if disk.flags().contains(FsFlags::ST_RDONLY) {
        let what = format!("the disk of {} cannot be written: every knock is refused", folder.display());
        return Some(Finding::bad(what, "mount it read-write; the kernel's log says why it is not"));
    }
    Some(space.examine(folder))
}

/// What is free, for who is not root.
pub(super) struct Space {
    pub(super) bytes: u64,
    pub(super) files: Option<u64>,
}

impl Space {
    pub(super) fn examine(&self, folder: &Path) -> Finding {
        let (free, folder) = (self.bytes >> 20, folder.display());
        let mend = "make room there, or have `state_dir` elsewhere; knocks are refused when it is full";
        if self.files.is_some_and(|files| files < 10) {
            return Finding::bad(format!("the disk of {folder} has room for no more files"), mend);
        }
        match free {
            ..FULL => Finding::bad(format!("the disk of {folder} is full: {free} MiB are free"), mend),
            FULL..SHORT => {
                Finding::doubt(format!("the disk of {folder} fills up: {free} MiB are free"), mend)
            }
            SHORT.. => Finding::good(format!("the disk of {folder} has {free} MiB free")),
        }
    }
}

/// What the process that reads from the network is locked in with.
pub(super) fn sandbox(config: &Config) -> Vec<Finding> {
    let finding = match config.sandbox {
        Sandbox::Off => {
            let what = "`sandbox = \"off\"`: the process that reads from the network is not locked in";
            return vec![Finding::doubt(what, "sandbox = \"required\"")];
        }
        Sandbox::Required => Finding::bad,
        Sandbox::BestEffort => Finding::doubt,
    };
    let lacks = |layer: Layer| finding(format!("this kernel lacks {layer}"), layer.hint().to_owned());
    let mut findings: Vec<Finding> = Layer::missing().into_iter().map(lacks).collect();
    if let (Some(command), None) = (missing_listener(), &config.listener_user) {
        let what = "the process that reads from the network becomes a user that this machine lacks";
        findings.push(Finding::bad(what, command));
    }
    if findings.is_empty() {
        findings.push(Finding::good("this kernel has every layer that the listener is locked in with"));
    }
    findings
}

/// MiB: a write-ahead log and some thousand claims.
const FULL: u64 = 16;
/// MiB.
const SHORT: u64 = 128;
