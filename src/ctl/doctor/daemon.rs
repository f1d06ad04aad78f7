//! What the running daemon says of itself.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use super::Finding;
use crate::config::show_duration;
use crate::control::status::{Phase, Reload, Status};
use crate::ctl::admin;
use crate::ctl::args::Way;
use crate::ctl::ask::folder;
use crate::ctl::document::Document;
use crate::ctl::steer;

/// Asks it. A key to ask with is not made here.
pub(super) fn ask(way: &Way, document: &Document) -> Vec<Finding> {
    let key = way.admin_key.clone().unwrap_or_else(|| document.folder().join(admin::FILE));
    if let Err(error) = key.symlink_metadata() {
        let what =
            format!("siglatchd cannot be asked: there is no key to sign with: {}: {error}", key.display());
        return vec![Finding::doubt(what, "siglatchctl admin add NAME --role admin makes and enrols it")];
    }
    match steer::status(way) {
        Ok(status) => {
            let mut findings = examine(&status);
            findings.extend(same(&status, document));
            findings.extend(drops(&status, room_errors()));
            findings.extend(put_aside(document));
            findings
        }
        Err(failure) => {
            let mend = failure.hint.unwrap_or_else(|| "siglatchctl status".to_owned());
            vec![Finding::bad(format!("siglatchd cannot be asked: {}", failure.what), mend)]
        }
    }
}

/// Settings that waited for a start which failed with them.
fn put_aside(document: &Document) -> Option<Finding> {
    let file = folder(document, "state_dir", "/var/lib/siglatch").join("pending.failed.toml");
    let what = format!("settings could not be used at a start, and were put aside: {}", file.display());
    file.exists()
        .then(|| Finding::doubt(what, "set what is still wanted as it is to be, then remove the file"))
}

/// What it does and has done.
pub(super) fn examine(status: &Status) -> Vec<Finding> {
    let up = show_duration(Duration::from_secs(status.up));
    let ours = env!("CARGO_PKG_VERSION");
    let mut findings = vec![match status.phase {
        Phase::Starting => Finding::doubt("siglatchd is starting", "ask again in a moment"),
        Phase::Serving => Finding::good(format!("siglatchd {} answers, up {up}", status.version)),
        Phase::Stopping => Finding::bad("siglatchd is stopping", "start it again: systemctl start siglatchd"),
    }];
    if status.version != ours {
        let what = format!("siglatchd runs as {}, and this is siglatchctl {ours}", status.version);
        findings.push(Finding::doubt(what, "restart it: systemctl restart siglatchd"));
    }
    if status.listener.restarts > 0 {
        let what = format!("its listener ended and was started again: {} times", status.listener.restarts);
        findings.push(Finding::doubt(what, "the log says why: journalctl -u siglatchd"));
    }
    if status.audit.missed > 0 {
        let what = format!("records that are missing in the audit trail: {}", status.audit.missed);
        findings.push(Finding::doubt(what, "the log says why; look at the disk of `state_dir`"));
    }
    if !status.config.pending.is_empty() {
        let what = format!("these wait for its next start: {}", status.config.pending.join(", "));
        findings.push(Finding::doubt(what, "restart it, or forget them: siglatchctl pending --discard"));
    }
    findings.extend(status.warnings.iter().map(|warning| {
        let finding = if BAD.contains(&warning.code.as_str()) { Finding::bad } else { Finding::doubt };
        finding(warning.what.clone(), warning.hint.clone())
    }));
    findings
}

/// Whether it runs with the configuration that is looked at, as it is now.
fn same(status: &Status, document: &Document) -> Option<Finding> {
    let real = |path: &Path| path.canonicalize().ok();
    let theirs = Path::new(&status.config.path);
    if real(theirs) != real(document.path()) {
        let what = format!("it runs with another configuration: {}", theirs.display());
        return Some(Finding::doubt(what, "name that with --config, or its socket with --socket"));
    }
    let started = status.at.saturating_sub(status.up);
    let read = match &status.config.last_reload {
        Some(Reload { at, failed: None }) => *at,
        Some(Reload { failed: Some(_), .. }) | None => started,
    };
    let changed = |file: &&Path| {
        let written = file.metadata().ok().and_then(|meta| u64::try_from(meta.mtime()).ok());
        written.is_some_and(|written| written > read)
    };
    let changed = document.files().find(changed)?;
    let what = format!("{} was changed after siglatchd read it", changed.display());
    Some(Finding::doubt(what, "siglatchctl check; siglatchctl reload"))
}

/// Datagrams that the kernel dropped: what was no knock by its length, or what found no room. Only the second is a loss, and it is
/// counted for the whole machine, as `lost`.
pub(super) fn drops(status: &Status, lost: u64) -> Option<Finding> {
    let dropped = status.counts.kernel_drops;
    if dropped == 0 {
        return Some(Finding::good("the kernel has dropped no datagram in front of it"));
    }
    if lost == 0 {
        return Some(Finding::good(format!(
            "the kernel has dropped {dropped} datagrams that were no knocks"
        )));
    }
    let what = format!(
        "the kernel has dropped {dropped} datagrams in front of it, knocks perhaps: since boot, {lost} of this machine's found a full buffer"
    );
    let mend = "sysctl -w net.core.rmem_max=1048576, then restart siglatchd; and `limits.workers`, if the load lasts";
    Some(Finding::doubt(what, mend))
}

/// UDP datagrams that found a full buffer, in this network namespace since it is there.
fn room_errors() -> u64 {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    room_errors_in(&read("/proc/net/snmp"), &read("/proc/net/snmp6"))
}

/// `snmp` has a line of names and one of numbers; `snmp6` a name and a number a line.
pub(super) fn room_errors_in(snmp: &str, snmp6: &str) -> u64 {
    let mut rows = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, numbers) = (rows.next().unwrap_or_default(), rows.next().unwrap_or_default());
    let v4 = names.split(' ').zip(numbers.split(' ')).find(|(name, _)| *name == "RcvbufErrors");
    let mut rows = snmp6.lines().filter_map(|line| line.split_once(char::is_whitespace));
    let v6 = rows.find(|(name, _)| *name == "Udp6RcvbufErrors");
    let numbers = [v4, v6].into_iter().flatten().filter_map(|(_, number)| number.trim().parse::<u64>().ok());
    numbers.fold(0, u64::saturating_add)
}

/// Warnings of a daemon that does not do what it is there for.
const BAD: &[&str] = &["listener-silent", "store-failing", "undo-failed", "audit-broken"];
