//! What is said and recorded of knocks whose HMAC verified.

use std::fmt;

use log::Level;
use log::kv::Value;

use super::{LINE_EVERY, LINES, Report, Spoken, trail, write};
use crate::audit::Event;
use crate::bucket::{Bucket, Taken};
use crate::clock::Now;
use crate::config::{Config, User};
use crate::control::status::Decision;
use crate::judge::{DropReason, Refusal, Verified};
use crate::keeper::logging;
use crate::wire::Bound;
use crate::work::{About, Happened, How, JobEvent, Whose};

impl Report {
    /// A datagram that was refused; with a line of its own if it was authentic.
    pub(in crate::keeper) fn refused(&mut self, now: Now, refusal: &Refusal, config: &Config) {
        self.counts.refused(refusal.reason);
        let Some(verified) = &refusal.verified else { return };
        if !self.may_speak(now, &verified.user, refusal.reason) {
            return;
        }
        let action = trail::action(verified, config);
        self.trail.refused(now, verified, &action, refusal.reason, refusal.next);
        self.decided(Decision {
            at: now.unix(),
            knock: verified.knock.to_string(),
            user: verified.user.name.clone(),
            action: action.clone(),
            from: verified.source.ip(),
            became: refusal.reason.code().to_owned(),
        });
        let why = why(now, refusal.reason, verified);
        let mut fields = vec![
            ("code", Value::from(refusal.reason.code())),
            ("knock", Value::from_display(&verified.knock)),
            ("user", Value::from(verified.user.name.as_str())),
            ("action", Value::from(action.as_str())),
            ("from", Value::from_display(&verified.source)),
            ("bound", Value::from_display(&verified.bound)),
            ("why", Value::from(why.as_str())),
        ];
        let next = refusal.next.and_then(|next| jiff::Timestamp::from_second(next.into()).ok());
        fields.extend(next.iter().map(|next| ("next", Value::from_display(next))));
        write(Level::Warn, "knock refused", &fields);
    }

    /// What became of a granted knock.
    pub(in crate::keeper) fn job(&mut self, now: Now, event: &JobEvent) {
        let about = match &event.whose {
            Whose::Knock(about) => about,
            Whose::Undo(undoing) => {
                self.ended(&undoing.door.action, &event.what);
                return self.undo(now, undoing, &event.what);
            }
            Whose::Renewal(renewing) => return self.renewal(renewing, &event.what),
            // What is said of it is known where it is waited for.
            Whose::Hook(_) => return,
        };
        let (knock, user, action) = (about.knock, &about.user.name, &about.action.name);
        self.ended(action, &event.what);
        match &event.what {
            Happened::Queued => {
                log::info!(code = "queued", knock:%, user, action; "knock accepted, waits its turn")
            }
            Happened::Refused(error) => self.refused_later(now, about, error.reason(), error),
            Happened::Started => {
                self.counts.ran();
                self.trail.knock(now, about, Event::Ran);
                self.decided(decision(now, about, "ran"));
                let (from, bound) = (about.source, about.bound);
                log::info!(code = "ran", knock:%, user, action, from:%, bound:%; "knock accepted");
            }
            // A script that prints faster than the log is read must not wash out who ran what.
            Happened::Line(..) if logging::is_crowded() => logging::lose(),
            Happened::Line(stream, text) => {
                log::info!(code = "output", knock:%, action, stream:%, text; "script output");
            }
            Happened::OutputCut => {
                log::warn!(code = "output-cut", knock:%, action; "script output beyond max_output is thrown away")
            }
            Happened::TimedOut => {
                log::warn!(code = "timeout", knock:%, action; "script told to end, its time is up")
            }
            Happened::NotSignalled(error) => {
                log::error!(code = "not-signalled", knock:%, action, error:%; "script could not be told to end")
            }
            Happened::Finished { how, took } => {
                let how_long = trail::ended(*how, *took);
                self.trail.knock(now, about, |knock| Event::Finished { knock, how: how_long });
                let took = format!("{}ms", took.as_millis());
                match how {
                    How::Exited(0) => {
                        log::info!(code = "finished", knock:%, user, action, rc = 0, took; "script finished")
                    }
                    How::Exited(rc) => {
                        log::warn!(code = "finished", knock:%, user, action, rc, took; "script finished")
                    }
                    How::Signaled(signal) => {
                        log::warn!(code = "finished", knock:%, user, action, signal, took; "script finished")
                    }
                    How::Lost => {
                        log::error!(code = "finished", knock:%, user, action, took; "script finished, nobody knows how")
                    }
                }
            }
        }
    }

    /// What became of a knock whose HMAC verified.
    pub(super) fn decided(&mut self, decision: Decision) {
        if self.latest.len() >= LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back(decision);
    }

    /// A knock that was granted and does nothing.
    pub(in crate::keeper) fn refused_later(
        &mut self,
        now: Now,
        about: &About,
        reason: DropReason,
        why: impl fmt::Display,
    ) {
        self.counts.refused(reason);
        if self.may_speak(now, &about.user, reason) {
            let reason = reason.code();
            self.trail.knock(now, about, |knock| Event::Refused { knock, reason, next: None });
            self.decided(decision(now, about, reason));
            log::warn!(
                code = reason, knock:% = about.knock, user = about.user.name, action = about.action.name,
                from:% = about.source, bound:% = about.bound, why:%;
                "knock refused"
            );
        }
    }

    fn may_speak(&mut self, now: Now, user: &User, reason: DropReason) -> bool {
        let spoken = self.lines.entry((user.id, reason)).or_insert_with(|| Spoken {
            allowance: Bucket::default(),
            user: user.name.clone(),
            muted: 0,
        });
        let taken = spoken.allowance.take_every(now, LINE_EVERY, LINES);
        if taken == Taken::No {
            spoken.muted = spoken.muted.saturating_add(1);
            self.muted = self.muted.saturating_add(1);
        }
        taken == Taken::Yes
    }

    /// What was refused without a record each is recorded as one.
    pub(in crate::keeper) fn record_muted(&mut self, now: Now) {
        for ((_, reason), Spoken { user, muted, .. }) in &mut self.lines {
            let (count, reason) = (std::mem::take(muted), reason.code());
            if count > 0 {
                self.trail.note(now, Event::RefusedMore { user, reason, count });
            }
        }
    }
}

pub(super) fn decision(now: Now, about: &About, became: &str) -> Decision {
    Decision {
        at: now.unix(),
        knock: about.knock.to_string(),
        user: about.user.name.clone(),
        action: about.action.name.clone(),
        from: about.source.ip(),
        became: became.to_owned(),
    }
}

/// What the sender or the administrator may want to look at.
fn why(now: Now, reason: DropReason, verified: &Verified) -> String {
    if reason == DropReason::Binding && verified.bound == Bound::None {
        return "bound to nothing, as siglatch v1 clients knock, and `bind` asks for more".to_owned();
    }
    if !matches!(reason, DropReason::Stale | DropReason::Ahead) {
        return reason.meaning().to_owned();
    }
    let (now, sent) = (now.unix(), u64::from(verified.nonce.timestamp));
    let side = if sent < now { "behind" } else { "ahead" };
    format!("the sender's clock is {} s {side}", now.abs_diff(sent))
}

/// Decisions that are shown.
const LATEST: usize = 20;
