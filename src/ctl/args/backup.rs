//! `siglatchctl backup` and `restore`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::At;

/// Writes configuration, keys, scripts, rules of nftables, store and audit trail into one encrypted file
///
/// While siglatchd runs, too: the store is copied as it is at one moment. Scripts are those in the configuration's folder, and
/// rules the files *.nft in it.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, after_help = EXAMPLES)]
pub(in crate::ctl) struct Backup {
    #[command(subcommand)]
    pub(in crate::ctl) command: Option<BackupCommand>,
    /// The file to write, which must not be there
    #[arg(value_name = "FILE", required = true)]
    pub(in crate::ctl) file: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::ctl) whom: Whom,
    #[command(flatten)]
    pub(in crate::ctl) at: At,
}

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum BackupCommand {
    /// Reads a backup to its end, lists and checks each file of it and the store, and changes nothing
    Verify(Verify),
}

/// Who can open it.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("whom").required(true))]
pub(in crate::ctl) struct Whom {
    /// A public key of age; may be given several times
    #[arg(long, value_name = "age1...", group = "whom")]
    pub(in crate::ctl) recipient: Vec<String>,
    /// A file whose first line is a passphrase; `-` is standard input
    #[arg(long, value_name = "FILE", group = "whom")]
    pub(in crate::ctl) passphrase_file: Option<PathBuf>,
}

/// What opens it.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("how").required(true))]
pub(in crate::ctl) struct How {
    /// A file with the secret key of age (0600)
    #[arg(long, value_name = "FILE", group = "how")]
    pub(in crate::ctl) identity: Option<PathBuf>,
    /// A file whose first line is the passphrase; `-` is standard input
    #[arg(long, value_name = "FILE", group = "how")]
    pub(in crate::ctl) passphrase_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(in crate::ctl) struct Verify {
    /// The backup
    #[arg(value_name = "FILE")]
    pub(in crate::ctl) file: PathBuf,
    #[command(flatten)]
    pub(in crate::ctl) how: How,
}

/// Puts a backup back where it came from, while siglatchd is stopped
///
/// No knock runs again for it: those made before now are refused, unless the store that is there is whole and knows more; then it
/// stays, with its trail. What was revoked since the backup stays revoked: users, actions and administrators that are disabled or
/// gone, keys that were replaced, networks that were banned; and what was narrowed stays narrow. Files that are replaced are kept
/// beside, as FILE.before-TIME. If it is cut off, do it again.
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatchctl restore siglatch.age --identity key.txt")]
pub(in crate::ctl) struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    pub(in crate::ctl) file: PathBuf,
    #[command(flatten)]
    pub(in crate::ctl) how: How,
    /// Even if what is there is newer than the backup, or files go outside of the configuration's folder
    #[arg(long)]
    pub(in crate::ctl) force: bool,
}

const EXAMPLES: &str = "Examples:
  siglatchctl backup siglatch.age --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
  siglatchctl backup siglatch.age --passphrase-file -
  siglatchctl backup verify siglatch.age --identity key.txt";
