//! Fresh -> Grant: what the administrator permits.

use std::net::IpAddr;
use std::sync::Arc;

use super::allowance::{self, Denied};
use super::grant::Sealed;
use super::replay::Fresh;
use super::{DropReason, Grant, Refusal, Verified};
use crate::channel::Lane;
use crate::clock::Now;
use crate::config::resolved::{Builtin, Door, Enabled, Exchange, OpensFor, PayloadKind, SecondFactor, Stamp};
use crate::config::{Action, Config, User};
use crate::store::Use;
use crate::wire::options::Release;
use crate::wire::{ActionId, Bound, Options};

impl Fresh {
    /// Asks the configuration of now, which may have been swapped since the knock was verified.
    pub(super) fn authorize(self, now: Now, config: &Config) -> Result<Grant, Refusal> {
        let Fresh { verified, used, proved } = self;
        let known = known(config, &verified.user);
        let permitted =
            known.and_then(|user| authorize(now, config, user, &verified)).and_then(|permitted| {
                let Permitted { action, options, .. } = &permitted;
                let asked = action.second_factor == SecondFactor::Totp && options.release.is_none();
                ensure(!asked || proved == SecondFactor::Totp, DropReason::TotpMissing)?;
                Ok(permitted)
            });
        match permitted {
            Ok(Permitted { user, action, opens_for, options, payload }) => Ok(Grant {
                knock: verified.knock,
                user: Arc::clone(user),
                action: Arc::clone(action),
                source: verified.source,
                opens_for,
                timestamp: verified.nonce.timestamp,
                challenge: verified.nonce.challenge,
                bound: verified.bound,
                lane: verified.lane,
                options,
                payload: payload.to_vec(),
                asked: verified.asked,
                used,
                _sealed: Sealed,
            }),
            Err(reason) => Err(Refusal { unused: used, ..Refusal::new(reason.into(), verified) }),
        }
    }
}

/// What would be counted for it, were its claim the first; nothing where it uses nothing up.
pub(super) fn using(now: Now, config: &Config, verified: &Verified) -> Result<Option<Use>, Denied> {
    // Who verified it is of this configuration.
    let Permitted { user, action, options, .. } = authorize(now, config, &verified.user, verified)?;
    allowance::using(now, user, action, verified.source.ip(), &options)
}

/// What a knock may do.
struct Permitted<'a> {
    user: &'a Arc<User>,
    action: &'a Arc<Action>,
    opens_for: IpAddr,
    options: Options,
    payload: &'a [u8],
}

fn authorize<'a>(
    now: Now,
    config: &'a Config,
    user: &'a Arc<User>,
    verified: &'a Verified,
) -> Result<Permitted<'a>, DropReason> {
    let id = ActionId::new(verified.action).ok_or(DropReason::ReservedAction)?;
    let action = may(now, config, user, id, verified.source.ip(), verified.bound)?;
    let own_stamp = verified.lane == Lane::Stamped(user.id);
    ensure(own_stamp || user.stamp == Stamp::Optional, DropReason::StampMissing)?;
    let (mut options, payload) =
        Options::split(&verified.payload, &action.takes()).map_err(|_| DropReason::Options)?;
    if action.id != id {
        // Its `release_id`: all that a plain siglatch v1 client can say.
        options.release = Some(Release);
    }
    let opens_for = action.door.as_ref().map_or(&OpensFor::Knocker, Door::opens_for);
    let opens_for = opens_for.address(verified.source.ip(), options.address).ok_or(DropReason::Address)?;
    ensure(takes(action, payload), DropReason::Payload)?;
    Ok(Permitted { user, action, opens_for, options, payload })
}

/// Everything but the payload: what a reload can take away from a knock that waits its turn.
pub(super) fn permit(
    now: Now,
    config: &Config,
    knocked: &User,
    id: ActionId,
    source: IpAddr,
    bound: Bound,
) -> Result<(), DropReason> {
    known(config, knocked).and_then(|user| may(now, config, user, id, source, bound)).map(drop)
}

/// Who knocked, as the configuration of now has him: under the key that he has, or the one that he has sent for.
fn known<'a>(config: &'a Config, knocked: &User) -> Result<&'a Arc<User>, DropReason> {
    let user = config.users.get(&knocked.id);
    let next = user.and_then(|user| user.next.as_ref());
    let mut either = user.into_iter().chain(next);
    either.find(|user| user.hmac_key == knocked.hmac_key).ok_or(DropReason::UserGone)
}

/// An invite's key opens nothing but the way to another, and what was exchanged ends in its time.
fn good_for(now: Now, user: &User, action: &Action) -> Result<(), DropReason> {
    let enrols = action.builtin == Some(Builtin::Enrol);
    let good = match user.exchange {
        Exchange::Never => !enrols,
        Exchange::Rotates(until) => now.wall <= until || !enrols && !has_sent(user),
        Exchange::Invites { until, .. } | Exchange::Spent(until) => enrols && now.wall <= until,
    };
    ensure(good, DropReason::KeyExchange)
}

/// Whether he has sent for another key, and not knocked under it yet.
fn has_sent(user: &User) -> bool {
    user.next.as_ref().is_some_and(|next| !matches!(next.exchange, Exchange::Spent(_)))
}

fn may<'a>(
    now: Now,
    config: &'a Config,
    user: &User,
    id: ActionId,
    source: IpAddr,
    bound: Bound,
) -> Result<&'a Arc<Action>, DropReason> {
    ensure(user.enabled == Enabled::Yes, DropReason::UserDisabled)?;
    ensure(!user.is_expired(now.wall), DropReason::UserExpired)?;

    let action = config.action(id).ok_or(DropReason::ActionUnknown)?;
    // What is about his keys he may, whatever else he may.
    let about_keys = action.builtin.is_some_and(Builtin::is_everybodys);
    let listed = user.actions.contains(&action.id) || about_keys;
    ensure(listed, DropReason::NotPermitted)?;
    ensure(action.enabled == Enabled::Yes, DropReason::ActionDisabled)?;
    good_for(now, user, action)?;

    let least = config.bind.max(user.bind).max(action.bind);
    // What is sent there is good for nobody else, wherever it comes from, and its client knows no address yet.
    let least = if about_keys { least.min(Bound::Server) } else { least };
    ensure(bound >= least, DropReason::Binding)?;
    let lists = [&config.allow_from, &user.allow_from, &action.allow_from];
    let allowed = lists.iter().all(|list| list.allows(source)) && !config.deny_from.names(source);
    ensure(allowed, DropReason::Source)?;
    Ok(action)
}

fn ensure(holds: bool, reason: DropReason) -> Result<(), DropReason> {
    if holds { Ok(()) } else { Err(reason) }
}

fn takes(action: &Action, payload: &[u8]) -> bool {
    let kind = match action.payload {
        PayloadKind::Any => true,
        PayloadKind::Ascii => payload.iter().all(|byte| (b' '..=b'~').contains(byte)),
        PayloadKind::Utf8 => std::str::from_utf8(payload).is_ok(),
        PayloadKind::None => payload.is_empty(),
    };
    kind && payload.len() <= action.max_payload
}
