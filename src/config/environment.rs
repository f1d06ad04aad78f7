//! Top-level settings from the environment, for containers: SIGLATCH_LISTEN for `listen`.
//!
//! They stand over what the file says, and under what is changed while siglatchd runs. Never a secret: what is in the environment is
//! seen by more than one should think.

use std::ffi::OsStr;

use toml_edit::{Array, DocumentMut, Item, Value};

use super::shape::closest;

/// What is wrong with a variable, and how to mend it.
pub(crate) struct BadVariable {
    /// Whether siglatchd starts all the same.
    pub(crate) harmless: bool,
    pub(crate) what: String,
    pub(crate) hint: String,
}

/// Whether any is set.
pub(crate) fn is_set() -> bool {
    variables().next().is_some()
}

/// The one that stands over the file for this setting, if it is set.
pub(crate) fn variable(key: &str) -> Option<String> {
    let (key, _) = SETTINGS.iter().find(|(setting, _)| *setting == key)?;
    let name = format!("{PREFIX}{}", key.to_ascii_uppercase());
    std::env::var_os(&name).map(|_| name)
}

/// Writes them over what a main file says.
pub(crate) fn apply(document: &mut DocumentMut) -> Vec<BadVariable> {
    let mut bad = Vec::new();
    for (name, text) in variables() {
        let key = name.trim_start_matches(PREFIX).to_ascii_lowercase();
        let Some((key, shape)) = SETTINGS.iter().find(|(setting, _)| *setting == key) else {
            // Scripts that siglatchd starts have other variables of this name, and may start siglatchctl.
            if let Some(meant) = closest(&key, SETTINGS.iter().map(|(setting, _)| *setting)) {
                let meant = meant.to_ascii_uppercase();
                let hint = format!("did you mean {PREFIX}{meant}?");
                bad.push(BadVariable { harmless: true, what: format!("{name} is no setting"), hint });
            }
            continue;
        };
        match text.to_str().map(|text| shape.value(text)) {
            Some(Ok(value)) => put(document, key, value, &name),
            Some(Err(hint)) => {
                bad.push(BadVariable { harmless: false, what: format!("{name} cannot be read"), hint })
            }
            None => bad.push(BadVariable {
                harmless: false,
                what: format!("{name} is no UTF-8"),
                hint: String::new(),
            }),
        }
    }
    bad
}

/// With a word on where it comes from, for who is shown the line.
fn put(document: &mut DocumentMut, key: &str, value: Value, name: &str) {
    let value = value.decorated(" ", format!(" # {name}"));
    document.insert(key, Item::Value(value));
}

fn variables() -> impl Iterator<Item = (String, std::ffi::OsString)> {
    let ours = |name: &OsStr| name.to_str().filter(|name| name.starts_with(PREFIX)).map(str::to_owned);
    std::env::vars_os().filter_map(move |(name, value)| Some((ours(&name)?, value)))
}

#[derive(Clone, Copy)]
enum Shape {
    Text,
    /// With commas between.
    List,
    YesNo,
}

impl Shape {
    fn value(self, text: &str) -> Result<Value, String> {
        match self {
            Shape::Text => Ok(text.into()),
            Shape::List => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                let parts: Array = parts.collect();
                // What the file says would be lifted by a variable that was left empty.
                if parts.is_empty() {
                    return Err("write one or more with commas between, or unset it".to_owned());
                }
                Ok(Value::Array(parts))
            }
            Shape::YesNo => {
                text.parse::<bool>().map(Value::from).map_err(|_| "write true or false".to_owned())
            }
        }
    }
}

const PREFIX: &str = "SIGLATCH_";

/// All that stands at the top of the main file.
const SETTINGS: [(&str, Shape); 21] = [
    ("listen", Shape::List),
    ("private_key", Shape::Text),
    ("old_private_key", Shape::Text),
    ("enrol_key", Shape::Text),
    ("server_id", Shape::Text),
    ("public_host", Shape::Text),
    ("public_addresses", Shape::List),
    ("state_dir", Shape::Text),
    ("runtime_dir", Shape::Text),
    ("freshness", Shape::Text),
    ("zone", Shape::Text),
    ("store", Shape::Text),
    ("sandbox", Shape::Text),
    ("listener_user", Shape::Text),
    ("require_stamp", Shape::YesNo),
    ("bind", Shape::Text),
    ("reply", Shape::Text),
    ("allow_from", Shape::List),
    ("deny_from", Shape::List),
    ("include", Shape::List),
    ("audit_payload", Shape::YesNo),
];
