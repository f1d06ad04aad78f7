//! `siglatchctl usage`: what each user used of each action.

use std::collections::BTreeMap;

use toml_edit::Item;

use super::args;
use super::document::Document;
#[cfg(feature = "sqlite")]
use crate::clock;
use crate::exit::{self, Exit, Failure};
use crate::store::usage::Usage;
use crate::wire::invite::Name;

/// Runs the command.
pub(super) fn usage(args: &args::Usage) -> Result<(), Failure> {
    let document = Document::open(&args.at.config)?;
    let (users, actions) = (names(&document, "users"), names(&document, "actions"));
    let name = |names: &BTreeMap<i64, Name>, id: i64| names.get(&id).map(Name::to_string).unwrap_or_default();
    let mut rows = Vec::new();
    for usage in read(&document)? {
        let Usage { user, action, uses, day, week, first, last } = usage;
        let (user, action) = (i64::from(user.0), i64::from(action.number()));
        rows.push([
            user.to_string(),
            name(&users, user),
            action.to_string(),
            name(&actions, action),
            day.to_string(),
            week.to_string(),
            uses.to_string(),
            moment(first),
            moment(last),
        ]);
    }
    exit::say(&if args.csv { csv(&rows) } else { table(&rows) })
}

fn csv(rows: &[[String; 9]]) -> String {
    let lines = rows.iter().map(|row| format!("{}\n", row.join(",")));
    std::iter::once("user_id,user,action_id,action,day,week,total,first,last\n".to_owned())
        .chain(lines)
        .collect()
}

fn table(rows: &[[String; 9]]) -> String {
    let head = ["USER", "ACTION", "DAY", "WEEK", "TOTAL", "FIRST", "LAST"].map(str::to_owned);
    // Who is in the store, but not in the configuration any more, has a number alone.
    let named = |name: &str, id: &str| if name.is_empty() { id.to_owned() } else { name.to_owned() };
    let rows = rows.iter().map(|[user_id, user, action_id, action, day, week, total, first, last]| {
        let (user, action) = (named(user, user_id), named(action, action_id));
        [user, action, day.clone(), week.clone(), total.clone(), first.clone(), last.clone()]
    });
    exit::columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// By number. A name that could be mistaken for something else is none.
fn names(document: &Document, section: &str) -> BTreeMap<i64, Name> {
    let entries = document.entries(section);
    entries
        .filter_map(|(name, entry)| Some((entry.get("id").and_then(Item::as_integer)?, Name::parse(name)?)))
        .collect()
}

/// 2026-01-16T09:30:00Z
fn moment(unix: u32) -> String {
    jiff::Timestamp::from_second(unix.into()).map(|moment| moment.to_string()).unwrap_or_default()
}

fn read(document: &Document) -> Result<Vec<Usage>, Failure> {
    if document.text("store") == Some("memory") {
        let what = format!("{}: store = \"memory\" keeps no usage", document.path().display());
        return Err(Failure::new(Exit::Config, what).hint("write store = \"sqlite\", or leave it out"));
    }
    let folder = document.folder().join(document.text("state_dir").unwrap_or("/var/lib/siglatch"));
    #[cfg(feature = "sqlite")]
    {
        let now = u32::try_from(clock::wall().as_secs()).unwrap_or(u32::MAX);
        Ok(crate::store::sqlite::read_usage(&folder, now)?)
    }
    #[cfg(not(feature = "sqlite"))]
    {
        let what = format!("{}: this build has no SQLite to read it with", folder.display());
        Err(Failure::new(Exit::Config, what))
    }
}
