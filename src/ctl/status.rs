//! `siglatchctl status` and `version`: the running daemon on one screen.

use std::time::Duration;

use super::args::{StatusOf, Way};
use super::ask::Daemon;
use super::{internal, steer};
use crate::config::show_duration;
use crate::control::status::{Config, Counts, Ended, Lane, Phase, Rotation, Status};
use crate::exit::{self, Failure};

/// Shows it.
pub(super) fn status(args: &StatusOf) -> Result<(), Failure> {
    let status = steer::status(&args.way)?;
    if args.json {
        let text = serde_json::to_string_pretty(&status).map_err(|error| internal(&error))?;
        return exit::say(&format!("{text}\n"));
    }
    exit::say(&screen(&status))
}

/// The versions of both ends.
pub(super) fn version(way: &Way) -> Result<(), Failure> {
    let ours = env!("CARGO_PKG_VERSION");
    exit::say(&format!("siglatchctl {ours}\n"))?;
    let daemon = Daemon::connect(way)?;
    exit::say(&format!("siglatchd   {}\n", daemon.version()))
}

fn screen(status: &Status) -> String {
    let time = |seconds: u64| show_duration(Duration::from_secs(seconds));
    let mut lines = head(status);
    let ended = status.scripts.ended.values();
    let sum = |count: fn(&Ended) -> u64| ended.clone().map(count).fold(0, u64::saturating_add);
    let (well, failed, late) =
        (sum(|ended| ended.succeeded), sum(|ended| ended.failed), sum(|ended| ended.timed_out));
    let running = status.scripts.running;
    lines.push((
        "scripts",
        format!("{running} running, {well} ended well, {failed} failed ({late} timed out)"),
    ));
    let longest = status.doors.leases.iter().map(|lease| lease.left).max();
    let until = longest.map_or(String::new(), |left| format!(", the last ends in {}", time(left)));
    lines.push(("leases", format!("{}{until}", status.doors.leases.len())));
    let store = &status.store;
    let state = store.failing.as_deref().unwrap_or("works");
    let claims = store.claims.map(|claims| format!("; {claims} of {} claims", store.max_claims));
    lines.push(("store", format!("{state}{}", claims.unwrap_or_default())));
    lines.extend(status.rotation.as_ref().map(rotation));
    lines.extend(configuration(&status.config));
    for warning in &status.warnings {
        lines.push(("WARNING", warning.what.clone()));
        lines.push(("", format!("-> {}", warning.hint)));
    }
    lines.iter().map(|(name, text)| format!("{name:<14} {text}\n")).collect()
}

type Line = (&'static str, String);

/// The daemon, and what came over the network.
fn head(status: &Status) -> Vec<Line> {
    let time = |seconds: u64| show_duration(Duration::from_secs(seconds));
    let phase = match status.phase {
        Phase::Serving => "",
        Phase::Starting => ", starting",
        Phase::Stopping => ", stopping",
    };
    let listener = match (status.listener.well, status.listener.restarts) {
        (true, 0) => String::new(),
        (true, restarts) => format!(" (listener restarts: {restarts})"),
        (false, restarts) => format!(" (NOBODY LISTENS; listener restarts: {restarts})"),
    };
    let lane = |Lane { opened, waiting, short_for }: Lane| match short_for {
        Some(seconds) => format!("{opened} opened, {waiting} waiting; UNDER LOAD for {}", time(seconds)),
        None => format!("{opened} opened, {waiting} waiting"),
    };
    let Counts { received, ran, refused, kernel_drops, .. } = &status.counts;
    let refused: Vec<String> = refused
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(code, count)| format!("{code} {count}"))
        .collect();
    vec![
        ("siglatchd", format!("{}, up {}{phase}", status.version, time(status.up))),
        ("listening", format!("{}{listener}", status.listen.join(" "))),
        ("stamped", lane(status.lanes.stamped)),
        ("plain", lane(status.lanes.plain)),
        ("datagrams", format!("{received} received, {ran} ran; kernel drops: {kernel_drops}")),
        ("refused", if refused.is_empty() { "none".to_owned() } else { refused.join(", ") }),
    ]
}

/// Who has not moved to the server's new key.
fn rotation(Rotation { users, behind, names, .. }: &Rotation) -> Line {
    let text = match behind {
        0 => "everybody has moved to the new one: siglatchctl key rotate server --finish".to_owned(),
        _ => {
            let more = if (names.len() as u64) < *behind { ", ..." } else { "" };
            format!("{behind} of {users} users have not moved to the new one: {}{more}", names.join(", "))
        }
    };
    ("server key", text)
}

fn configuration(config: &Config) -> Vec<Line> {
    let last = config.last_reload.as_ref().map_or("none".to_owned(), |reload| {
        let when = i64::try_from(reload.at).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
        let when = when.map(|when| when.to_string()).unwrap_or_default();
        match &reload.failed {
            None => when,
            Some(why) => format!("{when}, FAILED: {why}"),
        }
    });
    let about = format!("{}: {} users, {} actions", config.path, config.users, config.actions);
    let mut lines = vec![("configuration", about), ("last reload", last)];
    if !config.expired.is_empty() {
        lines.push(("expired", config.expired.join(", ")));
    }
    lines.extend(config.unsaved.iter().map(|setting| ("not saved", setting.clone())));
    lines.extend(config.pending.iter().map(|setting| ("at next start", setting.clone())));
    lines.extend(config.banned.iter().map(|net| ("banned", net.clone())));
    lines
}
