//! Who has moved to the server's new key, by configuration and store, whether siglatchd runs or not.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use jiff::Timestamp;
use toml_edit::{Item, TableLike};

use super::{CURRENT, OLD, read};
use crate::clock;
use crate::config::{credential, show_duration};
use crate::ctl::document::Document;
use crate::ctl::user::{is_over, moved};
use crate::store::moved::{MovedRow, fingerprint};

/// While two keys are good.
pub(in crate::ctl) struct Overlap {
    /// For how long, by the time of the new key's file.
    pub(in crate::ctl) age: Option<Duration>,
    /// Users who may knock.
    pub(in crate::ctl) users: usize,
    /// Those of them who have not moved, as far as is known.
    pub(in crate::ctl) behind: Vec<String>,
    rows: BTreeMap<u16, MovedRow>,
}

impl Overlap {
    /// `None`: one key is good.
    pub(in crate::ctl) fn of(document: &Document) -> Option<Overlap> {
        document.text(OLD)?;
        let file = document.text(CURRENT).and_then(|named| {
            credential::place(named).map_or_else(|| Some(document.folder().join(named)), Result::ok)
        });
        let key = file.as_ref().and_then(|file| read(file).ok()).map(|key| fingerprint(key.public()));
        let rows = moved(document).into_iter().filter(|row| Some(row.key) == key);
        let rows: BTreeMap<u16, MovedRow> = rows.map(|row| (row.user.0, row)).collect();
        let users = || document.entries("users").filter(|(_, user)| may_knock(document, *user));
        let has_moved =
            |user: &dyn TableLike| id(user).and_then(|id| rows.get(&id)).is_some_and(|row| row.moved);
        let made = file.and_then(|file| u64::try_from(file.metadata().ok()?.mtime()).ok());
        Some(Overlap {
            age: made.map(|made| clock::wall().saturating_sub(Duration::from_secs(made))),
            users: users().count(),
            behind: users().filter(|(_, user)| !has_moved(*user)).map(|(name, _)| name.to_owned()).collect(),
            rows,
        })
    }

    /// What is known of one user, in words.
    pub(in crate::ctl) fn of_user(&self, id: u16) -> String {
        let ago = |at: u32| {
            let time = Timestamp::from_second(at.into()).map(|at| at.to_string()).unwrap_or_default();
            let ago = clock::wall().saturating_sub(Duration::from_secs(at.into())).as_secs();
            format!("{time} ({} ago)", show_duration(Duration::from_secs(ago)))
        };
        match self.rows.get(&id) {
            Some(MovedRow { moved: true, current: Some(at), .. }) => {
                format!("knocks under the new one, {}", ago(*at))
            }
            Some(MovedRow { old: Some(at), .. }) => {
                format!("STILL THE OLD ONE, {}: siglatch key update", ago(*at))
            }
            Some(_) | None => "has not knocked since there is a new one".to_owned(),
        }
    }
}

fn may_knock(document: &Document, user: &dyn TableLike) -> bool {
    let enabled = user.get("enabled").and_then(Item::as_bool) != Some(false);
    enabled && !user.get("not_after").is_some_and(|last| is_over(document, last))
}

fn id(user: &dyn TableLike) -> Option<u16> {
    user.get("id").and_then(Item::as_integer).and_then(|id| u16::try_from(id).ok())
}
