//! What knocks are answered with: from verdicts and what becomes of jobs to sealed datagrams.
//!
//! A stamped knock gets a receipt, a plain one of a user with a public key the reply of siglatch v1, and only when it has
//! run. WIRE.md "Receipt" and "The v1 reply".
//!
//! # Security considerations
//!
//! Only a knock that verified, and whose nonce was claimed by it, is answered: nothing here is reached by any other. An
//! answer is never longer than its knock.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rsa::rand_core::{OsRng, RngCore as _};

use crate::channel::{self, Lane};
use crate::clock::Now;
use crate::config::resolved::Reply;
use crate::config::{Config, User, show_duration};
use crate::judge::{Asked, DropReason, Grant, Refusal};
use crate::store::doors::DoorKey;
use crate::wire::receipt::{self, Status};
use crate::wire::reply::{self, Outcome};
use crate::wire::{ActionId, KnockId, Nonce, Receipt};
use crate::work::{About, Happened, How, JobEvent, Whose};

/// Of knocks that were granted, and of which it is not known yet how they end: as many as there are jobs, and as hold a
/// door that just opens.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    open: HashMap<KnockId, Open>,
    /// When (monotonic) whose sender is told that it still runs.
    patience: VecDeque<(Duration, KnockId)>,
}

/// A knock that will be answered.
#[derive(Debug)]
struct Open {
    letter: Letter,
    output: Option<String>,
    /// It waits for this door, which another knock opens.
    door: Option<DoorKey>,
}

/// An answer but for its words.
#[derive(Debug)]
struct Letter {
    knock: KnockId,
    user: Arc<User>,
    request: Nonce,
    source: SocketAddr,
    asked: Asked,
    form: Form,
    /// Last moment, Unix seconds, at which a copy gets it again.
    until: u32,
    /// The longest there may be, in bytes.
    max: usize,
}

#[derive(Clone, Debug)]
enum Form {
    Receipt,
    /// For the action of this name.
    V1(String),
}

impl Receipts {
    /// A knock may run: what becomes of it is told, if it is to be told at all.
    pub(super) fn granted(&mut self, now: Now, grant: &Grant, config: &Config) {
        let reply = config.reply(&grant.user, Some(&grant.action));
        let form = match grant.lane {
            _ if reply == Reply::Never => return,
            Lane::Stamped(user) if user == grant.user.id => Form::Receipt,
            Lane::Stamped(_) => return,
            Lane::Plain if grant.user.public_key.is_none() => return,
            Lane::Plain => Form::V1(grant.action.name.clone()),
        };
        let request = Nonce { timestamp: grant.timestamp, user: grant.user.id, challenge: grant.challenge };
        let letter = Letter::new(grant.knock, &grant.user, request, grant.source, *grant.asked, form, config);
        // A reply of v1 is sent once.
        if let Form::Receipt = letter.form {
            self.patience.push_back((now.mono.saturating_add(PATIENCE), grant.knock));
        }
        let output = (reply == Reply::ReceiptAndOutput).then(String::new);
        self.open.insert(grant.knock, Open { letter, output, door: None });
    }

    /// Of a claimed knock that may not run; `None` where silence is the answer.
    pub(super) fn refused(now: Now, refusal: &Refusal, config: &Config) -> Option<channel::Reply> {
        let verified = refusal.verified.as_ref()?;
        let status = status(refusal.reason)?;
        let action = ActionId::new(verified.action).and_then(|id| config.action(id));
        let own_stamp = verified.lane == Lane::Stamped(verified.user.id);
        if !own_stamp || config.reply(&verified.user, action.map(Arc::as_ref)) == Reply::Never {
            return None;
        }
        let letter = Letter::new(
            verified.knock,
            &verified.user,
            verified.nonce,
            verified.source,
            *verified.asked,
            Form::Receipt,
            config,
        );
        let next = refusal.next.map(|next| next_words(now, next)).unwrap_or_default();
        letter.receipt(now, status, 0, format!("{}{next}", words(refusal.reason)))
    }

    /// A granted knock is served, and no script runs for it.
    pub(super) fn served(
        &mut self,
        now: Now,
        knock: KnockId,
        lease: u32,
        text: &str,
    ) -> Option<channel::Reply> {
        let Open { letter, .. } = self.open.remove(&knock)?;
        match &letter.form {
            Form::Receipt => letter.receipt(now, Status::Done, lease, text),
            Form::V1(name) => {
                letter.v1(Outcome::Ok, &format!("OK {}", if text.is_empty() { name } else { text }))
            }
        }
    }

    /// A granted knock asked for these bytes; in the reply of siglatch v1, which is for people, it is only said that it did.
    pub(super) fn handed(&mut self, now: Now, knock: KnockId, bytes: Vec<u8>) -> Option<channel::Reply> {
        let Open { letter, .. } = self.open.remove(&knock)?;
        match &letter.form {
            Form::Receipt => letter.receipt(now, Status::Done, 0, bytes),
            Form::V1(name) => letter.v1(Outcome::Ok, &format!("OK {name}")),
        }
    }

    /// A granted knock asked the daemon for something that it did not do.
    pub(super) fn failed(&mut self, now: Now, knock: KnockId, why: &str) -> Option<channel::Reply> {
        let Open { letter, .. } = self.open.remove(&knock)?;
        match &letter.form {
            Form::Receipt => letter.receipt(now, Status::Failed, 0, why),
            Form::V1(_) => letter.v1(Outcome::Error, &format!("ERROR {why}")),
        }
    }

    /// A granted knock holds a door that another one opens: it is answered as that one is.
    pub(super) fn follows(&mut self, knock: KnockId, door: DoorKey) {
        if let Some(open) = self.open.get_mut(&knock) {
            open.door = Some(door);
        }
    }

    /// Something happened to a job; `left` is for how many seconds a user holds a door.
    pub(super) fn job(
        &mut self,
        now: Now,
        event: &JobEvent,
        left: impl Fn(&DoorKey, &str) -> u32,
    ) -> Vec<channel::Reply> {
        let Whose::Knock(about) = &event.whose else {
            return Vec::new();
        };
        match &event.what {
            Happened::Queued
            | Happened::Started
            | Happened::OutputCut
            | Happened::TimedOut
            | Happened::NotSignalled(_) => Vec::new(),
            Happened::Line(_, line) => {
                self.printed(about.knock, line);
                Vec::new()
            }
            Happened::Refused(error) => self.withdrawn(now, about, error.reason()),
            Happened::Finished { how, .. } => {
                let door = DoorKey::of(about);
                let finished = |open: Open| {
                    let Open { letter, output, .. } = open;
                    let mut text = output.unwrap_or_default();
                    let Some(_) = about.action.door else {
                        return letter.finished(now, *how, 0, &text);
                    };
                    if about.opens_for != letter.source.ip() && *how == How::Exited(0) {
                        text = format!("opened for {}\n{text}", about.opens_for).trim_end().to_owned();
                    }
                    letter.finished(now, *how, left(&door, &letter.user.name), &text)
                };
                self.settled(about).into_iter().filter_map(finished).collect()
            }
        }
    }

    /// A granted knock does not run after all, nor do those that follow it.
    pub(super) fn withdrawn(&mut self, now: Now, about: &About, reason: DropReason) -> Vec<channel::Reply> {
        self.settled(about).iter().filter_map(|open| open.letter.unserved(now, reason)).collect()
    }

    /// A granted knock is refused by its door.
    pub(super) fn unserved(
        &mut self,
        now: Now,
        knock: KnockId,
        reason: DropReason,
    ) -> Option<channel::Reply> {
        self.open.remove(&knock)?.letter.unserved(now, reason)
    }

    /// One whose sender is to be told now that it still runs; ask until there is none.
    pub(super) fn due(&mut self, now: Now) -> Option<channel::Reply> {
        while self.next_deadline().is_some_and(|at| at <= now.mono) {
            let (_, knock) = self.patience.pop_front()?;
            if let Some(open) = self.open.get(&knock) {
                return open.letter.receipt(now, Status::Running, 0, "");
            }
        }
        None
    }

    /// When (monotonic) [`due`](Self::due) has something.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.patience.front().map(|(at, _)| *at)
    }

    /// How many wait for their answer.
    #[cfg(feature = "fuzzing")]
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// This knock, and those that follow it through its door.
    fn settled(&mut self, about: &About) -> Vec<Open> {
        let mut settled: Vec<Open> = self.open.remove(&about.knock).into_iter().collect();
        if about.action.door.is_some() {
            let door = Some(DoorKey::of(about));
            settled.extend(self.open.extract_if(|_, open| open.door == door).map(|(_, open)| open));
        }
        settled
    }

    fn printed(&mut self, knock: KnockId, line: &str) {
        let output = self.open.get_mut(&knock).and_then(|open| open.output.as_mut());
        if let Some(output) = output.filter(|output| output.len() < receipt::TEXT_MAX) {
            output.push_str(if output.is_empty() { "" } else { "\n" });
            output.push_str(receipt::cut(line, receipt::TEXT_MAX));
        }
    }
}

impl Letter {
    fn new(
        knock: KnockId,
        user: &Arc<User>,
        request: Nonce,
        source: SocketAddr,
        asked: Asked,
        form: Form,
        config: &Config,
    ) -> Letter {
        let sealed = config.private_key.public.modulus().len();
        let freshness = u32::try_from(config.freshness.as_secs()).unwrap_or(u32::MAX);
        let (until, max) = match form {
            Form::Receipt => (request.timestamp.saturating_add(freshness), receipt::RECEIPT_MAX),
            Form::V1(_) => (0, sealed),
        };
        Letter { knock, user: Arc::clone(user), request, source, asked, form, until, max }
    }

    fn finished(&self, now: Now, how: How, lease: u32, output: &str) -> Option<channel::Reply> {
        let ended = match how {
            How::Exited(0) => None,
            How::Exited(rc) => Some((rc, format!("rc={rc}"))),
            How::Signaled(signal) => Some((128_i32.saturating_add(signal), format!("signal={signal}"))),
            How::Lost => Some((255, "rc=unknown".to_owned())),
        };
        match (&self.form, ended) {
            (Form::Receipt, None) => self.receipt(now, Status::Done, lease, output),
            (Form::Receipt, Some((_, how))) => {
                let text = if output.is_empty() { how } else { format!("{how}\n{output}") };
                self.receipt(now, Status::Failed, 0, text)
            }
            (Form::V1(name), None) => self.v1(Outcome::Ok, &format!("OK {name}")),
            (Form::V1(name), Some((rc, _))) => self.v1(Outcome::Error, &format!("ERROR {name} rc={rc}")),
        }
    }

    fn unserved(&self, now: Now, reason: DropReason) -> Option<channel::Reply> {
        // That it was claimed, and was refused for the want of a store, is another matter than that it was not.
        let status = if reason == DropReason::StoreFailed { Some(Status::Failed) } else { status(reason) };
        match self.form {
            Form::Receipt => self.receipt(now, status?, 0, words(reason)),
            // It did not run.
            Form::V1(_) => None,
        }
    }

    fn receipt(
        &self,
        now: Now,
        status: Status,
        lease_seconds: u32,
        text: impl Into<Vec<u8>>,
    ) -> Option<channel::Reply> {
        let receipt = Receipt {
            status,
            knock: self.knock,
            server_time: u32::try_from(now.unix()).unwrap_or(u32::MAX),
            lease_seconds,
            source: self.source.ip(),
            text: text.into(),
        };
        let mut nonce = [0; 12];
        OsRng.try_fill_bytes(&mut nonce).ok()?;
        self.sealed(receipt.seal(&self.user.hmac_key, &self.asked.hmac, nonce))
    }

    fn v1(&self, outcome: Outcome, text: &str) -> Option<channel::Reply> {
        let action = ActionId::new(self.asked.action)?;
        let text = &format!("{action}: {text}");
        let reply = reply::Reply { request: self.request, action, outcome, text };
        let plain = reply.encode(&self.user.hmac_key);
        self.sealed(self.user.public_key.as_ref()?.seal(&mut OsRng, &plain).ok()?)
    }

    fn sealed(&self, bytes: Vec<u8>) -> Option<channel::Reply> {
        let Letter { source, asked, until, .. } = *self;
        let Asked { digest, socket, local, .. } = asked;
        let reply = channel::Reply { digest, socket, to: source, from: local, until, bytes };
        (reply.bytes.len() <= self.max).then_some(reply)
    }
}

fn words(reason: DropReason) -> String {
    format!("{reason}: {}", reason.meaning())
}

/// When it would not be refused for this: so long from now for people whose clock or time zone is another.
fn next_words(now: Now, next: u32) -> String {
    let left = Duration::from_secs(u64::from(next).saturating_sub(now.unix()));
    let at = jiff::Timestamp::from_second(next.into()).map(|at| format!(", at {at}"));
    format!("; next in {}{}", show_duration(left), at.unwrap_or_default())
}

/// What who is known, and knocked freshly, is told; `None`: that is not known of him, or no more.
fn status(reason: DropReason) -> Option<Status> {
    match reason {
        DropReason::Length
        | DropReason::Range
        | DropReason::Unstamped
        | DropReason::Seen
        | DropReason::Copied
        | DropReason::Beacon
        | DropReason::Stamp
        | DropReason::StampRate
        | DropReason::Prefix
        | DropReason::Queue
        | DropReason::Channel
        | DropReason::NotAuthentic
        | DropReason::ReservedAction
        | DropReason::Stale
        | DropReason::Ahead
        | DropReason::Replay
        | DropReason::Contested
        | DropReason::Rate
        | DropReason::StoreBusy
        | DropReason::StoreFailed
        | DropReason::StoreFull
        | DropReason::Floor
        | DropReason::UserGone => None,
        DropReason::UserDisabled
        | DropReason::UserExpired
        | DropReason::ActionUnknown
        | DropReason::NotPermitted
        | DropReason::ActionDisabled
        | DropReason::KeyExchange
        | DropReason::KeyTaken
        | DropReason::Binding
        | DropReason::Source
        | DropReason::StampMissing
        | DropReason::Options
        | DropReason::Address
        | DropReason::Payload
        | DropReason::TotpMissing
        | DropReason::TotpLocked
        | DropReason::Totp
        | DropReason::TotpUsed
        | DropReason::UserSpent => Some(Status::Denied),
        // Claimed, waiting its turn: one that was not is not answered.
        DropReason::Hours | DropReason::Quota | DropReason::Cooldown | DropReason::Held => {
            Some(Status::Quota)
        }
        DropReason::Busy | DropReason::DoorsFull | DropReason::Stopping => Some(Status::Busy),
        DropReason::StartFailed => Some(Status::Failed),
    }
}

/// So long a sender waits before he is told that it still runs.
const PATIENCE: Duration = Duration::from_millis(700);
