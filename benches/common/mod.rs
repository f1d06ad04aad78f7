//! A configuration of any size, without files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use siglatch::config::resolved::{
    AddressList, Args, Enabled, KeyFile, Limits, Log, LogFormat, OnBusy, PayloadKind, Program, Sandbox,
    Stamp, Stdin, StoreKind,
};
use siglatch::config::{Action, Config, User};
use siglatch::wire::{ActionId, Bound, HmacKey, PublicKey, ServerId, UserId};

/// Users 1 to `users`, who may all run actions 1 to `actions`.
pub(crate) fn config(public: &PublicKey, users: u16, actions: u8) -> Config {
    Config {
        path: PathBuf::new(),
        listen: Vec::new(),
        private_key: KeyFile { path: PathBuf::new(), public: public.clone() },
        old_private_key: None,
        enrol_key: None,
        server_id: Some(ServerId([7; 16])),
        state_dir: PathBuf::new(),
        runtime_dir: PathBuf::new(),
        freshness: Duration::from_secs(300),
        reply: siglatch::config::resolved::Reply::Never,
        store: StoreKind::Memory,
        sandbox: Sandbox::Off,
        listener_user: None,
        stamp: Stamp::Optional,
        bind: Bound::None,
        allow_from: AddressList::default(),
        deny_from: AddressList::default(),
        audit: siglatch::config::resolved::Audit::DEFAULT,
        log: Log {
            level: log::LevelFilter::Info,
            format: LogFormat::Text,
            summary: Duration::from_secs(60),
            refused_per_minute: 0,
        },
        control: siglatch::config::resolved::Control::default(),
        limits: Limits {
            user_rate: 1_000_000,
            user_burst: 2_000_000,
            nonce_cache: 2_000_000,
            max_claims: 0,
            max_jobs: 0,
            max_doors: 0,
            prefix_rate: 10,
            prefix_burst: 50,
            prefixes: 64,
            workers: 0,
            queue: 0,
        },
        made: Default::default(),
        users: (1..=users).map(|id| (UserId(id), Arc::new(user(id, actions)))).collect(),
        actions: (1..=actions).map(|id| (action_id(id), Arc::new(action(id)))).collect(),
    }
}

/// The key of this user.
pub(crate) fn key(user: u16) -> HmacKey {
    let mut key = [0x5c; 32];
    key[..2].copy_from_slice(&user.to_be_bytes());
    HmacKey::new(key).unwrap()
}

fn user(id: u16, actions: u8) -> User {
    User {
        id: UserId(id),
        name: format!("user-{id}"),
        hmac_key: key(id),
        public_key: None,
        reply: None,
        actions: (1..=actions).map(action_id).collect(),
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

fn action(id: u8) -> Action {
    Action {
        id: action_id(id),
        name: format!("action-{id}"),
        builtin: None,
        run: Program { path: PathBuf::from("/bin/true"), args: Vec::new() },
        args: Args::Siglatch,
        env: Default::default(),
        stdin: Stdin::Null,
        run_as: None,
        timeout: Duration::from_secs(1),
        grace: Duration::from_secs(1),
        max_running: 1,
        on_busy: OnBusy::Refuse,
        max_output: 0,
        payload: PayloadKind::Any,
        max_payload: 199,
        allow_from: AddressList::default(),
        bind: Bound::None,
        reply: None,
        enabled: Enabled::Yes,
        door: None,
        allowance: Default::default(),
        second_factor: Default::default(),
        webhook: None,
    }
}

fn action_id(id: u8) -> ActionId {
    ActionId::new(id).unwrap()
}
