//! The paths that are measured, and the worlds they are measured in.

use std::hint::black_box;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use siglatch::channel::{Lane, Limits, Opened, Plain, SocketId, StampKeys, Takes, Under};
use siglatch::clock::Now;
use siglatch::judge::{Decision, Decoys, DropReason, Judge, Verdict};
use siglatch::listener::{Admission, Datagram, Step, Supply};
use siglatch::store::Outcome;
use siglatch::wire::stamp::{StampKey, Stamper, stamp};
use siglatch::wire::{ActionId, BeaconKey, Binding, HmacKey, Knock, PrivateKey, ServerId, UserId};
use zeroize::Zeroizing;

use crate::common;

/// How much there is in a world.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) name: &'static str,
    users: u16,
    actions: u8,
    nonces: u32,
}

pub(crate) const SIZES: [Size; 4] = [
    Size { name: "one-of-each", users: 1, actions: 1, nonces: 0 },
    Size { name: "users", users: 10_000, actions: 1, nonces: 0 },
    Size { name: "actions", users: 1, actions: 250, nonces: 0 },
    Size { name: "everything", users: 10_000, actions: 250, nonces: 1_000_000 },
];

impl Size {
    pub(crate) fn named(name: &str) -> Option<Size> {
        SIZES.into_iter().find(|size| size.name == name)
    }
}

/// In the order in which [`run`] takes them.
pub(crate) const PATHS: [&str; 6] = [
    "reject-by-length",
    "reject-by-beacon",
    "reject-by-hint",
    "reject-by-stamp",
    "judge-accept",
    "judge-replay",
];

/// How often each path is taken.
pub(crate) const TIMES: u32 = 100;

/// Builds the world, says so, waits for a line on standard input, and takes each path.
pub(crate) fn run(size: Size) {
    let key = server_key();
    let (mut admission, mut judge) = (admission(&key, size), judge(&key, size));
    let junk = Junk::new(&key);
    for challenge in 0..size.nonces {
        accept(&mut judge, &opened(size.users, challenge + TIMES));
    }
    let knocks: Vec<_> = (0..TIMES).map(|challenge| opened(size.users, challenge)).collect();
    // What is looked up once per process is looked up here.
    let mut other_judge = self::judge(&key, SIZES[0]);
    accept(&mut other_judge, &opened(1, 0));
    for (datagrams, _) in junk.kinds() {
        drop_all(&mut self::admission(&key, SIZES[0]), datagrams);
    }

    println!("ready");
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();

    for (datagrams, reason) in junk.kinds() {
        assert!(measured(|| drop_all(&mut admission, datagrams)) == Some(reason));
    }
    measured(|| knocks.iter().for_each(|knock| accept(&mut judge, knock)));
    measured(|| knocks.iter().for_each(|knock| replay(&mut judge, knock)));
}

/// What callgrind counts, and dumps at the end of.
#[inline(never)]
fn measured<T>(path: impl FnOnce() -> T) -> T {
    black_box(path())
}

fn drop_all(admission: &mut Admission, datagrams: &[Vec<u8>]) -> Option<DropReason> {
    let mut last = None;
    for bytes in datagrams {
        let datagram = Datagram {
            source: SOURCE,
            local: SOURCE.ip(),
            socket: SocketId(0),
            takes: Takes::Stamped,
            bytes,
        };
        let Step::Drop(reason) = admission.datagram(now(), Supply::Ample, datagram) else { panic!() };
        last = Some(reason);
    }
    last
}

fn accept(judge: &mut Judge, knock: &Opened) {
    let Decision::Claim(claim) = judge.opened(now(), knock) else { panic!("not accepted") };
    let verdict = judge.claimed(now(), claim, Some(Outcome::New));
    assert!(matches!(verdict, Verdict::Grant(_)), "{verdict:?}");
}

fn replay(judge: &mut Judge, knock: &Opened) {
    let Decision::Refuse(refusal) = judge.opened(now(), knock) else { panic!("accepted twice") };
    assert_eq!(refusal.reason, DropReason::Replay);
}

/// Datagrams that are dropped unopened.
struct Junk {
    short: Vec<Vec<u8>>,
    other_beacon: Vec<Vec<u8>>,
    nobodys_hint: Vec<Vec<u8>>,
    other_tag: Vec<Vec<u8>>,
}

impl Junk {
    fn new(key: &PrivateKey) -> Junk {
        let beacon = BeaconKey::of(key.public());
        let stamped = |user| -> Vec<Vec<u8>> {
            let stamper = Stamper::new(&StampKey::derive(key.public(), &common::key(user)));
            let sealed = (0..TIMES as u8).map(|at| vec![at; 256]);
            sealed.map(|sealed| stamp(sealed, UserId(user), now().unix() as u32, &beacon, &stamper)).collect()
        };
        let change = |mut datagram: Vec<u8>, at: usize| {
            datagram[at] ^= 1;
            datagram
        };
        Junk {
            short: stamped(1).into_iter().map(|datagram| datagram[1..].to_vec()).collect(),
            other_beacon: stamped(1).into_iter().map(|datagram| change(datagram, 256)).collect(),
            nobodys_hint: stamped(u16::MAX),
            other_tag: stamped(1).into_iter().map(|datagram| change(datagram, 287)).collect(),
        }
    }

    fn kinds(&self) -> [(&[Vec<u8>], DropReason); 4] {
        [
            (&self.short, DropReason::Length),
            (&self.other_beacon, DropReason::Beacon),
            (&self.nobodys_hint, DropReason::Stamp),
            (&self.other_tag, DropReason::Stamp),
        ]
    }
}

fn admission(key: &PrivateKey, size: Size) -> Admission {
    let limits = Limits {
        freshness: 300,
        plain: Plain::Taken,
        user_rate: 10,
        user_burst: 50,
        prefix_rate: 10,
        prefix_burst: 50,
        prefixes: 64,
    };
    let mut admission = Admission::new(now(), key.public().modulus(), BeaconKey::of(key.public()), limits);
    let added =
        (1..=size.users).map(|user| (UserId(user), StampKey::derive(key.public(), &common::key(user))));
    admission.stamp_keys(&StampKeys { removed: Vec::new(), added: added.collect() });
    admission
}

fn judge(key: &PrivateKey, size: Size) -> Judge {
    let decoys = Decoys { key: HmacKey::new([0xde; 32]).unwrap(), server: ServerId([0xde; 16]) };
    Judge::new(Arc::new(common::config(key.public(), size.users, size.actions)), decoys)
}

/// A knock for action 1 by the user in the middle.
fn opened(users: u16, challenge: u32) -> Opened {
    let user = users.div_ceil(2);
    let knock = Knock {
        timestamp: now().unix() as u32,
        user: UserId(user),
        action: ActionId::new(1).unwrap(),
        challenge,
        payload: b"open",
    };
    Opened {
        source: SOURCE,
        local: [127, 0, 0, 1].into(),
        socket: SocketId(0),
        lane: Lane::Plain,
        under: Under::CURRENT,
        digest: [0; 32],
        plaintext: Zeroizing::new(*knock.encode(&common::key(user), Binding::None).unwrap()),
    }
}

fn server_key() -> PrivateKey {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/vectors/siglatch-v1.json")).unwrap();
    PrivateKey::from_pem(vectors["private_key_pem"].as_str().unwrap()).unwrap()
}

fn now() -> Now {
    Now { mono: Duration::from_secs(1000), boot: Duration::ZERO, wall: Duration::from_secs(1_700_000_000) }
}

const SOURCE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4000);
