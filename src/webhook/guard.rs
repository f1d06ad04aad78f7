//! Where a webhook may go: to the open internet, and to hosts that the administrator named.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Hosts that may be anywhere.
#[derive(Clone, Debug)]
pub struct Permitted(Vec<String>);

/// An address that nobody named leads inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no address of the open internet: name the host in the webhook's `allow` if it is meant")]
pub struct Refused(pub IpAddr);

impl Permitted {
    /// Hosts as they stand in a URL, without regard to case.
    pub fn new(hosts: &[String]) -> Permitted {
        Permitted(hosts.iter().map(|host| host.to_ascii_lowercase()).collect())
    }

    /// All addresses of a host, or none: one that leads inside among others is an attempt, not a mistake.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the first that may not be reached.
    pub fn check(&self, host: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Result<(), Refused> {
        if self.0.contains(&host.to_ascii_lowercase()) {
            return Ok(());
        }
        match addresses.into_iter().find(|address| !is_public(*address)) {
            Some(inside) => Err(Refused(inside)),
            None => Ok(()),
        }
    }
}

/// Whether the IANA special-purpose registries (RFC 6890) call the address globally reachable.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (224.., ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (192, 168, _)
            | (172, 16..=31, _)
            | (198, 18..=19, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    match (first, second) {
        // NAT64 and 6to4 carry an IPv4 address.
        (0x64, 0xff9b) => match address.segments() {
            [_, _, 0, 0, 0, 0, high, low] => is_public_v4(joined(high, low)),
            _ => false,
        },
        (0x2002, high) => match address.segments() {
            [_, _, low, ..] => is_public_v4(joined(high, low)),
        },
        // Teredo, benchmarking, ORCHID, documentation.
        (0x2001, 0..=0x01ff | 0x0db8) | (0x3fff, 0..=0x0fff) => false,
        // All that is handed out at all.
        (first, _) => first & 0xe000 == 0x2000,
    }
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, addresses: &[&str]) -> Result<(), Refused> {
        let permitted = Permitted::new(&["Hooks.Example".to_owned()]);
        permitted.check(host, addresses.iter().map(|address| address.parse().unwrap()))
    }

    #[test]
    fn addresses_that_lead_inside_are_refused_in_every_dress() {
        let cases = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ];
        for case in cases {
            assert_eq!(check("example.com", &[case]), Err(Refused(case.parse().unwrap())), "{case}");
        }
    }

    #[test]
    fn addresses_of_the_open_internet_are_not() {
        let cases = [
            "1.1.1.1",
            "9.9.9.9",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.1",
            "2606:4700::1111",
            "2001:200::1",
            "2a00:1450::1",
            "64:ff9b::101:101",
            "2002:101:101::1",
            "::ffff:9.9.9.9",
        ];
        for case in cases {
            assert_eq!(check("example.com", &[case]), Ok(()), "{case}");
        }
    }

    #[test]
    fn one_address_inside_refuses_the_host() {
        assert!(check("example.com", &["1.1.1.1", "10.0.0.1"]).is_err());
    }

    #[test]
    fn a_host_that_was_named_may_be_anywhere() {
        assert_eq!(check("hooks.example", &["10.0.0.1"]), Ok(()));
        assert_eq!(check("HOOKS.EXAMPLE", &["::1"]), Ok(()));
        assert!(check("hooks.example.com", &["::1"]).is_err());
        assert!(check("10.0.0.1", &["10.0.0.1"]).is_err());
    }
}
