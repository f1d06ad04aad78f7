//! When and how often: what the judge asks the store to count, and what it says when the store refuses.

use super::*;
use crate::config::TotpKey;
use crate::config::allowance::{Hours, Quota};
use crate::config::resolved::SecondFactor;
use crate::wire::Options;
use crate::wire::options::TotpCode;

/// NOON is a Tuesday, 2023-11-14T22:13:20Z.
const EVENING: &str = "tue 22:00-23:00";

fn hours(text: &str) -> Vec<Hours> {
    vec![Hours::parse(text, &jiff::tz::TimeZone::UTC).unwrap()]
}

fn quota(text: &str) -> Option<Quota> {
    Quota::parse(text, &jiff::tz::TimeZone::UTC)
}

/// Why alice's knock is refused, and until when.
fn refused(desk: &mut Desk, plain: &Plain) -> (DropReason, Option<String>) {
    let claim = match desk.judge.opened(desk.now, &opened(plain, HOME)) {
        Decision::Claim(claim) => claim,
        Decision::Refuse(refusal) => panic!("{refusal:?}"),
    };
    let outcome = desk.store.claim(desk.now.unix(), &[claim.record()]).unwrap()[0];
    match desk.judge.claimed(desk.now, claim, Some(outcome)) {
        Verdict::Grant(grant) => panic!("{grant:?}"),
        Verdict::Refuse(refusal) => {
            assert_eq!(refusal.unused, None);
            let next =
                refusal.next.map(|next| jiff::Timestamp::from_second(next.into()).unwrap().to_string());
            (refusal.reason, next)
        }
    }
}

#[test]
fn out_of_hours_of_user_or_action_the_next_opening_of_both_is_told() {
    let open = with_alice(config(), |alice| alice.allowance.hours = hours(EVENING));
    assert_eq!(Desk::new(open.clone()).outcome(&plain(1), HOME), Ok(()));
    let closed = with_action(open, |action| action.allowance.hours = hours("22:30-08:00"));
    let told = (DropReason::Hours, Some("2023-11-14T22:30:00Z".to_owned()));
    assert_eq!(refused(&mut Desk::new(closed.clone()), &plain(1)), told);
    let never = with_action(closed, |action| action.allowance.hours = hours("08:00-09:00"));
    assert_eq!(refused(&mut Desk::new(never), &plain(1)), (DropReason::Hours, None));
}

#[test]
fn what_is_used_up_is_possible_again_within_hours_only() {
    let used_up = with_action(config(), |action| action.allowance.quota = quota("1/day"));
    let mut desk = Desk::new(used_up.clone());
    assert_eq!(desk.outcome(&plain(1), HOME), Ok(()));
    let told = |next: &str| (DropReason::Quota, Some(next.to_owned()));
    assert_eq!(refused(&mut desk, &plain(2)), told("2023-11-15T00:00:00Z"));
    desk.reload(with_alice(used_up, |alice| alice.allowance.hours = hours(EVENING)));
    assert_eq!(refused(&mut desk, &plain(3)), told("2023-11-21T22:00:00Z"));
}

#[test]
fn what_was_counted_and_then_denied_is_to_be_given_back() {
    let mut desk = Desk::new(with_alice(config(), |alice| alice.allowance.cooldown = Some(60)));
    let claim = desk.opened(&plain(1), HOME).unwrap();
    let outcome = desk.store.claim(NOON.into(), &[claim.record()]).unwrap()[0];
    desk.reload(with_alice(config(), |alice| alice.enabled = Enabled::No));
    let Verdict::Refuse(refusal) = desk.judge.claimed(desk.now, claim, Some(outcome)) else {
        panic!("granted")
    };
    assert_eq!(refusal.reason, DropReason::UserDisabled);
    let used = Used { user: ALICE, action: ActionId::new(1).unwrap(), at: NOON };
    assert_eq!(refusal.unused, Some(used));
}

#[test]
fn what_was_denied_as_it_came_stays_denied_and_uses_nothing_up() {
    let off = with_alice(config(), |alice| alice.enabled = Enabled::No);
    let mut desk = Desk::new(off);
    let claim = desk.opened(&plain(1), HOME).unwrap();
    assert_eq!(claim.record().using, None);
    desk.reload(config());
    assert_eq!(desk.claimed(claim).map(drop), Err(DropReason::UserDisabled));
    assert_eq!(desk.outcome(&plain(2), HOME), Ok(()));
}

#[test]
fn a_code_is_asked_for_checked_and_taken_once() {
    let coded = with_action(config(), |action| action.second_factor = SecondFactor::Totp);
    let authenticator = totp_rs::Builder::new().with_secret(*b"12345678901234567890").build().unwrap();
    let shown = |unix: u32| authenticator.generate(unix.into()).to_string();
    let with = |challenge, digits: &str| {
        let totp = TotpCode::new(digits.as_bytes().try_into().unwrap());
        let payload = Options { totp, ..Options::default() }.join(b"hi").unwrap();
        signed(&Knock { payload: &payload, ..knock(challenge) }, Binding::None)
    };
    let mut desk = Desk::new(coded.clone());
    assert_eq!(refused(&mut desk, &with(1, &shown(NOON))), (DropReason::TotpMissing, None));
    let key = || TotpKey::new(*b"12345678901234567890").ok();
    desk.reload(with_alice(coded, |alice| alice.totp_key = key()));
    assert_eq!(refused(&mut desk, &plain(2)), (DropReason::TotpMissing, None));
    assert_eq!(refused(&mut desk, &with(3, &shown(NOON + 90))), (DropReason::Totp, None));
    let grant = desk.knock(&with(4, &shown(NOON)), HOME).unwrap();
    assert_eq!(grant.payload, b"hi");
    for (challenge, unix) in [(5, NOON), (6, NOON - 30)] {
        assert_eq!(refused(&mut desk, &with(challenge, &shown(unix))), (DropReason::TotpUsed, None));
    }
    assert_eq!(desk.outcome(&with(7, &shown(NOON + 30)), HOME), Ok(()));
    for challenge in 10..14 {
        assert_eq!(refused(&mut desk, &with(challenge, &shown(NOON + 90))), (DropReason::Totp, None));
    }
    let locked = (DropReason::TotpLocked, Some("2023-11-14T22:28:20Z".to_owned()));
    assert_eq!(refused(&mut desk, &with(14, &shown(NOON + 60))), locked);
}

#[test]
fn a_reload_that_asks_for_a_code_lets_nobody_in_whose_code_nobody_checked() {
    let free = config();
    let asking = with_action(free.clone(), |action| action.second_factor = SecondFactor::Totp);
    let code = Options { totp: TotpCode::new(*b"123456"), ..Options::default() }.join(b"").unwrap();
    for payload in [&b""[..], &code] {
        let mut desk = Desk::new(free.clone());
        let plain = signed(&Knock { payload, ..knock(1) }, Binding::None);
        let claim = desk.opened(&plain, HOME).unwrap();
        desk.reload(asking.clone());
        assert_eq!(desk.claimed(claim).map(|grant| grant.payload), Err(DropReason::TotpMissing));
    }
}
