//! Identifiers of the wire.

use std::fmt;

/// A user, as the packet names him: u16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub u16);

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An action, as the packet names it: 1 to 255. Zero is reserved for replies and cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionId(std::num::NonZeroU8);

impl ActionId {
    /// `None` for 0, which is reserved for replies.
    pub fn new(id: u8) -> Option<ActionId> {
        std::num::NonZeroU8::new(id).map(ActionId)
    }

    /// The byte in the packet.
    pub fn number(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What makes a knock unique, and is claimed once, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce {
    /// The packet's timestamp, Unix seconds.
    pub timestamp: u32,
    /// Whose knock it is: two users may draw one challenge in one second.
    pub user: UserId,
    /// The packet's random challenge.
    pub challenge: u32,
}

/// One knock's name in logs and in a script's environment: the first 8 bytes of the sealed packet's SHA-256, so that
/// copies of one datagram carry one name, and keep it when their stamp is taken off. Shown as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KnockId(pub [u8; 8]);

impl KnockId {
    /// Of the sealed packet with this SHA-256.
    pub fn of([a, b, c, d, e, f, g, h, ..]: [u8; 32]) -> KnockId {
        KnockId([a, b, c, d, e, f, g, h])
    }

    /// Reads 16 hex digits.
    pub fn parse(text: &str) -> Option<KnockId> {
        super::key::unhex(text.as_bytes()).map(KnockId)
    }
}

impl From<KnockId> for String {
    fn from(id: KnockId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for KnockId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<KnockId, &'static str> {
        KnockId::parse(&text).ok_or("no 16 hex digits")
    }
}

impl fmt::Display for KnockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

#[cfg(feature = "server")]
impl schemars::JsonSchema for KnockId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KnockId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9A-Fa-f]{16}$" })
    }
}

impl fmt::Debug for KnockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// A server, or a fleet behind one key: 16 random bytes, shown as 32 hex digits. Not a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerId(pub [u8; 16]);

impl ServerId {
    /// Reads 32 hex digits.
    pub fn parse(text: &str) -> Option<ServerId> {
        super::key::unhex(text.as_bytes()).map(ServerId)
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
