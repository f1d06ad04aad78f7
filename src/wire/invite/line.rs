//! The invite in one line, for who has no file to hand over: `siglatch1:` and base64url of what follows, without padding.
//!
//! ```text
//! flags u8 (1 server id, 2 stamp, 4 receipt, 8 enrol, 16 key action) | name | host
//! | count u8, so often: address (16, IPv6 or v4-mapped) | port u16 | user | user id u16 | HMAC key (32)
//! | length u16, server key (SPKI DER) | server id (16), if there is one
//! | the server's half of an exchange (32), its action's id u8, flags u8 (1 once), if there is that
//! | the id u8 of the action that tells the server's key, if there is one
//! | count u8, so often: id u8, flags u8 (1 door, 2 totp), name
//! | the first 8 bytes of SHA-256 over all of it
//! ```
//!
//! Big-endian; a text is its length (u8) and its bytes. A line that was cut or mistyped is refused by its checksum, which
//! proves nothing about who made it.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Action, Answers, Asks, BadInvite, Enrol, Host, Invite, Opens, Until, bad};
use crate::wire::enrol::EnrolPublic;
use crate::wire::mac::mapped;
use crate::wire::reader::{Reader, WrongLength};
use crate::wire::rsa_key::BadRsaKey;
use crate::wire::stamp::Postage;
use crate::wire::{ActionId, HmacKey, PublicKey, ServerId, UserId};

/// What a line begins with: the version is part of it.
pub const PREFIX: &str = "siglatch1:";

/// Whether a text is meant as a line, of whatever version.
pub fn is_one(text: &str) -> bool {
    let version = text.strip_prefix("siglatch").and_then(|rest| rest.split_once(':'));
    version
        .is_some_and(|(version, _)| !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Invite {
    /// The line that [`Invite::parse`] reads. Holds the key.
    ///
    /// # Errors
    ///
    /// [`BadRsaKey`] when the server's key cannot be encoded.
    pub fn to_line(&self) -> Result<Zeroizing<String>, BadRsaKey> {
        // Room for all of it at once: a buffer that grows leaves copies of the key behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(ROOM));
        let flags = [
            (SERVER_ID, self.server_id.is_some()),
            (STAMP, self.postage == Postage::Stamped),
            (RECEIPT, self.answers == Answers::Receipt),
            (ENROL, self.enrol.is_some()),
            (KEY_ACTION, self.key_action.is_some()),
        ];
        bytes.push(set(&flags));
        put(&mut bytes, self.name.as_str());
        put(&mut bytes, self.host.as_str());
        bytes.push(u8::try_from(self.addresses.len()).unwrap_or(u8::MAX));
        bytes.extend(self.addresses.iter().flat_map(|address| mapped(*address)));
        bytes.extend(self.port.to_be_bytes());
        put(&mut bytes, self.user.as_str());
        bytes.extend(self.user_id.0.to_be_bytes());
        bytes.extend(self.hmac_key.bytes());
        let key = self.server_key.spki();
        let len = u16::try_from(key.len()).ok().filter(|len| *len > 0);
        bytes.extend(len.ok_or(BadRsaKey::Unreadable("public key"))?.to_be_bytes());
        bytes.extend(key);
        bytes.extend(self.server_id.iter().flat_map(|id| id.0));
        if let Some(Enrol { server, action, until, .. }) = &self.enrol {
            bytes.extend(server.0);
            bytes.extend([action.number(), set(&[(ONCE, *until == Until::Nothing)])]);
        }
        bytes.extend(self.key_action.map(ActionId::number));
        // An invite holds at most 255.
        bytes.push(u8::try_from(self.actions.len()).unwrap_or(u8::MAX));
        for (name, Action { id, opens, asks }) in self.actions.iter().take(255) {
            let flags = [(DOOR, *opens == Opens::Door), (TOTP, *asks == Asks::Totp)];
            bytes.extend([id.number(), set(&flags)]);
            put(&mut bytes, name.as_str());
        }
        let checksum = checksum(&bytes);
        bytes.extend(checksum);
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*bytes));
        Ok(Zeroizing::new(format!("{PREFIX}{}", *text)))
    }
}

/// Reads what follows [`PREFIX`].
pub(super) fn parse(text: &str) -> Result<Invite, BadInvite> {
    // A mail program may have folded it.
    let text: Zeroizing<String> = Zeroizing::new(text.split_ascii_whitespace().collect());
    let bytes = URL_SAFE_NO_PAD.decode(text.as_bytes()).map(Zeroizing::new).map_err(|_| BadInvite::Line)?;
    let (body, found) = bytes.split_last_chunk::<8>().ok_or(BadInvite::Line)?;
    if checksum(body) != *found {
        return Err(BadInvite::Line);
    }
    let mut reader = Reader::new(body);
    let invite = read(&mut reader)?;
    reader.end()?;
    Ok(invite)
}

fn read(reader: &mut Reader<'_>) -> Result<Invite, BadInvite> {
    let flags = known(reader.u8()?, SERVER_ID | STAMP | RECEIPT | ENROL | KEY_ACTION)?;
    let name = super::name("name", text(reader)?)?;
    let host = Host::parse(text(reader)?).ok_or_else(|| bad("host", "is no host name and no IP address"))?;
    let mut addresses = Vec::new();
    for _ in 0..reader.u8()? {
        addresses.push(Ipv6Addr::from(*reader.array::<16>()?).to_canonical());
    }
    let addresses = super::addresses(addresses)?;
    let port = u16::from_be_bytes(*reader.array()?);
    let user = super::name("user", text(reader)?)?;
    let user_id = UserId(u16::from_be_bytes(*reader.array()?));
    let hmac_key = HmacKey::new(*reader.array()?).map_err(|error| bad("hmac_key", error.to_string()))?;
    let len = u16::from_be_bytes(*reader.array()?);
    let server_key = PublicKey::from_spki(reader.bytes(len.into())?)
        .map_err(|error| bad("server_key", format!("cannot be used: {error}")))?;
    let server_id = if flags & SERVER_ID != 0 { Some(ServerId(*reader.array()?)) } else { None };
    let enrol = if flags & ENROL != 0 { Some(enrol(reader)?) } else { None };
    let key_action =
        if flags & KEY_ACTION != 0 { Some(super::action_id("key_action", reader.u8()?)?) } else { None };
    let mut actions = BTreeMap::new();
    for _ in 0..reader.u8()? {
        let [id, flags] = *reader.array()?;
        let flags = known(flags, DOOR | TOTP)?;
        let id = super::action_id("actions", id)?;
        let opens = if flags & DOOR != 0 { Opens::Door } else { Opens::Nothing };
        let asks = if flags & TOTP != 0 { Asks::Totp } else { Asks::Nothing };
        let known = actions.insert(super::name("actions", text(reader)?)?, Action { id, opens, asks });
        if known.is_some() {
            return Err(bad("actions", "has one name twice"));
        }
    }
    Ok(Invite {
        name,
        host,
        addresses,
        port: super::port(port)?,
        server_id,
        postage: if flags & STAMP != 0 { Postage::Stamped } else { Postage::Plain },
        answers: if flags & RECEIPT != 0 { Answers::Receipt } else { Answers::Nothing },
        user,
        user_id,
        hmac_key,
        server_key,
        key_action,
        enrol,
        actions,
    })
}

fn enrol(reader: &mut Reader<'_>) -> Result<Enrol, BadInvite> {
    let server = EnrolPublic(*reader.array()?);
    let [action, flags] = *reader.array()?;
    let action = ActionId::new(action).ok_or_else(|| bad("action", "is 0: ids are 1 to 255"))?;
    let once = known(flags, ONCE)? == ONCE;
    Ok(Enrol { server, action, until: if once { Until::Nothing } else { Until::All }, secret: None })
}

/// Flags that a later version has would be meant by it.
fn known(flags: u8, all: u8) -> Result<u8, BadInvite> {
    if flags & !all == 0 { Ok(flags) } else { Err(BadInvite::NewerLine) }
}

fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, BadInvite> {
    let len = reader.u8()?;
    // What is no text is no name either, and that is what is said.
    Ok(std::str::from_utf8(reader.bytes(len.into())?).unwrap_or_default())
}

fn put(bytes: &mut Vec<u8>, text: &str) {
    // Names and hosts have at most 253.
    bytes.push(u8::try_from(text.len()).unwrap_or_default());
    bytes.extend(text.as_bytes());
}

fn set(flags: &[(u8, bool)]) -> u8 {
    flags.iter().filter(|(_, on)| *on).fold(0, |all, (flag, _)| all | flag)
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(Sha256::digest(bytes));
    [a, b, c, d, e, f, g, h]
}

impl From<WrongLength> for BadInvite {
    fn from(_: WrongLength) -> BadInvite {
        BadInvite::Line
    }
}

/// Bytes, for any invite of some actions.
const ROOM: usize = 16 * 1024;

const SERVER_ID: u8 = 1;
const STAMP: u8 = 2;
const RECEIPT: u8 = 4;
const ENROL: u8 = 8;
const KEY_ACTION: u8 = 16;

const ONCE: u8 = 1;

const DOOR: u8 = 1;
const TOTP: u8 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_that_was_cut_folded_or_mistyped_is_read_whole_or_not_at_all() {
        let invite = super::super::tests::invite();
        let line = invite.to_line().unwrap();
        let read = |text: &str| Invite::parse(text).map(|read| format!("{read:?}"));
        assert_eq!(read(&format!("\n {}\r\n\n", *line)), Ok(format!("{invite:?}")));
        let folded: String =
            line.chars().map(|c| if c == 'A' { "A\n  ".to_owned() } else { c.to_string() }).collect();
        assert_eq!(read(&folded), Ok(format!("{invite:?}")));
        for cut in [PREFIX.len(), PREFIX.len() + 1, line.len() / 2, line.len() - 1] {
            assert_eq!(read(&line[..cut]), Err(BadInvite::Line), "{cut}");
        }
        for at in PREFIX.len()..line.len() {
            let mut other = line.as_bytes().to_vec();
            other[at] = if other[at] == b'x' { b'y' } else { b'x' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(read(&other), Err(BadInvite::Line), "{at}");
        }
        assert!(line.len() < 700, "{} characters are a large picture", line.len());
    }

    #[test]
    fn a_line_of_another_version_says_so() {
        let line = super::super::tests::invite().to_line().unwrap();
        assert_eq!(Invite::parse(&line.replace("siglatch1", "siglatch2")).unwrap_err(), BadInvite::NewerLine);
        let mut bytes = URL_SAFE_NO_PAD.decode(&line[PREFIX.len()..]).unwrap();
        bytes.truncate(bytes.len() - 8);
        bytes[0] |= 128;
        bytes.extend(checksum(&bytes));
        let newer = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes));
        assert_eq!(Invite::parse(&newer).unwrap_err(), BadInvite::NewerLine);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_invite_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            bytes.extend(checksum(&bytes));
            let line = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes));
            if let Ok(invite) = Invite::parse(&line) {
                prop_assert_eq!(&*invite.to_line().unwrap(), &line);
            }
        }
    }
}
