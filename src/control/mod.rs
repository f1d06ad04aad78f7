//! What `siglatchctl` and the exporter ask of a running siglatchd, over its control socket, and how it is signed.
//!
//! Lines of JSON, each with its end. The daemon says [`Hello`] first, with 32 bytes that are fresh for each connection; then each
//! request is an [`Envelope`] around a [`Signed`], and has one [`Reply`]. In: lines. Out: requests and replies. Never: sockets, clocks;
//! the daemon's end is in [`crate::keeper`], the other in [`crate::ctl`].
//!
//! # Security considerations
//!
//! What is signed names the server, the connection, a nonce and the time, so it can be played neither to another server, nor
//! to another connection, nor twice on this one.

pub mod nonces;
pub mod sign;
pub mod status;

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::change::{Change, Taken};
use crate::config::resolved::Role;
use crate::wire::KnockId;
use crate::work::hooks::Which;
use crate::work::leases::Whom;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// What the daemon does and has done.
    Status,
    /// End leases now.
    Revoke(Whom),
    /// Send webhooks now.
    RetryWebhooks(Which),
    /// Throw webhooks away.
    DropWebhooks(Which),
    /// Read the configuration again.
    Reload,
    /// Change settings of the running daemon.
    Set(Set),
    /// Forget what waits for the next start.
    DiscardPending,
    /// Hear nobody from this network, or from this network again.
    Ban(Ban),
    /// Say what would become of a knock that a user made now; nothing runs.
    TestKnock(TestKnock),
    /// Say what would become of this datagram; nothing runs.
    Explain(Datagram),
}

/// A knock to be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct TestKnock {
    /// Whose, by name.
    pub user: String,
    /// For what, by name or number.
    pub action: String,
    /// Where it is to come from.
    pub from: IpAddr,
}

/// A datagram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Datagram {
    /// Its bytes, as hex digits.
    pub hex: String,
    /// Where it is to have come from.
    pub from: IpAddr,
}

/// What would become of a knock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Explained {
    /// What is in it; none: nothing is known of it before its HMAC has verified.
    pub knock: Option<Known>,
    /// The code of the first check that it fails; none: it would run, unless the store knows its nonce, or quota or cooldown forbid it.
    pub refused: Option<String>,
    /// What that means.
    pub why: String,
}

/// An authentic knock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Known {
    /// Its id.
    pub id: KnockId,
    /// Whose it is.
    pub user: String,
    /// The action that it names.
    pub action: u8,
    /// When it was made (Unix seconds).
    pub timestamp: u32,
    /// What it is bound to.
    pub bound: String,
    /// Whether its user stamped it.
    pub stamped: bool,
}

/// Settings to be changed: all of them, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Set {
    /// What to.
    pub changes: Vec<Change>,
    /// Whether in earnest.
    pub how: How,
}

/// What is to come of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Nothing; only say what would.
    Try,
    /// It is in force; what takes effect at a start only waits for one.
    Apply,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ban {
    /// Is not heard.
    On(String),
    /// Is heard again.
    Off(String),
}

impl Request {
    /// The least that one must be to ask this.
    pub fn role(&self) -> Role {
        match self {
            Request::Status => Role::Viewer,
            Request::Revoke(_)
            | Request::RetryWebhooks(_)
            | Request::DropWebhooks(_)
            | Request::Reload
            | Request::Ban(_)
            | Request::TestKnock(_) => Role::Operator,
            Request::DiscardPending | Request::Explain(_) => Role::Admin,
            Request::Set(set) => set.changes.iter().map(Change::role).max().unwrap_or(Role::Operator),
        }
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// What the daemon does and has done.
    Status(Box<status::Status>),
    /// So many leases were ended.
    Revoked(usize),
    /// So many webhooks were meant.
    Webhooks(usize),
    /// The configuration was read, and is in force.
    Reloaded {
        /// Users.
        users: usize,
        /// Actions.
        actions: usize,
        /// What somebody should look at all the same.
        warnings: Vec<String>,
    },
    /// What came of each change, or would.
    Set(Vec<Taken>),
    /// What would become of a knock.
    Explained(Explained),
    /// The request was not taken: nothing was done.
    Refused(Refused),
    /// It was taken, and nothing was done.
    Failed(String),
}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// It is longer than [`LINE_MAX`], or no request.
    #[error("this is not understood: {0}")]
    Malformed(String),
    /// No enrolled administrator signed it, for this connection to this server.
    #[error("no enrolled administrator of this server has signed this")]
    NotSigned,
    /// Its time is further from the daemon's clock than [`sign::FRESHNESS`].
    #[error("it is signed at another time: the daemon's clock and yours differ by {0} s")]
    Stale(u64),
    /// It came before.
    #[error("this request came before")]
    Replayed,
    /// Too many were remembered to remember another.
    #[error("too many requests: try again in some minutes")]
    TooMany,
    /// It takes another role.
    #[error("this takes the role \"{wanted}\", and you have \"{yours}\"")]
    Role {
        /// The least one.
        wanted: String,
        /// His.
        yours: String,
    },
}

/// The first line of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Hello {
    /// [`VERSION`]
    pub siglatch: String,
    /// The daemon's own version.
    pub version: String,
    /// The server's id; zero if it has none.
    pub server_id: Hex<16>,
    /// Fresh for each connection.
    pub hello: Hex<32>,
}

/// What a client over TCP says first, before it hears [`Hello`].
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Bearer {
    /// What stands in the token file.
    pub token: String,
}

/// One request, signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Envelope {
    /// A [`Signed`], as it was written.
    pub signed: serde_json::Value,
    /// Ed25519, over what [`sign`] says.
    pub signature: Hex<64>,
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Signed {
    /// Who asks, by his name in `[admins]`.
    pub admin: String,
    /// Never used before.
    pub nonce: Hex<16>,
    /// When (Unix seconds, in decimal).
    pub at: String,
    /// What is asked.
    pub request: Request,
}

/// Bytes, shown as hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> Hex<N> {
    /// Reads twice `N` digits.
    pub fn parse(text: &str) -> Option<Hex<N>> {
        crate::wire::key::unhex(text.as_bytes()).map(Hex)
    }
}

impl<const N: usize> std::fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const N: usize> std::fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> From<Hex<N>> for String {
    fn from(hex: Hex<N>) -> String {
        hex.to_string()
    }
}

impl<const N: usize> TryFrom<String> for Hex<N> {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Hex<N>, &'static str> {
        Hex::parse(&text).ok_or("not so many hex digits")
    }
}

impl<const N: usize> JsonSchema for Hex<N> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Hex{N}").into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let pattern = format!("^[0-9A-Fa-f]{{{}}}$", 2_usize.saturating_mul(N));
        schemars::json_schema!({ "type": "string", "pattern": pattern })
    }
}

/// The socket's name in `runtime_dir`.
pub const SOCKET: &str = "control.sock";

/// What is spoken.
pub const VERSION: &str = "control 1";

/// Bytes of a request's longest line, its end included.
pub const LINE_MAX: usize = 64 << 10;

/// Bytes of a reply's longest line, its end included.
pub const REPLY_MAX: usize = 4 << 20;

/// What is no request or reply.
#[derive(Debug, thiserror::Error)]
#[error("this is not understood: {0}")]
pub struct BadLine(#[from] serde_json::Error);

/// One line.
///
/// # Errors
///
/// [`BadLine`]: it has no form in JSON.
pub fn write<T: Serialize>(message: &T) -> Result<Vec<u8>, BadLine> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads a line, with its end or without.
///
/// # Errors
///
/// [`BadLine`].
pub fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, BadLine> {
    Ok(serde_json::from_slice(line)?)
}

/// The JSON Schema of every line, as config/control.schema.json has it.
pub fn schema() -> serde_json::Value {
    /// Any line.
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is made")]
    enum Line {
        Bearer(Bearer),
        Hello(Hello),
        Envelope(Envelope),
        Signed(Signed),
        Reply(Reply),
    }
    schemars::schema_for!(Line).to_value()
}

#[cfg(test)]
mod tests;
