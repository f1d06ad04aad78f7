//! Opened -> Unverified -> Verified: decoding and the three HMACs, at one cost whatever is wrong.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::channel::{Lane, Opened};
use crate::config::{Config, User};
use crate::wire::{Bound, HmacKey, KnockId, Nonce, PLAINTEXT_LEN, Packet, ServerId, mac};

/// A knock whose HMAC verified under the key of the user that it names.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verified {
    /// Names it in the log.
    pub knock: KnockId,
    /// Where it came from; `::ffff:` folded. Authentic only where it is bound to its source.
    pub source: SocketAddr,
    /// Who signed it.
    pub user: Arc<User>,
    /// User, timestamp and challenge.
    pub nonce: Nonce,
    /// The action's number; 0 is reserved for replies.
    pub action: u8,
    /// What it is bound to.
    pub bound: Bound,
    /// Whether it came with a stamp, and whose.
    pub lane: Lane,
    /// The payload, 0 to 199 bytes.
    pub payload: Vec<u8>,
}

/// What may be a packet, and the user that it names if he exists.
struct Unverified<'a> {
    packet: Packet<'a>,
    user: Option<&'a Arc<User>>,
}

/// Random stand-ins, never told to anybody, for what is missing: a key, a server id.
#[derive(Debug)]
pub struct Decoys {
    /// For a user that there is not.
    pub key: HmacKey,
    /// For a server that has no id.
    pub server: ServerId,
}

impl Decoys {
    /// `None`: not authentic.
    pub(super) fn verify(&self, config: &Config, opened: &Opened) -> Option<Verified> {
        let Unverified { packet, user } = Unverified::decode(config, opened)?;
        let key = user.map_or(&self.key, |user| &user.hmac_key);
        let server = config.server_id.unwrap_or(self.server);
        let bound = mac::verify(key, &packet.signed, packet.hmac, server, opened.source.ip())?;
        Some(Verified {
            knock: opened.knock(),
            source: opened.source,
            user: Arc::clone(user?),
            nonce: Nonce { timestamp: packet.timestamp, user: packet.user, challenge: packet.challenge },
            action: packet.action,
            bound,
            lane: opened.lane,
            payload: packet.payload.to_vec(),
        })
    }
}

impl<'a> Unverified<'a> {
    /// What is no packet goes on as an empty one of nobody's.
    fn decode(config: &'a Config, opened: &'a Opened) -> Option<Unverified<'a>> {
        match Packet::decode(&*opened.plaintext) {
            Ok(packet) => Some(Unverified { packet, user: config.users.get(&packet.user) }),
            Err(_) => Packet::decode(&NOBODYS).ok().map(|packet| Unverified { packet, user: None }),
        }
    }
}

/// Version 1, then zeros.
const NOBODYS: [u8; PLAINTEXT_LEN] = {
    let mut packet = [0; PLAINTEXT_LEN];
    let (first, _) = packet.split_at_mut(1);
    first.copy_from_slice(&[1]);
    packet
};
