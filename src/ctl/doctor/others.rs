//! What other firewalls do with the packets that a door lets through: every base chain at the hook is asked, in the order of
//! priorities, and each can still drop.

use std::net::SocketAddr;

use super::Finding;
use super::ruleset::{Chain, Ports, Rule, Ruleset, Verdict};

/// Notes the chains that stand between the gate and its port.
pub(super) fn check(
    ruleset: &Ruleset,
    gate: &Rule,
    entry: &Chain,
    family: &str,
    findings: &mut Vec<Finding>,
) {
    let Some(base) = &entry.base else {
        return;
    };
    let ports = gate.ports();
    for chain in &ruleset.chains {
        let Some(other) = chain.base.as_ref().filter(|_| !std::ptr::eq(chain, entry)) else {
            continue;
        };
        if chain.table.family != family && chain.table.family != "inet" {
            continue;
        }
        if other.kind == "filter" && other.hook == base.hook {
            let so = "whatever the door accepts";
            // Each by itself: a chain may know one port of a rule and not the other.
            findings.extend(ports.chunks(1).filter_map(|port| in_the_way(ruleset, chain, port, so)));
            if ports.is_empty() {
                findings.extend(in_the_way(ruleset, chain, &[], so));
            }
        }
        if other.kind == "nat" && other.hook == "prerouting" && base.hook == "input" {
            findings.extend(elsewhere(ruleset, chain, &ports));
        }
    }
}

/// Whether knocks arrive: what the kernel drops no program hears.
pub(super) fn knocks(ruleset: &Ruleset, listen: &[SocketAddr]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for address in listen.iter().filter(|address| address.port() != 0 && !address.ip().is_loopback()) {
        let family = if address.is_ipv4() { "ip" } else { "ip6" };
        let port = u64::from(address.port());
        for chain in &ruleset.chains {
            let input = chain.base.as_ref().filter(|base| base.kind == "filter" && base.hook == "input");
            if input.is_some() && (chain.table.family == family || chain.table.family == "inet") {
                findings.extend(in_the_way(ruleset, chain, &[("udp", port, port)], "no knock arrives there"));
            }
        }
    }
    findings.dedup();
    if findings.is_empty() {
        findings.push(Finding::good("they arrive, as far as nft shows"));
    }
    findings
}

/// A chain that drops the port, or what it does not know, and does not know the port.
fn in_the_way(ruleset: &Ruleset, chain: &Chain, ports: &[Ports<'_>], so: &str) -> Option<Finding> {
    let base = chain.base.as_ref()?;
    let reached = ruleset.reached(chain);
    let rules: Vec<&Rule> = ruleset
        .rules
        .iter()
        .filter(|rule| rule.table == chain.table && reached.contains(&rule.chain.as_str()))
        .collect();
    let plainly = |verdict: Verdict| {
        rules
            .iter()
            .any(|rule| rule.verdict() == verdict && rule.is_about_ports_alone() && covers(rule, ports))
    };
    if base.policy != "drop" && !plainly(Verdict::Drop) || plainly(Verdict::Accept) {
        return None;
    }
    let Owner { name, open } = owner(ruleset, chain);
    let shown = shown(ports);
    let place = format!(
        "{} {} {} (priority {}{name})",
        chain.table.family, chain.table.name, chain.name, base.priority
    );
    let mend = open.replace("PORT", &first(ports));
    let maybe = |rule: &&Rule| rule.is_opaque() || rule.verdict() == Verdict::Accept && names(rule, ports);
    Some(if ports.is_empty() || rules.iter().any(maybe) {
        Finding::doubt(format!("{place} drops {shown}, but for what only you can tell from its rules"), mend)
    } else {
        Finding::bad(format!("{place} drops {shown}: {so}"), mend)
    })
}

/// A chain that sends the port to another machine before the door is asked, as Docker does for containers.
fn elsewhere(ruleset: &Ruleset, chain: &Chain, ports: &[Ports<'_>]) -> Option<Finding> {
    let reached = ruleset.reached(chain);
    let redirects = |rule: &&Rule| {
        rule.table == chain.table
            && reached.contains(&rule.chain.as_str())
            && rule
                .statements
                .iter()
                .any(|statement| statement.get("dnat").is_some() || statement.get("xt").is_some())
            && !rule.ports().is_empty()
            && covers(rule, ports)
    };
    ruleset.rules.iter().find(redirects)?;
    let what = format!(
        "{} {} {} redirects {} before the door's chain at the hook input is asked: it stays open to all",
        chain.table.family,
        chain.table.name,
        chain.name,
        shown(ports),
    );
    Some(Finding::bad(
        what,
        "have the door's chain at `hook prerouting priority mangle`, in front of the redirection",
    ))
}

/// Whether the rule is about one of the ports, or about all.
fn covers(rule: &Rule, ports: &[Ports<'_>]) -> bool {
    if rule.ports().is_empty() { rule.is_unconditional() } else { names(rule, ports) }
}

fn names(rule: &Rule, ports: &[Ports<'_>]) -> bool {
    let same = |one: &str, other: &str| one == other || one == "th" || other == "th";
    let own = rule.ports();
    ports.iter().any(|(protocol, low, high)| {
        own.iter().any(|(of, first, last)| same(of, protocol) && first <= low && high <= last)
    })
}

fn shown(ports: &[Ports<'_>]) -> String {
    let one = |(protocol, first, last): &Ports<'_>| {
        if first == last { format!("{protocol} {first}") } else { format!("{protocol} {first}-{last}") }
    };
    let shown: Vec<String> = ports.iter().map(one).collect();
    if shown.is_empty() { "everything".to_owned() } else { shown.join(", ") }
}

/// As ufw and firewalld write it.
fn first(ports: &[Ports<'_>]) -> String {
    ports.first().map_or_else(|| "PORT".to_owned(), |(protocol, port, _)| format!("{port}/{protocol}"))
}

struct Owner {
    /// With ", " in front; empty if nobody is known.
    name: &'static str,
    /// How a port is opened there.
    open: &'static str,
}

fn owner(ruleset: &Ruleset, chain: &Chain) -> Owner {
    let starts = |prefix: &str| {
        ruleset.chains.iter().any(|other| other.table == chain.table && other.name.starts_with(prefix))
    };
    if chain.table.name == "firewalld" {
        Owner { name: ", firewalld", open: "firewall-cmd --permanent --add-port=PORT; firewall-cmd --reload" }
    } else if starts("ufw") {
        Owner { name: ", ufw", open: "ufw allow PORT" }
    } else if starts("DOCKER") && chain.name == "FORWARD" {
        Owner { name: ", Docker", open: "accept it in the chain DOCKER-USER" }
    } else if ["ip", "ip6"].contains(&chain.table.family.as_str()) && chain.table.name == "filter" {
        Owner { name: ", iptables", open: "accept PORT in this chain too, with iptables and ip6tables" }
    } else {
        Owner {
            name: "",
            open: "accept PORT in this chain too, for everybody: the door keeps the others out",
        }
    }
}
