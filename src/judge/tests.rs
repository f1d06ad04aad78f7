//! The judge with a clock that is moved by hand.

mod authentic;
mod fresh;
mod limited;
mod once;
mod permitted;

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use log::LevelFilter;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::*;
use crate::channel::{Lane, SocketId, ToKeeper, Under};
use crate::config::resolved::{
    AddressList, Args, Audit, Enabled, KeyFile, Limits, Log, LogFormat, OnBusy, PayloadKind, Program,
    Sandbox, Stamp, Stdin, StoreKind,
};
use crate::config::{Action, User};
use crate::store::{MemoryStore, Store as _};
use crate::wire::mac::{self, Signed};
use crate::wire::{ActionId, Binding, Bound, HmacKey, Knock, PLAINTEXT_LEN, PrivateKey, ServerId};

const NOON: u32 = 1_700_000_000;
const SERVER: ServerId = ServerId([7; 16]);
const ALICE: UserId = UserId(1);
const BOB: UserId = UserId(2);
/// Where alice is, unless a test says otherwise.
const HOME: &str = "192.0.2.1:4000";
const ELSEWHERE: &str = "198.51.100.9:4000";

/// A judge with a store, and the time.
struct Desk {
    judge: Judge,
    store: MemoryStore,
    now: Now,
}

impl Desk {
    /// At noon; the store is as old as its keys.
    fn new(config: Config) -> Desk {
        Desk {
            judge: Judge::new(Arc::new(config), decoys()),
            store: MemoryStore::new(1000, 0),
            now: at(NOON.into()),
        }
    }

    fn reload(&mut self, config: Config) {
        self.judge.reload(Arc::new(config));
    }

    /// Another process, with the store of this one.
    fn restart(&mut self, config: Config) {
        self.judge = Judge::new(Arc::new(config), decoys());
    }

    fn opened(&mut self, plain: &Plain, from: &str) -> Result<Claim, DropReason> {
        match self.judge.opened(self.now, &opened(plain, from)) {
            Decision::Claim(claim) => Ok(claim),
            Decision::Refuse(refusal) => Err(checked(refusal)),
        }
    }

    /// The store's own outcome.
    fn claimed(&mut self, claim: Claim) -> Result<Grant, DropReason> {
        let outcomes = self.store.claim(self.now.unix(), &[claim.record()]).unwrap();
        self.settled(claim, Some(outcomes[0]))
    }

    fn settled(&mut self, claim: Claim, outcome: Option<store::Outcome>) -> Result<Grant, DropReason> {
        match self.judge.claimed(self.now, claim, outcome) {
            Verdict::Grant(grant) => Ok(grant),
            Verdict::Refuse(refusal) => Err(checked(refusal)),
        }
    }

    /// The whole way.
    fn knock(&mut self, plain: &Plain, from: &str) -> Result<Grant, DropReason> {
        let claim = self.opened(plain, from)?;
        self.claimed(claim)
    }

    /// Ran, or why not.
    fn outcome(&mut self, plain: &Plain, from: &str) -> Result<(), DropReason> {
        self.knock(plain, from).map(drop)
    }
}

type Plain = [u8; PLAINTEXT_LEN];

/// Who is refused is known exactly when the HMAC has verified.
fn checked(refusal: Refusal) -> DropReason {
    assert_eq!(refusal.verified.is_some(), refusal.reason.is_authentic(), "{}", refusal.reason);
    refusal.reason
}

fn at(wall: u64) -> Now {
    Now { mono: Duration::from_secs(1000), boot: Duration::ZERO, wall: Duration::from_secs(wall) }
}

fn decoys() -> Decoys {
    Decoys { key: key(0xde), server: ServerId([0xde; 16]) }
}

fn key(byte: u8) -> HmacKey {
    HmacKey::new([byte; 32]).unwrap()
}

/// Alice (key 1) and bob (key 2) may run action 1, from anywhere, bound to nothing.
fn config() -> Config {
    Config {
        path: PathBuf::new(),
        listen: Vec::new(),
        private_key: KeyFile { path: PathBuf::new(), public: SERVER_KEY.public().clone() },
        old_private_key: None,
        sandbox: Sandbox::Off,
        listener_user: None,
        stamp: Stamp::Optional,
        enrol_key: None,
        server_id: Some(SERVER),
        state_dir: PathBuf::new(),
        runtime_dir: PathBuf::new(),
        freshness: Duration::from_secs(300),
        reply: crate::config::resolved::Reply::Never,
        store: StoreKind::Memory,
        bind: Bound::None,
        allow_from: AddressList::default(),
        deny_from: AddressList::default(),
        audit: Audit::DEFAULT,
        log: Log {
            level: LevelFilter::Info,
            format: LogFormat::Text,
            summary: Duration::from_secs(60),
            refused_per_minute: 0,
        },
        control: crate::config::resolved::Control::default(),
        limits: Limits {
            user_rate: 10,
            user_burst: 50,
            nonce_cache: 1000,
            max_claims: 1000,
            max_jobs: 64,
            max_doors: 64,
            workers: 1,
            prefix_rate: 10,
            prefix_burst: 50,
            prefixes: 64,
            queue: 1,
        },
        made: Default::default(),
        users: [user(ALICE, key(1)), user(BOB, key(2))]
            .into_iter()
            .map(|user| (user.id, Arc::new(user)))
            .collect(),
        actions: [action(1)].into_iter().map(|action| (action.id, Arc::new(action))).collect(),
    }
}

fn user(id: UserId, hmac_key: HmacKey) -> User {
    User {
        id,
        name: format!("user-{id}"),
        hmac_key,
        public_key: None,
        reply: None,
        actions: vec![ActionId::new(1).unwrap()],
        allow_from: AddressList::default(),
        stamp: Stamp::Optional,
        bind: Bound::None,
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
        id: ActionId::new(id).unwrap(),
        name: format!("action-{id}"),
        builtin: None,
        run: Program { path: PathBuf::from("/bin/true"), args: Vec::new() },
        args: Args::Siglatch,
        env: Default::default(),
        stdin: Stdin::Null,
        run_as: None,
        timeout: Duration::from_secs(10),
        grace: Duration::from_secs(1),
        max_running: 1,
        on_busy: OnBusy::Refuse,
        max_output: 4096,
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

/// `config` with its user alice changed.
fn with_alice(mut config: Config, change: impl FnOnce(&mut User)) -> Config {
    change(Arc::make_mut(config.users.get_mut(&ALICE).unwrap()));
    config
}

/// `config` with its action 1 changed.
fn with_action(mut config: Config, change: impl FnOnce(&mut Action)) -> Config {
    change(Arc::make_mut(config.actions.get_mut(&ActionId::new(1).unwrap()).unwrap()));
    config
}

/// Alice's knock for action 1, at noon.
fn knock(challenge: u32) -> Knock<'static> {
    Knock { timestamp: NOON, user: ALICE, action: ActionId::new(1).unwrap(), challenge, payload: b"" }
}

/// Alice's packet, bound to nothing.
fn plain(challenge: u32) -> Plain {
    signed(&knock(challenge), Binding::None)
}

/// Alice's packet with this timestamp.
fn made_at(timestamp: u32) -> Plain {
    let knock = Knock { timestamp, ..knock(1) };
    signed(&knock, Binding::None)
}

fn signed(knock: &Knock<'_>, binding: Binding) -> Plain {
    *knock.encode(&key(1), binding).unwrap()
}

/// `plain` changed, and signed again by `key`, over as much as its length says.
fn resigned(mut plain: Plain, key: &HmacKey, change: impl FnOnce(&mut Plain)) -> Plain {
    change(&mut plain);
    let signed = Signed { head: plain.first_chunk().unwrap(), tail: plain.last_chunk().unwrap() };
    let hmac = mac::tag(key, &signed, Binding::None);
    plain[12..44].copy_from_slice(&hmac);
    plain
}

/// As the keeper reads it from the channel.
fn opened(plain: &Plain, from: &str) -> Opened {
    let message = ToKeeper::Opened(Opened {
        lane: Lane::Plain,
        under: Under::CURRENT,
        source: from.parse().unwrap(),
        local: [192, 0, 2, 1].into(),
        socket: SocketId(0),
        digest: Sha256::digest(plain).into(),
        plaintext: Zeroizing::new(*plain),
    });
    match ToKeeper::decode(&message.encode()) {
        Ok(ToKeeper::Opened(opened)) => opened,
        other => panic!("{other:?}"),
    }
}

/// The judge never uses it; a configuration has one.
static SERVER_KEY: LazyLock<PrivateKey> = LazyLock::new(|| {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/vectors/siglatch-v1.json")).unwrap();
    PrivateKey::from_pem(vectors["private_key_pem"].as_str().unwrap()).unwrap()
});
