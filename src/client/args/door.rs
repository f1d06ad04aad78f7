//! The command lines of what goes through a door: `ssh`, `ssh-config`, `proxy`, `wait`, `release`.

use std::ffi::OsString;
use std::net::IpAddr;
use std::time::Duration;

use clap::Args;

use super::host;
use crate::config::units;
use crate::wire::invite::Host;

/// Closes a door before its time is over
///
/// Asks the server to end what a knock for the same action began. Whoever else came through the same door, from the
/// same address, keeps it open until he lets go or his time is over.
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatch release office ssh")]
pub(in crate::client) struct Release {
    /// The profile
    pub(in crate::client) profile: String,
    /// The action that opened it
    pub(in crate::client) action: String,
    /// The address that it was opened for, if not the one that knocked
    #[arg(long, value_name = "ADDR")]
    pub(in crate::client) address: Option<IpAddr>,
    #[command(flatten)]
    pub(in crate::client) family: Family,
    /// Say nothing but errors
    #[arg(short, long)]
    pub(in crate::client) quiet: bool,
}

/// Knocks, waits until the port answers, and becomes ssh
///
/// Options of siglatch stand before PROFILE; all that stands behind it is ssh's. The word behind PROFILE is the action if
/// the profile has one of that name; `--` in that place says that it is none. Without it the action is "ssh", or the only
/// one that there is. Host and port are those of the profile's server and of your ssh configuration, which is heeded
/// as ever; where that has a way of its own (ProxyJump, ProxyCommand) the knock is sent and ssh started at once.
#[derive(Args, Debug)]
#[command(
    override_usage = "siglatch ssh [OPTIONS] PROFILE [ACTION | --] [SSH ARGUMENTS]",
    after_help = "Examples:\n  siglatch ssh office\n  siglatch ssh --for 10m office -l root -L 8080:localhost:80\n  \
        siglatch ssh office ssh uptime"
)]
pub(in crate::client) struct Ssh {
    #[command(flatten)]
    pub(in crate::client) opening: Opening,
    /// Connect to this host [default: the profile's server]
    #[arg(long, value_name = "H", value_parser = host)]
    pub(in crate::client) host: Option<Host>,
    /// The profile, then what is the action's and ssh's
    #[arg(value_name = "PROFILE", required = true, num_args = 1.., trailing_var_arg = true, hide = true)]
    pub(in crate::client) words: Vec<OsString>,
}

/// Prints what to paste into ~/.ssh/config
///
/// With it ssh knocks by itself, and so does all that uses it: scp, sftp, rsync, git, editors.
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatch ssh-config office >> ~/.ssh/config && ssh office")]
pub(in crate::client) struct SshConfig {
    /// The profile; `ssh PROFILE` will use it
    pub(in crate::client) profile: String,
    /// The action to knock for [default: "ssh", or the only one]
    pub(in crate::client) action: Option<String>,
    /// Close the door when the session ends
    #[arg(long)]
    pub(in crate::client) release: bool,
    /// Ask for so long, such as 10m or 1h30m [default: what the server gives]
    #[arg(long = "for", value_name = "TIME", value_parser = hold)]
    pub(in crate::client) hold: Option<u32>,
}

/// Knocks, waits until the port answers, and carries bytes: OpenSSH's ProxyCommand
///
/// What comes on standard input goes to the port, what the port sends goes to standard output; each way ends by itself.
/// With --release the door is closed when both have ended, or by SIGHUP (which is how ssh ends it), SIGINT or SIGTERM.
#[derive(Args, Debug)]
#[command(after_help = "Example, in ~/.ssh/config (see `siglatch ssh-config`):\n  \
    ProxyCommand siglatch proxy office --action ssh %h %p")]
pub(in crate::client) struct Proxy {
    /// The profile
    pub(in crate::client) profile: String,
    /// Where to connect
    #[arg(value_parser = host)]
    pub(in crate::client) host: Host,
    /// Its TCP port
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(in crate::client) port: u16,
    /// The action to knock for [default: "ssh", or the only one]
    #[arg(long, value_name = "ACTION")]
    pub(in crate::client) action: Option<String>,
    /// Close the door at the end
    #[arg(long)]
    pub(in crate::client) release: bool,
    #[command(flatten)]
    pub(in crate::client) opening: Opening,
}

/// Knocks and waits until a port answers
///
/// Ends with 0 as soon as a connection to it comes about, and with 75 when none does in time. The connection is closed again.
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatch wait office web --port 443 && curl https://vpn.example.org")]
pub(in crate::client) struct Wait {
    /// The profile
    pub(in crate::client) profile: String,
    /// The action to knock for
    pub(in crate::client) action: String,
    /// The TCP port
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    pub(in crate::client) port: u16,
    /// Where it is [default: the profile's server]
    #[arg(long, value_name = "H", value_parser = host)]
    pub(in crate::client) host: Option<Host>,
    #[command(flatten)]
    pub(in crate::client) opening: Opening,
    /// Say nothing but errors
    #[arg(short, long)]
    pub(in crate::client) quiet: bool,
}

/// How a door is knocked for, and how long its port is waited for.
#[derive(Args, Debug)]
pub(in crate::client) struct Opening {
    /// Ask for so long, such as 10m or 1h30m [default: what the server gives]
    #[arg(long = "for", value_name = "TIME", value_parser = hold)]
    pub(in crate::client) hold: Option<u32>,
    /// Give up when the port has not answered for so long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    pub(in crate::client) timeout: Duration,
    #[command(flatten)]
    pub(in crate::client) family: Family,
}

/// Without either, each family that the server has.
#[derive(Args, Clone, Copy, Debug)]
pub(in crate::client) struct Family {
    /// Use IPv4 alone
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Use IPv6 alone
    #[arg(short = '6', long)]
    ipv6: bool,
}

/// The address families that are knocked and connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum Families {
    Both,
    V4,
    V6,
}

impl Family {
    pub(in crate::client) fn families(self) -> Families {
        match (self.ipv4, self.ipv6) {
            (true, _) => Families::V4,
            (false, true) => Families::V6,
            (false, false) => Families::Both,
        }
    }
}

impl Families {
    /// As ssh takes it.
    pub(in crate::client) fn option(self) -> Option<&'static str> {
        match self {
            Families::Both => None,
            Families::V4 => Some("-4"),
            Families::V6 => Some("-6"),
        }
    }
}

/// Whole seconds, as the wire has them.
pub(super) fn hold(text: &str) -> Result<u32, &'static str> {
    let time = units::duration(text).filter(|time| time.subsec_nanos() == 0);
    let seconds = time.and_then(|time| u32::try_from(time.as_secs()).ok()).filter(|seconds| *seconds > 0);
    seconds.ok_or("no time of whole seconds, such as 90s, 10m or 1h30m")
}

fn timeout(text: &str) -> Result<Duration, &'static str> {
    let time = units::duration(text).filter(|time| (SHORTEST..=LONGEST).contains(time));
    time.ok_or("no time from 100ms to 1h, such as 500ms, 10s or 2m")
}

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_hours(1);
