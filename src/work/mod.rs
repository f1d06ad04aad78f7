//! What a grant becomes.
//!
//! In: a [`crate::judge::Grant`]. Out: a [`Job`], started as a process, and what became of it, event by event; for a
//! door, later, another that closes it; for a webhook, one that tells of it.
//!
//! [`hooks`], [`job`], [`jobs`], [`leases`], [`nft`], [`output`] and [`event`] are pure: they take time and bytes as arguments, start nothing and log
//! nothing. [`runner`] is the only place in the package that starts a script.
//!
//! # Security considerations
//!
//! A script runs with the daemon's privileges unless its action has `run_as`, so nothing that a stranger chose
//! reaches it but the payload and its own address: no shell reads the arguments, the environment is a fixed set, no
//! descriptor is inherited. What it prints is hostile too (it may well print the payload): it is bounded, and escaped
//! so that no line of the log can be forged with it.

pub mod event;
pub mod hooks;
pub mod job;
pub mod jobs;
pub mod leases;
pub mod nft;
pub mod output;
pub mod runner;

pub use event::{Happened, How, JobEvent, StartError};
pub use job::{About, Job, Whose};
pub use runner::{Drained, Runner};

#[cfg(test)]
mod testing;
