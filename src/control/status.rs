//! The running daemon at one moment: what `siglatchctl status`, `status.json`, `top` and the exporter show.
//!
//! Numbers that count go on for as long as the daemon runs. Never: an address of a stranger, a key, a payload.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The server's id, 32 hex digits.
    pub server_id: Option<String>,
    /// When this was said (Unix seconds).
    pub at: u64,
    /// For how many seconds it has run.
    pub up: u64,
    /// Whether it takes knocks.
    pub phase: Phase,
    /// Where it listens.
    pub listen: Vec<String>,
    /// The process that hears the network.
    pub listener: Listener,
    /// The ways of knocks to the RSA key.
    pub lanes: Lanes<Lane>,
    /// Datagrams.
    pub counts: Counts,
    /// Scripts of actions and doors.
    pub scripts: Scripts,
    /// Doors.
    pub doors: Doors,
    /// Webhooks.
    pub webhooks: Webhooks,
    /// Claims, leases and the rest on disk.
    pub store: Store,
    /// The audit trail.
    pub audit: Audit,
    /// How old (seconds) the oldest key of each kind is: `server`, `user`, `totp`.
    pub keys: BTreeMap<String, u64>,
    /// The change of the server's key; none: one key is good.
    pub rotation: Option<Rotation>,
    /// The configuration in force.
    pub config: Config,
    /// What became of the last knocks whose HMAC verified, the latest first: at most 20.
    pub latest: Vec<Decision>,
    /// What somebody should look at, each in a sentence with its remedy.
    pub warnings: Vec<Warning>,
}

/// Whether knocks are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// In a moment, for the first time.
    Starting,
    /// They are.
    #[default]
    Serving,
    /// It was told to stop.
    Stopping,
}

/// The listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Listener {
    /// Whether it receives, and has said so lately.
    pub well: bool,
    /// How often another one took its place.
    pub restarts: u64,
    /// Milliseconds since it was last heard.
    pub silent: u64,
}

/// One of each lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Lanes<T> {
    /// Plain knocks.
    pub plain: T,
    /// Stamped ones.
    pub stamped: T,
}

/// A lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Lane {
    /// Knocks that were opened with the RSA key.
    pub opened: u64,
    /// Knocks that wait for it.
    pub waiting: u64,
    /// For how many seconds there have been more than can be opened; none: there are not.
    pub short_for: Option<u64>,
}

/// What became of a knock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Decision {
    /// When (Unix seconds).
    pub at: u64,
    /// Its id, 16 hex digits.
    pub knock: String,
    /// Who knocked.
    pub user: String,
    /// For what.
    pub action: String,
    /// From where.
    pub from: IpAddr,
    /// `ran`, what was done in place of that, or the code of the reason that it was refused for.
    pub became: String,
}

/// `received = ran + refused` once nothing is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    /// Datagrams that came through the kernel's filter.
    pub received: u64,
    /// Knocks that were granted.
    pub ran: u64,
    /// By the reason's code; each is there.
    pub refused: BTreeMap<String, u64>,
    /// Dropped by the kernel: by its filter, or for want of room.
    pub kernel_drops: u64,
    /// Failed calls to receive.
    pub receive_errors: u64,
    /// Answers that could not be sent.
    pub send_errors: u64,
}

/// Scripts, `undo` among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Scripts {
    /// Under way.
    pub running: u64,
    /// Those that ended, by the action's name: each action that is configured now is there.
    pub ended: BTreeMap<String, Ended>,
}

/// Scripts that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Ended {
    /// Ended with 0.
    pub succeeded: u64,
    /// Ended otherwise.
    pub failed: u64,
    /// Were told to end because their time was up; counted in `failed` as well.
    pub timed_out: u64,
}

/// Doors and their leases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Doors {
    /// Who holds one.
    pub leases: Vec<Lease>,
    /// Doors that could not be closed and are tried again.
    pub undo_failing: u64,
    /// Attempts to close a door that failed.
    pub undo_failed: u64,
}

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Lease {
    /// Its id, 16 hex digits.
    pub lease: String,
    /// Who holds it.
    pub user: String,
    /// Of which action.
    pub action: String,
    /// From where he knocked.
    pub from: IpAddr,
    /// Whom the door is open for.
    pub opens_for: IpAddr,
    /// Seconds until it ends.
    pub left: u64,
}

/// Webhooks that are on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Webhooks {
    /// Still to be sent.
    pub pending: u64,
    /// Tried no more.
    pub failed: u64,
}

/// The store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Store {
    /// What is wrong with it; none: it works.
    pub failing: Option<String>,
    /// Claims that are remembered, when they were last counted: each half minute.
    pub claims: Option<u64>,
    /// How many it may remember.
    pub max_claims: u64,
    /// Claims that it has not answered.
    pub waiting: u64,
}

/// The audit trail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Audit {
    /// The last record's number.
    pub seq: u64,
    /// Its SHA-256, 64 hex digits.
    pub head: String,
    /// The Ed25519 key that checkpoints are signed with, 64 hex digits.
    pub public_key: String,
    /// What was found wrong with its file or key, at the start or since; none: nothing.
    pub broken: Option<String>,
    /// Why its file cannot be written now, which the store makes up for; none: it can.
    pub failing: Option<String>,
    /// Records that could not be written.
    pub missed: u64,
}

/// The configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// Its file.
    pub path: String,
    /// Users.
    pub users: u64,
    /// Those past their `not_after`, by name.
    pub expired: Vec<String>,
    /// Actions.
    pub actions: u64,
    /// Reloads that took effect.
    pub reloads: u64,
    /// Reloads that failed.
    pub reloads_failed: u64,
    /// The last reload.
    pub last_reload: Option<Reload>,
    /// Settings in force that the file does not hold, as `KEY = VALUE`.
    pub unsaved: Vec<String>,
    /// Settings that take effect at the next start, as `KEY = VALUE`.
    pub pending: Vec<String>,
    /// Networks that nobody is heard from.
    pub banned: Vec<String>,
}

/// One reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Reload {
    /// When it ended (Unix seconds).
    pub at: u64,
    /// Why it failed; none: it took effect.
    pub failed: Option<String>,
}

/// A new key of the server's, with the one before good beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Rotation {
    /// When (Unix seconds) the new key was made, by the time of its file.
    pub since: Option<u64>,
    /// Users who may knock.
    pub users: u64,
    /// Those of them who did not knock since, or not under the new key when they last did.
    pub behind: u64,
    /// Their names, the first 1000.
    pub names: Vec<String>,
}

/// Something to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Warning {
    /// A stable code, as in the log.
    pub code: String,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub hint: String,
}
