use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::metrics::{self, Format};
use super::serve::serve;
use crate::clock::Clock;
use crate::control::status::{
    Audit, Config, Counts, Doors, Ended, Lane, Lanes, Lease, Listener, Phase, Reload, Scripts, Status, Store,
    Warning, Webhooks,
};
use crate::exit::{Exit, Failure};
use crate::reason::DropReason;

/// A daemon that does its work.
pub(super) fn status() -> Status {
    let ended = [("ssh", Ended { succeeded: 5, failed: 2, timed_out: 1 }), ("web", Ended::default())];
    Status {
        version: "0.1.0".to_owned(),
        at: 1_800_000_000,
        up: 3600,
        phase: Phase::Serving,
        listen: vec!["0.0.0.0:50000".to_owned()],
        listener: Listener { well: true, restarts: 1, silent: 250 },
        lanes: Lanes {
            plain: Lane { opened: 60, waiting: 9, short_for: Some(75) },
            stamped: Lane { opened: 8, waiting: 0, short_for: None },
        },
        counts: Counts {
            received: 100,
            ran: 7,
            refused: DropReason::ALL
                .iter()
                .map(|reason| (reason.code().to_owned(), *reason as u64))
                .collect(),
            kernel_drops: 12,
            receive_errors: 1,
            send_errors: 2,
        },
        scripts: Scripts { running: 1, ended: ended.map(|(name, ended)| (name.to_owned(), ended)).into() },
        doors: Doors {
            leases: vec![Lease {
                lease: "0011223344556677".to_owned(),
                user: "alice".to_owned(),
                action: "ssh".to_owned(),
                from: [192, 0, 2, 7].into(),
                opens_for: [192, 0, 2, 7].into(),
                left: 60,
            }],
            undo_failing: 0,
            undo_failed: 3,
        },
        webhooks: Webhooks { pending: 4, failed: 5 },
        store: Store { failing: None, claims: Some(10), max_claims: 1000, waiting: 0 },
        audit: Audit {
            seq: 42,
            head: "0".repeat(64),
            public_key: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a".to_owned(),
            ..Audit::default()
        },
        keys: [("user".to_owned(), 86_400)].into(),
        config: Config {
            users: 3,
            actions: 2,
            reloads: 1,
            reloads_failed: 2,
            last_reload: Some(Reload { at: 1_799_999_000, failed: Some("line 3".to_owned()) }),
            ..Config::default()
        },
        warnings: vec![Warning {
            code: "sandbox-missing".to_owned(),
            what: "this kernel lacks a layer".to_owned(),
            hint: "update it".to_owned(),
        }],
        ..Status::default()
    }
}

fn page(status: Option<Status>, format: Format) -> String {
    metrics::encode(status.map(Arc::new).as_ref(), format).unwrap()
}

/// Name with labels, and value.
fn series(page: &str) -> BTreeMap<&str, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect()
}

#[test]
fn what_the_daemon_counted_is_what_is_shown() {
    let page = page(Some(status()), Format::OpenMetrics);
    let series = series(&page);
    let expected = [
        ("siglatch_up", 1.0),
        ("siglatch_build_info{version=\"0.1.0\"}", 1.0),
        ("siglatch_uptime_seconds", 3600.0),
        ("siglatch_listener_restarts_total", 1.0),
        ("siglatch_listener_silence_seconds", 0.25),
        ("siglatch_datagrams_received_total", 100.0),
        ("siglatch_knocks_granted_total", 7.0),
        ("siglatch_kernel_drops_total", 12.0),
        ("siglatch_lane_under_load_seconds{lane=\"plain\"}", 75.0),
        ("siglatch_lane_under_load_seconds{lane=\"stamped\"}", 0.0),
        ("siglatch_knocks_opened_total{lane=\"stamped\"}", 8.0),
        ("siglatch_knocks_waiting{lane=\"plain\"}", 9.0),
        ("siglatch_scripts_ended_total{action=\"ssh\",result=\"failed\"}", 2.0),
        ("siglatch_scripts_ended_total{action=\"web\",result=\"succeeded\"}", 0.0),
        ("siglatch_scripts_timed_out_total{action=\"ssh\"}", 1.0),
        ("siglatch_leases{action=\"ssh\"}", 1.0),
        ("siglatch_leases{action=\"web\"}", 0.0),
        ("siglatch_undo_failures_total", 3.0),
        ("siglatch_store_claims_max", 1000.0),
        ("siglatch_audit_sequence", 42.0),
        ("siglatch_key_age_seconds{kind=\"user\"}", 86_400.0),
        ("siglatch_config_reloads_total{result=\"failed\"}", 2.0),
        ("siglatch_config_last_reload_successful", 0.0),
        ("siglatch_config_last_reload_timestamp_seconds", 1_799_999_000.0),
        ("siglatch_warnings{code=\"sandbox-missing\"}", 1.0),
    ];
    for (name, value) in expected {
        assert_eq!(series.get(name), Some(&value), "{name}\n{page}");
    }
    for reason in DropReason::ALL {
        let name = format!("siglatch_datagrams_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(series.get(name.as_str()), Some(&f64::from(*reason as u8)), "{name}");
    }
    assert!(page.ends_with("# EOF\n"));
    assert!(!page.contains("192.0.2.7") && !page.contains("alice"), "{page}");
}

#[test]
fn every_counter_is_there_from_the_start() {
    let mut fresh = status();
    fresh.counts = Counts::default();
    fresh.config.last_reload = None;
    let page = page(Some(fresh), Format::OpenMetrics);
    let series = series(&page);
    let refused = series.iter().filter(|(name, _)| name.starts_with("siglatch_datagrams_refused_total{"));
    assert_eq!(refused.map(|(_, count)| *count).collect::<Vec<_>>(), vec![0.0; DropReason::ALL.len()]);
    assert_eq!(series["siglatch_config_last_reload_successful"], 1.0);
}

#[test]
fn the_older_format_has_the_same_series_and_names_each_family_as_they_are_named() {
    let (new, old) = (page(Some(status()), Format::OpenMetrics), page(Some(status()), Format::Prometheus));
    assert_eq!(series(&new), series(&old));
    for line in old.lines().filter(|line| line.starts_with("# TYPE")) {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[3] == "counter", words[2].ends_with("_total"), "{line}");
        let of_family = |line: &&str| line.split(['{', ' ']).next() == Some(words[2]);
        assert!(old.lines().any(|line| of_family(&line)), "{line} has no series");
    }
    assert!(!old.contains("# UNIT") && !old.contains("# EOF"), "{old}");
    assert!(old.contains("# HELP siglatch_knocks_granted_total Knocks that were granted\n"), "{old}");
}

#[test]
fn a_hostile_name_stays_one_label() {
    let mut hostile = status();
    let name = "a\"} 1\nsiglatch_up 0 \\";
    hostile.scripts.ended = [(name.to_owned(), Ended::default())].into();
    for format in [Format::OpenMetrics, Format::Prometheus] {
        let page = page(Some(hostile.clone()), format);
        assert_eq!(page.lines().filter(|line| line.starts_with("siglatch_up ")).count(), 1, "{page}");
        assert!(page.contains(r#"{action="a\"} 1\nsiglatch_up 0 \\"}"#), "{page}");
    }
}

#[test]
fn of_a_daemon_that_does_not_answer_it_is_said_that_it_is_down() {
    let page = page(None, Format::OpenMetrics);
    assert_eq!(series(&page), BTreeMap::from([("siglatch_up", 0.0)]));
}

/// Serves what `fetch` gives; it is asked at the counter.
fn served(
    mut fetch: impl FnMut() -> Result<Status, Failure> + Send + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let fetch = move || {
        count.fetch_add(1, Ordering::SeqCst);
        fetch()
    };
    std::thread::spawn(move || serve(listener, fetch));
    (address, asked)
}

fn request(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn get(address: SocketAddr, path: &str) -> String {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

#[test]
fn each_page_is_served_and_nothing_else() {
    let (address, _) = served(|| Ok(status()));
    let metrics = get(address, "/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{metrics}");
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let metrics = request(address, &format!("GET /metrics HTTP/1.1\r\n{accept}\r\n\r\n"));
    assert!(metrics.contains("Content-Type: application/openmetrics-text; version=1.0.0"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"));
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200 OK"));
    assert!(get(address, "/readyz").starts_with("HTTP/1.1 200 OK"));
    assert!(get(address, "/.well-known/jwks.json").contains("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"));
    assert!(get(address, "/").starts_with("HTTP/1.1 404"));
    assert!(
        request(address, "POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
            .starts_with("HTTP/1.1 405")
    );
    assert!(request(address, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
}

#[test]
fn a_daemon_that_is_down_is_unhealthy_and_still_scraped() {
    let (address, _) = served(|| Err(Failure::new(Exit::TryAgain, "cannot ask siglatchd")));
    let metrics = get(address, "/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 OK") && metrics.contains("\nsiglatch_up 0\n"), "{metrics}");
    for path in ["/healthz", "/readyz", "/.well-known/jwks.json"] {
        let reply = get(address, path);
        assert!(
            reply.starts_with("HTTP/1.1 503") && reply.contains("daemon: cannot ask siglatchd"),
            "{reply}"
        );
    }
}

#[test]
fn many_scrapes_ask_the_daemon_once_a_second() {
    let clock = Clock::start();
    let (address, asked) = served(|| Ok(status()));
    for _ in 0..50 {
        assert!(get(address, "/metrics").starts_with("HTTP/1.1 200 OK"));
    }
    let seconds = usize::try_from(clock.now().mono.as_secs()).unwrap();
    assert!(asked.load(Ordering::SeqCst) <= seconds + 1, "{} in {seconds} s", asked.load(Ordering::SeqCst));
}

#[test]
fn what_many_ask_at_once_is_asked_once_and_is_not_kept_for_later() {
    let (address, asked) = served(|| {
        std::thread::sleep(Duration::from_millis(200));
        Ok(status())
    });
    for round in 1..=3 {
        let clients: Vec<_> = (0..10).map(|_| std::thread::spawn(move || get(address, "/healthz"))).collect();
        assert!(clients.into_iter().all(|client| client.join().unwrap().starts_with("HTTP/1.1 200")));
        std::thread::sleep(Duration::from_millis(1200));
        assert_eq!(asked.load(Ordering::SeqCst), round);
    }
}

#[test]
fn silent_and_slow_clients_keep_nobody_out() {
    let (address, _) = served(|| Ok(status()));
    let mut idle: Vec<TcpStream> = (0..200).map(|_| connect(address)).collect();
    for stream in idle.iter_mut().skip(180) {
        // Those that were given up for others are gone.
        drop(stream.write_all(b"GET /met"));
    }
    // One that asks, closes its half and never reads.
    let mut deaf = connect(address);
    deaf.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    deaf.shutdown(Shutdown::Write).unwrap();
    let clock = Clock::start();
    for _ in 0..20 {
        assert!(get(address, "/healthz").starts_with("HTTP/1.1 200 OK"));
    }
    assert!(clock.now().mono < Duration::from_secs(4), "they had to wait for somebody's time to be up");
    // The last one keeps its place until its time is up.
    let mut last = idle.pop().unwrap();
    let mut rest = Vec::new();
    assert!(last.read_to_end(&mut rest).is_ok_and(|len| len == 0) || rest.is_empty());
    assert!(clock.now().mono < Duration::from_secs(15));
}

#[test]
fn a_head_that_comes_byte_by_byte_is_answered() {
    let (address, _) = served(|| Ok(status()));
    let mut stream = connect(address);
    for byte in b"GET /healthz HTTP/1.1\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK"), "{reply}");
}

#[test]
fn a_daemon_that_hangs_is_unhealthy_before_a_scrape_gives_up() {
    let (address, _) = served(|| {
        std::thread::sleep(Duration::from_secs(60));
        Ok(status())
    });
    let clock = Clock::start();
    let waiting = std::thread::spawn(move || get(address, "/healthz"));
    assert!(get(address, "/nothing").starts_with("HTTP/1.1 404"), "it holds up nobody else");
    let reply = waiting.join().unwrap();
    assert!(reply.starts_with("HTTP/1.1 503") && reply.contains("takes too long"), "{reply}");
    assert!(clock.now().mono < Duration::from_secs(10));
}

#[test]
fn a_head_without_an_end_is_refused_and_the_client_hears_why() {
    let (address, _) = served(|| Ok(status()));
    let reply = request(address, &format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(40_000)));
    assert!(reply.starts_with("HTTP/1.1 431"), "{reply}");
}

#[test]
fn what_documents_alerts_and_dashboard_name_is_there_and_all_of_it_is_documented() {
    let page = page(Some(status()), Format::Prometheus);
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let there: BTreeSet<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();
    let read =
        |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let document = read("docs/metrics.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `siglatch_"));
    let rows: BTreeSet<String> =
        rows.map(|row| format!("siglatch_{}", row.split('`').next().unwrap())).collect();
    assert_eq!(rows.iter().map(String::as_str).collect::<BTreeSet<_>>(), there);
    for path in
        ["config/prometheus/alerts.yml", "config/prometheus/alerts.test.yml", "config/grafana/siglatch.json"]
    {
        let text = read(path);
        let names = text.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
        let named: BTreeSet<&str> = names.filter(|name| name.starts_with("siglatch_")).collect();
        assert!(named.len() > 10, "{path}");
        assert_eq!(named.difference(&there).collect::<Vec<_>>(), [&""; 0], "{path}");
    }
}
