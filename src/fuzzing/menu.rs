//! What programs choose from: keys, sources, configurations.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::tz::TimeZone;

use super::recorded::recorded;
use crate::clock::Now;
use crate::config::allowance::{Hours, Quota};
use crate::config::resolved::{
    AddressList, Again, Args, Audit, Door, Enabled, Exchange, KeyFile, Limits, Log, LogFormat, NftDoor,
    NftSet, OnBusy, OnShutdown, OpensFor, PayloadKind, Program, Reply, Sandbox, SecondFactor, Stamp, Stdin,
    StoreKind,
};
use crate::config::{Action, Config, TotpKey, User};
use crate::judge::Decoys;
use crate::keeper::{limits, stamp_keys};
use crate::listener::Admission;
use crate::wire::{ActionId, BeaconKey, Bound, HmacKey, PAYLOAD_MAX, ServerId, UserId};

/// The wall clock at the beginning.
pub(super) const START: Duration = Duration::from_secs(1_700_000_000);

/// Of the configured server.
pub(super) const SERVER: ServerId = ServerId([7; 16]);

/// Of another.
pub(super) const OTHER_SERVER: ServerId = ServerId([8; 16]);

/// A listener's, when it was told all that it has to know.
pub(super) fn admission(now: Now, modulus: Vec<u8>, config: &Config) -> Admission {
    let beacon = BeaconKey::of(&config.private_key.public);
    let mut admission = Admission::new(now, modulus, beacon, limits(config));
    stamp_keys(None, config).iter().for_each(|keys| admission.stamp_keys(keys));
    admission
}

/// For users that nobody is.
pub(super) fn decoys() -> Decoys {
    Decoys { key: HmacKey::new([43; 32]).expect("not zero"), server: ServerId([44; 16]) }
}

/// Users have the keys 1 to 4; the others are nobody's.
pub(super) fn key(nth: u8) -> HmacKey {
    HmacKey::new([nth % 8 + 1; 32]).expect("not zero")
}

/// Whether the user has this key in one of the configurations.
pub(super) fn had(user: UserId, key: &[u8; 32]) -> bool {
    configs().iter().filter_map(|config| config.users.get(&user)).any(|user| user.hmac_key.bytes() == key)
}

pub(super) fn source(nth: u8) -> SocketAddr {
    let v4 = Ipv4Addr::new(192, 0, 2, 7);
    let ip: IpAddr = match nth % 6 {
        0 => v4.into(),
        1 => v4.to_ipv6_mapped().into(),
        2 => Ipv4Addr::new(198, 51, 100, 7).into(),
        3 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).into(),
        4 => Ipv6Addr::LOCALHOST.into(),
        _ => Ipv4Addr::BROADCAST.into(),
    };
    let port = if nth < 128 { 40000 } else { 0 };
    SocketAddr::new(ip, port)
}

/// The first is the one at start; the others differ from it where a reload may.
pub(super) fn configs() -> &'static [Arc<Config>] {
    static CONFIGS: OnceLock<Vec<Arc<Config>>> = OnceLock::new();
    CONFIGS.get_or_init(variants)
}

fn variants() -> Vec<Arc<Config>> {
    let plain = plain();
    let with = |change: &dyn Fn(&mut Config)| {
        let mut config = plain.clone();
        change(&mut config);
        Arc::new(config)
    };
    vec![
        with(&|_| {}),
        with(&|config| {
            config.users.remove(&UserId(1));
        }),
        with(&|config| {
            user(config, 1, |alice| alice.hmac_key = key(5));
            config.bind = Bound::Server;
            config.freshness = Duration::from_secs(3600);
        }),
        with(&|config| {
            config.freshness = Duration::from_secs(1);
            config.limits.nonce_cache = 1;
            config.limits.user_rate = 1;
            config.limits.user_burst = 1;
            config.limits.max_jobs = 1;
        }),
        with(&|config| {
            config.server_id = None;
            config.allow_from = net("192.0.2.0/24");
            user(config, 4, |dave| dave.bind = Bound::None);
            for action in config.actions.values_mut() {
                Arc::make_mut(action).bind = Bound::None;
            }
        }),
        with(&|config| config.stamp = Stamp::Required),
        with(&|config| user(config, 1, |alice| alice.stamp = Stamp::Required)),
        with(&limited),
    ]
}

fn plain() -> Config {
    let mut config = Config {
        reply: Reply::ReceiptAndOutput,
        path: PathBuf::from("/etc/siglatch/siglatchd.toml"),
        listen: Vec::new(),
        private_key: KeyFile { path: PathBuf::new(), public: recorded().private_key.public().clone() },
        old_private_key: None,
        sandbox: Sandbox::Off,
        listener_user: None,
        stamp: Stamp::Optional,
        enrol_key: None,
        server_id: Some(SERVER),
        state_dir: PathBuf::new(),
        runtime_dir: PathBuf::new(),
        freshness: Duration::from_secs(300),
        store: StoreKind::Memory,
        bind: Bound::None,
        allow_from: AddressList::default(),
        deny_from: AddressList::default(),
        audit: Audit::DEFAULT,
        log: Log {
            level: log::LevelFilter::Off,
            format: LogFormat::Text,
            summary: Duration::from_secs(60),
            refused_per_minute: 0,
        },
        control: crate::config::resolved::Control::default(),
        limits: Limits {
            user_rate: 10,
            user_burst: 6,
            nonce_cache: 4,
            max_claims: 8,
            max_jobs: 4,
            max_doors: 1,
            workers: 1,
            prefix_rate: 10,
            prefix_burst: 2,
            prefixes: 4,
            queue: 2,
        },
        made: Default::default(),
        users: (1..=4).map(|id| (UserId(id), Arc::new(a_user(id)))).collect(),
        actions: (1..=7)
            .chain([DOOR])
            .filter_map(ActionId::new)
            .map(|id| (id, Arc::new(an_action(id))))
            .collect(),
    };
    user(&mut config, 1, |alice| alice.public_key = Some(recorded().private_key.public().clone()));
    user(&mut config, 2, |bob| bob.enabled = Enabled::No);
    user(&mut config, 3, |carol| {
        carol.not_after = Some(START + Duration::from_secs(10));
    });
    user(&mut config, 4, |dave| {
        dave.bind = Bound::Source;
        dave.allow_from = net("2001:db8::/32");
    });
    set_up_actions(&mut config);
    config
}

fn set_up_actions(config: &mut Config) {
    action(config, 2, |short| {
        short.payload = PayloadKind::Ascii;
        short.max_payload = 8;
    });
    action(config, 3, |off| off.enabled = Enabled::No);
    action(config, 4, |gone| {
        gone.run.path = PathBuf::from("/nowhere/gone");
        gone.on_busy = OnBusy::Queue(1);
    });
    action(config, 5, |queued| {
        queued.max_running = 1;
        queued.on_busy = OnBusy::Queue(1);
        queued.payload = PayloadKind::Utf8;
    });
    action(config, 6, |bound| {
        bound.bind = Bound::Server;
        bound.allow_from = net("192.0.2.7/32");
        bound.payload = PayloadKind::None;
    });
    action(config, DOOR, |door| {
        door.door = Some(Door {
            hold: Duration::from_secs(10),
            max_hold: Duration::from_secs(20),
            undo: door.run.clone(),
            nft: Some(NftDoor {
                set: NftSet { table: "t".to_owned(), name: "s".to_owned() },
                opens_for: OpensFor::Named(net("192.0.2.0/24")),
            }),
            again: Again::Refuse,
            on_shutdown: OnShutdown::Undo,
            release_id: ActionId::new(RELEASE),
        });
    });
}

/// An action that is held and undone, and the id that ends its lease.
pub(super) const DOOR: u8 = 77;
pub(super) const RELEASE: u8 = 78;
/// A code, a quota, a cooldown, hours, an invite, a guest.
fn limited(config: &mut Config) {
    user(config, 1, |alice| alice.totp_key = TotpKey::new([9; 20]).ok());
    user(config, 3, |invited| {
        invited.exchange = Exchange::Invites { until: Duration::MAX, then: None };
    });
    user(config, 4, |guest| guest.max_knocks = Some(2));
    action(config, 1, |coded| coded.second_factor = SecondFactor::Totp);
    action(config, 2, |twice| twice.allowance.quota = Quota::parse("2/hour", &TimeZone::UTC));
    action(config, 5, |seldom| seldom.allowance.cooldown = Some(5));
    action(config, 6, |monday| {
        monday.allowance.hours.extend(Hours::parse("mon 00:00-01:00", &TimeZone::UTC));
    });
}

/// May run all actions but the seventh.
fn a_user(id: u16) -> User {
    User {
        id: UserId(id),
        name: format!("user{id}"),
        hmac_key: key(u8::try_from(id - 1).unwrap_or(0)),
        public_key: None,
        reply: None,
        actions: (1..=6).chain([DOOR]).filter_map(ActionId::new).collect(),
        allow_from: AddressList::default(),
        bind: Bound::None,
        stamp: Stamp::Optional,
        enabled: Enabled::Yes,
        not_after: None,
        exchange: Default::default(),
        next: None,
        max_knocks: None,
        allowance: Default::default(),
        totp_key: None,
    }
}

fn an_action(id: ActionId) -> Action {
    Action {
        id,
        name: format!("action{id}"),
        builtin: None,
        reply: None,
        run: Program { path: PathBuf::from("/bin/sh"), args: Vec::new() },
        args: Args::Siglatch,
        env: BTreeMap::new(),
        stdin: Stdin::Payload,
        run_as: None,
        timeout: Duration::from_secs(10),
        grace: Duration::from_secs(5),
        max_running: 2,
        on_busy: OnBusy::Refuse,
        max_output: 1024,
        payload: PayloadKind::Any,
        max_payload: PAYLOAD_MAX,
        allow_from: AddressList::default(),
        bind: Bound::None,
        enabled: Enabled::Yes,
        door: None,
        allowance: Default::default(),
        second_factor: Default::default(),
        webhook: None,
    }
}

fn user(config: &mut Config, id: u16, change: impl FnOnce(&mut User)) {
    let user = config.users.get_mut(&UserId(id)).expect("one of the four");
    change(Arc::make_mut(user));
}

fn action(config: &mut Config, id: u8, change: impl FnOnce(&mut Action)) {
    let id = ActionId::new(id).expect("not zero");
    change(Arc::make_mut(config.actions.get_mut(&id).expect("one of the seven")));
}

fn net(text: &str) -> AddressList {
    AddressList(vec![text.parse().expect("a network")])
}
