//! The last stage: a knock that may run.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::Asked;
use crate::channel::Lane;
use crate::config::{Action, User};
use crate::store::Used;
use crate::wire::{Bound, KnockId, Options};

/// A knock that was verified, is fresh, claimed and authorized. Only the judge makes one.
#[derive(Debug)]
pub struct Grant {
    /// Names it in log and environment.
    pub knock: KnockId,
    /// Who knocked.
    pub user: Arc<User>,
    /// What is to run.
    pub action: Arc<Action>,
    /// Where from; `::ffff:` folded.
    pub source: SocketAddr,
    /// The packet's timestamp, Unix seconds.
    pub timestamp: u32,
    /// The packet's challenge.
    pub challenge: u32,
    /// What it was bound to.
    pub bound: Bound,
    /// Whether it came with a stamp, and whose.
    pub lane: Lane,
    /// For who answers it.
    pub asked: Box<Asked>,
    /// Whom a door is to be opened for: the source, or whom the knock names.
    pub opens_for: IpAddr,
    /// What it asks for beside the action.
    pub options: Options,
    /// The payload behind them, 0 to 199 bytes.
    pub payload: Vec<u8>,
    /// What was counted for it; nothing where it uses nothing up, or shares what was.
    pub used: Option<Used>,
    /// Nobody outside the judge can fill this in.
    pub(super) _sealed: Sealed,
}

/// Held by the judge alone.
#[derive(Debug)]
pub(super) struct Sealed;

#[cfg(test)]
impl Grant {
    /// A grant that no judge made, for the tests of what comes after.
    pub(crate) fn forged(user: Arc<User>, action: Arc<Action>, payload: &[u8]) -> Grant {
        Grant {
            knock: KnockId([0, 1, 2, 3, 4, 5, 6, 7]),
            used: None,
            user,
            action,
            source: SocketAddr::from(([192, 0, 2, 7], 40000)),
            opens_for: [192, 0, 2, 7].into(),
            timestamp: 1_700_000_000,
            challenge: 1,
            bound: Bound::None,
            lane: Lane::Plain,
            asked: Box::new(Asked {
                digest: [3; 32],
                hmac: [4; 32],
                action: 1,
                socket: crate::channel::SocketId(0),
                local: [192, 0, 2, 1].into(),
            }),
            options: Options::default(),
            payload: payload.to_vec(),
            _sealed: Sealed,
        }
    }
}
