//! The command line of `siglatchctl`.

pub(super) mod audit;
#[cfg(feature = "backup")]
pub(super) mod backup;
pub(super) mod import;
mod people;
mod steer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub(super) use self::people::{
    Key, KeyRevoke, KeyRotate, RevokeKey, Rotate, ServerRotate, User, UserAdd, UserRemove, UserShow, UserTotp,
};
#[cfg(feature = "top")]
pub(super) use self::steer::Top;
pub(super) use self::steer::{
    Admin, AdminAdd, AdminKey, Apply, Banned, One, Pending, SetOne, StatusOf, Switch, Switched, TestKnock,
    Way,
};

use crate::config;
use crate::wire::KnockId;
use crate::wire::invite::{Host, Name};

/// Sets up and looks after a siglatch server.
#[derive(Debug, Parser)]
#[command(name = "siglatchctl", version, max_term_width = 100, after_help = EXAMPLES)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Init(Init),
    Status(StatusOf),
    #[cfg(feature = "top")]
    Top(Top),
    /// Has the daemon read its configuration again
    Reload(Way),
    Set(SetOne),
    Apply(Apply),
    /// Shows where the running daemon differs from its files
    Diff(Way),
    Pending(Pending),
    /// Lets a user knock again, or an action run
    Enable(Switch),
    /// Has a user's knocks, or an action's, refused from now on
    Disable(Switch),
    /// Refuses knocks from a network, whoever sends them
    Ban(Banned),
    /// Takes knocks from a network again
    Unban(Banned),
    TestKnock(TestKnock),
    /// Those who may ask the running daemon
    #[command(subcommand)]
    Admin(Admin),
    /// Tells the version of this program and of the running daemon
    Version(Way),
    /// Adds, shows, switches and removes users, makes their second factor
    #[command(subcommand)]
    User(User),
    /// Exchanges and ends keys
    #[command(subcommand)]
    Key(Key),
    /// Lists actions
    #[command(subcommand)]
    Action(Action),
    Leases(Leases),
    Revoke(Revoke),
    Usage(Usage),
    History(audit::History),
    Explain(audit::Explain),
    /// The trail of what was decided, which cannot be changed unseen
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Webhooks that were not delivered
    #[command(subcommand)]
    Webhooks(Webhooks),
    Check(Check),
    /// Rules that doors need, and a safe way to load them
    #[command(subcommand)]
    Firewall(Firewall),
    Doctor(Doctor),
    #[command(subcommand)]
    Import(import::Import),
    #[cfg(feature = "backup")]
    Backup(backup::Backup),
    #[cfg(feature = "backup")]
    Restore(backup::Restore),
    Exporter(super::exporter::Exporter),
}

/// Makes keys, server id, an action to try and a configuration that starts as it is
///
/// Asks nothing, and changes nothing unless all of it can be made.
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatchctl init --host vpn.example.org")]
pub(super) struct Init {
    /// The folder of configuration, keys and actions
    #[arg(value_name = "DIR", default_value = FOLDER)]
    pub(super) dir: PathBuf,
    /// Listen on this address and UDP port; may be given several times
    #[arg(long, value_name = "ADDR", value_parser = listen, default_values = ["0.0.0.0:50000", "[::]:50000"])]
    pub(super) listen: Vec<SocketAddr>,
    /// The name or address that invites give to users
    #[arg(long, value_name = "NAME", value_parser = host)]
    pub(super) host: Option<Host>,
    /// Where accepted knocks are remembered [default: /var/lib/siglatch; `state` in a DIR that is named]
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// Replace what is there: a new server key and id, which end every invite made before
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Lists the actions
    List(At),
}

/// Lists who holds which door, from where and until when
///
/// Reads the store, so it works while siglatchd is down, too.
#[derive(Args, Debug)]
pub(super) struct Leases {
    /// As JSON: a list of objects
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) at: At,
}

/// Ends leases now: doors that nobody else holds are closed
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("whom").required(true))]
pub(super) struct Revoke {
    /// The lease with this id, as `siglatchctl leases` shows it
    #[arg(value_name = "LEASE", value_parser = lease, group = "whom")]
    pub(super) lease: Option<KnockId>,
    /// All leases of this user
    #[arg(long, value_name = "NAME", value_parser = name, group = "whom")]
    pub(super) user: Option<Name>,
    /// All leases
    #[arg(long, group = "whom")]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) way: Way,
}

/// Says how often each user ran each action, and when last
///
/// Reads the store, whether siglatchd runs or not. DAY and WEEK are the last 24 hours and seven days.
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatchctl usage --csv > usage.csv")]
pub(super) struct Usage {
    /// As comma-separated values, with a line of names on top
    #[arg(long)]
    pub(super) csv: bool,
    #[command(flatten)]
    pub(super) at: At,
}

#[derive(Debug, Subcommand)]
pub(super) enum Webhooks {
    /// Lists those that did not get through and are tried no more, by the store
    Failed(HookList),
    /// Lists those that are still to be sent, by the store
    Pending(HookList),
    /// Has siglatchd send one, or all that have failed, now
    Retry(Chosen),
    /// Has siglatchd throw one, or all that have failed, away
    Drop(Chosen),
}

#[derive(Args, Debug)]
pub(super) struct HookList {
    /// As JSON: a list of objects
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) at: At,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(super) struct Chosen {
    /// The webhook with this id, as the lists show it
    #[arg(value_name = "ID", value_parser = hook, group = "which")]
    pub(super) id: Option<KnockId>,
    /// All that have failed
    #[arg(long, group = "which")]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) way: Way,
}

/// Says everything that is wrong with a configuration
///
/// The same check that siglatchd makes at start and at a reload: exit code 78 if it would refuse the file.
#[derive(Args, Debug)]
pub(super) struct Check {
    /// The daemon's configuration
    #[arg(value_name = "FILE", default_value = CONFIG)]
    pub(super) file: PathBuf,
    /// The same, as the other commands take it
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Firewall {
    Snippet(Snippet),
    Try(Try),
    /// The other half of `try`
    #[command(hide = true)]
    Watch(Try),
}

/// Prints the nftables ruleset that these actions' doors need
///
/// One that closes the ports to all but the addresses that siglatchd has put into the actions' sets. All doors of a port must be
/// named together: its rules take the place of those that were loaded before. Nothing is loaded.
#[derive(Args, Debug)]
#[command(after_help = SNIPPET_EXAMPLES)]
pub(super) struct Snippet {
    /// Actions that have `nft`, by name; each with a port behind it, such as ssh:tcp/22, or with those of --tcp and --udp
    #[arg(value_name = "ACTION", required = true, value_parser = behind)]
    pub(super) doors: Vec<Behind>,
    /// A TCP port behind the doors; may be given several times
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) tcp: Vec<u16>,
    /// A UDP port behind the doors; may be given several times
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) udp: Vec<u16>,
    #[command(flatten)]
    pub(super) at: At,
}

/// An action, and what is behind it.
#[derive(Clone, Debug)]
pub(super) struct Behind {
    pub(super) action: Name,
    /// Protocol and number.
    pub(super) port: Option<(&'static str, u16)>,
}

/// Loads a ruleset of nftables, and takes it back unless you confirm it
///
/// So that nobody locks himself out: without a `yes` within the time, at the end of input, when the connection or this program
/// ends, the firewall is put back as it was. Rules are not made permanent.
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatchctl firewall try --revert 5m /etc/siglatch/doors.nft")]
pub(super) struct Try {
    /// How long to wait for the confirmation, 1s to 1d
    #[arg(long, value_name = "TIME", value_parser = revert, default_value = "5m")]
    pub(super) revert: Duration,
    /// What `nft -f` is to load
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
}

/// Says what is wrong, or could go wrong, with this server, and how to mend it
///
/// Asks the running daemon if it answers; looks at clock, configuration, keys, folders, disk and sandbox; and at whether each door of
/// nftables would really open, and close: at tables, sets and rules that are loaded now, what other firewalls would do, and whether a
/// reboot brings the rules back. Changes nothing. Exit code 78 if something is bad.
#[derive(Args, Debug)]
pub(super) struct Doctor {
    #[command(flatten)]
    pub(super) way: Way,
}

/// Which configuration.
#[derive(Args, Debug)]
pub(super) struct At {
    /// The daemon's configuration
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub(super) config: PathBuf,
}

fn listen(text: &str) -> Result<SocketAddr, &'static str> {
    let wanted = "no address with a port, such as 192.0.2.1:50000 or [::]:50000";
    text.parse().map_err(|_| wanted)
}

fn host(text: &str) -> Result<Host, &'static str> {
    Host::parse(text).ok_or("no host name and no IP address")
}

fn lease(text: &str) -> Result<KnockId, &'static str> {
    KnockId::parse(text).ok_or("no lease: one has 16 hex digits")
}

fn hook(text: &str) -> Result<KnockId, &'static str> {
    KnockId::parse(text).ok_or("no webhook: one has 16 hex digits")
}

fn behind(text: &str) -> Result<Behind, &'static str> {
    let Some((action, port)) = text.split_once(':') else {
        return Ok(Behind { action: name(text)?, port: None });
    };
    let (protocol, number) = port.split_once('/').unwrap_or_default();
    let protocol = ["tcp", "udp"].into_iter().find(|known| *known == protocol);
    let number = number.parse().ok().filter(|number| *number != 0);
    let port = protocol.zip(number).ok_or("behind an action's colon stands a port, such as ssh:tcp/22")?;
    Ok(Behind { action: name(action)?, port: Some(port) })
}

fn revert(text: &str) -> Result<Duration, &'static str> {
    let range = Duration::from_secs(1)..=Duration::from_secs(86_400);
    config::duration(text)
        .filter(|time| range.contains(time))
        .ok_or("a time from 1s to 1d, such as 90s or 5m")
}

fn name(text: &str) -> Result<Name, &'static str> {
    Name::parse(text).ok_or(Name::RULE)
}

/// The folder that `init` fills if not told otherwise.
pub(super) const FOLDER: &str = "/etc/siglatch";

const CONFIG: &str = "/etc/siglatch/siglatchd.toml";

const SNIPPET_EXAMPLES: &str = "Examples:
  siglatchctl firewall snippet ssh --tcp 22 > /etc/siglatch/doors.nft
  siglatchctl firewall snippet ssh:tcp/22 ssh-for:tcp/22 wireguard:udp/51820 > /etc/siglatch/doors.nft";

const EXAMPLES: &str = "Examples:
  siglatchctl init --host vpn.example.org
  siglatchctl status
  siglatchctl top
  siglatchctl user add alice --action hello
  siglatchctl user totp alice
  siglatchctl user list
  siglatchctl user show alice
  siglatchctl key rotate user alice
  siglatchctl leases
  siglatchctl revoke --user alice
  siglatchctl disable user alice
  siglatchctl set log.level debug
  siglatchctl reload
  siglatchctl usage
  siglatchctl history --since 7d
  siglatchctl audit verify
  siglatchctl webhooks failed
  siglatchctl check
  siglatchctl firewall snippet ssh --tcp 22 > doors.nft
  siglatchctl firewall try doors.nft
  siglatchctl doctor
  siglatchctl import siglatch /etc/siglatch/server.conf --into /etc/siglatch-new
  siglatchctl backup siglatch.age --passphrase-file -
  siglatchctl restore siglatch.age --passphrase-file -
  siglatchctl exporter

Exit codes: 0 done, 1 imported, with something to decide, 64 usage, 70 internal, 75 try again, 77 permission,
78 configuration";
