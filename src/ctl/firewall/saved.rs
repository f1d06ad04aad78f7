//! The firewall as it is, table by table, and the way back to it.
//!
//! Only tables that a file has changed are put back. A table that iptables-nft manages may hold matches that nft shows and
//! cannot read: put back with the others it would fail, and take all of them with it.

use std::collections::BTreeMap;

use super::nft::nft;
use crate::exit::Failure;

/// Family and name, such as `inet siglatch`.
type Table = String;

/// Every table as text.
#[derive(Debug)]
pub(super) struct Saved {
    tables: BTreeMap<Table, Text>,
}

#[derive(Debug, PartialEq, Eq)]
struct Text {
    /// With counters and what is left of timeouts.
    whole: String,
    /// Without, to be compared.
    stateless: String,
}

impl Saved {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// nft's.
    pub(super) fn read() -> Result<Saved, Failure> {
        let whole = split(&nft(["list", "ruleset"], "")?);
        let mut stateless = split(&nft(["-s", "list", "ruleset"], "")?);
        let both = |(name, whole)| {
            let stateless = stateless.remove(&name).unwrap_or_default();
            (name, Text { whole, stateless })
        };
        Ok(Saved { tables: whole.into_iter().map(both).collect() })
    }

    /// All of them, as a file that nft loads.
    pub(super) fn text(&self) -> String {
        self.tables.values().map(|text| text.whole.as_str()).collect()
    }

    /// The tables that could not be put back: iptables-nft manages them.
    pub(super) fn frozen(&self) -> Vec<&str> {
        let names = self.tables.keys().map(String::as_str);
        names.filter(|name| nft(["-c", "-f", "-"], &self.back(&[name])).is_err()).collect()
    }

    /// The tables that are there or not there, or say other things, than in `now`.
    pub(super) fn changed<'a>(&'a self, now: &'a Saved) -> Vec<&'a str> {
        let stateless = |saved: &'a Saved, name: &str| saved.tables.get(name).map(|text| &text.stateless);
        let mut names: Vec<&str> = self.names().chain(now.names()).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| stateless(self, name) != stateless(now, name));
        names
    }

    /// Every table.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }

    /// Puts these tables back, all or none.
    ///
    /// # Errors
    ///
    /// nft's.
    pub(super) fn restore(&self, names: &[&str]) -> Result<(), Failure> {
        nft(["-f", "-"], &self.back(names)).map(drop)
    }

    fn back(&self, names: &[&str]) -> String {
        let back = names.iter().map(|name| {
            let text = self.tables.get(*name).map_or("", |text| &text.whole);
            // Added first: what is not there cannot be deleted.
            format!("add table {name}\ndelete table {name}\n{text}\n")
        });
        back.collect()
    }
}

/// By the first line of each table, which is the only one that starts with this word.
fn split(ruleset: &str) -> BTreeMap<Table, String> {
    let mut tables: BTreeMap<Table, String> = BTreeMap::new();
    let mut name = Table::new();
    for line in ruleset.lines() {
        if let Some(header) = line.strip_prefix("table ") {
            name = header.split(' ').take(2).collect::<Vec<_>>().join(" ");
        }
        let text = tables.entry(name.clone()).or_default();
        text.push_str(line);
        text.push('\n');
    }
    tables
}
