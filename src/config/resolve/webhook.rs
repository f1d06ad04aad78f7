//! `webhook` of an action or of the audit trail, and what goes with it.

use std::str;

use super::section::Section;
use crate::config::files::{self, Secrecy};
use crate::config::raw::{RawAction, RawAudit, Text, Texts};
use crate::config::resolved::Webhook;
use crate::wire::HmacKey;
use crate::wire::invite::Host;

/// As it is written.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    url: &'a Option<Text>,
    key: &'a Option<Text>,
    allow: &'a Option<Texts>,
    ca: &'a Option<Text>,
}

impl<'a> From<&'a RawAction> for Written<'a> {
    fn from(raw: &'a RawAction) -> Written<'a> {
        let RawAction { webhook: url, webhook_key: key, webhook_allow: allow, webhook_ca: ca, .. } = raw;
        Written { url, key, allow, ca }
    }
}

impl<'a> From<&'a RawAudit> for Written<'a> {
    fn from(raw: &'a RawAudit) -> Written<'a> {
        let RawAudit { webhook: url, webhook_key: key, webhook_allow: allow, webhook_ca: ca, .. } = raw;
        Written { url, key, allow, ca }
    }
}

/// `None`: there is none, or it was noted as wrong.
pub(super) fn resolve(section: &mut Section<'_>, raw: Written<'_>) -> Option<Webhook> {
    let Some(url) = raw.url else {
        useless(section, raw);
        return None;
    };
    if !cfg!(feature = "webhook") {
        let hint = "leave it out, or build siglatch with the feature `webhook`";
        section.error(url.span(), "this build has no sender of webhooks", hint);
        return None;
    }
    let host = host(url.get_ref());
    if host.is_none() {
        let what = "`webhook` takes a URL that begins with https://, of printable ASCII without user, password and #";
        section.error(url.span(), what, "write webhook = \"https://hooks.example.org/siglatch\"");
    }
    let key = key(section, raw);
    let ca = raw.ca.as_ref().map(|text| certificates(section, text));
    let allow = allow(section, raw, host);
    Some(Webhook { url: host.map(|_| url.get_ref().clone())?, key: key?, allow, ca: ca.flatten() })
}

fn key(section: &mut Section<'_>, raw: Written<'_>) -> Option<HmacKey> {
    let hint = "what is sent is signed: name a file of 32 random bytes, or of 64 hex digits";
    let text = section.required("webhook_key", raw.key, hint)?;
    if HmacKey::parse(text.get_ref().as_bytes()).is_ok() {
        // The key itself: no log is to have it.
        section.error(text.span(), "`webhook_key` is a key, where a file's name belongs", hint);
        return None;
    }
    let (path, bytes) = section.secret(text, KEY_FILE_MAX)?;
    HmacKey::parse(&bytes)
        .map_err(|bad| {
            let hint = format!("make one: umask 077; head -c 32 /dev/urandom > {}", path.display());
            section.error(text.span(), format!("{}: {bad}", path.display()), hint);
        })
        .ok()
}

fn certificates(section: &mut Section<'_>, text: &Text) -> Option<String> {
    let path = section.path(text);
    match files::read(&path, Secrecy::Public, CA_MAX) {
        Ok(bytes) => match str::from_utf8(&bytes) {
            Ok(pem) if pem.contains("-----BEGIN CERTIFICATE-----") => Some(pem.to_owned()),
            Ok(_) | Err(_) => {
                let what = format!("{}: there is no certificate in it", path.display());
                section.error(text.span(), what, "name a file with certificates in PEM");
                None
            }
        },
        Err(bad) => {
            section.bad_file(text.span(), &bad);
            None
        }
    }
}

/// As they stand in a URL: an IPv6 address has brackets there.
fn allow(section: &mut Section<'_>, raw: Written<'_>, host: Option<&str>) -> Vec<String> {
    let mut allow = Vec::new();
    for text in raw.allow.iter().flat_map(toml::Spanned::get_ref) {
        let written = text.get_ref().trim_start_matches('[').trim_end_matches(']');
        if Host::parse(written).is_none() {
            let hint = "write it as it stands in `webhook`, without the port";
            section.error(text.span(), "this is no host name and no IP address", hint);
            continue;
        }
        let named = if written.contains(':') { format!("[{written}]") } else { written.to_owned() };
        if host.is_some_and(|host| !host.eq_ignore_ascii_case(&named)) {
            let hint = "write it as it stands in `webhook`, or leave it out";
            section.warning(text.span(), "this is not the host of `webhook`: it does nothing", hint);
        }
        allow.push(named);
    }
    allow
}

fn useless(section: &mut Section<'_>, raw: Written<'_>) {
    let spans = [
        ("webhook_key", raw.key.as_ref().map(toml::Spanned::span)),
        ("webhook_allow", raw.allow.as_ref().map(toml::Spanned::span)),
        ("webhook_ca", raw.ca.as_ref().map(toml::Spanned::span)),
    ];
    for (key, span) in spans {
        if let Some(span) = span {
            section.warning(
                span,
                format!("`{key}` does nothing without `webhook`"),
                "write `webhook` as well",
            );
        }
    }
}

/// The host of a URL that a webhook may have.
fn host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://")?;
    let authority = rest.split(['/', '?']).next()?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    };
    let bare = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']').filter(|v6| v6.contains(':'))?,
        None => Some(host).filter(|name| !name.contains(':'))?,
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let printable = url.len() <= URL_MAX && url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    (port_fits && printable && Host::parse(bare).is_some()).then_some(host)
}

/// Longest key file, in bytes: 64 digits and room for white space.
const KEY_FILE_MAX: u64 = 1024;

/// Longest file of certificates, in bytes.
const CA_MAX: u64 = 64 << 10;

/// Longest URL, in bytes.
const URL_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_or_is_none() {
        for (url, expected) in [
            ("https://hooks.example.org", Some("hooks.example.org")),
            ("https://hooks.example.org/a?b=c", Some("hooks.example.org")),
            ("https://hooks.example.org:8443/", Some("hooks.example.org")),
            ("https://192.0.2.1?x", Some("192.0.2.1")),
            ("https://[2001:db8::1]:8443/x", Some("[2001:db8::1]")),
            ("https://[2001:db8::1]", Some("[2001:db8::1]")),
            ("http://hooks.example.org/", None),
            ("https://", None),
            ("https:///x", None),
            ("https://a:0/", None),
            ("https://a:99999/", None),
            ("https://a:b@c/", None),
            ("https://user@host/", None),
            ("https://2001:db8::1/", None),
            ("https://[hooks]/", None),
            ("https://hooks.example.org/#x", None),
            ("https://hooks.example.org/a b", None),
            ("https://h\u{f6}oks.example.org/", None),
        ] {
            assert_eq!(host(url), expected, "{url}");
        }
        assert_eq!(host(&format!("https://a/{}", "x".repeat(URL_MAX))), None);
    }
}
