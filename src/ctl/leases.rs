//! `siglatchctl leases` and `revoke`: who holds which door until when, and its end.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::args::{Leases, Revoke};
#[cfg(feature = "sqlite")]
use super::ask::folder;
use super::ask::{ask, nothing};
use super::document::Document;
use super::internal;
use super::user::known;
use crate::clock::{self, Now};
use crate::config::show_duration;
use crate::control::{Reply, Request};
use crate::exit::{self, Exit, Failure};
use crate::store::Boot;
use crate::store::doors::DoorKey;
use crate::wire::KnockId;
use crate::work::leases::{Phase, Record, Turn, Whom};

/// A lease, or a door that closes and that nobody holds.
#[derive(serde::Serialize)]
struct Line {
    lease: KnockId,
    user: String,
    action: String,
    /// Who knocked last, and whom the door is open for.
    from: IpAddr,
    opens_for: IpAddr,
    state: String,
    /// When it ends, Unix seconds by the wall clock of now.
    until: Option<u64>,
    seconds: Option<u64>,
}

/// Lists the leases in the store, whether or not the daemon runs.
pub(super) fn leases(args: &Leases) -> Result<(), Failure> {
    let document = Document::open(&args.at.config)?;
    let now = now();
    let lines: Vec<Line> =
        turns(now, &document)?.iter().flat_map(|(key, turn)| of_door(now, key, turn)).collect();
    if args.json {
        let json = serde_json::to_string_pretty(&lines).map_err(|error| internal(&error))?;
        return exit::say(&format!("{json}\n"));
    }
    let mut rows = vec![["LEASE", "USER", "ACTION", "FROM", "LEFT", "UNTIL", "STATE"].map(str::to_owned)];
    rows.extend(lines.into_iter().map(|line| {
        let left = line.seconds.map_or("-".to_owned(), |left| show_duration(Duration::from_secs(left)));
        let until = line.until.and_then(|until| Timestamp::from_second(until.try_into().ok()?).ok());
        let until = until.map_or("-".to_owned(), |until| until.to_string());
        let Line { lease, user, action, from, opens_for, state, .. } = line;
        let from = if from == opens_for { from.to_string() } else { format!("{from} for {opens_for}") };
        [lease.to_string(), user, action, from, left, until, state]
    }));
    exit::say(&exit::columns(&rows))
}

/// Who is let in by the doors of each action, and for how long.
pub(super) fn held(config: &Path) -> Result<BTreeMap<String, BTreeMap<IpAddr, Duration>>, Failure> {
    let now = now();
    let mut held: BTreeMap<String, BTreeMap<IpAddr, Duration>> = BTreeMap::new();
    for (DoorKey { action, source }, turn) in turns(now, &Document::open(config)?)? {
        let left = turn.leases.values().map(|lease| lease.until.saturating_sub(now.boot)).max();
        if let (Phase::Open, Some(left)) = (turn.phase, left.filter(|left| !left.is_zero())) {
            held.entry(action).or_default().insert(source, left);
        }
    }
    Ok(held)
}

fn now() -> Now {
    Now { mono: Duration::ZERO, boot: clock::boot(), wall: clock::wall() }
}

/// All doors in the store, with deadlines of this boot.
fn turns(now: Now, document: &Document) -> Result<Vec<(DoorKey, Turn)>, Failure> {
    let boot = Boot::read(now.unix());
    let revived = |(key, text): (DoorKey, String)| match Record::parse(&text) {
        Ok(record) => Ok((key, record.revive(now, &boot.id))),
        Err(bad) => Err(Failure::new(Exit::Config, format!("{key}: {bad}"))),
    };
    doors(document)?.into_iter().map(revived).collect()
}

fn of_door(now: Now, key: &DoorKey, turn: &Turn) -> Vec<Line> {
    let line = |lease, from, user: &str, state: String, left: Option<Duration>| Line {
        lease,
        user: user.to_owned(),
        action: key.action.clone(),
        from,
        opens_for: key.source,
        state,
        until: left.map(|left| now.wall.saturating_add(left).as_secs()),
        seconds: left.map(|left| left.as_secs()),
    };
    let state = match turn.phase {
        Phase::Opening => "opens",
        Phase::Open => "open",
        Phase::Closing(reason, attempt, _) => {
            let state = format!("closes ({reason}, attempt {attempt})");
            return vec![line(turn.lease, key.source, &turn.user, state, None)];
        }
    };
    let leases = turn.leases.iter().map(|(user, lease)| {
        let left = lease.until.saturating_sub(now.boot);
        let state = if left.is_zero() { "overdue" } else { state };
        line(lease.id, lease.from, user, state.to_owned(), Some(left))
    });
    leases.collect()
}

#[cfg(feature = "sqlite")]
fn doors(document: &Document) -> Result<Vec<(DoorKey, String)>, Failure> {
    if document.text("store") == Some("memory") {
        return Err(Failure::new(
            Exit::Config,
            "the leases are in the daemon's memory alone: store = \"memory\"",
        )
        .hint("its log has them: lease-began, lease-ended"));
    }
    let folder = folder(document, "state_dir", "/var/lib/siglatch");
    Ok(crate::store::sqlite::read_doors(&folder)?)
}

#[cfg(not(feature = "sqlite"))]
fn doors(_document: &Document) -> Result<Vec<(DoorKey, String)>, Failure> {
    Err(Failure::new(Exit::Config, "this build has no SQLite: the leases are in the daemon's memory alone"))
}

/// Ends leases, through the running daemon.
pub(super) fn revoke(args: &Revoke) -> Result<(), Failure> {
    let whom = match (&args.lease, &args.user) {
        (Some(lease), _) => Whom::Lease(*lease),
        (None, Some(user)) => Whom::User(user.to_string()),
        (None, None) => Whom::All,
    };
    let reply = ask(&args.way, &Request::Revoke(whom.clone()))?;
    let Reply::Revoked(count) = reply else { return Err(nothing(&reply)) };
    match count {
        0 if matches!(whom, Whom::Lease(_)) => {
            Err(Failure::new(Exit::TryAgain, "there is no such lease")
                .hint("`siglatchctl leases` lists them"))
        }
        0 => {
            // A daemon that is asked from afar may have another configuration.
            let here = args.way.tcp.is_none().then(|| Document::open(&args.way.config).ok()).flatten();
            here.zip(args.user.as_ref()).map_or(Ok(()), |(document, user)| known(&document, user))?;
            exit::say("0 leases revoked\n")
        }
        1 => exit::say("1 lease revoked\n"),
        count => exit::say(&format!("{count} leases revoked\n")),
    }
}
