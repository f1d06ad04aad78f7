//! `siglatch`, the knock client.
//!
//! In: a command line, and a profile or what stands in its place. Out: one datagram for each knock, lines for people,
//! an exit code; for who goes through a door, a connection. Never: a fall-back to a weaker binding or to no stamp, a
//! payload that was cut, a wait without an end.
//!
//! # Security considerations
//!
//! The challenge and the padding come from the operating system's generator, nothing else does. A key or profile that
//! others can read is refused. Profiles come from invites, which are hostile until parsed.

mod answer;
mod args;
mod door;
mod exchange;
mod knock;
mod profile;
mod proxy;
mod reach;
mod relay;
mod server_key;
mod ssh;
mod target;
mod totp;
mod whoami;

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::config::files::{self, Existing, Secrecy};
use crate::exit::{self, Exit, Failure};
use crate::wire::invite::{self, Enrol, INVITE_MAX, Invite, Name, Until};
use args::{Cli, Command, Key};
use profile::Profiles;

/// Runs `siglatch` with these arguments, the program's name first.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    match exit::parse::<Cli>(args) {
        Ok(cli) => match cli.command {
            Command::Knock(args) => knock::knock(&args),
            Command::Join(args) => exit::end(join(args)),
            Command::Profiles => exit::end(profiles()),
            Command::Proxy(args) => proxy::proxy(args),
            Command::Release(args) => {
                door::release(&args).map_or_else(|failure| exit::end(Err(failure)), ExitCode::from)
            }
            Command::Ssh(args) => exit::end(ssh::ssh(args)),
            Command::SshConfig(args) => exit::end(ssh::config(&args)),
            Command::Key(Key::Rotate(args)) => exit::end(exchange::rotate(&args)),
            Command::Key(Key::Update(args)) => exit::end(server_key::update(&args)),
            Command::Whoami(args) => exit::end(whoami::whoami(&args)),
            Command::Wait(args) => exit::end(door::wait(args)),
        },
        Err(code) => code,
    }
}

/// Its command line.
#[cfg(feature = "pages")]
pub(crate) fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

fn join(args: args::Join) -> Result<(), Failure> {
    let mut invite = if let Some(line) = args.file.to_str().filter(|text| invite::line::is_one(text)) {
        profile::parse("this line", line.as_bytes())?
    } else if args.file == Path::new("-") {
        profile::parse("standard input", &read_stdin()?)?
    } else {
        let bytes = files::read(&args.file, Secrecy::Public, INVITE_MAX)?;
        profile::parse(&args.file.display().to_string(), &bytes)?
    };
    invite.name = args.name.unwrap_or(invite.name);
    // The half of an exchange that is ours is made here: one that comes along is known to who wrote it.
    invite.enrol = invite.enrol.map(|enrol| Enrol { secret: None, ..enrol });
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let profiles = Profiles::of_environment()?;
    if let Some(name) = begun(&profiles, &invite)? {
        exit::say(&format!("the profile {name} was begun with this invite: it goes on\n"))?;
        return exchange::exchange(&profiles, &name, EXCHANGE);
    }
    let path = profiles.install(&invite, existing)?;

    let actions = action_list(&invite);
    let next = match invite.actions.first_key_value() {
        Some((action, _)) => format!("next: siglatch knock {} {action}\n", invite.name),
        None => String::new(),
    };
    let Invite { name, user, host, port, .. } = &invite;
    let path = path.display();
    exit::say(&format!(
        "joined {name}: {user} may knock at {host} port {port} for {actions}\n\
         the key is in {path}: delete the invite\n"
    ))?;
    if invite.enrol.as_ref().is_some_and(|enrol| enrol.until == Until::Nothing) {
        exchange::exchange(&profiles, name, EXCHANGE)?;
    }
    exit::say(&next)
}

/// The profile that has sent for a key in exchange for the invite's: of another half the server would take it for a thief's.
fn begun(profiles: &Profiles, invite: &Invite) -> Result<Option<Name>, Failure> {
    let sent = |profile: &Invite| profile.enrol.as_ref().is_some_and(|enrol| enrol.secret.is_some());
    let of_it = |name: &Name| {
        let profile = profiles.load(name);
        profile.is_ok_and(|profile| profile.hmac_key == invite.hmac_key && sent(&profile))
    };
    Ok(profiles.names()?.into_iter().find(of_it))
}

/// For the server to keep a new key.
const EXCHANGE: Duration = Duration::from_secs(5);

fn profiles() -> Result<(), Failure> {
    let profiles = Profiles::of_environment()?;
    let names = profiles.names()?;
    if names.is_empty() {
        let folder = profiles.folder().display();
        return exit::say(&format!("no profiles in {folder}; install an invite: siglatch join FILE\n"));
    }
    let mut rows = vec![["PROFILE", "USER", "SERVER", "KNOCKS", "ACTIONS"].map(str::to_owned)];
    let mut broken = Vec::new();
    for name in &names {
        match profiles.load(name) {
            Ok(invite) => {
                let Invite { user, host, port, postage, .. } = &invite;
                let server = if host.as_str().contains(':') {
                    format!("[{host}]:{port}")
                } else {
                    format!("{host}:{port}")
                };
                let postage = postage.to_string();
                rows.push([name.to_string(), user.to_string(), server, postage, action_list(&invite)]);
            }
            Err(failure) => broken.push(failure),
        }
    }
    if rows.len() > 1 {
        exit::say(&exit::columns(&rows))?;
    }
    last_of(broken)
}

/// Of several failures all but the last are shown here; that one ends the program.
fn last_of(mut failures: Vec<Failure>) -> Result<(), Failure> {
    let last = failures.pop();
    failures.iter().for_each(Failure::show);
    last.map_or(Ok(()), Err)
}

/// `ssh (1), web (2)`.
fn action_list(invite: &Invite) -> String {
    let named = invite.actions.iter().map(|(name, action)| format!("{name} ({})", action.id));
    match named.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "no named action".to_owned(),
        list => list,
    }
}

fn read_stdin() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    io::stdin()
        .lock()
        .take(INVITE_MAX.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(Exit::of_io(&error), format!("cannot read standard input: {error}")))?;
    Ok(bytes)
}
