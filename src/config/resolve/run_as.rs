//! `run_as = "user[:group]"`

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid};

use super::section::Section;
use crate::config::raw::Text;
use crate::config::resolved::RunAs;

/// `None` where nothing is to change, which is all that a daemon without root can do.
pub(super) fn resolve(action: &mut Section<'_>, text: &Text) -> Option<RunAs> {
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
    if geteuid().is_root() {
        return Some(RunAs {
            uid: uid.as_raw(),
            gid: gid.as_raw(),
        });
    }
    if (uid, gid) != (geteuid(), getegid()) {
        let what = format!("only root can run something as {text}");
        action.error(
            text.span(),
            what,
            "start siglatchd as root, or leave `run_as` out",
        );
    }
    None
}

fn user_of(name: &str) -> Option<(Uid, Gid)> {
    let user = User::from_name(name).ok().flatten()?;
    Some((user.uid, user.gid))
}

fn unknown(action: &mut Section<'_>, text: &Text, kind: &str, name: &str) {
    let what = format!("this machine has no {kind} `{name}`");
    action.error(text.span(), what, format!("{kind}add --system {name}"));
}
