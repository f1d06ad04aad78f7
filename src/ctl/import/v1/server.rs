//! `[server:NAME]`, and what stands above all sections.

use std::net::Ipv4Addr;

use super::{EMPTY, Moving, Old, UNKNOWN};
use crate::ctl::import::draft::Table;
use crate::ctl::import::ini::{Entry, Ini, Section};
use crate::exit::{Exit, Failure};

/// The server to import: siglatch v1 runs one of them.
pub(super) fn choose<'a>(ini: &'a Ini, asked: Option<&str>) -> Result<&'a Section, Failure> {
    let names: Vec<&str> = ini.all("server").map(|server| server.name.as_str()).collect();
    let find = |name: &str| {
        ini.find("server", name).ok_or_else(|| {
            Failure::new(Exit::Usage, format!("there is no [server:{name}]"))
                .hint(format!("the servers are: {}", names.join(", ")))
        })
    };
    if let Some(name) = asked {
        return find(name);
    }
    if let Some(entry) = ini.top.get("default_server") {
        return find(&entry.value);
    }
    let enabled = |server: &&Section| server.get("enabled").and_then(Entry::yes) == Some(true);
    let running: Vec<&Section> = ini.all("server").filter(enabled).collect();
    let all: Vec<&Section> = ini.all("server").collect();
    match (running.as_slice(), all.as_slice(), &ini.find("server", "secure")) {
        ([server], _, _) | (_, [server], _) | (_, _, Some(server)) => Ok(server),
        (_, [], None) => {
            let what = "there is no [server:NAME] in it, so it is no configuration of siglatchd";
            Err(Failure::new(Exit::Config, what)
                .hint("name the server's file; the client's are not imported"))
        }
        (_, _, None) => Err(Failure::new(Exit::Usage, "which of the servers?")
            .hint(format!("say it with --server: {}", names.join(", ")))),
    }
}

/// The top of the configuration.
pub(super) fn top(moving: &mut Moving<'_>) -> Result<Table, Failure> {
    let Old { ini, server, .. } = moving.old;
    let mut top = Table::new("");
    top.comment(
        "UDP address to listen on. siglatch v1 knew IPv4 alone: \"[::]:PORT\" beside it takes IPv6 as well.",
    );
    top.list("listen", [listen(moving)?]);
    top.comment("The least that a knock must be bound to: siglatch v1 clients bind theirs to nothing. `siglatchctl user add --force`");
    top.comment("moves one user after the other to a client that does; then write \"server\".");
    top.put("bind", "none");
    top.comment("What knocks are answered with that proved whose they are: stamped ones by a receipt, plain ones by a reply as");
    top.comment("siglatch v1 has it, for users with a `public_key`. \"never\": nothing.");
    top.put("reply", "receipt");
    for entry in &server.entries {
        setting(moving, server, entry, &mut top)?;
    }
    for entry in &ini.top.entries {
        global(moving, entry);
    }
    if server.get("secure").is_none() {
        moving.decide(server, None, format!("has no `secure`, which siglatch v1 takes for no: {PLAINTEXT}"));
    }
    if server.get("actions").is_none() {
        moving.decide(server, None, "has no `actions`, and so runs none of them: all are switched off");
    }
    Ok(top)
}

fn setting(moving: &mut Moving<'_>, server: &Section, entry: &Entry, top: &mut Table) -> Result<(), Failure> {
    match entry.key.as_str() {
        "port" | "bind_ip" | "priv_key_path" | "actions" | "deaddrops" | "label" | "name" | "id" => {}
        "enabled" => {
            if !moving.yes(server, entry) {
                moving.decide(
                    server,
                    Some(entry),
                    "was off, and would run now: start it only if that is meant",
                );
            }
        }
        "secure" => {
            if !moving.yes(server, entry) {
                moving.decide(server, Some(entry), PLAINTEXT);
            }
        }
        "allowed_ips" => {
            let list = super::addresses(entry.list()).map_err(|what| {
                Failure::new(Exit::Config, format!("{}: allowed_ips: {what}", moving.place(entry.line)))
            })?;
            if list.is_empty() {
                moving.decide(server, Some(entry), EMPTY);
            }
            top.list("allow_from", list);
        }
        "log_file" | "logging" | "output_mode" => moving.left(server, Some(entry), LOG),
        "payload_overflow" => moving.left(server, Some(entry), OVERFLOW),
        "enforce_wire_decode"
        | "enforce_wire_auth"
        | "reject_wire_decode_error"
        | "reject_wire_auth_error" => {
            moving.left(server, Some(entry), ALWAYS);
        }
        _ => moving.decide(server, Some(entry), UNKNOWN),
    }
    Ok(())
}

fn global(moving: &mut Moving<'_>, entry: &Entry) {
    let top = &moving.old.ini.top;
    match entry.key.as_str() {
        "priv_key_path" | "default_server" | "port" => {}
        "log_file" | "output_mode" => moving.left(top, Some(entry), LOG),
        "payload_overflow" => moving.left(top, Some(entry), OVERFLOW),
        _ => moving.decide(top, Some(entry), UNKNOWN),
    }
}

fn listen(moving: &Moving<'_>) -> Result<String, Failure> {
    let server = moving.old.server;
    let wrong = |entry: &Entry, what: &str| {
        Failure::new(Exit::Config, format!("{}: {} {what}", moving.place(entry.line), entry.key))
    };
    let port = match server.get("port") {
        None => 50_000,
        Some(entry) => entry
            .value
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| wrong(entry, "takes a number from 1 to 65535"))?,
    };
    let address: Ipv4Addr = match server.get("bind_ip").filter(|entry| !entry.value.is_empty()) {
        None => Ipv4Addr::UNSPECIFIED,
        Some(entry) => entry.value.parse().map_err(|_| wrong(entry, "takes an IPv4 address"))?,
    };
    let port: u16 = port;
    Ok(format!("{address}:{port}"))
}

const LOG: &str = "the log goes to standard error, or to systemd's journal: see [log]";
const PLAINTEXT: &str = "knocks that are not encrypted are taken by nobody here: move their clients first";
pub(super) const OVERFLOW: &str = "a packet that claims a longer payload than it can hold is always refused";
pub(super) const ALWAYS: &str = "what is not authentic is always refused";
