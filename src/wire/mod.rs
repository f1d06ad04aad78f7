//! The wire: bytes to packets and back, keys, MACs, sealing.
//!
//! In: bytes from the network or a file. Out: typed values, or a typed reason why not. Never: sockets, files,
//! clocks, processes, the log. Nothing here indexes a slice.
//!
//! # Security considerations
//!
//! [`packet`] and [`mac`] see what a stranger sent. A private key opens whatever was sealed with the public one,
//! so nothing is known about a packet until [`mac::verify`] has named a binding. Secrets zeroize on drop, print as
//! a mask, and are compared in constant time.

pub mod address;
pub mod enrol;
pub mod ids;
pub mod invite;
pub mod key;
pub mod mac;
pub mod options;
pub mod packet;
pub mod reader;
pub mod receipt;
pub mod reply;
pub mod rsa_key;
pub mod server_key;
pub mod stamp;

pub use ids::{ActionId, KnockId, Nonce, ServerId, UserId};
pub use invite::Invite;
pub use key::HmacKey;
pub use mac::{Binding, Bound};
pub use options::Options;
pub use packet::{Knock, PAYLOAD_MAX, PLAINTEXT_LEN, Packet};
pub use receipt::Receipt;
pub use rsa_key::{PrivateKey, PublicKey};
pub use stamp::{BeaconKey, StampKey};
