//! From a checked configuration to everything that the loop needs, in an order in which nothing is half open: addresses,
//! store. The loop starts the listener.

use std::path::PathBuf;
use std::sync::Arc;

use listenfd::ListenFd;

use super::exchange::Exchanges;
use super::moved::Moving;
use super::pending::TakenOver;
use super::sockets::{self, Sockets};
use super::{cannot, inherited};
use crate::clock::{self, Clock, Now};
use crate::config::change::Change;
use crate::config::resolved::{Sandbox, StoreKind};
use crate::config::{Config, Loaded};
use crate::control::status::Audit;
use crate::exit::{Exit, Failure};
use crate::judge::{Decoys, Judge};
use crate::layers::Layer;
use crate::store::doors::DoorKey;
use crate::store::journal::{Folder, Journal, Keeping};
use crate::store::{Boot, MemoryStore, Store};
#[cfg(feature = "sqlite")]
use crate::store::{SqliteStore, sqlite::Found};
use crate::sys;
use crate::wire::{HmacKey, ServerId};
use crate::work::hooks::Hooks;
use crate::work::leases::{Leases, Record};

/// What [`super::run`] runs.
pub(super) struct Started {
    /// The configuration, with the keys that are in force.
    pub(super) exchanges: Exchanges,
    pub(super) moving: Moving,
    pub(super) clock: Clock,
    pub(super) judge: Judge,
    pub(super) store: Box<dyn Store>,
    pub(super) journal: Journal,
    pub(super) audit: Audit,
    pub(super) leases: Leases,
    pub(super) hooks: Hooks,
    pub(super) sockets: Sockets,
    /// Settings that waited for this start, and in which folder.
    pub(super) taken_over: (Vec<Change>, PathBuf),
}

pub(super) fn start(loaded: Loaded, taken_over: TakenOver, inherited: ListenFd) -> Result<Started, Failure> {
    let taken_over = taken_over.tell();
    for warning in loaded.warnings.iter() {
        log::warn!(code = "config-warning", what = warning.summary(); "the configuration has a weak spot");
    }
    // A core dump would hold every key. Not inherited: exec makes a process dumpable again.
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        log::warn!(code = "core-dumps", error:%; "core dumps cannot be turned off");
    }
    // What this process was started with is not the listener's.
    sys::close_on_exec().map_err(|error| cannot("keep descriptors to itself", &error))?;
    let config = Arc::new(loaded.config);
    let clock = Clock::start();
    tell_sandbox(&config);
    let modulus_len = config.private_key.public.modulus().len();
    let sockets = match inherited::sockets(inherited, modulus_len)? {
        Some(sockets) => {
            let listen = sockets.addresses().map(|address| address.to_string()).collect::<Vec<_>>().join(" ");
            log::info!(code = "inherited", listen; "these sockets were opened by who started siglatchd; `listen` is not looked at");
            sockets
        }
        None => bind(&config)?,
    };
    let (mut store, past) = open_store(&config)?;
    let (journal, audit) = open_journal(&config, &mut *store)?;
    let leases = recover(&mut *store, clock.now(), config.limits.max_doors)?;
    let hooks = recover_hooks(&mut *store, clock.now())?;
    let moving = Moving::new(&config, store.moved(clock.now().unix())?);
    if past == Past::Forgotten {
        void_invites(&config, &mut *store, clock.now())?;
    }
    let exchanges = Exchanges::new(config, store.keys(clock.now().unix())?);
    let judge = Judge::new(exchanges.config(clock.now()), decoys());
    Ok(Started { exchanges, moving, clock, judge, store, journal, audit, leases, hooks, sockets, taken_over })
}

/// What is not there is said once.
fn tell_sandbox(config: &Config) {
    match config.sandbox {
        Sandbox::Off => {
            log::warn!(code = "sandbox-off"; "the listener is not locked in: `sandbox = \"off\"`")
        }
        // Not loaded without all of them.
        Sandbox::Required => {}
        Sandbox::BestEffort => {
            for layer in Layer::missing() {
                let hint = layer.hint();
                log::warn!(code = "sandbox-missing", layer:%, hint; "this kernel lacks a layer of the listener's sandbox");
            }
        }
    }
}

pub(super) fn bind(config: &Config) -> Result<Sockets, Failure> {
    let modulus_len = config.private_key.public.modulus().len();
    sockets::bind(&config.listen, modulus_len).map_err(|(address, error)| {
        let what = format!("cannot listen on {address}: {error}");
        Failure::new(Exit::of_io(&error), what).hint(match error.raw_os_error() {
            Some(libc::EADDRINUSE) => "does siglatchd run already? `ss -ulpn` says who has the port",
            Some(libc::EADDRNOTAVAIL) => "this machine has no such address: see `ip addr`, and `listen`",
            Some(libc::EACCES) => "ports below 1024 need root: see `listen`",
            _ => "see `listen`",
        })
    })
}

/// What the daemon before this one has left open, or in the middle of something.
fn recover(store: &mut dyn Store, now: Now, max: usize) -> Result<Leases, Failure> {
    let mut leases = Leases::new(&Boot::read(now.unix()).id, max);
    let read = |(key, text): (DoorKey, String)| match Record::parse(&text) {
        Ok(record) => Ok((key, record)),
        Err(bad) => {
            let what = format!("the store holds a door ({key}) that cannot be read: {bad}");
            Err(Failure::new(Exit::Config, what).hint(
                "close that door by hand and move the store away; a new one refuses every knock made before it",
            ))
        }
    };
    let rows = store.doors(now.unix())?.into_iter().map(read).collect::<Result<Vec<_>, Failure>>()?;
    if !rows.is_empty() {
        log::info!(code = "doors-found", doors = rows.len(); "doors that were open or are to be closed");
    }
    leases.recover(now, rows);
    Ok(leases)
}

/// What nobody was told yet.
fn recover_hooks(store: &mut dyn Store, now: Now) -> Result<Hooks, Failure> {
    let mut hooks = Hooks::default();
    hooks.recover(now, store.hooks(now.unix())?);
    if !hooks.is_empty() {
        log::info!(code = "webhooks-found", webhooks = hooks.len(); "webhooks that are not delivered");
    }
    Ok(hooks)
}

/// Invites that were open may have been used, which nobody knows: whoever has one would be let in.
fn void_invites(config: &Config, store: &mut dyn Store, now: Now) -> Result<(), Failure> {
    let rows = Exchanges::void(config, rand::random);
    rows.iter().try_for_each(|row| store.keep_key(now.unix(), row))?;
    if !rows.is_empty() {
        let users: Vec<&str> =
            rows.iter().filter_map(|row| Some(config.users.get(&row.user)?.name.as_str())).collect();
        log::warn!(
            code = "invites-void", users = users.join(" ");
            "the store does not know whether these invites were used: they are void, make others"
        );
    }
    Ok(())
}

/// Whether the store knows what was before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Past {
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "a store in memory knows nothing of it"))]
    Known,
    Forgotten,
}

fn open_store(config: &Config) -> Result<(Box<dyn Store>, Past), Failure> {
    let wall = clock::wall().as_secs();
    let max_claims = config.limits.max_claims;
    match config.store {
        StoreKind::Memory => {
            log::warn!(
                code = "store-memory", floor = wall;
                "store in memory: a restart forgets what ran, knocks made before now are refused"
            );
            Ok((Box::new(MemoryStore::new(max_claims, wall)), Past::Forgotten))
        }
        #[cfg(feature = "sqlite")]
        StoreKind::Sqlite => {
            let (store, found) = SqliteStore::open(&config.state_dir, max_claims, wall, &Boot::read(wall))?;
            let past = if matches!(found, Found::Lost { .. }) { Past::Forgotten } else { Past::Known };
            match found {
                Found::Intact => {}
                Found::Crashed { floor } => log::warn!(
                    code = "store-crashed", floor;
                    "the machine crashed: knocks made up to then are refused"
                ),
                Found::Lost { floor } => log::warn!(
                    code = "store-new", floor;
                    "a new store: knocks made before now are refused"
                ),
            }
            Ok((Box::new(store), past))
        }
        #[cfg(not(feature = "sqlite"))]
        StoreKind::Sqlite => Err(Failure::new(Exit::Config, "this build has no SQLite".to_owned())
            .hint("set `store = \"memory\"`, or build with the feature `sqlite`")),
    }
}

/// The trail, in the folder of the store or, where that is in memory, in what would be it.
fn open_journal(config: &Config, store: &mut dyn Store) -> Result<(Journal, Audit), Failure> {
    let audit = &config.audit;
    let (keep, held) = match config.store {
        StoreKind::Memory => (None, Some(Folder::enter(&config.state_dir)?)),
        StoreKind::Sqlite => (Some(audit.keep), None),
    };
    let keeping = Keeping {
        checkpoint_records: audit.checkpoint_records,
        rotate_size: audit.rotate_size,
        rotate_every: audit.rotate_every,
        keep,
        server: config.server_id,
    };
    let wall = clock::wall().as_secs();
    let (journal, found) = Journal::open(&config.state_dir, held, store, keeping, wall)?;
    if let Some(key) = found.made {
        log::info!(code = "audit-key-made", key; "a new key signs the audit trail: keep its public half elsewhere");
    }
    if found.cut > 0 {
        log::warn!(code = "audit-cut", bytes = found.cut; "half a line was cut off the audit file, as a crash leaves it");
    }
    let public_key = journal.public().to_string();
    let mut broken = Vec::new();
    if let Some(file) = found.aside {
        let (file, what) = (file.display().to_string(), "is not what the store holds");
        log::error!(code = "audit-broken", file, what; "the audit file was put aside, a new one begins");
        broken.push(format!("{file}: {what}"));
    }
    if let Some(before) = found.before {
        log::warn!(
            code = "audit-key-changed", key = public_key, before;
            "another key signs the audit trail from here on: who verifies it needs both"
        );
        broken.push(format!("audit.key is not {before}, which signed the trail until this start"));
    }
    let broken = (!broken.is_empty()).then(|| broken.join("; "));
    Ok((journal, Audit { public_key, broken, ..Audit::default() }))
}

/// Stand-ins that verify nothing.
fn decoys() -> Decoys {
    let key = loop {
        // All zero, the one key that there is not, comes once in 2^256.
        if let Ok(key) = HmacKey::new(rand::random()) {
            break key;
        }
    };
    Decoys { key, server: ServerId(rand::random()) }
}
