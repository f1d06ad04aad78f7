//! siglatch: one authenticated UDP datagram runs one action.
//!
//! A datagram's way, each step in the room that is named:
//!
//! 1. [`listener`], a process of its own: the kernel's filter, then a buffer longer than any datagram taken, then
//!    `Admission`: length, range, stamp, seen before, whose turn. What is left is a `Sealed`, in a lane.
//! 2. [`listener`]: a worker thread opens it with the RSA key. Whatever goes wrong there, 245 bytes come out
//!    (implicit rejection): an [`channel::Opened`], sent over a socket pair.
//! 3. [`keeper`]: its loop hands it to the [`judge`], which decodes it (`Unverified`), compares the three HMACs
//!    (`Verified`), checks freshness, and asks for its nonce to be claimed.
//! 4. [`store`]: its thread records the claim, many in one transaction. A nonce is claimed once, ever.
//! 5. [`judge`]: the claimed knock is `Fresh`; binding, user, action and source decide. A [`judge::Grant`]
//!    comes out, or a [`reason::DropReason`] that is counted.
//! 6. [`work`]: the grant becomes a job, the runner starts the script, its output goes to the log line by line. That of a
//!    door is recorded by the [`store`] first, and another job closes the door when the last lease on it has ended.
//! 7. [`keeper`]: what became of it is sealed for who knocked, if he is to be answered; the [`listener`] sends it from the
//!    address that he knocked, and again for a copy of his knock.
//!
//! What was decided, and what came of it, the [`store`] keeps as a trail that cannot be changed unseen ([`audit`]).
//!
//! Every stage can be built only by the stage before it, so what was not verified cannot be run. The pure rooms
//! ([`wire`], [`channel`], [`judge`], [`audit`], parts of [`listener`] and [`work`]) take time and bytes as arguments and
//! open no socket, read no clock, start no process and log nothing; `tests/layering.rs` holds them to it.
//!
//! [`client`] is the knock client, [`ctl`] the administrator's tool, [`control`] what it asks of the daemon, [`config`] what
//! both and the daemon read. `pages` makes manual pages of what the three take on their command lines. Any room may
//! use [`exit`]; [`clock`] alone reads clocks, and [`sys`] alone is `unsafe`.

pub mod clock;
pub mod config;
pub mod exit;
pub mod sys;
pub mod wire;

#[cfg(feature = "client")]
pub mod client;

#[cfg(feature = "server")]
pub mod audit;
#[cfg(feature = "server")]
pub(crate) mod bucket;
#[cfg(feature = "server")]
pub mod channel;
#[cfg(feature = "server")]
pub mod control;
#[cfg(feature = "server")]
pub(crate) mod crash;
#[cfg(feature = "server")]
pub mod ctl;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(feature = "server")]
pub mod judge;
#[cfg(feature = "server")]
pub mod keeper;
#[cfg(feature = "server")]
pub mod layers;
#[cfg(feature = "server")]
pub mod listener;
#[cfg(feature = "pages")]
pub mod pages;
#[cfg(feature = "server")]
pub mod reason;
#[cfg(feature = "server")]
pub(crate) mod sources;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "webhook")]
pub mod webhook;
#[cfg(feature = "server")]
pub mod work;
