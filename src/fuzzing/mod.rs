//! What `fuzz/` runs and `tests/corpora.rs` replays: one function for each parser, and three for
//! what the parsers are part of: the whole pipeline, a listener that is hostile, the kernel's filter.
//!
//! In: any bytes. Out: nothing, or what was seen; a property that does not hold is a panic. Each function does the same
//! for the same bytes, so that what was found can be found again.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a find is told"
)]

mod audit;
mod control;
mod files;
mod knock;
mod ledger;
mod listener;
mod menu;
mod operands;
mod pipeline;
mod recorded;
mod sealed;
mod sieve;
mod store;
mod wire;

pub use audit::audit;
pub use control::control;
pub use files::{config, keys};
pub use listener::listener;
pub use pipeline::{Seen, pipeline};
pub use sealed::sealed;
pub use sieve::sieve;
pub use wire::{channel, invite, packet, receipt};
