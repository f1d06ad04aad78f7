//! The addresses to receive on, and which of them can't be bound together.

use std::net::{IpAddr, SocketAddr};

use toml::Spanned;

use super::section::Section;
use crate::config::problems::Problem;
use crate::config::raw::{Text, Texts};
use crate::wire::address::folded;

/// `::ffff:192.0.2.7` is 192.0.2.7; port 0 lets the system choose one, which the log tells.
pub(super) fn resolve(top: &mut Section<'_>, listen: &Option<Texts>) -> Vec<SocketAddr> {
    let Some(texts) = top.required("listen", listen, "write listen = [\"0.0.0.0:50000\", \"[::]:50000\"]")
    else {
        return Vec::new();
    };
    if !(1..=ADDRESSES_MAX).contains(&texts.get_ref().len()) {
        let what = format!("`listen` takes 1 to {ADDRESSES_MAX} addresses");
        top.error(texts.span(), what, "0.0.0.0 and [::] stand for all addresses of this machine");
        return Vec::new();
    }
    let mut taken: Vec<(SocketAddr, &Text)> = Vec::new();
    for text in texts.get_ref() {
        let Some(address) = parse(top, text) else {
            continue;
        };
        match taken.iter().find(|(other, _)| collide(*other, address)) {
            None => taken.push((address, text)),
            Some((other, first)) => {
                let (what, hint) = if other == &address {
                    (format!("{address} is listed twice"), "leave one of the two out")
                } else {
                    let what = format!("{other} and {address} cannot be bound together");
                    (what, "leave the single address out: the other one covers it")
                };
                let problem = Problem::error(top.place(text.span()), what)
                    .also(top.place(first.span()), "with this one")
                    .hint(hint);
                top.notes.push(problem);
            }
        }
    }
    taken.into_iter().map(|(address, _)| address).collect()
}

fn parse(top: &mut Section<'_>, text: &Spanned<String>) -> Option<SocketAddr> {
    let written = text.get_ref();
    match written.parse::<SocketAddr>() {
        Ok(address) => Some(folded(address)),
        Err(_) => {
            let hint = match written.parse::<IpAddr>() {
                Ok(ip) => format!("add the port: \"{}\"", SocketAddr::new(ip, 50_000)),
                Err(_) => {
                    "write \"192.0.2.1:50000\" or \"[2001:db8::1]:50000\"; names are not looked up".to_owned()
                }
            };
            top.error(text.span(), "this is no address with a port", hint);
            None
        }
    }
}

/// `[::]` does not collide with IPv4 addresses: the listener makes it IPv6 only where one of its port is listed.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let wildcard = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port()
        && one.port() != 0
        && one.is_ipv4() == other.is_ipv4()
        && (one == other || wildcard)
}

/// Most addresses.
const ADDRESSES_MAX: usize = 16;
