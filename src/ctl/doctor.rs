//! `siglatchctl doctor`: what is wrong with this server, or could go wrong, and whether each door would really open, and close.
//!
//! In: the configuration, what it names, the running daemon if it answers, and the firewall as it is now. Out: what was found, each
//! with a way to mend it; failure when something is bad. Never: a change.

mod boot;
mod daemon;
mod doors;
mod examine;
mod held;
mod keys;
mod machine;
mod others;
mod ruleset;
mod trail;

use super::args::Way;
use super::document::Document;
use crate::config::{self, Loaded, Problems};
use crate::exit::{self, Exit, Failure};

/// Looks at everything.
pub(super) fn doctor(way: &Way) -> Result<(), Failure> {
    let loaded = config::load(&way.config);
    let mut sections = vec![section("configuration", configuration(&loaded))];
    let document = Document::open(&way.config).ok();
    if let Some(document) = &document {
        sections.push(section("daemon", daemon::ask(way, document)));
        sections.push(section("keys", keys::look(document)));
        sections.push(section("audit trail", trail::look(&way.config, document)));
    }
    sections.push(section("clock", vec![machine::clock()]));
    if let Ok(Loaded { config, .. }) = &loaded {
        sections.push(section("folders", machine::folders(config)));
        sections.push(section("sandbox", machine::sandbox(config)));
    }
    sections.extend(doors::look(&way.config));
    let mut text = String::new();
    for (title, findings) in &sections {
        text.push_str(&format!("{title}\n"));
        text.extend(findings.iter().map(Finding::to_string));
    }
    exit::say(&text)?;
    let bad =
        sections.iter().flat_map(|(_, findings)| findings).filter(|finding| finding.level == Level::Bad);
    match bad.count() {
        0 => Ok(()),
        bad => Err(Failure::new(
            Exit::Config,
            format!("this server does not work as it should: {bad} reasons above"),
        )),
    }
}

/// What was found, and about what.
type Section = (String, Vec<Finding>);

fn section(title: &str, findings: Vec<Finding>) -> Section {
    (title.to_owned(), findings)
}

/// What `siglatchctl check` would say: modes and owners of keys and programs are part of it.
fn configuration(loaded: &Result<Loaded, Problems>) -> Vec<Finding> {
    let (problems, mut findings) = match loaded {
        Ok(Loaded { config, warnings, .. }) => {
            let (path, users, actions) = (config.path.display(), config.users.len(), config.actions.len());
            (warnings, vec![Finding::good(format!("{path} can be used: users: {users}, actions: {actions}"))])
        }
        Err(problems) => (problems, Vec::new()),
    };
    findings.extend(problems.iter().map(|problem| {
        let mend = problem.remedy().unwrap_or("siglatchctl check shows the line");
        if problem.is_error() {
            Finding::bad(problem.summary(), mend)
        } else {
            Finding::doubt(problem.summary(), mend)
        }
    }));
    findings
}

/// Something to say.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    what: String,
    /// How to mend it; nothing where it is good.
    mend: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Good,
    /// It may be meant, or cannot be seen from here.
    Doubt,
    /// Knocks would be refused or lost, or a door would not open, or not close.
    Bad,
}

impl Finding {
    fn good(what: impl Into<String>) -> Finding {
        Finding { level: Level::Good, what: what.into(), mend: String::new() }
    }

    fn doubt(what: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { level: Level::Doubt, what: what.into(), mend: mend.into() }
    }

    fn bad(what: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { level: Level::Bad, what: what.into(), mend: mend.into() }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = match self.level {
            Level::Good => "good",
            Level::Doubt => "look",
            Level::Bad => "BAD ",
        };
        writeln!(f, "  {level}  {}", self.what)?;
        if self.mend.is_empty() { Ok(()) } else { writeln!(f, "        mend: {}", self.mend) }
    }
}

#[cfg(test)]
mod tests;
