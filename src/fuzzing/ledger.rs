//! What was signed, sent and claimed, written down apart from the product; each grant is held to it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use sha2::{Digest, Sha256};

use super::knock::{Knock, MODULUS, Stamp};
use super::menu;
use super::pipeline::Seen;
use super::sealed::unpad;
use crate::channel::{Lane, Opened, Reply};
use crate::clock::Now;
use crate::config::resolved::{self, Enabled, PayloadKind, SecondFactor};
use crate::config::{Action, Config, User};
use crate::judge::Grant;
use crate::reason::DropReason;
use crate::wire::stamp::STAMP_LEN;
use crate::wire::{Binding, Bound, HmacKey, KnockId, Nonce, PLAINTEXT_LEN, Receipt, ServerId, UserId};
use crate::work::About;

#[derive(Default)]
pub(super) struct Ledger {
    pub(super) seen: Seen,
    /// By their HMAC.
    signed: HashMap<[u8; 32], Signature>,
    /// By their knock.
    stamps: HashMap<KnockId, HashSet<Stamped>>,
    /// How often each was opened that had a stamp of this user's.
    opened: HashMap<(KnockId, UserId), usize>,
    /// How often a listener may have forgotten the tags it saw.
    forgotten: usize,
    /// What came without a stamp while that was taken.
    plain: HashSet<KnockId>,
    /// What came from where.
    delivered: HashSet<(KnockId, SocketAddr)>,
    datagrams: HashMap<KnockId, Vec<u8>>,
    waiting: VecDeque<Waiting>,
    ran: BTreeSet<Nonce>,
    /// What was decided, and how often that was answered.
    answers: HashMap<(KnockId, SocketAddr), usize>,
}

/// A stamp, and with which key it was made.
#[derive(PartialEq, Eq, Hash)]
struct Stamped {
    user: UserId,
    key: [u8; 32],
    tag: [u8; 16],
}

struct Signature {
    key: HmacKey,
    binding: Binding,
    plain: [u8; PLAINTEXT_LEN],
}

/// For the store.
struct Waiting {
    knock: KnockId,
    source: SocketAddr,
    lane: Lane,
    wall: u64,
    freshness: u64,
    server: Option<ServerId>,
}

impl Ledger {
    /// The knock's datagram.
    pub(super) fn sign(&mut self, knock: &Knock<'_>, now: Now) -> Vec<u8> {
        let made = knock.make(now.unix());
        let signature = Signature { key: made.key, binding: made.binding, plain: made.signed };
        self.signed.insert(hmac(&made.signed), signature);
        made.datagram
    }

    /// The stamped datagram.
    pub(super) fn stamp(&mut self, stamp: &Stamp, sealed: Vec<u8>, now: Now) -> Vec<u8> {
        let knock = knock_id(&sealed);
        let whole = stamp.make(sealed, now.unix());
        let tag = *whole.last_chunk().expect("a stamp is longer");
        let stamped = Stamped { user: stamp.user, key: *stamp.key().bytes(), tag };
        // One that is spoiled may be mended on its way.
        self.stamps.entry(knock).or_default().insert(stamped);
        stamp.spoil(whole)
    }

    pub(super) fn delivered(&mut self, config: &Config, source: SocketAddr, bytes: &[u8]) {
        // A stamp is no part of the knock.
        let stamped = bytes.len() == MODULUS.len() + STAMP_LEN;
        let bytes = if stamped { &bytes[..MODULUS.len()] } else { bytes };
        let knock = knock_id(bytes);
        if !stamped && config.stamp == resolved::Stamp::Optional {
            self.plain.insert(knock);
        }
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        self.delivered.insert((knock, source));
        self.datagrams.insert(knock, bytes.to_vec());
    }

    /// It came out of the listener, and waits for the store now or was refused.
    pub(super) fn opened(
        &mut self,
        now: Now,
        config: &Config,
        opened: &Opened,
        judged: Result<(), DropReason>,
    ) {
        match opened.lane {
            Lane::Plain => assert!(self.plain.contains(&opened.knock()), "without a stamp: {opened:?}"),
            Lane::Stamped(user) => self.opened_stamped(opened.knock(), user),
        }
        if judged.is_ok() {
            self.claimed(now, config, opened);
        }
    }

    pub(super) fn claimed(&mut self, now: Now, config: &Config, opened: &Opened) {
        self.waiting.push_back(Waiting {
            knock: opened.knock(),
            source: opened.source,
            lane: opened.lane,
            wall: now.unix(),
            freshness: config.freshness.as_secs(),
            server: config.server_id,
        });
    }

    /// Each of his stamps is good for one private-key operation.
    fn opened_stamped(&mut self, knock: KnockId, user: UserId) {
        let stamps = self.stamps.get(&knock).into_iter().flatten();
        let own = stamps.filter(|stamp| stamp.user == user && menu::had(user, &stamp.key)).count();
        assert!(own > 0, "{user} did not stamp {knock}");
        let times = self.opened.entry((knock, user)).or_default();
        *times += 1;
        assert!(*times <= own * (1 + self.forgotten), "{own} stamps opened it {times} times");
    }

    /// The oldest claim was decided.
    pub(super) fn verdict(&mut self, now: Now, config: &Config, grant: Option<&Grant>) {
        let waiting = self.waiting.pop_front().expect("an answer to a claim");
        self.answers.entry((waiting.knock, waiting.source)).or_default();
        let Some(grant) = grant else { return };
        self.seen.granted += 1;
        assert_eq!((grant.knock, grant.source), (waiting.knock, waiting.source));
        assert!(self.delivered.contains(&(grant.knock, grant.source)), "came from nowhere: {grant:?}");

        let plain = unpad(&self.datagrams[&grant.knock]).expect("a padded message");
        let signature = self.signed.get(&hmac(plain)).expect("somebody signed it");
        assert_eq!(covered(plain), covered(&signature.plain), "changed after signing");
        assert!(signature.key == grant.user.hmac_key, "signed by somebody else");
        let nonce = assert_fields(plain, grant);
        let distance = waiting.wall.abs_diff(grant.timestamp.into());
        assert!(distance <= waiting.freshness, "{distance} s off: {grant:?}");
        assert!(self.ran.insert(nonce), "granted twice: {grant:?}");

        let bound = bound(signature.binding, waiting.server, grant.source.ip());
        assert_eq!(Some(grant.bound), bound);
        assert_permitted(config, &grant.user, &grant.action, grant.source.ip(), grant.bound);
        let required = grant.user.stamp == resolved::Stamp::Required;
        assert!(!required || waiting.lane == Lane::Stamped(grant.user.id), "a plain one: {grant:?}");
        assert!(grant.user.not_after.is_none_or(|last| last >= now.wall));
        assert_taken(&config.actions[&grant.action.id], &grant.payload);
    }

    /// A job starts, which may be a reload after its grant.
    pub(super) fn started(config: &Config, about: &About) {
        assert_permitted(config, &about.user, &about.action, about.source.ip(), about.bound);
    }

    /// An answer leaves: to where its knock came from, at most twice, readable by who signed it alone, never longer.
    pub(super) fn answered(&mut self, answer: &Reply) {
        let knock = KnockId::of(answer.digest);
        let times = self.answers.get_mut(&(knock, answer.to)).expect("an answer to what was decided");
        *times += 1;
        assert!(*times <= 2, "still running, then the last word: {answer:?}");

        let plain = unpad(&self.datagrams[&knock]).expect("a padded message");
        let signature = self.signed.get(&hmac(plain)).expect("somebody signed it");
        if self.plain.contains(&knock) && !self.stamps.contains_key(&knock) {
            assert_eq!((*times, answer.until, answer.bytes.len()), (1, 0, MODULUS.len()));
            self.seen.answers.insert("v1".to_owned());
            return;
        }
        assert!(answer.bytes.len() <= MODULUS.len() + STAMP_LEN);
        if answer.until == 0 {
            return;
        }
        let receipt = Receipt::open(&answer.bytes, &signature.key, &hmac(plain)).expect("for who signed it");
        assert_eq!((receipt.knock, receipt.source), (knock, answer.to.ip()));
        self.seen.answers.insert(receipt.status.to_string());
    }

    /// Each datagram that came ran or is counted under one reason.
    pub(super) fn balance(&mut self, (received, ran, refused): (u64, u64, Vec<(DropReason, u64)>)) {
        assert!(self.waiting.is_empty(), "claims without an answer");
        // A hostile listener may have counted as far as one can.
        let all = refused.iter().fold(ran, |sum, (_, count)| sum.saturating_add(*count));
        assert_eq!(received, all, "ran {ran}, refused {refused:?}");
        assert!(ran <= self.seen.granted);
        let reasons = refused.iter().filter(|(_, count)| *count > 0);
        self.seen.refused.extend(reasons.map(|(reason, _)| *reason));
    }

    /// Another takes its place, and knows none of the tags.
    pub(super) fn listener_lost(&mut self) {
        self.forgotten += 1;
    }

    /// The window moved in a way that time does not: an epoch may leave it and come back, without its tags.
    pub(super) fn epochs_come_again(&mut self) {
        self.forgotten += 1;
    }

    /// The daemon was killed.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// A store in memory starts with its floor at the clock: what ran ahead of it may run again.
    pub(super) fn store_lost(&mut self, now: Now) {
        self.ran.retain(|nonce| u64::from(nonce.timestamp) <= now.unix());
        self.answers.clear();
    }
}

fn knock_id(sealed: &[u8]) -> KnockId {
    KnockId::of(Sha256::digest(sealed).into())
}

fn hmac(plain: &[u8]) -> [u8; 32] {
    *plain[12..].first_chunk().expect("245 bytes")
}

/// What is signed, WIRE.md "v1".
fn covered(plain: &[u8]) -> (&[u8], &[u8]) {
    let len = usize::from(u16::from_le_bytes([plain[44], plain[45]]));
    (&plain[..12], &plain[44..46 + len])
}

fn assert_fields(plain: &[u8], grant: &Grant) -> Nonce {
    assert_eq!(plain.len(), PLAINTEXT_LEN);
    assert_eq!(plain[0], 1);
    assert_eq!(plain[1..5], grant.timestamp.to_le_bytes());
    assert_eq!(plain[5..7], grant.user.id.0.to_le_bytes());
    let id = if plain[7] == menu::RELEASE { menu::DOOR } else { plain[7] };
    assert_eq!(id, grant.action.id.number());
    let sent = &covered(plain).1[2..];
    // Behind the options, which are the daemon's alone.
    match (id, grant.action.second_factor) {
        (menu::DOOR, _) => assert!(sent.ends_with(&grant.payload)),
        (_, SecondFactor::None) => assert_eq!(sent, grant.payload),
        (_, SecondFactor::Totp) => assert_eq!(sent.get(14..), Some(&grant.payload[..]), "{sent:?}"),
    }
    Nonce {
        timestamp: grant.timestamp,
        user: grant.user.id,
        challenge: u32::from_le_bytes([plain[8], plain[9], plain[10], plain[11]]),
    }
}

fn bound(binding: Binding, server: Option<ServerId>, source: IpAddr) -> Option<Bound> {
    match binding {
        Binding::None => Some(Bound::None),
        Binding::Server(id) | Binding::Source(id, _) if Some(id) != server => None,
        Binding::Server(_) => Some(Bound::Server),
        Binding::Source(_, IpAddr::V6(any)) if any.is_unspecified() => Some(Bound::Server),
        Binding::Source(_, address) => (address == source).then_some(Bound::Source),
    }
}

fn assert_permitted(config: &Config, user: &User, action: &Action, source: IpAddr, bound: Bound) {
    let key = &user.hmac_key;
    let (user, action) = (&config.users[&user.id], &config.actions[&action.id]);
    assert!(user.hmac_key == *key, "the key was exchanged");
    assert_eq!((user.enabled, action.enabled), (Enabled::Yes, Enabled::Yes));
    assert!(user.actions.contains(&action.id) && action.id.number() != 7);
    for least in [config.bind, user.bind, action.bind] {
        assert!(bound >= least, "{user:?} {action:?}");
    }
    for list in [&config.allow_from, &user.allow_from, &action.allow_from] {
        let within = list.0.iter().any(|net| net.contains(&source));
        assert!(list.0.is_empty() || within, "{user:?} {action:?}");
    }
}

fn assert_taken(action: &Action, payload: &[u8]) {
    assert!(payload.len() <= action.max_payload);
    assert!(match action.payload {
        PayloadKind::Any => true,
        PayloadKind::Ascii => payload.iter().all(|byte| *byte == b' ' || byte.is_ascii_graphic()),
        PayloadKind::Utf8 => String::from_utf8(payload.to_vec()).is_ok(),
        PayloadKind::None => payload.is_empty(),
    });
}
