//! `nft` of an action: a door that is a set of nftables.

use std::collections::BTreeMap;
use std::path::Path;

use super::section::Section;
use super::{builtin, section};
use crate::config::files;
use crate::config::load::Entry;
use crate::config::problems::{Place, Problem};
use crate::config::raw::{Keys, RawAction, RawNft, Table, Text};
use crate::config::resolved::{NFT, NftDoor, NftSet, OpensFor, Program};

/// All doors, by their action's name.
pub(super) fn resolve_all(
    entries: &[Entry<RawAction>],
    notes: &mut Vec<Problem>,
) -> BTreeMap<String, NftDoor> {
    let mut taken: BTreeMap<NftSet, (&str, Place)> = BTreeMap::new();
    let mut doors = BTreeMap::new();
    for entry in entries {
        let Table(raw) = entry.keys.get_ref();
        let name = entry.name.get_ref();
        let mut action = section(&entry.document, &format!("actions.{name}"), entry.keys.span(), notes);
        let opens_for = opens_for(&mut action, raw);
        let Some(keys) = &raw.nft else {
            continue;
        };
        alone(&mut action, raw, keys);
        if files::check_program(Path::new(NFT)).is_err() {
            let what = format!("`nft` needs {NFT}, which is not there");
            action.error(keys.span(), what, "install nftables, or write `run` and `undo`");
        }
        let place = action.place(keys.span());
        let Some(set) = set(entry, keys, notes) else {
            continue;
        };
        if let Some((other, first)) = taken.get(&set) {
            let what = format!("`{other}` and `{name}` have one set: closing one door would close the other");
            let problem = Problem::error(place, what).also(first.clone(), "here too");
            notes.push(problem.hint("give one of them a set of its own"));
            continue;
        }
        taken.insert(set.clone(), (name, place));
        doors.insert(name.clone(), NftDoor { set, opens_for });
    }
    doors
}

/// What opens and closes such a door: it reads a batch in JSON.
pub(super) fn program() -> Program {
    Program { path: NFT.into(), args: ["-j", "-f", "-"].map(str::to_owned).to_vec() }
}

/// Notes what cannot stand beside `nft`, or is missing there.
fn alone(action: &mut Section<'_>, raw: &RawAction, nft: &Keys<RawNft>) {
    builtin::alone(action, raw, "nft", "nft");
    if raw.hold.is_none() {
        let what = "`nft` without `hold`: the kernel must know when the door closes";
        action.error(nft.span(), what, "write hold = \"1h\"");
    }
}

fn set(entry: &Entry<RawAction>, keys: &Keys<RawNft>, notes: &mut Vec<Problem>) -> Option<NftSet> {
    let name = format!("actions.{}.nft", entry.name.get_ref());
    let mut nft = section(&entry.document, &name, keys.span(), notes);
    let Table(raw) = keys.get_ref();
    let hint = "write nft = { family = \"inet\", table = \"siglatch\", set = \"...\" }";
    let family = nft.required("family", &raw.family, hint);
    if let Some(family) = family.filter(|family| family.get_ref() != "inet") {
        let hint = "one table of this family holds the sets and rules for IPv4 and for IPv6";
        nft.error(family.span(), "`family` takes \"inet\"", hint);
    }
    let table = nft.required("table", &raw.table, hint);
    let table = table.and_then(|text| identifier(&mut nft, "table", text));
    let set = nft.required("set", &raw.set, hint).and_then(|text| identifier(&mut nft, "set", text));
    family?;
    Some(NftSet { table: table?, name: set? })
}

/// A name that can stand in a ruleset without quotes, and end nothing there.
fn identifier(nft: &mut Section<'_>, key: &str, text: &Text) -> Option<String> {
    let name = text.get_ref();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if (1..=NAME_MAX).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(fits)
    {
        return Some(name.clone());
    }
    let hint = format!("it has 1 to {NAME_MAX} letters, digits, _ . and -, the first a letter");
    nft.error(text.span(), format!("`{key}` takes a name of nftables"), hint);
    None
}

fn opens_for(action: &mut Section<'_>, raw: &RawAction) -> OpensFor {
    let choices = [("packet", Source::Packet), ("payload", Source::Payload)];
    let source = action.choice("source", &raw.source, Source::Packet, &choices, &[]);
    let bounds = action.addresses(&raw.allow_source);
    match (source, &raw.source, &raw.allow_source) {
        (Source::Payload, Some(value), _) if raw.nft.is_none() => {
            let hint = "leave it out; a program in `run` gets the address that knocked";
            action.error(value.span(), "`source = \"payload\"` works with `nft` alone", hint);
            OpensFor::Knocker
        }
        (Source::Payload, Some(value), list)
            if list.as_ref().is_none_or(|list| list.get_ref().is_empty()) =>
        {
            let what = "`source = \"payload\"` without `allow_source`: a user could open the door to anybody";
            let hint =
                "write allow_source = [\"198.51.100.0/24\"], or [\"0.0.0.0/0\", \"::/0\"] if that is meant";
            action.error(value.span(), what, hint);
            OpensFor::Knocker
        }
        (Source::Payload, _, _) => OpensFor::Named(bounds),
        (Source::Packet, _, Some(value)) => {
            let what = "`allow_source` does nothing while the packet's source is what counts";
            action.warning(value.span(), what, "write source = \"payload\" as well");
            OpensFor::Knocker
        }
        (Source::Packet, _, None) => OpensFor::Knocker,
    }
}

#[derive(Clone, Copy)]
enum Source {
    Packet,
    Payload,
}

/// Kernel and nft take 255; nobody types that, and a digit comes behind.
const NAME_MAX: usize = 64;
