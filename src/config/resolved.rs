//! The configuration as the daemon uses it: valid by construction.

mod audit;
mod builtin;
mod control;
mod exchange;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use audit::{Audit, AuditPayload};
pub use builtin::Builtin;
pub use control::{Admin, Argument, Control, Loopback, Remote, Role};
pub use exchange::Exchange;

use super::allowance::Allowance;
use super::made::Made;
use super::totp_key::TotpKey;
use crate::wire::enrol::EnrolSecret;
use crate::wire::options::Kind;
use crate::wire::{ActionId, Bound, HmacKey, PublicKey, ServerId, UserId};

/// The whole of it. Users and actions are shared, so that what runs keeps what it was started with over a reload.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// UDP addresses; `::ffff:` folded to IPv4. At restart only.
    pub listen: Vec<SocketAddr>,
    /// Opens sealed packets. At restart only.
    pub private_key: KeyFile,
    /// The one before, with as long a modulus, while both are good. At restart only.
    pub old_private_key: Option<KeyFile>,
    /// What bound knocks are signed for; without it only plain ones are authentic.
    pub server_id: Option<ServerId>,
    /// The keeper's half of every exchange of a key; without it none is exchanged.
    pub enrol_key: Option<EnrolSecret>,
    /// Folder of the store. At restart only.
    pub state_dir: PathBuf,
    /// Folder of the control socket. At restart only.
    pub runtime_dir: PathBuf,
    /// Largest accepted distance between a packet's timestamp and the wall clock, both ends included; whole
    /// seconds.
    pub freshness: Duration,
    /// Where claims are kept. At restart only.
    pub store: StoreKind,
    /// How much the listener locks itself in. At restart only.
    pub sandbox: Sandbox,
    /// Whom the listener becomes; `None` where it stays who it is. At restart only.
    pub listener_user: Option<RunAs>,
    /// Whether plain knocks are taken at all.
    pub stamp: Stamp,
    /// The least binding that is accepted.
    pub bind: Bound,
    /// What knocks are answered with, where neither user nor action says it.
    pub reply: Reply,
    /// Sources that may knock at all.
    pub allow_from: AddressList,
    /// Sources that may not, whatever else is said of them.
    pub deny_from: AddressList,
    /// How the audit trail is kept. At restart only.
    pub audit: Audit,
    /// How the log is written.
    pub log: Log,
    /// Every maximum.
    pub limits: Limits,
    /// Who may ask the running daemon.
    pub control: Control,
    /// When its keys were made.
    pub made: Made,
    /// By id.
    pub users: BTreeMap<UserId, Arc<User>>,
    /// By id.
    pub actions: BTreeMap<ActionId, Arc<Action>>,
}

impl Config {
    /// The action that a packet names: by its id, or by its `release_id`.
    pub fn action(&self, id: ActionId) -> Option<&Arc<Action>> {
        let released =
            |action: &&Arc<Action>| action.door.as_ref().is_some_and(|door| door.release_id == Some(id));
        self.actions.get(&id).or_else(|| self.actions.values().find(released))
    }

    /// The settings that differ in `new` but take effect at a restart only.
    pub fn restart_changes(&self, new: &Config) -> Vec<&'static str> {
        let changes = [
            ("listen", self.listen != new.listen),
            ("private_key", self.private_key != new.private_key),
            ("old_private_key", self.old_private_key != new.old_private_key),
            ("state_dir", self.state_dir != new.state_dir),
            ("runtime_dir", self.runtime_dir != new.runtime_dir),
            ("store", self.store != new.store),
            ("sandbox", self.sandbox != new.sandbox),
            ("listener_user", self.listener_user != new.listener_user),
            ("audit", self.audit != new.audit),
            ("limits.workers", self.limits.workers != new.limits.workers),
            ("limits.queue", self.limits.queue != new.limits.queue),
            ("limits.max_claims", self.limits.max_claims != new.limits.max_claims),
            ("log.format", self.log.format != new.log.format),
            ("control.group", self.control.group != new.control.group),
            ("control.listen", self.control.tcp != new.control.tcp),
        ];
        changes.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }

    /// What a knock of this user's for this action is answered with: the most specific that is written.
    pub fn reply(&self, user: &User, action: Option<&Action>) -> Reply {
        let written = user.reply.or(action.and_then(|action| action.reply)).unwrap_or(self.reply);
        match action.and_then(|action| action.builtin) {
            // Who is not told what came of it does not know which key he has; and what a key is, is all that the other is for.
            Some(Builtin::Enrol | Builtin::ServerKey) if written == Reply::Never => Reply::Receipt,
            Some(Builtin::Enrol | Builtin::ServerKey | Builtin::Remote(_) | Builtin::Whoami) | None => {
                written
            }
        }
    }
}

/// What a knock is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Never,
    /// What became of it.
    Receipt,
    /// And the first that its script prints.
    ReceiptAndOutput,
}

/// A private key that was read once, to see that it can be; whoever needs it reads it again, and drops it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// Absolute.
    pub path: PathBuf,
    /// Its public half.
    pub public: PublicKey,
}

/// How much the listener locks itself in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// With every layer there is; without one of them there is no start.
    Required,
    /// With every layer that this kernel has.
    BestEffort,
    /// Not at all.
    Off,
}

/// Whether knocks without a stamp are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// They are, as siglatch v1 clients send them.
    Optional,
    /// They are not.
    Required,
}

/// Where claims are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// SQLite in `state_dir`.
    Sqlite,
    /// In memory, forgotten at exit.
    Memory,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Least level that is written; `RUST_LOG` overrides it.
    pub level: log::LevelFilter,
    /// Where it goes, and as what. At restart only.
    pub format: LogFormat,
    /// Time between two summary lines of what was refused before authentication.
    pub summary: Duration,
    /// Lines a minute that name the source of what was refused before authentication; 0: none.
    pub refused_per_minute: u32,
}

/// Where the log goes, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// To the journal where that has standard error, else text.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// To systemd's journal, with fields.
    Journal,
}

/// Every maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Authentic knocks per second and user.
    pub user_rate: u32,
    /// Authentic knocks a user may send at once.
    pub user_burst: u32,
    /// Nonces remembered in front of the store.
    pub nonce_cache: usize,
    /// Unexpired claims in the store. At restart only.
    pub max_claims: u64,
    /// Scripts that run at once, over all actions.
    pub max_jobs: usize,
    /// Doors that are held, or not closed yet.
    pub max_doors: usize,
    /// Plain datagrams per second and prefix (/32 or /64) that are opened when private-key operations are short.
    pub prefix_rate: u32,
    /// And at once.
    pub prefix_burst: u32,
    /// Prefixes that have a bucket of their own; the others share one.
    pub prefixes: u32,
    /// RSA worker threads. At restart only.
    pub workers: usize,
    /// Sealed datagrams that wait for a worker. At restart only.
    pub queue: usize,
}

/// Somebody who may knock.
#[derive(Clone, Debug)]
pub struct User {
    /// As the packet names him.
    pub id: UserId,
    /// The key of his table, a [`Name`](crate::wire::invite::Name).
    pub name: String,
    /// Signs his knocks.
    pub hmac_key: HmacKey,
    /// Seals replies to his plain knocks; without it they have none.
    pub public_key: Option<PublicKey>,
    /// What he is answered with, whatever server and action say.
    pub reply: Option<Reply>,
    /// What he may run.
    pub actions: Vec<ActionId>,
    /// Where he may knock from.
    pub allow_from: AddressList,
    /// The least binding that is accepted of him.
    pub bind: Bound,
    /// Whether his plain knocks are taken.
    pub stamp: Stamp,
    /// Whether he may knock at all.
    pub enabled: Enabled,
    /// Last moment at which he may knock: since the Unix epoch.
    pub not_after: Option<Duration>,
    /// Whether he may exchange his key.
    pub exchange: Exchange,
    /// Himself with the key that he has sent for, until he has knocked under it: from then on he is that one. Or with that of an
    /// invite that is spent.
    pub next: Option<Arc<User>>,
    /// How many knocks of his may run, ever; those before the limit was written count.
    pub max_knocks: Option<u32>,
    /// When and how often, over all that he runs.
    pub allowance: Allowance,
    /// Makes his second factor.
    pub totp_key: Option<TotpKey>,
}

impl User {
    /// Whether the last moment at which he may knock is over at `wall`, since the Unix epoch.
    pub fn is_expired(&self, wall: Duration) -> bool {
        self.not_after.is_some_and(|last| wall > last)
    }
}

/// A switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enabled {
    /// On.
    Yes,
    /// Off.
    No,
}

/// Something that a knock runs.
#[derive(Clone, Debug)]
pub struct Action {
    /// As the packet names it.
    pub id: ActionId,
    /// The key of its table, a [`Name`](crate::wire::invite::Name).
    pub name: String,
    /// What the daemon does itself, in the place of a program.
    pub builtin: Option<Builtin>,
    /// What `run` says; of a built-in one nothing that could be started.
    pub run: Program,
    /// What follows its arguments.
    pub args: Args,
    /// Named additions to the environment.
    pub env: BTreeMap<String, String>,
    /// What it reads.
    pub stdin: Stdin,
    /// As whom it runs; as the daemon if not told.
    pub run_as: Option<RunAs>,
    /// Until it is told to end (TERM).
    pub timeout: Duration,
    /// From TERM to KILL.
    pub grace: Duration,
    /// How many of it may run at once.
    pub max_running: usize,
    /// What happens to a knock beyond that.
    pub on_busy: OnBusy,
    /// Bytes of output that go to the log.
    pub max_output: usize,
    /// Which payloads it takes.
    pub payload: PayloadKind,
    /// Longest payload it takes, at most 199 bytes.
    pub max_payload: usize,
    /// Where it may be knocked from.
    pub allow_from: AddressList,
    /// The least binding that it accepts.
    pub bind: Bound,
    /// What knocks for it are answered with, where their user's table does not say it.
    pub reply: Option<Reply>,
    /// Whether it may be knocked at all.
    pub enabled: Enabled,
    /// What makes it a door: something that is undone again.
    pub door: Option<Door>,
    /// When and how often, by each user.
    pub allowance: Allowance,
    /// What it asks for beside a signed knock.
    pub second_factor: SecondFactor,
    /// Who is told what came of its knocks.
    pub webhook: Option<Webhook>,
}

impl Action {
    /// The options that may stand in front of its payload. None: whatever comes is payload.
    pub fn takes(&self) -> Vec<Kind> {
        let held: &[Kind] = match self.door.as_ref().map(Door::opens_for) {
            None => &[],
            Some(OpensFor::Knocker) => &[Kind::Hold, Kind::Release],
            Some(OpensFor::Named(_)) => &[Kind::Hold, Kind::Release, Kind::Address],
        };
        let coded: &[Kind] = match self.second_factor {
            SecondFactor::None => &[],
            SecondFactor::Totp => &[Kind::Totp],
        };
        let named: &[Kind] = match self.builtin {
            Some(Builtin::Remote(remote)) if remote.argument() == Argument::User => &[Kind::Argument],
            Some(Builtin::Enrol | Builtin::ServerKey) => &[Kind::Argument],
            Some(Builtin::Remote(_) | Builtin::Whoami) | None => &[],
        };
        [held, coded, named].concat()
    }
}

/// How an action is held and undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// For how long, if the knock does not say.
    pub hold: Duration,
    /// The longest that a knock may ask for; not below `hold`.
    pub max_hold: Duration,
    /// What runs when it is over.
    pub undo: Program,
    /// The sets that `run` and `undo` are told to change, if they are nft.
    pub nft: Option<NftDoor>,
    /// What another knock of the same user does meanwhile.
    pub again: Again,
    /// What becomes of it when the daemon stops.
    pub on_shutdown: OnShutdown,
    /// A knock for this id instead of the action's ends the lease; no action has it as its own.
    pub release_id: Option<ActionId>,
}

impl Door {
    /// Whom it opens for.
    pub fn opens_for(&self) -> &OpensFor {
        self.nft.as_ref().map_or(&OpensFor::Knocker, |nft| &nft.opens_for)
    }
}

/// What a knock does whose user holds a lease on the door already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It moves the end of the lease back, never forward.
    Extend,
    /// The lease ends when it would if this were the first knock.
    Restart,
    /// Nothing: it is refused.
    Refuse,
}

/// What becomes of an open door when the daemon stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnShutdown {
    /// It stays open; who starts next closes it in time.
    Keep,
    /// It is closed.
    Undo,
}

/// What an action asks for beside a signed knock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecondFactor {
    /// Nothing.
    #[default]
    None,
    /// A code of the user's authenticator.
    Totp,
}

/// Where it is told what came of a knock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// `https://` and nothing else; a secret, perhaps.
    pub url: String,
    /// Signs what is told.
    pub key: HmacKey,
    /// Hosts that may have private, loopback and link-local addresses.
    pub allow: Vec<String>,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca: Option<String>,
}

/// What a firewall has to do with.
#[derive(Clone, Debug)]
pub struct Doors {
    /// Where knocks arrive.
    pub listen: Vec<SocketAddr>,
    /// By the name of the action.
    pub nft: BTreeMap<String, NftDoor>,
}

/// A door that is a pair of nftables sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftDoor {
    /// What the address is put into.
    pub set: NftSet,
    /// Which address.
    pub opens_for: OpensFor,
}

/// A pair of sets of one table of the family `inet`: one for IPv4 addresses, one for IPv6.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct NftSet {
    /// The table's name: 1 to 64 letters, digits, `_`, `.` and `-`, the first a letter.
    pub table: String,
    /// What both sets' names begin with, of the same characters.
    pub name: String,
}

impl NftSet {
    /// `web4`, of ipv4_addr.
    pub fn v4(&self) -> String {
        format!("{}4", self.name)
    }

    /// `web6`, of ipv6_addr.
    pub fn v6(&self) -> String {
        format!("{}6", self.name)
    }
}

/// Where every distribution has it.
pub const NFT: &str = "/usr/sbin/nft";

/// Whom a door opens for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpensFor {
    /// The address that knocked.
    Knocker,
    /// The address that the knock names, if one of these networks has it; if it names none, the one that knocked.
    Named(AddressList),
}

impl OpensFor {
    /// The address to open for, of a knock from `source` (folded) that names `named`; `None`: it may not.
    pub fn address(&self, source: IpAddr, named: Option<IpAddr>) -> Option<IpAddr> {
        match (self, named) {
            (OpensFor::Knocker | OpensFor::Named(_), None) => Some(source),
            (OpensFor::Knocker, Some(_)) => None,
            (OpensFor::Named(bounds), Some(named)) => {
                Some(named.to_canonical()).filter(|named| bounds.allows(*named))
            }
        }
    }
}

/// A program and its first arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Absolute.
    pub path: PathBuf,
    /// Each an element of its own.
    pub args: Vec<String>,
}

/// The arguments behind `run`'s own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Args {
    /// The seven of siglatch: ip, user id, user, action id, action, encrypted, payload in base64.
    Siglatch,
    /// As listed.
    List(Vec<Arg>),
}

/// One element of an `args` list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg {
    /// As it stands.
    Literal(String),
    /// `{ip}`: the source address.
    Ip,
    /// `{user}`: the user's name.
    User,
    /// `{user_id}`.
    UserId,
    /// `{action}`: the action's name.
    Action,
    /// `{action_id}`.
    ActionId,
    /// `{payload_base64}`.
    PayloadBase64,
    /// `{knock_id}`: 16 hex digits.
    KnockId,
}

/// What a script reads on standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// /dev/null.
    Null,
    /// The raw payload.
    Payload,
}

/// As whom a script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunAs {
    /// User id.
    pub uid: u32,
    /// Group id; no supplementary groups.
    pub gid: u32,
}

/// What happens to a knock when `max_running` of its action run already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBusy {
    /// It is refused.
    Refuse,
    /// It waits its turn, this many at most.
    Queue(usize),
}

/// Which payloads an action takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// Any bytes.
    Any,
    /// Printable ASCII, space to tilde.
    Ascii,
    /// Valid UTF-8.
    Utf8,
    /// None: it must be empty.
    None,
}

/// Addresses that are let through; an empty list lets any through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressList(pub Vec<IpNet>);

impl AddressList {
    /// Whether `address` (folded) is let through.
    pub fn allows(&self, address: IpAddr) -> bool {
        self.0.is_empty() || self.names(address)
    }

    /// Whether `address` (folded) is in the list.
    pub fn names(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address))
    }
}
