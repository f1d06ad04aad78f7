//! What an administrator permits, as plain data; and as the configuration that the judge is given.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use proptest::prelude::*;
use siglatch::config::resolved::{
    AddressList, Again, Args, Audit, Door, Enabled, Exchange, KeyFile, Limits, Log, LogFormat, OnBusy,
    OnShutdown, PayloadKind, Program, Reply, Sandbox, Stamp, Stdin, StoreKind,
};
use siglatch::config::{Action, Config, User};
use siglatch::wire::{ActionId, Bound, HmacKey, PrivateKey, ServerId, UserId};

pub(crate) const SOURCES: [&str; 4] = ["192.0.2.1", "192.0.2.200", "198.51.100.9", "2001:db8::1"];

/// Lists of `allow_from`, and which of [`SOURCES`] are in them.
pub(crate) const LISTS: [(&[&str], &[usize]); 6] = [
    (&[], &[0, 1, 2, 3]),
    (&["192.0.2.0/24"], &[0, 1]),
    (&["192.0.2.0/25", "2001:db8::/32"], &[0, 3]),
    (&["0.0.0.0/0"], &[0, 1, 2]),
    (&["::/0"], &[3]),
    (&["198.51.100.9/32", "192.0.2.1/32"], &[0, 2]),
];

pub(crate) struct Payload {
    pub(crate) bytes: &'static [u8],
    /// The kinds that it is of.
    pub(crate) kinds: &'static [PayloadKind],
}

/// What an action that takes options makes of a payload; all others take it as it is.
pub(crate) fn behind_options(payload: usize) -> Option<&'static Payload> {
    match payload {
        5 => Some(&PAYLOADS[1]),
        6 => None,
        _ => Some(&PAYLOADS[payload]),
    }
}

pub(crate) const PAYLOADS: [Payload; 7] = {
    use PayloadKind::{Any, Ascii, None, Utf8};
    const LONGEST: &[u8] = &[b'x'; 199];
    [
        Payload { bytes: b"", kinds: &[Any, Ascii, Utf8, None] },
        Payload { bytes: b"open 22", kinds: &[Any, Ascii, Utf8] },
        Payload { bytes: "gr\u{fc}\u{df}e".as_bytes(), kinds: &[Any, Utf8] },
        Payload { bytes: b"\xff\0", kinds: &[Any] },
        Payload { bytes: LONGEST, kinds: &[Any, Ascii, Utf8] },
        // Hold for 600 s, in front of the second; and an option that a door does not take.
        Payload { bytes: b"\0SLO\x01\x01\x01\x04\0\0\x02\x58open 22", kinds: &[Any, Utf8] },
        Payload { bytes: b"\0SLO\x01\x01\x02\x06123456", kinds: &[Any, Utf8] },
    ]
};

#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) freshness: u64,
    /// The byte in the server's id.
    pub(crate) server_id: Option<u8>,
    pub(crate) bind: Bound,
    /// Of [`LISTS`].
    pub(crate) list: usize,
    pub(crate) nonce_cache: usize,
    pub(crate) users: Vec<UserRule>,
    pub(crate) actions: Vec<ActionRule>,
}

#[derive(Clone, Debug)]
pub(crate) struct UserRule {
    pub(crate) id: u16,
    pub(crate) key: u8,
    pub(crate) actions: Vec<u8>,
    pub(crate) list: usize,
    pub(crate) bind: Bound,
    pub(crate) enabled: bool,
    /// Seconds from noon.
    pub(crate) not_after: Option<u64>,
    pub(crate) require_stamp: bool,
    /// Whether his key is an invite's.
    pub(crate) invited: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct ActionRule {
    pub(crate) id: u8,
    pub(crate) kind: PayloadKind,
    pub(crate) max_payload: usize,
    pub(crate) list: usize,
    pub(crate) bind: Bound,
    pub(crate) enabled: bool,
    /// Whether it is one, and takes options.
    pub(crate) door: bool,
}

pub(crate) const NOON: u64 = 1_700_000_000;

/// Rules under which most of what is well made may run.
pub(crate) fn rules() -> impl Strategy<Value = Rules> {
    let server = (
        prop_oneof![4 => Just(300_u64), 1 => Just(20), 1 => Just(600)],
        prop_oneof![19 => Just(Some(7_u8)), 1 => Just(None)],
        bind(),
        list(),
        1_usize..12,
    );
    let users: Vec<_> = (1..4_u16).map(user).collect();
    let actions: Vec<_> = (1..4_u8).map(action).collect();
    (server, users, actions).prop_map(|(server, users, actions)| {
        let (freshness, server_id, bind, list, nonce_cache) = server;
        Rules {
            freshness,
            server_id,
            bind,
            list,
            nonce_cache,
            users: users.into_iter().flatten().collect(),
            actions: actions.into_iter().flatten().collect(),
        }
    })
}

fn user(id: u16) -> impl Strategy<Value = Option<UserRule>> {
    let actions = prop_oneof![
        3 => Just(vec![1, 2, 3]),
        1 => prop::sample::subsequence(vec![1_u8, 2, 3], 0..3),
    ];
    let key = prop_oneof![19 => Just(id as u8), 1 => 1_u8..5];
    let not_after = prop_oneof![5 => Just(None), 1 => (0_u64..600).prop_map(Some)];
    let require_stamp = prop::bool::weighted(0.2);
    let invited = prop::bool::weighted(0.05);
    let rule = (key, actions, list(), bind(), enabled(), not_after, (require_stamp, invited)).prop_map(
        move |(key, actions, list, bind, enabled, not_after, (require_stamp, invited))| UserRule {
            id,
            key,
            actions,
            list,
            bind,
            enabled,
            not_after: not_after.map(|seconds| NOON + seconds),
            require_stamp,
            invited,
        },
    );
    prop_oneof![19 => rule.prop_map(Some), 1 => Just(None)]
}

fn action(id: u8) -> impl Strategy<Value = Option<ActionRule>> {
    let kind = prop_oneof![
        9 => Just(PayloadKind::Any),
        1 => Just(PayloadKind::Ascii),
        1 => Just(PayloadKind::Utf8),
        1 => Just(PayloadKind::None),
    ];
    let max_payload = prop_oneof![3 => Just(199_usize), 1 => prop::sample::select(vec![0, 7, 198])];
    let door = prop::bool::weighted(0.3);
    let rule = (kind, max_payload, list(), bind(), enabled(), door).prop_map(
        move |(kind, max_payload, list, bind, enabled, door)| ActionRule {
            id,
            kind,
            max_payload,
            list,
            bind,
            enabled,
            door,
        },
    );
    prop_oneof![19 => rule.prop_map(Some), 1 => Just(None)]
}

fn bind() -> impl Strategy<Value = Bound> {
    prop_oneof![18 => Just(Bound::None), 1 => Just(Bound::Server), 1 => Just(Bound::Source)]
}

fn list() -> impl Strategy<Value = usize> {
    prop_oneof![14 => Just(0), 1 => 0..LISTS.len()]
}

fn enabled() -> impl Strategy<Value = bool> {
    prop_oneof![19 => Just(true), 1 => Just(false)]
}

impl Rules {
    pub(crate) fn user(&self, id: u16) -> Option<&UserRule> {
        self.users.iter().find(|user| user.id == id)
    }

    pub(crate) fn action(&self, id: u8) -> Option<&ActionRule> {
        self.actions.iter().find(|action| action.id == id)
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::new(Config {
            path: PathBuf::new(),
            listen: Vec::new(),
            private_key: KeyFile { path: PathBuf::new(), public: SERVER_KEY.public().clone() },
            old_private_key: None,
            sandbox: Sandbox::Off,
            listener_user: None,
            stamp: Stamp::Optional,
            enrol_key: None,
            server_id: self.server_id.map(|byte| ServerId([byte; 16])),
            state_dir: PathBuf::new(),
            runtime_dir: PathBuf::new(),
            freshness: Duration::from_secs(self.freshness),
            store: StoreKind::Memory,
            bind: self.bind,
            reply: Reply::Never,
            allow_from: addresses(self.list),
            deny_from: AddressList::default(),
            audit: Audit::DEFAULT,
            log: Log {
                level: log::LevelFilter::Info,
                format: LogFormat::Text,
                summary: Duration::from_secs(60),
                refused_per_minute: 0,
            },
            control: siglatch::config::resolved::Control::default(),
            limits: Limits {
                prefix_rate: 10,
                prefix_burst: 50,
                prefixes: 64,
                user_rate: 1_000_000,
                user_burst: 1_000_000,
                nonce_cache: self.nonce_cache,
                max_claims: 0,
                max_jobs: 0,
                max_doors: 0,
                workers: 0,
                queue: 0,
            },
            made: Default::default(),
            users: self.users.iter().map(|rule| (UserId(rule.id), Arc::new(rule.user()))).collect(),
            actions: self.actions.iter().map(|rule| (action_id(rule.id), Arc::new(rule.action()))).collect(),
        })
    }
}

impl UserRule {
    fn user(&self) -> User {
        User {
            id: UserId(self.id),
            name: format!("user-{}", self.id),
            hmac_key: HmacKey::new([self.key; 32]).unwrap(),
            public_key: None,
            reply: None,
            actions: self.actions.iter().map(|id| action_id(*id)).collect(),
            allow_from: addresses(self.list),
            bind: self.bind,
            stamp: if self.require_stamp { Stamp::Required } else { Stamp::Optional },
            enabled: switch(self.enabled),
            not_after: self.not_after.map(Duration::from_secs),
            exchange: if self.invited {
                Exchange::Invites { until: Duration::MAX, then: None }
            } else {
                Exchange::Never
            },
            next: None,
            max_knocks: None,
            allowance: Default::default(),
            totp_key: None,
        }
    }
}

impl ActionRule {
    fn action(&self) -> Action {
        Action {
            id: action_id(self.id),
            name: format!("action-{}", self.id),
            builtin: None,
            run: Program { path: PathBuf::from("/bin/true"), args: Vec::new() },
            args: Args::Siglatch,
            env: BTreeMap::new(),
            stdin: Stdin::Null,
            run_as: None,
            timeout: Duration::from_secs(1),
            grace: Duration::from_secs(1),
            max_running: 1,
            on_busy: OnBusy::Refuse,
            max_output: 0,
            payload: self.kind,
            max_payload: self.max_payload,
            allow_from: addresses(self.list),
            bind: self.bind,
            reply: None,
            enabled: switch(self.enabled),
            door: self.door.then(|| Door {
                hold: Duration::from_secs(60),
                max_hold: Duration::from_secs(60),
                undo: Program { path: PathBuf::from("/bin/true"), args: Vec::new() },
                nft: None,
                again: Again::Extend,
                on_shutdown: OnShutdown::Keep,
                release_id: None,
            }),
            allowance: Default::default(),
            second_factor: Default::default(),
            webhook: None,
        }
    }
}

fn addresses(list: usize) -> AddressList {
    AddressList(LISTS[list].0.iter().map(|net| net.parse().unwrap()).collect())
}

fn switch(on: bool) -> Enabled {
    if on { Enabled::Yes } else { Enabled::No }
}

fn action_id(id: u8) -> ActionId {
    ActionId::new(id).unwrap()
}

/// The judge never uses it; a configuration has one.
static SERVER_KEY: LazyLock<PrivateKey> = LazyLock::new(|| {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../vectors/siglatch-v1.json")).unwrap();
    PrivateKey::from_pem(vectors["private_key_pem"].as_str().unwrap()).unwrap()
});
