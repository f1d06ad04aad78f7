//! What an invite holds for the exchange of its key.

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{BadInvite, bad};
use crate::wire::ActionId;
use crate::wire::enrol::{EnrolPublic, EnrolSecret};
use crate::wire::key::unhex;

/// How a key is exchanged for one that only its user and the server know.
#[derive(Clone, Debug, PartialEq)]
pub struct Enrol {
    /// The server's half.
    pub server: EnrolPublic,
    /// What is knocked for.
    pub action: ActionId,
    /// What the key is good for until then.
    pub until: Until,
    /// The user's half, of an exchange that is under way: in profiles alone.
    pub secret: Option<EnrolSecret>,
}

/// What a key is good for until it is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// For all that its user may knock for.
    All,
    /// For nothing: it is the invite's.
    Nothing,
}

impl Enrol {
    /// Its table; holds the secret.
    pub(super) fn to_toml(&self) -> String {
        let Enrol { server, action, until, secret } = self;
        let secret = secret.as_ref().map(EnrolSecret::to_hex);
        let secret = secret.map(|secret| Zeroizing::new(format!("secret = \"{}\"\n", *secret)));
        let once = *until == Until::Nothing;
        let secret = secret.as_ref().map(|secret| secret.as_str()).unwrap_or_default();
        format!("\n[enrol]\nkey = \"{server}\"\naction = {action}\nonce = {once}\n{secret}")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEnrol {
    key: String,
    action: u8,
    #[serde(default)]
    once: bool,
    secret: Option<String>,
}

impl RawEnrol {
    pub(super) fn read(self) -> Result<Enrol, BadInvite> {
        let raw = self;
        let secret = raw.secret.map(Zeroizing::new).map(|hex| {
            let bytes =
                Zeroizing::new(unhex(hex.as_bytes()).ok_or_else(|| bad("secret", "is not 64 hex digits"))?);
            Ok::<_, BadInvite>(EnrolSecret::new(*bytes))
        });
        Ok(Enrol {
            server: EnrolPublic::parse(&raw.key).ok_or_else(|| bad("key", "is not 64 hex digits"))?,
            action: ActionId::new(raw.action).ok_or_else(|| bad("action", "is 0: ids are 1 to 255"))?,
            until: if raw.once { Until::Nothing } else { Until::All },
            secret: secret.transpose()?,
        })
    }
}
