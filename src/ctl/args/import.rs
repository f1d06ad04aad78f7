//! `siglatchctl import`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{FOLDER, name};
use crate::wire::invite::Name;

/// Makes a configuration from that of another knock daemon
#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Import {
    Siglatch(ImportSiglatch),
    Fwknop(ImportFwknop),
}

/// Moves in from siglatch v1: its INI, its keys, its scripts
///
/// Its clients go on knocking as they do. Keys are copied; the old files stay as they are. Exit code 1 if all is written, and
/// something in the report is for you to decide.
#[derive(Args, Debug)]
#[command(
    after_help = "Example: siglatchctl import siglatch /etc/siglatch/server.conf --into /etc/siglatch-new"
)]
pub(in crate::ctl) struct ImportSiglatch {
    /// The configuration of the old siglatchd
    #[arg(value_name = "FILE.conf")]
    pub(in crate::ctl) file: PathBuf,
    /// Which [server:NAME] of it [default: its default_server, the only one that is enabled, or `secure`]
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(in crate::ctl) server: Option<Name>,
    #[command(flatten)]
    pub(in crate::ctl) into: Into,
}

/// Moves in from fwknop: a user of each stanza in access.conf, a door of what it opens
///
/// All keys are new, and users get invites with theirs. Exit code 1 if all is written, and something in the report is for you to
/// decide.
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatchctl import fwknop /etc/fwknop")]
pub(in crate::ctl) struct ImportFwknop {
    /// The folder of access.conf and fwknopd.conf
    #[arg(value_name = "DIR")]
    pub(in crate::ctl) dir: PathBuf,
    #[command(flatten)]
    pub(in crate::ctl) into: Into,
}

/// Where to.
#[derive(Args, Debug)]
pub(in crate::ctl) struct Into {
    /// The folder of the new configuration and its keys; nothing in it is replaced
    #[arg(long, value_name = "DIR", default_value = FOLDER)]
    pub(in crate::ctl) into: PathBuf,
}
