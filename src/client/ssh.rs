//! `siglatch ssh` and `siglatch ssh-config`.
//!
//! ssh itself says where it would connect to (`ssh -G`), so the user's own configuration is heeded, then this process
//! becomes ssh.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::args::{self, Families};
use super::door::{self, Door};
use super::target::{self, Target};
use crate::config::units;
use crate::exit::{self, Exit, Failure};
use crate::wire::Invite;
use crate::wire::invite::{Host, Name};
use crate::wire::options::{Options, Release};

/// Runs `siglatch ssh`; comes back only if that fails.
pub(super) fn ssh(args: args::Ssh) -> Result<(), Failure> {
    let args::Ssh { opening, host, words } = args;
    let mut words = words.into_iter().peekable();
    let profile = words.next().unwrap_or_default();
    let invite = target::profile(&profile.to_string_lossy())?;
    let action = words.next_if(|word| names_action(&invite, word));
    drop(words.next_if(|word| word == "--"));
    let words: Vec<OsString> = words.collect();
    let host = host.unwrap_or_else(|| invite.host.clone());
    let action = action.as_deref().map(OsStr::to_string_lossy);
    let mut door = Door::new(invite, action.as_deref(), &opening)?;

    let mut before: Vec<&str> = opening.family.families().option().into_iter().collect();
    match Way::ask(&before, &host, &words)? {
        Way::Direct { host, port, families } => {
            door = door.narrowed(families);
            let stream = door.enter(&host, port)?;
            // ssh would try the addresses in its own order, and wait long for one that is shut.
            let at = stream.peer_addr().ok();
            before = at.and_then(|at| family(at).option()).into_iter().collect();
        }
        Way::ItsOwn => drop(door.knock()?),
    }
    let failed = command(&before, &host, &words).exec();
    Err(unstartable(&failed))
}

/// Runs `siglatch ssh-config`.
pub(super) fn config(args: &args::SshConfig) -> Result<(), Failure> {
    let invite = target::profile(&args.profile)?;
    let action = args.action.clone().map_or_else(|| door::usual(&invite), Ok)?;
    let target = Target::of_invite(invite, &action)?;
    let release = args.release.then_some(Release);
    target.with(&Options { hold: args.hold, release, ..Options::default() }, b"")?;

    let Target { label, host, .. } = target;
    let hold = args.hold.map(|seconds| units::show_duration(Duration::from_secs(seconds.into())));
    let hold = hold.map(|time| format!(" --for {time}")).unwrap_or_default();
    let release = if args.release { " --release" } else { "" };
    // In HostName ssh replaces what begins with a per cent sign.
    let name = host.as_str().replace('%', "%%");
    exit::say(&format!(
        "# Paste into ~/.ssh/config, then: ssh {label}\n\
         Host {label}\n    \
             HostName {name}\n    \
             ProxyCommand siglatch proxy {label} --action {action}{hold}{release} %h %p\n"
    ))
}

/// How ssh would get to its host.
enum Way {
    /// By a connection of its own.
    Direct { host: Host, port: u16, families: Families },
    /// Through something else.
    ItsOwn,
}

impl Way {
    /// Asks ssh. What it does not understand it says itself, on standard error.
    fn ask(options: &[&str], host: &Host, words: &[OsString]) -> Result<Way, Failure> {
        let options = [&["-G"], options].concat();
        let mut command = command(&options, host, words);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| unstartable(&error))?;
        if !output.status.success() {
            return Err(Failure::new(Exit::Usage, "ssh does not take these arguments; nothing was sent"));
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let value = |key| said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        if value("proxycommand").is_some() || value("proxyjump").is_some() {
            return Ok(Way::ItsOwn);
        }
        let host = value("hostname").and_then(Host::parse);
        let port = value("port").and_then(|port| port.parse().ok());
        let (Some(host), Some(port)) = (host, port) else {
            let what = "ssh -G does not say where ssh would connect to; nothing was sent";
            return Err(Failure::new(Exit::Usage, what));
        };
        let families = match value("addressfamily") {
            Some("inet") => Families::V4,
            Some("inet6") => Families::V6,
            Some(_) | None => Families::Both,
        };
        Ok(Way::Direct { host, port, families })
    }
}

fn names_action(invite: &Invite, word: &OsStr) -> bool {
    word.to_str().and_then(Name::parse).is_some_and(|name| invite.actions.contains_key(&name))
}

fn family(address: SocketAddr) -> Families {
    match address {
        SocketAddr::V4(_) => Families::V4,
        SocketAddr::V6(_) => Families::V6,
    }
}

/// ssh takes options in front of its host and behind it.
fn command(options: &[&str], host: &Host, words: &[OsString]) -> Command {
    #![expect(clippy::disallowed_methods, reason = "the user's own ssh, that he asks for")]
    let mut command = Command::new("ssh");
    command.args(options).arg(host.as_str()).args(words);
    command
}

fn unstartable(error: &io::Error) -> Failure {
    let failure = Failure::new(Exit::of_io(error), format!("cannot start ssh: {error}"));
    if error.kind() == io::ErrorKind::NotFound {
        return Failure { exit: Exit::Config, ..failure }.hint("install the OpenSSH client");
    }
    failure
}
