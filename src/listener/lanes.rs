//! Who is opened next. Pure.
//!
//! Stamped datagrams before all others, users in turns; then plain ones from where somebody knocked well; then strangers.
//! When more strangers wait than there is room for, each newcomer takes the place of one of them, or is turned away, by
//! chance: so each has the same chance, whenever he came, and nobody can fill the queue before him.

use std::collections::{HashMap, VecDeque};

use super::admission::{Sealed, Way};
use crate::wire::UserId;

/// Datagrams that wait for a private-key operation.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Of each lane.
    room: usize,
    stamped: HashMap<UserId, VecDeque<Sealed>>,
    /// Users with something in `stamped`; the first one's turn is next.
    turns: VecDeque<UserId>,
    stamped_waiting: usize,
    settled: VecDeque<Sealed>,
    strangers: VecDeque<Sealed>,
}

/// Whether plain datagrams may be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ration {
    /// They may.
    Any,
    /// Enough of them are being opened.
    StampedOnly,
}

impl Lanes {
    /// So many of each lane may wait.
    pub(super) fn new(room: usize) -> Lanes {
        Lanes {
            room,
            stamped: HashMap::new(),
            turns: VecDeque::new(),
            stamped_waiting: 0,
            settled: VecDeque::new(),
            strangers: VecDeque::new(),
        }
    }

    /// The one for which there is no room, if so: the newcomer or another. `chance` is random.
    pub(super) fn push(&mut self, sealed: Sealed, chance: u64) -> Option<Sealed> {
        match sealed.way() {
            Way::Stamped(user) => self.push_stamped(user, sealed),
            Way::Settled if self.settled.len() < self.room => {
                self.settled.push_back(sealed);
                None
            }
            // His prefix has more waiting than all others together may have.
            Way::Settled | Way::Stranger => self.push_stranger(sealed, chance),
        }
    }

    /// The next one.
    pub(super) fn pop(&mut self, ration: Ration) -> Option<Sealed> {
        if let Some(user) = self.turns.pop_front()
            && let Some(queue) = self.stamped.get_mut(&user)
        {
            let next = queue.pop_front();
            if queue.is_empty() {
                self.stamped.remove(&user);
            } else {
                self.turns.push_back(user);
            }
            self.stamped_waiting = self.stamped_waiting.saturating_sub(1);
            return next;
        }
        match ration {
            Ration::Any => self.settled.pop_front().or_else(|| self.strangers.pop_front()),
            Ration::StampedOnly => None,
        }
    }

    /// How many wait: stamped, plain.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.stamped_waiting, self.settled.len().saturating_add(self.strangers.len()))
    }

    /// Without room, who has most waiting gives way: no user can take the room of all.
    fn push_stamped(&mut self, user: UserId, sealed: Sealed) -> Option<Sealed> {
        let mut out = None;
        if self.stamped_waiting >= self.room {
            let own = self.stamped.get(&user).map_or(0, VecDeque::len);
            let most = self.stamped.values_mut().max_by_key(|queue| queue.len());
            match most.filter(|queue| queue.len() > own.saturating_add(1)) {
                Some(queue) => out = queue.pop_back(),
                None => return Some(sealed),
            }
            self.stamped_waiting = self.stamped_waiting.saturating_sub(1);
        }
        let queue = self.stamped.entry(user).or_default();
        if queue.is_empty() {
            self.turns.push_back(user);
        }
        queue.push_back(sealed);
        self.stamped_waiting = self.stamped_waiting.saturating_add(1);
        out
    }

    fn push_stranger(&mut self, sealed: Sealed, chance: u64) -> Option<Sealed> {
        if self.strangers.len() < self.room {
            self.strangers.push_back(sealed);
            return None;
        }
        let sides = (self.strangers.len() as u64).saturating_add(1);
        let place = usize::try_from(chance.checked_rem(sides).unwrap_or(0)).unwrap_or(usize::MAX);
        Some(match self.strangers.get_mut(place) {
            Some(other) => std::mem::replace(other, sealed),
            None => sealed,
        })
    }
}

#[cfg(test)]
mod tests;
