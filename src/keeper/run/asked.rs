//! What administrators ask: carried out, answered, and told to the log.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use mio::Token;

use super::{Keeper, Phase};
use crate::channel::Lane;
use crate::clock::Now;
use crate::config::change::Change;
use crate::control::sign::Asked;
use crate::control::{Ban, Datagram, Explained, How, Known, Reply, Request, Set, status};
use crate::judge;
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

    fn asked(&mut self, now: Now, ticket: Ticket, Asked { admin, request }: Asked) -> Option<Reply> {
        let act = act(&request).map(|what| Act { admin, what });
        let asker = Asker { who: Who::Control(ticket), act };
        self.tell_act(&asker);
        match self.do_now(now, request) {
            Course::Done(reply) => {
                self.record(now, &asker, &reply);
                Some(reply)
            }
            Course::Wish(wish) => {
                self.reload.begin(now, self.config.path.clone(), Some(asker), wish);
                None
            }
        }
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
            Request::Ban(ban) => match self.deny_from(&ban) {
                Ok(change) => {
                    return Course::Wish(Wish::Set(Set { changes: vec![change], how: How::Apply }));
                }
                Err(why) => Reply::Failed(why),
            },
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
        let judged = match out {
            Ok(opened) => self.judge.explain(now, &opened),
            Err(reason) => judge::Explained { verified: None, refused: Some(reason) },
        };
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

    /// `deny_from` as it is to be.
    fn deny_from(&self, ban: &Ban) -> Result<Change, String> {
        let mut list = self.config.deny_from.0.clone();
        let (Ban::On(text) | Ban::Off(text)) = ban;
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let net = net.map_err(|_| format!("{text} is neither an address nor a network"))?.trunc();
        let before = list.len();
        list.retain(|other| *other != net);
        match ban {
            Ban::On(_) => list.push(net),
            Ban::Off(_) if list.len() == before => return Err(format!("{net} is not banned")),
            Ban::Off(_) => {}
        }
        let list: toml_edit::Array = list.iter().map(ToString::to_string).collect();
        Ok(Change { key: "deny_from".to_owned(), value: Some(list.to_string()) })
    }

    /// `status.json`, for who polls files. It is as good as the next one: nobody waits for a disk.
    pub(super) fn write_status(&self, now: Now) {
        let folder = &self.config.runtime_dir;
        let written =
            serde_json::to_vec_pretty(&self.status(now)).map_err(io::Error::other).and_then(|text| {
                let mut file = tempfile::NamedTempFile::new_in(folder)?;
                file.write_all(&text)?;
                file.persist(folder.join(STATUS)).map_err(|error| error.error)
            });
        if let Err(error) = written {
            log::debug!(code = "status-failed", error:%; "status.json cannot be written");
        }
    }

    /// The daemon as it is now.
    pub(super) fn status(&self, now: Now) -> status::Status {
        let up = now.mono.saturating_sub(self.started).as_secs();
        let webhooks = self.webhooks.status();
        let mut status = self.report.picture(now, self.listener.drops());
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
    if status.store.claims.saturating_mul(10) > status.store.max_claims.saturating_mul(9) {
        let what = format!("the store holds {} of {} claims", status.store.claims, status.store.max_claims);
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
            "siglatchctl audit verify says where; the file that was put aside is evidence",
        );
    }
    if let Some(what) = &status.audit.failing {
        warn("audit-file-failing", what.clone(), "the store has the trail until the file can be written");
    }
    warnings
}

/// Longer ones are none: with an RSA key of 8192 bits and a stamp one has 1056 bytes.
const DATAGRAM_MAX: usize = 2048;

/// Beside the control socket.
const STATUS: &str = "status.json";
