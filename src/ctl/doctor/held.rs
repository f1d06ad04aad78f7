//! One door, held against its leases.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::Finding;
use crate::config::resolved::NftSet;
use crate::config::show_duration;
use crate::ctl::firewall::nft::nft;
use crate::work::nft as sets;

/// What is in the sets and what should be, for doors whose sets are there. `held`: who holds a lease, and for how long.
pub(super) fn compare(set: &NftSet, held: &BTreeMap<IpAddr, Duration>) -> Vec<Finding> {
    let Some(elements) = elements(set) else { return Vec::new() };
    let name = |address: &IpAddr| if address.is_ipv4() { set.v4() } else { set.v6() };
    let missing =
        held.iter().filter(|(address, _)| !elements.contains_key(address)).map(|(address, left)| {
            let left = show_duration(*left);
            let what = format!("{address} has a lease for {left}, and {} does not have it", name(address));
            Finding::bad(what, "reload siglatchd, which puts it back: siglatchctl reload")
        });
    let strange =
        elements.iter().filter(|(address, _)| !held.contains_key(address)).map(|(address, left)| {
            let left =
                left.map_or("for ever".to_owned(), |left| format!("for another {}", show_duration(left)));
            let (set_name, table) = (name(address), &set.table);
            let what = format!("{address} is in {set_name} {left}, and nobody has a lease for it");
            Finding::doubt(
                what,
                format!(
                    "unless you put it there: nft 'delete element inet {table} {set_name} {{ {address} }}'"
                ),
            )
        });
    missing.chain(strange).collect()
}

/// `None`: a set is missing, which was told, or nft's answer makes no sense.
fn elements(set: &NftSet) -> Option<BTreeMap<IpAddr, Option<Duration>>> {
    let mut all = BTreeMap::new();
    for list in sets::list(set) {
        let found = sets::elements(nft(&list.args, "").ok()?.as_bytes()).ok()?;
        all.extend(found.into_iter().map(|element| (element.address, element.left)));
    }
    Some(all)
}
