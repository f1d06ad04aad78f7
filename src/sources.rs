//! Where what is refused comes from: the busiest networks, in little room. Pure.
//!
//! Counts are at least what is said, never more: one that finds no room takes one from everybody instead. A flood from
//! everywhere therefore leaves nobody here, and one from few addresses leaves these.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::channel::{RefusedFrom, SOURCES_MAX};
use crate::reason::DropReason;

/// The busiest, by network and reason.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<RefusedFrom>);

/// An IPv4 address, or the /64 of an IPv6 one: who has one address of it has all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Network(IpAddr);

impl Sources {
    /// So many more were refused. The address that is kept for a network is the last one.
    pub(crate) fn note(&mut self, refused: RefusedFrom) {
        let kind = |of: &RefusedFrom| (Network::of(of.source), of.reason);
        let known = self.0.iter_mut().find(|other| kind(other) == kind(&refused));
        if let Some(known) = known {
            known.source = refused.source;
            known.count = known.count.saturating_add(refused.count);
        } else if self.0.len() < SOURCES_MAX {
            self.0.push(refused);
        } else {
            self.0.retain_mut(|other| {
                other.count = other.count.saturating_sub(1);
                other.count > 0
            });
        }
    }

    /// One datagram.
    pub(crate) fn refused(&mut self, source: IpAddr, reason: DropReason) {
        self.note(RefusedFrom { source, reason, count: 1 });
    }

    /// All of them, to begin anew.
    pub(crate) fn take(&mut self) -> Vec<RefusedFrom> {
        std::mem::take(&mut self.0)
    }

    /// The busiest networks for whatever reason, as `192.0.2.7=12 2001:db8::/64=3`, to begin anew.
    pub(crate) fn top(&mut self) -> String {
        let mut networks = BTreeMap::<Network, u64>::new();
        for RefusedFrom { source, count, .. } in self.take() {
            let sum = networks.entry(Network::of(source)).or_default();
            *sum = sum.saturating_add(count.into());
        }
        let mut networks: Vec<_> = networks.into_iter().collect();
        networks.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let top = networks.iter().take(TOP).map(|(network, count)| format!("{network}={count}"));
        top.collect::<Vec<_>>().join(" ")
    }
}

impl Network {
    fn of(source: IpAddr) -> Network {
        Network(match source {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => write!(f, "{v4}"),
            IpAddr::V6(v6) => write!(f, "{v6}/64"),
        }
    }
}

/// Networks that are named.
const TOP: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(source: &str, reason: DropReason, count: u32) -> RefusedFrom {
        RefusedFrom { source: source.parse().unwrap(), reason, count }
    }

    #[test]
    fn the_busiest_networks_come_first_whatever_their_reasons() {
        let mut sources = Sources::default();
        sources.note(refused("192.0.2.1", DropReason::NotAuthentic, 2));
        sources.note(refused("192.0.2.1", DropReason::Stamp, 3));
        sources.note(refused("2001:db8::1", DropReason::Stamp, 4));
        sources.note(refused("2001:db8::ffff:2", DropReason::Stamp, 5));
        (10..20).for_each(|last| sources.refused([198, 51, 100, last].into(), DropReason::Length));
        assert_eq!(
            sources.top(),
            "2001:db8::/64=9 192.0.2.1=5 198.51.100.10=1 198.51.100.11=1 198.51.100.12=1"
        );
        assert_eq!(sources.top(), "");
    }

    #[test]
    fn a_flood_from_everywhere_neither_fills_it_nor_hides_a_busy_one_nor_makes_one_busier() {
        let mut sources = Sources::default();
        for number in 0..100_000_u32 {
            sources.refused(IpAddr::from(number.to_be_bytes()), DropReason::NotAuthentic);
            if number % 10 == 0 {
                sources.refused([203, 0, 113, 9].into(), DropReason::NotAuthentic);
            }
            assert!(sources.0.len() <= SOURCES_MAX);
        }
        let busy = sources.0.iter().find(|of| of.source == IpAddr::from([203, 0, 113, 9])).unwrap();
        assert!((1000..=10_000).contains(&busy.count), "{busy:?}");
        assert!(sources.top().starts_with("203.0.113.9="));
    }

    #[test]
    fn of_a_network_the_last_address_is_told() {
        let mut sources = Sources::default();
        sources.refused("2001:db8::1".parse().unwrap(), DropReason::Stamp);
        sources.refused("2001:db8::2".parse().unwrap(), DropReason::Stamp);
        assert_eq!(sources.take(), [refused("2001:db8::2", DropReason::Stamp, 2)]);
    }
}
