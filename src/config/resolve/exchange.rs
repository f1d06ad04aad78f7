//! `invite_until` and `rotate_until` of a user, `enrol_key` of the server.

use toml::Spanned;

use super::Given;
use super::section::Section;
use super::user::{KEY_FILE_MAX, moment};
use crate::config::raw::{RawConfig, RawUser};
use crate::config::resolved::Exchange;
use crate::wire::enrol::EnrolSecret;

/// The keeper's half of every exchange.
pub(super) fn key(top: &mut Section<'_>, raw: &RawConfig) -> Option<EnrolSecret> {
    let text = raw.enrol_key.as_ref()?;
    let hint = "name a file of 64 hex digits; `siglatchctl user add --once` makes one";
    if EnrolSecret::parse(text.get_ref().as_bytes()).is_ok() {
        // The key itself: no log is to have it.
        top.error(text.span(), "`enrol_key` is a key, where a file's name belongs", hint);
        return None;
    }
    if raw.store.as_ref().is_some_and(|store| store.get_ref() == "memory") {
        let what = "`store = \"memory\"` forgets at exit what keys were exchanged for";
        top.warning(text.span(), what, "exchange keys with store = \"sqlite\" only");
    }
    let (path, bytes) = top.secret(text, KEY_FILE_MAX)?;
    EnrolSecret::parse(&bytes)
        .map_err(|bad| top.error(text.span(), format!("{}: {bad}", path.display()), hint))
        .ok()
}

pub(super) fn resolve(user: &mut Section<'_>, raw: &RawUser, given: Given<'_>) -> Exchange {
    let Some(first) = raw.invite_until.as_ref().or(raw.rotate_until.as_ref()) else {
        return Exchange::Never;
    };
    let span = first.span();
    let invite = raw.invite_until.as_ref().map(|until| moment(user, "invite_until", until, given.zone));
    let rotate = raw.rotate_until.as_ref().map(|until| moment(user, "rotate_until", until, given.zone));
    let exchange = match (invite.flatten(), rotate.flatten()) {
        (Some(until), then) => Exchange::Invites { until, then },
        (None, Some(until)) => Exchange::Rotates(until),
        (None, None) => Exchange::Never,
    };
    if given.enrol_key.is_none() {
        let what = "his key cannot be exchanged: there is no `enrol_key`";
        user.error(span, what, "write enrol_key = \"...\" at the top of the main file");
    }
    exchange
}

/// Whether the server has a key for it, or would if it could be read.
pub(super) fn given(raw: &RawConfig) -> Option<&str> {
    raw.enrol_key.as_ref().map(Spanned::get_ref).map(String::as_str)
}
