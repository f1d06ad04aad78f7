//! What is used up: both engines count what a naive list of uses would, and nothing gives any of it back.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use siglatch::store::sqlite::read_usage;
use siglatch::store::usage::{Code, Family, Limit, Terms, Window};
use siglatch::store::{MemoryStore, Outcome, Over, Record, SqliteStore, Store, Use, Used};
use siglatch::wire::{ActionId, UserId};

use super::{NOON, WALL, boot, made, open, record};

const SSH: u8 = 1;
const WEB: u8 = 2;

fn action(id: u8) -> ActionId {
    ActionId::new(id).unwrap()
}

fn quota(most: u32) -> Terms {
    Terms { cooldown: None, quota: Some(Window { most, since: NOON - NOON % 900, until: NOON + 3600 }) }
}

fn cooldown(seconds: u32) -> Terms {
    Terms { cooldown: Some(seconds), quota: None }
}

fn free(id: u8, at: u32) -> Use {
    Use {
        at,
        action: action(id),
        of_action: Terms::default(),
        of_user: Terms::default(),
        most: None,
        code: None,
        family: None,
    }
}

/// A claim of a nonce of its own.
fn claim(store: &mut dyn Store, challenge: u32, using: Use) -> Outcome {
    let record = Record { using: Some(using), ..record(NOON, challenge) };
    let [outcome] = store.claim(WALL, &[record]).unwrap().try_into().unwrap();
    outcome
}

fn over(limit: Limit, next: Option<u32>) -> Outcome {
    Outcome::Over(Over { limit, next })
}

fn on_both(test: impl Fn(&mut dyn Store)) {
    let made = made();
    test(&mut open(&made.folder, WALL).0);
    test(&mut MemoryStore::new(1000, WALL - 500));
}

#[test]
fn a_quota_is_used_up_and_refuses_until_its_period_ends() {
    on_both(|store| {
        let ssh = Use { of_action: quota(2), ..free(SSH, NOON) };
        assert_eq!([1, 2].map(|challenge| claim(store, challenge, ssh)), [Outcome::New; 2]);
        assert_eq!(claim(store, 3, ssh), over(Limit::Quota, Some(NOON + 3600)));
        // The refused one is claimed, and used nothing up.
        assert!(matches!(claim(store, 3, ssh), Outcome::Known(_)));
        assert_eq!(claim(store, 4, Use { of_action: quota(3), ..ssh }), Outcome::New);
        // The next period begins.
        let next = Window { most: 1, since: NOON + 3600, until: NOON + 7200 };
        let of_action = Terms { quota: Some(next), cooldown: None };
        assert_eq!(claim(store, 5, Use { at: NOON + 3600, of_action, ..ssh }), Outcome::New);
        assert_eq!(
            claim(store, 6, Use { at: NOON + 3601, of_action, ..ssh }),
            over(Limit::Quota, Some(NOON + 7200))
        );
    });
}

#[test]
fn an_action_is_counted_for_each_user_and_a_users_over_all_his_actions() {
    on_both(|store| {
        let own = |id| Use { of_action: quota(1), ..free(id, NOON) };
        assert_eq!(claim(store, 1, own(SSH)), Outcome::New);
        assert_eq!(claim(store, 2, own(WEB)), Outcome::New);
        let mut bob = Record { using: Some(own(SSH)), ..record(NOON, 3) };
        bob.nonce.user = UserId(2);
        assert_eq!(store.claim(WALL, &[bob]).unwrap(), [Outcome::New]);
        let all = Use { of_user: quota(3), ..free(WEB, NOON) };
        assert_eq!(claim(store, 4, all), Outcome::New);
        assert_eq!(claim(store, 5, all), over(Limit::Quota, Some(NOON + 3600)));
        let soon = Use { of_user: cooldown(10), ..free(3, NOON + 9) };
        assert_eq!(claim(store, 6, soon), over(Limit::Cooldown, Some(NOON + 10)));
    });
}

#[test]
fn a_cooldown_counts_from_the_last_use_and_of_two_limits_the_longer_is_told() {
    on_both(|store| {
        let ssh = |at| Use { of_action: cooldown(60), ..free(SSH, at) };
        assert_eq!(claim(store, 1, ssh(NOON)), Outcome::New);
        assert_eq!(claim(store, 2, ssh(NOON + 59)), over(Limit::Cooldown, Some(NOON + 60)));
        assert_eq!(claim(store, 3, ssh(NOON + 60)), Outcome::New);
        let both = Terms { cooldown: Some(60), ..quota(1) };
        assert_eq!(
            claim(store, 4, Use { of_action: both, ..ssh(NOON + 61) }),
            over(Limit::Quota, Some(NOON + 3600))
        );
        let week = Terms { cooldown: Some(7 * 86_400), ..quota(1) };
        let next = NOON + 60 + 7 * 86_400;
        assert_eq!(
            claim(store, 5, Use { of_action: week, ..ssh(NOON + 61) }),
            over(Limit::Cooldown, Some(next))
        );
    });
}

#[test]
fn a_clock_that_steps_back_gives_nothing_back() {
    on_both(|store| {
        let ssh = Use { of_action: Terms { cooldown: Some(60), ..quota(1) }, ..free(SSH, NOON + 3000) };
        assert_eq!(claim(store, 1, ssh), Outcome::New);
        for at in [NOON + 3000, NOON, NOON - 86_400] {
            assert!(matches!(claim(store, at, Use { at, ..ssh }), Outcome::Over(_)), "{at}");
            let of_action = Terms { quota: None, ..ssh.of_action };
            assert!(matches!(claim(store, at + 1, Use { at, of_action, ..ssh }), Outcome::Over(_)), "{at}");
        }
    });
}

#[test]
fn what_came_to_nothing_is_given_back_once() {
    on_both(|store| {
        let ssh = |at| Use { of_action: Terms { cooldown: Some(60), ..quota(2) }, ..free(SSH, at) };
        let used = |at| Used { user: UserId(1), action: action(SSH), at };
        assert_eq!(claim(store, 1, ssh(NOON)), Outcome::New);
        assert_eq!(claim(store, 2, ssh(NOON + 60)), Outcome::New);
        store.give_back(WALL, used(NOON + 60)).unwrap();
        assert_eq!(claim(store, 3, ssh(NOON + 59)), over(Limit::Cooldown, Some(NOON + 60)));
        assert_eq!(claim(store, 4, ssh(NOON + 60)), Outcome::New);
        assert_eq!(claim(store, 5, ssh(NOON + 120)), over(Limit::Quota, Some(NOON + 3600)));
        // What was never counted.
        store.give_back(WALL, Used { action: action(9), ..used(NOON) }).unwrap();
        store.give_back(WALL, used(NOON - 86_400)).unwrap();
        assert_eq!(claim(store, 6, ssh(NOON + 120)), over(Limit::Quota, Some(NOON + 3600)));
    });
}

#[test]
fn a_code_is_taken_once_and_none_that_is_older() {
    on_both(|store| {
        let coded = |step| Use { code: Some(Code::OfStep(step)), ..free(SSH, NOON) };
        assert_eq!(claim(store, 1, coded(100)), Outcome::New);
        for (challenge, step) in [(2, 100), (3, 99), (4, 0)] {
            assert_eq!(claim(store, challenge, coded(step)), over(Limit::UsedCode, None));
        }
        // A code that came to nothing may come again.
        let used_up = Use { of_action: quota(1), ..coded(101) };
        assert_eq!(claim(store, 5, used_up), over(Limit::Quota, Some(NOON + 3600)));
        assert_eq!(claim(store, 6, coded(101)), Outcome::New);
    });
}

#[test]
fn five_wrong_codes_lock_a_user_until_fifteen_minutes_have_passed() {
    on_both(|store| {
        let wrong = |at| Use { code: Some(Code::Wrong), ..free(SSH, at) };
        let right = |at| Use { code: Some(Code::OfStep(at / 30)), ..free(SSH, at) };
        for second in 0..5 {
            assert_eq!(claim(store, second, wrong(NOON + second)), over(Limit::WrongCode, None));
        }
        let locked = over(Limit::Locked, Some(NOON + 900));
        // A right one tells nobody that it was one; more wrong ones make it no longer.
        assert_eq!(claim(store, 10, right(NOON + 5)), locked);
        assert_eq!(claim(store, 11, wrong(NOON + 899)), locked);
        let mut bob = Record { using: Some(right(NOON + 5)), ..record(NOON, 12) };
        bob.nonce.user = UserId(2);
        assert_eq!(store.claim(WALL, &[bob]).unwrap(), [Outcome::New]);
        assert_eq!(claim(store, 13, right(NOON + 900)), Outcome::New);
        // Four of the five still count.
        assert_eq!(claim(store, 14, wrong(NOON + 900)), over(Limit::WrongCode, None));
        assert_eq!(claim(store, 15, wrong(NOON + 900)), over(Limit::Locked, Some(NOON + 901)));
    });
}

#[test]
fn a_door_that_is_knocked_over_both_families_is_used_once_under_one_code() {
    on_both(|store| {
        let terms = Terms { cooldown: Some(60), ..quota(2) };
        let over_family = |at, family, step| Use {
            of_action: terms,
            code: Some(Code::OfStep(step)),
            family: Some(family),
            ..free(SSH, at)
        };
        let used_up = over(Limit::Quota, Some(NOON + 3600));
        assert_eq!(claim(store, 1, over_family(NOON, Family::V4, 7)), Outcome::New);
        // The same family, another code, another action, or too late.
        assert_eq!(claim(store, 2, over_family(NOON, Family::V4, 7)), over(Limit::UsedCode, None));
        assert_eq!(
            claim(store, 3, over_family(NOON + 1, Family::V6, 8)),
            over(Limit::Cooldown, Some(NOON + 60))
        );
        let web = Use { action: action(WEB), ..over_family(NOON + 1, Family::V6, 7) };
        assert_eq!(claim(store, 4, web), over(Limit::UsedCode, None));
        assert_eq!(claim(store, 5, over_family(NOON + 11, Family::V6, 7)), over(Limit::UsedCode, None));
        assert_eq!(claim(store, 6, over_family(NOON + 10, Family::V6, 7)), Outcome::Shared);
        // One twin each.
        assert_eq!(claim(store, 7, over_family(NOON + 10, Family::V6, 7)), over(Limit::UsedCode, None));
        // What has its twin is not given back, whichever of the two came to nothing.
        store.give_back(WALL, Used { user: UserId(1), action: action(SSH), at: NOON }).unwrap();
        assert_eq!(claim(store, 8, over_family(NOON + 60, Family::V6, 9)), Outcome::New);
        assert_eq!(claim(store, 9, over_family(NOON + 61, Family::V4, 9)), Outcome::Shared);
        assert_eq!(claim(store, 10, over_family(NOON + 120, Family::V4, 11)), used_up);
        let without = |at, family| Use { code: None, ..over_family(at, family, 0) };
        assert_eq!(claim(store, 11, without(NOON + 61, Family::V4)), used_up);
    });
}

#[test]
fn a_guest_is_spent_for_good_over_all_actions_and_what_came_to_nothing_is_not_counted() {
    on_both(|store| {
        let guest = |id, at| Use { most: Some(2), ..free(id, at) };
        assert_eq!(claim(store, 1, guest(SSH, NOON)), Outcome::New);
        assert_eq!(claim(store, 2, guest(WEB, NOON)), Outcome::New);
        assert_eq!(claim(store, 3, guest(SSH, NOON)), over(Limit::Spent, None));
        store.give_back(WALL, Used { user: UserId(1), action: action(WEB), at: NOON }).unwrap();
        let door = Use { family: Some(Family::V4), ..guest(WEB, NOON + 1) };
        assert_eq!(claim(store, 4, door), Outcome::New);
        // The other family is the same use, and a month later it is as long ago as ever.
        assert_eq!(claim(store, 5, Use { family: Some(Family::V6), ..door }), Outcome::Shared);
        assert_eq!(claim(store, 6, guest(SSH, NOON + 31 * 86_400)), over(Limit::Spent, None));
        // Of several limits, the one that time does not end.
        let both = Use { of_user: cooldown(60), ..guest(SSH, NOON + 2) };
        assert_eq!(claim(store, 7, both), over(Limit::Spent, None));
        assert_eq!(claim(store, 8, Use { most: Some(3), ..free(SSH, NOON + 3) }), Outcome::New);
    });
}

#[test]
fn a_use_that_is_given_back_has_no_twin() {
    on_both(|store| {
        let door = |family| Use { of_action: quota(1), family: Some(family), ..free(SSH, NOON) };
        assert_eq!(claim(store, 1, door(Family::V4)), Outcome::New);
        store.give_back(WALL, Used { user: UserId(1), action: action(SSH), at: NOON }).unwrap();
        assert_eq!(claim(store, 2, door(Family::V6)), Outcome::New);
        assert_eq!(claim(store, 3, door(Family::V4)), Outcome::Shared);
        assert_eq!(claim(store, 4, door(Family::V4)), over(Limit::Quota, Some(NOON + 3600)));
    });
}

#[test]
fn a_full_store_a_copy_and_a_knock_below_the_floor_use_nothing_up() {
    let made = made();
    let mut store = SqliteStore::open(&made.folder, 2, WALL, &boot("a")).unwrap().0;
    let ssh = Use { of_action: quota(2), ..free(SSH, NOON) };
    assert_eq!(claim(&mut store, 1, ssh), Outcome::New);
    assert!(matches!(claim(&mut store, 1, ssh), Outcome::Known(_)));
    assert_eq!(
        claim(&mut store, 2, Use { of_action: quota(1), ..ssh }),
        over(Limit::Quota, Some(NOON + 3600))
    );
    assert_eq!(claim(&mut store, 3, ssh), Outcome::Full);
    store.forget(WALL, NOON + 1).unwrap();
    assert_eq!(claim(&mut store, 4, ssh), Outcome::BelowFloor);
    let later = Record { using: Some(ssh), ..record(NOON + 1, 5) };
    assert_eq!(store.claim(WALL, &[later]).unwrap(), [Outcome::New]);
}

#[test]
fn usage_is_read_beside_a_running_daemon_after_a_kill_and_after_a_stop_and_changes_nothing() {
    let made = made();
    let mut store = open(&made.folder, WALL).0;
    claim(&mut store, 1, free(SSH, NOON));
    claim(&mut store, 2, free(SSH, NOON + 5));
    claim(&mut store, 3, free(WEB, NOON - 3 * 86_400));
    let read = |folder: &Path| {
        let usage = read_usage(folder, NOON + 10).unwrap();
        let rows = usage.iter().map(|of| (of.action.number(), of.day, of.week, of.uses, of.first, of.last));
        rows.collect::<Vec<_>>()
    };
    let expected = [(SSH, 2, 2, 2, NOON, NOON + 5), (WEB, 0, 1, 1, NOON - 3 * 86_400, NOON - 3 * 86_400)];
    assert_eq!(read(&made.folder), expected);
    claim(&mut store, 4, free(WEB, NOON));
    drop(store);
    assert_eq!(read(&made.folder)[1].3, 2);
    // Its log is still what a start looks for, and nothing was made where there is none.
    let (store, found) = open(&made.folder, WALL);
    assert_eq!(found, siglatch::store::sqlite::Found::Intact);
    Box::new(store).close(WALL).unwrap();
    assert_eq!(read(&made.folder)[1].3, 2);
    assert_eq!(names(&made.folder), BTreeSet::from(["claims.db".to_owned()]));
}

#[test]
fn usage_of_a_store_that_cannot_be_read_says_how_to_mend_it() {
    let temp = tempfile::tempdir().unwrap();
    let nothing = read_usage(temp.path(), NOON).unwrap_err();
    assert!(nothing.what.contains("cannot be read") && nothing.hint.contains("first start"), "{nothing:?}");
    fs::write(temp.path().join("claims.db"), vec![b'x'; 5000]).unwrap();
    assert!(read_usage(temp.path(), NOON).is_err());
    let older = made();
    super::edit(&older.folder, "PRAGMA user_version = 2");
    let older = read_usage(&older.folder, NOON).unwrap_err();
    assert!(older.what.contains("older siglatch"), "{older:?}");
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A moment that is on the disk before anything up to it is left to the system: it moves with each sync.
fn reserved(folder: &Path) -> u32 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let reader = rusqlite::Connection::open_with_flags(folder.join("claims.db"), flags).unwrap();
    reader.query_row("SELECT reserved FROM state", (), |row| row.get(0)).unwrap()
}

#[test]
fn what_counts_against_a_limit_is_synced_before_it_is_answered() {
    let made = made();
    let mut store = open(&made.folder, WALL).0;
    store.claim(WALL, &[record(NOON + 1, 0)]).unwrap();
    let limited = [
        Use { of_action: quota(9), ..free(SSH, NOON) },
        Use { of_user: cooldown(1), ..free(SSH, NOON + 1) },
        Use { most: Some(99), ..free(SSH, NOON + 1) },
        Use { code: Some(Code::OfStep(1)), ..free(SSH, NOON) },
        Use { code: Some(Code::Wrong), ..free(SSH, NOON) },
    ];
    for (wall, using) in (WALL + 1..).zip(limited) {
        let before = reserved(&made.folder);
        let knock = |challenge, using| Record { using: Some(using), ..record(NOON, challenge) };
        let challenge = u32::try_from(wall - WALL).unwrap();
        // What is only counted need not be.
        store.claim(wall, &[knock(challenge + 100, free(SSH, NOON - 9))]).unwrap();
        assert_eq!(reserved(&made.folder), before);
        store.claim(wall, &[knock(challenge, using)]).unwrap();
        assert!(reserved(&made.folder) > before, "{using:?}");
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// So many seconds later, an action, the action's and the user's quota and cooldown, and how many he has at all.
    Knock(u32, u8, Terms, Terms, Option<u32>),
    GiveBackTheLast,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let terms = || {
        let quota = (1_u32..6, 0_u32..8).prop_map(|(most, quarters)| (most, quarters * 900));
        (prop::option::of(1_u32..1000), prop::option::of(quota)).prop_map(|(cooldown, quota)| Terms {
            cooldown,
            // Its beginning is told from now when it is used.
            quota: quota.map(|(most, since)| Window { most, since, until: 0 }),
        })
    };
    prop_oneof![
        8 => (0_u32..700, 1_u8..3, terms(), terms(), prop::option::weighted(0.2, 1_u32..20))
            .prop_map(|(step, id, own, all, most)| Op::Knock(step, id, own, all, most)),
        1 => Just(Op::GiveBackTheLast),
        1 => Just(Op::Reopen),
    ]
}

/// A list of uses, and what it says of one more.
#[derive(Default)]
struct Naive(Vec<(u8, u32)>);

impl Naive {
    fn fits(&self, at: u32, terms: Terms, id: Option<u8>) -> bool {
        let own: Vec<u32> =
            self.0.iter().filter(|(of, _)| id.is_none_or(|id| id == *of)).map(|(_, at)| *at).collect();
        let cooled = terms.cooldown.is_none_or(|seconds| own.iter().all(|last| last + seconds <= at));
        let left = terms.quota.is_none_or(|window| {
            own.iter().filter(|use_at| **use_at >= window.since).count()
                < usize::try_from(window.most).unwrap()
        });
        cooled && left
    }
}

fn agrees(ops: &[Op]) {
    let made = made();
    let mut sqlite = SqliteStore::open(&made.folder, 1000, WALL, &boot("a")).unwrap().0;
    let mut memory = MemoryStore::new(1000, WALL - 500);
    let (mut naive, mut at) = (Naive::default(), NOON - NOON % 900);
    let mut fresh = None;
    for (challenge, op) in (0..).zip(ops) {
        match op {
            Op::Knock(step, id, own, all, most) => {
                at += step;
                let from_now = |terms: &Terms| Terms {
                    quota: terms.quota.map(|window| Window {
                        since: at - at % 900 - window.since,
                        until: at + 1,
                        ..window
                    }),
                    ..*terms
                };
                let (of_action, of_user) = (from_now(own), from_now(all));
                let using = Use { of_action, of_user, most: *most, ..free(*id, at) };
                let spent = most.is_some_and(|most| naive.0.len() >= most as usize);
                let fits = naive.fits(at, of_action, Some(*id)) && naive.fits(at, of_user, None) && !spent;
                let outcome = claim(&mut sqlite, challenge, using);
                assert_eq!(outcome, claim(&mut memory, challenge, using));
                assert_eq!(outcome == Outcome::New, fits, "{using:?} after {:?}", naive.0);
                if fits {
                    naive.0.push((*id, at));
                    fresh = Some((*id, at));
                }
            }
            Op::GiveBackTheLast => {
                // Only of the very last one is it known what came before it.
                let Some((id, last)) = std::mem::take(&mut fresh) else { continue };
                naive.0.pop();
                let used = Used { user: UserId(1), action: action(id), at: last };
                sqlite.give_back(WALL, used).unwrap();
                memory.give_back(WALL, used).unwrap();
                at += 1;
            }
            Op::Reopen => {
                drop(sqlite);
                sqlite = SqliteStore::open(&made.folder, 1000, WALL, &boot("a")).unwrap().0;
            }
        }
    }
    let ever: u64 = read_usage(&made.folder, at).unwrap().iter().map(|usage| usage.uses).sum();
    assert_eq!(ever, naive.0.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_engines_count_what_a_list_of_uses_would(ops in prop::collection::vec(op(), 1..40)) {
        agrees(&ops);
    }
}
