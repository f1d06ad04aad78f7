//! The invite: one TOML file, or one [`mod@line`], with all that a user needs to knock. Installed by `siglatch join`, it is a
//! profile.
//!
//! ```toml
//! siglatch   = 1                  # the format's version
//! name       = "office"           # the profile's name
//! host       = "vpn.example.org"  # name or address
//! addresses  = ["192.0.2.1"]      # where it is when nothing knows the name; may be left out, at most 8
//! port       = 50000
//! server_id  = "6f0e..."          # 32 hex digits; left out, knocks are not bound to the server
//! stamp      = true               # whether knocks are stamped; left out, they are plain, as siglatch v1 has them
//! receipt    = true               # whether the server answers stamped knocks; left out, nothing is waited for
//! user       = "alice"
//! user_id    = 1
//! hmac_key   = "1011..."          # 64 hex digits, the secret
//! server_key = """
//! -----BEGIN PUBLIC KEY-----
//! ...
//! """
//!
//! key_action = 251                # the action that tells the server's key (`wire::server_key`); left out, there is none known
//!
//! [enrol]                           # left out, the key is the user's for as long as the server has it
//! key    = "8520..."              # 64 hex digits, the server's half of an exchange of the key (`wire::enrol`)
//! action = 255                    # the action that makes it
//! once   = true                   # whether the key is good for nothing else
//! secret = "77a0..."              # 64 hex digits, in profiles alone: ours, of an exchange that is under way
//!
//! [actions]
//! report = 2
//! ssh    = { id = 1, door = true, totp = true }  # it opens something for the address that knocks, and takes options;
//!                                                # a knock for it carries a code of the user's authenticator
//! ```
//!
//! # Security considerations
//!
//! An invite comes by mail or from a stranger's hands: names become file names, arguments and lines on a terminal, so
//! they are [`Name`]s and [`Host`]s, which hold nothing that any of these could take for something else. No error
//! shows the key, nor a control character.

mod exchange;
pub mod line;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::stamp::Postage;
use super::{ActionId, HmacKey, PublicKey, ServerId, UserId};
use exchange::RawEnrol;
pub use exchange::{Enrol, Until};

/// The most addresses that an invite holds.
pub const ADDRESSES_MAX: usize = 8;

/// The longest invite, in bytes.
pub const INVITE_MAX: u64 = 16 * 1024;

/// All that a user needs to knock. Holds his key.
#[derive(Clone, Debug)]
pub struct Invite {
    /// The profile's name.
    pub name: Name,
    /// Where the server is.
    pub host: Host,
    /// Where it is when nothing knows that name, at most [`ADDRESSES_MAX`].
    pub addresses: Vec<IpAddr>,
    /// UDP port, never 0.
    pub port: u16,
    /// What knocks are bound to.
    pub server_id: Option<ServerId>,
    /// Whether knocks are stamped.
    pub postage: Postage,
    /// Whether the server answers stamped ones.
    pub answers: Answers,
    /// The user's name, as the server's administrator wrote it.
    pub user: Name,
    /// As the packet names him.
    pub user_id: UserId,
    /// Signs his knocks.
    pub hmac_key: HmacKey,
    /// Knocks are sealed with it.
    pub server_key: PublicKey,
    /// What tells a new key of the server's.
    pub key_action: Option<ActionId>,
    /// How his key is exchanged for another.
    pub enrol: Option<Enrol>,
    /// What he may knock for, at most 255.
    pub actions: BTreeMap<Name, Action>,
}

/// An action, as its user knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// As the packet names it.
    pub id: ActionId,
    /// What it does for him.
    pub opens: Opens,
    /// What a knock for it carries beside its payload.
    pub asks: Asks,
}

/// What an action asks its user for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// A code of his authenticator, in [`super::options`].
    Totp,
    /// Nothing, or the invite does not say.
    Nothing,
}

/// Whether a server answers stamped knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// With receipts.
    Receipt,
    /// It does not, or is too old to say.
    Nothing,
}

/// Whether an action opens something for the address that knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// For a time: each address family is knocked, and the hold and release of [`super::options`] are taken.
    Door,
    /// It does something else, or the server is too old to say.
    Nothing,
}

/// Why a text is no invite.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadInvite {
    /// Above [`INVITE_MAX`].
    #[error("longer than {INVITE_MAX} bytes: no invite is")]
    TooLong,
    /// No TOML, a key that is missing, or one that is not known.
    #[error("line {line}: {what}")]
    Toml {
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        what: String,
    },
    /// Another version of the format.
    #[error("`siglatch` = {0}: this program reads version 1, a newer one may read it")]
    Version(i64),
    /// It begins as a line does, and its checksum is not right.
    #[error("this line is not as it was made: it was cut or mistyped")]
    Line,
    /// It begins as a line of another version, or has what this one does not know.
    #[error("this line was made by a newer siglatch, which may read it")]
    NewerLine,
    /// A key's value cannot be used.
    #[error("`{key}` {what}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What it should be.
        what: String,
    },
}

impl Invite {
    /// Reads an invite of either form.
    ///
    /// # Errors
    ///
    /// [`BadInvite`] names the key and says how to mend it.
    pub fn parse(text: &str) -> Result<Invite, BadInvite> {
        if text.len() as u64 > INVITE_MAX {
            return Err(BadInvite::TooLong);
        }
        let start = text.trim_ascii_start();
        if let Some(line) = start.strip_prefix(line::PREFIX) {
            return line::parse(line);
        }
        if line::is_one(start) {
            return Err(BadInvite::NewerLine);
        }
        let toml = |error: toml::de::Error| bad_toml(text, &error);
        // The version first: what else a later one holds is nobody's mistake.
        let Version { siglatch } = toml::from_str(text).map_err(toml)?;
        if siglatch != 1 {
            return Err(BadInvite::Version(siglatch));
        }
        let raw: Raw = toml::from_str(text).map_err(toml)?;
        let hex = Zeroizing::new(raw.hmac_key);
        let hmac_key = Some(hex.as_bytes())
            .filter(|hex| hex.len() == 64)
            .and_then(|hex| HmacKey::parse(hex).ok())
            .ok_or_else(|| bad("hmac_key", "is not 64 hex digits of a key: ask for a new invite"))?;
        Ok(Invite {
            name: name("name", &raw.name)?,
            host: Host::parse(&raw.host).ok_or_else(|| bad("host", "is no host name and no IP address"))?,
            addresses: addresses(raw.addresses)?,
            port: port(raw.port)?,
            server_id: raw.server_id.as_deref().map(server_id).transpose()?,
            postage: if raw.stamp { Postage::Stamped } else { Postage::Plain },
            answers: if raw.receipt { Answers::Receipt } else { Answers::Nothing },
            user: name("user", &raw.user)?,
            user_id: UserId(raw.user_id),
            hmac_key,
            server_key: PublicKey::from_pem(&raw.server_key)
                .map_err(|error| bad("server_key", format!("cannot be used: {error}")))?,
            key_action: raw.key_action.map(|id| action_id("key_action", id)).transpose()?,
            enrol: raw.enrol.map(RawEnrol::read).transpose()?,
            actions: actions(&raw.actions)?,
        })
    }

    /// The text that [`Invite::parse`] reads, with a word of warning on top. Holds the key.
    ///
    /// # Errors
    ///
    /// [`super::rsa_key::BadRsaKey`] when the server's key cannot be encoded.
    pub fn to_toml(&self) -> Result<Zeroizing<String>, super::rsa_key::BadRsaKey> {
        // The types hold nothing that TOML would need to escape.
        let server_id = self.server_id.map(|id| format!("server_id = \"{id}\"\n")).unwrap_or_default();
        let actions = self.actions.iter().map(|(name, Action { id, opens, asks })| {
            let door = if *opens == Opens::Door { ", door = true" } else { "" };
            let totp = if *asks == Asks::Totp { ", totp = true" } else { "" };
            match (door, totp) {
                ("", "") => format!("\"{name}\" = {id}\n"),
                _ => format!("\"{name}\" = {{ id = {id}{door}{totp} }}\n"),
            }
        });
        let actions: String = actions.collect();
        let key_action = self.key_action.map(|id| format!("key_action = {id}\n")).unwrap_or_default();
        let addresses = match self.addresses.as_slice() {
            [] => String::new(),
            some => format!("addresses = {:?}\n", some.iter().map(IpAddr::to_string).collect::<Vec<_>>()),
        };
        let enrol = Zeroizing::new(self.enrol.as_ref().map(Enrol::to_toml).unwrap_or_default());
        Ok(Zeroizing::new(format!(
            "# Lets {user} knock at {host}: siglatch join THIS-FILE\n\
             # It holds the key of {user}: hand it over by a safe way, then delete it.\n\
             siglatch = 1\n\
             name = \"{name}\"\n\
             host = \"{host}\"\n\
             {addresses}\
             port = {port}\n\
             {server_id}\
             stamp = {stamp}\n\
             receipt = {receipt}\n\
             user = \"{user}\"\n\
             user_id = {user_id}\n\
             hmac_key = \"{key}\"\n\
             server_key = \"\"\"\n{pem}\"\"\"\n\
             {key_action}\
             {enrol}\n[actions]\n{actions}",
            user = self.user,
            host = self.host,
            name = self.name,
            port = self.port,
            stamp = self.postage == Postage::Stamped,
            receipt = self.answers == Answers::Receipt,
            user_id = self.user_id,
            key = *self.hmac_key.to_hex(),
            pem = self.server_key.to_pem()?,
            enrol = *enrol,
        )))
    }
}

/// A profile's, user's or action's name: `[A-Za-z0-9._-]{1,64}`, with a letter, digit or `_` in front.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// What a name may be, in words.
    pub const RULE: &str = "a name is 1 to 64 letters, digits, `.`, `_` or `-`, the first no `.` or `-`";

    /// `None` for anything else: see [`Name::RULE`].
    pub fn parse(text: &str) -> Option<Name> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=64).contains(&text.len()) && !text.starts_with(['.', '-']) && text.bytes().all(known);
        fits.then(|| Name(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A host name or address as a resolver takes it: 1 to 253 letters, digits, `.`, `-`, `_`, `:` or `%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(String);

impl Host {
    /// `None` for anything else, and for a `-` in front.
    pub fn parse(text: &str) -> Option<Host> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
        let fits = (1..=253).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(known);
        fits.then(|| Host(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[derive(Deserialize)]
struct Version {
    siglatch: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(rename = "siglatch")]
    _version: i64,
    name: String,
    host: String,
    #[serde(default)]
    addresses: Vec<IpAddr>,
    port: u16,
    server_id: Option<String>,
    #[serde(default)]
    stamp: bool,
    #[serde(default)]
    receipt: bool,
    user: String,
    user_id: u16,
    hmac_key: String,
    server_key: String,
    key_action: Option<u8>,
    enrol: Option<RawEnrol>,
    #[serde(default)]
    actions: BTreeMap<String, RawAction>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "an action is its number, 1 to 255, or { id = 1, door = true, totp = true }")]
enum RawAction {
    Id(u8),
    Table(ActionTable),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionTable {
    id: u8,
    #[serde(default)]
    door: bool,
    #[serde(default)]
    totp: bool,
}

fn name(key: &'static str, text: &str) -> Result<Name, BadInvite> {
    Name::parse(text).ok_or_else(|| bad(key, format!("cannot be used: {}", Name::RULE)))
}

fn port(port: u16) -> Result<u16, BadInvite> {
    if port == 0 { Err(bad("port", "is 0: a UDP port is 1 to 65535")) } else { Ok(port) }
}

/// As many as an invite may hold.
fn addresses(addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, BadInvite> {
    if addresses.len() > ADDRESSES_MAX {
        return Err(bad("addresses", format!("holds more than {ADDRESSES_MAX}")));
    }
    Ok(addresses)
}

fn server_id(text: &str) -> Result<ServerId, BadInvite> {
    ServerId::parse(text).ok_or_else(|| bad("server_id", "is not 32 hex digits"))
}

fn action_id(key: &'static str, id: u8) -> Result<ActionId, BadInvite> {
    ActionId::new(id).ok_or_else(|| bad(key, "holds the id 0: ids are 1 to 255"))
}

fn actions(raw: &BTreeMap<String, RawAction>) -> Result<BTreeMap<Name, Action>, BadInvite> {
    if raw.len() > 255 {
        return Err(bad("actions", "holds more than 255"));
    }
    raw.iter()
        .map(|(text, raw)| {
            let ActionTable { id, door, totp } = match *raw {
                RawAction::Id(id) => ActionTable { id, door: false, totp: false },
                RawAction::Table(table) => table,
            };
            let id = action_id("actions", id)?;
            let opens = if door { Opens::Door } else { Opens::Nothing };
            let asks = if totp { Asks::Totp } else { Asks::Nothing };
            Ok((name("actions", text)?, Action { id, opens, asks }))
        })
        .collect()
}

fn bad(key: &'static str, what: impl Into<String>) -> BadInvite {
    BadInvite::Value { key, what: what.into() }
}

/// The parser's message without its excerpt, which may be the line with the key, and without long words, of which one
/// may be the key in another's place.
fn bad_toml(text: &str, error: &toml::de::Error) -> BadInvite {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.bytes().take(start);
    let in_word = |c: char| c.is_ascii_alphanumeric();
    let words = error.message().split_inclusive(|c| !in_word(c)).map(|word| {
        let end = word.trim_start_matches(in_word);
        if word.len() > LONG_WORD { format!("...{end}") } else { word.to_owned() }
    });
    let told: String = words.collect();
    BadInvite::Toml {
        line: before.filter(|byte| *byte == b'\n').count().saturating_add(1),
        what: told.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
    }
}

/// Longer than any word of the parser's.
const LONG_WORD: usize = 32;

#[cfg(test)]
mod tests;
