//! A listener in an attacker's hands: whatever it says, and a keeper that goes on.
//!
//! The attacker has what a listener has: sealed knocks that he opens, and every lie about where they came from and who
//! stamped them. He has no user's key. Each operation is a byte, taken modulo 8, and its operands; what ends early ends
//! the program. The first byte of all: whether user 1 has `require_stamp`.
//!
//! | byte | operation | operands |
//! |---:|---|---|
//! | 0 | bytes | those of [`Operands::pattern`] |
//! | 1 | a knock, opened | socket, stamped by nobody or: user, then those of [`Knock::read`] |
//! | 2 | the message before, again | how often (2, big-endian) |
//! | 3 | the message before, with a descriptor | |
//! | 4 | time passes | eighths of a second |
//! | 5 | the keeper hears all there is | |
//! | 6 | and finds it silent, perhaps | whether all was heard |
//! | 7 | the end is near | the listener ends, the keeper stops |

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::knock::Knock;
use super::ledger::Ledger;
use super::menu;
use super::operands::Operands;
use super::sealed::unpad;
use super::store::Disk;
use crate::channel::{
    Channel, Counts, Lane, MESSAGE_MAX, Opened, SOURCES_MAX, Sent, SocketId, ToKeeper, Under,
};
use crate::clock::Now;
use crate::config::Config;
use crate::keeper::Loss;
use crate::keeper::by_hand::{Heard, Keeper, SOCKETS};
use crate::wire::UserId;
use crate::work::Drained;

/// Runs `data` as a program. Why listeners were given up.
///
/// # Panics
///
/// Where something ran that nobody signed, or twice; where a listener was given up for what it may say, or was not for
/// what it may not; where the keeper does not take an honest one's knock afterwards.
pub fn listener(data: &[u8]) -> BTreeSet<&'static str> {
    let mut operands = Operands::new(data);
    let Some(which) = operands.u8() else {
        return BTreeSet::new();
    };
    let mut world = World::new(&menu::configs()[[0, 6][usize::from(which % 2)]]);
    while world.messages < MESSAGES_MAX && world.step(&mut operands).is_some() {}
    world.goes_on()
}

struct World {
    now: Now,
    keeper: Keeper,
    hostile: Hostile,
    ledger: Ledger,
    phase: Phase,
    /// So many were sent.
    messages: u32,
    losses: BTreeSet<&'static str>,
}

/// The one that runs.
struct Hostile {
    channel: Option<Channel>,
    /// Sent, and not heard yet.
    under_way: VecDeque<Message>,
    last: Message,
    since: Duration,
    /// When it last said what one that is well says.
    heard_at: Duration,
    ready: bool,
    /// Opened ones, others.
    heard: [u32; 2],
}

#[derive(Clone, Default)]
struct Message {
    bytes: Vec<u8>,
    descriptor: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Since when (monotonic).
    Stopping(Duration),
}

impl World {
    fn new(config: &Arc<Config>) -> World {
        let now = Now { mono: Duration::from_secs(1), boot: Duration::ZERO, wall: menu::START };
        let disk = Disk::new(now.unix() - 600);
        let (ours, theirs) = Channel::pair().expect("a socket pair");
        World {
            now,
            keeper: Keeper::new(now, Arc::clone(config), menu::decoys(), disk.open(), 4, ours),
            hostile: Hostile::new(now, theirs),
            ledger: Ledger::default(),
            phase: Phase::Serving,
            messages: 0,
            losses: BTreeSet::new(),
        }
    }

    fn step(&mut self, operands: &mut Operands<'_>) -> Option<()> {
        match operands.u8()? % 8 {
            0 => {
                let bytes = operands.pattern(MESSAGE_MAX + 500)?;
                self.say(Message { bytes, descriptor: false });
            }
            1 => {
                let socket = SocketId(operands.u8()?);
                let lane = match operands.u8()? {
                    0 => Lane::Plain,
                    user => Lane::Stamped(UserId(user.into())),
                };
                let knock = Knock::read(operands)?;
                self.knock(socket, lane, &knock);
            }
            2 => {
                let times = operands.u16()?;
                (0..times).for_each(|_| self.say(self.hostile.last.clone()));
            }
            3 => self.say(Message { descriptor: true, ..self.hostile.last.clone() }),
            4 => {
                let time = Duration::from_millis(125) * operands.u8()?.into();
                self.now.mono += time;
                self.now.wall += time;
            }
            5 => self.hear(),
            6 => {
                let drained = if operands.u8()? % 2 == 0 { Drained::All } else { Drained::More };
                self.hear();
                if let Err(loss) = self.keeper.judge_listener(self.now, drained) {
                    let since = |at| (self.now.mono - at).as_secs();
                    let late = matches!(self.phase, Phase::Stopping(at) if since(at) >= 30);
                    assert!(late || since(self.hostile.heard_at) >= 5, "given up too early");
                    self.lose(loss);
                }
            }
            _ if operands.u8()? % 2 == 0 => self.hostile.channel = None,
            _ => {
                self.hear();
                self.phase = Phase::Stopping(self.now.mono);
                self.keeper.stop(self.now);
            }
        }
        Some(())
    }

    /// One that was really signed, and perhaps by the user that it says.
    fn knock(&mut self, socket: SocketId, lane: Lane, knock: &Knock<'_>) {
        let datagram = self.ledger.sign(knock, self.now);
        let Some(Ok(plaintext)) = unpad(&datagram).map(<[u8; 245]>::try_from) else {
            return;
        };
        self.ledger.delivered(self.keeper.config(), knock.source, &datagram);
        let opened = Opened {
            source: knock.source,
            local: [127, 0, 0, 1].into(),
            socket,
            lane,
            under: Under::CURRENT,
            digest: Sha256::digest(&datagram).into(),
            plaintext: Zeroizing::new(plaintext),
        };
        self.say(Message { bytes: ToKeeper::Opened(opened).encode().to_vec(), descriptor: false });
    }

    fn say(&mut self, message: Message) {
        if self.messages >= MESSAGES_MAX {
            return;
        }
        self.messages += 1;
        self.hostile.last = message;
        if self.hostile.say() == Sent::Full {
            self.hear();
            assert_ne!(self.hostile.say(), Sent::Full, "all was heard");
        }
    }

    /// All there is to hear; one that is given up is replaced.
    fn hear(&mut self) {
        let config = Arc::clone(self.keeper.config());
        loop {
            let expected = self.hostile.expected(self.phase);
            let heard = self.keeper.hear(self.now);
            let loss = match &heard {
                Ok(_) => None,
                Err(loss) => Some(*loss),
            };
            self.hostile.assert_within_budget(self.now, loss);
            if loss != Some(Loss::Flood) {
                assert_eq!(loss, expected, "{:?}", self.hostile.last.bytes.first());
            }
            match heard {
                Ok(Heard::Opened(opened, Ok(()))) => self.ledger.claimed(self.now, &config, &opened),
                Ok(Heard::Opened(_, Err(_)) | Heard::Other) => {}
                Ok(Heard::Nothing) => break,
                Err(loss) => {
                    self.lose(loss);
                    break;
                }
            }
            self.hostile.heard_at = self.now.mono;
        }
        self.keeper.commit(self.now);
        self.keeper.claimed(self.now, |config, grant| self.ledger.verdict(self.now, config, grant));
        self.keeper.due(self.now);
    }

    fn lose(&mut self, loss: Loss) {
        self.losses.insert(match loss {
            Loss::Ended => "ended",
            Loss::Malformed => "malformed",
            Loss::Flood => "flood",
            Loss::Silent => "silent",
        });
        self.next();
    }

    fn next(&mut self) {
        let (ours, theirs) = Channel::pair().expect("a socket pair");
        self.keeper.listener(self.now, ours);
        self.hostile = Hostile::new(self.now, theirs);
    }

    /// An honest one takes its place, much later: its knock runs, if the keeper wasn't told to stop.
    fn goes_on(mut self) -> BTreeSet<&'static str> {
        self.hear();
        self.next();
        self.now.mono += LATER;
        self.now.wall += LATER;
        self.keeper.forget(self.now);
        let before = self.ledger.seen.granted;
        self.messages = 0;
        self.say(Message { bytes: ToKeeper::Ready.encode().to_vec(), descriptor: false });
        let knock = Knock::read(&mut Operands::new(GOOD)).expect("a knock");
        self.knock(SocketId(0), Lane::Stamped(UserId(1)), &knock);
        self.hear();
        let granted = self.ledger.seen.granted - before;
        assert_eq!(granted, u64::from(self.phase == Phase::Serving), "{:?}", self.keeper.counts());
        self.keeper.stop(self.now);
        self.ledger.balance(self.keeper.counts());
        self.losses
    }
}

impl Hostile {
    fn new(now: Now, channel: Channel) -> Hostile {
        Hostile {
            channel: Some(channel),
            under_way: VecDeque::new(),
            last: Message::default(),
            since: now.mono,
            heard_at: now.mono,
            ready: false,
            heard: [0; 2],
        }
    }

    /// The last message.
    fn say(&mut self) -> Sent {
        let Some(channel) = &self.channel else {
            return Sent::Closed;
        };
        let Message { bytes, descriptor } = &self.last;
        let sent = channel.send(bytes, descriptor.then(|| channel.as_fd()));
        if sent == Sent::Yes {
            self.under_way.push_back(self.last.clone());
        }
        sent
    }

    /// What the next message costs it, budgets aside.
    fn expected(&mut self, phase: Phase) -> Option<Loss> {
        let Some(Message { bytes, descriptor }) = self.under_way.pop_front() else {
            return self.channel.is_none().then_some(Loss::Ended);
        };
        if bytes.is_empty() || bytes.len() > MESSAGE_MAX {
            return Some(Loss::Ended);
        }
        let begins = match (bytes[0], bytes.len()) {
            (1, 1) => true,
            // Type, address, port, scope, address that was knocked, socket, lane (1) and its user (2), digest, plaintext.
            (2, 320) if has_scope_if_any(&bytes[1..23]) && (bytes[40] == 1 || bytes[40..43] == [0; 3]) => {
                self.heard[0] += 1;
                if usize::from(bytes[39]) >= SOCKETS {
                    return Some(Loss::Malformed);
                }
                false
            }
            // Type, two kinds of errors, a count for each reason, lanes.
            (3, len) if len == 18 + 8 * Counts::REASONS.len() && bytes[len - 1] < 4 => false,
            (4, 1) => false,
            // Type, how many; address, place of the reason and count of each.
            (5, len)
                if len > 1
                    && usize::from(bytes[1]) <= SOURCES_MAX
                    && len == 2 + 21 * usize::from(bytes[1])
                    && bytes[2..].chunks(21).all(|of| usize::from(of[16]) < Counts::REASONS.len()) =>
            {
                false
            }
            (_, _) => return Some(Loss::Malformed),
        };
        if bytes[0] != 2 {
            self.heard[1] += 1;
        }
        let may = !descriptor && (phase != Phase::Serving || begins != self.ready);
        self.ready = true;
        (!may).then_some(Loss::Malformed)
    }

    /// Nobody is given up for what honest workers may say, and nobody says more than their budget.
    fn assert_within_budget(&self, now: Now, loss: Option<Loss>) {
        let seconds = (now.mono - self.since).as_secs_f64();
        let most =
            [(10_000.0, 10_002.0), (20.0, 4000.0)].map(|(rate, burst)| (burst, burst + rate * seconds));
        let within =
            |limit: [f64; 2]| self.heard.iter().zip(limit).all(|(heard, most)| f64::from(*heard) <= most);
        if loss == Some(Loss::Flood) {
            assert!(!within(most.map(|(burst, _)| burst)), "given up after {:?}", self.heard);
        } else {
            assert!(within(most.map(|(_, most)| most + 1.0)), "it may say {:?}", self.heard);
        }
    }
}

/// Addresses of IPv4 have none.
fn has_scope_if_any(address: &[u8]) -> bool {
    address[..12] != [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255] || address[18..] == [0; 4]
}

/// User 1, action 1, key and source 0, now, well made.
const GOOD: &[u8] = &[1, 1, 0, 0, 0, 0, 255, 1, 1, 0, 0, 0, 0];

/// All that was claimed before is forgotten.
const LATER: Duration = Duration::from_secs(3600);

/// More than the smaller of a listener's budgets; to spend the other takes too long.
const MESSAGES_MAX: u32 = 5000;
