//! `siglatchctl set`, `apply`, `diff`, `pending`, `enable`, `disable`, `ban`, `unban`, `reload`: the running daemon's settings.
//!
//! The daemon decides: what it refuses is written nowhere. What is to outlive it is then written into the configuration, whose comments stay.

use toml_edit::{DocumentMut, Item, TableLike};

use super::args::{Apply, Banned, One, Pending, SetOne, Switch, Switched, Way};
use super::ask::{Daemon, ask, nothing};
use super::document::{Document, lock};
use crate::config::TEXT_MAX;
use crate::config::change::{Change, Taken, Takes};
use crate::config::files::{self, Secrecy};
use crate::config::resolved::Enabled;
use crate::control::status::Status;
use crate::control::{Ban, How, Reply, Request, Set};
use crate::exit::{self, Exit, Failure};
use crate::work::leases::Whom;

/// Whether the configuration is written, too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Save {
    Yes,
    No,
}

/// Has the configuration read again.
pub(super) fn reload(way: &Way) -> Result<(), Failure> {
    let reply = ask(way, &Request::Reload)?;
    let Reply::Reloaded { users, actions, warnings } = reply else { return Err(nothing(&reply)) };
    warnings.iter().for_each(|what| exit::note(&format!("warning: {what}")));
    exit::say(&format!("reloaded: users: {users}, actions: {actions}\n"))
}

/// Changes one setting.
pub(super) fn set(args: &SetOne) -> Result<(), Failure> {
    let change = match &args.value {
        Some(value) => {
            Change::parse(&args.key, value).map_err(|bad| Failure::new(Exit::Usage, bad.to_string()))?
        }
        None => Change { key: args.key.clone(), value: None },
    };
    let save = if args.save { Save::Yes } else { Save::No };
    change_all(&args.way, vec![change], how(args.dry_run), save)
}

/// Changes all settings that a file has.
pub(super) fn apply(args: &Apply) -> Result<(), Failure> {
    let bytes = files::read(&args.file, Secrecy::Public, TEXT_MAX)?;
    let wrong = |what: String| Failure::new(Exit::Usage, format!("{}: {what}", args.file.display()));
    let text = std::str::from_utf8(&bytes).map_err(|error| wrong(error.to_string()))?;
    let document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| wrong(error.to_string()))?;
    let mut changes = Vec::new();
    flatten("", document.as_table(), &mut changes).map_err(|key| wrong(format!("`{key}` is no setting")))?;
    if changes.is_empty() {
        return Err(wrong("holds no settings".to_owned()));
    }
    let save = if args.save { Save::Yes } else { Save::No };
    change_all(&args.way, changes, how(args.dry_run), save)
}

/// Turns a user or action on or off.
pub(super) fn switch(args: &Switch, to: Enabled) -> Result<(), Failure> {
    let (section, one) = match &args.what {
        Switched::User(one) => ("users", one),
        Switched::Action(one) => ("actions", one),
    };
    let change = Change {
        key: format!("{section}.{}.enabled", one.name),
        value: Some((to == Enabled::Yes).to_string()),
    };
    let save = if one.until_restart { Save::No } else { Save::Yes };
    let changed = change_all(&one.way, vec![change], How::Apply, save);
    if let (Switched::User(one), Enabled::No) = (&args.what, to) {
        // Who is kept out is in no more either; even where no file could be written.
        let reply = ask(&one.way, &Request::Revoke(Whom::User(one.name.to_string())));
        if let Ok(Reply::Revoked(leases)) = reply
            && leases > 0
        {
            exit::say(&format!("leases of {} that were ended: {leases}\n", one.name))?;
        }
    }
    changed.map_err(|failure| unknown(&args.what, failure))
}

/// What siglatchd refused, where the configuration says why.
fn unknown(what: &Switched, failure: Failure) -> Failure {
    let (kind, one) = match what {
        Switched::User(one) => ("user", one),
        Switched::Action(one) => ("action", one),
    };
    let name = one.name.as_str();
    let Ok(document) = Document::open(&one.way.config) else { return failure };
    if failure.exit != Exit::Config || document.entries(&format!("{kind}s")).any(|(other, _)| other == name) {
        return failure;
    }
    Failure::new(Exit::Usage, format!("{}: there is no {kind} {name}", document.path().display()))
        .hint(format!("siglatchctl {kind} list names them"))
}

/// The same of a user alone.
pub(super) fn switch_user(one: One, to: Enabled) -> Result<(), Failure> {
    switch(&Switch { what: Switched::User(one) }, to)
}

/// Hears nobody from a network, or from it again.
pub(super) fn ban(args: &Banned, ban: impl Fn(String) -> Ban) -> Result<(), Failure> {
    let save = if args.until_restart { Save::No } else { Save::Yes };
    settle(&args.way, &Request::Ban(ban(args.network.clone())), How::Apply, save)
}

/// Shows what differs between the running daemon and its files.
pub(super) fn diff(way: &Way) -> Result<(), Failure> {
    let status = status(way)?.config;
    let mut text = String::new();
    text.extend(status.unsaved.iter().map(|setting| format!("in force, in no file:      {setting}\n")));
    text.extend(status.pending.iter().map(|setting| format!("waits for the next start:  {setting}\n")));
    exit::say(if text.is_empty() { "the daemon runs as its files say\n" } else { &text })
}

/// Shows what waits for the next start, or forgets it.
pub(super) fn pending(args: &Pending) -> Result<(), Failure> {
    if args.discard {
        let reply = ask(&args.way, &Request::DiscardPending)?;
        let Reply::Set(_) = reply else { return Err(nothing(&reply)) };
        return exit::say("nothing waits for the next start\n");
    }
    let pending = status(&args.way)?.config.pending;
    if pending.is_empty() {
        return exit::say("nothing waits for the next start\n");
    }
    exit::say(&pending.iter().map(|setting| format!("{setting}\n")).collect::<String>())
}

/// The daemon's picture of itself.
pub(super) fn status(way: &Way) -> Result<Status, Failure> {
    let reply = ask(way, &Request::Status)?;
    let Reply::Status(status) = reply else { return Err(nothing(&reply)) };
    Ok(*status)
}

fn change_all(way: &Way, changes: Vec<Change>, how: How, save: Save) -> Result<(), Failure> {
    settle(way, &Request::Set(Set { changes, how }), how, save)
}

fn settle(way: &Way, request: &Request, how: How, save: Save) -> Result<(), Failure> {
    let saving = save == Save::Yes && how == How::Apply;
    // Nobody else may write between the daemon's yes and the file.
    let _locked = if saving { Some(lock(&way.config)?) } else { None };
    let mut daemon = Daemon::connect(way)?;
    let reply = daemon.ask(request)?;
    let Reply::Set(taken) = reply else { return Err(nothing(&reply)) };
    let kept = if saving { keep(way, &taken, &mut daemon) } else { Ok(()) };
    if let Err(failure) = kept {
        let list = taken.iter().map(|taken| taken.change.to_string()).collect::<Vec<_>>().join(", ");
        let what =
            format!("{list}: in force until siglatchd ends, but not in the configuration: {}", failure.what);
        return Err(Failure { what, ..failure });
    }
    let words = |taken: &Taken| match (how, taken.takes, save) {
        (How::Try, Takes::Live, _) => "would be in force at once",
        (How::Try, Takes::AtRestart, _) => "would take effect at the next start",
        (How::Apply, Takes::AtRestart, _) => "takes effect at the next start",
        (How::Apply, Takes::Live, Save::Yes) => "is in force, and in the configuration",
        (How::Apply, Takes::Live, Save::No) => "is in force until siglatchd ends; --save keeps it",
    };
    exit::say(&taken.iter().map(|taken| format!("{}: {}\n", taken.change, words(taken))).collect::<String>())
}

/// Writes what is in force into the files; what waits for a start is with the daemon.
fn keep(way: &Way, taken: &[Taken], daemon: &mut Daemon) -> Result<(), Failure> {
    let live: Vec<&Taken> = taken.iter().filter(|taken| taken.takes == Takes::Live).collect();
    if live.is_empty() {
        return Ok(());
    }
    if let Some(variable) = live.iter().find_map(|taken| taken.under.as_deref()) {
        let what = format!("{variable} in siglatchd's environment stands over that");
        return Err(
            Failure::new(Exit::Config, what).hint(format!("change {variable} where siglatchd is started"))
        );
    }
    let mut document = Document::open(&way.config)?;
    live.iter().try_for_each(|taken| document.make(&taken.change))?;
    document.save()?;
    // It forgets that they were in no file.
    let reply = daemon.ask(&Request::Reload)?;
    if let Reply::Failed(why) = &reply {
        exit::note(&format!("warning: the configuration has it, but siglatchd cannot use that: {why}"));
        return Ok(());
    }
    let Reply::Reloaded { .. } = reply else { return Err(nothing(&reply)) };
    Ok(())
}

fn how(dry_run: bool) -> How {
    if dry_run { How::Try } else { How::Apply }
}

/// The key that is none, if there is one.
fn flatten(prefix: &str, table: &dyn TableLike, changes: &mut Vec<Change>) -> Result<(), String> {
    for (name, item) in table.iter() {
        let key = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        match item {
            Item::Table(table) => flatten(&key, table, changes)?,
            Item::Value(value) => {
                let value = value.clone().decorated("", "").to_string();
                changes.push(Change { key, value: Some(value) });
            }
            Item::None => {}
            Item::ArrayOfTables(_) => return Err(key),
        }
    }
    Ok(())
}
