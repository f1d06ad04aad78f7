//! What the tests of this room start from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::Job;
use super::leases::{Opening, Reason, Undoing};
use crate::config::resolved::{
    AddressList, Again, Args, Door, Enabled, NftDoor, NftSet, OnBusy, OnShutdown, OpensFor, PayloadKind,
    Program, Stamp, Stdin,
};
use crate::config::{Action, User};
use crate::judge::Grant;
use crate::store::doors::DoorKey;
use crate::wire::{ActionId, Bound, HmacKey, KnockId, UserId};

/// Runs /bin/true, one at a time, for a minute.
pub(super) fn action(id: u8, name: &str) -> Action {
    Action {
        id: ActionId::new(id).unwrap(),
        name: name.to_owned(),
        builtin: None,
        run: Program { path: PathBuf::from("/bin/true"), args: Vec::new() },
        args: Args::Siglatch,
        env: BTreeMap::new(),
        stdin: Stdin::Null,
        run_as: None,
        timeout: Duration::from_secs(60),
        grace: Duration::from_secs(5),
        max_running: 1,
        on_busy: OnBusy::Refuse,
        max_output: 64 * 1024,
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

/// Alice's knock for `action`.
pub(super) fn job(action: Action, payload: &[u8]) -> Job {
    let user = User {
        id: UserId(5),
        name: "alice".to_owned(),
        hmac_key: HmacKey::new([7; 32]).unwrap(),
        public_key: None,
        reply: None,
        actions: vec![action.id],
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
    };
    Job::from(Grant::forged(Arc::new(user), Arc::new(action), payload))
}

/// A knock of `user`'s for a door of `action`'s terms, from 192.0.2.`host`, with an id of its own.
pub(super) fn opening(action: &Action, user: &str, host: u8, knock: u64, hold: Option<u32>) -> Opening {
    let who = User {
        id: UserId(5),
        name: user.to_owned(),
        hmac_key: HmacKey::new([7; 32]).unwrap(),
        public_key: None,
        reply: None,
        actions: vec![action.id],
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
    };
    let mut grant = Grant::forged(Arc::new(who), Arc::new(action.clone()), b"hi");
    grant.knock = KnockId(knock.to_be_bytes());
    grant.source.set_ip([192, 0, 2, host].into());
    grant.opens_for = grant.source.ip();
    grant.options.hold = hold;
    Opening::of(grant, action.door.as_ref().unwrap())
}

/// The same action as a door, held for a minute, for ten at most.
pub(super) fn door(again: Again) -> Action {
    let door = Door {
        hold: Duration::from_secs(60),
        max_hold: Duration::from_secs(600),
        undo: Program { path: PathBuf::from("/bin/false"), args: vec!["-u".to_owned()] },
        nft: None,
        again,
        on_shutdown: OnShutdown::Keep,
        release_id: None,
    };
    Action { door: Some(door), ..action(3, "open") }
}

/// What sends a webhook.
pub(super) fn sender() -> Job {
    Job::sender(
        KnockId([7; 8]),
        "--webhook",
        Zeroizing::new(b"secret".to_vec()),
        None,
        Duration::from_secs(15),
    )
}

/// What closes a door.
pub(super) fn undo() -> Job {
    let exec = job(action(3, "open"), b"").exec().clone();
    let door = DoorKey { action: "open".to_owned(), source: [192, 0, 2, 7].into() };
    let (lease, user) = (KnockId([7; 8]), "alice".to_owned());
    Job::undo(Undoing { door, lease, user, attempt: 1, reason: Reason::Expired }, &exec, None)
}

/// The same as a door of nftables.
pub(super) fn nft_door(again: Again) -> Action {
    let mut action = door(again);
    let set = NftSet { table: "siglatch".to_owned(), name: "web".to_owned() };
    if let Some(door) = &mut action.door {
        door.nft = Some(NftDoor { set, opens_for: OpensFor::Knocker });
    }
    action
}
