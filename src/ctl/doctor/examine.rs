//! One door, held against the ruleset.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::others;
use super::ruleset::{Chain, Rule, Ruleset, Set, Table, Verdict};
use crate::config::resolved::{NftDoor, NftSet};

/// All there is to say about one of these doors.
pub(super) fn examine(ruleset: &Ruleset, door: &NftSet, all: &BTreeMap<String, NftDoor>) -> Vec<Finding> {
    let table = Table { family: "inet".to_owned(), name: door.table.clone() };
    let snippet = snippet(ruleset, &table, all);
    if !ruleset.tables.contains(&table) {
        return vec![Finding::bad(format!("there is no table inet {}", door.table), snippet)];
    }
    let mut findings = Vec::new();
    for (name, kind, family) in [(door.v4(), "ipv4_addr", "ip"), (door.v6(), "ipv6_addr", "ip6")] {
        let Some(set) = ruleset.sets.iter().find(|set| set.table == table && set.name == name) else {
            findings.push(Finding::bad(format!("there is no set {name}"), snippet.clone()));
            continue;
        };
        let mut of_set = Vec::new();
        check_set(set, kind, &mut of_set);
        check_rules(ruleset, &table, &name, family, &snippet, &mut of_set);
        if of_set.is_empty() {
            of_set.push(Finding::good(format!("{name} opens and closes")));
        }
        // What stands in the way of both families is told once.
        of_set.retain(|finding| !findings.contains(finding));
        of_set.dedup();
        findings.extend(of_set);
    }
    if !keeps_sessions(ruleset, &table) {
        let what = format!(
            "no rule of inet {} accepts established connections: they break when the door closes",
            door.table
        );
        findings
            .push(Finding::doubt(what, "add `ct state established,related accept` in front of the others"));
    }
    findings
}

/// The command for all doors of the table, each with its ports as they are now: one alone would take the place of the others.
fn snippet(ruleset: &Ruleset, table: &Table, all: &BTreeMap<String, NftDoor>) -> String {
    let doors = all.iter().filter(|(_, door)| door.set.table == table.name);
    let doors = doors.flat_map(|(action, NftDoor { set, .. })| {
        let rules = ruleset.rules.iter().filter(|rule| rule.table == *table);
        let gates = rules.filter(|rule| rule.looks_into(&set.v4()).or(rule.looks_into(&set.v6())).is_some());
        let ports = gates
            .flat_map(Rule::ports)
            .filter(|(protocol, first, last)| first == last && ["tcp", "udp"].contains(protocol));
        let named: BTreeSet<String> =
            ports.map(|(protocol, port, _)| format!("{action}:{protocol}/{port}")).collect();
        if named.is_empty() { BTreeSet::from([format!("{action}:tcp/PORT")]) } else { named }
    });
    let doors = doors.collect::<Vec<_>>().join(" ");
    format!("siglatchctl firewall snippet {doors} > new-doors.nft; siglatchctl firewall try new-doors.nft")
}

fn check_set(set: &Set, kind: &str, findings: &mut Vec<Finding>) {
    let (name, table) = (&set.name, &set.table.name);
    let again = format!("delete the set, and declare: set {name} {{ type {kind}; flags timeout; }}");
    let has = |flag: &str| set.flags.iter().any(|of| of == flag);
    if set.kind != kind {
        let what = format!("the set {name} of inet {table} is of the type {}, no {kind}", set.kind);
        findings.push(Finding::bad(what, again.clone()));
    }
    if !has("timeout") {
        let what = format!("the set {name} has no `flags timeout`: the kernel would not close the door");
        findings.push(Finding::bad(what, again.clone()));
    }
    if has("constant") {
        findings.push(Finding::bad(format!("the set {name} is constant: nothing can be put into it"), again));
    }
}

fn check_rules(
    ruleset: &Ruleset,
    table: &Table,
    set: &str,
    family: &str,
    snippet: &str,
    findings: &mut Vec<Finding>,
) {
    let uses = ruleset.rules.iter().filter(|rule| rule.table == *table);
    let uses: Vec<_> = uses.filter_map(|rule| Some((rule, rule.looks_into(set)?))).collect();
    if uses.is_empty() {
        findings.push(Finding::bad(format!("no rule looks into the set {set}"), snippet));
        return;
    }
    let (gates, others): (Vec<_>, Vec<_>) = uses.into_iter().partition(|(_, (_, field))| *field == "saddr");
    if gates.is_empty() && !others.is_empty() {
        let what = format!("rules look for something else than the source address (saddr) in {set}");
        findings.push(Finding::bad(what, format!("write `{family} saddr @{set} ...`")));
    }
    for (gate, (op, _)) in gates {
        check_gate(ruleset, gate, op, set, family, findings);
    }
}

/// A rule that lets in who is in the set; or, with `!=`, drops who is not.
fn check_gate(
    ruleset: &Ruleset,
    gate: &Rule,
    op: &str,
    set: &str,
    family: &str,
    findings: &mut Vec<Finding>,
) {
    let Some(entry) = ruleset.chains.iter().find(|chain| is_entry(ruleset, chain, gate)) else {
        let what = format!("no packet comes to the chain {} that looks into {set}", gate.chain);
        findings.push(Finding::bad(what, "jump to it from a chain with `type filter hook input`"));
        return;
    };
    let shadow = ruleset
        .rules_of(&gate.table, &gate.chain)
        .take_while(|rule| !std::ptr::eq(*rule, gate))
        .find(|rule| rule.is_unconditional() && rule.verdict() != Verdict::None);
    if shadow.is_some() {
        let what =
            format!("a rule of the chain {} takes every packet before {set} is looked into", gate.chain);
        findings.push(Finding::bad(what, "put the rule with the set in front of it"));
    }
    let negated = op == "!=";
    match (gate.verdict(), negated) {
        (Verdict::Accept, false) | (Verdict::Drop, true) | (Verdict::Elsewhere, _) => {}
        (Verdict::Accept | Verdict::None, true) | (Verdict::Drop | Verdict::None, false) => {
            let what = format!("the rule that looks into {set} lets nobody through that is in it");
            findings.push(Finding::bad(what, format!("end it: `{family} saddr @{set} ... accept`")));
        }
    }
    if !negated && !closes(ruleset, gate, entry) {
        let table = &gate.table.name;
        let what =
            format!("nothing in inet {table} drops those who are not in {set}: the door is always open");
        findings.push(Finding::bad(what, "drop the port behind the rule with the set"));
    }
    others::check(ruleset, gate, entry, family, findings);
}

/// Whether packets come to the rule through this chain.
fn is_entry(ruleset: &Ruleset, chain: &Chain, gate: &Rule) -> bool {
    let enters = |hook: &str| ["input", "forward", "prerouting", "ingress"].contains(&hook);
    chain.table == gate.table
        && chain.base.as_ref().is_some_and(|base| enters(&base.hook))
        && ruleset.reached(chain).contains(&gate.chain.as_str())
}

/// Whether the table drops what the gate has not accepted: by policy, or by a rule for its ports, or for all.
fn closes(ruleset: &Ruleset, gate: &Rule, entry: &Chain) -> bool {
    let by_policy = entry.base.as_ref().is_some_and(|base| base.policy == "drop");
    let reached = ruleset.reached(entry);
    let drops = |rule: &Rule| rule.verdict() == Verdict::Drop && reached.contains(&rule.chain.as_str());
    let same_port = |rule: &Rule| {
        let of_gate = gate.ports();
        rule.ports().iter().any(|(_, first, last)| {
            of_gate.is_empty() || of_gate.iter().any(|(_, low, high)| first <= high && low <= last)
        })
    };
    let mut rules = ruleset.rules.iter().filter(|rule| rule.table == gate.table);
    by_policy || rules.any(|rule| drops(rule) && (rule.is_unconditional() || same_port(rule)))
}

fn keeps_sessions(ruleset: &Ruleset, table: &Table) -> bool {
    ruleset.rules.iter().filter(|rule| rule.table == *table && rule.verdict() == Verdict::Accept).any(
        |rule| {
            rule.matches().any(|(_, left, right)| {
                left.pointer("/ct/key").is_some_and(|key| key == "state")
                    && right.to_string().contains("established")
            })
        },
    )
}
