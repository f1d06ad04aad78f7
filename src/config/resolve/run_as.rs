//! `run_as = "user[:group]"`

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid};

use super::section::Section;
use crate::config::raw::Text;
use crate::config::resolved::RunAs;

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

fn unknown(action: &mut Section<'_>, text: &Text, kind: &str, name: &str) {
    let what = format!("this machine has no {kind} `{name}`");
    action.error(text.span(), what, format!("{kind}add --system {name}"));
}
