//! What ought to happen, by the letter of the documents: lists, and one rule after the other.

use siglatch::reason::DropReason;
use siglatch::wire::Bound;

use crate::packet::{Sent, SignedFor};
use crate::rules::{LISTS, PAYLOADS, Rules, behind_options};

/// Ran, or why not.
pub(crate) type Verdict = Result<(), DropReason>;

/// User, timestamp, challenge.
pub(crate) type Nonce = (u16, u32, u32);

/// What was ever claimed, and what is forgotten of it.
#[derive(Debug, Default)]
pub(crate) struct Naive {
    /// Recorded, with where it came from first.
    pub(crate) claims: Vec<(Nonce, usize)>,
    /// What is not later than this is refused.
    pub(crate) floor: u32,
    /// What is not later than this may be refused: a crash raises the floor to what the store had reserved, up to ten seconds
    /// ahead of the clock.
    pub(crate) floor_at_most: u32,
    /// Asked for in this process, and from where: a copy may be answered without asking the store.
    pub(crate) asked: Vec<(Nonce, usize)>,
    /// How many claims there may be.
    pub(crate) room: usize,
}

/// A knock that must be claimed before anything more can be said.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) sent: Sent,
    pub(crate) source: usize,
    bound: Bound,
    /// Where its nonce was asked for before.
    before: Vec<usize>,
    /// By the rules of its coming: a knock that was denied does not come alive after a reload.
    first: Verdict,
}

/// Whether the store works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Works,
    Fails,
}

impl Naive {
    pub(crate) fn opened(
        &mut self,
        rules: &Rules,
        wall: u64,
        sent: Sent,
        source: usize,
    ) -> Result<Claimed, DropReason> {
        let bound = bound_of(rules, &sent, source).ok_or(DropReason::NotAuthentic)?;
        if sent.action == 0 {
            return Err(DropReason::ReservedAction);
        }
        let age = i128::from(wall) - i128::from(sent.timestamp);
        if age > i128::from(rules.freshness) {
            return Err(DropReason::Stale);
        }
        if -age > i128::from(rules.freshness) {
            return Err(DropReason::Ahead);
        }
        let nonce = sent.nonce();
        let before = self.asked.iter().filter(|(asked, _)| *asked == nonce).map(|(_, source)| *source);
        let before = before.collect();
        self.asked.push((nonce, source));
        let mut claimed = Claimed { sent, source, bound, before, first: Ok(()) };
        claimed.first = permitted(rules, wall, &claimed);
        Ok(claimed)
    }

    /// All that may become of a claim.
    pub(crate) fn settled(
        &self,
        rules: &Rules,
        wall: u64,
        claimed: &Claimed,
        health: Health,
    ) -> Vec<Verdict> {
        let nonce = claimed.sent.nonce();
        let copy_of = |first: usize| {
            Err(if first == claimed.source { DropReason::Replay } else { DropReason::Contested })
        };
        let first = self.claims.iter().find(|(claim, _)| *claim == nonce);
        let mut may = Vec::new();
        if claimed.sent.timestamp <= self.floor_at_most {
            may.push(Err(DropReason::Floor));
        }
        if claimed.sent.timestamp > self.floor {
            may.push(match first {
                Some((_, first)) => copy_of(*first),
                None if self.claims.len() >= self.room => Err(DropReason::StoreFull),
                None => claimed.first.and_then(|()| permitted(rules, wall, claimed)),
            });
        }
        if health == Health::Fails {
            may = vec![Err(DropReason::StoreFailed)];
        }
        let before = &claimed.before;
        match first {
            _ if before.is_empty() => {}
            Some((_, first)) if before.iter().all(|source| source == first) => may.push(copy_of(*first)),
            // Whoever came in this process first may be taken for the first ever until the store has been asked.
            Some(_) | None => may.extend([Err(DropReason::Replay), Err(DropReason::Contested)]),
        }
        may
    }

    /// The store has recorded it.
    pub(crate) fn record(&mut self, nonce: Nonce, source: usize) {
        assert!(self.claims.iter().all(|(claim, _)| *claim != nonce), "recorded twice");
        self.claims.push((nonce, source));
    }

    pub(crate) fn forget(&mut self, before: u32) {
        let old = |nonce: &Nonce| nonce.1 < before;
        let latest =
            self.claims.iter().map(|(nonce, _)| nonce).filter(|nonce| old(nonce)).map(|nonce| nonce.1);
        self.raise(latest.max().unwrap_or(0));
        self.claims.retain(|(nonce, _)| !old(nonce));
    }

    pub(crate) fn raise(&mut self, floor: u32) {
        self.floor = self.floor.max(floor);
        self.floor_at_most = self.floor_at_most.max(floor);
    }
}

/// `None`: not authentic.
fn bound_of(rules: &Rules, sent: &Sent, source: usize) -> Option<Bound> {
    let user = rules.user(sent.user)?;
    let ours = |id: u8| rules.server_id == Some(id);
    match sent.signed_for {
        _ if user.key != sent.key || sent.is_spoiled() => None,
        SignedFor::Nothing => Some(Bound::None),
        SignedFor::Server(id) => ours(id).then_some(Bound::Server),
        SignedFor::Source(id, bound) => (ours(id) && bound == source).then_some(Bound::Source),
    }
}

/// Every rule is looked at; the one that comes first in the list of reasons counts.
fn permitted(rules: &Rules, wall: u64, claimed: &Claimed) -> Verdict {
    let Claimed { sent, source, bound, .. } = claimed;
    let Some(user) = rules.user(sent.user).filter(|user| user.key == sent.key) else {
        return Err(DropReason::UserGone);
    };
    let mut broken = Vec::new();
    if !user.enabled {
        broken.push(DropReason::UserDisabled);
    }
    if user.not_after.is_some_and(|last| wall > last) {
        broken.push(DropReason::UserExpired);
    }
    if !user.actions.contains(&sent.action) {
        broken.push(DropReason::NotPermitted);
    }
    if user.invited {
        broken.push(DropReason::KeyExchange);
    }
    if *bound < rules.bind || *bound < user.bind {
        broken.push(DropReason::Binding);
    }
    let listed = |list: usize| LISTS[list].1.contains(source);
    if !listed(rules.list) || !listed(user.list) {
        broken.push(DropReason::Source);
    }
    if user.require_stamp && sent.stamp != Some(sent.user) {
        broken.push(DropReason::StampMissing);
    }
    match rules.action(sent.action) {
        None => broken.push(DropReason::ActionUnknown),
        Some(action) => {
            if !action.enabled {
                broken.push(DropReason::ActionDisabled);
            }
            if *bound < action.bind {
                broken.push(DropReason::Binding);
            }
            if !listed(action.list) {
                broken.push(DropReason::Source);
            }
            let payload =
                if action.door { behind_options(sent.payload) } else { Some(&PAYLOADS[sent.payload]) };
            match payload {
                None => broken.push(DropReason::Options),
                Some(payload) => {
                    if !payload.kinds.contains(&action.kind) || payload.bytes.len() > action.max_payload {
                        broken.push(DropReason::Payload);
                    }
                }
            }
        }
    }
    broken.into_iter().min().map_or(Ok(()), Err)
}
