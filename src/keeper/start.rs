//! From a checked configuration to everything that the loop needs, in an order in which nothing is half open: addresses,
//! store, channel, listener.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::{cannot, sockets};
use crate::channel::{Channel, Confinement, Sent, Setup, SocketId, Takes, ToListener};
use crate::clock::{self, Clock};
use crate::config::resolved::StoreKind;
use crate::config::{Config, Loaded};
use crate::exit::{Exit, Failure};
use crate::judge::{Decoys, Judge};
use crate::listener::{self, ListenerError};
#[cfg(feature = "sqlite")]
use crate::store::{Boot, SqliteStore, sqlite::Found};
use crate::store::{MemoryStore, Store};
use crate::wire::{HmacKey, ServerId};

/// What [`super::run`] runs.
pub(super) struct Started {
    pub(super) config: Arc<Config>,
    pub(super) clock: Clock,
    pub(super) judge: Judge,
    pub(super) store: Box<dyn Store>,
    pub(super) channel: Channel,
    pub(super) listener: JoinHandle<Result<(), ListenerError>>,
    pub(super) addresses: Vec<SocketAddr>,
}

pub(super) fn start(loaded: Loaded) -> Result<Started, Failure> {
    for warning in loaded.warnings.iter() {
        log::warn!(code = "config-warning", what = warning.summary(); "the configuration has a weak spot");
    }
    // A core dump would hold every key. Not inherited: exec makes a process dumpable again.
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        log::warn!(code = "core-dumps", error:%; "core dumps cannot be turned off");
    }
    let config = Arc::new(loaded.config);
    let clock = Clock::start();
    let sockets = sockets::bind(&config.listen).map_err(|(address, error)| {
        let what = format!("cannot listen on {address}: {error}");
        Failure::new(Exit::of_io(&error), what).hint(match error.raw_os_error() {
            Some(libc::EADDRINUSE) => "does siglatchd run already? `ss -ulpn` says who has the port",
            Some(libc::EADDRNOTAVAIL) => "this machine has no such address: see `ip addr`, and `listen`",
            Some(libc::EACCES) => "ports below 1024 need root: see `listen`",
            _ => "see `listen`",
        })
    })?;
    let addresses = sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect();
    let store = open_store(&config)?;
    let judge = Judge::new(Arc::clone(&config), decoys());

    let (ours, theirs) = Channel::pair().map_err(|error| cannot("make the channel", &error))?;
    let listener = std::thread::Builder::new()
        .name("listener".to_owned())
        .spawn(move || listener::run(theirs))
        .map_err(|error| cannot("start the listener", &error))?;
    let setup = ToListener::Setup(Setup {
        private_key: zeroize::Zeroizing::new(config.private_key.read()?.der().to_vec()),
        workers: u16::try_from(config.limits.workers).unwrap_or(u16::MAX),
        queue: u32::try_from(config.limits.queue).unwrap_or(u32::MAX),
        confinement: Confinement::Off,
        user: None,
    });
    let mut sent = vec![ours.send(&setup.encode(), None)];
    for (number, socket) in (0..).zip(&sockets) {
        sent.push(
            ours.send(&ToListener::Socket(SocketId(number), Takes::Plain).encode(), Some(socket.as_fd())),
        );
    }
    sent.push(ours.send(&ToListener::Begin.encode(), None));
    if sent.iter().any(|sent| *sent != Sent::Yes) {
        return Err(cannot("set up the listener", &std::io::ErrorKind::BrokenPipe.into()));
    }
    Ok(Started { config, clock, judge, store, channel: ours, listener, addresses })
}

fn open_store(config: &Config) -> Result<Box<dyn Store>, Failure> {
    let wall = clock::wall().as_secs();
    let max_claims = config.limits.max_claims;
    match config.store {
        StoreKind::Memory => {
            log::warn!(
                code = "store-memory", floor = wall;
                "store in memory: a restart forgets what ran, knocks made before now are refused"
            );
            Ok(Box::new(MemoryStore::new(max_claims, wall)))
        }
        #[cfg(feature = "sqlite")]
        StoreKind::Sqlite => {
            let (store, found) = SqliteStore::open(&config.state_dir, max_claims, wall, &Boot::read(wall))?;
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
            Ok(Box::new(store))
        }
        #[cfg(not(feature = "sqlite"))]
        StoreKind::Sqlite => Err(Failure::new(Exit::Config, "this build has no SQLite".to_owned())
            .hint("set `store = \"memory\"`, or build with the feature `sqlite`")),
    }
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
