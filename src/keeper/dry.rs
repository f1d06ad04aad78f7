//! A datagram that is only looked at: what the listener would say of it, and what is in it.
//!
//! On a thread of its own: the private keys are read for it, and dropped again.

use std::net::{IpAddr, SocketAddr};

use rsa::rand_core::OsRng;
use sha2::{Digest as _, Sha256};

use crate::channel::{Lane, Opened, SocketId, Under};
use crate::clock::Now;
use crate::config::Config;
use crate::config::resolved::{Enabled, KeyFile};
use crate::control::TestKnock;
use crate::listener::opener::Opener;
use crate::wire::stamp::{BeaconKey, Epoch, StampKey, Stamped, Stamper, stamp};
use crate::wire::{ActionId, Binding, Knock};

/// A datagram, and where it is to have come from.
#[derive(Debug)]
pub(super) struct Dry {
    datagram: Vec<u8>,
    source: SocketAddr,
}

/// What comes out of the listener for it; nothing, if it is refused there.
pub(super) type Out = Option<Box<Opened>>;

impl Dry {
    /// This one.
    pub(super) fn new(datagram: Vec<u8>, source: IpAddr) -> Dry {
        Dry { datagram, source: SocketAddr::new(source, 0) }
    }

    /// The one that a user's client would send.
    ///
    /// # Errors
    ///
    /// There is no such user or action, or no such knock.
    pub(super) fn knock(now: Now, config: &Config, asked: &TestKnock) -> Result<Dry, String> {
        let user = config.users.values().find(|user| user.name == asked.user);
        let user = user.ok_or_else(|| format!("there is no user `{}`", asked.user))?;
        let number = asked.action.parse().ok().and_then(ActionId::new);
        let named =
            config.actions.values().find(|action| action.name == asked.action).map(|action| action.id);
        let action = named.or(number).ok_or_else(|| format!("there is no action `{}`", asked.action))?;
        let timestamp = u32::try_from(now.unix()).unwrap_or(u32::MAX);
        let knock = Knock { timestamp, user: user.id, action, challenge: rand::random(), payload: &[] };
        let binding = match config.server_id {
            Some(server) => Binding::Source(server, asked.from),
            None => Binding::None,
        };
        let plain = knock.encode(&user.hmac_key, binding).map_err(|error| error.to_string())?;
        let server = &config.private_key.public;
        let sealed = server.seal(&mut OsRng, &plain).map_err(|error| error.to_string())?;
        let stamper = Stamper::new(&StampKey::derive(server, &user.hmac_key));
        let datagram = stamp(sealed, user.id, timestamp, &BeaconKey::of(server), &stamper);
        Ok(Dry::new(datagram, asked.from))
    }

    /// The listener's checks of one datagram, and the private-key operation.
    ///
    /// # Errors
    ///
    /// The key cannot be read.
    pub(super) fn open(&self, now: Now, config: &Config) -> Result<Out, String> {
        let old = config.old_private_key.as_ref().map(|old| old.public.modulus());
        let modulus = config.private_key.public.modulus();
        let (sealed, lane, under) = match Stamped::split(&self.datagram, modulus.len()) {
            Some(stamped) => match stamped_by(now, config, &stamped) {
                Some((lane, under)) => (stamped.sealed, lane, Some(under)),
                None => return Ok(None),
            },
            None if self.datagram.len() == modulus.len() => (self.datagram.as_slice(), Lane::Plain, None),
            None => return Ok(None),
        };
        if Some(sealed) >= old.as_deref().max(Some(&*modulus)) {
            return Ok(None);
        }
        let opener = opener(config)?;
        let (plaintext, under) = match under {
            Some(under) => (opener.open_under(under, sealed), under),
            None => opener.open_any(sealed),
        };
        Ok(Some(Box::new(Opened {
            source: self.source,
            local: self.source.ip(),
            socket: SocketId(0),
            lane,
            under,
            digest: Sha256::digest(sealed).into(),
            plaintext,
        })))
    }
}

fn opener(config: &Config) -> Result<Opener, String> {
    let key = config.private_key.read().map_err(|failure| failure.what)?;
    let opener = Opener::new(key.der()).map_err(|error| error.to_string())?;
    // Its file may be gone before siglatchd is started without it.
    match config.old_private_key.as_ref().map(KeyFile::read) {
        Some(Ok(old)) => opener.and_old(old.der()).map_err(|error| error.to_string()),
        Some(Err(_)) | None => Ok(opener),
    }
}

/// Whose stamp it is, and for which key.
fn stamped_by(now: Now, config: &Config, stamped: &Stamped<'_>) -> Option<(Lane, Under)> {
    let current = (&config.private_key.public, Under::CURRENT);
    let old = config.old_private_key.as_ref().map(|old| (&old.public, Under::OLD));
    let (first, last) = Epoch::window(now.unix(), config.freshness.as_secs()).into_inner();
    let (server, under, epoch) = std::iter::once(current).chain(old).find_map(|(server, under)| {
        let beacons = BeaconKey::of(server);
        let epoch = (first.0..=last.0).map(Epoch).find(|epoch| beacons.beacon(*epoch) == stamped.beacon)?;
        Some((server, under, epoch))
    })?;
    let users = config.users.values().filter(|user| user.enabled == Enabled::Yes);
    let stamper =
        |user: &std::sync::Arc<crate::config::User>| Stamper::new(&StampKey::derive(server, &user.hmac_key));
    users
        .map(|user| (user.id, stamper(user)))
        .find(|(id, stamper)| stamper.hint(*id, epoch) == stamped.hint && stamper.verifies(stamped))
        .map(|(id, _)| (Lane::Stamped(id), under))
}
