//! When keys were made, by the times of their files.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

use super::load::Written;
use super::raw::Text;
use super::shape::Document;

/// Unix seconds; what cannot be looked at is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// The server's private key.
    pub server: Option<u64>,
    /// Of each user, by name.
    pub users: BTreeMap<String, u64>,
    /// The oldest key of an authenticator.
    pub totp: Option<u64>,
}

impl Made {
    pub(super) fn of(written: &Written) -> Made {
        let users = || written.users.iter().map(|entry| (entry, &entry.keys.get_ref().0));
        let totp = users().filter_map(|(entry, raw)| made(&entry.document, raw.totp_key.as_ref()?));
        let keys = users().filter_map(|(entry, raw)| {
            Some((entry.name.get_ref().clone(), made(&entry.document, raw.hmac_key.as_ref()?)?))
        });
        Made {
            server: written.raw.private_key.as_ref().and_then(|text| made(&written.main, text)),
            totp: totp.min(),
            users: keys.collect(),
        }
    }
}

fn made(document: &Document, text: &Text) -> Option<u64> {
    let file = document.source.absolute.with_file_name(text.get_ref());
    u64::try_from(file.metadata().ok()?.mtime()).ok()
}
