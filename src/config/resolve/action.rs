//! `[actions.NAME]`

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::allowance::{self, Written};
use super::section::{Bounds, Section, enabled};
use super::user::ActionNames;
use super::{Given, Taken, args, builtin, check_name, door, nft, run_as, section, webhook};
use crate::config::load::{self, Entry};
use crate::config::problems::Problem;
use crate::config::raw::{RawAction, Table};
use crate::config::resolved::{Action, NftDoor, OnBusy, PayloadKind, SecondFactor, Stdin};
use crate::wire::{ActionId, PAYLOAD_MAX};

/// All actions, by id.
pub(super) fn resolve_all(
    entries: &[Entry<RawAction>],
    given: Given<'_>,
    notes: &mut Vec<Problem>,
) -> BTreeMap<ActionId, Arc<Action>> {
    let mut doors = nft::resolve_all(entries, notes);
    let mut taken = Taken::new("action");
    let mut actions = BTreeMap::new();
    for entry in entries {
        let nft = doors.remove(entry.name.get_ref());
        if let Some(action) = resolve(entry, given, nft, &mut taken, notes) {
            actions.entry(action.id).or_insert_with(|| Arc::new(action));
        }
    }
    actions
}

/// What a user's `actions` may name: those that are defined, and those whose table was too wrong to be read.
pub(super) fn names(written: &load::Written) -> ActionNames {
    let excused = written
        .documents
        .iter()
        .flat_map(|document| &document.excused)
        .filter_map(|name| name.strip_prefix("actions."))
        .map(|name| (name.to_owned(), None));
    let defined = written.actions.iter().map(|entry| {
        let Table(raw) = entry.keys.get_ref();
        let id = raw.id.as_ref().and_then(|id| u8::try_from(*id.get_ref()).ok());
        (entry.name.get_ref().clone(), id.and_then(ActionId::new))
    });
    excused.chain(defined).collect()
}

fn resolve(
    entry: &Entry<RawAction>,
    given: Given<'_>,
    nft: Option<NftDoor>,
    taken: &mut Taken<ActionId>,
    notes: &mut Vec<Problem>,
) -> Option<Action> {
    let Table(raw) = entry.keys.get_ref();
    let name = entry.name.get_ref();
    check_name("an action", entry, notes);
    let mut action = section(&entry.document, &format!("actions.{name}"), entry.keys.span(), notes);
    let id = id(&mut action, raw, name, taken);
    let builtin = builtin::resolve(&mut action, raw);
    let run = builtin::run(&mut action, raw);
    let args = args::args(&mut action, raw);
    let env = args::env(&mut action, raw);
    let stdin = action.choice("stdin", &raw.stdin, Stdin::Null, &STDIN, &[]);
    let door = door::resolve(&mut action, raw, name, nft, taken);
    let programs: Vec<&Path> = run
        .iter()
        .chain(door.as_ref().map(|door| &door.undo))
        .map(|program| program.path.as_path())
        .collect();
    let run_as = raw.run_as.as_ref().filter(|_| raw.nft.is_none());
    let run_as = run_as.and_then(|text| run_as::resolve(&mut action, text, &programs));
    let timeout = action.duration("timeout", &raw.timeout, TIMEOUT);
    let grace = action.duration("grace", &raw.grace, GRACE);
    let max_running = action.number("max_running", &raw.max_running, MAX_RUNNING);
    let on_busy = on_busy(&mut action, raw);
    let max_output = action.size("max_output", &raw.max_output, MAX_OUTPUT);
    let payload = action.choice("payload", &raw.payload, PayloadKind::Any, &PAYLOAD, &[]);
    let max_payload = action.number("max_payload", &raw.max_payload, MAX_PAYLOAD);
    let allow_from = action.addresses(&raw.allow_from);
    let bind = action.bind(&raw.bind, given.server_id).max(builtin::bind(builtin));
    let written = Written { cooldown: &raw.cooldown, quota: &raw.quota, hours: &raw.hours };
    let allowance = allowance::resolve(&mut action, &written, given.zone);
    let reply = action.reply(&raw.reply);
    let webhook = webhook::resolve(&mut action, raw.into());
    Some(Action {
        id: id?,
        name: name.clone(),
        builtin,
        run: run?,
        args,
        env,
        stdin,
        run_as,
        timeout,
        grace,
        max_running,
        on_busy,
        max_output,
        payload,
        max_payload,
        allow_from,
        bind,
        reply,
        enabled: enabled(raw.enabled),
        door,
        allowance,
        second_factor: if raw.totp == Some(true) { SecondFactor::Totp } else { SecondFactor::None },
        webhook,
    })
}

fn id(
    action: &mut Section<'_>,
    raw: &RawAction,
    name: &str,
    taken: &mut Taken<ActionId>,
) -> Option<ActionId> {
    let hint = "write id = and a number from 1 to 255 that no other action has";
    let number = action.required("id", &raw.id, hint)?;
    let hint = "a packet has one byte for it, and 0 means a reply";
    let id = action.whole("id", number, 1..=u8::MAX, hint).and_then(ActionId::new)?;
    taken.take(id, name, action.place(number.span()), action.notes);
    Some(id)
}

fn on_busy(action: &mut Section<'_>, raw: &RawAction) -> OnBusy {
    let max_queue = action.number("max_queue", &raw.max_queue, MAX_QUEUE);
    let choices = [("refuse", OnBusy::Refuse), ("queue", OnBusy::Queue(max_queue))];
    let on_busy = action.choice("on_busy", &raw.on_busy, OnBusy::Refuse, &choices, &[]);
    if let (Some(value), OnBusy::Refuse) = (&raw.max_queue, on_busy) {
        let what = "`max_queue` does nothing without a queue";
        action.warning(value.span(), what, "write on_busy = \"queue\" as well");
    }
    on_busy
}

const STDIN: [(&str, Stdin); 2] = [("null", Stdin::Null), ("payload", Stdin::Payload)];

const PAYLOAD: [(&str, PayloadKind); 4] = [
    ("any", PayloadKind::Any),
    ("ascii", PayloadKind::Ascii),
    ("utf8", PayloadKind::Utf8),
    ("none", PayloadKind::None),
];

const TIMEOUT: Bounds<Duration> = Bounds {
    default: Duration::from_secs(30),
    min: Duration::from_millis(100),
    max: Duration::from_secs(86_400),
};

/// Zero kills at once.
const GRACE: Bounds<Duration> =
    Bounds { default: Duration::from_secs(5), min: Duration::ZERO, max: Duration::from_secs(300) };

const MAX_RUNNING: Bounds<usize> = Bounds { default: 8, min: 1, max: 4096 };
const MAX_QUEUE: Bounds<usize> = Bounds { default: 16, min: 1, max: 4096 };
const MAX_OUTPUT: Bounds<usize> = Bounds { default: 64 << 10, min: 0, max: 1 << 20 };
const MAX_PAYLOAD: Bounds<usize> = Bounds { default: PAYLOAD_MAX, min: 0, max: PAYLOAD_MAX };
