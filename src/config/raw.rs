//! The configuration as it is written: which keys there are and of what shape, nothing about their values.
//!
//! `config/siglatchd.toml` documents every key; a test holds it to that.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use toml::Spanned;

/// Text and where it stands.
pub(super) type Text = Spanned<String>;
/// A list of texts.
pub(super) type Texts = Spanned<Vec<Text>>;
/// A whole number.
pub(super) type Number = Spanned<i64>;
/// A value of several possible types, told apart where it is used.
pub(super) type Any = Spanned<toml::Value>;

/// A table of the keys of `T`, and where its header stands.
pub(super) type Keys<T> = Spanned<Table<T>>;

/// The main file.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) listen: Option<Texts>,
    pub(super) private_key: Option<Text>,
    pub(super) old_private_key: Option<Text>,
    pub(super) server_id: Option<Text>,
    pub(super) enrol_key: Option<Text>,
    pub(super) public_host: Option<Text>,
    pub(super) public_addresses: Option<Texts>,
    pub(super) state_dir: Option<Text>,
    pub(super) runtime_dir: Option<Text>,
    pub(super) freshness: Option<Any>,
    pub(super) zone: Option<Text>,
    pub(super) store: Option<Text>,
    pub(super) sandbox: Option<Text>,
    pub(super) listener_user: Option<Text>,
    pub(super) require_stamp: Option<bool>,
    pub(super) bind: Option<Text>,
    pub(super) reply: Option<Text>,
    pub(super) allow_from: Option<Texts>,
    pub(super) deny_from: Option<Texts>,
    pub(super) include: Option<Texts>,
    pub(super) audit_payload: Option<bool>,
    pub(super) audit: Option<Keys<RawAudit>>,
    pub(super) log: Option<Keys<RawLog>>,
    pub(super) limits: Option<Keys<RawLimits>>,
    pub(super) control: Option<Keys<RawControl>>,
    pub(super) admins: BTreeMap<Text, Keys<RawAdmin>>,
    pub(super) users: BTreeMap<Text, Keys<RawUser>>,
    pub(super) actions: BTreeMap<Text, Keys<RawAction>>,
}

/// A file that the main one includes.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawIncluded {
    pub(super) users: BTreeMap<Text, Keys<RawUser>>,
    pub(super) actions: BTreeMap<Text, Keys<RawAction>>,
}

/// `[log]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) level: Option<Text>,
    pub(super) format: Option<Text>,
    pub(super) summary: Option<Any>,
    pub(super) refused_per_minute: Option<Number>,
}

/// `[audit]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAudit {
    pub(super) checkpoint_records: Option<Number>,
    pub(super) checkpoint_every: Option<Any>,
    pub(super) rotate_size: Option<Any>,
    pub(super) rotate_every: Option<Any>,
    pub(super) keep: Option<Any>,
    pub(super) webhook: Option<Text>,
    pub(super) webhook_key: Option<Text>,
    pub(super) webhook_allow: Option<Texts>,
    pub(super) webhook_ca: Option<Text>,
}

/// `[limits]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) user_rate: Option<Number>,
    pub(super) user_burst: Option<Number>,
    pub(super) nonce_cache: Option<Number>,
    pub(super) max_claims: Option<Number>,
    pub(super) prefix_rate: Option<Number>,
    pub(super) prefix_burst: Option<Number>,
    pub(super) prefixes: Option<Number>,
    pub(super) max_jobs: Option<Number>,
    pub(super) max_doors: Option<Number>,
    pub(super) workers: Option<Number>,
    pub(super) queue: Option<Number>,
}

/// `[control]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawControl {
    pub(super) group: Option<Text>,
    pub(super) listen: Option<Text>,
    pub(super) token: Option<Text>,
}

/// `[admins.NAME]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAdmin {
    pub(super) public_key: Option<Text>,
    pub(super) role: Option<Text>,
}

/// `[users.NAME]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawUser {
    pub(super) id: Option<Number>,
    pub(super) hmac_key: Option<Text>,
    pub(super) actions: Option<Texts>,
    pub(super) allow_from: Option<Texts>,
    pub(super) bind: Option<Text>,
    pub(super) enabled: Option<bool>,
    pub(super) not_after: Option<Any>,
    pub(super) max_knocks: Option<Number>,
    pub(super) invite_until: Option<Any>,
    pub(super) rotate_until: Option<Any>,
    pub(super) require_stamp: Option<bool>,
    pub(super) public_key: Option<Text>,
    pub(super) reply: Option<Text>,
    pub(super) cooldown: Option<Any>,
    pub(super) quota: Option<Text>,
    pub(super) hours: Option<Any>,
    pub(super) totp_key: Option<Text>,
}

/// `[actions.NAME]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAction {
    pub(super) id: Option<Number>,
    pub(super) builtin: Option<Text>,
    pub(super) run: Option<Texts>,
    pub(super) args: Option<Texts>,
    pub(super) env: Option<Spanned<BTreeMap<Text, Text>>>,
    pub(super) stdin: Option<Text>,
    pub(super) run_as: Option<Text>,
    pub(super) timeout: Option<Any>,
    pub(super) grace: Option<Any>,
    pub(super) max_running: Option<Number>,
    pub(super) on_busy: Option<Text>,
    pub(super) max_queue: Option<Number>,
    pub(super) max_output: Option<Any>,
    pub(super) payload: Option<Text>,
    pub(super) max_payload: Option<Number>,
    pub(super) allow_from: Option<Texts>,
    pub(super) bind: Option<Text>,
    pub(super) reply: Option<Text>,
    pub(super) enabled: Option<bool>,
    pub(super) cooldown: Option<Any>,
    pub(super) quota: Option<Text>,
    pub(super) hours: Option<Any>,
    pub(super) totp: Option<bool>,
    pub(super) hold: Option<Any>,
    pub(super) undo: Option<Texts>,
    pub(super) max_hold: Option<Any>,
    pub(super) again: Option<Text>,
    pub(super) on_shutdown: Option<Text>,
    pub(super) release_id: Option<Number>,
    pub(super) nft: Option<Keys<RawNft>>,
    pub(super) source: Option<Text>,
    pub(super) allow_source: Option<Texts>,
    pub(super) webhook: Option<Text>,
    pub(super) webhook_key: Option<Text>,
    pub(super) webhook_allow: Option<Texts>,
    pub(super) webhook_ca: Option<Text>,
}

/// `nft` of an action.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawNft {
    pub(super) family: Option<Text>,
    pub(super) table: Option<Text>,
    pub(super) set: Option<Text>,
}

/// A table: what serde derives would take a list for one too, key by key.
#[derive(Debug, Default)]
pub(super) struct Table<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Table<T>, D::Error> {
        struct TableVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for TableVisitor<T> {
            type Value = Table<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Table<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Table)
            }
        }

        deserializer.deserialize_map(TableVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTED: &str = include_str!("../../config/siglatchd.toml");

    #[test]
    fn the_documented_file_names_every_key() {
        let mut parts = DOCUMENTED.split("\n# --- ");
        let _about = parts.next();
        let checked = [
            missing::<RawConfig>(
                parts.next(),
                &["audit", "log", "limits", "control", "admins", "users", "actions"],
            ),
            missing::<RawLog>(parts.next(), &[]),
            missing::<RawAudit>(parts.next(), &[]),
            missing::<RawLimits>(parts.next(), &[]),
            missing::<RawControl>(parts.next(), &[]),
            missing::<RawUser>(parts.next(), &[]),
            missing::<RawAction>(parts.next(), &[]),
        ];
        assert_eq!(checked, [const { Vec::<String>::new() }; 7]);
        let nft = missing::<RawNft>(DOCUMENTED.split("\n# --- ").last(), &[]);
        assert!(nft.is_empty(), "{nft:?}");
    }

    /// The keys of `T` that `part` does not show as a setting, or names as not built yet.
    fn missing<T: serde::de::DeserializeOwned>(part: Option<&str>, tables: &[&str]) -> Vec<String> {
        let part = part.unwrap();
        let error = toml::from_str::<T>("'?' = 1").err().unwrap();
        let (_, keys) = error.message().split_once(", expected one of ").unwrap();
        keys.split(", ")
            .map(|key| key.trim_matches('`').to_owned())
            .filter(|key| !tables.contains(&key.as_str()))
            .filter(|key| !part.contains(&format!("\n{key} = ")))
            .filter(|key| !part.contains(&format!("\n#{key} = ")) && !part.contains(&format!("`{key}`")))
            .collect()
    }
}
