//! Who has moved to the server's new key, while the one before is good too. Pure.
//!
//! In: knocks whose HMAC verified and whose nonce was claimed, each with the key that it was sealed under. Out: what the store is to
//! keep, and who would be locked out if the old key ended now. Nothing is refused by it.

use std::collections::BTreeMap;

use crate::channel::Under;
use crate::clock::Now;
use crate::config::Config;
use crate::config::resolved::Enabled;
use crate::control::status::Rotation;
use crate::store::moved::{MovedRow, fingerprint};
use crate::wire::UserId;

/// What is known of all users.
#[derive(Debug)]
pub(super) struct Moving {
    /// Of the current key; `None`: no other is good, and nothing is noted.
    key: Option<[u8; 32]>,
    users: BTreeMap<UserId, Known>,
}

/// Of one.
#[derive(Clone, Copy, Debug)]
struct Known {
    row: MovedRow,
    /// As the store has it.
    kept: Option<MovedRow>,
}

impl Moving {
    /// With what the store has kept; of another change of keys it is forgotten.
    pub(super) fn new(config: &Config, rows: Vec<MovedRow>) -> Moving {
        let old = config.old_private_key.as_ref();
        let key = old.map(|_| fingerprint(&config.private_key.public));
        let rows = rows.into_iter().filter(|row| Some(row.key) == key);
        Moving { key, users: rows.map(|row| (row.user, Known { row, kept: Some(row) })).collect() }
    }

    /// He knocked. What the store is to keep of it, where that is news.
    pub(super) fn knocked(&mut self, now: Now, user: UserId, under: Under) -> Option<MovedRow> {
        let blank = MovedRow { user, key: self.key?, current: None, old: None, moved: false };
        let Known { row, kept } = self.users.entry(user).or_insert(Known { row: blank, kept: None });
        row.moved = under == Under::CURRENT;
        let last = if row.moved { &mut row.current } else { &mut row.old };
        *last = Some(u32::try_from(now.unix()).unwrap_or(u32::MAX));
        let known = kept.is_some_and(|kept| {
            kept.moved == row.moved && is_near(kept.current, row.current) && is_near(kept.old, row.old)
        });
        (!known).then_some(*row)
    }

    /// The store will keep this.
    pub(super) fn kept(&mut self, row: MovedRow) {
        self.users.entry(row.user).and_modify(|known| known.kept = Some(row));
    }

    /// What administrators are shown of it; `None`: one key is good.
    pub(super) fn status(&self, config: &Config, now: Now) -> Option<Rotation> {
        self.key?;
        let may = |enabled, expired: bool| enabled == Enabled::Yes && !expired;
        let users = || config.users.values().filter(|user| may(user.enabled, user.is_expired(now.wall)));
        let moved = |id| self.users.get(&id).is_some_and(|known: &Known| known.row.moved);
        let behind = || users().filter(|user| !moved(user.id));
        Some(Rotation {
            since: config.made.server,
            users: users().count() as u64,
            behind: behind().count() as u64,
            names: behind().take(NAMES).map(|user| user.name.clone()).collect(),
        })
    }
}

/// Whether it is not worth a transaction.
fn is_near(kept: Option<u32>, last: Option<u32>) -> bool {
    match (kept, last) {
        (Some(kept), Some(last)) => kept.abs_diff(last) < SELDOM,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Seconds by which what is kept may be behind: who knocks each minute needs no transaction for each.
const SELDOM: u32 = 6 * 3600;

/// Users that are named.
const NAMES: usize = 1000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ALICE: UserId = UserId(1);
    const BOB: UserId = UserId(2);

    fn at(seconds: u64) -> Now {
        let time = Duration::from_secs(seconds);
        Now { mono: time, boot: time, wall: time }
    }

    #[test]
    fn it_is_kept_when_it_is_news_and_seldom_when_it_is_not() {
        let mut moving = Moving { key: Some([7; 32]), users: BTreeMap::new() };
        let mut knocked = |seconds, under| {
            let row = moving.knocked(at(seconds), ALICE, under);
            row.into_iter().for_each(|row| moving.kept(row));
            row.map(|row| row.moved)
        };
        assert_eq!(knocked(0, Under::OLD), Some(false));
        assert_eq!(knocked(60, Under::OLD), None);
        assert_eq!(knocked(61, Under::CURRENT), Some(true));
        assert_eq!(knocked(61, Under::OLD), Some(false), "another device of his");
        assert_eq!(knocked(61, Under::CURRENT), Some(true));
        assert_eq!(knocked(3600, Under::CURRENT), None);
        assert_eq!(knocked(6 * 3600 + 61, Under::CURRENT), Some(true));
    }

    #[test]
    fn what_the_store_did_not_take_is_news_again() {
        let mut moving = Moving { key: Some([7; 32]), users: BTreeMap::new() };
        assert!(moving.knocked(at(0), BOB, Under::CURRENT).is_some());
        assert!(moving.knocked(at(1), BOB, Under::CURRENT).is_some());
    }
}
