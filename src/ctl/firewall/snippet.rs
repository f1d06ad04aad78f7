//! `siglatchctl firewall snippet`: the ruleset of some doors, with its reasons.

use std::collections::BTreeMap;

use crate::config;
use crate::config::resolved::{NftDoor, NftSet};
use crate::ctl::args::Snippet;
use crate::exit::{self, Exit, Failure};
use crate::wire::invite::Name;

/// Prints the ruleset to include.
pub(in crate::ctl) fn snippet(args: &Snippet) -> Result<(), Failure> {
    let doors = config::doors_telling(&args.at.config)?;
    let sets = args.actions.iter().map(|name| set(&doors.nft, name)).collect::<Result<Vec<_>, _>>()?;
    let table = sets.first().map_or("siglatch", |set| &set.table);
    if let Some(other) = sets.iter().find(|set| set.table != table) {
        let what = format!("the sets are in two tables, {table} and {}", other.table);
        return Err(Failure::new(Exit::Config, what)
            .hint("a rule sees the sets of its own table: name one `table` in the configuration"));
    }
    if let Some(knocks) = doors.listen.iter().find(|address| args.udp.contains(&address.port())) {
        let what = format!("knocks arrive at {knocks}: with that port closed no door would ever open");
        return Err(Failure::new(Exit::Config, what).hint("name the ports of what is behind the doors"));
    }
    let names: Vec<&str> = args.actions.iter().map(Name::as_str).collect();
    let mut ports = protocol("tcp", &args.tcp);
    ports.extend(protocol("udp", &args.udp));
    exit::say(&ruleset(table, &sets, &names.join(", "), &ports))
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

fn protocol(name: &'static str, ports: &[u16]) -> Vec<(&'static str, u16)> {
    ports.iter().map(|port| (name, *port)).collect()
}

fn ruleset(table: &str, sets: &[&NftSet], names: &str, ports: &[(&str, u16)]) -> String {
    let shown: Vec<String> = ports.iter().map(|(protocol, port)| format!("{protocol} {port}")).collect();
    let chain = format!("doors-{}", shown.join("-").replace(' ', "-"));
    let mut lists = String::new();
    let mut rules = String::new();
    for set in sets {
        let (v4, v6) = (set.v4(), set.v6());
        line(&mut lists, &format!("set {v4} {{ type ipv4_addr; flags timeout; }}"));
        line(&mut lists, &format!("set {v6} {{ type ipv6_addr; flags timeout; }}"));
    }
    for (protocol, port) in ports {
        for set in sets {
            line(&mut rules, &format!("    ip saddr @{} {protocol} dport {port} accept", set.v4()));
            line(&mut rules, &format!("    ip6 saddr @{} {protocol} dport {port} accept", set.v6()));
        }
    }
    line(
        &mut rules,
        "    # Closed for all others. Of TCP only attempts to connect are dropped: a session from before",
    );
    line(&mut rules, "    # these rules is not tracked yet, and goes on.");
    for (protocol, port) in ports {
        let only = if *protocol == "tcp" { " tcp flags & (syn | ack) == syn" } else { "" };
        line(&mut rules, &format!("    {protocol} dport {port}{only} drop"));
    }
    TEMPLATE
        .replace("@NAMES", names)
        .replace("@PORTS", &shown.join(", "))
        .replace("@TABLE", table)
        .replace("@CHAIN", &chain)
        .replace("@SETS\n", &lists)
        .replace("@RULES\n", &rules)
}

fn line(text: &mut String, line: &str) {
    text.push_str(&format!("    {line}\n"));
}

const TEMPLATE: &str = r#"# Doors of siglatch: @NAMES (@PORTS).
#
#   siglatchctl firewall try --revert 5m FILE    loads this file, and takes it back unless you confirm it
#   siglatchctl doctor                           says whether the doors would open
#
# Include it in /etc/nftables.conf, or a reboot leaves the port open. Loading it again keeps the addresses that are in
# the sets. Doors of the same port belong into one file: print them together.

table inet @TABLE {
    # The kernel takes each address out when its own timeout is over, whether siglatchd runs or not.
@SETS

    chain @CHAIN {
        # A drop is final, whatever other tables say. An accept is not: it ends this chain, and every other one at this
        # hook is still asked (those of ufw, firewalld or Docker too). So this chain only closes; where another
        # firewall drops by default, open the port there, for everybody: this one keeps them out.
        type filter hook input priority filter - 5; policy accept;
    }
}

flush chain inet @TABLE @CHAIN

table inet @TABLE {
    chain @CHAIN {
        # A session outlives its door. (And who tracks connections sees no fragments, only whole packets.)
        ct state established,related accept
        # This machine itself needs no knock.
        iif "lo" accept
@RULES
    }
}
"#;
