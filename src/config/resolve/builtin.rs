//! `builtin` of an action: what the daemon does itself.

use std::path::PathBuf;

use toml::Spanned;

use super::args;
use super::section::Section;
use crate::config::raw::RawAction;
use crate::config::resolved::{Builtin, Program, Remote};
use crate::wire::Bound;

/// It stands in the place of a program.
pub(super) fn resolve(action: &mut Section<'_>, raw: &RawAction) -> Option<Builtin> {
    let builtin = action.choice("builtin", &raw.builtin, None, &BUILTIN, &[]);
    if let Some(name) = &raw.builtin {
        alone(action, raw, "builtin", &format!("builtin = \"{name}\""));
    }
    builtin
}

/// The program of `run`, or nothing that could be started where the daemon needs none.
pub(super) fn run(action: &mut Section<'_>, raw: &RawAction) -> Option<Program> {
    match raw.builtin {
        Some(_) => Some(Program { path: PathBuf::new(), args: Vec::new() }),
        None => args::run(action, raw),
    }
}

/// Notes what does nothing beside `key`, which stands in the place of a program, or contradicts it. `written` is the key as it is
/// written there.
pub(super) fn alone(action: &mut Section<'_>, raw: &RawAction, key: &str, written: &str) {
    let others = [
        ("run", raw.run.as_ref().map(Spanned::span)),
        ("undo", raw.undo.as_ref().map(Spanned::span)),
        ("nft", raw.nft.as_ref().map(Spanned::span)),
    ];
    for (other, span) in others.into_iter().filter(|(other, _)| *other != key) {
        if let Some(span) = span {
            let what = format!("`{other}` beside `{written}`: an action is one of the two");
            action.error(span, what, "leave one of them out");
        }
    }
    let idle = [
        ("args", raw.args.as_ref().map(Spanned::span)),
        ("env", raw.env.as_ref().map(Spanned::span)),
        ("stdin", raw.stdin.as_ref().map(Spanned::span)),
        ("run_as", raw.run_as.as_ref().map(Spanned::span)),
    ];
    for (other, span) in idle {
        if let Some(span) = span {
            action.warning(span, format!("`{other}` does nothing beside `{key}`"), "leave it out");
        }
    }
}

/// The least that a knock for it must be bound to: what could be taken from one server to another, or be sent by who only saw one, steers
/// none.
pub(super) fn bind(builtin: Option<Builtin>) -> Bound {
    match builtin {
        Some(Builtin::Remote(_) | Builtin::Enrol) => Bound::Server,
        // What it tells is no secret, and nobody but its sender can read it.
        Some(Builtin::Whoami | Builtin::ServerKey) | None => Bound::None,
    }
}

const BUILTIN: [(&str, Option<Builtin>); 9] = [
    ("whoami", Some(Builtin::Whoami)),
    ("enrol", Some(Builtin::Enrol)),
    ("server_key", Some(Builtin::ServerKey)),
    ("status", Some(Builtin::Remote(Remote::Status))),
    ("version", Some(Builtin::Remote(Remote::Version))),
    ("list_users", Some(Builtin::Remote(Remote::ListUsers))),
    ("reload", Some(Builtin::Remote(Remote::Reload))),
    ("enable_user", Some(Builtin::Remote(Remote::EnableUser))),
    ("disable_user", Some(Builtin::Remote(Remote::DisableUser))),
];
