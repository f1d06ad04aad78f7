use super::*;
use crate::store::Outcome;

#[test]
fn a_copy_is_refused_before_the_store_has_answered() {
    let mut desk = Desk::new(config());
    let claim = desk.opened(&plain(1), HOME).unwrap();
    let copies = [
        (HOME, DropReason::Replay),
        ("192.0.2.1:9", DropReason::Replay),
        ("[::ffff:192.0.2.1]:9", DropReason::Replay),
        (ELSEWHERE, DropReason::Contested),
        ("[2001:db8::1]:4000", DropReason::Contested),
    ];
    for (from, reason) in copies {
        assert_eq!(desk.outcome(&plain(1), from), Err(reason), "{from}");
    }
    assert!(desk.claimed(claim).is_ok(), "the first one runs all the same");
    for (from, reason) in copies {
        assert_eq!(desk.outcome(&plain(1), from), Err(reason), "{from}");
    }
}

#[test]
fn a_knock_runs_only_if_the_store_says_that_it_is_new() {
    let known = |from: &str| Outcome::Known(from.parse().unwrap());
    let cases = [
        (Some(Outcome::New), Ok(())),
        (Some(known("192.0.2.1")), Err(DropReason::Replay)),
        (Some(known("198.51.100.9")), Err(DropReason::Contested)),
        (Some(Outcome::BelowFloor), Err(DropReason::Floor)),
        (Some(Outcome::Full), Err(DropReason::StoreFull)),
        (None, Err(DropReason::StoreFailed)),
    ];
    let mut settled = 0;
    for (outcome, expected) in cases {
        let mut desk = Desk::new(config());
        let claim = desk.opened(&plain(1), HOME).unwrap();
        assert_eq!(desk.settled(claim, outcome).map(drop), expected, "{outcome:?}");
        assert_eq!(
            desk.outcome(&plain(1), HOME).err(),
            Some(match expected {
                Err(DropReason::Contested) => DropReason::Contested,
                _ => DropReason::Replay,
            }),
            "a copy asks the store no more after {outcome:?}"
        );
        settled += 1;
    }
    assert_eq!(settled, 6);
}

#[test]
fn the_claim_is_the_nonce_and_the_folded_source() {
    let mut desk = Desk::new(config());
    let claim = desk.opened(&plain(5), "[::ffff:192.0.2.1]:4000").unwrap();
    let record = claim.record();
    assert_eq!(record.source, "192.0.2.1".parse::<IpAddr>().unwrap());
    assert_eq!((record.nonce.timestamp, record.nonce.user, record.nonce.challenge), (NOON, ALICE, 5));
}

#[test]
fn a_replay_after_a_restart_is_refused_and_a_theft_stays_one() {
    let mut desk = Desk::new(config());
    assert_eq!(desk.outcome(&plain(1), HOME), Ok(()));
    for _ in 0..2 {
        desk.restart(config());
        for _ in 0..3 {
            assert_eq!(desk.outcome(&plain(1), ELSEWHERE), Err(DropReason::Contested));
            assert_eq!(desk.outcome(&plain(1), HOME), Err(DropReason::Replay));
        }
    }
}

#[test]
fn a_nonce_is_user_timestamp_and_challenge_and_nothing_else() {
    let mut desk = Desk::new(config());
    assert_eq!(desk.outcome(&plain(1), HOME), Ok(()));
    let other_payload = Knock { payload: b"other", ..knock(1) };
    assert_eq!(
        desk.outcome(&signed(&other_payload, Binding::Server(SERVER)), HOME),
        Err(DropReason::Replay),
        "whatever else is signed, and for what"
    );
    let bobs = Knock { user: BOB, ..knock(1) };
    let bobs = *bobs.encode(&key(2), Binding::None).unwrap();
    assert_eq!(desk.outcome(&bobs, HOME), Ok(()), "bob's is another");
    assert_eq!(desk.outcome(&made_at(NOON + 1), HOME), Ok(()), "so is the next second's");
}

#[test]
fn a_denied_knock_does_not_come_alive_when_it_is_permitted() {
    let denied = || with_alice(config(), |alice| alice.actions.clear());
    let mut desk = Desk::new(denied());
    assert_eq!(desk.outcome(&plain(1), HOME), Err(DropReason::NotPermitted));
    desk.reload(config());
    assert_eq!(desk.outcome(&plain(1), HOME), Err(DropReason::Replay));
    desk.restart(config());
    assert_eq!(desk.outcome(&plain(1), HOME), Err(DropReason::Replay));
    assert_eq!(desk.outcome(&plain(2), HOME), Ok(()), "a new one runs");
}

#[test]
fn who_replays_a_knock_does_not_lock_its_sender_out() {
    let mut desk = Desk::new(config());
    assert_eq!(desk.outcome(&plain(0), HOME), Ok(()));
    for from in [HOME, ELSEWHERE].repeat(500) {
        assert!(desk.outcome(&plain(0), from).is_err());
    }
    for challenge in 1..50 {
        assert_eq!(desk.outcome(&plain(challenge), HOME), Ok(()), "{challenge}");
    }
    assert_eq!(desk.outcome(&plain(50), HOME), Err(DropReason::Rate), "fifty at once");
}

#[test]
fn who_replays_a_knock_that_the_cache_has_no_room_for_locks_nobody_out_either() {
    let mut small = config();
    small.limits.nonce_cache = 0;
    for outcome in [Outcome::Known("192.0.2.1".parse().unwrap()), Outcome::BelowFloor] {
        let mut desk = Desk::new(small.clone());
        for _ in 0..1000 {
            let claim = desk.opened(&plain(0), HOME).unwrap();
            assert!(desk.settled(claim, Some(outcome)).is_err());
        }
        for challenge in 1..=50 {
            assert_eq!(desk.outcome(&plain(challenge), HOME), Ok(()), "{challenge}");
        }
        assert_eq!(desk.outcome(&plain(51), HOME), Err(DropReason::Rate));
    }
}

#[test]
fn a_users_bucket_is_his_own_and_fills_by_the_steady_clock() {
    let mut desk = Desk::new(config());
    for challenge in 0..50 {
        assert_eq!(desk.outcome(&plain(challenge), HOME), Ok(()));
    }
    assert_eq!(desk.outcome(&plain(99), HOME), Err(DropReason::Rate));
    let bobs = Knock { user: BOB, ..knock(1) };
    let bobs = *bobs.encode(&key(2), Binding::None).unwrap();
    assert_eq!(desk.outcome(&bobs, HOME), Ok(()));

    desk.now.wall += Duration::from_secs(200);
    assert_eq!(desk.outcome(&plain(99), HOME), Err(DropReason::Rate), "a clock that steps fills nothing");
    desk.reload(config());
    assert_eq!(desk.outcome(&plain(99), HOME), Err(DropReason::Rate), "nor does a reload");
    desk.now.mono += Duration::from_millis(100);
    assert_eq!(desk.outcome(&plain(99), HOME), Ok(()), "what was refused for its rate is not remembered");
}

#[test]
fn a_user_who_is_gone_when_his_claim_comes_back_runs_nothing() {
    let mut gone = config();
    gone.users.remove(&ALICE);
    let mut renamed = config();
    renamed.users.insert(ALICE, Arc::new(user(ALICE, key(2))));
    let cases = [
        (gone, Err(DropReason::UserGone)),
        (renamed, Err(DropReason::UserGone)),
        (with_alice(config(), |alice| alice.name = "anna".to_owned()), Ok(())),
        (with_alice(config(), |alice| alice.enabled = Enabled::No), Err(DropReason::UserDisabled)),
    ];
    for (new, expected) in cases {
        let mut desk = Desk::new(config());
        let claim = desk.opened(&plain(1), HOME).unwrap();
        desk.reload(new);
        assert_eq!(desk.claimed(claim).map(drop), expected);
        desk.reload(config());
        assert_eq!(desk.outcome(&plain(1), HOME), Err(DropReason::Replay), "claimed all the same");
    }
}

#[test]
fn a_grant_is_of_the_configuration_of_now() {
    let mut desk = Desk::new(config());
    let claim = desk.opened(&plain(1), HOME).unwrap();
    desk.reload(with_action(config(), |action| action.run.path = PathBuf::from("/bin/new")));
    assert_eq!(desk.claimed(claim).unwrap().action.run.path, PathBuf::from("/bin/new"));
}

/// Which of alice's challenges 0 to 9 are known without asking the store.
fn remembered(desk: &mut Desk) -> Vec<u32> {
    (0..10).filter(|challenge| desk.opened(&plain(*challenge), HOME).is_err()).collect()
}

fn with_cache(nonce_cache: usize) -> Config {
    let mut config = config();
    config.limits.nonce_cache = nonce_cache;
    config
}

#[test]
fn an_unexpired_nonce_is_never_forgotten_for_another() {
    let mut desk = Desk::new(with_cache(3));
    for challenge in 0..10 {
        assert_eq!(desk.outcome(&plain(challenge), HOME), Ok(()));
    }
    assert_eq!(remembered(&mut desk), [0, 1, 2]);
    desk.now = at(u64::from(NOON) + 300);
    for _ in 0..2 {
        assert_eq!(remembered(&mut desk), [0, 1, 2], "on its last second too");
    }
    for challenge in 0..10 {
        assert_eq!(
            desk.outcome(&plain(challenge), HOME),
            Err(DropReason::Replay),
            "the store knows what there was no room for"
        );
    }
}

#[test]
fn an_expired_nonce_makes_room_and_the_store_still_knows_it() {
    let mut desk = Desk::new(with_cache(1));
    assert_eq!(desk.outcome(&plain(1), HOME), Ok(()));
    desk.now = at(u64::from(NOON) + 301);
    let later = made_at(NOON + 301);
    assert_eq!(desk.outcome(&later, HOME), Ok(()));
    assert!(desk.opened(&later, HOME).is_err(), "it has the room");

    desk.now = at(u64::from(NOON) + 1);
    assert_eq!(
        desk.outcome(&plain(1), HOME),
        Err(DropReason::Replay),
        "a clock that steps back revives nothing"
    );
}

#[test]
fn a_smaller_cache_forgets_nothing_unexpired() {
    let mut desk = Desk::new(with_cache(5));
    for challenge in 0..5 {
        assert_eq!(desk.outcome(&plain(challenge), HOME), Ok(()));
    }
    desk.reload(with_cache(1));
    assert_eq!(desk.outcome(&plain(5), HOME), Ok(()));
    assert_eq!(remembered(&mut desk), [0, 1, 2, 3, 4]);
}
