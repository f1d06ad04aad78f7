//! The arguments of what is asked of the running daemon.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{At, CONFIG, name};
use crate::config::resolved::Role;
use crate::wire::invite::Name;

/// Shows the running daemon on one screen
#[derive(Args, Debug)]
pub(in crate::ctl) struct StatusOf {
    /// As JSON, with everything that is counted
    #[arg(long)]
    pub(in crate::ctl) json: bool,
    #[command(flatten)]
    pub(in crate::ctl) way: Way,
}

/// Shows the running daemon live: what comes and is refused, who holds which door, and ends leases
///
/// Keys: Tab goes to the other table, s and r sort it, / filters, x ends the chosen lease and u all of its user's, once confirmed, q quits.
#[cfg(feature = "top")]
#[derive(Args, Debug)]
pub(in crate::ctl) struct Top {
    #[command(flatten)]
    pub(in crate::ctl) way: Way,
}

/// Changes one setting of the running daemon
///
/// Most are in force at once, until siglatchd ends; what takes effect at a start only (addresses, keys, folders, the sandbox) waits for
/// the next one, which goes on without it if it cannot start so. The files are read anew, as at a reload. What programs run and as whom is
/// no setting: edit the file.
#[derive(Args, Debug)]
#[command(after_help = SET_EXAMPLES)]
pub(in crate::ctl) struct SetOne {
    /// Dotted, as limits.user_rate or users.alice.quota
    #[arg(value_name = "KEY")]
    pub(in crate::ctl) key: String,
    /// What to, as in the configuration; text needs no quotes. Left out: as it is by default
    #[arg(value_name = "VALUE")]
    pub(in crate::ctl) value: Option<String>,
    /// Say what would come of it, and change nothing
    #[arg(long)]
    pub(in crate::ctl) dry_run: bool,
    /// Write it into the configuration, too
    #[arg(long)]
    pub(in crate::ctl) save: bool,
    #[command(flatten)]
    pub(in crate::ctl) way: Way,
}

/// Changes the settings that a file has, all of them or none
///
/// The file is a piece of configuration, as in `siglatchctl set`.
#[derive(Args, Debug)]
pub(in crate::ctl) struct Apply {
    /// Settings in TOML
    #[arg(value_name = "FILE")]
    pub(in crate::ctl) file: PathBuf,
    /// Say what would come of it, and change nothing
    #[arg(long)]
    pub(in crate::ctl) dry_run: bool,
    /// Write them into the configuration, too
    #[arg(long)]
    pub(in crate::ctl) save: bool,
    #[command(flatten)]
    pub(in crate::ctl) way: Way,
}

/// Shows what waits for siglatchd's next start
#[derive(Args, Debug)]
pub(in crate::ctl) struct Pending {
    /// Forget it
    #[arg(long)]
    pub(in crate::ctl) discard: bool,
    #[command(flatten)]
    pub(in crate::ctl) way: Way,
}

#[derive(Args, Debug)]
pub(in crate::ctl) struct Switch {
    #[command(subcommand)]
    pub(in crate::ctl) what: Switched,
}

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Switched {
    /// A user, by name
    User(One),
    /// An action, by name
    Action(One),
}

#[derive(Args, Debug)]
pub(in crate::ctl) struct One {
    /// Its name
    #[arg(value_name = "NAME", value_parser = name)]
    pub(in crate::ctl) name: Name,
    /// Leave the configuration as it is
    #[arg(long)]
    pub(in crate::ctl) until_restart: bool,
    #[command(flatten)]
    pub(in crate::ctl) way: Way,
}

#[derive(Args, Debug)]
pub(in crate::ctl) struct Banned {
    /// An address or network, such as 192.0.2.7 or 2001:db8::/32
    #[arg(value_name = "NETWORK")]
    pub(in crate::ctl) network: String,
    /// Leave the configuration as it is
    #[arg(long)]
    pub(in crate::ctl) until_restart: bool,
    #[command(flatten)]
    pub(in crate::ctl) way: Way,
}

/// Says what would become of a knock that a user made now, stamped and bound; nothing runs
///
/// A whole datagram is made with his key, opened with the server's, and judged. Exit code 0 if it would run, 77 if not.
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatchctl test-knock alice ssh --from 192.0.2.7")]
pub(in crate::ctl) struct TestKnock {
    /// The user's name
    #[arg(value_name = "USER", value_parser = name)]
    pub(in crate::ctl) user: Name,
    /// An action's name or number
    #[arg(value_name = "ACTION")]
    pub(in crate::ctl) action: String,
    /// Where it is to come from
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(in crate::ctl) from: IpAddr,
    #[command(flatten)]
    pub(in crate::ctl) way: Way,
}

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Admin {
    Key(AdminKey),
    Add(AdminAdd),
    /// Lists them
    List(At),
}

/// Prints the public half of the key that your requests are signed with
///
/// The key is made if it is missing.
#[derive(Args, Debug)]
pub(in crate::ctl) struct AdminKey {
    /// Its file [default: admin.key beside the configuration]
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) admin_key: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::ctl) at: At,
}

/// Adds an administrator to the configuration, or gives one another key and role
#[derive(Args, Debug)]
#[command(
    after_help = "Example: siglatchctl admin add carol --role operator --key \"$(siglatchctl admin key)\""
)]
pub(in crate::ctl) struct AdminAdd {
    /// His name
    #[arg(value_name = "NAME", value_parser = name)]
    pub(in crate::ctl) name: Name,
    /// viewer (looks), operator (ends leases, reloads, bans, turns users off, has the log say more), admin (changes every setting)
    #[arg(long, value_name = "ROLE", value_parser = role)]
    pub(in crate::ctl) role: Role,
    /// His public key, as his `siglatchctl admin key` prints it [default: yours]
    #[arg(long, value_name = "HEX")]
    pub(in crate::ctl) key: Option<String>,
    #[command(flatten)]
    pub(in crate::ctl) at: At,
}

/// Which daemon is asked, and in whose name.
#[derive(Args, Debug)]
pub(in crate::ctl) struct Way {
    /// The daemon's configuration
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub(in crate::ctl) config: PathBuf,
    /// The key to sign with [default: admin.key beside the configuration]
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) admin_key: Option<PathBuf>,
    /// Your name in [admins] [default: whoever has this key]
    #[arg(long = "as", value_name = "NAME", value_parser = name)]
    pub(in crate::ctl) admin: Option<Name>,
    /// The daemon's control socket [default: control.sock in runtime_dir]
    #[arg(long, value_name = "PATH")]
    pub(in crate::ctl) socket: Option<PathBuf>,
    /// Ask over TCP, as `control.listen` has it
    #[arg(long, value_name = "ADDR", requires = "token", conflicts_with = "socket")]
    pub(in crate::ctl) tcp: Option<SocketAddr>,
    /// The file of `control.token`
    #[arg(long, value_name = "FILE", requires = "tcp")]
    pub(in crate::ctl) token: Option<PathBuf>,
}

fn role(text: &str) -> Result<Role, &'static str> {
    let roles = [Role::Viewer, Role::Operator, Role::Admin];
    roles.into_iter().find(|role| role.to_string() == text).ok_or("no role: viewer, operator or admin")
}

const SET_EXAMPLES: &str = "Examples:
  siglatchctl set log.level debug
  siglatchctl set users.alice.quota 20/day --save
  siglatchctl set limits.workers 4 --dry-run";
