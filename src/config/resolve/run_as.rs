//! `run_as = "user[:group]"`, and whom the listener becomes.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid};

use super::section::Section;
use crate::config::raw::Text;
use crate::config::resolved::{RunAs, Sandbox};

/// `None` where nothing is to change, which is all that a daemon without root can do.
pub(super) fn resolve(action: &mut Section<'_>, text: &Text, programs: &[&Path]) -> Option<RunAs> {
    let (user, group) = match text.get_ref().split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text.get_ref().as_str(), None),
    };
    let Some((uid, own_group)) = user_of(user) else {
        unknown(action, text, "user", user);
        return None;
    };
    let gid = match group {
        None => own_group,
        Some(group) => match Group::from_name(group).ok().flatten() {
            Some(group) => group.gid,
            None => {
                unknown(action, text, "group", group);
                return None;
            }
        },
    };
    for program in programs.iter().filter(|program| !may_start(program, uid, gid)) {
        let what = format!("{text} may not execute {}", program.display());
        action.warning(text.span(), what, format!("chmod o+x {}", program.display()));
    }
    if geteuid().is_root() {
        return Some(RunAs { uid: uid.as_raw(), gid: gid.as_raw() });
    }
    if (uid, gid) != (geteuid(), getegid()) {
        let what = format!("only root can run something as {text}");
        action.error(text.span(), what, "start siglatchd as root, or leave `run_as` out");
    }
    None
}

/// Whom the listener becomes when the daemon is started as root: somebody whose other processes it is no peer of. That
/// the usual user is not there is no mistake in the file: see [`missing_listener`].
pub(super) fn listener(top: &mut Section<'_>, text: &Option<Text>, sandbox: Sandbox) -> Option<RunAs> {
    if sandbox == Sandbox::Off || !geteuid().is_root() {
        return None;
    }
    let Some(text) = text.as_ref().filter(|text| text.get_ref() != LISTENER) else {
        return user_of(LISTENER).map(|(uid, gid)| RunAs { uid: uid.as_raw(), gid: gid.as_raw() });
    };
    match user_of(text.get_ref()) {
        None => {
            let what = format!("this machine has no user `{text}`");
            top.error(text.span(), what, format!("{MAKE_USER} {text}"));
            None
        }
        Some((uid, gid)) if !uid.is_root() && uid.as_raw() != NOBODY => {
            Some(RunAs { uid: uid.as_raw(), gid: gid.as_raw() })
        }
        Some(_) => {
            let what = format!("`listener_user` takes a user of its own, and `{text}` is none");
            top.error(text.span(), what, format!("leave it out for `{LISTENER}`"));
            None
        }
    }
}

/// The command that makes the listener's user, where there has to be one and is none.
pub fn missing_listener() -> Option<String> {
    (geteuid().is_root() && user_of(LISTENER).is_none()).then(|| format!("{MAKE_USER} {LISTENER}"))
}

/// By the file's mode alone: an access list can allow more, a folder less.
fn may_start(program: &Path, uid: Uid, gid: Gid) -> bool {
    let Ok(meta) = std::fs::metadata(program) else {
        return true; // Noted where the program is checked.
    };
    let bits = if uid.is_root() {
        0o111
    } else if meta.uid() == uid.as_raw() {
        0o100
    } else if meta.gid() == gid.as_raw() {
        0o010
    } else {
        0o001
    };
    meta.mode() & bits != 0
}

fn user_of(name: &str) -> Option<(Uid, Gid)> {
    let user = User::from_name(name).ok().flatten()?;
    Some((user.uid, user.gid))
}

/// Of the listener, if nothing is written.
const LISTENER: &str = "siglatch-listen";

const MAKE_USER: &str = "useradd --system --no-create-home --shell /usr/sbin/nologin";

/// Shared by whatever else runs as nobody.
const NOBODY: u32 = 65_534;

fn unknown(action: &mut Section<'_>, text: &Text, kind: &str, name: &str) {
    let what = format!("this machine has no {kind} `{name}`");
    action.error(text.span(), what, format!("{kind}add --system {name}"));
}
