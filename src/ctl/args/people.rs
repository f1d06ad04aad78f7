//! The arguments of commands about people and their keys.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{At, One, Way, host, name};
use crate::config;
use crate::wire::invite::{Host, Name};

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum User {
    Add(Box<UserAdd>),
    Show(UserShow),
    /// Takes a user's knocks again
    Enable(One),
    /// Has a user's knocks refused from now on
    Disable(One),
    Remove(UserRemove),
    Totp(UserTotp),
    /// Lists the users
    List(At),
}

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Key {
    /// Lets a user exchange his key for one that only he and the server know; or gives the server another
    #[command(subcommand)]
    Rotate(Rotate),
    /// Ends a user's key, with effect at once
    #[command(subcommand)]
    Revoke(RevokeKey),
}

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Rotate {
    User(KeyRotate),
    Server(ServerRotate),
}

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum RevokeKey {
    User(KeyRevoke),
}

/// Gives a user leave to exchange his key, by `siglatch key rotate`
///
/// Old and new are good until he has knocked under the new one, or until the leave ends. With a running siglatchd at once.
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatchctl key rotate user alice --overlap 14d")]
pub(in crate::ctl) struct KeyRotate {
    /// The user's name
    #[arg(value_name = "NAME", value_parser = name)]
    pub(in crate::ctl) name: Name,
    /// How long he may, 1m to 365d
    #[arg(long, value_name = "TIME", value_parser = leave, default_value = "7d")]
    pub(in crate::ctl) overlap: Duration,
    #[command(flatten)]
    pub(in crate::ctl) way: Way,
}

/// Makes another key for the server, and leaves the one before good beside it until `--finish`
///
/// The new key is a file beside the old one, and as long; the configuration names both, and keeps its comments and order. New
/// invites have the new one; who has an older invite runs `siglatch key update`. It is in force when siglatchd is restarted. It needs no
/// running siglatchd.
#[derive(Args, Debug)]
#[command(after_help = SERVER_ROTATE_EXAMPLES)]
pub(in crate::ctl) struct ServerRotate {
    /// End the key before: who has not moved to the new one is locked out. Its file is removed
    #[arg(long)]
    pub(in crate::ctl) finish: bool,
    /// Do not ask, whoever has not moved
    #[arg(long, requires = "finish")]
    pub(in crate::ctl) yes: bool,
    #[command(flatten)]
    pub(in crate::ctl) at: At,
}

/// Puts a key that nobody has in the place of a user's, has siglatchd go by that, and ends his leases
///
/// Whatever it was exchanged for ends with it. `siglatchctl user add NAME --force` gives him another.
#[derive(Args, Debug)]
pub(in crate::ctl) struct KeyRevoke {
    /// The user's name
    #[arg(value_name = "NAME", value_parser = name)]
    pub(in crate::ctl) name: Name,
    #[command(flatten)]
    pub(in crate::ctl) way: Way,
}

/// Makes a user's key, adds him to the configuration and writes his invite
///
/// The invite is a file, and what it says in one line is printed as well. The configuration keeps its comments and order; it is
/// written last, so that what was begun and not finished is not in force. A running siglatchd goes by it at once.
#[derive(Args, Debug)]
#[command(after_help = USER_ADD_EXAMPLES)]
pub(in crate::ctl) struct UserAdd {
    /// The user's name
    #[arg(value_name = "NAME", value_parser = name, required_unless_present = "from")]
    pub(in crate::ctl) name: Option<Name>,
    /// What he may run, by name; may be given several times, or with commas
    #[arg(
        long = "action", value_name = "A", required_unless_present = "from", value_delimiter = ',', value_parser = name
    )]
    pub(in crate::ctl) actions: Vec<Name>,
    /// Add everybody in this table, or nobody: comma-separated, its first line names the columns, of which there are name,
    /// actions (with blanks between them), id, not_after and max_knocks
    #[arg(long, value_name = "CSV", conflicts_with_all = ["name", "actions", "id", "not_after", "max_knocks", "qr"])]
    pub(in crate::ctl) from: Option<PathBuf>,
    /// His number on the wire [default: the lowest that nobody has or had, from 1]
    #[arg(long, value_name = "N")]
    pub(in crate::ctl) id: Option<u16>,
    /// Let him knock until then: a date, or a moment such as 2030-12-31T18:00:00+01:00
    #[arg(long, value_name = "WHEN")]
    pub(in crate::ctl) not_after: Option<String>,
    /// Let him knock so often at all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::ctl) max_knocks: Option<u32>,
    /// Make an invite whose key is exchanged at its first use for one that nobody else knows, and is good for nothing else
    #[arg(long)]
    pub(in crate::ctl) once: bool,
    /// How long the invite can be used, 1m to 365d
    #[arg(long, value_name = "TIME", value_parser = leave, default_value = "2d", requires = "once")]
    pub(in crate::ctl) expires: Duration,
    /// Where to write the invite; `-` is standard output alone; with --from a folder, which is made [default: NAME.invite.toml in this folder]
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) invite: Option<PathBuf>,
    /// Show the invite as a QR code, too; or write it, as a PNG
    #[arg(
        long, value_name = "FILE.png", num_args = 0..=1, require_equals = true, default_missing_value = "-"
    )]
    pub(in crate::ctl) qr: Option<PathBuf>,
    /// The server's name or address in the invite [default: public_host of the configuration]
    #[arg(long, value_name = "H", value_parser = host)]
    pub(in crate::ctl) host: Option<Host>,
    /// The server's UDP port in the invite [default: the first one in `listen`]
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    pub(in crate::ctl) port: Option<u16>,
    /// What the user will call this server [default: the first part of its name]
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(in crate::ctl) profile_name: Option<Name>,
    /// Have him knock plain, without the stamp that carries a knock through a flood
    #[arg(long)]
    pub(in crate::ctl) no_stamp: bool,
    /// Replace key and invite if they are there: a user who is known keeps his number and gets a new key and these
    /// actions; the old key ends
    #[arg(long)]
    pub(in crate::ctl) force: bool,
    #[command(flatten)]
    pub(in crate::ctl) way: Way,
}

/// Says all that is known of a user: his settings, how old his keys are, how often he knocked
///
/// Reads configuration and store, whether siglatchd runs or not.
#[derive(Args, Debug)]
pub(in crate::ctl) struct UserShow {
    /// The user's name
    #[arg(value_name = "NAME", value_parser = name)]
    pub(in crate::ctl) name: Name,
    #[command(flatten)]
    pub(in crate::ctl) at: At,
}

/// Removes a user: his table, and his keys that nobody else has
///
/// With effect at once, and his leases end. Asks before it does. The configuration as it was is kept beside it.
#[derive(Args, Debug)]
pub(in crate::ctl) struct UserRemove {
    /// The user's name
    #[arg(value_name = "NAME", value_parser = name)]
    pub(in crate::ctl) name: Name,
    /// Do not ask
    #[arg(long)]
    pub(in crate::ctl) yes: bool,
    #[command(flatten)]
    pub(in crate::ctl) way: Way,
}

/// Makes the key of a user's authenticator and shows it, once
///
/// As a URI and as a QR code for its camera. Actions with `totp = true` then take his knocks with a code alone.
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatchctl user totp alice")]
pub(in crate::ctl) struct UserTotp {
    /// The user's name
    #[arg(value_name = "NAME", value_parser = name)]
    pub(in crate::ctl) name: Name,
    /// Replace the key that he has; the old one ends once siglatchd has read that
    #[arg(long)]
    pub(in crate::ctl) force: bool,
    #[command(flatten)]
    pub(in crate::ctl) at: At,
}

fn leave(text: &str) -> Result<Duration, &'static str> {
    let range = Duration::from_secs(60)..=Duration::from_secs(365 * 86_400);
    config::duration(text)
        .filter(|time| range.contains(time))
        .ok_or("a time from 1m to 365d, such as 48h or 7d")
}

const SERVER_ROTATE_EXAMPLES: &str = "Example:
  siglatchctl key rotate server && systemctl restart siglatchd
  siglatchctl status                      (who has not moved; each: siglatch key update)
  siglatchctl key rotate server --finish && systemctl restart siglatchd";

const USER_ADD_EXAMPLES: &str = "Examples:
  siglatchctl user add alice --action ssh --action hello
  siglatchctl user add bob --action ssh,web --host 192.0.2.1 --port 62201
  siglatchctl user add dave --action ssh --once --expires 2d
  siglatchctl user add guest --action wifi --not-after 2030-12-31 --max-knocks 3 --qr
  siglatchctl user add --from people.csv --invite /root/invites
  ssh root@server siglatchctl user add carol --action ssh --invite - | siglatch join -";
