//! The command line of `siglatch`.

mod door;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};

pub(super) use self::door::{Families, Opening, Proxy, Release, Ssh, SshConfig, Wait};
use crate::config::units;
use crate::wire::invite::{Host, Name};
use crate::wire::options::TotpCode;
use crate::wire::{ActionId, ServerId};

/// Knocks at a siglatch server: one sealed UDP datagram asks it to do one thing
///
/// A siglatch server keeps its ports closed and answers nobody it does not know. A knock asks it for one of the actions
/// that its administrator wrote down for you: to open SSH to your address for an hour, say. You get in by an invite, a small
/// file with the server's address and your key; installed, it is a profile, and every command takes its name.
#[derive(Debug, Parser)]
#[command(name = "siglatch", version, max_term_width = 100, after_help = SHORT_HELP, after_long_help = LONG_HELP)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Join(Join),
    /// Lists the profiles and what they may knock for
    Profiles,
    Knock(Box<Knock>),
    Release(Release),
    Ssh(Ssh),
    SshConfig(SshConfig),
    Proxy(Proxy),
    Wait(Wait),
    /// Exchanges your keys
    #[command(subcommand)]
    Key(Key),
    Whoami(Whoami),
}

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    Rotate(KeyRotate),
    Update(KeyUpdate),
}

/// Exchanges a profile's key for one that only you and the server know
///
/// The administrator has to give leave (siglatchctl key rotate user). What was begun and had no answer goes on where it was.
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatch key rotate office")]
pub(super) struct KeyRotate {
    /// The profile
    #[arg(value_name = "PROFILE")]
    pub(super) profile: String,
    /// Wait so long for each answer, up to 1m
    #[arg(long, value_name = "TIME", value_parser = wait, default_value = "5s")]
    pub(super) wait: Duration,
}

/// Asks for the server's public key, and puts it into the profile if it is another
///
/// For who was told that the server has a new key: while the old one is good, too, the server tells the new one to who has the old
/// one. It is in the profile when a knock under it was answered, and not before.
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatch key update office")]
pub(super) struct KeyUpdate {
    /// The profile [default: all there are]
    #[arg(value_name = "PROFILE")]
    pub(super) profile: Option<String>,
    /// The number of the action that tells it [default: as the profile has it]
    #[arg(long, value_name = "ID", value_parser = action)]
    pub(super) action: Option<ActionId>,
    /// Wait so long for each answer, up to 1m
    #[arg(long, value_name = "TIME", value_parser = wait, default_value = "5s")]
    pub(super) wait: Duration,
}

/// Sends a knock
///
/// Says what was sent and where, and what the server says of it. It answers nobody it does not know, and only if its
/// administrator wants it to; then what is sent is repeated until the answer is there, and still done once.
#[derive(Args, Debug, Default)]
#[command(
    override_usage = "siglatch knock [OPTIONS] PROFILE ACTION [-]\n       \
        siglatch knock [OPTIONS] --host H --port P --user-id N --server-key PEM --hmac-key FILE ACTION_ID [-]",
    after_help = KNOCK_EXAMPLES,
    group = ArgGroup::new("family").args(["ipv4", "ipv6", "all_families"]),
    group = ArgGroup::new("postage").args(["stamp", "no_stamp"])
)]
pub(super) struct Knock {
    /// The profile, the action by name or number, and `-` to read the payload from standard input
    #[arg(value_name = "PROFILE ACTION", num_args = 0..=3, hide = true)]
    pub(super) words: Vec<String>,

    #[command(flatten)]
    pub(super) payload: Payload,

    /// Send this code of your authenticator [default: asked for, where the profile says that the action wants one]
    #[arg(long, value_name = "CODE", value_parser = super::totp::parse)]
    pub(super) totp: Option<TotpCode>,
    /// Ask a door for so long, such as 10m or 1h30m [default: what the server gives]
    #[arg(long = "for", value_name = "TIME", value_parser = door::hold)]
    pub(super) hold: Option<u32>,
    /// Ask a door to open for this address instead of the one that knocks: the server has to allow it
    #[arg(long, value_name = "ADDR")]
    pub(super) address: Option<IpAddr>,
    /// Whom a built-in action such as disable_user is about
    #[arg(long, value_name = "TEXT")]
    pub(super) argument: Option<String>,

    /// Stamp the knock, so that it gets through a flood [default: as the profile has it]
    #[arg(long)]
    pub(super) stamp: bool,
    /// Send it plain: a server of siglatch v1 takes no other
    #[arg(long)]
    pub(super) no_stamp: bool,

    /// Wait so long for the answer, up to 1m; 0 does not wait [default: 2s where the profile says that the server answers]
    #[arg(long, value_name = "TIME", value_parser = wait)]
    pub(super) wait: Option<Duration>,
    /// Say it in JSON, a line for each address that was knocked
    #[arg(long, conflicts_with_all = ["quiet", "verbose"])]
    pub(super) json: bool,

    /// Keep the sent datagram in a new file as well
    #[arg(long, value_name = "FILE")]
    pub(super) save: Option<PathBuf>,
    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Also say timestamp, challenge, payload length and the knock's id, as the server's log has it
    #[arg(short, long)]
    pub(super) verbose: bool,

    /// Knock the server's IPv4 address
    #[arg(short = '4', long, help_heading = "Addresses")]
    pub(super) ipv4: bool,
    /// Knock the server's IPv6 address
    #[arg(short = '6', long, help_heading = "Addresses")]
    pub(super) ipv6: bool,
    /// Send a knock of its own to the server's address of each family, as is done for doors
    #[arg(long, help_heading = "Addresses", conflicts_with_all = ["bind_address", "source", "save"])]
    pub(super) all_families: bool,
    /// Send from this address of this machine
    #[arg(long, value_name = "ADDR", help_heading = "Addresses")]
    pub(super) bind_address: Option<IpAddr>,
    /// Sign for this source: the server takes the knock from no other address. Behind NAT it is the one outside
    #[arg(long, value_name = "ADDR", help_heading = "Addresses", value_parser = source)]
    pub(super) source: Option<IpAddr>,

    #[command(flatten)]
    pub(super) direct: Direct,
}

/// Asks a server how it sees you
///
/// Says your address as it arrives there, its time and how far your clock is off, and what you may knock for. The server
/// needs an action that is built in for this, and the profile its name or number.
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatch whoami office")]
pub(super) struct Whoami {
    /// The profile
    pub(super) profile: String,
    /// The action, by name or number
    #[arg(long, value_name = "ACTION", default_value = "whoami")]
    pub(super) action: String,
    /// Wait so long for the answer, up to 1m
    #[arg(long, value_name = "TIME", value_parser = wait, default_value = "2s")]
    pub(super) wait: Duration,
    /// Say it in JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// What the action gets.
#[derive(Args, Debug, Default)]
#[group(multiple = false)]
pub(super) struct Payload {
    /// Send this text, at most 199 bytes
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) payload: Option<OsString>,
    /// Send this file's bytes, at most 199; `-` is standard input
    #[arg(long, value_name = "F")]
    pub(super) payload_file: Option<PathBuf>,
}

/// A server without a profile.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Without a profile")]
pub(super) struct Direct {
    /// The server's name or address
    #[arg(long, value_name = "H", value_parser = host, requires_all = ["port", "user_id", "server_key", "hmac_key"])]
    pub(super) host: Option<Host>,
    /// Its UDP port
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..), requires = "host")]
    pub(super) port: Option<u16>,
    /// The user's number
    #[arg(long, value_name = "N", requires = "host")]
    pub(super) user_id: Option<u16>,
    /// The server's public key, a PEM file
    #[arg(long, value_name = "PEM", requires = "host")]
    pub(super) server_key: Option<PathBuf>,
    /// The user's key: a file of 32 bytes or 64 hex digits, readable by nobody else
    #[arg(long, value_name = "FILE", requires = "host")]
    pub(super) hmac_key: Option<PathBuf>,
    /// The server's id, 32 hex digits: binds the knock to this server, and stamps it
    #[arg(long, value_name = "HEX", value_parser = server_id, requires = "host")]
    pub(super) server_id: Option<ServerId>,
}

/// Installs an invite as a profile
///
/// Profiles are files in $XDG_CONFIG_HOME/siglatch (~/.config/siglatch) that nobody else can read.
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatch join alice.invite.toml --name office && siglatch knock office ssh")]
pub(super) struct Join {
    /// The invite, a file or a line that begins with siglatch1: ; `-` is standard input, where nobody who lists programs sees it
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Call the profile NEW [default: the name in the invite]
    #[arg(long, value_name = "NEW", value_parser = name)]
    pub(super) name: Option<Name>,
    /// Replace a profile of the same name
    #[arg(long)]
    pub(super) force: bool,
}

fn wait(text: &str) -> Result<Duration, &'static str> {
    let time = if text == "0" { Some(Duration::ZERO) } else { units::duration(text) };
    time.filter(|time| *time <= WAIT_MAX).ok_or("no time up to 1m, such as 500ms or 2s")
}

fn action(text: &str) -> Result<ActionId, &'static str> {
    text.parse().ok().and_then(ActionId::new).ok_or("no number of an action, 1 to 255")
}

fn host(text: &str) -> Result<Host, &'static str> {
    Host::parse(text).ok_or("no host name and no IP address")
}

/// All zero stands for any source on the wire: a binding to it would be none.
fn source(text: &str) -> Result<IpAddr, &'static str> {
    let address = text.parse().ok().filter(|address: &IpAddr| !address.is_unspecified());
    address.ok_or("no IP address that a knock could come from")
}

fn server_id(text: &str) -> Result<ServerId, &'static str> {
    ServerId::parse(text).ok_or("not 32 hex digits")
}

fn name(text: &str) -> Result<Name, &'static str> {
    Name::parse(text).ok_or(Name::RULE)
}

/// Longer than any answer takes.
const WAIT_MAX: Duration = Duration::from_mins(1);

const SHORT_HELP: &str = "`siglatch --help` tells more, `siglatch COMMAND --help` all about one command";

const LONG_HELP: &str = "\
First steps:
  siglatch join alice.invite.toml      install what the administrator handed over
  siglatch profiles                    what may be knocked for, and at which servers
  siglatch knock office ssh            knock: the server does what \"ssh\" stands for there
  siglatch whoami office               how the server sees you
  siglatch key rotate office           another key, if the administrator lets you
  siglatch key update                  the server's new key, when it is given one

SSH behind a knock:
  siglatch ssh office                  knock, wait until the port is open, become ssh
  siglatch ssh-config office           what to paste into ~/.ssh/config, and then: ssh office
  siglatch release office ssh          close the door early

Anything else behind a knock:
  siglatch wait office web --port 443 && curl https://vpn.example.org

Files:
  ~/.config/siglatch/NAME.toml         a profile, with your key ($XDG_CONFIG_HOME is respected)

Exit codes:
  0  done, or sent where no answer is waited for
  1  the action failed         2   it is still running
  3  no answer                 4   not now: quota, cooldown, hours
  64 the command line is wrong
  70 something inside failed   75  it may work when tried again: busy, no network, no port
  77 refused, not permitted    78  a profile, key or other file is wrong
  siglatch ssh ends as ssh does; siglatch proxy, ended by signal N, with 128 + N";

const KNOCK_EXAMPLES: &str = "Examples:
  siglatch knock office ssh
  siglatch knock office ssh --totp 123456
  siglatch knock office ssh --for 10m
  siglatch knock office 1 --payload 'restart web'
  date | siglatch knock -v -6 office report -
  siglatch knock --host vpn.example.org --port 50000 --user-id 1 \\
      --server-key server.pub.pem --hmac-key alice.hmac 1";
