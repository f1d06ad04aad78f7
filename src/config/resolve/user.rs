//! `[users.NAME]`

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use toml::Value;

use super::allowance::{self, Written};
use super::section::{Section, enabled};
use super::{Given, Taken, check_name, exchange, public_key, section, stamp};
use crate::config::TotpKey;
use crate::config::allowance::last_moment;
use crate::config::load::Entry;
use crate::config::problems::Problem;
use crate::config::raw::{Any, RawUser, Table, Text, Texts};
use crate::config::resolved::{Action, SecondFactor, User};
use crate::config::shape::closest;
use crate::wire::{ActionId, HmacKey, UserId};

/// Every action's name; `None` where its id is wrong, which was noted there.
pub(super) type ActionNames = BTreeMap<String, Option<ActionId>>;

/// All users, by id.
pub(super) fn resolve_all(
    entries: &[Entry<RawUser>],
    actions: &ActionNames,
    given: Given<'_>,
    notes: &mut Vec<Problem>,
) -> BTreeMap<UserId, Arc<User>> {
    let mut taken = Taken::new("user");
    let mut users = BTreeMap::new();
    let mut keys = Vec::new();
    for entry in entries {
        let Some(user) = resolve(entry, actions, given, &mut taken, notes) else {
            continue;
        };
        let user = Arc::new(user);
        keys.push((Arc::clone(&user), entry));
        users.entry(user.id).or_insert(user);
    }
    warn_of_shared_keys(keys, notes);
    users
}

fn resolve(
    entry: &Entry<RawUser>,
    actions: &ActionNames,
    given: Given<'_>,
    taken: &mut Taken<UserId>,
    notes: &mut Vec<Problem>,
) -> Option<User> {
    let Table(raw) = entry.keys.get_ref();
    let name = entry.name.get_ref();
    check_name("a user", entry, notes);
    let mut user = section(&entry.document, &format!("users.{name}"), entry.keys.span(), notes);
    let id = user
        .required("id", &raw.id, "write id = and a number that no other user has")
        .and_then(|id| user.whole("id", id, 0..=u16::MAX, "a packet has two bytes for it"))
        .map(UserId);
    if let (Some(id), Some(number)) = (id, &raw.id) {
        taken.take(id, name, user.place(number.span()), user.notes);
    }
    let hmac_key = hmac_key(&mut user, raw);
    let public_key = raw.public_key.as_ref().and_then(|text| public_key::resolve(&mut user, text));
    let reply = user.reply(&raw.reply);
    let may_run = may_run(&mut user, &entry.name, &raw.actions, actions);
    let allow_from = user.addresses(&raw.allow_from);
    let bind = user.bind(&raw.bind, given.server_id);
    let written = Written { cooldown: &raw.cooldown, quota: &raw.quota, hours: &raw.hours };
    let allowance = allowance::resolve(&mut user, &written, given.zone);
    let totp_key = raw.totp_key.as_ref().map(|text| totp_key(&mut user, text));
    let not_after =
        raw.not_after.as_ref().and_then(|value| moment(&mut user, "not_after", value, given.zone));
    let exchange = exchange::resolve(&mut user, raw, given);
    let max_knocks = raw.max_knocks.as_ref().and_then(|number| {
        user.whole("max_knocks", number, 1..=u32::MAX, "to keep him out write enabled = false")
    });
    Some(User {
        id: id?,
        name: name.clone(),
        hmac_key: hmac_key?,
        public_key,
        reply,
        actions: may_run,
        allow_from,
        bind,
        stamp: stamp(raw.require_stamp),
        enabled: enabled(raw.enabled),
        not_after,
        exchange,
        next: None,
        max_knocks,
        allowance,
        totp_key: totp_key.flatten(),
    })
}

fn hmac_key(user: &mut Section<'_>, raw: &RawUser) -> Option<HmacKey> {
    let hint = "name a file of 32 random bytes, or of 64 hex digits";
    let text = user.required("hmac_key", &raw.hmac_key, hint)?;
    if HmacKey::parse(text.get_ref().as_bytes()).is_ok() {
        // The key itself: no log is to have it.
        user.error(text.span(), "`hmac_key` is a key, where a file's name belongs", hint);
        return None;
    }
    let (path, bytes) = user.secret(text, KEY_FILE_MAX)?;
    HmacKey::parse(&bytes)
        .map_err(|bad| {
            let hint = format!("make one: umask 077; head -c 32 /dev/urandom > {}", path.display());
            user.error(text.span(), format!("{}: {bad}", path.display()), hint);
        })
        .ok()
}

fn totp_key(user: &mut Section<'_>, text: &Text) -> Option<TotpKey> {
    if TotpKey::parse(text.get_ref().as_bytes()).is_ok() {
        // The key itself: no log is to have it.
        let hint = "`siglatchctl user totp` makes one, and writes it here";
        user.error(text.span(), "`totp_key` is a key, where a file's name belongs", hint);
        return None;
    }
    let (path, bytes) = user.secret(text, KEY_FILE_MAX)?;
    TotpKey::parse(&bytes)
        .map_err(|bad| {
            let what = format!("{} {bad}", path.display());
            user.error(text.span(), what, "`siglatchctl user totp` makes one");
        })
        .ok()
}

/// Notes who is asked for codes that nobody can check.
pub(super) fn warn_of_missing_totp_keys(
    entries: &[Entry<RawUser>],
    users: &BTreeMap<UserId, Arc<User>>,
    actions: &BTreeMap<ActionId, Arc<Action>>,
    notes: &mut Vec<Problem>,
) {
    for entry in entries {
        let Table(raw) = entry.keys.get_ref();
        let id = raw.id.as_ref().and_then(|id| u16::try_from(*id.get_ref()).ok());
        let user = id.and_then(|id| users.get(&UserId(id))).filter(|user| user.totp_key.is_none());
        let mut runs = user.iter().flat_map(|user| &user.actions).filter_map(|id| actions.get(id));
        let asks = runs.find(|action| action.second_factor == SecondFactor::Totp);
        if let (Some(action), None) = (asks, &raw.totp_key) {
            let (user, action) = (entry.name.get_ref(), &action.name);
            let what =
                format!("`{user}` has no `totp_key`, and `{action}` asks for a code: it is refused him");
            let place = entry.document.place(entry.name.span());
            notes.push(Problem::warning(place, what).hint(format!("make one: siglatchctl user totp {user}")));
        }
    }
}

fn may_run(
    user: &mut Section<'_>,
    name: &Text,
    written: &Option<Texts>,
    actions: &ActionNames,
) -> Vec<ActionId> {
    let texts = written.as_ref().map(|texts| texts.get_ref().as_slice()).unwrap_or_default();
    if texts.is_empty() {
        let span = written.as_ref().map_or(name.span(), |texts| texts.span());
        user.warning(span, format!("user `{name}` may run nothing"), "write actions = [\"...\"]");
    }
    let mut listed = BTreeSet::new();
    let mut may_run = Vec::new();
    for text in texts {
        if !listed.insert(text.get_ref()) {
            let what = format!("`{text}` is listed twice");
            user.warning(text.span(), what, "leave one of the two out");
            continue;
        }
        match actions.get(text.get_ref()) {
            Some(Some(id)) => may_run.push(*id),
            Some(None) => {}
            None => {
                let known = actions.keys().map(String::as_str);
                let hint = match closest(text.get_ref(), known) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("define it: [actions.{text}]"),
                };
                user.error(text.span(), format!("there is no action `{text}`"), hint);
            }
        }
    }
    may_run
}

/// As text or as TOML's own; since the Unix epoch.
pub(super) fn moment(user: &mut Section<'_>, key: &str, value: &Any, zone: &TimeZone) -> Option<Duration> {
    let text = match value.get_ref() {
        Value::String(text) => Some(text.clone()),
        Value::Datetime(moment) => Some(moment.to_string()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Array(_) | Value::Table(_) => None,
    };
    let moment = text.and_then(|text| last_moment(&text, zone));
    if moment.is_none() {
        let what = format!("`{key}` takes a date, or a moment with its offset from UTC, since 1970");
        user.error(value.span(), what, "write 2030-12-31 or 2030-12-31T23:59:59+01:00");
    }
    moment
}

/// Two users with one key can knock as each other.
fn warn_of_shared_keys(mut users: Vec<(Arc<User>, &Entry<RawUser>)>, notes: &mut Vec<Problem>) {
    users.sort_by(|(a, _), (b, _)| a.hmac_key.bytes().cmp(b.hmac_key.bytes()));
    for pair in users.windows(2) {
        let [(first, there), (second, here)] = pair else {
            continue;
        };
        if first.hmac_key == second.hmac_key {
            let what = format!(
                "`{}` and `{}` have the same HMAC key: each can knock as the other",
                first.name, second.name
            );
            let place = |entry: &Entry<RawUser>| entry.document.place(entry.name.span());
            let problem = Problem::warning(place(here), what).also(place(there), "the other");
            notes.push(problem.hint("make a key for each"));
        }
    }
}

/// Longest HMAC key file, in bytes: 64 digits and room for white space.
pub(super) const KEY_FILE_MAX: u64 = 1024;
