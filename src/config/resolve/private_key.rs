//! `private_key` and `old_private_key` of the server.

use super::section::Section;
use crate::config::key_file;
use crate::config::raw::{RawConfig, Text};
use crate::config::resolved::KeyFile;

/// The current one, and the one before, where both are good.
pub(super) fn resolve(top: &mut Section<'_>, raw: &RawConfig) -> Option<(KeyFile, Option<KeyFile>)> {
    let text = top.required("private_key", &raw.private_key, "write private_key = \"server.key.pem\"")?;
    let current = read(top, text, "`siglatchctl init` makes one")?;
    let old = old(top, raw, &current);
    Some((current, old))
}

fn old(top: &mut Section<'_>, raw: &RawConfig, current: &KeyFile) -> Option<KeyFile> {
    let text = raw.old_private_key.as_ref()?;
    let hint = "it is the key that `siglatchctl key rotate server` took the place of; leave it out, and who has that is not heard";
    let old = read(top, text, hint)?;
    let [bits, wanted] = [&old, current].map(|key| key.public.modulus().len().saturating_mul(8));
    if old.public == current.public {
        top.error(text.span(), "`old_private_key` is the same key as `private_key`", "leave it out");
        return None;
    }
    if bits != wanted {
        let what = format!(
            "`old_private_key` has {bits} bits, `private_key` {wanted}: knocks for both are to be equally long"
        );
        top.error(text.span(), what, "a key of another length ends every invite: leave this out");
        return None;
    }
    Some(old)
}

fn read(top: &mut Section<'_>, text: &Text, hint: &str) -> Option<KeyFile> {
    let (path, pem) = top.secret(text, key_file::PEM_MAX)?;
    match key_file::parse(&pem) {
        Ok(key) => Some(KeyFile { path, public: key.public().clone() }),
        Err(bad) => {
            top.error(text.span(), format!("{}: {bad}", path.display()), hint);
            None
        }
    }
}
