//! One listener that runs, and what it is told.

use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Child;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use zeroize::Zeroizing;

use super::child;
use super::ear::Ear;
use super::outbox::Outbox;
use crate::channel::{Confinement, Limits, Plain, Reply, Sent, Setup, SocketId, Takes, ToListener};
use crate::clock::Now;
use crate::config::Config;
use crate::config::resolved::{KeyFile, Sandbox, Stamp};
use crate::exit::Failure;
use crate::keeper::{cannot, stamps};

/// A listener that runs, as far as is known.
pub(super) struct Up {
    pub(super) child: Child,
    pub(super) ear: Ear,
    outbox: Outbox,
    /// When (monotonic) it was started.
    pub(super) since: Duration,
    interest: Interest,
}

impl Up {
    /// Starts one, the `number`th.
    pub(super) fn start(
        now: Now,
        config: &Config,
        number: u64,
        (registry, token): (&Registry, Token),
        sockets: &[(UdpSocket, Takes)],
    ) -> Result<Up, Failure> {
        let mut outbox = Outbox::default();
        let (workers, queue) = (config.limits.workers, config.limits.queue);
        // Read for this listener, and forgotten when it is sent.
        let key = Zeroizing::new(config.private_key.read()?.der().to_vec());
        outbox.push(&ToListener::Setup(Setup {
            private_key: key,
            old_private_key: config.old_private_key.as_ref().and_then(old_key),
            workers: u16::try_from(workers).unwrap_or(u16::MAX),
            queue: u32::try_from(queue).unwrap_or(u32::MAX),
            confinement: match config.sandbox {
                Sandbox::Required | Sandbox::BestEffort => Confinement::On,
                Sandbox::Off => Confinement::Off,
            },
            user: config.listener_user.map(|user| (user.uid, user.gid)),
        }));
        outbox.push(&ToListener::Limits(limits(config)));
        for (place, (number, (_, takes))) in (0..).zip(sockets).enumerate() {
            outbox.push_socket(&ToListener::Socket(SocketId(number), *takes), place);
        }
        for keys in stamps::difference(None, config) {
            outbox.push(&ToListener::StampKeys(keys));
        }
        outbox.push(&ToListener::Begin);

        let (child, channel) = child::start(number)?;
        let ear = Ear::new(now, channel, workers, queue);
        let mut up = Up { child, ear, outbox, since: now.mono, interest: Interest::READABLE };
        let fd = up.ear.channel.as_raw_fd();
        if let Err(error) = registry.register(&mut SourceFd(&fd), token, up.interest) {
            child::kill(&mut up.child);
            drop(up.child.wait());
            return Err(cannot("watch the listener", &error));
        }
        up.send(registry, token, sockets);
        Ok(up)
    }

    /// Sends what waits, and has the loop woken when there is room for the rest.
    pub(super) fn send(&mut self, registry: &Registry, token: Token, sockets: &[(UdpSocket, Takes)]) {
        self.outbox.flush(&self.ear.channel, sockets);
        let wanted =
            if self.outbox.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        if wanted != self.interest
            && registry.reregister(&mut SourceFd(&self.ear.channel.as_raw_fd()), token, wanted).is_ok()
        {
            self.interest = wanted;
        }
    }

    /// After a reload: whatever differs for it.
    pub(super) fn reload(&mut self, old: &Config, new: &Config) {
        if limits(old) != limits(new) {
            self.outbox.push(&ToListener::Limits(limits(new)));
        }
        for change in stamps::difference(Some(old), new) {
            self.outbox.push(&ToListener::StampKeys(change));
        }
    }

    /// Somebody knocked well from there. It is no loss if that isn't heard.
    pub(super) fn settled(&self, source: IpAddr) {
        if self.outbox.is_empty() {
            match self.ear.channel.send(&ToListener::Settled(source).encode(), None) {
                Sent::Yes | Sent::Full | Sent::Closed => {}
            }
        }
    }

    /// An answer, to be sent as soon as it is heard: later is too late, so what cannot be handed over now is not.
    pub(super) fn reply(&self, reply: Reply) -> Sent {
        if !self.outbox.is_empty() {
            return Sent::Full;
        }
        self.ear.channel.send(&ToListener::Reply(reply).encode(), None)
    }

    /// Lets it finish what it has.
    pub(super) fn stop(&mut self, now: Now) {
        self.outbox.push(&ToListener::Stop);
        self.ear.stop(now);
    }
}

/// The key before. It may be gone since the start (`siglatchctl key rotate server --finish`): that is no reason not to listen.
fn old_key(file: &KeyFile) -> Option<Zeroizing<Vec<u8>>> {
    match file.read() {
        Ok(key) => Some(Zeroizing::new(key.der().to_vec())),
        Err(Failure { what, .. }) => {
            log::warn!(code = "old-key-gone", what; "the server's old key is not good any more: restart siglatchd");
            None
        }
    }
}

/// What a listener goes by.
pub(crate) fn limits(config: &Config) -> Limits {
    Limits {
        freshness: u32::try_from(config.freshness.as_secs()).unwrap_or(u32::MAX),
        plain: match config.stamp {
            Stamp::Optional => Plain::Taken,
            Stamp::Required => Plain::Refused,
        },
        user_rate: config.limits.user_rate,
        user_burst: config.limits.user_burst,
        prefix_rate: config.limits.prefix_rate,
        prefix_burst: config.limits.prefix_burst,
        prefixes: config.limits.prefixes,
    }
}
