//! `run_as = "user[:group]"`, and whom the listener becomes.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid};

use super::section::Section;
use crate::config::raw::Text;
use crate::config::resolved::{RunAs, Sandbox};

/// `None` where nothing is to change, which is all that a daemon without root can do.
pub(super) fn resolve(action: &mut Section<'_>, text: &Text, program: Option<&Path>) -> Option<RunAs> {
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
    if let Some(program) = program.filter(|program| !may_start(program, uid, gid)) {
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

/// Whom the listener becomes when the daemon is started as root: somebody whose other processes it is no peer of.
pub(super) fn listener(top: &mut Section<'_>, text: &Option<Text>, sandbox: Sandbox) -> Option<RunAs> {
    if sandbox == Sandbox::Off || !geteuid().is_root() {
        return None;
    }
    let name = text.as_ref().map_or(LISTENER, |text| text.get_ref().as_str());
    let span = text.as_ref().map_or(0..0, |text| text.span());
    match user_of(name) {
        None => {
            let what =
                format!("this machine has no user `{name}`, whom the process that reads the network becomes");
            let hint = format!("useradd --system --no-create-home --shell /usr/sbin/nologin {name}");
            top.error(span, what, hint);
            None
        }
        Some((uid, gid)) if !uid.is_root() && uid.as_raw() != NOBODY => {
            Some(RunAs { uid: uid.as_raw(), gid: gid.as_raw() })
        }
        Some(_) => {
            let what = format!("`listener_user` takes a user of its own, and `{name}` is none");
            top.error(span, what, format!("leave it out for `{LISTENER}`"));
            None
        }
    }
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

/// Shared by whatever else runs as nobody.
const NOBODY: u32 = 65_534;

fn unknown(action: &mut Section<'_>, text: &Text, kind: &str, name: &str) {
    let what = format!("this machine has no {kind} `{name}`");
    action.error(text.span(), what, format!("{kind}add --system {name}"));
}
