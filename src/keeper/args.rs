//! siglatchd's command line.

use std::path::PathBuf;

use clap::Parser;

/// Runs what the administrator mapped to a knock.
#[derive(Debug, Parser)]
#[command(
    name = "siglatchd",
    version,
    about = "Single-packet knock daemon: one authenticated UDP datagram runs one action",
    after_help = "Signals: TERM and INT stop it (running scripts get their time), HUP reloads the configuration.\n\
                  RUST_LOG overrides the configured log level.\n\
                  Exit codes: 0 done, 64 usage, 70 internal, 75 try again, 77 permission, 78 configuration."
)]
pub(super) struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/siglatch/siglatchd.toml")]
    pub(super) config: PathBuf,

    /// Check the configuration and everything it names, then end
    #[arg(long)]
    pub(super) check: bool,
}
