//! A network namespace with nothing in it but loopback: each contender has one of its own.
//!
//! It goes when the last process and descriptor in it go, so there is nothing to clean up, and nothing that is sent in it
//! leaves it.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

use crate::Try;

/// Where everything listens. All of 127.0.0.0/8 is local, so there are 16 million sources.
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The namespace.
pub(crate) struct Ground(File);

impl Ground {
    /// A new one, loopback up. Needs root.
    pub(crate) fn new() -> Try<Ground> {
        let made = std::thread::spawn(|| -> Try<Ground> {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("no network namespace: {error}"))?;
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
            if !up.success() {
                return Err("loopback cannot be set up".into());
            }
            Ok(Ground(File::open("/proc/thread-self/ns/net")?))
        });
        made.join().map_err(|_| "the thread that makes a network namespace ended")?
    }

    /// What this thread opens and starts from now on is in it, and so are the threads it makes.
    pub(crate) fn enter(&self) -> Try<()> {
        Ok(setns(&self.0, CloneFlags::CLONE_NEWNET)?)
    }
}
