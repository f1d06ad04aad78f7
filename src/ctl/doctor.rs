//! `siglatchctl doctor`: whether each door would really open, and close.
//!
//! In: the configuration's doors, and the firewall as it is now. Out: what was found, each with a way to mend it; failure
//! when a door would not work. Never: a change.

mod examine;
mod held;
mod others;
mod ruleset;

use std::collections::BTreeMap;
use std::path::Path;

use super::firewall::nft::nft;
use super::{internal, leases};
use crate::config;
use crate::exit::{self, Exit, Failure};
use ruleset::Ruleset;

/// Looks at every door.
pub(super) fn doctor(config: &Path) -> Result<(), Failure> {
    let doors = config::doors_telling(config)?;
    if doors.nft.is_empty() {
        return exit::say("no action has `nft`: there is no door to look at\n");
    }
    let answer = nft(["-j", "list", "ruleset"], "")?;
    let ruleset =
        Ruleset::parse(&answer).ok_or_else(|| internal(&"nft's list of the ruleset cannot be read"))?;
    let mut sections = vec![("knocks".to_owned(), others::knocks(&ruleset, &doors.listen))];
    let held = leases::held(config);
    let nobody = BTreeMap::new();
    sections.extend(doors.nft.iter().map(|(action, door)| {
        let (v4, v6, table) = (door.set.v4(), door.set.v6(), &door.set.table);
        let title = format!("{action}: sets {v4} and {v6} of inet {table}");
        let mut findings = examine::examine(&ruleset, action, &door.set);
        if let Ok(held) = &held {
            findings.extend(held::compare(&door.set, held.get(action).unwrap_or(&nobody)));
        }
        (title, findings)
    }));
    if let Err(unread) = &held {
        let what = format!("who is let in cannot be told: {}", unread.what);
        sections.push((
            "leases".to_owned(),
            vec![Finding::doubt(what, "run this as root, with a store on disk")],
        ));
    }
    sections.extend(legacy().map(|finding| ("iptables-legacy".to_owned(), vec![finding])));
    let mut text = String::new();
    for (title, findings) in &sections {
        text.push_str(&format!("{title}\n"));
        text.extend(findings.iter().map(Finding::to_string));
    }
    exit::say(&text)?;
    let bad =
        sections.iter().flat_map(|(_, findings)| findings).filter(|finding| finding.level == Level::Bad);
    match bad.count() {
        0 => Ok(()),
        bad => Err(Failure::new(
            Exit::Config,
            format!("doors would not work as they should: {bad} reasons above"),
        )),
    }
}

/// Rules of the old iptables stand beside nftables, unseen by nft.
fn legacy() -> Option<Finding> {
    let loaded = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"].iter().any(|names| {
        std::fs::read_to_string(names).is_ok_and(|names| names.lines().any(|name| name == "filter"))
    });
    loaded.then(|| {
        let what = "there may be rules that nft cannot show, and they can drop what a door accepts";
        Finding::doubt(what, "look at `iptables-legacy -S` and `ip6tables-legacy -S`")
    })
}

/// Something to say about a door.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    what: String,
    /// How to mend it; nothing where it is good.
    mend: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Good,
    /// It may be meant, or cannot be seen from here.
    Doubt,
    /// The door would not open, or not close.
    Bad,
}

impl Finding {
    fn good(what: impl Into<String>) -> Finding {
        Finding { level: Level::Good, what: what.into(), mend: String::new() }
    }

    fn doubt(what: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { level: Level::Doubt, what: what.into(), mend: mend.into() }
    }

    fn bad(what: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { level: Level::Bad, what: what.into(), mend: mend.into() }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = match self.level {
            Level::Good => "good",
            Level::Doubt => "look",
            Level::Bad => "BAD ",
        };
        writeln!(f, "  {level}  {}", self.what)?;
        if self.mend.is_empty() { Ok(()) } else { writeln!(f, "        mend: {}", self.mend) }
    }
}
