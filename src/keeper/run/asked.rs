//! What administrators ask: carried out, answered, and told to the log.

use std::io::{self, Write as _};
use std::sync::Arc;

use mio::Token;

use super::{Keeper, Phase};
use crate::channel::Lane;
use crate::clock::Now;
use crate::control::sign::{Asked, May};
use crate::control::{Datagram, Explained, Known, Refused, Reply, Request, status};
use crate::judge::{self, DropReason};
use crate::keeper::control::{Control, Ticket};
use crate::keeper::dry::{self, Dry};
use crate::keeper::reload::{Act, Asker, Who, Wish};
use crate::wire::key::unhex;

impl Keeper {
    /// Something of the control socket is ready.
    pub(super) fn control(&mut self, now: Now, token: Token) {
        self.with_control(|keeper, control| {
            let config = Arc::clone(&keeper.config);
            control.ready(now, token, &config.control, |ticket, asked| keeper.asked(now, ticket, asked));
        });
    }

    /// What the last wake had no time for.
    pub(super) fn hear_control(&mut self, now: Now) {
        self.with_control(|keeper, control| {
            let config = Arc::clone(&keeper.config);
            control.hear(now, &config.control, |ticket, asked| keeper.asked(now, ticket, asked));
        });
    }

    /// The reply to a request that took time.
    pub(super) fn replied(&mut self, now: Now, asker: Asker, reply: &Reply) {
        self.record(now, &asker, reply);
        let ticket = match asker.who {
            Who::Control(ticket) => ticket,
            Who::Knock(knock) => return self.told(now, knock, reply),
        };
        self.with_control(|keeper, control| {
            let config = Arc::clone(&keeper.config);
            let serve = |ticket, asked| keeper.asked(now, ticket, asked);
            control.answer(now, ticket, reply, &config.control, serve);
        });
    }

    /// It is out of its place meanwhile: who serves a request has the rest of the keeper to himself.
    fn with_control(&mut self, act: impl FnOnce(&mut Keeper, &mut Control)) {
        if let Some(mut control) = self.control.take() {
            act(self, &mut control);
            self.control = Some(control);
        }
    }

    fn asked(&mut self, now: Now, ticket: Ticket, Asked { admin, request, may }: Asked) -> Option<Reply> {
        let act = act(&request).map(|what| Act { admin, what });
        let asker = Asker { who: Who::Control(ticket), act };
        if let Some(refusal) = self.refuse(&asker, may) {
            self.report.refused_admin(now, &asker, &refusal);
            return Some(refusal);
        }
        self.tell_act(&asker);
        match self.do_now(now, request) {
            Course::Done(reply) => {
                self.record(now, &asker, &reply);
                Some(reply)
            }
            Course::Wish(wish) => {
                self.reload.begin(now, &self.config, Some(asker), wish);
                None
            }
        }
    }

    /// Why nothing is done.
    fn refuse(&self, asker: &Asker, may: May) -> Option<Reply> {
        if let May::No { wanted, his } = may {
            let (wanted, yours) = (wanted.to_string(), his.to_string());
            return Some(Reply::Refused(Refused::Role { wanted, yours }));
        }
        let Act { admin, what } = asker.act.as_ref()?;
        if what.len() > ACT_MAX {
            let what = format!("a request of more than {ACT_MAX} bytes has no whole record: make it several");
            return Some(Reply::Failed(what));
        }
        let many = self.reload.asked_by(admin) >= WISHES;
        many.then(|| Reply::Failed("others that you asked for are not done yet: try again".to_owned()))
    }

    fn do_now(&mut self, now: Now, request: Request) -> Course {
        Course::Done(match request {
            Request::Status => Reply::Status(Box::new(self.status(now))),
            Request::Revoke(whom) => Reply::Revoked(self.doors.revoke(&whom)),
            Request::RetryWebhooks(which) => Reply::Webhooks(self.webhooks.retry(now, which)),
            Request::DropWebhooks(which) => Reply::Webhooks(self.webhooks.forget(which)),
            Request::Reload => {
                self.notify.reloading();
                return Course::Wish(Wish::Reload);
            }
            Request::Set(set) => return Course::Wish(Wish::Set(set)),
            Request::DiscardPending => return Course::Wish(Wish::Discard),
            Request::TestKnock(asked) => return self.dry(Dry::knock(now, &self.config, &asked)),
            Request::Explain(Datagram { hex, from }) => {
                let dry = bytes(&hex).map(|datagram| Dry::new(datagram, from));
                return self.dry(dry.ok_or_else(|| "this is no datagram in hex digits".to_owned()));
            }
            Request::Ban(ban) => return Course::Wish(Wish::Ban(ban)),
        })
    }

    fn dry(&self, dry: Result<Dry, String>) -> Course {
        match dry {
            Ok(dry) => Course::Wish(Wish::Open(Arc::clone(&self.config), Arc::new(dry))),
            Err(why) => Course::Done(Reply::Failed(why)),
        }
    }

    /// Tells the log that something is to be done.
    pub(super) fn tell_act(&self, asker: &Asker) {
        if let Some(Act { admin, what }) = &asker.act {
            log::info!(code = "admin", admin, act = what; "an administrator asks");
        }
    }

    /// Has the audit trail say what was done.
    pub(super) fn record(&mut self, now: Now, asker: &Asker, reply: &Reply) {
        if let Some(Act { admin, what }) = &asker.act {
            let result = serde_json::to_string(reply).unwrap_or_default();
            self.report.admin(now, admin, what, &result);
        }
    }

    /// Judges what was in a datagram that is only looked at.
    pub(super) fn explain(&mut self, now: Now, asker: Asker, out: dry::Out) {
        let mut judged = match out {
            Some(opened) => self.judge.explain(now, &opened),
            None => judge::Explained { verified: None, refused: None },
        };
        // Whoever makes datagrams learns nothing here of how near they come.
        if judged.verified.is_none() {
            judged.refused = Some(DropReason::NotAuthentic);
        }
        let why = match judged.refused {
            Some(reason) => reason.meaning().to_owned(),
            None => "it would run, unless its nonce is claimed, or quota or cooldown forbid it".to_owned(),
        };
        let knock = judged.verified.map(|verified| Known {
            id: verified.knock,
            user: verified.user.name.clone(),
            action: verified.action,
            timestamp: verified.nonce.timestamp,
            bound: verified.bound.to_string(),
            stamped: verified.lane == Lane::Stamped(verified.user.id),
        });
        let refused = judged.refused.map(|reason| reason.code().to_owned());
        self.replied(now, asker, &Reply::Explained(Explained { knock, refused, why }));
    }

    /// `status.json`, for who polls files. It is as good as the next one: nobody waits for a disk.
    pub(super) fn write_status(&mut self, now: Now) {
        let status = self.status(now);
        let folder = &self.config.runtime_dir;
        let written = serde_json::to_vec_pretty(&status).map_err(io::Error::other).and_then(|text| {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&text)?;
            file.persist(folder.join(STATUS)).map_err(|error| error.error)
        });
        if let Err(error) = written {
            log::debug!(code = "status-failed", error:%; "status.json cannot be written");
        }
    }

    /// Nobody is to take for running what has ended.
    pub(super) fn remove_status(&self) {
        std::fs::remove_file(self.config.runtime_dir.join(STATUS)).unwrap_or_default();
    }

    /// The daemon as it is now.
    pub(super) fn status(&mut self, now: Now) -> status::Status {
        let up = now.mono.saturating_sub(self.started).as_secs();
        let webhooks = self.webhooks.status();
        self.report.kernel_drops(self.listener.drops());
        let mut status = self.report.picture(now);
        status.version = env!("CARGO_PKG_VERSION").to_owned();
        status.server_id = self.config.server_id.map(|id| id.to_string());
        status.up = up;
        status.phase = match self.phase {
            Phase::Serving if !self.listener.has_begun() => status::Phase::Starting,
            Phase::Serving => status::Phase::Serving,
            Phase::Stopping | Phase::Alone | Phase::Hurried => status::Phase::Stopping,
        };
        status.listener = self.listener.status(now);
        status.scripts.running = self.runner.running() as u64;
        for action in self.config.actions.values() {
            status.scripts.ended.entry(action.name.clone()).or_default();
        }
        status.doors.leases = self.doors.held(now);
        status.doors.undo_failing = self.doors.failing();
        status.webhooks = webhooks;
        status.store.max_claims = self.config.limits.max_claims;
        status.store.waiting = self.claims as u64;
        status.config = self.reload.status(now, &self.config);
        status.keys = self.exchanges.ages(now);
        status.rotation = self.moving.status(&self.config, now);
        status.warnings = warnings(&status);
        status.warnings.extend(self.exchanges.contested.iter().map(|user| status::Warning {
            code: "key-contested".to_owned(),
            what: format!("two have sent for a new key of {user}'s: one of them is somebody else"),
            hint: format!("siglatchctl key revoke user {user}; then give him a new invite by a safer way"),
        }));
        status
    }
}

/// How a request is carried out.
enum Course {
    /// It was.
    Done(Reply),
    /// That takes time.
    Wish(Wish),
}

/// What the log is told that somebody asked for; looking is not told.
fn act(request: &Request) -> Option<String> {
    match request {
        Request::Status => None,
        Request::Revoke(_)
        | Request::RetryWebhooks(_)
        | Request::DropWebhooks(_)
        | Request::Reload
        | Request::Set(_)
        | Request::DiscardPending
        | Request::Ban(_)
        | Request::TestKnock(_)
        | Request::Explain(_) => serde_json::to_string(request).ok(),
    }
}

/// Of as many hex digits as a datagram may have.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let whole = rest.is_empty() && pairs.len() <= DATAGRAM_MAX;
    whole.then(|| pairs.iter().map(|pair| unhex::<1>(pair).map(|[byte]| byte)).collect()).flatten()
}

/// What somebody should look at.
fn warnings(status: &status::Status) -> Vec<status::Warning> {
    let mut warnings = Vec::new();
    let mut warn = |code: &str, what: String, hint: &str| {
        warnings.push(status::Warning { code: code.to_owned(), what, hint: hint.to_owned() });
    };
    if !status.listener.well && status.phase == status::Phase::Serving {
        let what = "nobody hears the network: the listener is not there, or says nothing".to_owned();
        warn("listener-silent", what, "the log says why; another one is started by itself");
    }
    if let Some(what) = &status.store.failing {
        warn("store-failing", what.clone(), "knocks are refused until the disk takes them again");
    }
    let most = status.store.max_claims;
    if let Some(claims) =
        status.store.claims.filter(|claims| claims.saturating_mul(10) > most.saturating_mul(9))
    {
        let what = format!("the store holds {claims} of {most} claims");
        warn("store-full", what, "raise `limits.max_claims`, or lower `freshness`");
    }
    if status.doors.undo_failing > 0 {
        let what = format!("doors that could not be closed: {}", status.doors.undo_failing);
        warn("undo-failed", what, "close them by hand; siglatchctl leases names them, the log says why");
    }
    if status.webhooks.failed > 0 {
        let what = format!("webhooks that did not get through: {}", status.webhooks.failed);
        warn("webhook-failed", what, "siglatchctl webhooks failed");
    }
    if let Some(status::Reload { failed: Some(why), .. }) = &status.config.last_reload {
        warn("reload-failed", format!("the last reload failed: {why}"), "siglatchctl check says all of it");
    }
    if !status.config.unsaved.is_empty() {
        let what = format!("settings that no file has: {}", status.config.unsaved.join(", "));
        warn("unsaved", what, "siglatchctl set KEY VALUE --save keeps one over a restart");
    }
    if let Some(what) = &status.audit.broken {
        warn(
            "audit-broken",
            what.clone(),
            "siglatchctl audit verify says where; a file that the log says was put aside is evidence",
        );
    }
    if let Some(what) = &status.audit.failing {
        warn("audit-file-failing", what.clone(), "the store has the trail until the file can be written");
    }
    warnings
}

/// Bytes of a request that does something: what has none of its own in the trail is not done.
const ACT_MAX: usize = 4096;

/// Requests of one administrator that are not done yet.
const WISHES: usize = 4;

/// Longer ones are none: with an RSA key of 8192 bits and a stamp one has 1056 bytes.
const DATAGRAM_MAX: usize = 2048;

/// Beside the control socket.
const STATUS: &str = "status.json";
