//! What is recorded: events, on their way to the store's thread.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::audit::{Door, Ended, Entry, Event, Knock, Payload, PayloadKey};
use crate::channel::Lane;
use crate::clock::Now;
use crate::config::Config;
use crate::judge::{Claim, DropReason, Verified};
use crate::store::StoreThread;
use crate::wire::options::MAGIC;
use crate::wire::{ActionId, KnockId, Options};
use crate::work::leases::{Happening, Note, Undoing};
use crate::work::{About, How};

/// Events that the store has not taken yet.
#[derive(Debug, Default)]
pub(in crate::keeper) struct Trail {
    entries: Vec<Entry>,
    /// When (monotonic) they are handed over.
    due: Option<Duration>,
    /// For which there was no room, since that was last recorded.
    missed: u64,
    /// And since the start.
    all_missed: u64,
    /// Hides payloads; without it they are recorded as they are.
    payloads: Option<PayloadKey>,
}

impl Trail {
    /// With a key payloads are recorded as its hash, without one as they are.
    pub(in crate::keeper) fn new(payloads: Option<PayloadKey>) -> Trail {
        Trail { payloads, ..Trail::default() }
    }

    /// Events that the store never got.
    pub(super) fn all_missed(&self) -> u64 {
        self.all_missed
    }

    /// What is recorded with a claim.
    pub(in crate::keeper) fn intent(&self, now: Now, claim: &Claim, config: &Config) -> Entry {
        let verified = claim.verified();
        let action = action(verified, config);
        let payload = payload(verified, config).filter(|payload| !payload.is_empty());
        let (mut text, mut mac) = (None, None);
        match (&self.payloads, payload) {
            (Some(key), Some(payload)) => mac = Some(key.mac(payload)),
            (None, Some(payload)) => text = Some(STANDARD.encode(payload)),
            (Some(_) | None, None) => {}
        }
        Entry::new(
            now.wall,
            Event::Claimed {
                knock: of_verified(verified, &action),
                lane: match verified.lane {
                    Lane::Plain => "plain",
                    Lane::Stamped(_) => "stamped",
                },
                payload: Payload { text: text.as_deref(), mac: mac.as_deref() },
            },
        )
    }

    /// Something that happened to a knock.
    pub(super) fn knock<'a>(
        &mut self,
        now: Now,
        about: &'a About,
        event: impl FnOnce(Knock<'a>) -> Event<'a>,
    ) {
        let knock = Knock {
            id: about.knock,
            user: &about.user.name,
            action: &about.action.name,
            from: about.source.ip(),
            bound: about.bound.name(),
        };
        self.note(now, event(knock));
    }

    pub(super) fn refused(
        &mut self,
        now: Now,
        verified: &Verified,
        action: &str,
        reason: DropReason,
        next: Option<u32>,
    ) {
        let knock = of_verified(verified, action);
        self.note(now, Event::Refused { knock, reason: reason.code(), next });
    }

    pub(super) fn lease(&mut self, now: Now, note: &Note) {
        let door = door(note.lease, &note.user, &note.door.action, note.door.source);
        match note.what {
            Happening::Began(hold) => self.note(now, Event::LeaseBegan { door, seconds: hold.as_secs() }),
            Happening::Extended(left) => {
                self.note(now, Event::LeaseExtended { door, seconds: left.as_secs() })
            }
            Happening::Ended(reason) => {
                self.note(now, Event::LeaseEnded { door, reason: &reason.to_string() });
            }
            Happening::UndoFailed(again, _) => {
                self.note(now, Event::UndoFailed { door, again: again.as_secs() });
            }
            // The kernel closes the door at the old time, or the undo does.
            Happening::RenewalFailed(..) => {}
        }
    }

    pub(super) fn undo_started(&mut self, now: Now, undoing: &Undoing) {
        let reason = undoing.reason.to_string();
        let attempt = undoing.attempt;
        self.note(now, Event::UndoStarted { door: of_undoing(undoing), reason: &reason, attempt });
    }

    pub(super) fn undo_finished(&mut self, now: Now, undoing: &Undoing, how: How, took: Duration) {
        self.note(now, Event::UndoFinished { door: of_undoing(undoing), how: ended(how, took) });
    }

    /// Something that happened.
    pub(in crate::keeper) fn note(&mut self, now: Now, event: Event<'_>) {
        self.due.get_or_insert(now.mono.saturating_add(DELAY));
        if self.entries.len() < ENTRIES {
            self.entries.push(Entry::new(now.wall, event));
        } else {
            self.missed = self.missed.saturating_add(1);
            self.all_missed = self.all_missed.saturating_add(1);
        }
    }

    /// When (monotonic) there is something to hand over.
    pub(in crate::keeper) fn next_deadline(&self) -> Option<Duration> {
        self.due
    }

    /// Hands all of it to the store, if that is due.
    pub(in crate::keeper) fn tend<T: Send + 'static>(&mut self, now: Now, store: &StoreThread<T>) {
        if self.due.is_some_and(|due| due <= now.mono) || self.entries.len() >= MANY {
            self.hand_over(now, store);
        }
    }

    /// Hands all of it to the store; what it does not take waits for the next time.
    pub(in crate::keeper) fn hand_over<T: Send + 'static>(&mut self, now: Now, store: &StoreThread<T>) {
        if self.due.take().is_none() {
            return;
        }
        let mut entries = self.take(now);
        let missed = std::mem::take(&mut self.missed);
        if let Err(back) = store.note(entries) {
            entries = back;
            // Without what was said of those that are missing: it is said when it is known how many they are.
            entries.truncate(entries.len().saturating_sub(usize::from(missed > 0)));
            (self.entries, self.missed) = (entries, missed);
            self.due = Some(now.mono.saturating_add(DELAY));
        }
    }

    /// All of it.
    pub(in crate::keeper) fn take(&mut self, now: Now) -> Vec<Entry> {
        let mut entries = std::mem::take(&mut self.entries);
        if self.missed > 0 {
            entries.push(Entry::new(now.wall, Event::Missed { count: self.missed }));
        }
        entries
    }
}

/// How a script ended, as it is recorded.
pub(super) fn ended(how: How, took: Duration) -> Ended {
    let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match how {
        How::Exited(code) => Ended { rc: Some(code), signal: None, took },
        How::Signaled(signal) => Ended { rc: None, signal: Some(signal), took },
        How::Lost => Ended { rc: None, signal: None, took },
    }
}

/// The name of the action that a knock is for; its number if it has none.
pub(super) fn action(verified: &Verified, config: &Config) -> String {
    let action = ActionId::new(verified.action).and_then(|id| config.action(id));
    action.map_or_else(|| verified.action.to_string(), |action| action.name.clone())
}

/// What is behind a knock's options. Where they cannot be told from it, one of them may be a second factor.
fn payload<'a>(verified: &'a Verified, config: &Config) -> Option<&'a [u8]> {
    let action = config.action(ActionId::new(verified.action)?)?;
    let (_, payload) = Options::split(&verified.payload, &action.takes()).ok()?;
    (!payload.starts_with(MAGIC)).then_some(payload)
}

fn of_verified<'a>(verified: &'a Verified, action: &'a str) -> Knock<'a> {
    Knock {
        id: verified.knock,
        user: &verified.user.name,
        action,
        from: verified.source.ip(),
        bound: verified.bound.name(),
    }
}

fn of_undoing(undoing: &Undoing) -> Door<'_> {
    door(undoing.lease, &undoing.user, &undoing.door.action, undoing.door.source)
}

fn door<'a>(lease: KnockId, user: &'a str, action: &'a str, opens_for: IpAddr) -> Door<'a> {
    Door { lease, user, action, opens_for }
}

/// How long an event may wait. What starts for a knock has the processors meanwhile, and many events share a transaction.
const DELAY: Duration = Duration::from_millis(10);

/// So many do not wait.
const MANY: usize = 256;

/// Events that may wait for a store that takes none.
const ENTRIES: usize = 4096;
