//! What makes an action a door: `hold`, `undo` and what goes with them.

use std::time::Duration;

use super::section::{Bounds, Section};
use super::{Taken, args};
use crate::config::raw::RawAction;
use crate::config::resolved::{Again, Door, NftDoor, OnShutdown};
use crate::wire::ActionId;

/// `None`: it is no door, or its `undo` was noted as wrong.
pub(super) fn resolve(
    action: &mut Section<'_>,
    raw: &RawAction,
    name: &str,
    nft: Option<NftDoor>,
    taken: &mut Taken<ActionId>,
) -> Option<Door> {
    let undo = match &nft {
        Some(_) => Some(Some(super::nft::program())),
        None => raw.undo.as_ref().map(|texts| args::program(action, "undo", texts)),
    };
    let hold = action.duration("hold", &raw.hold, HOLD);
    let max_hold = action.duration("max_hold", &raw.max_hold, Bounds { default: hold, ..HOLD });
    if let Some(value) = raw.max_hold.as_ref().filter(|_| max_hold < hold) {
        action.error(value.span(), "`max_hold` is below `hold`", "leave it out for as long as `hold`");
    }
    let again = action.choice("again", &raw.again, Again::Extend, &AGAIN, &[]);
    let on_shutdown = action.choice("on_shutdown", &raw.on_shutdown, OnShutdown::Keep, &ON_SHUTDOWN, &[]);
    let release_id = release_id(action, raw, name, taken);
    match (&raw.hold, undo) {
        (Some(_), Some(undo)) => {
            Some(Door { hold, max_hold, undo: undo?, nft, again, on_shutdown, release_id })
        }
        (Some(value), None) if raw.nft.is_none() => {
            let hint = "write undo = [\"/etc/siglatch/actions/...\"], the program that closes it";
            action.error(value.span(), "`hold` without `undo`: nothing would end it", hint);
            None
        }
        (None, Some(_)) if raw.nft.is_none() => {
            let span = raw.undo.as_ref().map_or(0..0, toml::Spanned::span);
            action.error(span, "`undo` without `hold`: it would never run", "write hold = \"1h\"");
            None
        }
        // What stands beside `nft` was looked at with it.
        (Some(_), None) | (None, Some(_)) => None,
        (None, None) => {
            useless(action, raw);
            None
        }
    }
}

fn release_id(
    action: &mut Section<'_>,
    raw: &RawAction,
    name: &str,
    taken: &mut Taken<ActionId>,
) -> Option<ActionId> {
    let number = raw.release_id.as_ref()?;
    let hint = "it is one of the action ids, and no action's own";
    let id = action.whole("release_id", number, 1..=u8::MAX, hint).and_then(ActionId::new)?;
    taken.take(id, name, action.place(number.span()), action.notes);
    Some(id)
}

fn useless(action: &mut Section<'_>, raw: &RawAction) {
    let spans = [
        ("max_hold", raw.max_hold.as_ref().map(toml::Spanned::span)),
        ("again", raw.again.as_ref().map(toml::Spanned::span)),
        ("on_shutdown", raw.on_shutdown.as_ref().map(toml::Spanned::span)),
        ("release_id", raw.release_id.as_ref().map(toml::Spanned::span)),
    ];
    for (key, span) in spans {
        if let Some(span) = span {
            let what = format!("`{key}` does nothing without a lease");
            action.warning(span, what, "write `hold` and `undo` as well");
        }
    }
}

const AGAIN: [(&str, Again); 3] =
    [("extend", Again::Extend), ("restart", Again::Restart), ("refuse", Again::Refuse)];

const ON_SHUTDOWN: [(&str, OnShutdown); 2] = [("keep", OnShutdown::Keep), ("undo", OnShutdown::Undo)];

const HOLD: Bounds<Duration> = Bounds {
    default: Duration::from_secs(3600),
    min: Duration::from_secs(1),
    max: Duration::from_secs(30 * 86_400),
};
