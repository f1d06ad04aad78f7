//! Whether knocks arrive and doors open and close, by the firewall as it is now.

use std::collections::BTreeMap;
use std::path::Path;

use super::ruleset::Ruleset;
use super::{Finding, Section, boot, examine, held, others, section};
use crate::config;
use crate::ctl::firewall::nft::nft;
use crate::ctl::leases;

/// Looks at every door. What is wrong with the configuration is told elsewhere.
pub(super) fn look(config: &Path) -> Vec<Section> {
    let Ok(doors) = config::doors(config) else { return Vec::new() };
    if doors.nft.is_empty() {
        return vec![section(
            "doors",
            vec![Finding::good("no action has `nft`: there is no door to look at")],
        )];
    }
    let answer = match nft(["-j", "list", "ruleset"], "") {
        Ok(answer) => answer,
        Err(unseen) => {
            let mend = unseen.hint.unwrap_or_else(|| "run this as root".to_owned());
            return vec![section("doors", vec![Finding::bad(unseen.what, mend)])];
        }
    };
    let Some(ruleset) = Ruleset::parse(&answer) else {
        let mend = "is it nftables 1.0 or newer? nft --version";
        return vec![section("doors", vec![Finding::bad("nft's list of the ruleset cannot be read", mend)])];
    };
    let mut sections = vec![section("knocks", others::knocks(&ruleset, &doors.listen))];
    let held = leases::held(config);
    let nobody = BTreeMap::new();
    sections.extend(doors.nft.iter().map(|(action, door)| {
        let (v4, v6, table) = (door.set.v4(), door.set.v6(), &door.set.table);
        let title = format!("{action}: sets {v4} and {v6} of inet {table}");
        let mut findings = examine::examine(&ruleset, &door.set, &doors.nft);
        if let Ok(held) = &held {
            findings.extend(held::compare(&door.set, held.get(action).unwrap_or(&nobody)));
        }
        (title, findings)
    }));
    if let Err(unread) = &held {
        let what = format!("who is let in cannot be told: {}", unread.what);
        sections
            .push(section("leases", vec![Finding::doubt(what, "run this as root, with a store on disk")]));
    }
    let tables = doors.nft.values().map(|door| door.set.table.as_str()).collect();
    sections.push(section("boot", boot::look(Path::new("/"), &tables)));
    sections.extend(legacy().map(|finding| section("iptables-legacy", vec![finding])));
    sections
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
