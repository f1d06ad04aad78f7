//! `siglatchctl import siglatch`: the INI of siglatch v1, section by section.
//!
//! What cannot be in force is written as a comment, with the reason: never is anybody let in who was kept out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::draft::{Draft, Table};
use super::ini::{Entry, Ini, Section};
use super::report::Report;
use super::{Names, addresses, key_file, run_as};
use crate::config::TEXT_MAX;
use crate::config::files::{self, Secrecy, check_program, folder_of};
use crate::ctl::args::import::ImportSiglatch;
use crate::exit::{Exit, Failure};
use crate::wire::invite::Name;
use crate::wire::{ActionId, HmacKey, PrivateKey, PublicKey};

mod action;
mod server;

/// Runs the command.
pub(in crate::ctl) fn import(args: &ImportSiglatch) -> Result<(), Failure> {
    let text = files::read(&args.file, Secrecy::Public, TEXT_MAX)?;
    let wrong = |line: usize, what: String| {
        Failure::new(Exit::Config, format!("{}:{line}: {what}", args.file.display()))
    };
    let text = std::str::from_utf8(&text).map_err(|_| wrong(1, "this is no text".to_owned()))?;
    let ini = Ini::parse(text).map_err(|(line, what)| wrong(line, what))?;
    let server = server::choose(&ini, args.server.as_ref().map(Name::as_str))?;
    let draft = Draft::new(&args.into)?;
    let old = Old { file: &args.file, ini: &ini, server };
    let mut moving = Moving { old, draft, report: Report::default(), tables: Vec::new() };

    let top = server::top(&mut moving)?;
    let key = moving.private_key()?;
    let actions = action::all(&mut moving);
    moving.users(&actions, &key);
    moving.rest();
    moving.draft.server_key(Some(key))?;
    let Moving { draft, report, tables, .. } = moving;
    super::finish(draft, &report, &about(&args.file), &top, &tables, SCRIPTS)
}

/// What is imported.
struct Old<'a> {
    file: &'a Path,
    ini: &'a Ini,
    server: &'a Section,
}

/// What has come of it.
struct Moving<'a> {
    old: Old<'a>,
    draft: Draft,
    report: Report,
    tables: Vec<Table>,
}

impl Moving<'_> {
    fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.old.file.display())
    }

    fn decide(&mut self, section: &Section, entry: Option<&Entry>, what: impl Into<String>) {
        let (line, of) = about_entry(section, entry);
        self.report.decide(&self.place(line), &of, what);
    }

    fn left(&mut self, section: &Section, entry: Option<&Entry>, what: impl Into<String>) {
        let (line, of) = about_entry(section, entry);
        self.report.left(&self.place(line), &of, what);
    }

    /// Yes or no, as siglatch v1 takes it.
    fn yes(&mut self, section: &Section, entry: &Entry) -> bool {
        entry.yes().unwrap_or_else(|| {
            self.left(
                section,
                Some(entry),
                format!("{:?} is taken for no, as siglatch v1 does", entry.value),
            );
            false
        })
    }

    /// Relative to the old file.
    fn path(&self, entry: &Entry) -> PathBuf {
        folder_of(self.old.file).join(&entry.value)
    }

    /// Addresses; what is none takes the table out of force.
    fn allow_from(&mut self, section: &Section, entry: &Entry, table: &mut Table) {
        match addresses(entry.list()) {
            Ok(list) if list.is_empty() => self.off(section, Some(entry), table, EMPTY),
            Ok(list) => table.list("allow_from", list),
            Err(what) => self.off(section, Some(entry), table, what),
        }
    }

    /// Writes the table as a comment, and says why.
    fn off(&mut self, section: &Section, entry: Option<&Entry>, table: &mut Table, what: impl Into<String>) {
        let what = what.into();
        table.switch_off(&what);
        self.decide(section, entry, what);
    }

    fn private_key(&mut self) -> Result<PrivateKey, Failure> {
        let Old { ini, server, .. } = self.old;
        let entry = server.get("priv_key_path").map(|entry| (server, entry));
        let entry = entry.or_else(|| ini.top.get("priv_key_path").map(|entry| (&ini.top, entry)));
        let path = entry.map_or_else(|| PathBuf::from(PRIVATE_KEY), |(_, entry)| self.path(entry));
        let (bytes, exposed) = key_file(&path)?;
        if let Some(exposed) = exposed {
            self.report.decide(&path.display().to_string(), "priv_key_path", exposed);
        }
        let wrong = |what: String| Failure::new(Exit::Config, format!("{}: {what}", path.display()));
        let pem = std::str::from_utf8(&bytes).map_err(|_| wrong("is no PEM".to_owned()))?;
        PrivateKey::from_pem(pem).map_err(|bad| wrong(bad.to_string()))
    }

    fn users(&mut self, actions: &BTreeMap<&str, Taken>, server: &PrivateKey) {
        let mut names = Names::default();
        let mut ids = BTreeMap::new();
        for section in self.old.ini.all("user") {
            let name = names.take(&section.name);
            if name != section.name {
                let what = format!("is called {name}: {}", Name::RULE);
                self.left(section, None, what);
            }
            let mut table = Table::of("users", &name);
            self.user(section, &name, &mut table, actions, server, &mut ids);
            self.tables.push(table);
        }
    }

    fn user(
        &mut self,
        section: &Section,
        name: &str,
        table: &mut Table,
        actions: &BTreeMap<&str, Taken>,
        server: &PrivateKey,
        ids: &mut BTreeMap<u16, String>,
    ) {
        let enabled = section.get("enabled").is_some_and(|entry| self.yes(section, entry));
        self.user_id(section, table, ids);
        self.hmac_key(section, name, table);
        let listed: Vec<&str> = section.get("actions").into_iter().flat_map(Entry::list).collect();
        let mut may_run = BTreeSet::new();
        for listed in listed {
            match actions.get(listed) {
                Some(Taken::As(action)) => drop(may_run.insert(action.clone())),
                // What is to be decided was said there.
                Some(Taken::Off) => {}
                None => {
                    self.left(section, section.get("actions"), format!("there is no [action:{listed}]"));
                }
            }
        }
        table.list("actions", may_run);
        if !enabled {
            table.put("enabled", false);
        }
        for entry in &section.entries {
            match entry.key.as_str() {
                "id" | "hmac_file" | "actions" | "enabled" => {}
                "allowed_ips" => self.allow_from(section, entry, table),
                "key_file" => self.public_key(section, entry, name, table, server),
                _ => self.decide(section, Some(entry), UNKNOWN),
            }
        }
        if section.get("enabled").is_none() {
            self.left(section, None, "has no `enabled`, which siglatch v1 takes for no");
        }
    }

    fn user_id(&mut self, section: &Section, table: &mut Table, ids: &mut BTreeMap<u16, String>) {
        let entry = section.get("id");
        let Some(id) = entry.and_then(|entry| entry.value.parse::<u16>().ok()) else {
            return self.off(section, entry, table, "takes a number from 0 to 65535");
        };
        table.put("id", i64::from(id));
        let is = |other: &&Section| {
            other.get("id").and_then(|entry| entry.value.parse().ok()) == Some(id)
                && other.title() != section.title()
        };
        let on = |one: &Section| one.get("enabled").and_then(Entry::yes) == Some(true);
        let enabled = self.old.ini.all("user").filter(is).find(|other| on(other)).map(Section::title);
        let what = match (ids.get(&id), enabled) {
            (Some(other), _) => format!("{other} has the id {id} already, and siglatch v1 asks the first"),
            (None, Some(other)) if !on(section) => format!("{other} has the id {id} too, and is enabled"),
            (None, _) => return drop(ids.insert(id, section.title())),
        };
        self.off(section, entry, table, what);
    }

    fn hmac_key(&mut self, section: &Section, name: &str, table: &mut Table) {
        let entry = section.get("hmac_file");
        let Some(path) = entry.map(|entry| self.path(entry)) else {
            return self.off(section, None, table, "has no `hmac_file`");
        };
        let read = key_file(&path).map_err(|bad| bad.what).and_then(|(bytes, exposed)| {
            let key = HmacKey::parse(&bytes).map_err(|bad| format!("{}: {bad}", path.display()))?;
            Ok((key, bytes, exposed))
        });
        let (bytes, exposed) = match read {
            Ok((_, bytes, exposed)) => (bytes, exposed),
            Err(what) => return self.off(section, entry, table, what),
        };
        if let Some(exposed) = exposed {
            self.decide(section, entry, exposed);
        }
        let file = format!("keys/{name}.hmac");
        table.put("hmac_key", file.as_str());
        self.draft.copy(&file, &path, bytes, 0o600);
    }

    /// Without one he gets no replies, as with one that the server could not use.
    fn public_key(
        &mut self,
        section: &Section,
        entry: &Entry,
        name: &str,
        table: &mut Table,
        server: &PrivateKey,
    ) {
        let path = self.path(entry);
        let read = files::read(&path, Secrecy::Public, KEY_MAX).map_err(|bad| bad.to_string());
        let usable = read.and_then(|bytes| {
            let pem = std::str::from_utf8(&bytes).map_err(|_| format!("{} is no PEM", path.display()))?;
            let key = PublicKey::from_pem(pem).map_err(|bad| format!("{}: {bad}", path.display()))?;
            if key.modulus().len() > server.public().modulus().len() {
                return Err(format!("{} is longer than the server's key", path.display()));
            }
            Ok(bytes.clone())
        });
        match usable {
            Ok(bytes) => {
                let file = format!("keys/{name}.pub.pem");
                table.put("public_key", file.as_str());
                self.draft.copy(&file, &path, bytes, 0o644);
            }
            Err(what) => self.left(section, Some(entry), format!("{what}: plain knocks of his get no reply")),
        }
    }

    /// What is neither server, user nor action.
    fn rest(&mut self) {
        let Old { ini, server, .. } = self.old;
        let listens =
            |name: &str| server.get("deaddrops").is_some_and(|entry| entry.list().any(|item| item == name));
        for section in &ini.sections {
            match section.kind.as_str() {
                "user" | "action" => {}
                "server" if section.name == server.name => {}
                "server" => self.left(
                    section,
                    None,
                    "another server: import it into a folder of its own, with --server",
                ),
                "deaddrop" if listens(&section.name) => self.decide(section, None, DEADDROP),
                "deaddrop" => self.left(section, None, "not among the server's `deaddrops`"),
                _ => self.left(section, None, "siglatch v1 does not know such a section either"),
            }
        }
    }
}

/// What an action is called now.
enum Taken {
    As(String),
    /// It is out of force.
    Off,
}

fn about_entry(section: &Section, entry: Option<&Entry>) -> (usize, String) {
    match entry {
        Some(entry) if section.kind.is_empty() => (entry.line, entry.key.clone()),
        Some(entry) => (entry.line, format!("{} {}", section.title(), entry.key)),
        None => (section.line, section.title()),
    }
}

fn about(file: &Path) -> String {
    format!(
        "# siglatchd's configuration, made from {file:?} of siglatch v1 by siglatchctl import. Paths are relative to this file.\n\
         # After a change: siglatchctl check, then siglatchctl reload.\n\n"
    )
}

const SCRIPTS: &str = "scripts get the same seven arguments; new is that they start in /, with an environment of their own, and may run for 30s: `timeout`\n";

/// If it is not written.
const PRIVATE_KEY: &str = "/etc/siglatch/server_priv.pem";

/// Longest key file, in bytes.
const KEY_MAX: u64 = 64 << 10;

const UNKNOWN: &str = "is not known here: does it limit anything?";

const EMPTY: &str = "names nobody: write addresses, or take it out if anybody is meant";

const DEADDROP: &str = "a dead drop runs for whoever sends its word, signed by nobody: there is none here; make it an action, with users";
