//! What may run.
//!
//! In: [`crate::channel::Opened`], the time, a configuration. Out: a claim to be made, then a [`Grant`] or a refusal.
//! Never: sockets, files, clocks, processes, the log, randomness of its own.

mod grant;
mod reason;

pub use grant::Grant;
pub use reason::DropReason;
