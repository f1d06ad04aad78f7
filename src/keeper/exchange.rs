//! Keys that are exchanged: users who knock for another key get it, and have it from their first knock under it on. Pure.
//!
//! In: the configuration as its files have it, what the store has kept, knocks for an exchange. Out: the configuration with the keys
//! that are in force, and what the store is to keep. Never: a key that the store has not kept, in force.
//!
//! # Security considerations
//!
//! Until it is knocked under, a new key stands beside the old one, and is the only one there will be: whoever has the old key, too,
//! and sends for another, is refused, and that is an alarm. It is not known which of the two is the user.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::config::resolved::Exchange;
use crate::config::{Config, User};
use crate::store::keys::{Exchanged, KeyRow, Next, Own};
use crate::wire::enrol::{self, EnrolPublic};
use crate::wire::{HmacKey, KnockId, UserId};

/// All exchanges.
#[derive(Debug)]
pub(super) struct Exchanges {
    files: Arc<Config>,
    kept: BTreeMap<UserId, Exchanged>,
    keeping: BTreeMap<UserId, Keeping>,
    /// Whose new key is in force, and the store does not know; and knocks that are told when it does.
    unkept: BTreeMap<UserId, Vec<KnockId>>,
    /// Users whose key somebody else sent for, too, by name.
    pub(super) contested: BTreeSet<String>,
}

/// What the store has not answered yet, and whose knocks wait for that.
#[derive(Debug)]
struct Keeping {
    exchanged: Exchanged,
    knocks: Vec<KnockId>,
}

/// Who is told that the store has kept a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Those who have sent for it.
    Pending(Vec<KnockId>),
    /// Those who have knocked under it.
    InForce(Vec<KnockId>),
}

/// What comes of a knock for an exchange.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// The store is to keep this first.
    Keep(KeyRow),
    /// It is being kept: the knock is answered with the one before.
    Waits,
    /// It was kept before: this client has its key.
    Again,
    /// Another client has sent for a key.
    Taken,
    /// What was sent is no public key, or there is nothing to exchange with.
    Useless,
}

impl Exchanges {
    /// With what the store has kept.
    pub(super) fn new(files: Arc<Config>, rows: Vec<KeyRow>) -> Exchanges {
        let kept = rows.into_iter().map(|row| (row.user, row.exchanged)).collect();
        Exchanges {
            files,
            kept,
            keeping: BTreeMap::new(),
            unkept: BTreeMap::new(),
            contested: BTreeSet::new(),
        }
    }

    /// What the store is to keep where it has forgotten what became of invites: nobody gets a key for those of these files any more.
    /// `random`: 32 bytes, fresh.
    pub(super) fn void(files: &Config, mut random: impl FnMut() -> [u8; 32]) -> Vec<KeyRow> {
        let invited = files.users.values().filter(|user| matches!(user.exchange, Exchange::Invites { .. }));
        let rows = invited.filter_map(|user| {
            let next = Next { client: EnrolPublic::NOBODY, key: HmacKey::new(random()).ok()? };
            let exchanged = Exchanged { next: Some(next), ..Exchanged::of(&user.hmac_key) };
            Some(KeyRow { user: user.id, exchanged })
        });
        rows.collect()
    }

    /// The files have been read again.
    pub(super) fn read(&mut self, files: Arc<Config>) {
        let key = |config: &Config, name: &str| {
            let user = config.users.values().find(|user| user.name == name);
            user.map(|user| user.hmac_key.clone())
        };
        self.contested.retain(|name| key(&files, name) == key(&self.files, name));
        self.files = files;
    }

    /// With the keys that are in force.
    pub(super) fn config(&self, now: Now) -> Arc<Config> {
        let changed = self.kept.iter().filter_map(|(id, kept)| self.changed(now, *id, kept));
        let changed: Vec<User> = changed.collect();
        if changed.is_empty() {
            return Arc::clone(&self.files);
        }
        let mut config = Config::clone(&self.files);
        config.users.extend(changed.into_iter().map(|user| (user.id, Arc::new(user))));
        Arc::new(config)
    }

    /// A granted knock of `user`'s for a key that `client` shares.
    pub(super) fn begin(&mut self, user: &User, client: EnrolPublic, knock: KnockId) -> Begun {
        if let Some(keeping) = self.keeping.get_mut(&user.id) {
            if keeping.exchanged.next.as_ref().is_none_or(|next| next.client != client) {
                return Begun::Taken;
            }
            keeping.knocks.push(knock);
            return Begun::Waits;
        }
        if let Exchange::Spent(_) = user.exchange {
            return Begun::Taken;
        }
        let Some(file) = self.files.users.get(&user.id) else { return Begun::Useless };
        let known = self.kept.get(&user.id).filter(|kept| kept.is_of(&file.hmac_key)).cloned();
        let known = known.unwrap_or_else(|| Exchanged::of(&file.hmac_key));
        match &known.next {
            Some(next) if next.client == EnrolPublic::NOBODY => return Begun::Useless,
            Some(next) if next.client == client => return Begun::Again,
            Some(_) => return Begun::Taken,
            None => {}
        }
        let Some(key) = self.derive(user, client) else { return Begun::Useless };
        let exchanged = Exchanged { next: Some(Next { client, key }), ..known };
        let row = KeyRow { user: user.id, exchanged: exchanged.clone() };
        self.keeping.insert(user.id, Keeping { exchanged, knocks: vec![knock] });
        Begun::Keep(row)
    }

    /// The store has answered, or has no room: these knocks are to be told.
    pub(super) fn kept<E>(&mut self, row: &KeyRow, result: Result<(), E>) -> Kept {
        let KeyRow { user, exchanged } = row;
        if self.keeping.get(user).is_none_or(|keeping| keeping.exchanged != *exchanged) {
            // It is in force already, and is not to be forgotten.
            let told = if result.is_ok() { self.unkept.remove(user) } else { None };
            return Kept::InForce(told.unwrap_or_default());
        }
        if result.is_ok() {
            self.kept.insert(*user, exchanged.clone());
        }
        Kept::Pending(self.keeping.remove(user).map(|keeping| keeping.knocks).unwrap_or_default())
    }

    /// Whether the store knows of this user's key that it is in force; if not, the knock is told when it does.
    pub(super) fn is_known(&mut self, user: UserId, knock: KnockId) -> bool {
        self.unkept.get_mut(&user).map(|knocks| knocks.push(knock)).is_none()
    }

    /// What is in force, and the store could not keep.
    pub(super) fn unkept(&self) -> Vec<KeyRow> {
        let rows = self.unkept.keys().filter_map(|user| Some((*user, self.kept.get(user)?.clone())));
        rows.map(|(user, exchanged)| KeyRow { user, exchanged }).collect()
    }

    /// The first knock under a key that was sent for: it is in force, and the old one is not. The store is to keep that; until it has,
    /// a restart would make both good again.
    pub(super) fn confirm(&mut self, now: Now, knocked: &User) -> Option<(EnrolPublic, KeyRow)> {
        let user = self.changed(now, knocked.id, self.kept.get(&knocked.id)?);
        let leave = user.and_then(|user| user.exchange.leave());
        let kept = self.kept.get_mut(&knocked.id)?;
        let next = kept.next.take_if(|next| next.key == knocked.hmac_key)?;
        kept.own = Some(Own { key: next.key, since: now.unix(), leave: leave.unwrap_or_default() });
        self.unkept.insert(knocked.id, Vec::new());
        Some((next.client, KeyRow { user: knocked.id, exchanged: kept.clone() }))
    }

    /// Whether no knock waits for the store.
    pub(super) fn is_settled(&self) -> bool {
        self.keeping.is_empty()
    }

    /// How old (seconds) the oldest key of each kind is.
    pub(super) fn ages(&self, now: Now) -> BTreeMap<String, u64> {
        let made = &self.files.made;
        let own = self.kept.iter().filter_map(|(id, kept)| {
            let user = self.files.users.get(id).filter(|user| kept.is_of(&user.hmac_key))?;
            Some((user.name.as_str(), kept.own.as_ref()?.since))
        });
        let own: BTreeMap<&str, u64> = own.collect();
        let users = made.users.iter().map(|(name, made)| own.get(name.as_str()).unwrap_or(made));
        let oldest = [("server", made.server), ("totp", made.totp), ("user", users.min().copied())];
        let aged = oldest.into_iter().filter_map(|(kind, made)| Some((kind.to_owned(), made?)));
        aged.map(|(kind, made)| (kind, now.unix().saturating_sub(made))).collect()
    }

    fn derive(&self, user: &User, client: EnrolPublic) -> Option<HmacKey> {
        let (secret, server) = (self.files.enrol_key.as_ref()?, self.files.server_id?);
        secret.at_keeper(client, enrol::Exchanged { key: &user.hmac_key, server, user: user.id })
    }

    /// A user as his exchanges have made him; `None`: as he is in his file.
    fn changed(&self, now: Now, id: UserId, kept: &Exchanged) -> Option<User> {
        let file = self.files.users.get(&id).filter(|file| kept.is_of(&file.hmac_key))?;
        let mut user = User::clone(file);
        if let Some(own) = &kept.own {
            user.hmac_key = own.key.clone();
            user.exchange = user.exchange.after(own.leave);
        }
        user.next = kept.next.as_ref().filter(|next| next.client != EnrolPublic::NOBODY).map(|next| {
            // So that he can knock for the same exchange again, and be told that it is done.
            let exchange = Exchange::Rotates(Duration::MAX);
            Arc::new(User { hmac_key: next.key.clone(), exchange, next: None, ..user.clone() })
        });
        if let (None, Some(_), Exchange::Invites { until, .. }) = (&user.next, &kept.own, file.exchange)
            && now.wall <= until
        {
            let exchange = Exchange::Spent(until);
            user.next = Some(Arc::new(User { exchange, next: None, ..User::clone(file) }));
        }
        Some(user)
    }
}

#[cfg(test)]
mod tests;
