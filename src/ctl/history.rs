//! `siglatchctl history` and `explain`: knocks, and what came of them, by the audit trail.

use std::collections::BTreeMap;
use std::path::Path;

use super::args::audit::History;
use super::audit::{Source, moment, state_dir, words};
use super::internal;
use crate::audit::Record;
use crate::exit::{self, Exit, Failure};
use crate::reason::DropReason;
use crate::wire::KnockId;
use crate::wire::invite::Name;

/// A knock.
#[derive(serde::Serialize)]
struct Knock {
    /// When it was first heard of, in milliseconds since the Unix epoch.
    at: u64,
    knock: String,
    user: String,
    action: String,
    from: String,
    /// The last that is known of it.
    result: String,
}

/// Lists knocks.
pub(super) fn history(args: &History) -> Result<(), Failure> {
    let mut source = Source::of_server(&state_dir(&args.at.config)?)?;
    let mut knocks: Vec<Knock> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (record, _) in source.records() {
        let (Some(id), Some(result)) = (record.text("knock"), result(&record)) else { continue };
        let text = |field| record.text(field).unwrap_or("-").to_owned();
        let differs = |field, wanted: &Option<Name>| {
            wanted.as_ref().is_some_and(|wanted| record.text(field) != Some(wanted.as_str()))
        };
        if record.at < args.since.unwrap_or(0)
            || differs("user", &args.user)
            || differs("action", &args.action)
        {
            continue;
        }
        // A copy that is refused says nothing of what became of the first.
        let earlier = places.get(id).and_then(|at| knocks.get_mut(*at));
        match earlier.filter(|_| !is_copy(&record)) {
            Some(earlier) => earlier.result = result,
            None => {
                if !is_copy(&record) {
                    places.insert(id.to_owned(), knocks.len());
                }
                let (user, action, from) = (text("user"), text("action"), text("from"));
                knocks.push(Knock { at: record.at, knock: id.to_owned(), user, action, from, result });
            }
        }
    }
    source.end()?;
    if args.json {
        let json = serde_json::to_string_pretty(&knocks).map_err(|error| internal(&error))?;
        return exit::say(&format!("{json}\n"));
    }
    let mut rows = vec![["TIME", "KNOCK", "USER", "ACTION", "FROM", "RESULT"].map(str::to_owned)];
    rows.extend(knocks.into_iter().map(|knock| {
        let Knock { at, knock, user, action, from, result } = knock;
        [moment(at), knock, user, action, from, result].map(|cell| cell.escape_debug().to_string())
    }));
    exit::say(&exit::columns(&rows))
}

fn is_copy(record: &Record) -> bool {
    record.kind() == "refused" && ["replay", "contested", "floor"].map(Some).contains(&record.text("reason"))
}

/// In a few words; `None` for what is not the end of a knock, nor on the way to it.
fn result(record: &Record) -> Option<String> {
    let number = |field| record.fields().find(|(name, _)| *name == field).map(|(_, value)| value.to_string());
    Some(match record.kind() {
        "claimed" => "claimed".to_owned(),
        "ran" => "runs".to_owned(),
        "accepted" => record.text("what")?.to_owned(),
        "refused" => format!("refused: {}", record.text("reason")?),
        "finished" => match (number("rc"), number("signal")) {
            (Some(rc), _) => format!("ran, rc {rc}"),
            (None, Some(signal)) => format!("ran, ended by signal {signal}"),
            (None, None) => "ran".to_owned(),
        },
        _ => return None,
    })
}

/// Tells a knock's story.
pub(super) fn explain(config: &Path, knock: KnockId) -> Result<(), Failure> {
    let mut source = Source::of_server(&state_dir(config)?)?;
    let id = knock.to_string();
    let mut text = String::new();
    for (record, _) in source.records() {
        if ![record.text("knock"), record.text("lease")].contains(&Some(&id)) {
            continue;
        }
        text += &format!("{}  {}\n", moment(record.at), words(&record));
        if let Some(why) = why(&record) {
            text += &format!("    {why}\n");
        }
    }
    source.end()?;
    if text.is_empty() {
        return Err(Failure::new(Exit::TryAgain, format!("the trail knows no knock {id}")).hint(
            "a datagram that is not authentic has no record, nor has the twenty-first refusal of a kind in a minute",
        ));
    }
    exit::say(&text)
}

/// Which stage said so, and what that means.
fn why(record: &Record) -> Option<String> {
    let what = match record.kind() {
        "claimed" => {
            "authentic and fresh, and the first with its nonce: nobody can knock with it again".to_owned()
        }
        "ran" => "permitted: its script was started".to_owned(),
        "accepted" => "permitted: nothing had to be started for it".to_owned(),
        "refused" => {
            let code = record.text("reason")?;
            let reason = DropReason::ALL.iter().find(|reason| reason.code() == code)?;
            let next = record.fields().find(|(name, _)| *name == "next").and_then(|(_, next)| next.as_u64());
            let next = next.map(|next| format!("; possible again at {}", moment(next.saturating_mul(1000))));
            format!("{}: {}{}", stage(*reason), reason.meaning(), next.unwrap_or_default())
        }
        _ => return None,
    };
    Some(what)
}

/// Who decides about this.
fn stage(reason: DropReason) -> &'static str {
    use DropReason as R;
    match reason {
        R::Length
        | R::Range
        | R::Unstamped
        | R::Seen
        | R::Copied
        | R::Beacon
        | R::Stamp
        | R::StampRate
        | R::Prefix
        | R::Queue
        | R::Channel => "the listener",
        R::NotAuthentic => "the check of its HMAC",
        R::ReservedAction | R::Stale | R::Ahead => "the check of its time",
        R::Replay | R::Contested | R::Floor => "the check of its nonce",
        R::Rate => "the rate of its user",
        R::StoreBusy | R::StoreFailed | R::StoreFull => "the store",
        R::UserGone
        | R::UserDisabled
        | R::UserExpired
        | R::ActionUnknown
        | R::NotPermitted
        | R::ActionDisabled
        | R::KeyExchange
        | R::Binding
        | R::Source
        | R::StampMissing
        | R::Options
        | R::Address
        | R::Payload => "the configuration",
        R::Hours | R::UserSpent | R::Quota | R::Cooldown => "when and how often it may",
        R::TotpMissing | R::TotpLocked | R::Totp | R::TotpUsed => "the second factor",
        R::KeyTaken => "the exchange of its key",
        R::Held | R::DoorsFull => "the door",
        R::Busy | R::StartFailed | R::Stopping => "the start of its script",
    }
}
