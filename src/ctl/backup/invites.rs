//! Invites that were open when a backup was made: they let nobody in again.
//!
//! Of what became of them since, a backup knows nothing: the key that an invite was exchanged for may be lost with the server, and who
//! has the invite could exchange it once more.

use std::path::Path;
use std::time::Duration;

use toml_edit::{DocumentMut, Item};
use zeroize::Zeroizing;

use super::manifest::{Filed, Manifest};
use super::revoked::tables;
use crate::config::files::folder_of;
use crate::ctl::user::enrol;
use crate::exit::Failure;
use crate::store::keys::KeyRow;
use crate::wire::HmacKey;

/// Ends them in a configuration file of the backup, and says whose.
pub(super) fn end(
    manifest: &Manifest,
    scratch: &Path,
    file: &Filed,
    document: &mut DocumentMut,
    exchanged: &[KeyRow],
) -> Result<Vec<String>, Failure> {
    let key = |named: &str| {
        let path = folder_of(&file.path).join(named);
        let at = manifest.files.iter().position(|filed| filed.path == path)?;
        HmacKey::parse(&Zeroizing::new(std::fs::read(scratch.join(at.to_string())).ok()?)).ok()
    };
    let mut said = Vec::new();
    for (name, user) in tables(document, "users") {
        // One that was sent for is its sender's and nobody else's.
        let own = user.get("hmac_key").and_then(Item::as_str).and_then(key);
        let used = own.is_some_and(|key| exchanged.iter().any(|row| row.exchanged.is_of(&key)));
        let Some(until) = user.get_mut("invite_until").and_then(Item::as_value_mut).filter(|_| !used) else {
            continue;
        };
        let decor = until.decor().clone();
        *until = enrol::until(Duration::ZERO)?;
        *until.decor_mut() = decor;
        said.push(format!("the invite of user {name} was open: it is void, make another"));
    }
    Ok(said)
}
