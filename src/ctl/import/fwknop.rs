//! `siglatchctl import fwknop`: a user of each stanza, a door of what it opens.
//!
//! Keys are made anew: those of fwknop seal and sign otherwise. What cannot be in force is written as a comment, with the reason:
//! never is more opened, or to more people, than before.

mod access;
mod command;
mod door;
mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use toml_edit::Datetime;
use zeroize::Zeroizing;

use self::access::{Setting, Stanza};
use self::ports::Port;
use super::draft::{Draft, Table};
use super::report::Report;
use super::{Names, addresses};
use crate::config::files::{self, Secrecy};
use crate::config::{TEXT_MAX, show_duration};
use crate::ctl::args::import::ImportFwknop;
use crate::ctl::{internal, random};
use crate::exit::{Exit, Failure};
use crate::wire::HmacKey;

/// Runs the command.
pub(in crate::ctl) fn import(args: &ImportFwknop) -> Result<(), Failure> {
    let file = args.dir.join("access.conf");
    let stanzas = access::read(&file)?;
    if stanzas.is_empty() {
        return Err(Failure::new(Exit::Config, format!("{}: has no SOURCE, so no stanza", file.display())));
    }
    let mut moving = Moving {
        draft: Draft::new(&args.into)?,
        report: Report::default(),
        users: Vec::new(),
        actions: Vec::new(),
        known: BTreeMap::new(),
        doors: BTreeMap::new(),
        may_run: Vec::new(),
        action_names: Names::default(),
        said: BTreeSet::new(),
    };
    let top = moving.top(&args.dir)?;
    let mut names = Names::default();
    for (number, stanza) in (1..).zip(&stanzas) {
        let wanted = stanza.get("REQUIRE_USERNAME");
        let wanted = wanted.map_or_else(|| format!("user-{number}"), |setting| setting.value.clone());
        moving.user(stanza, number, &names.take(&wanted))?;
    }
    moving.draft.server_key(None)?;
    let about = format!(
        "# siglatchd's configuration, made from {file:?} of fwknop by siglatchctl import. Paths are relative to this file.\n\
         # After a change: siglatchctl check, then siglatchctl reload.\n\n"
    );
    let next = moving.next();
    let Moving { draft, report, users, actions, .. } = moving;
    let tables: Vec<Table> = users.into_iter().chain(actions).collect();
    super::finish(draft, &report, &about, &top, &tables, &next)
}

struct Moving {
    draft: Draft,
    report: Report,
    users: Vec<Table>,
    actions: Vec<Table>,
    /// Actions by what they do, so that stanzas that open the same share one.
    known: BTreeMap<String, String>,
    /// Doors of nftables, with their ports.
    doors: BTreeMap<String, BTreeSet<Port>>,
    /// Users in force, with their action.
    may_run: Vec<(String, String)>,
    action_names: Names,
    /// Remarks that are worth making once.
    said: BTreeSet<&'static str>,
}

impl Moving {
    fn left(&mut self, setting: &Setting, what: impl Into<String>) {
        self.report.left(&setting.place, &setting.key, what);
    }

    fn once(&mut self, setting: &Setting, what: &'static str) {
        if self.said.insert(what) {
            self.left(setting, what);
        }
    }

    fn off(&mut self, setting: &Setting, table: &mut Table, what: impl Into<String>) {
        let what = what.into();
        table.switch_off(&format!("{}: {what}", setting.key));
        self.report.decide(&setting.place, &setting.key, what);
    }

    /// The same port, so that what is in front of the server needs no change.
    fn top(&mut self, dir: &Path) -> Result<Table, Failure> {
        let file = dir.join("fwknopd.conf");
        let text =
            if file.exists() { files::read(&file, Secrecy::Public, TEXT_MAX)? } else { Zeroizing::default() };
        let text = String::from_utf8_lossy(&text);
        let settings = text.lines().filter_map(|line| line.trim().split_once([' ', '\t']));
        // The seconds that fwknopd takes a packet for if it is not told.
        let (mut port, mut age): (u16, u64) = (62_201, 120);
        for (key, value) in settings {
            let value = value.split(';').next().unwrap_or_default().trim();
            let place = file.display().to_string();
            let mut decide = |what: &str| self.report.decide(&place, key, format!("{value:?}: {what}"));
            match key {
                "UDPSERV_PORT" => port = value.parse().ok().filter(|port| *port != 0).unwrap_or(port),
                "PCAP_FILTER" => match value.strip_prefix("udp port ").map(str::parse) {
                    Some(Ok(written)) if written != 0 => port = written,
                    _ => decide("what it let through is for the firewall, and for `listen`, to say"),
                },
                "PCAP_INTF" => {
                    decide("siglatchd listens on all: write that interface's address into `listen`")
                }
                "MAX_SPA_PACKET_AGE" => match value.parse() {
                    Ok(seconds @ 1..) => age = seconds,
                    _ => decide("takes a number of seconds: `freshness`"),
                },
                _ => {}
            }
        }
        if file.exists() {
            self.report.left(
                &file.display().to_string(),
                "all but the port and the age of packets",
                "siglatchd has settings of its own",
            );
        }
        let mut top = Table::new("");
        top.comment("UDP addresses to listen on: the port that fwknop's clients knocked at.");
        top.list("listen", [format!("0.0.0.0:{port}"), format!("[::]:{port}")]);
        top.comment("How old a knock may be, as fwknopd had it, and how far its clock ahead.");
        top.put("freshness", show_duration(Duration::from_secs(age.clamp(FRESHNESS.0, FRESHNESS.1))));
        top.comment("The least that a knock must be bound to.");
        top.put("bind", "server");
        top.comment("What a stamped knock is answered with, once it has proved whose it is.");
        top.put("reply", "receipt");
        Ok(top)
    }

    fn user(&mut self, stanza: &Stanza, number: i64, name: &str) -> Result<(), Failure> {
        let mut table = Table::of("users", name);
        table.comment(&stanza.place);
        table.put("id", number);
        let key = format!("keys/{name}.hmac");
        table.put("hmac_key", key.as_str());
        let mut ports = BTreeSet::new();
        for (at, setting) in stanza.settings.iter().enumerate() {
            let mut behind = stanza.settings.iter().skip(at.saturating_add(1));
            match behind.find(|later| later.key == setting.key) {
                Some(later) => self.left(setting, format!("fwknopd takes that of {} instead", later.place)),
                None => self.setting(setting, stanza, &mut table, &mut ports),
            }
        }
        let action = if table.is_off() { None } else { self.action(stanza, &ports, &mut table) };
        table.list("actions", action.iter());
        if let (Some(action), false) = (action, table.is_off()) {
            self.may_run.push((name.to_owned(), action));
            let fresh = HmacKey::new(random()?).map_err(|error| internal(&error))?;
            let hex = Zeroizing::new(format!("{}\n", *fresh.to_hex()).into_bytes());
            self.draft.file(&key, hex, 0o600);
        }
        self.users.push(table);
        Ok(())
    }

    fn setting(&mut self, setting: &Setting, stanza: &Stanza, table: &mut Table, ports: &mut BTreeSet<Port>) {
        let any = setting.value.eq_ignore_ascii_case("ANY");
        match setting.key.as_str() {
            "FW_ACCESS_TIMEOUT" | "MAX_FW_TIMEOUT" | "CMD_CYCLE_OPEN" | "CMD_CYCLE_CLOSE"
            | "CMD_CYCLE_TIMER" | "REQUIRE_USERNAME" => {}
            "SOURCE" | "DESTINATION" if any => {}
            "SOURCE" => match addresses(setting.list()) {
                Ok(list) => table.list("allow_from", list),
                Err(what) => self.off(setting, table, what),
            },
            "DESTINATION" => self.off(setting, table, "knocks are taken at `listen`, whoever's they are"),
            "OPEN_PORTS" => {
                if setting.list().count() > 1 {
                    self.left(setting, "a knock opens all of them, where there it asked for some");
                }
                for port in setting.list().map(Port::parse) {
                    match port {
                        Ok(port) => drop(ports.insert(port)),
                        Err(what) => self.off(setting, table, what),
                    }
                }
            }
            "RESTRICT_PORTS" => self.restricted(setting, stanza, table),
            "REQUIRE_SOURCE_ADDRESS" | "REQUIRE_SOURCE" if setting.yes() => {
                table.put("bind", "source");
                self.left(setting, BOUND);
            }
            "REQUIRE_SOURCE_ADDRESS" | "REQUIRE_SOURCE" => self.once(setting, SOURCE),
            "ACCESS_EXPIRE" | "ACCESS_EXPIRE_EPOCH" => match expires(setting) {
                Some(moment) => table.put("not_after", moment),
                None => self.off(setting, table, "is no date that can be read"),
            },
            _ => self.rest(setting, stanza, table),
        }
    }

    /// Ports that are not to be opened, whatever else is said.
    fn restricted(&mut self, setting: &Setting, stanza: &Stanza, table: &mut Table) {
        let closed: Result<BTreeSet<Port>, String> = setting.list().map(Port::parse).collect();
        let open = stanza
            .get("OPEN_PORTS")
            .map(|open| open.list().filter_map(|port| Port::parse(port).ok()).collect());
        match (closed, open) {
            (Err(what), _) => self.off(setting, table, what),
            (Ok(_), None) => {
                self.off(setting, table, "it is not known which ports are opened: write OPEN_PORTS")
            }
            (Ok(closed), Some(open)) if closed.is_disjoint(&open) => {}
            (Ok(_), Some(_)) => {
                self.off(setting, table, "some of OPEN_PORTS are not to be opened: take them out there");
            }
        }
    }

    /// What has no equivalent.
    fn rest(&mut self, setting: &Setting, stanza: &Stanza, table: &mut Table) {
        let yes = setting.yes();
        match setting.key.as_str() {
            "ENABLE_CMD_EXEC" | "ENABLE_CMD_SUDO_EXEC" if yes => {
                self.report.decide(
                    &setting.place,
                    &setting.key,
                    "a knock brings no command here: write an action for each that is needed",
                );
            }
            "FORCE_NAT" | "FORCE_SNAT" => self.off(setting, table, NAT),
            "FORCE_MASQUERADE" | "FORWARD_ALL" | "DISABLE_DNAT" if yes => self.off(setting, table, NAT),
            "ENABLE_CMD_EXEC"
            | "ENABLE_CMD_SUDO_EXEC"
            | "FORCE_MASQUERADE"
            | "FORWARD_ALL"
            | "DISABLE_DNAT" => {}
            "CMD_EXEC_USER" | "CMD_EXEC_GROUP" if stanza.get("CMD_CYCLE_OPEN").is_some() => {
                self.report.decide(
                    &setting.place,
                    &setting.key,
                    "CMD_CYCLE_OPEN runs as the user that siglatchd runs as: write `run_as`, if it need not be root",
                );
            }
            key if (key.starts_with("KEY") || key.starts_with("HMAC_KEY"))
                && setting.value.contains(UNCHANGED) =>
            {
                self.off(setting, table, "was never changed, so nobody has had it");
            }
            key if key.starts_with("CMD_") || key == "SUDO_EXE" => {
                self.left(setting, "goes with commands that knocks bring")
            }
            key if key.contains("KEY")
                || key.starts_with("GPG_")
                || key.contains("MODE")
                || key.contains("DIGEST") =>
            {
                self.once(setting, KEYS);
            }
            _ => {
                self.report.decide(&setting.place, &setting.key, "is not known here: does it limit anything?")
            }
        }
    }

    fn next(&self) -> String {
        let config = format!("{}/siglatchd.toml", self.draft.dir().display());
        let mut text = String::new();
        if !self.doors.is_empty() {
            text.push_str(
                "next: the rules of the doors, each into a file that `siglatchctl firewall try` loads:\n",
            );
            text.push_str(&ports::snippets(&self.doors, &config));
        }
        if !self.may_run.is_empty() {
            text.push_str("next: an invite for each user, with a key of his own:\n");
        }
        for (user, action) in &self.may_run {
            text.push_str(&format!(
                "  siglatchctl user add {user} --action {action} --force --host NAME --config {config}\n"
            ));
        }
        text
    }
}

/// The moment, which fwknopd takes by this machine's time zone.
fn expires(setting: &Setting) -> Option<Datetime> {
    let moment = if setting.key == "ACCESS_EXPIRE_EPOCH" {
        Timestamp::from_second(setting.value.parse().ok()?).ok()?
    } else {
        let mut parts = setting.value.split('/').map(str::parse);
        let (month, day): (i8, i8) = (parts.next()?.ok()?, parts.next()?.ok()?);
        let mut year = setting.value.rsplit('/').map(str::parse::<i16>);
        let date = Date::new(year.next()?.ok()?, month, day).ok()?;
        date.to_zoned(TimeZone::system()).ok()?.timestamp()
    };
    // A year of two digits is long over.
    if moment.as_second() > 0 { moment.to_string().parse().ok() } else { None }
}

const KEYS: &str = "keys are made anew, for all users: fwknop's seal and sign otherwise";

const SOURCE: &str =
    "a door opens for the address that knocks; `source = \"payload\"` lets a knock name another";

const BOUND: &str = "his knocks are to be bound to the address that they arrive from, which his client has to be told if it is behind NAT: `siglatch knock --source`";

/// What access.conf has as it is delivered.
const UNCHANGED: &str = "__CHANGEME__";

/// Least and most that is taken for it, in seconds.
const FRESHNESS: (u64, u64) = (1, 3600);

const NAT: &str = "a door lets through what arrives at this machine, it translates no addresses";
