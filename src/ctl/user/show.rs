//! `siglatchctl user show`: all that is known of one user.

use std::os::unix::fs::MetadataExt as _;
#[cfg(feature = "sqlite")]
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use toml_edit::{Item, TableLike};

use super::remove::known;
use crate::clock;
use crate::config::allowance::{last_moment, server_zone};
use crate::config::credential;
use crate::config::files::{self, Secrecy};
use crate::config::show_duration;
use crate::ctl::args::UserShow;
#[cfg(feature = "sqlite")]
use crate::ctl::ask::folder;
use crate::ctl::document::Document;
use crate::ctl::server_key::Overlap;
use crate::exit::{self, Failure};
use crate::store::keys::{Exchanged, fingerprint};
use crate::store::moved::MovedRow;
#[cfg(feature = "sqlite")]
use crate::store::sqlite::{read_keys, read_moved, read_usage};
use crate::store::usage::Usage;
use crate::wire::HmacKey;

/// Runs the command.
pub(in crate::ctl) fn show(args: &UserShow) -> Result<(), Failure> {
    let document = Document::open(&args.at.config)?;
    known(&document, &args.name)?;
    let name = args.name.as_str();
    let mut rows = vec![["user".to_owned(), name.to_owned()]];
    for (_, user) in document.entries("users").filter(|(other, _)| *other == name) {
        rows.extend(of_table(&document, name, user));
    }
    exit::say(&exit::columns(&rows))
}

type Row = [String; 2];

fn of_table(document: &Document, name: &str, user: &dyn TableLike) -> Vec<Row> {
    let row = |name: &str, text: String| [name.to_owned(), text];
    let mut rows = Vec::new();
    for (key, item) in user.iter() {
        let Some(value) = item.as_value() else { continue };
        let plain = value.clone().decorated("", "").to_string();
        let text = match key {
            "hmac_key" | "totp_key" => {
                let what = match (value.as_str().and_then(credential::place), age(document, name, key)) {
                    (Some(_), _) => "which the service manager hands over".to_owned(),
                    (None, Some(age)) => format!("{age} old"),
                    (None, None) => "WHICH IS NOT THERE".to_owned(),
                };
                let became =
                    if key == "hmac_key" { became(document, name, &exchanged(document)) } else { "" };
                format!("{plain}, {what}{became}")
            }
            "not_after" => format!("{plain}{}", over(document, item)),
            _ => plain,
        };
        rows.push(row(key, text));
    }
    let id = user.get("id").and_then(Item::as_integer).and_then(|id| u16::try_from(id).ok());
    let (ran, last) = used(document, id);
    let most = user.get("max_knocks").and_then(Item::as_integer);
    let of = most
        .map(|most| format!(" of {most}{}", if i128::from(ran) < i128::from(most) { "" } else { ", SPENT" }));
    rows.push(row("ran", format!("{ran}{}", of.unwrap_or_default())));
    rows.extend(last.map(|last| row("last", last)));
    rows.extend(id.zip(Overlap::of(document)).map(|(id, overlap)| row("server key", overlap.of_user(id))));
    rows
}

/// By the time of its file.
fn age(document: &Document, name: &str, key: &str) -> Option<String> {
    let (_, file) = document.key_files(key).find(|(user, _)| *user == name)?;
    let made = u64::try_from(file.metadata().ok()?.mtime()).ok()?;
    Some(show_duration(Duration::from_secs(clock::wall().as_secs().saturating_sub(made))))
}

/// What became of the key in his file.
fn became(document: &Document, name: &str, exchanged: &[Exchanged]) -> &'static str {
    match exchange(document, name, exchanged) {
        Some(Exchange::Begun) => "; another is sent for, and not knocked under yet",
        Some(Exchange::Done) => "; exchanged for another, which the store has",
        Some(Exchange::None) | None => "",
    }
}

/// The same in a word, and whether it is only an invite's.
pub(in crate::ctl) fn key_state(
    document: &Document,
    exchanged: &[Exchanged],
    name: &str,
    user: &dyn TableLike,
) -> &'static str {
    let named = user.get("hmac_key").and_then(Item::as_str);
    match (named, exchange(document, name, exchanged), user.get("invite_until")) {
        (None, ..) => "-",
        (Some(named), ..) if credential::place(named).is_some() => "credential",
        (Some(_), None, _) => "unreadable",
        (Some(_), Some(Exchange::Begun), _) => "exchanging",
        (Some(_), Some(Exchange::Done), _) => "exchanged",
        (Some(_), Some(Exchange::None), None) => "good",
        (Some(_), Some(Exchange::None), Some(until)) if is_over(document, until) => "expired",
        (Some(_), Some(Exchange::None), Some(_)) => "invite",
    }
}

/// How far a key is on its way to another.
enum Exchange {
    None,
    Begun,
    Done,
}

/// `None`: there is no key that can be read.
fn exchange(document: &Document, name: &str, exchanged: &[Exchanged]) -> Option<Exchange> {
    let (_, file) = document.key_files("hmac_key").find(|(user, _)| *user == name)?;
    let key = HmacKey::parse(&files::read(&file, Secrecy::Secret, 1024).ok()?).ok()?;
    let file = fingerprint(&key);
    Some(match exchanged.iter().find(|exchanged| exchanged.file == file) {
        Some(Exchanged { next: Some(_), .. }) => Exchange::Begun,
        Some(Exchanged { own: Some(_), .. }) => Exchange::Done,
        Some(Exchanged { own: None, next: None, .. }) | None => Exchange::None,
    })
}

/// Nothing where there is no store that can be read.
#[cfg(feature = "sqlite")]
pub(in crate::ctl) fn exchanged(document: &Document) -> Vec<Exchanged> {
    let rows = state(document).map(|folder| read_keys(&folder).unwrap_or_default());
    rows.into_iter().flatten().map(|row| row.exchanged).collect()
}

#[cfg(not(feature = "sqlite"))]
pub(in crate::ctl) fn exchanged(_document: &Document) -> Vec<Exchanged> {
    Vec::new()
}

fn over(document: &Document, item: &Item) -> &'static str {
    if is_over(document, item) { ", OVER" } else { "" }
}

/// Whether his `not_after` has come.
pub(in crate::ctl) fn is_over(document: &Document, item: &Item) -> bool {
    let text = item.as_str().map(str::to_owned).or_else(|| item.as_datetime().map(ToString::to_string));
    let last = text.and_then(|text| last_moment(&text, &server_zone(document.text("zone"))));
    last.is_some_and(|last| last < clock::wall())
}

/// How often his id ran anything, and when last.
fn used(document: &Document, id: Option<u16>) -> (u64, Option<String>) {
    let usage = usage(document).into_iter().filter(|usage| Some(usage.user.0) == id);
    let (ran, last) =
        usage.fold((0_u64, 0), |(ran, last), of| (ran.saturating_add(of.uses), of.last.max(last)));
    let moment = Timestamp::from_second(last.into()).ok().filter(|_| last > 0);
    (ran, moment.map(|moment| moment.to_string()))
}

/// Nothing where there is no store that can be read.
#[cfg(feature = "sqlite")]
pub(super) fn usage(document: &Document) -> Vec<Usage> {
    state(document).map(|folder| read_usage(&folder, 0).unwrap_or_default()).unwrap_or_default()
}

#[cfg(not(feature = "sqlite"))]
pub(super) fn usage(_document: &Document) -> Vec<Usage> {
    Vec::new()
}

/// Whether there is none yet, where one is to be.
#[cfg(feature = "sqlite")]
pub(super) fn has_no_store(document: &Document) -> bool {
    state(document).is_some_and(|folder| !folder.join("claims.db").exists())
}

#[cfg(not(feature = "sqlite"))]
pub(super) fn has_no_store(_document: &Document) -> bool {
    false
}

/// Who knocked under which of the server's keys; nothing where there is no store that can be read.
#[cfg(feature = "sqlite")]
pub(in crate::ctl) fn moved(document: &Document) -> Vec<MovedRow> {
    state(document).map(|folder| read_moved(&folder).unwrap_or_default()).unwrap_or_default()
}

#[cfg(not(feature = "sqlite"))]
pub(in crate::ctl) fn moved(_document: &Document) -> Vec<MovedRow> {
    Vec::new()
}

/// Where the store is, if it is on a disk.
#[cfg(feature = "sqlite")]
fn state(document: &Document) -> Option<PathBuf> {
    let disk = document.text("store") != Some("memory");
    disk.then(|| folder(document, "state_dir", "/var/lib/siglatch"))
}
