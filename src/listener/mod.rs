//! The only room that touches bytes from the network.
//!
//! In: sockets and the RSA key, over the channel. Out: opened datagrams and counts, over the channel. Never: an HMAC
//! key, the judge, the store, files, processes, a log line.
//!
//! # Security considerations
//!
//! Wholly taken over, it can open sealed packets and lie about their source; it cannot make one that the keeper takes
//! for authentic, and it cannot act. Nothing here depends on what is inside a datagram: whatever went wrong with one of
//! the right length, 245 bytes go on.

mod admission;
#[cfg(feature = "fuzzing")]
pub(crate) mod by_hand;
pub mod filter;
mod lanes;
pub mod opener;
mod pool;
mod run;
mod sockets;
mod tally;

pub use admission::{Admission, Beacons, Datagram, Sealed, Step, Supply, Way};
pub use run::{ListenerError, run};
