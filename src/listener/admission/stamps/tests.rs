#![allow(clippy::arithmetic_side_effects, reason = "small numbers")]

use std::time::Duration;

use super::*;
use crate::channel::Plain;
use crate::wire::PrivateKey;

const LIMITS: Limits = Limits {
    freshness: 300,
    plain: Plain::Taken,
    user_rate: 1000,
    user_burst: 1000,
    prefix_rate: 1,
    prefix_burst: 1,
    prefixes: 1,
};

const ALICE: UserId = UserId(1);
const BOB: UserId = UserId(2);

struct Rig {
    stamps: Stamps,
    now: Now,
    serial: u8,
}

fn stamper(user: UserId) -> Stamper {
    Stamper::new(&key(user))
}

fn key(user: UserId) -> StampKey {
    StampKey::from_bytes([user.0.try_into().unwrap(); 32])
}

impl Rig {
    fn new() -> Rig {
        let vectors = include_str!("../../../../tests/vectors/siglatch-v1.json");
        let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
        let server = PrivateKey::from_pem(vectors["private_key_pem"].as_str().unwrap()).unwrap();
        let now = Now {
            mono: Duration::from_secs(1),
            boot: Duration::ZERO,
            wall: Duration::from_secs(1_700_000_000),
        };
        let mut stamps = Stamps::new(now, BeaconKey::of(server.public()), 300);
        [ALICE, BOB].into_iter().for_each(|user| stamps.add(user, &key(user)));
        Rig { stamps, now, serial: 0 }
    }

    fn epoch(&self) -> Epoch {
        Epoch::of(self.now.unix())
    }

    /// Whether a new datagram with that hint and that user's tag is taken, and for whose.
    fn take(&mut self, hint: [u8; 8], user: UserId) -> Result<UserId, DropReason> {
        self.serial += 1;
        let beacon = self.stamps.beacon.beacon(self.epoch());
        let mut bytes = vec![self.serial; 256];
        bytes.extend([beacon, hint].concat());
        bytes.extend(stamper(user).tag(&bytes));
        let source = IpAddr::from([192, 0, 2, 1]);
        let taken = self.stamps.take(self.now, source, &Stamped::split(&bytes, 256).unwrap(), &LIMITS);
        taken.map(|(user, _)| user)
    }

    fn take_of(&mut self, user: UserId) -> Result<UserId, DropReason> {
        let hint = stamper(user).hint(user, self.epoch());
        self.take(hint, user)
    }
}

#[test]
fn two_users_with_one_hint_both_get_in_and_one_who_goes_leaves_the_other() {
    for gone in [ALICE, BOB] {
        let mut rig = Rig::new();
        let hint = stamper(ALICE).hint(ALICE, rig.epoch());
        let own = rig.stamps.epochs.iter_mut().map(|tables| (stamper(BOB).hint(BOB, tables.epoch), tables));
        own.for_each(|(own, tables)| {
            tables.leave(own, BOB);
            tables.enter(hint, BOB);
        });
        for user in [ALICE, BOB] {
            assert_eq!(rig.take(hint, user), Ok(user));
        }
        assert_eq!(rig.take(hint, UserId(3)), Err(DropReason::Stamp));
        rig.stamps.remove(gone);
        for user in [ALICE, BOB] {
            let expected = if user == gone { Err(DropReason::Stamp) } else { Ok(user) };
            assert_eq!(rig.take(hint, user), expected, "{user:?} when {gone:?} is gone");
        }
    }
}

#[test]
fn when_too_many_tags_are_remembered_each_user_has_an_equal_share_and_none_is_forgotten() {
    let mut rig = Rig::new();
    rig.stamps.tags = TAGS_MAX;
    let share = TAGS_MAX / 2;
    rig.stamps.epochs[0].shares.insert(ALICE, share - 1);
    assert_eq!(rig.take_of(ALICE), Ok(ALICE), "the last of hers, in another epoch");
    assert_eq!(rig.take_of(ALICE), Err(DropReason::Queue));
    assert_eq!(rig.take_of(BOB), Ok(BOB), "who left none has his");
    assert_eq!(rig.stamps.tags, TAGS_MAX + 2);
    // Their epochs go, and with them the tags.
    rig.now.wall += Duration::from_secs(1000);
    assert_eq!(rig.stamps.roll(rig.now), Beacons::Changed);
    assert_eq!(rig.stamps.tags, 0);
    assert_eq!(rig.take_of(ALICE), Ok(ALICE));
}

#[test]
fn what_is_forgotten_is_counted_out() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        assert_eq!(rig.take_of(ALICE), Ok(ALICE));
    }
    let tags: Vec<[u8; 16]> =
        rig.stamps.epochs.iter().flat_map(|tables| tables.tags.keys().copied()).collect();
    assert_eq!((tags.len(), rig.stamps.tags, rig.stamps.share(ALICE)), (3, 3, 3));
    for tag in tags.iter().chain(&tags) {
        rig.stamps.forget(tag);
    }
    assert_eq!((rig.stamps.tags, rig.stamps.share(ALICE)), (0, 0), "each once");
}

#[test]
fn epochs_are_in_order_and_without_gaps_wherever_the_clock_goes() {
    let mut rig = Rig::new();
    let start = rig.now.unix();
    for to in [start + 64, start + 10_000, start, 0, 63, 100, u64::MAX / 1_000_000_000, start - 64, start] {
        for freshness in [300, 1, 3600] {
            rig.now.wall = Duration::from_secs(to);
            rig.stamps.set_freshness(rig.now, freshness);
            let epochs: Vec<Epoch> = rig.stamps.epochs.iter().map(|tables| tables.epoch).collect();
            let (first, last) = Epoch::window(to, freshness).into_inner();
            assert_eq!(epochs, (first.0..=last.0).map(Epoch).collect::<Vec<_>>(), "{to} {freshness}");
            assert_eq!(rig.stamps.roll(rig.now), Beacons::Same);
            assert!(rig.stamps.epochs.iter().all(|tables| tables.hints.len() == 2), "both users in each");
        }
    }
}
