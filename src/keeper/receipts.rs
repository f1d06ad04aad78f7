//! What knocks are answered with: from verdicts and what becomes of jobs to sealed datagrams.
//!
//! A stamped knock gets a receipt, a plain one of a user with a public key the reply of siglatch v1, and only when it has
//! run. WIRE.md "Receipt" and "The v1 reply".
//!
//! # Security considerations
//!
//! Only a knock that verified, and whose nonce was claimed by it, is answered: nothing here is reached by any other. An
//! answer is never longer than its knock.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rsa::rand_core::{OsRng, RngCore as _};

use crate::channel::{self, Lane};
use crate::clock::Now;
use crate::config::resolved::Reply;
use crate::config::{Action, Config, User};
use crate::judge::{Asked, DropReason, Grant, Refusal};
use crate::wire::receipt::{self, Status};
use crate::wire::reply::{self, Outcome};
use crate::wire::{ActionId, KnockId, Nonce, Receipt};
use crate::work::{Happened, How, JobEvent, StartError};

/// Of knocks that were granted, and of which it is not known yet how they end: as many as there are jobs.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    open: HashMap<KnockId, Open>,
}

/// A knock that will be answered.
#[derive(Debug)]
struct Open {
    letter: Letter,
    output: Option<String>,
    /// When (monotonic) its sender is told that it still runs.
    tell_at: Option<Duration>,
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
    /// For this action.
    V1(Arc<Action>),
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
            Lane::Plain => Form::V1(Arc::clone(&grant.action)),
        };
        let request = Nonce { timestamp: grant.timestamp, user: grant.user.id, challenge: grant.challenge };
        let letter = Letter::new(grant.knock, &grant.user, request, grant.source, *grant.asked, form, config);
        let output = (reply == Reply::ReceiptAndOutput).then(String::new);
        let tell_at = Some(now.mono.saturating_add(PATIENCE));
        self.open.insert(grant.knock, Open { letter, output, tell_at });
    }

    /// Of a claimed knock that may not run; `None` where silence is the answer.
    pub(super) fn refused(now: Now, refusal: &Refusal, config: &Config) -> Option<channel::Reply> {
        let verified = refusal.verified.as_ref()?;
        let status = status(refusal.reason)?;
        let action = ActionId::new(verified.action).and_then(|id| config.actions.get(&id));
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
        letter.receipt(now, status, 0, &words(refusal.reason))
    }

    /// What became of a job; `lease` is for how many seconds its door is open now.
    pub(super) fn job(&mut self, now: Now, event: &JobEvent, lease: u32) -> Option<channel::Reply> {
        let knock = event.about.knock;
        match &event.what {
            Happened::Queued
            | Happened::Started
            | Happened::OutputCut
            | Happened::TimedOut
            | Happened::NotSignalled(_) => None,
            Happened::Line(_, line) => {
                if let Some(output) = self.open.get_mut(&knock).and_then(|open| open.output.as_mut())
                    && output.len() < receipt::TEXT_MAX
                {
                    output.push_str(if output.is_empty() { "" } else { "\n" });
                    output.push_str(receipt::cut(line, receipt::TEXT_MAX));
                }
                None
            }
            Happened::Refused(error) => {
                let Open { letter, .. } = self.open.remove(&knock)?;
                let status = match error {
                    StartError::Busy | StartError::Stopping => Status::Busy,
                    StartError::Withdrawn(reason) => status(*reason)?,
                    StartError::File(_) | StartError::Spawn { .. } => Status::Failed,
                };
                match letter.form {
                    Form::Receipt => letter.receipt(now, status, 0, &words(error.reason())),
                    // It did not run.
                    Form::V1(_) => None,
                }
            }
            Happened::Finished { how, .. } => {
                let Open { letter, output, .. } = self.open.remove(&knock)?;
                letter.finished(now, *how, lease, &output.unwrap_or_default())
            }
        }
    }

    /// A knock for which no script runs has been served.
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
            Form::V1(action) => letter.v1(action, Outcome::Ok, &format!("{}: OK {text}", action.id)),
        }
    }

    /// One whose sender is to be told now that it still runs; ask until there is none.
    pub(super) fn due(&mut self, now: Now) -> Option<channel::Reply> {
        let is_due = |open: &&mut Open| open.tell_at.is_some_and(|at| at <= now.mono);
        let open = self.open.values_mut().find(is_due)?;
        open.tell_at = None;
        match open.letter.form {
            Form::Receipt => open.letter.receipt(now, Status::Running, 0, ""),
            // It is sent once.
            Form::V1(_) => self.due(now),
        }
    }

    /// When (monotonic) [`due`](Self::due) has something.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.open.values().filter_map(|open| open.tell_at).min()
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
                self.receipt(now, Status::Failed, lease, &text)
            }
            (Form::V1(action), None) => {
                self.v1(action, Outcome::Ok, &format!("{}: OK {}", action.id, action.name))
            }
            (Form::V1(action), Some((rc, _))) => {
                self.v1(action, Outcome::Error, &format!("{}: ERROR {} rc={rc}", action.id, action.name))
            }
        }
    }

    fn receipt(&self, now: Now, status: Status, lease_seconds: u32, text: &str) -> Option<channel::Reply> {
        let receipt = Receipt {
            status,
            knock: self.knock,
            server_time: u32::try_from(now.unix()).unwrap_or(u32::MAX),
            lease_seconds,
            source: self.source.ip(),
            text: text.to_owned(),
        };
        let mut nonce = [0; 12];
        OsRng.try_fill_bytes(&mut nonce).ok()?;
        self.sealed(receipt.seal(&self.user.hmac_key, &self.asked.hmac, nonce))
    }

    fn v1(&self, action: &Action, outcome: Outcome, text: &str) -> Option<channel::Reply> {
        let reply = reply::Reply { request: self.request, action: action.id, outcome, text };
        let plain = reply.encode(&self.user.hmac_key);
        self.sealed(self.user.public_key.as_ref()?.seal(&mut OsRng, &plain).ok()?)
    }

    fn sealed(&self, bytes: Vec<u8>) -> Option<channel::Reply> {
        let Letter { source, asked, until, .. } = *self;
        let Asked { digest, socket, local, hmac: _ } = asked;
        let reply = channel::Reply { digest, socket, to: source, from: local, until, bytes };
        (reply.bytes.len() <= self.max).then_some(reply)
    }
}

fn words(reason: DropReason) -> String {
    format!("{reason}: {}", reason.meaning())
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
        | DropReason::Binding
        | DropReason::Source
        | DropReason::StampMissing
        | DropReason::Options
        | DropReason::Payload => Some(Status::Denied),
        DropReason::Busy => Some(Status::Busy),
        DropReason::StartFailed => Some(Status::Failed),
        // Not claimed.
        DropReason::Stopping => None,
    }
}

/// So long a sender waits before he is told that it still runs.
const PATIENCE: Duration = Duration::from_millis(700);
