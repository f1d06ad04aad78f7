//! `siglatchctl user add`: keys, invites, and tables in the configuration, in this order; for one, or for a whole table of people.

pub(super) mod enrol;
mod invite;
mod people;
mod picture;
mod remove;
mod show;

use std::path::{Path, PathBuf};

use toml_edit::{Array, Datetime, Item, TableLike, Value};
use zeroize::Zeroizing;

use super::args::{UserAdd, Way};
use super::document::{Document, Standing, lock};
use super::{Begun, internal, make_folder, print};
use crate::clock;
use crate::config::allowance::{last_moment, server_zone};
use crate::config::files::{self, Existing};
use crate::exit::{self, Exit, Failure};
use crate::wire::enrol::EnrolSecret;
use crate::wire::invite::Name;
use crate::wire::{Invite, UserId};
use invite::{Ids, Server};
pub(super) use remove::{confirm, have_read, in_force, known, remove};
pub(super) use show::{exchanged, is_over, moved, show};

/// Someone to be added.
struct Person {
    name: Name,
    actions: Vec<Name>,
    id: Option<u16>,
    not_after: Option<String>,
    max_knocks: Option<u32>,
}

/// What is made of him.
struct Made {
    invite: Invite,
    /// Where it goes; nowhere: to standard output.
    file: Option<PathBuf>,
    text: Zeroizing<String>,
    key: Zeroizing<String>,
}

/// Runs the command.
pub(super) fn add(args: &UserAdd) -> Result<(), Failure> {
    // Two at once would each write the file without the other's user.
    let _lock = lock(&args.way.config)?;
    let mut document = Document::open(&args.way.config)?;
    let enrol = if args.once { enrol::ensure(&mut document)? } else { None };
    let made = make_all(&mut document, args, enrol.as_ref().map(|made| &made.key))?;

    let keys = document.folder().join("keys");
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let mut files: Vec<(PathBuf, Zeroizing<Vec<u8>>)> = Vec::new();
    for Made { invite, file, text, key } in &made {
        files.push((keys.join(format!("{}.hmac", invite.user)), key.as_bytes().to_vec().into()));
        files.extend(file.iter().map(|file| (file.clone(), text.as_bytes().to_vec().into())));
        match args.qr.as_deref() {
            None => {}
            Some(terminal) if terminal == Path::new("-") => drop(picture::terminal(&line(invite)?)?),
            Some(file) => files.push((file.to_owned(), picture::png(&line(invite)?)?)),
        }
    }
    if existing == Existing::Keep {
        files.iter().try_for_each(|(path, _)| absent(path))?;
    }
    make_folder(&keys, 0o700)?;
    if let (Some(_), Some(folder)) = (&args.from, &args.invite) {
        make_folder(folder, 0o700)?;
    }
    // A key that is replaced comes last: before the configuration says what it is good for, nobody may have it.
    let (later, first): (Vec<_>, Vec<_>) = files.iter().partition(|(path, _)| path.exists());
    let mut begun = Begun::default();
    enrol.iter().try_for_each(|made| made.write(&mut begun))?;
    for (path, bytes) in first {
        begun.write(path.clone(), bytes, 0o600, Existing::Keep)?;
    }
    for made in made.iter().filter(|made| made.file.is_none()) {
        print("the invite", &made.text)?;
    }
    document.save()?;
    begun.done();
    if args.once && show::has_no_store(&document) {
        exit::note(
            "warning: siglatchd did not run here yet, and voids what invites there are when it makes its store: start it, then make this one again",
        );
    }
    for (path, bytes) in later {
        files::write(path, bytes, 0o600, existing)?;
    }
    let known = told(&args.way, &document);
    report(&document, args, &made, &known)
}

/// All of them, or what is wrong with any.
fn make_all(
    document: &mut Document,
    args: &UserAdd,
    enrol: Option<&EnrolSecret>,
) -> Result<Vec<Made>, Failure> {
    let (Some(table), None) = (&args.from, &args.name) else {
        let person = Person {
            name: args.name.clone().ok_or_else(|| Failure::new(Exit::Usage, "whom? give a name"))?,
            actions: args.actions.clone(),
            id: args.id,
            not_after: args.not_after.clone(),
            max_knocks: args.max_knocks,
        };
        let (server, mut ids) = (Server::read(document, args, enrol)?, Ids::read(document));
        let file = args.invite.clone().unwrap_or_else(|| invite_file(Path::new(""), &person.name));
        let file = Some(file).filter(|file| file != Path::new("-"));
        return Ok(vec![make(document, args, &server, &mut ids, &person, file)?]);
    };
    let (server, mut ids) = (Server::read(document, args, enrol)?, Ids::read(document));
    let folder = args.invite.clone().unwrap_or_default();
    let (mut made, mut wrong) = (Vec::new(), Vec::new());
    for people::Row { line, person } in people::read(table).map_err(last)? {
        let file = invite_file(&folder, &person.name);
        match make(document, args, &server, &mut ids, &person, Some(file)) {
            Ok(one) => made.push(one),
            Err(failure) => wrong.push(people::at(table, line, failure)),
        }
    }
    if wrong.is_empty() { Ok(made) } else { Err(last(wrong)) }
}

/// Of several failures all but the last are shown here.
fn last(mut wrong: Vec<Failure>) -> Failure {
    let last = wrong.pop().unwrap_or_else(|| internal(&"a failure without a reason"));
    wrong.iter().for_each(Failure::show);
    let hint = last.hint.iter().map(String::as_str).chain(["nothing was changed"]);
    let hint = hint.collect::<Vec<_>>().join("; ");
    last.hint(hint)
}

fn invite_file(folder: &Path, name: &Name) -> PathBuf {
    folder.join(format!("{name}.invite.toml"))
}

/// Adds him to the document, which is not written yet.
fn make(
    document: &mut Document,
    args: &UserAdd,
    server: &Server,
    ids: &mut Ids,
    person: &Person,
    file: Option<PathBuf>,
) -> Result<Made, Failure> {
    let id = user_id(document, args, person, ids)?;
    let not_after = person.not_after.as_deref().map(|text| {
        let wrong = || {
            let what = format!("{text:?} is neither a date nor a moment with its offset from UTC");
            Failure::new(Exit::Usage, what).hint("write 2030-12-31 or 2030-12-31T23:59:59+01:00")
        };
        if last_moment(text, &server_zone(document.text("zone"))).ok_or_else(wrong)? < clock::wall() {
            exit::note(&format!("warning: {text} is over"));
        }
        Ok::<Value, Failure>(text.parse::<Datetime>().map_or_else(|_| Value::from(text), Value::from))
    });
    let invite = server.invite(document, args, person, id)?;
    let actions: Array = person.actions.iter().map(Name::as_str).collect();
    let mut values = vec![
        ("id", Value::from(i64::from(id.0))),
        ("hmac_key", key_file(document, &person.name).into()),
        ("actions", actions.into()),
    ];
    values.extend(not_after.transpose()?.map(|moment| ("not_after", moment)));
    values.extend(person.max_knocks.map(|most| ("max_knocks", i64::from(most).into())));
    // What was said of the key that he had is not said of this one.
    document.unset_user(&person.name, &["invite_until", "rotate_until"]);
    if args.once {
        values.push(("invite_until", enrol::until(args.expires)?));
    }
    document.set_user(&person.name, values)?;
    let text = invite.to_toml().map_err(|error| internal(&error))?;
    let key = Zeroizing::new(format!("{}\n", *invite.hmac_key.to_hex()));
    Ok(Made { invite, file, text, key })
}

/// As the file with the user names it: its paths are relative to itself.
fn key_file(document: &Document, name: &Name) -> String {
    let file = format!("keys/{name}.hmac");
    match document.user(name) {
        Standing::Here | Standing::Nowhere => file,
        Standing::Elsewhere => document.folder().join(file).display().to_string(),
    }
}

/// Has the running daemon read it. Where it cannot, he is in the files all the same.
fn told(way: &Way, document: &Document) -> String {
    match have_read(way, document) {
        Ok(known) => format!("{known}\n"),
        Err(Failure { what, hint, .. }) => {
            exit::note(&format!("warning: {what}"));
            hint.iter().for_each(|hint| exit::note(&format!(" hint: {hint}")));
            String::new()
        }
    }
}

/// Says what is to be done next; on standard error, where the invite has taken standard output.
fn report(document: &Document, args: &UserAdd, made: &[Made], known: &str) -> Result<(), Failure> {
    let config = document.path().display();
    for Made { invite: Invite { user, .. }, .. } in made {
        let table = document.entries("users").find(|(name, _)| *name == user.as_str());
        let off = |user: &dyn TableLike| user.get("enabled").and_then(Item::as_bool) == Some(false);
        if table.is_some_and(|(_, table)| off(table)) {
            exit::note(&format!("warning: {user} is disabled: siglatchctl user enable {user}"));
        }
    }
    let added = made.iter().map(|Made { invite: Invite { user, user_id, .. }, .. }| {
        format!("added {user} ({user_id}) to {config}\n")
    });
    let added: String = added.collect();
    let [Made { invite, file, .. }] = made else {
        let then = "next: hand each *.invite.toml to whom it names by a safe way, it holds his key, and delete it here";
        return exit::say(&format!("{added}{known}{then}\n"));
    };
    let Some(file) = file else {
        exit::note(format!("{added}{known}").trim_end());
        return Ok(());
    };
    let user = &invite.user;
    let name = Path::new(file.file_name().unwrap_or(file.as_os_str())).display();
    let file = file.display();
    exit::say(&format!(
        "{added}{known}\
         next: hand {file} to {user} by a safe way, it holds the key, and delete it here\n\
         there: siglatch join {name}\n"
    ))?;
    let line = line(invite)?;
    exit::say(&Zeroizing::new(format!("or, all of it in one line: siglatch join {}\n", *line)))?;
    match args.qr.as_deref() {
        Some(to) if to == Path::new("-") => exit::say(&picture::terminal(&line)?),
        Some(_) | None => Ok(()),
    }
}

fn line(invite: &Invite) -> Result<Zeroizing<String>, Failure> {
    invite.to_line().map_err(|error| internal(&error))
}

/// The id that is asked for, the one he has, or the lowest that nobody has or had.
fn user_id(document: &Document, args: &UserAdd, person: &Person, ids: &mut Ids) -> Result<UserId, Failure> {
    let config = document.path().display();
    if let Some((id, name)) = person.id.and_then(|id| Some((id, ids.whose(id, &person.name)?))) {
        let what = format!("{config}: the id {id} is {name}'s");
        let hint = "leave the id out to take the lowest that is free";
        return Err(Failure::new(Exit::Usage, what).hint(hint));
    }
    match (document.user(&person.name), args.force) {
        (Standing::Nowhere, _) | (_, true) => {}
        (Standing::Here | Standing::Elsewhere, false) => {
            let what = format!("{config}: there is a user {} already", person.name);
            return Err(Failure::new(Exit::Config, what).hint(format!(
                "what he may run stands in [users.{}]; --force gives him a new key",
                person.name
            )));
        }
    }
    ids.give(person).ok_or_else(|| Failure::new(Exit::Config, format!("{config}: every user id is taken")))
}

fn absent(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let what = format!("{}: is there already", path.display());
    Err(Failure::new(Exit::Config, what).hint("nothing was changed; --force replaces it"))
}
