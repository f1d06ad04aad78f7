//! `siglatchctl import`: from the configuration of another knock daemon to one of this.
//!
//! In: files of that daemon, which are only read. Out: a folder with a configuration that siglatchd takes, its keys, and a report
//! that names every setting that was not taken over as it was, with the reason. Never: a file that is replaced, a person who may
//! do more than before.
//!
//! # Security considerations
//!
//! What is read goes into a configuration that root runs programs from, and onto a terminal: it is refused where it holds control
//! characters, and written by a TOML encoder.

mod draft;
mod fwknop;
mod ini;
mod report;
mod v1;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ipnet::IpNet;
use nix::unistd::{Group, User};
use zeroize::Zeroizing;

use self::draft::{Draft, Table};
pub(super) use self::fwknop::import as fwknop;
use self::report::Report;
pub(super) use self::v1::import as siglatch;
use crate::config::files::{self, Secrecy};
use crate::exit::{self, Failure};
use crate::wire::invite::Name;

/// Writes what has come of it, and says it.
fn finish(
    draft: Draft,
    report: &Report,
    about: &str,
    top: &Table,
    tables: &[Table],
    next: &str,
) -> Result<(), Failure> {
    let dir = draft.dir().display().to_string();
    draft.write(about, top, tables)?;
    let off = tables.iter().filter(|table| table.is_off()).count();
    let user =
        crate::config::missing_listener().map_or(String::new(), |command| format!("next: {command}\n"));
    exit::say(&format!(
        "made {dir}/siglatchd.toml: tables: {}, of which not in force: {off}\n{}\n\
         {user}{next}next: stop the old daemon, then: siglatchd --config {dir}/siglatchd.toml\n\
         what was knocked before its first start is refused, so that nothing runs at both\n",
        tables.len(),
        report.text(),
    ))?;
    report.verdict()
}

/// Names as they can stand in the configuration, each once.
#[derive(Default)]
struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// The name itself, or one much like it.
    fn take(&mut self, wanted: &str) -> String {
        let fits = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let name: String = wanted.chars().take(56).map(fits).collect();
        let name = if Name::parse(&name).is_some() { name } else { format!("_{name}") };
        let name = if wanted.len() <= 64 && Name::parse(wanted).is_some() { wanted.to_owned() } else { name };
        let others =
            (2_u32..).map(|number| format!("{}-{number}", name.chars().take(56).collect::<String>()));
        let mut free = std::iter::once(name.clone()).chain(others).filter(|name| !self.taken.contains(name));
        let name = free.next().unwrap_or_default();
        self.taken.insert(name.clone());
        name
    }
}

/// Addresses and networks, with the bits cleared that a network does not have.
fn addresses<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<String>, String> {
    let network = |text: &str| {
        let parsed = text.parse::<IpNet>().map(|net| net.trunc().to_string());
        let parsed = parsed.or_else(|_| text.parse::<IpAddr>().map(|address| address.to_string()));
        parsed.map_err(|_| format!("{text:?} is neither an address nor a network"))
    };
    texts.map(network).collect()
}

/// A key's file, and what is to be said if others can read it.
fn key_file(path: &Path) -> Result<(Zeroizing<Vec<u8>>, Option<String>), Failure> {
    let bytes = files::read(path, Secrecy::Public, KEY_FILE_MAX)?;
    let mode = std::fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
    let exposed = (mode & 0o044 != 0).then(|| {
        format!(
            "others can read {} (mode {:04o}): its copy is 0600, but make a new key",
            path.display(),
            mode & 0o7777
        )
    });
    Ok((bytes, exposed))
}

/// Whether this machine has that user, or user:group.
fn run_as(text: &str) -> Result<(), String> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    if User::from_name(user).ok().flatten().is_none() {
        return Err(format!("this machine has no user {user:?}"));
    }
    match group {
        Some(group) if Group::from_name(group).ok().flatten().is_none() => {
            Err(format!("this machine has no group {group:?}"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Longest key file, in bytes.
const KEY_FILE_MAX: u64 = 64 << 10;
