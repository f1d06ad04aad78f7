//! Limits that were drawn in since a backup was made: of two values of a setting, the one that lets in fewer people, for less.

use std::time::Duration;

use ipnet::IpNet;
use jiff::tz::TimeZone;
use toml_edit::{Array, Item, TableLike, Value, value};

use crate::config::allowance::{Quota, last_moment};
use crate::config::duration;

/// How two values of a setting compare.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// Names: those of both. Without any there is nothing.
    Names,
    /// Networks: what is in both. Without any it is everybody.
    Networks,
    /// A moment.
    Earlier,
    /// A number.
    Fewer,
    /// A time between two uses.
    Longer,
    /// A time that something lasts.
    Shorter,
    /// The same, of what may not last at all.
    ShorterIfThere,
    /// So many in a period: of two periods the newer one's.
    Quota,
    /// What cannot be compared: the newer.
    Newer,
    /// `true` is.
    True,
    /// The later of these words.
    Words(&'static [&'static str]),
}

/// Draws in `before` where `now` is narrower, by `rules`; the settings that were.
pub(super) fn narrow(
    before: &mut dyn TableLike,
    now: &dyn TableLike,
    rules: &[(&'static str, Rule)],
    zone: &TimeZone,
) -> Vec<&'static str> {
    let mut drawn = Vec::new();
    for (key, rule) in rules {
        let old = before.get(key).and_then(Item::as_value);
        let Some(mut narrower) = rule.narrower(old, now.get(key).and_then(Item::as_value), zone) else {
            continue;
        };
        if old.is_some_and(|old| plain(old) == plain(&narrower)) {
            continue;
        }
        narrower.decor_mut().clear();
        before.insert(key, value(narrower));
        drawn.push(*key);
    }
    drawn
}

impl Rule {
    /// `None`: what was before stays. What cannot be read is left for siglatchd to refuse.
    fn narrower(self, before: Option<&Value>, now: Option<&Value>, zone: &TimeZone) -> Option<Value> {
        if let Rule::Names = self {
            return names(before?, now);
        }
        let now = now?;
        let Some(before) = before else {
            return match self {
                Rule::ShorterIfThere => None,
                Rule::True => (now.as_bool() == Some(true)).then(|| now.clone()),
                Rule::Networks if networks(now).is_some_and(|now| now.is_empty()) => None,
                Rule::Names
                | Rule::Networks
                | Rule::Earlier
                | Rule::Fewer
                | Rule::Longer
                | Rule::Shorter
                | Rule::Quota
                | Rule::Newer
                | Rule::Words(_) => Some(now.clone()),
            };
        };
        let is_narrower = match self {
            Rule::Names => None,
            Rule::Networks => return both(before, now),
            Rule::Earlier => {
                compare(before, now, |value| moment(value, zone)).map(|(before, now)| now < before)
            }
            Rule::Fewer => compare(before, now, Value::as_integer).map(|(before, now)| now < before),
            Rule::Longer => compare(before, now, span).map(|(before, now)| now > before),
            Rule::Shorter | Rule::ShorterIfThere => {
                compare(before, now, span).map(|(before, now)| now < before)
            }
            Rule::Quota => compare(before, now, |value| Quota::parse(value.as_str()?, zone))
                .map(|(before, now)| before.per != now.per || now.most < before.most),
            Rule::Newer => Some(true),
            Rule::True => Some(now.as_bool() == Some(true)),
            Rule::Words(words) => {
                let place = |value: &Value| words.iter().position(|word| value.as_str() == Some(*word));
                compare(before, now, place).map(|(before, now)| now > before)
            }
        };
        is_narrower.unwrap_or(true).then(|| now.clone())
    }
}

fn compare<T>(before: &Value, now: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<(T, T)> {
    Some((read(before)?, read(now)?))
}

fn moment(value: &Value, zone: &TimeZone) -> Option<Duration> {
    let text = value.as_str().map(str::to_owned).or_else(|| Some(value.as_datetime()?.to_string()))?;
    last_moment(&text, zone)
}

fn span(value: &Value) -> Option<Duration> {
    duration(value.as_str()?)
}

fn names(before: &Value, now: Option<&Value>) -> Option<Value> {
    let listed = |list: &Value| -> Vec<String> {
        let names = list.as_array().into_iter().flatten();
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let (before, now) = (listed(before), now.map(listed).unwrap_or_default());
    let both: Array = before.iter().filter(|name| now.contains(name)).collect();
    (both.len() < before.len()).then_some(Value::Array(both))
}

/// Those of the one that are in the other. If there are none, the newer's: nobody at all cannot be written.
fn both(before: &Value, now: &Value) -> Option<Value> {
    let (Some(old), Some(new)) = (networks(before), networks(now)) else { return Some(now.clone()) };
    if new.is_empty() || old.iter().all(|old| new.iter().any(|new| new.contains(old))) && !old.is_empty() {
        return None;
    }
    let inner = |one: &IpNet, other: &IpNet| if one.contains(other) { *other } else { *one };
    let meet = |one: &IpNet, other: &IpNet| one.contains(other) || other.contains(one);
    let pairs = old.iter().flat_map(|old| new.iter().map(move |new| (old, new)));
    let mut both: Vec<IpNet> =
        pairs.filter(|(old, new)| meet(old, new)).map(|(old, new)| inner(old, new)).collect();
    both.sort();
    both.dedup();
    if both.is_empty() {
        return Some(now.clone());
    }
    Some(Value::Array(both.iter().map(IpNet::to_string).collect()))
}

fn networks(list: &Value) -> Option<Vec<IpNet>> {
    let network = |value: &Value| {
        let text = value.as_str()?;
        text.parse().ok().or_else(|| Some(IpNet::from(text.parse::<std::net::IpAddr>().ok()?)))
    };
    list.as_array()?.iter().map(network).collect()
}

fn plain(value: &Value) -> String {
    value.clone().decorated("", "").to_string()
}

/// Of the server.
pub(super) const TOP: &[(&str, Rule)] = &[
    ("allow_from", Rule::Networks),
    ("bind", BIND),
    ("require_stamp", Rule::True),
    ("freshness", Rule::Shorter),
];

/// Of a user.
pub(super) const USER: &[(&str, Rule)] = &[
    ("actions", Rule::Names),
    ("allow_from", Rule::Networks),
    ("bind", BIND),
    ("require_stamp", Rule::True),
    ("not_after", Rule::Earlier),
    ("max_knocks", Rule::Fewer),
    ("cooldown", Rule::Longer),
    ("quota", Rule::Quota),
    ("hours", Rule::Newer),
    // What is in his key's file may be an invite's.
    ("invite_until", Rule::Earlier),
    ("rotate_until", Rule::Earlier),
];

/// Of an action.
pub(super) const ACTION: &[(&str, Rule)] = &[
    ("allow_from", Rule::Networks),
    ("allow_source", Rule::Networks),
    ("bind", BIND),
    ("cooldown", Rule::Longer),
    ("quota", Rule::Quota),
    ("hours", Rule::Newer),
    ("totp", Rule::True),
    ("hold", Rule::ShorterIfThere),
    ("max_hold", Rule::ShorterIfThere),
];

/// Of an administrator.
pub(super) const ADMIN: &[(&str, Rule)] = &[("role", Rule::Words(&["admin", "operator", "viewer"]))];

const BIND: Rule = Rule::Words(&["none", "server", "source"]);
