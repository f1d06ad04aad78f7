//! What is read from files: the daemon's configuration, keys, and how files are checked and written.
//!
//! In: a path. Out: a [`Config`] that is valid by construction, or every problem at once, each with line, caret and
//! hint. Never: sockets, processes, running state. A reload builds a new [`Config`] and swaps it, or keeps the old.
//!
//! A configuration's way: `load` reads the files, `shape` turns text into the keys of `raw`, `resolve` checks what they
//! say. Each notes what is wrong and goes on with what is left.

pub mod files;
#[cfg_attr(
    not(feature = "server"),
    expect(dead_code, reason = "the client alone reads nothing but durations")
)]
pub(crate) mod units;

#[cfg(feature = "server")]
pub mod allowance;
#[cfg(feature = "server")]
pub mod change;
#[cfg(feature = "server")]
mod check;
#[cfg(feature = "server")]
pub(crate) mod credential;
#[cfg(feature = "server")]
mod edit;
#[cfg(feature = "server")]
pub(crate) mod environment;
#[cfg(feature = "server")]
pub(crate) mod include;
#[cfg(feature = "server")]
mod key_file;
#[cfg(feature = "server")]
mod load;
#[cfg(feature = "server")]
mod made;
#[cfg(feature = "server")]
mod problems;
#[cfg(feature = "server")]
mod raw;
#[cfg(feature = "server")]
mod resolve;
#[cfg(feature = "server")]
pub mod resolved;
#[cfg(feature = "server")]
mod shape;
#[cfg(feature = "server")]
mod totp_key;

#[cfg(feature = "server")]
pub use check::{check, doors_telling, load_telling};
#[cfg(feature = "server")]
pub(crate) use load::TEXT_MAX;
#[cfg(feature = "server")]
pub use load::{Loaded, doors, load, load_with};
#[cfg(feature = "server")]
pub use made::Made;
#[cfg(feature = "server")]
pub use problems::{Colours, Problem, Problems};
#[cfg(feature = "server")]
pub use resolve::missing_listener;
#[cfg(feature = "server")]
pub use resolved::{Action, Config, User};
#[cfg(feature = "server")]
pub use totp_key::{BadTotpKey, TotpKey};
#[cfg(feature = "server")]
pub(crate) use units::{duration, show_duration};
