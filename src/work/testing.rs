//! What the tests of this room start from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Job;
use crate::config::resolved::{AddressList, Args, Enabled, OnBusy, PayloadKind, Program, Stamp, Stdin};
use crate::config::{Action, User};
use crate::judge::Grant;
use crate::wire::{ActionId, Bound, HmacKey, UserId};

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
    };
    Job::from(Grant::forged(Arc::new(user), Arc::new(action), payload))
}
