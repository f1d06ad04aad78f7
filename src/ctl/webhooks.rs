//! `siglatchctl webhooks`: what was not delivered, and what is to become of it.

use std::time::Duration;

use jiff::Timestamp;

use super::args::{Chosen, HookList};
#[cfg(feature = "sqlite")]
use super::ask::folder;
use super::ask::{ask, nothing};
use super::document::Document;
use super::internal;
use crate::clock;
use crate::config::show_duration;
use crate::control::{Reply, Request};
use crate::exit::{self, Exit, Failure};
use crate::wire::KnockId;
use crate::work::hooks::{Record, State, Told, Which};

/// A webhook.
#[derive(serde::Serialize)]
struct Line {
    /// What it tells, and its id.
    #[serde(flatten)]
    facts: Told,
    state: &'static str,
    /// How often it did not get through.
    attempts: u32,
    /// When it is tried again, Unix seconds.
    next: Option<u64>,
    why: Option<String>,
}

/// Lists those that are tried no more.
pub(super) fn failed(args: &HookList) -> Result<(), Failure> {
    list(args, |state| match state {
        State::Failed => true,
        State::Running | State::Pending(_) => false,
    })
}

/// Lists those that are to be sent.
pub(super) fn pending(args: &HookList) -> Result<(), Failure> {
    list(args, |state| match state {
        State::Running | State::Pending(_) => true,
        State::Failed => false,
    })
}

/// Has them sent now, by the running daemon.
pub(super) fn retry(args: &Chosen) -> Result<(), Failure> {
    act(args, Request::RetryWebhooks, "to be sent now")
}

/// Throws them away, through the running daemon.
pub(super) fn forget(args: &Chosen) -> Result<(), Failure> {
    act(args, Request::DropWebhooks, "dropped")
}

fn act(args: &Chosen, request: impl Fn(Which) -> Request, done: &str) -> Result<(), Failure> {
    let which = args.id.map_or(Which::Failed, Which::Hook);
    let reply = ask(&args.way, &request(which))?;
    let Reply::Webhooks(count) = reply else { return Err(nothing(&reply)) };
    match count {
        0 if args.id.is_some() => {
            let what = "there is no such webhook that waits or has failed";
            Err(Failure::new(Exit::TryAgain, what).hint(
                "`siglatchctl webhooks failed` and `pending` list them; one that is being sent is left alone",
            ))
        }
        1 => exit::say(&format!("1 webhook {done}\n")),
        count => exit::say(&format!("{count} webhooks {done}\n")),
    }
}

fn list(args: &HookList, wanted: impl Fn(State) -> bool) -> Result<(), Failure> {
    let document = Document::open(&args.at.config)?;
    let mut lines = Vec::new();
    for (id, text) in hooks(&document)? {
        let record = Record::parse(&text).map_err(|bad| {
            Failure::new(Exit::Config, format!("webhook {id} in the store cannot be read: {bad}"))
                .hint("siglatchd throws it away at its next start")
        })?;
        if wanted(record.state) {
            lines.push(Line::from(record));
        }
    }
    lines.sort_by_key(|line| line.facts.time());
    if args.json {
        let json = serde_json::to_string_pretty(&lines).map_err(|error| internal(&error))?;
        return exit::say(&format!("{json}\n"));
    }
    let now = clock::wall().as_secs();
    let mut rows =
        vec![["WEBHOOK", "TIME", "USER", "ACTION", "FROM", "TRIED", "AGAIN", "WHY"].map(str::to_owned)];
    rows.extend(lines.into_iter().map(|line| row(line, now)));
    exit::say(&exit::columns(&rows))
}

fn row(line: Line, now: u64) -> [String; 8] {
    let Line { facts, attempts, next, why, state } = line;
    let user = facts.user().unwrap_or("-").to_owned();
    let source = match &facts {
        Told::Knock(facts) => facts.source.to_string(),
        Told::Head(_) => "-".to_owned(),
    };
    let time = i64::try_from(facts.time()).ok().and_then(|time| Timestamp::from_second(time).ok());
    let time = time.map_or("-".to_owned(), |time| time.to_string());
    let again = match next {
        Some(next) => show_duration(Duration::from_secs(next.saturating_sub(now))),
        None => "-".to_owned(),
    };
    let why = why.unwrap_or_else(|| if state == "running" { "its action runs" } else { "-" }.to_owned());
    let (id, owner) = (facts.id().to_string(), facts.owner().to_owned());
    [id, time, user, owner, source, attempts.to_string(), again, why]
}

impl From<Record> for Line {
    fn from(record: Record) -> Line {
        let Record { facts, attempts, state, why } = record;
        let (state, next) = match state {
            State::Running => ("running", None),
            State::Pending(at) => ("pending", Some(at)),
            State::Failed => ("failed", None),
        };
        Line { facts, state, attempts, next, why }
    }
}

#[cfg(feature = "sqlite")]
fn hooks(document: &Document) -> Result<Vec<(KnockId, String)>, Failure> {
    if document.text("store") == Some("memory") {
        let what = "the webhooks are in the daemon's memory alone: store = \"memory\"";
        return Err(Failure::new(Exit::Config, what).hint("its log has them: webhook-retry, webhook-failed"));
    }
    Ok(crate::store::sqlite::read_hooks(&folder(document, "state_dir", "/var/lib/siglatch"))?)
}

#[cfg(not(feature = "sqlite"))]
fn hooks(_document: &Document) -> Result<Vec<(KnockId, String)>, Failure> {
    Err(Failure::new(Exit::Config, "this build has no SQLite: the webhooks are in the daemon's memory alone"))
}
