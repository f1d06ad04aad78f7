//! What is read from files: the daemon's configuration, keys, and how files are checked and written.
//!
//! In: a path. Out: a [`Config`] that is valid by construction, or every problem at once, each with line, caret and
//! hint. Never: sockets, processes, running state. A reload builds a new [`Config`] and swaps it, or keeps the old.

pub mod files;

#[cfg(feature = "server")]
pub mod resolved;

#[cfg(feature = "server")]
pub use resolved::{Action, Config, User};
