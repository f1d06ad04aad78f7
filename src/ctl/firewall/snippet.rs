//! `siglatchctl firewall snippet`: the ruleset of some doors, with its reasons.

use std::collections::{BTreeMap, BTreeSet};

use crate::config;
use crate::config::resolved::{NftDoor, NftSet};
use crate::ctl::args::Snippet;
use crate::exit::{self, Exit, Failure};
use crate::wire::invite::Name;

/// Prints the ruleset to include.
pub(in crate::ctl) fn snippet(args: &Snippet) -> Result<(), Failure> {
    let doors = config::doors_telling(&args.at.config)?;
    let by_port = by_port(args)?;
    let actions: BTreeSet<&Name> = args.doors.iter().map(|door| &door.action).collect();
    let sets = actions.iter().map(|name| Ok((*name, set(&doors.nft, name)?)));
    let sets = sets.collect::<Result<BTreeMap<_, _>, Failure>>()?;
    let table = sets.values().next().map_or("siglatch", |set| &set.table);
    if let Some(other) = sets.values().find(|set| set.table != table) {
        let what = format!("the sets are in two tables, {table} and {}", other.table);
        return Err(Failure::new(Exit::Config, what)
            .hint("a rule sees the sets of its own table: name one `table` in the configuration"));
    }
    if let Some(knocks) = doors.listen.iter().find(|address| by_port.contains_key(&("udp", address.port()))) {
        let what = format!("knocks arrive at {knocks}: with that port closed no door would ever open");
        return Err(Failure::new(Exit::Config, what).hint("name the ports of what is behind the doors"));
    }
    exit::say(&ruleset(table, &sets, &by_port))
}

/// Protocol and number.
type Port = (&'static str, u16);

/// Who is let in to each port.
fn by_port(args: &Snippet) -> Result<BTreeMap<Port, BTreeSet<&Name>>, Failure> {
    let tcp = args.tcp.iter().map(|port| ("tcp", *port));
    let ports: BTreeSet<Port> = tcp.chain(args.udp.iter().map(|port| ("udp", *port))).collect();
    let plain = args.doors.iter().filter(|door| door.port.is_none()).map(|door| &door.action);
    let plain: BTreeSet<&Name> = plain.collect();
    let wrong = match (plain.first(), ports.len()) {
        (Some(action), 0) => Some((
            format!("which port is behind {action}?"),
            "say it with --tcp PORT or --udp PORT, or behind a colon: ssh:tcp/22",
        )),
        (None, 1..) => Some((
            "every action has its port already".to_owned(),
            "leave --tcp and --udp out, or name an action without a port",
        )),
        // Each of them would open every port.
        (Some(_), 2..) if plain.len() > 1 => Some((
            "which port is behind which action?".to_owned(),
            "say it of each: siglatchctl firewall snippet ssh:tcp/22 wireguard:udp/51820",
        )),
        (Some(_), 1..) | (None, 0) => None,
    };
    if let Some((what, hint)) = wrong {
        return Err(Failure::new(Exit::Usage, what).hint(hint));
    }
    let mut by_port: BTreeMap<Port, BTreeSet<&Name>> =
        ports.into_iter().map(|port| (port, plain.clone())).collect();
    for door in &args.doors {
        if let Some(port) = door.port {
            by_port.entry(port).or_default().insert(&door.action);
        }
    }
    Ok(by_port)
}

fn set<'d>(doors: &'d BTreeMap<String, NftDoor>, name: &Name) -> Result<&'d NftSet, Failure> {
    let name = name.as_str();
    let Some(door) = doors.get(name) else {
        let names: Vec<&str> = doors.keys().map(String::as_str).collect();
        let hint = match names.as_slice() {
            [] => "write nft = { family = \"inet\", table = \"siglatch\", set = \"...\" } in its table"
                .to_owned(),
            names => format!("those that have it: {}", names.join(", ")),
        };
        return Err(Failure::new(Exit::Config, format!("no action `{name}` has `nft`")).hint(hint));
    };
    Ok(&door.set)
}

fn ruleset(
    table: &str,
    sets: &BTreeMap<&Name, &NftSet>,
    by_port: &BTreeMap<Port, BTreeSet<&Name>>,
) -> String {
    let (mut lists, mut chains, mut flushes, mut rules) = <(String, String, String, String)>::default();
    for set in sets.values() {
        line(&mut lists, &format!("set {} {{ type ipv4_addr; flags timeout; }}", set.v4()));
        line(&mut lists, &format!("set {} {{ type ipv6_addr; flags timeout; }}", set.v6()));
    }
    for ((protocol, port), actions) in by_port {
        let chain = format!("doors-{protocol}-{port}");
        let base = "type filter hook input priority filter - 5; policy accept;";
        line(&mut chains, &format!("chain {chain} {{ {base} }}"));
        flushes.push_str(&format!("flush chain inet {table} {chain}\n"));
        line(&mut rules, &format!("chain {chain} {{"));
        line(&mut rules, KEPT);
        for set in actions.iter().filter_map(|action| sets.get(action)) {
            line(&mut rules, &format!("    ip saddr @{} {protocol} dport {port} accept", set.v4()));
            line(&mut rules, &format!("    ip6 saddr @{} {protocol} dport {port} accept", set.v6()));
        }
        let only = if *protocol == "tcp" { " tcp flags & (syn | ack) == syn" } else { "" };
        line(&mut rules, &format!("    {protocol} dport {port}{only} drop"));
        line(&mut rules, "}");
    }
    let names: Vec<&str> = sets.keys().map(|name| name.as_str()).collect();
    let ports: Vec<String> = by_port.keys().map(|(protocol, port)| format!("{protocol} {port}")).collect();
    TEMPLATE
        .replace("@NAMES", &names.join(", "))
        .replace("@PORTS", &ports.join(", "))
        .replace("@TABLE", table)
        .replace("@SETS\n", &lists)
        .replace("@CHAINS\n", &chains)
        .replace("@FLUSHES\n", &flushes)
        .replace("@RULES\n", &rules)
}

fn line(text: &mut String, line: &str) {
    text.push_str(&format!("    {line}\n"));
}

/// What is let through before any door is asked.
const KEPT: &str = "    ct state established,related accept\n        iif \"lo\" accept";

const TEMPLATE: &str = r#"# Doors of siglatch: @NAMES (@PORTS).
#
#   siglatchctl firewall try --revert 5m FILE    loads this file, and takes it back unless you confirm it
#   siglatchctl doctor                           says whether the doors would open
#
# Include it in /etc/nftables.conf, or a reboot leaves the port open. Loading it again keeps the addresses that are in
# the sets. All doors of a port belong into one file: its chain has no other rules than those that were loaded last.

table inet @TABLE {
    # The kernel takes each address out when its own timeout is over, whether siglatchd runs or not.
@SETS

    # A drop is final, whatever other tables say. An accept is not: it ends its chain, and every other one at this hook
    # is still asked (those of ufw, firewalld or Docker too). So these chains only close; where another firewall drops by
    # default, open the port there, for everybody: these keep them out.
@CHAINS
}

@FLUSHES

table inet @TABLE {
    # A session outlives its door. (And who tracks connections sees no fragments, only whole packets.) This machine itself
    # needs no knock. The port is closed for all others. Of TCP only attempts to connect are dropped: a session from before
    # these rules is not tracked yet, and goes on.
@RULES
}
"#;
