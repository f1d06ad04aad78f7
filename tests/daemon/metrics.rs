//! The exporter beside a real daemon, and what is shipped with it, read by the programs that it is for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siglatch::reason::DropReason;
use siglatch::wire::{Binding, Knock};

use crate::common::{Daemon, Site, knock, skipped, unix, until};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/prometheus");

/// What a program says of shipped files, standing in their folder.
fn says(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(SHIPPED).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {said}");
    said
}

/// How many rules are shipped.
fn rules() -> usize {
    let text = fs::read_to_string(format!("{SHIPPED}/alerts.yml")).unwrap();
    text.lines().filter(|line| line.trim_start().starts_with("- alert:")).count()
}

fn is_missing(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_err()
}

#[test]
fn the_alert_rules_are_raised_by_what_they_are_for_and_by_nothing_else() {
    if is_missing("promtool") {
        return skipped("prometheus is not here");
    }
    let found = format!("{} rules found", rules());
    assert!(says("promtool", &["check", "rules", "alerts.yml"]).contains(&found));
    assert!(says("promtool", &["test", "rules", "alerts.test.yml"]).contains("SUCCESS"));
    says("promtool", &["check", "config", "prometheus.yml"]);
}

#[test]
fn alerts_are_sent_where_their_severity_says() {
    if is_missing("amtool") {
        return skipped("prometheus-alertmanager is not here");
    }
    says("amtool", &["check-config", "alertmanager.yml"]);
    for (severity, receiver) in [("page", "page"), ("ticket", "ticket"), ("other", "log")] {
        let test = ["config", "routes", "test", "--config.file=alertmanager.yml"];
        let (receiver, severity) = (format!("--verify.receivers={receiver}"), format!("severity={severity}"));
        says("amtool", &[&test[..], &[&receiver, &severity, "alertname=SiglatchDown"]].concat());
    }
}

/// A running `siglatchctl exporter`.
struct Exporter {
    child: Child,
    address: SocketAddr,
}

impl Exporter {
    fn start(site: &Site) -> Exporter {
        let config = site.path("siglatchd.toml").display().to_string();
        Exporter::spawn(Command::new(env!("CARGO_BIN_EXE_siglatchctl")), &["--config", &config])
    }

    /// With a command line that begins as `command` does.
    fn spawn(mut command: Command, args: &[&str]) -> Exporter {
        command.args(["exporter", "--listen", "127.0.0.1:0"]).args(args);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("listening on http://").unwrap().strip_suffix("/metrics").unwrap();
        let address = address.parse().unwrap();
        Exporter { child, address }
    }

    /// Waits until all that the daemon has counted is so much.
    fn wait(&self, received: u64) -> BTreeMap<String, f64> {
        until("what was sent", || {
            let series = series(&get(self.address, "/metrics")?);
            (series.get("siglatch_datagrams_received_total") == Some(&count(received))).then_some(series)
        })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn count(count: u64) -> f64 {
    u32::try_from(count).unwrap().into()
}

/// The body of a 200; `None` of anything else.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let (head, body) = reply.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).filter(|status| *status == "200").map(|_| body.to_owned())
}

fn series(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// Sends some of everything; what must have been counted.
fn send_a_mix(site: &Site, daemon: &Daemon) -> BTreeMap<&'static str, u64> {
    let bound = Binding::Server(site.server_id);
    let from = |address: [u8; 4], datagram: &[u8]| {
        let socket = UdpSocket::bind((IpAddr::from(address), 0)).unwrap();
        socket.send_to(datagram, daemon.address).unwrap();
        // One after the other: none is refused for want of room.
        std::thread::sleep(Duration::from_millis(20));
    };
    let send = |datagram: &[u8]| from([127, 0, 0, 1], datagram);
    for _ in 0..3 {
        send(&site.datagram());
    }
    (0..5).for_each(|junk| send(&[junk; 256]));
    let twice = knock(1, b"");
    send(&site.sealed(&twice, bound));
    send(&site.sealed(&twice, bound));
    from([127, 0, 0, 2], &site.sealed(&twice, bound));
    let datagram = site.datagram();
    send(&datagram);
    send(&datagram);
    send(&datagram);
    send(&site.sealed(&Knock { timestamp: unix() - 1000, ..knock(1, b"") }, bound));
    send(&site.sealed(&Knock { timestamp: unix() + 1000, ..knock(1, b"") }, bound));
    send(&site.sealed(&knock(9, b""), bound));
    (0..2).for_each(|_| send(&site.sealed(&knock(2, b""), bound)));
    let mut forged = site.stamped(&knock(1, b""), bound);
    forged[150] ^= 1;
    send(&forged);
    BTreeMap::from([
        ("ran", 5),
        ("not-authentic", 5),
        ("replay", 1),
        ("contested", 1),
        ("seen", 2),
        ("stale", 1),
        ("ahead", 1),
        ("action-unknown", 1),
        ("not-permitted", 2),
        ("stamp", 1),
    ])
}

#[test]
fn the_numbers_are_what_was_sent() {
    let mut site = Site::new().with_run();
    site.action("other", 2, "exit 3");
    let daemon = site.start();
    let exporter = Exporter::start(&site);
    let fresh = exporter.wait(0);
    let zero = DropReason::ALL
        .iter()
        .map(|reason| format!("siglatch_datagrams_refused_total{{reason=\"{reason}\"}}"));
    let version = concat!("siglatch_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    assert_eq!(fresh.get(version), Some(&1.0));
    zero.for_each(|name| assert_eq!(fresh.get(&name), Some(&0.0), "{name}"));
    assert_eq!(fresh["siglatch_scripts_ended_total{action=\"other\",result=\"failed\"}"], 0.0);

    let mut sent = send_a_mix(&site, &daemon);
    let there = exporter.wait(sent.values().sum());
    let ran = sent.remove("ran").unwrap();
    assert_eq!(there["siglatch_knocks_granted_total"], count(ran));
    for reason in DropReason::ALL {
        let name = format!("siglatch_datagrams_refused_total{{reason=\"{reason}\"}}");
        let expected = sent.get(reason.code()).copied().unwrap_or(0);
        assert_eq!(there[&name], count(expected), "{reason}");
    }
    until("the scripts' ends", || {
        let series = series(&get(exporter.address, "/metrics")?);
        (series["siglatch_scripts_ended_total{action=\"run\",result=\"succeeded\"}"] == count(ran))
            .then_some(())
    });
    assert!(get(exporter.address, "/healthz").is_some_and(|said| said.contains("listener: ok")));
    assert!(get(exporter.address, "/readyz").is_some());
    let keys: serde_json::Value =
        serde_json::from_str(&get(exporter.address, "/.well-known/jwks.json").unwrap()).unwrap();
    let mut key = Command::new(env!("CARGO_BIN_EXE_siglatchctl"));
    key.args(["audit", "key", "--config"]).arg(site.path("siglatchd.toml"));
    let key = String::from_utf8(key.output().unwrap().stdout).unwrap();
    let x = URL_SAFE_NO_PAD.decode(keys["keys"][0]["x"].as_str().unwrap()).unwrap();
    let x: String = x.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(x.len() == 64 && key.contains(&x), "{keys} {key}");
    daemon.stop();
    until("a daemon that is gone", || get(exporter.address, "/healthz").is_none().then_some(()));
    assert_eq!(
        get(exporter.address, "/metrics").as_deref().map(series),
        Some([("siglatch_up".to_owned(), 0.0)].into())
    );
}

#[test]
fn a_viewer_who_can_read_nothing_of_the_servers_is_enough_for_it() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("an exporter with a user of its own needs root");
    }
    let mut site = Site::new().with_run();
    let folder = site.path("exporter");
    fs::create_dir(&folder).unwrap();
    let ctl = folder.join("siglatchctl");
    // By another program: what this one has open for writing, children of other tests have too, for a moment.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_siglatchctl")).arg(&ctl).status().unwrap().success());
    let key = folder.join("admin.key").display().to_string();
    let made = Command::new(&ctl)
        .args(["admin", "key", "--admin-key", &key, "--config"])
        .arg(site.write_config())
        .output()
        .unwrap();
    let public = String::from_utf8(made.stdout).unwrap();
    site.tables += "\n[control]\ngroup = \"daemon\"\n";
    site.tables += &format!("\n[admins.exporter]\npublic_key = \"{}\"\nrole = \"viewer\"\n", public.trim());
    let daemon = site.start();
    // He may go through, and read his own.
    fs::set_permissions(site.dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(&key, Some(uid("daemon")), None).unwrap();

    let mut command = Command::new("setpriv");
    command.args(["--reuid", "daemon", "--regid", "daemon", "--clear-groups", "--no-new-privs"]).arg(&ctl);
    let socket = site.path("runtime/control.sock").display().to_string();
    let exporter = Exporter::spawn(command, &["--socket", &socket, "--as", "exporter", "--admin-key", &key]);
    let page = get(exporter.address, "/metrics").unwrap();
    assert_eq!(series(&page).get("siglatch_up"), Some(&1.0), "{page}");
    daemon.stop();
}

#[test]
fn promtool_finds_nothing_to_better_in_the_numbers() {
    if is_missing("promtool") {
        return skipped("prometheus is not here");
    }
    let site = Site::new().with_run();
    let daemon = site.start();
    let exporter = Exporter::start(&site);
    let page = get(exporter.address, "/metrics").unwrap();
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{page}", String::from_utf8_lossy(&output.stderr));
    daemon.stop();
}

/// A program that scrapes and answers queries, until it is dropped.
struct Scraper(Child, SocketAddr);

impl Scraper {
    fn start(program: &str, args: &[String], address: SocketAddr) -> Scraper {
        let mut command = Command::new(program);
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        Scraper(command.spawn().unwrap(), address)
    }

    /// The value of a query with one answer.
    fn ask(&self, query: &str) -> Option<String> {
        let body = get(self.1, &format!("/api/v1/query?query={query}"))?;
        let reply: serde_json::Value = serde_json::from_str(&body).ok()?;
        Some(reply["data"]["result"][0]["value"][1].as_str()?.to_owned())
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn uid(name: &str) -> u32 {
    nix::unistd::User::from_name(name).unwrap().unwrap().uid.as_raw()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn prometheus_and_victoria_metrics_scrape_it_with_the_shipped_configuration() {
    if is_missing("prometheus") || Command::new("victoria-metrics").arg("-version").output().is_err() {
        return skipped("prometheus or victoria-metrics is not here");
    }
    let mut site = Site::new().with_run();
    site.action("other", 2, "exit 3");
    let daemon = site.start();
    let exporter = Exporter::start(&site);
    let sent: u64 = send_a_mix(&site, &daemon).values().sum();
    exporter.wait(sent);

    let shipped = fs::read_to_string(Path::new(SHIPPED).join("prometheus.yml")).unwrap();
    let ours = shipped.replace("127.0.0.1:9799", &exporter.address.to_string()).replace("15s", "1s");
    assert!(ours.contains(&exporter.address.to_string()));
    site.file("prometheus.yml", ours.as_bytes(), 0o600);
    fs::copy(Path::new(SHIPPED).join("alerts.yml"), site.path("alerts.yml")).unwrap();
    // It takes no rules and no Alertmanager.
    let scrapes = ours.split_once("scrape_configs:").unwrap().1;
    site.file(
        "victoria.yml",
        format!("global:\n  scrape_interval: 1s\nscrape_configs:{scrapes}").as_bytes(),
        0o600,
    );

    let path = |name: &str| site.path(name).display().to_string();
    let (one, two) = (free_address(), free_address());
    let prometheus = [
        format!("--config.file={}", path("prometheus.yml")),
        format!("--storage.tsdb.path={}", path("prometheus")),
        format!("--web.listen-address={one}"),
    ];
    let victoria = [
        format!("-promscrape.config={}", path("victoria.yml")),
        format!("-storageDataPath={}", path("victoria")),
        format!("-httpListenAddr={two}"),
        "-search.latencyOffset=0s".to_owned(),
    ];
    let prometheus = Scraper::start("prometheus", &prometheus, one);
    let victoria = Scraper::start("victoria-metrics", &victoria, two);
    for (name, scraper) in [("prometheus", &prometheus), ("victoria-metrics", &victoria)] {
        let expected = [
            ("siglatch_datagrams_received_total", sent.to_string()),
            ("siglatch_knocks_granted_total", "5".to_owned()),
            ("siglatch_datagrams_refused_total%7Breason=%22not-permitted%22%7D", "2".to_owned()),
            ("sum(siglatch_datagrams_refused_total)", (sent - 5).to_string()),
            ("up%7Bjob=%22siglatch%22%7D", "1".to_owned()),
        ];
        for (query, value) in expected {
            until(&format!("{name}: {query}"), || (scraper.ask(query)? == value).then_some(()));
        }
    }
    until("rules that were all evaluated, and well", || {
        let told: serde_json::Value = serde_json::from_str(&get(one, "/api/v1/rules")?).ok()?;
        let groups = told["data"]["groups"].as_array()?.clone();
        let known: Vec<_> =
            groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect();
        assert!(known.iter().all(|rule| rule["health"] != "err"), "{known:?}");
        (known.len() == rules() && known.iter().all(|rule| rule["health"] == "ok")).then_some(())
    });
    daemon.stop();
}

#[test]
fn each_query_of_the_dashboard_is_one_and_no_panel_covers_another() {
    if is_missing("promtool") {
        return skipped("prometheus is not here");
    }
    let dashboard = Path::new(SHIPPED).join("../grafana/siglatch.json");
    let dashboard: serde_json::Value = serde_json::from_str(&fs::read_to_string(dashboard).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let mut covered = BTreeSet::new();
    for panel in panels {
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(x < 24 && covered.insert((x, y)), "{}", panel["title"]);
            }
        }
    }
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.map(|target| {
        let query =
            target["expr"].as_str().unwrap().replace("$__rate_interval", "5m").replace("$instance", ".*");
        serde_json::json!({ "record": "siglatch:query", "expr": query })
    });
    let queries: Vec<_> = queries.collect();
    assert!(queries.len() > 30, "{}", queries.len());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.yml");
    let groups = (0..)
        .zip(queries)
        .map(|(at, query): (u32, _)| serde_json::json!({ "name": at.to_string(), "rules": [query] }));
    // JSON is YAML.
    fs::write(&file, serde_json::json!({ "groups": groups.collect::<Vec<_>>() }).to_string()).unwrap();
    says("promtool", &["check", "rules", file.to_str().unwrap()]);
}

#[test]
fn vector_scrapes_where_prometheus_does_and_each_of_its_sinks_has_a_source() {
    let shipped = |name: &str| fs::read_to_string(Path::new(SHIPPED).join(name)).unwrap();
    let vector: toml::Table = shipped("../vector/siglatch.toml").parse().unwrap();
    let endpoint = vector["sources"]["numbers"]["endpoints"][0].as_str().unwrap();
    let target = endpoint.strip_prefix("http://").unwrap().strip_suffix("/metrics").unwrap();
    assert!(shipped("prometheus.yml").contains(&format!("targets: [\"{target}\"]")), "{target}");
    let help = Command::new(env!("CARGO_BIN_EXE_siglatchctl")).args(["exporter", "--help"]).output().unwrap();
    assert!(String::from_utf8(help.stdout).unwrap().contains(target), "it serves elsewhere by default");
    let sinks = vector["sinks"].as_table().unwrap();
    assert_eq!(sinks.len(), 2);
    for (name, sink) in sinks {
        assert!(vector["sources"].get(sink["inputs"][0].as_str().unwrap()).is_some(), "{name}");
    }
}
