//! What an invite says of the server, from its configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use toml_edit::Item;

use super::Person;
use crate::config::credential;
use crate::ctl::args::UserAdd;
use crate::ctl::document::Document;
use crate::ctl::{internal, random};
use crate::exit::{Exit, Failure};
use crate::wire::enrol::EnrolSecret;
use crate::wire::invite::{Action, Answers, Asks, Enrol, Host, Name, Opens, Until};
use crate::wire::stamp::Postage;
use crate::wire::{ActionId, HmacKey, Invite, PrivateKey, PublicKey, ServerId, UserId};

/// The same in every invite that one command makes.
pub(super) struct Server {
    name: Name,
    host: Host,
    addresses: Vec<IpAddr>,
    port: u16,
    id: Option<ServerId>,
    key: PublicKey,
    key_action: Option<ActionId>,
    enrol: Option<Enrol>,
    actions: BTreeMap<Name, Action>,
}

impl Server {
    /// `enrol_key`: one that was just made, and is in no file yet.
    pub(super) fn read(
        document: &Document,
        args: &UserAdd,
        enrol_key: Option<&EnrolSecret>,
    ) -> Result<Server, Failure> {
        let config = document.path().display();
        let wrong = |what: &str| Failure::new(Exit::Config, format!("{config}: {what}"));
        let host = host(document, args)?;
        let addresses = document.get("public_addresses").and_then(Item::as_array);
        let addresses: Option<Vec<IpAddr>> =
            addresses.into_iter().flatten().map(|text| text.as_str()?.parse().ok()).collect();
        let listen = document.first("listen").and_then(|first| first.parse().ok());
        let port = args.port.or(listen.map(|first: SocketAddr| first.port()));
        let port = port.ok_or_else(|| {
            wrong("`listen` has no address with a port in front").hint("say the port with --port P")
        })?;
        let named = document.text("private_key").ok_or_else(|| wrong("no `private_key`"))?;
        let path = credential::place(named).unwrap_or_else(|| Ok(document.folder().join(named)));
        let path = path.map_err(|(what, hint)| wrong(&what).hint(hint))?;
        let pem = credential::read(&path, KEY_FILE_MAX)?;
        let private = std::str::from_utf8(&pem).ok().map(PrivateKey::from_pem);
        let private = private
            .ok_or_else(|| wrong("`private_key` is no text"))?
            .map_err(|error| Failure::new(Exit::Config, format!("{}: {error}", path.display())))?;
        let id = document.text("server_id");
        let id =
            id.map(|text| ServerId::parse(text).ok_or_else(|| wrong("`server_id` is not 32 hex digits")));
        Ok(Server {
            name: args.profile_name.clone().map_or_else(|| profile_name(&host), Ok)?,
            host,
            addresses: addresses.ok_or_else(|| wrong("`public_addresses` does not hold IP addresses"))?,
            port,
            id: id.transpose()?,
            key: private.public().clone(),
            key_action: document.builtin("server_key"),
            enrol: enrol(document, args, enrol_key)?,
            actions: actions(document),
        })
    }

    /// With a fresh key.
    pub(super) fn invite(
        &self,
        document: &Document,
        args: &UserAdd,
        person: &Person,
        id: UserId,
    ) -> Result<Invite, Failure> {
        let named = |name: &Name| {
            let action = self.actions.get(name).ok_or_else(|| {
                let what = format!("{}: no action {name}", document.path().display());
                // Those that are about keys are everybody's, and no grant.
                let everybodys = ["enrol", "server_key"].map(|builtin| document.builtin(builtin));
                let granted =
                    self.actions.iter().filter(|(_, action)| !everybodys.contains(&Some(action.id)));
                let names: Vec<&str> = granted.map(|(name, _)| name.as_str()).collect();
                Failure::new(Exit::Usage, what).hint(format!("the actions are: {}", names.join(", ")))
            })?;
            Ok((name.clone(), *action))
        };
        Ok(Invite {
            name: self.name.clone(),
            host: self.host.clone(),
            addresses: self.addresses.clone(),
            port: self.port,
            server_id: self.id,
            postage: postage(document, args, &person.name)?,
            answers: answers(document, &person.name),
            user: person.name.clone(),
            user_id: id,
            hmac_key: HmacKey::new(random()?).map_err(|error| internal(&error))?,
            server_key: self.key.clone(),
            key_action: self.key_action,
            enrol: self.enrol.clone(),
            actions: person.actions.iter().map(named).collect::<Result<_, Failure>>()?,
        })
    }
}

/// What keys are exchanged with, where the server can.
fn enrol(document: &Document, args: &UserAdd, made: Option<&EnrolSecret>) -> Result<Option<Enrol>, Failure> {
    let Some((server, action)) = document.enrol(made)? else { return Ok(None) };
    let until = if args.once { Until::Nothing } else { Until::All };
    Ok(Some(Enrol { server: server.public(), action, until, secret: None }))
}

fn host(document: &Document, args: &UserAdd) -> Result<Host, Failure> {
    let config = document.path().display();
    match (&args.host, document.text("public_host")) {
        (Some(host), _) => Ok(host.clone()),
        (None, Some(text)) => Host::parse(text).ok_or_else(|| {
            let what = format!("{config}: public_host = {text:?} is no host name and no IP address");
            Failure::new(Exit::Config, what)
        }),
        (None, None) => {
            let what = "what is the server's name for users?";
            let hint = format!("say it with --host NAME, or as public_host in {config}");
            Err(Failure::new(Exit::Usage, what).hint(hint))
        }
    }
}

/// Knocks without stamps are no use where stamps are required.
fn postage(document: &Document, args: &UserAdd, name: &Name) -> Result<Postage, Failure> {
    if !args.no_stamp {
        return Ok(Postage::Stamped);
    }
    let mut own = document.entries("users").filter(|(other, _)| *other == name.as_str());
    let required = |item: Option<&Item>| item.and_then(Item::as_bool) == Some(true);
    if required(document.get("require_stamp")) || own.any(|(_, user)| required(user.get("require_stamp"))) {
        let what = format!("{}: `require_stamp` is true for {name}", document.path().display());
        let hint = "leave --no-stamp out, or change that first: his knocks would all be refused";
        return Err(Failure::new(Exit::Usage, what).hint(hint));
    }
    Ok(Postage::Plain)
}

/// As user or server has it: an action that has another word is waited for in vain, or not.
fn answers(document: &Document, name: &Name) -> Answers {
    let mut own = document.entries("users").filter(|(other, _)| *other == name.as_str());
    let own = own.find_map(|(_, user)| user.get("reply")).and_then(Item::as_str);
    match own.or(document.text("reply")) {
        None | Some("never") => Answers::Nothing,
        Some(_) => Answers::Receipt,
    }
}

/// All that there are; one that holds is a door.
fn actions(document: &Document) -> BTreeMap<Name, Action> {
    let actions = document.entries("actions").filter_map(|(name, action)| {
        let id = action.get("id").and_then(Item::as_integer)?;
        let id = ActionId::new(u8::try_from(id).ok()?)?;
        let opens = if action.contains_key("hold") { Opens::Door } else { Opens::Nothing };
        let totp = action.get("totp").and_then(Item::as_bool) == Some(true);
        let asks = if totp { Asks::Totp } else { Asks::Nothing };
        Some((Name::parse(name)?, Action { id, opens, asks }))
    });
    actions.collect()
}

/// Ids of users, as they are given out.
pub(super) struct Ids {
    whose: BTreeMap<u16, String>,
    of: BTreeMap<String, u16>,
    /// Of somebody who knocked: what he used would count against who is given it next.
    used: BTreeSet<u16>,
    /// All below it are taken or used.
    lowest: u16,
}

impl Ids {
    /// Of those in the document.
    pub(super) fn read(document: &Document) -> Ids {
        let users =
            document.entries("users").filter_map(|(name, user)| Some((name.to_owned(), id(user.get("id"))?)));
        let of: BTreeMap<String, u16> = users.collect();
        let whose = of.iter().map(|(name, id)| (*id, name.clone())).collect();
        let used = super::show::usage(document).iter().map(|usage| usage.user.0).collect();
        Ids { whose, of, used, lowest: 1 }
    }

    /// Who else has it.
    pub(super) fn whose(&self, id: u16, person: &Name) -> Option<&str> {
        self.whose.get(&id).map(String::as_str).filter(|name| *name != person.as_str())
    }

    /// The id that is asked for, the one he has, or the lowest that nobody has or had. `None`: every id is taken.
    pub(super) fn give(&mut self, person: &Person) -> Option<UserId> {
        let own = person.id.or_else(|| self.of.get(person.name.as_str()).copied());
        let id = match own {
            Some(id) => id,
            None => {
                let free = |id: &u16| !self.whose.contains_key(id) && !self.used.contains(id);
                self.lowest = (self.lowest..=u16::MAX).find(free)?;
                self.lowest
            }
        };
        self.whose.insert(id, person.name.to_string());
        self.of.insert(person.name.to_string(), id);
        Some(UserId(id))
    }
}

fn id(item: Option<&Item>) -> Option<u16> {
    item.and_then(Item::as_integer).and_then(|id| u16::try_from(id).ok())
}

/// `vpn.example.org` is `vpn`; an address is `server`.
fn profile_name(host: &Host) -> Result<Name, Failure> {
    let label = host.as_str().split('.').next().unwrap_or_default();
    let address = host.as_str().parse::<IpAddr>().is_ok();
    let name = if address { None } else { Name::parse(label) };
    name.or_else(|| Name::parse("server")).ok_or_else(|| internal(&"no name for the profile"))
}

const KEY_FILE_MAX: u64 = 16 * 1024;
