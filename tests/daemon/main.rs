//! The real daemon on a site of its own, knocked over real sockets: one file per promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test stops at what it did not expect"
)]

mod activation;
mod admission;
mod answers;
mod audit;
#[cfg(feature = "backup")]
mod backup;
mod common;
mod control;
#[cfg(feature = "crash-points")]
mod crash;
mod doctor;
mod documents;
mod door;
mod enrol;
mod environment;
mod field;
mod flood;
mod hardening;
mod hostile;
mod hosts;
mod import;
mod knock;
mod leases;
mod limits;
mod logs;
mod metrics;
#[cfg(feature = "crash-points")]
mod misbehave;
mod people;
mod receipts;
mod reload;
mod rotate;
mod sandbox;
#[cfg(feature = "crash-points")]
mod soak;
mod sources;
mod ssh;
mod steering;
mod supervision;
mod time;
#[cfg(feature = "top")]
mod top;
#[cfg(feature = "webhook")]
mod webhooks;
