//! `[control]` and `[admins.NAME]`: who may ask the running daemon for what, and over which way.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use nix::unistd::Group;
use zeroize::Zeroizing;

use super::section;
use super::section::Section;
use crate::config::problems::Problem;
use crate::config::raw::{Keys, RawAdmin, RawConfig, RawControl, Table, Text};
use crate::config::resolved::{Admin, Control, Loopback, Role};
use crate::config::shape::Document;
use crate::wire::invite::Name;
use crate::wire::key::unhex;

/// Whoever may ask.
pub(super) fn resolve(document: &Document, raw: &RawConfig, notes: &mut Vec<Problem>) -> Control {
    let missing = Keys::new(0..0, Table::default());
    let keys = raw.control.as_ref().unwrap_or(&missing);
    let mut control = section(document, "control", keys.span(), notes);
    let Table(ways) = keys.get_ref();
    let group = ways.group.as_ref().and_then(|name| group(&mut control, name));
    let tcp = tcp(&mut control, ways);
    let mut admins = BTreeMap::new();
    for (name, keys) in &raw.admins {
        if Name::parse(name.get_ref()).is_none() {
            notes.push(
                Problem::error(document.place(name.span()), "this is no name for an administrator")
                    .hint(Name::RULE),
            );
            continue;
        }
        let mut section = section(document, &format!("admins.{name}"), keys.span(), notes);
        let Table(raw) = keys.get_ref();
        admins.extend(admin(&mut section, raw).map(|admin| (name.get_ref().clone(), admin)));
    }
    Control { group, tcp, admins }
}

fn admin(section: &mut Section<'_>, raw: &RawAdmin) -> Option<Admin> {
    let hint = "`siglatchctl admin key` prints it";
    let text = section.required("public_key", &raw.public_key, hint)?;
    let key = unhex(text.get_ref().as_bytes());
    if key.is_none() {
        section.error(text.span(), "`public_key` takes the 64 hex digits of an Ed25519 key", hint);
    }
    let roles = [("viewer", Role::Viewer), ("operator", Role::Operator), ("admin", Role::Admin)];
    section.required("role", &raw.role, "write role = \"viewer\", \"operator\" or \"admin\"")?;
    Some(Admin { public_key: key?, role: section.choice("role", &raw.role, Role::Viewer, &roles, &[]) })
}

fn group(section: &mut Section<'_>, name: &Text) -> Option<u32> {
    let group = Group::from_name(name.get_ref()).ok().flatten();
    if group.is_none() {
        let what = format!("there is no group `{name}`");
        section.error(name.span(), what, format!("make it: groupadd --system {name}"));
    }
    group.map(|group| group.gid.as_raw())
}

fn tcp(section: &mut Section<'_>, raw: &RawControl) -> Option<Loopback> {
    let Some(text) = &raw.listen else {
        if let Some(token) = &raw.token {
            section.error(token.span(), "`token` without `listen`", "write listen = \"127.0.0.1:50001\"");
        }
        return None;
    };
    let address = text.get_ref().parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback());
    if address.is_none() {
        let what = "`control.listen` takes a loopback address with a port";
        section.error(
            text.span(),
            what,
            "write listen = \"127.0.0.1:50001\": it is no way through a network",
        );
    }
    let hint = "make one: umask 077; openssl rand -hex 32 > control.token";
    let file = section.required("token", &raw.token, hint)?;
    let (path, bytes) = section.secret(file, TOKEN_FILE_MAX)?;
    let token = bytes.trim_ascii();
    if token.len() < TOKEN_MIN {
        let what = format!("{}: a token has at least {TOKEN_MIN} characters", path.display());
        section.error(file.span(), what, hint);
        return None;
    }
    Some(Loopback { listen: address?, token: Zeroizing::new(token.to_vec()) })
}

/// Longest token file, in bytes.
const TOKEN_FILE_MAX: u64 = 1024;
/// Shortest token: 128 bits in hex.
const TOKEN_MIN: usize = 32;
