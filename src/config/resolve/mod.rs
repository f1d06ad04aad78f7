//! Raw keys to a [`Config`]: values, references and files are checked; what is wrong is noted, and the rest goes on.

mod action;
mod allowance;
mod args;
mod builtin;
mod control;
mod door;
mod exchange;
mod listen;
mod nft;
mod private_key;
mod public_key;
mod run_as;
mod section;
mod user;
mod webhook;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZero;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use log::LevelFilter;

use super::load::{Entry, Written};
use super::made::Made;
use super::problems::{Place, Problem};
use super::raw::{Keys, RawConfig, RawLimits, RawLog, Table, Text};
use super::resolved::{
    Audit, AuditPayload, Config, Doors, Limits, Log, LogFormat, Reply, Sandbox, Stamp, StoreKind,
};
use super::shape::Document;
use crate::layers::Layer;
use crate::wire::ServerId;
use crate::wire::invite::{ADDRESSES_MAX, Host, Name};
pub use run_as::missing_listener;
use section::{Bounds, Section, ServerIdGiven};

/// The configuration; `None`, or something to use for nothing but finding more problems, when any was noted.
pub(super) fn resolve(written: Written, notes: &mut Vec<Problem>) -> Option<Config> {
    let raw = &written.raw;
    let bindings = if raw.server_id.is_some() || written.main.excused.contains("server_id") {
        ServerIdGiven::Yes
    } else {
        ServerIdGiven::No
    };
    let document = &*written.main;
    let zone = allowance::zone(&mut section(document, "", 0..0, notes), &raw.zone);
    let given = Given { server_id: bindings, enrol_key: exchange::given(raw), zone: &zone };
    let actions = action::resolve_all(&written.actions, given, notes);
    let names = action::names(&written);
    let users = user::resolve_all(&written.users, &names, given, notes);
    user::warn_of_missing_totp_keys(&written.users, &users, &actions, notes);
    let audit = audit(document, raw, notes);
    let log = log(document, &raw.log, notes);
    let limits = limits(document, &raw.limits, notes);
    let control = control::resolve(document, raw, notes);
    let mut top = section(document, "", 0..0, notes);
    public_host(&mut top, raw);
    let freshness = freshness(&mut top, raw);
    let state_dir = folder(&top, &raw.state_dir, "/var/lib/siglatch");
    let runtime_dir = folder(&top, &raw.runtime_dir, "/run/siglatch");
    let listen = listen::resolve(&mut top, &raw.listen);
    let server_id = server_id(&mut top, raw);
    let enrol_key = exchange::key(&mut top, raw);
    let store = store(&mut top, raw);
    let bind = top.bind(&raw.bind, bindings);
    let reply = top.reply(&raw.reply).unwrap_or(Reply::Never);
    let allow_from = top.addresses(&raw.allow_from);
    let deny_from = top.addresses(&raw.deny_from);
    let sandbox = sandbox(&mut top, raw);
    let listener_user = run_as::listener(&mut top, &raw.listener_user, sandbox);
    let (private_key, old_private_key) = private_key::resolve(&mut top, raw)?;
    public_key::check_lengths(&written.users, &users, &private_key.public, notes);
    Some(Config {
        path: document.source.absolute.clone(),
        listen,
        private_key,
        old_private_key,
        server_id,
        enrol_key,
        state_dir,
        runtime_dir,
        freshness,
        store,
        sandbox,
        listener_user,
        stamp: stamp(raw.require_stamp),
        bind,
        reply,
        allow_from,
        deny_from,
        audit,
        log,
        limits,
        control,
        made: Made::of(&written),
        users,
        actions,
    })
}

fn freshness(top: &mut Section<'_>, raw: &RawConfig) -> Duration {
    let freshness = top.duration("freshness", &raw.freshness, FRESHNESS);
    if let (Some(value), true) = (&raw.freshness, freshness.subsec_nanos() > 0) {
        let what = "`freshness` takes whole seconds";
        top.error(value.span(), what, "packets carry no smaller unit");
    }
    freshness
}

fn folder(top: &Section<'_>, value: &Option<Text>, default: &str) -> PathBuf {
    value.as_ref().map_or_else(|| default.into(), |text| top.path(text))
}

/// What a firewall has to do with.
pub(super) fn doors(written: &Written, notes: &mut Vec<Problem>) -> Doors {
    let nft = nft::resolve_all(&written.actions, notes);
    let listen = listen::resolve(&mut section(&written.main, "", 0..0, notes), &written.raw.listen);
    Doors { listen, nft }
}

fn section<'a>(
    document: &'a Document,
    name: &str,
    header: Range<usize>,
    notes: &'a mut Vec<Problem>,
) -> Section<'a> {
    Section { document, name: name.to_owned(), header, notes }
}

fn sandbox(top: &mut Section<'_>, raw: &RawConfig) -> Sandbox {
    let choices =
        [("best-effort", Sandbox::BestEffort), ("required", Sandbox::Required), ("off", Sandbox::Off)];
    let sandbox = top.choice("sandbox", &raw.sandbox, Sandbox::BestEffort, &choices, &[]);
    if let (Sandbox::Required, Some(value)) = (sandbox, &raw.sandbox) {
        for layer in Layer::missing() {
            let what = format!("this kernel lacks {layer}, a layer of the listener's sandbox");
            top.error(value.span(), what, layer.hint());
        }
    }
    sandbox
}

fn stamp(required: Option<bool>) -> Stamp {
    if required == Some(true) { Stamp::Required } else { Stamp::Optional }
}

fn server_id(top: &mut Section<'_>, raw: &RawConfig) -> Option<ServerId> {
    let text = raw.server_id.as_ref()?;
    let id = ServerId::parse(text.get_ref());
    if id.is_none() {
        top.error(text.span(), "`server_id` takes 32 hex digits", "make one with `openssl rand -hex 16`");
    }
    id
}

/// What invites call this server: for `siglatchctl user add`, the daemon has no use for it.
fn public_host(top: &mut Section<'_>, raw: &RawConfig) {
    for text in raw.public_addresses.iter().flat_map(toml::Spanned::get_ref) {
        if text.get_ref().parse::<IpAddr>().is_err() {
            top.error(text.span(), "`public_addresses` takes IP addresses", "a name stands in `public_host`");
        }
    }
    if let Some(all) = raw.public_addresses.as_ref().filter(|all| all.get_ref().len() > ADDRESSES_MAX) {
        let what = format!("`public_addresses` takes {ADDRESSES_MAX} at most");
        top.error(all.span(), what, "an invite has to stay short");
    }
    let Some(text) = &raw.public_host else { return };
    if Host::parse(text.get_ref()).is_none() {
        top.error(
            text.span(),
            "`public_host` takes a host name or an IP address",
            "leave out the port, users get that of `listen`",
        );
    }
}

fn store(top: &mut Section<'_>, raw: &RawConfig) -> StoreKind {
    let memory = ("memory", StoreKind::Memory);
    let sqlite = ("sqlite", StoreKind::Sqlite);
    if cfg!(feature = "sqlite") {
        return top.choice("store", &raw.store, StoreKind::Sqlite, &[sqlite, memory], &["postgres"]);
    }
    if raw.store.is_none() {
        top.error(0..0, "this build has no SQLite", "write store = \"memory\", which forgets at exit");
    }
    top.choice("store", &raw.store, StoreKind::Memory, &[memory], &["sqlite", "postgres"])
}

fn log(document: &Document, raw: &Option<Keys<RawLog>>, notes: &mut Vec<Problem>) -> Log {
    let missing = Keys::new(0..0, Table::default());
    let keys = raw.as_ref().unwrap_or(&missing);
    let mut log = section(document, "log", keys.span(), notes);
    let Table(raw) = keys.get_ref();
    let levels = [
        ("off", LevelFilter::Off),
        ("error", LevelFilter::Error),
        ("warn", LevelFilter::Warn),
        ("info", LevelFilter::Info),
        ("debug", LevelFilter::Debug),
        ("trace", LevelFilter::Trace),
    ];
    let formats = [
        ("auto", LogFormat::Auto),
        ("text", LogFormat::Text),
        ("json", LogFormat::Json),
        ("journal", LogFormat::Journal),
    ];
    Log {
        level: log.choice("level", &raw.level, LevelFilter::Info, &levels, &[]),
        format: log.choice("format", &raw.format, LogFormat::Auto, &formats, &[]),
        summary: log.duration("summary", &raw.summary, SUMMARY),
        refused_per_minute: log.number("refused_per_minute", &raw.refused_per_minute, REFUSED_PER_MINUTE),
    }
}

fn audit(document: &Document, raw: &RawConfig, notes: &mut Vec<Problem>) -> Audit {
    let missing = Keys::new(0..0, Table::default());
    let keys = raw.audit.as_ref().unwrap_or(&missing);
    let mut audit = section(document, "audit", keys.span(), notes);
    let payload = if raw.audit_payload == Some(true) { AuditPayload::Plain } else { AuditPayload::Hashed };
    let Table(raw) = keys.get_ref();
    Audit {
        payload,
        checkpoint_records: audit.number("checkpoint_records", &raw.checkpoint_records, CHECKPOINT_RECORDS),
        checkpoint_every: audit.duration("checkpoint_every", &raw.checkpoint_every, CHECKPOINT_EVERY),
        rotate_size: audit.size("rotate_size", &raw.rotate_size, ROTATE_SIZE) as u64,
        rotate_every: audit.duration("rotate_every", &raw.rotate_every, ROTATE_EVERY),
        keep: audit.duration("keep", &raw.keep, KEEP),
        webhook: webhook::resolve(&mut audit, raw.into()),
    }
}

fn limits(document: &Document, raw: &Option<Keys<RawLimits>>, notes: &mut Vec<Problem>) -> Limits {
    let missing = Keys::new(0..0, Table::default());
    let keys = raw.as_ref().unwrap_or(&missing);
    let mut limits = section(document, "limits", keys.span(), notes);
    let Table(raw) = keys.get_ref();
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let workers = Bounds { default: cores.min(WORKERS_MAX), min: 1, max: WORKERS_MAX };
    Limits {
        user_rate: limits.number("user_rate", &raw.user_rate, USER_RATE),
        user_burst: limits.number("user_burst", &raw.user_burst, USER_BURST),
        nonce_cache: limits.number("nonce_cache", &raw.nonce_cache, NONCE_CACHE),
        max_claims: limits.number("max_claims", &raw.max_claims, MAX_CLAIMS),
        max_jobs: limits.number("max_jobs", &raw.max_jobs, MAX_JOBS),
        max_doors: limits.number("max_doors", &raw.max_doors, MAX_DOORS),
        prefix_rate: limits.number("prefix_rate", &raw.prefix_rate, USER_RATE),
        prefix_burst: limits.number("prefix_burst", &raw.prefix_burst, USER_BURST),
        prefixes: limits.number("prefixes", &raw.prefixes, PREFIXES),
        workers: limits.number("workers", &raw.workers, workers),
        queue: limits.number("queue", &raw.queue, QUEUE),
    }
}

/// What the top of the file says about users and actions.
#[derive(Clone, Copy)]
struct Given<'a> {
    server_id: ServerIdGiven,
    /// The file of the keeper's half of exchanges.
    enrol_key: Option<&'a str>,
    zone: &'a TimeZone,
}

/// Who took which id.
struct Taken<I> {
    /// "user" or "action".
    kind: &'static str,
    by: BTreeMap<I, (String, Place)>,
}

impl<I: Copy + Ord + std::fmt::Display> Taken<I> {
    fn new(kind: &'static str) -> Taken<I> {
        Taken { kind, by: BTreeMap::new() }
    }

    /// Notes an id that somebody has already.
    fn take(&mut self, id: I, name: &str, place: Place, notes: &mut Vec<Problem>) {
        let Some((other, first)) = self.by.get(&id) else {
            self.by.insert(id, (name.to_owned(), place));
            return;
        };
        let what = format!(
            "{} id {id} is used by `{other}` ({}) and `{name}` ({})",
            self.kind,
            first.beside(&place),
            place.beside(&place),
        );
        let free = "give one of them an id of its own";
        notes.push(Problem::error(place, what).also(first.clone(), "here too").hint(free));
    }
}

/// Notes a name that could not stand in a log line or a script's arguments as it is.
fn check_name<T>(of: &str, entry: &Entry<T>, notes: &mut Vec<Problem>) {
    if Name::parse(entry.name.get_ref()).is_none() {
        let place = entry.document.place(entry.name.span());
        notes.push(Problem::error(place, format!("this is no name for {of}")).hint(Name::RULE));
    }
}

/// The packet's timestamp counts seconds; a nonce is remembered this long.
const FRESHNESS: Bounds<Duration> =
    Bounds { default: Duration::from_secs(300), min: Duration::from_secs(1), max: Duration::from_secs(3600) };

const SUMMARY: Bounds<Duration> =
    Bounds { default: Duration::from_secs(60), min: Duration::from_secs(10), max: Duration::from_secs(3600) };

const CHECKPOINT_RECORDS: Bounds<u64> =
    Bounds { default: Audit::DEFAULT.checkpoint_records, min: 1, max: 1_000_000 };
const CHECKPOINT_EVERY: Bounds<Duration> =
    Bounds { default: Audit::DEFAULT.checkpoint_every, min: Duration::from_secs(1), max: DAY };
const ROTATE_SIZE: Bounds<usize> = Bounds { default: 16 << 20, min: 4 << 10, max: 256 << 20 };
const ROTATE_EVERY: Bounds<Duration> =
    Bounds { default: Audit::DEFAULT.rotate_every, min: Duration::from_secs(60), max: YEARS };
const KEEP: Bounds<Duration> = Bounds { default: Audit::DEFAULT.keep, min: Duration::ZERO, max: YEARS };
const DAY: Duration = Duration::from_hours(24);
const YEARS: Duration = DAY.saturating_mul(3650);
const REFUSED_PER_MINUTE: Bounds<u32> = Bounds { default: 0, min: 0, max: 6000 };

const USER_RATE: Bounds<u32> = Bounds { default: 10, min: 1, max: 100_000 };
const USER_BURST: Bounds<u32> = Bounds { default: 50, min: 1, max: 100_000 };
const PREFIXES: Bounds<u32> = Bounds { default: 65_536, min: 1, max: 1_000_000 };
const NONCE_CACHE: Bounds<usize> = Bounds { default: 10_000, min: 1, max: 10_000_000 };
const MAX_CLAIMS: Bounds<u64> = Bounds { default: 1_000_000, min: 1, max: 100_000_000 };
const MAX_JOBS: Bounds<usize> = Bounds { default: 64, min: 1, max: 4096 };
const MAX_DOORS: Bounds<usize> = Bounds { default: 4096, min: 1, max: 65_536 };
const QUEUE: Bounds<usize> = Bounds { default: 2048, min: 1, max: 65_536 };
const WORKERS_MAX: usize = 256;
