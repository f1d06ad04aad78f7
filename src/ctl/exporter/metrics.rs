//! A status in OpenMetrics text, or in the format of Prometheus before it. Pure.
//!
//! Every series whose labels are known beforehand is there from the start, at 0. Labels are reasons, lanes, results, codes and
//! names of the configuration; never an address, a user, a knock.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric, text};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::control::status::{Phase, Status};
use crate::reason::DropReason;

/// How the numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4, which every scraper reads.
    Prometheus,
}

impl Format {
    /// As HTTP names it.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// All numbers; of a daemon that does not answer, that it does not.
///
/// # Errors
///
/// None that a string could give.
pub(super) fn encode(status: Option<&Arc<Status>>, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("siglatch");
    registry.register_collector(Box::new(Numbers(status.cloned())));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    match format {
        Format::OpenMetrics => Ok(page),
        Format::Prometheus => older(&page),
    }
}

#[derive(Debug)]
struct Numbers(Option<Arc<Status>>);

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let page = &mut Page(encoder);
        page.gauge("up", "Whether siglatchd answers", u64::from(self.0.is_some()))?;
        let Some(status) = &self.0 else {
            return Ok(());
        };
        daemon(page, status)?;
        datagrams(page, status)?;
        scripts(page, status)?;
        doors(page, status)?;
        records(page, status)?;
        keys(page, status)?;
        config(page, status)
    }
}

fn daemon(page: &mut Page<'_>, status: &Status) -> fmt::Result {
    let version = [([("version", status.version.as_str())], 1)];
    page.gauges("build_info", "Always 1, labelled with the version of siglatchd", version)?;
    page.seconds("uptime", "Time since siglatchd started", status.up)?;
    let serving = match status.phase {
        Phase::Serving => 1,
        Phase::Starting | Phase::Stopping => 0,
    };
    page.gauge("serving", "Whether knocks are taken: 0 while it stops", serving)?;
    let listener = &status.listener;
    page.gauge("listener_up", "Whether the listener receives", u64::from(listener.well))?;
    page.counter("listener_restarts", "Listeners that took another's place", listener.restarts)?;
    let silence = Duration::from_millis(listener.silent).as_secs_f64();
    page.seconds("listener_silence", "Time since the keeper last heard the listener", silence)?;
    let mut codes = BTreeMap::<&str, u64>::new();
    for warning in &status.warnings {
        let count = codes.entry(&warning.code).or_default();
        *count = count.saturating_add(1);
    }
    let codes = codes.into_iter().map(|(code, count)| ([("code", code)], count));
    page.gauges("warnings", "What siglatchctl status warns of, by code", codes)
}

fn datagrams(page: &mut Page<'_>, status: &Status) -> fmt::Result {
    let counts = &status.counts;
    page.counter("datagrams_received", "Datagrams that came through the kernel's filter", counts.received)?;
    page.counter("knocks_granted", "Knocks that were granted", counts.ran)?;
    let mut refused: BTreeMap<&str, u64> = DropReason::ALL.iter().map(|reason| (reason.code(), 0)).collect();
    refused.extend(counts.refused.iter().map(|(code, count)| (code.as_str(), *count)));
    let refused = refused.into_iter().map(|(code, count)| ([("reason", code)], count));
    page.counters("datagrams_refused", "Datagrams that were refused, by reason", refused)?;
    page.counter(
        "kernel_drops",
        "Datagrams dropped by the kernel's filter or for want of room",
        counts.kernel_drops,
    )?;
    page.counter("receive_errors", "Calls to receive that failed", counts.receive_errors)?;
    page.counter("send_errors", "Answers that could not be sent", counts.send_errors)?;
    let lanes = [([("lane", "plain")], status.lanes.plain), ([("lane", "stamped")], status.lanes.stamped)];
    let opened = lanes.map(|(labels, lane)| (labels, lane.opened));
    page.counters("knocks_opened", "Sealed knocks that were opened with the RSA key, by lane", opened)?;
    let waiting = lanes.map(|(labels, lane)| (labels, lane.waiting));
    page.gauges("knocks_waiting", "Sealed knocks that wait for the RSA key, by lane", waiting)?;
    let short = lanes.map(|(labels, lane)| (labels, ConstGauge::new(lane.short_for.unwrap_or(0))));
    let help = "For how long the lane has had more knocks than can be opened; 0: it has not";
    page.many("lane_under_load", help, Some(&Unit::Seconds), short)
}

fn scripts(page: &mut Page<'_>, status: &Status) -> fmt::Result {
    let scripts = &status.scripts;
    page.gauge("scripts_running", "Scripts under way", scripts.running)?;
    let ended = scripts.ended.iter().flat_map(|(action, ended)| {
        [("succeeded", ended.succeeded), ("failed", ended.failed)]
            .map(|(result, count)| ([("action", action.as_str()), ("result", result)], count))
    });
    page.counters("scripts_ended", "Scripts that ended, by action; succeeded: with exit code 0", ended)?;
    let timed_out =
        scripts.ended.iter().map(|(action, ended)| ([("action", action.as_str())], ended.timed_out));
    page.counters("scripts_timed_out", "Scripts that were told to end, their time was up", timed_out)
}

fn doors(page: &mut Page<'_>, status: &Status) -> fmt::Result {
    let mut leases: BTreeMap<&str, u64> =
        status.scripts.ended.keys().map(|action| (action.as_str(), 0)).collect();
    for lease in &status.doors.leases {
        let count = leases.entry(&lease.action).or_default();
        *count = count.saturating_add(1);
    }
    let leases = leases.into_iter().map(|(action, count)| ([("action", action)], count));
    page.gauges("leases", "Leases on doors, by action", leases)?;
    page.gauge(
        "undo_failing",
        "Doors that could not be closed and are tried again",
        status.doors.undo_failing,
    )?;
    page.counter("undo_failures", "Attempts to close a door that failed", status.doors.undo_failed)?;
    page.gauge("webhooks_pending", "Webhooks still to be sent", status.webhooks.pending)?;
    page.gauge("webhooks_failed", "Webhooks that are tried no more, and are kept", status.webhooks.failed)
}

fn records(page: &mut Page<'_>, status: &Status) -> fmt::Result {
    let (store, audit) = (&status.store, &status.audit);
    page.gauge("store_up", "Whether the store works", u64::from(store.failing.is_none()))?;
    if let Some(claims) = store.claims {
        page.gauge("store_claims", "Claims that are remembered", claims)?;
    }
    page.gauge("store_claims_max", "Claims that may be remembered", store.max_claims)?;
    page.gauge("store_claims_waiting", "Claims that the store has not answered", store.waiting)?;
    let (up, file) = (u64::from(audit.broken.is_none()), u64::from(audit.failing.is_none()));
    page.gauge(
        "audit_up",
        "Whether siglatchd has found nothing wrong with the audit trail's file and key",
        up,
    )?;
    page.gauge("audit_file_up", "Whether the audit file can be written; the store makes up for it", file)?;
    page.gauge("audit_sequence", "Number of the last audit record", audit.seq)?;
    page.counter("audit_records_missed", "Audit records that could not be written", audit.missed)
}

fn keys(page: &mut Page<'_>, status: &Status) -> fmt::Result {
    let ages = status.keys.iter().map(|(kind, age)| ([("kind", kind.as_str())], ConstGauge::new(*age)));
    page.many(
        "key_age",
        "Age of the oldest key of each kind: server, user, totp",
        Some(&Unit::Seconds),
        ages,
    )?;
    let behind = status.rotation.as_ref().map_or(0, |rotation| rotation.behind);
    page.gauge(
        "server_key_users_behind",
        "Users who have not moved to the server's new key; 0 where one key is good",
        behind,
    )
}

fn config(page: &mut Page<'_>, status: &Status) -> fmt::Result {
    let config = &status.config;
    let count = |list: &[String]| list.len() as u64;
    page.gauge("config_users", "Users", config.users)?;
    page.gauge("config_actions", "Actions", config.actions)?;
    let reloads = [("succeeded", config.reloads), ("failed", config.reloads_failed)];
    let reloads = reloads.map(|(result, count)| ([("result", result)], count));
    page.counters("config_reloads", "Reloads, by result", reloads)?;
    let failed = config.last_reload.as_ref().is_some_and(|reload| reload.failed.is_some());
    page.gauge(
        "config_last_reload_successful",
        "0: the last reload failed, the configuration before it stays",
        u64::from(!failed),
    )?;
    if let Some(reload) = &config.last_reload {
        page.seconds("config_last_reload_timestamp", "When the last reload ended (Unix time)", reload.at)?;
    }
    page.gauge("config_unsaved", "Settings in force that the file does not hold", count(&config.unsaved))?;
    page.gauge("config_pending", "Settings that take effect at the next start", count(&config.pending))?;
    page.gauge("config_banned", "Networks that nobody is heard from", count(&config.banned))
}

/// Where it is written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.one(&ConstGauge::new(value), name, help, None)
    }

    fn seconds<V: EncodeGaugeValue>(&mut self, name: &str, help: &str, value: V) -> fmt::Result {
        self.one(&ConstGauge::new(value), name, help, Some(&Unit::Seconds))
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.one(&ConstCounter::new(value), name, help, None)
    }

    fn one(
        &mut self,
        metric: &impl EncodeMetric,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
    ) -> fmt::Result {
        metric.encode(self.0.encode_descriptor(name, help, unit, metric.metric_type())?)
    }

    fn gauges<'b, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'b str, &'b str); N], u64)>,
    ) -> fmt::Result {
        self.many(
            name,
            help,
            None,
            series.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value))),
        )
    }

    fn counters<'b, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'b str, &'b str); N], u64)>,
    ) -> fmt::Result {
        self.many(
            name,
            help,
            None,
            series.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value))),
        )
    }

    fn many<'b, M: EncodeMetric + TypedMetric, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        series: impl IntoIterator<Item = ([(&'b str, &'b str); N], M)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, M::TYPE)?;
        series.into_iter().try_for_each(|(labels, metric)| metric.encode(family.encode_family(&labels)?))
    }
}

/// OpenMetrics names a family of counters without the suffix that its series have; before it there was one name, and neither
/// units nor an end.
fn older(page: &str) -> Result<String, fmt::Error> {
    let mut older = String::with_capacity(page.len());
    let mut help = "";
    for line in page.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), _, text) => help = text.unwrap_or_default(),
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let suffix = if kind == "counter" { "_total" } else { "" };
                writeln!(older, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}")?;
            }
            (Some("#"), ..) => {}
            _ => writeln!(older, "{line}")?,
        }
    }
    Ok(older)
}
