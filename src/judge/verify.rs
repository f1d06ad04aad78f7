//! Opened -> Verified: decoding and the three HMACs, by the same instructions whatever is wrong.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::channel::{Lane, Opened, SocketId, Under};
use crate::config::{Config, User};
use crate::wire::{Bound, HmacKey, KnockId, Nonce, Packet, ServerId, UserId, mac};

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
    /// Under which of the server's keys it was sealed.
    pub under: Under,
    /// The payload, 0 to 199 bytes.
    pub payload: Box<[u8]>,
    /// For who answers it.
    pub asked: Box<Asked>,
}

/// What only an answer needs of its knock.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// SHA-256 of the sealed packet, without its stamp.
    pub digest: [u8; 32],
    /// The packet's.
    pub hmac: [u8; 32],
    /// The action's number as the packet has it: its own, or its `release_id`.
    pub action: u8,
    /// The socket that was knocked.
    pub socket: SocketId,
    /// The address that was knocked; unspecified where it is not known.
    pub local: IpAddr,
}

/// Random stand-ins, never told to anybody, for what is missing: a key, a server id.
#[derive(Debug)]
pub struct Decoys {
    /// For a user that there is not.
    pub key: HmacKey,
    /// For a server that has no id.
    pub server: ServerId,
}

/// Who may sign, laid out so that looking somebody up takes the same steps, and touches as much memory, whether he is
/// there or not.
#[derive(Debug)]
pub(super) struct Signers {
    /// Ascending, [`spread`].
    ids: Vec<u16>,
    /// In the same order, side by side.
    keys: Vec<HmacKey>,
    /// In the same order.
    users: Vec<Arc<User>>,
    /// The second key of each, and himself with it; while nobody has one, of nobody.
    seconds: Vec<(HmacKey, Option<Arc<User>>)>,
    decoy: HmacKey,
    server: ServerId,
}

impl Signers {
    pub(super) fn new(config: &Config, decoys: &Decoys) -> Signers {
        let mut users: Vec<_> = config.users.values().map(Arc::clone).collect();
        users.sort_unstable_by_key(|user| spread(user.id));
        let any = users.iter().any(|user| user.next.is_some());
        let second = |user: &Arc<User>| match &user.next {
            Some(next) => (next.hmac_key.clone(), Some(Arc::clone(next))),
            None => (decoys.key.clone(), None),
        };
        Signers {
            seconds: users.iter().filter(|_| any).map(second).collect(),
            ids: users.iter().map(|user| spread(user.id)).collect(),
            keys: users.iter().map(|user| user.hmac_key.clone()).collect(),
            users,
            decoy: decoys.key.clone(),
            server: config.server_id.unwrap_or(decoys.server),
        }
    }

    /// `None`: not authentic.
    pub(super) fn verify(&self, opened: &Opened) -> Option<Verified> {
        let (packet, good) = Packet::read(&*opened.plaintext).ok()?;
        let (at, known) = self.find(packet.user, good)?;
        let key = HmacKey::select(&self.decoy, self.keys.get(at)?, known);
        let verify =
            |key: &HmacKey| mac::verify(key, &packet.signed, packet.hmac, self.server, opened.source.ip());
        let first = verify(&key).zip(self.users.get(at));
        // While anybody has two keys, two are tried for all: how long it takes does not tell who.
        let second = self.seconds.get(at).and_then(|(key, user)| {
            let key = HmacKey::select(&self.decoy, key, known);
            verify(&key).zip(user.as_ref())
        });
        let (bound, user) = first.or(second).filter(|_| known.into())?;
        Some(Verified {
            knock: opened.knock(),
            source: opened.source,
            user: Arc::clone(user),
            nonce: Nonce { timestamp: packet.timestamp, user: packet.user, challenge: packet.challenge },
            action: packet.action,
            bound,
            lane: opened.lane,
            under: opened.under,
            payload: packet.payload.into(),
            asked: Box::new(Asked {
                digest: opened.digest,
                hmac: *packet.hmac,
                action: packet.action,
                socket: opened.socket,
                local: opened.local,
            }),
        })
    }

    /// Where the user stands, and whether he does. For one that there is not, and for what is no packet, somebody else's
    /// place, so that as much is looked at. `None`: there are no users.
    fn find(&self, user: UserId, good: Choice) -> Option<(usize, Choice)> {
        let id = spread(user);
        let own = self.ids.partition_point(|other| *other < id).min(self.ids.len().checked_sub(1)?);
        let known = good & self.ids.get(own)?.ct_eq(&id);
        let other = usize::from(id).checked_rem(self.ids.len())?;
        let at = u64::conditional_select(&(other as u64), &(own as u64), known);
        Some((usize::try_from(at).ok()?, known))
    }
}

/// Another number for each id. As a rule users have low ids, and what no user sealed names any: looking among the ids
/// themselves, the former would be found at one end, and the latter at the other, which is touched more often.
fn spread(id: UserId) -> u16 {
    id.0.wrapping_mul(GOLDEN)
}

/// 2^16 divided by the golden ratio, odd: numbers in a row come out far from each other.
const GOLDEN: u16 = 0x9e37;
