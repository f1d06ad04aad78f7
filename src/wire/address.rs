//! Addresses in the one form in which they are compared.

use std::net::{IpAddr, SocketAddr};

/// `[::ffff:192.0.2.1]:9` is 192.0.2.1:9; an address that stays IPv6 keeps its scope.
pub fn folded(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => (v4, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_folded_and_every_other_stays_whole() {
        let cases = [
            ("[::ffff:192.0.2.1]:9", "192.0.2.1:9"),
            ("192.0.2.1:9", "192.0.2.1:9"),
            ("[fe80::1%3]:9", "[fe80::1%3]:9"),
            ("[::1]:9", "[::1]:9"),
        ];
        for (address, expected) in cases {
            assert_eq!(folded(address.parse().unwrap()), expected.parse().unwrap());
        }
    }
}
