//! Which knocks are still to be told, to the receivers of their actions' webhooks, and when that is tried.
//!
//! Pure: it hears of knocks, of senders that ended, and of the time; it says what is to be kept, sent and told.
//!
//! ```text
//!  run starts --> row (running) --> run ends --> row (pending) --> sent --> row removed
//!                                                  ^     |
//!                                           later  +-----+-- in vain --> row (failed) --> retried, or dropped, by hand
//! ```
//!
//! What is here is what holds; the store follows, and nothing waits for it. A row that could not be written is written
//! again. After a kill everything that is in the store is sent, perhaps for the second time: the receiver knows it by its
//! id. Of a knock whose script was running then, nobody knows the outcome, and that is what is told.
//!
//! # Security considerations
//!
//! A receiver may be slow, gone or hostile. It gets one connection at a time for each action, and all of them together
//! [`SENDERS`], each with a deadline, and after one that was in vain a pause; what waits is bounded by [`MAX`].

mod record;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub use record::{AUDIT, Facts, HeadFacts, Outcome, Record, State, Told};

use crate::clock::Now;
use crate::store::hooks::HookRow;
use crate::wire::KnockId;

/// All webhooks that are not delivered.
#[derive(Debug)]
pub struct Hooks {
    hooks: BTreeMap<KnockId, Hook>,
    /// Whose rows the store could not take.
    unkept: BTreeSet<KnockId>,
    /// When (monotonic) these are written again.
    keep_at: Duration,
    /// Until when (monotonic) nothing is sent for an action, or the trail.
    pauses: BTreeMap<String, Duration>,
    /// When (monotonic) the next one may be sent.
    send_at: Option<Duration>,
    /// How many were lost for want of room.
    lost: u64,
    sending: Sending,
    commands: VecDeque<Command>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Keep this, and say [`Hooks::kept`].
    Keep(HookRow),
    /// Send this, and say [`Hooks::sent`] when its sender ended.
    Send(Told),
    /// Log it.
    Tell(Note),
}

/// Something that the log is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Of the knock.
    pub id: KnockId,
    /// Who knocked, if somebody did.
    pub user: Option<String>,
    /// For what; else [`AUDIT`].
    pub action: String,
    /// What happened.
    pub what: Happening,
}

/// What happened to a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// Its receiver has it.
    Sent,
    /// It did not get through, and is tried again after this.
    Retry(Duration, String),
    /// It did not get through, and is tried no more.
    Failed(String),
    /// There was no room for it: so many were lost so far.
    Lost(u64),
}

/// How a sender ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The receiver has it.
    Well,
    /// Trying again may help.
    Later(String),
    /// Trying again would not.
    Never(String),
}

/// Which webhooks are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// The one with this id.
    Hook(KnockId),
    /// All that have failed.
    Failed,
}

#[derive(Debug)]
struct Hook {
    record: Record,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Its action runs.
    Runs,
    /// It is sent at this time (monotonic).
    Waits(Duration),
    /// It is being sent.
    Sends,
    /// It is tried no more.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    On,
    /// The daemon stops.
    Off,
}

impl Default for Hooks {
    fn default() -> Hooks {
        Hooks {
            hooks: BTreeMap::new(),
            unkept: BTreeSet::new(),
            keep_at: Duration::ZERO,
            pauses: BTreeMap::new(),
            send_at: None,
            lost: 0,
            sending: Sending::On,
            commands: VecDeque::new(),
        }
    }
}

impl Hooks {
    /// At start: what the store has. What cannot be read is thrown away.
    pub fn recover(&mut self, now: Now, rows: impl IntoIterator<Item = (KnockId, String)>) {
        for (id, text) in rows {
            let Ok(record) = Record::parse(&text) else {
                self.commands.push_back(Command::Keep(HookRow { id, record: None }));
                continue;
            };
            let step = match record.state {
                State::Running => Step::Waits(now.mono),
                State::Pending(at) => {
                    // A clock that stepped back holds nothing up for longer than it was to wait.
                    let most = delay(record.attempts).unwrap_or_default();
                    let wait = Duration::from_secs(at).saturating_sub(now.wall).min(most);
                    Step::Waits(now.mono.saturating_add(wait))
                }
                State::Failed => Step::Failed,
            };
            self.hooks.insert(id, Hook { record, step });
        }
        self.send(now);
    }

    /// The script of a knock runs: what is told if nobody hears of its end.
    pub fn began(&mut self, facts: Told) {
        let record = Record { facts, attempts: 0, state: State::Running, why: None };
        self.put(Hook { record, step: Step::Runs });
    }

    /// There is something to tell: the outcome of a knock, or a head of the trail.
    pub fn ended(&mut self, now: Now, facts: Told) {
        let record = Record { facts, attempts: 0, state: State::Pending(now.unix()), why: None };
        self.put(Hook { record, step: Step::Waits(now.mono) });
        self.send(now);
    }

    /// A sender ended.
    pub fn sent(&mut self, now: Now, id: KnockId, how: Sent) {
        // It may have been lost for want of room.
        if let Some(hook) = self.hooks.get_mut(&id).filter(|hook| hook.step == Step::Sends) {
            let what = match how {
                Sent::Well => Happening::Sent,
                Sent::Later(why) => {
                    let owner = hook.record.facts.owner().to_owned();
                    self.pauses.insert(owner, now.mono.saturating_add(PAUSE));
                    hook.in_vain(now, why)
                }
                Sent::Never(why) => hook.failed(why),
            };
            let note = hook.note(what);
            if note.what == Happening::Sent {
                self.hooks.remove(&id);
            }
            self.keep(id);
            self.commands.push_back(Command::Tell(note));
        }
        self.send(now);
    }

    /// The administrator wants them sent now. Returns how many that are.
    pub fn retry(&mut self, now: Now, which: Which) -> usize {
        let ids = self.meant(which);
        for id in &ids {
            if let Some(hook) = self.hooks.get_mut(id) {
                hook.record.attempts = 0;
                hook.record.state = State::Pending(now.unix());
                hook.step = Step::Waits(now.mono);
                self.pauses.remove(hook.record.facts.owner());
            }
            self.keep(*id);
        }
        self.send(now);
        ids.len()
    }

    /// The administrator wants them gone. Returns how many that were.
    pub fn forget(&mut self, which: Which) -> usize {
        let ids = self.meant(which);
        for id in &ids {
            self.hooks.remove(id);
            self.keep(*id);
        }
        ids.len()
    }

    /// The store has kept what was asked last for this one, or could not.
    pub fn kept<E>(&mut self, now: Now, id: KnockId, result: Result<(), E>) {
        if result.is_err() {
            if self.unkept.is_empty() {
                self.keep_at = now.mono.saturating_add(KEEP_AGAIN);
            }
            self.unkept.insert(id);
        }
    }

    /// Sends what is due, writes again what could not be written.
    pub fn due(&mut self, now: Now) {
        if !self.unkept.is_empty() && self.keep_at <= now.mono {
            std::mem::take(&mut self.unkept).into_iter().for_each(|id| self.keep(id));
        }
        if self.send_at.is_some_and(|at| at <= now.mono) {
            self.send(now);
        }
    }

    /// When (monotonic) [`Hooks::due`] has something to do.
    pub fn next_deadline(&self) -> Option<Duration> {
        let keep_at = (!self.unkept.is_empty()).then_some(self.keep_at);
        self.send_at.into_iter().chain(keep_at).min()
    }

    /// The daemon stops: nothing is sent any more, what waits stays in the store.
    pub fn stop(&mut self) {
        self.sending = Sending::Off;
        self.send_at = None;
    }

    /// The next thing to be done; ask until there is none, after each call of another method.
    pub fn command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// How many are tried no more.
    pub fn failed(&self) -> usize {
        self.hooks.values().filter(|hook| hook.step == Step::Failed).count()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.hooks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// Those that are not being sent, and whose action does not run.
    fn meant(&self, which: Which) -> Vec<KnockId> {
        let meant = |(id, hook): &(&KnockId, &Hook)| match (which, hook.step) {
            (Which::Hook(wanted), Step::Waits(_) | Step::Failed) => **id == wanted,
            (Which::Failed, Step::Failed) => true,
            (Which::Failed, Step::Waits(_)) | (_, Step::Runs | Step::Sends) => false,
        };
        self.hooks.iter().filter(meant).map(|(id, _)| *id).collect()
    }

    fn put(&mut self, hook: Hook) {
        let id = hook.record.facts.id();
        self.hooks.insert(id, hook);
        self.keep(id);
        while self.hooks.len() > MAX {
            self.lose();
        }
    }

    /// Makes room: what has failed goes first, then what waits, the oldest of each.
    fn lose(&mut self) {
        let order = |hook: &Hook| match hook.step {
            Step::Failed => 0,
            Step::Waits(_) => 1,
            Step::Runs => 2,
            Step::Sends => 3,
        };
        let oldest = self.hooks.iter().min_by_key(|(_, hook)| (order(hook), hook.record.facts.time()));
        let Some(id) = oldest.map(|(id, _)| *id) else {
            return;
        };
        if let Some(hook) = self.hooks.remove(&id) {
            self.lost = self.lost.saturating_add(1);
            self.commands.push_back(Command::Tell(hook.note(Happening::Lost(self.lost))));
        }
        self.keep(id);
    }

    fn keep(&mut self, id: KnockId) {
        self.unkept.remove(&id);
        let record = self.hooks.get(&id).map(|hook| hook.record.write());
        self.commands.push_back(Command::Keep(HookRow { id, record }));
    }

    /// Sends what is due, as far as there are senders, and notes when more is.
    fn send(&mut self, now: Now) {
        if self.sending == Sending::Off {
            return;
        }
        self.pauses.retain(|_, until| *until > now.mono);
        loop {
            let sends = |hook: &&Hook| hook.step == Step::Sends;
            let busy: BTreeSet<&str> =
                self.hooks.values().filter(sends).map(|hook| hook.record.facts.owner()).collect();
            if busy.len() >= SENDERS {
                self.send_at = None;
                return;
            }
            let waits = self.hooks.iter().filter_map(|(id, hook)| {
                let (owner, time) = (hook.record.facts.owner(), hook.record.facts.time());
                let pause = self.pauses.get(owner).copied().unwrap_or_default();
                match hook.step {
                    Step::Waits(at) if !busy.contains(owner) => Some((at.max(pause), time, *id)),
                    Step::Waits(_) | Step::Runs | Step::Sends | Step::Failed => None,
                }
            });
            let next = waits.min();
            match next.and_then(|(at, _, id)| Some((at, self.hooks.get_mut(&id)?))) {
                Some((at, hook)) if at <= now.mono => {
                    hook.step = Step::Sends;
                    self.commands.push_back(Command::Send(hook.record.facts.clone()));
                }
                next => {
                    self.send_at = next.map(|(at, _)| at);
                    return;
                }
            }
        }
    }
}

impl Hook {
    fn in_vain(&mut self, now: Now, why: String) -> Happening {
        self.record.attempts = self.record.attempts.saturating_add(1);
        let Some(wait) = delay(self.record.attempts) else {
            return self.failed(why);
        };
        self.record.state = State::Pending(now.wall.saturating_add(wait).as_secs());
        self.record.why = Some(why.clone());
        self.step = Step::Waits(now.mono.saturating_add(wait));
        Happening::Retry(wait, why)
    }

    fn failed(&mut self, why: String) -> Happening {
        self.record.state = State::Failed;
        self.record.why = Some(why.clone());
        self.step = Step::Failed;
        Happening::Failed(why)
    }

    fn note(&self, what: Happening) -> Note {
        let told = &self.record.facts;
        Note { id: told.id(), user: told.user().map(str::to_owned), action: told.owner().to_owned(), what }
    }
}

/// After so many attempts in vain; `None`: enough.
fn delay(attempts: u32) -> Option<Duration> {
    let before = usize::try_from(attempts.checked_sub(1)?).ok()?;
    DELAYS.get(before).copied().map(Duration::from_secs)
}

/// Seconds between two attempts.
const DELAYS: [u64; 5] = [10, 60, 300, 1800, 7200];

/// Webhooks that are not delivered: some 300 bytes each.
pub const MAX: usize = 1000;

/// Senders at once, each for another action.
pub const SENDERS: usize = 4;

/// Between two senders for one action, the first of which was in vain: else a queue of them would be one of processes.
const PAUSE: Duration = Duration::from_secs(1);

/// Until a row that the store could not take is written again.
const KEEP_AGAIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
