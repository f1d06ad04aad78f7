//! What `nft -j list ruleset` shows, as far as a door depends on it.
//!
//! What cannot be understood (a match of iptables-nft, a statement of a later nft) is kept as unknown: who reads a rule is
//! told so, and does not take it for a rule without that match.

use std::collections::BTreeSet;

use serde_json::Value;

/// The tables' contents.
#[derive(Debug, Default)]
pub(super) struct Ruleset {
    pub(super) tables: BTreeSet<Table>,
    pub(super) sets: Vec<Set>,
    pub(super) chains: Vec<Chain>,
    pub(super) rules: Vec<Rule>,
}

/// Family and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Table {
    pub(super) family: String,
    pub(super) name: String,
}

#[derive(Debug)]
pub(super) struct Set {
    pub(super) table: Table,
    pub(super) name: String,
    /// `ipv4_addr`; what is put together is something else.
    pub(super) kind: String,
    pub(super) flags: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Chain {
    pub(super) table: Table,
    pub(super) name: String,
    /// Where packets enter it; `None`: by jumps alone.
    pub(super) base: Option<Base>,
}

#[derive(Debug)]
pub(super) struct Base {
    /// `filter` or `nat`.
    pub(super) kind: String,
    pub(super) hook: String,
    pub(super) priority: i64,
    pub(super) policy: String,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) table: Table,
    pub(super) chain: String,
    pub(super) statements: Vec<Value>,
}

/// Protocol, first, last.
pub(super) type Ports<'r> = (&'r str, u64, u64);

/// What a rule does with a packet that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    /// Or reject.
    Drop,
    /// To another chain, back, or by a map.
    Elsewhere,
    /// It goes on.
    None,
}

impl Ruleset {
    /// Reads nft's answer; `None`: it is none.
    pub(super) fn parse(answer: &str) -> Option<Ruleset> {
        let answer: Value = serde_json::from_str(answer).ok()?;
        let mut ruleset = Ruleset::default();
        for part in answer.get("nftables")?.as_array()? {
            for (kind, of) in part.as_object().into_iter().flatten() {
                ruleset.take(kind, of);
            }
        }
        Some(ruleset)
    }

    fn take(&mut self, kind: &str, of: &Value) -> Option<()> {
        let name = || text(of, "name");
        let family = text(of, "family")?;
        if kind == "table" {
            self.tables.insert(Table { family, name: name()? });
            return Some(());
        }
        let table = Table { family, name: text(of, "table")? };
        match kind {
            "set" => {
                let kind = text(of, "type").unwrap_or_default();
                self.sets.push(Set { table, name: name()?, kind, flags: texts(of.get("flags")) });
            }
            "chain" => {
                let base = text(of, "hook").map(|hook| Base {
                    kind: text(of, "type").unwrap_or_default(),
                    hook,
                    priority: of.get("prio").and_then(Value::as_i64).unwrap_or_default(),
                    policy: text(of, "policy").unwrap_or_default(),
                });
                self.chains.push(Chain { table, name: name()?, base });
            }
            "rule" => {
                let statements = of.get("expr").and_then(Value::as_array).cloned().unwrap_or_default();
                self.rules.push(Rule { table, chain: text(of, "chain")?, statements });
            }
            _ => {}
        }
        Some(())
    }

    /// The rules of the chain, in order.
    pub(super) fn rules_of<'r>(&'r self, table: &'r Table, chain: &'r str) -> impl Iterator<Item = &'r Rule> {
        self.rules.iter().filter(move |rule| rule.table == *table && rule.chain == chain)
    }

    /// This chain and all that it leads to, by their names.
    pub(super) fn reached<'r>(&'r self, from: &'r Chain) -> Vec<&'r str> {
        let mut reached: Vec<&str> = Vec::new();
        let mut todo = vec![from.name.as_str()];
        while let Some(chain) = todo.pop() {
            if reached.contains(&chain) {
                continue;
            }
            reached.push(chain);
            for rule in self.rules_of(&from.table, chain) {
                rule.statements.iter().for_each(|statement| targets(statement, &mut todo));
            }
        }
        reached
    }
}

impl Rule {
    pub(super) fn verdict(&self) -> Verdict {
        let verdict = self.statements.iter().find_map(|statement| {
            let has = |key: &str| statement.get(key).is_some();
            if has("accept") {
                Some(Verdict::Accept)
            } else if has("drop") || has("reject") {
                Some(Verdict::Drop)
            } else if ["jump", "goto", "return", "vmap", "queue", "xt"].into_iter().any(has) {
                Some(Verdict::Elsewhere)
            } else {
                None
            }
        });
        verdict.unwrap_or(Verdict::None)
    }

    /// Whether every packet that comes to it is meant.
    pub(super) fn is_unconditional(&self) -> bool {
        self.is_plain(&[])
    }

    /// Whether it has nothing but verdicts, what tells of them, and these.
    fn is_plain(&self, more: &[&str]) -> bool {
        let harmless = ["counter", "log", "accept", "drop", "reject", "jump", "goto", "return"];
        let known = harmless.iter().chain(more);
        self.statements.iter().all(|statement| known.clone().any(|key| statement.get(key).is_some()))
    }

    /// Whether nothing but the port, and whether the packet begins something, decides if it matches.
    pub(super) fn is_about_ports_alone(&self) -> bool {
        let port_or_new = |(_, left, right): (&str, &Value, &Value)| {
            let is = |at: &str, word: &str| left.pointer(at).is_some_and(|value| value == word);
            let new = is("/ct/key", "state") && right.to_string().contains("\"new\"");
            new || is("/&/0/payload/field", "flags")
                || is("/payload/field", "dport")
                || is("/meta/key", "l4proto")
        };
        self.is_plain(&["match"]) && self.matches().all(port_or_new)
    }

    /// Whether what it accepts cannot be told from it: nft cannot read it, or the ports are in a set or map.
    pub(super) fn is_opaque(&self) -> bool {
        let in_map = |map: &Value| map.to_string().contains("\"accept\"");
        let in_set = |(_, left, right): (&str, &Value, &Value)| {
            left.pointer("/payload/field").is_some_and(|field| field == "dport") && right.is_string()
        };
        let unread =
            |statement: &Value| statement.get("xt").is_some() || statement.get("vmap").is_some_and(in_map);
        self.statements.iter().any(unread) || self.verdict() == Verdict::Accept && self.matches().any(in_set)
    }

    /// The matches: operator, left, right.
    pub(super) fn matches(&self) -> impl Iterator<Item = (&str, &Value, &Value)> {
        self.statements.iter().filter_map(|statement| {
            let of = statement.get("match")?;
            Some((of.get("op")?.as_str()?, of.get("left")?, of.get("right")?))
        })
    }

    /// The field that is compared with the set, such as `saddr`, and the operator.
    pub(super) fn looks_into(&self, set: &str) -> Option<(&str, &str)> {
        let named = format!("@{set}");
        let (op, left, _) = self.matches().find(|(_, _, right)| right.as_str() == Some(&named))?;
        Some((op, left.get("payload").and_then(|payload| payload.get("field")).and_then(Value::as_str)?))
    }

    /// The ports that it is about: protocol, first, last. Empty: it names none.
    pub(super) fn ports(&self) -> Vec<Ports<'_>> {
        let mut ports = Vec::new();
        for (_, left, right) in self.matches().filter(|(op, ..)| *op == "==" || *op == "in") {
            let payload = left.get("payload");
            let of = |key: &str| payload.and_then(|payload| payload.get(key)).and_then(Value::as_str);
            if let (Some(protocol), Some("dport")) = (of("protocol"), of("field")) {
                let several = right.get("set").and_then(Value::as_array).map(Vec::as_slice);
                let values = several.unwrap_or(std::slice::from_ref(right)).iter();
                ports.extend(values.filter_map(range).map(|(first, last)| (protocol, first, last)));
            }
        }
        ports
    }
}

/// `22`, or `{"range": [22, 25]}`.
fn range(value: &Value) -> Option<(u64, u64)> {
    if let Some(port) = value.as_u64() {
        return Some((port, port));
    }
    match value.get("range")?.as_array()?.as_slice() {
        [first, last] => Some((first.as_u64()?, last.as_u64()?)),
        _ => None,
    }
}

/// Where jumps lead, at any depth: a map has them too.
fn targets<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    for key in ["jump", "goto"] {
        let target = value.get(key).and_then(|to| to.get("target")).and_then(Value::as_str);
        found.extend(target);
    }
    match value {
        Value::Array(values) => values.iter().for_each(|value| targets(value, found)),
        Value::Object(values) => values.values().for_each(|value| targets(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn text(of: &Value, key: &str) -> Option<String> {
    of.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// One flag is written as a text by some versions.
fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
    }
}
