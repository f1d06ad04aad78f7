//! The sender of webhooks: a program of its own, so that the keeper speaks no HTTP, no TLS, no DNS.
//!
//! In: one [`Delivery`] as JSON on standard input. Out: one POST, an exit code, and on failure one line that says why. It runs
//! like any script: another user, an empty environment, a deadline. Never: redirects, proxies, a second look-up of the name, a
//! response that is longer than [`RESPONSE_MAX`].
//!
//! # Security considerations
//!
//! The name of the receiver may be somebody else's to change. It is looked up once, what it says is checked against
//! `guard`, and the connection goes to the very addresses that were checked, with the name in SNI and certificate:
//! a name that changes between look-ups leads nowhere else. The body is signed, for whoever receives it has no other
//! way to know who sent it.

mod guard;
mod pinned;
mod post;

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use crate::exit::Exit;
use crate::wire::HmacKey;

pub use guard::{Permitted, Refused};

/// Behind the program's name: the process is a sender.
pub const FLAG: &str = "--webhook";

/// What is to be sent, and to whom.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// `https://` and nothing else.
    pub url: String,
    /// Names it to the receiver, who may get it twice.
    pub id: String,
    /// Unix seconds, part of what is signed.
    pub timestamp: u64,
    /// 64 hex digits; what signs.
    pub key: Secret,
    /// The body: JSON.
    pub body: String,
    /// Hosts that may have private, loopback and link-local addresses.
    pub allow: Vec<String>,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca: Option<String>,
    /// For all of it, in milliseconds.
    pub timeout: u64,
}

/// Hex digits that `Debug` does not show.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(****)")
    }
}

/// Why it did not get through.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// Trying again may help.
    #[error("{0}")]
    Later(String),
    /// Trying again would not.
    #[error("{0}")]
    Never(String),
}

impl Undelivered {
    /// How the sender ends.
    pub fn exit(&self) -> Exit {
        match self {
            Undelivered::Later(_) => Exit::TryAgain,
            Undelivered::Never(_) => Exit::Config,
        }
    }
}

/// What a process does that was started with [`FLAG`].
pub fn main() -> ExitCode {
    // Other processes of this user are not to look at the key.
    nix::sys::prctl::set_dumpable(false).unwrap_or_default();
    match deliver() {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            // Nobody may read it any more.
            drop(writeln!(io::stderr(), "{error}"));
            error.exit().into()
        }
    }
}

fn deliver() -> Result<(), Undelivered> {
    let mut text = String::new();
    let read = io::stdin().take(INPUT_MAX).read_to_string(&mut text);
    let delivery = read.ok().and_then(|_| serde_json::from_str::<Delivery>(&text).ok());
    let delivery = delivery.ok_or_else(|| {
        Undelivered::Never("siglatchd starts this itself, with a delivery on standard input".to_owned())
    })?;
    let key = HmacKey::parse(delivery.key.0.as_bytes())
        .map_err(|error| Undelivered::Never(format!("the key does not sign: {error}")))?;
    post::post(&delivery, &key)
}

/// Bytes of a delivery.
const INPUT_MAX: u64 = 1 << 20;

/// Bytes of a response that are read.
pub const RESPONSE_MAX: u64 = 16 << 10;
