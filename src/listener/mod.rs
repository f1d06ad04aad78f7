//! The only room that touches bytes from the network.
//!
//! In: sockets and keys, over the channel. Out: opened datagrams and counts, over the channel. Never: an HMAC key, the
//! judge, the store, files, processes, a log line.
//!
//! It is a process of its own, which the keeper starts from its own executable and which locks itself in (`sandbox`)
//! before it reads the first datagram.
//!
//! # Security considerations
//!
//! Wholly taken over, it can open sealed packets and lie about their source; it cannot make one that the keeper takes
//! for authentic, and it cannot act. It sends answers that it can neither read nor make, and so could send bytes of its
//! own from the ports that are knocked. Nothing here depends on what is inside a datagram: whatever went wrong with one
//! of the right length, 245 bytes go on.

mod admission;
#[cfg(feature = "fuzzing")]
pub(crate) mod by_hand;
mod error;
pub mod filter;
mod lanes;
#[cfg(feature = "crash-points")]
mod misbehave;
pub mod opener;
mod pool;
mod replies;
mod run;
mod sandbox;
mod setup;
mod sockets;
mod tally;

pub use admission::{Admission, Beacons, Datagram, Sealed, Step, Supply, Way};
pub use error::ListenerError;

use crate::channel::Channel;

/// The whole process: with its end of the channel from [`Channel::inherited`].
///
/// # Errors
///
/// [`ListenerError`] when it cannot start. Nothing about a datagram is ever an error.
pub fn main(channel: Channel) -> Result<(), ListenerError> {
    sandbox::detach()?;
    run::run(channel)
}
