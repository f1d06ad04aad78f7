//! `siglatchctl user add`: a key, an invite, and a table in the configuration, in this order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use toml_edit::Item;
use zeroize::Zeroizing;

use super::args::UserAdd;
use super::document::{Document, Standing, lock};
use super::{Begun, internal, make_folder, print, random};
use crate::config::credential;
use crate::config::files::Existing;
use crate::exit::{self, Exit, Failure};
use crate::wire::invite::{Action, Answers, Asks, Host, Name, Opens};
use crate::wire::stamp::Postage;
use crate::wire::{ActionId, HmacKey, Invite, PrivateKey, ServerId, UserId};

/// Runs the command.
pub(super) fn add(args: &UserAdd) -> Result<(), Failure> {
    // Two at once would each write the file without the other's user.
    let _lock = lock(&args.at.config)?;
    let mut document = Document::open(&args.at.config)?;
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let id = user_id(&document, args)?;
    let invite = invite(&document, args, id)?;
    let text = invite.to_toml().map_err(|error| internal(&error))?;

    let keys = document.folder().join("keys");
    let key = keys.join(format!("{}.hmac", args.name));
    let hex = Zeroizing::new(format!("{}\n", *invite.hmac_key.to_hex()));
    let file = args.invite.clone();
    let file = file.unwrap_or_else(|| PathBuf::from(format!("{}.invite.toml", args.name)));
    let to_stdout = file == Path::new("-");
    let mut files = vec![(key, hex.as_bytes())];
    if !to_stdout {
        files.push((file.clone(), text.as_bytes()));
    }
    if existing == Existing::Keep {
        files.iter().try_for_each(|(path, _)| absent(path))?;
    }
    document.set_user(&args.name, id, &format!("keys/{}.hmac", args.name), &args.actions)?;

    make_folder(&keys, 0o700)?;
    let mut begun = Begun::default();
    for (path, bytes) in files {
        begun.write(path, bytes, 0o600, existing)?;
    }
    if to_stdout {
        print("the invite", &text)?;
    }
    document.save()?;
    begun.done();
    report(&document, &invite, &file)
}

/// Says what is to be done next; on standard error, where the invite has taken standard output.
fn report(document: &Document, invite: &Invite, file: &Path) -> Result<(), Failure> {
    let Invite { user, user_id, .. } = invite;
    let config = document.path().display();
    let reload = "next: if siglatchd runs, have it read that: siglatchctl reload";
    let added = format!("added {user} ({user_id}) to {config}\n{reload}");
    if file == Path::new("-") {
        exit::note(&added);
        return Ok(());
    }
    let name = Path::new(file.file_name().unwrap_or(file.as_os_str())).display();
    let file = file.display();
    exit::say(&format!(
        "{added}\nthen: hand {file} to {user} by a safe way, it holds the key, and delete it here\n\
         there: siglatch join {name}\n"
    ))
}

/// The invite with a fresh key, from what the configuration says.
fn invite(document: &Document, args: &UserAdd, user_id: UserId) -> Result<Invite, Failure> {
    let config = document.path().display();
    let wrong = |what: String| Failure::new(Exit::Config, format!("{config}: {what}"));
    let host = match (&args.host, document.text("public_host")) {
        (Some(host), _) => host.clone(),
        (None, Some(text)) => Host::parse(text)
            .ok_or_else(|| wrong(format!("public_host = {text:?} is no host name and no IP address")))?,
        (None, None) => {
            let what = "what is the server's name for users?";
            let hint = format!("say it with --host NAME, or as public_host in {config}");
            return Err(Failure::new(Exit::Usage, what).hint(hint));
        }
    };
    let listen = document.first("listen").and_then(|first| first.parse().ok());
    let port = args.port.or(listen.map(|first: SocketAddr| first.port()));
    let port = port.ok_or_else(|| {
        wrong("`listen` has no address with a port in front".to_owned()).hint("say the port with --port P")
    })?;
    let named = document.text("private_key").ok_or_else(|| wrong("no `private_key`".to_owned()))?;
    let path = credential::place(named).unwrap_or_else(|| Ok(document.folder().join(named)));
    let path = path.map_err(|(what, hint)| wrong(what).hint(hint))?;
    let pem = credential::read(&path, KEY_FILE_MAX)?;
    let private = std::str::from_utf8(&pem).ok().map(PrivateKey::from_pem);
    let private = private
        .ok_or_else(|| wrong("`private_key` is no text".to_owned()))?
        .map_err(|error| Failure::new(Exit::Config, format!("{}: {error}", path.display())))?;
    let server_id = document.text("server_id").map(|text| {
        ServerId::parse(text).ok_or_else(|| wrong("`server_id` is not 32 hex digits".to_owned()))
    });
    Ok(Invite {
        name: args.profile_name.clone().map_or_else(|| profile_name(&host), Ok)?,
        host,
        port,
        server_id: server_id.transpose()?,
        postage: postage(document, args)?,
        answers: answers(document, args),
        user: args.name.clone(),
        user_id,
        hmac_key: HmacKey::new(random()?).map_err(|error| internal(&error))?,
        server_key: private.public().clone(),
        actions: actions(document, args)?,
    })
}

/// Knocks without stamps are no use where stamps are required.
fn postage(document: &Document, args: &UserAdd) -> Result<Postage, Failure> {
    if !args.no_stamp {
        return Ok(Postage::Stamped);
    }
    let mut own = document.entries("users").filter(|(name, _)| *name == args.name.as_str());
    let required = |item: Option<&Item>| item.and_then(Item::as_bool) == Some(true);
    if required(document.get("require_stamp")) || own.any(|(_, user)| required(user.get("require_stamp"))) {
        let what = format!("{}: `require_stamp` is true for {}", document.path().display(), args.name);
        let hint = "leave --no-stamp out, or change that first: his knocks would all be refused";
        return Err(Failure::new(Exit::Usage, what).hint(hint));
    }
    Ok(Postage::Plain)
}

/// As user or server has it: an action that has another word is waited for in vain, or not.
fn answers(document: &Document, args: &UserAdd) -> Answers {
    let mut own = document.entries("users").filter(|(name, _)| *name == args.name.as_str());
    let own = own.find_map(|(_, user)| user.get("reply")).and_then(Item::as_str);
    match own.or(document.text("reply")) {
        None | Some("never") => Answers::Nothing,
        Some(_) => Answers::Receipt,
    }
}

/// The actions that are asked for; one that holds is a door.
fn actions(document: &Document, args: &UserAdd) -> Result<BTreeMap<Name, Action>, Failure> {
    let known: BTreeMap<&str, Action> = document
        .entries("actions")
        .filter_map(|(name, action)| {
            let id = action.get("id").and_then(Item::as_integer)?;
            let id = ActionId::new(u8::try_from(id).ok()?)?;
            let opens = if action.contains_key("hold") { Opens::Door } else { Opens::Nothing };
            let totp = action.get("totp").and_then(Item::as_bool) == Some(true);
            Some((name, Action { id, opens, asks: if totp { Asks::Totp } else { Asks::Nothing } }))
        })
        .collect();
    let find = |name: &Name| {
        let action = known.get(name.as_str()).ok_or_else(|| {
            let what = format!("{}: no action {name}", document.path().display());
            let names: Vec<&str> = known.keys().copied().collect();
            Failure::new(Exit::Usage, what).hint(format!("the actions are: {}", names.join(", ")))
        })?;
        Ok((name.clone(), *action))
    };
    args.actions.iter().map(find).collect()
}

/// The id that is asked for, the one he has, or the lowest that nobody has.
fn user_id(document: &Document, args: &UserAdd) -> Result<UserId, Failure> {
    let config = document.path().display();
    let mut own = None;
    let mut taken = BTreeSet::new();
    for (name, user) in document.entries("users") {
        let id = user.get("id").and_then(Item::as_integer);
        let id = id.and_then(|id| u16::try_from(id).ok());
        if name == args.name.as_str() {
            own = id;
        } else if let Some(id) = id {
            if args.id == Some(id) {
                let what = format!("{config}: the id {id} is {name}'s");
                return Err(
                    Failure::new(Exit::Usage, what).hint("leave --id out to take the lowest that is free")
                );
            }
            taken.insert(id);
        }
    }
    match (document.user(&args.name), args.force) {
        (Standing::Nowhere, _) | (Standing::Here, true) => {}
        (Standing::Here, false) => {
            let what = format!("{config}: there is a user {} already", args.name);
            return Err(Failure::new(Exit::Config, what).hint(format!(
                "what he may run stands in [users.{}]; --force gives him a new key",
                args.name
            )));
        }
        (Standing::Elsewhere, _) => {
            let what = format!("{config}: an included file has a user {} already", args.name);
            return Err(Failure::new(Exit::Config, what).hint("take that table out first"));
        }
    }
    let lowest = || (1..=u16::MAX).find(|id| !taken.contains(id));
    let id = args.id.or(own).or_else(lowest);
    id.map(UserId).ok_or_else(|| Failure::new(Exit::Config, format!("{config}: every user id is taken")))
}

/// `vpn.example.org` is `vpn`; an address is `server`.
fn profile_name(host: &Host) -> Result<Name, Failure> {
    let label = host.as_str().split('.').next().unwrap_or_default();
    let address = host.as_str().parse::<IpAddr>().is_ok();
    let name = if address { None } else { Name::parse(label) };
    name.or_else(|| Name::parse("server")).ok_or_else(|| internal(&"no name for the profile"))
}

fn absent(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let what = format!("{}: is there already", path.display());
    Err(Failure::new(Exit::Config, what).hint("nothing was changed; --force replaces it"))
}

const KEY_FILE_MAX: u64 = 16 * 1024;
