//! The arguments of `siglatchctl audit`, `history` and `explain`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{At, Way, name};
use crate::audit::{Head, TrailKey};
use crate::wire::KnockId;
use crate::wire::invite::Name;

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Audit {
    Verify(Verify),
    Show(Show),
    Export(Export),
    /// Prints the last head that is signed, SEQ:HASH, to be kept elsewhere
    Head(At),
    /// Prints the public key, 64 hex digits, to be kept elsewhere
    Key(At),
}

/// Says whether the audit trail is whole, or which record was changed, removed, inserted, moved or cut off first
///
/// Needs the public key alone. Who has the private one, as root of the server has, can write another trail: give a head that
/// was kept elsewhere, and that shows, too. Exit code 78 if the trail is not whole, 65 if it is whole, but less of it is signed than
/// siglatchd signs: who has no key at all can have made it.
#[derive(Args, Debug)]
#[command(after_help = VERIFY_EXAMPLES)]
pub(in crate::ctl) struct Verify {
    /// Files of a trail in their order, or one bundle of `audit export` [default: those of the server, and its store]
    #[arg(value_name = "FILE")]
    pub(in crate::ctl) files: Vec<PathBuf>,
    /// A head that was kept; may be given several times
    #[arg(long = "head", value_name = "SEQ:HASH", value_parser = head)]
    pub(in crate::ctl) heads: Vec<Head>,
    /// The public key; may be given several times, after a change of keys [default: the server's, or the bundle's]
    #[arg(long = "key", value_name = "HEX", value_parser = key)]
    pub(in crate::ctl) keys: Vec<TrailKey>,
    #[command(flatten)]
    pub(in crate::ctl) at: At,
}

/// Prints records, a line each
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatchctl audit show --trace 0123456789abcdef")]
pub(in crate::ctl) struct Show {
    /// Only those of the knock, or of the lease, with this id
    #[arg(long, value_name = "KNOCK_ID", value_parser = knock)]
    pub(in crate::ctl) trace: Option<KnockId>,
    /// Only those from then on: a date, a time, or how long ago
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(in crate::ctl) since: Option<u64>,
    /// The lines as they are in the trail
    #[arg(long)]
    pub(in crate::ctl) json: bool,
    #[command(flatten)]
    pub(in crate::ctl) at: At,
}

/// Writes records, checkpoints, the public key and the hashes of these to one tar file, for `audit verify` elsewhere
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatchctl audit export --since 30d --out bundle.tar")]
pub(in crate::ctl) struct Export {
    /// From the first record of then or later: a date, a time, or how long ago [default: all]
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(in crate::ctl) since: Option<u64>,
    /// The file to be written
    #[arg(long, value_name = "FILE")]
    pub(in crate::ctl) out: PathBuf,
    /// Replace it if it is there
    #[arg(long)]
    pub(in crate::ctl) force: bool,
    #[command(flatten)]
    pub(in crate::ctl) at: At,
}

/// Lists knocks and what came of them, by the audit trail
#[derive(Args, Debug)]
#[command(after_help = "Example: siglatchctl history --user alice --since 7d")]
pub(in crate::ctl) struct History {
    /// Only this user's
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(in crate::ctl) user: Option<Name>,
    /// Only for this action
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(in crate::ctl) action: Option<Name>,
    /// Only those from then on: a date, a time, or how long ago
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(in crate::ctl) since: Option<u64>,
    /// As JSON: a list of objects
    #[arg(long)]
    pub(in crate::ctl) json: bool,
    #[command(flatten)]
    pub(in crate::ctl) at: At,
}

/// Says what became of a knock, which stage decided, and why, by the audit trail
///
/// With --datagram: what would become of that one if it came now; nothing runs. It is for who may change every setting, since it opens what
/// somebody sent, and before its HMAC has verified it says `not-authentic` and nothing finer.
#[derive(Args, Debug)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub(in crate::ctl) struct Explain {
    /// The knock's id, as log, receipt and `siglatchctl history` show it
    #[arg(value_name = "KNOCK_ID", value_parser = knock, required_unless_present = "datagram")]
    pub(in crate::ctl) knock: Option<KnockId>,
    /// A datagram's bytes as hex digits; `-` reads them from standard input
    #[arg(long, value_name = "HEX", conflicts_with = "knock")]
    pub(in crate::ctl) datagram: Option<String>,
    /// Where it is to have come from
    #[arg(long, value_name = "IP", default_value = "127.0.0.1", requires = "datagram")]
    pub(in crate::ctl) from: IpAddr,
    #[command(flatten)]
    pub(in crate::ctl) way: Way,
}

fn knock(text: &str) -> Result<KnockId, &'static str> {
    KnockId::parse(text).ok_or("no knock: one has 16 hex digits")
}

fn head(text: &str) -> Result<Head, &'static str> {
    Head::parse(text).ok_or(
        "no head: one is written SEQ:HASH, a number and 64 hex digits, as `siglatchctl audit head` prints it",
    )
}

fn key(text: &str) -> Result<TrailKey, &'static str> {
    TrailKey::parse(text).ok_or("no public key: one has 64 hex digits, as `siglatchctl audit key` prints it")
}

/// Milliseconds since the Unix epoch.
fn since(text: &str) -> Result<u64, &'static str> {
    crate::ctl::audit::since(text).ok_or(
        "a date such as 2026-01-16, a time such as 2026-01-16T09:30:00Z, or how long ago, such as 12h or 7d",
    )
}

const EXPLAIN_EXAMPLES: &str = "Examples:
  siglatchctl explain 0123456789abcdef
  siglatchctl explain --datagram - --from 192.0.2.7 < datagram.hex";

const VERIFY_EXAMPLES: &str = "Examples:
  siglatchctl audit verify
  siglatchctl audit verify --head 4711:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  siglatchctl audit verify --key d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a audit-*.jsonl audit.jsonl
  siglatchctl audit verify bundle.tar";
