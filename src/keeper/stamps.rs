//! Which stamp keys a listener is told. Pure.
//!
//! A user may stamp while he is enabled. What else may keep him out (a date, a policy) is the judge's.

use crate::channel::{STAMP_KEYS_MAX, StampKeys};
use crate::config::Config;
use crate::config::resolved::Enabled;
use crate::wire::stamp::StampKey;
use crate::wire::{HmacKey, UserId};

/// What a listener that goes by `old` (none: that knows nobody) has to hear to go by `new`, each in one message's size.
/// The server's key is the same in both.
pub(crate) fn difference(old: Option<&Config>, new: &Config) -> Vec<StampKeys> {
    let known = old.into_iter().flat_map(|old| old.users.keys());
    let mut ids: Vec<UserId> = known.chain(new.users.keys()).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let mut messages = Vec::new();
    let mut message = StampKeys::default();
    for id in ids {
        let (before, after) = (old.and_then(|old| key(old, id)), key(new, id));
        if before == after {
            continue;
        }
        if before.is_some() {
            message.removed.push(id);
        }
        if let Some(key) = after {
            message.added.push((id, StampKey::derive(&new.private_key.public, key)));
        }
        if message.removed.len().max(message.added.len()) == STAMP_KEYS_MAX {
            messages.push(std::mem::take(&mut message));
        }
    }
    if !message.removed.is_empty() || !message.added.is_empty() {
        messages.push(message);
    }
    messages
}

fn key(config: &Config, id: UserId) -> Option<&HmacKey> {
    config.users.get(&id).filter(|user| user.enabled == Enabled::Yes).map(|user| &user.hmac_key)
}
