//! `siglatchctl exporter`: numbers for Prometheus, health for whoever restarts things, the audit key for who verifies.
//!
//! In: GET over HTTP, the daemon's status over its control socket. Out: what a [`Status`](crate::control::status::Status) says. Never: anything that changes
//! the daemon, an address of a stranger, a secret.
//!
//! # Security considerations
//!
//! Whoever reaches the address may ask, so nothing that is answered may be worth asking for. All that a client can take is
//! bounded: its head, its time, its place among the others. What many ask at once the daemon is asked once.

mod connection;
mod health;
mod http;
mod jwks;
mod metrics;
mod pages;
mod poller;
mod serve;

use std::net::TcpListener;

use super::{args, steer};
use crate::exit::{self, Exit, Failure};

/// Serves until it is killed.
pub(super) fn exporter(args: args::Exporter) -> Result<(), Failure> {
    let args::Exporter { listen, way } = args;
    let cannot = |error: std::io::Error| {
        Failure::new(Exit::of_io(&error), format!("cannot listen on {listen}: {error}"))
            .hint("name another address with --listen; `ss -ltnp` says who has the port")
    };
    let listener = TcpListener::bind(listen).map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    if !address.ip().is_loopback() {
        exit::note(&format!("note: everybody who reaches {address} can read this; it asks for no password"));
    }
    exit::say(&format!("listening on http://{address}/metrics\n"))?;
    serve::serve(listener, move || steer::status(&way)).map_err(cannot)
}

#[cfg(test)]
mod tests;
