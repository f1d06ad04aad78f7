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

use std::net::{SocketAddr, TcpListener};

use clap::Args;

use super::args::Way;
use super::steer;
use crate::exit::{self, Exit, Failure};

/// Serves metrics, health and the audit key over HTTP
///
/// Only GET: /metrics for Prometheus, /healthz and /readyz, /.well-known/jwks.json. It asks for no password, so leave it on
/// a loopback address or put something in front of it. An administrator of its own with the role "viewer" is enough for it.
#[derive(Args, Debug)]
#[command(
    after_help = "Example: siglatchctl exporter --admin-key /etc/siglatch-exporter/admin.key --as exporter --socket /run/siglatch/control.sock"
)]
pub(super) struct Exporter {
    /// Serve on this address and TCP port
    #[arg(long, value_name = "ADDR", value_parser = place, default_value = "127.0.0.1:9799")]
    listen: SocketAddr,
    #[command(flatten)]
    way: Way,
}

/// Serves until it is killed.
pub(super) fn exporter(args: Exporter) -> Result<(), Failure> {
    let Exporter { listen, way } = args;
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

fn place(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "no address with a port, such as 127.0.0.1:9799 or [::1]:9799")
}

#[cfg(test)]
mod tests;
