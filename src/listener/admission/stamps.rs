//! Stamps: beacon, hint, tag, each once. Pure.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::iter;
use std::net::IpAddr;

use super::Beacons;
use crate::bucket::{Bucket, Taken};
use crate::channel::{Limits, Under};
use crate::clock::Now;
use crate::reason::DropReason;
use crate::wire::stamp::{Epoch, Stamped, Stamper};
use crate::wire::{BeaconKey, StampKey, UserId};

/// Everybody who may stamp, and every stamp that was taken and could come again.
#[derive(Debug)]
pub(super) struct Stamps {
    beacon: BeaconKey,
    /// Of the key before, while that is good.
    old: Option<BeaconKey>,
    freshness: u64,
    users: HashMap<UserId, Member>,
    /// Of the window, in order and without gaps.
    epochs: VecDeque<Tables>,
    /// In all epochs together.
    tags: usize,
}

#[derive(Debug)]
struct Member {
    /// Of his key, and of the one that he exchanges it for; each for each key of the server's.
    stampers: Vec<Stamper>,
    bucket: Bucket,
}

/// What is known of one epoch beforehand, and the tags that were taken in it, with their sources.
#[derive(Debug)]
struct Tables {
    epoch: Epoch,
    beacon: [u8; 8],
    /// Of the key before, while that is good.
    old_beacon: Option<[u8; 8]>,
    hints: HashMap<[u8; 8], UserId>,
    /// Hints that another user has too: one pair in 2^64, and both are to get in.
    twins: Vec<([u8; 8], UserId)>,
    tags: HashMap<[u8; 16], (IpAddr, UserId)>,
    /// How many of them are whose.
    shares: HashMap<UserId, usize>,
}

impl Stamps {
    pub(super) fn new(now: Now, beacon: BeaconKey, freshness: u64) -> Stamps {
        let mut stamps =
            Stamps { beacon, old: None, freshness, users: HashMap::new(), epochs: VecDeque::new(), tags: 0 };
        let _all_are_new = stamps.roll(now);
        stamps
    }

    /// And those for another key of the server's.
    pub(super) fn add_old(&mut self, beacon: BeaconKey) {
        self.epochs.iter_mut().for_each(|tables| tables.old_beacon = Some(beacon.beacon(tables.epoch)));
        self.old = Some(beacon);
    }

    pub(super) fn set_freshness(&mut self, now: Now, freshness: u64) {
        self.freshness = freshness;
        let _the_caller_makes_a_new_sieve = self.roll(now);
    }

    /// Beside those that he has.
    pub(super) fn add(&mut self, user: UserId, key: &StampKey) {
        let stamper = Stamper::new(key);
        self.epochs.iter_mut().for_each(|tables| tables.add(user, &stamper));
        let member = Member { stampers: Vec::new(), bucket: Bucket::default() };
        self.users.entry(user).or_insert(member).stampers.push(stamper);
    }

    pub(super) fn remove(&mut self, user: UserId) {
        if let Some(member) = self.users.remove(&user) {
            for stamper in &member.stampers {
                self.epochs.iter_mut().for_each(|tables| tables.remove(user, stamper));
            }
        }
    }

    /// Lets epochs that are over go, their tags with them, and takes up new ones: a hash for each user and new epoch.
    pub(super) fn roll(&mut self, now: Now) -> Beacons {
        let (first, last) = Epoch::window(now.unix(), self.freshness).into_inner();
        let ends =
            (self.epochs.front().map(|tables| tables.epoch), self.epochs.back().map(|tables| tables.epoch));
        if ends == (Some(first), Some(last)) {
            return Beacons::Same;
        }
        let mut kept = std::mem::take(&mut self.epochs);
        kept.retain(|tables| (first..=last).contains(&tables.epoch));
        for number in first.0..=last.0 {
            let known = match kept.front() {
                Some(tables) if tables.epoch.0 == number => kept.pop_front(),
                Some(_) | None => None,
            };
            let tables = known.unwrap_or_else(|| self.tables(Epoch(number)));
            self.epochs.push_back(tables);
        }
        self.tags = self.epochs.iter().map(|tables| tables.tags.len()).sum();
        Beacons::Changed
    }

    /// With an epoch more at either end than are good now: the sieve is replaced a moment after the edge.
    pub(super) fn beacons(&self) -> Vec<[u8; 8]> {
        let (first, last) = Epoch::window(0, 0).into_inner();
        let first = self.epochs.front().map_or(first, |tables| tables.epoch);
        let last = self.epochs.back().map_or(last, |tables| tables.epoch);
        let before = first.0.checked_sub(1).map(Epoch);
        let after = Epoch(last.0.saturating_add(1));
        let inside = self.epochs.iter().flat_map(|tables| iter::once(tables.beacon).chain(tables.old_beacon));
        let keys = || iter::once(&self.beacon).chain(&self.old);
        let outside = before.into_iter().chain([after]);
        let outside = outside.flat_map(|epoch| keys().map(move |key| key.beacon(epoch)));
        inside.chain(outside).collect()
    }

    /// Whose stamp it is, and which key its beacon is for; from now on it is taken.
    pub(super) fn take(
        &mut self,
        now: Now,
        source: IpAddr,
        stamped: &Stamped<'_>,
        limits: &Limits,
    ) -> Result<(UserId, Under), DropReason> {
        let mut places = self.epochs.iter().enumerate();
        let place = places.find_map(|(at, tables)| Some((at, tables.under(stamped)?)));
        let (at, under) = place.ok_or(DropReason::Beacon)?;
        let tables = self.epochs.get(at).ok_or(DropReason::Beacon)?;
        // Before it is verified: a captured datagram, however often it is replayed, costs a look-up. Who can name a tag
        // that was taken learns nothing from this, and one that was not is in no table.
        match tables.tags.get(stamped.tag) {
            None => {}
            Some((first, _)) if *first == source => return Err(DropReason::Seen),
            Some(_) => return Err(DropReason::Copied),
        }
        let user = tables.user(stamped, &self.users).ok_or(DropReason::Stamp)?;
        // Nothing is forgotten for room, so who has left many takes none from who has not.
        if self.tags >= TAGS_MAX && self.share(user) >= TAGS_MAX.div_ceil(self.users.len().max(1)) {
            return Err(DropReason::Queue);
        }
        let member = self.users.get_mut(&user).ok_or(DropReason::Stamp)?;
        match member.bucket.take(now, limits.user_rate, limits.user_burst) {
            Taken::Yes => {}
            Taken::No => return Err(DropReason::StampRate),
        }
        if let Some(tables) = self.epochs.get_mut(at) {
            tables.tags.insert(*stamped.tag, (source, user));
            let share = tables.shares.entry(user).or_default();
            *share = share.saturating_add(1);
            self.tags = self.tags.saturating_add(1);
        }
        Ok((user, under))
    }

    /// Whether it is one that was taken, and not another with its tag.
    pub(super) fn has_taken(&self, stamped: &Stamped<'_>) -> bool {
        let tables = self.epochs.iter().find(|tables| tables.under(stamped).is_some());
        let taken = tables.and_then(|tables| tables.tags.get(stamped.tag));
        let member = taken.and_then(|(_, user)| self.users.get(user));
        member.is_some_and(|member| member.verifies(stamped))
    }

    /// It was not opened after all.
    pub(super) fn forget(&mut self, tag: &[u8; 16]) {
        for tables in &mut self.epochs {
            if let Some((_, user)) = tables.tags.remove(tag) {
                tables.shares.entry(user).and_modify(|share| *share = share.saturating_sub(1));
                self.tags = self.tags.saturating_sub(1);
            }
        }
    }

    /// How many of the remembered tags are his.
    fn share(&self, user: UserId) -> usize {
        self.epochs.iter().filter_map(|tables| tables.shares.get(&user)).sum()
    }

    fn tables(&self, epoch: Epoch) -> Tables {
        let mut tables = Tables {
            epoch,
            beacon: self.beacon.beacon(epoch),
            old_beacon: self.old.as_ref().map(|old| old.beacon(epoch)),
            hints: HashMap::with_capacity(self.users.len()),
            twins: Vec::new(),
            tags: HashMap::new(),
            shares: HashMap::new(),
        };
        for (user, member) in &self.users {
            member.stampers.iter().for_each(|stamper| tables.add(*user, stamper));
        }
        tables
    }
}

impl Member {
    fn verifies(&self, stamped: &Stamped<'_>) -> bool {
        self.stampers.iter().any(|stamper| stamper.verifies(stamped))
    }
}

impl Tables {
    /// Which key the beacon is for, if it is of this epoch.
    fn under(&self, stamped: &Stamped<'_>) -> Option<Under> {
        if stamped.beacon == self.beacon {
            return Some(Under::CURRENT);
        }
        (Some(stamped.beacon) == self.old_beacon).then_some(Under::OLD)
    }

    fn add(&mut self, user: UserId, stamper: &Stamper) {
        self.enter(stamper.hint(user, self.epoch), user);
    }

    fn remove(&mut self, user: UserId, stamper: &Stamper) {
        self.leave(stamper.hint(user, self.epoch), user);
    }

    fn enter(&mut self, hint: [u8; 8], user: UserId) {
        match self.hints.entry(hint) {
            Entry::Occupied(_) => self.twins.push((hint, user)),
            Entry::Vacant(place) => drop(place.insert(user)),
        }
    }

    fn leave(&mut self, hint: [u8; 8], user: UserId) {
        if self.hints.get(&hint) != Some(&user) {
            self.twins.retain(|(_, other)| *other != user);
            return;
        }
        self.hints.remove(&hint);
        if let Some(at) = self.twins.iter().position(|(other, _)| *other == hint) {
            let (hint, twin) = self.twins.swap_remove(at);
            self.hints.insert(hint, twin);
        }
    }

    fn user(&self, stamped: &Stamped<'_>, users: &HashMap<UserId, Member>) -> Option<UserId> {
        let first = *self.hints.get(&stamped.hint)?;
        let twins = self.twins.iter().filter(|(hint, _)| *hint == stamped.hint).map(|(_, user)| *user);
        iter::once(first)
            .chain(twins)
            .find(|user| users.get(user).is_some_and(|member| member.verifies(stamped)))
    }
}

/// Tags that are remembered at once, some 30 MB; beyond, each user has an equal share of as many again. One leaves at
/// most `user_burst + user_rate * (2 * freshness + 128)` of them, 7,330 by default.
const TAGS_MAX: usize = 500_000;

#[cfg(test)]
mod tests;
