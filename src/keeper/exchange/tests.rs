use super::*;
use crate::config;
use crate::config::files::{Existing, write};
use crate::wire::enrol::EnrolSecret;

const UNTIL: u64 = 1_800_000_000;

/// With a user alice (1) whose table says this, and whose file has a key of this byte.
fn files(more: &str, key: u8) -> Arc<Config> {
    let vectors = include_str!("../../../tests/vectors/siglatch-v1.json");
    let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "listen = [\"127.0.0.1:0\"]\nprivate_key = \"pem\"\nserver_id = \"{}\"\nenrol_key = \"enrol\"\n\
         [actions.enrol]\nid = 9\nbuiltin = \"enrol\"\n\
         [users.alice]\nid = 1\nhmac_key = \"alice\"\nactions = [\"enrol\"]\n{more}\n",
        "07".repeat(16)
    );
    let pem = vectors["private_key_pem"].as_str().unwrap();
    let key = format!("{key:02x}").repeat(32);
    for (name, text) in [("pem", pem), ("alice", &key), ("enrol", &"09".repeat(32)), ("c", &text)] {
        write(&folder.path().join(name), text.as_bytes(), 0o600, Existing::Keep).unwrap();
    }
    Arc::new(config::load(&folder.path().join("c")).unwrap_or_else(|bad| panic!("{bad}")).config)
}

fn invited() -> Arc<Config> {
    files("invite_until = 2027-01-15T08:00:00Z", 1)
}

fn client(byte: u8) -> EnrolPublic {
    EnrolSecret::new([byte; 32]).public()
}

fn knock(byte: u8) -> KnockId {
    KnockId([byte; 8])
}

fn now() -> Now {
    let wall = Duration::from_secs(1_700_000_000);
    Now { mono: Duration::ZERO, boot: Duration::ZERO, wall }
}

fn alice(exchanges: &Exchanges) -> Arc<User> {
    Arc::clone(&exchanges.config(now()).users[&UserId(1)])
}

fn begin(exchanges: &mut Exchanges, byte: u8) -> Begun {
    let user = alice(exchanges);
    exchanges.begin(&user, client(byte), knock(byte))
}

fn keep(begun: Begun) -> KeyRow {
    match begun {
        Begun::Keep(row) => row,
        begun @ (Begun::Waits | Begun::Again | Begun::Taken | Begun::Useless) => panic!("{begun:?}"),
    }
}

const KEPT: Result<(), ()> = Ok(());

#[test]
fn a_key_is_the_clients_and_stands_beside_the_old_one_until_it_is_knocked_under() {
    let mut exchanges = Exchanges::new(invited(), Vec::new());
    let before = alice(&exchanges);
    assert_eq!(
        (before.exchange, before.next.is_none()),
        (Exchange::Invites { until: Duration::from_secs(UNTIL), then: None }, true)
    );
    let row = keep(begin(&mut exchanges, 5));
    assert!(alice(&exchanges).next.is_none(), "not before it is kept");
    assert_eq!(begin(&mut exchanges, 5), Begun::Waits);
    assert_eq!(begin(&mut exchanges, 6), Begun::Taken);
    assert_eq!(exchanges.kept(&row, KEPT), Kept::Pending(vec![knock(5), knock(5)]));

    let pending = alice(&exchanges);
    assert_eq!(pending.hmac_key, before.hmac_key);
    let next = Arc::clone(pending.next.as_ref().unwrap());
    let k = EnrolSecret::new([9; 32]).public();
    let of =
        enrol::Exchanged { key: &before.hmac_key, server: crate::wire::ServerId([7; 16]), user: UserId(1) };
    assert_eq!(EnrolSecret::new([5; 32]).at_client(k, of), Some(next.hmac_key.clone()));
    assert_eq!(begin(&mut exchanges, 5), Begun::Again);
    assert_eq!(begin(&mut exchanges, 6), Begun::Taken);

    assert!(exchanges.confirm(now(), &pending).is_none(), "under the old key");
    let (sent, row) = exchanges.confirm(now(), &next).unwrap();
    assert_eq!(sent, client(5));
    let after = alice(&exchanges);
    assert_eq!((&after.hmac_key, after.exchange), (&next.hmac_key, Exchange::Never));
    // Who has the invite alone is known from noise for as long as it would have been good.
    let spent = after.next.clone().unwrap();
    let until = Duration::from_secs(UNTIL);
    assert_eq!((&spent.hmac_key, spent.exchange), (&before.hmac_key, Exchange::Spent(until)));
    assert_eq!(exchanges.begin(&spent, client(6), knock(6)), Begun::Taken);
    let later = Now { wall: until + Duration::from_secs(1), ..now() };
    assert!(exchanges.config(later).users[&UserId(1)].next.is_none());
    assert_eq!(row.exchanged.own.as_ref().map(|own| own.since), Some(1_700_000_000));
    assert!(exchanges.confirm(now(), &next).is_none(), "once");

    let again = Exchanges::new(invited(), vec![row]);
    assert_eq!(alice(&again).hmac_key, next.hmac_key);
    assert_eq!(alice(&again).exchange, Exchange::Never);
}

#[test]
fn what_the_store_did_not_keep_is_not_in_force_and_can_be_begun_again() {
    let mut exchanges = Exchanges::new(invited(), Vec::new());
    let row = keep(begin(&mut exchanges, 5));
    assert_eq!(exchanges.kept(&row, Err(())), Kept::Pending(vec![knock(5)]));
    assert!(alice(&exchanges).next.is_none() && exchanges.is_settled());
    let row = keep(begin(&mut exchanges, 6));
    exchanges.kept(&row, KEPT);
    let next = alice(&exchanges).next.clone().unwrap();
    let (_, row) = exchanges.confirm(now(), &next).unwrap();
    assert!(!exchanges.is_known(UserId(1), knock(7)));
    assert_eq!(exchanges.kept(&row, Err(())), Kept::InForce(vec![]));
    assert_eq!(exchanges.unkept(), std::slice::from_ref(&row));
    assert_eq!(exchanges.kept(&row, KEPT), Kept::InForce(vec![knock(7)]));
    assert!(exchanges.is_known(UserId(1), knock(8)));
    assert!(exchanges.unkept().is_empty());
    assert_eq!(alice(&exchanges).hmac_key, next.hmac_key, "in force all along");
}

#[test]
fn a_restart_goes_on_with_the_same_client_alone() {
    let mut exchanges = Exchanges::new(invited(), Vec::new());
    let row = keep(begin(&mut exchanges, 5));
    exchanges.kept(&row, KEPT);
    let mut again = Exchanges::new(invited(), vec![row]);
    let next = |exchanges| alice(exchanges).next.as_ref().map(|next| next.hmac_key.clone());
    assert!(next(&again).is_some() && next(&again) == next(&exchanges));
    assert_eq!(begin(&mut again, 6), Begun::Taken);
    assert_eq!(begin(&mut again, 5), Begun::Again);
}

#[test]
fn another_key_in_the_file_ends_all_that_became_of_the_one_before() {
    let mut exchanges = Exchanges::new(invited(), Vec::new());
    let row = keep(begin(&mut exchanges, 5));
    exchanges.kept(&row, KEPT);
    exchanges.read(files("invite_until = 2027-01-15T08:00:00Z", 2));
    assert!(alice(&exchanges).next.is_none());
    let row = keep(begin(&mut exchanges, 6));
    exchanges.kept(&row, KEPT);
    assert!(alice(&exchanges).next.is_some());
    exchanges.read(files("", 3));
    assert_eq!(alice(&exchanges).exchange, Exchange::Never);
}

#[test]
fn an_invite_that_is_void_gives_nobody_a_key_until_there_is_another() {
    let rows = Exchanges::void(&invited(), || [7; 32]);
    assert_eq!(rows.len(), 1);
    assert!(Exchanges::void(&files("", 1), || [7; 32]).is_empty());
    let mut exchanges = Exchanges::new(invited(), rows);
    assert!(alice(&exchanges).next.is_none());
    assert_eq!(begin(&mut exchanges, 5), Begun::Useless);
    let user = alice(&exchanges);
    assert_eq!(exchanges.begin(&user, EnrolPublic::NOBODY, knock(5)), Begun::Useless);
    exchanges.read(files("invite_until = 2027-01-15T08:00:00Z", 2));
    keep(begin(&mut exchanges, 5));
}

#[test]
fn a_key_is_rotated_once_for_each_leave() {
    let rotates = |year: u16| files(&format!("rotate_until = {year}-01-15T08:00:00Z"), 1);
    let mut exchanges = Exchanges::new(rotates(2027), Vec::new());
    let mut keys = vec![alice(&exchanges).hmac_key.clone()];
    for (byte, year) in [(5, 2027), (6, 2028)] {
        exchanges.read(rotates(year));
        assert!(matches!(alice(&exchanges).exchange, Exchange::Rotates(_)));
        let row = keep(begin(&mut exchanges, byte));
        exchanges.kept(&row, KEPT);
        let next = alice(&exchanges).next.clone().unwrap();
        exchanges.confirm(now(), &next);
        assert_eq!(alice(&exchanges).exchange, Exchange::Never, "that leave is used up");
        keys.push(alice(&exchanges).hmac_key.clone());
    }
    keys.dedup();
    assert_eq!(keys.len(), 3);
}

#[test]
fn the_key_of_an_invite_never_becomes_good_for_more_whatever_leave_is_given() {
    let both = "invite_until = 2027-01-15T08:00:00Z\nrotate_until = 2028-01-15T08:00:00Z";
    let mut exchanges = Exchanges::new(files(both, 1), Vec::new());
    assert!(matches!(alice(&exchanges).exchange, Exchange::Invites { .. }));
    for byte in [5, 6] {
        let row = keep(begin(&mut exchanges, byte));
        exchanges.kept(&row, KEPT);
        let next = alice(&exchanges).next.clone().unwrap();
        exchanges.confirm(now(), &next);
        let then = Exchange::Rotates(Duration::from_secs(1_831_536_000));
        assert_eq!(alice(&exchanges).exchange, if byte == 5 { then } else { Exchange::Never });
    }
    // A store that is lost.
    assert!(matches!(alice(&Exchanges::new(files(both, 1), Vec::new())).exchange, Exchange::Invites { .. }));
}

#[test]
fn what_is_no_public_key_exchanges_nothing() {
    let mut exchanges = Exchanges::new(invited(), Vec::new());
    let user = alice(&exchanges);
    assert_eq!(exchanges.begin(&user, EnrolPublic([0; 32]), knock(1)), Begun::Useless);
    assert!(exchanges.is_settled());
}
