//! A door: knocked for, waited for, closed again. `siglatch wait` and `siglatch release`.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::OnceLock;
use std::time::Duration;

use super::answer;
use super::args::{self, Families, Opening};
use super::knock::{self, Sent};
use super::reach::{self, Unreached};
use super::target::{self, Target};
use super::totp;
use crate::clock::Clock;
use crate::config::units;
use crate::exit::{self, Exit, Failure};
use crate::wire::invite::{Host, Name, Opens};
use crate::wire::options::{Options, Release};
use crate::wire::{Binding, Invite};

/// What a user wants to go through, and how he knocks for it.
pub(super) struct Door {
    target: Target,
    hold: Option<u32>,
    families: Families,
    timeout: Duration,
    /// Where it was knocked for, and is to be closed: a name may lead elsewhere by then, or nowhere.
    knocked: OnceLock<Vec<SocketAddr>>,
}

impl Door {
    /// Nothing is sent yet, and what could not be sent is refused.
    pub(super) fn new(invite: Invite, action: Option<&str>, opening: &Opening) -> Result<Door, Failure> {
        let action = action.map_or_else(|| usual(&invite), |word| Ok(word.to_owned()))?;
        let target = Target::of_invite(invite, &action)?;
        let Opening { hold, timeout, family } = *opening;
        let knocked = OnceLock::new();
        let door = Door { target, hold, families: family.families(), timeout, knocked };
        door.target.with(&door.wish(), b"")?;
        Ok(door)
    }

    /// The same for one family, if it is for both.
    pub(super) fn narrowed(self, families: Families) -> Door {
        match self.families {
            Families::Both => Door { families, ..self },
            Families::V4 | Families::V6 => self,
        }
    }

    /// Whether it can be closed early.
    pub(super) fn closes(&self) -> Result<(), Failure> {
        self.target.with(&closing(), b"").map(drop)
    }

    /// Knocks, without a word on standard output. A server that answers has a moment to open the door, or to refuse.
    pub(super) fn knock(&self) -> Result<Vec<Sent>, Failure> {
        let how = args::Knock::silent(self.families);
        let to = knock::destinations(&how, &self.target)?;
        let options = Options { totp: totp::code(&how, &self.target)?, ..self.wish() };
        let sent = say(&self.target, &options, &how, self.knocked.get_or_init(|| to).clone())?;
        answer::opened(&self.target, &sent, self.timeout)?;
        Ok(sent)
    }

    /// Asks to close it where it was knocked for, without a word on standard output.
    pub(super) fn release(&self) -> Result<(), Failure> {
        let Some(to) = self.knocked.get() else { return Ok(()) };
        say(&self.target, &closing(), &args::Knock::silent(self.families), to.clone()).map(drop)
    }

    /// Knocks and connects.
    pub(super) fn enter(&self, host: &Host, port: u16) -> Result<TcpStream, Failure> {
        let sent = self.knock()?;
        let addresses = self.addresses(&sent, host, port)?;
        // The servers of siglatch v1, which have no id, may run a copy.
        let repeated: &[Sent] = if self.target.server_id.is_some() { &sent } else { &[] };
        let again = || repeated.iter().for_each(Sent::again);
        reach::connect(&addresses, &Clock::start(), self.timeout, again)
            .map_err(|unreached| self.shut(&unreached, host, port))
    }

    /// Where the knocked server was knocked, for a name may have more addresses; where another host is.
    fn addresses(&self, sent: &[Sent], host: &Host, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        if *host == self.target.host {
            return Ok(sent.iter().map(|Sent { to, .. }| at(*to, port)).collect());
        }
        let unknown = |error| Failure::new(Exit::TryAgain, format!("cannot resolve {host}: {error}"));
        let found = (host.as_str(), port).to_socket_addrs().map_err(unknown)?;
        let found = reach::in_turns(found.filter(|to| match self.families {
            Families::Both => true,
            Families::V4 => to.is_ipv4(),
            Families::V6 => to.is_ipv6(),
        }));
        if found.is_empty() {
            let what = format!("{host} has no address of the family that is asked for");
            return Err(Failure::new(Exit::TryAgain, what));
        }
        Ok(found)
    }

    fn shut(&self, unreached: &Unreached, host: &Host, port: u16) -> Failure {
        let Target { label, what, .. } = &self.target;
        let time = units::show_duration(self.timeout);
        let hint = if unreached.refused() {
            "it refuses: does something listen there? and is that the port that the action opens?"
        } else {
            "was the knock refused? the server's log knows; here the clock must be right, and the address one \
             that the action is for"
        };
        let what =
            format!("knocked {label} for {what}, but {host} port {port} did not open in {time}: {unreached}");
        Failure::new(Exit::TryAgain, what).hint(hint)
    }

    fn wish(&self) -> Options {
        Options { hold: self.hold, ..Options::default() }
    }
}

impl args::Knock {
    /// For what goes through a door: each family unless one is asked for, and nothing said but errors.
    fn silent(families: Families) -> args::Knock {
        args::Knock {
            quiet: true,
            all_families: families == Families::Both,
            ipv4: families == Families::V4,
            ipv6: families == Families::V6,
            ..args::Knock::default()
        }
    }
}

/// Runs `siglatch wait`.
pub(super) fn wait(args: args::Wait) -> Result<(), Failure> {
    let args::Wait { profile, action, port, host, opening, quiet } = args;
    let door = Door::new(target::profile(&profile)?, Some(&action), &opening)?;
    let host = host.unwrap_or_else(|| door.target.host.clone());
    let stream = door.enter(&host, port)?;
    if quiet {
        return Ok(());
    }
    let at = stream.peer_addr().map(|at| format!(" at {}", at.ip())).unwrap_or_default();
    exit::say(&format!("{host} port {port} is open{at}\n"))
}

/// Runs `siglatch release`.
pub(super) fn release(args: &args::Release) -> Result<Exit, Failure> {
    let mut target = Target::of_invite(target::profile(&args.profile)?, &args.action)?;
    target.what = format!("release of {}", target.what);
    let address = args.address;
    let knock = args::Knock { quiet: args.quiet, address, ..args::Knock::silent(args.family.families()) };
    let to = knock::destinations(&knock, &target)?;
    let sent = say(&target, &Options { address, ..closing() }, &knock, to)?;
    answer::conclude(&knock, &target, &sent, answer::patience(&knock, &target)?)
}

fn say(
    target: &Target,
    options: &Options,
    how: &args::Knock,
    to: Vec<SocketAddr>,
) -> Result<Vec<Sent>, Failure> {
    let payload = target.with(options, b"")?;
    let binding = target.server_id.map_or(Binding::None, Binding::Server);
    knock::send(how, target, &payload, binding, to)
}

/// The action that is meant where none is named.
pub(super) fn usual(invite: &Invite) -> Result<String, Failure> {
    let Invite { name, actions, .. } = invite;
    let ssh = Name::parse("ssh").filter(|ssh| actions.contains_key(ssh));
    let doors = actions.iter().filter(|(_, action)| action.opens == Opens::Door).map(|(name, _)| name);
    let chosen = ssh.as_ref().or_else(|| only(doors)).or_else(|| only(actions.keys()));
    chosen.map(ToString::to_string).ok_or_else(|| {
        let what = format!("which action of the profile {name} opens the door?");
        let hint = format!("name one: {}", super::action_list(invite));
        Failure::new(Exit::Usage, what).hint(hint)
    })
}

fn only<'a>(mut names: impl Iterator<Item = &'a Name>) -> Option<&'a Name> {
    let first = names.next();
    first.filter(|_| names.next().is_none())
}

fn at(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

fn closing() -> Options {
    Options { release: Some(Release), ..Options::default() }
}
