//! When and how often: what a permitted knock would use up, or why it cannot.
//!
//! Hours are decided here; cooldown, quota, `max_knocks` and the TOTP code's single use by the store, in the transaction that counts them.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::{DropReason, Verified, hours, totp};
use crate::clock::Now;
use crate::config::allowance::{Allowance, Quota};
use crate::config::resolved::{Builtin, SecondFactor};
use crate::config::{Action, Config, User};
use crate::store::usage::{Family, Limit, Over, Terms, Use, Window};
use crate::wire::{ActionId, Options};

/// Why a knock is refused, and when (Unix seconds) it would not be, where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) reason: DropReason,
    pub(super) next: Option<u32>,
}

impl From<DropReason> for Denied {
    fn from(reason: DropReason) -> Denied {
        Denied { reason, next: None }
    }
}

/// What is to be counted for it. A door is closed, and a key exchanged or told, at any time, as often as one likes, without a code.
pub(super) fn using(
    now: Now,
    user: &User,
    action: &Action,
    source: IpAddr,
    options: &Options,
) -> Result<Option<Use>, Denied> {
    if options.release.is_some() || action.builtin.is_some_and(Builtin::is_everybodys) {
        return Ok(None);
    }
    if !is_open(now, user, action) {
        return Err(Denied { reason: DropReason::Hours, next: next_open(now.wall, user, action) });
    }
    let at = u32::try_from(now.unix()).unwrap_or(u32::MAX);
    let code = match action.second_factor {
        SecondFactor::None => None,
        SecondFactor::Totp => {
            let given = user.totp_key.as_ref().zip(options.totp.as_ref());
            let (key, code) = given.ok_or(DropReason::TotpMissing)?;
            Some(totp::check(key, code, at))
        }
    };
    let of_action = terms(now, &action.allowance);
    // A question is no use of what he may run, unless the action itself is limited.
    if action.builtin == Some(Builtin::Whoami) && code.is_none() && of_action == Terms::default() {
        return Ok(None);
    }
    let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
    Ok(Some(Use {
        at,
        action: action.id,
        of_action,
        of_user: terms(now, &user.allowance),
        most: user.max_knocks,
        code,
        // Two knocks that name an address are two.
        family: (action.door.is_some() && options.address.is_none()).then_some(family),
    }))
}

/// What the store said; where it names a time, the first one from then on that is within hours.
pub(super) fn over(config: &Config, verified: &Verified, over: Over) -> Denied {
    let reason = match over.limit {
        Limit::Locked => DropReason::TotpLocked,
        Limit::WrongCode => DropReason::Totp,
        Limit::UsedCode => DropReason::TotpUsed,
        Limit::Spent => DropReason::UserSpent,
        Limit::Quota => DropReason::Quota,
        Limit::Cooldown => DropReason::Cooldown,
    };
    let action = ActionId::new(verified.action).and_then(|id| config.actions.get(&id));
    let next = over.next.map(|next| Duration::from_secs(next.into())).zip(action);
    let next = next.and_then(|(next, action)| next_open(next, &verified.user, action));
    Denied { reason, next }
}

fn is_open(now: Now, user: &User, action: &Action) -> bool {
    let [user, action] = [&user.allowance.hours, &action.allowance.hours];
    // Most have none, and no calendar is asked.
    user.is_empty() && action.is_empty() || {
        let at = hours::instant(now.wall);
        hours::are_open(user, at) && hours::are_open(action, at)
    }
}

fn next_open(from: Duration, user: &User, action: &Action) -> Option<u32> {
    let from = hours::instant(from);
    let next = hours::next_open(&[&user.allowance.hours, &action.allowance.hours], from)?;
    u32::try_from(next.as_second()).ok()
}

fn terms(now: Now, allowance: &Allowance) -> Terms {
    Terms {
        cooldown: allowance.cooldown,
        quota: allowance.quota.as_ref().map(|quota| window(quota, hours::instant(now.wall))),
    }
}

/// The period that it is now; all of time where the calendar ends.
fn window(quota: &Quota, at: Timestamp) -> Window {
    let seconds = |moment: Timestamp| u32::try_from(moment.as_second()).unwrap_or(u32::MAX);
    let (since, until) =
        hours::period(quota, at).map_or((0, u32::MAX), |(since, until)| (seconds(since), seconds(until)));
    Window { most: quota.most, since, until }
}
