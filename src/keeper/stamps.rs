//! Which stamp keys a listener is told. Pure.
//!
//! A user may stamp while he is enabled. What else may keep him out (a date, a policy) is the judge's.

use std::iter;

use crate::channel::{STAMP_KEYS_MAX, StampKeys};
use crate::config::Config;
use crate::config::resolved::Enabled;
use crate::wire::stamp::StampKey;
use crate::wire::{HmacKey, UserId};

/// What a listener that goes by `old` (none: that knows nobody) has to hear to go by `new`, each in one message's size.
/// The server's keys are the same in both.
pub(crate) fn difference(old: Option<&Config>, new: &Config) -> Vec<StampKeys> {
    let known = old.into_iter().flat_map(|old| old.users.keys());
    let mut ids: Vec<UserId> = known.chain(new.users.keys()).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let mut messages = Vec::new();
    let mut message = StampKeys::default();
    for id in ids {
        let (before, after) = (old.map(|old| keys(old, id)).unwrap_or_default(), keys(new, id));
        if before == after {
            continue;
        }
        // All of one user's in one message.
        if message.removed.len().max(message.added.len()).saturating_add(KEYS) > STAMP_KEYS_MAX {
            messages.push(std::mem::take(&mut message));
        }
        if !before.is_empty() {
            message.removed.push(id);
        }
        let servers = iter::once(&new.private_key).chain(&new.old_private_key);
        let derived =
            servers.flat_map(|server| after.iter().map(|key| StampKey::derive(&server.public, key)));
        message.added.extend(derived.map(|key| (id, key)));
    }
    if !message.removed.is_empty() || !message.added.is_empty() {
        messages.push(message);
    }
    messages
}

/// His own, and the one that he exchanges it for.
fn keys(config: &Config, id: UserId) -> Vec<&HmacKey> {
    let user = config.users.get(&id).filter(|user| user.enabled == Enabled::Yes);
    let next = user.and_then(|user| user.next.as_ref());
    user.into_iter().chain(next).map(|user| &user.hmac_key).collect()
}

/// The most that one user has: two, each for two keys of the server's.
const KEYS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// With these tables, and the key that opens the recorded datagrams.
    fn config(tables: &str) -> Config {
        let vectors = include_str!("../../tests/vectors/siglatch-v1.json");
        let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let top = "listen = [\"127.0.0.1:0\"]\nprivate_key = \"key\"\n[actions]\n".to_owned();
        let pem = vectors["private_key_pem"].as_str().unwrap();
        let files = [("key", pem), ("a", &"01".repeat(32)), ("b", &"02".repeat(32)), ("c", &(top + tables))];
        for (name, text) in files {
            config::files::write(
                &folder.path().join(name),
                text.as_bytes(),
                0o600,
                config::files::Existing::Keep,
            )
            .unwrap();
        }
        config::load(&folder.path().join("c")).unwrap().config
    }

    fn user(id: u16, key: &str, more: &str) -> String {
        format!("[users.u{id}]\nid = {id}\nhmac_key = \"{key}\"\n{more}\n")
    }

    fn told(messages: &[StampKeys]) -> (Vec<u16>, Vec<u16>) {
        let removed = messages.iter().flat_map(|message| &message.removed).map(|id| id.0).collect();
        let added = messages.iter().flat_map(|message| &message.added).map(|(id, _)| id.0).collect();
        (removed, added)
    }

    #[test]
    fn a_listener_is_told_who_may_stamp_and_then_only_what_changes() {
        let off = "enabled = false";
        let old = config(&[user(1, "a", ""), user(2, "a", off), user(3, "a", ""), user(4, "a", "")].concat());
        let all = difference(None, &old);
        assert_eq!(told(&all), (vec![], vec![1, 3, 4]));
        let expected = StampKey::derive(&old.private_key.public, &old.users[&UserId(1)].hmac_key);
        assert_eq!(all[0].added[0].1.bytes(), expected.bytes());
        assert!(difference(Some(&old), &old).is_empty());

        // 1 is off, 2 is on, 3 has another key, 4 is gone, 5 is new.
        let new = config(&[user(1, "a", off), user(2, "a", ""), user(3, "b", ""), user(5, "a", "")].concat());
        assert_eq!(told(&difference(Some(&old), &new)), (vec![1, 3, 4], vec![2, 3, 5]));
    }

    #[test]
    fn many_users_take_many_messages() {
        let many = config(&(1..=450).map(|id| user(id, "a", "")).collect::<String>());
        let messages = difference(None, &many);
        assert_eq!(messages.iter().map(|message| message.added.len()).collect::<Vec<_>>(), [197, 197, 56]);
        let none = difference(Some(&many), &config(""));
        assert_eq!(none.iter().map(|message| message.removed.len()).collect::<Vec<_>>(), [197, 197, 56]);
    }
}
